# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Append tables: what they show, keep, refuse and repair."""

import contextlib
import datetime
import json
import os
import random
import sqlite3
import subprocess
import threading
from decimal import Decimal
from pathlib import Path

import append_tables as tables
import harness
import pyarrow.parquet as pq
import pytest
from append_tables import caught_up, commit, make, publish, settled
from harness import Engine, mount_in_memory, until

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def types(engine: Engine, table: str) -> dict[str, str]:
    """Columns of the records and their types."""
    return {one["name"]: one["type"] for one in engine.get(f"tables/{table}")["columns"] if not one["is_system"]}


def values(engine: Engine, table: str, columns: str) -> list[list]:
    return engine.sql(f'select {columns} from "{table}" order by _partition, _offset')


def reasons(engine: Engine, table: str) -> list[str]:
    return [row[0] for row in engine.sql(f'select reason from "{table}__rejected" order by _partition, _offset')]


# Life


def test_a_table_is_made_listed_changed_and_deleted(shared):
    shared.post("topics", {"name": "life", "partitions": 2})
    shared.cli("tables", "create", "life", "--topic", "life", "--commit-every", "1s")
    made = shared.get("tables/life")
    assert (made["kind"], made["topic"], made["format"], made["partition_by"]) == ("append", "life", "json", ["day"])
    assert "life" in shared.tables() and "life" in shared.cli("tables", "list")
    shared.http("POST", "/api/v1/tables", {"name": "LIFE", "topic": "life"}).problem(409)
    shared.http("POST", "/api/v1/tables", {"name": "nowhere", "topic": "nothing"}).problem(404)
    shared.http("POST", "/api/v1/tables", {"name": "x__rejected", "topic": "life"}).problem(422)
    assert shared.http("DELETE", "/api/v1/topics/life").status == 409
    shared.cli("tables", "update", "life", "--commit-every", "2s", "--retention", "30d")
    settings = shared.get("tables/life")["settings"]
    assert settings["commit_seconds"] == 2 and settings["retention_milliseconds"] == 30 * 86_400_000
    publish(shared, "life", {"a": 1}, {"a": 2})
    settled(shared, "life")
    said = shared.cli("tables", "get", "life")
    assert "running" in said and "life" in said
    folder = tables.root(shared, "life")
    assert folder.is_dir()
    shared.cli("tables", "delete", "life", "--force")
    assert "life" not in shared.tables() and not folder.exists()
    shared.http("GET", "/api/v1/tables/life").problem(404)
    shared.cli("topics", "delete", "life", "--force")


def test_fresh_rows_are_seen_at_once_and_counted_once_while_commits_happen(shared):
    make(shared, "seam", partitions=2, commit_seconds=1, commit_bytes=64 << 10)
    sent = 0
    done = threading.Event()
    problem: list[str] = []
    seen: list[int] = []

    def count() -> None:
        last = 0
        while not done.is_set():
            found = shared.sql("select count(*), count(distinct (_partition, _offset)) from seam")[0]
            limit = sent + 50
            if found[0] != found[1] or not last <= found[0] <= limit:
                problem.append(f"{found} after {last}, at most {limit} were sent")
                return
            last = found[0]
            seen.append(last)

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    try:
        while len({one["number"] for one in tables.history(shared, "seam")}) < 6:
            publish(shared, "seam", *({"n": sent + i, "pad": "x" * 300} for i in range(50)), keys=[str(i) for i in range(50)])
            sent += 50
            if sent % 500 == 0:
                # Acknowledged is as good as seen: no row waits for a commit.
                until(lambda: shared.sql("select count(*) from seam")[0][0] >= sent, "rows are fresh", 2, every=0.005)
    finally:
        done.set()
        thread.join(30)
    assert not problem, problem
    assert len(seen) > 20
    caught_up(shared, "seam")
    assert shared.sql("select count(*) from seam") == [[sent]]


def test_max_staleness_reads_files_only(shared):
    make(shared, "stale", commit_seconds=3600)
    publish(shared, "stale", {"a": 1})
    settled(shared, "stale")
    publish(shared, "stale", {"a": 2})
    caught_up(shared, "stale")
    ask = ("sql", "select count(*) as n from stale")
    assert shared.ask(*ask) == [{"n": 2}]
    assert shared.ask(*ask, "--max-staleness", "1h") == [{"n": 1}]
    # The fresh row is older than that at once.
    assert until(lambda: shared.ask(*ask, "--max-staleness", "1ms") == [{"n": 2}], "an old row is shown")
    commit(shared, "stale")
    assert shared.ask(*ask, "--max-staleness", "1h") == [{"n": 2}]


