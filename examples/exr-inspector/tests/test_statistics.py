# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Statistics against NumPy over the pixels the OpenEXR library reads from the whole file."""

import subprocess
import zlib

import generate
import numpy as np
import OpenEXR
import pytest
from conftest import shared_files
from openexr_tools import needs

from exr import pixels, tally, unpack
from exr.chunks import BadChunk
from exr.inspection import inspect

SOUND_KINDS = [kind for kind in generate.KINDS if not kind.startswith("damaged_") and kind != "attributes"]


def expected(samples: np.ndarray, stride: int) -> dict:
    values = samples.astype(np.float64).ravel()
    finite = values[np.isfinite(values)]
    empty = not len(finite)
    return {
        "min": None if empty else finite.min(),
        "max": None if empty else finite.max(),
        "mean": None if empty else pytest.approx(finite.mean(), rel=1e-9, abs=1e-12),
        "stddev": None if empty else pytest.approx(finite.std(), rel=1e-6, abs=1e-9),
        "nan_count": int(np.isnan(values).sum()),
        "inf_count": int(np.isinf(values).sum()),
        "sample_stride": stride,
    }


def library_statistics(path, stride: int) -> dict:
    found = {}
    for index, part in enumerate(OpenEXR.File(str(path), separate_channels=True).parts):
        for name, channel in part.channels.items():
            grid = channel.pixels[::stride, ::stride]
            if grid.dtype == object:
                lists = [entry for entry in grid.ravel() if entry is not None]
                grid = np.concatenate(lists) if lists else np.empty(0)
            found[index, name] = expected(grid, stride)
    return found


def our_statistics(path, stride: int) -> dict:
    rows = inspect("exr/x", str(path), stride)
    assert not [row for row in rows["validation"] if row["severity"] == "error"]
    listed = [(row["part_index"], row["name"]) for row in rows["channels"]]
    assert [(row["part_index"], row["channel"]) for row in rows["stats"]] == listed
    skip = ("file_path", "part_index", "channel")
    return {
        (row["part_index"], row["channel"]): {column: row[column] for column in row if column not in skip}
        for row in rows["stats"]
    }


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("kind", SOUND_KINDS)
def test_generated_file_agrees_with_the_library(kind, stride, generated):
    assert our_statistics(generated[kind], stride) == library_statistics(generated[kind], stride)


@pytest.mark.parametrize("stride", [1, 7])
@pytest.mark.parametrize("path", shared_files(leave_out="bad_"))
def test_shared_file_agrees_with_the_library(path, stride):
    if path.name.endswith(".deep.exr"):
        # The library's Python module refuses deepImageState; the same chunks in a plain container it reads.
        path_rows, wanted = deep_through_the_library(path, stride)
        assert path_rows == wanted
    else:
        assert our_statistics(path, stride) == library_statistics(path, stride)


def deep_through_the_library(path, stride: int):
    ours = our_statistics(path, stride)
    saved, pixels.DEEP_UNPACKED_HERE = pixels.DEEP_UNPACKED_HERE, set()
    try:
        return ours, {
            name: {
                **row,
                "mean": pytest.approx(row["mean"], rel=1e-9),
                "stddev": pytest.approx(row["stddev"], rel=1e-6),
            }
            for name, row in our_statistics(path, stride).items()
        }
    finally:
        pixels.DEEP_UNPACKED_HERE = saved


@pytest.mark.parametrize("kind", [kind for kind in SOUND_KINDS if not kind.startswith("deep")])
def test_bands_do_not_change_the_result(kind, generated, monkeypatch):
    """Every chunk in a band of its own, as in files far larger than one band."""
    whole = library_statistics(generated[kind], 2)
    monkeypatch.setattr(pixels, "BAND_BYTES", 1)
    assert our_statistics(generated[kind], 2) == whole


@needs("exrmaketiled")
@pytest.mark.parametrize("mode", ["-m", "-r"])
def test_levels_written_by_exrmaketiled(mode, generated, tmp_path):
    target = tmp_path / "levels.exr"
    subprocess.run(["exrmaketiled", mode, "-z", "piz", "-t", "31", "17", generated["scanline_piz"], target], check=True)
    assert our_statistics(target, 1) == library_statistics(target, 1)


def test_subsampled_chroma_is_counted_on_its_own_grid(generated):
    rows = inspect("exr/x", str(generated["subsampled_zip"]), 1)
    grids = OpenEXR.File(str(generated["subsampled_zip"]), separate_channels=True).channels()
    assert grids["BY"].pixels.size * 4 == grids["Y"].pixels.size
    assert {row["channel"] for row in rows["stats"]} == {"BY", "RY", "Y"}


