# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""`kill -9` of the engine while plain, idempotent and transactional producers and several groups work through the Kafka door."""

import contextlib
import logging
import os
import random
import threading
import time
from collections import Counter

import confluent_kafka
import kafka
import kafka.errors
import pytest
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from harness import Engine, free_port, until
from kafka.protocol.consumer import OffsetFetchRequest
from kafka.protocol.producer import InitProducerIdRequest, ProduceRequest
from kafka_wire import Wire, batch

ROUNDS = int(os.environ.get("MARTLET_CRASH_ROUNDS") or 50)
#: Every so many rounds the engine runs until it compacts and deletes, and is killed while it does.
HOUSEKEEPING_EVERY = 10
PARTITIONS = 3
KEYS = 60
#: Segments are closed all the time, so that kills meet that too.
SMALL = {"segment.bytes": "16384"}
TOPICS = {
    "plain": SMALL, "idempotent": SMALL, "transactions": SMALL, "moved": SMALL, "repeated": SMALL,
    "keys": {"cleanup.policy": "compact", "segment.bytes": "8192", "min.cleanable.dirty.ratio": "0"},
    "aging": {"segment.bytes": "8192", "retention.bytes": "32768"},
}  # fmt: skip
#: What may be followed from beginning to end: nothing is deleted there.
KEPT = ("plain", "idempotent", "transactions", "moved")
IN_FLIGHT = 300
PER_TRANSACTION = 6
# With the other strategy librdkafka 2.16 throws its only broker's handle away when the broker is gone, and `send_offsets_to_transaction`,
# which waits for that handle, never returns.
RETURN = {
    "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20, "metadata.recovery.strategy": "none",
    "log_level": 0,
}  # fmt: skip
END_SECONDS = 90


@pytest.fixture
def seed():
    seed = int(os.environ.get("MARTLET_TEST_SEED") or random.randrange(2**31))
    print(f"MARTLET_TEST_SEED={seed}")
    return seed


class Worker:
    """A thread that does one thing again and again until it is told to stop; what it raises fails the test."""

    def __init__(self, place: str, seed: int) -> None:
        self.place, self.chance = place, random.Random(seed)
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self.thread.start()

    def _run(self) -> None:
        try:
            self.open()
            while not self.stopping.is_set():
                self.step()
            self.finish()
        except BaseException as error:  # noqa: BLE001 (reported by `check`)
            self.error = error

    def open(self) -> None: ...

    def step(self) -> None: ...

    def progress(self) -> int:
        """How much has been promised to it."""
        return 0

    def finish(self) -> None: ...

    def check(self) -> None:
        if self.error is not None:
            raise AssertionError(f"{type(self).__name__}: {self.error!r}") from self.error

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(END_SECONDS)
        assert not self.thread.is_alive(), f"{type(self).__name__} did not come to an end within {END_SECONDS} s"
        self.check()


class Producer(Worker):
    """Numbers, spread over partitions, with librdkafka; remembers which were acknowledged, and where they are said to be."""

    def __init__(self, place: str, seed: int, name: str, topic: str, **settings) -> None:
        super().__init__(place, seed)
        self.name, self.topic = name, topic
        self.acknowledged: dict[str, tuple[int, int]] = {}
        self.refused: dict[str, object] = {}
        self.number = 0
        self.keys: dict[int, int] = {}
        self.settings = settings

    def open(self) -> None:
        self.client = confluent_kafka.Producer(
            {"bootstrap.servers": self.place, "linger.ms": 2, "acks": "all"} | RETURN | self.settings
        )

    def progress(self) -> int:
        return len(self.acknowledged)

    def step(self) -> None:
        for _ in range(self.chance.randint(1, 20)):
            value = f"{self.name}-{self.number}"

            def on_delivery(error, record, value=value):
                if error:
                    self.refused[value] = error
                else:
                    self.acknowledged[value] = (record.partition(), record.offset())

            # A key has its partition.
            key = self.keys[self.number] = self.chance.randrange(KEYS)
            self.client.produce(self.topic, value, key=f"{key}", partition=key % PARTITIONS, on_delivery=on_delivery)
            self.number += 1
        self.client.poll(0.02)
        while len(self.client) > IN_FLIGHT and not self.stopping.is_set():
            self.client.poll(0.05)

    def finish(self) -> None:
        assert self.client.flush(END_SECONDS) == 0, f"{self.name}: records were not answered"


