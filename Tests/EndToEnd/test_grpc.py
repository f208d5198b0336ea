# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The gRPC door with Python's grpcio: publishing, subscribing, administration, reflection and health."""

import json
import os
import queue
import random
import subprocess
import threading
import time

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_client import Client, event, events_pb2, record
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from harness import PROGRAM, until
from kafka_clients import Kcat, KafkaPython, Message
from martlet.v1 import groups_pb2, topics_pb2

TOKEN, READ_TOKEN = "a-token-for-these-tests-only", "a-read-token-for-these-tests"


@pytest.fixture(scope="module")
def engine(shared):
    return shared


@pytest.fixture
def topic(client, request):
    """A topic of the test's own, of one partition."""
    return client.topic(request.node.name.split("[")[0].replace("test_", "")[:60] + f"-{random.randrange(1 << 30)}")


def refused(code, call, *arguments, **options) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    assert caught.value.code() == code, caught.value
    return caught.value.details()


def values(deliveries) -> list[bytes]:
    return [one.event.data for one in deliveries]


EARLIEST = events_pb2.Start(earliest=True)


# Publishing


def test_publish_one(client, topic):
    sent = event("1", b"\x00binary", key=b"k", subject="s", time="2026-04-08T15:41:29Z", data_content_type="text/plain",
                 data_schema="http://s", extensions={"more": "x"}, headers=[events_pb2.Header(name="trace", value=b"\xff")])  # fmt: skip
    answer = client.publisher.Publish(events_pb2.PublishRequest(topic=topic, event=sent), timeout=30)
    assert (answer.topic, answer.partition, answer.offset) == (topic, 0, 0)
    (found,) = client.read_all(topic)
    sent.topic, sent.partition = topic, 0
    assert found.event == sent
    assert (found.offset, found.delivery_count) == (0, 1)
    assert abs(found.timestamp_ms / 1000 - time.time()) < 60


def test_publish_batch_reports_every_item(client, topic):
    results = client.publish(
        topic, event("1", b"a"), events_pb2.Event(id="2", data=b"no source"), event("3", b"c", topic="there-is-none"),
        event("4", b"d", partition=7), event("5", b"x" * (2 << 20)), event("6", b"f", time="yesterday"),
        event("7", b"g", extensions={"Bad": "x"}), event("8", b"h", headers=[events_pb2.Header(name="ce_id", value=b"9")]),
        event("9", b"i"), event("10", b"j", topic="__own"), record(b"plain"),
    )  # fmt: skip
    codes = [one.error.code if one.HasField("error") else 0 for one in results]
    assert codes == [0, 3, 5, 3, 8, 3, 3, 3, 0, 7, 0]
    assert "events[1].source" in results[1].error.message and "topics create" in results[2].error.message
    assert [one.offset for one in results if not one.HasField("error")] == [0, 1, 2]
    assert {one.topic for one in results} == {topic, "there-is-none", "__own"}
    assert values(client.read_all(topic)) == [b"a", b"i", b"plain"]


def test_publish_batch_over_partitions_keeps_order(client):
    topic = client.topic("grpc-spread", 5)
    results = client.publish(topic, *(event(str(n), b"%d" % n, key=b"k%d" % (n % 11)) for n in range(1000)))
    places: dict[bytes, int] = {}
    for n, one in enumerate(results):
        assert places.setdefault(b"k%d" % (n % 11), one.partition) == one.partition
    assert len(set(places.values())) > 1
    found: dict[bytes, list[int]] = {}
    for one in client.read_all(topic):
        found.setdefault(one.event.key, []).append(int(one.event.data))
    assert all(order == sorted(order) for order in found.values()) and sum(map(len, found.values())) == 1000


def test_publish_stream_acknowledges_by_number(client, topic):
    def messages():
        for n in range(500):
            yield events_pb2.PublishStreamRequest(
                number=1000 + n, topic=topic if n == 0 else "", events=[event(f"{n}-{i}", b"%d-%d" % (n, i)) for i in range(3)]
            )
        yield events_pb2.PublishStreamRequest(number=7, events=[events_pb2.Event(id="incomplete")])

    acknowledged = {}
    for answer in client.publisher.PublishStream(messages(), timeout=60):
        for one in answer.acknowledgements:
            assert one.number not in acknowledged
            acknowledged[one.number] = one.results
    assert sorted(acknowledged) == [7, *range(1000, 1500)]
    assert acknowledged.pop(7)[0].error.code == 3
    offsets = [one.offset for number in sorted(acknowledged) for one in acknowledged[number]]
    assert offsets == list(range(1500))
    assert values(client.read_all(topic)) == [b"%d-%d" % (n, i) for n in range(500) for i in range(3)]


