# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""SQL statements over REST: pages, Arrow, cancellation, limits, rights, and readers while rows are written."""

import datetime
import decimal
import json
import math
import threading
import time
import uuid
from pathlib import Path

import pyarrow as pa
import pytest
from harness import until

ARROW = "application/vnd.apache.arrow.stream"
ENDLESS = "select sum(a.range * b.range) from range(3000000000) a, range(1000) b"
TOKEN, READER = "all-rights-0123456789", "only-reading-0123456789"


def start(engine, sql, **fields):
    return engine.post("statements", {"sql": sql, **fields})


def page(engine, statement, accept="application/json", **query):
    words = "&".join(f"{name}={value}" for name, value in query.items())
    return engine.http("GET", f"/api/v1/statements/{statement['id']}/rows?{words}", headers={"Accept": accept})


def whole_page(engine, statement, accept="application/json", **query):
    """A page, however long it takes."""
    return until(
        lambda: (answer := page(engine, statement, accept, **query)).status != 202 and answer, "the page", 60
    )  # fmt: skip


def run(engine, sql, **fields):
    """All rows of a statement."""
    statement = start(engine, sql, **fields)
    rows, cursor = [], None
    while True:
        answer = whole_page(engine, statement, **({"cursor": cursor} if cursor else {}))
        assert answer.status == 200, answer.body
        rows += answer.json["rows"]
        cursor = answer.json["next_cursor"]
        if cursor is None:
            return rows


def table(engine, sql, page_size=10_000):
    """All rows of a statement as an Arrow table."""
    statement, cursor, found = start(engine, sql), None, []
    while True:
        query = {"page_size": page_size} | ({"cursor": cursor} if cursor else {})
        answer = whole_page(engine, statement, ARROW, **query)
        assert answer.status == 200, answer.body
        assert answer.headers.get_content_type() == ARROW
        found.append(pa.ipc.open_stream(answer.body).read_all())
        cursor = answer.headers["X-Next-Cursor"]
        if cursor is None:
            return pa.concat_tables(found)


def cpu_ticks(engine):
    """Hundredths of a second of processor time the engine has used."""
    return int(Path(f"/proc/{engine.process.pid}/stat").read_text().rpartition(")")[2].split()[11])


def test_pages_follow_each_other_and_the_last_can_be_read_again(engine):
    made = engine.http("POST", "/api/v1/statements", {"sql": "select range as n from range(25000)"})
    assert made.status == 201
    statement = made.json
    assert made.headers["Location"] == f"/api/v1/statements/{statement['id']}"
    assert statement["state"] in ("queued", "running", "finished")
    first = whole_page(engine, statement, page_size=10_000).json
    assert [row[0] for row in first["rows"]] == list(range(10_000))
    assert first["columns"] == [{"name": "n", "type": "BIGINT"}]
    again = page(engine, statement, page_size=10_000).json
    assert again == first
    second = whole_page(engine, statement, page_size=10_000, cursor=first["next_cursor"]).json
    assert [row[0] for row in second["rows"]] == list(range(10_000, 20_000))
    # The same page in the other form, as a client may choose after a failure.
    other = page(engine, statement, ARROW, cursor=first["next_cursor"])
    assert pa.ipc.open_stream(other.body).read_all()["n"].to_pylist() == list(range(10_000, 20_000))
    page(engine, statement).problem(409, "failedPrecondition")
    page(engine, statement, cursor=99).problem(409, "failedPrecondition")
    page(engine, statement, cursor="x").problem(422, "invalid")
    last = whole_page(engine, statement, page_size=10_000, cursor=second["next_cursor"]).json
    assert len(last["rows"]) == 5_000 and last["next_cursor"] is None
    status = engine.get(f"statements/{statement['id']}")
    assert status["state"] == "finished" and status["rows_read"] == 25_000 and status["progress"]["fraction"] == 1
    engine.api("DELETE", f"statements/{statement['id']}")
    engine.http("GET", f"/api/v1/statements/{statement['id']}").problem(404, "notFound")


