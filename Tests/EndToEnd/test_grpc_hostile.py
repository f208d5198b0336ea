# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What slow and hostile clients do to the gRPC door, with an honest one beside them."""

import concurrent.futures
import contextlib
import resource
import socket
import time
from pathlib import Path

import grpc
import pytest
from grpc_client import OPTIONS, Client, record
from harness import until
from http2_wire import PREFACE, Closed, Connection, announce

MEBIBYTE = 1 << 20
# What attackers may make the engine take: 256 MiB for large messages, one that may always go on, and what else that costs.
ROOM = 700 * MEBIBYTE


@pytest.fixture
def engine(make_engine):
    one = make_engine()
    one.start()
    return one


def memory(engine, field="VmHWM"):
    text = Path("/proc", str(engine.process.pid), "status").read_text()
    return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(f"{field}:"))


def test_messages_that_are_not_finished_hold_bounded_memory_and_nobody_up(engine):
    client = Client(engine)
    topic = client.topic("honest")
    before = memory(engine)
    address = engine.get("engine")["grpc_address"]
    # 1.2 GiB in all, if it were taken.
    attackers = [Connection(address) for _ in range(20)]
    part = bytes(4 * MEBIBYTE)
    unsent = {}
    for attacker in attackers:
        for _ in range(15):
            stream = attacker.call("/martlet.v1.Publisher/PublishStream")
            unsent[attacker, stream] = announce(30 * MEBIBYTE) + part
    served = 0
    deadline = time.monotonic() + 20
    while any(unsent.values()) and time.monotonic() < deadline:
        moved = 0
        for (attacker, stream), rest in unsent.items():
            with contextlib.suppress(Closed):
                count = attacker.send(stream, rest[: 1 << 18])
                moved += count
                unsent[attacker, stream] = b"" if stream in attacker.ended else rest[count:]
        for attacker in attackers:
            with contextlib.suppress(Closed):
                attacker.receive(0.001)
        if not moved:
            (result,) = client.publish(topic, record(bytes(500_000)))
            assert result.offset == served
            served += 1
    (result,) = client.publish(topic, record(bytes(500_000)))
    assert result.offset == served
    assert memory(engine) - before < ROOM
    # They are broken off, one after the other, and what they held is free again.
    for attacker in attackers:
        attacker.close()
    client.close()


def test_what_is_small_compressed_and_large_inflated_is_bounded(engine):
    client = Client(engine)
    client.topic("honest")
    before = memory(engine)
    address = engine.get("engine")["grpc_address"]
    # 31 MiB of zeros as the one field of a message, which both methods take for a message.
    bomb = b"\x0a" + length(31 * MEBIBYTE) + bytes(31 * MEBIBYTE)

    def attack(path, count):
        with grpc.insecure_channel(address, options=[*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.stream_stream(path)
            try:
                for _ in call(iter([bomb] * count), timeout=30, compression=grpc.Compression.Gzip):
                    pass
            except grpc.RpcError as error:
                return error.code()

    attacks = [("/martlet.v1.Publisher/PublishStream", 6)] * 12 + [("/grpc.health.v1.Health/Watch", 1)] * 24
    with concurrent.futures.ThreadPoolExecutor(len(attacks)) as threads:
        codes = list(threads.map(attack, *zip(*attacks, strict=True)))
    # Whoever asks for health, which takes no token, is not waited on with what it sent.
    assert set(codes[12:]) == {grpc.StatusCode.CANCELLED}
    assert memory(engine) - before < ROOM
    assert client.publish("honest", record(b"x"))[0].offset == 0
    client.close()


def length(number):
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def test_idle_connections_give_way_to_new_ones(engine):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    idle = []
    try:
        host, port = engine.get("engine")["grpc_address"].rsplit(":", 1)
        first = Client(engine)
        first.topic("honest")
        for _ in range(1300):
            one = socket.create_connection((host, int(port)), timeout=20)
            one.sendall(PREFACE)
            idle.append(one)
        until(lambda: len(list(Path("/proc", str(engine.process.pid), "fd").iterdir())) < 1200, "connections are closed")
        late = Client(engine)
        assert late.publish("honest", record(b"late"))[0].offset == 0
        # Whoever was sent away connects again without being told to.
        assert first.publish("honest", record(b"first"))[0].offset == 1
        late.close()
        first.close()
    finally:
        for one in idle:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
