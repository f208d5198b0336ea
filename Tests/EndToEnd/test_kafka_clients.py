# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What each Kafka client does with the door beyond sending and reading: acknowledgements, waiting, times, groups, ids."""

import asyncio
import json
import subprocess
import threading
import time

import aiokafka
import confluent_kafka
import kafka
import pytest
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from harness import until
from kafka_clients import CLIENTS, Confluent, Kcat, KafkaPython, Message, create


@pytest.fixture(scope="module")
def engine(shared):
    return shared


# Acknowledgements


def settings_of(client, acks):
    if isinstance(client, KafkaPython):
        return {"acks": acks, "enable_idempotence": False}
    return {"acks": str(acks)} if isinstance(client, (Confluent, Kcat)) else {"acks": acks}


@pytest.mark.parametrize("acks", [0, 1])
@pytest.mark.parametrize("client", CLIENTS, ids=lambda one: one.name)
def test_fewer_acknowledgements_lose_nothing_here(admin, place, client, acks):
    topic = create(admin, f"acks-{acks}-{client.name}")
    sent = [Message(f"{number}".encode()) for number in range(5 if client.name == "kcat" else 200)]
    client.produce(place, topic, sent, partition=0, **settings_of(client, acks))
    seen = Confluent().consume(place, topic, 0, 0, len(sent))
    assert [one.message.value for one in seen] == [one.value for one in sent]


# Waiting and times