def test_an_error_says_where(engine):
    statement = start(engine, "select 1,\n  foo(2)")
    problem = whole_page(engine, statement).problem(422, "invalid")
    assert "foo" in problem["detail"] and "LINE 2" in problem["detail"]
    error = engine.get(f"statements/{statement['id']}")["error"]
    assert (error["line"], error["column"]) == (2, 3)
    for sql, word in (("selec 1", "syntax"), ("select 1; select 2", "One SQL statement"), ("from nowhere", "nowhere")):
        assert word in whole_page(engine, start(engine, sql)).problem(422, "invalid")["detail"]
    # An error in the middle of the rows comes as one too.
    late = start(engine, "select case when range = 90000 then error('late') else range end from range(100000)")
    cursor, seen = None, 0
    while True:
        answer = whole_page(engine, late, page_size=5000, **({"cursor": cursor} if cursor else {}))
        if answer.status != 200:
            assert "late" in answer.json["detail"]
            break
        seen += len(answer.json["rows"])
        cursor = answer.json["next_cursor"]
        assert cursor is not None and seen < 100_000
    for body in ({}, {"sql": 1}, {"sql": "select 1", "timeout_seconds": 0}, {"sql": "select 1", "write": 1},
                 {"sql": "select 1", "max_staleness": -1}, {"sql": "select 1", "as_of": {"t": 1}}, {"sql": "x", "y": 1}):  # fmt: skip
        engine.http("POST", "/api/v1/statements", body).problem(422, "invalid")


def test_progress_is_told_and_delete_interrupts(engine):
    statement = start(engine, ENDLESS, timeout_seconds=600)
    answer = page(engine, statement, wait_ms=100)
    assert answer.status == 202 and answer.json["id"] == statement["id"]
    seen = until(
        lambda: (now := engine.get(f"statements/{statement['id']}"))["progress"]["fraction"] > 0 and now, "progress"
    )  # fmt: skip
    assert seen["state"] == "running" and seen["progress"]["rows_total"] > 0
    waiting = []
    reader = threading.Thread(target=lambda: waiting.append(page(engine, statement, wait_ms=30_000)))
    reader.start()
    assert statement["id"] in [one["id"] for one in engine.items("statements?active=true")]
    began = time.monotonic()
    engine.api("DELETE", f"statements/{statement['id']}")
    reader.join(10)
    waiting[0].problem(409, "failedPrecondition")
    assert time.monotonic() - began < 5
    assert engine.get(f"statements/{statement['id']}")["state"] == "cancelled"
    # DuckDB has really stopped: its threads are free again.
    assert run(engine, "select 42") == [[42]]
    before = cpu_ticks(engine)
    time.sleep(0.5)
    assert cpu_ticks(engine) - before < 40


def test_time_limits_count_work_and_not_reading(engine):
    statement = start(engine, ENDLESS, timeout_seconds=1)
    problem = whole_page(engine, statement, wait_ms=20_000).problem(504, "timeout")
    assert "time limit" in problem["detail"]
    statement = start(engine, "select range, repeat('x', 2000) from range(100000)", timeout_seconds=1)
    first = whole_page(engine, statement, page_size=100).json
    time.sleep(1.5)
    assert len(whole_page(engine, statement, page_size=100, cursor=first["next_cursor"]).json["rows"]) == 100
    engine.api("DELETE", f"statements/{statement['id']}")


def test_a_statement_nobody_asks_for_ends(make_engine):
    engine = make_engine(settings={"MARTLET_SQL_IDLE_SECONDS": "1"})
    engine.start()
    statement = start(engine, ENDLESS)
    path = "statements?mine=true"
    until(lambda: [one["state"] for one in engine.items(path)] == ["cancelled"], "it is cancelled")
    until(lambda: engine.items(path) == [], "it is forgotten")
    engine.http("GET", f"/api/v1/statements/{statement['id']}").problem(404, "notFound")


def test_there_are_only_so_many(engine):
    made = [engine.http("POST", "/api/v1/statements", {"sql": ENDLESS}) for _ in range(20)]
    assert [answer.status for answer in made] == [201] * 16 + [503] * 4
    made[-1].problem(503, "unavailable")
    for answer in made[:16]:
        engine.api("DELETE", f"statements/{answer.json['id']}")
    assert run(engine, "select 1") == [[1]]


