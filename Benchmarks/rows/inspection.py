# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""examples/exr-inspector over many files: files per second until their rows are in the tables."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from .engine import BenchmarkError, Engine
from .result import Bench, Result

FILES = 2000
STATISTICS_FILES = 200
WARM_UP = 50
TABLES = ("files", "parts", "channels", "attributes", "stats", "validation")
STRIDE = 4


def originals(bench: Bench) -> tuple[list[Path], str]:
    """The shared files where they are there, else made ones."""
    shared = bench.root.parent / "shared/data/exr"
    found = sorted(shared.glob("*.exr"))
    if found:
        return found, f"the {len(found)} shared files"
    made = bench.directory / "made"
    command = [sys.executable, bench.root / "examples/exr-inspector/generate.py", made, "--count", "60", "--seed", "1"]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        raise BenchmarkError(f"generate.py failed: {run.stderr.strip()}")
    return sorted(made.rglob("*.exr")), "60 files of generate.py (../shared/data/exr is absent)"


def copies(sources: list[Path], count: int, staging: Path) -> list[Path]:
    """`count` copies in turn; the name says of which file each is."""
    staging.mkdir()
    made = []
    for index in range(count):
        target = staging / f"{index % len(sources):03d}-{index:05d}.exr"
        shutil.copyfile(sources[index % len(sources)], target)
        made.append(target)
    return made


def prepared(engine: Engine, bench: Bench) -> Path:
    view = engine.view("exr")
    engine.function("exr-inspector", bench.root / "examples/exr-inspector")
    engine.run("triggers", "create", "element", "-n", "exr-files", "-s", "exr", "--events", "ObjectCreated:*", "--name-suffix", ".exr")
    engine.run(
        "triggers", "create", "element", "-n", "exr-statistics", "-s", "exr", "--events", "ObjectCreated:*", "--name-suffix", ".exr",
        "--custom-extension", f"exrstats={STRIDE}",
    )  # fmt: skip
    return view


def run(engine: Engine, view: Path, files: list[Path], done: int) -> tuple[float, float]:
    """Moves the files in at once; returns seconds until all are processed and the engine's processor seconds."""
    cpu = engine.processor_seconds()
    start = time.perf_counter()
    for path in files:
        os.replace(path, view / path.name)
    engine.wait("inspection", done + len(files), 300, 0.02)
    return time.perf_counter() - start, engine.processor_seconds() - cpu


def check(engine: Engine, files: list[Path], sources: int) -> dict[str, int]:
    """Every file is in the tables, and all copies of one file have the same rows; returns the rows of each table."""
    names = [table["name"] for table in engine.call("GET", "/tables")["data"]]
    counts = {}
    for table in TABLES:
        if table not in names:
            counts[table] = 0
            continue
        column = "path" if table == "files" else "file_path"
        query = f"select {column} as path, count(*) as rows from {table} group by 1"
        answer = engine.call("POST", "/sql", {"sql": query, "limit": 100_000})
        found = dict(map(tuple, answer["rows"]))
        if table == "files" and any(int(found.get(f"exr/{path.name}", 0)) != 1 for path in files):
            raise BenchmarkError(f"{len(files)} files were moved in, {len(found)} are in the table files")
        of_original: dict[str, set[int]] = {}
        for path in files:
            of_original.setdefault(path.name[:3], set()).add(int(found.get(f"exr/{path.name}", 0)))
        uneven = [name for name, rows in of_original.items() if len(rows) != 1]
        if uneven or len(of_original) != sources:
            raise BenchmarkError(f"{table}: copies of one file have different numbers of rows: {uneven}")
        counts[table] = sum(int(found.get(f"exr/{path.name}", 0)) for path in files)
    return counts


def part(bench: Bench, sources: list[Path], count: int, trigger: str) -> tuple[float, float, dict[str, int], int]:
    with Engine(bench.program, bench.directory) as engine:
        view = prepared(engine, bench)
        engine.pipeline(
            "inspection", trigger, "exr-inspector",
            {"resources": {"min_concurrency": 2, "max_concurrency": 2, "max_memory": "2Gi"}},
        )  # fmt: skip
        run(engine, view, copies(sources, WARM_UP, engine.directory / "first"), 0)
        files = copies(sources, count, engine.directory / "staging")
        os.sync()
        seconds, cpu = run(engine, view, files, WARM_UP)
        engine.require("inspection", WARM_UP + count)
        rows = check(engine, files, len(sources))
        return count / seconds, cpu / seconds, rows, sum(rows.values())


def measure(bench: Bench) -> list[Result]:
    sources, said = originals(bench)
    rate, processors, rows, total = part(bench, sources, FILES, "exr-files")
    if any(rows[table] == 0 for table in TABLES if table != "stats"):
        raise BenchmarkError(f"tables are empty: {rows}")
    slow, _, with_statistics, _ = part(bench, sources, STATISTICS_FILES, "exr-statistics")
    if any(count == 0 for count in with_statistics.values()):
        raise BenchmarkError(f"tables are empty: {with_statistics}")
    return [
        Result(
            "inspection", f"exr-inspector, {FILES:,} files moved in", f"{rate:,.0f} files/s · {total / FILES * rate:,.0f} rows/s", "≥ 300 files/s",
            rate >= 300, ratio=f"{rate / 2.3:,.0f}× (published 2.3 files/s)", values={"rows": rows},
            note=f"copies of {said}, headers only, one transaction over six tables for each; engine {processors:.2f} processors; "
            + ", ".join(f"{table} {count:,}" for table, count in rows.items()),
        ),
        Result(
            "inspection", "  with pixel statistics", f"{slow:,.0f} files/s", values={"rows": with_statistics},
            note=f"{STATISTICS_FILES} files, every {STRIDE}th sample; every pixel is decoded; "
            + ", ".join(f"{table} {count:,}" for table, count in with_statistics.items()),
        ),
    ]  # fmt: skip
