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
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from harness import until
from group_members import MEMBERS, AIOKafkaMember, ConfluentMember, KafkaPythonMember, KcatMember
from kafka.admin import OffsetSpec, OffsetTimestamp
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


SHARING = [
    (ConfluentMember, "range"), (ConfluentMember, "roundrobin"), (ConfluentMember, "cooperative-sticky"),
    (KafkaPythonMember, "range"), (KafkaPythonMember, "cooperative-sticky"), (AIOKafkaMember, "roundrobin"),
    (KcatMember, "range"), (KcatMember, "cooperative-sticky"),
]  # fmt: skip


@pytest.mark.parametrize(("member", "strategy"), SHARING, ids=[f"{one.name}-{strategy}" for one, strategy in SHARING])
def test_members_share_the_partitions_and_take_over(engine, admin, place, member, strategy):
    """Each record is read once however many members there are; who stays in a cooperative group keeps what it has."""
    topic, group = f"shared-{member.name}-{strategy}", f"sharers-{member.name}-{strategy}"
    admin.create_topics([NewTopic(topic, 6)])[topic].result(30)
    members = [member(place, group, topic, strategy) for _ in range(3)]
    everyone = list(members)
    sent: list[str] = []

    def are_shared():
        for one in members:
            one.check()
        held = sorted(number for one in members for number in one.held)
        return held == list(range(6)) and all(len(one.held) == 6 // len(members) for one in members)

    def fill():
        for partition in range(6):
            messages = [f"{len(members)}-{partition}-{number}" for number in range(5)]
            sent.extend(messages)
            Confluent().produce(place, topic, [Message(one.encode()) for one in messages], partition=partition)
        until(lambda: sum(len(one.values) for one in everyone) >= len(sent), "everything is read", 60)
        # kcat commits every five seconds, when partitions are taken from it, and when it ends.
        if member is not KcatMember:
            until(lambda: engine.get(f"groups/{group}")["lag_records"] == 0, "everything is committed", 60)

    try:
        until(are_shared, "each of three members has two partitions", 60)
        fill()
        assert all(len(one.values) == 10 for one in members), "each has its share of the records"
        for count in (2, 1):
            for one in members:
                one.revoked.clear()
            members.pop().leave()
            until(are_shared, f"each of {count} members has its share", 60)
            if strategy == "cooperative-sticky":
                assert not any(one.revoked for one in members), "who stays keeps what it has"
            fill()
    finally:
        for one in everyone:
            one.ending.set()
    members.pop().leave()
    assert engine.get(f"groups/{group}")["lag_records"] == 0
    assert sorted(value for one in everyone for value in one.values) == sorted(sent), "each record once"


def test_a_member_that_is_killed_is_missed_after_its_session(admin, place):
    topic = filled(admin, place, "killed-member", 4, 1)
    killed, other = (KcatMember(place, "killed-members", topic, session=6000) for _ in range(2))
    until(lambda: len(killed.held) == 2 and len(other.held) == 2, "both have two partitions", 60)
    killed.process.kill()
    until(lambda: len(other.held) == 4, "the other one has all four", 60)
    killed.leave()
    other.leave()


@pytest.mark.parametrize("member", MEMBERS, ids=lambda one: one.name)
def test_a_static_member_comes_back_without_a_rebalance(engine, admin, place, member):
    topic, group = filled(admin, place, f"static-{member.name}", 4, 1), f"statics-{member.name}"

    def start(name):
        return member(place, group, topic, instance=name, session=30_000)

    first, second = start("one"), start("two")
    try:
        until(lambda: len(first.held) == 2 and len(second.held) == 2, "both have two partitions", 60)
        held, generation = set(second.held), engine.get(f"groups/{group}")["generation"]
        first.revoked.clear()
        second.leave()
        second = start("two")
        until(lambda: second.held == held, "the second is back with what it had", 60)
        assert not first.revoked and len(first.held) == 2, "the first member kept what it had"
        status = engine.get(f"groups/{group}")
        assert status["generation"] == generation and status["state"] == "Stable", "there was no rebalance"
        assert sorted(one["instance_id"] for one in status["members"]) == ["one", "two"]
    finally:
        for one in (first, second):
            one.ending.set()
    first.leave()
    second.leave()


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


def test_groups_are_administered_with_kafka_python(admin, place):
    topic, group = filled(admin, place, "administered-python", 2, 10), "administered-python-group"
    first, second = (kafka.TopicPartition(topic, number) for number in range(2))
    member = KafkaPythonMember(place, group, topic)
    client = kafka.KafkaAdminClient(bootstrap_servers=place)

    def offsets():
        found = client.list_group_offsets({group: None})[group]
        return {where.partition: one.offset for where, one in found.items()}

    def described():
        return client.describe_groups([group])[group]

    until(lambda: member.held == {0, 1} and offsets() == {0: 10, 1: 10}, "all is read and committed", 60)
    assert group in {one["group_id"] for one in client.list_groups()}
    found = described()
    assert found["group_state"] == "Stable" and found["protocol_data"] == "range" and found["error"] is None, found
    [one] = found["members"]
    assert one["client_id"].startswith("kafka-python") and one["client_host"] == "/127.0.0.1"
    assert "NonEmptyGroup" in client.delete_groups([group])[group]
    member.leave()
    until(lambda: described()["group_state"] == "Empty", "the group is left", 60)
    now = int(time.time() * 1000)
    for spec, wanted in (
        (OffsetSpec.EARLIEST, 0), (OffsetSpec.LATEST, 10), (4, 4), (99, 10), (OffsetTimestamp(1), 0), (OffsetTimestamp(now + 10**6), 10),
    ):  # fmt: skip
        done = client.reset_group_offsets(group, {first: spec})
        assert done[first]["offset"] == wanted and done[first]["error"] is kafka.errors.NoError, (spec, done)
        assert offsets() == {0: wanted, 1: 10}, spec
    client.reset_group_offsets(group, {first: 7, second: 8})
    assert sorted(read_kafka_python(place, group, topic, 5)) == ["0-7", "0-8", "0-9", "1-8", "1-9"]
    assert client.delete_groups([group])[group] == "OK"
    assert group not in {one["group_id"] for one in client.list_groups()} and described()["group_state"] == "Dead"
    assert "GroupIdNotFound" in client.delete_groups([group])[group]
    client.close()


def test_groups_are_administered_with_aiokafka(admin, place):
    topic, group = filled(admin, place, "administered-aiokafka", 2, 10), "administered-aiokafka-group"
    member = AIOKafkaMember(place, group, topic)

    async def run():
        client = AIOKafkaAdminClient(bootstrap_servers=place)
        await client.start()
        try:
            found = await client.list_consumer_group_offsets(group)
            assert {where.partition: one.offset for where, one in found.items()} == {0: 10, 1: 10}
            [one] = await client.list_consumer_group_offsets(group, partitions=[aiokafka.TopicPartition(topic, 1)])
            assert one.partition == 1
            assert (group, "consumer") in {tuple(one)[:2] for one in await client.list_consumer_groups()}
            [answer] = await client.describe_consumer_groups([group])
            [described] = answer.to_object()["groups"]
            assert (described["error_code"], described["group"], described["state"], described["protocol"]) == (0, group, "Stable", "range")
            [found] = described["members"]
            assert found["client_id"].startswith("aiokafka") and found["client_host"] == "/127.0.0.1"
        finally:
            await client.close()

    until(lambda: len(member.values) == 20, "all is read", 60)
    until(lambda: [one.offset for one in committed(place, group, topic, 2)] == [10, 10], "all is committed", 60)
    asyncio.run(run())
    member.leave()


def committed(place, group, topic, partitions):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": group})
    try:
        return consumer.committed([TopicPartition(topic, number) for number in range(partitions)], 30)
    finally:
        consumer.close()


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
