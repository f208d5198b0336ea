# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Kafka's protocol without a client: a socket, and requests of every API and version made from the published schemas."""

import importlib.resources
import json
import random
import re
import socket
import struct
import threading

from kafka.protocol.api_message import ApiMessage
from kafka.record.memory_records import MemoryRecordsBuilder


class Closed(Exception):
    """The engine ended the connection."""


class Wire:
    """One connection."""

    def __init__(self, place: str, timeout: float = 20, receive_buffer: int | None = None) -> None:
        host, _, port = place.rpartition(":")
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect((host, int(port)))

    def send(self, body: bytes) -> None:
        self.socket.sendall(struct.pack(">i", len(body)) + body)

    def read(self, count: int) -> bytes:
        bytes = b""
        while len(bytes) < count:
            try:
                more = self.socket.recv(count - len(bytes))
            except ConnectionError as error:
                raise Closed from error
            if not more:
                raise Closed
            bytes += more
        return bytes

    def answer(self) -> bytes:
        return self.read(struct.unpack(">i", self.read(4))[0])

    def ask(self, body: bytes) -> bytes:
        self.send(body)
        return self.answer()

    def call(self, request: ApiMessage, version: int) -> ApiMessage:
        """The answer to one of kafka-python's messages, in a version its own clients may not use."""
        request.API_VERSION = version
        request.with_header(1, "test")
        return request.header.get_response_class().decode(self.ask(request.encode(header=True)), header=True)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def header(api: int, version: int, correlation: int = 1, flexible: bool = False, client: bytes = b"test") -> bytes:
    bytes = struct.pack(">hhih", api, version, correlation, len(client)) + client
    return bytes + b"\0" if flexible else bytes


def batch(values: list[bytes], producer: int = -1, epoch: int = -1, sequence: int = -1, transactional: bool = False) -> bytes:
    """A batch of records."""
    builder = MemoryRecordsBuilder(
        magic=2, compression_type=0, batch_size=1 << 20, transactional=transactional, producer_id=producer, producer_epoch=epoch,
        base_sequence=sequence,
    )  # fmt: skip
    for value in values:
        builder.append(timestamp=None, key=None, value=value)
    builder.close()
    return bytes(builder.buffer())


def new_producer(place: str) -> tuple[int, int]:
    """The id and the epoch of a new idempotent producer."""
    with Wire(place) as wire:
        answer = wire.ask(header(22, 0) + struct.pack(">hi", -1, 60_000))
    error, producer, epoch = struct.unpack_from(">hqh", answer, 8)
    assert error == 0, error
    return producer, epoch


def produce_batch(place: str, topic: str, batch: bytes) -> tuple[int, int]:
    """The error code and the base offset of a batch sent to partition 0."""
    name = topic.encode()
    body = struct.pack(">hhii", -1, -1, 10_000, 1) + struct.pack(">h", len(name)) + name + struct.pack(">iii", 1, 0, len(batch)) + batch
    with Wire(place) as wire:
        answer = wire.ask(header(0, 7) + body)
    return struct.unpack_from(">hq", answer, 4 + 4 + 2 + len(name) + 4 + 4)


def versions(text: str) -> range:
    """The versions a schema's text means."""
    if text == "none":
        return range(0)
    if text.endswith("+"):
        return range(int(text[:-1]), 100)
    low, _, high = text.partition("-")
    return range(int(low), int(high or low) + 1)


