# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Chunks: how many a part has, where the offset tables lie, and a cheap check that they fit the file."""

import os
import struct
import sys
from array import array
from typing import NamedTuple

from . import attributes
from .findings import Findings
from .header import COORDINATE_MAX, Header, Part

LINES_PER_CHUNK = dict(zip(attributes.COMPRESSIONS, (1, 1, 1, 16, 32, 16, 32, 32, 32, 256, 256, 32, 256, 1)))
TABLE_BYTES_READ_MAX = 65_536

_SCAN_LINE = struct.Struct("<ii")
_TILE = struct.Struct("<iiiii")
_DEEP_SCAN_LINE = struct.Struct("<iQQQ")
_DEEP_TILE = struct.Struct("<iiiiQQQ")
_PART_NUMBER = struct.Struct("<i")


class Leader(NamedTuple):
    """What stands in front of a chunk's data; `place` is (y,) or (tile x, tile y, level x, level y)."""

    place: tuple[int, ...]
    table_bytes: int
    data_bytes: int
    unpacked_bytes: int
    size: int


class BadChunk(Exception):
    """A chunk's leader does not fit its part or the file."""


def lines_per_chunk(part: Part) -> int:
    """Scan lines in one chunk of a part whose compression is defined."""
    return LINES_PER_CHUNK[attributes.COMPRESSIONS[part.compression]]


def level_count(size: int, rounding_mode: int) -> int:
    """Levels down to one pixel: floor or ceiling of log2, plus one."""
    return (size.bit_length() if rounding_mode == 0 else (size - 1).bit_length() + 1) if size > 0 else 0


def level_size(size: int, level: int, rounding_mode: int) -> int:
    return max(1, size >> level if rounding_mode == 0 else -(-size >> level))


