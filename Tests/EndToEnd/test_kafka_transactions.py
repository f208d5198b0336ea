# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Idempotent producers and transactions of the Kafka door with real clients."""

import asyncio
import os
import random
import time

import aiokafka
import confluent_kafka
import kafka
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic
from harness import until
from kafka.protocol.consumer import OffsetFetchRequest
from kafka.protocol.producer import EndTxnRequest, InitProducerIdRequest, ProduceRequest, TxnOffsetCommitRequest
from kafka_clients import AIOKafka, Confluent, KafkaPython, Message
from kafka_wire import Wire, batch


@pytest.fixture(scope="module")
def engine(shared):
    return shared


def create(admin, name, partitions=1):
    admin.create_topics([NewTopic(name, partitions)])[name].result(30)
    return name


def committed(place, topic, count, partition=0):
    """What a reader of committed records sees, and that nothing follows."""
    return read(place, topic, count, partition, "read_committed")


def read(place, topic, count, partition=0, isolation="read_committed"):
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": "unused", "isolation.level": isolation, "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, partition, 0)])
    seen = []
    while True:
        record = consumer.poll(30 if len(seen) < count else 1)
        if record is None:
            break
        assert not record.error(), record.error()
        seen.append(record.value().decode())
    consumer.close()
    assert len(seen) == count, seen
    return seen


@pytest.mark.parametrize(
    ("client", "settings"),
    [
        (Confluent(), {"enable.idempotence": True}), (KafkaPython(), {"enable_idempotence": True}),
        (AIOKafka(), {"enable_idempotence": True}),
    ],
    ids=lambda one: getattr(one, "name", ""),
)  # fmt: skip
def test_idempotent_producers_append_once_and_in_order(admin, place, client, settings):
    topic = create(admin, f"idempotent-{client.name}")
    sent = [f"{number}" for number in range(500)]
    client.produce(place, topic, [Message(one.encode()) for one in sent], partition=0, **settings)
    assert read(place, topic, 500) == sent


def test_a_transaction_is_seen_when_it_is_committed(admin, place):
    topic = create(admin, "committing", 2)
    producer = confluent_kafka.Producer({"bootstrap.servers": place, "transactional.id": "committing"})
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(3):
        producer.produce(topic, f"a{number}".encode(), partition=0)
    producer.produce(topic, b"b0", partition=1)
    producer.flush(30)
    assert committed(place, topic, 0) == [] and committed(place, topic, 0, 1) == []
    assert read(place, topic, 3, 0, "read_uncommitted") == ["a0", "a1", "a2"]
    producer.commit_transaction(30)
    assert committed(place, topic, 3) == ["a0", "a1", "a2"] and committed(place, topic, 1, 1) == ["b0"]


def test_what_was_aborted_is_never_seen(admin, place):
    topic = create(admin, "aborting")
    producer = confluent_kafka.Producer({"bootstrap.servers": place, "transactional.id": "aborting"})
    producer.init_transactions(30)
    for number in range(4):
        producer.begin_transaction()
        producer.produce(topic, f"{number}".encode())
        producer.flush(30)
        if number % 2:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
    Confluent().produce(place, topic, [Message(b"plain")])
    assert committed(place, topic, 3) == ["0", "2", "plain"]
    assert read(place, topic, 5, 0, "read_uncommitted") == ["0", "1", "2", "3", "plain"]


def test_a_second_producer_of_the_id_shuts_the_first_out(admin, place):
    topic = create(admin, "fencing")
    settings = {"bootstrap.servers": place, "transactional.id": "fencing"}
    first = confluent_kafka.Producer(settings)
    first.init_transactions(30)
    first.begin_transaction()
    first.produce(topic, b"lost")
    first.flush(30)
    second = confluent_kafka.Producer(settings)
    second.init_transactions(30)
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        first.commit_transaction(30)
    assert refused.value.args[0].fatal()
    second.begin_transaction()
    second.produce(topic, b"kept")
    second.commit_transaction(30)
    assert committed(place, topic, 1) == ["kept"]


