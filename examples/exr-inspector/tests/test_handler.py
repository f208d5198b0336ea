# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The function itself: events in, tables written, under a recording context and under the real SDK."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import FUNCTION

import main
from exr.element import NotAnElement
from exr.inspection import TABLES

COLUMNS = {
    "files": ["path", "size_bytes", "mtime", "exr_version", "multipart_count", "is_deep", "hash"],
    "parts": ["file_path", "part_index", "part_name", "view_name", "data_window", "display_window",
              "pixel_aspect_ratio", "line_order", "compression", "tiling"],
    "channels": ["file_path", "part_index", "name", "type", "x_sampling", "y_sampling", "linearity"],
    "attributes": ["file_path", "part_index", "name", "type", "value"],
    "stats": ["file_path", "part_index", "channel", "min", "max", "mean", "stddev", "nan_count", "inf_count",
              "sample_stride"],
    "validation": ["file_path", "code", "severity", "message"],
}  # fmt: skip


class Event:
    """An element event with the members the function reads."""

    def __init__(self, key: str, location=None, name="ObjectCreated:Put", subtype="ElementCreated", **extensions):
        self.id = "1004356627333135"
        self.subtype = subtype
        self.bucket, self.object_key = "exr", key
        self.extensions = {"elementpath": f"exr/{key}", **extensions}
        if location is not None:
            self.extensions["elementurl"] = "file://" + quote(os.fsencode(str(location)))
        self.data = {
            "Records": [
                {"eventName": name, "s3": {"bucket": {"name": "exr"}, "object": {"key": quote(os.fsencode(key))}}}
            ]
        }

    def get_data(self):
        return self.data


def removal(key: str, location=None) -> Event:
    return Event(key, location, "ObjectRemoved:Delete", "ElementDeleted")


@pytest.fixture
def function(ctx):
    main.init(ctx)
    return lambda event: main.handler(ctx, event)


@pytest.fixture
def view(tmp_path, generated) -> Path:
    for kind, path in generated.items():
        shutil.copy(path, tmp_path / f"{kind}.exr")
    return tmp_path


def test_all_six_tables_have_the_agreed_columns(ctx, function, view):
    function(Event("x.exr", view / "not_finite.exr", exrstats="yes"))
    assert {table: list(ctx.rows(table)[0]) for table in TABLES} == COLUMNS
    assert ctx.commits == 1


def test_the_same_event_again_changes_nothing(ctx, function, view):
    for kind in ("multipart", "deep_scanline_zips", "damaged_truncated_header"):
        answer = function(Event(kind, view / f"{kind}.exr", exrstats="1"))
        before = ctx.everything()
        assert function(Event(kind, view / f"{kind}.exr", exrstats="1")) == answer
        assert ctx.everything() == before


def test_a_changed_file_leaves_no_old_rows(ctx, function, view):
    location = view / "shot.exr"
    shutil.copy(view / "multipart.exr", location)
    first = function(Event("shot.exr", location, exrstats="1"))
    shutil.copy(view / "damaged_garbage.exr", location)
    second = function(Event("shot.exr", location))
    assert first["hash"] != second["hash"]
    assert {table: len(ctx.rows(table)) for table in TABLES} == {
        "files": 1, "parts": 0, "channels": 0, "attributes": 0, "stats": 0, "validation": 1,
    }  # fmt: skip


