# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""`kill -9` of the engine while plain, idempotent and transactional producers and several groups work through the Kafka door."""

import os
import random
import threading
import time
from collections import Counter, defaultdict

import confluent_kafka
import kafka
import kafka.errors
import pytest
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from harness import Engine, free_port, until

ROUNDS = int(os.environ.get("MARTLET_CRASH_ROUNDS") or 50)
PARTITIONS = 3
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
    """Numbers, spread over partitions, with librdkafka; remembers which were acknowledged."""

    def __init__(self, place: str, seed: int, name: str, topic: str, **settings) -> None:
        super().__init__(place, seed)
        self.name, self.topic = name, topic
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()
        self.number = 0
        self.settings = settings

    def open(self) -> None:
        self.client = confluent_kafka.Producer(
            {"bootstrap.servers": self.place, "linger.ms": 2, "acks": "all"} | RETURN | self.settings
        )

    def step(self) -> None:
        for _ in range(self.chance.randint(1, 20)):
            value = f"{self.name}-{self.number}"

            def on_delivery(error, _, value=value):
                (self.refused if error else self.acknowledged).add(value)

            self.client.produce(self.topic, value, partition=self.chance.randrange(PARTITIONS), on_delivery=on_delivery)
            self.number += 1
        self.client.poll(0.02)
        while len(self.client) > IN_FLIGHT and not self.stopping.is_set():
            self.client.poll(0.05)

    def finish(self) -> None:
        assert self.client.flush(END_SECONDS) == 0, f"{self.name}: records were not answered"


class PythonProducer(Producer):
    """The same with kafka-python, which is idempotent of its own accord."""

    def open(self) -> None:
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
            (self.acknowledged if future.succeeded() else self.refused).add(value)

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
    """Reads one topic and writes another, with the offsets as part of each transaction."""

    def __init__(self, place: str, seed: int, source: str, target: str) -> None:
        super().__init__(place, seed, "mover", target)
        self.source, self.target = source, target
        self.moved = 0

    def open(self) -> None:
        super().open()
        if not hasattr(self, "consumer"):
            self.consumer = confluent_kafka.Consumer(
                {"bootstrap.servers": self.place, "group.id": "movers", "enable.auto.commit": False,
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
            self.moved += len(records)
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
                    self.promised[one.partition] = max(self.promised[one.partition], one.offset)
        except KafkaException:
            pass  # Not promised: what was read is read again by whoever has the partition next.

    def finish(self) -> None:
        self.client.close()


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


def committed(place: str, topic: str) -> list[list[str]]:
    """All committed records of each partition in order."""
    client = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": "unused", "enable.auto.commit": False, "isolation.level": "read_committed",
         "enable.partition.eof": True}
    )  # fmt: skip
    found: list[list[str]] = [[] for _ in range(PARTITIONS)]
    client.assign([TopicPartition(topic, one, 0) for one in range(PARTITIONS)])
    ended: set[int] = set()
    while len(ended) < PARTITIONS:
        one = client.poll(30)
        assert one is not None, f"{topic}: reading stopped"
        if one.error():
            assert one.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, one.error()
            ended.add(one.partition())
        else:
            found[one.partition()].append(one.value().decode())
    client.close()
    return found


def check_once_and_in_order(producer: Producer, partitions: list[list[str]]) -> None:
    mine = [[one for one in partition if one.rpartition("-")[0] == producer.name] for partition in partitions]
    times = Counter(one for partition in mine for one in partition)
    lost = producer.acknowledged - times.keys()
    assert not lost, f"{producer.name}: {len(lost)} acknowledged records are lost, {sorted(lost)[:5]} among them"
    again = [one for one, count in times.items() if count > 1]
    assert not again, f"{producer.name}: {len(again)} records are there more than once: {again[:5]}"
    for partition in mine:
        numbers = [int(one.rpartition("-")[2]) for one in partition]
        assert numbers == sorted(numbers), f"{producer.name}: records stand out of order"


def check_all_or_nothing(transactions: Transactions, partitions: list[list[str]]) -> None:
    found = defaultdict(list)
    for partition in partitions:
        for one in partition:
            name, _, index = one.rpartition("-")
            found[name].append(int(index))
    for name, outcome in transactions.outcomes.items():
        there = sorted(found[name])
        allowed = {
            "committed": ([*range(PER_TRANSACTION)],), "aborted": ([],), "either": ([*range(PER_TRANSACTION)], []),
            "open": ([*range(PER_TRANSACTION)], []),
        }[outcome]  # fmt: skip
        assert there in allowed, f"{name} was {outcome}, and of its records there are {there}"


