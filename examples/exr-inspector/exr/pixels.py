# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Pixel statistics per channel: minimum, maximum, mean, population standard deviation, NaN and infinity counts.

The full-resolution level is walked chunk by chunk, so memory stays bounded and one damaged chunk costs only itself.
Flat chunks, and deep ones under Zstandard, are unpacked by the OpenEXR library: runs of chunks are put behind a minimal
header of their own, which also keeps the library away from attributes it cannot read. Other deep chunks are unpacked
here.
"""

import io
import os
import struct
from typing import NamedTuple

import numpy as np
import OpenEXR

from . import attributes
from .chunks import BadChunk, computed_chunk_count, lines_per_chunk, offsets, read_leader, table_lengths
from .findings import Findings
from .header import COORDINATE_MAX, Box, Header, Part
from .tally import HalfTally, RunningTally
from .unpack import DTYPES, Piece, Unit, container, unpack_deep

BAND_BYTES = 16 * 1024 * 1024
CHUNK_BYTES_MAX = 256 * 1024 * 1024
UNDECODABLE_CHUNKS_MAX = 64
DEEP_UNPACKED_HERE = {"none", "rle", "zips"}


class ChannelStatistics(NamedTuple):
    """One row of the `stats` table, without the path."""

    part_index: int
    channel: str
    min: float | None
    max: float | None
    mean: float | None
    stddev: float | None
    nan_count: int
    inf_count: int
    sample_stride: int


class TooDamaged(Exception):
    """So many chunks of a part cannot be decoded that trying the others is not worth it."""


class Unsupported(Exception):
    """A part that cannot be decoded here, with the reason."""


def statistics(descriptor: int, size: int, header: Header, stride: int, findings: Findings) -> list[ChannelStatistics]:
    """Statistics of every channel of every part; `stride` keeps each n-th sample along x and y of the channel's grid.

    Deep parts keep all samples of each n-th pixel. What cannot be decoded becomes a finding.
    """
    if not header.is_complete:
        return []
    lengths = table_lengths(header, Findings())
    if lengths is None:
        findings.add("stats_unsupported", "the header does not say where the pixels are")
        return []
    rows: list[ChannelStatistics] = []
    table_start = header.end
    for part, length in zip(header.parts, lengths):
        reader = PartReader(descriptor, size, header, part, table_start, length, stride)
        table_start += 8 * length
        try:
            reader.read()
        except Unsupported as reason:
            findings.add("stats_unsupported", f"{part.label()}: {reason}")
            continue
        except TooDamaged:
            tried = f"gave up after {reader.damaged} chunks that cannot be decoded"
            findings.add("pixel_data_damaged", f"{part.label()}: {tried}; {reader.first_fault}")
            continue
        if reader.damaged:
            share = f"{reader.damaged} of {reader.unit_count} chunks cannot be decoded"
            findings.add("pixel_data_damaged", f"{part.label()}: {share}; {reader.first_fault}")
        if reader.damaged == reader.unit_count:
            continue
        for name, tally in reader.tallies.items():
            row = ChannelStatistics(part.index, name, *tally.moments(), stride)
            rows.append(row)
            if row.nan_count:
                findings.add("nan_pixels", f"{part.label()}: channel {name} has {row.nan_count} NaN samples")
            if row.inf_count:
                findings.add("inf_pixels", f"{part.label()}: channel {name} has {row.inf_count} infinite samples")
    return rows


class PartReader:
    """Walks one part's full-resolution chunks and tallies its channels."""

    def __init__(
        self, descriptor: int, size: int, header: Header, part: Part, table_start: int, table_length: int, stride: int
    ) -> None:
        self.descriptor = descriptor
        self.size = size
        self.part = part
        self.is_multipart = header.is_multipart
        self.table_start = table_start
        self.table_length = table_length
        self.stride = stride
        self.damaged = 0
        self.undecodable = 0
        self.unit_count = 0
        self.first_fault = ""
        self.tallies = {
            channel.name: HalfTally() if channel.type == "half" else RunningTally() for channel in part.channels
        }

    def read(self) -> None:
        part = self.part
        self.check_decodable()
        self.compression = attributes.COMPRESSIONS[part.compression]
        self.unpacks_here = part.is_deep and self.compression in DEEP_UNPACKED_HERE
        band: list[Piece] = []
        band_bytes = 0
        limit = BAND_BYTES if self.bands_may_split() else CHUNK_BYTES_MAX
        for row in self.rows():
            pieces = [piece for piece in map(self.fetch, row) if piece is not None]
            row_bytes = sum(self.unpacked_bytes(piece.unit.box) for piece in pieces)
            if len(pieces) < len(row) or self.unpacks_here or band_bytes + row_bytes > limit:
                self.decode(band)
                band, band_bytes = [], 0
            if len(pieces) < len(row) or self.unpacks_here:
                for piece in pieces:
                    self.decode([piece])
            else:
                band += pieces
                band_bytes += row_bytes
        self.decode(band)

    def check_decodable(self) -> None:
        part, window = self.part, self.part.data_window
        if part.compression is None or part.compression >= len(attributes.COMPRESSIONS):
            raise Unsupported("its compression is not known")
        if computed_chunk_count(part) is None or max(abs(edge) for edge in window) >= COORDINATE_MAX:
            raise Unsupported("its type, data window or tiles are not usable")
        if not part.channels:
            raise Unsupported("it has no channels")
        if len(self.tallies) < len(part.channels):
            raise Unsupported("two channels share a name")
        for channel in part.channels:
            x, y = channel.x_sampling, channel.y_sampling
            if channel.type not in DTYPES or x < 1 or y < 1:
                raise Unsupported(f"channel {channel.name} is malformed")
            if window.x_min % x or window.y_min % y or window.width % x or window.height % y:
                raise Unsupported(f"the sampling of channel {channel.name} does not divide the data window")
            if (x, y) != (1, 1) and (part.is_tiled or part.is_deep):
                raise Unsupported(f"channel {channel.name} is subsampled in a {part.kind} part")

    def bands_may_split(self) -> bool:
        """Whether each chunk starts on a line that every channel has."""
        part = self.part
        return part.is_tiled or not any(lines_per_chunk(part) % channel.y_sampling for channel in part.channels)

    def unpacked_bytes(self, box: Box) -> int:
        """Bytes of a flat chunk once unpacked; for deep ones, of its sample counts."""
        if self.part.is_deep:
            return 4 * box.width * box.height
        return sum(
            DTYPES[channel.type].itemsize
            * (box.width // channel.x_sampling + 1)
            * (box.height // channel.y_sampling + 1)
            for channel in self.part.channels
        )

    def rows(self):
        """The units that cover the window, one list per line of chunks; offsets missing from the table are absent."""
        part, window = self.part, self.part.data_window
        tiles = part.tiles if part.is_tiled else None
        width = tiles.x_size if tiles else window.width
        height = tiles.y_size if tiles else lines_per_chunk(part)
        across, down = -(-window.width // width), -(-window.height // height)
        self.unit_count = across * down
        if self.unit_count > self.table_length:
            raise Unsupported(f"its offset table has {self.table_length} entries, {self.unit_count} are needed")
        if self.table_start + 8 * self.unit_count > self.size:
            raise Unsupported("the file ends inside its offset table")
        if (
            self.unpacked_bytes(Box(0, 0, min(width, window.width) - 1, min(height, window.height) - 1))
            > CHUNK_BYTES_MAX
        ):
            raise Unsupported(f"its chunks unpack to more than {CHUNK_BYTES_MAX} bytes")
        for row in range(down):
            raw = os.pread(self.descriptor, 8 * across, self.table_start + 8 * row * across)
            self.row_offsets = offsets(raw)
            y = window.y_min + row * height
            units = []
            for column in range(across):
                x = window.x_min + column * width
                box = Box(x, y, min(x + width - 1, window.x_max), min(y + height - 1, window.y_max))
                units.append(Unit(column, box, (column, row, 0, 0) if tiles else (y,)))
            yield units

    def fetch(self, unit: Unit) -> Piece | None:
        """Reads one chunk, None (and a tally of the damage) where its leader is wrong or the file ends."""
        try:
            if unit.index >= len(self.row_offsets):
                raise BadChunk("the file ends inside the offset table")
            offset = self.row_offsets[unit.index]
            if not self.table_start <= offset < self.size:
                raise BadChunk(f"its offset {offset} lies outside the file")
            skip = 4 if self.is_multipart else 0
            raw = os.pread(self.descriptor, 64, offset)
            if skip and struct.unpack_from("<i", raw.ljust(4, b"\0"))[0] != self.part.index:
                raise BadChunk("it belongs to another part")
            leader = read_leader(raw, self.part, self.is_multipart)
            if leader.place != unit.place:
                raise BadChunk(f"it carries coordinates {leader.place}, expected {unit.place}")
            length = leader.table_bytes + leader.data_bytes
            if offset + leader.size + length > self.size:
                raise BadChunk("it ends past the end of the file")
            if length > CHUNK_BYTES_MAX or leader.unpacked_bytes > CHUNK_BYTES_MAX:
                raise BadChunk(f"it passes {CHUNK_BYTES_MAX} bytes")
            return Piece(unit, leader, os.pread(self.descriptor, length, offset + leader.size))
        except BadChunk as fault:
            self.note_damage(unit, str(fault))
            return None

    def note_damage(self, unit: Unit, fault: str) -> None:
        self.damaged += 1
        if self.damaged == 1:
            place = f"tile {unit.place[0]} {unit.place[1]}" if self.part.is_tiled else f"line {unit.place[0]}"
            self.first_fault = f"the first at {place}: {fault}"

    def decode(self, band: list[Piece]) -> None:
        """Unpacks a run of chunks and tallies it; a run that fails is tried again chunk by chunk."""
        if not band:
            return
        try:
            samples = unpack_deep(self.part, band[0], self.stride) if self.unpacks_here else self.unpack(band)
        except BadChunk as fault:
            if len(band) == 1:
                self.note_damage(band[0].unit, str(fault))
                self.undecodable += 1
                # The library reports each failure on standard output too: a bound on the noise.
                if self.undecodable >= UNDECODABLE_CHUNKS_MAX:
                    raise TooDamaged from None
            else:
                for piece in band:
                    self.decode([piece])
            return
        for name, values in samples.items():
            self.tallies[name].add(values)

    def unpack(self, band: list[Piece]) -> dict[str, np.ndarray]:
        """Unpacks a run of chunks with the OpenEXR library."""
        part, window, stride = self.part, self.part.data_window, self.stride
        first, last = band[0].unit.box, band[-1].unit.box
        box = Box(first.x_min, first.y_min, last.x_max, last.y_max)
        try:
            with OpenEXR.File(io.BytesIO(container(part, box, band)), separate_channels=True) as file:
                if not file.parts:
                    raise BadChunk("the OpenEXR library cannot decode it")
                pixels = {name: channel.pixels for name, channel in file.parts[0].channels.items()}
        except (RuntimeError, ValueError, OSError, MemoryError) as error:
            raise BadChunk(f"the OpenEXR library cannot decode it ({error})") from None
        samples = {}
        for channel in part.channels:
            grid = pixels.get(channel.name)
            if grid is None or grid.ndim != 2:
                raise BadChunk(f"the OpenEXR library gives no pixels for channel {channel.name}")
            top = (box.y_min - window.y_min) // channel.y_sampling
            left = (box.x_min - window.x_min) // channel.x_sampling
            grid = grid[-top % stride :: stride, -left % stride :: stride]
            if part.is_deep:
                lists = [entry for entry in grid.ravel() if entry is not None and len(entry)]
                grid = np.concatenate(lists) if lists else np.empty(0, DTYPES[channel.type])
            samples[channel.name] = grid
        return samples
