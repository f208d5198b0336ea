# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Idempotent producers and transactions of the Kafka door with real clients."""

import asyncio
import time

import aiokafka
import confluent_kafka
import kafka
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic
from harness import until
from kafka_clients import AIOKafka, Confluent, KafkaPython, Message


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