def test_publish_refusals(client, engine, topic):
    one = client.publisher.Publish
    request = events_pb2.PublishRequest
    assert "topics create" in refused(grpc.StatusCode.NOT_FOUND, one, request(topic="no-such", event=event("1")), timeout=30)
    refused(grpc.StatusCode.INVALID_ARGUMENT, one, request(topic=topic), timeout=30)
    refused(grpc.StatusCode.INVALID_ARGUMENT, one, request(event=event("1")), timeout=30)
    refused(grpc.StatusCode.INVALID_ARGUMENT, one, request(topic=topic, event=events_pb2.Event(id="1")), timeout=30)
    refused(grpc.StatusCode.PERMISSION_DENIED, one, request(topic="__x", event=event("1")), timeout=30)
    large = request(topic=topic, event=event("1", b"x" * (2 << 20)))
    assert "max.message.bytes" in refused(grpc.StatusCode.RESOURCE_EXHAUSTED, one, large, timeout=30)
    many = events_pb2.PublishBatchRequest(topic=topic, events=[event("1")] * 10_001)
    assert "10000" in refused(grpc.StatusCode.RESOURCE_EXHAUSTED, client.publisher.PublishBatch, many, timeout=30)
    huge = events_pb2.PublishBatchRequest(topic=topic, events=[event("1", b"x" * 900_000)] * 40)
    refused(grpc.StatusCode.RESOURCE_EXHAUSTED, client.publisher.PublishBatch, huge, timeout=30)
    raw = client.channel.unary_unary("/martlet.v1.Publisher/PublishBatch")
    for bad in (b"\x0a\xff", b"\x0b", b"\x12\x02\x0a\x7f", b"\x00\x01", b"\xff" * 11, b"\x12\x03\x0a\x01"):
        refused(grpc.StatusCode.INVALID_ARGUMENT, raw, bad, timeout=30)
    assert client.read_all(topic) == []


# Reading without a group


def test_reading_from_positions(client):
    topic = client.topic("grpc-positions", 2)
    for partition in (0, 1):
        client.publish(topic, *(record(b"%d-%d" % (partition, n), partition=partition) for n in range(10)))
    middle = events_pb2.Start(offsets=events_pb2.Offsets(partitions=[events_pb2.PartitionOffset(partition=1, offset=7)]))
    subscription = client.subscribe(topic, start=middle)
    assert values(subscription.take(3)) == [b"1-7", b"1-8", b"1-9"]
    assert subscription.positions == {(topic, 1): 7}
    assert subscription.has_nothing(0.3)
    subscription.cut()
    latest = client.subscribe(topic).begin()
    client.publish(topic, record(b"new", partition=0))
    assert values(latest.take(1)) == [b"new"]
    latest.cut()
    before = max(one.timestamp_ms for one in client.read_all(topic))
    now = events_pb2.Start(timestamp_ms=before + 1)
    client_after = client.subscribe(topic, start=now).begin()
    client.publish(topic, record(b"newer", partition=1))
    assert b"newer" in values(client_after.take(1))
    client_after.cut()
    assert len(client.read_all(topic)) == 22
    unknown = events_pb2.Start(offsets=events_pb2.Offsets(partitions=[events_pb2.PartitionOffset(partition=9, offset=0)]))
    assert client.subscribe(topic, start=unknown).failure().code() == grpc.StatusCode.INVALID_ARGUMENT


def test_key_filter(client, topic):
    client.publish(topic, *(record(b"%d" % n, key=key) for n, key in enumerate([b"a", b"b", b"pre-1", b"pre-2", b"z", None])))
    wanted = events_pb2.KeyFilter(keys=[b"b"], prefixes=[b"pre-"])
    assert values(client.read_all(topic, filter=wanted)) == [b"1", b"2", b"3"]
    subscription = client.subscribe(topic, group="grpc-filtered", start=EARLIEST, filter=wanted, report_commits=True)
    subscription.acknowledge(*subscription.take(3))
    # What is not let through counts as acknowledged.
    until(lambda: subscription.committed.get((topic, 0)) == 6, "all is committed")
    other = client.subscribe(topic, group="grpc-filtered", start=EARLIEST)
    assert other.failure().code() == grpc.StatusCode.FAILED_PRECONDITION
    subscription.end()


