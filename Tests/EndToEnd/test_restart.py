# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""A stop in order and a start keep everything."""

import time

from harness import STOP_SECONDS, until

SOURCE = """
import time

def handler(ctx, event):
    ctx.logger.info("took %s", event.id)
    time.sleep(0.02)
    ctx.tables["taken"].upsert({"id": event.id, "attempt": event.attempt}, key=["id", "attempt"])
"""

LISTS = (
    "views",
    "triggers",
    "functions",
    "pipelines",
    "topics",
    "secrets",
    "bundles",
    "functions/take/revisions",
    "pipelines/take/revisions",
    "tables",
)


def listings(engine) -> dict:
    """What there is of each kind; the engine's own tables grow by themselves and are left out."""
    found = {path: engine.get(f"{path}?limit=1000" if "/" not in path else path) for path in LISTS}
    found["tables"]["data"] = [table for table in found["tables"]["data"] if not table["name"].startswith("system.")]
    return found


def test_a_restart_keeps_everything(make_engine):
    engine = make_engine()
    engine.start()
    view = engine.directory / "view"
    view.mkdir()
    engine.post(
        "views",
        {"name": "v", "path": str(view), "tags": ["a", "b"], "description": "ein Verzeichnis — mit Umlauten: äöü"},
    )
    engine.post("secrets", {"name": "s", "entries": [{"key": "k", "value": "v"}]})
    engine.function("take", SOURCE)
    events = engine.source("take-in", partitions=3)
    pipeline = engine.pipeline("take", {"take": {"secrets": ["s"]}}, [{"source": "take-in", "destination": "take"}])
    events.send_ids(range(100))
    pipeline.wait()
    (view / "file").write_text("x")
    until(lambda: engine.items("views/v/elements"), "the element")
    until(lambda: len(engine.items("logs?pipeline=take&scope=user&limit=1000")) == 100, "the log records")
    before = listings(engine)
    logs = engine.items("logs?pipeline=take&scope=user&limit=1000")
    traces = {trace["trace_id"] for trace in engine.items("traces?pipeline=take&limit=1000")}
    rows = sorted(engine.column("taken", "id"))
    for _ in range(2):
        assert engine.stop() == 0, engine.log_tail()
        assert engine.processes() == []
        assert engine.start() < 3
        after = listings(engine)
        assert after == before
        assert sorted(engine.column("taken", "id")) == rows
        assert engine.items("logs?pipeline=take&scope=user&limit=1000") == logs
        assert {trace["trace_id"] for trace in engine.items("traces?pipeline=take&limit=1000")} >= traces
        assert engine.items("views/v/elements")[0]["key"] == "file"
        until(lambda: pipeline.status()["workers_ready"] > 0, "a worker")
    events.send_ids(range(100, 110))
    until(lambda: len(engine.column("taken", "id")) == 110, "events after the restart")
    assert set(engine.column("taken", "attempt")) == {1}


def test_a_stop_in_order_under_load_repeats_nothing(make_engine):
    engine = make_engine()
    engine.start()
    engine.function("take", SOURCE)
    events = engine.source("take-in", partitions=2)
    pipeline = engine.pipeline("take", {"take": {}}, [{"source": "take-in", "destination": "take"}])
    sent = 0
    for _ in range(4):
        events.send_ids(range(sent, sent + 300))
        sent += 300
        until(lambda: len(engine.column("taken", "id")) > sent - 280, "some events")
        began = time.monotonic()
        assert engine.stop() == 0, engine.log_tail()
        assert time.monotonic() - began < STOP_SECONDS / 3
        engine.start()
    pipeline.wait()
    log = engine.items("logs?pipeline=take&scope=user&limit=10000&since=1h")
    assert sorted(map(int, engine.column("taken", "id"))) == list(range(sent))
    taken = [record["message"] for record in log if record["message"].startswith("took ")]
    assert len(taken) == len(set(taken)), "an event was handled twice although nothing failed"


def test_a_pipeline_that_was_paused_is_paused_after_a_restart(make_engine):
    engine = make_engine()
    engine.start()
    engine.function("take", SOURCE)
    events = engine.source("take-in")
    pipeline = engine.pipeline("take", {"take": {}}, [{"source": "take-in", "destination": "take"}])
    pipeline.act("pause")
    events.send_ids(range(5))
    assert engine.stop() == 0
    engine.start()
    assert pipeline.show()["status"] == "Paused" and engine.processes() == []
    pipeline.act("resume")
    until(lambda: len(engine.column("taken", "id")) == 5, "the events of the pause")


def test_an_engine_with_much_data_is_ready_quickly(make_engine):
    engine = make_engine()
    engine.start()
    events = engine.source("much", partitions=8)
    for batch in range(20):
        events.send_ids(range(batch * 2000, batch * 2000 + 2000), data="x" * 300)
    for how in (engine.stop, engine.kill):
        how()
        assert engine.start() < 3
        assert sum(part["end_offset"] for part in engine.items("topics/much/partitions")) == 40_000


def test_a_restart_runs_the_revision_that_was_deployed(make_engine):
    engine = make_engine()
    engine.start()
    engine.function("take", SOURCE)
    events = engine.source("take-in")
    pipeline = engine.pipeline("take", {"take": {}}, [{"source": "take-in", "destination": "take"}])
    assert pipeline.status()["revision"] == 1
    assert engine.function("take", SOURCE + "\n# changed\n") == 2
    assert pipeline.status()["revision"] == 1
    assert engine.stop() == 0, engine.log_tail()
    engine.start()
    until(lambda: engine.items("pipelines/take/deployments"), "the deployment")
    assert pipeline.status()["revision"] == 1
    assert pipeline.show()["deployed_function_revisions"] == {"take": 1}
    events.send_ids(range(10))
    until(lambda: len(engine.column("taken", "id")) == 10, "the rows")
    pipeline.deploy()
    assert pipeline.status()["revision"] == 2


def test_a_paused_pipeline_shows_what_waits(make_engine):
    engine = make_engine()
    engine.start()
    engine.function("take", SOURCE)
    events = engine.source("take-in")
    pipeline = engine.pipeline("take", {"take": {}}, [{"source": "take-in", "destination": "take"}])
    pipeline.act("pause")
    events.send_ids(range(7))
    assert pipeline.status()["lag"] == 7
    pipeline.act("resume")
    pipeline.wait()
