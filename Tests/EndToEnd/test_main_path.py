# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""One element event of the demo's path, followed from the file to the rows. test_exr_inspector.py looks at the rows."""

import json
import os
import shutil
import time

import pytest

from conftest import SHARED, demo, openexr_tools
from harness import until

TABLES = {
    "files": "path",
    "parts": "file_path",
    "channels": "file_path",
    "attributes": "file_path",
    "stats": "file_path",
    "validation": "file_path",
}


def rows(deployment, key: str) -> dict[str, list[dict]]:
    """Everything the tables hold about a file."""
    tables = deployment.engine.table_rows()
    return {
        table: sorted(deployment.sql(f"select * from {table} where {column} = ?", f"exr/{key}"), key=json.dumps)
        for table, column in TABLES.items()
        if table in tables
    }


def traces(deployment, since: str = "1h") -> list[dict]:
    return deployment.engine.items("traces", "list", demo.PIPELINE, "--since", since, "--limit", "1000")


def trace_of(deployment, key: str) -> dict:
    """The newest trace whose trigger span names the element."""

    def find():
        for trace in traces(deployment):
            found = deployment.engine.ask("traces", "get", trace["trace_id"])
            if any(span["attributes"].get("element") == key for span in found["spans"]):
                return found
        return None

    return until(find, f"a trace of {key}", 20, every=0.2)


def test_one_trace_runs_from_the_trigger_to_the_commit(deployment):
    key = "traced.exr"
    shutil.copyfile(
        deployment.directory / "originals" / next(key for key in deployment.keys if key.startswith("tiled")),
        deployment.demo.incoming / key,
    )
    deployment.until(lambda: f"exr/{key}" in deployment.paths(), "the file's rows")
    found = trace_of(deployment, key)
    deployment.until(lambda: len(trace_of(deployment, key)["spans"]) >= 4, "all spans")
    spans = {span["name"].split()[0]: span for span in trace_of(deployment, key)["spans"]}
    assert list(spans) and {"trigger", "dispatch", "function", "tables"} <= set(spans), list(spans)
    assert len({span["trace_id"] for span in spans.values()}) == 1
    parents = {span["span_id"]: span.get("parent_span_id") for span in trace_of(deployment, key)["spans"]}
    chain = [spans[name] for name in ("trigger", "dispatch", "function", "tables")]
    # The function's own spans stand between it and the commit.
    lineage, id = [], spans["tables"]["span_id"]
    while id in parents:
        lineage.insert(0, id)
        id = parents[id]
    assert id in (None, ""), "the trace has one root"
    assert [id for id in lineage if id in {span["span_id"] for span in chain}] == [span["span_id"] for span in chain]
    for above, below in zip(chain, chain[1:]):
        assert below["start_micros"] >= above["start_micros"] - 1000
    assert spans["tables"]["name"] == "tables commit" and spans["function"]["name"].startswith("function exr-inspector")
    assert {span["event_id"] for span in chain[:3]} == {chain[0]["event_id"]}
    assert spans["trigger"]["attributes"]["element"] == key and spans["trigger"]["attributes"]["view"] == "exr"
    assert all(span["status"] != "ERROR" for span in spans.values())

    tree = deployment.engine.run("traces", "get", spans["trigger"]["trace_id"]).stdout.splitlines()
    depth = {
        name: next(line.index(name) for line in tree if name in line)
        for name in ("trigger  ", "dispatch ", "function ", "tables commit")
    }
    assert sorted(depth.values()) == list(depth.values()), tree
    listed = deployment.engine.items("traces", "list", demo.PIPELINE, "--event-id", spans["trigger"]["event_id"])
    assert [trace["trace_id"] for trace in listed] == [spans["trigger"]["trace_id"]]
    assert found["spans"]


def test_log_records_carry_the_trace_of_their_event(deployment):
    records = deployment.engine.items(
        "logs", "get", demo.PIPELINE, "--scope", "user", "--since", "1h", "--limit", "10000"
    )
    of_events = [record for record in records if record.get("trace_id")]
    assert of_events, "the function logged nothing with a trace"
    known = {trace["trace_id"] for trace in traces(deployment)}
    assert len(of_events) == len(records)
    record = of_events[-1]
    assert record["trace_id"] in known and record["span_id"]
    same = deployment.engine.items("logs", "get", "--trace-id", record["trace_id"])
    assert record["message"] in [one["message"] for one in same] and {one["trace_id"] for one in same} == {
        record["trace_id"]
    }


@pytest.mark.parametrize("way", ["rewrite", "replace"])
def test_the_same_content_again_leaves_the_same_rows(deployment, way):
    key = next(key for key in deployment.keys if key.startswith("stats_") or key.startswith("scanline"))
    path = deployment.demo.incoming / key
    before = rows(deployment, key)
    assert before["files"] and before["parts"]
    content = path.read_bytes()
    mtime = before["files"][0]["mtime"]
    time.sleep(0.01)
    if way == "rewrite":
        path.write_bytes(content)
    else:
        other = deployment.directory / "other"
        other.write_bytes(content)
        os.replace(other, path)
    deployment.until(lambda: rows(deployment, key)["files"][0]["mtime"] != mtime, "the new time")
    after = rows(deployment, key)
    # The hash covers path, time and header: it changes with the time, and nothing else does.
    for kept in (before, after):
        for name in ("mtime", "hash"):
            kept["files"][0].pop(name)
    assert after == before


def test_a_renamed_file_moves_its_rows(deployment):
    source, target = "renamed-before.exr", "renamed-after.exr"
    shutil.copyfile(
        deployment.directory / "originals" / next(key for key in deployment.keys if key.startswith("multipart")),
        deployment.demo.incoming / source,
    )
    deployment.until(lambda: f"exr/{source}" in deployment.paths(), "the file's rows")
    before = rows(deployment, source)
    (deployment.demo.incoming / source).rename(deployment.demo.incoming / target)
    deployment.until(
        lambda: f"exr/{target}" in deployment.paths() and f"exr/{source}" not in deployment.paths(), "the move"
    )
    after = rows(deployment, target)
    assert {table: len(found) for table, found in after.items()} == {
        table: len(found) for table, found in before.items()
    }
    assert not any(rows(deployment, source).values())


@pytest.mark.skipif(shutil.which("exrheader") is None, reason="exrheader is not installed (apt package openexr)")
def test_shared_files_agree_with_exrheader(deployment):
    given = [key for key in deployment.keys if key.startswith("given/")]
    if not given:
        pytest.skip(f"there are no OpenEXR files in {SHARED}")
    compared = 0
    for key in given:
        report = openexr_tools.exrheader(deployment.demo.incoming / key)
        found = rows(deployment, key)
        if report is None:
            assert any(row["severity"] == "error" for row in found["validation"]), key
            continue
        (file,) = found["files"]
        assert file["exr_version"] == report.version and file["multipart_count"] == len(report.parts), key
        assert file["size_bytes"] == (deployment.demo.incoming / key).stat().st_size
        parts = sorted(found["parts"], key=lambda part: part["part_index"])
        for part, said in zip(parts, report.parts, strict=True):
            mine = [row for row in found["channels"] if row["part_index"] == part["part_index"]]
            assert {row["name"] for row in mine} == {line.split(",")[0] for line in said["channels"].lines}, key
            for column, name in (("data_window", "dataWindow"), ("display_window", "displayWindow")):
                assert json.loads(part[column]) == openexr_tools.numbers(said[name].value), (key, column)
        compared += 1
    print(f"{compared} of {len(given)} shared files compared with exrheader")
    assert compared >= len(given) // 2
