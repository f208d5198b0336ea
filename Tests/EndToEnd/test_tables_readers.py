# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Programs outside read an append table's folder as docs/tables.md says and get what `martlet sql` gives; SQL gives what DuckDB alone gives."""

import datetime
import glob
import json
import os
import random
import re
import textwrap
from pathlib import Path
from typing import Any

import append_tables as tables
import duckdb
import pytest
from harness import ROOT, Engine, until

PAGE = (ROOT / "docs/tables.md").read_text()
EXAMPLES = [text for text in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "/data/tables/append/trips" in text]


def example(library: str) -> str:
    """The piece of code that the page gives for a library."""
    found = [text for text in EXAMPLES if re.search(rf"\b{library}\b", text)]
    assert len(found) == 1, f"docs/tables.md has {len(found)} examples with {library}"
    return found[0]


def run(text: str, folder: Path) -> Any:
    """What an example calls `trips`, for a table's own folder."""
    scope: dict = {}
    exec(textwrap.dedent(text).replace("/data/tables/append/trips/rows", str(folder / "rows")), scope)  # noqa: S102
    return scope["trips"]


def plain(value: Any) -> Any:
    """A value in one form, whichever reader gave it."""
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex().upper()
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, float) or value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def in_order(rows: list[dict]) -> list[dict]:
    found = [{name: plain(value) for name, value in row.items()} for row in rows]
    return sorted(found, key=lambda row: (row["_partition"], row["_offset"]))


def by_duckdb(folder: Path) -> list[dict]:
    found = run(example("duckdb"), folder)
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def by_pyarrow(folder: Path) -> list[dict]:
    # The example filters by a day; all rows are the same call without.
    text = re.sub(r"to_table\(filter=.*\) if", "to_table() if", example("pyarrow"))
    assert "to_table()" in text
    return run(text, folder).to_pylist()


def by_polars(folder: Path) -> list[dict]:
    return run(example("polars"), folder).to_dicts()


READERS = {"duckdb": by_duckdb, "pyarrow": by_pyarrow, "polars": by_polars}


def by_engine(engine: Engine, table: str) -> list[dict]:
    """The rows by `martlet sql`, with what JSON has no form for as text."""
    types = {one["name"]: one["type"] for one in engine.get(f"tables/{table}")["columns"]}
    terms = []
    for name, type in types.items():
        column = f'"{name}"'
        if type == "BLOB":
            terms.append(f"hex({column})")
        elif type == "TIMESTAMP":
            terms.append(f"strftime({column}, '%Y-%m-%d %H:%M:%S.%f')")
        elif name in ("_headers", "headers"):
            terms.append(f"list_transform({column}, lambda h: {{'key': h.key, 'value': hex(h.value)}})")
        elif type.startswith(("DECIMAL", "DATE", "JSON", "HUGEINT")):
            terms.append(f"{column}::varchar")
        else:
            terms.append(column)
    rows = engine.sql(f'select {", ".join(terms)} from "{table}" order by _partition, _offset')
    return [dict(zip(types, row, strict=True)) for row in rows]


def check(engine: Engine, table: str) -> None:
    """All readers give what the engine gives."""
    wanted = by_engine(engine, table)
    assert wanted
    texts = {one["name"] for one in engine.get(f"tables/{table}")["columns"] if one["type"] == "JSON"}
    for name, read in READERS.items():
        found = in_order(read(tables.root(engine, table)))
        assert len(found) == len(wanted), name
        for one, other in zip(found, wanted, strict=True):
            folded = {column: value for column, value in one.items() if column in other}
            for column, value in other.items():
                if isinstance(value, str) and column in ("_headers", "headers"):
                    value = json.loads(value)
                held = folded.get(column)
                if name == "polars" and column in texts and held is not None:
                    # As the page says: JSON is bytes for it.
                    held = bytes.fromhex(held).decode()
                if isinstance(held, (int, float)) and isinstance(value, str):
                    held, value = float(held), float(value)
                if isinstance(held, str) and held.startswith("2026-11-2") and isinstance(value, str):
                    held = held[: len(value)]
                assert held == value, (name, column, held, value)
            strange = {column for column in set(one) - set(other) if not column.startswith("record_")}
            assert not strange, f"{name} sees {strange}"


