# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Table writes, transactions and emitted events as they reach the gateway."""

import pytest
from conftest import SPAN, TRACE, attempt

PARENT = "00-%s-%s-01" % (TRACE, SPAN)


def test_upsert_and_delete_commit_at_once(start, gateway):
    worker = start(
        """
        def handler(ctx, event):
            files = ctx.tables["files"]
            n = files.upsert([{"path": "a", "size": 1}, {"path": "b", "note": "x"}], key=["path"])
            m = files.upsert({"path": "c"}, key="path")
            d = ctx.tables["parts"].delete({"file_path": "a"})
            e = ctx.tables["parts"].delete([{"file_path": "a", "junk": 1}], key=["file_path"])
            return [n, m, d, e, files.upsert([], key=["path"])]
        """
    )
    assert worker.invoke([attempt()])[0][4] == [{"data": [2, 1, 1, 1, 0]}]
    commits = gateway.of("/v1/tables/commit")
    assert [len(commit["operations"]) for commit in commits] == [1, 1, 1, 1]
    assert commits[0] == {
        "traceparent": PARENT,
        "operations": [
            {
                "op": "upsert",
                "table": "files",
                "key": ["path"],
                "columns": ["path", "size", "note"],
                "rows": [["a", 1, None], ["b", None, "x"]],
            }
        ],
    }
    assert commits[2]["operations"] == [{"op": "delete", "table": "parts", "columns": ["file_path"], "rows": [["a"]]}]
    assert commits[3]["operations"] == commits[2]["operations"]
    path, _, headers = next(call for call in gateway.calls if call[0] == "/v1/tables/commit")
    assert headers["Authorization"] == "Bearer secret-token" and headers["Martlet-Worker"] == "w1"


def test_transactions_are_one_commit_or_none(start, gateway):
    worker = start(
        """
        def handler(ctx, event):
            with ctx.transaction() as outer:
                ctx.tables["a"].upsert({"k": 1}, key=["k"])
                ctx.tables["b"].delete({"k": 2})
                try:
                    with ctx.transaction():
                        ctx.tables["a"].upsert({"k": "inner"}, key=["k"])
                        raise KeyError("inner")
                except KeyError:
                    pass
                with ctx.transaction():
                    ctx.tables["c"].upsert({"k": 3}, key=["k"])
                ctx.emit("later", {"n": 1})
            counted = outer.result
            try:
                with ctx.transaction():
                    ctx.tables["a"].upsert({"k": 9}, key=["k"])
                    ctx.emit("never", {})
                    raise ValueError("discard")
            except ValueError:
                pass
            with ctx.transaction():
                pass
            ctx.tables["d"].upsert({"k": 4}, key=["k"])
            return counted
        """
    )
    result = worker.invoke([attempt()])[0]
    assert result[4][0]["data"] == {
        name: {"upserted": u, "deleted": d} for name, u, d in (("a", 1, 0), ("b", 0, 1), ("c", 1, 0))
    }
    commits = [[(o["op"], o["table"], o["rows"]) for o in c["operations"]] for c in gateway.of("/v1/tables/commit")]
    assert commits == [
        [("upsert", "a", [[1]]), ("delete", "b", [[2]]), ("upsert", "c", [[3]])],
        [("upsert", "d", [[4]])],
    ]
    assert [body["topic"] for body in gateway.of("/v1/emit")] == ["later"]
    order = [path for path, _, _ in gateway.calls if path in ("/v1/tables/commit", "/v1/emit")]
    assert order == ["/v1/tables/commit", "/v1/emit", "/v1/tables/commit"]


def test_transactions_belong_to_their_thread_or_task(start, gateway):
    worker = start(
        """
        import time
        def handler(ctx, event):
            with ctx.transaction():
                for step in range(3):
                    ctx.tables["t"].upsert({"event": event.id, "step": step}, key=["event", "step"])
                    time.sleep(0.02)
        """
    )
    worker.invoke([attempt(n) for n in range(20)])
    commits = gateway.of("/v1/tables/commit")
    assert len(commits) == 20
    for commit in commits:
        rows = [operation["rows"][0] for operation in commit["operations"]]
        assert len({event for event, _ in rows}) == 1 and [step for _, step in rows] == [0, 1, 2]


