# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Checks of a parsed header: what the format requires, then what a pipeline would want to know."""

import math
from collections import Counter

from . import attributes
from .findings import Findings
from .header import COORDINATE_MAX, Header, Part

ALWAYS_REQUIRED = (
    "channels", "compression", "dataWindow", "displayWindow", "lineOrder", "pixelAspectRatio", "screenWindowCenter",
    "screenWindowWidth",
)  # fmt: skip
SHARED_BY_ALL_PARTS = ("displayWindow", "pixelAspectRatio", "timeCode", "chromaticities")
FIRST_RECENT_COMPRESSION = attributes.COMPRESSIONS.index("htj2k256")
DEEP_COMPRESSIONS = {attributes.COMPRESSIONS.index(name) for name in ("none", "rle", "zips", "zstd")}


def check_header(header: Header, findings: Findings) -> None:
    """Adds a finding for everything in the header that breaks the format or deserves attention."""
    last = len(header.parts) - 1
    for part in header.parts:
        if header.is_complete or part.index < last:
            check_required(part, header, findings)
        check_windows(part, findings)
        check_encoding(part, findings)
        check_channels(part, findings)
        check_projection(part, findings)
    if header.is_multipart:
        check_agreement(header.parts, findings)
    check_views(header.parts, findings)


def check_required(part: Part, header: Header, findings: Findings) -> None:
    required = list(ALWAYS_REQUIRED)
    deep = part.is_deep or (header.is_deep and not header.is_multipart)
    if header.is_multipart:
        required += ["name", "type", "chunkCount"]
    elif deep:
        required += ["type", "chunkCount"]
    if deep:
        required.append("version")
    if part.is_tiled:
        required.append("tiles")
    for name in required:
        if name not in part.attributes:
            findings.add("missing_required_attribute", f"{part.label()} has no attribute {name}")
    stated = part.text("type")
    if part.kind is None and stated is not None:
        findings.add("unknown_part_type", f"{part.label()} has type {stated!r}")
    elif stated is not None and stated != part.kind:
        findings.add("bad_attribute", f"{part.label()} states type {stated!r}, the file's flags say {part.kind}")


def check_windows(part: Part, findings: Findings) -> None:
    data, display = part.data_window, part.display_window
    for code, what, box in (("bad_data_window", "data", data), ("bad_display_window", "display", display)):
        if box is None:
            continue
        if box.width < 1 or box.height < 1:
            findings.add(code, f"{part.label()}: {what} window {box} is empty")
        elif max(abs(edge) for edge in box) >= COORDINATE_MAX:
            findings.add(code, f"{part.label()}: {what} window {box} passes the coordinate range")
    if data is None or display is None or min(data.width, data.height, display.width, display.height) < 1:
        return
    if data[0] > display[2] or data[2] < display[0] or data[1] > display[3] or data[3] < display[1]:
        findings.add(
            "data_window_misses_display_window",
            f"{part.label()}: data window {data} and display window {display} do not overlap",
        )
    elif data[0] < display[0] or data[1] < display[1] or data[2] > display[2] or data[3] > display[3]:
        findings.add(
            "data_window_outside_display_window",
            f"{part.label()}: data window {data} reaches past display window {display}",
        )


