# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""One record at a time, each acknowledged on disk before the next, against the disk itself."""

from .broker_peers import KafkaEngine, measure as run
from .result import Bench, Result, median

TURNS = 7
RECORDS = 3000
SIZE = 100
REACH = 1.5


def measure(bench: Bench) -> list[Result]:
    found: dict[str, list[dict]] = {"bare": [], "librdkafka": [], "disk": [], "floor": [], "mock": []}
    with KafkaEngine(bench.program, bench.directory) as engine:
        for turn in range(TURNS):
            host, port = engine.kafka.rsplit(":", 1)
            found["disk"].append(run(bench, "bare", "flush", bench.directory, RECORDS, SIZE))
            found["bare"].append(run(bench, "bare", "single", host, port, engine.topic(f"bare-{turn}"), RECORDS, SIZE))
            found["librdkafka"].append(run(bench, "kafka", "single", engine.kafka, engine.topic(f"single-{turn}"), RECORDS, SIZE))
            found["floor"].append(run(bench, "bare", "floor", bench.directory, RECORDS, SIZE))
            found["mock"].append(run(bench, "kafka", "single", "mock", "single", RECORDS, SIZE))

    def middle(what: str, percentile: str = "p50") -> float:
        return median([one[percentile] for one in found[what]])

    def result(client: str, note: str) -> Result:
        times = middle(client) / middle("disk")
        return Result(
            "broker_single", f"produce {SIZE} B one at a time, {client}",
            f"p50 {middle(client):.3f} · p99 {middle(client, 'p99'):.3f} ms", f"p50 ≤ {REACH}× fdatasync", times <= REACH,
            ratio=f"{times:.2f}× fdatasync (p50 {middle('disk'):.3f} ms)", values=found, note=note,
        )  # fmt: skip

    return [
        result(
            "bare",
            f"a blocking socket; medians of {TURNS} turns of {RECORDS:,} records, taking turns with {SIZE} bytes more in a file and fdatasync "
            f"(p99 {middle('disk', 'p99'):.3f} ms); a server of a few lines of C that only writes, flushes and answers p50 {middle('floor'):.3f} ms",
        ),
        result("librdkafka", f"librdkafka alone, with a broker of its own in its process and no disk, p50 {middle('mock'):.3f} ms"),
    ]
