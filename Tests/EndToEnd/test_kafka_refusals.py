# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What is refused, and what clients are told of it: batches for some of their records, and whatever is beyond a limit."""

import asyncio
import re
import struct
import time

import aiokafka
import confluent_kafka
import kafka
import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from conftest import engines
from harness import crc32c
from kafka_clients import CLIENTS, Confluent, Message
from kafka_wire import Wire, header

FOREVER = "9223372036854775807"
LIMITS = {"message.timestamp.before.max.ms": "60000", "message.timestamp.after.max.ms": "60000"}


@pytest.fixture(scope="module")
def engine(shared):
    return shared


def create(admin, name, **config):
    admin.create_topics([NewTopic(name, 1, config=config)])[name].result(30)
    return name


def configs(admin, topic):
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    return {name: entry.value for name, entry in admin.describe_configs([resource])[resource].result(20).items()}


def alter(admin, topic, **values):
    changes = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in values.items()
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=changes)
    admin.incremental_alter_configs([resource])[resource].result(20)


def now():
    return int(time.time() * 1000)


def test_limits_of_timestamps_are_shown_and_changed(admin, place):
    topic = create(admin, "times-shown")
    shown = configs(admin, topic)
    for name in [*LIMITS, "message.timestamp.difference.max.ms"]:
        assert shown[name] == FOREVER, name
    Confluent().produce(place, topic, [Message(b"x", timestamp=1), Message(b"y", timestamp=now() + 10**10)])
    alter(admin, topic, message_timestamp_before_max_ms="60000")
    assert configs(admin, topic)["message.timestamp.before.max.ms"] == "60000"
    Confluent().produce(place, topic, [Message(b"y", timestamp=now() + 10**10)])
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        Confluent().produce(place, topic, [Message(b"x", timestamp=now() - 70_000)])
    assert refused.value.args[0].code() == confluent_kafka.KafkaError.INVALID_TIMESTAMP
    with pytest.raises(confluent_kafka.KafkaException):
        alter(admin, topic, message_timestamp_after_max_ms="-1")
    # The older name stands for both, and each of the others counts where it is set.
    alter(admin, topic, message_timestamp_difference_max_ms="120000")
    Confluent().produce(place, topic, [Message(b"y", timestamp=now() + 100_000)])
    for time_of in [now() + 200_000, now() - 70_000]:
        with pytest.raises(confluent_kafka.KafkaException):
            Confluent().produce(place, topic, [Message(b"x", timestamp=time_of)])


@pytest.mark.parametrize("codec", [None, "gzip", "zstd"])
@pytest.mark.parametrize("client", [one for one in CLIENTS if one.name != "kcat"], ids=lambda one: one.name)
def test_each_client_is_told_of_a_timestamp_that_is_too_far_from_now(admin, place, client, codec):
    topic = create(admin, f"times-{client.name}-{codec}", **LIMITS)
    good = [Message(b"good", timestamp=now() - 30_000), Message(b"good", timestamp=now() + 30_000)]
    client.produce(place, topic, good, compression=codec)
    for time_of in [now() - 3_600_000, now() + 3_600_000]:
        with pytest.raises(Exception) as refused:
            client.produce(place, topic, [Message(b"bad", timestamp=time_of)], compression=codec)
        if client.name == "confluent-kafka":
            assert refused.value.args[0].code() == confluent_kafka.KafkaError.INVALID_TIMESTAMP
        else:
            assert type(refused.value).__name__ == "InvalidTimestampError", refused.value
    assert [one.message.value for one in client.consume(place, topic, 0, 0, 2)] == [b"good"] * 2
    end = confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": "unused"})
    assert end.get_watermark_offsets(confluent_kafka.TopicPartition(topic, 0), timeout=20) == (0, 2)
    end.close()


def test_kafka_python_is_told_which_record_it_was(admin, place):
    topic = create(admin, "times-which", **LIMITS)
    late = now() - 3_600_000
    producer = kafka.KafkaProducer(bootstrap_servers=place, linger_ms=1000, retries=0)
    try:
        sent = [
            producer.send(topic, value=b"x", partition=0, timestamp_ms=one) for one in [now(), late, now()]
        ]  # fmt: skip
        said = []
        for one in sent:
            with pytest.raises(kafka.errors.KafkaError) as refused:
                one.get(30)
            said.append(refused.value)
    finally:
        producer.close()
    assert type(said[1]).__name__ == "InvalidTimestampError" and f"{late}" in str(said[1]), said
    for one in (said[0], said[2]):
        assert "part of a batch" in str(one), said


