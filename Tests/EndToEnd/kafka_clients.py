# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""One way to talk to four Kafka clients: what each sends and reads, in the same form."""

import asyncio
import shutil
import subprocess
from typing import NamedTuple

import aiokafka
import confluent_kafka
import confluent_kafka.admin
import kafka


class Message(NamedTuple):
    """A record as a test sends or sees it."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int | None = None


class Seen(NamedTuple):
    """A record as a client read it."""

    partition: int
    offset: int
    message: Message


def parse(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host, int(port)


class KafkaPython:
    """kafka-python; idempotent unless told otherwise."""

    name = "kafka-python"

    def produce(self, place, topic, messages, partition=None, compression=None, **settings):
        producer = kafka.KafkaProducer(bootstrap_servers=place, compression_type=compression, linger_ms=5, **settings)
        try:
            futures = [
                producer.send(
                    topic, value=one.value, key=one.key, headers=list(one.headers), partition=partition,
                    timestamp_ms=one.timestamp,
                )
                for one in messages
            ]  # fmt: skip
            return [(future.get(30).partition, future.get(30).offset) for future in futures]
        finally:
            producer.close()

    def consume(self, place, topic, partition, offset, count, **settings):
        consumer = kafka.KafkaConsumer(bootstrap_servers=place, **settings)
        try:
            where = kafka.TopicPartition(topic, partition)
            consumer.assign([where])
            consumer.seek(where, offset)
            seen = []
            for _ in range(60):
                for record in consumer.poll(timeout_ms=1000).get(where, []):
                    message = Message(record.value, record.key, tuple(record.headers), record.timestamp)
                    seen.append(Seen(record.partition, record.offset, message))
                if len(seen) >= count:
                    return seen
            raise AssertionError(f"{len(seen)} of {count} records came")
        finally:
            consumer.close()


class Confluent:
    """confluent-kafka, which is librdkafka."""

    name = "confluent-kafka"

    def produce(self, place, topic, messages, partition=None, compression=None, **settings):
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": place, "compression.type": compression or "none", "linger.ms": 5} | settings
        )
        done: list = [None] * len(messages)

        def delivered(number):
            def keep(error, message):
                done[number] = error or (message.partition(), message.offset())

            return keep

        for number, one in enumerate(messages):
            producer.produce(
                topic, value=one.value, key=one.key, headers=list(one.headers),
                partition=-1 if partition is None else partition, timestamp=one.timestamp or 0,
                on_delivery=delivered(number),
            )  # fmt: skip
        assert producer.flush(30) == 0, "not everything was delivered"
        for one in done:
            if not isinstance(one, tuple):
                raise confluent_kafka.KafkaException(one)
        return done

    def consume(self, place, topic, partition, offset, count, **settings):
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": place, "group.id": "unused", "enable.auto.commit": False} | settings
        )
        try:
            consumer.assign([confluent_kafka.TopicPartition(topic, partition, offset)])
            seen = []
            while len(seen) < count:
                record = consumer.poll(30)
                assert record is not None, f"{len(seen)} of {count} records came"
                if record.error():
                    raise confluent_kafka.KafkaException(record.error())
                message = Message(record.value(), record.key(), tuple(record.headers() or ()), record.timestamp()[1])
                seen.append(Seen(record.partition(), record.offset(), message))
            return seen
        finally:
            consumer.close()


class AIOKafka:
    """aiokafka."""

    name = "aiokafka"

    def produce(self, place, topic, messages, partition=None, compression=None, **settings):
        async def run():
            producer = aiokafka.AIOKafkaProducer(
                bootstrap_servers=place, compression_type=compression, linger_ms=5, **({"acks": "all"} | settings)
            )
            await producer.start()
            try:
                futures = [
                    await producer.send(
                        topic, value=one.value, key=one.key, headers=list(one.headers), partition=partition,
                        timestamp_ms=one.timestamp,
                    )
                    for one in messages
                ]  # fmt: skip
                done = [await asyncio.wait_for(future, 30) for future in futures]
                # Without acknowledgements nothing is known of where a record went.
                return [one and (one.partition, one.offset) for one in done]
            finally:
                await producer.stop()

        return asyncio.run(run())

    def consume(self, place, topic, partition, offset, count, **settings):
        async def run():
            consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=place, **settings)
            await consumer.start()
            try:
                where = aiokafka.TopicPartition(topic, partition)
                consumer.assign([where])
                consumer.seek(where, offset)
                seen = []
                while len(seen) < count:
                    record = await asyncio.wait_for(consumer.getone(), 30)
                    message = Message(record.value, record.key, tuple(record.headers), record.timestamp)
                    seen.append(Seen(record.partition, record.offset, message))
                return seen
            finally:
                await consumer.stop()

        return asyncio.run(run())


class Kcat:
    """kcat of Debian: librdkafka 2.0.2."""

    name = "kcat"
    program = shutil.which("kcat")

    def produce(self, place, topic, messages, partition=None, compression=None, **settings):
        assert self.program, "kcat is not installed; run make setup"
        for one in messages:
            given = [word for name, value in one.headers for word in ("-H", f"{name}={value.decode()}")]
            given += ["-p", str(partition)] if partition is not None else []
            given += ["-z", compression] if compression else []
            given += [word for name, value in settings.items() for word in ("-X", f"{name}={value}")]
            key = ["-K", "\x01"] if one.key is not None else []
            null = ["-Z"] if one.value is None else []
            line = (one.key + b"\x01" if one.key is not None else b"") + (one.value or b"")
            done = subprocess.run(
                [self.program, "-b", place, "-P", "-t", topic, "-D", "\x02", *given, *key, *null],
                input=line, capture_output=True, timeout=60,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        return None

    def consume(self, place, topic, partition, offset, count, **settings):
        assert self.program, "kcat is not installed; run make setup"
        given = [word for name, value in settings.items() for word in ("-X", f"{name}={value}")]
        done = subprocess.run(
            [self.program, "-b", place, "-C", "-t", topic, "-p", str(partition), "-o", str(offset), "-c", str(count),
             "-f", "%p\x01%o\x01%T\x01%K\x01%k\x01%S\x01%s\x01%h\x02", *given],
            capture_output=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        seen = []
        for line in done.stdout.split(b"\x02")[:-1]:
            number, where, time, key_size, key, size, value, headers = line.split(b"\x01")
            pairs = tuple(
                (name.decode(), text)
                for name, _, text in (part.partition(b"=") for part in headers.split(b",") if part)
            )
            message = Message(
                value if int(size) >= 0 else None, key if int(key_size) >= 0 else None, pairs, int(time)
            )
            seen.append(Seen(int(number), int(where), message))
        return seen


CLIENTS = [KafkaPython(), Confluent(), AIOKafka(), Kcat()]


def create(admin, name: str, partitions: int = 1, **config) -> str:
    """Makes a topic with settings and returns its name."""
    admin.create_topics([confluent_kafka.admin.NewTopic(name, partitions, config=config)])[name].result(30)
    return name
