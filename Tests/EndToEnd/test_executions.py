# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""`system.executions`: what became of each event that a deployment gave to a function."""

from harness import until

HANDLER = """
def handler(ctx, event):
    if event.data["fails"] < event.attempt:
        return
    raise ValueError("no luck with " + event.id)
"""


def test_each_event_of_a_function_is_one_execution_with_its_attempts(shared):
    revision = shared.function("runs", HANDLER)
    source = shared.source("runs-in")
    links = [{"source": source.topic, "destination": "runs"}]
    shared.pipeline("runs", {"runs": {}}, links)
    source.send(source.event("good", {"fails": 0}), source.event("late", {"fails": 1}), source.event("bad", {"fails": 9}))

    def rows() -> dict[str, dict]:
        answer = shared.post("sql", {"sql": "select * from system.executions where pipeline = 'runs'", "limit": 100})
        names = [column["name"] for column in answer["columns"]]
        return {row["event_id"]: row for row in (dict(zip(names, one, strict=True)) for one in answer["rows"])}

    found = until(lambda: {event: row for event, row in rows().items() if row["attempts"] == 2}.get("late") and rows(), "the second attempt", 20)
    assert set(found) == {"good", "late", "bad"}
    for row in found.values():
        assert (row["function"], row["deployment"], row["revision"]) == ("runs", "runs", revision)
        assert row["started"] <= row["ended"] and row["event_type"] and len(row["trace_id"]) == 32 and len(row["id"]) == 16
    assert (found["good"]["status"], found["good"]["attempts"], found["good"]["error"]) == ("succeeded", 1, None)
    assert (found["late"]["status"], found["late"]["error"]) == ("succeeded", None)
    assert found["bad"]["status"] == "failed" and found["bad"]["error"] == "ValueError: no luck with bad"
    assert found["late"]["trace_id"] in shared.cli("traces", "get", found["late"]["trace_id"])
    # Conditions on spans beside it leave none of its rows out.
    both = shared.sql(
        "select count(*) from system.executions e where e.pipeline = 'runs' and not exists "
        "(from system.spans s where s.name = 'nothing' and s.trace_id = e.trace_id)"
    )
    assert both == [[3]]
    # A replay gives the events again: other executions of the same events.
    shared.cli("pipelines", "replay", "runs", "--from", "0")
    until(lambda: shared.sql("select count(*) from system.executions where event_id = 'good' and pipeline = 'runs'") == [[2]], "the replay", 20)
    names = {row[0] for row in shared.sql("select name from system.tables")}
    assert "system.executions" in names
