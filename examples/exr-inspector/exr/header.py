# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Reader of OpenEXR headers: single part and multi-part, flat and deep, scan lines and tiles.

Every length is checked against what was read before it is used; every defect becomes a finding, and what was readable
before it is kept. Byte layout: "OpenEXR File Layout", openexr.com.
"""

import os
import struct
from typing import NamedTuple

from . import attributes
from .findings import Findings

MAGIC = b"\x76\x2f\x31\x01"
TILED, LONG_NAMES, DEEP, MULTIPART = 0x200, 0x400, 0x800, 0x1000
KNOWN_FLAGS = TILED | LONG_NAMES | DEEP | MULTIPART

FIRST_READ_BYTES = 4096
HEADER_BYTES_MAX = 16 * 1024 * 1024
NAME_BYTES_MAX = 255
SHORT_NAME_BYTES_MAX = 31
COORDINATE_MAX = 2**30
ATTRIBUTES_MAX = 16_384
CHANNELS_MAX = 16_384

PART_TYPES = ("scanlineimage", "tiledimage", "deepscanline", "deeptile")

_INT = struct.Struct("<i")
_BOX = struct.Struct("<4i")
_FLOAT = struct.Struct("<f")

# Attributes the reader itself interprets, with the type each must have.
STANDARD_TYPES = {
    "channels": b"chlist", "compression": b"compression", "dataWindow": b"box2i", "displayWindow": b"box2i",
    "lineOrder": b"lineOrder", "pixelAspectRatio": b"float", "screenWindowCenter": b"v2f",
    "screenWindowWidth": b"float", "tiles": b"tiledesc", "name": b"string", "type": b"string", "view": b"string",
    "chunkCount": b"int", "version": b"int", "multiView": b"stringvector",
}  # fmt: skip


class Attribute(NamedTuple):
    """One header attribute; `value` is text, `raw` the bytes in the file."""

    name: str
    type: str
    value: str
    raw: bytes


class Channel(NamedTuple):
    """One entry of a channel list; `linear` is the file's pLinear flag."""

    name: str
    type: str
    linear: bool
    x_sampling: int
    y_sampling: int


class Box(NamedTuple):
    """A pixel rectangle, both corners included."""

    x_min: int
    y_min: int
    x_max: int
    y_max: int

    @property
    def width(self) -> int:
        return self.x_max - self.x_min + 1

    @property
    def height(self) -> int:
        return self.y_max - self.y_min + 1

    def __str__(self) -> str:
        return f"[{self.x_min}, {self.y_min}, {self.x_max}, {self.y_max}]"


class Tiles(NamedTuple):
    """Tile size and level scheme; modes are the file's numbers."""

    x_size: int
    y_size: int
    level_mode: int
    rounding_mode: int


class Part:
    """One part's attributes and what they mean; a field is None where the attribute is absent or malformed."""

    __slots__ = (
        "attributes", "channels", "chunk_count", "compression", "data_window", "display_window", "index", "kind",
        "line_order", "pixel_aspect_ratio", "screen_window_width", "tiles",
    )  # fmt: skip

    def __init__(self, index: int) -> None:
        self.index = index
        self.attributes: dict[str, Attribute] = {}
        self.channels: list[Channel] = []
        self.kind: str | None = None
        self.data_window: Box | None = None
        self.display_window: Box | None = None
        self.compression: int | None = None
        self.line_order: int | None = None
        self.pixel_aspect_ratio: float | None = None
        self.screen_window_width: float | None = None
        self.tiles: Tiles | None = None
        self.chunk_count: int | None = None

    def text(self, name: str) -> str | None:
        """A string attribute's value, None where it is absent or not a string."""
        attribute = self.attributes.get(name)
        return attribute.value if attribute is not None and attribute.type == "string" else None

    @property
    def name(self) -> str | None:
        return self.text("name")

    @property
    def view(self) -> str | None:
        return self.text("view")

    @property
    def views(self) -> list[str]:
        """The views a multiView attribute lists, the default view first."""
        attribute = self.attributes.get("multiView")
        if attribute is None or attribute.type != "stringvector":
            return []
        try:
            return attributes.string_entries(attribute.raw)
        except attributes.Malformed:
            return []

    @property
    def is_tiled(self) -> bool:
        return self.kind in ("tiledimage", "deeptile")

    @property
    def is_deep(self) -> bool:
        return self.kind in ("deepscanline", "deeptile")

    def label(self) -> str:
        """How messages name the part."""
        name = self.name
        return f"part {self.index} ({name})" if name else f"part {self.index}"


