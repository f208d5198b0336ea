# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The Kafka door with real clients: kcat, confluent-kafka, kafka-python and aiokafka."""

import contextlib
import gzip
import json
import socket
import struct
import time

import confluent_kafka
import kafka
import pytest
from confluent_kafka.admin import (
    AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec,
)  # fmt: skip
from append_tables import make
from harness import Refused, crc32c, until
from kafka_clients import CLIENTS, Kcat, KafkaPython, Message, create, parse

BY_NAME = {client.name: client for client in CLIENTS}
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]


@pytest.fixture(scope="module")
def engine(shared):
    return shared


# Records


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("sender", CLIENTS, ids=lambda one: one.name)
def test_what_one_client_sends_every_client_reads(admin, place, sender, codec):
    topic = create(admin, f"records-{sender.name}-{codec}", 2)
    now = int(time.time() * 1000)
    stamped = not isinstance(sender, Kcat)
    sent = [
        Message(
            f"value {number} ".encode() * 20, f"key {number}".encode(), (("a", b"1"), ("b", b"two")),
            now - 1000 + number if stamped else None,
        )
        for number in range(5)
    ]  # fmt: skip
    given = sender.produce(place, topic, sent, partition=1, compression=codec)
    if given is not None:
        assert given == [(1, number) for number in range(5)]
    for reader in CLIENTS:
        seen = reader.consume(place, topic, 1, 0, 5)
        assert [(one.partition, one.offset) for one in seen] == [(1, number) for number in range(5)], reader.name
        for one, wanted in zip(seen, sent, strict=True):
            assert one.message._replace(timestamp=0) == wanted._replace(timestamp=0), reader.name
            if stamped:
                assert one.message.timestamp == wanted.timestamp
        # From the middle of a batch: earlier records are not shown.
        assert [one.offset for one in reader.consume(place, topic, 1, 3, 2)] == [3, 4]
    assert {one[22] & 7 for one in stored_batches(place, topic, 1)} == {CODECS.index(codec)}


def stored_batches(place, topic, partition):
    """The batches of a partition, read by a fetch of bare bytes."""
    with socket.create_connection(parse(place), timeout=30) as connection:
        body = struct.pack(">iiiib", -1, 100, 1, 1 << 20, 0) + struct.pack(">i", 1)
        body += struct.pack(">h", len(topic)) + topic.encode() + struct.pack(">iiqi", 1, partition, 0, 1 << 20)
        answer = request(connection, 1, 4, body)
    # correlation, throttle, topics, name, partitions, index, error, high watermark, stable offset, aborted, size
    at = 4 + 4 + 4 + 2 + len(topic) + 4 + 4 + 2 + 8 + 8
    aborted, size = struct.unpack_from(">ii", answer, at)
    assert aborted <= 0
    batches = answer[at + 8 : at + 8 + size]
    found = []
    while batches:
        length = struct.unpack_from(">i", batches, 8)[0]
        found.append(batches[: 12 + length])
        batches = batches[12 + length :]
    return found


def request(connection, api, version, body, correlation=7):
    packed = struct.pack(">hhih", api, version, correlation, -1) + body
    connection.sendall(struct.pack(">i", len(packed)) + packed)
    return receive(connection)


def receive(connection):
    size = struct.unpack(">i", exactly(connection, 4))[0]
    return exactly(connection, size)


def exactly(connection, count):
    got = b""
    while len(got) < count:
        part = connection.recv(count - len(got))
        assert part, "the connection ended"
        got += part
    return got


def test_null_values_and_keys_come_back_as_null(admin, place):
    topic = create(admin, "nulls")
    for client in CLIENTS:
        client.produce(place, topic, [Message(None, b"gone"), Message(b"no key")], partition=0)
    for client in CLIENTS:
        seen = [(one.message.value, one.message.key) for one in client.consume(place, topic, 0, 0, 8)]
        assert seen == [(None, b"gone"), (b"no key", None)] * 4, client.name