def test_async_transactions(start, gateway):
    worker = start(
        """
        import asyncio
        async def handler(ctx, event):
            async with ctx.transaction() as tx:
                for step in range(2):
                    ctx.tables["t"].upsert({"event": event.id, "step": step}, key=["event"])
                    await asyncio.sleep(0.02)
            return tx.result["t"]["upserted"]
        """
    )
    results = worker.invoke([attempt(n) for n in range(8)])
    assert [result[4][0]["data"] for result in results] == [2] * 8
    for commit in gateway.of("/v1/tables/commit"):
        assert len({operation["rows"][0][0] for operation in commit["operations"]}) == 1
        assert len(commit["operations"]) == 2


def test_engine_refusal_is_a_table_error(start, gateway):
    gateway.refuse["/v1/tables/commit"] = (
        422,
        {"title": "Bad", "detail": "column size of table files is BIGINT, not VARCHAR"},
    )
    worker = start(
        """
        import martlet
        def handler(ctx, event):
            try:
                ctx.tables["files"].upsert({"k": 1}, key=["k"])
            except martlet.TableError as error:
                return str(error)
        """
    )
    assert worker.invoke([attempt()])[0][4][0]["data"] == "column size of table files is BIGINT, not VARCHAR"


def test_values(start, gateway):
    worker = start(
        """
        import datetime, decimal, enum, math, pathlib, uuid
        import numpy as np
        zone = datetime.timezone(datetime.timedelta(hours=2))
        class Color(str, enum.Enum):
            RED = "red"
        def handler(ctx, event):
            ctx.tables["v"].upsert({
                "k": 1, "none": None, "flag": True, "big": 2**63 - 1, "huge": 2**64, "one": 1.0, "nan": math.nan,
                "inf": -math.inf, "bytes": b"ab", "naive": datetime.datetime(2026, 4, 8, 15, 41, 29, 591955),
                "aware": datetime.datetime(2026, 4, 8, 17, 41, 29, tzinfo=zone), "date": datetime.date(2026, 4, 8),
                "dec": decimal.Decimal("12.30"), "i8": np.int8(-3), "u64": np.uint64(2**64 - 1), "f32": np.float32(0.5),
                "nf": np.float64("nan"), "b": np.bool_(True), "arr": np.array([1.5, np.nan]), "s": np.str_("x"),
                "dt": np.datetime64("2026-04-08T15:41:29"), "nat": np.datetime64("NaT"),
                "list": [1, math.inf, datetime.date(2026, 1, 1)],
                "obj": {"a": [decimal.Decimal("1.5"), math.nan], 2: datetime.datetime(2026, 1, 1)},
                "path": pathlib.Path("a/b"), "uuid": uuid.UUID(int=1), "enum": Color.RED, "bad": "a\\udcff",
            }, key=["k"])
        """
    )
    result = worker.invoke([attempt()])[0]
    assert result[1] == "ok", result
    operation = gateway.of("/v1/tables/commit")[0]["operations"][0]
    row = dict(zip(operation["columns"], operation["rows"][0]))
    assert row == {
        "k": 1,
        "none": None,
        "flag": True,
        "big": 2**63 - 1,
        "huge": {"$decimal": "18446744073709551616"},
        "one": 1.0,
        "nan": {"$float": "NaN"},
        "inf": {"$float": "-Infinity"},
        "bytes": {"$bytes": "YWI="},
        "naive": {"$timestamp": "2026-04-08T15:41:29.591955Z"},
        "aware": {"$timestamp": "2026-04-08T15:41:29Z"},
        "date": {"$date": "2026-04-08"},
        "dec": {"$decimal": "12.30"},
        "i8": -3,
        "u64": {"$decimal": "18446744073709551615"},
        "f32": 0.5,
        "nf": {"$float": "NaN"},
        "b": True,
        "arr": [1.5, {"$float": "NaN"}],
        "s": "x",
        "dt": {"$timestamp": "2026-04-08T15:41:29Z"},
        "nat": None,
        "list": [1, {"$float": "Infinity"}, {"$date": "2026-01-01"}],
        "obj": {"a": ["1.5", None], "2": "2026-01-01T00:00:00Z"},
        "path": "a/b",
        "uuid": "00000000-0000-0000-0000-000000000001",
        "enum": "red",
        "bad": "a?",
    }


