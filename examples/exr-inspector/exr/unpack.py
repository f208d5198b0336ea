# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""From the bytes of chunks to samples: a container for the OpenEXR library, and an unpacker for deep chunks."""

import struct
import zlib
from typing import NamedTuple

import numpy as np

from . import attributes
from .chunks import BadChunk, Leader
from .header import DEEP, LONG_NAMES, MAGIC, SHORT_NAME_BYTES_MAX, TILED, Box, Part

DTYPES = {"uint": np.dtype("<u4"), "half": np.dtype("<f2"), "float": np.dtype("<f4")}


class Unit(NamedTuple):
    """One chunk of the full-resolution level: its place in the offset table and the pixels it covers."""

    index: int
    box: Box
    place: tuple[int, ...]


class Piece(NamedTuple):
    """A unit and the bytes read for it."""

    unit: Unit
    leader: Leader
    data: bytes


def container(part: Part, box: Box, band: list[Piece]) -> bytes:
    """A complete single-part file that holds the band's chunks and nothing the library does not need to unpack them."""
    flags = 2 | (TILED if part.kind == "tiledimage" else 0) | (DEEP if part.is_deep else 0)
    if any(len(channel.name.encode()) > SHORT_NAME_BYTES_MAX for channel in part.channels):
        flags |= LONG_NAMES
    window = struct.pack("<4i", *box)
    fields = [
        ("channels", "chlist", part.attributes["channels"].raw),
        ("compression", "compression", bytes([part.compression])),
        ("dataWindow", "box2i", window), ("displayWindow", "box2i", window), ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)), ("screenWindowCenter", "v2f", bytes(8)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
    ]  # fmt: skip
    if part.is_tiled:
        # The library allocates whole tiles, so a tile that claims to be far larger than the window is cut to it.
        x_size, y_size = min(part.tiles.x_size, box.width), min(part.tiles.y_size, box.height)
        fields.append(("tiles", "tiledesc", struct.pack("<IIB", x_size, y_size, 0)))
    if part.is_deep:
        fields += [
            ("type", "string", part.kind.encode()), ("version", "int", struct.pack("<i", 1)),
            ("chunkCount", "int", struct.pack("<i", len(band))),
        ]  # fmt: skip
    head = b"".join(
        name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(raw)) + raw for name, kind, raw in fields
    )
    head = MAGIC + struct.pack("<i", flags) + head + b"\0"
    at = len(head) + 8 * len(band)
    table, body = [], []
    origin = band[0].unit.place
    for piece in band:
        leader, place = piece.leader, piece.unit.place
        if part.is_tiled:
            place = (place[0] - origin[0], place[1] - origin[1], 0, 0)
        sizes = struct.pack("<i", leader.data_bytes)
        if part.is_deep:
            sizes = struct.pack("<QQQ", leader.table_bytes, leader.data_bytes, leader.unpacked_bytes)
        chunk = struct.pack(f"<{len(place)}i", *place) + sizes + piece.data
        table.append(at)
        body.append(chunk)
        at += len(chunk)
    return b"".join([head, struct.pack(f"<{len(table)}Q", *table), *body])


def unpack_deep(part: Part, piece: Piece, stride: int) -> dict[str, np.ndarray]:
    """Samples of one deep chunk without, or with run-length or zlib, compression.

    The chunk is a table of sample counts, running totals per line, then for each line each channel's samples in turn.
    """
    box, leader = piece.unit.box, piece.leader
    compression = attributes.COMPRESSIONS[part.compression]
    counts_raw = piece.data[: leader.table_bytes]
    counts_size = 4 * box.width * box.height
    if compression == "none" and part.is_tiled:
        # The library stores the table of a whole tile for tiles cut off at the window's edge; the rest is padding.
        counts_raw = counts_raw[:counts_size]
    counts_raw = unpacked(compression, counts_raw, counts_size)
    totals = np.frombuffer(counts_raw, "<i4").reshape(box.height, box.width).astype(np.int64)
    counts = np.diff(totals, axis=1, prepend=0)
    if (counts < 0).any():
        raise BadChunk("its sample counts decrease")
    widths = [DTYPES[channel.type] for channel in part.channels]
    needed = int(totals[:, -1].sum()) * sum(kind.itemsize for kind in widths)
    if needed != leader.unpacked_bytes:
        raise BadChunk(f"its sample counts need {needed} bytes, the chunk states {leader.unpacked_bytes}")
    raw = unpacked(compression, piece.data[leader.table_bytes :], needed)
    window = part.data_window
    columns = (np.arange(box.x_min, box.x_max + 1) - window.x_min) % stride == 0
    samples: dict[str, list[np.ndarray]] = {channel.name: [] for channel in part.channels}
    at = 0
    for line in range(box.height):
        total = int(totals[line, -1])
        wanted = (box.y_min + line - window.y_min) % stride == 0
        kept = np.repeat(columns, counts[line]) if stride > 1 and wanted else None
        for channel, kind in zip(part.channels, widths):
            if wanted:
                values = np.frombuffer(raw, kind, total, at)
                samples[channel.name].append(values if kept is None else values[kept])
            at += total * kind.itemsize
    return {
        channel.name: np.concatenate(samples[channel.name] or [np.empty(0, kind)])
        for channel, kind in zip(part.channels, widths)
    }


def unpacked(compression: str, raw: bytes, size: int) -> bytes:
    """Undoes none, rle and zips; a block no smaller than its contents is stored as it is."""
    if len(raw) == size:
        return raw
    if compression == "none" or len(raw) > size:
        raise BadChunk(f"a block has {len(raw)} bytes, expected {size}")
    if compression == "rle":
        packed = run_lengths(raw, size)
    else:
        try:
            inflater = zlib.decompressobj()
            packed = inflater.decompress(raw, size + 1) if size else b""
        except zlib.error as error:
            raise BadChunk(f"a zlib block is damaged ({error})") from None
    if len(packed) != size:
        raise BadChunk(f"a block unpacks to {len(packed)} bytes, expected {size}")
    # Bytes are stored as differences, biased by 128, first those at even places, then those at odd ones.
    differences = np.frombuffer(packed, np.uint8).copy()
    differences[1:] += 128
    halves = np.cumsum(differences, dtype=np.uint8)
    result = np.empty(size, np.uint8)
    middle = (size + 1) // 2
    result[0::2], result[1::2] = halves[:middle], halves[middle:]
    return result.tobytes()


def run_lengths(raw: bytes, size: int) -> bytes:
    """Expands runs: a negative count is followed by that many literal bytes, another by the byte to repeat."""
    result, at = bytearray(), 0
    while at < len(raw) and len(result) <= size:
        count = raw[at]
        if count > 127:
            end = at + 1 + 256 - count
            if end > len(raw):
                raise BadChunk("a run-length block ends inside a literal run")
            result += raw[at + 1 : end]
            at = end
        else:
            if at + 1 >= len(raw):
                raise BadChunk("a run-length block ends inside a run")
            result += raw[at + 1 : at + 2] * (count + 1)
            at += 2
    return bytes(result)