def test_reader_sees_no_aborted_transaction(client, engine, topic):
    import confluent_kafka

    place = engine.get("engine")["kafka_address"]
    producer = confluent_kafka.Producer({"bootstrap.servers": place, "transactional.id": "grpc-aborts"})
    producer.init_transactions(30)
    for commits in (False, True, False):
        producer.begin_transaction()
        producer.produce(topic, value=b"kept" if commits else b"aborted")
        producer.flush(30)
        (producer.commit_transaction if commits else producer.abort_transaction)(30)
    assert values(client.read_all(topic)) == [b"kept"]
    subscription = client.subscribe(topic, group="grpc-committed-only", start=EARLIEST)
    assert values(subscription.take(1)) == [b"kept"] and subscription.has_nothing(0.3)
    subscription.cut()


# Reading with a group


def test_group_resumes_after_what_was_acknowledged(client, engine, topic):
    client.publish(topic, *(event(str(n), b"%d" % n) for n in range(10)))
    first = client.subscribe(topic, group="grpc-resume", start=EARLIEST, report_commits=True)
    taken = first.take(10)
    assert [one.delivery_count for one in taken] == [1] * 10
    first.acknowledge(*taken[:4], taken[6])
    until(lambda: first.committed.get((topic, 0)) == 4, "four are committed")
    status = engine.ask("groups", "get", "grpc-resume")
    assert status["lag_records"] == 6 and status["state"] == "Stable"
    first.acknowledge_through(taken[5])
    first.end()
    assert first.error is None and first.committed[topic, 0] == 7
    second = client.subscribe(topic, group="grpc-resume", start=EARLIEST).begin()
    assert second.positions == {(topic, 0): 7}
    assert values(second.take(3)) == [b"7", b"8", b"9"]
    second.cut()


def test_deadline_and_rejection_deliver_again(client, topic):
    client.publish(topic, *(event(str(n), b"%d" % n) for n in range(3)))
    subscription = client.subscribe(topic, group="grpc-again", start=EARLIEST, acknowledge_within_ms=1000)
    first, second, third = subscription.take(3)
    subscription.acknowledge(first)
    subscription.reject(second)
    again = subscription.take(1)[0]
    assert (again.offset, again.delivery_count) == (1, 2) and again.id > third.id
    subscription.extend(again, milliseconds=20_000)
    late = subscription.take(1)[0]
    assert (late.offset, late.delivery_count) == (2, 2)
    began = time.monotonic()
    subscription.reject(late, delay_ms=700)
    later = subscription.take(1)[0]
    assert (later.offset, later.delivery_count) == (2, 3) and time.monotonic() - began > 0.6
    subscription.acknowledge(again, later)
    assert subscription.has_nothing(1.5)
    subscription.end()


def test_in_flight_is_bounded(client, topic):
    client.publish(topic, *(event(str(n), bytes(1000)) for n in range(100)))
    subscription = client.subscribe(topic, group="grpc-bounded", start=EARLIEST, in_flight_max=10)
    taken = subscription.take(10)
    assert subscription.has_nothing(0.3)
    subscription.acknowledge(*taken[:3])
    assert len(subscription.take(3)) == 3 and subscription.has_nothing(0.3)
    subscription.end()
    small = client.subscribe(topic, group="grpc-bounded-bytes", start=EARLIEST, in_flight_bytes_max=5000)
    assert 2 <= len([small.take(1) for _ in range(3)]) and small.has_nothing(0.3)
    small.end()


def test_partitions_are_shared_and_a_dead_subscribers_messages_go_to_others(client):
    topic = client.topic("grpc-shared", 4)
    clients = [client.subscribe(topic, group="grpc-share", start=EARLIEST) for _ in range(2)]
    for one in clients:
        one.begin()
    client.publish(topic, *(record(b"%d" % n, partition=n % 4) for n in range(40)))
    taken = [one.take(20) for one in clients]
    parts = [{one.event.partition for one in some} for some in taken]
    assert [len(part) for part in parts] == [2, 2] and parts[0] | parts[1] == {0, 1, 2, 3}
    clients[1].acknowledge(*taken[1])
    clients[0].cut()
    again = clients[1].take(20)
    assert sorted(values(again)) == sorted(values(taken[0])) and {one.delivery_count for one in again} == {2}
    clients[1].acknowledge(*again)
    clients[1].end()


