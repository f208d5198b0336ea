# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Damaged files: the right finding for each defect, and no exception for any bytes at all."""

import os
import resource
import struct

import generate
import numpy as np
import pytest
from conftest import SEED, shared_files

from exr import findings, header, inspection
from exr.findings import CODES

MAGIC = header.MAGIC
BOX = struct.pack("<4i", 0, 0, 7, 7)
ONE = struct.pack("<f", 1)


def chlist(*channels) -> bytes:
    return b"".join(name + b"\0" + struct.pack("<iB3xii", *rest) for name, *rest in channels) + b"\0"


def fields(**changes) -> dict:
    """The attributes of a sound 8 by 8 part without compression; None takes one away."""
    sound = {
        "channels": ("chlist", chlist((b"Y", 1, 0, 1, 1))), "compression": ("compression", b"\0"),
        "dataWindow": ("box2i", BOX), "displayWindow": ("box2i", BOX), "lineOrder": ("lineOrder", b"\0"),
        "pixelAspectRatio": ("float", ONE), "screenWindowCenter": ("v2f", bytes(8)),
        "screenWindowWidth": ("float", ONE),
    }  # fmt: skip
    return {name: field for name, field in {**sound, **changes}.items() if field is not None}


def part_bytes(attributes: dict) -> bytes:
    return b"".join(generate.attribute(name, *field) for name, field in attributes.items()) + b"\0"


def single(flags: int = 0, version: int = 2, extra: bytes = b"", **changes) -> bytes:
    """A complete 8 by 8 file with some attributes changed."""
    head = MAGIC + struct.pack("<I", version | flags) + extra + part_bytes(fields(**changes))
    table = [len(head) + 64 + at * 24 for at in range(8)]
    return head + struct.pack("<8Q", *table) + b"".join(struct.pack("<ii", line, 16) + bytes(16) for line in range(8))