class PythonProducer(Producer):
    """The same with kafka-python, which is idempotent of its own accord."""

    def open(self) -> None:
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
        self.client = kafka.KafkaProducer(
            bootstrap_servers=self.place, linger_ms=2, reconnect_backoff_ms=20, reconnect_backoff_max_ms=100,
            retry_backoff_ms=20, request_timeout_ms=10000, delivery_timeout_ms=120000,
        )  # fmt: skip
        self.waiting: list = []

    def step(self) -> None:
        for _ in range(self.chance.randint(1, 10)):
            value = f"{self.name}-{self.number}"
            future = self.client.send(self.topic, value.encode(), partition=self.chance.randrange(PARTITIONS))
            self.waiting.append((value, future))
            self.number += 1
        time.sleep(0.02)
        self.settle(len(self.waiting) > IN_FLIGHT)

    def settle(self, wait: bool) -> None:
        while wait and len(self.waiting) > IN_FLIGHT and not self.waiting[0][1].is_done:
            time.sleep(0.02)
        while self.waiting and self.waiting[0][1].is_done:
            value, future = self.waiting.pop(0)
            if future.succeeded():
                self.acknowledged[value] = (future.value.partition, future.value.offset)
            else:
                self.refused[value] = future.exception

    def finish(self) -> None:
        self.client.flush(END_SECONDS)
        self.settle(False)
        assert not self.waiting, f"{self.name}: records were not answered"
        self.client.close()


class Transactions(Worker):
    """Transactions over several partitions; knows of each whether it was committed, aborted or may be either."""

    def __init__(self, place: str, seed: int, name: str, topic: str) -> None:
        super().__init__(place, seed)
        self.name, self.topic = name, topic
        self.outcomes: dict[str, str] = {}
        self.committed = 0

    def progress(self) -> int:
        return self.committed

    def open(self) -> None:
        self.client = confluent_kafka.Producer(
            {"bootstrap.servers": self.place, "transactional.id": self.name, "linger.ms": 2} | RETURN
        )
        persist(lambda: self.client.init_transactions(5))

    def fill(self) -> None:
        for index in range(PER_TRANSACTION):
            self.client.produce(self.topic, f"{self.transaction}-{index}", partition=index % PARTITIONS)

    def step(self) -> None:
        self.transaction = f"{self.name}-{len(self.outcomes)}"
        self.outcomes[self.transaction] = "open"
        self.client.begin_transaction()
        try:
            self.fill()
            if self.chance.random() < 0.25:
                self.abort()
                return
            persist(lambda: self.client.commit_transaction(5))
            self.outcomes[self.transaction] = "committed"
            self.committed += 1
        except KafkaException as error:
            if error.args[0].txn_requires_abort():
                self.abort()
            else:
                self.outcomes[self.transaction] = "either"
                self.open()
        time.sleep(0.01)

    def abort(self) -> None:
        try:
            persist(lambda: self.client.abort_transaction(5))
            self.outcomes[self.transaction] = "aborted"
        except KafkaException:
            self.outcomes[self.transaction] = "either"
            self.open()


