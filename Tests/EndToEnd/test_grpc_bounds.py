# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Subscribers over gRPC that hang, end, or take nothing: what becomes of their records, of the engine's memory, and of its stop."""

import queue
import random
import signal
import subprocess
import sys
import threading
import time

import grpc
import pytest
from grpc_client import OPTIONS, Client, Subscription, events_pb2, events_pb2_grpc, record
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness import ROOT

EARLIEST = events_pb2.Start(earliest=True)


@pytest.fixture(scope="module")
def engine(shared):
    return shared


@pytest.fixture
def topic(client, request):
    """A topic of the test's own, of one partition."""
    return client.topic(request.node.name.replace("test_", "")[:60] + f"-{random.randrange(1 << 30)}")


SUBSCRIBER = """
import sys, time
sys.path[:0] = [{tests!r}, {sdk!r}]
import grpc
from martlet.v1 import events_pb2 as e, events_pb2_grpc as g
stub = g.SubscriberStub(grpc.insecure_channel({address!r}))
def requests():
    yield e.SubscribeRequest(open=e.Open(topics=[{topic!r}], group={group!r}, start=e.Start(earliest=True),
                                         acknowledge_within_ms={within}, in_flight_max={most}))
    time.sleep(600)
for answer in stub.Subscribe(requests()):
    for one in answer.deliveries:
        print(one.offset, flush=True)
    {then}
"""


def start_subscriber(engine, topic, group, within=60_000, most=1000, then="pass"):
    text = SUBSCRIBER.format(
        tests=str(ROOT / "Tests/EndToEnd"), sdk=str(ROOT / "sdk/python/src"), address=engine.get("engine")["grpc_address"],
        topic=topic, group=group, within=within, most=most, then=then,
    )  # fmt: skip
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)


def test_messages_of_a_killed_subscriber_go_to_others(client, engine, topic):
    client.publish(topic, *(record(b"%d" % n) for n in range(20)))
    victim = start_subscriber(engine, topic, "grpc-killed")
    try:
        got = [int(victim.stdout.readline()) for _ in range(20)]
        assert got == list(range(20))
        other = client.subscribe(topic, group="grpc-killed", start=EARLIEST).begin()
        assert other.has_nothing(0.3)
        victim.kill()
        taken = other.take(20)
        assert [one.offset for one in taken] == got and {one.delivery_count for one in taken} == {2}
        other.acknowledge(*taken)
        other.end()
    finally:
        victim.kill()
        victim.wait()


def test_messages_of_a_stopped_subscriber_go_to_others_after_the_deadline(client, engine, topic):
    """A process that hangs keeps its connection; its records are not lost in it."""
    client.publish(topic, *(record(bytes(20_000) + b"%d" % n) for n in range(500)))
    victim = start_subscriber(engine, topic, "grpc-stopped", within=2000, most=10_000)
    try:
        victim.stdout.readline()
        victim.send_signal(signal.SIGSTOP)
        other = client.subscribe(topic, group="grpc-stopped", start=EARLIEST, acknowledge_within_ms=60_000).begin()
        seen: set[int] = set()
        deadline = time.monotonic() + 45
        while len(seen) < 500 and time.monotonic() < deadline:
            for one in other.take(1, seconds=40):
                seen.add(one.offset)
                other.acknowledge(one)
        assert seen == set(range(500))
        other.end()
    finally:
        victim.send_signal(signal.SIGCONT)
        victim.kill()
        victim.wait()


def resident(engine) -> int:
    with open(f"/proc/{engine.process.pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_slow_readers_and_publishers_are_bounded(client, engine):
    """Readers that do not read, and a publisher that does not read its acknowledgements, cost little memory and stall nobody."""
    topic = client.topic("grpc-slow", 4)
    for _ in range(20):
        client.publish(topic, *(record(random.randbytes(100_000), partition=n % 4) for n in range(40)))
    before = resident(engine)
    victims = [start_subscriber(engine, topic, f"grpc-slow-{n}", then="answer.deliveries and time.sleep(600)") for n in range(3)]
    victims += [start_subscriber(engine, topic, "", then="answer.deliveries and time.sleep(600)") for _ in range(3)]
    stop = threading.Event()

    def messages():
        number = 0
        while not stop.is_set():
            number += 1
            yield events_pb2.PublishStreamRequest(number=number, topic=topic, events=[record(b"x" * 1000)] * 100)

    channel = grpc.insecure_channel(engine.get("engine")["grpc_address"], options=OPTIONS)
    raw = channel.stream_stream("/martlet.v1.Publisher/PublishStream", request_serializer=lambda m: m.SerializeToString())
    call = raw(messages())
    try:
        for victim in victims:
            assert victim.stdout.readline()
        time.sleep(3)
        assert resident(engine) - before < 400 << 20, f"{(resident(engine) - before) >> 20} MiB more"
        began = time.monotonic()
        client.publish(topic, record(b"others go on"))
        assert time.monotonic() - began < 5
    finally:
        stop.set()
        call.cancel()
        channel.close()
        for victim in victims:
            victim.kill()
            victim.wait()


def peak(engine) -> int:
    with open(f"/proc/{engine.process.pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM:"))