def multi(*parts: dict) -> bytes:
    """A multi-part file of 8 by 8 parts, each with all its chunks."""
    head = MAGIC + struct.pack("<I", 2 | header.MULTIPART) + b"".join(map(part_bytes, parts)) + b"\0"
    start = len(head) + 64 * len(parts)
    table = b"".join(struct.pack("<Q", start + 28 * at) for at in range(8 * len(parts)))
    chunks = [struct.pack("<iii", at // 8, at % 8, 16) + bytes(16) for at in range(8 * len(parts))]
    return head + table + b"".join(chunks)


def named(name: str, **changes) -> dict:
    more = {
        "name": ("string", name.encode()),
        "type": ("string", b"scanlineimage"),
        "chunkCount": ("int", struct.pack("<i", 8)),
    }
    return fields(**{**more, **changes})


def codes(data: bytes, tmp_path, stride=None) -> set[str]:
    path = tmp_path / "x.exr"
    path.write_bytes(data)
    return {row["code"] for row in inspection.inspect("exr/x", str(path), stride)["validation"]}


def box(*edges) -> tuple[str, bytes]:
    return "box2i", struct.pack("<4i", *edges)


def tiles(width: int, height: int, mode: int) -> tuple[str, bytes]:
    return "tiledesc", struct.pack("<IIB", width, height, mode)


def shifted(data: bytes, place: int, value: int) -> bytes:
    """The file with one entry of its offset table replaced."""
    at = generate.header_end(data) + 8 * place
    return data[:at] + struct.pack("<Q", value) + data[at + 8 :]


SOUND = single()
DEFECTS = {
    "empty_file": b"",
    "not_exr": b"not an image",
    "unsupported_version": single(version=3),
    "unknown_flags": single(flags=0x4000),
    "conflicting_flags": MAGIC + struct.pack("<I", 2 | header.TILED | header.MULTIPART) + b"\0",
    "truncated_header": SOUND[:100],
    "no_parts": MAGIC + struct.pack("<I", 2 | header.MULTIPART) + b"\0",
    "bad_attribute": single(pixelAspectRatio=("float", b"abc")),
    "duplicate_attribute": single(extra=generate.attribute("compression", "compression", b"\3")),
    "name_too_long": single(**{"n" * 32: ("int", bytes(4))}),
    "missing_required_attribute": single(displayWindow=None),
    "bad_data_window": single(dataWindow=box(0, 0, -3, 7)),
    "bad_display_window": single(displayWindow=box(0, 0, 2**30, 7)),
    "no_channels": single(channels=("chlist", b"\0")),
    "bad_channel": single(channels=("chlist", chlist((b"Y", 9, 0, 1, 1)))),
    "duplicate_channel": single(channels=("chlist", chlist((b"Y", 1, 0, 1, 1), (b"Y", 2, 0, 1, 1)))),
    "unsorted_channels": single(channels=("chlist", chlist((b"Z", 1, 0, 1, 1), (b"A", 1, 0, 1, 1)))),
    "bad_subsampling": single(channels=("chlist", chlist((b"Y", 1, 0, 3, 3)))),
    "unknown_compression": single(compression=("compression", b"\x63")),
    "recent_compression": single(compression=("compression", b"\x0a")),
    "unknown_line_order": single(lineOrder=("lineOrder", b"\x07")),
    "bad_line_order": single(lineOrder=("lineOrder", b"\x02")),
    "bad_tile_description": single(flags=header.TILED, tiles=tiles(0, 8, 0)),
    "unknown_part_type": multi(named("a", type=("string", b"voxels"))),
    "duplicate_part_name": multi(named("a"), named("a")),
    "shared_attributes_differ": multi(named("a"), named("b", pixelAspectRatio=("float", struct.pack("<f", 2)))),
    "bad_chunk_count": multi(named("a", chunkCount=("int", struct.pack("<i", 7)))),
    "truncated_file": SOUND[:-1],
    "chunk_table_incomplete": shifted(SOUND, 7, 0),
    "bad_chunk_offset": shifted(SOUND, 3, 12),
    "bad_chunk": SOUND[:-24] + struct.pack("<ii", 99, 16) + bytes(16),
    "bad_pixel_aspect_ratio": single(pixelAspectRatio=("float", struct.pack("<f", float("nan")))),
    "non_square_pixels": single(pixelAspectRatio=("float", struct.pack("<f", 2))),
    "bad_screen_window": single(screenWindowWidth=("float", struct.pack("<f", -1))),
    "data_window_outside_display_window": single(displayWindow=box(1, 1, 6, 6)),
    "data_window_misses_display_window": single(displayWindow=box(20, 20, 26, 26)),
    "unknown_view": multi(
        named("a", view=("string", b"left"), multiView=("stringvector", struct.pack("<i", 5) + b"right")), named("b")
    ),
    "bad_compression": MAGIC
    + struct.pack("<I", 2 | header.DEEP)
    + part_bytes(
        named("a", type=("string", b"deepscanline"), compression=("compression", b"\4"), version=("int", bytes(4)))
    ),
}
# Found elsewhere: by a limit, by a directory, or only where pixels are read.
COVERED_BY_OTHER_TESTS = {
    "header_too_large", "not_regular_file", "stats_unsupported", "pixel_data_damaged", "nan_pixels", "inf_pixels",
}  # fmt: skip


def test_every_code_has_a_case():
    assert set(DEFECTS) | COVERED_BY_OTHER_TESTS == set(CODES)


def test_a_sound_file_has_no_findings(tmp_path):
    assert codes(SOUND, tmp_path, 1) == set()
    assert codes(multi(named("a"), named("b")), tmp_path, 1) == set()


@pytest.mark.parametrize("code", DEFECTS)
def test_defect_is_found(code, tmp_path):
    assert code in codes(DEFECTS[code], tmp_path)
    codes(DEFECTS[code], tmp_path, 1)


def test_a_header_past_the_limit_is_given_up(tmp_path):
    path = tmp_path / "x.exr"
    path.write_bytes(single(note=("string", b"x" * 100_000)))
    found = findings.Findings()
    descriptor = os.open(path, os.O_RDONLY)
    result = header.read_header(descriptor, path.stat().st_size, found, limit=50_000)
    os.close(descriptor)
    assert [finding.code for finding in found] == ["header_too_large"]
    assert len(result.data) <= 50_000 and "dataWindow" in result.parts[0].attributes


def test_too_many_attributes_are_given_up(tmp_path):
    extra = b"".join(generate.attribute(f"a{at}", "int", bytes(4)) for at in range(header.ATTRIBUTES_MAX + 1))
    assert "header_too_large" in codes(single(extra=extra), tmp_path)


def test_a_length_past_the_end_reads_no_further(tmp_path, monkeypatch):
    reads = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *of: reads.append(of) or real(*of))
    claim = b"note\0string\0" + struct.pack("<i", 2**31 - 1)
    data = MAGIC + struct.pack("<I", 2) + claim + bytes(3_000_000)
    assert codes(data, tmp_path) == {"truncated_header"}
    assert len(reads) == 1


def test_a_directory_named_like_an_image_is_reported(tmp_path):
    rows = inspection.inspect("exr/d.exr", str(tmp_path))
    assert [row["code"] for row in rows["validation"]] == ["not_regular_file"]


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.exr")
    rows = inspection.inspect("exr/pipe.exr", str(tmp_path / "pipe.exr"))
    assert [row["code"] for row in rows["validation"]] == ["not_regular_file"]


def test_undecodable_parts_are_reported_when_statistics_are_asked(tmp_path):
    assert "stats_unsupported" in codes(DEFECTS["bad_subsampling"], tmp_path, 1)
    assert "stats_unsupported" in codes(DEFECTS["unknown_compression"], tmp_path, 1)


def test_a_giant_window_over_a_tiny_file_costs_nothing(tmp_path):
    edge = 2**30 - 2
    flat = single(dataWindow=box(0, 0, edge, edge), displayWindow=box(0, 0, edge, edge))
    tiled = single(flags=header.TILED, dataWindow=box(0, 0, edge, edge), tiles=tiles(1, 1, 0))
    lying = multi(named("a", dataWindow=box(0, 0, 7, edge), chunkCount=("int", struct.pack("<i", 2**31 - 1))))
    for data in (flat, tiled, lying):
        assert {"truncated_file", "stats_unsupported"} <= codes(data, tmp_path, 1)


def test_giant_tiles_over_a_small_window_take_little_memory(tmp_path):
    changes = {"tiles": tiles(8, 2**31 - 1, 0), "dataWindow": box(0, 0, 7, 7)}
    head = MAGIC + struct.pack("<I", 2 | header.TILED) + part_bytes(fields(**changes))
    path = tmp_path / "x.exr"
    chunk = struct.pack("<5i", 0, 0, 0, 0, 128) + np.arange(64, dtype=np.float16).tobytes()
    path.write_bytes(head + struct.pack("<Q", len(head) + 8) + chunk)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = inspection.inspect("exr/x", str(path), 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024
    assert [(row["min"], row["max"]) for row in rows["stats"]] == [(0, 63)]


def test_reversed_windows_and_missing_tiles_are_not_decoded(tmp_path):
    reversed_window = {"dataWindow": box(5, 5, 0, 0), "tiles": tiles(2, 2, 0)}
    for changes in (reversed_window, {"tiles": None}, {"tiles": tiles(0, 0, 0)}, {"tiles": tiles(2, 2, 9)}):
        kind = ("string", b"tiledimage")
        for data in (single(flags=header.TILED, **changes), multi(named("a", type=kind, **changes), named("b"))):
            assert "stats_unsupported" in codes(data, tmp_path, 1)


def test_what_was_read_before_the_damage_is_kept(generated):
    rows = inspection.inspect("exr/x", str(generated["damaged_truncated_header"]))
    assert rows["files"][0]["exr_version"] == 2
    assert "truncated_header" in {row["code"] for row in rows["validation"]}
    rows = inspection.inspect("exr/x", str(generated["damaged_garbage"]))
    assert (rows["files"][0]["exr_version"], rows["files"][0]["multipart_count"]) == (None, None)
    assert rows["files"][0]["size_bytes"] == generated["damaged_garbage"].stat().st_size


@pytest.mark.parametrize("kind", [kind for kind in generate.KINDS if kind.startswith("damaged_")])
def test_generated_damage_is_found(kind, generated):
    stride = 1 if kind.startswith("damaged_flipped") else None
    severities = {row["severity"] for row in inspection.inspect("exr/x", str(generated[kind]), stride)["validation"]}
    # Flipped bytes may hit only pixels that still decode: then nothing can be known.
    assert "error" in severities or kind == "damaged_flipped_bytes"


FUZZED = ["attributes", "multipart", "deep_tiled_zips", "tiled_ripmap", "stereo", "deep_multipart"]


@pytest.mark.parametrize("kind", FUZZED)
def test_cut_at_every_byte_of_the_header(kind, generated, tmp_path):
    data = generated[kind].read_bytes()
    descriptor = os.open(generated[kind], os.O_RDONLY)
    end = header.read_header(descriptor, len(data), findings.Findings()).end
    os.close(descriptor)
    path = tmp_path / "cut.exr"
    path.write_bytes(data[:end])
    for length in range(end - 1, -1, -1):
        os.truncate(path, length)
        rows = inspection.inspect("exr/x", str(path))
        wanted = "empty_file" if length == 0 else "truncated_header"
        assert wanted in {row["code"] for row in rows["validation"]}, length


@pytest.mark.parametrize("kind", [*FUZZED, "long_header", "subsampled_piz"])
def test_flipped_header_bytes_never_raise(kind, generated, tmp_path):
    rng = np.random.default_rng([SEED, len(kind)])
    print(f"seed {SEED}")
    data = generated[kind].read_bytes()
    span = min(len(data), 3000)
    path = tmp_path / "flipped.exr"
    for _ in range(400):
        harmed = bytearray(data)
        for at in rng.integers(0, span, int(rng.integers(1, 9))):
            harmed[at] = int(rng.integers(0, 256))
        path.write_bytes(harmed)
        check_shape(inspection.inspect("exr/x", str(path)))


DECODED = [
    "scanline_zip", "scanline_piz", "deep_scanline_zips", "deep_tiled_rle", "tiled_ripmap", "subsampled_b44",
    "scanline_dwaa", "scanline_htj2k32", "deep_scanline_zstd",
]  # fmt: skip


@pytest.mark.parametrize("kind", DECODED)
def test_flipped_bytes_anywhere_never_break_statistics(kind, generated, tmp_path):
    rng = np.random.default_rng([SEED, len(kind), 2])
    print(f"seed {SEED}")
    data = generated[kind].read_bytes()
    path = tmp_path / "flipped.exr"
    for _ in range(25):
        harmed = bytearray(data)
        for at in rng.integers(0, len(data), int(rng.integers(1, 20))):
            harmed[at] = int(rng.integers(0, 256))
        path.write_bytes(harmed[: int(rng.integers(len(data) // 2, len(data) + 1))])
        check_shape(inspection.inspect("exr/x", str(path), int(rng.integers(1, 4))))


def test_random_bytes_behind_the_magic_never_raise(tmp_path):
    rng = np.random.default_rng([SEED, 3])
    path = tmp_path / "random.exr"
    for _ in range(300):
        flags = int(rng.choice([0, header.TILED, header.MULTIPART, header.DEEP, header.DEEP | header.MULTIPART]))
        path.write_bytes(MAGIC + struct.pack("<I", 2 | flags) + rng.bytes(int(rng.integers(0, 6000))))
        check_shape(inspection.inspect("exr/x", str(path), 1))


@pytest.mark.parametrize("path", shared_files("bad_*.exr"))
def test_damaged_shared_file_has_error_rows(path):
    rows = inspection.inspect("exr/x", str(path), 1)
    check_shape(rows)
    assert any(row["severity"] == "error" for row in rows["validation"])


def check_shape(rows: dict) -> None:
    """Rows can be stored: keys are unique and present, findings are known, text is text."""
    assert list(rows) == list(inspection.TABLES)
    for table, key in inspection.TABLES.items():
        names = [tuple(row[column] for column in key) for row in rows[table]]
        assert len(set(names)) == len(names)
        assert None not in {part for name in names for part in name}
        for row in rows[table]:
            for value in row.values():
                if isinstance(value, str):
                    assert "\0" not in value
                    value.encode()
    for row in rows["validation"]:
        assert CODES[row["code"]][0] == row["severity"]
