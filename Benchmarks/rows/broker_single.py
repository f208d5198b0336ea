# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""One record at a time, each acknowledged on disk before the next, against the disk itself."""

from .broker_peers import KafkaEngine, flush_times, measure as run
from .result import Bench, Result, median, percentiles

TURNS = 5
RECORDS = 3000
SIZE = 100


def measure(bench: Bench) -> list[Result]:
    found, disk, client = [], [], []
    with KafkaEngine(bench.program, bench.directory) as engine:
        for turn in range(TURNS):
            disk.append(percentiles(flush_times(bench.directory, SIZE)))
            found.append(run(bench, "kafka", "single", engine.kafka, engine.topic(f"single-{turn}"), RECORDS, SIZE))
            client.append(run(bench, "kafka", "single", "mock", "single", RECORDS, SIZE))
    ours, least = median([one["p50"] for one in found]), median([one["p50"] for one in disk])
    return [
        Result(
            "broker_single", f"produce {SIZE} B one at a time, librdkafka",
            f"p50 {ours:.3f} · p99 {median([one['p99'] for one in found]):.3f} ms", "p50 ≤ 1.5× fdatasync", ours <= 1.5 * least,
            ratio=f"{ours / least:.2f}× fdatasync (p50 {least:.3f} ms)", values={"ours": found, "disk": disk, "client": client},
            note=f"medians of {TURNS} turns of {RECORDS:,} records, taking turns with {SIZE} bytes more in a file and fdatasync "
            f"(p99 {median([one['p99'] for one in disk]):.3f} ms); librdkafka alone, with a broker of its own in its process and no disk, "
            f"p50 {median([one['p50'] for one in client]):.3f} ms",
        )
    ]  # fmt: skip
