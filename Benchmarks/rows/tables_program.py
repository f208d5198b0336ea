# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What the rows about tables share: the program that measures them in one process."""

import json
import subprocess
from pathlib import Path

from .engine import BenchmarkError
from .result import Bench

SECONDS = 1200


def run(bench: Bench, *arguments: object) -> dict:
    """Runs `tables-benchmark` and returns its report."""
    program = bench.program.parent / "tables-benchmark"
    if not program.exists():
        raise BenchmarkError(f"there is no {program}; build it with: swift build -c release --product tables-benchmark")
    try:
        done = subprocess.run(
            [program, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=bench.root, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"tables-benchmark {arguments[0]} did not end within {SECONDS} s") from None
    if done.returncode != 0:
        raise BenchmarkError(done.stderr.strip())
    return json.loads(done.stdout)


def place(bench: Bench, name: str) -> Path:
    path = bench.directory / name
    path.mkdir()
    return path