def wait_kcat(place, topic, ready):
    reader = subprocess.Popen(
        [Kcat.program, "-b", place, "-C", "-t", topic, "-p", "0", "-o", "end", "-c", "1", "-X", "fetch.wait.max.ms=20000", "-u"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        ready()
        return reader.communicate(timeout=60)[0].strip()
    finally:
        reader.kill()


def wait_kafka_python(place, topic, ready):
    consumer = kafka.KafkaConsumer(bootstrap_servers=place, fetch_max_wait_ms=20_000, fetch_min_bytes=1)
    where = kafka.TopicPartition(topic, 0)
    consumer.assign([where])
    consumer.seek(where, 0)
    assert not consumer.poll(timeout_ms=1000)
    ready()
    found = consumer.poll(timeout_ms=15_000)
    consumer.close()
    return found[where][0].value


def wait_aiokafka(place, topic, ready):
    async def run():
        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=place, fetch_max_wait_ms=20_000)
        await consumer.start()
        try:
            where = aiokafka.TopicPartition(topic, 0)
            consumer.assign([where])
            consumer.seek(where, 0)
            assert not await consumer.getmany(timeout_ms=1000)
            ready()
            return (await asyncio.wait_for(consumer.getone(), 15)).value
        finally:
            await consumer.stop()

    return asyncio.run(run())


@pytest.mark.parametrize("wait", [wait_kcat, wait_kafka_python, wait_aiokafka], ids=lambda one: one.__name__[5:])
def test_a_waiting_fetch_is_woken_by_the_append(admin, place, wait):
    """The fetch may wait for 20 seconds, and the record comes well before."""
    topic = create(admin, f"woken-{wait.__name__}")
    sent = []

    def send():
        def later():
            time.sleep(2 if wait is wait_kcat else 0.5)
            sent.append(time.monotonic())
            Confluent().produce(place, topic, [Message(b"now")], partition=0)

        threading.Thread(target=later).start()

    assert wait(place, topic, send) == b"now"
    assert time.monotonic() - sent[0] < 12


BASE = 1_700_000_000_000
TIMES = ((BASE - 5, 0), (BASE + 41, 5), (BASE + 50, 5), (BASE + 90, 9), (BASE + 91, None))


def at_kcat(place, topic, time):
    done = subprocess.run(
        [Kcat.program, "-b", place, "-Q", "-t", f"{topic}:0:{time}"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    offset = int(done.stdout.rpartition("offset")[2])
    # librdkafka has the end for a time behind the last record.
    return None if offset in (-1, 10) else offset


def at_confluent(place, topic, time):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": "unused"})
    [found] = consumer.offsets_for_times([TopicPartition(topic, 0, time)], timeout=30)
    consumer.close()
    return None if found.offset in (-1, 10) else found.offset


def at_aiokafka(place, topic, time):
    async def run():
        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=place)
        await consumer.start()
        try:
            where = aiokafka.TopicPartition(topic, 0)
            found = (await consumer.offsets_for_times({where: time}))[where]
            return found and found.offset
        finally:
            await consumer.stop()

    return asyncio.run(run())


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("at", [at_kcat, at_confluent, at_aiokafka], ids=lambda one: one.__name__[3:])
def test_offsets_by_time(admin, place, at, codec):
    """Exact inside a batch too, and in front of it and behind."""
    topic = create(admin, f"times-{at.__name__}-{codec}")
    messages = [Message(b"x" * 200, timestamp=BASE + 10 * number) for number in range(10)]
    # Long enough for one batch of all, short enough to be quick.
    Confluent().produce(place, topic, messages, partition=0, compression=codec, **{"linger.ms": 100})
    for asked, wanted in TIMES:
        assert at(place, topic, asked) == wanted, asked


def end_confluent(place, topic, isolation):
    level = IsolationLevel.READ_COMMITTED if isolation == "read_committed" else IsolationLevel.READ_UNCOMMITTED
    client = AdminClient({"bootstrap.servers": place})
    where = TopicPartition(topic, 0)
    return client.list_offsets({where: OffsetSpec.latest()}, isolation_level=level)[where].result(30).offset


def end_kafka_python(place, topic, isolation):
    consumer = kafka.KafkaConsumer(bootstrap_servers=place, isolation_level=isolation)
    try:
        where = kafka.TopicPartition(topic, 0)
        return consumer.end_offsets([where])[where]
    finally:
        consumer.close()


def end_aiokafka(place, topic, isolation):
    async def run():
        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=place, isolation_level=isolation)
        await consumer.start()
        try:
            where = aiokafka.TopicPartition(topic, 0)
            return (await consumer.end_offsets([where]))[where]
        finally:
            await consumer.stop()

    return asyncio.run(run())


@pytest.mark.parametrize("end", [end_confluent, end_kafka_python, end_aiokafka], ids=lambda one: one.__name__[4:])
def test_the_end_is_where_the_first_open_transaction_begins_for_who_reads_what_is_committed(admin, place, end):
    topic = create(admin, f"ends-{end.__name__}")
    Confluent().produce(place, topic, [Message(b"1"), Message(b"2"), Message(b"3")], partition=0)
    producers = []
    for number in range(2):
        producer = confluent_kafka.Producer({"bootstrap.servers": place, "transactional.id": f"{topic}-{number}"})
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce(topic, b"open", partition=0)
        assert producer.flush(30) == 0
        producers.append(producer)
    Confluent().produce(place, topic, [Message(b"behind")], partition=0)
    # Three records, one of each transaction, one behind; each end of a transaction is a marker.
    assert (end(place, topic, "read_committed"), end(place, topic, "read_uncommitted")) == (3, 6)
    producers[0].commit_transaction(30)
    assert (end(place, topic, "read_committed"), end(place, topic, "read_uncommitted")) == (4, 7)
    producers[1].abort_transaction(30)
    assert (end(place, topic, "read_committed"), end(place, topic, "read_uncommitted")) == (8, 8)


# Sizes of answers


def smallest(client):
    """Settings with which a client asks for a byte of a partition, and for its largest answer at least."""
    if client.name in ("confluent-kafka", "kcat"):
        one, many = {"max.partition.fetch.bytes": 1}, {"fetch.min.bytes": 100_000, "fetch.wait.max.ms": 20_000}
    else:
        one, many = {"max_partition_fetch_bytes": 1}, {"fetch_min_bytes": 100_000, "fetch_max_wait_ms": 20_000}
    return one, many


@pytest.mark.parametrize("client", CLIENTS, ids=lambda one: one.name)
def test_the_first_batch_comes_however_little_is_asked_for(admin, place, client):
    topic = create(admin, f"first-batch-{client.name}")
    sent = [Message(f"{number} ".encode() + b"x" * 50_000) for number in range(4)]
    for one in sent:
        Confluent().produce(place, topic, [one], partition=0)
    one, _ = smallest(client)
    seen = client.consume(place, topic, 0, 0, 4, **one)
    assert [one.message.value for one in seen] == [one.value for one in sent]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda one: one.name)