def test_all_doors_see_the_same_records(engine, admin, place):
    """An event published over HTTP has its attributes in headers, and the reverse."""
    topic = create(admin, "events-of-all-doors")
    event = {"specversion": "1.0", "id": "e-1", "source": "/test", "type": "t.x", "subject": "s", "data": {"a": 1}}
    sent = engine.http(
        "POST", f"/api/v1/topics/{topic}/events", json.dumps(event).encode(),
        {"Content-Type": "application/cloudevents+json"},
    )  # fmt: skip
    assert sent.status < 300, sent.body
    for client in CLIENTS:
        record = client.consume(place, topic, 0, 0, 1)[0].message
        headers = dict(record.headers)
        assert headers["ce_id"] == b"e-1" and headers["ce_type"] == b"t.x" and headers["ce_source"] == b"/test"
        assert headers["ce_specversion"] == b"1.0" and json.loads(record.value) == {"a": 1}
    engine.cli("tables", "create", "of_all_doors", "--topic", topic)
    BY_NAME["confluent-kafka"].produce(
        place, topic,
        [Message(b'{"a": 2}', b"k", (("ce_specversion", b"1.0"), ("ce_id", b"e-2"), ("ce_type", b"t.y"), ("ce_source", b"/k")))],
    )  # fmt: skip

    def rows():
        found = engine.api("POST", "sql", {"sql": 'select a, _id from of_all_doors order by a'})
        return found["rows"] if len(found["rows"]) == 2 else None

    assert until(rows, "both rows are there") == [[1, "e-1"], [2, "e-2"]]


def test_a_waiting_consumer_is_woken_by_the_append(admin, place):
    topic = create(admin, "waiting", 3)
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": "unused", "fetch.wait.max.ms": 20_000, "enable.auto.commit": False,
         "fetch.min.bytes": 1}
    )  # fmt: skip
    consumer.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in range(3)])
    assert consumer.poll(1.5) is None
    producer = confluent_kafka.Producer({"bootstrap.servers": place, "linger.ms": 0})
    producer.produce(topic, b"warm up", partition=0)
    producer.flush(10)
    assert consumer.poll(10).value() == b"warm up"
    for number in (2, 1, 0):
        began = time.monotonic()
        producer.produce(topic, b"now", partition=number)
        producer.flush(10)
        record = consumer.poll(10)
        assert record.partition() == number and time.monotonic() - began < 5
    consumer.close()


def test_an_offset_out_of_range_is_an_error_with_bounds(admin, place):
    topic = create(admin, "bounds")
    KafkaPython().produce(place, topic, [Message(b"1"), Message(b"2")])
    with pytest.raises(kafka.errors.OffsetOutOfRangeError):
        KafkaPython().consume(place, topic, 0, 5, 1, auto_offset_reset="none")
    # The end is no error: there is nothing yet.
    with pytest.raises(AssertionError):
        KafkaPython_quick(place, topic, 2)
    for deleted in admin.delete_records([confluent_kafka.TopicPartition(topic, 0, 1)]).values():
        deleted.result(30)
    for version in (4, 5, 11):
        for offset in (0, 5, 99999, -1):
            error, high, stable, start = fetch(place, topic, offset, version)
            # OFFSET_OUT_OF_RANGE says what the range is; the log's start is told from version 5.
            assert (error, high, stable, start) == (1, 2, 2, 1 if version > 4 else None), (version, offset)
    assert fetch(place, topic, 2, 11) == (0, 2, 2, 1)


def fetch(place, topic, offset, version):
    """The error and the bounds of a fetch of one partition."""
    body = struct.pack(">iiiib", -1, 0, 1, 1 << 20, 0)
    if version >= 7:
        body += struct.pack(">ii", 0, -1)
    body += struct.pack(">ih", 1, len(topic)) + topic.encode() + struct.pack(">ii", 1, 0)
    if version >= 9:
        body += struct.pack(">i", -1)
    body += struct.pack(">q", offset)
    if version >= 5:
        body += struct.pack(">q", -1)
    body += struct.pack(">i", 1 << 20)
    if version >= 7:
        body += struct.pack(">i", 0)
    if version >= 11:
        body += struct.pack(">h", 0)
    with socket.create_connection(parse(place), timeout=10) as connection:
        answer = request(connection, 1, version, body)
    at = 8 + (6 if version >= 7 else 0) + 4 + 2 + len(topic) + 4 + 4
    error, high, stable = struct.unpack_from(">hqq", answer, at)
    return error, high, stable, struct.unpack_from(">q", answer, at + 18)[0] if version >= 5 else None


def KafkaPython_quick(place, topic, offset):
    consumer = kafka.KafkaConsumer(bootstrap_servers=place, auto_offset_reset="none")
    where = kafka.TopicPartition(topic, 0)
    consumer.assign([where])
    consumer.seek(where, offset)
    found = consumer.poll(timeout_ms=1000)
    consumer.close()
    assert found