def test_old_commits_can_be_read_by_number_and_time(shared):
    make(shared, "past", commit_seconds=3600)
    numbers, times = [], []
    for index in range(3):
        publish(shared, "past", {"a": index} if index < 2 else {"a": index, "later": "x"})
        settled(shared, "past")
        last = tables.history(shared, "past")[-1]
        numbers.append(last["number"])
        times.append(last["time"])
        until(lambda: datetime.datetime.now(datetime.UTC).isoformat() > times[-1][:19] + "Z", "a second passes")
    shared.post("tables/past/compact")
    for index, number in enumerate(numbers):
        assert shared.sql(f'select count(*) from "past@{number}"') == [[index + 1]]
        assert shared.ask("sql", "--as-of", f"past={number}", "select max(a) as m from past") == [{"m": index}]
        assert shared.ask("sql", "--as-of", f"past={times[index]}", "select max(a) as m from past") == [{"m": index}]
    assert shared.sql(f'select max(a) from "past@{times[1]}"') == [[1]]
    shared.http("POST", "/api/v1/sql", {"sql": f'select later from "past@{numbers[0]}"'}).problem(422)
    shared.http("POST", "/api/v1/sql", {"sql": 'select * from "past@99"'}).problem(404)
    shared.http("POST", "/api/v1/sql", {"sql": 'select * from "past@1999-01-01T00:00:00Z"'}).problem(404)
    shared.http("POST", "/api/v1/sql", {"sql": 'select * from "past@yesterday"'}).problem(422)


# Columns


def test_columns_are_added_widened_and_found_in_any_order_and_case(shared):
    make(shared, "shape")
    publish(shared, "shape", {"a": 1, "b": "x"}, {"b": "y", "a": 2}, {"A": 3}, {"c": True, "a": None})
    settled(shared, "shape")
    assert types(shared, "shape") == {"a": "BIGINT", "b": "VARCHAR", "c": "BOOLEAN"}
    publish(shared, "shape", {"a": 1.5}, {"d": {"x": [1]}, "e": 10**30}, {"f": [1, {"y": None}]})
    settled(shared, "shape")
    assert types(shared, "shape") == {
        "a": "DOUBLE", "b": "VARCHAR", "c": "BOOLEAN", "d": "JSON", "e": "DECIMAL(38,0)", "f": "JSON",
    }  # fmt: skip
    assert values(shared, "shape", "a, b, c") == [
        [1, "x", None], [2, "y", None], [3, None, None], [None, None, True], [1.5, None, None], [None] * 3, [None] * 3,
    ]  # fmt: skip
    assert shared.sql("select e::varchar from shape where e is not null") == [[str(10**30)]]
    assert shared.sql("select d -> 'x' ->> 0, f ->> 0 from shape where d is not null or f is not null order by _offset") == [
        ["1", None], [None, "1"],
    ]  # fmt: skip
    assert reasons(shared, "shape") == []


def test_conflicts_become_rejects_which_replay_after_a_fix(shared):
    make(shared, "conflict")
    publish(
        shared, "conflict", {"a": 1, "x": 1}, {"a": "text"}, {"x": {"deep": 1}}, {"a": 2, "x": 7}, b"no json", b"[1]", b"",
        b'{"a":1,"a":2}', b'{"_offset":1}', b'\xff{"a":1}', {"new": 1, "a": {}},
    )  # fmt: skip
    settled(shared, "conflict")
    assert values(shared, "conflict", "a, x") == [[1, 1], [2, 7]]
    assert len(reasons(shared, "conflict")) == 9 and all(reasons(shared, "conflict"))
    assert "new" not in types(shared, "conflict"), "a reject changed the columns"
    held = shared.sql("select decode(value), _topic from conflict__rejected where _offset in (1, 4) order by _offset")
    assert held == [['{"a": "text"}', "conflict"], ["no json", "conflict"]]
    shared.cli("tables", "update", "conflict", "--column", "x=JSON", "--column", "a=VARCHAR")
    done = shared.post("tables/conflict/replay")
    assert (done["replayed"], done["still_rejected"]) == (3, 6)
    assert values(shared, "conflict", "_offset, a, x::varchar, new") == [
        [0, "1", "1", None], [1, "text", None, None], [2, None, '{"deep": 1}', None], [3, "2", "7", None], [10, "{}", None, 1],
    ]  # fmt: skip
    assert len(reasons(shared, "conflict")) == 6
    assert shared.post("tables/conflict/replay")["replayed"] == 0
    tables.check_history(shared, "conflict")
    tables.check_files(shared, "conflict")