def test_librdkafka_is_told_which_records_had_no_key(admin, place):
    topic = create(admin, "keys-which", **{"cleanup.policy": "compact"})
    producer = confluent_kafka.Producer({"bootstrap.servers": place, "linger.ms": 1000})
    said = {}
    for number, key in enumerate([b"k", None, b"k", None]):
        producer.produce(
            topic, b"x", key, partition=0, on_delivery=lambda error, _, number=number: said.update({number: error})
        )
    assert producer.flush(30) == 0
    for number in (1, 3):
        assert said[number].code() == confluent_kafka.KafkaError.INVALID_RECORD, said
    # It keeps the codes apart, not the texts.
    for number in (0, 2):
        assert said[number].code() == confluent_kafka.KafkaError._INVALID_DIFFERENT_RECORD, said


def test_http_says_what_is_wrong(engine, admin):
    topic = create(admin, "times-http", **LIMITS)
    body = {"records": [{"value": "x", "timestamp": 5}]}
    answer = engine.http("POST", f"/api/v1/topics/{topic}/records", body)
    assert answer.status in (400, 422) and "timestamp 5 " in answer.json["detail"], answer.body


def record(delta, offset, key):
    def varint(value):
        value = value << 1 ^ value >> 63
        bytes = b""
        while value >= 0x80:
            bytes += b"%c" % (value & 0x7F | 0x80)
            value >>= 7
        return bytes + b"%c" % value

    body = b"\0" + varint(delta) + varint(offset)
    body += (varint(-1) if key is None else varint(len(key)) + key) + varint(1) + b"v" + varint(0)
    return varint(len(body)) + body


def batch(*records):
    """A record batch of (milliseconds from now, key)."""
    base = now()
    body = struct.pack(">hiqqqhii", 0, len(records) - 1, base, base, -1, -1, -1, len(records))
    body += b"".join(record(delta, number, key) for number, (delta, key) in enumerate(records))
    return struct.pack(">qiib", 0, 9 + len(body), -1, 2) + struct.pack(">I", crc32c(body)) + body


def produce(place, version, topic, records):
    """The answer for partition 0 of a produce request: code, record errors, message."""
    name = topic.encode()
    body = struct.pack(">hhii", -1, -1, 10_000, 1) + struct.pack(">h", len(name)) + name
    body += struct.pack(">iii", 1, 0, len(records)) + records
    with Wire(place) as wire:
        answer = wire.ask(header(0, version) + body)
    at = 4 + 4 + 2 + len(name) + 4 + 4
    (code,) = struct.unpack_from(">h", answer, at)
    at += 2 + 8 + 8 + 8
    if version < 8:
        assert at + 4 == len(answer)
        return code, [], None

    def text():
        nonlocal at
        (length,) = struct.unpack_from(">h", answer, at)
        at += 2 + max(length, 0)
        return None if length < 0 else answer[at - length : at].decode()

    (count,) = struct.unpack_from(">i", answer, at)
    at += 4
    errors = []
    for _ in range(count):
        (index,) = struct.unpack_from(">i", answer, at)
        at += 4
        errors.append((index, text()))
    message = text()
    assert at + 4 == len(answer)
    return code, errors, message


def test_answers_name_the_records_from_version_8_on(admin, place):
    times = create(admin, "wire-times", **LIMITS)
    keys = create(admin, "wire-keys", **{"cleanup.policy": "compact"})
    both = create(admin, "wire-both", **LIMITS, **{"cleanup.policy": "compact"})
    assert produce(place, 8, times, batch((0, None), (1, None))) == (0, [], None)
    bad = batch((0, b"k"), (-100_000, None), (0, b"k"), (90_000, None))
    assert produce(place, 7, times, bad) == (32, [], None)
    code, errors, message = produce(place, 8, times, bad)
    assert code == 32 and [index for index, _ in errors] == [1, 3] and "record 1" in message, (errors, message)
    assert all("timestamp" in said for _, said in errors)
    code, errors, message = produce(place, 8, keys, bad)
    assert code == 87 and [index for index, _ in errors] == [1, 3] and "compacted" in message, (errors, message)
    mixed = batch((0, None), (-100_000, b"k"), (0, b"k"))
    code, errors, message = produce(place, 8, both, mixed)
    assert code == 32 and [index for index, _ in errors] == [0, 1], (errors, message)
    assert "no key" in errors[0][1] and "timestamp" in errors[1][1]
    damaged = bytearray(batch((0, b"k")))
    damaged[-3] ^= 1
    code, errors, message = produce(place, 8, keys, bytes(damaged))
    assert code == 2 and errors == [] and message