def test_one_partition_is_shared_by_key(client, topic):
    subscribers = [client.subscribe(topic, group="grpc-keys", start=EARLIEST).begin() for _ in range(3)]
    client.publish(topic, *(record(b"%d" % n, key=b"k%d" % (n % 6)) for n in range(60)))
    seen: dict[bytes, set[int]] = {}
    total = 0
    deadline = time.monotonic() + 30
    while total < 60 and time.monotonic() < deadline:
        for number, one in enumerate(subscribers):
            while not one.deliveries.empty():
                delivery = one.deliveries.get()
                seen.setdefault(delivery.event.key, set()).add(number)
                total += 1
        time.sleep(0.01)
    assert total == 60 and all(len(who) == 1 for who in seen.values())
    assert len(set.union(*seen.values())) == 3
    for one in subscribers:
        one.cut()


def test_groups_of_kafka_and_of_subscribers_exclude_each_other(client, engine, topic):
    import confluent_kafka

    client.publish(topic, record(b"1"))
    place = engine.get("engine")["kafka_address"]
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": "grpc-kafka-has-it", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    until(lambda: consumer.poll(0.1), "Kafka's consumer reads")
    taken = client.subscribe(topic, group="grpc-kafka-has-it").failure()
    assert taken.code() == grpc.StatusCode.FAILED_PRECONDITION and "Kafka" in taken.details()
    consumer.close()
    # The offsets are the group's own, whoever reads for it.
    after = client.subscribe(topic, group="grpc-kafka-has-it", start=EARLIEST).begin()
    assert after.positions == {(topic, 0): 1}
    after.end()


def test_subscribe_refusals(client, topic):
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    for fields, code in [
        ({"topics": []}, invalid), ({"topics": ["no-such-topic"]}, grpc.StatusCode.NOT_FOUND),
        ({"topics": ["no-such-topic"], "group": "g"}, grpc.StatusCode.NOT_FOUND),
        ({"topics": ["__own"]}, grpc.StatusCode.PERMISSION_DENIED),
        ({"topics": [topic], "group": "__own"}, grpc.StatusCode.PERMISSION_DENIED),
        ({"topics": [topic], "group": "a\nb"}, invalid),
        ({"topics": [topic], "group": "g", "in_flight_max": 10_001}, invalid),
        ({"topics": [topic], "group": "g", "acknowledge_within_ms": 10}, invalid),
        ({"topics": [topic], "group": "g", "stop_at_end": True}, invalid),
        ({"topics": [topic], "filter": events_pb2.KeyFilter()}, invalid),
    ]:  # fmt: skip
        names = fields.pop("topics")
        error = client.subscribe(names, **fields).failure()
        assert error.code() == code, (fields, error)
    subscribe = client.subscriber.Subscribe
    for messages in ([], [events_pb2.SubscribeRequest()], [events_pb2.SubscribeRequest(acknowledge=events_pb2.Acknowledge(ids=[1]))]):
        refused(invalid, list, subscribe(iter(messages), timeout=30))
    plain = client.subscribe(topic).begin()
    plain.send(acknowledge=events_pb2.Acknowledge(ids=[1]))
    assert plain.failure().code() == invalid
    twice = client.subscribe(topic, group="grpc-twice").begin()
    twice.send(open=events_pb2.Open(topics=[topic]))
    assert twice.failure().code() == invalid


# All doors


def test_published_over_grpc_is_read_by_kcat_with_ce_headers(client, engine, topic):
    client.publish(topic, event("e-1", b'{"a":1}', key=b"key", data_content_type="application/json", extensions={"x": "y"}))
    (seen,) = Kcat().consume(engine.get("engine")["kafka_address"], topic, 0, 0, 1)
    headers = dict(seen.message.headers)
    assert headers == {
        "ce_specversion": b"1.0", "ce_id": b"e-1", "ce_source": b"/tests", "ce_type": b"tests:Thing.Happened", "ce_x": b"y",
        "content-type": b"application/json",
    }  # fmt: skip
    assert seen.message.value == b'{"a":1}' and seen.message.key == b"key"


CE_HEADERS = {
    "ce_specversion": "1.0", "ce_id": "e-1", "ce_source": "/tests", "ce_type": "tests:Thing.Happened", "ce_subject": "s", "ce_x": "y",
    "content-type": "application/json",
}  # fmt: skip


