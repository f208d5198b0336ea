# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Tables that follow a topic and keep one row a key.

`MARTLET_TEST_SEED=N` repeats the moments of a run that ends the engine with kill -9.
"""

import contextlib
import json
import os
import random
import signal
import sqlite3
import threading
import time

import pytest
from harness import until

ROUNDS = int(os.environ.get("MARTLET_CRASH_ROUNDS") or 10)
EVENT = {"specversion": "1.0", "source": "test", "type": "example.com:Row", "datacontenttype": "application/json"}


def event(number, data=None, key=None):
    """An event; without data its record has no value."""
    made = EVENT | {"id": str(number)}
    if data is not None:
        made["data"] = data
    if key is not None:
        made["partitionkey"] = key
    return made


def send(engine, topic, *events):
    answer = engine.http(
        "POST", f"/api/v1/topics/{topic}/events", json.dumps(events).encode(),
        {"Content-Type": "application/cloudevents-batch+json"},
    )  # fmt: skip
    assert answer.status == 202, (answer.status, answer.body)


def table(engine, name, *options, partitions=1, column="id=VARCHAR", key="id"):
    engine.post("topics", {"name": name, "partitions": partitions})
    engine.cli("tables", "create", name, "--topic", name, "--column", column, "--key", key, *options)


def settle(engine, name):
    """Returns when everything the topic has is in the table."""
    engine.cli("tables", "commit", name)


def rows(engine, name, columns="id, n"):
    return engine.sql(f'select {columns} from "{name}" order by id')


def test_the_newest_record_of_a_key_is_its_row(shared):
    table(shared, "newest", partitions=4)
    assert rows(shared, "newest", "id") == []
    sent = random.Random(7)
    last = {}
    for batch in range(5):
        events = []
        for number in range(400):
            key = f"k{sent.randrange(100)}"
            last[key] = batch * 400 + number
            events.append(event(number, {"id": key, "n": last[key]}, key))
        send(shared, "newest", *events)
    settle(shared, "newest")
    assert rows(shared, "newest") == [[key, last[key]] for key in sorted(last)]
    shown = shared.get("tables/newest")
    assert (shown["kind"], shown["rows"], shown["state"], shown["lag_records"]) == ("keyed", len(last), "running", 0)
    assert [(column["name"], column["is_key"]) for column in shown["columns"]] == [("id", True), ("n", False)]
    names = shared.tables()
    assert "newest" in names and not any("rejected" in name or "offsets" in name for name in names)


def test_a_row_is_replaced_whole(shared):
    table(shared, "whole")
    send(shared, "whole", event(1, {"id": "a", "n": 1, "city": "Bern"}), event(2, {"id": "b", "n": 2}))
    settle(shared, "whole")
    send(shared, "whole", event(3, {"id": "a", "n": 3}))
    settle(shared, "whole")
    assert rows(shared, "whole", "id, n, city") == [["a", 3, None], ["b", 2, None]]


def test_records_without_a_value_delete_their_row_and_it_may_come_again(shared):
    table(shared, "gone")
    for number in range(20):
        send(shared, "gone", event(1, {"id": "a", "n": number}, "a"), event(2, {"id": "b", "n": number}, "b"))
        settle(shared, "gone")
        send(shared, "gone", event(3, key="a"))
        settle(shared, "gone")
        assert rows(shared, "gone") == [["b", number]]
    # One round with both: the newest counts.
    send(shared, "gone", event(1, {"id": "c", "n": 1}, "c"), event(2, key="c"), event(3, key="b"), event(4, {"id": "b", "n": 9}, "b"))
    settle(shared, "gone")
    assert rows(shared, "gone") == [["b", 9]]
    assert shared.get("tables/gone")["rejected_rows"] == 0


def test_a_key_of_several_columns_is_deleted_by_an_object(shared):
    shared.post("topics", {"name": "pairs", "partitions": 1})
    shared.cli(
        "tables", "create", "pairs", "--topic", "pairs", "--column", "id=BIGINT", "--column", "side=VARCHAR", "--key", "id,side"
    )
    send(shared, "pairs", *(event(n, {"id": n, "side": side, "n": n}) for n in (1, 2) for side in "lr"))
    send(shared, "pairs", event(5, key='{"side": "l", "id": 1}'), event(6, key="1"))
    settle(shared, "pairs")
    assert shared.sql("select id, side from pairs order by all") == [[1, "r"], [2, "l"], [2, "r"]]
    assert "no JSON object with" in shared.sql("select reason from pairs__rejected")[0][0]


def test_a_rule_deletes_rows_and_its_field_is_not_kept(shared):
    table(shared, "ruled", "--delete-when", "op=delete", "--unknown", "ignore", "--column", "n=BIGINT")
    send(shared, "ruled", event(1, {"id": "a", "n": 1, "op": "insert"}), event(2, {"id": "b", "n": 2, "op": "insert"}))
    settle(shared, "ruled")
    assert rows(shared, "ruled") == [["a", 1], ["b", 2]]
    send(shared, "ruled", event(3, {"id": "a", "op": "delete", "n": None}), event(4, {"id": "b", "n": 5, "op": "update"}))
    settle(shared, "ruled")
    assert shared.sql("select * from ruled") == [["b", 5]]
    shared.cli("tables", "update", "ruled", "--delete-when", "n=6")
    send(shared, "ruled", event(5, {"id": "b", "n": 6}), event(6, {"id": "c", "n": 7}))
    settle(shared, "ruled")
    assert rows(shared, "ruled") == [["c", 7]]


def test_columns_are_found_widened_and_declared(shared):
    table(shared, "grown")
    send(shared, "grown", event(1, {"id": "a", "n": 1}))
    settle(shared, "grown")
    send(shared, "grown", event(2, {"id": "b", "n": 1.5, "more": {"x": 1}}), event(3, {"id": "c", "big": 2**70}))
    settle(shared, "grown")
    types = {column["name"]: column["type"] for column in shared.get("tables/grown")["columns"]}
    assert types == {"id": "VARCHAR", "n": "DOUBLE", "more": "JSON", "big": "DECIMAL(38,0)"}
    assert rows(shared, "grown") == [["a", 1.0], ["b", 1.5], ["c", None]]
    shared.cli("tables", "update", "grown", "--column", "n=VARCHAR", "--column", "day=DATE")
    send(shared, "grown", event(4, {"id": "a", "n": "one", "day": "2026-11-21"}))
    settle(shared, "grown")
    assert rows(shared, "grown", "id, n, day") == [["a", "one", "2026-11-21"], ["b", "1.5", None], ["c", None, None]]


def test_records_that_cannot_be_a_row_are_rejected_and_hold_nothing_up(shared):
    table(shared, "picky", "--column", "n=BIGINT", "--unknown", "reject")
    send(
        shared, "picky", event(1, {"id": "a", "n": "x"}), event(2, {"n": 1}), event(3, {"id": None, "n": 1}),
        event(4, [1]), event(5, {"id": "b", "other": 1}), event(6), event(7, {"id": "c", "n": 3}),
    )  # fmt: skip
    settle(shared, "picky")
    assert rows(shared, "picky") == [["c", 3]]
    found = shared.sql("select _offset, reason from picky__rejected order by _offset")
    assert [row[0] for row in found] == [0, 1, 2, 3, 4, 5]
    for (_, reason), part in zip(found, ("does not fit", "key column", "key column", "not an object", "no column", "neither")):
        assert part in reason, (part, reason)
    assert shared.get("tables/picky")["rejected_rows"] == 6
    done = shared.run("tables", "replay", "picky")
    assert done.returncode != 0 and "publish" in done.stderr


def test_what_only_append_tables_have_is_refused(shared):
    table(shared, "refused")
    for words in (("history",), ("compact",), ("repair", "--dry-run")):
        done = shared.run("tables", words[0], "refused", *words[1:])
        assert done.returncode != 0 and "has a key" in done.stderr, (words, done.stderr)
    done = shared.run("sql", "--as-of", "refused=1", "from refused")
    assert done.returncode != 0 and "no history" in done.stderr
    assert "no history" in shared.run("sql", 'from "refused@1"').stderr
    assert shared.run("tables", "delete", "refused__rejected", "--force").returncode != 0
    done = shared.run("tables", "create", "refused", "--topic", "refused", "--column", "id=VARCHAR", "--key", "id")
    assert done.returncode != 0 and "follows a topic already" in done.stderr


def test_functions_may_not_write_to_it(shared):
    table(shared, "mine")
    shared.function(
        "writer",
        """
        def handler(ctx, event):
            ctx.tables["mine"].upsert({"id": "x"}, key=["id"])
        """,
    )
    source = shared.source("writers")
    links = [{"source": "writers", "destination": "one"}]
    pipeline = shared.pipeline("writing", {"one": {"function_vrn": "writer"}}, links, ["writers"])
    source.send_ids([1], {})
    pipeline.wait()
    assert "follows a topic" in str(shared.dead_letters("writing"))
    assert rows(shared, "mine", "id") == []


def test_deleting_takes_rows_rejects_and_offsets(shared):
    table(shared, "short")
    send(shared, "short", event(1, {"id": "a", "n": 1}), event(2, {"n": 1}))
    settle(shared, "short")
    shared.cli("tables", "delete", "short", "--force")
    left = shared.sql("select table_name from information_schema.tables where table_name like 'short%'")
    assert left == [] and shared.sql("select * from martlet_table_offsets where \"table\" = 'short'") == []
    shared.cli("tables", "create", "short", "--topic", "short", "--column", "id=VARCHAR", "--key", "id", "--start", "latest")
    send(shared, "short", event(3, {"id": "b", "n": 2}))
    settle(shared, "short")
    assert rows(shared, "short") == [["b", 2]]


def test_a_restart_goes_on_where_it_was(engine):
    table(engine, "kept")
    send(engine, "kept", *(event(n, {"id": f"k{n % 10}", "n": n}) for n in range(100)))
    settle(engine, "kept")
    assert engine.stop() == 0
    engine.start()
    send(engine, "kept", event(1, {"id": "k0", "n": -1, "extra": True}))
    settle(engine, "kept")
    found = rows(engine, "kept", "id, n, extra")
    assert found[0] == ["k0", -1, True] and len(found) == 10


@pytest.mark.parametrize("partitions", [2])
def test_kill_9_loses_and_doubles_nothing(engine, partitions):
    seed = int(os.environ.get("MARTLET_TEST_SEED") or random.randrange(2**31))
    print(f"MARTLET_TEST_SEED={seed}")
    chance = random.Random(seed)
    table(engine, "crashed", "--delete-when", "op=delete", partitions=partitions)
    last: dict[str, int | None] = {}
    state = {"number": 0, "stop": False}
    rejected = 0

    def publish():
        nonlocal rejected
        while not state["stop"]:
            events, values, bad = [], {}, 0
            for _ in range(200):
                state["number"] += 1
                number, key = state["number"], f"k{chance.randrange(3000)}"
                kind = chance.randrange(10)
                if kind == 0:
                    events.append(event(number, key=key))
                    values[key] = None
                elif kind == 1:
                    events.append(event(number, {"id": key, "op": "delete"}, key))
                    values[key] = None
                elif kind == 2 and chance.randrange(10) == 0:
                    events.append(event(number, {"n": number}, key))
                    bad += 1
                else:
                    events.append(event(number, {"id": key, "n": number}, key))
                    values[key] = number
            try:
                send(engine, "crashed", *events)
            except (OSError, ConnectionError, AssertionError):
                # Perhaps stored: said again when the engine is back, so that the last of each key is certain.
                state["doubt"] = (events, bad)
                return
            last.update(values)
            rejected += bad

    for turn in range(ROUNDS):
        state.update(stop=False, doubt=None)
        thread = threading.Thread(target=publish)
        thread.start()
        time.sleep(0.1 + chance.random() * 0.7)
        engine.process.send_signal(signal.SIGKILL)
        engine.process.wait()
        thread.join()
        engine.clean_up()
        engine.start()
        if state["doubt"]:
            events, bad = state["doubt"]
            send(engine, "crashed", *events)
            rejected += bad
            for one in events:
                data = one.get("data")
                if data is None or data.get("op") == "delete":
                    last[one["partitionkey"]] = None
                elif "id" in data:
                    last[data["id"]] = data["n"]
    settle(engine, "crashed")
    expected = [[key, value] for key, value in sorted(last.items()) if value is not None]
    assert rows(engine, "crashed") == expected
    places = engine.sql("select count(*), count(distinct (_partition, _offset)) from crashed__rejected")[0]
    assert places[0] == places[1] >= rejected
    records = sum(len(part) for part in engine.records("crashed").values())
    taken = engine.sql("select sum(next_offset) from martlet_table_offsets where \"table\" = 'crashed'")[0][0]
    assert int(taken) == records
    print(f"{state['number']} records, {len(expected)} rows, {places[0]} rejects")


def test_a_keyed_table_dropped_by_sql_is_shown_as_failed_and_hides_no_other(shared):
    table(shared, "dropped")
    table(shared, "beside")
    send(shared, "dropped", event(1, {"id": "a", "n": 1}))
    settle(shared, "dropped")
    shared.cli("sql", "--write", "drop table dropped")
    assert {"dropped", "beside"} <= shared.tables()
    shown = shared.get("tables/dropped")
    assert shown["state"] == "failed" and "create it again" in shown["reason"], shown
    shared.cli("tables", "delete", "dropped", "--force")
    shared.cli("tables", "create", "dropped", "--topic", "dropped", "--column", "id=VARCHAR", "--key", "id")
    settle(shared, "dropped")
    assert rows(shared, "dropped") == [["a", 1]]


def test_sql_leaves_the_positions_of_keyed_tables_alone(shared):
    table(shared, "placed")
    send(shared, "placed", event(1, {"id": "a", "n": 1}))
    settle(shared, "placed")
    before = shared.sql("from martlet_table_offsets order by all")
    for statement in (
        "drop table martlet_table_offsets", "alter table martlet_table_offsets rename to gone", "delete from martlet_table_offsets",
        "update martlet_table_offsets set next_offset = 0", "insert into martlet_table_offsets values ('x', 'x', 0, 0)",
        "create or replace table \"MARTLET_table_offsets\" (a int)", "create view martlet_v as select 1",
        "truncate main.martlet_table_offsets",
    ):  # fmt: skip
        done = shared.run("sql", "--write", statement)
        assert done.returncode != 0 and "engine's own" in done.stderr, (statement, done)
    assert shared.sql("from martlet_table_offsets order by all") == before
    shared.cli("tables", "delete", "placed", "--force")
    left = shared.sql("select count(*) from duckdb_tables() where table_name like 'placed%'")
    assert left == [[0]] and shared.sql("select count(*) from martlet_table_offsets where \"table\" = 'placed'") == [[0]]


def test_what_a_crash_left_of_a_deleted_table_goes_at_the_next_start(engine):
    table(engine, "left")
    table(engine, "kept")
    for name in ["left", "kept"]:
        send(engine, name, event(1, {"id": "a", "n": 1}))
        settle(engine, name)
    assert engine.stop() == 0
    # The catalog has forgotten the table, DuckDB has not.
    with contextlib.closing(sqlite3.connect(engine.data / "catalog.sqlite")) as catalog:
        catalog.execute("delete from resource_references where user_kind = 'tables' and user_name = 'left'")
        catalog.execute("delete from tables where name = 'left'")
        catalog.commit()
    # What another program changes is refused as damage while this is there.
    (engine.data / "catalog.sqlite-mark").unlink()
    engine.start()
    until(lambda: engine.sql("select count(*) from duckdb_tables() where table_name = 'left'") == [[0]], "it is gone")
    assert engine.sql("select distinct \"table\" from martlet_table_offsets") == [["kept"]]
    assert rows(engine, "kept") == [["a", 1]]


def test_rows_say_which_record_wrote_them_where_system_columns_are_declared(shared):
    table(
        shared, "origin", "--column", "_offset=BIGINT", "--column", "_type=VARCHAR", "--column", "_timestamp=TIMESTAMP",
        "--column", "_id=VARCHAR", "--delete-when", "_type=example.com:Gone",
    )  # fmt: skip
    send(shared, "origin", event(1, {"id": "a", "n": 1}), event(2, {"id": "b", "n": 1}), event(3, {"id": "a", "n": 2}))
    settle(shared, "origin")
    assert rows(shared, "origin", "id, n, _offset, _id, _type") == [
        ["a", 2, 2, "3", "example.com:Row"], ["b", 1, 1, "2", "example.com:Row"],
    ]  # fmt: skip
    assert shared.sql("select count(*) from origin where _timestamp > now() - interval 1 hour") == [[2]]
    send(shared, "origin", event(4, {"id": "b"}) | {"type": "example.com:Gone"}, event(5, {"id": "c", "_offset": 7}))
    settle(shared, "origin")
    assert rows(shared, "origin", "id") == [["a"]]
    assert "system column" in shared.sql("select reason from origin__rejected")[0][0]
    # One more can be added later; rows that were there do not know.
    shared.cli("tables", "update", "origin", "--column", "_source=VARCHAR", "--column", "m=BIGINT")
    send(shared, "origin", event(6, {"id": "d", "m": 4}))
    settle(shared, "origin")
    assert rows(shared, "origin", "id, m, _offset, _source") == [["a", None, 2, None], ["d", 4, 5, "test"]]
    shown = {one["name"]: one["is_system"] for one in shared.get("tables/origin")["columns"]}
    assert shown["_offset"] and shown["_source"] and not shown["id"] and not shown["m"]
    for column, key in [("_offset=VARCHAR", "id"), ("_headers=JSON", "id"), ("_id=VARCHAR", "_id")]:
        refused = shared.run("tables", "create", "no", "--topic", "origin", "--column", "id=VARCHAR",
                             "--column", column, "--key", key)  # fmt: skip
        assert refused.returncode != 0 and column.split("=")[0] in refused.stderr, refused


def test_a_table_of_a_compacted_topic_holds_what_compaction_left(make_engine):
    """Two tables: one that followed from the first record on, one that reads only what compaction left of it, tombstones and all."""
    import confluent_kafka

    engine = make_engine()
    engine.start()
    chance = random.Random(11)
    engine.post("topics", {"name": "state", "partitions": 2})
    # Small segments, so that most of them are closed; tombstones are kept, as by default, for a day.
    engine.cli(
        "topics", "update", "state", "--config", "cleanup.policy=compact", "--config", "segment.bytes=8192",
        "--config", "min.cleanable.dirty.ratio=0",
    )  # fmt: skip

    def follow(name):
        engine.cli("tables", "create", name, "--topic", "state", "--column", "id=VARCHAR", "--key", "id")

    follow("followed")
    expected: dict[str, int | None] = {}

    def publish(count):
        # Its address is another one after each start.
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": engine.get("engine")["kafka_address"], "compression.type": "lz4", "batch.num.messages": 20}
        )
        for _ in range(count):
            number = len(published)
            key = f"k{chance.randrange(60)}"
            gone = chance.randrange(5) == 0
            value = None if gone else json.dumps({"id": key, "n": number, "text": chance.randbytes(150).hex()}).encode()
            producer.produce("state", key=key.encode(), value=value)
            expected[key] = None if gone else number
            published.append(number)
        assert producer.flush(60) == 0

    def stored():
        """What is in the topic, by partition."""
        found = {}
        for partition in range(2):
            consumer = confluent_kafka.Consumer(
                {"bootstrap.servers": engine.get("engine")["kafka_address"], "group.id": "unused", "enable.partition.eof": True}
            )
            consumer.assign([confluent_kafka.TopicPartition("state", partition, 0)])
            records = []
            while not (record := consumer.poll(30)).error():
                records.append((record.key().decode(), record.value()))
            consumer.close()
            found[partition] = records
        return found

    def holds(name):
        """What a topic's records say is what the table has."""
        latest: dict[str, bytes | None] = {}
        for records in stored().values():
            latest.update(records)
        assert {key: None if value is None else json.loads(value)["n"] for key, value in latest.items()} == expected
        wanted = [[key, number] for key, number in sorted(expected.items()) if number is not None]
        settle(engine, name)
        assert rows(engine, name) == wanted
        return latest

    published: list[int] = []
    publish(1500)
    assert any(value is None for value in expected.values()) and any(value is not None for value in expected.values())
    done = [engine.data / "log/topics/state" / str(partition) / "compaction" for partition in range(2)]
    until(lambda: all(file.exists() for file in done), "both partitions are compacted", 90, every=0.2)
    until(lambda: sum(map(len, stored().values())) < 700, "most records are gone", 90, every=1)
    assert any(value is None for value in holds("followed").values()), "tombstones are kept for a while"
    # A table that begins now sees what is left and nothing else.
    follow("late")
    holds("late")
    assert engine.sql('select count(*) from "late__rejected"') == [[0]]
    assert engine.stop() == 0
    engine.start()
    holds("followed")
    holds("late")
    # Deletions and comebacks after it, on top of what compaction left, and a crash between.
    publish(200)
    engine.kill()
    engine.start()
    publish(200)
    holds("followed")
    holds("late")
    # Then the tombstones go as well, and with them nothing of the tables.
    engine.cli("topics", "update", "state", "--config", "delete.retention.ms=0")
    publish(300)
    until(lambda: sum(map(len, stored().values())) < 700, "most records are gone again", 90, every=1)
    for name in ("followed", "late"):
        settle(engine, name)
        wanted = [[key, number] for key, number in sorted(expected.items()) if number is not None]
        assert rows(engine, name) == wanted
    follow("last")
    settle(engine, "last")
    assert rows(engine, "last") == wanted
