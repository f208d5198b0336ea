# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Times, numbers and names that no honest client sends, through every door: one request, or one record, must not end the engine."""

import os
import struct
import time

import confluent_kafka
import grpc
import pytest
from grpc_client import events_pb2, record
from harness import crc32c, until
from kafka_wire import Wire, header
from martlet.v1 import groups_pb2

# Nanoseconds and microseconds in place of milliseconds, and the ends of what there is.
TIMES = [time.time_ns(), time.time_ns() // 1000, (1 << 63) - 1, -(1 << 63), -1]
FUNCTION = """
def handler(ctx, event):
    ctx.tables["hostile_seen"].upsert({"id": event.id}, key=["id"])
"""


@pytest.fixture(scope="module")
def engine(shared):
    return shared


@pytest.fixture(autouse=True)
def still_there(engine):
    """Whatever a test does, the engine is the one that it was."""
    process = engine.process.pid
    yield
    assert engine.process.poll() is None and engine.process.pid == process, engine.log_tail()
    assert engine.http("GET", "/readyz").status == 200


def varint(number: int) -> bytes:
    number = (number << 1 ^ number >> 63) & (1 << 64) - 1
    bytes = b""
    while number >= 0x80:
        bytes += b"%c" % (number & 0x7F | 0x80)
        number >>= 7
    return bytes + b"%c" % number


def batch(value: bytes, timestamp: int, headers: dict[str, str]) -> bytes:
    """A batch of one record: no client writes every time."""
    fields = [(name.encode(), text.encode()) for name, text in headers.items()]
    body = b"\0" + varint(0) + varint(0) + varint(-1) + varint(len(value)) + value + varint(len(fields))
    body += b"".join(varint(len(name)) + name + varint(len(text)) + text for name, text in fields)
    body = varint(len(body)) + body
    counted = struct.pack(">hiqqqhii", 0, 0, timestamp, timestamp, -1, -1, -1, 1) + body
    rest = struct.pack(">ib", 0, 2) + struct.pack(">I", crc32c(counted)) + counted
    return struct.pack(">qi", 0, len(rest)) + rest


def produce_at(place, topic, value: bytes, timestamp: int, headers: dict[str, str] | None = None):
    records = batch(value, timestamp, headers or {})
    body = header(0, 3) + struct.pack(">hhii", -1, -1, 30_000, 1) + struct.pack(">h", len(topic)) + topic.encode()
    body += struct.pack(">iii", 1, 0, len(records)) + records
    with Wire(place) as wire:
        answer = wire.ask(body)
    assert struct.unpack(">h", answer[4 + 4 + 2 + len(topic) + 4 + 4:][:2]) == (0,), answer


def commit(place, group, topic, offset=0):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": group})
    consumer.commit(offsets=[confluent_kafka.TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


def test_records_of_any_time_go_everywhere(engine, place, client):
    """Into lags, metrics, tables and functions; the lag was taken every 10 s, and ended each engine that was started again."""
    engine.function("hostile-seen", FUNCTION)
    events = engine.source("hostile-times")
    pipeline = engine.pipeline("hostile-times", {"hostile-seen": {}}, [{"source": events.topic, "destination": "hostile-seen"}])
    engine.cli("tables", "create", "hostile_rows", "--topic", "hostile-times", "--format", "raw")
    for number, timestamp in enumerate(TIMES):
        attributes = {"ce_specversion": "1.0", "ce_id": f"{number}", "ce_source": events.source, "ce_type": "t"}
        produce_at(place, "hostile-times", b"{}", timestamp, attributes)
        client.topic(f"hostile-times-{number}")
        produce_at(place, f"hostile-times-{number}", b"plain", timestamp)
        commit(place, f"hostile-{number}", f"hostile-times-{number}")
    commit(place, "hostile-all", "hostile-times")
    until(lambda: len(engine.column("hostile_seen", "id")) == len(TIMES), "the events are handled", 90)
    until(lambda: engine.sql("select count(*) from hostile_rows") == [[len(TIMES)]], "the table has the records", 60)
    for number, timestamp in enumerate(TIMES):
        assert f'hostile-{number}"'.encode() in engine.http("GET", "/metrics").body
        lag = engine.get(f"groups/hostile-{number}")["lag_seconds"]
        assert lag >= 0 and (timestamp > 0) == (lag == 0)
        assert engine.get(f"topics/hostile-times-{number}/records")["data"][0]["timestamp"] == timestamp
        moved = client.groups.ResetGroup(groups_pb2.ResetGroupRequest(name=f"hostile-{number}", timestamp_ms=timestamp), timeout=30)
        assert [one.new_offset for one in moved.partitions] == [0]
    assert engine.get("tables/hostile_rows")
    assert pipeline.show()
    engine.cli("groups", "list")


@pytest.mark.parametrize("milliseconds", [(1 << 63) - 1, -(1 << 63), 10**18])
def test_a_group_is_reset_to_any_time(client, place, milliseconds):
    topic = client.topic(f"hostile-reset-{milliseconds}")
    client.publish(topic, record(b"x"))
    commit(place, topic, topic)
    moved = client.groups.ResetGroup(groups_pb2.ResetGroupRequest(name=topic, timestamp_ms=milliseconds), timeout=30)
    assert [one.new_offset for one in moved.partitions] == [1 if milliseconds > 0 else 0]


def test_pages_of_partitions_begin_anywhere(client, place):
    topic = client.topic("hostile-pages").encode()
    for partition in ((1 << 31) - 1, -(1 << 31), 1):
        body = header(75, 0, flexible=True) + b"\2%c" % (len(topic) + 1) + topic + b"\0" + struct.pack(">i", 2000)
        body += b"\1%c" % (len(topic) + 1) + topic + struct.pack(">i", partition) + b"\0\0"
        with Wire(place) as wire:
            assert topic in wire.ask(body)


def test_a_transaction_takes_no_group_that_cannot_be_stored(place):
    producer = confluent_kafka.Producer({"bootstrap.servers": place, "transactional.id": "hostile"})
    producer.init_transactions(30)
    begin = header(22, 4, flexible=True) + b"\2x" + struct.pack(">iqh", 60_000, -1, -1) + b"\0"
    with Wire(place) as wire:
        answer = wire.ask(begin)
        number, epoch = struct.unpack(">qh", answer[4 + 1 + 4 + 2:][:10])
        # The length as a flexible request has it: 65,536 and one more.
        group = b"\x81\x80\x04" + b"g" * 65_536
        answer = wire.ask(header(25, 3, flexible=True) + b"\2x" + struct.pack(">qh", number, epoch) + group + b"\0")
        assert struct.unpack(">h", answer[4 + 1 + 4:][:2]) == (24,), "INVALID_GROUP_ID"


@pytest.mark.parametrize("name", ["t" * 250, "t" * (1 << 20), "é" * 200])
def test_a_long_topic_is_refused_once(client, name):
    """It stood in the outcome of every event: 10,000 of them, and a mebibyte each time."""
    events = [events_pb2.Event() for _ in range(10_000)]
    for call in (
        lambda: client.publisher.PublishBatch(events_pb2.PublishBatchRequest(topic=name, events=events), timeout=60),
        lambda: list(
            client.publisher.PublishStream(
                iter([events_pb2.PublishStreamRequest(number=1, topic=name, events=events)]), timeout=60
            )
        ),
        lambda: client.publisher.Publish(events_pb2.PublishRequest(topic=name, event=events[0]), timeout=60),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call()
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "249" in refused.value.details() and len(refused.value.details()) < 500
    [outcome] = client.publish("hostile-any", events_pb2.Event(topic=name))
    assert outcome.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0] and "249" in outcome.error.message


def test_a_watched_file_may_have_any_time(engine, tmp_path_factory):
    """The kernel keeps what the file system can; the clock of a camera is often wrong."""
    folder = tmp_path_factory.mktemp("watched")
    engine.post("views", {"name": "hostile-view", "path": str(folder)})
    for number, seconds in enumerate([10**10, 2 * 10**10, 1 << 40, -(10**10), -(1 << 40)]):
        path = folder / f"{number}.txt"
        path.write_text("x")
        os.utime(path, (seconds, seconds))
    until(lambda: len(engine.items("views/hostile-view/elements")) == 5, "the files are known", 60)