def test_published_over_grpc_is_read_and_followed_over_http_and_on_the_command_line(client, engine, topic):
    path = f"http://127.0.0.1:{engine.port}/api/v1/topics/{topic}/records"
    environment = engine.environment | {"MARTLET_SERVER": f"http://127.0.0.1:{engine.port}"}
    followers = [
        subprocess.Popen(["curl", "-sSN", "-H", "Accept: text/event-stream", path], stdout=subprocess.PIPE, text=True),
        subprocess.Popen([PROGRAM, "topics", "tail", topic, "-o", "json"], stdout=subprocess.PIPE, text=True, env=environment),
    ]
    try:
        # The stream begins with a place; the other one has begun when it shows what was there.
        assert followers[0].stdout.readline()
        client.publish(topic, record(b"first"))
        assert json.loads(followers[1].stdout.readline())["value"] == "first"
        sent = event("e-1", b'{"a":1}', key=b"key", subject="s", data_content_type="application/json", extensions={"x": "y"},
                     headers=[events_pb2.Header(name="own", value=b"\xff")])  # fmt: skip
        client.publish(topic, sent, record(b"\x80", key=b"\xff"))
        events = (json.loads(line.removeprefix("data: ")) for line in followers[0].stdout if line.startswith("data: "))
        assert next(events)["value"] == "first"
        shown = [[next(events), next(events)], [json.loads(followers[1].stdout.readline()) for _ in range(2)]]
    finally:
        for one in followers:
            one.kill()
            one.wait()
    shown.append(engine.get(f"topics/{topic}/records?offset=1")["data"])
    shown.append([json.loads(line) for line in engine.cli("topics", "consume", topic, "-e", "-o", "json").splitlines()[1:]])
    for found, raw in shown:
        assert (found["offset"], found["key"], found["value"]) == (1, "key", '{"a":1}')
        headers = {one["name"]: one.get("value", one.get("value_base64")) for one in found["headers"]}
        assert headers == CE_HEADERS | {"own": "/w=="}
        assert (raw["offset"], raw["key_base64"], raw["value_base64"]) == (2, "/w==", "gA==")


def test_written_over_http_and_on_the_command_line_is_read_over_grpc(client, engine, topic):
    """Records, with headers that make an event of one, and events of the command line."""
    headers = [{"name": name, "value": value} for name, value in CE_HEADERS.items()]
    records = [{"key": "key", "value": '{"a":1}', "headers": headers}, {"key_base64": "/w==", "value_base64": "gA=="}, {"key": "gone", "value": None}]
    engine.post(f"topics/{topic}/records", {"records": records})
    engine.cli("topics", "produce", topic, "-K", ":", input="k:line\n")
    line = {"id": "c-1", "source": "/cli", "type": "example.com:T", "data": {"b": 2}, "more": "m"}
    engine.cli("topics", "produce", topic, "--cloudevents", input=json.dumps(line) + "\n")
    one, raw, gone, plain, told = [delivery.event for delivery in client.read_all(topic)]
    assert (one.id, one.source, one.type, one.subject, one.data_content_type) == ("e-1", "/tests", "tests:Thing.Happened", "s", "application/json")
    assert (one.key, one.data, dict(one.extensions), list(one.headers)) == (b"key", b'{"a":1}', {"x": "y"}, [])
    assert (raw.key, raw.data, raw.id) == (b"\xff", b"\x80", "") and gone.key == b"gone" and not gone.HasField("data")
    assert (plain.key, plain.data) == (b"k", b"line")
    assert (told.id, told.source, told.type, dict(told.extensions), json.loads(told.data)) == ("c-1", "/cli", "example.com:T", {"more": "m"}, {"b": 2})


def test_a_compacted_topic_over_grpc(client, engine):
    config = {"cleanup.policy": "compact", "segment.bytes": "4096", "min.cleanable.dirty.ratio": "0"}
    topic = client.topic("grpc-compacted", configs=config)
    keyed, without = client.publish(topic, record(b"1", key=b"k"), record(b"2"))
    assert not keyed.HasField("error") and "compacted" in without.error.message and without.error.code == 3, without
    for number in range(40):
        client.publish(topic, record(b"%d " % number + b"x" * 500, key=b"key %d" % (number % 4)))
    until((engine.data / "log/topics" / topic / "0/compaction").exists, "it is compacted", 60, every=0.1)
    left = until(lambda: len(found := client.read_all(topic)) < 41 and found, "old values are gone", 30, every=0.1)
    latest = {one.event.key: one.event.data.split()[0] for one in left}
    assert latest == {b"k": b"1"} | {b"key %d" % (number % 4): b"%d" % number for number in range(36, 40)}
    offsets = [one.offset for one in left]
    assert offsets == sorted(set(offsets)) and offsets[-1] == 40