class Schemas:
    """Requests with values of every field, from the schemas that kafka-python carries."""

    def __init__(self, generator: random.Random, topics: list[str]) -> None:
        self.random = generator
        self.topics = topics
        self.schemas: dict[int, dict] = {}
        folder = importlib.resources.files("kafka.protocol.schemas").joinpath("resources")
        for file in folder.iterdir():
            if file.name.endswith("Request.json"):
                text = re.sub(r'("(?:[^"\\]|\\.)*")|//[^\n]*', lambda found: found[1] or "", file.read_text())
                schema = json.loads(text)
                self.schemas[schema["apiKey"]] = schema

    def request(self, api: int, version: int) -> bytes:
        schema = self.schemas[api]
        flexible = version in versions(schema.get("flexibleVersions", "none"))
        common = {one["name"]: one["fields"] for one in schema.get("commonStructs", [])}
        body = self.struct(schema["fields"], version, flexible, common, 0)
        return header(api, version, self.random.randrange(1 << 31), flexible) + body

    def struct(self, fields: list[dict], version: int, flexible: bool, common: dict, depth: int) -> bytes:
        bytes = b""
        for field in fields:
            if version not in versions(field["versions"]) or "tag" in field:
                continue
            bytes += self.value(field, field["type"], version, flexible, common, depth)
        return bytes + b"\0" if flexible else bytes

    def value(self, field: dict, kind: str, version: int, flexible: bool, common: dict, depth: int) -> bytes:
        nullable = version in versions(field.get("nullableVersions", "none"))
        if kind.startswith("[]"):
            if nullable and self.random.random() < 0.1:
                return b"\0" if flexible else b"\xff\xff\xff\xff"
            count = self.random.choice([0, 1, 1, 1, 2, 3])
            bytes = self.length(count, flexible, ">i")
            for _ in range(count):
                bytes += self.value(field | {"nullableVersions": "none"}, kind[2:], version, flexible, common, depth + 1)
            return bytes
        number = {"int8": ">b", "int16": ">h", "uint16": ">H", "int32": ">i", "int64": ">q", "bool": ">?"}.get(kind)
        if number:
            return self.number(field["name"], kind, number)
        if kind == "float64":
            return struct.pack(">d", self.random.random())
        if kind == "uuid":
            return self.random.randbytes(16)
        if kind in ("string", "bytes", "records"):
            if nullable and self.random.random() < 0.2:
                return b"\0" if flexible else b"\xff\xff" if kind == "string" else b"\xff\xff\xff\xff"
            text = self.text(field["name"]) if kind == "string" else self.random.randbytes(self.random.choice([0, 1, 70, 300]))
            return self.length(len(text), flexible, ">h" if kind == "string" else ">i") + text
        return self.struct(field.get("fields") or common[kind], version, flexible, common, depth)

    def number(self, name: str, kind: str, form: str) -> bytes:
        if kind == "bool":
            return self.random.choice([b"\0", b"\1"])
        bits = struct.calcsize(form) * 8
        low, high = (0, (1 << bits) - 1) if kind == "uint16" else (-(1 << bits - 1), (1 << bits - 1) - 1)
        if re.search("wait|timeout", name, re.IGNORECASE):
            # Nothing is to wait for long.
            return struct.pack(form, self.random.choice([0, 1, 50, -1, low]))
        usual = [0, 0, 0, 1, 1, 2, 3, 5, 100]
        return struct.pack(form, self.random.choice(usual + [-1, low, high, self.random.randint(low, high)]))

    def text(self, name: str) -> bytes:
        if re.search("topic|name", name, re.IGNORECASE):
            return self.random.choice(self.topics).encode()
        return self.random.choice([b"", b"a", b"fuzz", "häß".encode(), b"x" * 300, self.random.randbytes(5)])

    @staticmethod
    def length(count: int, flexible: bool, form: str) -> bytes:
        if not flexible:
            return struct.pack(form, count)
        count += 1
        bytes = b""
        while count >= 0x80:
            bytes += b"%c" % (count & 0x7F | 0x80)
            count >>= 7
        return bytes + b"%c" % count

    def mutated(self, bytes: bytes) -> bytes:
        """The bytes with some of them changed, cut off, doubled or put in."""
        changed = bytearray(bytes)
        for _ in range(self.random.choice([0, 1, 1, 2, 4, 8])):
            place = self.random.randrange(len(changed)) if changed else 0
            match self.random.randrange(5):
                case 0 if changed:
                    changed[place] ^= 1 << self.random.randrange(8)
                case 1 if changed:
                    changed[place] = self.random.choice([0, 1, 0x7F, 0x80, 0xFF])
                case 2:
                    del changed[max(8, place):]
                case 3:
                    changed[place:place] = self.random.randbytes(self.random.choice([1, 4, 20]))
                case 4:
                    changed[place:place + 4] = self.random.choice([b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\0\0\0", b"\xff\xff\xff\xff\x0f"])
        return bytes_of(changed)


def bytes_of(changed: bytearray) -> bytes:
    """At least as much as a request has."""
    return bytes(changed).ljust(8, b"\0")


def served(place: str) -> dict[int, range]:
    """The versions of each API that the engine says it serves."""
    with Wire(place) as wire:
        answer = wire.ask(header(18, 0))
    count = struct.unpack(">i", answer[6:10])[0]
    triples = [struct.unpack(">hhh", answer[10 + 6 * n:16 + 6 * n]) for n in range(count)]
    return {api: range(low, high + 1) for api, low, high in triples}


class InBackground(threading.Thread):
    """Runs a function again and again until stopped; keeps its first failure."""

    def __init__(self, work) -> None:
        super().__init__(daemon=True)
        self.work = work
        self.ending = threading.Event()
        self.failure: BaseException | None = None
        self.rounds = 0

    def run(self) -> None:
        try:
            while not self.ending.is_set():
                self.work()
                self.rounds += 1
        except BaseException as error:
            self.failure = error

    def finish(self, seconds: float = 30) -> None:
        self.ending.set()
        self.join(seconds)
        if self.failure is not None:
            raise self.failure
        assert not self.is_alive(), "a client was not served to the end"