def test_many_compressed_partitions_need_no_more_memory(make_engine):
    """Of 400 partitions each has 4 MiB to decode; subscribers and readers that take nothing do not have it all in memory."""
    import confluent_kafka

    partitions, records = 400, 40
    engine = make_engine()
    engine.start()
    client = Client(engine)
    topic = client.topic("packed", partitions)
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": engine.get("engine")["kafka_address"], "compression.type": "zstd", "linger.ms": 100, "batch.size": 1 << 20}
    )
    value = b"x" * 100_000
    for partition in range(partitions):
        for number in range(records):
            while True:
                try:
                    producer.produce(topic, value=value + b"%d" % number, partition=partition)
                    break
                except BufferError:
                    producer.poll(1)
    assert producer.flush(120) == 0
    before = resident(engine)
    with open(f"/proc/{engine.process.pid}/clear_refs", "w") as file:
        file.write("5")
    stuck = [client.subscribe(topic, group=f"stuck-{n}", start=EARLIEST, in_flight_max=5) for n in range(3)]
    for one in stuck:
        one.take(5)
    victims = [start_subscriber(engine, topic, "", then="answer.deliveries and time.sleep(600)") for _ in range(3)]
    try:
        for victim in victims:
            assert victim.stdout.readline()
        # One that keeps up gets everything, once, whatever the others hold.
        busy = client.subscribe(topic, group="busy", start=EARLIEST)
        seen: set[tuple[int, int]] = set()
        for _ in range(partitions * records):
            one = busy.deliveries.get(timeout=60)
            assert (one.event.partition, one.offset) not in seen
            seen.add((one.event.partition, one.offset))
            if len(seen) % 50 == 0:
                busy.acknowledge_through(one)
        assert seen == {(partition, number) for partition in range(partitions) for number in range(records)}
        grown = peak(engine) - before
        print(f"{grown >> 20} MiB more at the most, of {partitions * records * len(value) >> 20} MiB")
        assert grown < 320 << 20, f"{grown >> 20} MiB more"
        busy.cut()
    finally:
        for victim in victims:
            victim.kill()
            victim.wait()
        client.close()


def test_messages_fit_what_clients_take_unless_told_otherwise(client, engine):
    """A client with gRPC's own limit of 4 MiB, and records that are just below; all come from one compressed batch."""
    import confluent_kafka

    topic = client.topic("grpc-four-mebibytes")
    large = (4 << 20) - 2000
    sizes = [200_000, large, 100_000, large, large, 10]
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": engine.get("engine")["kafka_address"], "compression.type": "zstd", "linger.ms": 1000,
            "message.max.bytes": 64 << 20, "batch.size": 32 << 20,
        }
    )  # fmt: skip
    for size in sizes:
        producer.produce(topic, value=bytes(size))
    assert producer.flush(60) == 0
    with grpc.insecure_channel(engine.get("engine")["grpc_address"]) as channel:
        stub = events_pb2_grpc.SubscriberStub(channel)
        opened = events_pb2.Open(topics=[topic], start=EARLIEST, stop_at_end=True)
        found = [one for answer in stub.Subscribe(iter([events_pb2.SubscribeRequest(open=opened)]), timeout=60) for one in answer.deliveries]
        assert [len(one.event.data) for one in found] == sizes
        group = Subscription(stub, events_pb2.Open(topics=[topic], group="grpc-four", start=EARLIEST, in_flight_bytes_max=64 << 20))
        assert [len(one.event.data) for one in group.take(len(sizes))] == sizes
        group.cut()


def test_rejected_records_come_before_new_ones_when_there_is_room(client, topic):
    client.publish(topic, *(record(b"%d" % n) for n in range(3000)))
    subscription = client.subscribe(topic, group="grpc-rejected-first", start=EARLIEST, in_flight_max=10)
    first = subscription.take(10)
    subscription.reject(*first)
    again: set[int] = set()
    for count in range(1, 2000):
        one = subscription.take(1)[0]
        if one.delivery_count == 2:
            again.add(one.offset)
        if len(again) == 10:
            break
        subscription.acknowledge(one)
    assert again == set(range(10)) and count < 200, count
    subscription.cut()


def test_the_engine_stops_soon_though_clients_read_nothing(make_engine):
    engine = make_engine()
    engine.start()
    client = Client(engine)
    topic = client.topic("unread", 2)
    for _ in range(20):
        client.publish(topic, *(record(random.randbytes(100_000), partition=n % 2) for n in range(40)))
    victims = [start_subscriber(engine, topic, group, then="answer.deliveries and time.sleep(600)") for group in ("g", "")]
    try:
        for victim in victims:
            assert victim.stdout.readline()
        began = time.monotonic()
        assert engine.stop() == 0
        print(f"{time.monotonic() - began:.1f} s")
        assert time.monotonic() - began < 20
    finally:
        for victim in victims:
            victim.kill()
            victim.wait()
        client.close()


def test_the_engine_stops_in_order_with_open_streams(make_engine):
    engine = make_engine()
    engine.start()
    client = Client(engine)
    client.topic("t")
    client.publish("t", *(record(b"%d" % n) for n in range(10)))
    group = client.subscribe("t", group="g", start=EARLIEST)
    plain = client.subscribe("t")
    group.acknowledge(*group.take(10)[:6])
    plain.begin()
    publishing: queue.Queue = queue.Queue()
    stream = client.publisher.PublishStream(iter(publishing.get, None))
    publishing.put(events_pb2.PublishStreamRequest(number=1, topic="t", events=[record(b"last")]))
    assert next(stream).acknowledgements[0].number == 1
    health = health_pb2_grpc.HealthStub(client.channel).Watch(health_pb2.HealthCheckRequest())
    assert next(health).status == 1
    began = time.monotonic()
    assert engine.stop() == 0
    assert time.monotonic() - began < 10
    assert group.failure().code() == plain.failure().code() == grpc.StatusCode.UNAVAILABLE
    publishing.put(None)
    engine.start()
    client = Client(engine)
    assert client.subscribe("t", group="g").begin().positions == {("t", 0): 6}
    assert len(client.read_all("t")) == 11
