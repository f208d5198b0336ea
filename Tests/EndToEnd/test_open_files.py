# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""An engine that may have few files open, with more partitions than that."""

import os

import confluent_kafka
import harness
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from harness import Engine

LIMIT = 256
PARTITIONS = 3000


@pytest.fixture
def engine(tmp_path, monkeypatch):
    program = tmp_path / "martlet"
    program.write_text(f'#!/bin/sh\nulimit -n {LIMIT}\nexec "{harness.PROGRAM}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(harness, "PROGRAM", program)
    engine = Engine(tmp_path / "engine")
    engine.start()
    yield engine
    engine.clean_up()


def descriptors(engine):
    return len(os.listdir(f"/proc/{engine.process.pid}/fd"))


def create(engine, topic, partitions):
    admin = AdminClient({"bootstrap.servers": engine.get("engine")["kafka_address"]})
    admin.create_topics([NewTopic(topic, partitions)], request_timeout=120)[topic].result(150)


def produce(engine, topic, partitions, text):
    producer = confluent_kafka.Producer({"bootstrap.servers": engine.get("engine")["kafka_address"], "acks": "all"})
    failed = []
    producer.list_topics(topic, timeout=60)
    for number in range(partitions):
        producer.produce(
            topic, f"{text} {number}", partition=number, on_delivery=lambda error, _: error and failed.append(error)
        )
    assert producer.flush(120) == 0 and not failed, failed[:3]


def consume(engine, topic, partitions, count):
    """The values of all partitions, in order in each."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": engine.get("engine")["kafka_address"], "group.id": "unused", "enable.auto.commit": False}
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in range(partitions)])
    found: dict[int, list[str]] = {number: [] for number in range(partitions)}
    while sum(map(len, found.values())) < count:
        # More than are left would be waited for.
        records = consumer.consume(min(1000, count - sum(map(len, found.values()))), 60)
        assert records, f"{sum(map(len, found.values()))} of {count} came"
        for record in records:
            assert record.error() is None, record.error()
            found[record.partition()].append(record.value().decode())
    consumer.close()
    return found


def test_more_partitions_than_files_may_be_open(engine):
    create(engine, "other", 4)
    produce(engine, "other", 4, "before")
    create(engine, "wide", PARTITIONS)
    produce(engine, "wide", PARTITIONS, "one")
    produce(engine, "other", 4, "meanwhile")
    produce(engine, "wide", PARTITIONS, "two")
    assert descriptors(engine) < LIMIT
    wanted = {number: [f"one {number}", f"two {number}"] for number in range(PARTITIONS)}
    assert consume(engine, "wide", PARTITIONS, 2 * PARTITIONS) == wanted
    # Every partition is opened at a start, too.
    engine.kill()
    engine.start()
    assert descriptors(engine) < LIMIT
    assert consume(engine, "wide", PARTITIONS, 2 * PARTITIONS) == wanted
    produce(engine, "other", 4, "after")
    assert consume(engine, "other", 4, 12)[3] == ["before 3", "meanwhile 3", "after 3"]
    assert engine.stop() == 0
    assert "Too many open files" not in engine.log.read_text()
