# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""From a record's produce() until a consumer that waits has it."""

from .broker_peers import KafkaEngine, measure as run
from .result import Bench, Result, median

TURNS = 3
RATE = 1000
SECONDS = 11
SIZE = 100


def measure(bench: Bench) -> list[Result]:
    with KafkaEngine(bench.program, bench.directory) as engine:
        found = [run(bench, "kafka", "waiting", engine.kafka, engine.topic(f"waiting-{turn}"), RATE, SECONDS, SIZE) for turn in range(TURNS)]
    half, most = median([one["p50"] for one in found]), median([one["p99"] for one in found])
    return [
        Result(
            "broker_waiting", f"produce → waiting consumer has it, {RATE:,}/s",
            f"p50 {half:.2f} · p99 {most:.2f} ms", "p50 ≤ 1 ms, p99 ≤ 10 ms", half <= 1 and most <= 10, values={"turns": found},
            note=f"median of {TURNS} turns of {SECONDS - 1} s, librdkafka on both sides, linger.ms 0; on disk before the consumer sees it; "
            f"the latest {max(one['max'] for one in found):.1f} ms",
        )
    ]  # fmt: skip
