# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Consumer groups of the Kafka door with real clients."""

import asyncio
import time
from collections import Counter

import aiokafka
import confluent_kafka
import kafka
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from harness import until
from kafka_clients import Confluent, Message


@pytest.fixture(scope="module")
def engine(shared):
    return shared


def filled(admin, place, name, partitions, each):
    """A topic with so many records in each partition."""
    admin.create_topics([NewTopic(name, partitions)])[name].result(30)
    for partition in range(partitions):
        messages = [Message(f"{partition}-{number}".encode()) for number in range(each)]
        Confluent().produce(place, name, messages, partition=partition)
    return name


def values(partitions, each):
    return {f"{partition}-{number}" for partition in range(partitions) for number in range(each)}


def read_confluent(place, group, topic, count, **settings):
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        | settings
    )
    consumer.subscribe([topic])
    seen = []
    while len(seen) < count:
        record = consumer.poll(30)
        assert record is not None, f"{len(seen)} of {count} records came"
        assert not record.error(), record.error()
        seen.append(record.value().decode())
    consumer.commit(asynchronous=False)
    consumer.close()
    return seen


def read_kafka_python(place, group, topic, count):
    consumer = kafka.KafkaConsumer(
        topic, bootstrap_servers=place, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    seen = []
    deadline = time.monotonic() + 60
    while len(seen) < count:
        for records in consumer.poll(timeout_ms=1000).values():
            seen += [record.value.decode() for record in records]
        assert time.monotonic() < deadline, f"{len(seen)} of {count} records came"
    consumer.commit()
    consumer.close()
    return seen


def read_aiokafka(place, group, topic, count):
    async def run():
        consumer = aiokafka.AIOKafkaConsumer(
            topic, bootstrap_servers=place, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
        )
        await consumer.start()
        try:
            seen = [(await asyncio.wait_for(consumer.getone(), 30)).value.decode() for _ in range(count)]
            await consumer.commit()
            return seen
        finally:
            await consumer.stop()

    return asyncio.run(run())


READERS = {"confluent-kafka": read_confluent, "kafka-python": read_kafka_python, "aiokafka": read_aiokafka}


@pytest.mark.parametrize("name", READERS)
def test_a_group_reads_everything_and_goes_on_where_it_was(admin, place, name):
    topic = filled(admin, place, f"group-{name}", 3, 20)
    group = f"readers-{name}"
    assert set(READERS[name](place, group, topic, 60)) == values(3, 20)
    Confluent().produce(place, topic, [Message(b"later")], partition=1)
    # Whoever comes next, with whatever client, begins behind what was committed.
    for other in READERS:
        if other != name:
            assert READERS[other](place, group, topic, 1) == ["later"]
            Confluent().produce(place, topic, [Message(b"later")], partition=1)


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_members_share_the_partitions_and_take_over(admin, place, strategy):
    topic = filled(admin, place, f"shared-{strategy}", 6, 1)
    group = f"sharers-{strategy}"
    settings = {
        "bootstrap.servers": place, "group.id": group, "auto.offset.reset": "earliest",
        "partition.assignment.strategy": strategy, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500,
    }  # fmt: skip
    consumers = [confluent_kafka.Consumer(settings) for _ in range(3)]

    def parts():
        for consumer in consumers:
            consumer.poll(0.1)
        return [sorted(one.partition for one in consumer.assignment()) for consumer in consumers]

    def are_shared():
        held = parts()
        everything = sorted(number for one in held for number in one)
        return held if everything == list(range(6)) and all(len(one) == 6 // len(consumers) for one in held) else None

    for consumer in consumers:
        consumer.subscribe([topic])
    until(are_shared, "each of three members has two partitions", 60)
    consumers.pop().close()
    until(are_shared, "each of two members has three partitions", 60)
    # One that ends without a word is noticed by its session.
    consumers.pop()  # Its memory goes away without close(): librdkafka still leaves, so both ways end here.
    until(are_shared, "the last member has all six", 60)
    consumers.pop().close()


def test_a_static_member_comes_back_without_a_rebalance(admin, place):
    topic = filled(admin, place, "static", 4, 1)
    settings = {
        "bootstrap.servers": place, "group.id": "statics", "auto.offset.reset": "earliest",
        "session.timeout.ms": 30_000, "heartbeat.interval.ms": 500,
    }  # fmt: skip
    revoked = Counter()

    def member(name):
        consumer = confluent_kafka.Consumer(settings | {"group.instance.id": name})
        consumer.subscribe([topic], on_revoke=lambda consumer, partitions: revoked.update([name]))
        return consumer

    first, second = member("one"), member("two")

    def both():
        first.poll(0.1)
        second.poll(0.1)
        return len(first.assignment()) == 2 and len(second.assignment()) == 2

    until(both, "both have two partitions", 60)
    held = sorted(one.partition for one in second.assignment())
    revoked.clear()
    second.close()
    second = member("two")
    until(both, "the second is back", 60)
    assert sorted(one.partition for one in second.assignment()) == held
    assert revoked["one"] == 0, "the first member kept what it had"
    first.close()
    second.close()


def test_offsets_are_listed_changed_and_deleted(admin, place):
    topic = filled(admin, place, "administered", 2, 10)
    group = "administered-group"
    read_confluent(place, group, topic, 20)

    def offsets():
        asked = ConsumerGroupTopicPartitions(group)
        found = admin.list_consumer_group_offsets([asked])[group].result(30)
        return {one.partition: one.offset for one in found.topic_partitions}

    assert offsets() == {0: 10, 1: 10}
    names = {one.group_id for one in admin.list_consumer_groups().result(30).valid}
    assert group in names
    described = admin.describe_consumer_groups([group])[group].result(30)
    assert described.state.name == "EMPTY" and described.members == []
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])
    admin.alter_consumer_group_offsets([wanted])[group].result(30)
    assert offsets() == {0: 3, 1: 10}
    assert len(read_confluent(place, group, topic, 7)) == 7
    admin.delete_consumer_groups([group])[group].result(30)
    assert group not in {one.group_id for one in admin.list_consumer_groups().result(30).valid}
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        admin.delete_consumer_groups([group])[group].result(30)
    assert refused.value.args[0].code() == confluent_kafka.KafkaError.GROUP_ID_NOT_FOUND