VALUES = {
    "boolean": (["true", "false", None], [True, False, None]),
    "tinyint": (["-128", None, "127"], [-128, None, 127]),
    "smallint": (["-32768", "1"], [-32768, 1]),
    "integer": (["-2147483648", None], [-2147483648, None]),
    "bigint": (["-9223372036854775808", "9223372036854775807"], [-(2**63), 2**63 - 1]),
    "utinyint": (["255"], [255]),
    "usmallint": (["65535"], [65535]),
    "uinteger": (["4294967295"], [2**32 - 1]),
    "ubigint": (["18446744073709551615", None], [2**64 - 1, None]),
    "hugeint": (["-99999999999999999999999999999999999999", None, "1"], [decimal.Decimal(-(10**38) + 1), None, 1]),
    "uhugeint": (["340282366920938463463374607431768211455", None], [decimal.Decimal(2**128 - 1), None]),
    "float": (["1.5", "-0.25", None], [1.5, -0.25, None]),
    "double": (["1e300", "inf", None], [1e300, math.inf, None]),
    "decimal(4,1)": (["-999.9", None, "0.1"], [decimal.Decimal("-999.9"), None, decimal.Decimal("0.1")]),
    "decimal(9,2)": (["1234567.89"], [decimal.Decimal("1234567.89")]),
    "decimal(18,3)": (["-123456789012345.678"], [decimal.Decimal("-123456789012345.678")]),
    "decimal(38,10)": (["1234567890123456789012345678.0123456789", None],
                       [decimal.Decimal("1234567890123456789012345678.0123456789"), None]),
    "varchar": (["", "short", "a string of more than twelve bytes", "grüße 日本 🙂", None],
                ["", "short", "a string of more than twelve bytes", "grüße 日本 🙂", None]),
    "blob": (["\\x00\\xFF", "", None], [b"\x00\xff", b"", None]),
    "uuid": (["00000000-0000-0000-0000-000000000001", "ffffffff-0000-4000-8000-00000000000a", None],
             [uuid.UUID(int=1), uuid.UUID("ffffffff-0000-4000-8000-00000000000a"), None]),
    "date": (["1969-12-31", "2026-11-21", None], [datetime.date(1969, 12, 31), datetime.date(2026, 11, 21), None]),
    "time": (["23:59:59.123456"], [datetime.time(23, 59, 59, 123456)]),
    "timestamp": (["2026-11-21 10:11:12.123456", None], [datetime.datetime(2026, 11, 21, 10, 11, 12, 123456), None]),
    "timestamp_s": (["2026-11-21 10:11:12"], [datetime.datetime(2026, 11, 21, 10, 11, 12)]),
    "timestamp_ms": (["2026-11-21 10:11:12.123"], [datetime.datetime(2026, 11, 21, 10, 11, 12, 123000)]),
    "timestamptz": (["2026-11-21 10:11:12+00"], [datetime.datetime(2026, 11, 21, 10, 11, 12, tzinfo=datetime.UTC)]),
    "json": (['{"a": [1, null]}', None], ['{"a": [1, null]}', None]),
    "integer[]": (["[1, NULL, 3]", "[]", None], [[1, None, 3], [], None]),
    "varchar[][]": (['[["a long string, longer than twelve", NULL], []]', None],
                    [[["a long string, longer than twelve", None], []], None]),
    "integer[2]": (["[1, 2]", None], [[1, 2], None]),
}  # fmt: skip


def test_arrow_gives_every_type_back(engine):
    for kind, (texts, wanted) in VALUES.items():
        rows = ", ".join(f"({i}, {'NULL' if text is None else chr(39) + text + chr(39)}::{kind})" for i, text in enumerate(texts))
        sql = f"select v from (values {rows}) t(i, v) order by i"
        found = table(engine, sql)
        assert found["v"].to_pylist() == wanted, (kind, found.schema)
        found.validate(full=True)
    nested = table(engine, """
        select {'a': 1, 'b': [{'c': 'x'}, NULL], 'd': NULL::date} as s, map {'k': 1, 'l': NULL} as m, NULL as n,
        'b'::enum('a', 'b') as e, interval '14 months 3 days 1 second' as i, timestamp_ns '2026-01-01 00:00:00.123456789' as t
        union all by name select NULL::struct(a integer, b struct(c varchar)[], d date) as s""")  # fmt: skip
    nested.validate(full=True)
    assert nested["t"].cast(pa.int64())[0].as_py() == 1767225600123456789
    nested = nested.drop_columns("t")
    row = nested.to_pylist()[0]
    assert row["s"] == {"a": 1, "b": [{"c": "x"}, None], "d": None}
    assert row["m"] == [("k", 1), ("l", None)] and row["n"] is None and row["e"] == "b"
    assert (row["i"].months, row["i"].days, row["i"].nanoseconds) == (14, 3, 1_000_000_000)
    assert nested.to_pylist()[1]["s"] is None
    assert nested["n"].null_count == 2


def test_arrow_pages_equal_json_pages(engine):
    sql = """select range as n, case when range % 3 = 0 then null else range::varchar || repeat('x', (range % 40)::int) end as s,
        case when range % 7 = 0 then null else [range, null, range * 2] end as l, range % 2 = 0 as b from range(20011)"""
    found = table(engine, sql, page_size=3333)
    found.validate(full=True)
    assert [list(row.values()) for row in found.to_pylist()] == run(engine, sql)
    empty = table(engine, "select 1 as a, 'x' as b where false")
    assert empty.num_rows == 0 and empty.schema.names == ["a", "b"]
    problem = whole_page(engine, start(engine, "select '101'::bit as b"), ARROW).problem(422, "invalid")
    assert "cast" in problem["detail"]


