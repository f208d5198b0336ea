# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The HTTP door to topics and groups with curl: what Kafka's clients can do, as far as HTTP has it."""

import contextlib
import json
import subprocess
import threading
import time

import confluent_kafka
import pytest
from harness import until
from kafka_clients import CLIENTS, Confluent, Message, create

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
JSON = ("-H", "Content-Type: application/json")


@pytest.fixture(scope="module")
def engine(shared):
    return shared


def curl(engine, path, *arguments, body=None):
    """The status and the JSON of one request."""
    given = [*JSON, "-d", json.dumps(body)] if body is not None else []
    done = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", *arguments, *given, f"http://127.0.0.1:{engine.port}/api/v1/{path}"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    text, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(text) if text else None


def asked(engine, path, *arguments, body=None):
    """The JSON of a request that must succeed."""
    status, found = curl(engine, path, *arguments, body=body)
    assert status < 300, (status, found)
    return found


def refused(engine, path, *arguments, body=None):
    """The status of a refusal and what it says."""
    status, found = curl(engine, path, *arguments, body=body)
    assert status >= 400 and found["status"] == status and found["detail"], (status, found)
    return status, found["detail"]


def records(engine, topic, query=""):
    return asked(engine, f"topics/{topic}/records{query}")["data"]


def read_all(engine, topic):
    """Every record, page by page."""
    page = asked(engine, f"topics/{topic}/records")
    found = page["data"]
    while not page["at_end"]:
        page = asked(engine, f"topics/{topic}/records?cursor={page['pagination']['next_cursor']}")
        found += page["data"]
    return found


def values(engine, topic, query=""):
    return [record["value"] for record in records(engine, topic, query)]