def test_offsets_are_part_of_the_transaction(admin, place):
    source, target = create(admin, "from"), create(admin, "to")
    Confluent().produce(place, source, [Message(f"{number}".encode()) for number in range(10)])
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": "movers", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe([source])
    producer = confluent_kafka.Producer({"bootstrap.servers": place, "transactional.id": "mover"})
    producer.init_transactions(30)

    def move(count, commit):
        producer.begin_transaction()
        for _ in range(count):
            record = consumer.poll(30)
            assert record is not None and not record.error()
            producer.produce(target, record.value() + b"!")
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 30
        )
        if commit:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)

    def offset():
        return consumer.committed([TopicPartition(source, 0)], 30)[0].offset

    move(4, True)
    assert offset() == 4
    move(3, False)
    assert offset() == 4
    consumer.seek(TopicPartition(source, 0, 4))
    move(6, True)
    assert offset() == 10
    assert committed(place, target, 10) == [f"{number}!" for number in range(10)]
    consumer.close()


def test_transactions_of_other_clients(admin, place):
    topic = create(admin, "others")
    producer = kafka.KafkaProducer(bootstrap_servers=place, transactional_id="other-1")
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, b"kafka-python")
    producer.commit_transaction()
    producer.begin_transaction()
    producer.send(topic, b"never")
    producer.abort_transaction()
    producer.close()

    async def run():
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=place, transactional_id="other-2")
        await producer.start()
        async with producer.transaction():
            await producer.send_and_wait(topic, b"aiokafka")
        with pytest.raises(ValueError):
            async with producer.transaction():
                await producer.send_and_wait(topic, b"never")
                raise ValueError
        await producer.stop()

    asyncio.run(run())
    assert committed(place, topic, 2) == ["kafka-python", "aiokafka"]
    for reader in (KafkaPython(), AIOKafka()):
        seen = reader.consume(place, topic, 0, 0, 2, isolation_level="read_committed")
        assert [one.message.value for one in seen] == [b"kafka-python", b"aiokafka"]


def test_a_transaction_left_open_is_aborted_when_its_time_is_up(admin, place):
    topic = create(admin, "left")
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": place, "transactional.id": "left", "transaction.timeout.ms": 2000,
         "message.timeout.ms": 1500}
    )  # fmt: skip
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"left")
    producer.flush(30)
    Confluent().produce(place, topic, [Message(b"behind")])
    began = time.monotonic()
    assert committed(place, topic, 1) == ["behind"]
    assert time.monotonic() - began < 25


def test_tables_have_the_committed_records_only(engine, admin, place):
    topic = create(admin, "into-a-table")
    engine.cli("tables", "create", "committed_rows", "--topic", topic)
    producer = confluent_kafka.Producer({"bootstrap.servers": place, "transactional.id": "into-a-table"})
    producer.init_transactions(30)
    for number in range(6):
        producer.begin_transaction()
        producer.produce(topic, f'{{"n": {number}}}'.encode())
        producer.flush(30)
        if number in (1, 4):
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
    Confluent().produce(place, topic, [Message(b'{"n": 6}')])

    def rows():
        found = engine.api("POST", "sql", {"sql": "select n from committed_rows order by n"})["rows"]
        return found if [6] in found else None

    assert until(rows, "the last row is there") == [[0], [2], [3], [5], [6]]


