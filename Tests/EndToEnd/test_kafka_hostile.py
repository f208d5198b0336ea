# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What slow and hostile clients do to the Kafka door, with honest ones beside them."""

import contextlib
import os
import random
import resource
import socket
import struct
import time
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from harness import Engine, until
from kafka_wire import Closed, InBackground, Schemas, Wire, header, served

MEBIBYTE = 1 << 20
# How much memory attackers may make the engine take beside what it has: a request they fill, and answers.
ROOM = 700 * MEBIBYTE


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    one = Engine(tmp_path_factory.mktemp("hostile"))
    one.start()
    yield one
    one.clean_up()


@pytest.fixture(scope="module")
def seed():
    found = int(os.environ.get("MARTLET_TEST_SEED") or random.randrange(1 << 32))
    print(f"MARTLET_TEST_SEED={found}")
    return found


def resident(engine):
    """Bytes of memory the engine has now, and had at most."""
    text = Path("/proc", str(engine.process.pid), "status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return tuple(int(fields[name].split()[0]) << 10 for name in ("VmRSS", "VmHWM"))


@contextlib.contextmanager
def honest(place, topic="honest"):
    """A client that produces and reads back all the time, and must be served."""
    producer = confluent_kafka.Producer({"bootstrap.servers": place, "linger.ms": 0, "message.timeout.ms": 15000})
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": "unused", "enable.auto.commit": False, "fetch.wait.max.ms": 100}
    )
    producer.produce(topic, b"first")
    assert producer.flush(20) == 0
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, confluent_kafka.OFFSET_END)])
    consumer.poll(2)
    slowest = 0.0

    def once():
        nonlocal slowest
        began = time.monotonic()
        failed = []
        value = str(began).encode()
        producer.produce(topic, value, on_delivery=lambda error, _: error and failed.append(error))
        assert producer.flush(20) == 0 and not failed, failed
        while (record := consumer.poll(20)) is not None:
            assert not record.error(), record.error()
            if record.value() == value:
                break
        assert record is not None, "the record did not come back"
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.01)

    worker = InBackground(once)
    worker.start()
    try:
        yield worker
    finally:
        worker.finish()
        consumer.close()
    print(f"{worker.rounds} honest rounds, the slowest {slowest * 1000:.0f} ms")
    assert worker.rounds > 0


def check(engine, before):
    """The engine lives, answers and has not grown beyond bounds."""
    assert engine.process.poll() is None, engine.log_tail()
    assert engine.http("GET", "/readyz").status == 200
    now, most = resident(engine)
    print(f"memory: {before >> 20} MiB before, {now >> 20} after, {most >> 20} at most")
    assert most < before + ROOM


def test_mutated_requests_of_every_api_and_version(engine, place, seed):
    generator = random.Random(seed)
    schemas = Schemas(generator, ["fuzz-0", "fuzz-1", "fuzz-2", "", "__own", "not a name", "fuzz-0", "fuzz-1"])
    apis = served(place)
    pairs = [(api, version) for api, range in apis.items() for version in range if api in schemas.schemas]
    assert len(pairs) > 150, "every API and version"
    before, _ = resident(engine)
    ends = time.monotonic() + 22
    sent = answered = closed = silent = 0
    with honest(place):
        wire = Wire(place, timeout=0.25)
        while time.monotonic() < ends:
            generator.shuffle(pairs)
            for api, version in pairs:
                body = schemas.request(api, version)
                if generator.random() < 0.8:
                    body = schemas.mutated(body)
                sent += 1
                try:
                    wire.ask(body)
                    answered += 1
                    continue
                except (Closed, ConnectionError):
                    closed += 1
                except TimeoutError:
                    # It waits for others, as a member of a group does, or wanted no answer.
                    silent += 1
                wire.close()
                wire = Wire(place, timeout=0.25)
                if time.monotonic() > ends:
                    break
        wire.close()
    print(f"{sent} requests: {answered} answered, {closed} closed, {silent} silent")
    assert answered > sent // 10 and closed > 0
    check(engine, before)