@contextlib.contextmanager
def following(engine, topic, query=""):
    """Reads server-sent events with `curl -N`: a function that waits for so many, as pairs of id and record."""
    process = subprocess.Popen(
        ["curl", "-sSN", "-H", "Accept: text/event-stream", f"http://127.0.0.1:{engine.port}/api/v1/topics/{topic}/records{query}"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    seen, begun = [], threading.Event()

    def read():
        name = None
        for line in process.stdout:
            begun.set()
            kind, _, text = line.rstrip("\n").partition(": ")
            if kind == "id":
                name = text
            elif kind == "data":
                seen.append((name, json.loads(text)))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()

    def take(count):
        until(lambda: len(seen) >= count, f"{count} events came", 60)
        return seen[:count]

    try:
        assert begun.wait(30), "nothing came"
        yield take
    finally:
        process.kill()
        process.wait()
        thread.join(30)


# Records


@pytest.mark.parametrize("codec", CODECS)
def test_what_kafkas_clients_send_is_read_and_followed(engine, admin, place, codec):
    topic = create(admin, f"curl-{codec}", 2)
    headers = (("kind", b"exr"), ("raw", b"\xff"))
    sent = [Message(f"value {number}".encode() * 20, f"key {number}".encode(), headers, 1_700_000_000_000 + number) for number in range(5)]
    with following(engine, topic) as take:
        Confluent().produce(place, topic, [*sent, Message(None, b"gone"), Message(b"no key")], partition=1, compression=codec)
        followed = [record for _, record in take(7)]
    read = records(engine, topic)
    assert read == followed
    assert [(one["partition"], one["offset"]) for one in read] == [(1, offset) for offset in range(7)]
    assert [(one["key"], one["value"], one["timestamp"]) for one in read[:5]] == [
        (one.key.decode(), one.value.decode(), one.timestamp) for one in sent
    ]
    shown = [{"name": "kind", "value": "exr"}, {"name": "raw", "value_base64": "/w=="}]
    assert all(one["headers"] == shown for one in read[:5])
    assert [(one["key"], one["value"]) for one in read[5:]] == [("gone", None), (None, "no key")]
    assert values(engine, topic, "?partition=1&offset=3&limit=2") == [one.value.decode() for one in sent[3:]]


def test_what_curl_writes_every_client_reads(engine, admin, place):
    topic = create(admin, "curl-written")
    given = [
        {"key": "k", "value": "v", "headers": [{"name": "a", "value": "1"}], "timestamp": 1_700_000_000_123}, {"key": "gone", "value": None},
        {"value": "no key"}, {"key_base64": "/w==", "value_base64": "gIE="},
    ]  # fmt: skip
    answer = asked(engine, f"topics/{topic}/records", body={"records": given})
    assert answer["data"] == [{"partition": 0, "offset": offset} for offset in range(4)]
    for client in CLIENTS:
        first, gone, plain, raw = [one.message for one in client.consume(place, topic, 0, 0, 4)]
        assert first == Message(b"v", b"k", (("a", b"1"),), 1_700_000_000_123), client.name
        assert (gone.key, gone.value) == (b"gone", None) and (plain.key, plain.value) == (None, b"no key"), client.name
        assert (raw.key, raw.value) == (b"\xff", b"\x80\x81"), client.name


def test_a_follower_goes_on_with_the_id_of_what_it_saw(engine, admin, place):
    topic = create(admin, "curl-follow", 3)
    sent = [f"{number}" for number in range(12)]
    for number in sent:
        Confluent().produce(place, topic, [Message(number.encode())], partition=int(number) % 3)
    with following(engine, topic, "?offset=earliest") as take:
        first = take(12)[:5]
    with following(engine, topic, f"?cursor={first[-1][0]}") as take:
        second = take(7)
    assert sorted((record["value"] for _, record in first + second), key=int) == sent


def test_places_beyond_the_end_and_records_that_are_too_large_are_refused(engine, admin):
    topic = create(admin, "curl-bounds", 1, **{"max.message.bytes": "2000"})
    status, said = refused(engine, f"topics/{topic}/records", body={"records": [{"value": "x" * 5000}]})
    assert status == 413 and "5070 bytes" in said and "up to 2000" in said, (status, said)
    asked(engine, f"topics/{topic}/records", body={"records": [{"value": "x" * 1500}]})
    status, said = refused(engine, f"topics/{topic}/records?partition=0&offset=5")
    assert status == 422 and "beyond the end" in said
    assert values(engine, topic, "?partition=0&offset=1") == []


def test_what_a_transaction_took_back_is_neither_read_nor_followed(engine, admin, place):
    topic = create(admin, "curl-transactions")
    producer = confluent_kafka.Producer({"bootstrap.servers": place, "transactional.id": "curl"})
    producer.init_transactions(30)
    with following(engine, topic) as take:
        for number, commits in enumerate((False, True, False, True)):
            producer.begin_transaction()
            producer.produce(topic, f"{number}".encode())
            producer.flush(30)
            # What is open is not to be seen either.
            assert values(engine, topic) == ["1"] * (number > 1)
            (producer.commit_transaction if commits else producer.abort_transaction)(30)
        assert [record["value"] for _, record in take(2)] == ["1", "3"]
    assert values(engine, topic) == ["1", "3"]


def test_records_of_a_compacted_topic(engine):
    topic = "curl-compacted"
    config = {"cleanup.policy": "compact", "segment.bytes": "4096", "min.cleanable.dirty.ratio": "0"}
    asked(engine, "topics", body={"name": topic, "configs": config})
    status, said = refused(engine, f"topics/{topic}/records", body={"records": [{"key": "k", "value": "v"}, {"value": "x"}]})
    assert status in (409, 422) and "compacted" in said
    assert records(engine, topic) == [], "what is refused is refused as a whole"
    for number in range(40):
        asked(engine, f"topics/{topic}/records", body={"records": [{"key": f"key {number % 4}", "value": f"{number} " + "x" * 500}]})
    done = engine.data / "log/topics" / topic / "0/compaction"
    until(done.exists, "it is compacted", 60, every=0.1)
    left = until(lambda: len(found := read_all(engine, topic)) < 40 and found, "old values are gone", 30, every=0.1)
    latest = {record["key"]: record["value"].split()[0] for record in left}
    assert latest == {f"key {number % 4}": f"{number}" for number in range(36, 40)}
    offsets = [record["offset"] for record in left]
    assert offsets == sorted(set(offsets)) and offsets[-1] == 39
    # From inside what is gone as well.
    gone = next(offset for offset in range(40) if offset not in offsets)
    assert records(engine, topic, f"?partition=0&offset={gone}&limit=1")[0]["offset"] == next(one for one in offsets if one > gone)


# Administration


def test_topics(engine, admin, place):
    topic = "curl-topic"
    made = asked(engine, "topics", body={"name": topic, "partitions": 2, "configs": {"retention.ms": "3600000"}})
    assert made["partitions"] == 2 and made["retention_milliseconds"] == 3_600_000 and len(made["kafka_topic_id"]) == 22
    assert refused(engine, "topics", body={"name": topic})[0] == 409
    assert refused(engine, "topics", body={"name": "no topic"})[0] == 422
    described = admin.describe_topics(confluent_kafka.TopicCollection([topic]))[topic].result(30)
    assert str(described.topic_id).replace("+", "-").replace("/", "_") == made["kafka_topic_id"]
    changed = asked(engine, f"topics/{topic}", "-X", "PUT", body={"partitions": 3, "configs": {"segment.bytes": "1048576"}})
    assert changed["partitions"] == 3 and changed["configs"]["segment.bytes"] == "1048576"
    assert len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 3
    assert refused(engine, f"topics/{topic}", "-X", "PUT", body={"partitions": 1})[0] == 422
    settings = {one["name"]: one for one in asked(engine, f"topics/{topic}/settings")["data"]}
    assert settings["segment.bytes"]["value"] == "1048576" and settings["segment.bytes"]["is_set"]
    assert not settings["max.message.bytes"]["is_set"] and settings["max.message.bytes"]["value"] == "1048588"
    asked(engine, f"topics/{topic}", "-X", "PUT", body={"configs": {"segment.bytes": ""}})
    assert not {one["name"]: one for one in asked(engine, f"topics/{topic}/settings")["data"]}["segment.bytes"]["is_set"]
    asked(engine, f"topics/{topic}/records", body={"records": [{"value": f"{number}", "partition": 1} for number in range(10)]})
    curl(engine, f"topics/{topic}/records?partition=1&before=4", "-X", "DELETE")
    assert values(engine, topic, "?partition=1&offset=earliest") == [f"{number}" for number in range(4, 10)]
    assert refused(engine, f"topics/{topic}/records?partition=1&before=11", "-X", "DELETE")[0] == 422
    assert curl(engine, f"topics/{topic}", "-X", "DELETE")[0] in (200, 204)
    assert refused(engine, f"topics/{topic}")[0] == 404 and topic not in admin.list_topics(timeout=10).topics


def test_groups(engine, admin, place):
    topic, group = create(admin, "curl-groups", 2), "curl-group"
    for partition in range(2):
        Confluent().produce(place, topic, [Message(b"x")] * 10, partition=partition)
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False, "client.id": "who"}
    )
    consumer.subscribe([topic])
    until(lambda: (record := consumer.poll(0.2)) and not record.error(), "a member with partitions", 60)
    consumer.commit(offsets=[confluent_kafka.TopicPartition(topic, 0, 4, "a note")], asynchronous=False)
    found = asked(engine, f"groups/{group}")
    assert (found["state"], found["member_count"], found["lag_records"], found["topics"]) == ("Stable", 1, 16, [topic]), found
    assert found["members"][0]["client_id"] == "who" and found["members"][0]["partition_count"] == 2
    stands = {one["partition"]: one for one in found["partitions"]}
    # confluent-kafka sends the zero byte at the end of C's strings as well.
    assert (stands[0]["committed_offset"], stands[0]["lag_records"], stands[0]["metadata"].rstrip("\0")) == (4, 6, "a note"), stands
    assert [one["name"] for one in asked(engine, f"groups?name={group}")["data"]] == [group]
    for path, *words in [(f"groups/{group}",), (f"groups/{group}/reset", {"to": "earliest"})]:
        status, said = refused(engine, path, *(["-X", "DELETE"] if not words else []), body=words[0] if words else None)
        assert status == 409 and "has members" in said
    consumer.close()
    until(lambda: asked(engine, f"groups/{group}")["state"] == "Empty", "the group is left", 60)
    plan = asked(engine, f"groups/{group}/reset?dry_run=true", body={"to": "latest", "topics": [topic]})["data"]
    assert [(one["partition"], one["new_offset"]) for one in plan] == [(0, 10), (1, 10)]
    assert asked(engine, f"groups/{group}")["lag_records"] == 6, "nothing moved yet, and only one partition has an offset"
    moved = asked(engine, f"groups/{group}/reset", body={"offset": 7, "topics": [topic]})["data"]
    assert [(one["partition"], one.get("old_offset"), one["new_offset"]) for one in moved] == [(0, 4, 7), (1, None, 7)]
    assert asked(engine, f"groups/{group}")["lag_records"] == 6
    assert curl(engine, f"groups/{group}", "-X", "DELETE")[0] in (200, 204)
    assert refused(engine, f"groups/{group}")[0] == 404
    assert refused(engine, f"groups/{group}", "-X", "DELETE")[0] == 404


