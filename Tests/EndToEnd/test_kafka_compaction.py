# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Compacted topics with real clients, which read and write while segments are replaced."""

import contextlib
import json
import os
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
        {"bootstrap.servers": place, "group.id": "unused", "enable.partition.eof": True, "auto.offset.reset": "earliest"} | settings
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


class Rounds:
    """How often a partition has been compacted: each round that did something writes its file anew."""

    def __init__(self, engine, topic):
        self.file = engine.data / "log/topics" / topic / "0/compaction"
        self.seen: list[int] = []

    def count(self):
        with contextlib.suppress(FileNotFoundError):
            when = self.file.stat().st_mtime_ns
            if when not in self.seen:
                self.seen.append(when)
        return len(self.seen)


class Churn:
    """Writers and readers of two topics, one of which loses its oldest segments too, until each was compacted several times meanwhile."""

    def __init__(self, engine, place, admin, seed):
        self.engine, self.place = engine, place
        self.chance = random.Random(seed)
        self.topic = make(admin, "churn")
        self.both = make(admin, "churn-both", cleanup_policy="compact,delete", retention_bytes="150000")
        self.ended = threading.Event()
        self.faults: list[BaseException] = []
        self.transactions = 0
        #: What the transactions that committed left, and the last offset and value of each key of the other topic.
        self.expected: dict[bytes, bytes | None] = {}
        self.latest: dict[bytes, tuple[int, bytes | None]] = {}
        self.starts: set[int] = set()

    def run(self):
        works = [self.write, self.write_both, self.follow, self.follow_both, self.reread, self.reread]
        threads = [threading.Thread(target=self.watched, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads[:2]:
            thread.join(240)
        self.ended.set()
        for thread in threads[2:]:
            thread.join(60)
        assert not self.faults, self.faults

    def watched(self, work):
        try:
            work()
        except BaseException as error:
            self.faults.append(error)
            self.ended.set()

    def wanted(self):
        return {key: value for key, value in self.expected.items() if value}

    def write(self):
        """Transactions until two rounds of compaction were among them, and a third one is behind them."""
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": self.place, "transactional.id": "churn", "compression.type": "lz4", "linger.ms": 1}
        )
        producer.init_transactions(30)
        rounds = Rounds(self.engine, self.topic)
        while rounds.count() < 2 and not self.ended.is_set():
            self.transactions += 1
            commits = self.chance.random() < 0.8
            producer.begin_transaction()
            changed = {}
            for _ in range(20):
                key = f"key {self.chance.randrange(40)}".encode()
                value = None if self.chance.random() < 0.1 else json.dumps({"n": self.transactions, "x": self.chance.random()}).encode()
                producer.produce(self.topic, value=value, key=key)
                changed[key] = value
            if commits:
                producer.commit_transaction(30)
                self.expected.update(changed)
            else:
                producer.abort_transaction(30)
        # So that everything of interest stands in closed segments.
        producer.begin_transaction()
        for _ in range(200):
            producer.produce(self.topic, value=random.randbytes(250).hex(), key=b"filler")
        producer.commit_transaction(30)
        count = rounds.count()
        until(lambda: self.ended.is_set() or rounds.count() > count, "what was written last is compacted", 60, every=0.2)

    def write_both(self):
        producer = confluent_kafka.Producer({"bootstrap.servers": self.place, "linger.ms": 5})
        chance = random.Random(self.chance.random())
        rounds = Rounds(self.engine, self.both)

        def keep(error, record):
            assert error is None, error
            self.latest[record.key()] = max(self.latest.get(record.key(), (-1, None)), (record.offset(), record.value()), key=lambda one: one[0])

        while (rounds.count() < 2 or len(self.starts) < 3) and not self.ended.is_set():
            for _ in range(20):
                # Few keys come again and again, many once: those make segments that only retention deletes.
                key = f"key {chance.randrange(10)}" if chance.random() < 0.5 else f"once {chance.random()}"
                value = None if chance.random() < 0.05 else chance.randbytes(150).hex().encode()
                producer.produce(self.both, value=value, key=key.encode(), partition=0, on_delivery=keep)
            assert producer.flush(30) == 0
            time.sleep(0.02)

    def follow(self):
        """A reader of what is committed, from the start: what it has in the end is what was written."""
        consumer = self.consumer(self.topic)
        last, state = -1, {}
        while not self.ended.is_set() or state != self.wanted():
            record = consumer.poll(0.5)
            if record is None:
                if self.ended.is_set():
                    break
                continue
            assert not record.error(), record.error()
            assert record.offset() > last, "offsets only grow"
            last = record.offset()
            if record.key() != b"filler":
                state[record.key()] = record.value()
                if record.value() is None:
                    del state[record.key()]
        consumer.close()
        assert state == self.wanted()

    def follow_both(self):
        """A reader at the end of the other topic, which also sees how its start moves on."""
        consumer = self.consumer(self.both)
        last = -1
        while not self.ended.is_set():
            record = consumer.poll(0.2)
            start, end = consumer.get_watermark_offsets(confluent_kafka.TopicPartition(self.both, 0), timeout=30)
            assert start >= max(self.starts, default=0) and start <= end, "the start only moves on"
            self.starts.add(start)
            if record is not None:
                assert not record.error(), record.error()
                assert record.offset() > last, "offsets only grow"
                last = record.offset()
        consumer.close()

    def reread(self):
        while not self.ended.is_set():
            for topic in (self.topic, self.both):
                offsets = [record.offset() for record in read_all(self.place, topic, **{"isolation.level": "read_committed"})]
                assert offsets == sorted(set(offsets))

    def consumer(self, topic):
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": self.place, "group.id": "unused", "isolation.level": "read_committed", "auto.offset.reset": "earliest"}
        )
        consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
        return consumer


def test_readers_writers_and_transactions_while_it_runs(engine, place, admin):
    seed = int(os.environ.get("MARTLET_TEST_SEED") or random.randrange(2**31))
    print(f"MARTLET_TEST_SEED={seed}")
    churn = Churn(engine, place, admin, seed)
    churn.run()
    left = read_all(place, churn.topic, **{"isolation.level": "read_committed"})
    found = {record.key(): record.value() for record in left if record.key() != b"filler"}
    assert {key: value for key, value in found.items() if value} == churn.wanted()
    assert churn.transactions > 50 and len(left) < churn.transactions * 20 * 0.8 / 2, "most of what was replaced is gone"
    # The other topic: what retention left has the last value of each of its keys.
    kept = read_all(place, churn.both)
    # Asked for afterwards: retention goes on.
    start = engine.items(f"topics/{churn.both}/partitions")[0]["start_offset"]
    assert start > 0 and kept[0].offset() > 0
    latest = {record.key(): (record.offset(), record.value()) for record in kept}
    for key, (offset, value) in churn.latest.items():
        # A tombstone may be gone already.
        assert latest.get(key) == (offset, value) or offset < start or value is None, (key, offset, start)
    assert sum(record.offset() >= start for record in kept) < kept[-1].offset() + 1 - start, "compaction took some of what retention left"
    # The other doors see the same.
    lines = engine.cli("topics", "consume", churn.topic, "-e", "-o", "json").splitlines()
    assert [json.loads(line)["offset"] for line in lines] == [record.offset() for record in left]
    engine.stop()
    engine.start()
    assert engine.get("engine")["damage"] == []
