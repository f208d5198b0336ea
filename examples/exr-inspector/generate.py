# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Makes OpenEXR files of every kind, damaged ones among them: `python generate.py DIR --count N --seed S`.

The OpenEXR library writes the sound files, except those with several levels, which its Python module cannot fill; the
damaged ones are sound files harmed afterwards. The same seed gives the same files. Each is put in place by one rename,
so a watched directory sees it once, complete.
"""

import argparse
import os
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
import OpenEXR

COMPRESSIONS = {
    "none": OpenEXR.NO_COMPRESSION, "rle": OpenEXR.RLE_COMPRESSION, "zips": OpenEXR.ZIPS_COMPRESSION,
    "zip": OpenEXR.ZIP_COMPRESSION, "piz": OpenEXR.PIZ_COMPRESSION, "pxr24": OpenEXR.PXR24_COMPRESSION,
    "b44": OpenEXR.B44_COMPRESSION, "b44a": OpenEXR.B44A_COMPRESSION, "dwaa": OpenEXR.DWAA_COMPRESSION,
    "dwab": OpenEXR.DWAB_COMPRESSION, "htj2k256": OpenEXR.HTJ2K256_COMPRESSION,
    "htj2k32": OpenEXR.HTJ2K32_COMPRESSION, "lj2k": OpenEXR.LJ2K_COMPRESSION, "zstd": OpenEXR.ZSTD_COMPRESSION,
}  # fmt: skip


def written(parts: list[tuple[dict, dict]]) -> bytes:
    """The bytes of a file with these parts, each a header and its channels."""
    made = [OpenEXR.Part(header, channels, str(header.get("name", ""))) for header, channels in parts]
    with tempfile.TemporaryDirectory() as directory:
        target = os.path.join(directory, "made.exr")
        OpenEXR.File(made).write(target)
        return Path(target).read_bytes()


def base(compression: str = "zip", **more) -> dict:
    return {"compression": COMPRESSIONS[compression], "type": OpenEXR.scanlineimage, **more}


def size(rng: np.random.Generator) -> tuple[int, int]:
    """Height and width, seldom multiples of a chunk."""
    return int(rng.integers(33, 200)), int(rng.integers(40, 240))


def picture(rng: np.random.Generator, shape: tuple[int, int], kind=np.float16) -> np.ndarray:
    """A gradient with noise, compressible but not trivial."""
    down, across = np.mgrid[0 : shape[0], 0 : shape[1]]
    gradient = across / shape[1] * rng.uniform(0.5, 4) + down / shape[0] * rng.uniform(0, 1)
    return (gradient + rng.normal(0, 0.02, shape)).astype(kind)


def colours(rng: np.random.Generator, shape: tuple[int, int], names: str = "RGBA") -> dict[str, np.ndarray]:
    return {name: picture(rng, shape) for name in names}


def window(x: int, y: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([x, y], "i4"), np.array([x + shape[1] - 1, y + shape[0] - 1], "i4")


def scanline(compression: str):
    def make(rng: np.random.Generator) -> bytes:
        shape = size(rng)
        channels = {**colours(rng, shape), "Z": picture(rng, shape, np.float32)}
        if rng.random() < 0.5:
            channels["id"] = rng.integers(0, 2**32, shape, dtype=np.uint32)
        return written([(base(compression, owner="Martlet generated this file"), channels)])

    return make


def tiles(x_size: int, y_size: int):
    description = OpenEXR.TileDescription()
    description.xSize, description.ySize, description.mode = x_size, y_size, OpenEXR.ONE_LEVEL
    return description


def deep_in_one_tile(rng: np.random.Generator) -> bytes:
    """Deep pixels in a tile larger than the window."""
    header = base("zstd", type=OpenEXR.deeptile, tiles=tiles(64, 64))
    return written([(header, deep_pixels(rng, (int(rng.integers(9, 40)), int(rng.integers(9, 60)))))])


def tiled(compression: str, x_size: int, y_size: int):
    def make(rng: np.random.Generator) -> bytes:
        header = base(compression, tiles=tiles(x_size, y_size), type=OpenEXR.tiledimage)
        return written([(header, colours(rng, size(rng)))])

    return make


def levels(rounds_up: bool, is_ripmap: bool, x_size: int, y_size: int):
    """Uncompressed tiles at all levels. Written here: the library's Python module fills the first level only."""

    def extents(extent: int) -> list[int]:
        found = [extent]
        while found[-1] > 1:
            found.append((found[-1] + rounds_up) // 2)
        return found

    def make(rng: np.random.Generator) -> bytes:
        height, width = size(rng)
        if is_ripmap:
            pairs = [(x, y) for y in range(len(extents(height))) for x in range(len(extents(width)))]
        else:
            pairs = [(at, at) for at in range(len(extents(max(height, width))))]
        chunks = []
        for x, y in pairs:
            down = [*extents(height), *[1] * 16][y]
            across = [*extents(width), *[1] * 16][x]
            planes = [picture(rng, (down, across), np.float16), picture(rng, (down, across), np.float32)]
            for row in range(0, down, y_size):
                for column in range(0, across, x_size):
                    lines = zip(*(plane[row : row + y_size, column : column + x_size] for plane in planes))
                    data = b"".join(part.tobytes() for line in lines for part in line)
                    place = struct.pack("<5i", column // x_size, row // y_size, x, y, len(data))
                    chunks.append(place + data)
        box = struct.pack("<4i", 0, 0, width - 1, height - 1)
        channels = b"Y\0" + struct.pack("<iIii", 1, 0, 1, 1) + b"Z\0" + struct.pack("<iIii", 2, 0, 1, 1) + b"\0"
        mode = (2 if is_ripmap else 1) | rounds_up << 4
        fields = [
            ("channels", "chlist", channels), ("compression", "compression", b"\0"), ("dataWindow", "box2i", box),
            ("displayWindow", "box2i", box), ("lineOrder", "lineOrder", b"\0"),
            ("pixelAspectRatio", "float", struct.pack("<f", 1)), ("screenWindowCenter", "v2f", bytes(8)),
            ("screenWindowWidth", "float", struct.pack("<f", 1)),
            ("tiles", "tiledesc", struct.pack("<IIB", x_size, y_size, mode)),
        ]  # fmt: skip
        head = b"".join(attribute(*field) for field in fields)
        head = b"\x76\x2f\x31\x01" + struct.pack("<i", 0x202) + head + b"\0"
        starts = np.cumsum([len(head) + 8 * len(chunks), *map(len, chunks)])[:-1].astype("<u8")
        return head + starts.tobytes() + b"".join(chunks)

    return make


def attribute(name: str, kind: str, raw: bytes) -> bytes:
    return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(raw)) + raw


def multipart(rng: np.random.Generator) -> bytes:
    shape = size(rng)
    tiled_header = base("zip", name="albedo", type=OpenEXR.tiledimage, tiles=tiles(32, 16))
    return written([
        (base("piz", name="beauty"), colours(rng, shape)),
        (base("zips", name="depth"), {"Z": picture(rng, shape, np.float32)}),
        (tiled_header, colours(rng, shape, "RGB")),
    ])  # fmt: skip


def stereo(rng: np.random.Generator) -> bytes:
    """Multi-part, one part per view."""
    shape = size(rng)
    return written([
        (base("zip", name=f"rgba_{view}", view=view), colours(rng, shape)) for view in ("left", "right")
    ])  # fmt: skip


def multiview(rng: np.random.Generator) -> bytes:
    """One part, views told apart by channel names."""
    shape = size(rng)
    channels = colours(rng, shape, "RGB") | {f"right.{name}": picture(rng, shape) for name in "RGB"}
    return written([(base("zip", multiView=["left", "right"]), channels)])


def deep_pixels(rng: np.random.Generator, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    counts = rng.integers(0, 5, shape)
    kinds = {"A": np.float16, "Z": np.float32, "id": np.uint32}
    channels = {name: np.empty(shape, dtype=object) for name in kinds}
    for place, count in np.ndenumerate(counts):
        for name, kind in kinds.items():
            values = rng.integers(0, 9, count) if kind is np.uint32 else rng.random(count)
            channels[name][place] = values.astype(kind)
    return channels


def deep(compression: str, is_tiled: bool = False):
    def make(rng: np.random.Generator) -> bytes:
        header = base(compression, type=OpenEXR.deepscanline)
        if is_tiled:
            header |= {"type": OpenEXR.deeptile, "tiles": tiles(16, 8)}
        return written([(header, deep_pixels(rng, (int(rng.integers(9, 40)), int(rng.integers(9, 60)))))])

    return make


def deep_multipart(rng: np.random.Generator) -> bytes:
    shape = (int(rng.integers(9, 30)), int(rng.integers(9, 40)))
    return written([
        (base("zip", name="flat"), colours(rng, shape)),
        (base("zips", name="deep", type=OpenEXR.deepscanline), deep_pixels(rng, shape)),
    ])  # fmt: skip


def subsampled(compression: str):
    """Luminance at full, chroma at half resolution."""

    def make(rng: np.random.Generator) -> bytes:
        shape = tuple(2 * (extent // 2) for extent in size(rng))
        # The library takes the full grid and keeps every second sample of it.
        channels = {"Y": OpenEXR.Channel("Y", picture(rng, shape), 1, 1)}
        for name in ("BY", "RY"):
            channels[name] = OpenEXR.Channel(name, picture(rng, shape), 2, 2, True)
        windows = {"dataWindow": window(0, 0, shape), "displayWindow": window(0, 0, shape)}
        return written([(base(compression, **windows), channels)])

    return make


def overscan(rng: np.random.Generator) -> bytes:
    shape = size(rng)
    windows = {"dataWindow": window(-16, -9, shape), "displayWindow": window(0, 0, (shape[0] - 18, shape[1] - 32))}
    return written([(base("piz", pixelAspectRatio=2.0, **windows), colours(rng, shape))])


def decreasing(rng: np.random.Generator) -> bytes:
    return written([(base("zip", lineOrder=OpenEXR.DECREASING_Y), colours(rng, size(rng)))])


def not_finite(rng: np.random.Generator) -> bytes:
    channels = {
        "R": picture(rng, (64, 48)),
        "Z": picture(rng, (64, 48), np.float32),
        "N": np.full((64, 48), np.nan, "f"),
    }
    for name in "RZ":
        channels[name].ravel()[rng.integers(0, 64 * 48, 20)] = np.nan
        channels[name].ravel()[rng.integers(0, 64 * 48, 10)] = np.inf
        channels[name].ravel()[rng.integers(0, 64 * 48, 5)] = -np.inf
    return written([(base("zip"), channels)])


def attributes(rng: np.random.Generator) -> bytes:
    """Every attribute type the library can write, and a few as raw bytes."""
    opaque = OpenEXR.OpaqueAttribute
    header = base(
        "zip", anInt=-7, aFloat=0.1, aString="späte Aufnahme", strings=["beauty", "", "a,b"],
        v2i=np.array([1, -2], "i4"), v2f=np.array([0.5, 1e-7], "f"), v2d=np.array([0.1, 1e300], "d"),
        v3i=np.array([1, 2, 3], "i4"), v3f=np.array([1, 2, 3.25], "f"), v3d=np.array([1, 2.5, -3], "d"),
        m33f=np.arange(9, dtype="f").reshape(3, 3), m44f=np.arange(16, dtype="f").reshape(4, 4) / 3,
        m33d=np.eye(3), m44d=np.eye(4) * 0.1,
        box=(np.array([0, 0], "i4"), np.array([5, 6], "i4")), boxf=(np.array([0, 0], "f"), np.array([0.5, 6], "f")),
        timeCode=OpenEXR.TimeCode(1, 2, 3, 4, True, False, True, False, True, False, 1, 2, 3, 4, 5, 6, 7, 8),
        keyCode=OpenEXR.KeyCode(1, 2, 3, 4, 5, 4, 64), chromaticities=(0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329),
        framesPerSecond=opaque(struct.pack("<iI", 24000, 1001), "rational"), envmap=OpenEXR.ENVMAP_CUBE,
        preview=OpenEXR.PreviewImage(4, 3), floats=np.array([1, 2, 3, 4, 5.5], "f"),
        studioSecret=opaque(bytes(rng.integers(0, 256, 90, dtype=np.uint8)), "studio_blob"),
        raw=OpenEXR.Bytes(b"abc", "hint"), deepState=opaque(b"\1", "deepImageState"),
    )  # fmt: skip
    header["an_attribute_name_with_more_than_31_bytes"] = 1
    return with_attribute(written([(header, colours(rng, size(rng)))]), "aDouble", "double", struct.pack("<d", 0.1))


def long_header(rng: np.random.Generator) -> bytes:
    """A header far longer than one read."""
    notes = {f"note{at:03d}": "x" * int(rng.integers(100, 4000)) for at in range(24)}
    return written([(base("zip", preview=OpenEXR.PreviewImage(90, 60), **notes), colours(rng, size(rng)))])


def header_end(data: bytes) -> int:
    """Where the header of a single-part file ends."""
    at = 8
    while data[at]:
        at = data.index(b"\0", data.index(b"\0", at) + 1) + 1
        at += 4 + struct.unpack_from("<i", data, at)[0]
    return at + 1


def with_attribute(data: bytes, name: str, kind: str, raw: bytes) -> bytes:
    """A single-part file with one more attribute, of a type the library cannot be asked to write."""
    end = header_end(data)
    count = (struct.unpack_from("<Q", data, end)[0] - end) // 8
    more = attribute(name, kind, raw)
    table = [offset + len(more) for offset in struct.unpack_from(f"<{count}Q", data, end)]
    return b"".join([data[: end - 1], more, b"\0", struct.pack(f"<{count}Q", *table), data[end + 8 * count :]])


def truncated_header(rng: np.random.Generator) -> bytes:
    data = attributes(rng)
    return data[: int(rng.integers(9, header_end(data)))]


def truncated_pixels(rng: np.random.Generator) -> bytes:
    data = scanline("zip")(rng)
    return data[: int(rng.integers(header_end(data) + 8, len(data) - 1))]


def flipped_bytes(rng: np.random.Generator) -> bytes:
    data = bytearray(scanline("piz")(rng))
    for at in rng.integers(8, len(data), 60):
        data[at] ^= int(rng.integers(1, 256))
    return bytes(data)


def flipped_pixels(rng: np.random.Generator) -> bytes:
    """A sound header and offset table; one chunk's data is overwritten."""
    data = bytearray(scanline("zip")(rng))
    (first,) = struct.unpack_from("<Q", data, header_end(data))
    data[first + 8 : first + 40] = b"\xff" * 32
    return bytes(data)


def unfinished(rng: np.random.Generator) -> bytes:
    """What a writer leaves that died: an offset table that still holds zeros."""
    data = bytearray(scanline("zips")(rng))
    end = header_end(data)
    (first,) = struct.unpack_from("<Q", data, end)
    middle = end + (first - end) // 16 * 8
    data[middle:first] = bytes(first - middle)
    return bytes(data)


def garbage(rng: np.random.Generator) -> bytes:
    return b"\x89" + rng.bytes(int(rng.integers(1, 9000)))


def empty(rng: np.random.Generator) -> bytes:
    return b""


def wrong_magic(rng: np.random.Generator) -> bytes:
    return b"\x76\x2f\x31\x02" + scanline("zip")(rng)[4:]


# In this order, so that a small count already holds one of each main sort.
KINDS = {
    "scanline_zip": scanline("zip"),
    "tiled": tiled("zip", 32, 16),
    "multipart": multipart,
    "deep_scanline_zips": deep("zips"),
    "subsampled_zip": subsampled("zip"),
    "damaged_truncated_header": truncated_header,
    "stereo": stereo,
    "scanline_piz": scanline("piz"),
    "tiled_mipmap": levels(False, False, 64, 64),
    "damaged_truncated_pixels": truncated_pixels,
    "multiview": multiview,
    "attributes": attributes,
    "deep_tiled_zips": deep("zips", True),
    "damaged_garbage": garbage,
    "scanline_none": scanline("none"),
    "scanline_dwaa": scanline("dwaa"),
    "overscan": overscan,
    "damaged_flipped_bytes": flipped_bytes,
    "scanline_rle": scanline("rle"),
    "scanline_zips": scanline("zips"),
    "scanline_pxr24": scanline("pxr24"),
    "scanline_b44": scanline("b44"),
    "scanline_b44a": scanline("b44a"),
    "scanline_dwab": scanline("dwab"),
    "damaged_empty": empty,
    "scanline_htj2k256": scanline("htj2k256"),
    "scanline_htj2k32": scanline("htj2k32"),
    "scanline_lj2k": scanline("lj2k"),
    "scanline_zstd": scanline("zstd"),
    "tiled_ripmap": levels(True, True, 24, 40),
    "tiled_mipmap_up": levels(True, False, 31, 17),
    "tiled_none": tiled("none", 17, 13),
    "tiled_piz": tiled("piz", 64, 64),
    "damaged_wrong_magic": wrong_magic,
    "deep_scanline_none": deep("none"),
    "deep_scanline_rle": deep("rle"),
    "deep_scanline_zstd": deep("zstd"),
    "deep_tiled_none": deep("none", True),
    "deep_tiled_rle": deep("rle", True),
    "deep_tiled_zstd": deep("zstd", True),
    "deep_one_tile_zstd": deep_in_one_tile,
    "tiled_one_tile": tiled("dwaa", 256, 256),
    "deep_multipart": deep_multipart,
    "damaged_flipped_pixels": flipped_pixels,
    "subsampled_none": subsampled("none"),
    "subsampled_b44": subsampled("b44"),
    "subsampled_piz": subsampled("piz"),
    "decreasing": decreasing,
    "not_finite": not_finite,
    "long_header": long_header,
    "damaged_unfinished": unfinished,
}


def generate(directory: Path, count: int, seed: int) -> list[Path]:
    """Writes `count` files, walking through the kinds again and again; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    names = list(KINDS)
    paths = []
    for index in range(count):
        kind = names[index % len(names)]
        data = KINDS[kind](np.random.default_rng([seed, index]))
        path = directory / f"{kind}_{index:04d}.exr"
        # Written beside its place under a name no suffix filter for .exr lets through.
        partial = path.with_suffix(".partial")
        partial.write_bytes(data)
        partial.replace(path)
        paths.append(path)
    return paths


def main() -> int:
    parser = argparse.ArgumentParser(description="Make OpenEXR files of every kind, damaged ones among them.")
    parser.add_argument("directory", type=Path, help="where to put them; made where it is missing")
    parser.add_argument(
        "--count", type=int, default=len(KINDS), help=f"how many files (default: one of each kind, {len(KINDS)})"
    )
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same files (default: 1)")
    options = parser.parse_args()
    if options.count < 0 or options.seed < 0:
        parser.error("--count and --seed take whole numbers from 0")
    try:
        paths = generate(options.directory, options.count, options.seed)
    except OSError as error:
        print(f"generate.py: cannot write to {options.directory}: {error}", file=sys.stderr)
        return 1
    damaged = sum(path.name.startswith("damaged_") for path in paths)
    print(f"{len(paths)} files in {options.directory}, {damaged} of them damaged, seed {options.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
