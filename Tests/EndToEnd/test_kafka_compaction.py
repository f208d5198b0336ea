# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Compacted topics with real clients, which read and write while segments are replaced."""

import contextlib
import json
import random
import threading
import time

import confluent_kafka
import kafka
import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from harness import Engine, until
from kafka_clients import CLIENTS, Confluent, Message

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine = Engine(tmp_path_factory.mktemp("compaction"))
    engine.start()
    yield engine
    engine.clean_up()


def make(admin, name, partitions=1, **config):
    config = {
        "cleanup.policy": "compact", "segment.bytes": "8192", "min.cleanable.dirty.ratio": "0",
    } | {key.replace("_", "."): value for key, value in config.items()}  # fmt: skip
    for future in admin.create_topics([NewTopic(name, partitions, 1, config=config)]).values():
        future.result(30)
    return name


def read_all(place, topic, partition=0, **settings):
    """Everything a partition has, with what tells the end."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": "unused", "enable.partition.eof": True} | settings
    )
    try:
        consumer.assign([confluent_kafka.TopicPartition(topic, partition, 0)])
        seen = []
        while True:
            record = consumer.poll(30)
            assert record is not None, f"{len(seen)} records came and no end"
            if record.error():
                assert record.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, record.error()
                return seen
            seen.append(record)
    finally:
        consumer.close()


def size(engine, topic):
    folder = engine.data / "log/topics" / topic / "0"
    total = 0
    for file in folder.glob("*.log"):
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_each_client_reads_what_compaction_left(engine, place, admin, client, codec):
    topic = make(admin, f"left-{client.name}-{codec}")
    # What does not compress to much less, so that segments are closed.
    messages = [Message(random.randbytes(300).hex().encode(), f"key {number % 11}".encode()) for number in range(600)]
    Confluent().produce(place, topic, messages, partition=0, compression=codec, **{"batch.num.messages": 20})
    before = size(engine, topic)
    # Written when the round has ended; what memory holds of it is given up then.
    done = engine.data / "log/topics" / topic / "0/compaction"
    until(lambda: done.exists() and size(engine, topic) < before / 2, "it is compacted", 60, every=0.2)
    time.sleep(0.2)
    left = read_all(place, topic)
    latest = {record.key(): record.value() for record in left}
    assert latest == {one.key: one.value for one in messages}
    offsets = [record.offset() for record in left]
    assert offsets == sorted(set(offsets)) and offsets[-1] == 599 and len(offsets) < 600
    seen = client.consume(place, topic, 0, 0, len(left))
    assert [(one.offset, one.message.key, one.message.value) for one in seen[: len(left)]] == [
        (record.offset(), record.key(), record.value()) for record in left
    ]
    # From inside what is gone as well.
    assert client.consume(place, topic, 0, 5, 1)[0].offset == next(offset for offset in offsets if offset >= 5)


def test_settings_are_taken_and_shown(place, admin):
    topic = make(admin, "settings", **{"delete_retention_ms": "1000", "max_compaction_lag_ms": "60000"})
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)

    def shown():
        return {name: entry.value for name, entry in admin.describe_configs([resource])[resource].result(20).items()}

    assert shown()["cleanup.policy"] == "compact" and shown()["delete.retention.ms"] == "1000"
    change = ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.APPEND)
    wanted = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[change])
    admin.incremental_alter_configs([wanted])[wanted].result(20)
    assert sorted(shown()["cleanup.policy"].split(",")) == ["compact", "delete"]
    bad = ConfigEntry("min.cleanable.dirty.ratio", "2", incremental_operation=AlterConfigOpType.SET)
    wanted = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[bad])
    with pytest.raises(confluent_kafka.KafkaException):
        admin.incremental_alter_configs([wanted])[wanted].result(20)


def test_settings_on_the_command_line(engine, place, admin):
    engine.cli("topics", "create", "by-hand", "--config", "cleanup.policy=compact", "--config", "segment.ms=60000")
    resource = ConfigResource(ConfigResource.Type.TOPIC, "by-hand")
    shown = admin.describe_configs([resource])[resource].result(20)
    assert shown["cleanup.policy"].value == "compact" and shown["segment.ms"].value == "60000"
    assert "cleanup.policy=compact" in engine.cli("topics", "get", "by-hand")
    engine.cli("topics", "update", "by-hand", "--config", "cleanup.policy=", "--retention", "2d")
    assert engine.get("topics/by-hand")["configs"] == {"segment.ms": "60000"}
    assert engine.get("topics/by-hand")["retention_milliseconds"] == 2 * 86_400_000
    done = engine.run("topics", "update", "events", "--config", "cleanup.policy=compact")
    assert done.returncode != 0 and "have no keys" in done.stderr
    done = engine.run("topics", "update", "by-hand", "--config", "cleanup.polici=compact")
    assert done.returncode != 0 and "did you mean cleanup.policy" in done.stderr


def test_append_time(place, admin):
    topic = make(admin, "append-time", **{"cleanup_policy": "delete", "message_timestamp_type": "LogAppendTime"})
    began = int(time.time() * 1000)
    Confluent().produce(place, topic, [Message(b"x", b"k", timestamp=5)], compression="zstd")
    record = read_all(place, topic)[0]
    kind, timestamp = record.timestamp()
    assert kind == confluent_kafka.TIMESTAMP_LOG_APPEND_TIME and timestamp >= began
    producer = kafka.KafkaProducer(bootstrap_servers=place)
    answer = producer.send(topic, value=b"y", timestamp_ms=7).get(20)
    producer.close()
    assert answer.timestamp >= began


def test_readers_writers_and_transactions_while_it_runs(engine, place, admin):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    topic = make(admin, "churn")
    ended = threading.Event()
    faults = []
    expected: dict[bytes, bytes | None] = {}

    def watched(work):
        def run():
            try:
                work()
            except Exception as error:
                faults.append(error)
                ended.set()

        return threading.Thread(target=run)

    def write():
        chance = random.Random(seed)
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": place, "transactional.id": "churn", "compression.type": "lz4", "linger.ms": 1}
        )
        producer.init_transactions(30)
        for number in range(300):
            commit = chance.random() < 0.8
            producer.begin_transaction()
            changed = {}
            for _ in range(20):
                key = f"key {chance.randrange(40)}".encode()
                value = None if chance.random() < 0.1 else json.dumps({"n": number, "x": chance.random()}).encode()
                producer.produce(topic, value=value, key=key)
                changed[key] = value
            if commit:
                producer.commit_transaction(30)
                expected.update(changed)
            else:
                producer.abort_transaction(30)
        # Another topic's worth of filler, so that everything of interest stands in closed segments.
        producer.begin_transaction()
        for number in range(200):
            producer.produce(topic, value=b"x" * 500, key=b"filler")
        producer.commit_transaction(30)

    def follow():
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": place, "group.id": "unused", "isolation.level": "read_committed"}
        )
        consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
        last = -1
        state = {}
        while not ended.is_set() or state != followed_wanted():
            record = consumer.poll(0.5)
            if record is None:
                if ended.is_set():
                    break
                continue
            assert not record.error(), record.error()
            assert record.offset() > last, "offsets only grow"
            last = record.offset()
            if record.key() != b"filler":
                state[record.key()] = record.value()
        consumer.close()
        assert {key: value for key, value in state.items() if value} == followed_wanted()

    def followed_wanted():
        return {key: value for key, value in expected.items() if value}

    def reread():
        while not ended.is_set():
            offsets = [record.offset() for record in read_all(place, topic, **{"isolation.level": "read_committed"})]
            assert offsets == sorted(set(offsets))

    readers = [watched(follow), watched(reread), watched(reread)]
    writer = watched(write)
    for thread in [writer, *readers]:
        thread.start()
    writer.join(120)
    # Two rounds of housekeeping at least happen while they read.
    time.sleep(25)
    ended.set()
    for thread in readers:
        thread.join(60)
    assert not faults, faults
    left = [record for record in read_all(place, topic, **{"isolation.level": "read_committed"})]
    found = {record.key(): record.value() for record in left if record.key() != b"filler"}
    assert {key: value for key, value in found.items() if value} == followed_wanted()
    assert len(left) < 2500, "of 4,800 committed records some are gone"
    # The other doors see the same.
    lines = engine.cli("topics", "consume", topic, "-e", "-o", "json").splitlines()
    assert [json.loads(line)["offset"] for line in lines] == [record.offset() for record in left]
    engine.stop()
    engine.start()
    assert engine.get("engine")["damage"] == []