class Header:
    """The headers of one file."""

    def __init__(self) -> None:
        self.version: int | None = None
        self.flags = 0
        self.parts: list[Part] = []
        self.is_complete = False
        self.end = 0
        self.data = b""

    @property
    def is_multipart(self) -> bool:
        return bool(self.flags & MULTIPART)

    @property
    def is_deep(self) -> bool:
        return any(part.is_deep for part in self.parts) or bool(self.flags & DEEP and not self.is_multipart)

    @property
    def bytes(self) -> bytes:
        """The header's bytes; of a damaged one, all that was read in search of its end."""
        return self.data[: self.end] if self.is_complete else self.data


class _Shortage(Exception):
    """The header goes on past the bytes at hand, at least to `needed`."""

    def __init__(self, needed: int, where: str) -> None:
        super().__init__(where)
        self.needed = needed
        self.where = where


class _Unreadable(Exception):
    """The header cannot be followed any further."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def read_header(descriptor: int, size: int, findings: Findings, limit: int = HEADER_BYTES_MAX) -> Header:
    """Reads the header of an open file of `size` bytes, asking for no more than it needs.

    One read suffices for up to 4 KiB of header; longer ones grow fourfold up to `limit` bytes.
    """
    data = os.pread(descriptor, min(FIRST_READ_BYTES, limit), 0)
    while True:
        attempt = Findings()
        header = Header()
        header.data = data
        try:
            _Parser(data, header, attempt).parse()
        except _Unreadable as reason:
            attempt.add(reason.code, str(reason))
        except _Shortage as shortage:
            more = _grown(descriptor, size, limit, data, shortage, attempt)
            if more is not None:
                data = more
                continue
        for finding in attempt:
            findings.add(finding.code, finding.message)
        return header


def _grown(
    descriptor: int, size: int, limit: int, data: bytes, shortage: _Shortage, findings: Findings
) -> bytes | None:
    """A longer run of the file's first bytes, or None with a finding where there is none to be had."""
    if shortage.needed > size or len(data) >= size:
        findings.add("truncated_header", f"the file ends at byte {size} {shortage.where}")
        return None
    wanted = min(max(4 * len(data), shortage.needed + FIRST_READ_BYTES), size, limit)
    if shortage.needed > limit or wanted <= len(data):
        findings.add("header_too_large", f"the header passes {limit} bytes {shortage.where}")
        return None
    more = data + os.pread(descriptor, wanted - len(data), len(data))
    if len(more) <= len(data):
        findings.add("truncated_header", f"the file ends at byte {len(data)} {shortage.where}")
        return None
    return more


