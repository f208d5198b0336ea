# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What happens between a topic and a function: retries, order, batches, scaling, rollouts, replay, workers that misbehave."""

import itertools
import json
import os
import signal
import threading
import time

import pytest
from harness import until

# Each attempt becomes a row. The handlers below do what the event's data asks for.
RECORD = """
import ctypes, os, sys, threading, time, uuid

def row(ctx, event, **more):
    ctx.tables["{table}"].upsert(
        {{"attempt_id": uuid.uuid4().hex, "id": event.id, "attempt": event.attempt, "pid": os.getpid(), "started": time.time(),
         "revision": str(ctx.function_revision)}} | more, key=["attempt_id"])
"""


def recorder(table: str, body: str, top: str = "") -> str:
    """Source of a function that records every attempt in `table` before it does anything else."""
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    return RECORD.format(table=table) + top + f"\ndef handler(ctx, event):\n{lines}\n"


def attempts(engine, table: str) -> list[dict]:
    if table not in engine.tables():
        return []
    answer = engine.post("sql", {"sql": f'select * from "{table}" order by started', "limit": 1_000_000})
    names = [column["name"] for column in answer["columns"]]
    return [dict(zip(names, row)) for row in answer["rows"]]


def flow(engine, name: str, source: str, partitions: int = 1, link: dict | None = None, config: dict | None = None, **fields):
    """A source, a function and a pipeline of one name, deployed."""
    engine.function(name, source)
    events = engine.source(name + "-in", partitions)
    deployments = {name: fields}
    pipeline = engine.pipeline(name, deployments, [{"source": events.topic, "destination": name} | (link or {})], **(config or {}))
    return events, pipeline


def test_failures_are_retried_after_2_4_8_seconds_then_dead_lettered_and_can_be_redriven(shared):
    failing = recorder(
        "retry", 'row(ctx, event)\nif event.data["fail"]:\n    raise ValueError("no luck with " + event.id)'
    )
    events, pipeline = flow(shared, "retry", failing)
    events.send(events.event("bad", {"fail": True}))
    events.send(*(events.event(f"good-{number}", {"fail": False}) for number in range(50)))
    until(lambda: len(attempts(shared, "retry")) >= 51, "the first attempts")
    assert not shared.dead_letters("retry")
    letters = until(lambda: shared.dead_letters("retry"), "the dead letter", 25)
    tried = [attempt for attempt in attempts(shared, "retry") if attempt["id"] == "bad"]
    assert [attempt["attempt"] for attempt in tried] == [1, 2, 3, 4]
    gaps = [after["started"] - before["started"] for before, after in itertools.pairwise(tried)]
    for gap, wanted in zip(gaps, (2, 4, 8), strict=True):
        assert wanted - 0.05 <= gap <= wanted + 1.5, gaps
    (letter,) = letters
    assert letter["pipeline"] == "retry" and letter["deployment"] == "retry"
    assert letter["error"] == "no luck with bad" and letter["error_type"] == "ValueError"
    assert letter["attempts"] == 4 and letter["event"]["id"] == "bad" and letter["event"]["data"] == {"fail": True}
    assert letter["origin_topic"] == "retry-in" and letter["origin_offset"] == 0 and letter["origin_partition"] == 0
    assert "main.py" in letter["traceback"] and "raise ValueError" in letter["traceback"]
    assert "martlet/worker" not in letter["traceback"], "the traceback is that of the user's code"
    assert sorted(a["id"] for a in attempts(shared, "retry") if a["id"] != "bad") == sorted(f"good-{n}" for n in range(50))

    shared.function("retry", recorder("retry", "row(ctx, event, mended=True)"))
    pipeline.deploy()
    shared.cli("dead-letters", "redrive", letter["id"])
    redriven = until(lambda: [a for a in attempts(shared, "retry") if a.get("mended")], "the redriven event")
    assert [(a["id"], a["attempt"]) for a in redriven] == [("bad", 1)]
    pipeline.wait()
    assert shared.get(f"dead-letters/{letter['id']}")["redriven"] is True
    assert len(shared.dead_letters("retry")) == 1
    shared.cli("dead-letters", "redrive", "--pipeline", "retry")
    pipeline.wait()
    assert len([a for a in attempts(shared, "retry") if a.get("mended")]) == 1, "it was put back already"
