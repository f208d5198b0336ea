# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Looking up a trace and log records among ten million, with the real command against a real engine."""

import json
import time
from pathlib import Path

from . import tables_program
from .engine import BenchmarkError, Engine
from .result import Bench, Result, percentiles

SPANS = 5_000_000
LOGS = 5_000_000
TRACES = 40
COMMANDS = 20
REACH = 200
WINDOW_MICROS = 300_000_000


def instant(micros: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(micros / 1e6))


def timed(call) -> tuple[float, object]:
    start = time.perf_counter()
    answer = call()
    return (time.perf_counter() - start) * 1000, answer


def look_up(engine: Engine, samples: list[dict]) -> dict[str, list[float]]:
    """Milliseconds of each kind of question; every answer is held against what was written."""
    found: dict[str, list[float]] = {}

    def note(name: str, took: float) -> None:
        found.setdefault(name, []).append(took)

    for sample in samples[:TRACES]:
        took, trace = timed(lambda: engine.call("GET", f"/traces/{sample['trace_id']}"))
        note("trace", took)
        if (len(trace["spans"]), len(trace["logs"])) != (sample["spans"], sample["logs"]):
            raise BenchmarkError(f"trace {sample['trace_id']} has {len(trace['spans'])} spans and {len(trace['logs'])} logs, not {sample}")
    for sample in samples[:COMMANDS]:
        took, text = timed(lambda: engine.run("traces", "get", sample["trace_id"], "-o", "json"))
        note("trace_command", took)
        if len(json.loads(text)["spans"]) != sample["spans"]:
            raise BenchmarkError(f"'martlet traces get {sample['trace_id']}' does not show {sample['spans']} spans")
        times = ["--since", instant(sample["start"]), "--end", instant(sample["start"] + WINDOW_MICROS)]
        took, text = timed(lambda: engine.run("logs", "get", sample["pipeline"], *times, "--limit", "1000", "-o", "json"))
        note("logs_command", took)
        if sample["logs"] and sample["trace_id"] not in text:
            raise BenchmarkError(f"'martlet logs get {sample['pipeline']}' does not show the records of {sample['trace_id']}")
        questions = {
            "logs_of_trace": f"trace_id={sample['trace_id']}", "logs_newest": "limit=100",
            "logs_newest_errors": "limit=100&severity=ERROR", "logs_newest_of_pipeline": f"limit=100&pipeline={sample['pipeline']}",
        }  # fmt: skip
        for name, question in questions.items():
            took, page = timed(lambda: engine.call("GET", f"/logs?{question}"))
            note(name, took)
            wanted = sample["logs"] if name == "logs_of_trace" else 100
            if len(page["data"]) != wanted:
                raise BenchmarkError(f"/logs?{question} gave {len(page['data'])} records, not {wanted}")
    return found


def written(bench: Bench, data: Path, spans: int = SPANS, logs: int = LOGS) -> dict:
    return tables_program.run(bench, "telemetry", data, spans, logs)


def measure(bench: Bench) -> list[Result]:
    engine = Engine(bench.program, bench.directory)
    data = engine.directory / "data"
    data.mkdir()
    loaded = written(bench, data)
    with engine:
        found = look_up(engine, loaded["samples"])
        memory = engine.rss_mb()
    seen = {name: percentiles(times) for name, times in found.items()}
    total = loaded["spans"] + loaded["logs"]

    def text(name: str) -> str:
        return "p50 {p50:.0f} · p95 {p95:.0f} ms".format(**seen[name])

    def line(name: str, what: str, also: str) -> Result:
        return Result(
            name, what, text(name), f"≤ {REACH} ms", seen[name]["p95"] <= REACH, values={key: found[key] for key in found if key.startswith(also)},
        )  # fmt: skip

    first = line("trace_command", f"traces get among {total:,} records", "trace")
    first.note = (
        f"{loaded['spans']:,} spans in {loaded['files']['spans']} files ({loaded['bytes']['spans'] / 1e6:.0f} MB), {loaded['logs']:,} log records in "
        f"{loaded['files']['logs']} ({loaded['bytes']['logs'] / 1e6:.0f} MB), of {loaded['traces']:,} traces over six days, written through the "
        f"engine's topics and sinks in {loaded['seconds']:.0f} s ({total / loaded['seconds']:,.0f} records/s); the whole command is measured, over "
        f"REST {text('trace')}; the engine holds {memory:.0f} MB"
    )
    second = line("logs_command", f"logs get of a pipeline's five minutes among {total:,} records", "logs")
    second.note = (
        f"over REST: all records of a trace {text('logs_of_trace')}; the newest 100 {text('logs_newest')}, with errors only "
        f"{text('logs_newest_errors')}, of one of 40 pipelines {text('logs_newest_of_pipeline')}"
    )
    return [first, second]