@pytest.mark.parametrize(
    "call, message",
    [
        ("t.upsert([{'a': 1}], key=[])", "needs key"),
        ("t.upsert([{'a': 1}], key=['b'])", "key column 'b' is in none"),
        ("t.upsert([{'a': 1}, {'a': None}], key=['a'])", "row 1 has no value for the key column 'a'"),
        ("t.upsert([1], key=['a'])", "row 0 is int, not a dict"),
        ("t.upsert('x', key=['a'])", "rows must be dicts"),
        ("t.upsert({'a b': 1}, key=['a b'])", "column name 'a b'"),
        ("t.upsert([{'a': 1, 'b': object()}], key=['a'])", "row 0, column b: a builtins.object cannot be stored"),
        ("t.upsert([{'a': 1, 'b': {'$date': 1}}], key=['a'])", "looks like a tagged value"),
        ("t.delete([{'a': 1}, {'b': 1}])", "lacks column"),
        ("tables['no-such']", "table name 'no-such'"),
    ],
)
def test_mistakes_are_named(call, message):
    import martlet
    from martlet.tables import MemorySink, Tables

    tables = Tables(MemorySink(lambda line: None))
    with pytest.raises(martlet.TableError, match=message.replace("(", "\\(")):
        eval(call, {"t": tables["t"], "tables": tables})


def test_row_limit():
    import martlet
    from martlet.tables import MemorySink, Tables

    tables = Tables(MemorySink(lambda line: None))
    with pytest.raises(martlet.TableError, match="1000001 rows"):
        tables["t"].upsert([{"k": 1}] * 1_000_001, key=["k"])
    with pytest.raises(martlet.TableError, match="64 MiB"):
        tables["t"].upsert([{"k": "x" * 1_000_000}] * 68, key=["k"])


def test_emit(start, gateway):
    worker = start(
        """
        import martlet
        from martlet import VastEvent
        def handler(ctx, event):
            counts = [
                ctx.emit("orders", {"n": 1}, key="k1", type="acme:Order.New", color="red"),
                ctx.emit("orders", [VastEvent({"id": "a"}, 1), VastEvent({"id": "b"}, 2)]),
                ctx.emit("orders", b"\\x00"),
                ctx.emit("orders", [1, 2]),
                ctx.emit("orders", event),
            ]
            problems = []
            for call in (lambda: ctx.emit("", 1), lambda: ctx.emit("t", 1, BAD=1), lambda: ctx.emit("t", object())):
                try:
                    call()
                except martlet.EmitError as error:
                    problems.append(str(error))
            return [counts, problems]
        """
    )
    counts, problems = worker.invoke([attempt()])[0][4][0]["data"]
    assert counts == [1, 2, 1, 1, 1] and len(problems) == 3
    bodies = gateway.of("/v1/emit")
    assert len(bodies) == 5
    first = bodies[0]["events"][0]
    assert bodies[0]["topic"] == "orders" and first["data"] == {"n": 1} and first["partitionkey"] == "k1"
    assert first["type"] == "acme:Order.New" and first["color"] == "red" and first["traceparent"] == PARENT
    assert first["source"] == "vastdata.com:inspector-1" and first["specversion"] == "1.0" and len(first["id"]) == 36
    assert [event["id"] for event in bodies[1]["events"]] == ["a", "b"]
    assert bodies[1]["events"][0]["type"] == "vastdata.com:Function"
    assert bodies[2]["events"][0]["data_base64"] == "AA==" and "data" not in bodies[2]["events"][0]
    assert bodies[3]["events"][0]["data"] == [1, 2]
    forwarded = bodies[4]["events"][0]
    assert forwarded["id"] == "1004356627333135" and "martletattempt" not in forwarded
    gateway.refuse["/v1/emit"] = (404, {"detail": "topic orders does not exist; create it first"})
    failed = worker.invoke([attempt()])[0]
    assert failed[5]["type"] == "EmitError" and "topic orders does not exist" in failed[5]["message"]