def test_csv_pages_behind_each_other_are_one_file(engine):
    sql = """select range as n, case when range % 3 = 0 then null when range % 3 = 1 then '' else 'a "b", ' || range end as s
        from range(2500)"""
    statement, cursor, pages = start(engine, sql), None, []
    while cursor is not None or not pages:
        query = {"page_size": 1000} | ({"cursor": cursor} if cursor else {})
        answer = whole_page(engine, statement, "text/csv", **query)
        assert answer.status == 200 and answer.headers.get_content_type() == "text/csv", answer.body[:500]
        pages.append(answer.body.decode())
        cursor = answer.headers["X-Next-Cursor"]
    assert len(pages) == 3
    assert "".join(pages) == engine.http("POST", "/api/v1/sql", {"sql": sql}, headers={"Accept": "text/csv"}).body.decode()
    assert "".join(pages).startswith('n,s\r\n0,\r\n1,""\r\n2,"a ""b"", 2"\r\n')


def test_statements_write_only_when_they_say_so(engine):
    for sql in ("create table t(a int primary key, b varchar)", "drop table t", "insert into t values (1, 'x')"):
        whole_page(engine, start(engine, sql)).problem(422, "invalid")
    assert run(engine, "create table t(a int primary key, b varchar)", write=True) == []
    statement = start(engine, "insert into t select range, 'x' from range(10)", write=True)
    answer = whole_page(engine, statement).json
    assert answer == {"columns": [], "next_cursor": None, "rows": [], "rows_changed": 10}
    assert run(engine, "update t set b = 'y' where a < 3 returning a", write=True) == [[0], [1], [2]]
    assert run(engine, "delete from t where a > 5", write=True) == []
    assert run(engine, "select count(*), count(*) filter (b = 'y') from t", write=True) == [[6, 3]]
    assert engine.get("tables/t")["rows"] == 6
    for sql in (
        "attach ':memory:' as m", "copy t to '/tmp/martlet-x.csv'", "copy (from t) to 'exports/x.csv'", "load json",
        "install httpfs", "set memory_limit = '9GB'", "set global threads = 9", "pragma threads = 9", "checkpoint", "begin",
        "export database '/tmp/martlet-x'", "import database '/tmp/martlet-x'", "call enable_logging()", "use main", "vacuum",
        "create table x as from read_csv('/etc/passwd')", "insert into t select 1, content from read_text('/etc/passwd')",
        "set enable_progress_bar = false", "prepare p as select 1", "create secret (type s3)", "detach memory",
        "with x as (insert into t values (7, 'q') returning a) from x", "create table __fresh.main.x as select 1 as a",
        "drop table __fresh.main.rows1",
    ):  # fmt: skip
        answer = whole_page(engine, start(engine, sql, write=True))
        assert answer.status in (422, 404), (sql, answer.status, answer.body)
    assert engine.http("POST", "/api/v1/sql", {"sql": "insert into t values (100, '')"}).status == 422
    assert run(engine, "drop table t", write=True) == []
    assert {name for name in engine.tables() if not name.startswith("system.")} == set()


def test_the_read_token_only_reads(make_engine):
    engine = make_engine(settings={"MARTLET_TOKEN": TOKEN, "MARTLET_READ_TOKEN": READER})
    engine.start()
    run(engine, "create table t as select 1 as a", write=True)
    kept = start(engine, "from t")
    engine.token = READER
    assert run(engine, "select * from t") == [[1]]
    assert engine.sql("from t") == [[1]]
    assert "t" in {table["name"] for table in engine.items("tables")}
    for path in ("views", "logs", "traces", "engine", "pipelines", "secrets", "topics"):
        engine.get(path)
    refused = [
        ("POST", "statements", {"sql": "drop table t", "write": True}), ("POST", "views", {"name": "v"}),
        ("POST", "topics", {"name": "x"}), ("POST", "topics/events/events", {"a": 1}), ("DELETE", "tables/t", None),
        ("POST", "secrets", {}), ("PUT", "functions/x", {}), ("POST", "bundles", b"x"), ("POST", "pipelines/x/deploy", {}),
        ("POST", "dead-letters/redrive", {"ids": ["1"]}),
    ]  # fmt: skip
    for method, path, body in refused:
        problem = engine.http(method, f"/api/v1/{path}", body).problem(403, "forbidden")
        assert "read" in problem["detail"], problem
    # Statements of others are not there, one's own can be cancelled.
    engine.http("GET", f"/api/v1/statements/{kept['id']}").problem(404)
    engine.http("DELETE", f"/api/v1/statements/{kept['id']}").problem(404)
    mine = start(engine, ENDLESS)
    assert {one["id"] for one in engine.items("statements?active=true")} == {mine["id"]}
    engine.api("DELETE", f"statements/{mine['id']}")
    engine.token = TOKEN
    assert {mine["id"], kept["id"]} <= {one["id"] for one in engine.items("statements")}
    engine.token = READER[:-1]
    engine.http("GET", "/api/v1/tables").problem(401, "unauthenticated")
    done = engine.run("sql", "drop table t", "--write", "--token", READER)
    assert done.returncode == 6 and "only read" in done.stderr
    assert "1" in engine.run("sql", "from t", "--token", READER).stdout


