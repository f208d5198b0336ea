# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Records consumed from the first on, from the page cache and from the disk, against NATS JetStream pushing them."""

from .broker_peers import KafkaEngine, Nats, forget_cached, measure as run
from .broker_produce import middle, spread
from .result import Bench, Result

TURNS = 5
RECORDS = 2_000_000
PEER_RECORDS = 500_000
SIZE = 1024
MEGABYTES = 400


def measure(bench: Bench) -> list[Result]:
    ours = {"cache": [], "disk": []}
    peers = {"cache": [], "disk": []}
    with KafkaEngine(bench.program, bench.directory) as engine, Nats(bench) as peer:
        topic = engine.topic("bench")
        run(bench, "kafka", "produce", engine.kafka, topic, RECORDS, SIZE)
        peer.publish(bench, "bench", PEER_RECORDS, SIZE)
        for turn in range(TURNS):
            for place in ours:
                if place == "disk":
                    forget_cached(engine.logs)
                ours[place].append(run(bench, "kafka", "consume", engine.kafka, topic, 1, RECORDS))
                if place == "disk":
                    forget_cached(peer.directory)
                peers[place].append(peer.consume(bench, "bench", PEER_RECORDS))
    results = []
    for place, found in ours.items():
        rate, speed, theirs = middle(found, "records_per_second"), middle(found, "megabytes_per_second"), middle(peers[place], "records_per_second")
        results.append(
            Result(
                f"broker_consume_{place}", f"consume 1 KiB from {place}, librdkafka",
                f"{rate:,.0f} records/s · {speed:.0f} MB/s", f"≥ 1× NATS, ≥ {MEGABYTES} MB/s", rate >= theirs and speed >= MEGABYTES,
                ratio=f"{rate / theirs:.2f}× NATS ({theirs:,.0f}/s)", values={"ours": found, "peer": peers[place]},
                note=f"median of {TURNS} turns, {spread(found)} MB/s; NATS pushing without acknowledgements {spread(peers[place])} MB/s",
            )
        )  # fmt: skip
    return results