def check_encoding(part: Part, findings: Findings) -> None:
    label, compression, order = part.label(), part.compression, part.line_order
    if compression is not None:
        if compression >= len(attributes.COMPRESSIONS):
            findings.add("unknown_compression", f"{label} has compression {compression}")
        elif part.is_deep and compression not in DEEP_COMPRESSIONS:
            findings.add(
                "bad_compression", f"{label} is deep and has compression {attributes.COMPRESSIONS[compression]}"
            )
        elif compression >= FIRST_RECENT_COMPRESSION:
            findings.add("recent_compression", f"{label} has compression {attributes.COMPRESSIONS[compression]}")
    if order is not None:
        if order >= len(attributes.LINE_ORDERS):
            findings.add("unknown_line_order", f"{label} has line order {order}")
        elif order == 2 and part.kind is not None and not part.is_tiled:
            findings.add("bad_line_order", f"{label} has random line order and is not tiled")
    tiles = part.tiles
    if tiles is not None:
        sizes_fit = 0 < tiles.x_size < 2**31 and 0 < tiles.y_size < 2**31
        modes_fit = tiles.level_mode < len(attributes.LEVEL_MODES)
        if not sizes_fit or not modes_fit or tiles.rounding_mode >= len(attributes.ROUNDING_MODES):
            findings.add("bad_tile_description", f"{label}: {tuple(tiles)} (width, height, level mode, rounding)")


def check_channels(part: Part, findings: Findings) -> None:
    channels, label, window = part.channels, part.label(), part.data_window
    if not channels:
        if "channels" in part.attributes and part.attributes["channels"].raw == b"\0":
            findings.add("no_channels", f"{label} has an empty channel list")
        return
    names = [channel.name for channel in channels]
    if len(set(names)) < len(names):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        findings.add("duplicate_channel", f"{label}: {', '.join(twice[:8])}")
    elif any(after < before for before, after in zip(names, names[1:])) and names != sorted(names, key=str.encode):
        findings.add("unsorted_channels", f"{label}: the channel list is not in byte order")
    for channel in channels:
        name, kind, _, x, y = channel
        if x == 1 and y == 1 and kind in attributes.PIXEL_TYPES:
            continue
        if kind not in attributes.PIXEL_TYPES:
            findings.add("bad_channel", f"{label}: channel {name} has pixel type {kind}")
        if x < 1 or y < 1:
            findings.add("bad_channel", f"{label}: channel {name} has sampling {x} {y}")
        elif (x, y) != (1, 1) and (part.is_tiled or part.is_deep):
            findings.add("bad_subsampling", f"{label} is {part.kind} and channel {name} has sampling {x} {y}")
        elif window is not None and (window.x_min % x or window.y_min % y or window.width % x or window.height % y):
            findings.add("bad_subsampling", f"{label}: sampling {x} {y} of channel {name} does not divide {window}")


def check_projection(part: Part, findings: Findings) -> None:
    ratio, width = part.pixel_aspect_ratio, part.screen_window_width
    if ratio is not None and ratio != 1.0:
        if not math.isfinite(ratio) or ratio <= 0:
            findings.add("bad_pixel_aspect_ratio", f"{part.label()}: pixel aspect ratio {ratio:g}")
        else:
            findings.add("non_square_pixels", f"{part.label()}: pixel aspect ratio {ratio:g}")
    if width is not None and not (math.isfinite(width) and width >= 0):
        findings.add("bad_screen_window", f"{part.label()}: screen window width {width:g}")


def check_agreement(parts: list[Part], findings: Findings) -> None:
    seen: dict[str, int] = {}
    for part in parts:
        name = part.name
        if name is not None and seen.setdefault(name, part.index) != part.index:
            findings.add("duplicate_part_name", f"parts {seen[name]} and {part.index} are both named {name!r}")
    for name in SHARED_BY_ALL_PARTS:
        first = parts[0].attributes.get(name) if parts else None
        for part in parts[1:]:
            attribute = part.attributes.get(name)
            # A part that lacks a required attribute has a finding of its own.
            if attribute is None and name in ALWAYS_REQUIRED:
                continue
            if (first and first.raw) != (attribute and attribute.raw):
                findings.add("shared_attributes_differ", f"parts 0 and {part.index} differ in {name}")
                break


def check_views(parts: list[Part], findings: Findings) -> None:
    listed = parts[0].views if parts else []
    for part in parts:
        view = part.view
        if listed and view is not None and view not in listed:
            findings.add("unknown_view", f"{part.label()} shows view {view!r}, multiView lists {', '.join(listed)}")