def test_a_fetch_that_wants_more_waits_until_there_is_that_much(admin, place, client):
    """Half of what is wanted does not come before its time; the other half brings both at once."""
    topic = create(admin, f"wanted-{client.name}")
    _, many = smallest(client)
    Confluent().produce(place, topic, [Message(b"a" * 60_000)], partition=0)
    came = []

    def read():
        # One record: it would be there at once if it came alone.
        came.append((client.consume(place, topic, 0, 0, 1, **many), time.monotonic()))

    thread = threading.Thread(target=read, daemon=True)
    began = time.monotonic()
    thread.start()
    thread.join(1.5)
    assert not came, "it waits"
    Confluent().produce(place, topic, [Message(b"b" * 60_000)], partition=0)
    thread.join(60)
    [(seen, when)] = came
    assert seen[0].offset == 0 and when - began < 15, "well before the fetch's own time"


# Places that are not there


def outside_confluent(place, topic, offset):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": "unused", "auto.offset.reset": "error"})
    try:
        consumer.assign([TopicPartition(topic, 0, offset)])
        record = consumer.poll(30)
        return record.error().name() if record.error() else record.offset()
    finally:
        consumer.close()


def outside_aiokafka(place, topic, offset):
    async def run():
        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=place, auto_offset_reset="none")
        await consumer.start()
        try:
            where = aiokafka.TopicPartition(topic, 0)
            consumer.assign([where])
            consumer.seek(where, offset)
            return (await asyncio.wait_for(consumer.getone(), 30)).offset
        except aiokafka.errors.OffsetOutOfRangeError as error:
            return error.args[0]
        finally:
            await consumer.stop()

    return asyncio.run(run())


