# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Durable appends to the event log, against the disk itself."""

import json
import shutil
import subprocess

from .engine import BenchmarkError
from .result import Bench, Result, median

TURNS = 40
MEGABYTES = 32


def measure(bench: Bench) -> list[Result]:
    program = bench.program.parent / "eventlog-benchmark"
    if not program.exists():
        raise BenchmarkError(f"there is no {program}; build it with: swift build -c release --product eventlog-benchmark")
    place = bench.directory / "log"
    place.mkdir()
    run = subprocess.run([program, place, str(TURNS), str(MEGABYTES)], capture_output=True, text=True)
    shutil.rmtree(place)
    if run.returncode != 0:
        raise BenchmarkError(run.stderr.strip())
    report = json.loads(run.stdout)
    turns = report["turns"]
    ratios = sorted(turn["ratio"] for turn in turns)
    speed, disk, group = (
        median([turn[name] for turn in turns]) for name in ("log_megabytes_per_second", "disk_megabytes_per_second", "group_bytes")
    )
    ratio = median(ratios)
    return [
        Result(
            "log", "log append, 100 × 1 KiB, 8 writers, durable",
            f"{speed:.0f} MB/s · append p50 {report['append_milliseconds_p50']:.1f} · p99 {report['append_milliseconds_p99']:.1f} ms",
            "≥ 60 % of the disk", ratio >= 0.6, ratio=f"{ratio:.0%} of the disk ({disk:.0f} MB/s)", values=report,
            note=f"median of {TURNS} turns of {MEGABYTES} MiB, the middle half {ratios[TURNS // 4]:.0%} to {ratios[TURNS * 3 // 4]:.0%}; "
            f"both with fdatasync every {group / 1000:.0f} KB, taking turns",
        )
    ]  # fmt: skip
