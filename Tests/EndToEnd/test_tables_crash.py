# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""kill -9 at random moments while topics become tables.

`MARTLET_TEST_SEED=N` repeats the moments of a run; how far the load has come by then is up to the machine.
"""

import http.client
import json
import os
import random
import threading
import time
from decimal import Decimal

import append_tables as tables
import pytest
from harness import Engine, until

ROUNDS = int(os.environ.get("MARTLET_CRASH_ROUNDS") or 30)
COMMITS = {"commit_seconds": 1, "commit_bytes": 64 << 10}


@pytest.fixture
def seed():
    """Printed, so that a failing run can be repeated."""
    seed = int(os.environ.get("MARTLET_TEST_SEED") or random.randrange(2**31))
    print(f"MARTLET_TEST_SEED={seed}")
    return seed


class Worker:
    """Repeats a step until stopped; a request that finds no engine is no error, any other failure is."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine, self.chance = engine, random.Random(seed)
        self.error: BaseException | None = None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.stopped.is_set():
            try:
                self.step()
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                self.stopped.wait(0.02)
            except BaseException as error:
                self.error = error
                return

    def step(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join(60)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error


class Publisher(Worker):
    """Publishes values of changing shape and remembers what was sent and what was acknowledged, by event id."""

    def __init__(self, engine: Engine, name: str, seed: int) -> None:
        self.name, self.sent, self.acknowledged = name, {}, set()
        super().__init__(engine, seed)

    def value(self, number: int) -> bytes:
        chance = self.chance
        kind = chance.random()
        if kind < 0.03:
            return chance.choice([b"", b"no json", b"[1]", b'{"n":1,"n":2}', b'{"n":"text"}', b"\xff\xfe", b'{"_offset":1}'])
        value = {"n": number, "who": self.name}
        if kind > 0.4:
            # Whole at first, a fraction later: the column widens under way.
            value["wide"] = number if number < 2000 else number + 0.5
            # A column joins every 400 records.
            value[f"added{chance.randrange(number // 400 + 1)}"] = chance.choice(["x", "yé", ""])
        if kind > 0.8:
            value["nested"] = {"list": [number, None, "a" * chance.randrange(300)]}
        items = list(value.items())
        chance.shuffle(items)
        return json.dumps(dict(items)).encode()

    def step(self) -> None:
        first = len(self.sent)
        made = {f"{self.name}-{first + i}": self.value(first + i) for i in range(self.chance.choice([1, 5, 40, 120]))}
        self.sent |= made
        key = self.chance.choice([None, "a", "b", "c", "d", "e"])
        tables.send(self.engine, "rides", [tables.event(id, value, key) for id, value in made.items()])
        self.acknowledged |= set(made)
        self.stopped.wait(self.chance.uniform(0.005, 0.06))


class Compactor(Worker):
    """Runs `martlet tables compact` without end."""

    done = 0

    def step(self) -> None:
        done = self.engine.run("tables", "compact", self.chance.choice(["trips", "bytes", "short"]))
        self.done += done.returncode == 0
        # 3: nobody listens; the rest would be an answer of the engine.
        gone = ("Connection refused", "onnect", "onnection", "closed", "reset")
        assert done.returncode == 0 or any(word in done.stderr for word in gone), (done.returncode, done.stderr)
        self.stopped.wait(0.2)


def progress(engine: Engine) -> dict:
    """Numbers that must never fall: last commits and committed offsets."""
    found = {}
    for name in ("trips", "bytes", "short"):
        last = engine.get(f"tables/{name}/history?limit=1")["data"][0]
        found[name] = last["number"]
    for part in engine.items("topics/rides/partitions"):
        found["end", part["partition"]] = part["end_offset"]
    return found


def check_grows(before: dict, after: dict) -> None:
    for what, value in before.items():
        assert after[what] >= value, f"{what} went back from {value} to {after[what]}"


def same(value, held) -> bool:
    """Whether a column holds what the record said, in the types Parquet gives."""
    if isinstance(value, (dict, list)):
        return json.loads(held) == value
    if isinstance(held, Decimal):
        held = int(held)
    return held == value


def check_equals_the_topic(engine: Engine, sent: dict[str, bytes], acknowledged: set[str]) -> int:
    stored = {(number, one.offset): one for number, part in engine.records("rides").items() for one in part}
    ids = [one.headers["ce_id"] for one in stored.values()]
    assert len(ids) == len(set(ids)) and set(ids) <= set(sent), "the topic holds what nobody sent, or twice"
    assert acknowledged <= set(ids), "the topic lost what was acknowledged"
    for one in stored.values():
        assert (one.value or b"") == sent[one.headers["ce_id"]]

    files = tables.check_files(engine, "trips")
    rows = list(tables.rows_of(files))
    rejects = list(tables.rows_of(files, "rejects"))
    places = [(row["_partition"], row["_offset"]) for row in rows + rejects]
    assert len(places) == len(set(places)), "a record counts twice"
    assert set(places) == set(stored), f"missing {sorted(set(stored) - set(places))[:5]}"
    for row in rejects:
        one = stored[row["_partition"], row["_offset"]]
        assert (row["value"] or b"") == (one.value or b"") and row["reason"] and row["_topic"] == "rides"
        assert row["key"] == one.key
    for row in rows:
        one = stored[row["_partition"], row["_offset"]]
        value = json.loads(one.value)
        assert row["_id"] == one.headers["ce_id"] and row["_key"] == one.key
        for name, held in row.items():
            if not name.startswith("_"):
                assert name not in value and held is None or same(value[name], held), (value, row)
        assert set(value) <= set(row)

    raw = list(tables.rows_of(tables.check_files(engine, "bytes")))
    assert sorted((row["_partition"], row["_offset"]) for row in raw) == sorted(stored)
    for row in raw:
        one = stored[row["_partition"], row["_offset"]]
        assert (row["value"] or b"") == (one.value or b"") and row["key"] == one.key and row["_id"] == one.headers["ce_id"]

    # And the same through SQL.
    assert engine.sql(
        "select count(*), count(distinct (_partition, _offset)) from (select _partition, _offset from trips"
        " union all select _partition, _offset from trips__rejected)"
    ) == [[len(stored), len(stored)]]
    difference = "select _partition, _offset, value from {} except select _partition, _offset, value from {}"
    assert engine.sql("select count(*) from (" + difference.format("trips__rejected", "bytes") + ")") == [[0]]
    assert engine.sql(
        "select count(*) from trips t join bytes b using (_partition, _offset)"
        " where t.n is distinct from try((decode(b.value)::json ->> 'n')::bigint)"
    ) == [[0]]
    return len(rejects)


def test_thirty_kills_under_load_leave_every_record_in_the_table_or_its_rejects_once(make_engine, seed):
    engine = make_engine()
    chance = random.Random(seed)
    engine.start()
    engine.post("topics", {"name": "rides", "partitions": 3})
    tables.make(engine, "trips", "rides", columns={"n": "BIGINT"}, history_seconds=5, **COMMITS)
    tables.make(engine, "bytes", "rides", format="raw", partition_by=["hour"], **COMMITS)
    # May lose its oldest rows; maintenance begins 10 s after a start, so most kills come before it.
    tables.make(engine, "short", "rides", retention_bytes=1 << 20, history_seconds=0, **COMMITS)
    publishers = [Publisher(engine, name, seed + i) for i, name in enumerate("abc")]
    compactor = Compactor(engine, seed)
    before: dict = {}
    try:
        for round in range(ROUNDS):
            if round % 5 == 4:  # While it starts and recovers.
                engine.kill()
                engine.launch()
                time.sleep(chance.uniform(0.02, 0.5))
                assert engine.process.poll() is None, f"it did not start after a kill\n{engine.log_tail()}"
                engine.kill()
            else:
                time.sleep(chance.uniform(0.2, 2.2))
                before = progress(engine)
                engine.kill()
            engine.start()
            after = progress(engine)
            check_grows(before, after)
            before = after
            for worker in (*publishers, compactor):
                assert worker.error is None, worker.error
    finally:
        for worker in (*publishers, compactor):
            worker.stop()
    sent = {id: value for publisher in publishers for id, value in publisher.sent.items()}
    acknowledged = {id for publisher in publishers for id in publisher.acknowledged}
    print(f"{len(acknowledged)} of {len(sent)} records acknowledged, {compactor.done} compactions")
    assert len(acknowledged) > 50 * ROUNDS and compactor.done >= ROUNDS // 10, "there was no load"

    for name in ("trips", "bytes"):
        tables.settled(engine, name, 60)
    until(lambda: engine.get("tables/short")["lag_records"] == 0, "the third table has everything")
    engine.kill()
    engine.start()
    check_grows(before, progress(engine))
    # Nothing comes any more, and what the first start swept away is away.
    rejects = check_equals_the_topic(engine, sent, acknowledged)
    assert rejects > 0 and engine.get("tables/trips")["schema_version"] > 2, "the load had no rejects or changes of columns"
    kinds = {one["kind"] for name in ("trips", "bytes") for one in tables.check_history(engine, name)}
    assert {"append", "compaction"} <= kinds
    short = [one["kind"] for one in tables.check_history(engine, "short")]
    assert engine.sql("select count(*) - count(distinct (_partition, _offset)) from short") == [[0]]
    assert engine.sql("select count(*) from short anti join bytes using (_partition, _offset)") == [[0]]
    assert engine.get("engine")["damage"] == []
    for name in ("trips", "bytes", "short"):
        assert engine.get(f"tables/{name}")["state"] == "running"
        assert engine.post(f"tables/{name}/repair?dry_run=true")["data"] == []
    print(f"{rejects} rejects, {len(short)} commits of the short table, {short.count('retention')} of retention")
    assert engine.stop() == 0
