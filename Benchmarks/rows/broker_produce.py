# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Records produced at once and acknowledged on disk, against NATS JetStream and Redis streams."""

from .broker_peers import KafkaEngine, Nats, Redis, measure as run
from .result import Bench, Result, median

TURNS = 5
RECORDS = {1024: 1_000_000, 100: 3_000_000}
REDIS_RECORDS = 1_500_000
PARTITIONS = 1


def spread(found: list[dict], name: str = "megabytes_per_second") -> str:
    values = sorted(one[name] for one in found)
    return f"{values[0]:.0f} to {values[-1]:.0f}"


def middle(found: list[dict], name: str) -> float:
    return median([one[name] for one in found])


def measure(bench: Bench) -> list[Result]:
    results = []
    for size, records in RECORDS.items():
        ours, nats, redis = [], [], []
        for turn in range(TURNS):
            with KafkaEngine(bench.program, bench.directory) as engine:
                topic = engine.topic("bench", PARTITIONS)
                ours.append(run(bench, "kafka", "produce", engine.kafka, topic, records, size))
            with Nats(bench) as peer:
                nats.append(peer.publish(bench, "bench", records // 2, size))
            if size == 100:
                with Redis(bench) as peer:
                    redis.append(peer.publish(50, 16, REDIS_RECORDS, size))
        name = "1 KiB" if size == 1024 else f"{size} B"
        rate, speed = middle(ours, "records_per_second"), middle(ours, "megabytes_per_second")
        reach = 1.5 if size == 1024 else 2
        for peer, peers in (("NATS", nats), ("Redis", redis)):
            if not peers:
                continue
            ratio = rate / middle(peers, "records_per_second")
            how = "asynchronous publish, no sync" if peer == "NATS" else "streams, appendfsync always, 50 × 16"
            results.append(
                Result(
                    f"broker_produce_{size}_{peer.lower()}", f"produce {name}, librdkafka, acks=all, on disk",
                    f"{rate:,.0f} records/s · {speed:.0f} MB/s", f"≥ {reach:g}× {peer}", ratio >= reach,
                    ratio=f"{ratio:.2f}× {peer} ({middle(peers, 'records_per_second'):,.0f}/s, {middle(peers, 'megabytes_per_second'):.0f} MB/s)",
                    values={"ours": ours, "peer": peers},
                    note=f"median of {TURNS} turns, {spread(ours)} MB/s; {peer} {spread(peers)} MB/s, {how}",
                )
            )  # fmt: skip
    return results