def test_fifty_kills_under_mixed_load_lose_nothing_and_repeat_nothing(make_engine, seed):
    chance = random.Random(seed)
    engine: Engine = make_engine("kafka-crash", settings={"MARTLET_KAFKA_PORT": str(free_port())})
    engine.start()
    place = engine.get("engine")["kafka_address"]
    admin = AdminClient({"bootstrap.servers": place})
    for future in admin.create_topics([NewTopic(name, PARTITIONS) for name in ("plain", "idempotent", "transactions", "moved")]).values():
        future.result(30)

    # Without retries a plain producer sends each record at most once, so what is there twice would be ours.
    plain = Producer(place, seed, "plain", "plain", retries=0, **{"message.timeout.ms": 3000})
    idempotent = [
        Producer(place, seed + 1, "librdkafka", "idempotent", **{"enable.idempotence": True, "message.timeout.ms": 120000}),
        PythonProducer(place, seed + 2, "python", "idempotent"),
    ]
    transactions = [Transactions(place, seed + 3 + number, f"transactions{number}", "transactions") for number in range(2)]
    mover = Mover(place, seed + 5, "idempotent", "moved")
    promised = {group: defaultdict(int) for group in ("first", "second")}
    seen: dict[str, set] = {group: set() for group in promised}
    members = [
        Member(place, seed + 10 + number, group, "idempotent", promised[group], seen[group])
        for number, group in enumerate(("first", "first", "second"))
    ]
    workers = [plain, *idempotent, *transactions, mover, *members]
    for worker in workers:
        worker.start()
    until(lambda: plain.acknowledged and all(one.acknowledged for one in idempotent), "the load has begun", 60)

    def stand(group: str) -> dict[int, int]:
        reader = confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": group} | RETURN)
        wanted = [TopicPartition("idempotent", one) for one in range(PARTITIONS)]
        found = {one.partition: max(one.offset, 0) for one in persist(lambda: reader.committed(wanted, 10))}
        reader.close()
        return found

    def check_promises() -> None:
        for group, before in {group: dict(values) for group, values in promised.items()}.items():
            now = stand(group)
            for partition, offset in before.items():
                assert now[partition] >= offset, f"{group}: partition {partition} went back from {offset} to {now[partition]}"

    for round in range(ROUNDS):
        time.sleep(chance.uniform(0.1, 0.9))
        engine.kill()
        engine.start()
        for worker in workers:
            worker.check()
        if round % 5 == 0:
            check_promises()
    check_promises()

    for worker in [plain, *idempotent, *transactions]:
        worker.stop()
    held = committed(place, "idempotent")
    everything = {one for partition in held for one in partition}
    until(lambda: mover.error or all_moved(place, everything), "all records are moved", END_SECONDS, every=1)
    for group, values in seen.items():
        until(lambda values=values: {one.decode() for one in set(values)} >= everything, f"{group} has read everything", END_SECONDS, every=0.5)
    for worker in [mover, *members]:
        worker.stop()

    check_once_and_in_order(plain, committed(place, "plain"))
    for producer in idempotent:
        check_once_and_in_order(producer, held)
    held_transactions = committed(place, "transactions")
    for one in transactions:
        check_all_or_nothing(one, held_transactions)
    moved = committed(place, "moved")
    assert moved == held, "what was moved is not what there was, once and in order"
    outcomes = Counter(outcome for one in transactions for outcome in one.outcomes.values())
    print(
        f"{ROUNDS} kills: {len(plain.acknowledged)} plain records acknowledged, {len(plain.refused)} not, "
        f"{[len(one.acknowledged) for one in idempotent]} idempotent ones, transactions {dict(outcomes)}, {len(everything)} records moved"
    )
    assert len(plain.acknowledged) > 20 * ROUNDS and outcomes["committed"] > 2 * ROUNDS, "there was no load"


def all_moved(place: str, everything: set[str]) -> bool:
    return sum(map(len, committed(place, "moved"))) >= len(everything)
