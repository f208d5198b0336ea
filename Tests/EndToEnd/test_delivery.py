# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Between a topic and a function: retries, order, batches, scaling, rollouts, replay, workers that misbehave."""

import itertools
import threading
import time

import pytest

from harness import until

# Each attempt becomes a row. The handlers below do what the event's data asks for.
RECORD = """
import ctypes, os, sys, threading, time, uuid

def row(ctx, event, **more):
    ctx.tables["{table}"].upsert(
        {{"attempt_id": uuid.uuid4().hex, "id": event.id, "attempt": event.attempt, "pid": os.getpid(),
         "started": time.time(), "revision": str(ctx.function_revision)}} | more, key=["attempt_id"])
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


def flow(
    engine, name: str, source: str, partitions: int = 1, link: dict | None = None, config: dict | None = None, **fields
):
    """A source, a function and a pipeline of one name, deployed."""
    engine.function(name, source)
    events = engine.source(name + "-in", partitions)
    deployments = {name: fields}
    pipeline = engine.pipeline(
        name, deployments, [{"source": events.topic, "destination": name} | (link or {})], **(config or {})
    )
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
    assert sorted(a["id"] for a in attempts(shared, "retry") if a["id"] != "bad") == sorted(
        f"good-{n}" for n in range(50)
    )

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


def test_a_timeout_replaces_the_worker_and_spares_other_events(shared):
    body = """
row(ctx, event)
if event.data["hang"]:
    while True:
        time.sleep(1)
time.sleep(0.05)
row(ctx, event, finished=True)
"""
    events, pipeline = flow(
        shared,
        "hang",
        recorder("hang", body),
        link={"config": {"retries": 0}},
        resources={"timeout": 1, "max_concurrency": 1},
    )
    before = until(lambda: pipeline.status()["workers_ready"] and shared.processes(), "a worker")
    events.send(events.event("stuck", {"hang": True}))
    events.send(*(events.event(f"e{number}", {"hang": False}) for number in range(60)))
    (letter,) = until(lambda: shared.dead_letters("hang"), "the dead letter", 15)
    assert letter["event"]["id"] == "stuck" and letter["error_type"] == "Timeout" and letter["attempts"] == 1
    assert "1 s" in letter["error"] and "resources.timeout" in letter["error"]
    pipeline.wait()
    rows = attempts(shared, "hang")
    assert {row["id"] for row in rows if row.get("finished")} == {f"e{number}" for number in range(60)}
    # Nobody's attempt is used up by a neighbour's timeout.
    assert {row["attempt"] for row in rows} == {1}
    stuck = next(row["pid"] for row in rows if row["id"] == "stuck")
    until(lambda: stuck not in shared.processes(), "the end of the stuck worker")
    events.send(events.event("later", {"hang": False}))
    until(
        lambda: any(row["id"] == "later" and row.get("finished") for row in attempts(shared, "hang")),
        "an event afterwards",
    )
    assert stuck in before


def test_a_handler_that_never_lets_go_of_the_interpreter_is_ended(shared):
    """A call in C that keeps the lock: the runtime cannot even report it."""
    body = """
row(ctx, event)
if event.data:
    ctypes.PyDLL(None).sleep(600)
"""
    events, pipeline = flow(
        shared, "lock", recorder("lock", body), link={"config": {"retries": 0}}, resources={"timeout": 1}
    )
    events.send(events.event("stuck", True))
    letters = until(lambda: shared.dead_letters("lock"), "the dead letter", 20)
    assert [(letter["event"]["id"], letter["error_type"]) for letter in letters] == [("stuck", "Timeout")]
    events.send(events.event("next", False))
    until(lambda: any(row["id"] == "next" for row in attempts(shared, "lock")), "the next event")


def test_ordered_links_keep_the_order_of_each_key_while_one_is_retried(shared):
    body = """
row(ctx, event, who=event.data["key"], number=event.data["number"])
if event.data["number"] == 3 and event.data["key"] == "k0" and event.attempt < 3:
    raise RuntimeError("not yet")
