# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""A file arrives, a function runs, rows appear, and what happened can be seen: through the real program."""

import json
import os
import shutil
import signal
import time

import pyarrow.parquet
from conftest import demo, openexr_tools


def header(deployment, path):
    """Rows of one file in the order of the file."""
    tables = {"parts": "part_index", "channels": "part_index, name", "attributes": "part_index, name"}
    return {
        table: deployment.sql(f"select * from {table} where file_path = ? order by {order}", path)
        for table, order in tables.items()
    }


def test_every_file_is_in_the_tables_once(deployment):
    found = deployment.sql("select path, count(*) as rows from files group by 1")
    assert {row["path"] for row in found} == {f"exr/{key}" for key in deployment.keys}
    assert all(row["rows"] == 1 for row in found)
    counts = deployment.sql(
        "select multipart_count as stated, (select count(*) from parts where file_path = path) as kept from files "
        "where multipart_count is not null"
    )
    assert counts and all(row["stated"] == row["kept"] for row in counts)


def test_rows_agree_with_exrinfo(deployment):
    """Runs over every file that exrinfo reads; the packaged one is too old for some compressions."""
    compared = 0
    for key in deployment.keys:
        report = openexr_tools.exrinfo(deployment.demo.incoming / key)
        if report is None:
            continue
        rows = header(deployment, f"exr/{key}")
        assert len(rows["parts"]) == len(report.parts), key
        for part, said in zip(rows["parts"], report.parts):
            index = part["part_index"]
            channels = [row for row in rows["channels"] if row["part_index"] == index]
            found = {f"'{row['name']}': {row['type']} samp {row['x_sampling']} {row['y_sampling']}" for row in channels}
            assert found == {line.removesuffix(" plin").strip() for line in said["channels"].lines}, key
            assert said["compression"].value.startswith(f"'{part['compression']}'"), key
            window = said["dataWindow"].value.split("]")[0].replace(" - ", " ")
            assert json.loads(part["data_window"]) == openexr_tools.numbers(window), key
            attributes = {row["name"]: row["type"] for row in rows["attributes"] if row["part_index"] == index}
            assert attributes == {name: kept.type for name, kept in said.items()}, key
        compared += 1
    print(f"{compared} of {len(deployment.keys)} files compared with exrinfo")
    assert compared >= 50


def test_damaged_files_have_validation_rows_and_no_dead_letters(deployment):
    damaged = {row["file_path"] for row in deployment.sql("select file_path from validation where severity = 'error'")}
    assert {f"exr/{key}" for key in deployment.keys if key.startswith("damaged_")} <= damaged
    assert deployment.engine.items("dead-letters", "list") == []


def test_a_file_written_again_leaves_the_same_rows(deployment):
    key = next(key for key in deployment.keys if key.startswith("multipart"))
    before = header(deployment, f"exr/{key}")
    hash_of = "select hash from files where path = ?"
    old = deployment.sql(hash_of, f"exr/{key}")
    shutil.copyfile(deployment.directory / "originals" / key, deployment.demo.incoming / key)
    deployment.until(lambda: deployment.sql(hash_of, f"exr/{key}") != old, "a new hash")
    assert header(deployment, f"exr/{key}") == before


def test_a_removed_file_loses_its_rows(deployment):
    key = next(key for key in deployment.keys if key.startswith("overscan"))
    (deployment.demo.incoming / key).unlink()
    deployment.until(lambda: f"exr/{key}" not in deployment.paths(), "the removal")
    assert header(deployment, f"exr/{key}") == {"parts": [], "channels": [], "attributes": []}
    shutil.copyfile(deployment.directory / "originals" / key, deployment.demo.incoming / key)
    deployment.until(lambda: f"exr/{key}" in deployment.paths(), "the file's return")


def test_a_trace_runs_from_the_file_to_the_handler(deployment):
    listed = deployment.engine.items("traces", "list", demo.PIPELINE, "--limit", "50")
    traces = [trace for trace in listed if trace.get("event_id")]  # Others are of workers' starts.
    # Rows are visible before the call that wrote them returns, and only then its spans are whole.
    deadline = time.monotonic() + 10
    while True:
        spans = deployment.engine.ask("traces", "get", traces[0]["trace_id"])["spans"]
        if any(span["name"].startswith("function") for span in spans) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    known = {span["span_id"] for span in spans}
    roots = [span for span in spans if span.get("parent_span_id") not in known]
    assert len(roots) == 1, [span["name"] for span in roots]
    names = " ".join(span["name"] for span in spans)
    assert "dispatch exr-inspector-1" in names and "function exr-inspector-1" in names
    assert deployment.engine.run("traces", "get", traces[0]["trace_id"]).stdout.count("exr-inspector-1") >= 2


def test_exported_tables_hold_the_same_rows(deployment):
    for table, rows in deployment.engine.table_rows().items():
        target = deployment.directory / f"{table}.parquet"
        result = deployment.engine.run("tables", "export", table, "--file", target)
        assert result.returncode == 0, result.stderr
        # A table that follows a topic may have got further meanwhile.
        assert rows <= pyarrow.parquet.read_table(target).num_rows <= deployment.engine.table_rows()[table]


def test_a_second_engine_on_the_directory_is_refused(deployment):
    second = demo.Engine(deployment.engine.program, deployment.directory)
    second.log = deployment.directory / "second.log"
    try:
        second.start()
        raise AssertionError("a second engine started")
    except demo.DemoError as error:
        assert "in use" in str(error) and str(deployment.engine.process.pid) in str(error)
    finally:
        second.stop()
    assert deployment.engine.ask("engine", "status")["damage"] == []


def test_what_happened_while_the_engine_was_killed_is_found(deployment):
    key, gone = "after-kill.exr", deployment.keys[0]
    source = next(key for key in deployment.keys if key.startswith("tiled"))
    before = deployment.paths()
    os.kill(deployment.engine.process.pid, signal.SIGKILL)
    deployment.engine.process.wait()
    shutil.copyfile(deployment.directory / "originals" / source, deployment.demo.incoming / key)
    (deployment.demo.incoming / gone).unlink()
    deployment.engine = deployment.demo.engine = demo.Engine(deployment.engine.program, deployment.directory)
    deployment.engine.start()
    expected = before - {f"exr/{gone}"} | {f"exr/{key}"}
    deployment.until(lambda: deployment.paths() == expected, "both changes")
    assert len(header(deployment, f"exr/{key}")["parts"]) >= 1
    assert deployment.engine.ask("engine", "status")["damage"] == []