def outside_kcat(place, topic, offset):
    done = subprocess.run(
        [Kcat.program, "-b", place, "-C", "-t", topic, "-p", "0", "-o", str(offset), "-c", "1", "-f", "%o", "-X", "topic.auto.offset.reset=error"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return int(done.stdout) if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("offset", [1, 9])
@pytest.mark.parametrize("read", [outside_confluent, outside_aiokafka, outside_kcat], ids=lambda one: one.__name__[8:])
def test_an_offset_outside_the_log_is_an_error_and_within_it_a_record(admin, place, read, offset):
    """In front of the start, which was moved, and behind the end."""
    topic = create(admin, f"outside-{read.__name__}-{offset}")
    Confluent().produce(place, topic, [Message(b"x")] * 5, partition=0)
    for future in admin.delete_records([TopicPartition(topic, 0, 3)]).values():
        future.result(30)
    said = read(place, topic, offset)
    # librdkafka has its own code for a reset that it is not to make; it names the broker's as the reason.
    assert said == "_AUTO_OFFSET_RESET" or said == {kafka.TopicPartition(topic, 0): offset} or "out of range" in str(said), said
    assert read(place, topic, 3) == 3


def test_an_idempotent_producer_of_kcat_is_numbered(admin, place):
    topic = create(admin, "kcat-idempotent")
    Kcat().produce(place, topic, [Message(b"1"), Message(b"2")], partition=0, **{"enable.idempotence": "true"})
    client = kafka.KafkaAdminClient(bootstrap_servers=place)
    where = kafka.TopicPartition(topic, 0)
    found = client.describe_producers([where])[where]
    client.close()
    # Each record came from a kcat of its own.
    assert [one.last_sequence for one in getattr(found, "active_producers", found)] == [0, 0]
    assert [one.message.value for one in Confluent().consume(place, topic, 0, 0, 2)] == [b"1", b"2"]


# Groups


def test_kcat_reads_as_a_member_of_a_group(admin, place):
    topic = create(admin, "kcat-group", 3)
    for partition in range(3):
        messages = [Message(f"{partition}-{number}".encode()) for number in range(10)]
        Confluent().produce(place, topic, messages, partition=partition)

    def read(count):
        done = subprocess.run(
            [Kcat.program, "-b", place, "-G", "kcat-readers", "-c", str(count), "-X", "auto.offset.reset=earliest", topic],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert sorted(read(30)) == sorted(f"{partition}-{number}" for partition in range(3) for number in range(10))
    Confluent().produce(place, topic, [Message(b"later")], partition=1)
    assert read(1) == ["later"], "it goes on behind what it committed"


def test_different_clients_in_one_group_share_its_partitions(engine, admin, place):
    """librdkafka, kafka-python and aiokafka agree on an assignor, and every record is processed once."""
    topic, group = create(admin, "mixed", 6), "mixed-group"
    ending = threading.Event()
    seen: dict[str, list[str]] = {"confluent": [], "kafka-python": [], "aiokafka": []}
    held: dict[str, set[int]] = {name: set() for name in seen}
    failures = []

    def with_confluent():
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": place, "group.id": group, "auto.offset.reset": "earliest",
             "enable.auto.commit": False, "partition.assignment.strategy": "roundrobin", "heartbeat.interval.ms": 500}
        )  # fmt: skip
        consumer.subscribe([topic])
        while not ending.is_set():
            record = consumer.poll(0.2)
            held["confluent"] = {one.partition for one in consumer.assignment()}
            if record is not None and not record.error():
                seen["confluent"].append(record.value().decode())
                consumer.commit(record, asynchronous=False)
        consumer.close()

    def with_kafka_python():
        consumer = kafka.KafkaConsumer(
            topic, bootstrap_servers=place, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
            partition_assignment_strategy=[kafka.coordinator.assignors.roundrobin.RoundRobinPartitionAssignor],
            heartbeat_interval_ms=500,
        )  # fmt: skip
        while not ending.is_set():
            found = consumer.poll(timeout_ms=200)
            held["kafka-python"] = {one.partition for one in consumer.assignment()}
            for records in found.values():
                seen["kafka-python"] += [record.value.decode() for record in records]
            if found:
                consumer.commit()
        consumer.close()

    async def read_aiokafka():
        from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

        consumer = aiokafka.AIOKafkaConsumer(
            topic, bootstrap_servers=place, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
            partition_assignment_strategy=[RoundRobinPartitionAssignor], heartbeat_interval_ms=500,
        )  # fmt: skip
        await consumer.start()
        try:
            while not ending.is_set():
                found = await consumer.getmany(timeout_ms=200)
                held["aiokafka"] = {one.partition for one in consumer.assignment()}
                for records in found.values():
                    seen["aiokafka"] += [record.value.decode() for record in records]
                if found:
                    await consumer.commit()
        finally:
            await consumer.stop()

    def watched(work):
        def run():
            try:
                work()
            except Exception as error:
                failures.append(repr(error))

        return threading.Thread(target=run, daemon=True)

    threads = [watched(one) for one in (with_confluent, with_kafka_python, lambda: asyncio.run(read_aiokafka()))]
    for one in threads:
        one.start()
    try:
        until(
            lambda: failures or (all(len(one) == 2 for one in held.values()) and set.union(*held.values()) == set(range(6))),
            "each of the three has two partitions", 90,
        )  # fmt: skip
        assert not failures, failures
        status = engine.get(f"groups/{group}")
        assert status["member_count"] == 3 and status["state"] == "Stable", status
        sent = [f"{partition}-{number}" for partition in range(6) for number in range(50)]
        for partition in range(6):
            part = [Message(one.encode()) for one in sent if one.startswith(f"{partition}-")]
            Confluent().produce(place, topic, part, partition=partition)
        until(lambda: failures or sum(map(len, seen.values())) >= len(sent), "all records are read", 60)
    finally:
        ending.set()
        for one in threads:
            one.join(60)
    assert not failures, failures
    assert sorted(sum(seen.values(), [])) == sorted(sent), "each record once"
    assert [len(one) for one in seen.values()] == [100, 100, 100]


# Topics that go away


def test_a_topic_made_again_is_another_one_to_who_fetches_by_id(admin, place):
    """A consumer that knows the old topic's id finds the new one and goes on."""
    topic = create(admin, "made-again")
    Confluent().produce(place, topic, [Message(b"old 0"), Message(b"old 1")], partition=0)
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": "made-again-group", "auto.offset.reset": "earliest",
         "enable.auto.commit": False, "topic.metadata.refresh.interval.ms": 1000}
    )  # fmt: skip
    consumer.subscribe([topic])
    seen = []

    def read():
        record = consumer.poll(0.2)
        if record is not None and not record.error():
            seen.append(record.value())
        return seen

    until(lambda: len(read()) == 2, "the old topic is read", 60)
    client = kafka.KafkaAdminClient(bootstrap_servers=place)
    [before] = client.describe_topics([topic])
    admin.delete_topics([topic])[topic].result(30)
    create(admin, topic)
    Confluent().produce(place, topic, [Message(b"new 0"), Message(b"new 1"), Message(b"new 2")], partition=0)
    [after] = client.describe_topics([topic])
    client.close()
    assert before["topic_id"] != after["topic_id"]
    until(lambda: {b"new 2"} <= set(read()), "the new topic is read", 90)
    consumer.close()


