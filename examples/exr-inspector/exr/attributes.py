# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Attribute values as text: one decoder per attribute type of the OpenEXR file layout.

`describe(type_name, raw)` gives the text of the `attributes` table and, where the bytes do not fit the type, a
complaint. Numbers, vectors, boxes, matrices and lists read as JSON; floats carry the fewest digits that give the same
32 bits back.
"""

import json
import struct
import zlib
from functools import lru_cache

COMPRESSIONS = (
    "none", "rle", "zips", "zip", "piz", "pxr24", "b44", "b44a", "dwaa", "dwab", "htj2k256", "htj2k32", "lj2k", "zstd",
)  # fmt: skip
LINE_ORDERS = ("increasing_y", "decreasing_y", "random_y")
LEVEL_MODES = ("one_level", "mipmap", "ripmap")
ROUNDING_MODES = ("round_down", "round_up")
PIXEL_TYPES = ("uint", "half", "float")
ENVIRONMENT_MAPS = ("latlong", "cube")
DEEP_IMAGE_STATES = ("messy", "sorted", "non_overlapping", "tidy")

TEXT_CHARACTERS_MAX = 32_768
LIST_ENTRIES_MAX = 256
HEX_BYTES_MAX = 64
CACHED_BYTES_MAX = 512


class Malformed(ValueError):
    """The bytes of a value do not fit its type."""


@lru_cache(maxsize=4096)
def text(raw: bytes) -> str:
    """Bytes of a name or string as text; bytes that are not UTF-8, and NUL, become escapes."""
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


@lru_cache(maxsize=8192)
def _float32(raw: bytes) -> str:
    (value,) = struct.unpack("<f", raw)
    if value == value and abs(value) < 1e9 and value == int(value):
        return str(int(value))
    for digits in (6, 7, 8):
        shown = f"{value:.{digits}g}"
        try:
            if struct.pack("<f", float(shown)) == raw:
                return shown
        except OverflowError:
            continue
    return f"{value:.9g}"


def _float64(value: float) -> str:
    shown = repr(value)
    return shown[:-2] if shown.endswith(".0") else shown


def _shorten(shown: str) -> str:
    if len(shown) <= TEXT_CHARACTERS_MAX:
        return shown
    return f"{shown[:TEXT_CHARACTERS_MAX]}… ({len(shown)} characters)"


def hex_summary(raw: bytes) -> str:
    """A value nobody here can read: its size and first bytes."""
    shown = raw[:HEX_BYTES_MAX].hex()
    more = "…" if len(raw) > HEX_BYTES_MAX else ""
    return f"{len(raw)} bytes: {shown}{more}" if raw else "0 bytes"


def _exactly(raw: bytes, size: int) -> None:
    if len(raw) != size:
        raise Malformed(f"has {len(raw)} bytes, the type takes {size}")


def _named(names: tuple[str, ...]):
    def decode(raw: bytes) -> str:
        _exactly(raw, 1)
        if raw[0] >= len(names):
            raise Malformed(f"value {raw[0]} is not defined")
        return names[raw[0]]

    return decode


def _numbers(form: str):
    """Decoder of a fixed run of numbers; `form` is a count and a struct letter, e.g. `2f`."""
    count, letter = int(form[:-1]), form[-1]
    layout = struct.Struct("<" + form)

    def decode(raw: bytes) -> str:
        _exactly(raw, layout.size)
        if letter == "f":
            shown = [_float32(raw[at : at + 4]) for at in range(0, 4 * count, 4)]
        elif letter == "d":
            shown = [_float64(value) for value in layout.unpack(raw)]
        else:
            shown = [str(value) for value in layout.unpack(raw)]
        return shown[0] if count == 1 else "[" + ", ".join(shown) + "]"

    return decode


def _matrix(side: int, letter: str):
    row = _numbers(f"{side}{letter}")
    row_bytes = struct.calcsize(f"<{side}{letter}")

    def decode(raw: bytes) -> str:
        _exactly(raw, side * row_bytes)
        return "[" + ", ".join(row(raw[at : at + row_bytes]) for at in range(0, len(raw), row_bytes)) + "]"

    return decode


def string_entries(raw: bytes) -> list[str]:
    """The strings of a string vector."""
    entries, at = [], 0
    while at < len(raw):
        if at + 4 > len(raw):
            raise Malformed("ends inside the length of a string")
        (length,) = struct.unpack_from("<i", raw, at)
        if length < 0 or at + 4 + length > len(raw):
            raise Malformed(f"string {len(entries)} claims {length} bytes, {len(raw) - at - 4} are left")
        entries.append(text(raw[at + 4 : at + 4 + length]))
        at += 4 + length
    return entries


def _string_vector(raw: bytes) -> str:
    return json.dumps(string_entries(raw), ensure_ascii=False)


def _float_vector(raw: bytes) -> str:
    if len(raw) % 4:
        raise Malformed(f"has {len(raw)} bytes, not a multiple of 4")
    shown = [_float32(raw[at : at + 4]) for at in range(0, min(len(raw), 4 * LIST_ENTRIES_MAX), 4)]
    more = f", … ({len(raw) // 4} entries)" if len(raw) > 4 * LIST_ENTRIES_MAX else ""
    return "[" + ", ".join(shown) + more + "]"


def channel_entries(raw: bytes) -> list[tuple[bytes, int, int, int, int]]:
    """Channel list: (name, pixel type number, pLinear, x sampling, y sampling) in file order."""
    entries, at = [], 0
    while True:
        end = raw.find(b"\0", at, at + 256)
        if end < 0:
            raise Malformed(f"the name of channel {len(entries)} does not end within 255 bytes")
        if end == at:
            break
        if end + 17 > len(raw):
            raise Malformed(f"ends inside channel {len(entries)}")
        pixel_type, linear, x_sampling, y_sampling = struct.unpack_from("<iB3xii", raw, end + 1)
        entries.append((raw[at:end], pixel_type, linear, x_sampling, y_sampling))
        at = end + 17
    if end + 1 != len(raw):
        raise Malformed(f"{len(raw) - end - 1} bytes follow the end of the list")
    return entries


def pixel_type_name(number: int) -> str:
    return PIXEL_TYPES[number] if 0 <= number < len(PIXEL_TYPES) else f"unknown({number})"


def _channel_list(raw: bytes) -> str:
    return ", ".join(
        f"{text(name)} {pixel_type_name(kind)} {x}x{y}" + (" linear" if linear else "")
        for name, kind, linear, x, y in channel_entries(raw)
    )


def _preview(raw: bytes) -> str:
    if len(raw) < 8:
        raise Malformed(f"has {len(raw)} bytes, a preview has at least 8")
    width, height = struct.unpack_from("<II", raw)
    if len(raw) != 8 + 4 * width * height:
        raise Malformed(f"{width}x{height} RGBA pixels do not fit {len(raw)} bytes")
    return f"{width}x{height} rgba8"


def _digits(packed: int, at: int, tens_mask: int) -> int:
    return 10 * (packed >> (at + 4) & tens_mask) + (packed >> at & 15)


def _time_code(raw: bytes) -> str:
    _exactly(raw, 8)
    time, user = struct.unpack("<II", raw)
    clock = [_digits(time, 24, 3), _digits(time, 16, 7), _digits(time, 8, 7), _digits(time, 0, 3)]
    bits = [("drop_frame", 6), ("color_frame", 7), ("field_phase", 15), ("bgf0", 23), ("bgf1", 30), ("bgf2", 31)]
    flags = "".join(f" {name}" for name, bit in bits if time >> bit & 1)
    return ":".join(f"{part:02d}" for part in clock) + flags + (f" user=0x{user:08x}" if user else "")


def _key_code(raw: bytes) -> str:
    _exactly(raw, 28)
    names = ("film_mfc_code", "film_type", "prefix", "count", "perf_offset", "perfs_per_frame", "perfs_per_count")
    return json.dumps(dict(zip(names, struct.unpack("<7i", raw))))


def _rational(raw: bytes) -> str:
    _exactly(raw, 8)
    numerator, denominator = struct.unpack("<iI", raw)
    return f"{numerator}/{denominator}"


def _chromaticities(raw: bytes) -> str:
    _exactly(raw, 32)
    pair = _numbers("2f")
    points = (
        f'"{name}": {pair(raw[8 * at : 8 * at + 8])}' for at, name in enumerate(("red", "green", "blue", "white"))
    )
    return "{" + ", ".join(points) + "}"


def tile_description(raw: bytes) -> tuple[int, int, int, int]:
    """Tile description: x size, y size, level mode number, rounding mode number."""
    _exactly(raw, 9)
    x_size, y_size, mode = struct.unpack("<IIB", raw)
    return x_size, y_size, mode & 15, mode >> 4


def _tile_description(raw: bytes) -> str:
    x_size, y_size, level, rounding = tile_description(raw)
    if level >= len(LEVEL_MODES) or rounding >= len(ROUNDING_MODES):
        raise Malformed(f"level mode {level}, rounding mode {rounding} are not defined")
    return f"{x_size}x{y_size} {LEVEL_MODES[level]} {ROUNDING_MODES[rounding]}"


def _id_manifest(raw: bytes) -> str:
    if len(raw) < 8:
        raise Malformed(f"has {len(raw)} bytes, a manifest has at least 8")
    (unpacked,) = struct.unpack_from("<Q", raw)
    try:
        zlib.decompressobj().decompress(raw[8:], 64)
    except zlib.error as error:
        raise Malformed(f"is not a zlib stream ({error})") from None
    return f"id manifest, {unpacked} bytes packed into {len(raw) - 8}"


def _bytes(raw: bytes) -> str:
    if len(raw) < 4:
        raise Malformed(f"has {len(raw)} bytes, a bytes value has at least 4")
    (length,) = struct.unpack_from("<I", raw)
    if 4 + length > len(raw):
        raise Malformed(f"the type hint claims {length} bytes, {len(raw) - 4} are left")
    return f"{text(raw[4 : 4 + length])!r} {hex_summary(raw[4 + length :])}"


def _string(raw: bytes) -> str:
    return text(raw) if len(raw) <= CACHED_BYTES_MAX else text.__wrapped__(raw)


DECODERS = {
    b"box2f": _numbers("4f"), b"box2i": _numbers("4i"), b"bytes": _bytes, b"chlist": _channel_list,
    b"chromaticities": _chromaticities, b"compression": _named(COMPRESSIONS),
    b"deepImageState": _named(DEEP_IMAGE_STATES), b"double": _numbers("1d"), b"envmap": _named(ENVIRONMENT_MAPS),
    b"float": _numbers("1f"), b"floatvector": _float_vector, b"idmanifest": _id_manifest, b"int": _numbers("1i"),
    b"keycode": _key_code, b"lineOrder": _named(LINE_ORDERS), b"m33d": _matrix(3, "d"), b"m33f": _matrix(3, "f"),
    b"m44d": _matrix(4, "d"), b"m44f": _matrix(4, "f"), b"preview": _preview, b"rational": _rational,
    b"string": _string, b"stringvector": _string_vector, b"tiledesc": _tile_description, b"timecode": _time_code,
    b"v2d": _numbers("2d"), b"v2f": _numbers("2f"), b"v2i": _numbers("2i"), b"v3d": _numbers("3d"),
    b"v3f": _numbers("3f"), b"v3i": _numbers("3i"),
}  # fmt: skip


def _describe(type_name: bytes, raw: bytes) -> tuple[str, str | None]:
    decoder = DECODERS.get(type_name)
    if decoder is None:
        return hex_summary(raw), None
    try:
        return _shorten(decoder(raw)), None
    except Malformed as complaint:
        return hex_summary(raw), str(complaint)


_describe_cached = lru_cache(maxsize=8192)(_describe)


def describe(type_name: bytes, raw: bytes) -> tuple[str, str | None]:
    """The text of a value and, where its bytes do not fit the type, what is wrong with them.

    Frames of one shot repeat nearly all of their attributes, so small values are remembered.
    """
    return (_describe_cached if len(raw) <= CACHED_BYTES_MAX else _describe)(type_name, raw)