def test_rejects_that_still_do_not_fit_get_the_reason_they_have_now(shared):
    make(shared, "reasons", columns={"n": "BIGINT"})
    publish(shared, "reasons", {"n": "text"}, b"no json")
    settled(shared, "reasons")
    before = reasons(shared, "reasons")
    assert "BIGINT" in before[0]
    shared.cli("tables", "update", "reasons", "--column", "n=DOUBLE")
    done = shared.post("tables/reasons/replay")
    assert (done["replayed"], done["still_rejected"]) == (0, 2) and done["commit"]["kind"] == "replay", done
    after = reasons(shared, "reasons")
    assert "DOUBLE" in after[0] and "BIGINT" not in after[0] and after[1] == before[1]
    tables.check_files(shared, "reasons")
    tables.check_history(shared, "reasons")
    # Nothing else to say: no commit.
    again = shared.post("tables/reasons/replay")
    assert again.get("commit") is None and (again["replayed"], again["still_rejected"]) == (0, 2)
    # A record that fits leaves; the other stays, with its reason.
    shared.cli("tables", "update", "reasons", "--column", "n=VARCHAR")
    assert shared.post("tables/reasons/replay")["replayed"] == 1
    assert reasons(shared, "reasons") == before[1:] and values(shared, "reasons", "n") == [["text"]]


def test_text_in_files_is_read_when_its_column_becomes_json(shared):
    """The fix that a reject names must not make unreadable what is there."""
    make(shared, "tojson")
    publish(shared, "tojson", {"city": "Bern"}, {"city": "42"})
    settled(shared, "tojson")
    shared.cli("tables", "commit", "tojson")
    publish(shared, "tojson", {"city": 5})
    settled(shared, "tojson")
    [reason] = reasons(shared, "tojson")
    assert "martlet tables update tojson --column city=JSON" in reason
    shared.cli("tables", "update", "tojson", "--column", "city=JSON")
    assert shared.post("tables/tojson/replay")["replayed"] == 1
    assert values(shared, "tojson", "city::varchar") == [['"Bern"'], ['"42"'], ["5"]]
    shared.cli("tables", "compact", "tojson")
    assert values(shared, "tojson", "city::varchar") == [['"Bern"'], ['"42"'], ["5"]]


def test_fields_named_as_the_folders_are_rejected(shared):
    make(shared, "folders")
    publish(shared, "folders", {"record_day": "mine", "a": 1}, {"Record_Hour": 3, "a": 2}, {"a": 3})
    settled(shared, "folders")
    assert values(shared, "folders", "a") == [[3]]
    assert all("folder" in reason for reason in reasons(shared, "folders")) and len(reasons(shared, "folders")) == 2
    refused = shared.run("tables", "create", "folders2", "--topic", "folders", "--column", "record_day=VARCHAR")
    assert refused.returncode != 0 and "record_day" in refused.stderr


def test_declared_columns_and_what_becomes_of_other_fields(shared):
    make(
        shared, "strict", unknown_fields="reject",
        columns={"id": "BIGINT", "fare": "DECIMAL(10,2)", "moment": "TIMESTAMP", "date": "DATE", "text": "VARCHAR"},
    )  # fmt: skip
    publish(
        shared, "strict", {"id": 5.0, "fare": "12.50", "moment": "2026-11-21T12:10:00Z", "date": "2026-11-21", "text": {"a": 1}},
        {"id": 1.5}, {"fare": 1.005}, {"moment": "soon"}, {"other": 1}, {"ID": 7, "text": "x"},
    )  # fmt: skip
    settled(shared, "strict")
    assert values(shared, "strict", "id, fare::varchar, moment::varchar, date::varchar, text") == [
        [5, "12.50", "2026-11-21 12:10:00", "2026-11-21", '{"a": 1}'], [7, None, None, None, "x"],
    ]  # fmt: skip
    said = reasons(shared, "strict")
    assert [word in reason for word, reason in zip(("id", "fare", "moment", "other"), said, strict=True)] == [True] * 4, said
    shared.cli("tables", "update", "strict", "--unknown", "ignore")
    publish(shared, "strict", {"id": 8, "other": 1})
    settled(shared, "strict")
    assert shared.sql("select count(*) from strict") == [[3]] and "other" not in types(shared, "strict")
    # Narrower is refused and changes nothing.
    assert shared.run("tables", "update", "strict", "--column", "text=BIGINT").returncode != 0
    assert types(shared, "strict")["text"] == "VARCHAR"