# Limits


def error_code(error: BaseException) -> int:
    """Kafka's number of what a client of Python raised."""
    if isinstance(error, confluent_kafka.KafkaException):
        return error.args[0].code()
    written = re.search(r"\[Error (\d+)\]", str(error))
    return int(written[1]) if written else getattr(error, "errno", None)


def begin_confluent(place, timeout):
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": place, "transactional.id": "limits", "transaction.timeout.ms": timeout, "message.timeout.ms": 5000}
    )
    producer.init_transactions(30)


def begin_kafka_python(place, timeout):
    producer = kafka.KafkaProducer(bootstrap_servers=place, transactional_id="limits", transaction_timeout_ms=timeout)
    try:
        producer.init_transactions()
    finally:
        producer.close(timeout=5)


def begin_aiokafka(place, timeout):
    async def run():
        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=place, transactional_id="limits", transaction_timeout_ms=timeout, request_timeout_ms=20_000
        )
        try:
            await producer.start()
            async with producer.transaction():
                pass
        finally:
            await producer.stop()

    asyncio.run(run())


def join_confluent(place, group, topic, session=10_000, work=lambda: None):
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": group, "session.timeout.ms": session, "heartbeat.interval.ms": 500,
         "max.poll.interval.ms": max(300_000, session)}
    )  # fmt: skip
    try:
        consumer.subscribe([topic])
        deadline = time.monotonic() + 60
        while not consumer.assignment():
            record = consumer.poll(0.2)
            if record is not None and record.error():
                raise confluent_kafka.KafkaException(record.error())
            assert time.monotonic() < deadline, "neither partitions nor an error"
        work()
    finally:
        consumer.close()


def join_kafka_python(place, group, topic, session=10_000, work=lambda: None):
    consumer = kafka.KafkaConsumer(topic, bootstrap_servers=place, group_id=group, session_timeout_ms=session, heartbeat_interval_ms=500)
    try:
        deadline = time.monotonic() + 60
        while not consumer.assignment():
            consumer.poll(timeout_ms=200)
            assert time.monotonic() < deadline, "neither partitions nor an error"
        work()
    finally:
        consumer.close()


def join_aiokafka(place, group, topic, session=10_000, work=lambda: None):
    async def run():
        consumer = aiokafka.AIOKafkaConsumer(
            topic, bootstrap_servers=place, group_id=group, session_timeout_ms=session, heartbeat_interval_ms=500
        )
        try:
            await asyncio.wait_for(consumer.start(), 60)
            while not consumer.assignment():
                await consumer.getmany(timeout_ms=200)
            await asyncio.to_thread(work)
        finally:
            await consumer.stop()

    asyncio.run(run())


BEGINNINGS = [begin_confluent, begin_kafka_python, begin_aiokafka]
JOINS = [join_confluent, join_kafka_python, join_aiokafka]


@pytest.mark.parametrize("begin", BEGINNINGS, ids=lambda one: one.__name__[6:])
def test_a_transaction_timeout_beyond_the_limit_is_refused(place, begin):
    with pytest.raises(Exception) as refused:
        begin(place, 900_001)
    assert error_code(refused.value) == 50, refused.value
    begin(place, 900_000)


@pytest.mark.parametrize("session", [5999, 1_800_001])
@pytest.mark.parametrize("join", JOINS, ids=lambda one: one.__name__[5:])
def test_a_session_timeout_outside_the_limits_is_refused(admin, place, join, session):
    topic = create(admin, f"sessions-{join.__name__}-{session}")
    with pytest.raises(Exception) as refused:
        join(place, "sessions", topic, session)
    assert error_code(refused.value) == 26, refused.value
    assert admin.describe_consumer_groups(["sessions"])["sessions"].result(30).members == []


