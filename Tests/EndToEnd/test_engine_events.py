# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What happened in the engine itself, as events of a topic and rows of a table."""

from append_tables import commit, publish
from harness import until

ONCE = """
import os

def handler(ctx, event):
    kind = event.get_data()["kind"]
    if kind == "die":
        os.kill(os.getpid(), 9)
    if kind == "fail":
        raise ValueError("no such frame")
"""


def events(engine, where="true"):
    """(event, name) in order."""
    rows = engine.sql(f"select event, name from system.engine_events where {where} order by time, _offset")
    return [tuple(row) for row in rows]


def test_the_life_of_resources_pipelines_workers_and_tables_is_told(engine):
    engine.function("work", ONCE)
    source = engine.source("jobs")
    pipe = engine.pipeline(
        "doing", {"work": {"resources": {"max_concurrency": 1}}},
        [{"source": "jobs", "destination": "work", "config": {"retries": 0}}],
    )  # fmt: skip
    source.send(source.event("1", {"kind": "fail"}))
    pipe.wait()
    source.send(source.event("2", {"kind": "die"}))
    pipe.wait()
    until(lambda: ("Worker.Restarted") in [one[0] for one in events(engine)], "the worker is back")
    pipe.act("pause")
    pipe.act("resume")
    pipe.act("undeploy")
    engine.cli("tables", "create", "jobs", "--topic", "jobs")
    publish(engine, "jobs", {"kind": "fine"})
    commit(engine, "jobs")
    engine.cli("tables", "delete", "jobs", "--force")
    engine.cli("pipelines", "delete", "doing", "--force")
    engine.cli("triggers", "delete", "jobs", "--force")
    engine.cli("topics", "delete", "jobs", "--force")

    def told():
        found = events(engine)
        return found if ("Topic.Deleted", "jobs") in found else None

    found = until(told, "the last event is there")
    for one in [
        ("Engine.Started", "martlet"), ("Topic.Created", "jobs"), ("Trigger.Created", "jobs"),
        ("Function.RevisionBuilt", "work"), ("Pipeline.Created", "doing"), ("Pipeline.Deployed", "doing"),
        ("Worker.Crashed", "work"), ("Pipeline.Paused", "doing"), ("Pipeline.Resumed", "doing"),
        ("Pipeline.Undeployed", "doing"), ("Table.Created", "jobs"), ("Table.Committed", "jobs"),
        ("Table.Deleted", "jobs"), ("Pipeline.Deleted", "doing"), ("Trigger.Deleted", "jobs"), ("Topic.Deleted", "jobs"),
    ]:  # fmt: skip
        assert one in found, (one, found)
    kinds = [one[0] for one in found]
    assert kinds.count("DeadLetter.Written") >= 1 and "Worker.Started" in kinds
    assert kinds.index("Pipeline.Created") < kinds.index("Pipeline.Deployed") < kinds.index("Worker.Crashed")
    assert kinds.index("Worker.Crashed") < kinds.index("Worker.Restarted")
    # Rows of the engine's own tables would tell of themselves for ever.
    assert not any(name.startswith("system.") and kind == "Table.Committed" for kind, name in found)


def test_events_are_cloudevents_with_a_retention_of_their_own_and_survive_a_restart(engine):
    engine.post("topics", {"name": "seen", "partitions": 1})
    row = until(
        lambda: engine.sql(
            "select _type, _source, _subject, severity, message, details->>'partitions' "
            "from system.engine_events where name = 'seen'"
        ),
        "the event is there",
    )
    assert row == [["vastdata.com:Topic.Created", "vastdata.com:engine", "seen", "INFO", "topic 'seen' was created", "1"]]
    engine.cli("tables", "update", "system.engine_events", "--retention", "2d")
    assert engine.get("tables/system.engine_events")["settings"]["retention_milliseconds"] == 2 * 86_400_000
    engine.http("DELETE", "/api/v1/tables/system.engine_events").problem(409)
    engine.http("POST", "/api/v1/tables", {"name": "engine_events", "topic": "seen"}).problem(422)
    assert engine.stop() == 0
    engine.start()
    assert until(lambda: events(engine, "event = 'Engine.Stopped'"), "the stop is told") == [("Engine.Stopped", "martlet")]
    until(lambda: len(events(engine, "event = 'Engine.Started'")) == 2, "the second start is told")
    assert engine.get("tables/system.engine_events")["settings"]["retention_milliseconds"] == 2 * 86_400_000
    # Nothing happened meanwhile that would tell of itself again and again.
    assert len(events(engine)) < 20
