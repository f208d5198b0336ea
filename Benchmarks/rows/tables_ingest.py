# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""From a topic of JSON records to committed Parquet, against DuckDB's own reading of the same lines."""

import json
import random
import resource
import shutil
import time
from pathlib import Path

import duckdb

from . import tables_program
from .engine import BenchmarkError
from .result import Bench, Result, median

RECORDS = 2_000_000
ROUNDS = 3
PARTITIONS = (1, 2, 4)
MEMORY_MB = 256


def write(path: Path) -> None:
    """Records of about 113 bytes, the same in every run."""
    numbers = random.Random(1)
    with open(path, "w") as file:
        for index in range(RECORDS):
            record = {
                "id": index,
                "user": f"user-{numbers.randrange(100_000)}",
                "action": numbers.choice(["view", "click", "buy"]),
                "price": round(numbers.random() * 100, 2),
                "ok": numbers.random() < 0.5,
                "at": f"2026-11-21T10:{index // 60 % 60:02d}:{index % 60:02d}Z",
            }
            file.write(json.dumps(record) + "\n")


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peer(source: Path, target: Path) -> tuple[float, float]:
    """Records per second of DuckDB alone on two threads, and microseconds of processor time for each."""
    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    start, processor = time.perf_counter(), processor_seconds()
    connection.execute(f"COPY (SELECT * FROM read_json('{source}')) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
    took = time.perf_counter() - start
    return RECORDS / took, (processor_seconds() - processor) / RECORDS * 1e6


SUMS = "count(*), count(DISTINCT id), sum(id), sum(round(price * 100)::BIGINT), count_if(ok), sum(length(\"user\")), count(DISTINCT \"at\")"


def check(found: dict, source: Path) -> None:
    """The files, read by another DuckDB, hold the rows of the lines."""
    connection = duckdb.connect()
    files = f"read_parquet('{found['location']}/rows/**/*.parquet')"
    rows = connection.execute(f"SELECT {SUMS} FROM {files}").fetchone()
    wanted = connection.execute(f"SELECT {SUMS} FROM read_json('{source}')").fetchone()
    if [str(value) for value in rows] != [str(value) for value in wanted]:
        raise BenchmarkError(f"the table holds {rows}, the topic {wanted}")


def measure(bench: Bench) -> list[Result]:
    place = tables_program.place(bench, "tables-ingest")
    source = place / "rows.json"
    write(source)
    runs: list[dict] = []
    for round_number in range(ROUNDS):
        for partitions in PARTITIONS:
            # In turns, so that both have the same machine.
            peer_rate, peer_processor = peer(source, place / "peer.parquet")
            directory = place / f"{round_number}-{partitions}"
            tables_program.run(bench, "fill", directory, source, partitions)
            found = tables_program.run(bench, "ingest", directory)
            check(found, source)
            shutil.rmtree(directory)
            runs.append(found | {
                "peer_records_per_second": peer_rate, "peer_processor_microseconds": peer_processor,
                "share": found["records_per_second"] / peer_rate,
            })  # fmt: skip
    shutil.rmtree(place)
    results = []
    for partitions in PARTITIONS:
        own = [run for run in runs if run["partitions"] == partitions]
        rate, share = median([run["records_per_second"] for run in own]), median([run["share"] for run in own])
        processor, peer_processor = (
            median([run[name] for run in own]) for name in ("processor_microseconds", "peer_processor_microseconds")
        )
        rates = sorted(run["records_per_second"] for run in own)
        results.append(
            Result(
                f"tables_ingest_{partitions}", f"JSON topic → committed Parquet, {partitions} partition{'s' * (partitions > 1)}",
                f"{rate:,.0f} records/s · {median([run['megabytes_per_second'] for run in own]):.0f} MB/s",
                "≥ 300,000/s, ≥ 50 % of DuckDB", rate >= 300_000 and share >= 0.5,
                ratio=f"{share:.0%} of read_json → COPY", values={"runs": own},
                note=f"{RECORDS:,} records, median of {ROUNDS} ({rates[0]:,.0f} to {rates[-1]:,.0f}); processor time for each record "
                f"{processor:.2f} µs, DuckDB alone {peer_processor:.2f} µs ({peer_processor / processor:.0%}); "
                f"{median([run['commits'] for run in own]):.0f} commits",
            )
        )  # fmt: skip
    memory, whole = (max(run[name] for run in runs) / 1e6 for name in ("sink_bytes", "peak_bytes"))
    results.append(
        Result(
            "tables_memory", "memory of the sink meanwhile, the most of all runs", f"{memory:.0f} MB", f"≤ {MEMORY_MB} MB",
            memory <= MEMORY_MB,
            note=f"peak of the process ({whole:.0f} MB) less what it holds before the table begins; bounded by tables.sink-memory-mib",
        )
    )  # fmt: skip
    return results
