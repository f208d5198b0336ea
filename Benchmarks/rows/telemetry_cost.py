# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What the engine's own telemetry costs: the trivial handler with it, and with `telemetry.signals: none`, in turns."""

from . import throughput
from .engine import BenchmarkError, Engine
from .result import Bench, Result, median

EVENTS = 300_000
WARM_UP = 20_000
TURNS = 4
SHARE = 0.10


def turn(bench: Bench, signals: str) -> dict:
    """One engine of its own, so that what the last one left behind does not burden the next."""
    engine = Engine(bench.program, bench.directory)
    engine.environment["MARTLET_TELEMETRY_SIGNALS"] = signals
    with engine:
        source = throughput.prepared(engine)
        throughput.publish(engine, throughput.batches(source, WARM_UP, "warm"))
        engine.wait("bench", WARM_UP, 120)
        engine.run("pipelines", "pause", "bench")
        throughput.publish(engine, throughput.batches(source, EVENTS, "drain"))
        before = engine.processor_seconds_with_workers()
        engine.run("pipelines", "resume", "bench")
        rate, _ = throughput.drain(engine, 0, EVENTS)
        used = engine.processor_seconds_with_workers() - before
        engine.require("bench", EVENTS)
        spans = engine.call("POST", "/sql", {"sql": "select count(*) from system.spans"})["rows"][0][0]
        if (spans == 0) != (signals == "none"):
            raise BenchmarkError(f"with telemetry.signals: {signals} there are {spans} spans")
    return {"rate": rate, "processor_microseconds": used / EVENTS * 1e6, "spans": spans}


def measure(bench: Bench) -> list[Result]:
    with_it, without = [], []
    for number in range(TURNS):
        # First with, then without, then the other way round: what drifts meanwhile drifts for both.
        order = [("traces,logs,metrics", with_it), ("none", without)]
        for signals, runs in order if number % 2 == 0 else order[::-1]:
            runs.append(turn(bench, signals))
    rates = [median([run["rate"] for run in runs]) for runs in (with_it, without)]
    costs = [median([run["processor_microseconds"] for run in runs]) for runs in (with_it, without)]
    cost = 1 - rates[0] / rates[1]
    spread = [f"{min(run['rate'] for run in runs):,.0f} to {max(run['rate'] for run in runs):,.0f}" for runs in (with_it, without)]
    return [
        Result(
            "telemetry_cost", "telemetry's share of a busy engine's throughput", f"{cost:.1%}", f"≤ {SHARE:.0%}", cost <= SHARE,
            ratio=f"{rates[0]:,.0f} of {rates[1]:,.0f} events/s", values={"with": with_it, "without": without},
            note=f"{EVENTS:,} events of the trivial handler, median of {TURNS} turns each ({spread[0]}; without {spread[1]}); engine and "
            f"workers used {costs[0]:.1f} µs of a processor for an event, {costs[1]:.1f} without ({1 - costs[1] / costs[0]:.1%}); {median([run['spans'] for run in with_it]):,.0f} spans kept",
        )
    ]  # fmt: skip
