# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""A trivial handler: events per second through the engine, and through functions-framework over HTTP."""

import json
import time

from .engine import BenchmarkError, Engine
from .peer import FunctionsFramework
from .result import Bench, Result, median

EVENTS = 400_000
BATCH = 1000
TOGETHER = 100_000
RUNS = 3
BATCH_TYPE = "application/cloudevents-batch+json"


def batches(source: str, count: int, prefix: str) -> list[bytes]:
    """Bodies of `BATCH` events each, with ids of their own."""
    event = (
        '{"specversion":"1.0","id":"%s-%d","source":"' + source + '","type":"example.com:Bench","time":"2026-01-01T00:00:00Z",'
        '"datacontenttype":"application/json","data":{"number":%d,"text":"a trivial event"}}'
    )
    return [
        ("[" + ",".join(event % (prefix, index, index) for index in range(start, start + BATCH)) + "]").encode()
        for start in range(0, count, BATCH)
    ]


def publish(engine: Engine, bodies: list[bytes]) -> float:
    start = time.perf_counter()
    for body in bodies:
        status, answer = engine.request("POST", "/api/v1/topics/bench/events", body, BATCH_TYPE)
        if status != 202 or json.loads(answer)["count"] != BATCH:
            raise BenchmarkError(f"publishing was answered with {status}: {answer[:500]!r}")
    return time.perf_counter() - start


def drain(engine: Engine, before: int, count: int) -> tuple[float, float]:
    """Waits until `count` more events are processed; returns their rate and the engine's share of one processor."""
    first = last = None
    cpu = 0.0
    deadline = time.monotonic() + 180
    while last is None or last[1] < before + count:
        status = engine.deployment("bench")
        now = (time.perf_counter(), status["succeeded"])
        if first is None and now[1] > before:
            first, cpu = now, engine.processor_seconds()
        last = now
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{now[1] - before} of {count} events were processed in 180 s: {status}")
        time.sleep(0.05)
    seconds = last[0] - first[0]
    return (last[1] - first[1]) / seconds, (engine.processor_seconds() - cpu) / seconds


def calls(engine: Engine) -> int:
    """How often the handler was called in all workers that ended."""
    return sum(int(path.read_text()) for path in engine.directory.glob("calls.*"))


def measure_engine(bench: Bench, bodies_of, workers: int) -> dict:
    with Engine(bench.program, bench.directory) as engine:
        engine.view("unused")
        engine.run("topics", "create", "bench")
        engine.run("triggers", "create", "element", "-n", "bench", "-s", "unused", "--events", "ObjectCreated:*", "--topic", "bench")
        engine.function("trivial")
        resources = {"min_concurrency": workers, "max_concurrency": max(workers, 2), "max_memory": "1Gi"}
        engine.pipeline(
            "bench", "bench", "trivial",
            {"environment_variables": {"CALLS": str(engine.directory / "calls")}, "resources": resources},
        )  # fmt: skip
        guid = engine.call("GET", "/triggers/bench")["guid"]
        source = f"vastdata.com:bench.{guid}"
        warm = batches(source, 20_000, "warm")
        publish(engine, warm)
        engine.wait("bench", 20_000, 60)
        engine.run("pipelines", "pause", "bench")
        bodies = batches(source, EVENTS, "drain")
        publish_seconds = publish(engine, bodies)
        engine.run("pipelines", "resume", "bench")
        before = 0
        rate, share = drain(engine, before, EVENTS)
        status = engine.deployment("bench")
        together = batches(source, TOGETHER, "together")
        processed = status["succeeded"]
        start = time.perf_counter()
        publish(engine, together)
        engine.wait("bench", processed + TOGETHER, 120)
        together_rate = TOGETHER / (time.perf_counter() - start)
        engine.require("bench", EVENTS + TOGETHER)
        rss = engine.rss_mb()
        engine.run("pipelines", "undeploy", "bench")
        print(rate, share, EVENTS / publish_seconds, together_rate, status, rss)
        deadline = time.monotonic() + 15
        while (found := calls(engine)) == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        if found != 20_000 + EVENTS + TOGETHER:
            raise BenchmarkError(f"the handler was called {found} times for {20_000 + EVENTS + TOGETHER} events")
        return {
            "rate": rate, "engine_processors": share, "publish_rate": EVENTS / publish_seconds, "together_rate": together_rate,
            "workers": status["workers"], "rss_mb": rss,
        }  # fmt: skip