class Mover(Transactions):
    """Reads one topic and writes another, with the offsets as part of each transaction; remembers what was promised to it."""

    def __init__(self, place: str, seed: int, group: str, source: str, target: str, promised: dict) -> None:
        super().__init__(place, seed, "mover", target)
        self.group, self.source, self.target, self.promised = group, source, target, promised

    def open(self) -> None:
        super().open()
        if not hasattr(self, "consumer"):
            self.consumer = confluent_kafka.Consumer(
                {"bootstrap.servers": self.place, "group.id": self.group, "enable.auto.commit": False,
                 "auto.offset.reset": "earliest", "isolation.level": "read_committed"} | RETURN
            )  # fmt: skip
            self.consumer.assign([TopicPartition(self.source, one) for one in range(PARTITIONS)])
        self.go_back()

    def go_back(self) -> None:
        """To what is committed: what was read since is read again."""
        wanted = [TopicPartition(self.source, one) for one in range(PARTITIONS)]
        for one in persist(lambda: self.consumer.committed(wanted, 5)):
            self.consumer.seek(TopicPartition(one.topic, one.partition, max(one.offset, 0)))

    def step(self) -> None:
        records = [one for one in self.consumer.consume(100, 0.2) if not one.error()]
        if not records:
            return
        positions = {one.partition(): one.offset() + 1 for one in records}
        offsets = [TopicPartition(self.source, partition, offset) for partition, offset in positions.items()]
        try:
            self.client.begin_transaction()
            for one in records:
                self.client.produce(self.target, one.value(), partition=one.partition())
            group = self.consumer.consumer_group_metadata()
            persist(lambda: self.client.send_offsets_to_transaction(offsets, group, 5))
            persist(lambda: self.client.commit_transaction(5))
            self.promised.update(positions)
            self.committed += 1
        except KafkaException as error:
            if error.args[0].txn_requires_abort():
                persist(lambda: self.client.abort_transaction(5))
                self.go_back()
            else:
                self.open()

    def finish(self) -> None:
        self.consumer.close()


class Member(Worker):
    """A member of a group that commits what it has read; remembers what was promised to it."""

    def __init__(self, place: str, seed: int, group: str, topic: str, promised: dict, seen: set) -> None:
        super().__init__(place, seed)
        self.group, self.topic, self.promised, self.seen = group, topic, promised, seen
        self.commits = 0

    def progress(self) -> int:
        return self.commits

    def open(self) -> None:
        self.client = confluent_kafka.Consumer(
            {"bootstrap.servers": self.place, "group.id": self.group, "enable.auto.commit": False,
             "auto.offset.reset": "earliest", "session.timeout.ms": 10000, "heartbeat.interval.ms": 500} | RETURN
        )  # fmt: skip
        self.client.subscribe([self.topic])

    def step(self) -> None:
        records = [one for one in self.client.consume(200, 0.2) if not one.error()]
        self.seen.update(one.value() for one in records)
        if not records:
            return
        try:
            for one in self.client.commit(asynchronous=False):
                if not one.error:
                    self.promised[one.partition] = max(self.promised.get(one.partition, 0), one.offset)
                    self.commits += 1
        except KafkaException:
            pass  # Not promised: what was read is read again by whoever has the partition next.

    def finish(self) -> None:
        self.client.close()


class Watcher(Worker):
    """Reads committed records as they come; what was seen once must stay as it was seen."""

    def __init__(self, place: str, seed: int, topics: tuple[str, ...]) -> None:
        super().__init__(place, seed)
        self.seen: dict[tuple[str, int], dict[int, str]] = {(topic, part): {} for topic in topics for part in range(PARTITIONS)}
        self.last = dict.fromkeys(self.seen, -1)

    def progress(self) -> int:
        return sum(map(len, self.seen.values()))

    def open(self) -> None:
        self.client = confluent_kafka.Consumer(
            {"bootstrap.servers": self.place, "group.id": "unused", "enable.auto.commit": False, "auto.offset.reset": "error",
             "isolation.level": "read_committed", "check.crcs": True} | RETURN
        )  # fmt: skip
        self.client.assign([TopicPartition(topic, part, 0) for topic, part in self.seen])

    def step(self) -> None:
        for one in self.client.consume(500, 0.2):
            if one.error():
                # Where it stood is gone: what it saw was taken back.
                assert one.error().code() != confluent_kafka.KafkaError._AUTO_OFFSET_RESET, one.error()
                continue
            where = one.topic(), one.partition()
            assert one.offset() > self.last[where], f"{where} gave offset {one.offset()} after {self.last[where]}"
            self.last[where] = one.offset()
            self.seen[where][one.offset()] = one.value().decode()

    def finish(self) -> None:
        self.client.close()


