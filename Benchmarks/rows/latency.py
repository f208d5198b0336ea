# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""From the close of a file to the entry of the handler."""

import os
import random
import resource
import time
from pathlib import Path

from .engine import BenchmarkError, Engine
from .result import Bench, Result, percentiles

WARM_UP = 200
FILES = 1000
BURST = 1000
BURSTS = 5


class Stamps:
    """Reads the lines the handler writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entered: dict[str, int] = {}
        self._at = 0

    def read(self) -> None:
        try:
            with open(self.path, "rb") as file:
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return
        end = data.rfind(b"\n") + 1
        self._at += end
        for line in data[:end].splitlines():
            entered, key = line.decode().split(" ", 1)
            if key in self.entered:
                raise BenchmarkError(f"the handler was entered twice for {key}")
            self.entered[key] = int(entered)

    def wait(self, wanted: int, seconds: float, pause: float) -> None:
        deadline = time.monotonic() + seconds
        while len(self.entered) < wanted:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"the handler was entered for {len(self.entered)} of {wanted} files within {seconds:.0f} s")
            time.sleep(pause)
            self.read()


def write(path: Path) -> int:
    """Writes a file of 4 KiB and closes it; returns the time just before the close."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(handle, b"x" * 4096)
    closed = time.time_ns()
    os.close(handle)
    return closed


def prepared(engine: Engine) -> tuple[Path, Stamps]:
    view = engine.view("incoming")
    engine.function("stamp")
    engine.run("triggers", "create", "element", "-n", "incoming", "-s", "incoming", "--events", "ObjectCreated:*")
    stamps = engine.directory / "stamps"
    engine.pipeline("latency", "incoming", "stamp", {"environment_variables": {"STAMPS": str(stamps)}})
    return view, Stamps(stamps)


def one_at_a_time(engine: Engine, view: Path, stamps: Stamps) -> list[float]:
    """Milliseconds for each file, each written when the one before was handled and a while has passed."""
    pauses = random.Random(1)
    took = []
    for index in range(WARM_UP + FILES):
        key = f"single-{index}"
        closed = write(view / key)
        stamps.wait(index + 1, 10, 0.001)
        if index >= WARM_UP:
            took.append((stamps.entered[key] - closed) / 1e6)
        # Not in step with any timer of the engine.
        time.sleep(pauses.uniform(0.002, 0.012))
    return took


def burst(view: Path, stamps: Stamps, number: int) -> dict[str, float]:
    """Milliseconds for each of a thousand files that are open and written, and then closed one right after the other."""
    before = len(stamps.entered)
    handles = {}
    for index in range(BURST):
        key = f"burst-{number}-{index}"
        handles[key] = os.open(view / key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(handles[key], b"x" * 4096)
    time.sleep(0.5)
    closed = {}
    for key, handle in handles.items():
        closed[key] = time.time_ns()
        os.close(handle)
    closing = (max(closed.values()) - min(closed.values())) / 1e6
    stamps.wait(before + BURST, 60, 0.02)
    return percentiles([(stamps.entered[key] - at) / 1e6 for key, at in closed.items()]) | {"closing": closing}


def measure(bench: Bench) -> list[Result]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, BURST + 256)), hard))
    with Engine(bench.program, bench.directory) as engine:
        view, stamps = prepared(engine)
        single = percentiles(one_at_a_time(engine, view, stamps))
        time.sleep(1)
        bursts = []
        for number in range(BURSTS):
            bursts.append(burst(view, stamps, number))
            time.sleep(1)
        total = WARM_UP + FILES + BURSTS * BURST
        engine.wait("latency", total, 10)
        engine.require("latency", total)
    bursts.sort(key=lambda found: found["p95"])
    middle = bursts[len(bursts) // 2]
    return [
        Result(
            "latency", "file closed → handler entered, one at a time",
            "p50 {p50:.2f} · p95 {p95:.2f} · p99 {p99:.2f} ms".format(**single),
            "p50 ≤ 3 ms, p99 ≤ 15 ms", single["p50"] <= 3 and single["p99"] <= 15,
            ratio=f"{72 / single['p95']:.0f}× (published p95 72 ms)", values=single,
            note=f"{FILES} files of 4 KiB after {WARM_UP} to warm up, 2 to 12 ms apart",
        ),
        Result(
            "burst", f"the same in a burst of {BURST:,} files",
            "p50 {p50:.0f} · p95 {p95:.0f} · p99 {p99:.0f} ms".format(**middle),
            "p95 ≤ 150 ms", middle["p95"] <= 150,
            ratio=f"{612 / middle['p95']:.1f}× (published 612 ms, burst of 11)",
            values={"runs": bursts},
            note=f"median of {BURSTS} bursts, p95 {bursts[0]['p95']:.0f} to {bursts[-1]['p95']:.0f} ms; "
            f"{BURST:,} written files of 4 KiB closed within {middle['closing']:.0f} ms",
        ),
    ]  # fmt: skip