def test_offsets_by_time_are_exact(admin, place):
    topic = create(admin, "times")
    base = 1_700_000_000_000
    messages = [Message(b"x", timestamp=base + 10 * number) for number in range(10)]
    KafkaPython().produce(place, topic, messages)
    consumer = kafka.KafkaConsumer(bootstrap_servers=place)
    where = kafka.TopicPartition(topic, 0)
    for asked, wanted in ((base - 5, 0), (base + 41, 5), (base + 50, 5), (base + 90, 9)):
        found = consumer.offsets_for_times({where: asked})[where]
        assert (found.offset, found.timestamp) == (wanted, base + 10 * wanted)
    assert consumer.offsets_for_times({where: base + 91})[where] is None
    assert consumer.beginning_offsets([where])[where] == 0 and consumer.end_offsets([where])[where] == 10
    consumer.close()
    for spec, wanted in ((OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 10), (OffsetSpec.max_timestamp(), 9)):
        asked = {confluent_kafka.TopicPartition(topic, 0): spec}
        assert next(iter(admin.list_offsets(asked).values())).result(30).offset == wanted


def list_offset(place, topic, time, version):
    """The error and the offset of a time."""
    body = struct.pack(">i", -1) + (b"\0" if version >= 2 else b"") + struct.pack(">ih", 1, len(topic)) + topic.encode()
    body += struct.pack(">ii", 1, 0) + (struct.pack(">i", -1) if version >= 4 else b"") + struct.pack(">q", time)
    with socket.create_connection(parse(place), timeout=10) as connection:
        answer = request(connection, 2, version, body)
    at = 4 + (4 if version >= 2 else 0) + 4 + 2 + len(topic) + 4 + 4
    error, _, offset = struct.unpack_from(">hqq", answer, at)
    return error, offset


@pytest.mark.parametrize("version", [1, 4, 5])
def test_negative_times_that_mean_nothing_are_refused(admin, place, version):
    topic = create(admin, f"no-times-{version}")
    KafkaPython().produce(place, topic, [Message(b"1"), Message(b"2")])
    assert list_offset(place, topic, -1, version) == (0, 2) and list_offset(place, topic, -2, version) == (0, 0)
    assert list_offset(place, topic, 0, version) == (0, 0)
    # What later versions gave a meaning is unknown to this one, as in Kafka: UNSUPPORTED_VERSION.
    for time in (-3, -4, -5, -6, -99, -(2**63)):
        assert list_offset(place, topic, time, version) == (35, -1)


def produce(place, topic, version, records):
    """The error code of a produce of these bytes."""
    body = struct.pack(">hhi", -1, -1, 10_000) + struct.pack(">ih", 1, len(topic)) + topic.encode()
    body += struct.pack(">ii", 1, 0) + (struct.pack(">i", -1) if records is None else struct.pack(">i", len(records)) + records)
    with socket.create_connection(parse(place), timeout=10) as connection:
        answer = request(connection, 0, version, body)
    return struct.unpack_from(">h", answer, 4 + 4 + 2 + len(topic) + 4 + 4)[0]


def raw_batch(codec, count=1, payload=b"\x0c\0\0\0\x01\x00\0"):
    """A record batch with a right checksum."""
    covered = struct.pack(">hiqqqhii", codec, count - 1, 1, 1, -1, -1, -1, count) + payload
    return struct.pack(">qiibI", 0, 9 + len(covered), 0, 2, crc32c(covered)) + covered


def test_what_no_version_of_produce_takes_is_refused_for_good(admin, place):
    """With errors that clients report instead of sending the same again."""
    topic = create(admin, "refused-batches")
    for version in (3, 7, 8):
        assert produce(place, topic, version, b"") == 87 and produce(place, topic, version, None) == 87
        assert produce(place, topic, version, raw_batch(0, 0, b"")) == 87
        assert produce(place, topic, version, raw_batch(0)) == 0
    zstd = raw_batch(4, payload=b"\x28\xb5\x2f\xfd\x20\x07\x39\0\0\x0c\0\0\0\x01\0\0")
    for version in (3, 4, 5, 6):
        assert produce(place, topic, version, zstd) == 76
    assert produce(place, topic, 7, zstd) == 0
    assert admin.list_offsets({confluent_kafka.TopicPartition(topic, 0): OffsetSpec.latest()})


