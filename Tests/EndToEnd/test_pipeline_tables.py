# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Tables that a pipeline declares in its manifest."""

import json

from append_tables import caught_up
from harness import until

EMIT = """
def handler(ctx, event):
    ctx.emit("RESULTS", {"n": event.get_data()["n"], "city": "Bern"})
"""

MANIFEST = """
name: {name}
manifest:
  triggers: [{{name: {topic}, vrn: {topic}}}]
  function_deployments: [{{name: work, function_vrn: {function}}}]
  links: [{{source: {topic}, destination: work}}]
  tables:
    - name: {table}
      topic: {results}
      columns: {{n: BIGINT}}
      commit_seconds: 1s
      retention: {retention}
    - {{name: {table}_latest, topic: {results}, columns: {{city: VARCHAR}}, key: city}}
"""


def stage(engine, name):
    """A source, a function that emits to a topic of results, and the manifest that makes tables of it."""
    engine.post("topics", {"name": f"{name}-results", "partitions": 1})
    engine.function(f"{name}-f", EMIT.replace("RESULTS", f"{name}-results"))
    return engine.source(f"{name}-in")


def manifest(name, retention="30d"):
    return MANIFEST.format(
        name=name, topic=f"{name}-in", function=f"{name}-f", table=f"{name}_rows", results=f"{name}-results",
        retention=retention,
    )  # fmt: skip


def write(engine, name, text):
    path = engine.directory / f"{name}.yaml"
    path.write_text(text)
    return path


def test_deploying_makes_and_changes_the_tables_of_a_manifest(shared):
    source = stage(shared, "ride")
    path = write(shared, "ride", manifest("ride"))
    shared.cli("pipelines", "create", "--config", path)
    assert "ride_rows" not in shared.tables(), "a draft makes nothing"
    shared.cli("pipelines", "deploy", "ride")
    assert {"ride_rows", "ride_rows_latest"} <= shared.tables()
    source.send(*(source.event(str(n), {"n": n}) for n in range(5)))
    until(lambda: shared.column("ride_rows", "n") and len(shared.column("ride_rows", "n")) == 5, "the rows are there")
    caught_up(shared, "ride_rows")
    until(lambda: shared.sql("select city from ride_rows_latest") == [["Bern"]], "the keyed table has its row")

    shown = shared.cli("pipelines", "get", "ride", "--manifest")
    assert "ride_rows" in shown and "30d" not in shown and "2592000000" in shown
    again = write(shared, "again", shown)
    shared.cli("pipelines", "update", "ride", "--config", again)
    assert shared.get("pipelines/ride")["last_revision_number"] == 1, "what get prints is the same manifest"

    # What the manifest does not say stays as somebody set it.
    shared.cli("tables", "update", "ride_rows", "--history", "2h")
    shared.cli("pipelines", "update", "ride", "--config", write(shared, "ride", manifest("ride", "forever")), "--deploy")
    settings = shared.get("tables/ride_rows")["settings"]
    assert settings.get("retention_milliseconds") is None and settings["history_seconds"] == 7200
    assert settings["commit_seconds"] == 1

    # Tables are data: they stay when the pipeline goes, and go on following their topics.
    shared.cli("pipelines", "delete", "ride", "--force")
    assert {"ride_rows", "ride_rows_latest"} <= shared.tables()
    assert shared.sql("select count(*) from ride_rows") == [[5]]


def test_tables_go_with_the_pipeline_only_when_asked_and_never_those_of_another(shared):
    stage(shared, "tour")
    text = manifest("tour")
    shared.cli("pipelines", "create", "--config", write(shared, "tour", text), "--deploy")
    shared.cli("pipelines", "create", "--config", write(shared, "other", text.replace("name: tour\n", "name: other\n")))
    refused = shared.http("DELETE", "/api/v1/pipelines/tour?tables=true").problem(409)
    assert "other" in refused["detail"] and "tour_rows" in refused["detail"], refused
    assert shared.get("pipelines/tour")["status"] == "Ready", "nothing was removed"
    shared.cli("pipelines", "delete", "other", "--force")
    shared.cli("pipelines", "delete", "tour", "--force", "--tables")
    assert not {"tour_rows", "tour_rows_latest"} & shared.tables()


def test_deleting_with_tables_takes_those_that_the_pipeline_made_and_no_others(shared):
    shared.post("topics", {"name": "owned", "partitions": 1})
    shared.cli("tables", "create", "before", "--topic", "owned")
    entries = [{"name": name, "topic": "owned"} for name in ("before", "mine", "older")]
    shared.post("pipelines", {"name": "owner", "manifest": {"tables": entries}})
    shared.post("pipelines/owner/deploy")
    # The newest manifest is not deployed: it names one less, and one that somebody else makes.
    shared.http("PUT", "/api/v1/pipelines/owner", {"manifest": {"tables": [*entries[:2], {"name": "other", "topic": "owned"}]}})
    shared.cli("tables", "create", "other", "--topic", "owned")
    shared.cli("pipelines", "delete", "owner", "--force", "--tables")
    assert {"before", "other"} <= shared.tables() and not {"mine", "older"} & shared.tables()


