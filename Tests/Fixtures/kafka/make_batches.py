#!/usr/bin/env python3
# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Writes batches.jsonl: record batches compressed in each way that Kafka's clients know, with the records inside.

    .venv/bin/python Tests/Fixtures/kafka/make_batches.py

Each line has the batch, the SHA-256 of its records without compression, and what tells that all of them are there. The first are just
as clients sent them to an engine, which this starts: it needs the program and what Tests/EndToEnd needs. The others have a framing that
other libraries write, or other settings.
"""

import base64
import gzip
import hashlib
import itertools
import json
import random
import socket
import struct
import sys
import tempfile
import zlib
from pathlib import Path

import lz4.frame
import snappy
import zstandard

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "EndToEnd"))

import harness  # noqa: E402
from kafka_clients import CLIENTS, Confluent, Kcat, Message, parse  # noqa: E402

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
BASE = 1_700_000_000_000
HEADER = 61


def messages(stamped):
    """Ten records, with timestamps where the client can send them."""
    return [
        Message(json.dumps({"n": n, "text": "some words " * 5}).encode(), f"key {n % 3}".encode(), (("a", b"1"), ("b", b"two")),
                BASE + 10 * n if stamped else None)
        for n in range(10)
    ]  # fmt: skip


def fetch(place, topic):
    """The stored bytes of partition 0."""
    with socket.create_connection(parse(place), timeout=30) as connection:
        body = struct.pack(">iiiib", -1, 100, 1, 1 << 20, 0) + struct.pack(">i", 1)
        body += struct.pack(">h", len(topic)) + topic.encode() + struct.pack(">iiqi", 1, 0, 0, 1 << 20)
        head = struct.pack(">hhih", 1, 4, 1, -1)
        connection.sendall(struct.pack(">i", len(head + body)) + head + body)
        answer = b""
        while len(answer) < 4 or len(answer) < 4 + struct.unpack_from(">i", answer)[0]:
            part = connection.recv(1 << 16)
            assert part, "the engine hung up"
            answer += part
    at = 4 + 4 + 4 + 4 + 2 + len(topic) + 4 + 4 + 2 + 8 + 8
    aborted = struct.unpack_from(">i", answer, at)[0]
    at += 4 + 16 * max(0, aborted)
    size = struct.unpack_from(">i", answer, at)[0]
    return answer[at + 4 : at + 4 + size]


def batches(data):
    while data:
        size = 12 + struct.unpack_from(">i", data, 8)[0]
        yield data[:size]
        data = data[size:]


def captured():
    """What clients send."""
    with tempfile.TemporaryDirectory() as directory:
        engine = harness.Engine(Path(directory))
        engine.start()
        try:
            place = engine.get("engine")["kafka_address"]
            for client, codec in itertools.product(CLIENTS, CODECS):
                topic = f"{client.name}-{codec}"
                # Clients send what comes within the linger together.
                if isinstance(client, Confluent):
                    client.produce(place, topic, messages(True), compression=codec, **{"linger.ms": 200})
                else:
                    client.produce(place, topic, messages(not isinstance(client, Kcat)), compression=codec)
                found = max(batches(fetch(place, topic)), key=lambda one: (one[22] & 7, struct.unpack_from(">i", one, 57)))
                if found[22] & 7 == CODECS[codec]:
                    # The offset is the engine's, and not under the checksum.
                    yield topic, bytes(8) + found[8:], None
                else:
                    print(f"{topic}: sent without compression", file=sys.stderr)
        finally:
            engine.stop()


def varint(number):
    number = (number << 1) ^ (number >> 63)
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def plain(values):
    """Records of these values, 10 ms apart."""
    out = []
    for n, value in enumerate(values):
        body = b"\0" + varint(10 * n) + varint(n) + varint(-1) + varint(len(value)) + value + varint(0)
        out.append(varint(len(body)) + body)
    return b"".join(out)


def batch(codec, count, compressed):
    """A batch around records that are compressed already."""
    body = struct.pack(
        ">hiqqqhii", codec, count - 1, BASE, BASE + 10 * (count - 1), -1, -1, -1, count
    ) + compressed  # fmt: skip
    return struct.pack(">qiib", 0, 4 + 1 + 4 + len(body), -1, 2) + struct.pack(">I", harness.crc32c(body)) + body


def xerial(data, size, header=struct.pack(">ii", 1, 1)):
    """As snappy-java frames it."""
    blocks = [snappy.compress(data[at : at + size]) for at in range(0, len(data), size)]
    return b"\x82SNAPPY\0" + header + b"".join(struct.pack(">i", len(block)) + block for block in blocks)


def zstd(data, level=3, sized=False, checksum=False, window=None):
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, write_content_size=sized, write_checksum=checksum, **({"window_log": window} if window else {})
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


def framed():
    """What other libraries write."""
    chance = random.Random(5)
    words = [b"alpha", b"beta", b"gamma", b"delta", b"epsilon"]
    values = [b" ".join(chance.choice(words) for _ in range(40)) for _ in range(300)]
    large, count = plain(values), len(values)
    small = plain([b"x"])
    half = len(large) // 2
    parts = large[:half], large[half:]
    many = {
        "gzip-level-1": (1, gzip.compress(large, 1, mtime=0)),
        "gzip-two-members": (1, b"".join(gzip.compress(part, 9, mtime=0) for part in parts)),
        "snappy-raw": (2, snappy.compress(large)),
        "snappy-xerial-32k": (2, xerial(large, 32 << 10)),
        "snappy-xerial-1k": (2, xerial(large, 1 << 10)),
        "snappy-xerial-little-endian": (2, xerial(large, 32 << 10, struct.pack("<ii", 1, 1))),
        "snappy-xerial-two-streams": (2, b"".join(xerial(part, 32 << 10) for part in parts)),
        "lz4-independent-64k": (3, lz4.frame.compress(large, block_size=4, block_linked=False, store_size=False)),
        "lz4-independent-sized": (3, lz4.frame.compress(large, block_size=4, block_linked=False, store_size=True)),
        "lz4-linked-4m-checksums": (
            3, lz4.frame.compress(large, block_size=7, block_linked=True, content_checksum=True, block_checksum=True)
        ),
        "lz4-linked-64k": (3, lz4.frame.compress(large, block_size=4, block_linked=True, store_size=False)),
        "lz4-two-frames": (3, b"".join(lz4.frame.compress(part) for part in parts)),
        "lz4-stored": (3, lz4.frame.compress(small)),
        "zstd-sized": (4, zstd(large, sized=True)),
        "zstd-unsized": (4, zstd(large)),
        "zstd-level-19-window-128m": (4, zstd(large, 19, window=27)),
        "zstd-checksum": (4, zstd(large, checksum=True)),
        "zstd-two-frames": (4, zstd(parts[0], sized=True) + zstd(parts[1])),
        "zstd-skippable": (4, b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + zstd(large)),
    }  # fmt: skip
    for name, (codec, compressed) in many.items():
        one = name == "lz4-stored"
        yield name, batch(codec, 1 if one else count, compressed), small if one else large


def decompressed(codec, data):
    """With the libraries of Python."""
    if codec == 1:
        return gzip.decompress(data)
    if codec == 3:
        return lz4.frame.decompress(data)
    if codec == 4:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    if not data.startswith(b"\x82SNAPPY\0"):
        return snappy.decompress(data)
    out, at = b"", 16
    while at < len(data):
        size = struct.unpack_from(">i", data, at)[0]
        out += snappy.decompress(data[at + 4 : at + 4 + size])
        at += 4 + size
    return out


def main():
    lines = []
    for name, found, records in itertools.chain(captured(), framed()):
        codec = struct.unpack_from(">h", found, 21)[0] & 7
        if records is None:
            records = decompressed(codec, found[HEADER:])
        facts = {
            "name": name, "codec": codec, "count": struct.unpack_from(">i", found, 57)[0], "bytes": len(records),
            "crc32": zlib.crc32(records), "sha256": hashlib.sha256(records).hexdigest(),
            "batch": base64.b64encode(found).decode(),
        }  # fmt: skip
        lines.append(json.dumps(facts))
    (HERE / "batches.jsonl").write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} batches")


if __name__ == "__main__":
    main()