class Repeater:
    """An idempotent producer made by hand, which asks after each kill for what it was acknowledged before."""

    def __init__(self, place: str) -> None:
        self.sequence = 0
        with Wire(place) as wire:
            begun = wire.call(
                InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60000, producer_id=-1, producer_epoch=-1), 4
            )
        assert begun.error_code == 0, begun
        self.producer, self.epoch = begun.producer_id, begun.producer_epoch

    def send(self, place: str, sequence: int) -> tuple[int, int]:
        """The code and the offset that one record of a kilobyte is answered with."""
        records = batch([f"{sequence}".encode().ljust(1000)], self.producer, self.epoch, sequence)
        topic = ProduceRequest.TopicProduceData
        request = ProduceRequest(
            transactional_id=None, acks=-1, timeout_ms=30000,
            topic_data=[topic(name="repeated", partition_data=[topic.PartitionProduceData(index=0, records=records)])],
        )  # fmt: skip
        with Wire(place) as wire:
            answer = wire.call(request, 9).responses[0].partition_responses[0]
        return answer.error_code, answer.base_offset

    def go_on(self, place: str) -> None:
        """Sends the next few; what it sends is all there is in the topic, so numbers are offsets."""
        for _ in range(3):
            assert self.send(place, self.sequence) == (0, self.sequence), "the next record was not taken"
            self.sequence += 1

    def repeat(self, place: str) -> None:
        """Sends the last ones again, as after lost answers: they are known, and where they are."""
        for sequence in range(self.sequence - 3, self.sequence):
            answer = self.send(place, sequence)
            assert answer == (0, sequence), f"record {sequence} was sent again after a kill and answered with {answer}"


def persist(call):
    """The answer of `call`, made again while the engine is away."""
    deadline = time.monotonic() + END_SECONDS
    while True:
        try:
            return call()
        except KafkaException as error:
            code = error.args[0]
            away = code.retriable() or code.code() in (
                confluent_kafka.KafkaError._TRANSPORT, confluent_kafka.KafkaError._ALL_BROKERS_DOWN,
                confluent_kafka.KafkaError._TIMED_OUT, confluent_kafka.KafkaError._WAIT_COORD,
            )  # fmt: skip
            if not away or code.txn_requires_abort() or code.fatal() or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def stand(place: str, group: str) -> dict[int, int]:
    """What a group has committed, asked for without a client that could commit anything."""
    topic = OffsetFetchRequest.OffsetFetchRequestTopic(name="idempotent", partition_indexes=[*range(PARTITIONS)])
    with Wire(place) as wire:
        answer = wire.call(OffsetFetchRequest(group_id=group, topics=[topic]), 5)
    assert answer.error_code == 0, answer
    assert all(one.error_code == 0 for one in answer.topics[0].partitions), answer
    return {one.partition_index: max(one.committed_offset, 0) for one in answer.topics[0].partitions}


def committed(place: str, topic: str, partitions: int = PARTITIONS) -> list[dict[int, str]]:
    """All committed records of each partition by offset, in order."""
    client = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": "unused", "enable.auto.commit": False, "isolation.level": "read_committed",
         "enable.partition.eof": True, "auto.offset.reset": "error", "check.crcs": True}
    )  # fmt: skip
    found: list[dict[int, str]] = [{} for _ in range(partitions)]
    starts = [client.get_watermark_offsets(TopicPartition(topic, one), 30)[0] for one in range(partitions)]
    client.assign([TopicPartition(topic, one, start) for one, start in enumerate(starts)])
    ended: set[int] = set()
    last = [-1] * partitions
    while len(ended) < partitions:
        one = client.poll(30)
        assert one is not None, f"{topic}: reading stopped"
        if one.error():
            assert one.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, one.error()
            ended.add(one.partition())
        else:
            assert one.offset() > last[one.partition()], f"{topic}: offset {one.offset()} came after {last[one.partition()]}"
            last[one.partition()] = one.offset()
            found[one.partition()][one.offset()] = one.value().decode()
    client.close()
    return found


