# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""How long the engine takes to be ready, what it holds when idle, how long the command line takes."""

import subprocess
import time

from .engine import BenchmarkError, Engine
from .result import Bench, Result, median, percentiles

STARTS = 7
HELPS = 30
IDLE_SECONDS = 10


def start_times(engine: Engine) -> list[float]:
    """Seconds from the start of the process to the answer of /readyz, on one data directory, the first time on an empty one."""
    times = [engine.ready_seconds]
    for _ in range(STARTS - 1):
        engine.stop()
        engine.start()
        times.append(engine.ready_seconds)
    return times


def idle(engine: Engine) -> tuple[float, float]:
    """Megabytes after some idle seconds, and the share of a processor used in them."""
    time.sleep(2)
    cpu, start = engine.processor_seconds(), time.perf_counter()
    time.sleep(IDLE_SECONDS - 2)
    return engine.rss_mb(), (engine.processor_seconds() - cpu) / (time.perf_counter() - start)


def deploy_one(engine: Engine) -> None:
    engine.view("incoming")
    engine.function("stamp")
    engine.run("triggers", "create", "element", "-n", "incoming", "-s", "incoming", "--events", "ObjectCreated:*")
    engine.pipeline("idle", "incoming", "stamp", {"environment_variables": {"STAMPS": str(engine.directory / "stamps")}})


def help_times(bench: Bench) -> list[float]:
    times = []
    for _ in range(HELPS):
        start = time.perf_counter()
        result = subprocess.run([bench.program, "--help"], stdin=subprocess.DEVNULL, capture_output=True)
        times.append((time.perf_counter() - start) * 1000)
        if result.returncode != 0 or b"serve" not in result.stdout:
            raise BenchmarkError(f"martlet --help failed: {result.stderr.decode(errors='replace')[:500]}")
    return times


def measure(bench: Bench) -> list[Result]:
    with Engine(bench.program, bench.directory) as engine:
        starts = start_times(engine)
        bare, bare_share = idle(engine)
        deploy_one(engine)
        deployed, deployed_share = idle(engine)
    seconds = median(starts[1:])
    helps = percentiles(help_times(bench)[2:])
    memory = max(bare, deployed)
    return [
        Result(
            "ready", "engine ready to accept", f"{seconds:.2f} s", "≤ 0.5 s", seconds <= 0.5, values={"seconds": starts},
            note=f"process start → /readyz answers; median of {STARTS - 1}; first start on an empty directory {starts[0]:.2f} s",
        ),
        Result(
            "memory", "idle memory, engine process", f"{bare:.0f} MB · with a pipeline {deployed:.0f} MB", "≤ 120 MB", memory <= 120,
            values={"bare": bare, "deployed": deployed, "processor": [bare_share, deployed_share]},
            note=f"resident after {IDLE_SECONDS} idle s; processor meanwhile {bare_share:.1%} · {deployed_share:.1%}",
        ),
        Result(
            "help", "martlet --help", f"p50 {helps['p50']:.0f} · p95 {helps['p95']:.0f} ms", "≤ 30 ms", helps["p50"] <= 30, values=helps,
            note=f"{helps['count']} runs",
        ),
    ]  # fmt: skip