# What the engine itself reads of what clients compressed

COUNTER = """
def handler(ctx, event):
    ctx.tables["heard"].upsert({"id": event.id, "n": event.data["n"]}, key=["id"])
"""


@pytest.fixture(scope="module")
def readers(engine):
    """A topic that a table and a pipeline read."""
    engine.function("listener", COUNTER)
    source = engine.source("compressed")
    engine.pipeline("listener", {"listener": {}}, [{"source": "compressed", "destination": "listener"}])
    make(engine, "told", "compressed")
    return source


def events(source, name, count=5, padding=20):
    """Events as records in Kafka's binary content mode, one second apart."""
    return [
        Message(
            json.dumps({"n": n, "padding": "some words " * padding}).encode(), f"key {n}".encode(),
            (
                ("ce_specversion", b"1.0"), ("ce_id", f"{name}-{n}".encode()), ("ce_source", source.source.encode()),
                ("ce_type", b"vastdata.com:Schedule.TimerElapsed"), ("content-type", b"application/json"),
            ),
            1_700_000_000_000 + 1000 * n,
        )
        for n in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("codec", CODECS[1:])
@pytest.mark.parametrize("sender", CLIENTS, ids=lambda one: one.name)
def test_compressed_records_become_rows_and_events(engine, place, readers, sender, codec):
    name = f"{sender.name}-{codec}"
    sender.produce(place, "compressed", events(readers, name), compression=codec)
    wanted = [[f"{name}-{n}", n] for n in range(5)]
    asked = f"where starts_with({{}}, '{name}-') order by 2"

    def rows():
        # There is no column before the first record.
        with contextlib.suppress(Refused):
            return engine.sql("select _id, n from told " + asked.format("_id"))

    def heard():
        return "heard" in engine.tables() and engine.sql("select id, n from heard " + asked.format("id"))

    until(lambda: rows() == wanted, "the rows")
    until(lambda: heard() == wanted, "the events")
    assert engine.sql("select count(*) from told__rejected") == [[0]]


@pytest.mark.parametrize("codec", CODECS[1:])
def test_offsets_by_time_are_exact_in_compressed_batches(admin, place, codec):
    topic = create(admin, f"times-{codec}")
    base = 1_700_000_000_000
    messages = [Message(b"x" * 200, timestamp=base + 10 * number) for number in range(50)]
    KafkaPython().produce(place, topic, messages, compression=codec)
    assert len(stored_batches(place, topic, 0)) < 50
    consumer = kafka.KafkaConsumer(bootstrap_servers=place)
    where = kafka.TopicPartition(topic, 0)
    for asked, wanted in ((base - 5, 0), (base + 41, 5), (base + 250, 25), (base + 481, 49), (base + 490, 49)):
        found = consumer.offsets_for_times({where: asked})[where]
        assert (found.offset, found.timestamp) == (wanted, base + 10 * wanted)
    assert consumer.offsets_for_times({where: base + 491})[where] is None
    consumer.close()


def test_a_batch_that_cannot_be_decompressed_is_a_reject_and_a_dead_letter(engine, place, readers):
    def count(table):
        return engine.sql(f"select count(*) from {table}")[0][0]

    KafkaPython().produce(place, "compressed", events(readers, "before"))
    rejects, letters = count("told__rejected"), len(engine.dead_letters("listener"))
    # Frames of zstd that repeat one byte until 1 GB is there tell how large they are. Of several members of gzip the last one alone does.
    bomb = bytes.fromhex("28b52ffd0058") + bytes.fromhex("02001041") * 8000 + bytes.fromhex("03001041")
    assert produce_raw(place, "compressed", batch(4, 10, bomb), wanted=10) == -1, "MESSAGE_TOO_LARGE"
    first = produce_raw(place, "compressed", batch(1, 10, gzip.compress(bytes(80 << 20)) + gzip.compress(b"")))
    # And bytes that are no frame.
    second = produce_raw(place, "compressed", batch(1, 7, b"not gzip"))
    assert second == first + 10
    KafkaPython().produce(place, "compressed", events(readers, "after"), compression="zstd")
    until(lambda: "after-4" in engine.column("heard", "id"), "the events behind")
    until(lambda: count("told where starts_with(_id, 'after-')") == 5, "the rows behind")
    until(lambda: len(engine.dead_letters("listener")) == letters + 2, "the dead letters")
    found = engine.dead_letters("listener")[-2:]
    assert [one["origin_offset"] for one in found] == [first, second]
    assert {one["error_type"] for one in found} == {"UnreadableRecords"}
    assert f"records {first} to {first + 9} cannot be read" in found[0]["error"] and "64 MiB" in found[0]["error"]
    assert "gzip" in found[1]["error"]
    assert count("told__rejected") == rejects + 2
    reasons = [row[0] for row in engine.sql("select reason from told__rejected order by _offset desc limit 2")]
    assert "gzip" in reasons[0] and "64 MiB" in reasons[1]
    refused = engine.http("POST", "/api/v1/dead-letters/redrive", {"ids": [found[0]["id"]]})
    assert "cannot be read" in refused.problem(409)["detail"]
    until(lambda: engine.items("pipelines/listener/deployments")[0]["lag"] == 0, "no lag")


def batch(codec, count, compressed):
    """A record batch around what need not be records."""
    now = int(time.time() * 1000)
    body = struct.pack(">hiqqqhii", codec, count - 1, now, now, -1, -1, -1, count) + compressed
    return struct.pack(">qiib", 0, 9 + len(body), -1, 2) + struct.pack(">I", crc32c(body)) + body


def produce_raw(place, topic, records, wanted=0):
    """Sends one batch to partition 0; returns its offset."""
    with socket.create_connection(parse(place), timeout=30) as connection:
        body = struct.pack(">hhii", -1, -1, 10_000, 1) + struct.pack(">h", len(topic)) + topic.encode()
        body += struct.pack(">iii", 1, 0, len(records)) + records
        answer = request(connection, 0, 7, body)
    at = 4 + 4 + 2 + len(topic) + 4 + 4
    error, offset = struct.unpack_from(">hq", answer, at)
    assert error == wanted, error
    return offset


# Topics


def test_topics_are_made_changed_and_deleted(engine, admin, place):
    topic = create(admin, "Managed.by_kafka", 3, **{"retention.ms": "3600000"})
    described = admin.list_topics(topic, timeout=10).topics[topic]
    assert sorted(described.partitions) == [0, 1, 2] and described.error is None
    ours = engine.get(f"topics/{topic}")
    assert ours["partitions"] == 3 and ours["retention_milliseconds"] == 3_600_000
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        create(admin, topic)
    assert refused.value.args[0].code() == confluent_kafka.KafkaError.TOPIC_ALREADY_EXISTS
    admin.create_partitions([NewPartitions(topic, 5)])[topic].result(30)
    assert len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 5
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        admin.create_partitions([NewPartitions(topic, 2)])[topic].result(30)
    assert refused.value.args[0].code() == confluent_kafka.KafkaError.INVALID_PARTITIONS
    admin.delete_topics([topic])[topic].result(30)
    assert engine.http("GET", f"/api/v1/topics/{topic}").status == 404
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        admin.delete_topics([topic])[topic].result(30)
    assert refused.value.args[0].code() == confluent_kafka.KafkaError.UNKNOWN_TOPIC_OR_PART


@pytest.mark.parametrize(
    ("partitions", "replicas", "config", "code"),
    [
        (1, 3, {}, "INVALID_REPLICATION_FACTOR"), (0, 1, {}, "INVALID_PARTITIONS"),
        (1, 1, {"no.such.setting": "1"}, "INVALID_CONFIG"), (1, 1, {"retention.ms": "soon"}, "INVALID_CONFIG"),
        (1, 1, {"compression.type": "gzip"}, "INVALID_CONFIG"),
    ],
)  # fmt: skip
def test_topics_that_cannot_be_are_refused(admin, partitions, replicas, config, code):
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        topic = NewTopic("refused", partitions, replicas, config=config)
        admin.create_topics([topic])["refused"].result(30)
    assert refused.value.args[0].code() == getattr(confluent_kafka.KafkaError, code), refused.value
    assert "refused" not in admin.list_topics(timeout=10).topics


@pytest.mark.parametrize("name", ["__own", "sp ace", "x" * 250])
def test_names_that_are_no_topics_are_refused(admin, name):
    with pytest.raises(confluent_kafka.KafkaException):
        create(admin, name)


def test_a_topic_is_made_when_a_client_names_it(engine, place):
    KafkaPython().produce(place, "made-on-the-way", [Message(b"1")])
    assert engine.get("topics/made-on-the-way")["partitions"] == 1


def test_settings_are_listed_in_full_and_changed_one_by_one(admin, place):
    topic = create(admin, "settings", **{"segment.bytes": "1048576"})
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)

    def settings():
        return admin.describe_configs([resource])[resource].result(30)

    found = settings()
    assert len(found) > 25 and found["segment.bytes"].value == "1048576" and not found["segment.bytes"].is_default
    assert found["retention.ms"].value == "604800000" and found["retention.ms"].is_default
    change = ConfigResource(
        ConfigResource.Type.TOPIC, topic,
        incremental_configs=[
            ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET),
            ConfigEntry("segment.bytes", None, incremental_operation=AlterConfigOpType.DELETE),
        ],
    )  # fmt: skip
    admin.incremental_alter_configs([change])[change].result(30)
    found = settings()
    assert found["retention.ms"].value == "7200000" and found["segment.bytes"].is_default
    wrong = ConfigResource(
        ConfigResource.Type.TOPIC, topic,
        incremental_configs=[ConfigEntry("retention.ms", "x", incremental_operation=AlterConfigOpType.SET)],
    )  # fmt: skip
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        admin.incremental_alter_configs([wrong])[wrong].result(30)
    assert refused.value.args[0].code() == confluent_kafka.KafkaError.INVALID_CONFIG
    assert settings()["retention.ms"].value == "7200000"
    broker = ConfigResource(ConfigResource.Type.BROKER, "0")
    assert admin.describe_configs([broker])[broker].result(30)["num.partitions"].value == "1"


