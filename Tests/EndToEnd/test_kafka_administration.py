# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Administration through the Kafka door: each call with a client that has it, else with plain requests."""

import asyncio
import base64
import re
import struct
import uuid

import aiokafka
import confluent_kafka
import kafka
import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin import NewPartitions as AIONewPartitions
from aiokafka.admin import NewTopic as AIONewTopic
from aiokafka.admin.config_resource import ConfigResource as AIOConfigResource
from aiokafka.admin.config_resource import ConfigResourceType as AIOConfigResourceType
from aiokafka import TopicPartition as AIOTopicPartition
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from kafka_clients import Confluent, KafkaPython, Message
from kafka_wire import Wire, header


@pytest.fixture(scope="module")
def engine(shared):
    return shared


@pytest.fixture(scope="module")
def python_admin(place):
    client = kafka.KafkaAdminClient(bootstrap_servers=place)
    yield client
    client.close()


def filled(admin, place, name, partitions=1, count=10, **config):
    admin.create_topics([NewTopic(name, partitions, config=config)])[name].result(30)
    for partition in range(partitions):
        Confluent().produce(place, name, [Message(f"{n}".encode()) for n in range(count)], partition=partition)
    return name


def test_log_directories(engine, admin, python_admin, place):
    topic = filled(admin, place, "sized", 2, 100)
    [found] = python_admin.describe_log_dirs([topic])
    [folder] = found["log_dirs"]
    assert folder["error_code"] == 0 and folder["log_dir"].startswith(str(engine.data)), folder
    [sized] = [one for one in folder["topics"] if one["name"] == topic]
    assert sorted(one["partition_index"] for one in sized["partitions"]) == [0, 1]
    assert all(one["partition_size"] > 100 for one in sized["partitions"])
    assert folder["total_bytes"] > folder["usable_bytes"] > 0


def test_offsets_of_a_topic_are_deleted(admin, python_admin, place):
    kept, gone = filled(admin, place, "offsets-kept"), filled(admin, place, "offsets-gone")
    group = "losing-offsets"
    wanted = {kafka.TopicPartition(one, 0): kafka.OffsetAndMetadata(3, "", -1) for one in (kept, gone)}
    python_admin.alter_group_offsets(group, wanted)
    [(where, error)] = python_admin.delete_group_offsets(group, [kafka.TopicPartition(gone, 0)]).items()
    assert where.topic == gone and error is kafka.errors.NoError
    consumer = confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": group})
    found = consumer.committed([TopicPartition(kept, 0), TopicPartition(gone, 0)], 30)
    assert [one.offset for one in found] == [3, confluent_kafka.OFFSET_INVALID]
    # Not while a member reads the topic.
    consumer.subscribe([kept])
    while not consumer.assignment():
        consumer.poll(0.2)
    [(_, error)] = python_admin.delete_group_offsets(group, [kafka.TopicPartition(kept, 0)]).items()
    assert error is kafka.errors.GroupSubscribedToTopicError
    consumer.close()
    with pytest.raises(kafka.errors.GroupIdNotFoundError):
        python_admin.delete_group_offsets("no-such-group", [kafka.TopicPartition(kept, 0)])


def test_records_are_deleted_below_an_offset(admin, python_admin, place):
    """With each of the three clients: up to the middle, then to the end with -1; beyond the end is refused."""

    def with_confluent(topic, offset):
        where = TopicPartition(topic, 0, offset)
        return admin.delete_records([where])[where].result(30).low_watermark

    def with_kafka_python(topic, offset):
        where = kafka.TopicPartition(topic, 0)
        return python_admin.delete_records({where: offset})[where]["low_watermark"]

    def with_aiokafka(topic, offset):
        async def run():
            client = AIOKafkaAdminClient(bootstrap_servers=place)
            await client.start()
            try:
                where = AIOTopicPartition(topic, 0)
                return (await client.delete_records({where: RecordsToDelete(before_offset=offset)}))[where]
            finally:
                await client.close()

        return asyncio.run(run())

    for delete in (with_confluent, with_kafka_python, with_aiokafka):
        topic = filled(admin, place, f"deleted-{delete.__name__}")
        assert delete(topic, 4) == 4
        seen = KafkaPython().consume(place, topic, 0, 4, 6)
        assert [one.message.value for one in seen] == [f"{n}".encode() for n in range(4, 10)]
        # Below what is gone already nothing changes.
        assert delete(topic, 2) == 4
        with pytest.raises(Exception):
            delete(topic, 11)
        assert delete(topic, -1) == 10
        Confluent().produce(place, topic, [Message(b"after")], partition=0)
        [seen] = Confluent().consume(place, topic, 0, confluent_kafka.OFFSET_BEGINNING, 1)
        assert (seen.offset, seen.message.value) == (10, b"after")