row(ctx, event, who=event.data["key"], number=event.data["number"], finished=True)
"""
    events, pipeline = flow(
        shared, "ordered", recorder("ordered", body), partitions=2, link={"config": {"events_order": "ordered"}},
        resources={"min_concurrency": 2},
    )  # fmt: skip
    events.send(
        *(
            events.event(f"k{key}-{number}", {"key": f"k{key}", "number": number}, partitionkey=f"k{key}")
            for number in range(20)
            for key in range(5)
        )
    )
    others = {f"k{key}-{number}" for number in range(20) for key in range(1, 5)}

    def finished():
        return [row for row in attempts(shared, "ordered") if row.get("finished")]

    until(lambda: {row["id"] for row in finished()} >= others, "the other keys", 10)
    waiting = [row["number"] for row in finished() if row["who"] == "k0"]
    assert waiting == [0, 1, 2], "what follows a failing event of its key waits for it, what has another key does not"
    pipeline.wait()
    for key in range(5):
        assert [row["number"] for row in finished() if row["who"] == f"k{key}"] == list(range(20))
    assert [row["attempt"] for row in attempts(shared, "ordered") if row["id"] == "k0-3"] == [1, 2, 3, 3]
    assert not shared.dead_letters("ordered")


def test_unordered_events_run_twenty_at_once_in_one_worker(shared):
    top = "\nlock = threading.Lock()\nnow = most = 0\n"
    body = """
global now, most
with lock:
    now += 1
    most = max(most, now)
time.sleep(0.3)
with lock:
    now -= 1