def computed_chunk_count(part: Part) -> int | None:
    """The number of chunks the header implies, None where it does not say."""
    window, tiles = part.data_window, part.tiles
    if window is None or part.kind is None or not (0 < window.width <= 2**31 and 0 < window.height <= 2**31):
        return None
    if not part.is_tiled:
        known = part.compression is not None and part.compression < len(attributes.COMPRESSIONS)
        return -(-window.height // lines_per_chunk(part)) if known else None
    if tiles is None or not (0 < tiles.x_size < 2**31 and 0 < tiles.y_size < 2**31):
        return None
    mode, rounding = tiles.level_mode, tiles.rounding_mode
    if mode > 2 or rounding > 1:
        return None
    across = lambda level: -(-level_size(window.width, level, rounding) // tiles.x_size)  # noqa: E731
    down = lambda level: -(-level_size(window.height, level, rounding) // tiles.y_size)  # noqa: E731
    if mode == 0:
        return across(0) * down(0)
    if mode == 1:
        return sum(across(at) * down(at) for at in range(level_count(max(window.width, window.height), rounding)))
    columns = sum(across(at) for at in range(level_count(window.width, rounding)))
    return columns * sum(down(at) for at in range(level_count(window.height, rounding)))


def table_lengths(header: Header, findings: Findings) -> list[int] | None:
    """Entries in each part's offset table, None where a part does not tell.

    Multi-part and deep files state the count; a statement that contradicts the geometry is a finding and is followed.
    """
    lengths = []
    for part in header.parts:
        computed, stated = computed_chunk_count(part), part.chunk_count
        if stated is not None and (stated < 0 or (computed is not None and stated != computed)):
            findings.add("bad_chunk_count", f"{part.label()} states {stated} chunks, its geometry needs {computed}")
        follows_statement = header.is_multipart or part.is_deep
        length = stated if follows_statement and stated is not None and stated >= 0 else computed
        if length is None:
            return None
        lengths.append(length)
    return lengths


def read_at(descriptor: int, header: Header, offset: int, length: int) -> bytes:
    """Bytes of the file, from the header's buffer where it holds them."""
    if offset + length <= len(header.data):
        return header.data[offset : offset + length]
    return os.pread(descriptor, length, offset)


def offsets(raw: bytes) -> array:
    """Chunk offsets from the bytes of a table."""
    values = array("Q", raw[: len(raw) // 8 * 8])
    if sys.byteorder == "big":
        values.byteswap()
    return values


def check_chunks(descriptor: int, size: int, header: Header, findings: Findings) -> None:
    """Checks that the offset tables fit the file and that the chunk that lies last ends inside it.

    Reads up to 64 KiB of tables (of longer ones both ends) and one chunk leader; no pixel data.
    """
    lengths = table_lengths(header, findings)
    if lengths is None or not header.is_complete:
        return
    count = sum(lengths)
    table_end = header.end + 8 * count
    if table_end > size:
        message = f"{count} chunk offsets end at byte {table_end}, the file at byte {size}"
        findings.add("truncated_file", message)
        return
    if 8 * count <= TABLE_BYTES_READ_MAX:
        raw = read_at(descriptor, header, header.end, 8 * count)
    else:
        half = TABLE_BYTES_READ_MAX // 2
        raw = os.pread(descriptor, half, header.end) + os.pread(descriptor, half, table_end - half)
    values = offsets(raw)
    if not values:
        return
    lowest, highest = min(values), max(values)
    if lowest == 0:
        findings.add("chunk_table_incomplete", f"{values.count(0)} of {len(values)} chunk offsets are zero")
    elif lowest < table_end:
        inside = sum(1 for value in values if value < table_end)
        findings.add(
            "bad_chunk_offset", f"{inside} chunk offsets point in front of byte {table_end}, where chunks start"
        )
    if highest >= size:
        past = sum(1 for value in values if value >= size)
        findings.add("truncated_file", f"{past} of {len(values)} chunks start past the end of the file, byte {size}")
    elif highest >= table_end:
        check_last_chunk(descriptor, size, header, highest, findings)


def check_last_chunk(descriptor: int, size: int, header: Header, offset: int, findings: Findings) -> None:
    try:
        raw = read_at(descriptor, header, offset, min(64, size - offset))
        index = 0
        if header.is_multipart:
            index = part_number(raw)
            if not 0 <= index < len(header.parts):
                raise BadChunk(f"part number {index} of {len(header.parts)} parts")
        leader = read_leader(raw, header.parts[index], header.is_multipart)
    except BadChunk as fault:
        findings.add("bad_chunk", f"chunk at byte {offset}: {fault}")
        return
    end = offset + leader.size + leader.table_bytes + leader.data_bytes
    if end > size:
        findings.add("truncated_file", f"the chunk at byte {offset} ends at byte {end}, the file at byte {size}")


def part_number(raw: bytes) -> int:
    if len(raw) < 4:
        raise BadChunk("the file ends inside its leader")
    return _PART_NUMBER.unpack_from(raw)[0]


def read_leader(raw: bytes, part: Part, is_multipart: bool) -> Leader:
    """Parses a chunk's leader and checks its coordinates against the part."""
    skip = 4 if is_multipart else 0
    if part.is_tiled:
        layout = _DEEP_TILE if part.is_deep else _TILE
    else:
        layout = _DEEP_SCAN_LINE if part.is_deep else _SCAN_LINE
    size = skip + layout.size
    if len(raw) < size:
        raise BadChunk("the file ends inside its leader")
    fields = layout.unpack_from(raw, skip)
    place = fields[:4] if part.is_tiled else fields[:1]
    if part.is_deep:
        table_bytes, data_bytes, unpacked_bytes = fields[-3:]
    else:
        table_bytes, data_bytes, unpacked_bytes = 0, fields[-1], 0
    window = part.data_window
    if data_bytes < 0 or (data_bytes == 0 and not part.is_deep):
        raise BadChunk(f"claims {data_bytes} bytes")
    if part.is_tiled:
        if min(place) < 0 or max(place[:2]) >= COORDINATE_MAX or max(place[2:]) > 31:
            raise BadChunk(f"tile coordinates {place}")
    elif window is not None and not window.y_min <= place[0] <= window.y_max:
        raise BadChunk(f"line {place[0]} lies outside data window {window}")
    return Leader(place, table_bytes, data_bytes, unpacked_bytes, size)