# Transactions and idempotence of the other clients


def test_a_second_producer_of_an_id_shuts_the_first_out(admin, place):
    topic = create(admin, "fenced-others")

    def with_kafka_python():
        first = kafka.KafkaProducer(bootstrap_servers=place, transactional_id="fenced-1")
        first.init_transactions()
        first.begin_transaction()
        first.send(topic, b"lost").get(30)
        second = kafka.KafkaProducer(bootstrap_servers=place, transactional_id="fenced-1")
        second.init_transactions()
        with pytest.raises(kafka.errors.KafkaError):
            first.commit_transaction()
        second.begin_transaction()
        second.send(topic, b"kafka-python")
        second.commit_transaction()
        first.close(timeout=5)
        second.close()

    async def with_aiokafka():
        first = aiokafka.AIOKafkaProducer(bootstrap_servers=place, transactional_id="fenced-2")
        await first.start()
        await first.begin_transaction()
        await first.send_and_wait(topic, b"lost")
        second = aiokafka.AIOKafkaProducer(bootstrap_servers=place, transactional_id="fenced-2")
        await second.start()
        with pytest.raises(aiokafka.errors.KafkaError):
            await first.commit_transaction()
        async with second.transaction():
            await second.send_and_wait(topic, b"aiokafka")
        await second.stop()
        try:
            await asyncio.wait_for(first.stop(), 10)
        except (aiokafka.errors.KafkaError, TimeoutError):
            pass  # It was shut out and says so once more.

    with_kafka_python()
    asyncio.run(with_aiokafka())
    seen = Confluent().consume(place, topic, 0, 0, 2, **{"isolation.level": "read_committed"})
    assert [one.message.value for one in seen] == [b"kafka-python", b"aiokafka"]


def test_offsets_are_part_of_other_clients_transactions(admin, place):
    source, target = create(admin, "others-from"), create(admin, "others-to")
    Confluent().produce(place, source, [Message(f"{number}".encode()) for number in range(10)], partition=0)

    def committed(group):
        consumer = confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": group})
        [found] = consumer.committed([TopicPartition(source, 0)], 30)
        consumer.close()
        return found.offset

    producer = kafka.KafkaProducer(bootstrap_servers=place, transactional_id="mover-1")
    producer.init_transactions()
    where = kafka.TopicPartition(source, 0)
    for offset, commits in ((4, True), (7, False)):
        producer.begin_transaction()
        producer.send(target, f"kafka-python {offset}".encode())
        producer.send_offsets_to_transaction({where: kafka.OffsetAndMetadata(offset, "", -1)}, "movers-1")
        producer.commit_transaction() if commits else producer.abort_transaction()
    producer.close()
    assert committed("movers-1") == 4

    async def run():
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=place, transactional_id="mover-2")
        await producer.start()
        where = aiokafka.TopicPartition(source, 0)
        for offset, commits in ((5, True), (8, False)):
            await producer.begin_transaction()
            await producer.send_and_wait(target, f"aiokafka {offset}".encode())
            await producer.send_offsets_to_transaction({where: offset}, "movers-2")
            await (producer.commit_transaction() if commits else producer.abort_transaction())
        await producer.stop()

    asyncio.run(run())
    assert committed("movers-2") == 5
    for client in CLIENTS:
        name = "isolation.level" if client.name in ("confluent-kafka", "kcat") else "isolation_level"
        seen = client.consume(place, target, 0, 0, 2, **{name: "read_committed"})
        assert [one.message.value for one in seen] == [b"kafka-python 4", b"aiokafka 5"], client.name


