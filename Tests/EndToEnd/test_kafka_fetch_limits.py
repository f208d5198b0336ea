# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""How much an answer to a fetch has, and how long it waits for that: what clients ask for, and batches larger than they want (KIP-74)."""

import asyncio
import queue
import random
import struct
import subprocess
import threading

import aiokafka
import confluent_kafka
import kafka
import pytest
from harness import until
from kafka_clients import CLIENTS, create
from kafka_wire import Wire, header

by_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda one: one.name)
PARTITIONS = 3
RECORDS = 6


@pytest.fixture(scope="module")
def engine(shared):
    return shared


def produce(place: str, topic: str, partition: int, *sizes: int) -> list[bytes]:
    """Records of these sizes, each a batch of its own."""
    producer = confluent_kafka.Producer({"bootstrap.servers": place, "acks": "all", "linger.ms": 0})
    values = [random.randbytes(size) for size in sizes]
    for value in values:
        producer.produce(topic, value, partition=partition)
        assert producer.flush(60) == 0
    return values


def settings(client, *, wait: int | None = None, least: int | None = None, most: int | None = None, largest: int | None = None) -> dict:
    """In the client's words: milliseconds to wait, least bytes, most bytes of a partition and of an answer."""
    if client.name in ("kafka-python", "aiokafka"):
        names = {"fetch_max_wait_ms": wait, "fetch_min_bytes": least, "max_partition_fetch_bytes": most, "fetch_max_bytes": largest}
        more = {"request_timeout_ms": 120_000}
    else:
        # A limit of an answer must not be below that of a message, which is at least 1000 here.
        names = {
            "fetch.wait.max.ms": wait, "fetch.min.bytes": least, "max.partition.fetch.bytes": most,
            "fetch.max.bytes": largest and max(largest, 1000), "message.max.bytes": largest and max(largest, 1000),
        }  # fmt: skip
        more = {"socket.timeout.ms": 120_000}
    return {name: value for name, value in names.items() if value is not None} | more