def test_a_deployment_that_fails_tells_what_it_did_to_tables_and_puts_it_back(shared):
    shared.post("topics", {"name": "undo", "partitions": 1})
    shared.cli("tables", "create", "undo_old", "--topic", "undo", "--retention", "5d", "--description", "from before")
    entries = [
        {"name": "undo_old", "topic": "undo", "retention": "9d", "description": "changed", "columns": {"late": "BIGINT"}},
        {"name": "undo_new", "topic": "undo"}, {"name": "undo_taken", "topic": "undo"},
    ]  # fmt: skip
    shared.post("pipelines", {"name": "undo", "manifest": {"tables": entries}})
    shared.cli("sql", "--write", "create table undo_taken (id integer primary key)")
    refused = shared.http("POST", "/api/v1/pipelines/undo/deploy").problem(409)
    assert "'undo_taken'" in refused["detail"] and "'undo_new' was made and is removed again" in refused["detail"], refused
    assert "'undo_old' was changed and has its settings from before, but its new columns stay" in refused["detail"], refused
    assert "undo_new" in shared.get("pipelines/undo")["reason"]
    shown = shared.get("tables/undo_old")
    assert shown["settings"]["retention_milliseconds"] == 5 * 86_400_000 and shown["description"] == "from before"
    assert "late" in {one["name"] for one in shown["columns"]} and "undo_new" not in shared.tables()
    shared.cli("sql", "--write", "drop table undo_taken")
    assert shared.post("pipelines/undo/deploy")["status"] == "Ready"
    assert {"undo_new", "undo_taken"} <= shared.tables()
    shared.cli("pipelines", "delete", "undo", "--force", "--tables")
    assert "undo_old" in shared.tables() and not {"undo_new", "undo_taken"} & shared.tables()


def faults(engine, tables, name="faulty"):
    document = {"name": name, "manifest": {"tables": tables}}
    answer = engine.http("POST", "/api/v1/pipelines", json.dumps(document).encode(), {"Content-Type": "application/json"})
    assert answer.status in (404, 422), (answer.status, answer.body)
    return {one["field"]: one["message"] for one in answer.json["errors"]}


def test_faults_name_their_place_in_the_manifest(shared):
    shared.post("topics", {"name": "known", "partitions": 1})
    shared.cli("tables", "create", "taken", "--topic", "known")
    found = faults(shared, [
        {"name": "a", "topic": "known", "columns": {"n": "NUMBER OF THINGS"}},
        {"name": "b", "topic": "known", "comit_seconds": 3},
        {"name": "9lives", "topic": "known"},
        {"name": "a", "topic": "known"},
        {"name": "d"},
        {"name": "Taken", "topic": "known", "format": "raw"},
        {"name": "logs", "topic": "known"},
        {"name": "e", "topic": "known", "retention": "soon"},
    ])  # fmt: skip
    assert {
        "manifest.tables[0].columns.n", "manifest.tables[1].comit_seconds", "manifest.tables[2].name",
        "manifest.tables[3].name", "manifest.tables[4].topic", "manifest.tables[5].format", "manifest.tables[6].name",
        "manifest.tables[7].retention",
    } <= set(found), found  # fmt: skip
    assert set(faults(shared, [{"name": "z", "topic": "nothing"}])) == {"manifest.tables[0].topic"}
    lines = "name: lines\nmanifest:\n  tables:\n    - name: z\n      topic: known\n      commit_seconds: soon\n"
    answer = shared.http("POST", "/api/v1/pipelines", lines.encode(), {"Content-Type": "application/yaml"}).problem(422)
    assert [(one["field"], one["line"]) for one in answer["errors"]] == [("manifest.tables[0].commit_seconds", 6)]
    assert not any(one["name"] in ("faulty", "lines") for one in shared.items("pipelines"))


def test_a_pipeline_can_be_tables_alone_and_a_table_that_cannot_be_made_stops_the_deployment(shared):
    shared.post("topics", {"name": "alone", "partitions": 1})
    shared.post("pipelines", {"name": "alone", "manifest": {"tables": [{"name": "alone", "topic": "alone"}]}})
    assert shared.post("pipelines/alone/deploy")["status"] == "Ready"
    assert shared.get("tables/alone")["topic"] == "alone"
    shared.http("DELETE", "/api/v1/tables/alone")
    # Meanwhile the name became that of rows which a function keeps.
    shared.cli("sql", "--write", "create table alone (id integer primary key)")
    refused = shared.http("POST", "/api/v1/pipelines/alone/deploy").problem(409)
    assert "'alone'" in refused["detail"] and "manifest" in refused["detail"], refused
    assert "failed" in shared.get("pipelines/alone")["reason"]
    shared.cli("sql", "--write", "drop table alone")
    deployed = shared.post("pipelines/alone/deploy")
    assert deployed["status"] == "Ready" and "failed" not in deployed["reason"]