class _Parser:
    def __init__(self, data: bytes, header: Header, findings: Findings) -> None:
        self.data = data
        self.header = header
        self.findings = findings
        self.at = 0
        self.attribute_count = 0
        self.channel_count = 0

    def parse(self) -> None:
        header = self.header
        if not self.data:
            raise _Unreadable("empty_file", "the file is empty")
        if not MAGIC.startswith(self.data[:4]):
            raise _Unreadable("not_exr", f"starts with {self.data[:4].hex(' ')}, an OpenEXR file with {MAGIC.hex(' ')}")
        if len(self.data) < 8:
            raise _Shortage(8, "inside the magic number and version")
        (field,) = _INT.unpack_from(self.data, 4)
        header.version, header.flags = field & 0xFF, field & 0xFFFFFF00
        self.check_version()
        self.at = 8
        while True:
            if header.is_multipart and self.byte_at(self.at, "before the end of the part list") == 0:
                self.at += 1
                break
            part = Part(len(header.parts))
            header.parts.append(part)
            try:
                self.read_part(part)
            finally:
                self.interpret(part)
            if not header.is_multipart:
                break
        header.end = self.at
        header.is_complete = True
        if not header.parts:
            self.findings.add("no_parts", "the multi-part file lists no parts")

    def check_version(self) -> None:
        header = self.header
        if header.version not in (1, 2):
            raise _Unreadable("unsupported_version", f"format version {header.version}; versions 1 and 2 can be read")
        if header.flags & ~KNOWN_FLAGS:
            self.findings.add("unknown_flags", f"version field flags 0x{header.flags & ~KNOWN_FLAGS:x} are not defined")
        if header.flags & TILED and header.flags & (DEEP | MULTIPART):
            self.findings.add("conflicting_flags", "the single-part tiled flag is set together with deep or multi-part")

    def byte_at(self, at: int, where: str) -> int:
        if at >= len(self.data):
            raise _Shortage(at + 1, where)
        return self.data[at]

    def terminated(self, what: str, part: Part) -> bytes:
        """The NUL-terminated bytes at the current place, which moves behind them."""
        start = self.at
        end = self.data.find(b"\0", start, start + NAME_BYTES_MAX + 1)
        if end < 0:
            where = f"{what} in {part.label()}"
            if len(self.data) - start <= NAME_BYTES_MAX:
                raise _Shortage(len(self.data) + 1, f"inside {where}")
            raise _Unreadable("bad_attribute", f"{where} at byte {start} does not end within {NAME_BYTES_MAX} bytes")
        self.at = end + 1
        return self.data[start:end]

    def read_part(self, part: Part) -> None:
        kept, data, describe, text = part.attributes, self.data, attributes.describe, attributes.text
        while True:
            raw_name = self.terminated("an attribute name", part)
            if not raw_name:
                return
            name = text(raw_name)
            raw_type = self.terminated(f"the type of attribute {name}", part)
            start = self.at + 4
            if start > len(data):
                raise _Shortage(start, f"inside attribute {name} of {part.label()}")
            (length,) = _INT.unpack_from(data, self.at)
            if length < 0 or not raw_type:
                fault = f"claims {length} bytes" if length < 0 else "has no type"
                raise _Unreadable("bad_attribute", f"attribute {name} of {part.label()} at byte {self.at} {fault}")
            end = start + length
            if end > len(data):
                raise _Shortage(end, f"inside attribute {name} of {part.label()}, which claims {length} bytes")
            self.attribute_count += 1
            if self.attribute_count > ATTRIBUTES_MAX:
                raise _Unreadable("header_too_large", f"more than {ATTRIBUTES_MAX} attributes")
            raw = data[start:end]
            value, complaint = describe(raw_type, raw)
            if complaint is not None or name in kept or len(raw_name) > SHORT_NAME_BYTES_MAX:
                self.remark(part, name, len(raw_name), complaint)
            kept[name] = Attribute(name, text(raw_type), value, raw)
            self.at = end

    def remark(self, part: Part, name: str, name_bytes: int, complaint: str | None) -> None:
        if complaint is not None and name not in ("compression", "lineOrder", "tiles"):
            self.findings.add("bad_attribute", f"attribute {name} of {part.label()} {complaint}")
        if name in part.attributes:
            self.findings.add("duplicate_attribute", f"attribute {name} occurs twice in {part.label()}")
        if name_bytes > SHORT_NAME_BYTES_MAX and not self.header.flags & LONG_NAMES:
            self.findings.add("name_too_long", f"attribute {name} of {part.label()} has {name_bytes} bytes")

    def standard(self, part: Part, name: str, size: int | None) -> bytes | None:
        """The bytes of a standard attribute whose type and size are right."""
        attribute = part.attributes.get(name)
        if attribute is None:
            return None
        expected = STANDARD_TYPES[name].decode()
        if attribute.type != expected:
            self.findings.add(
                "bad_attribute", f"attribute {name} of {part.label()} has type {attribute.type}, expected {expected}"
            )
            return None
        return attribute.raw if size is None or len(attribute.raw) == size else None

    def interpret(self, part: Part) -> None:
        """Fills the part's fields from its attributes; runs on parts cut short too."""
        if raw := self.standard(part, "dataWindow", 16):
            part.data_window = Box(*_BOX.unpack(raw))
        if raw := self.standard(part, "displayWindow", 16):
            part.display_window = Box(*_BOX.unpack(raw))
        if raw := self.standard(part, "compression", 1):
            part.compression = raw[0]
        if raw := self.standard(part, "lineOrder", 1):
            part.line_order = raw[0]
        if raw := self.standard(part, "pixelAspectRatio", 4):
            (part.pixel_aspect_ratio,) = _FLOAT.unpack(raw)
        if raw := self.standard(part, "screenWindowWidth", 4):
            (part.screen_window_width,) = _FLOAT.unpack(raw)
        if raw := self.standard(part, "chunkCount", 4):
            (part.chunk_count,) = _INT.unpack(raw)
        if raw := self.standard(part, "tiles", 9):
            part.tiles = Tiles(*attributes.tile_description(raw))
        for name in ("name", "type", "view", "multiView", "screenWindowCenter", "version"):
            self.standard(part, name, None)
        part.kind = self.kind_of(part)
        self.read_channels(part)

    def kind_of(self, part: Part) -> str | None:
        """The part type: the flags decide in flat single-part files, the attribute in all others."""
        flags = self.header.flags
        if not flags & (DEEP | MULTIPART):
            return "tiledimage" if flags & TILED else "scanlineimage"
        stated = part.text("type")
        return stated if stated in PART_TYPES else None

    def read_channels(self, part: Part) -> None:
        raw = self.standard(part, "channels", None)
        if raw is None:
            return
        try:
            entries = attributes.channel_entries(raw)
        except attributes.Malformed:
            return
        self.channel_count += len(entries)
        if self.channel_count > CHANNELS_MAX:
            raise _Unreadable("header_too_large", f"more than {CHANNELS_MAX} channels")
        part.channels = [
            Channel(attributes.text(name), attributes.pixel_type_name(kind), bool(linear), x, y)
            for name, kind, linear, x, y in entries
        ]
        long_flag = self.header.flags & LONG_NAMES
        if not long_flag and any(len(entry[0]) > SHORT_NAME_BYTES_MAX for entry in entries):
            self.findings.add("name_too_long", f"a channel name of {part.label()} has more than 31 bytes")