# Bytes that are no requests


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n", struct.pack(">i", -5), struct.pack(">i", 2**31 - 1), struct.pack(">i", 3) + b"abc",
        struct.pack(">ihhih", 10, 999, 0, 1, -1), struct.pack(">ihhih", 10, 3, 99, 1, -1),
        struct.pack(">ihhihi", 14, 3, 5, 1, -1, 2**31 - 1),
    ],
)  # fmt: skip
def test_bytes_that_are_no_request_end_their_connection_only(engine, place, sent):
    with socket.create_connection(parse(place), timeout=10) as connection:
        connection.sendall(sent)
        assert connection.recv(100) == b""
    assert engine.get("engine")["kafka_address"] == place


def test_a_version_of_apiversions_that_is_too_new_is_told_the_table(place):
    with socket.create_connection(parse(place), timeout=10) as connection:
        answer = request(connection, 18, 99, b"", correlation=3)
        assert struct.unpack_from(">ih", answer) == (3, 35)
        count = struct.unpack_from(">i", answer, 6)[0]
        table = dict(
            (key, (low, high)) for key, low, high in (struct.unpack_from(">hhh", answer, 10 + 6 * n) for n in range(count))
        )
        assert table[18] == (0, 4) and table[0][0] == 0
        # The same connection goes on.
        assert struct.unpack_from(">ih", request(connection, 18, 0, b"", correlation=4)) == (4, 0)