def test_bytes_that_are_no_requests(engine, place, seed):
    generator = random.Random(seed + 1)
    before, _ = resident(engine)
    with honest(place):
        for _ in range(300):
            with Wire(place, timeout=0.05) as wire:
                with contextlib.suppress(OSError):
                    wire.socket.sendall(generator.randbytes(generator.choice([1, 3, 4, 5, 12, 100, 5000])))
                    wire.socket.recv(1)
        for length in (-1, 0, 7, 100 * MEBIBYTE + 1, (1 << 31) - 1, -(1 << 31)):
            with Wire(place) as wire:
                wire.socket.sendall(struct.pack(">i", length))
                assert wire.socket.recv(1) == b"", f"a length of {length} ends the connection"
    check(engine, before)


def test_announced_and_half_sent_requests_hold_up_nobody(engine, place):
    wide = NewTopic("wide", 1, config={"max.message.bytes": str(32 * MEBIBYTE)})
    admin = AdminClient({"bootstrap.servers": place})
    admin.create_topics([wide])["wide"].result(20)
    before, _ = resident(engine)
    wires = []
    with honest(place):
        # More than all requests together may take, if it were taken at once.
        for number in range(40):
            wire = Wire(place)
            wire.socket.setblocking(False)
            wire.socket.send(struct.pack(">i", 100 * MEBIBYTE) + header(0, 9))
            if number % 2:
                with contextlib.suppress(BlockingIOError):
                    for _ in range(64):
                        wire.socket.send(b"\0" * 65536)
            wires.append(wire)
        began = time.monotonic()
        large = confluent_kafka.Producer({"bootstrap.servers": place, "message.max.bytes": 32 * MEBIBYTE})
        failed = []
        for _ in range(5):
            large.produce("wide", b"x" * 16 * MEBIBYTE, on_delivery=lambda error, _: error and failed.append(error))
        assert large.flush(20) == 0 and not failed, failed
        assert time.monotonic() - began < 15
        now, _ = resident(engine)
        assert now < before + 400 * MEBIBYTE, "what is only announced takes no memory"
    for wire in wires:
        wire.close()
    check(engine, before)


def test_a_flood_of_connections_leaves_those_that_are_there(engine, place):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    before, _ = resident(engine)
    host, _, port = place.rpartition(":")
    flood = []
    try:
        with honest(place):
            for _ in range(2500):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex((host, int(port)))
                flood.append(one)
            time.sleep(2)
        # With all of them open, and as many as there may be: silent ones give way to who asks for something.
        with honest(place) as worker:
            until(lambda: worker.rounds > 2 or not worker.is_alive(), "new clients are served")
        ended = 0
        for one in flood:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                ended += one.recv(1) == b""
        assert ended > 0, "there is a limit to connections"
    finally:
        for one in flood:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with honest(place):
        until(lambda: True, "served again")
    check(engine, before)


def test_who_never_reads_takes_no_memory_from_others(engine, place):
    producer = confluent_kafka.Producer({"bootstrap.servers": place})
    for _ in range(60):
        producer.produce("large", os.urandom(900_000))
    assert producer.flush(30) == 0
    before, _ = resident(engine)
    fetch = header(1, 4) + struct.pack(">iiiib", -1, 0, 1, 50 * MEBIBYTE, 0)
    fetch += struct.pack(">ih", 1, 5) + b"large" + struct.pack(">iiqi", 1, 0, 0, 50 * MEBIBYTE)
    metadata = header(3, 1) + struct.pack(">i", -1)
    wires = []
    with honest(place):
        for number in range(60):
            wire = Wire(place, receive_buffer=4096)
            wire.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(20 if number % 2 else 2000):
                    body = fetch if number % 2 else metadata
                    wire.socket.send(struct.pack(">i", len(body)) + body)
            wires.append(wire)
        time.sleep(3)
        now, _ = resident(engine)
        assert now < before + 300 * MEBIBYTE
    for wire in wires:
        wire.close()
    check(engine, before)