def test_not_a_number_and_infinities_are_counted_and_reported(generated):
    rows = inspect("exr/x", str(generated["not_finite"]), 1)
    stats = {row["channel"]: row for row in rows["stats"]}
    assert stats["N"]["nan_count"] == 64 * 48
    assert stats["N"]["min"] is stats["N"]["max"] is stats["N"]["mean"] is stats["N"]["stddev"] is None
    assert stats["Z"]["nan_count"] > 0 and stats["Z"]["inf_count"] > 0 and stats["Z"]["min"] is not None
    assert {"nan_pixels", "inf_pixels"} <= {row["code"] for row in rows["validation"]}


@pytest.mark.parametrize("kind", ["damaged_flipped_pixels", "damaged_truncated_pixels", "damaged_unfinished"])
def test_damaged_pixels_cost_only_their_chunks(kind, generated):
    rows = inspect("exr/x", str(generated[kind]), 1)
    assert "pixel_data_damaged" in {row["code"] for row in rows["validation"]}
    assert all(row["part_index"] == 0 for row in rows["stats"])


def test_one_damaged_chunk_leaves_the_others_exact(generated):
    path = generated["damaged_flipped_pixels"]
    rows = inspect("exr/x", str(path), 1)
    (row,) = [row for row in rows["validation"] if row["code"] == "pixel_data_damaged"]
    assert "1 of " in row["message"] and "line 0" in row["message"]


def test_a_part_with_nothing_but_damaged_chunks_is_given_up(generated, tmp_path, monkeypatch):
    sound = generated["scanline_zips"].read_bytes()
    end = generate.header_end(sound)
    first = int.from_bytes(sound[end : end + 8], "little")
    data = bytearray(sound)
    for at in range(end, first, 8):
        chunk = int.from_bytes(data[at : at + 8], "little") + 8
        data[chunk : chunk + 12] = b"\xff" * 12
    path = tmp_path / "x.exr"
    path.write_bytes(data)
    monkeypatch.setattr(pixels, "UNDECODABLE_CHUNKS_MAX", 5)
    rows = inspect("exr/x", str(path), 1)
    assert rows["stats"] == []
    assert ["gave up after 5 chunks" in row["message"] for row in rows["validation"]] == [True]


def test_every_half_value_is_tallied_exactly():
    values = np.arange(65_536, dtype=np.uint16).view(np.float16)
    counts = tally.HalfTally()
    for run in np.array_split(values, 7):
        counts.add(run)
    low, high, mean, deviation, nan_count, inf_count = counts.moments()
    finite = values[np.isfinite(values)].astype(np.float64)
    assert (low, high, nan_count, inf_count) == (-65504, 65504, 2046, 2)
    assert mean == pytest.approx(finite.mean(), abs=1e-9) and deviation == pytest.approx(finite.std())


def test_running_tally_is_stable_far_from_zero():
    values = np.random.default_rng(5).normal(1e9, 1, 100_000)
    counts = tally.RunningTally()
    for run in np.array_split(values, 37):
        counts.add(run)
    assert counts.moments()[3] == pytest.approx(values.std(), rel=1e-6)


def packed_like_the_format(raw: bytes) -> bytes:
    data = np.frombuffer(raw, np.uint8)
    halves = np.concatenate([data[0::2], data[1::2]])
    differences = halves.copy()
    differences[1:] = halves[1:] - halves[:-1] + 128
    return differences.tobytes()


def test_zlib_and_run_length_blocks_round_trip():
    raw = bytes(np.random.default_rng(3).integers(0, 4, 4097, dtype=np.uint8)) + bytes(1000)
    packed = packed_like_the_format(raw)
    assert unpack.unpacked("zips", zlib.compress(packed), len(raw)) == raw
    runs = b"".join(bytes([0, byte]) for byte in packed[:10]) + bytes([256 - 100]) + packed[10:110]
    assert unpack.run_lengths(runs, 110) == packed[:110]
    for damaged in (b"\x80abc", b"\x05"):
        with pytest.raises(BadChunk):
            unpack.run_lengths(damaged, 500)
    with pytest.raises(BadChunk):
        unpack.unpacked("zips", zlib.compress(packed)[:-9], len(raw))


def test_a_zlib_bomb_is_cut_off():
    bomb = zlib.compress(bytes(64 * 1024 * 1024))
    with pytest.raises(BadChunk, match="expected 100000"):
        unpack.unpacked("zips", bomb, 100_000)


def test_statistics_are_not_computed_unless_asked(generated):
    assert inspect("exr/x", str(generated["scanline_zip"]))["stats"] == []