def test_declared_columns_that_a_crash_kept_from_the_table_come_with_the_next_start(make_engine):
    """A crash between the two halves of `tables update --column`: the settings have the column, no commit has."""
    engine = make_engine()
    engine.start()
    make(engine, "halves", columns={"n": "BIGINT"})
    publish(engine, "halves", {"n": 1})
    settled(engine, "halves")
    assert engine.stop() == 0
    with contextlib.closing(sqlite3.connect(engine.data / "catalog.sqlite")) as catalog:
        (spec,) = catalog.execute("select spec from tables where name = 'halves'").fetchone()
        changed = json.loads(spec)
        changed["columns"] = [{"name": "n", "type": "DOUBLE"}, {"name": "late", "type": "DATE"}]
        catalog.execute("update tables set spec = ? where name = 'halves'", (json.dumps(changed),))
        catalog.commit()
    # What another program changes is refused as damage while this is there.
    (engine.data / "catalog.sqlite-mark").unlink()
    engine.start()
    assert types(engine, "halves") == {"n": "DOUBLE", "late": "DATE"}
    assert values(engine, "halves", "n, late") == [[1.0, None]]
    publish(engine, "halves", {"n": 1.5, "late": "2026-01-02"})
    settled(engine, "halves")
    assert values(engine, "halves", "n, late") == [[1.0, None], [1.5, "2026-01-02"]]
    engine.kill()
    engine.start()
    assert types(engine, "halves") == {"n": "DOUBLE", "late": "DATE"}
    assert values(engine, "halves", "n, late") == [[1.0, None], [1.5, "2026-01-02"]]


def test_functions_cannot_write_to_the_name_of_an_append_table(engine):
    make(engine, "mine")
    engine.function("write", """
def handler(ctx, event):
    ctx.tables[event.get_data()["table"]].upsert([{"id": 1}], key=["id"])
""")
    source = engine.source("writes")
    link = {"source": "writes", "destination": "write", "config": {"retries": 0}}
    pipe = engine.pipeline("writing", {"write": {}}, [link])
    source.send(*(source.event(name, {"table": name}) for name in ["Mine", "mine__rejected", "free"]))
    pipe.wait()
    assert {letter["event"]["id"] for letter in engine.dead_letters("writing")} == {"Mine", "mine__rejected"}
    assert all("follows a topic" in letter["error"] for letter in engine.dead_letters("writing"))
    assert engine.sql("select id from free") == [[1]]
    engine.cli("tables", "delete", "mine", "--force")
    source.send(source.event("again", {"table": "mine"}))
    pipe.wait()
    assert engine.sql("select id from mine") == [[1]], "the name is free again"


def test_words_for_now_leave_files_out_as_functions_do(shared):
    make(shared, "when", columns={"made": "TIMESTAMP"}, partition_by="none", commit_seconds=3600)
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    for days in [400, 300, 200, 100, 0]:
        publish(shared, "when", {"made": (now - datetime.timedelta(days=days)).isoformat()})
        settled(shared, "when")
    for word in ["now()", "current_timestamp", "CURRENT_TIMESTAMP", "localtimestamp", "current_date"]:
        query = f"select count(*) from \"when\" where made > {word} - interval 150 day"
        assert shared.sql(query) == [[2]], word
        assert tables.files_read(shared, query) == 2, word
    # A column of that name is that column.
    make(shared, "named", columns={"made": "TIMESTAMP", "current_timestamp": "TIMESTAMP"}, commit_seconds=3600)
    for days in [400, 300, 200, 100, 0]:
        made = (now - datetime.timedelta(days=days)).isoformat()
        publish(shared, "named", {"made": made, "current_timestamp": "2000-01-01T00:00:00"})
        settled(shared, "named")
    query = "select count(*) from named where made > current_timestamp - interval 1 day"
    assert shared.sql(query) == shared.sql(query.replace("from named", "from (select * from named offset 0)"))


def test_all_tables_are_listed_in_sql(shared):
    make(shared, "listed")
    shared.cli("sql", "--write", "create table kept (id integer primary key)")
    names = [row[0] for row in shared.sql("show tables")]
    assert {"listed", "kept", "system.logs", "system.engine_events"} <= set(names) and names == sorted(names)
    assert not any("offsets" in name or "rejected" in name for name in names)
    found = {row[0]: row[1:] for row in shared.sql("select name, kind, topic from system.tables")}
    assert found["listed"] == ["append", "listed"] and found["kept"] == ["function", None]
    assert shared.cli("sql", "--format", "csv", "SHOW TABLES;").split()[0] == "name"