def test_partitions_are_described_in_pages(admin, python_admin, place):
    topic = filled(admin, place, "paged", 5, 1)
    seen, cursor = [], None
    for _ in range(5):
        found = python_admin.describe_topic_partitions([topic], response_partition_limit=2, cursor=cursor)
        [one] = found["topics"]
        assert one["name"] == topic and one["error_code"] == 0
        seen += [part["partition_index"] for part in one["partitions"]]
        cursor = found["next_cursor"]
        if cursor is None:
            break
    assert seen == [0, 1, 2, 3, 4]


def test_producers_of_a_partition_are_described(admin, python_admin, place):
    topic = filled(admin, place, "produced", 1, 0)
    Confluent().produce(place, topic, [Message(b"x")] * 3, partition=0, **{"enable.idempotence": True})
    where = kafka.TopicPartition(topic, 0)
    found = python_admin.describe_producers([where])[where]
    [one] = getattr(found, "active_producers", found)
    assert one.producer_id >= 0 and one.producer_epoch >= 0 and one.last_sequence == 2


def test_the_cluster_is_described(admin, python_admin, place):
    described = admin.describe_cluster().result(30)
    host, _, port = place.rpartition(":")
    assert [(one.host, one.port) for one in described.nodes] == [(host, int(port))]
    assert described.controller.id == described.nodes[0].id
    assert python_admin.describe_cluster()["cluster_id"] == described.cluster_id == admin.list_topics(timeout=30).cluster_id


def test_each_installation_has_an_id_that_stays(make_engine):
    def cluster(engine):
        return AdminClient({"bootstrap.servers": engine.get("engine")["kafka_address"]}).list_topics(timeout=30).cluster_id

    first, second = make_engine("first"), make_engine("second")
    first.start()
    second.start()
    found = cluster(first)
    assert re.fullmatch("[A-Za-z0-9_-]{22}", found) and cluster(second) != found
    first.kill()
    first.start()
    assert cluster(first) == found


def test_the_id_of_a_topic_is_the_same_at_every_door(engine, admin, python_admin, place):
    topic = filled(admin, place, "identified", 1, 1)
    described = admin.describe_topics(confluent_kafka.TopicCollection([topic]))[topic].result(30)
    shown = engine.get(f"topics/{topic}")["kafka_topic_id"]
    # librdkafka writes ids in the other alphabet of base64, Kafka's own tools in the one for addresses.
    assert shown == str(described.topic_id).replace("+", "-").replace("/", "_")
    [python] = python_admin.describe_topics([topic])
    assert base64.urlsafe_b64encode(uuid.UUID(str(python["topic_id"])).bytes).rstrip(b"=").decode() == shown
    assert shown in engine.cli("topics", "get", topic)
    [listed] = [one for one in engine.items("topics") if one["name"] == topic]
    assert listed["kafka_topic_id"] == shown
    # What is shown can be sent back.
    engine.api("PUT", f"topics/{topic}", {"description": "d", "kafka_topic_id": shown})
    made = engine.post("topics", {"name": "identified-by-rest"})
    assert made["kafka_topic_id"] == engine.get("topics/identified-by-rest")["kafka_topic_id"] != shown


def test_settings_are_replaced_the_old_way(admin, python_admin, place):
    """AlterConfigs replaces what is set: what it does not name is the default again."""
    topic = filled(admin, place, "replaced", 1, 0, **{"segment.bytes": "1048576", "retention.ms": "3600000"})
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)

    def settings():
        return admin.describe_configs([resource])[resource].result(30)

    change = ConfigResource(ConfigResource.Type.TOPIC, topic, set_config={"retention.ms": "7200000"})
    admin.alter_configs([change], validate_only=True)[change].result(30)
    assert settings()["retention.ms"].value == "3600000"
    admin.alter_configs([change])[change].result(30)
    assert settings()["retention.ms"].value == "7200000" and settings()["segment.bytes"].is_default
    wrong = ConfigResource(ConfigResource.Type.TOPIC, topic, set_config={"retention.ms": "soon"})
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        admin.alter_configs([wrong])[wrong].result(30)
    assert refused.value.args[0].code() == confluent_kafka.KafkaError.INVALID_CONFIG
    kind = kafka.admin.ConfigResourceType.TOPIC
    python_admin.alter_configs(
        [kafka.admin.ConfigResource(kind, topic, configs={"retention.ms": "1800000"})], incremental=False
    )
    assert settings()["retention.ms"].value == "1800000"