@pytest.mark.parametrize("topic", ["__new", "__system.logs"])
@pytest.mark.parametrize("client", [BY_NAME["kcat"], BY_NAME["confluent-kafka"], BY_NAME["kafka-python"]], ids=lambda one: one.name)
def test_a_producer_of_the_engines_own_topics_is_refused_at_once(place, topic, client):
    began = time.monotonic()
    with pytest.raises(Exception) as refused:
        client.produce(place, topic, [Message(b"x")])
    assert time.monotonic() - began < 10
    print(client.name, repr(refused.value))


def test_answers_come_in_the_order_of_the_requests(admin, place):
    topic = create(admin, "ordered")
    with socket.create_connection(parse(place), timeout=10) as connection:
        # A fetch that waits, and behind it, in the same write, what could be answered at once.
        body = struct.pack(">iiiib", -1, 700, 1, 1 << 20, 0) + struct.pack(">i", 1)
        body += struct.pack(">h", len(topic)) + topic.encode() + struct.pack(">iiqi", 1, 0, 0, 1 << 20)
        first = struct.pack(">hhih", 1, 4, 11, -1) + body
        second = struct.pack(">hhih", 18, 0, 12, -1)
        connection.sendall(b"".join(struct.pack(">i", len(one)) + one for one in (first, second)))
        began = time.monotonic()
        assert struct.unpack_from(">i", receive(connection))[0] == 11
        assert time.monotonic() - began > 0.5
        assert struct.unpack_from(">i", receive(connection))[0] == 12