def test_a_group_with_members_is_described_and_not_deleted(admin, place):
    topic = filled(admin, place, "described", 2, 1)
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": "described-group", "client.id": "who", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    until(lambda: consumer.poll(0.1) or consumer.assignment(), "an assignment", 60)
    described = admin.describe_consumer_groups(["described-group"])["described-group"].result(30)
    assert described.state.name == "STABLE" and described.partition_assignor == "range"
    [member] = described.members
    assert member.client_id == "who" and member.host == "/127.0.0.1"
    assert sorted(one.partition for one in member.assignment.topic_partitions) == [0, 1]
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        admin.delete_consumer_groups(["described-group"])["described-group"].result(30)
    assert refused.value.args[0].code() == confluent_kafka.KafkaError.NON_EMPTY_GROUP
    consumer.close()


def test_metadata_of_a_commit_comes_back(admin, place):
    topic = filled(admin, place, "noted", 1, 3)
    consumer = kafka.KafkaConsumer(bootstrap_servers=place, group_id="noters", enable_auto_commit=False)
    where = kafka.TopicPartition(topic, 0)
    consumer.assign([where])
    consumer.commit({where: kafka.OffsetAndMetadata(2, "a note: grüße", -1)})
    assert consumer.committed(where, metadata=True).metadata == "a note: grüße"
    with pytest.raises(kafka.errors.OffsetMetadataTooLargeError):
        consumer.commit({where: kafka.OffsetAndMetadata(3, "x" * 5000, -1)})
    assert consumer.committed(where) == 2
    consumer.close()


def test_groups_of_the_engine_are_seen_and_kept(engine, admin, place):
    topic = filled(admin, place, "sunk", 1, 3)
    engine.cli("tables", "create", "sunk_rows", "--topic", topic, "--format", "raw")
    group = "__table.sunk_rows"
    until(lambda: group in {one.group_id for one in admin.list_consumer_groups().result(30).valid}, "the sink's group")
    with pytest.raises(confluent_kafka.KafkaException):
        admin.delete_consumer_groups([group])[group].result(30)
    with pytest.raises(AssertionError, match="GROUP_AUTHORIZATION_FAILED"):
        read_confluent(place, group, topic, 1)


def test_members_and_offsets_survive_a_killed_engine(make_engine):
    engine = make_engine("killed")
    engine.start("--kafka-port", "0")
    place = engine.get("engine")["kafka_address"]
    admin = AdminClient({"bootstrap.servers": place})
    topic = filled(admin, place, "surviving", 2, 50)
    revoked = Counter()
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": "survivors", "auto.offset.reset": "earliest",
         "enable.auto.commit": False, "session.timeout.ms": 30_000, "heartbeat.interval.ms": 500}
    )  # fmt: skip
    consumer.subscribe([topic], on_revoke=lambda consumer, partitions: revoked.update(["revoked"]))
    seen = []
    while len(seen) < 40:
        record = consumer.poll(30)
        assert record is not None and not record.error()
        seen.append((record.partition(), record.offset()))
    consumer.commit(asynchronous=False)
    committed = {one.partition: one.offset for one in consumer.committed(consumer.assignment())}
    engine.kill()
    engine.start("--kafka-port", place.rpartition(":")[2])
    deadline = time.monotonic() + 60
    while len(seen) < 100:
        record = consumer.poll(1)
        if record is not None and not record.error():
            seen.append((record.partition(), record.offset()))
        assert time.monotonic() < deadline, f"{len(seen)} of 100 records came"
    assert sorted(seen) == sorted((partition, offset) for partition in range(2) for offset in range(50))
    assert not revoked, "the member went on in its generation"
    consumer.commit(asynchronous=False)
    after = {one.partition: one.offset for one in consumer.committed(consumer.assignment())}
    assert after == {0: 50, 1: 50} and all(after[one] >= committed[one] for one in committed)
    consumer.close()


def test_the_leader_epoch_of_a_commit_is_given_back(place, admin):
    topic = "epochs"
    admin.create_topics([NewTopic(topic, 2)])[topic].result(30)
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": "epochs-group", "enable.auto.commit": False}
    )
    try:
        consumer.commit(
            offsets=[
                TopicPartition(topic, 0, 3, metadata="m", leader_epoch=5),
                TopicPartition(topic, 1, 4),
            ],
            asynchronous=False,
        )
        wanted = [TopicPartition(topic, number) for number in range(2)]
        found = consumer.committed(wanted, timeout=20)
        assert [(one.offset, one.leader_epoch) for one in found] == [(3, 5), (4, None)]
    finally:
        consumer.close()
