# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Who may call, and the rules that all answers keep. test_api_description.py checks the whole description."""

import json
import subprocess

import pytest

TOKEN = "correct-horse-battery-staple-0123456789"


def test_a_token_is_required_where_one_is_set(make_engine):
    engine = make_engine(settings={"MARTLET_TOKEN": TOKEN})
    engine.start()
    assert engine.get("engine")["version"]
    for header in (
        {"Authorization": ""},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
    ):
        for method, path in (
            ("GET", "/api/v1/engine"),
            ("GET", "/api/v1/views"),
            ("POST", "/api/v1/sql"),
            ("GET", "/api/v1/nothing"),
            ("DELETE", "/api/v1/views/x"),
        ):
            answer = engine.http(method, path, {"sql": "select 1"} if method == "POST" else None, header)
            problem = answer.problem(401, "unauthenticated")
            assert problem["fix"] and TOKEN not in answer.body.decode()
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert engine.http("GET", path, headers={"Authorization": ""}).status == 200
    done = engine.run("views", "list")
    assert done.returncode == 6 and "error" in done.stderr and "fix: " in done.stderr
    assert engine.run("views", "list", MARTLET_TOKEN="wrong").returncode == 6
    assert engine.run("views", "list", MARTLET_TOKEN=TOKEN).returncode == 0
    assert engine.run("views", "list", "--token", TOKEN).returncode == 0
    shown = engine.run("views", "list", "-v", "-v", MARTLET_TOKEN=TOKEN)
    assert TOKEN not in shown.stderr + shown.stdout + engine.log_tail(10**6)
    # Functions do not need it, and do not get it.
    engine.settings["MARTLET_TOKEN"] = TOKEN
    engine.environment["MARTLET_TOKEN"] = TOKEN
    engine.function(
        "env",
        """
        import os

        def handler(ctx, event):
            ctx.tables["env"].upsert({"id": event.id, "token": os.environ.get("MARTLET_TOKEN", "none")}, key=["id"])
        """,
    )
    source = engine.source("env-in")
    pipeline = engine.pipeline("env", {"env": {}}, [{"source": "env-in", "destination": "env"}])
    body = json.dumps([source.event("1")]).encode()
    assert (
        engine.http(
            "POST", "/api/v1/topics/env-in/events", body, {"Content-Type": "application/cloudevents-batch+json"}
        ).status
        == 202
    )
    pipeline.wait()
    assert engine.sql("select token from env") == [["none"]]


def test_other_addresses_are_refused_without_a_token(make_engine):
    engine = make_engine()
    process = engine.launch("--host", "0.0.0.0")
    try:
        assert process.wait(15) == 1
    except subprocess.TimeoutExpired:
        raise AssertionError("it listens everywhere without a token") from None
    for text in ("0.0.0.0", "MARTLET_TOKEN", "127.0.0.1"):
        assert text in engine.log_tail()


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://example.com"}, {"Host": "example.com"}, {"Origin": "null"}, {"Host": "127.0.0.1.example.com"}],
    ids=str,
)  # fmt: skip
def test_web_pages_of_others_are_refused(shared, headers):
    shared.http("GET", "/api/v1/views", headers=headers).problem(403, "forbidden")
    shared.http("POST", "/api/v1/sql", {"sql": "select 1"}, headers).problem(403, "forbidden")


def test_lists_are_paged_without_gaps_or_repeats(shared):
    for number in range(25):
        shared.post("topics", {"name": f"page-{number:02}"})
    found, cursor = [], ""
    while True:
        page = shared.get(f"topics?limit=7{cursor}")
        assert len(page["data"]) <= 7
        found += [topic["name"] for topic in page["data"]]
        if page["pagination"]["next_cursor"] is None:
            break
        cursor = f"&cursor={page['pagination']['next_cursor']}"
        if len(found) == 7:
            shared.post("topics", {"name": "page-99"})
    assert len(found) == len(set(found))
    assert {f"page-{number:02}" for number in range(25)} <= set(found)
    assert len(json.loads(shared.cli("topics", "list", "-o", "json"))["data"]) == len(found) or "page-99" in found
    for query in ("limit=0", "limit=1001", "limit=x", "cursor=nonsense", "colour=red"):
        assert shared.http("GET", f"/api/v1/topics?{query}").status in (400, 422), query