class Reading:
    """A client that reads all partitions of a topic from the beginning, in the background; `seen` has partition, offset and size."""

    def __init__(self, client, place: str, topic: str, partitions: int, given: dict) -> None:
        self.place, self.topic, self.partitions, self.given = place, topic, partitions, given
        self.seen: queue.Queue = queue.Queue()
        self.failure: BaseException | None = None
        self.ending = threading.Event()
        work = {"kafka-python": self.kafka_python, "confluent-kafka": self.confluent, "aiokafka": self.aiokafka, "kcat": self.kcat}
        self.thread = threading.Thread(target=self.guarded, args=(work[client.name],), daemon=True)
        self.thread.start()

    def guarded(self, work) -> None:
        try:
            work()
        except BaseException as error:
            self.failure = error

    def kafka_python(self) -> None:
        consumer = kafka.KafkaConsumer(bootstrap_servers=self.place, **self.given)
        places = [kafka.TopicPartition(self.topic, partition) for partition in range(self.partitions)]
        consumer.assign(places)
        for place in places:
            consumer.seek(place, 0)
        while not self.ending.is_set():
            for records in consumer.poll(timeout_ms=100).values():
                for one in records:
                    self.seen.put((one.partition, one.offset, one.value))
        consumer.close()

    def confluent(self) -> None:
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": self.place, "group.id": "unused", "enable.auto.commit": False} | self.given
        )
        consumer.assign([confluent_kafka.TopicPartition(self.topic, partition, 0) for partition in range(self.partitions)])
        while not self.ending.is_set():
            one = consumer.poll(0.1)
            if one is None:
                continue
            if one.error():
                raise confluent_kafka.KafkaException(one.error())
            self.seen.put((one.partition(), one.offset(), one.value()))
        consumer.close()

    def aiokafka(self) -> None:
        async def run():
            consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=self.place, **self.given)
            await consumer.start()
            places = [aiokafka.TopicPartition(self.topic, partition) for partition in range(self.partitions)]
            consumer.assign(places)
            for place in places:
                consumer.seek(place, 0)
            while not self.ending.is_set():
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    for one in records:
                        self.seen.put((one.partition, one.offset, one.value))
            await consumer.stop()

        asyncio.run(run())

    def kcat(self) -> None:
        words = [word for name, value in self.given.items() for word in ("-X", f"{name}={value}")]
        process = subprocess.Popen(
            ["kcat", "-b", self.place, "-C", "-t", self.topic, "-o", "beginning", "-u", "-q", "-f", "%p %o %S\x01%s", *words],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        stopper = threading.Thread(target=lambda: (self.ending.wait(), process.kill()), daemon=True)
        stopper.start()
        while True:
            head = b""
            while not head.endswith(b"\x01"):
                if not (byte := process.stdout.read(1)):
                    process.wait()
                    return
                head += byte
            partition, offset, size = map(int, head[:-1].split())
            self.seen.put((partition, offset, process.stdout.read(size)))

    def take(self, count: int, seconds: float = 45) -> list[tuple[int, int, bytes]]:
        """The next records; fails where they do not come."""
        found = []

        def are_there() -> bool:
            while not self.seen.empty():
                found.append(self.seen.get())
            if self.failure is not None:
                raise self.failure
            return len(found) >= count

        until(are_there, f"{count} records come", seconds)
        return found

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self.thread.join(90)


@pytest.fixture(scope="module")
def large(place, admin):
    """A topic with batches of 30,000 bytes, and what each partition has."""
    name = create(admin, "large", PARTITIONS)
    return name, [produce(place, name, partition, *[30_000] * RECORDS) for partition in range(PARTITIONS)]


@by_client
def test_batches_larger_than_every_limit_are_read_from_every_partition(place, large, client):
    name, values = large
    with Reading(client, place, name, PARTITIONS, settings(client, most=1, largest=1)) as reading:
        found = reading.take(PARTITIONS * RECORDS)
    for partition, right in enumerate(values):
        assert [(offset, value) for place, offset, value in found if place == partition] == list(enumerate(right))


@by_client
def test_an_answer_waits_until_there_are_enough_bytes(place, admin, client):
    name = create(admin, f"enough-{client.name}")
    produce(place, name, 0, 150_000)
    with Reading(client, place, name, 1, settings(client, wait=60_000, least=100_000)) as reading:
        assert [offset for _, offset, _ in reading.take(1)] == [0]
        # The next request is under way, or soon will be: these are not enough for it.
        produce(place, name, 0, 50_000)
        reading.ending.wait(1.5)
        assert reading.seen.empty(), "half of the bytes that were wanted came"
        produce(place, name, 0, 60_000)
        # Well before the minute is over.
        assert [offset for _, offset, _ in reading.take(2, seconds=45)] == [1, 2]


@by_client
def test_what_there_is_comes_when_the_time_is_up(place, admin, client):
    name = create(admin, f"late-{client.name}")
    produce(place, name, 0, 10)
    with Reading(client, place, name, 1, settings(client, wait=300, least=100_000)) as reading:
        assert [offset for _, offset, _ in reading.take(1)] == [0]


# The same without a client: what stands in one answer.


class Partition:
    """A partition of an answer."""

    def __init__(self, index: int, error: int, end: int, records: bytes) -> None:
        self.index, self.error, self.end, self.records = index, error, end, records

    @property
    def offsets(self) -> list[int]:
        """The base offsets of its batches, which must be whole."""
        found, at = [], 0
        while at < len(self.records):
            offset, length = struct.unpack_from(">qi", self.records, at)
            found.append(offset)
            at += 12 + length
        assert at == len(self.records), "a batch was cut"
        return found


def fetch(place: str, topic: str, partitions: list[int], *, wait: int = 0, least: int = 1, largest: int = 1 << 20, most: int = 1 << 20) -> list[Partition]:
    """One Fetch, version 4, from the beginning of partitions in this order."""
    body = header(1, 4) + struct.pack(">iiiibi", -1, wait, least, largest, 0, 1) + struct.pack(">h", len(topic)) + topic.encode()
    body += struct.pack(">i", len(partitions)) + b"".join(struct.pack(">iqi", one, 0, most) for one in partitions)
    with Wire(place) as wire:
        answer = wire.ask(body)
    at = 4 + 4 + 4 + 2 + len(topic)
    (count,) = struct.unpack_from(">i", answer, at)
    at += 4
    found = []
    for _ in range(count):
        index, error, end, _, aborted, size = struct.unpack_from(">ihqqii", answer, at)
        assert aborted == -1
        at += 30
        found.append(Partition(index, error, end, answer[at : at + size]))
        at += size
    assert at == len(answer) and [one.error for one in found] == [0] * count
    return found


@pytest.fixture(scope="module")
def mixed(place, admin):
    """Partitions with one batch of 30,000 bytes, one of 50,000, two of 10,000, and none."""
    name = create(admin, "mixed", 4)
    for partition, sizes in enumerate([[30_000], [50_000], [10_000, 10_000], []]):
        produce(place, name, partition, *sizes)
    return name


@pytest.mark.parametrize(
    "order, limits, right",
    [
        ([0, 1, 2, 3], {}, [[0], [0], [0, 1], []]),
        # The second is larger than what is left; what is behind it is not.
        ([0, 1, 2, 3], {"largest": 60_000}, [[0], [], [0, 1], []]),
        ([1, 2, 0, 3], {"largest": 65_000}, [[0], [0], [], []]),
        # The first that has a batch gives it, whatever its size, and nothing comes behind it.
        ([1, 0, 2, 3], {"largest": 1}, [[0], [], [], []]),
        ([3, 1, 0, 2], {"largest": 1, "most": 1}, [[], [0], [], []]),
        ([3, 2, 1, 0], {"largest": 0, "most": 0}, [[], [0], [], []]),
        ([2, 3], {"most": 1}, [[0], []]),
        ([2, 3], {"most": 10_500}, [[0], []]),
        ([3], {"largest": 1}, [[]]),
    ],
)
def test_an_answer_keeps_its_bounds_over_several_partitions(place, mixed, order, limits, right):
    found = fetch(place, mixed, order, **limits)
    assert [one.index for one in found] == order
    assert [one.offsets for one in found] == right
    # Where partitions end is told of those without room too.
    assert [one.end for one in found] == [[1, 1, 2, 0][one] for one in order]
    total = sum(len(one.records) for one in found)
    assert total <= limits.get("largest", 1 << 20) or sum(len(one.offsets) for one in found) == 1


@pytest.mark.parametrize(
    "order, limits",
    [
        # Nothing is read of the third: there is no room.
        ([1, 0, 2], {"largest": 40_000}),
        # The second is read, and is larger than what is left.
        ([0, 1], {"largest": 60_000}),
        ([2, 3], {"most": 1}),
    ],
)
def test_nobody_waits_for_more_bytes_where_limits_keep_them_back(place, mixed, order, limits):
    # The socket waits for 20 seconds only.
    assert fetch(place, mixed, order, wait=60_000, least=100_000, **limits)[0].offsets == [0]


def test_an_error_of_one_partition_is_not_waited_for(place, mixed):
    with Wire(place) as wire:
        body = header(1, 4) + struct.pack(">iiiibi", -1, 60_000, 1, 1 << 20, 0, 1) + struct.pack(">h", 5) + b"mixed"
        wire.send(body + struct.pack(">iiqiiqi", 2, 3, 0, 1 << 20, 99, 0, 1 << 20))
        answer = wire.answer()
    first, second = struct.unpack_from(">h", answer, 27)[0], struct.unpack_from(">h", answer, 57)[0]
    assert (first, second) == (0, 3), "UNKNOWN_TOPIC_OR_PARTITION of the second"