def test_a_transaction_that_others_left_open_is_aborted(admin, place):
    topic = create(admin, "left-by-others")
    producer = kafka.KafkaProducer(bootstrap_servers=place, transactional_id="left-1", transaction_timeout_ms=2000)
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, b"left").get(30)

    async def run():
        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=place, transactional_id="left-2", transaction_timeout_ms=2000, request_timeout_ms=1500
        )
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"left")
        Confluent().produce(place, topic, [Message(b"behind")], partition=0)
        [seen] = await asyncio.to_thread(
            Confluent().consume, place, topic, 0, 0, 1, **{"isolation.level": "read_committed"}
        )
        with pytest.raises(aiokafka.errors.KafkaError):
            await producer.commit_transaction()
        try:
            await asyncio.wait_for(producer.stop(), 10)
        except (aiokafka.errors.KafkaError, TimeoutError):
            pass  # Its transaction is gone and it says so once more.
        return seen.message.value

    assert asyncio.run(run()) == b"behind"
    with pytest.raises(kafka.errors.KafkaError):
        producer.commit_transaction()
    producer.close(timeout=5)


# Retention


def test_retention_by_size_and_time_while_clients_read_and_write(engine, admin, place):
    """Old segments go; whoever reads sees offsets that only grow, and nothing twice; who writes is not disturbed."""
    small = {"segment.bytes": "65536", "retention.bytes": "262144", "retention.ms": "-1"}
    by_size = create(admin, "kept-by-size", **small)
    by_time = create(admin, "kept-by-time", **{"segment.bytes": "65536", "retention.ms": "3000"})
    ending = threading.Event()
    failures = []

    def write():
        producer = confluent_kafka.Producer({"bootstrap.servers": place, "linger.ms": 2})
        number = 0
        failed = []
        while not ending.is_set():
            for topic in (by_size, by_time):
                producer.produce(
                    topic, json.dumps({"n": number, "x": "y" * 900}).encode(), partition=0,
                    on_delivery=lambda error, message: error and failed.append(error),
                )  # fmt: skip
            number += 1
            producer.poll(0)
            time.sleep(0.001)
        assert producer.flush(30) == 0 and not failed, failed

    def read(client_name, topic):
        numbers = []
        if client_name == "kafka-python":
            consumer = kafka.KafkaConsumer(bootstrap_servers=place, auto_offset_reset="earliest")
            consumer.assign([kafka.TopicPartition(topic, 0)])
            while not ending.is_set():
                for records in consumer.poll(timeout_ms=200).values():
                    numbers += [(record.offset, json.loads(record.value)["n"]) for record in records]
        else:
            consumer = confluent_kafka.Consumer(
                {"bootstrap.servers": place, "group.id": "unused", "auto.offset.reset": "earliest"}
            )
            consumer.assign([TopicPartition(topic, 0, 0)])
            while not ending.is_set():
                record = consumer.poll(0.2)
                if record is not None and not record.error():
                    numbers.append((record.offset(), json.loads(record.value())["n"]))
        consumer.close()
        assert numbers and all(offset == number for offset, number in numbers)
        assert [one for one, _ in numbers] == sorted({one for one, _ in numbers})

    def watched(work, *arguments):
        def run():
            try:
                work(*arguments)
            except Exception as error:
                failures.append(repr(error))

        return threading.Thread(target=run, daemon=True)

    threads = [watched(write)]
    threads += [watched(read, client, topic) for client in ("confluent", "kafka-python") for topic in (by_size, by_time)]
    for one in threads:
        one.start()
    consumer = confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": "unused"})

    def start(topic):
        return consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)[0]

    try:
        for topic in (by_size, by_time):
            first = until(lambda: failures or start(topic), f"{topic}: the first segments go", 180, 0.5)
            until(lambda: failures or start(topic) > first, f"{topic}: further ones go", 180, 0.5)
        # Reading what is gone is an error with a way on, and reading from the start works.
        [seen] = Confluent().consume(place, by_size, 0, start(by_size) + 50, 1)
        assert seen.offset >= 50
    finally:
        ending.set()
        for one in threads:
            one.join(60)
        consumer.close()
    assert not failures, failures
    sizes = engine.get(f"topics/{by_size}/partitions")
    assert sizes