def test_every_way_to_name_a_resource_works(shared):
    topic = shared.post("topics", {"name": "named"})
    for id in ("named", topic["guid"], topic["vrn"], str(topic["id"])):
        assert shared.get(f"topics/{id}")["guid"] == topic["guid"], id
        assert json.loads(shared.cli("topics", "get", id, "-o", "json"))["guid"] == topic["guid"], id


def test_common_rules(shared):
    answer = shared.http("GET", "/api/v1/views", headers={"X-Request-Id": "mine-1"})
    assert answer.headers["X-Request-Id"] == "mine-1"
    assert (
        shared.http("GET", "/api/v1/views").headers["X-Request-Id"]
        != shared.http("GET", "/api/v1/views").headers["X-Request-Id"]
    )
    head = shared.http("HEAD", "/api/v1/views")
    assert head.status == 200 and head.body == b""
    shared.http("GET", "/api/v1/nothing").problem(404, "notFound")
    assert shared.http("PATCH", "/api/v1/views").problem(405, "methodNotAllowed")["fix"]
    assert "POST" in shared.http("PATCH", "/api/v1/views").headers["Allow"]
    shared.http("GET", "/api/v1/views", headers={"Accept": "image/png"}).problem(406, "notAcceptable")
    shared.http("POST", "/api/v1/views", b"x", {"Content-Type": "image/png"}).problem(415, "unsupportedMediaType")
    shared.http("POST", "/api/v1/views", b"{", {"Content-Type": "application/json"}).problem(400, "invalid")
    created = shared.http("POST", "/api/v1/topics", {"name": "rules"})
    assert created.status == 201
    assert shared.http("DELETE", "/api/v1/topics/rules").status == 204
    shared.http("DELETE", "/api/v1/topics/rules").problem(404, "notFound")


@pytest.mark.parametrize("mode", ["binary", "structured", "batched"])
def test_events_are_published_in_every_mode(shared, mode):
    name = f"mode-{mode}"
    shared.post("topics", {"name": name})
    event = {
        "specversion": "1.0",
        "id": "ä-1",
        "source": "urn:x",
        "type": "t",
        "datacontenttype": "application/json",
        "data": {"a": [1, 2.50]},
        "colour": "red",
    }
    if mode == "binary":
        headers = {
            "Content-Type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": "%C3%A4-1",
            "ce-source": "urn:x",
            "ce-type": "t",
            "ce-colour": "red",
        }
        answer = shared.http("POST", f"/api/v1/topics/{name}/events", b'{"a": [1, 2.50]}', headers)
    elif mode == "structured":
        answer = shared.http(
            "POST",
            f"/api/v1/topics/{name}/events",
            json.dumps(event).encode(),
            {"Content-Type": "application/cloudevents+json"},
        )
    else:
        answer = shared.http(
            "POST",
            f"/api/v1/topics/{name}/events",
            json.dumps([event, event | {"id": "2"}]).encode(),
            {"Content-Type": "application/cloudevents-batch+json"},
        )
        broken = json.dumps([event, {"id": "no more"}]).encode()
        assert shared.http(
            "POST", f"/api/v1/topics/{name}/events", broken, {"Content-Type": "application/cloudevents-batch+json"}
        ).status in (400, 422)
    assert answer.status == 202 and answer.json == {"count": 2 if mode == "batched" else 1}
    records = shared.records(name)[0]
    assert len(records) == answer.json["count"]
    assert (
        records[0].headers["ce_id"] == "ä-1"
        and records[0].headers["ce_colour"] == "red"
        and json.loads(records[0].value) == {"a": [1, 2.5]}
    )