row(ctx, event, most=most)
"""
    events, pipeline = flow(shared, "wide", recorder("wide", body, top), resources={"max_concurrency": 1})
    events.send_ids(range(60))
    pipeline.wait()
    rows = attempts(shared, "wide")
    assert sorted(int(row["id"]) for row in rows) == list(range(60)) and len({row["pid"] for row in rows}) == 1
    assert max(row["most"] for row in rows) == 20


def test_batches_are_full_or_due(shared):
    source = RECORD.format(table="batch") + (
        "from vast.dataengine.sdk import event_batching_handler\n"
        "@event_batching_handler\n"
        "def handler(ctx, events):\n"
        "    ids = [event.id for event in events]\n"
        "    for event in events:\n"
        "        row(ctx, event, size=len(ids), first=ids[0])\n"
    )
    events, pipeline = flow(
        shared,
        "batch",
        source,
        link={"config": {"batching": {"size": 10, "timeout": "800ms"}}},
        resources={"max_concurrency": 1},
    )
    until(lambda: pipeline.status()["workers_ready"], "a worker")
    began = time.time()
    events.send_ids(range(25))
    until(lambda: len(attempts(shared, "batch")) == 25, "all events")
    rows = attempts(shared, "batch")
    sizes = {row["first"]: row["size"] for row in rows}
    assert sorted(sizes.values()) == [5, 10, 10]
    last = [row["started"] - began for row in rows if row["size"] == 5]
    assert 0.7 < min(last) < 3, "what is no full batch waits for the batch's timeout"
    assert max(row["started"] - began for row in rows if row["size"] == 10) < min(last)
    pipeline.wait()


def test_labels_fan_out_and_several_links_fan_in(shared):
    shared.function(
        "sort",
        """
        def handler(ctx, event):
            event.set_trigger_labels({"kind": event.data["kind"]})
            return {"kind": event.data["kind"], "id": event.id}
        """,
    )
    for name in ("images", "sound"):
        shared.function(name, f'def handler(ctx, event):\n    return {{"id": event.data["id"], "whose": "{name}"}}\n')
    shared.function(
        "everything", 'def handler(ctx, event):\n    return {"id": event.data["id"], "whose": "everything"}\n'
    )
    shared.function(
        "store", 'def handler(ctx, event):\n    ctx.tables["stored"].upsert(dict(event.data), key=["id", "whose"])\n'
    )
    events = shared.source("sort-in")
    pipeline = shared.pipeline(
        "sort", {"sort": {}, "images": {}, "sound": {}, "everything": {}, "store": {}},
        [
            {"source": "sort-in", "destination": "sort"},
            {"source": "sort", "destination": "images", "labels": {"kind": "image"}},
            {"source": "sort", "destination": "sound", "labels": {"kind": "sound"}},
            {"source": "sort", "destination": "everything"},
            {"source": ["images", "sound", "everything"], "destination": "store"},
        ],
    )  # fmt: skip
    kinds = ("image", "sound", "text")
    events.send(*(events.event(f"x{number}", {"kind": kinds[number % 3]}) for number in range(30)))

    def stored():
        return set(zip(shared.column("stored", "id"), shared.column("stored", "whose")))

    wanted = {(f"x{number}", "everything") for number in range(30)}
    wanted |= {(f"x{number}", "images") for number in range(0, 30, 3)} | {
        (f"x{number}", "sound") for number in range(1, 30, 3)
    }
    until(lambda: len(stored()) >= len(wanted), "all results")
    pipeline.wait()
    assert stored() == wanted


def test_a_deployment_scales_to_zero_and_back(shared):
    events, pipeline = flow(
        shared,
        "nap",
        recorder("nap", "row(ctx, event)"),
        resources={"min_concurrency": 0, "max_concurrency": 2},
        idle_seconds=1,
    )
    for id in ("first", "second"):
        events.send(events.event(id))
        until(lambda: any(row["id"] == id for row in attempts(shared, "nap")), f"the {id} event")
        pid = next(row["pid"] for row in attempts(shared, "nap") if row["id"] == id)
        until(lambda: pipeline.status()["workers"] == 0 and pid not in shared.processes(), "no worker", 10)
    assert len({row["pid"] for row in attempts(shared, "nap")}) == 2
    assert pipeline.show()["status"] == "Ready"


class Flood:
    """Publishes numbered events until stopped."""

    def __init__(self, source) -> None:
        self.source = source
        self.ids: list[str] = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.stopped.is_set():
            ids = [f"{len(self.ids) + index}" for index in range(5)]
            self.source.send_ids(ids)
            self.ids += ids
            time.sleep(0.01)

    def stop(self) -> list[str]:
        self.stopped.set()
        self.thread.join(30)
        return self.ids


def test_pause_resume_and_new_revisions_under_load_lose_and_repeat_nothing(shared):
    def version(number: int) -> str:
        return recorder("roll", f"time.sleep(0.005)\nrow(ctx, event, version={number})")

    events, pipeline = flow(shared, "roll", version(1), partitions=2)
    flood = Flood(events)
    try:
        until(lambda: len(attempts(shared, "roll")) > 50, "some events")
        pipeline.act("pause")
        assert pipeline.show()["status"] == "Paused"
        resting = len(attempts(shared, "roll"))
        published = len(flood.ids)
        until(lambda: len(flood.ids) > published + 50, "events while it is paused")
        assert len(attempts(shared, "roll")) == resting, "a paused pipeline works"
        pipeline.act("resume")
        until(lambda: len(attempts(shared, "roll")) > resting + 50, "events after the pause")
        for number in (2, 3, 4):
            assert shared.function("roll", version(number)) == number
            pipeline.deploy()
            assert pipeline.status()["revision"] == number
            until(
                lambda: any(row["version"] == number for row in attempts(shared, "roll")), f"version {number} at work"
            )
    finally:
        ids = flood.stop()
    pipeline.wait()
    rows = attempts(shared, "roll")
    assert {row["id"] for row in rows} == set(ids), "an event is lost"
    assert len(rows) == len(ids), "an event was repeated"
    assert {row["attempt"] for row in rows} == {1}
    assert {row["version"] for row in rows} == {1, 2, 3, 4}
    assert all(row["revision"] == str(row["version"]) for row in rows)
    # Old and new do not take turns.
    switches = [after["version"] - before["version"] for before, after in itertools.pairwise(rows)]
    assert sum(1 for step in switches if step < 0) <= 3 * 20


def test_undeployed_pipelines_take_nothing_and_deploy_again(shared):
    events, pipeline = flow(shared, "off", recorder("off", "row(ctx, event)"))
    events.send_ids(["before"])
    pipeline.wait()
    pipeline.act("undeploy")
    assert pipeline.show()["status"] == "Draft" and shared.items("pipelines/off/deployments") == []
    shared.http("POST", "/api/v1/pipelines/off/pause", {}).problem(409, "failedPrecondition")
    events.send_ids(["meanwhile"])
    pipeline.deploy()
    events.send_ids(["after"])
    until(lambda: len(attempts(shared, "off")) >= 2, "the event after")
    pipeline.wait()
    assert [row["id"] for row in attempts(shared, "off")] == ["before", "after"]


def test_a_revision_whose_init_fails_leaves_the_old_one_running_and_says_why(shared):
    events, pipeline = flow(shared, "init", recorder("init", "row(ctx, event)"))
    source = recorder("init", "row(ctx, event)") + '\ndef init(ctx):\n    raise LookupError("no such licence")\n'
    shared.function("init", source)
    done = shared.run("pipelines", "deploy", "init")
    assert done.returncode == 7 or done.returncode == 1, done.returncode
    for text in (
        "init",
        "LookupError",
        "no such licence",
        "main.py",
        "Traceback",
        'raise LookupError("no such licence")',
    ):
        assert text in done.stderr, done.stderr
    assert "martlet/worker.py" not in done.stderr, "the traceback is that of the user's code"
    shown = pipeline.show()
    assert shown["status"] == "Ready" and shown["deployed_revision_number"] == 1, shown
    assert "no such licence" in shown["reason"] and "still runs" in shown["reason"]
    assert pipeline.status()["revision"] == 1
    events.send_ids(range(10))
    until(lambda: len(attempts(shared, "init")) == 10, "events in the old revision")
    assert {row["revision"] for row in attempts(shared, "init")} == {"1"}
    logged = shared.ask("logs", "get", "init", "--scope", "runtime", "--severity", "ERROR")["data"]
    assert any("LookupError" in record["message"] for record in logged)
    shared.function("init", recorder("init", "row(ctx, event)") + "\n# mended\n")
    pipeline.deploy()
    assert pipeline.status()["revision"] == 3


def test_replay_from_an_offset_and_from_a_time(shared):
    events, pipeline = flow(shared, "again", recorder("again", "row(ctx, event)"))
    events.send_ids(f"a{number}" for number in range(10))
    pipeline.wait()
    time.sleep(0.01)  # Times in a topic are in milliseconds.
    middle = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now := time.time())) + f".{int(now % 1 * 1000):03d}Z"
    time.sleep(0.01)
    events.send_ids(f"b{number}" for number in range(5))
    pipeline.wait()
    assert len(attempts(shared, "again")) == 15

    shared.cli("pipelines", "replay", "again", "--from", "7")
    until(lambda: len(attempts(shared, "again")) == 23, "the events from offset 7 on")
    pipeline.wait()
    repeated = [row["id"] for row in attempts(shared, "again")[15:]]
    assert sorted(repeated) == ["a7", "a8", "a9", "b0", "b1", "b2", "b3", "b4"]
    shared.cli("pipelines", "replay", "again", "--from", middle)
    until(lambda: len(attempts(shared, "again")) == 28, "the events since then")
    pipeline.wait()
    assert sorted(row["id"] for row in attempts(shared, "again")[23:]) == ["b0", "b1", "b2", "b3", "b4"]
    shared.cli("pipelines", "replay", "again", "--from", "1h")
    until(lambda: len(attempts(shared, "again")) == 43, "all events")
    pipeline.wait()
    assert len(attempts(shared, "again")) == 43


@pytest.mark.parametrize(
    "way", ["os._exit(3)", "ctypes.string_at(0)", "os.kill(os.getpid(), 9)"], ids=["exit", "segfault", "kill"]
)
def test_a_poison_event_goes_to_dead_letters_and_its_neighbours_do_not(shared, way, request):
    name = "poison_" + request.node.callspec.id
    body = f'row(ctx, event)\nif event.data == "poison":\n    {way}\ntime.sleep(0.02)\nrow(ctx, event, finished=True)'
    events, pipeline = flow(shared, name, recorder(name, body), link={"config": {"retries": 1}})
    good = [f"g{number}" for number in range(60)]
    events.send(
        *(events.event(id, "good") for id in good[:30]),
        events.event("bad", "poison"),
        *(events.event(id, "good") for id in good[30:]),
    )
    (letter,) = until(lambda: shared.dead_letters(name), "the dead letter", 25)
    pipeline.wait()
    assert letter["event"]["id"] == "bad" and letter["error_type"] == "WorkerDied" and letter["attempts"] == 2
    assert any(word in letter["error"] for word in ("exit", "signal", "code")), letter["error"]
    assert {row["id"] for row in attempts(shared, name) if row.get("finished")} == set(good)
    assert len(shared.dead_letters(name)) == 1
    assert pipeline.show()["status"] == "Ready"


def test_a_worker_that_floods_its_output_harms_no_other(shared):
    body = """
