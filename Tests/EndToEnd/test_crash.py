# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""kill -9 at random moments under load.

`MARTLET_TEST_SEED=N` repeats the moments of a run; how far the load has come by then is up to the machine.
"""

import collections
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

import harness
from harness import until

ROUNDS = int(os.environ.get("MARTLET_CRASH_ROUNDS") or 20)

FIRST = """
import os

def handler(ctx, event):
    key = event.object_key
    size = os.path.getsize(os.path.join(os.environ["VIEW"], key))
    with ctx.transaction():
        ctx.tables["files"].upsert({"path": key, "id": event.id, "bytes": size}, key=["path"])
        ctx.tables["pairs"].upsert({"path": key, "half": "a"}, key=["path", "half"])
        ctx.tables["pairs"].upsert({"path": key, "half": "b"}, key=["path", "half"])
    ctx.emit("audit", {"path": key}, key=key)
    return {"path": key, "id": event.id}
"""

SECOND = """
def handler(ctx, event):
    ctx.tables["seconds"].upsert({"path": event.data["path"], "id": event.data["id"]}, key=["path"])
"""

INBOX = """
def handler(ctx, event):
    ctx.tables["inbox"].upsert({"id": event.id, "number": event.data["number"]}, key=["id"])
"""


@pytest.fixture
def seed():
    """Printed, so that a failing run can be repeated."""
    seed = int(os.environ.get("MARTLET_TEST_SEED") or random.randrange(2**31))
    print(f"MARTLET_TEST_SEED={seed}")
    return seed


class Load:
    """Runs `step` in a thread until stopped."""

    def __init__(self, step) -> None:
        self.step = step
        self.error: BaseException | None = None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            while not self.stopped.is_set():
                self.step()
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join(30)
        if self.error is not None:
            raise self.error


class FileMaker:
    """Makes files in the ways people do; every name is used once."""

    def __init__(self, view: Path, staging: Path, random: random.Random) -> None:
        self.view, self.staging, self.random = view, staging, random
        self.keys: list[str] = []

    def step(self) -> None:
        number = len(self.keys)
        key = f"d{number % 7}/s{number // 40}/f{number}.dat" if number % 3 else f"f{number}.dat"
        path = self.view / key
        path.parent.mkdir(parents=True, exist_ok=True)
        way = self.random.randrange(3)
        if way == 0:
            path.write_bytes(b"x" * number)
        elif way == 1:
            (self.staging / "next").write_bytes(b"y" * number)
            os.replace(self.staging / "next", path)
        else:
            with open(path, "wb") as file:
                file.write(b"half")
                file.flush()
                time.sleep(0.002)
                file.write(b"other half")
        self.keys.append(key)
        time.sleep(self.random.random() * 0.012)


class Publisher:
    """Publishes events and remembers which were acknowledged."""

    def __init__(self, engine: harness.Engine, source: harness.Source) -> None:
        self.engine, self.source = engine, source
        self.sent = 0
        self.acknowledged: list[str] = []

    def step(self) -> None:
        ids = [f"n{self.sent + index}" for index in range(10)]
        events = [self.source.event(id, {"number": self.sent + index}, partitionkey=id) for index, id in enumerate(ids)]
        self.sent += 10
        try:
            self.source.send(*events)
        except (OSError, harness.http.client.HTTPException):
            time.sleep(0.02)
            return
        self.acknowledged += ids
        time.sleep(0.01)


def topic_ends(engine: harness.Engine) -> dict[tuple[str, int], int]:
    """Ends of all partitions; every record below them was acknowledged to someone."""
    ends = {}
    for topic in engine.items("topics?limit=1000"):
        for part in engine.items(f"topics/{topic['name']}/partitions"):
            ends[topic["name"], part["partition"]] = part["end_offset"]
    return ends


def check_offsets_only_grow(before: dict, after: dict) -> None:
    for partition, end in before.items():
        assert after[partition] >= end, f"{partition} went back from {end} to {after[partition]}"


def test_twenty_kills_of_the_engine_lose_and_repeat_nothing(make_engine, seed):
    engine = make_engine()
    chance = random.Random(seed)
    view, staging = engine.directory / "view", engine.directory / "staging"
    view.mkdir()
    staging.mkdir()
    engine.start()
    engine.post("views", {"name": "v", "path": str(view)})
    engine.post("topics", {"name": "audit", "partitions": 2})
    engine.post("triggers", {"name": "made", "type": "Element", "source_bucket": "v", "events": ["ObjectCreated:*"]})
    for name, source in (("first", FIRST), ("second", SECOND), ("third", INBOX)):
        engine.function(name, source)
    inbox = engine.source("inbox-in", partitions=2)
    files = engine.pipeline(
        "files", {"first": {}, "second": {}},
        [{"source": "made", "destination": "first"}, {"source": "first", "destination": "second"}],
        environment_variables={"VIEW": str(view)},
    )  # fmt: skip
    events = engine.pipeline("events", {"third": {}}, [{"source": "inbox-in", "destination": "third"}])

    maker, publisher = FileMaker(view, staging, random.Random(seed)), Publisher(engine, inbox)
    loads = [Load(maker.step), Load(publisher.step)]
    ends: dict = {}
    try:
        for round in range(ROUNDS):
            if round % 5 == 4:  # While it starts and recovers.
                engine.kill()
                engine.launch()
                time.sleep(chance.uniform(0.05, 0.6))
                assert engine.process.poll() is None, f"it did not start after a kill\n{engine.log_tail()}"
                engine.kill()
            else:
                time.sleep(chance.uniform(0.1, 1.5))
                ends = topic_ends(engine)
                engine.kill()
            engine.start()
            now = topic_ends(engine)
            check_offsets_only_grow(ends, now)
            ends = now
    finally:
        for load in loads:
            load.stop()
    print(f"{len(maker.keys)} files, {len(publisher.acknowledged)} of {publisher.sent} events acknowledged")
    assert len(maker.keys) > 20 * ROUNDS and len(publisher.acknowledged) > 20 * ROUNDS, "there was no load"

    for table, column, wanted in (
        ("files", "path", maker.keys), ("seconds", "path", maker.keys), ("inbox", "id", publisher.acknowledged)
    ):  # fmt: skip
        missing = set(wanted)
        deadline = time.monotonic() + 60
        while missing := missing - set(engine.column(table, column)):
            state = [files.show(), files.status("first"), files.status("second"), events.status()]
            assert time.monotonic() < deadline, f"{len(missing)} missing in {table}: {sorted(missing)[:5]}; {state}"
            time.sleep(0.25)
    files.wait(60)
    events.wait(60)

    for table, key in (("files", "path"), ("seconds", "path"), ("inbox", "id"), ("pairs", "path || half")):
        found = engine.column(table, key)
        assert len(found) == len(set(found)), f"{table} holds a row twice"
    assert set(engine.column("files", "path")) == set(maker.keys)
    sizes = {key: (view / key).stat().st_size for key in maker.keys}
    assert dict(engine.sql("select path, bytes from files")) == sizes, "a file was seen half written"
    assert engine.sql("select count(*) from pairs") == [[2 * len(maker.keys)]], "a transaction was cut in two"
    assert engine.sql("select count(*) from files f join seconds s using (path) where f.id <> s.id") == [[0]]
    assert engine.items("dead-letters") == []
    assert engine.get("engine")["damage"] == []
    check_offsets_only_grow(ends, topic_ends(engine))
    orphans = [pid for pid in engine.processes() if harness.parent(pid) != engine.process.pid]
    assert not orphans, "workers of a killed engine live on"
    assert engine.stop() == 0

    # What is on disk: contiguous offsets, one event for each file, nothing acknowledged missing.
    created = [record.headers["ce_elementpath"] for part in engine.records("events").values() for record in part]
    repeated = [path for path, count in collections.Counter(created).items() if count > 1]
    assert not repeated, f"{len(repeated)} files were reported twice, e.g. {repeated[:5]}"
    assert len(created) == len(maker.keys)
    stored = [record.headers["ce_id"] for part in engine.records("inbox-in").values() for record in part]
    assert set(publisher.acknowledged) <= set(stored)
    assert len(engine.records("audit")[0]) + len(engine.records("audit")[1]) >= len(maker.keys)


def test_workers_of_a_killed_engine_end(make_engine):
    engine = make_engine()
    engine.start()
    engine.function("idle", "def handler(ctx, event):\n    pass\n")
    engine.source("idle-in")
    engine.pipeline(
        "idle", {"idle": {"resources": {"min_concurrency": 3}}}, [{"source": "idle-in", "destination": "idle"}]
    )
    workers = until(lambda: len(found := engine.processes()) >= 3 and found, "three workers")
    engine.kill()
    until(lambda: not set(workers) & set(engine.processes()), "the end of its workers", 10)


def test_twenty_kills_of_workers_lose_nothing_and_dead_letter_nothing(make_engine, seed):
    engine = make_engine()
    chance = random.Random(seed)
    engine.start()
    engine.function(
        "work",
        """
        import os, time

        def handler(ctx, event):
            time.sleep(0.01)
            ctx.tables["done"].upsert({"id": event.id, "number": event.data["number"]}, key=["id"])
            return {"number": event.data["number"], "id": event.id}
        """,
    )
    engine.function(
        "after",
        """
        def handler(ctx, event):
            ctx.tables["after"].upsert({"id": event.data["id"]}, key=["id"])
        """,
    )
    source = engine.source("work-in", partitions=2)
    pipeline = engine.pipeline(
        "work", {"work": {"resources": {"min_concurrency": 3, "max_concurrency": 4}}, "after": {}},
        [{"source": "work-in", "destination": "work"}, {"source": "work", "destination": "after"}],
    )  # fmt: skip
    publisher = Publisher(engine, source)
    load = Load(publisher.step)
    killed = 0
    try:
        until(lambda: engine.column("done", "id"), "the first row")
        while killed < ROUNDS:
            workers = engine.processes()
            if workers:
                os.kill(chance.choice(workers), signal.SIGKILL)
                killed += 1
            time.sleep(chance.uniform(0.05, 0.6))
    finally:
        load.stop()
    assert publisher.sent == len(publisher.acknowledged)
    wanted = set(publisher.acknowledged)
    until(lambda: set(engine.column("done", "id")) == wanted, "a row for every event", 60, every=0.2)
    until(lambda: set(engine.column("after", "id")) == wanted, "a row for every result", 60, every=0.2)
    pipeline.wait()
    assert engine.sql("select count(*) - count(distinct id) from done") == [[0]]
    assert engine.items("dead-letters") == []
    until(lambda: pipeline.status("work")["workers_ready"] >= 3, "the killed workers are replaced")
    assert engine.process.poll() is None
    print(f"{killed} workers killed, {len(wanted)} events")