@pytest.mark.parametrize("settings", [{}, {"partition_by": ["hour", "kind"]}, {"partition_by": ["none"]}], ids=["day", "nested", "none"])
def test_readers_give_the_rows_of_sql_through_changes_of_columns_and_compaction(shared, settings):
    name = "out_" + "_".join(settings.get("partition_by", ["day"]))
    tables.make(
        shared, name, partitions=2, commit_seconds=3600, columns={"kind": "VARCHAR", "price": "DECIMAL(12,3)", "born": "DATE"}, **settings
    )
    tables.publish(shared, name, *(
        {"kind": "a" if i % 2 else "b", "price": f"{i}.125", "born": "2026-11-21", "n": i, "flag": i % 3 == 0} for i in range(40)
    ), keys=[str(i) for i in range(40)])  # fmt: skip
    tables.settled(shared, name)
    check(shared, name)
    # A column joins, another widens, one is seldom there.
    tables.publish(shared, name, *(
        {"kind": "c é", "n": i + 0.5, "late": {"x": [i]}, "text": None if i % 2 else "ü'\"\n"} for i in range(40)
    ), keys=[str(i) for i in range(40)])  # fmt: skip
    tables.settled(shared, name)
    check(shared, name)
    # Fresh rows are in no file: only the engine has them.
    tables.publish(shared, name, {"kind": "a", "n": 1000})
    tables.caught_up(shared, name)
    assert len(by_duckdb(tables.root(shared, name))) == 80 and shared.sql(f"select count(*) from {name}") == [[81]]
    tables.commit(shared, name)
    shared.post(f"tables/{name}/compact")
    check(shared, name)
    assert len(by_engine(shared, name)) == 81


def test_readers_get_all_rows_while_files_have_columns_of_other_types(shared):
    """As after `tables update --column`, until files are merged; and after."""
    tables.make(shared, "out_types", commit_seconds=3600, columns={"price": "DECIMAL(12,3)", "born": "DATE", "name": "VARCHAR"})
    tables.publish(shared, "out_types", *(
        {"price": f"{i}.125", "born": "2026-11-21", "n": i, "flag": i % 3 == 0, "x": i + 0.5, "name": "Bern"} for i in range(20)
    ))  # fmt: skip
    tables.settled(shared, "out_types")
    shared.cli("tables", "update", "out_types", "--column", "price=VARCHAR", "--column", "born=TIMESTAMP", "--column", "n=VARCHAR",
               "--column", "flag=VARCHAR", "--column", "x=JSON")  # fmt: skip
    tables.publish(shared, "out_types", *(
        {"price": "free", "born": "2026-11-22T01:02:03Z", "n": "many", "flag": "maybe", "x": {"a": i}, "name": "Bern"} for i in range(20)
    ))  # fmt: skip
    tables.settled(shared, "out_types")
    folder = tables.root(shared, "out_types")
    for round in ("apart", "merged"):
        wanted = shared.sql("select _offset, n, price, flag, x::varchar, strftime(born, '%Y-%m-%d %H:%M:%S'), name from out_types order by 1")
        for name, read in READERS.items():
            rows = sorted(read(folder), key=lambda row: row["_offset"])
            found = [
                [row[column].decode() if isinstance(row[column], bytes) else row[column] for column in ("_offset", "n", "price", "flag", "x")]
                + [str(row["born"])[:19], row["name"]]
                for row in rows
            ]
            assert found == wanted, (name, round)
        assert shared.post("tables/out_types/compact")["files_after"] == 1 or round == "merged"


def test_readers_of_text_that_became_json(shared):
    tables.make(shared, "out_json", commit_seconds=3600, columns={"v": "VARCHAR"})
    tables.publish(shared, "out_json", {"v": "Bern"})
    tables.settled(shared, "out_json")
    shared.cli("tables", "update", "out_json", "--column", "v=JSON")
    tables.publish(shared, "out_json", {"v": {"a": 1}})
    tables.settled(shared, "out_json")
    folder = tables.root(shared, "out_json")
    for read in (by_pyarrow, by_polars):
        assert sorted(row["v"] for row in read(folder)) == ["Bern", '{"a": 1}']
    apart = run(example("duckdb"), folder)
    assert sorted(duckdb.sql("select * exclude (v) from apart").fetchall()), "the rest can be read"
    shared.post("tables/out_json/compact")
    assert sorted(row["v"] for row in by_duckdb(folder)) == ['"Bern"', '{"a": 1}']


def test_readers_of_a_table_without_rows(shared):
    tables.make(shared, "out_empty", commit_seconds=3600)
    folder = tables.root(shared, "out_empty")
    assert run(example("duckdb"), folder) is None
    assert run(example("pyarrow"), folder).num_rows == 0
    assert run(example("polars"), folder).height == 0


def test_raw_tables_read_the_same(shared):
    tables.make(shared, "out_raw", format="raw", commit_seconds=3600)
    tables.publish(shared, "out_raw", b"\x00\xff", b"", "ü", keys=["a", "b", ""])
    tables.settled(shared, "out_raw")
    check(shared, "out_raw")


