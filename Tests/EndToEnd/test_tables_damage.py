# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Files of append tables that are not as they were written: who notices, what is said, what repair does."""

import os
from pathlib import Path

import append_tables as tables
import duckdb
from append_tables import make, publish, settled
from harness import until


def flip_unnoticed(path: Path) -> None:
    """Flips one bit of a file so that DuckDB reads it, and gives another value."""
    data = bytearray(path.read_bytes())
    ask = f"select sum(hash(t)) from read_parquet('{path}') as t"
    before = duckdb.connect().execute(ask).fetchall()
    for at in range(4, len(data) - 8):
        data[at] ^= 1
        path.write_bytes(data)
        try:
            if duckdb.connect().execute(ask).fetchall() != before:
                return
        except duckdb.Error:
            pass
        data[at] ^= 1
    raise AssertionError("every flipped bit is noticed")


def test_bits_that_flipped_are_found_by_repair_and_named_by_queries_and_the_state(engine):
    """Most flipped bits are decoded without a fault, so only a checksum finds them."""
    make(engine, "flips", commit_seconds=3600)
    for index in range(3):
        publish(engine, "flips", *({"n": index * 100 + i, "pad": os.urandom(40).hex()} for i in range(100)))
        settled(engine, "flips")
    folder = tables.root(engine, "flips")
    flipped, broken, _ = (folder / path for path in sorted(tables.listed(engine, "flips")))
    flip_unnoticed(flipped)
    assert engine.post("tables/flips/repair?dry_run=true&quick=true")["data"] == [], "sizes are right"
    assert engine.get("tables/flips")["state"] == "running"
    (found,) = engine.post("tables/flips/repair?dry_run=true")["data"]
    assert found["kind"] == "damaged_file" and "checksum" in found["problem"] and found["rows_lost"] == 100
    shown = engine.get("tables/flips")
    assert shown["state"] == "damaged" and flipped.name in shown["reason"] and "tables repair flips" in shown["reason"]
    assert "damaged" in engine.cli("tables", "list")
    # A block that cannot be decoded: the query says whose it is and what to do.
    data = bytearray(broken.read_bytes())
    for at in range(200, len(data) // 2):
        data[at] ^= 0x55
    broken.write_bytes(data)
    answer = engine.http("POST", "/api/v1/sql", {"sql": "select max(pad), sum(n) from flips"})
    text = answer.json["detail"] + str(answer.json.get("fix"))
    assert answer.status == 500 and "'flips'" in text and "martlet tables repair flips" in text, answer.body
    assert (broken.name in text or flipped.name in text and "1 more is damaged" in text), answer.body
    assert "and 1 more" in engine.get("tables/flips")["reason"]
    # What is damaged is not merged with what is not.
    assert engine.post("tables/flips/compact")["files_after"] == 3
    assert until(lambda: engine.sql("select count(*) from system.engine_events where event = 'Table.Damaged'")[0][0] >= 2, "events")
    assert all(one["is_done"] for one in engine.post("tables/flips/repair")["data"])
    assert engine.get("tables/flips")["state"] == "running"
    assert engine.sql("select count(*), count(distinct pad) from flips") == [[100, 100]]


def test_a_file_that_is_gone_is_known_from_the_start(engine):
    make(engine, "lost", commit_seconds=3600)
    publish(engine, "lost", {"n": 1})
    settled(engine, "lost")
    assert engine.stop() == 0
    (path,) = tables.listed(engine, "lost")
    (tables.root(engine, "lost") / path).unlink()
    engine.start()
    shown = engine.get("tables/lost")
    assert shown["state"] == "damaged" and "not there" in shown["reason"]
    answer = engine.http("POST", "/api/v1/sql", {"sql": "select * from lost"})
    assert answer.status == 500 and "tables repair lost" in str(answer.json.get("fix")), answer.body


def test_repair_lists_strange_files_at_once_and_fails_where_it_cannot_mend(engine):
    make(engine, "junk", commit_seconds=3600)
    publish(engine, "junk", {"n": 1})
    settled(engine, "junk")
    folder = tables.root(engine, "junk")
    (path,) = tables.listed(engine, "junk")
    (folder / "files/rows/young.parquet").write_bytes(b"young")
    (folder / "rows/junk.parquet").write_bytes(b"junk")
    said = {one["path"]: one for one in engine.post("tables/junk/repair?dry_run=true")["data"]}
    assert set(said) == {"files/rows/young.parquet", "rows/junk.parquet"}
    young = said["files/rows/young.parquet"]["action"]
    assert "nothing yet" in young and "under way" in young and said["rows/junk.parquet"]["action"] == "delete it"
    # A folder stands where the link of a file is to be, so that it cannot be made.
    link = folder / path.removeprefix("files/")
    link.unlink()
    link.mkdir()
    (link / "keep").mkdir()
    done = engine.run("tables", "repair", "junk", "--force")
    assert done.returncode == 1 and "could not be put right" in done.stderr, done
    left = {one["path"]: one for one in engine.post("tables/junk/repair")["data"]}
    assert not (folder / "rows/junk.parquet").exists() and (folder / "files/rows/young.parquet").exists()
    assert set(left) == {"files/rows/young.parquet", path.removeprefix("files/")}
    assert "cannot be made" in left[path.removeprefix("files/")]["failure"] and not left[path.removeprefix("files/")]["is_done"]
    assert not left["files/rows/young.parquet"]["is_done"] and "failure" not in left["files/rows/young.parquet"]
    (link / "keep").rmdir()
    link.rmdir()
    # Another file in its place is not what the table has.
    link.write_bytes(b"other")
    (found,) = (one for one in engine.post("tables/junk/repair")["data"] if "young" not in one["path"])
    assert found["is_done"] and "another file" in found["problem"] and link.stat().st_ino == (folder / path).stat().st_ino
    (folder / "files/rows/young.parquet").unlink()
    tables.check_files(engine, "junk")