#: The keys of Apache Kafka 4.0's topic configuration, and what there is beside them.
SETTINGS = """
    cleanup.policy compression.gzip.level compression.lz4.level compression.type compression.zstd.level delete.retention.ms
    file.delete.delay.ms flush.messages flush.ms follower.replication.throttled.replicas index.interval.bytes
    leader.replication.throttled.replicas local.retention.bytes local.retention.ms max.compaction.lag.ms max.message.bytes
    message.timestamp.after.max.ms message.timestamp.before.max.ms message.timestamp.type min.cleanable.dirty.ratio
    min.compaction.lag.ms min.insync.replicas preallocate remote.log.copy.disable remote.log.delete.on.disable remote.storage.enable
    retention.bytes retention.ms segment.bytes segment.index.bytes segment.jitter.ms segment.ms unclean.leader.election.enable
""".split()
OLDER = ["message.downconversion.enable", "message.timestamp.difference.max.ms"]


def describe_confluent(place, topic):
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    client = AdminClient({"bootstrap.servers": place})  # Held, since one that goes away takes its answers with it.
    found = client.describe_configs([resource])[resource].result(30)
    return {one.name: (one.value, one.is_default) for one in found.values()}


def describe_kafka_python(place, topic):
    client = kafka.KafkaAdminClient(bootstrap_servers=place)
    try:
        resource = kafka.admin.ConfigResource(kafka.admin.ConfigResourceType.TOPIC, topic)
        found = client.describe_configs([resource], config_filter="all")["topic"][topic]
        return {name: (one["value"], one["config_source"] == "DEFAULT_CONFIG") for name, one in found.items()}
    finally:
        client.close()


def describe_aiokafka(place, topic):
    async def run():
        client = AIOKafkaAdminClient(bootstrap_servers=place)
        await client.start()
        try:
            [answer] = await client.describe_configs([AIOConfigResource(AIOConfigResourceType.TOPIC, topic)])
            [resource] = answer.to_object()["resources"]
            assert resource["error_code"] == 0, resource
            return {one["config_names"]: (one["config_value"], one["config_source"] == 5) for one in resource["config_entries"]}
        finally:
            await client.close()

    return asyncio.run(run())


@pytest.mark.parametrize("describe", [describe_confluent, describe_kafka_python, describe_aiokafka], ids=lambda one: one.__name__[9:])
def test_every_setting_that_kafka_has_is_described(admin, place, describe):
    topic = filled(admin, place, f"described-{describe.__name__}", 1, 0, **{"retention.ms": "3600000"})
    found = describe(place, topic)
    assert sorted(found) == sorted([*SETTINGS, *OLDER, "martlet.durability"])
    assert found["retention.ms"] == ("3600000", False) and found["compression.zstd.level"] == ("3", True)
    assert all(is_default for name, (_, is_default) in found.items() if name != "retention.ms")
    assert all(value is not None for value, _ in found.values())


def altered(answer):
    """kafka-python raises no errors of settings: it returns them."""
    for error in answer["topic"].values():
        if error != "OK":
            raise kafka.errors.KafkaError(error)