def check_in_order(producer: Producer, partitions: list[dict[int, str]]) -> Counter:
    """That nothing of a producer is there twice or out of order; how often each of its records is there."""
    mine = [[one for one in partition.values() if one.rpartition("-")[0] == producer.name] for partition in partitions]
    times = Counter(one for partition in mine for one in partition)
    again = [one for one, count in times.items() if count > 1]
    assert not again, f"{producer.name}: {len(again)} records are there more than once: {again[:5]}"
    for partition in mine:
        numbers = [int(one.rpartition("-")[2]) for one in partition]
        assert numbers == sorted(numbers), f"{producer.name}: records stand out of order"
    return times


def check_once_and_in_order(producer: Producer, partitions: list[dict[int, str]]) -> None:
    times = check_in_order(producer, partitions)
    lost = producer.acknowledged.keys() - times.keys()
    assert not lost, f"{producer.name}: {len(lost)} acknowledged records are lost, {sorted(lost)[:5]} among them"
    for value, (partition, offset) in producer.acknowledged.items():
        assert offset < 0 or partitions[partition].get(offset) == value, f"{value} is not at {partition}/{offset}, where it was acknowledged"


def check_compacted(producer: Producer, partitions: list[dict[int, str]]) -> None:
    """That of each key there is what was acknowledged last, or something that came after it."""
    check_in_order(producer, partitions)
    latest: dict[int, int] = {}
    for value in producer.acknowledged:
        number = int(value.rpartition("-")[2])
        key = producer.keys[number]
        latest[key] = max(latest.get(key, -1), number)
    found: dict[int, int] = {}
    for partition in partitions:
        for value in partition.values():
            number = int(value.rpartition("-")[2])
            found[producer.keys[number]] = number
    behind = {key: (found.get(key), number) for key, number in latest.items() if found.get(key, -1) < number}
    assert not behind, f"keys with something older than what was acknowledged: {behind}"
    for value, (partition, offset) in producer.acknowledged.items():
        assert partitions[partition].get(offset, value) == value, f"something else is at {partition}/{offset}, where {value} was acknowledged"


def check_aged(producer: Producer, partitions: list[dict[int, str]]) -> None:
    """That what is left is the end of what there was, without a gap."""
    check_in_order(producer, partitions)
    for number, partition in enumerate(partitions):
        offsets = [*partition]
        assert offsets == [*range(offsets[0], offsets[-1] + 1)], f"partition {number} has gaps"
        assert offsets[0] > 0, f"nothing was deleted from partition {number}"
        for value, (where, offset) in producer.acknowledged.items():
            if where == number and offset >= offsets[0]:
                assert partition.get(offset) == value, f"{value} is not at {number}/{offset}, where it was acknowledged"


def check_all_or_nothing(transactions: Transactions, partitions: list[dict[int, str]]) -> None:
    """That each transaction is there as its end says, and that a producer's transactions stand in their order."""
    found: dict[str, list[int]] = {name: [] for name in transactions.outcomes}
    for number, partition in enumerate(partitions):
        order = []
        for one in partition.values():
            name, _, index = one.rpartition("-")
            producer, _, transaction = name.rpartition("-")
            if producer == transactions.name:
                assert int(index) % PARTITIONS == number, f"{one} is in partition {number}"
                order.append((int(transaction), int(index)))
                found[name].append(int(index))
        assert order == sorted(set(order)), f"{transactions.name}: partition {number} is out of order, or has something twice"
    whole = [*range(PER_TRANSACTION)]
    for name, outcome in transactions.outcomes.items():
        allowed = {"committed": (whole,), "aborted": ([],), "either": (whole, [])}[outcome]
        there = sorted(found[name])
        assert there in allowed, f"{name} was {outcome}, and of its records there are {there}"