row(ctx, event)
line = "x" * 4000
for number in range(20000):
    print(line)
sys.stdout.write("no end of line " * 200000)
sys.stdout.flush()
row(ctx, event, finished=True)
"""
    floods, flooding = flow(shared, "noise", recorder("noise", body), resources={"timeout": 60})
    events, pipeline = flow(shared, "calm", recorder("calm", "row(ctx, event)"))
    floods.send(floods.event("flood"))
    until(lambda: attempts(shared, "noise"), "the start of the flood")
    events.send_ids(range(100))
    until(lambda: len(attempts(shared, "calm")) == 100, "the others' events", 15)
    until(lambda: any(row.get("finished") for row in attempts(shared, "noise")), "the end of the flood", 45)
    flooding.wait()
    assert not shared.dead_letters("noise") and not shared.dead_letters("calm")
    memory = int(
        next(line for line in open(f"/proc/{shared.process.pid}/status") if line.startswith("VmRSS")).split()[1]
    )
    assert memory < 1_500_000, f"{memory} KiB"


def test_a_pipeline_made_again_takes_up_its_namesakes_dead_letters(shared):
    body = 'row(ctx, event)\nif event.attempt < 9 and event.data["fail"]:\n    raise ValueError("no")'
    events, pipeline = flow(shared, "again_made", recorder("again_made", body), link={"config": {"retries": 0}})
    events.send(events.event("lost", {"fail": True}))
    (letter,) = until(lambda: shared.dead_letters("again_made"), "the dead letter")
    shared.api("DELETE", "pipelines/again_made")
    shared.function("again_made", recorder("again_made", "row(ctx, event, mended=True)"))
    shared.pipeline("again_made", {"again_made": {}}, [{"source": events.topic, "destination": "again_made"}])
    assert shared.post("dead-letters/redrive", {"ids": [letter["id"]]})["redriven"] == 1
    until(lambda: [row for row in attempts(shared, "again_made") if row.get("mended")], "the redriven event")


def test_a_worker_beyond_its_memory_fails_alone(shared):
    body = """