@pytest.mark.parametrize(("offset", "begins"), [(1, 3), (9, 5)])
def test_a_place_outside_the_log_over_grpc(client, engine, topic, offset, begins):
    """In front of the start, which was moved, and behind the end: reading begins at what there is, and says where."""
    client.publish(topic, *(record(b"%d" % number) for number in range(5)))
    engine.cli("topics", "delete-records", topic, "--partition", "0", "--before", "3", "--force")
    place = events_pb2.PartitionOffset(partition=0, offset=offset)
    subscription = client.subscribe(topic, start=events_pb2.Start(offsets=events_pb2.Offsets(partitions=[place]))).begin()
    assert subscription.positions == {(topic, 0): begins}
    client.publish(topic, record(b"5"))
    assert [one.offset for one in subscription.take(6 - begins)] == list(range(begins, 6))
    subscription.cut()


def test_produced_over_kafka_and_http_is_read_over_grpc(client, engine, topic):
    place = engine.get("engine")["kafka_address"]
    headers = (("ce_id", b"k-1"), ("ce_source", b"/kafka"), ("ce_type", b"t"), ("ce_specversion", b"1.0"), ("ce_more", b"m"), ("own", b"\xfe"))
    KafkaPython().produce(place, topic, [Message(b"v", b"k", headers), Message(None, b"gone"), Message(b"plain")], compression="gzip")
    body = json.dumps([{"specversion": "1.0", "id": "h-1", "source": "/http", "type": "t", "data": {"a": 1}}]).encode()
    sent = engine.http("POST", f"/api/v1/topics/{topic}/events", body, {"Content-Type": "application/cloudevents-batch+json"})
    assert sent.status == 202
    structured = json.dumps({"specversion": "1.0", "id": "s-1", "source": "/s", "type": "t", "data": "text"}).encode()
    KafkaPython().produce(place, topic, [Message(structured, None, (("content-type", b"application/cloudevents+json"),))])
    one, gone, plain, http, whole = [delivery.event for delivery in client.read_all(topic)]
    assert (one.id, one.source, one.type, dict(one.extensions)) == ("k-1", "/kafka", "t", {"more": "m"})
    assert [(h.name, h.value) for h in one.headers] == [("own", b"\xfe")]
    assert not gone.HasField("data") and gone.key == b"gone" and plain.data == b"plain" and not plain.id
    assert http.id == "h-1" and json.loads(http.data) == {"a": 1}
    assert (whole.id, whole.data) == ("s-1", b'"text"')


# Administration


def test_topics(client, engine):
    made = client.topics.CreateTopic(
        topics_pb2.CreateTopicRequest(
            name="grpc-admin", description="d", tags=["a"], partitions=3, retention_ms=3_600_000, configs={"max.message.bytes": "5000"}
        )
    )
    assert (made.name, made.partitions, made.retention_ms, made.retention_bytes) == ("grpc-admin", 3, 3_600_000, -1)
    assert made.configs["max.message.bytes"] == "5000" and [one.partition for one in made.partition_status] == [0, 1, 2]
    assert engine.get("topics/grpc-admin")["partitions"] == 3
    code = grpc.StatusCode
    refused(code.ALREADY_EXISTS, client.topic, "grpc-admin")
    refused(code.INVALID_ARGUMENT, client.topic, "bad name")
    refused(code.INVALID_ARGUMENT, client.topic, "grpc-bad", configs={"no.such": "1"})
    refused(code.NOT_FOUND, client.topics.GetTopic, topics_pb2.GetTopicRequest(name="grpc-bad"))
    client.topic("grpc-dry", dry_run=True)
    refused(code.NOT_FOUND, client.topics.GetTopic, topics_pb2.GetTopicRequest(name="grpc-dry"))
    changed = client.topics.UpdateTopic(
        topics_pb2.UpdateTopicRequest(name="grpc-admin", partitions=5, description="", configs={"segment.bytes": "1048576"})
    )
    assert changed.partitions == 5 and changed.description == "" and len(changed.partition_status) == 5
    assert (changed.configs["max.message.bytes"], changed.configs["segment.bytes"]) == ("5000", "1048576")
    refused(code.INVALID_ARGUMENT, client.topics.UpdateTopic, topics_pb2.UpdateTopicRequest(name="grpc-admin", partitions=1))
    names, token = [], ""
    while True:
        page = client.topics.ListTopics(topics_pb2.ListTopicsRequest(page_size=1, page_token=token, name_contains="grpc-admin"))
        names += [one.name for one in page.topics]
        token = page.next_page_token
        if not token:
            break
    assert names == ["grpc-admin"]
    client.topics.DeleteTopic(topics_pb2.DeleteTopicRequest(name="grpc-admin"))
    refused(code.NOT_FOUND, client.topics.DeleteTopic, topics_pb2.DeleteTopicRequest(name="grpc-admin"))
    refused(code.INVALID_ARGUMENT, client.topics.GetTopic, topics_pb2.GetTopicRequest())