def test_a_group_shares_a_topic_and_its_records_are_taken_over(engine, admin, place):
    """Two readers of a group over HTTP; one goes away with records it did not acknowledge."""
    topic, readers = create(admin, "curl-readers", 4), "groups/curl-sharing/readers"
    sent = [f"{number}" for number in range(40)]
    for partition in range(4):
        Confluent().produce(place, topic, [Message(one.encode()) for one in sent if int(one) % 4 == partition], partition=partition)
    first, second = (asked(engine, readers, body={"topic": topic, "from": "earliest"})["id"] for _ in range(2))

    def ask(reader, acknowledge=None):
        body = {"wait": 500} | ({} if acknowledge is None else {"acknowledge": acknowledge})
        return asked(engine, f"{readers}/{reader}/records", body=body)

    # What the first has is not given to the second, until the first is gone.
    kept = ask(first)
    held = {record["value"] for record in kept["data"]}
    assert held, kept
    seen, acknowledge = [], None
    deadline = time.monotonic() + 60
    while len(seen) < 40:
        answer = ask(second, acknowledge)
        given = [record["value"] for record in answer["data"]]
        seen += given
        acknowledge = answer.get("acknowledge", acknowledge)
        if not given and held:
            assert not held & set(seen)
            assert curl(engine, f"{readers}/{first}", "-X", "DELETE")[0] in (200, 204)
            held = set()
        assert time.monotonic() < deadline, f"{len(seen)} of 40 records came"
    assert sorted(seen, key=int) == sent, "each once"
    assert curl(engine, f"{readers}/{second}?acknowledge={acknowledge}", "-X", "DELETE")[0] in (200, 204)
    until(lambda: asked(engine, "groups/curl-sharing")["lag_records"] == 0, "all is acknowledged", 30)