row(ctx, event)
if event.data == "big":
    kept = bytearray(1 << 30)
    kept[::4096] = b"x" * len(kept[::4096])
row(ctx, event, finished=True)
"""
    events, pipeline = flow(
        shared, "memory", recorder("memory", body), link={"config": {"retries": 0}}, resources={"max_memory": "512Mi"}
    )
    events.send(events.event("big", "big"), *(events.event(f"s{number}", "small") for number in range(20)))
    (letter,) = until(lambda: shared.dead_letters("memory"), "the dead letter", 20)
    assert letter["event"]["id"] == "big" and letter["error_type"] in ("MemoryError", "WorkerDied"), letter
    pipeline.wait()
    assert {row["id"] for row in attempts(shared, "memory") if row.get("finished")} == {
        f"s{number}" for number in range(20)
    }


def test_secrets_variables_and_aliases_reach_the_function(shared):
    secret = shared.directory / "secret.yaml"
    secret.write_text('name: database\nentries:\n  - {key: user, value: reader}\n  - {key: password, value: "0123"}\n')
    shared.cli("secrets", "create", "-f", secret)
    source = """
    import os
    from pathlib import Path

    def handler(ctx, event):
        folder = Path(os.environ["MARTLET_SECRETS_DIR"]) / "database"
        ctx.tables["given"].upsert(
            {"id": event.id, "user": ctx.secrets["database"]["user"], "password": ctx.secrets["database"]["password"],
             "file": (folder / "password").read_text(), "mode": oct((folder / "password").stat().st_mode & 0o077),
             "shared": os.environ["SHARED"], "own": os.environ["OWN"], "number": os.environ["NUMBER"],
             "revision": str(ctx.function_revision), "name": ctx.function_name, "pipeline": ctx.pipeline_name,
             "deployment": ctx.deployment_name}, key=["id"])
    """
    shared.function("given", source)
    shared.function("given", source + "\n    # two\n")
    shared.cli("functions", "update", "given", "--revision-alias", "stable")
    events = shared.source("given-in")
    shared.pipeline(
        "given",
        {
            "g": {
                "function_vrn": "vast:dataengine:functions:given", "revision": 1, "secrets": ["database"],
                "environment_variables": {"OWN": "mine", "SHARED": "own wins"},
            }
        },
        [{"source": "given-in", "destination": "g"}],
        environment_variables=[{"name": "SHARED", "value": "all"}, {"name": "NUMBER", "value": "007"}],
    )  # fmt: skip
    events.send(events.event("1"))
    until(lambda: shared.column("given", "id"), "the row")
    columns = "user, password, file, mode, shared, own, number, revision, name, pipeline, deployment".split(", ")
    (row,) = shared.sql("select " + ", ".join(f'"{column}"' for column in columns) + " from given")
    assert row == ["reader", "0123", "0123", "0o0", "own wins", "mine", "007", "1", "given", "given", "g"]
    revisions = shared.items("functions/given/revisions")
    assert {one["revision_number"]: one.get("alias") for one in revisions} == {1: None, 2: "stable"}
    for text in (
        shared.cli("secrets", "get", "database", "-o", "json"),
        shared.cli("secrets", "list", "-o", "yaml"),
        shared.log_tail(10**7),
    ):
        assert "0123" not in text
    refused = shared.run("secrets", "delete", "database", "--force")
    assert refused.returncode == 7 and "given" in refused.stderr