def test_groups(client, topic):
    client.publish(topic, *(record(b"%d" % n) for n in range(10)))
    subscription = client.subscribe(topic, group="grpc-admin-group", start=EARLIEST, report_commits=True)
    subscription.acknowledge(*subscription.take(10)[:4])
    until(lambda: subscription.committed.get((topic, 0)) == 4, "four are committed")
    name = groups_pb2.GetGroupRequest(name="grpc-admin-group")
    group = client.groups.GetGroup(name)
    assert group.member_count == 1 and group.members[0].partition_count == 1 and group.lag_records == 6
    assert (group.partitions[0].committed_offset, group.partitions[0].end_offset) == (4, 10)
    assert "grpc-admin-group" in [one.name for one in client.groups.ListGroups(groups_pb2.ListGroupsRequest()).groups]
    code = grpc.StatusCode
    reset = groups_pb2.ResetGroupRequest
    refused(code.FAILED_PRECONDITION, client.groups.ResetGroup, reset(name="grpc-admin-group", earliest=True))
    subscription.end()
    until(lambda: client.groups.GetGroup(name).member_count == 0, "the group is left")
    refused(code.INVALID_ARGUMENT, client.groups.ResetGroup, reset(name="grpc-admin-group"))
    (moved,) = client.groups.ResetGroup(reset(name="grpc-admin-group", by=-3)).partitions
    assert (moved.old_offset, moved.new_offset) == (4, 1)
    assert client.groups.ResetGroup(reset(name="grpc-admin-group", latest=True, dry_run=True)).partitions[0].new_offset == 10
    assert client.groups.GetGroup(name).partitions[0].committed_offset == 1
    client.groups.DeleteGroup(groups_pb2.DeleteGroupRequest(name="grpc-admin-group"))
    refused(code.NOT_FOUND, client.groups.GetGroup, name)


def test_reflection_lists_and_describes_everything(client):
    database = ProtoReflectionDescriptorDatabase(client.channel)
    services = set(database.get_services())
    assert {"martlet.v1.Publisher", "martlet.v1.Subscriber", "martlet.v1.Topics", "martlet.v1.Groups", "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"} <= services  # fmt: skip
    pool = descriptor_pool.DescriptorPool(database)
    for name in services:
        service = pool.FindServiceByName(name)
        assert service.methods
        for method in service.methods:
            assert method.input_type.full_name and method.output_type.full_name
    assert [field.name for field in pool.FindMessageTypeByName("martlet.v1.PublishRequest").fields] == ["topic", "event"]
    # Version 1 of the service has the same messages.
    call = client.channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="martlet.v1.Publisher.PublishStream"),
        reflection_pb2.ServerReflectionRequest(file_by_filename="nothing.proto"),
    ]
    listed, described, unknown = call(iter(requests), timeout=30)
    assert {one.name for one in listed.list_services_response.service} == services
    assert described.file_descriptor_response.file_descriptor_proto
    assert unknown.error_response.error_code == 5


def test_health(client):
    stub = health_pb2_grpc.HealthStub(client.channel)
    for service in ("", "martlet.v1.Publisher", "martlet.v1.Subscriber"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30).status == 1
    refused(grpc.StatusCode.NOT_FOUND, stub.Check, health_pb2.HealthCheckRequest(service="no.such"), timeout=30)


def test_tokens(make_engine):
    engine = make_engine(settings={"MARTLET_TOKEN": TOKEN, "MARTLET_READ_TOKEN": READ_TOKEN})
    engine.start()
    owner, reader, nobody, wrong = Client(engine, TOKEN), Client(engine, READ_TOKEN), Client(engine), Client(engine, "wrong")
    owner.topic("t")
    owner.publish("t", record(b"1"))
    for one in (nobody, wrong):
        refused(grpc.StatusCode.UNAUTHENTICATED, one.publish, "t", record(b"2"))
        refused(grpc.StatusCode.UNAUTHENTICATED, one.read_all, "t")
    assert values(reader.read_all("t")) == [b"1"]
    assert [one.name for one in reader.topics.ListTopics(topics_pb2.ListTopicsRequest(name_contains="t")).topics]
    denied = grpc.StatusCode.PERMISSION_DENIED
    refused(denied, reader.publish, "t", record(b"2"))
    refused(denied, reader.topic, "t2")
    assert reader.subscribe("t", group="g").failure().code() == denied
    assert values(owner.read_all("t")) == [b"1"]