def test_transactions_are_listed_and_described(admin, place):
    topic = create(admin, "listed")
    producer = confluent_kafka.Producer({"bootstrap.servers": place, "transactional.id": "listed"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"x")
    producer.flush(30)
    client = kafka.KafkaAdminClient(bootstrap_servers=place)
    [found] = client.list_transactions().values()
    [listed] = [one for one in found if one.transactional_id == "listed"]
    assert listed.state.value == "Ongoing"
    described = client.describe_transactions(["listed"])["listed"]
    assert described.state.value == "Ongoing" and "listed" in str(described.topic_partitions)
    producer.abort_transaction(30)
    client.close()


NONE, INVALID_PRODUCER_EPOCH, PRODUCER_FENCED = 0, 47, 90


class SecondVersion:
    """A producer of the second version of transactions (KIP-890), as the Java client from 4.0 is and none of Python's: each transaction
    ends with a raised epoch, and what it has adds itself to it."""

    def __init__(self, place: str, name: str) -> None:
        self.name = name
        self.connect(place)
        begun = self.begin()
        assert begun.error_code == NONE, begun
        self.id, self.epoch = begun.producer_id, begun.producer_epoch
        self.sequences: dict[tuple[str, int], int] = {}

    def connect(self, place: str) -> None:
        self.wire = Wire(place)

    def begin(self, id: int = -1, epoch: int = -1):
        request = InitProducerIdRequest(transactional_id=self.name, transaction_timeout_ms=60000, producer_id=id, producer_epoch=epoch)
        return self.wire.call(request, 5)

    def put(self, topic: str, *values: str, partition: int = 0, epoch: int | None = None, sequence: int | None = None) -> int:
        """The code that a batch is answered with."""
        place = topic, partition
        sequence = self.sequences.get(place, 0) if sequence is None else sequence
        records = batch([one.encode() for one in values], self.id, self.epoch if epoch is None else epoch, sequence, True)
        kind = ProduceRequest.TopicProduceData
        request = ProduceRequest(
            transactional_id=self.name, acks=-1, timeout_ms=30000,
            topic_data=[kind(name=topic, partition_data=[kind.PartitionProduceData(index=partition, records=records)])],
        )  # fmt: skip
        code = self.wire.call(request, 12).responses[0].partition_responses[0].error_code
        if code == NONE:
            self.sequences[place] = sequence + len(values)
        return code

    def commit_offset(self, group: str, topic: str, offset: int) -> int:
        kind = TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic
        partition = kind.TxnOffsetCommitRequestPartition(
            partition_index=0, committed_offset=offset, committed_leader_epoch=-1, committed_metadata=""
        )
        request = TxnOffsetCommitRequest(
            transactional_id=self.name, group_id=group, producer_id=self.id, producer_epoch=self.epoch, generation_id=-1, member_id="",
            group_instance_id=None, topics=[kind(name=topic, partitions=[partition])],
        )  # fmt: skip
        return self.wire.call(request, 5).topics[0].partitions[0].error_code

    def end_request(self, commit: bool) -> EndTxnRequest:
        request = EndTxnRequest(transactional_id=self.name, producer_id=self.id, producer_epoch=self.epoch, committed=commit)
        request.API_VERSION = 5
        request.with_header(1, "test")
        return request

    def ask_to_end(self, commit: bool):
        return self.wire.call(self.end_request(commit), 5)

    def go_on_as(self, ended) -> None:
        """Takes the epoch that the end of a transaction gave."""
        assert ended.error_code == NONE, ended
        self.id, self.epoch = ended.producer_id, ended.producer_epoch
        self.sequences.clear()


def offset_of(place: str, group: str, topic: str) -> int:
    wanted = OffsetFetchRequest.OffsetFetchRequestTopic(name=topic, partition_indexes=[0])
    with Wire(place) as wire:
        return wire.call(OffsetFetchRequest(group_id=group, topics=[wanted]), 5).topics[0].partitions[0].committed_offset


def test_the_epoch_is_raised_by_each_transaction(admin, place):
    topic, source = create(admin, "raised", 2), create(admin, "raised-source")
    producer = SecondVersion(place, "raised")
    expected = []
    for number in range(12):
        commits = number % 3 != 2
        before = producer.id, producer.epoch
        values = [f"{number}-{part}" for part in range(3)]
        # Nothing is added by hand: a batch and an offset add themselves.
        assert producer.put(topic, *values) == NONE
        assert producer.put(topic, f"{number}-other", partition=1) == NONE
        assert producer.commit_offset("raised", source, number + 1) == NONE
        ended = producer.ask_to_end(commits)
        assert (ended.error_code, ended.producer_id, ended.producer_epoch) == (NONE, before[0], before[1] + 1)
        # The answer was lost: the same again is answered the same.
        again = producer.ask_to_end(commits)
        assert (again.error_code, again.producer_epoch) == (NONE, before[1] + 1)
        # A batch that was on its way when the transaction ended belongs to none: neither this one nor the next.
        assert producer.put(topic, "late", sequence=3) == INVALID_PRODUCER_EPOCH
        producer.go_on_as(ended)
        assert producer.put(topic, "late as well", epoch=before[1], sequence=3) == INVALID_PRODUCER_EPOCH
        expected += values if commits else []
        assert offset_of(place, "raised", source) == (number + 1 if commits else number)
    assert producer.epoch == 12
    assert committed(place, topic, len(expected)) == expected
    assert committed(place, topic, 8, 1) == [f"{number}-other" for number in range(12) if number % 3 != 2]
    # A batch of the transaction before comes when the next one has begun.
    assert producer.put(topic, "next") == NONE
    assert producer.put(topic, "late", epoch=producer.epoch - 1, sequence=3) == INVALID_PRODUCER_EPOCH
    producer.go_on_as(producer.ask_to_end(True))
    assert committed(place, topic, len(expected) + 1) == [*expected, "next"]
    # Who is shut out is told, and can do nothing.
    second = SecondVersion(place, "raised")
    assert (second.id, second.epoch > producer.epoch) == (producer.id, True)
    assert producer.put(topic, "shut out") == INVALID_PRODUCER_EPOCH
    assert producer.ask_to_end(True).error_code == PRODUCER_FENCED
    assert second.put(topic, "second") == NONE
    second.go_on_as(second.ask_to_end(True))
    assert committed(place, topic, len(expected) + 2)[-2:] == ["next", "second"]


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "abort"])
def test_raised_epochs_hold_over_kills(make_engine, commits):
    engine = make_engine()
    engine.start()

    def place() -> str:
        return engine.get("engine")["kafka_address"]

    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": place()})
    topic, source = create(admin, "raised"), create(admin, "source")
    producer = SecondVersion(place(), "x")

    def killed() -> None:
        engine.kill()
        engine.start()
        producer.connect(place())

    assert producer.put(topic, "first") == NONE and producer.commit_offset("g", source, 1) == NONE
    before = producer.epoch
    # In the middle of a transaction: it goes on, with the epoch and the sequence numbers it had.
    killed()
    assert producer.put(topic, "first", sequence=0) == NONE, "a batch that is there was not known"
    assert producer.put(topic, "first, too") == NONE
    ended = producer.ask_to_end(commits)
    # Between the end of a transaction and the next: the answer is known, the old epoch is over, the raised one goes on.
    killed()
    again = producer.ask_to_end(commits)
    assert (again.error_code, again.producer_id, again.producer_epoch) == (NONE, producer.id, before + 1) and ended == again
    assert producer.ask_to_end(not commits).error_code not in (NONE, PRODUCER_FENCED)
    assert producer.put(topic, "late") == INVALID_PRODUCER_EPOCH
    assert producer.commit_offset("g", source, 9) != NONE
    producer.go_on_as(ended)
    expected = ["first", "first, too"] if commits else []
    assert committed(place(), topic, len(expected)) == expected
    assert offset_of(place(), "g", source) == (1 if commits else -1)
    assert producer.put(topic, "second") == NONE
    assert producer.put(topic, "late", epoch=before, sequence=2) == INVALID_PRODUCER_EPOCH
    ended = producer.ask_to_end(True)
    assert (ended.error_code, ended.producer_epoch) == (NONE, before + 2)
    # And over an orderly stop.
    assert engine.stop() == 0
    engine.start()
    producer.connect(place())
    assert producer.put(topic, "late") == INVALID_PRODUCER_EPOCH
    producer.go_on_as(ended)
    assert producer.put(topic, "third") == NONE
    producer.go_on_as(producer.ask_to_end(True))
    assert producer.epoch == before + 3
    assert committed(place(), topic, len(expected) + 2) == [*expected, "second", "third"]