def test_elements_are_put_into_lists_and_taken_out(admin, python_admin, place):
    """APPEND and SUBTRACT, with both clients that have them."""
    topic = filled(admin, place, "listed-setting", 1, 0)

    def with_confluent(operation, value, name="cleanup.policy"):
        entry = ConfigEntry(name, value, incremental_operation=getattr(AlterConfigOpType, operation))
        change = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        admin.incremental_alter_configs([change])[change].result(30)

    def with_kafka_python(operation, value, name="cleanup.policy"):
        change = {name: (kafka.admin.AlterConfigOp[operation], value)}
        resource = kafka.admin.ConfigResource(kafka.admin.ConfigResourceType.TOPIC, topic, configs=change)
        altered(python_admin.alter_configs([resource], incremental=True))

    def policy():
        return describe_confluent(place, topic)["cleanup.policy"][0]

    for change in (with_confluent, with_kafka_python):
        assert policy() == "delete"
        change("APPEND", "compact")
        assert policy() == "delete,compact"
        change("APPEND", "compact")
        assert policy() == "delete,compact", "it is there already"
        change("SUBTRACT", "delete")
        assert policy() == "compact"
        change("SUBTRACT", "delete")
        assert policy() == "compact", "it is not there"
        for operation, value, name in (
            ("SUBTRACT", "compact", "cleanup.policy"), ("APPEND", "nonsense", "cleanup.policy"), ("APPEND", "1", "retention.ms"),
            ("SUBTRACT", "604800000", "retention.ms"),
        ):  # fmt: skip
            with pytest.raises(Exception, match="(?i)invalid.?config|is no list"):
                change(operation, value, name)
        assert policy() == "compact"
        change("APPEND", "delete")
        change("SUBTRACT", "compact")


class PythonTopics:
    """Topics by kafka-python."""

    name = "kafka-python"

    def __init__(self, place):
        self.client = kafka.KafkaAdminClient(bootstrap_servers=place)

    def create(self, topic, partitions, **configs):
        self.client.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1, "configs": configs}})

    def partitions(self, topic, count):
        self.client.create_partitions({topic: count})

    def alter(self, topic, **configs):
        altered(self.client.alter_configs([kafka.admin.ConfigResource(kafka.admin.ConfigResourceType.TOPIC, topic, configs=configs)]))

    def reset(self, topic, *names):
        altered(self.client.reset_configs([kafka.admin.ConfigResource(kafka.admin.ConfigResourceType.TOPIC, topic, configs=list(names))]))

    def delete(self, topic):
        self.client.delete_topics([topic])

    def topics(self):
        return set(self.client.list_topics())

    def close(self):
        self.client.close()


class AIOTopics:
    """Topics by aiokafka, which has older requests; it raises errors of partitions alone."""

    name = "aiokafka"

    def __init__(self, place):
        self.runner = asyncio.Runner()
        self.client = self.runner.run(self.start(place))

    async def start(self, place):
        client = AIOKafkaAdminClient(bootstrap_servers=place)
        await client.start()
        return client

    def checked(self, answer, place):
        """Raises the first error among tuples that have its code at this place."""
        for one in answer:
            if one[place]:
                raise aiokafka.errors.for_code(one[place])(str(one))

    def create(self, topic, partitions, **configs):
        new = AIONewTopic(topic, partitions, 1, topic_configs=configs)
        self.checked(self.runner.run(self.client.create_topics([new])).topic_errors, 1)

    def partitions(self, topic, count):
        self.runner.run(self.client.create_partitions({topic: AIONewPartitions(count)}))

    def alter(self, topic, **configs):
        [answer] = self.runner.run(self.client.alter_configs([AIOConfigResource(AIOConfigResourceType.TOPIC, topic, configs)]))
        self.checked(answer.resources, 0)

    def reset(self, topic, *names):
        # What AlterConfigs does not name is the default again.
        self.alter(topic)

    def delete(self, topic):
        self.checked(self.runner.run(self.client.delete_topics([topic])).topic_error_codes, 1)

    def topics(self):
        return set(self.runner.run(self.client.list_topics()))

    def close(self):
        self.runner.run(self.client.close())
        self.runner.close()