def test_raw_tables_hold_the_bytes(shared):
    make(shared, "bytes", format="raw")
    publish(shared, "bytes", b"\x00\xff", b"", {"a": 1}, keys=["k", "", "ü"])
    settled(shared, "bytes")
    assert values(shared, "bytes", "hex(value), hex(key)") == [["00FF", "6B"], ["", ""], ["7B2261223A20317D", "C3BC"]]
    assert shared.sql("select count(*) from bytes__rejected") == [[0]]


# Partitions


def test_rows_are_in_folders_by_hour_day_and_declared_column(shared):
    cities = ["Bern", "a/b", "../up", "ü=1", "", "NULL", "null", "__HIVE_DEFAULT_PARTITION__", "%2F", None, "x y", "'q'"]
    make(shared, "places", partition_by=["day", "city"], columns={"city": "VARCHAR"})
    make(shared, "hours", "places", partition_by=["hour"])
    make(shared, "plain", "places", partition_by=["none"])
    publish(shared, "places", *({"city": city, "n": i} for i, city in enumerate(cities)))
    for name in ("places", "hours", "plain"):
        settled(shared, name)
        assert values(shared, name, "n, city") == [[i, city] for i, city in enumerate(cities)], name
        tables.check_files(shared, name)
    today = shared.sql("select distinct record_day, strftime(_timestamp, '%Y-%m-%d') from places")
    assert today[0][0] == today[0][1]
    assert (tables.root(shared, "places") / f"rows/record_day={today[0][0]}/city=Bern").is_dir()
    hour = shared.sql("select distinct record_hour from hours")[0][0]
    assert (tables.root(shared, "hours") / f"rows/record_hour={hour}").is_dir()
    assert not [path for path in tables.root(shared, "plain").rglob("*=*")]
    assert shared.sql("select n from places where city = 'Bern'") == [[0]]
    publish(shared, "places", *({"city": city, "n": 100 + i} for i, city in enumerate(cities)))
    settled(shared, "places")
    before = shared.get("tables/places")["files"]
    shared.post("tables/places/compact")
    assert shared.get("tables/places")["files"] < before
    assert values(shared, "places", "n, city") == [[n + i, city] for n in (0, 100) for i, city in enumerate(cities)]


# Housekeeping


def test_compaction_merges_while_queries_run_and_answers_stay(shared):
    make(shared, "merge", commit_seconds=3600)
    for index in range(12):
        publish(shared, "merge", *({"n": index * 10 + i} for i in range(10)))
        settled(shared, "merge")
    done, problem, asked = threading.Event(), [], [0]

    def ask() -> None:
        while not done.is_set():
            found = shared.sql("select count(*), sum(n)::bigint, count(distinct _offset) from merge")
            asked[0] += 1
            if found != [[120, 7140, 120]]:
                problem.append(found)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    result = shared.post("tables/merge/compact")
    until(lambda: asked[0] > 10, "queries run")
    done.set()
    thread.join(30)
    assert not problem, problem
    assert result["files_after"] == 1 and result["files_before"] > 1
    assert len(list(tables.root(shared, "merge").glob("rows/*/*.parquet"))) == 1
    tables.check_history(shared, "merge")
    tables.check_files(shared, "merge")
    assert shared.post("tables/merge/compact").get("commit") is None


def test_retention_by_age_and_size_and_the_end_of_history(make_engine):
    engine = make_engine()
    engine.start()
    make(engine, "aged", retention="30d", history_seconds=0, commit_seconds=1)
    make(engine, "sized", retention_bytes=1 << 20, history_seconds=0, commit_seconds=1)
    publish(engine, "aged", {"n": 0})
    assert engine.stop() == 0
    old = [(1_577_836_800_000 + i, json.dumps({"n": 100 + i}).encode()) for i in range(5)]
    tables.append_batch(next((engine.data / "log/topics/aged/0").glob("*.log")), old)
    engine.start()
    publish(engine, "aged", {"n": 1})
    until(lambda: "retention" in [one["kind"] for one in tables.history(engine, "aged")], "old rows are removed")
    assert engine.sql("select n from aged order by n") == [[0], [1]]
    chance = random.Random(1)
    for _ in range(8):
        publish(engine, "sized", *({"pad": chance.randbytes(1000).hex()} for _ in range(200)))
        settled(engine, "sized")
    until(lambda: engine.get("tables/sized")["bytes"] <= 1 << 20, "the table is small enough")
    left = engine.sql("select min(_offset), max(_offset), count(*) from sized")[0]
    assert left[0] > 0 and left[1] == 1599 and left[2] == 1600 - left[0], "it is not the oldest that went"
    for name in ("aged", "sized"):
        until(lambda: len(tables.listed(engine, name).kept) == len(tables.listed(engine, name)), "the files of old commits go")
        tables.check_files(engine, name)
        tables.check_history(engine, name)
    gone = engine.http("POST", "/api/v1/sql", {"sql": 'select * from "sized@3"'}).problem(404)
    assert "gone" in gone["detail"]


