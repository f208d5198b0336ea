# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""One trace from a file to the commit of the table that its function's events end in."""

from harness import until

HANDLER = """
def handler(ctx, event):
    ctx.emit("results", {"path": event.object_key})
"""


def test_a_trace_runs_from_a_file_to_a_table(engine):
    folder = engine.directory / "watched"
    folder.mkdir()
    engine.post("topics", {"name": "files", "partitions": 1})
    engine.post("topics", {"name": "results", "partitions": 1})
    engine.cli("tables", "create", "results", "--topic", "results", "--commit-every", "3s")
    engine.post("views", {"name": "watched", "path": str(folder)})
    engine.post(
        "triggers",
        {"name": "files", "type": "Element", "source_bucket": "watched", "topic": "files", "events": ["ObjectCreated:*"]},
    )
    engine.function("read", HANDLER)
    engine.pipeline("reading", {"read": {}}, [{"source": "files", "destination": "read"}], ["files"])
    (folder / "a.txt").write_text("a")
    trace = until(lambda: engine.column("results", "_trace_id"), "the row is there")[0]
    assert trace is not None

    def spans():
        found = engine.get(f"traces/{trace}")["spans"]
        return found if any(span["name"] == "table results" for span in found) else None

    found = until(spans, "the commit is traced")
    by_id = {span["span_id"]: span for span in found}
    path, span = [], next(span for span in found if span["name"] == "table results")
    assert span["kind"] == "CONSUMER" and span["attributes"]["rows"] == "1" and span["attributes"]["offset"] == "0"
    # The commit is its work, and the wait for it an attribute that makes no trace long.
    others = [one for one in found if one is not span]
    assert int(span["attributes"]["martlet.wait_micros"]) > span["duration_micros"]
    end = max(one["start_micros"] + one["duration_micros"] for one in others)
    assert span["start_micros"] > end, found
    listed = next(one for one in engine.items("traces?limit=100") if one["trace_id"] == trace)
    assert listed["duration_micros"] == end - min(one["start_micros"] for one in others)
    drawn = engine.cli("traces", "get", trace, "--no-logs")
    assert "for its commit)" in drawn and "Slowest:   table" not in drawn, drawn
    while span is not None:
        path.append(span["name"])
        span = by_id.get(span.get("parent_span_id"))
    assert path[-1] == "trigger" and "function read" in path, path