def test_the_page_filters_by_the_folders_there_are(shared):
    tables.make(shared, "trips", commit_seconds=3600)
    tables.publish(shared, "trips", {"n": 1}, {"n": 2})
    tables.settled(shared, "trips")
    day = shared.sql("select distinct record_day from trips")[0][0]
    text = re.sub(r"== \"\d{4}-\d\d-\d\d\"", f'== "{day}"', example("pyarrow"))
    assert day in text and run(text, tables.root(shared, "trips")).num_rows == 2
    assert glob.glob(str(tables.root(shared, "trips") / f"rows/record_day={day}/*.parquet"))


# Golden queries and predicates


class Copy:
    """The same rows in DuckDB alone, from the JSON that was published."""

    COLUMNS = "place bigint, n bigint, x double, city varchar, big bigint, born date"

    def __init__(self) -> None:
        self.database = duckdb.connect()
        self.database.execute(f"create table rows({self.COLUMNS})")

    def ask(self, statement: str) -> list[tuple]:
        return self.database.execute(statement).fetchall()


CITIES = ["Bern", "Zürich", "Genève", "a", "", "zz", "Ärger"]


@pytest.fixture(scope="module")
def filled(shared):
    """Forty files, kept apart by a column of their own, of which each holds a range of numbers, and their rows in DuckDB alone."""
    chance = random.Random(11)
    copy = Copy()
    tables.make(
        shared, "many", commit_seconds=3600, partition_by=["part"],
        columns={"part": "BIGINT"} | {"n": "BIGINT", "x": "DOUBLE", "city": "VARCHAR", "big": "BIGINT", "born": "DATE"},
    )  # fmt: skip
    for file in range(40):
        rows = []
        for i in range(10 + 4 * file):
            n = file * 1000 + i
            rows.append({
                "part": file, "n": n if chance.random() > 0.05 else None, "x": chance.choice([n / 8, -n, 0.0, None]),
                "city": chance.choice([*CITIES, None]) if file % 3 else f"city{file}", "big": 2**53 + n,
                "born": str(datetime.date(2000, 1, 1) + datetime.timedelta(days=n // 10)),
            })  # fmt: skip
        place = shared.sql("select count(*) from many")[0][0]
        tables.publish(shared, "many", *rows)
        tables.settled(shared, "many")
        copy.database.executemany(
            "insert into rows values (?, ?, ?, ?, ?, ?)",
            [(place + i, row["n"], row["x"], row["city"], row["big"], row["born"]) for i, row in enumerate(rows)],
        )
    return shared, copy


GOLDEN = [
    "select count(*), sum(n)::bigint, min(city), max(x), count(distinct city) from {}",
    "select city, count(*) as c, round(avg(x), 6) from {} group by city order by city nulls first",
    "select n, x, rank() over (partition by city order by n desc nulls last, {place}) from {} where n < 2100 order by {place}",
    "select a.n, b.n from {} a join {} b on a.n = b.n + 1000 where a.n between 5000 and 5010 order by 1",
    "with t as (select n // 1000 as k, count(*) as c from {} where x is not null group by k) select * from t order by k nulls last",
    "select city from {} where city like 'Z%' or city = 'Genève' order by {place} limit 20",
    "select born::varchar, count(*) from {} group by born having count(*) > 9 order by 1",
    "select n from {} where n > (select avg(n) * 1.3 from {}) order by n",
    "select n from {} except select n from {} where x > 0 order by n nulls last limit 50",
    "select date_trunc('month', born)::varchar as m, max(big) from {} group by m order by m",
]


@pytest.mark.parametrize("statement", GOLDEN)
def test_queries_give_what_duckdb_alone_gives(filled, statement):
    engine, copy = filled
    found = engine.sql(statement.replace("{place}", "_offset").replace("{}", "many"))
    wanted = copy.ask(statement.replace("{place}", "place").replace("{}", "rows"))
    assert wanted and [tuple(row) for row in found] == wanted


class Predicates:
    """Random conditions over the columns of the tables."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def value(self, column: str) -> str:
        chance = self.chance
        n = chance.choice([chance.randrange(40_200), chance.randrange(40) * 1000, -1, 10**6])
        match column:
            case "n" | "{place}":
                return chance.choice([str(n), f"{n}.5", f"({n} + 1)", f"-{n}", f"{n}::bigint", f"'{n}'"])
            case "x":
                return chance.choice([str(n), f"{n / 8}", "-0.0", "1e3", "'nan'::double", "1e400" if chance.random() < 0.1 else "0"])
            case "big":
                return chance.choice([str(2**53 + n), f"{2**53 + n}.0", f"{2.0**53 + n:.1f}::double", str(10**30)])
            case "city":
                return "'" + chance.choice([*CITIES, "city3", "city30", "B", "Z", "z"]) + "'"
            case _:
                day = datetime.date(2000, 1, 1) + datetime.timedelta(days=n // 10)
                return chance.choice([f"date '{day}'", f"'{day}'", f"timestamp '{day} 12:00:00'", f"date '{day}' - interval 3 day"])

    def leaf(self) -> str:
        chance = self.chance
        column = chance.choice(["n", "{place}", "x", "big", "city", "born"])
        kind = chance.randrange(7)
        value = self.value
        if kind == 0:
            return f"{column} between {value(column)} and {value(column)}"
        if kind == 1:
            return f"{column} {chance.choice(['', 'not '])}in ({value(column)}, {value(column)}, {value(column)})"
        if kind == 2:
            return f"{column} is {chance.choice(['', 'not '])}null"
        sign = chance.choice(["=", "<", "<=", ">", ">=", "<>"])
        if kind == 3:
            return f"{value(column)} {sign} {column}"
        return f"{column} {sign} {value(column)}"

    def condition(self, depth: int = 2) -> str:
        chance = self.chance
        if depth == 0 or chance.random() < 0.4:
            return self.leaf()
        if chance.random() < 0.15:
            return f"not ({self.condition(depth - 1)})"
        return f"({self.condition(depth - 1)}) {chance.choice(['and', 'and', 'or'])} ({self.condition(depth - 1)})"


def test_random_predicates_give_what_duckdb_alone_gives(filled):
    seed = int(os.environ.get("MARTLET_TEST_SEED") or random.randrange(2**31))
    print(f"MARTLET_TEST_SEED={seed}")
    engine, copy = filled
    made = Predicates(seed)
    some = 0
    for _ in range(250):
        condition = made.condition()
        statement = f"select count(*), coalesce(sum({{place}}), 0)::bigint from {{}} where {condition}"
        try:
            wanted = copy.ask(statement.replace("{place}", "place").replace("{}", "rows"))
        except duckdb.Error:
            continue
        found = engine.sql(statement.replace("{place}", "_offset").replace("{}", "many"))
        assert [tuple(row) for row in found] == wanted, condition
        some += 0 < wanted[0][0]
    assert some > 50, "the predicates chose nothing"


def test_a_point_query_opens_few_files(filled):
    engine, copy = filled
    files = engine.get("tables/many")["files"]
    assert files >= 10, "there is nothing to leave out"
    assert tables.files_read(engine, "select sum(n) from many") == files
    last = copy.ask("select max(place) from rows")[0][0]
    for condition in (
        "n = 39001", "n between 39000 and 39009", "39001 = n", "n in (39001, 39002)", f"_offset = {last}", f"_offset > {last - 3}",
        "big = 9007199254780000", "born = date '2010-09-05'", "n = 39001 and city is not null",
    ):  # fmt: skip
        count = tables.files_read(engine, f"select * from many where {condition}")
        assert count <= 3, f"{condition} reads {count} of {files} files"
    assert tables.files_read(engine, "select * from many where n > 5 or city = 'a'") <= files


def test_days_and_times_choose_files(make_engine):
    engine = make_engine()
    engine.start()
    tables.make(engine, "days", commit_seconds=1)
    assert engine.stop() == 0
    start = 1_577_880_000_000  # 2020-01-01T12:00Z
    records = [(start + day * 86_400_000, json.dumps({"n": day}).encode()) for day in range(100)]
    tables.append_batch(next((engine.data / "log/topics/days/0").glob("*.log")), records)
    engine.start()
    tables.publish(engine, "days", {"n": 100})
    tables.settled(engine, "days")
    until(lambda: engine.get("tables/days")["files"] >= 101, "a file for each day")
    for condition, most, rows in (
        ("record_day = '2020-02-01'", 1, 1),
        ("record_day in ('2020-02-01', '2020-02-02')", 2, 2),
        ("record_day between '2020-01-10' and '2020-01-12'", 3, 3),
        ("record_day >= '2020-04-01'", 10, 10),
        ("_timestamp >= timestamp '2020-03-01' and _timestamp < timestamp '2020-03-03'", 2, 2),
        ("_timestamp >= '2020-03-01' and _timestamp < '2020-03-03'", 2, 2),
        ("_timestamp > now() - interval 1 day", 1, 1),
        ("_timestamp between '2020-01-05' and '2020-01-06'", 1, 1),
        ("_offset = 50", 1, 1),
        ("_offset < 3", 3, 3),
        ("n = 42", 1, 1),
    ):
        assert len(engine.sql(f"select n from days where {condition}")) == rows, condition
        count = tables.files_read(engine, f"select n from days where {condition}")
        assert count <= most, f"{condition} reads {count} files"