@pytest.mark.parametrize("kind", [PythonTopics, AIOTopics], ids=lambda one: one.name)
def test_topics_are_made_changed_and_deleted_with_other_clients(engine, admin, place, kind):
    client = kind(place)
    topic = f"managed-by-{kind.name}"
    try:
        client.create(topic, 3, **{"retention.ms": "3600000"})
        assert topic in client.topics()
        ours = engine.get(f"topics/{topic}")
        assert ours["partitions"] == 3 and ours["retention_milliseconds"] == 3_600_000
        with pytest.raises(Exception, match="TopicAlreadyExists"):
            client.create(topic, 3)
        with pytest.raises(Exception, match="InvalidConfig"):
            client.create(f"{topic}-not", 1, **{"no.such.setting": "1"})
        with pytest.raises(Exception, match="InvalidPartitions"):
            client.create(f"{topic}-not", 0)
        client.partitions(topic, 5)
        assert engine.get(f"topics/{topic}")["partitions"] == 5
        with pytest.raises(Exception, match="InvalidPartitions"):
            client.partitions(topic, 2)
        client.alter(topic, **{"retention.ms": "7200000", "segment.bytes": "1048576"})
        found = describe_confluent(place, topic)
        assert (found["retention.ms"], found["segment.bytes"]) == (("7200000", False), ("1048576", False))
        with pytest.raises(Exception, match="InvalidConfig"):
            client.alter(topic, **{"retention.ms": "soon"})
        assert describe_confluent(place, topic)["retention.ms"] == ("7200000", False)
        client.reset(topic, "retention.ms", "segment.bytes")
        found = describe_confluent(place, topic)
        assert found["retention.ms"] == ("604800000", True) and found["segment.bytes"][1]
        client.delete(topic)
        assert topic not in client.topics() and engine.http("GET", f"/api/v1/topics/{topic}").status == 404
        with pytest.raises(Exception, match="UnknownTopicOrPartition"):
            client.delete(topic)
        assert f"{topic}-not" not in client.topics()
    finally:
        client.close()


def test_topics_are_only_checked_where_that_is_asked(engine, admin, python_admin):
    new = NewTopic("only-checked", 3, config={"retention.ms": "3600000"})
    admin.create_topics([new], validate_only=True)["only-checked"].result(30)
    python_admin.create_topics({"only-checked": {"num_partitions": 3, "replication_factor": 1}}, validate_only=True)
    assert engine.http("GET", "/api/v1/topics/only-checked").status == 404
    wrong = NewTopic("only-checked", 3, config={"retention.ms": "soon"})
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        admin.create_topics([wrong], validate_only=True)["only-checked"].result(30)
    assert refused.value.args[0].code() == confluent_kafka.KafkaError.INVALID_CONFIG


@pytest.mark.parametrize("version", [2, 3])
def test_the_end_of_a_leader_epoch(admin, place, version):
    topic = filled(admin, place, f"epoch-{version}", 1, 7)

    def ask(current, wanted, partition=0):
        body = struct.pack(">i", -1) if version >= 3 else b""
        body += struct.pack(">ih", 1, len(topic)) + topic.encode() + struct.pack(">iiii", 1, partition, current, wanted)
        with Wire(place) as wire:
            answer = wire.ask(header(23, version) + body)
        at = 4 + 4 + 4 + 2 + len(topic) + 4
        error, _, epoch, end = struct.unpack_from(">hiiq", answer, at)
        return error, epoch, end

    assert ask(-1, 0) == (0, 0, 7) and ask(0, 0) == (0, 0, 7)
    assert ask(-1, 5) == (0, -1, -1), "an epoch that is not known"
    assert ask(9, 0)[0] == 75, "UNKNOWN_LEADER_EPOCH"
    assert ask(-1, 0, partition=3)[0] == 3


def test_a_fetch_by_the_id_of_a_topic_that_is_gone_is_told_so(admin, python_admin, place):
    """UNKNOWN_TOPIC_ID, also where another topic has the name now."""
    topic = filled(admin, place, "fetched-by-id", 1, 2)
    [old] = python_admin.describe_topics([topic])

    def fetch(topic_id):
        # Version 13, the first with ids: flexible.
        body = struct.pack(">iiiib", -1, 0, 1, 1 << 20, 0) + struct.pack(">ii", 0, -1)
        part = struct.pack(">iiqiqi", 0, -1, 0, -1, -1, 1 << 20) + b"\0"
        body += b"\x02" + topic_id.bytes + b"\x02" + part + b"\0" + b"\x01" + b"\x01" + b"\0"
        with Wire(place) as wire:
            answer = wire.ask(header(1, 13, flexible=True) + body)
        # Correlation, tags, throttle, error, session, one topic, its id, one partition, its number.
        at = 4 + 1 + 4 + 2 + 4 + 1 + 16 + 1 + 4
        return struct.unpack_from(">hq", answer, at)

    assert fetch(uuid.UUID(str(old["topic_id"]))) == (0, 2)
    admin.delete_topics([topic])[topic].result(30)
    assert fetch(uuid.UUID(str(old["topic_id"])))[0] == 100
    filled(admin, place, topic, 1, 5)
    assert fetch(uuid.UUID(str(old["topic_id"])))[0] == 100
    [new] = python_admin.describe_topics([topic])
    assert fetch(uuid.UUID(str(new["topic_id"]))) == (0, 5)