@pytest.mark.parametrize("settings", [{"MARTLET_READ_TOKEN": READER},
                                      {"MARTLET_READ_TOKEN": TOKEN, "MARTLET_TOKEN": TOKEN}])  # fmt: skip
def test_a_read_token_alone_is_refused(make_engine, settings):
    engine = make_engine(settings=settings)
    assert engine.launch().wait(30) != 0
    assert "read token" in engine.log_tail()


def test_a_query_larger_than_memory_spills_and_a_bound_holds_for_it_alone(make_engine):
    engine = make_engine(settings={"MARTLET_TABLES_MEMORY_MIB": "96", "MARTLET_TABLES_SPILL_MIB": "4096"})
    engine.start()
    big = "select n, s from (select hash(range) as n, md5(range::varchar) as s from range(3000000)) order by n, s"
    statement = start(engine, big, timeout_seconds=300)
    folder = engine.data / "tables" / "tmp"
    until(lambda: any(folder.iterdir()) if folder.exists() else False, "it spills", 60, every=0.05)
    first = whole_page(engine, statement, page_size=5).json["rows"]
    assert [int(row[0]) for row in first] == sorted(int(row[0]) for row in first)
    engine.api("DELETE", f"statements/{statement['id']}")
    assert run(engine, f"select count(*), sum(n::hugeint) is not null from ({big})", timeout_seconds=300)[0][0] == 3_000_000
    engine.stop()
    engine.settings["MARTLET_TABLES_SPILL_MIB"] = "16"
    engine.start()
    statement = start(engine, big, timeout_seconds=300)
    small = [run(engine, "select 42") for _ in range(5)]
    problem = whole_page(engine, statement, wait_ms=60_000).problem(507, "storageFull")
    assert "tables.spill-mib" in problem["fix"], problem
    assert small == [[[42]]] * 5 and run(engine, "select 43") == [[43]]
    until(lambda: sum(path.stat().st_size for path in folder.iterdir()) <= 17 << 20, "the bound holds on disk")
    # The space is free again for the next one.
    medium = "select n, s from (select hash(range) as n, md5(range::varchar) as s from range(1100000)) order by n, s"
    assert run(engine, f"select count(*) from ({medium})", timeout_seconds=300) == [[1_100_000]]


def test_many_readers_while_writes_go_on(engine):
    run(engine, "create table accounts as select range as id, 100 as money from range(1000)", write=True)
    move = "update accounts set money = money + case id when {0} then -1 else 1 end where id in ({0}, {0} + 1)"
    stop, faults, counts = threading.Event(), [], [0] * 8

    def write() -> None:
        number = 0
        try:
            while not stop.is_set():
                number += 1
                run(engine, move.format(number % 999), write=True)
        except Exception as error:
            faults.append(error)

    def read(index: int) -> None:
        try:
            while not stop.is_set():
                rows = run(engine, "select sum(money), count(*) from accounts")
                assert [int(value) for value in rows[0]] == [100_000, 1000], rows
                listed = run(engine, "select money from accounts order by id")
                assert len(listed) == 1000
                counts[index] += 1
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=write)] + [threading.Thread(target=read, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(5)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not faults, faults[:3]
    assert min(counts) > 0, counts


def test_json_rows_are_what_post_sql_gives(engine):
    sql = """select 1 as a, 1.5 as d, 'a"b\n' as s, null as n, [1, null] as l, {'x': 'y'} as o, 'NaN'::double as f,
        170141183460469231731687303715884105727::hugeint as h, date '2026-01-02' as t, '{"k":[1]}'::json as j, true as b"""
    assert run(engine, sql) == engine.sql(sql)
    assert json.loads(json.dumps(run(engine, "select ? as a, ? as b", parameters=[1, "x"]))) == [[1, "x"]]