# Failures


def test_kill_of_the_engine_loses_nothing(make_engine):
    """Publishers and subscribers go on over several kills: what was acknowledged is there, and every event is delivered."""
    seed = int(os.environ.get("MARTLET_TEST_SEED") or random.randrange(1 << 30))
    print(f"MARTLET_TEST_SEED={seed}")
    chance = random.Random(seed)
    engine = make_engine()
    engine.start()
    client = Client(engine)
    topic = client.topic("kills", 3)
    published: set[bytes] = set()
    processed: set[bytes] = set()
    committed: dict[int, int] = {}
    faults: list[str] = []

    def watched(work, *arguments) -> threading.Thread:
        """A thread whose failure is the test's."""

        def run() -> None:
            try:
                work(*arguments)
            except Exception as error:
                faults.append(f"{work.__name__}: {error!r}")

        return threading.Thread(target=run)

    for round in range(6):
        stop = threading.Event()
        client = Client(engine)
        lock = threading.Lock()

        def publish(prefix: str, client=client, stop=stop) -> None:
            def messages():
                n = 0
                while not stop.is_set():
                    n += 1
                    time.sleep(0.002)
                    sent[n] = [b"%s-%d-%d" % (prefix.encode(), n, i) for i in range(5)]
                    yield events_pb2.PublishStreamRequest(
                        number=n, topic=topic, events=[event(data.decode(), data, key=data[-1:]) for data in sent[n]]
                    )

            sent: dict[int, list[bytes]] = {}
            try:
                for answer in client.publisher.PublishStream(messages()):
                    with lock:
                        for one in answer.acknowledgements:
                            for data, result in zip(sent.pop(one.number), one.results, strict=True):
                                if not result.HasField("error"):
                                    published.add(data)
            except grpc.RpcError:
                pass

        def consume(client=client, stop=stop) -> None:
            with lock:
                told = dict(committed)
            try:
                subscription = client.subscribe(topic, group="survivors", start=EARLIEST, report_commits=True).begin()
            except grpc.RpcError:
                return
            for (_, partition), offset in subscription.positions.items():
                # The group is never behind what it was told is on disk.
                assert offset >= told.get(partition, 0), f"partition {partition} begins at {offset}, and {told[partition]} was committed"
            while not stop.is_set() and subscription.error is None:
                try:
                    delivery = subscription.deliveries.get(timeout=0.05)
                except queue.Empty:
                    continue
                with lock:
                    processed.add(delivery.event.data)
                    subscription.acknowledge(delivery)
                    for (_, partition), offset in list(subscription.committed.items()):
                        committed[partition] = max(committed.get(partition, 0), offset)
            subscription.cut()

        threads = [watched(publish, f"{round}{n}") for n in "ab"] + [watched(consume) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.4 + chance.random())
        engine.kill()
        stop.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert not faults, f"seed {seed}: {faults}"
        client.close()
        engine.start()
        client = Client(engine)
        for partition in client.groups.GetGroup(groups_pb2.GetGroupRequest(name="survivors")).partitions:
            if partition.HasField("committed_offset"):
                assert partition.committed_offset >= committed.get(partition.partition, 0), f"seed {seed}"
        stored = values(client.read_all(topic))
        assert published <= set(stored), f"seed {seed}: acknowledged events are missing"
        assert len(stored) == len(set(stored)), f"seed {seed}: events are there twice"
        client.close()
    assert len(published) > 100 and sum(committed.values()) > 100, "there was no load"
    client = Client(engine)
    everything = set(values(client.read_all(topic)))
    last = client.subscribe(topic, group="survivors", start=EARLIEST, in_flight_max=10_000, report_commits=True).begin()
    deadline = time.monotonic() + 60
    while processed != everything and time.monotonic() < deadline:
        for delivery in last.take(1):
            processed.add(delivery.event.data)
            last.acknowledge(delivery)
    assert processed == everything, f"seed {seed}: events were committed that nobody had"
    last.end()