def test_an_end_that_a_kill_cut_off_is_asked_for_again(make_engine):
    """Whether the kill came before the decision, after it or among the markers, the answer is the same, and so is what is there."""
    seed = int(os.environ.get("MARTLET_TEST_SEED") or random.randrange(2**31))
    print(f"MARTLET_TEST_SEED={seed}")
    chance = random.Random(seed)
    engine = make_engine()
    engine.start()
    place = engine.get("engine")["kafka_address"]
    topic = create(confluent_kafka.admin.AdminClient({"bootstrap.servers": place}), "cut-off", 3)
    producer = SecondVersion(place, "x")
    expected: list[str] = []
    for number in range(6):
        commits = chance.random() < 0.6
        for partition in range(3):
            assert producer.put(topic, f"{number}", partition=partition) == NONE
        before = producer.epoch
        producer.wire.send(producer.end_request(commits).encode(header=True))
        time.sleep(chance.uniform(0, 0.004))
        engine.kill()
        engine.start()
        place = engine.get("engine")["kafka_address"]
        producer.connect(place)
        ended = producer.ask_to_end(commits)
        assert (ended.error_code, ended.producer_id, ended.producer_epoch) == (NONE, producer.id, before + 1), number
        assert producer.put(topic, "late", sequence=1) == INVALID_PRODUCER_EPOCH
        producer.go_on_as(ended)
        expected += [f"{number}"] if commits else []
    for partition in range(3):
        assert committed(place, topic, len(expected), partition) == expected