def signs_of_housekeeping(engine: Engine) -> set:
    """What changes when the engine compacts or deletes."""
    folder = engine.data / "log/topics"
    signs: set = {path.name for path in folder.glob("keys/*/*") if ".compacting" in path.name or ".replacement" in path.name}
    for path in folder.glob("keys/*/compaction"):
        with contextlib.suppress(FileNotFoundError):
            signs.add((path.parent.name, path.stat().st_mtime_ns))
    for part in range(PARTITIONS):
        signs.add(min(path.name for path in folder.glob(f"aging/{part}/*.log")))
    return signs


def test_fifty_kills_under_mixed_load_lose_nothing_and_repeat_nothing(make_engine, seed):
    chance = random.Random(seed)
    port, elsewhere = str(free_port()), str(free_port())
    engine: Engine = make_engine("kafka-crash", settings={"MARTLET_KAFKA_PORT": port})
    engine.start()
    place = engine.get("engine")["kafka_address"]
    admin = AdminClient({"bootstrap.servers": place})
    topics = [NewTopic(name, 1 if name == "repeated" else PARTITIONS, config=config) for name, config in TOPICS.items()]
    for future in admin.create_topics(topics).values():
        future.result(30)

    # Without retries a plain producer sends each record at most once, so what is there twice would be ours.
    plain = Producer(place, seed, "plain", "plain", retries=0, **{"message.timeout.ms": 3000})
    once = {"enable.idempotence": True, "message.timeout.ms": 120000}
    idempotent = [Producer(place, seed + 1, "librdkafka", "idempotent", **once), PythonProducer(place, seed + 2, "python", "idempotent")]
    keys, aging = Producer(place, seed + 6, "keys", "keys", **once), Producer(place, seed + 7, "aging", "aging", **once)
    transactions = [Transactions(place, seed + 3 + number, f"transactions{number}", "transactions") for number in range(2)]
    promised: dict[str, dict[int, int]] = {group: {} for group in ("first", "second", "movers")}
    mover = Mover(place, seed + 5, "movers", "idempotent", "moved", promised["movers"])
    seen: dict[str, set] = {group: set() for group in ("first", "second")}
    members = [
        Member(place, seed + 10 + number, group, "idempotent", promised[group], seen[group])
        for number, group in enumerate(("first", "first", "second"))
    ]
    watcher = Watcher(place, seed + 20, KEPT)
    sending = [plain, *idempotent, keys, aging, *transactions]
    workers = [*sending, mover, *members, watcher]
    for worker in workers:
        worker.start()
    repeater = Repeater(place)

    def check_workers() -> bool:
        for worker in workers:
            worker.check()
        return True

    def all_get_on(since: list[int]) -> bool:
        return check_workers() and all(worker.progress() > before for worker, before in zip(sending, since, strict=True))

    def check_behind_a_closed_door() -> None:
        """What the log holds while no client can reach it: one that goes on would commit and send what was lost again."""
        engine.settings["MARTLET_KAFKA_PORT"] = elsewhere
        engine.start()
        aside = engine.get("engine")["kafka_address"]
        for group, before in {group: dict(values) for group, values in promised.items()}.items():
            now = stand(aside, group)
            for partition, offset in before.items():
                assert now[partition] >= offset, f"{group}: partition {partition} went back from {offset} to {now[partition]}"
        (last,) = engine.get("topics/repeated/records?offset=-1")["data"]
        assert last["offset"] == repeater.sequence - 1, "what was acknowledged last is gone"
        repeater.repeat(aside)
        assert engine.get("engine")["damage"] == []
        engine.kill()
        engine.settings["MARTLET_KAFKA_PORT"] = port

    since = [0] * len(sending)
    slowest = 0.0
    kept_house = 0
    for round in range(ROUNDS):
        began = time.monotonic()
        until(lambda since=since: all_get_on(since), f"all producers get on before kill {round}", END_SECONDS)
        slowest = max(slowest, time.monotonic() - began)
        repeater.go_on(place)
        is_housekeeping = round % HOUSEKEEPING_EVERY == HOUSEKEEPING_EVERY - 1
        if is_housekeeping:
            before = signs_of_housekeeping(engine)
            until(lambda before=before: signs_of_housekeeping(engine) != before, "the engine compacts or deletes", END_SECONDS, every=0.001)
            kept_house += 1
        time.sleep(chance.uniform(0, 0.1 if is_housekeeping else 0.7))
        engine.kill()
        since = [worker.progress() for worker in sending]
        check_workers()
        check_behind_a_closed_door()
        engine.start()
    until(lambda: all_get_on(since), "all producers get on after the last kill", END_SECONDS)

    for worker in sending:
        worker.stop()
    held = committed(place, "idempotent")
    everything = {one for partition in held for one in partition.values()}
    until(lambda: mover.error or all_moved(place, everything), "all records are moved", END_SECONDS, every=1)
    for group, values in seen.items():
        until(lambda values=values: {one.decode() for one in set(values)} >= everything, f"{group} has read everything", END_SECONDS, every=0.5)
    for worker in [mover, *members]:
        worker.stop()
    final = {topic: held if topic == "idempotent" else committed(place, topic) for topic in KEPT}
    until(lambda: watcher.error or watcher.progress() >= sum(len(part) for one in final.values() for part in one), "all was seen", END_SECONDS)
    watcher.stop()

    check_once_and_in_order(plain, final["plain"])
    for producer in idempotent:
        check_once_and_in_order(producer, held)
    for producer in (*idempotent, keys, aging):
        assert not producer.refused, f"{producer.name}: {len(producer.refused)} were refused: {[*producer.refused.items()][:3]}"
        assert len(producer.acknowledged) == producer.number
    check_compacted(keys, committed(place, "keys"))
    until(lambda: sum(map(len, committed(place, "keys"))) < keys.number / 2, "it is compacted after all these kills", END_SECONDS, every=1)
    check_compacted(keys, committed(place, "keys"))
    check_aged(aging, committed(place, "aging"))
    for one in transactions:
        check_all_or_nothing(one, final["transactions"])
    assert [[*part.values()] for part in final["moved"]] == [[*part.values()] for part in held], "what was moved is not what there was, once and in order"
    for (topic, partition), records in watcher.seen.items():
        assert records == final[topic][partition], f"{topic}/{partition}: a reader saw something else than what there is"
    for group, values in seen.items():
        assert {one.decode() for one in values} == everything, f"{group} read what is not there"
    assert [*committed(place, "repeated", 1)[0].values()] == [f"{number}".ljust(1000) for number in range(repeater.sequence)]
    assert engine.stop() == 0

    outcomes = [Counter(one.outcomes.values()) for one in transactions]
    print(
        f"{ROUNDS} kills, {kept_house} of them during housekeeping: {len(plain.acknowledged)} plain records acknowledged, {len(plain.refused)} not, "
        f"{[len(one.acknowledged) for one in (*idempotent, keys, aging)]} idempotent ones, transactions {[dict(one) for one in outcomes]}, "
        f"{len(everything)} records moved in {mover.committed} transactions, commits {[one.commits for one in members]}, "
        f"{slowest:.1f} s at most until all went on"
    )
    assert len(plain.acknowledged) > 20 * ROUNDS and all(one["committed"] > ROUNDS for one in outcomes), "there was no load"
    assert mover.committed > ROUNDS / 2 and sum(one.commits for one in members) > ROUNDS, "nobody committed offsets"


def all_moved(place: str, everything: set[str]) -> bool:
    return sum(map(len, committed(place, "moved"))) >= len(everything)
