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
WARM_UP = 20_000
RUNS = 3
WORKERS = 2
PEER_EVENTS = 5_000
PEER_CONNECTIONS = 16
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


def prepared(engine: Engine) -> str:
    """Makes the pipeline, which keeps two workers; returns the source its events must carry."""
    engine.view("unused")
    engine.run("topics", "create", "bench")
    engine.run("triggers", "create", "element", "-n", "bench", "-s", "unused", "--events", "ObjectCreated:*", "--topic", "bench")
    engine.function("trivial")
    deployment = {
        "environment_variables": {"CALLS": str(engine.directory / "calls")},
        "resources": {"min_concurrency": WORKERS, "max_concurrency": WORKERS, "max_memory": "1Gi"},
    }
    engine.pipeline("bench", "bench", "trivial", deployment)
    return f"vastdata.com:bench.{engine.call('GET', '/triggers/bench')['guid']}"


def one_run(engine: Engine, source: str, number: int) -> dict:
    """Fills the topic while the pipeline is paused, then lets it go; then sends and processes at once."""
    engine.run("pipelines", "pause", "bench")
    publish_seconds = publish(engine, batches(source, EVENTS, f"drain-{number}"))
    engine.run("pipelines", "resume", "bench")
    rate, processors = drain(engine, 0, EVENTS)
    engine.require("bench", EVENTS)
    bodies = batches(source, TOGETHER, f"together-{number}")
    start = time.perf_counter()
    publish(engine, bodies)
    engine.wait("bench", EVENTS + TOGETHER, 120, 0.02)
    together = TOGETHER / (time.perf_counter() - start)
    engine.require("bench", EVENTS + TOGETHER)
    return {
        "rate": rate, "engine_processors": processors, "publish_rate": EVENTS / publish_seconds, "together_rate": together,
        "rss_mb": engine.rss_mb(),
    }  # fmt: skip


def dropped(engine: Engine) -> int:
    """Telemetry records the engine says it could not keep."""
    logs = engine.call("GET", "/logs?scope=engine&contains=dropped&limit=1000")["data"]
    return sum(int(log["message"].split()[0]) for log in logs)


def check_calls(engine: Engine, wanted: int) -> None:
    """Compares with the handler's own count, which its workers write when they end."""
    engine.run("pipelines", "undeploy", "bench")
    deadline = time.monotonic() + 15
    while (found := calls(engine)) != wanted:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"the handler was called {found} times for {wanted} events")
        time.sleep(0.05)


def measure_peer() -> dict[int, float]:
    """Events per second of functions-framework as it is shipped, and with as many workers as we use."""
    rates = {}
    for workers in (1, WORKERS):
        with FunctionsFramework(workers) as server:
            server.rate(500, PEER_CONNECTIONS)
            rates[workers] = max(server.rate(PEER_EVENTS, PEER_CONNECTIONS) for _ in range(2))
    return rates


def measure(bench: Bench) -> list[Result]:
    before = measure_peer()
    with Engine(bench.program, bench.directory) as engine:
        source = prepared(engine)
        publish(engine, batches(source, WARM_UP, "warm"))
        engine.wait("bench", WARM_UP, 60)
        runs = [one_run(engine, source, number) for number in range(RUNS)]
        lost = dropped(engine)
        check_calls(engine, WARM_UP + RUNS * (EVENTS + TOGETHER))
    after = measure_peer()
    rates = sorted(run["rate"] for run in runs)
    rate = median(rates)
    together = median([run["together_rate"] for run in runs])
    published = median([run["publish_rate"] for run in runs])
    processors = median([run["engine_processors"] for run in runs])
    peer = max(*before.values(), *after.values())
    shipped = max(before[1], after[1])
    return [
        Result(
            "throughput", "trivial Python handler, unordered, durable", f"{rate:,.0f} events/s", "≥ 20,000 events/s", rate >= 20_000,
            values={"runs": runs, "telemetry_dropped": lost},
            note=f"{EVENTS:,} events on disk, retries armed, {WORKERS} workers; median of {RUNS}, {rates[0]:,.0f} to {rates[-1]:,.0f}; "
            f"the engine used {processors:.2f} processors; {lost:,} telemetry records of all {RUNS} runs were dropped",
        ),
        Result(
            "throughput", "  published and processed at once", f"{together:,.0f} events/s",
            values={"publish_rate": published},
            note=f"{TOGETHER:,} events; publishing alone {published:,.0f}/s, batches of {BATCH:,}, each on disk when answered",
        ),
        Result(
            "throughput", "  the same handler in functions-framework", f"{peer:,.0f} events/s", "≥ 5×", rate >= 5 * peer,
            ratio=f"{rate / peer:.0f}×", values={"before": before, "after": after},
            note=f"gunicorn, {PEER_CONNECTIONS} kept connections; best of 1 worker as shipped ({shipped:,.0f}) and {WORKERS} workers, before and after",
        ),
    ]  # fmt: skip