# Damage


def test_repair_finds_every_damage_says_what_it_would_do_and_keeps_the_rest(make_engine):
    engine = make_engine()
    engine.start()
    make(engine, "hurt", commit_seconds=3600)
    for index in range(6):
        publish(engine, "hurt", *({"n": index * 100 + i, "pad": f"{i}" * 50} for i in range(100)))
        settled(engine, "hurt")
    folder = tables.root(engine, "hurt")
    files = sorted(tables.listed(engine, "hurt"), key=lambda path: pq.read_table(folder / path, columns=["n"])["n"][0].as_py())
    assert len(files) == 6
    cut, flipped, deleted, hidden, linked, _ = (folder / path for path in files)
    os.truncate(cut, cut.stat().st_size // 2)
    data = bytearray(flipped.read_bytes())
    for at in range(100, len(data) // 2):
        data[at] ^= 0xFF
    flipped.write_bytes(data)
    deleted.unlink()
    (folder / "rows" / deleted.relative_to(folder / "files/rows")).unlink()
    # What outside readers see of it is still there.
    linked.unlink()
    orphan = folder / "files/rows/record_day=2020-01-01/orphan.parquet"
    orphan.parent.mkdir()
    orphan.write_bytes(hidden.read_bytes())
    (folder / "rows" / hidden.relative_to(folder / "files/rows")).unlink()
    stranger = folder / "rows/stranger.parquet"
    stranger.write_bytes(hidden.read_bytes())
    for path in (orphan, stranger):
        # Younger ones could be of a commit under way.
        os.utime(path, (0, 0))
    refused = engine.http("POST", "/api/v1/sql", {"sql": "select sum(n), max(pad) from hurt"})
    assert refused.status >= 400 and "repair" in refused.json["detail"] + str(refused.json.get("fix")), refused.body

    before = tables.present(folder)
    would = engine.post("tables/hurt/repair?dry_run=true")["data"]
    assert tables.present(folder) == before and not any(one["is_done"] for one in would)
    said = {Path(one["path"]).name: one for one in would}
    wanted = {
        cut.name: ("damaged_file", 100), flipped.name: ("damaged_file", 100), deleted.name: ("missing_file", 100),
        linked.name: ("missing_file", 0), orphan.name: ("orphan_file", 0),
    }  # fmt: skip
    assert {name: (one["kind"], one["rows_lost"]) for name, one in said.items() if name in wanted} == wanted
    assert all(one["problem"] and one["action"] for one in would)
    printed = engine.cli("tables", "repair", "hurt", "--dry-run")
    assert cut.name in printed and "damaged" in printed
    assert set(said) >= {hidden.name, stranger.name}, "what outside readers see is not looked at"

    done = engine.post("tables/hurt/repair")["data"]
    assert {(one["kind"], one["path"]) for one in done} == {(one["kind"], one["path"]) for one in would}
    assert all(one["is_done"] for one in done)
    assert engine.post("tables/hurt/repair?dry_run=true")["data"] == []
    assert engine.sql("select count(*), min(n), max(n), count(distinct n) from hurt") == [[300, 300, 599, 300]]
    assert len(list((folder / "damaged").iterdir())) == 2
    outside = pq.read_table(folder / "rows")
    assert sorted(outside["n"].to_pylist()) == list(range(300, 600))
    publish(engine, "hurt", {"n": 600})
    until(lambda: engine.sql("select count(*) from hurt") == [[301]], "it goes on")
    commit(engine, "hurt")
    assert tables.check_history(engine, "hurt")[-2]["kind"] == "repair"
    engine.kill()
    engine.start()
    assert engine.sql("select count(*) from hurt") == [[301]]


def test_a_damaged_catalog_is_refused_clearly(make_engine):
    engine = make_engine()
    engine.start()
    make(engine, "kept")
    publish(engine, "kept", {"n": 1})
    settled(engine, "kept")
    assert engine.stop() == 0
    catalog = engine.data / "catalog.sqlite"
    whole = catalog.read_bytes()
    chance = random.Random(7)
    for start, end in ((0, 100), (4096, len(whole))):
        data = bytearray(whole)
        for _ in range(max(50, (end - start) // 20)):
            data[chance.randrange(start, end)] ^= 0xFF
        catalog.write_bytes(data)
        engine.launch()
        assert engine.process.wait(30) not in (0, -6, -11), "it started or crashed"
        assert "catalog" in engine.log_tail(3000) and "Fatal error" not in engine.log_tail(3000)
    catalog.write_bytes(whole)
    engine.start()
    assert engine.sql("select n from kept") == [[1]]


def test_a_full_disk_in_a_commit_loses_nothing_and_it_goes_on_by_itself(make_engine):
    engine = make_engine()
    folder = engine.data / "tables/append"
    mount_in_memory(folder, "-o", "size=700k")
    try:
        engine.start()
        make(engine, "full", commit_seconds=1)
        publish(engine, "full", {"n": -1, "pad": ""})
        settled(engine, "full")
        chance = random.Random(3)
        for index in range(6):
            publish(engine, "full", *({"n": index * 500 + i, "pad": chance.randbytes(400).hex()} for i in range(500)))
        state = until(lambda: (found := engine.get("tables/full"))["state"] != "running" and found, "it says that it is stuck")
        assert "space" in state["reason"].lower() or "full" in state["reason"].lower(), state
        assert "state" in engine.cli("tables", "get", "full").lower()
        # What was committed and what waits can be read all the while.
        assert engine.sql("select count(*), count(distinct n) from \"full\"") == [[3001, 3001]]
        engine.kill()
        engine.start()
        caught_up(engine, "full")
        until(lambda: engine.get("tables/full")["state"] != "running", "it is stuck again")
        subprocess.run(["mount", "-o", "remount,size=200m", folder], check=True)
        until(lambda: engine.get("tables/full")["state"] == "running", "it goes on", 60)
        settled(engine, "full")
        assert engine.sql('select count(*), count(distinct n), count(distinct _offset) from "full"') == [[3001, 3001, 3001]]
        tables.check_history(engine, "full")
        engine.kill()
        engine.start()
        tables.check_files(engine, "full")
        assert engine.stop() == 0
    finally:
        engine.kill()
        subprocess.run(["umount", folder], check=True)


# Clocks


def test_records_of_any_time_become_rows_or_rejects(make_engine):
    engine = make_engine()
    engine.start()
    make(engine, "times", commit_seconds=1)
    make(engine, "flat", "times", partition_by=["none"], commit_seconds=1)
    publish(engine, "times", {"n": 0})
    assert engine.stop() == 0
    moments = [
        0, -1, -62_135_596_800_000, -62_135_596_800_001, -100_000_000_000_000, 253_402_300_800_000, 9_000_000_000_000_000,
        2**53, 2**62, -(2**62), 2**63 - 1, -(2**63), 4_102_444_800_000,
    ]  # fmt: skip
    records = [(time, json.dumps({"n": i}).encode()) for i, time in enumerate(moments, 1)]
    tables.append_batch(next((engine.data / "log/topics/times/0").glob("*.log")), records)
    engine.start()
    publish(engine, "times", {"n": 99})
    for name in ("times", "flat"):
        settled(engine, name)
        found = engine.sql(
            f"select n, epoch_ms(_timestamp) from {name} union all"
            f" select (decode(value)::json ->> 'n')::bigint, null from {name}__rejected order by 1"
        )
        assert [row[0] for row in found] == [*range(len(moments) + 1), 99]
        for n, time in found[1:-1]:
            assert time in (None, moments[n - 1]), "a time was changed"
        assert dict(found)[1] == 0 and dict(found)[2] == -1 and dict(found)[len(moments)] == moments[-1]
        engine.post(f"tables/{name}/compact")
        tables.check_files(engine, name)
    assert engine.sql("select n from times where _timestamp < timestamp '1970-01-01' and _timestamp > timestamp '1969-01-01'") == [[2]]


@pytest.mark.skipif(not FAKETIME.exists(), reason="needs libfaketime")
def test_a_clock_that_jumps_back_and_forth_costs_nothing(make_engine, monkeypatch):
    engine = make_engine()
    # The library changes the environment of the first program it is loaded into, where Swift's own looks for the arguments.
    wrapper = engine.directory / "martlet"
    wrapper.write_text(f'#!/bin/sh\nexec {harness.PROGRAM} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(harness, "PROGRAM", wrapper)
    for index, jump in enumerate(("+400d", "-400d", "+0d")):
        engine.settings |= {"LD_PRELOAD": str(FAKETIME), "FAKETIME": jump, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        engine.start()
        if index == 0:
            make(engine, "jump", commit_seconds=1)
        publish(engine, "jump", *({"n": index * 10 + i} for i in range(10)))
        settled(engine, "jump")
        assert engine.sql("select count(*), count(distinct n) from jump") == [[(index + 1) * 10] * 2]
        tables.check_history(engine, "jump")
        engine.kill()
    engine.start()
    assert engine.sql("select count(distinct record_day), count(*) from jump") == [[3, 30]], "the clock did not jump"
    tables.check_files(engine, "jump")


# Anything


class Anything:
    """Random JSON and what is nearly JSON."""

    WORDS = ["a", "b", "c", "é", "\u0000", "\U0001f600", "😀b", "x" * 255, "x" * 256, "ß", "A", "select", 'q"q', "a.b", "'", " ", ""]

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def scalar(self) -> str:
        chance = self.chance
        return chance.choice([
            "null", "true", "false", "0", "-0", "1.5", str(chance.randrange(-(2**63), 2**63)), str(2**63), str(-(2**63) - 1),
            str(2**53 + 1), str(10**37), str(10**38), "9" * 400, "1e400", "-1e-400", "1e308", "0.1e1", "1E+2", "123456789.123456789",
            json.dumps(chance.choice(self.WORDS)), r'"\ud800"', r'"\ud83d\ude00"', r'"\u0000"', '"2026-11-21"', '""',
            json.dumps("long" * chance.randrange(3000)),
        ])  # fmt: skip

    def value(self, depth: int) -> str:
        chance = self.chance
        kind = chance.random() if depth > 0 else 0
        if kind < 0.6:
            return self.scalar()
        if kind < 0.75:
            return "[" + ",".join(self.value(depth - 1) for _ in range(chance.randrange(4))) + "]"
        if kind < 0.97:
            return self.object(depth - 1)
        levels = chance.choice([50, 500, 5000])
        return "[" * levels + "]" * levels

    def object(self, depth: int = 3) -> str:
        chance = self.chance
        names = [chance.choice(self.WORDS[:6] if chance.random() < 0.8 else self.WORDS) for _ in range(chance.randrange(5))]
        space = chance.choice(["", " ", "\n\t "])
        return "{" + ",".join(f"{space}{json.dumps(name)}{space}:{space}{self.value(depth)}" for name in names) + "}"

    def record(self) -> bytes:
        text = self.object().encode()
        kind = self.chance.random()
        if kind < 0.03 and text:
            at = self.chance.randrange(len(text))
            return text[:at] + bytes([self.chance.randrange(256)]) + text[at + 1 :]
        if kind < 0.05:
            return text[: self.chance.randrange(len(text))]
        if kind < 0.07:
            return b"\xef\xbb\xbf" + text
        return text


def holds(value, held) -> bool:
    """Whether a column holds what the record said."""
    if isinstance(held, str) and (not isinstance(value, str) or held != value):
        return json.loads(held) == value
    if isinstance(held, Decimal):
        return held == value
    return held == value and isinstance(held, bool) == isinstance(value, bool)


def test_whatever_comes_is_in_the_table_or_the_rejects(make_engine):
    seed = int(os.environ.get("MARTLET_TEST_SEED") or random.randrange(2**31))
    print(f"MARTLET_TEST_SEED={seed}")
    engine = make_engine()
    engine.start()
    make(engine, "any", partitions=2, commit_seconds=1, commit_bytes=64 << 10)
    made = Anything(seed)
    sent: dict[str, bytes] = {}
    for index in range(15):
        batch = {f"{index}-{i}": made.record() for i in range(100)}
        sent |= batch
        tables.send(engine, "any", [tables.event(id, value, id) for id, value in batch.items()])
    table = settled(engine, "any", 60)
    assert table["state"] == "running"
    files = tables.check_files(engine, "any")
    stored = {(number, one.offset): one for number, part in engine.records("any").items() for one in part}
    rows, rejects = list(tables.rows_of(files)), list(tables.rows_of(files, "rejects"))
    places = [(row["_partition"], row["_offset"]) for row in rows + rejects]
    assert sorted(places) == sorted(stored) and len(stored) == len(sent)
    assert len(rows) > 100 and len(rejects) > 20
    for row in rejects:
        one = stored[row["_partition"], row["_offset"]]
        assert (row["value"] or b"") == (one.value or b"") and row["reason"]
    for row in rows:
        one = stored[row["_partition"], row["_offset"]]
        columns = {name.lower(): held for name, held in row.items()}
        for name, value in json.loads(one.value).items():
            held = columns.get(name.lower())
            assert (held is None) == (value is None) and (value is None or holds(value, held)), (name, one.value[:300], held)
    # The engine is as well as before.
    publish(engine, "any", {"a": None})
    caught_up(engine, "any")
    done = engine.post("tables/any/replay")
    assert done["still_rejected"] + done["replayed"] == len(rejects)
