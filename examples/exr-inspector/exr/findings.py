# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What can be wrong with, or remarkable about, an OpenEXR file: the rows of the `validation` table."""

from typing import NamedTuple

ERROR, WARNING, INFO = "error", "warning", "info"

# Code -> (severity, meaning). The README lists the same codes; a test compares the two.
CODES = {
    "empty_file": (ERROR, "the file has no bytes"),
    "not_regular_file": (ERROR, "the element is a directory, pipe or device"),
    "not_exr": (ERROR, "the file does not start with the OpenEXR magic number"),
    "unsupported_version": (ERROR, "the format version is not 2 (1 is read as 2)"),
    "unknown_flags": (WARNING, "the version field sets bits no released OpenEXR defines"),
    "conflicting_flags": (ERROR, "the version field sets flags that exclude each other"),
    "truncated_header": (ERROR, "the file ends inside the header"),
    "header_too_large": (ERROR, "the header passes a limit of the inspector and was read up to it"),
    "no_parts": (ERROR, "a multi-part file without any part"),
    "bad_attribute": (ERROR, "an attribute's name, type, size or value is malformed"),
    "duplicate_attribute": (ERROR, "an attribute occurs twice in one part; the last one is kept"),
    "name_too_long": (WARNING, "a name has more than 31 bytes and the long-names flag is not set"),
    "missing_required_attribute": (ERROR, "a part lacks an attribute the format requires"),
    "bad_data_window": (ERROR, "the data window is empty, reversed or beyond the coordinate range"),
    "bad_display_window": (ERROR, "the display window is empty, reversed or beyond the coordinate range"),
    "no_channels": (WARNING, "a part has no channels"),
    "bad_channel": (ERROR, "a channel has an unknown pixel type or a sampling below 1"),
    "duplicate_channel": (ERROR, "a channel name occurs twice in one part; the last one is kept"),
    "unsorted_channels": (WARNING, "the channel list is not in byte order"),
    "bad_subsampling": (ERROR, "channel sampling does not fit the data window, or the part may not be subsampled"),
    "unknown_compression": (ERROR, "the compression number is not defined"),
    "bad_compression": (ERROR, "the compression cannot hold this kind of part"),
    "recent_compression": (INFO, "the compression needs OpenEXR 3.4 or later to read"),
    "unknown_line_order": (ERROR, "the line order number is not defined"),
    "bad_line_order": (ERROR, "random line order in a part that is not tiled"),
    "bad_tile_description": (ERROR, "tile size, level mode or rounding mode is not valid"),
    "unknown_part_type": (ERROR, "the part type is not one of the four defined ones"),
    "duplicate_part_name": (ERROR, "two parts have the same name"),
    "shared_attributes_differ": (ERROR, "parts disagree on an attribute that all must share"),
    "bad_chunk_count": (ERROR, "chunkCount does not fit the data window, tiles and compression"),
    "truncated_file": (ERROR, "the file ends before its chunk table or its last chunk"),
    "chunk_table_incomplete": (ERROR, "chunk offsets are zero: the writer did not finish"),
    "bad_chunk_offset": (ERROR, "chunk offsets point into the header or past the end of the file"),
    "bad_chunk": (ERROR, "the last chunk in the file does not carry valid part, coordinate or size fields"),
    "bad_pixel_aspect_ratio": (WARNING, "the pixel aspect ratio is zero, negative or not finite"),
    "non_square_pixels": (INFO, "the pixel aspect ratio is not 1"),
    "bad_screen_window": (WARNING, "the screen window width is negative or not finite"),
    "data_window_outside_display_window": (INFO, "the data window reaches past the display window (overscan)"),
    "data_window_misses_display_window": (WARNING, "data window and display window do not overlap: nothing is visible"),
    "unknown_view": (WARNING, "a part's view is not listed in the file's multiView attribute"),
    "stats_unsupported": (INFO, "statistics were asked for and this part cannot be decoded here"),
    "pixel_data_damaged": (ERROR, "chunks could not be decoded; statistics cover the others"),
    "nan_pixels": (WARNING, "statistics found NaN samples"),
    "inf_pixels": (WARNING, "statistics found infinite samples"),
}


class Finding(NamedTuple):
    """One row of the `validation` table, without the path."""

    code: str
    severity: str
    message: str


class Findings:
    """Findings in the order they were made, each once; bounded, since a hostile header can hold thousands."""

    LIMIT = 200

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Finding] = {}

    def add(self, code: str, message: str) -> None:
        if len(self._rows) < self.LIMIT:
            self._rows[code, message] = Finding(code, CODES[code][0], message)

    def __iter__(self):
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def has_errors(self) -> bool:
        return any(row.severity == ERROR for row in self)