@pytest.fixture(scope="module")
def small(request):
    """An engine whose groups have one member at most."""
    with engines(request) as make:
        engine = make("small", settings={"MARTLET_GROUPS_MEMBERS_MAX": "1"})
        engine.start()
        yield engine
        assert engine.stop() == 0, engine.log_tail()


@pytest.mark.parametrize("join", JOINS, ids=lambda one: one.__name__[5:])
def test_a_member_too_many_is_refused_and_the_others_stay(small, join):
    place = small.get("engine")["kafka_address"]
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": place})
    topic = create(admin, f"members-{join.__name__}")
    group = f"members-{join.__name__}"

    def second():
        with pytest.raises(Exception) as refused:
            join(place, group, topic)
        # aiokafka 0.14 has no name for this code: it reports an unknown error, at once as the others do.
        assert error_code(refused.value) == 81 or str(refused.value).endswith("UnknownError()"), repr(refused.value)
        described = admin.describe_consumer_groups([group])[group].result(30)
        assert len(described.members) == 1 and described.state.name == "STABLE"

    join(place, group, topic, work=second)
    # Who left makes room for another one.
    join(place, group, topic)


def note_confluent(place, group, topic, note):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": group})
    try:
        consumer.commit(offsets=[confluent_kafka.TopicPartition(topic, 0, 3, note)], asynchronous=False)
    finally:
        consumer.close()


def note_kafka_python(place, group, topic, note):
    consumer = kafka.KafkaConsumer(bootstrap_servers=place, group_id=group, enable_auto_commit=False)
    try:
        where = kafka.TopicPartition(topic, 0)
        consumer.assign([where])
        consumer.commit({where: kafka.OffsetAndMetadata(3, note, -1)})
    finally:
        consumer.close()


def note_aiokafka(place, group, topic, note):
    async def run():
        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=place, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            where = aiokafka.TopicPartition(topic, 0)
            consumer.assign([where])
            await consumer.commit({where: (3, note)})
        finally:
            await consumer.stop()

    asyncio.run(run())


@pytest.mark.parametrize("note", [note_confluent, note_kafka_python, note_aiokafka], ids=lambda one: one.__name__[5:])
def test_a_note_on_an_offset_is_kept_up_to_its_limit(engine, admin, place, note):
    topic, group = create(admin, f"noted-{note.__name__}"), f"noters-{note.__name__}"
    note(place, group, topic, "grüße " + "x" * 4000)
    with pytest.raises(Exception) as refused:
        note(place, group, topic, "x" * 4097)
    assert error_code(refused.value) == 12, refused.value
    [stands] = engine.get(f"groups/{group}")["partitions"]
    assert stands["committed_offset"] == 3 and stands["metadata"].rstrip("\0") == "grüße " + "x" * 4000


@pytest.mark.parametrize("client", CLIENTS, ids=lambda one: one.name)
def test_a_batch_beyond_the_limit_is_refused_to_each_client(admin, place, client):
    topic = create(admin, f"small-{client.name}", **{"max.message.bytes": "2000"})
    said = {"confluent-kafka": "MSG_SIZE_TOO_LARGE", "kcat": "Message size too large"}.get(client.name, "MessageSizeTooLarge")
    with pytest.raises((AssertionError, Exception)) as refused:
        client.produce(place, topic, [Message(b"x" * 5000)])
    assert said in repr(refused.value), refused.value
    client.produce(place, topic, [Message(b"x" * 1500)])
    [seen] = client.consume(place, topic, 0, 0, 1)
    assert len(seen.message.value) == 1500


@pytest.mark.parametrize("client", CLIENTS, ids=lambda one: one.name)
def test_a_record_without_a_key_is_refused_in_a_compacted_topic(admin, place, client):
    topic = create(admin, f"keyless-{client.name}", **{"cleanup.policy": "compact"})
    # aiokafka 0.14 has no name for this code.
    said = {"confluent-kafka": "INVALID_RECORD", "kcat": "validat", "aiokafka": "UnknownError"}.get(client.name, "InvalidRecord")
    with pytest.raises((AssertionError, Exception)) as refused:
        client.produce(place, topic, [Message(b"x")])
    assert said in repr(refused.value), refused.value
    client.produce(place, topic, [Message(b"x", b"k")])
    [seen] = client.consume(place, topic, 0, 0, 1)
    assert (seen.offset, seen.message.key) == (0, b"k")