def test_the_hash_follows_path_time_and_header(function, view):
    location = view / "scanline_zip.exr"
    one = function(Event("a.exr", location))["hash"]
    assert function(Event("b.exr", location))["hash"] != one
    status = location.stat()
    os.utime(location, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert function(Event("a.exr", location))["hash"] != one
    os.utime(location, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert function(Event("a.exr", location))["hash"] == one
    data = bytearray(location.read_bytes())
    at = data.index(b"Martlet generated")
    data[at] ^= 1
    location.write_bytes(data)
    os.utime(location, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert function(Event("a.exr", location))["hash"] != one


def test_other_files_keep_their_rows(ctx, function, view):
    function(Event("a.exr", view / "stereo.exr"))
    function(Event("b.exr", view / "stereo.exr"))
    function(removal("a.exr", view / "gone.exr"))
    assert {row["path"] for row in ctx.rows("files")} == {"exr/b.exr"}
    assert {row["file_path"] for row in ctx.rows("channels")} == {"exr/b.exr"}


def test_a_removal_deletes_every_row(ctx, function, view):
    function(Event("a.exr", view / "not_finite.exr", exrstats="1"))
    assert all(ctx.rows(table) for table in TABLES)
    assert function(removal("a.exr")) == {"status": "removed", "path": "exr/a.exr"}
    assert ctx.everything() == {}


def test_a_late_removal_does_not_delete_a_file_that_is_back(ctx, function, view):
    assert function(removal("a.exr", view / "stereo.exr"))["status"] == "inspected"
    assert len(ctx.rows("parts")) == 2


def test_a_file_gone_before_its_event_leaves_no_rows(ctx, function, view):
    function(Event("a.exr", view / "stereo.exr"))
    assert function(Event("a.exr", view / "gone.exr"))["status"] == "removed"
    assert function(Event("a.exr", view / "stereo.exr" / "below"))["status"] == "removed"
    assert ctx.everything() == {}


def test_a_failed_write_changes_nothing_and_is_raised_for_a_retry(ctx, function, view, monkeypatch):
    function(Event("a.exr", view / "stereo.exr"))
    before = ctx.everything()
    monkeypatch.setitem(main.TABLES, "validation", ["no_such_column"])
    with pytest.raises(KeyError):
        function(Event("a.exr", view / "overscan.exr"))
    assert ctx.everything() == before


def test_tag_events_are_skipped(ctx, function, view):
    event = Event("a.exr", view / "stereo.exr", "ObjectTagging:Put", "ElementTagCreated")
    assert function(event)["status"] == "skipped"
    assert ctx.commits == 0


def test_names_with_spaces_percent_signs_and_odd_bytes(ctx, function, view):
    for name in ("späte Aufnahme 100%.exr", "a?b#c;d.exr", os.fsdecode(b"latin\xe9.exr")):
        shutil.copy(view / "scanline_zip.exr", view / name)
        answer = function(Event(name, view / name))
        assert (answer["status"], answer["path"]) == ("inspected", f"exr/{name}")


@pytest.mark.parametrize("url", ["http://host/a.exr", "file://elsewhere/a.exr", "a.exr", "file:a.exr", "file:///a%00b"])
def test_an_unusable_url_is_refused_with_the_url(function, url):
    with pytest.raises(NotAnElement) as caught:
        function(Event("a.exr", elementurl=url))
    assert url in str(caught.value) or "NUL" in str(caught.value)


def test_an_event_without_url_or_path_says_what_to_add(function):
    with pytest.raises(NotAnElement, match="elementurl"):
        function(Event("a.exr"))
    event = Event("a.exr")
    event.bucket = event.object_key = None
    event.extensions = {}
    with pytest.raises(NotAnElement, match="elementpath"):
        function(event)


@pytest.mark.parametrize(
    ("environment", "extension", "wanted"),
    [
        ({}, None, None), ({"EXR_STATS": "1"}, None, 1), ({"EXR_STATS": "true", "EXR_SAMPLE_STRIDE": "4"}, None, 4),
        ({"EXR_STATS": "0"}, "yes", 1), ({"EXR_STATS": "1"}, "no", None), ({}, "8", 8), ({}, True, 1),
        ({"EXR_SAMPLE_STRIDE": "3"}, "1", 3), ({"EXR_STATS": "1"}, "0", None),
    ],
)  # fmt: skip
def test_when_statistics_are_computed(environment, extension, wanted):
    extensions = {} if extension is None else {"exrstats": extension}
    assert main.Settings(environment).stride_for(extensions) == wanted


@pytest.mark.parametrize(
    "environment", [{"EXR_STATS": "maybe"}, {"EXR_SAMPLE_STRIDE": "0"}, {"EXR_SAMPLE_STRIDE": "-2"}]
)
def test_bad_settings_stop_init_with_their_name(environment, ctx, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=next(iter(environment))):
        main.init(ctx)


def test_statistics_follow_the_deployment(ctx, view, monkeypatch):
    monkeypatch.setenv("EXR_STATS", "1")
    monkeypatch.setenv("EXR_SAMPLE_STRIDE", "2")
    main.init(ctx)
    main.handler(ctx, Event("a.exr", view / "scanline_zip.exr"))
    assert {row["sample_stride"] for row in ctx.rows("stats")} == {2}
    main.handler(ctx, Event("a.exr", view / "scanline_zip.exr", exrstats="no"))
    assert ctx.rows("stats") == []


def test_a_typical_header_takes_one_read(view, monkeypatch):
    reads = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *of: reads.append(of) or real(*of))
    main.inspect("exr/x", str(view / "scanline_zip.exr"))
    # The header with its offset table, then the leader of the last chunk.
    assert [of[1] for of in reads] in ([4096, 64], [4096])
    reads.clear()
    rows = main.inspect("exr/x", str(view / "long_header.exr"))
    assert rows["files"][0]["exr_version"] == 2 and not rows["validation"]
    assert sum(of[1] for of in reads) < 400_000


def test_twenty_events_at_once_give_the_rows_of_one_at_a_time(view):
    files = sorted(view.glob("*.exr"))
    alone = [main.inspect(path.name, str(path), 2) for path in files]
    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(lambda path: main.inspect(path.name, str(path), 2), files * 3))
    assert together == alone * 3


def test_header_only_inspection_loads_no_numeric_library():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import main; print(*{'numpy', 'OpenEXR'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(FUNCTION)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


SDK = FUNCTION.parents[1] / "sdk" / "python" / "src"


@pytest.mark.skipif(not (SDK / "martlet").is_dir(), reason=f"no Python SDK in {SDK}")
@pytest.mark.parametrize("kind", ["multipart", "not_finite", "deep_tiled_zips", "damaged_truncated_header"])
def test_under_the_real_sdk(kind, view, ctx, monkeypatch):
    monkeypatch.syspath_prepend(str(SDK))
    try:
        from martlet.context import Context
        from martlet.events import event_from
        from martlet.tables import MemorySink

        real = Context(logger=ctx.logger, table_sink=MemorySink(write=lambda line: None))
        real.tracer  # noqa: B018  Needs the telemetry module of the SDK.
    except ImportError as missing:
        pytest.skip(f"the Python SDK is not complete: {missing}")
    source = Event("a.exr", view / f"{kind}.exr", exrstats="yes")
    raw = {
        "specversion": "1.0", "id": source.id, "type": "vastdata.com:Element.ElementCreated",
        "source": "vastdata.com:t.0f4c2f5e", "subject": "martlet.events", **source.extensions, "data": source.data,
    }  # fmt: skip
    main.init(real)
    main.init(ctx)
    sink = real.tables._sink
    for _ in range(2):
        answer = main.handler(real, event_from(dict(raw)))
        assert answer == main.handler(ctx, source)
        assert {name: len(rows) for name, rows in sink.tables.items() if rows} == {
            name: len(rows) for name, rows in ctx.kept.items() if rows
        }
    raw |= {"type": "vastdata.com:Element.ElementDeleted", "data": {"Records": [{"eventName": "ObjectRemoved:Delete"}]}}
    (view / f"{kind}.exr").unlink()
    assert main.handler(real, event_from(raw))["status"] == "removed"
    assert not any(sink.tables.values())
