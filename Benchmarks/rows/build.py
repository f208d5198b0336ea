# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""`functions build`: first with two requirements, with changed code, unchanged."""

import json
import shutil
import time
from pathlib import Path

from .engine import FUNCTIONS, BenchmarkError, Engine
from .result import Bench, Result, median

RUNS = 5


def timed(engine: Engine, folder: Path, cached: bool, unchanged: bool) -> float:
    """Seconds of one build, which must have found what it was to find."""
    start = time.perf_counter()
    bundle = json.loads(engine.run("functions", "build", "two", "--target", folder, "-o", "json"))
    seconds = time.perf_counter() - start
    if (bundle["environment_cached"], bundle["unchanged"]) != (cached, unchanged):
        raise BenchmarkError(f"the build was not the one to be measured: {bundle}")
    return seconds


def measure(bench: Bench) -> list[Result]:
    firsts, changes, sames = [], [], []
    for number in range(2):
        folder = bench.directory / f"function-{number}"
        shutil.copytree(FUNCTIONS / "two_requirements", folder)
        engine = Engine(bench.program, bench.directory)
        # pip downloads into a cache of its own in the first run, and finds it in the second.
        engine.environment["PIP_CACHE_DIR"] = str(bench.directory / "pip-cache")
        with engine:
            firsts.append(timed(engine, folder, cached=False, unchanged=False))
            for run in range(RUNS if number else 0):
                main = folder / "main.py"
                main.write_text(main.read_text() + f"\n\nRUN = {run}\n")
                changes.append(timed(engine, folder, cached=True, unchanged=False))
                sames.append(timed(engine, folder, cached=True, unchanged=True))
            if number == 1:
                check(engine)
    shutil.rmtree(bench.directory / "pip-cache", ignore_errors=True)
    first, change, same = firsts[0], median(changes), median(sames)
    return [
        Result("build", "functions build: first, two requirements", f"{first:.1f} s", "≤ 15 s", first <= 15,
               ratio=f"{154 / first:.0f}× (published 154 to 179 s)", values={"seconds": firsts},
               note=f"packages downloaded; {firsts[1]:.1f} s with pip's cache filled"),
        Result("build", "  code change only", f"{change:.2f} s", "≤ 1 s", change <= 1, values={"seconds": changes},
               note=f"median of {RUNS}, {min(changes):.2f} to {max(changes):.2f} s"),
        Result("build", "  unchanged", f"{same:.2f} s", "≤ 0.2 s", same <= 0.2, values={"seconds": sames},
               note=f"median of {RUNS}, {min(sames):.2f} to {max(sames):.2f} s"),
    ]  # fmt: skip


def check(engine: Engine) -> None:
    """The newest bundle runs: creating the function of it imports its module and its requirements."""
    engine.run("functions", "create", "-n", "two", "--artifact-source", "two", "--publish")
