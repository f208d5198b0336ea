# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""One file in, the rows of six tables out."""

import hashlib
import os
import stat
from datetime import datetime, timedelta, timezone

from . import attributes
from .chunks import check_chunks
from .findings import Findings
from .header import Header, Part, read_header
from .validate import check_header

# Table -> the columns that name a row. `files` leads: it is the one without `file_path`.
TABLES = {
    "files": ["path"],
    "parts": ["file_path", "part_index"],
    "channels": ["file_path", "part_index", "name"],
    "attributes": ["file_path", "part_index", "name"],
    "stats": ["file_path", "part_index", "channel"],
    "validation": ["file_path", "code", "message"],
}

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

Rows = dict[str, list[dict[str, object]]]


def inspect(path: str, location: str, stats_stride: int | None = None) -> Rows:
    """Rows for the file at `location`, filed under `path`; with `stats_stride`, pixel statistics too.

    Depends on nothing but the file, so the same file gives the same rows. Defects become `validation` rows.
    - Raises: FileNotFoundError where the file is gone; other OSError where it cannot be read.
    """
    findings = Findings()
    status = os.stat(location)
    if not stat.S_ISREG(status.st_mode):
        findings.add("not_regular_file", f"{path} is not a regular file")
        return rows_of(path, status, Header(), [], findings)
    descriptor = os.open(location, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        header = read_header(descriptor, status.st_size, findings)
        check_header(header, findings)
        if header.is_complete:
            check_chunks(descriptor, status.st_size, header, findings)
        statistics = []
        if stats_stride is not None:
            from . import pixels  # NumPy and OpenEXR are loaded only where statistics are asked for.

            statistics = pixels.statistics(descriptor, status.st_size, header, stats_stride, findings)
    finally:
        os.close(descriptor)
    return rows_of(path, status, header, statistics, findings)


def rows_of(path: str, status: os.stat_result, header: Header, statistics: list, findings: Findings) -> Rows:
    digest = hashlib.sha256(b"%s\0%d\0" % (path.encode("utf-8", "surrogateescape"), status.st_mtime_ns))
    digest.update(header.bytes)
    readable = header.version is not None
    file_row = {
        "path": path,
        "size_bytes": status.st_size,
        "mtime": EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000),
        "exr_version": header.version,
        "multipart_count": len(header.parts) if readable else None,
        "is_deep": header.is_deep if readable else None,
        "hash": digest.hexdigest(),
    }
    return {
        "files": [file_row],
        "parts": [part_row(path, part) for part in header.parts],
        "channels": [row for part in header.parts for row in channel_rows(path, part)],
        "attributes": [
            {"file_path": path, "part_index": part.index, "name": name, "type": kind, "value": value}
            for part in header.parts
            for name, kind, value, _ in part.attributes.values()
        ],
        "stats": [{"file_path": path, **row._asdict()} for row in statistics],
        "validation": [
            {"file_path": path, "code": code, "severity": severity, "message": message}
            for code, severity, message in findings
        ],
    }


def part_row(path: str, part: Part) -> dict[str, object]:
    return {
        "file_path": path,
        "part_index": part.index,
        "part_name": part.name or "",
        "view_name": part.view or ", ".join(part.views),
        "data_window": str(part.data_window) if part.data_window else None,
        "display_window": str(part.display_window) if part.display_window else None,
        "pixel_aspect_ratio": part.pixel_aspect_ratio,
        "line_order": named(attributes.LINE_ORDERS, part.line_order),
        "compression": named(attributes.COMPRESSIONS, part.compression),
        "tiling": tiling(part),
    }


def named(names: tuple[str, ...], number: int | None) -> str | None:
    if number is None:
        return None
    return names[number] if number < len(names) else f"unknown({number})"


def tiling(part: Part) -> str | None:
    """Tile size, level mode and rounding; "scanline" for parts without tiles."""
    if not part.is_tiled:
        return "scanline" if part.kind is not None else None
    if part.tiles is None:
        return None
    x_size, y_size, level, rounding = part.tiles
    return f"{x_size}x{y_size} {named(attributes.LEVEL_MODES, level)} {named(attributes.ROUNDING_MODES, rounding)}"


def channel_rows(path: str, part: Part) -> list[dict[str, object]]:
    rows = {
        name: {
            "file_path": path,
            "part_index": part.index,
            "name": name,
            "type": kind,
            "x_sampling": x_sampling,
            "y_sampling": y_sampling,
            "linearity": "linear" if linear else "logarithmic",
        }
        for name, kind, linear, x_sampling, y_sampling in part.channels
    }
    return list(rows.values())
