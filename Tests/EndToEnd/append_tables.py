# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What the tests of append tables share: publishing, waiting, and reading files and catalog without the engine."""

import base64
import contextlib
import http.client
import json
import sqlite3
from pathlib import Path
from typing import Any, Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from harness import Engine, crc32c, until

SOURCE = "/test/append-tables"


def event(id: str, value: bytes, partition_key: str | None = None) -> dict:
    """An event whose record holds exactly these bytes."""
    made = {
        "specversion": "1.0", "id": id, "source": SOURCE, "type": "example.com:Test",
        "datacontenttype": "application/json", "data_base64": base64.b64encode(value).decode(),
    }  # fmt: skip
    return made if partition_key is None else made | {"partitionkey": partition_key}


def encoded(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def publish(engine: Engine, topic: str, *values: Any, first: int = 0, keys: list[str] | None = None) -> None:
    """Publishes values in one request; bytes go as they are, the rest as JSON."""
    send(engine, topic, [event(str(first + i), encoded(value), keys and keys[i]) for i, value in enumerate(values)])


def send(engine: Engine, topic: str, events: list[dict]) -> None:
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    answer = engine.http("POST", f"/api/v1/topics/{topic}/events", json.dumps(events).encode(), headers)
    assert answer.status == 202, (answer.status, answer.body[:1000])
    assert answer.json["count"] == len(events)


def make(engine: Engine, name: str, topic: str | None = None, partitions: int = 1, **settings: Any) -> dict:
    """A table, and its topic where there is none."""
    topic = topic or name
    if engine.http("GET", f"/api/v1/topics/{topic}").status == 404:
        engine.post("topics", {"name": topic, "partitions": partitions})
    return engine.post("tables", {"name": name, "topic": topic} | settings)


def ends(engine: Engine, topic: str) -> dict[int, int]:
    return {part["partition"]: part["end_offset"] for part in engine.items(f"topics/{topic}/partitions")}


def caught_up(engine: Engine, table: str, seconds: float = 30) -> dict:
    """Waits until every record the topic has now is a row or a reject; returns the table."""
    topic = engine.get(f"tables/{table}")["topic"]
    wanted = sum(ends(engine, topic).values())

    def check() -> dict | None:
        found = engine.sql(f'select (select count(*) from "{table}") + (select count(*) from "{table}__rejected")')
        return engine.get(f"tables/{table}") if found[0][0] >= wanted else None

    return until(check, f"the table {table} has {wanted} records", seconds)


def settled(engine: Engine, table: str, seconds: float = 30) -> dict:
    """The same, and all of it is in files."""
    caught_up(engine, table, seconds)
    commit(engine, table)
    return engine.get(f"tables/{table}")


def commit(engine: Engine, table: str) -> dict | None:
    return engine.post(f"tables/{table}/commit").get("commit")


def history(engine: Engine, table: str) -> list[dict]:
    """All commits, oldest first."""
    found: list[dict] = []
    cursor = ""
    while True:
        page = engine.get(f"tables/{table}/history?limit=1000{cursor}")
        found += page["data"]
        if not page.get("next_cursor"):
            return found[::-1]
        cursor = f"&cursor={page['next_cursor']}"


def check_history(engine: Engine, table: str) -> list[dict]:
    """Commits count from 1 without gaps, and what each takes from the topic follows what the one before took."""
    commits = history(engine, table)
    assert [one["number"] for one in commits] == list(range(1, len(commits) + 1)), "the history has gaps"
    taken: dict[int, int] = {}
    for one in commits:
        for part in one["ranges"]:
            assert part["from"] <= part["to"], one
            assert taken.get(part["partition"], part["from"]) == part["from"], f"offsets are not in a row: {one}"
            taken[part["partition"]] = part["to"]
        amount = sum(part["to"] - part["from"] for part in one["ranges"])
        if one["kind"] == "append":
            assert one["rows_added"] + one["rows_rejected"] == amount, one
    return commits


def root(engine: Engine, table: str) -> Path:
    return engine.data / "tables/append" / table


def present(folder: Path) -> set[str]:
    """Files below a table's folder, relative to it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


class Listed(dict):
    """Files of the last commit as the catalog lists them: rows by path."""

    kept: set[str]
    """Paths of all files it knows, those kept for AS OF among them."""


def listed(engine: Engine, table: str) -> Listed:
    """Reads the catalog beside the engine."""
    with contextlib.closing(sqlite3.connect(f"file:{engine.data}/catalog.sqlite?mode=ro", uri=True)) as catalog:
        rows = catalog.execute(
            "select f.path, f.rows, f.removed_in from table_files f join tables t on t.guid = f.table_guid"
            " where t.name = ?",
            (table,),
        ).fetchall()
    found = Listed({path: count for path, count, removed in rows if removed is None})
    found.kept = {path for path, _, _ in rows}
    return found


def check_files(engine: Engine, table: str) -> dict[str, pa.Table]:
    """Compares folders and catalog, and reads every file with pyarrow; the engine must not change the table meanwhile.

    Returns the files outside readers see, by path.
    """
    folder, known = root(engine, table), listed(engine, table)
    found = present(folder)
    inside = {path for path in found if path.startswith("files/")}
    assert inside == known.kept, f"orphans {inside - known.kept}, missing {known.kept - inside}"
    outside = {path for path in found if path.startswith(("rows/", "rejects/"))}
    wanted = {path.removeprefix("files/") for path in known}
    assert outside == wanted, f"outside readers see {outside - wanted} more and {wanted - outside} less"
    assert found == inside | outside, f"strange files: {found - inside - outside}"
    for path in inside - set(known):
        pq.ParquetFile(folder / path).read()
    tables = {}
    for path, rows in known.items():
        short = path.removeprefix("files/")
        assert (folder / path).stat().st_ino == (folder / short).stat().st_ino, f"{short} is another file than {path}"
        tables[short] = pq.ParquetFile(folder / short).read()
        assert tables[short].num_rows == rows, path
    return tables


def rows_of(tables: dict[str, pa.Table], part: str = "rows") -> Iterator[dict]:
    for path, table in tables.items():
        if path.startswith(part + "/"):
            yield from table.to_pylist()


def files_read(engine: Engine, statement: str) -> int:
    """How many Parquet files a query opens, by EXPLAIN ANALYZE."""
    lines = "\n".join(str(cell) for row in engine.sql(f"explain analyze {statement}") for cell in row)
    counts = [
        int(words[words.index("Read:") + 1].strip("│"))
        for line in lines.splitlines()
        if "Total Files Read:" in line and (words := line.replace("│", " ").split())
    ]
    return sum(counts)


def append_batch(segment: Path, records: list[tuple[int, bytes]]) -> None:
    """Writes records with timestamps (milliseconds) behind the end of a topic's only segment; its engine must be stopped.

    The API stamps records itself; a program that speaks the log's format, as a replica or a Kafka client, can send any time.
    """

    def number(value: int) -> bytes:
        value = (value << 1) ^ (value >> 127)
        found = bytearray()
        while value > 127:
            found.append(value & 127 | 128)
            value >>= 7
        return bytes(found) + bytes([value])

    data = segment.read_bytes()
    base, at = int(segment.stem), 0
    while at < len(data):
        base = int.from_bytes(data[at : at + 8], "big") + int.from_bytes(data[at + 23 : at + 27], "big") + 1
        at += 12 + int.from_bytes(data[at + 8 : at + 12], "big")
    for time, value in records:
        body = b"\0" + number(0) + number(0) + number(-1) + number(len(value)) + value + number(0)
        tail = (0).to_bytes(2, "big") + (0).to_bytes(4, "big") + time.to_bytes(8, "big", signed=True) * 2
        tail += b"\xff" * 8 + b"\xff" * 2 + b"\xff" * 4 + (1).to_bytes(4, "big") + number(len(body)) + body
        batch = (0).to_bytes(4, "big") + b"\x02" + crc32c(tail).to_bytes(4, "big") + tail
        data += base.to_bytes(8, "big") + len(batch).to_bytes(4, "big") + batch
        base += 1
    segment.write_bytes(data)


def refused(call) -> bool:
    """Whether a request found no engine, as while one is killed."""
    try:
        call()
    except (OSError, http.client.HTTPException, ValueError):
        return True
    return False
