# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""kill -9 while retention takes files off tables.

`MARTLET_TEST_SEED=N` repeats the moments of a run; how far the load has come by then is up to the machine.
"""

import contextlib
import json
import os
import random
import sqlite3
import time
from datetime import datetime, timezone
from typing import NamedTuple

import append_tables as tables
import pyarrow.parquet as pq
from harness import Engine, until
from test_tables_crash import Publisher, check_grows, seed  # noqa: F401: a fixture

ROUNDS = int(os.environ.get("MARTLET_CRASH_ROUNDS") or 30) // 2
SECONDS = 95
"""How long there are kills at least: rows are old after a minute."""
WRITING_SECONDS = 20
"""How long rows of the tables are written that lose theirs by age."""
COMMITS = {"commit_seconds": 1, "commit_bytes": 1 << 20}
AGE_MILLISECONDS = 60_000
SIZE = 1 << 20
# The first of each pair keeps what retention removed for AS OF, and so for the test; the second deletes it at once.
KEPT, DELETED = ("aged", "sized"), ("aged_gone", "sized_gone")


class Writer(Publisher):
    """Publishes a few large values a second."""

    def __init__(self, engine: Engine, topic: str, name: str, seed: int) -> None:
        self.topic = topic
        super().__init__(engine, name, seed)

    def value(self, number: int) -> bytes:
        if self.chance.random() < 0.03:
            return b"no json"
        return json.dumps({"n": number, "pad": self.chance.randbytes(1500).hex()}).encode()

    def step(self) -> None:
        first = len(self.sent)
        made = {f"{self.name}-{first + i}": self.value(first + i) for i in range(self.chance.choice([1, 3, 8]))}
        self.sent |= made
        tables.send(self.engine, self.topic, [tables.event(id, value, self.chance.choice("abcd")) for id, value in made.items()])
        self.acknowledged |= set(made)
        self.stopped.wait(self.chance.uniform(0.02, 0.08))


def catalog_rows(engine: Engine, sql: str, *arguments) -> list:
    with contextlib.closing(sqlite3.connect(f"file:{engine.data}/catalog.sqlite?mode=ro", uri=True)) as catalog:
        return catalog.execute(sql, arguments).fetchall()


def removals(engine: Engine) -> int:
    """How many commits of retention the catalog has, read beside the engine."""
    return catalog_rows(engine, "select count(*) from table_commits where kind = 'retention'")[0][0]


def wait_for_removal(engine: Engine, seconds: float) -> bool:
    """Returns as soon as the catalog has one more commit of retention: its files are still to be hidden and deleted then."""
    before, deadline = removals(engine), time.monotonic() + seconds
    while time.monotonic() < deadline:
        if removals(engine) > before:
            return True
        time.sleep(0.001)
    return False


def places(engine: Engine, table: str, paths) -> list[tuple[int, int]]:
    """Partition and offset of every row and reject in some files."""
    found = []
    for path in paths:
        read = pq.read_table(tables.root(engine, table) / path, columns=["_partition", "_offset"], partitioning=None)
        found += zip(read["_partition"].to_pylist(), read["_offset"].to_pylist())
    return found


class File(NamedTuple):
    """A file the catalog knows or knew."""

    id: int
    path: str
    bytes: int
    added: int
    removed: int | None
    newest: float
    """Microseconds of its newest record."""


def files_of(engine: Engine, table: str) -> list[File]:
    rows = catalog_rows(
        engine,
        "select f.id, f.path, f.bytes, f.added_in, f.removed_in, json_extract(f.statistics, '$._timestamp.max') from table_files f"
        " join tables t on t.guid = f.table_guid where t.name = ?", table,
    )  # fmt: skip
    return [File(*row[:5], newest(row[5])) for row in rows]


def newest(text: str | None) -> float:
    if text is None:
        return float("inf")
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp() * 1e6


def too_much(files: list[File]) -> set[int]:
    """What retention by size takes off: the oldest files, until the rest is small enough."""
    total, gone = sum(file.bytes for file in files), set()
    for file in sorted(files, key=lambda file: (file.newest, file.id)):
        if total <= SIZE:
            break
        gone.add(file.id)
        total -= file.bytes
    return gone


def check_removed(engine: Engine, table: str, stored: set[tuple[int, int]]) -> tuple[int, int]:
    """Every record is in the table or in a file that retention removed whole, in one of them once, and each removal was due.

    Returns how many files retention removed, and how many commits that took.
    """
    files = files_of(engine, table)
    sql = "select c.number, c.kind, c.time_micros from table_commits c join tables t on t.guid = c.table_guid where t.name = ?"
    commits = {number: (kind, micros) for number, kind, micros in catalog_rows(engine, sql, table)}
    expired = [file for file in files if file.removed is not None and commits[file.removed][0] == "retention"]
    current = [file for file in files if file.removed is None]
    found = places(engine, table, [file.path for file in current + expired])
    assert len(found) == len(set(found)), f"{table}: a record is there twice, or was removed and is there"
    assert set(found) == stored, f"{table}: lost {sorted(stored - set(found))[:5]}, invented {sorted(set(found) - stored)[:5]}"
    for number in {file.removed for file in expired}:
        before = [file for file in files if file.added < number and (file.removed is None or file.removed >= number)]
        gone = {file.id for file in before if file.removed == number}
        if table.startswith("aged"):
            cutoff = commits[number][1] - AGE_MILLISECONDS * 1000
            assert all(file.newest < cutoff for file in before if file.id in gone), f"commit {number} of {table} removed rows that are too young"
        else:
            # The sink may have committed once or twice more since it was decided.
            decided = [too_much([file for file in before if file.added < number - later]) for later in range(4)]
            assert gone in decided, f"commit {number} of {table} removed {gone}, due were {decided}"
    return len(expired), len({file.removed for file in expired})


def topic_of(table: str) -> str:
    return "walks" if table.startswith("aged") else "rides"


def progress(engine: Engine) -> dict:
    return {name: engine.get(f"tables/{name}/history?limit=1")["data"][0]["number"] for name in KEPT + DELETED}


def test_kills_during_retention_remove_whole_files_and_nothing_that_should_stay(make_engine, seed):  # noqa: F811
    engine = make_engine(settings={"MARTLET_TABLES_MAINTENANCE_SECONDS": "1"})
    chance = random.Random(seed)
    engine.start()
    for topic in ("walks", "rides"):
        engine.post("topics", {"name": topic, "partitions": 2})
    for name in KEPT + DELETED:
        limit = {"retention_milliseconds": AGE_MILLISECONDS} if name.startswith("aged") else {"retention_bytes": SIZE}
        tables.make(engine, name, topic_of(name), columns={"n": "BIGINT"}, history_seconds=3600 if name in KEPT else 0, **limit, **COMMITS)
    publishers = [Writer(engine, topic, name, seed + i) for i, (topic, name) in enumerate([("walks", "a"), ("walks", "b"), ("rides", "c")])]
    before: dict = {}
    rounds = during = 0
    began = time.monotonic()
    try:
        while rounds < ROUNDS or time.monotonic() - began < SECONDS:
            if rounds % 3 == 0:
                # Maintenance runs each second after the start: most of these moments are in or next to a pass.
                time.sleep(chance.uniform(0.9, 2.3))
            else:
                during += wait_for_removal(engine, 6)
                time.sleep(chance.choice([0, 0, 0.001, 0.003, 0.01]))
            rounds += 1
            if time.monotonic() - began > WRITING_SECONDS:
                for publisher in publishers[:2]:
                    publisher.stopped.set()
            engine.kill()
            engine.start()
            after = progress(engine)
            check_grows(before, after)
            before = after
            for publisher in publishers:
                assert publisher.error is None, publisher.error
    finally:
        for publisher in publishers:
            publisher.stop()
    for name in KEPT + DELETED:
        until(lambda: engine.get(f"tables/{name}")["lag_records"] == 0, f"{name} has taken everything", 60)
        tables.commit(engine, name)

    until(lambda: engine.sql("select (select count(*) from aged) + (select count(*) from aged_gone)") == [[0]], "the old rows leave", 60)
    until(lambda: all(engine.get(f"tables/{name}")["bytes"] <= SIZE for name in ("sized", "sized_gone")), "the size is kept", 30)
    engine.kill()
    engine.start()
    stored = {}
    for topic in ("walks", "rides"):
        records = [(number, one) for number, part in engine.records(topic).items() for one in part]
        stored[topic] = {(number, one.offset) for number, one in records}
        acknowledged = {id for publisher in publishers if publisher.topic == topic for id in publisher.acknowledged}
        assert acknowledged <= {one.headers["ce_id"] for _, one in records}, "the topic lost what was acknowledged"
    engine.stop()
    found = {name: check_removed(engine, name, stored[topic_of(name)]) for name in KEPT}
    for name in KEPT + DELETED:
        tables.check_files(engine, name)
    engine.start()
    for name in DELETED:
        tables.check_history(engine, name)
        assert engine.sql(f"select count(*) - count(distinct (_partition, _offset)) from {name}") == [[0]]
    for name in KEPT + DELETED:
        assert engine.get(f"tables/{name}")["state"] == "running"
        assert engine.post(f"tables/{name}/repair?dry_run=true")["data"] == []
    assert engine.get("engine")["damage"] == []
    print(f"{ {topic: len(all) for topic, all in stored.items()} } records, {during} of {rounds} kills right behind a commit of retention; files and commits of retention: {found}")
    assert during >= rounds // 4 and all(files > 0 for files, _ in found.values()), f"retention had nothing to do: {during} of {rounds}, {found}"
    assert engine.stop() == 0
