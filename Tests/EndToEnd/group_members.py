# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Members of consumer groups with four Kafka clients: each runs by itself and can be asked what it holds."""

import asyncio
import re
import subprocess
import threading

import aiokafka
import confluent_kafka
import kafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor as AIORange
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor as AIORoundRobin
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka_clients import Kcat

HEARTBEAT = 500


class Member:
    """One member on a thread of its own, from the start to `leave`."""

    #: Partitions it has now, and those that were taken from it.
    held: set[int]
    revoked: set[int]

    def __init__(self, place: str, group: str, topic: str, strategy: str = "range", instance: str | None = None, session: int = 10_000) -> None:
        self.place, self.group, self.topic = place, group, topic
        self.strategy, self.instance, self.session = strategy, instance, session
        self.held, self.revoked = set(), set()
        self.values: list[str] = []
        self.ending = threading.Event()
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._guarded, daemon=True)
        self.thread.start()

    def _guarded(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self.failure = error

    def check(self) -> None:
        assert self.failure is None, repr(self.failure)

    def leave(self) -> None:
        self.ending.set()
        self.thread.join(60)
        assert not self.thread.is_alive(), "it does not end"
        self.check()

    def work(self) -> None:
        raise NotImplementedError


class ConfluentMember(Member):
    name = "confluent-kafka"

    def work(self) -> None:
        settings = {
            "bootstrap.servers": self.place, "group.id": self.group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "partition.assignment.strategy": self.strategy, "session.timeout.ms": self.session, "heartbeat.interval.ms": HEARTBEAT,
        }  # fmt: skip
        consumer = confluent_kafka.Consumer(settings | ({"group.instance.id": self.instance} if self.instance else {}))
        consumer.subscribe([self.topic], on_revoke=lambda _, partitions: self.revoked.update(one.partition for one in partitions))
        try:
            while not self.ending.is_set():
                record = consumer.poll(0.1)
                self.held = {one.partition for one in consumer.assignment()}
                if record is not None and not record.error():
                    self.values.append(record.value().decode())
                    consumer.commit(record, asynchronous=False)
        finally:
            consumer.close()


class KafkaPythonMember(Member):
    name = "kafka-python"

    def work(self) -> None:
        assignor = {
            "range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor, "cooperative-sticky": CooperativeStickyAssignor,
        }[self.strategy]  # fmt: skip
        member = self

        class Listener(kafka.ConsumerRebalanceListener):
            def on_partitions_revoked(self, revoked):
                member.revoked.update(one.partition for one in revoked)

            def on_partitions_assigned(self, assigned):
                pass

        consumer = kafka.KafkaConsumer(
            bootstrap_servers=self.place, group_id=self.group, auto_offset_reset="earliest", enable_auto_commit=False,
            partition_assignment_strategy=[assignor], session_timeout_ms=self.session, heartbeat_interval_ms=HEARTBEAT,
            group_instance_id=self.instance,
        )  # fmt: skip
        consumer.subscribe([self.topic], listener=Listener())
        try:
            while not self.ending.is_set():
                found = consumer.poll(timeout_ms=100)
                self.held = {one.partition for one in consumer.assignment()}
                if found:
                    self.values += [record.value.decode() for records in found.values() for record in records]
                    consumer.commit()
        finally:
            consumer.close()


class AIOKafkaMember(Member):
    name = "aiokafka"

    def work(self) -> None:
        asyncio.run(self.run())

    async def run(self) -> None:
        member = self

        class Listener(aiokafka.ConsumerRebalanceListener):
            async def on_partitions_revoked(self, revoked):
                member.revoked.update(one.partition for one in revoked)

            async def on_partitions_assigned(self, assigned):
                pass

        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=self.place, group_id=self.group, auto_offset_reset="earliest", enable_auto_commit=False,
            partition_assignment_strategy=[{"range": AIORange, "roundrobin": AIORoundRobin}[self.strategy]],
            session_timeout_ms=self.session, heartbeat_interval_ms=HEARTBEAT, group_instance_id=self.instance,
        )  # fmt: skip
        consumer.subscribe([self.topic], listener=Listener())
        await consumer.start()
        try:
            while not self.ending.is_set():
                found = await consumer.getmany(timeout_ms=100)
                self.held = {one.partition for one in consumer.assignment()}
                if found:
                    self.values += [record.value.decode() for records in found.values() for record in records]
                    await consumer.commit()
        finally:
            await consumer.stop()


class KcatMember(Member):
    name = "kcat"
    process: subprocess.Popen | None = None

    def work(self) -> None:
        settings = {
            "auto.offset.reset": "earliest", "partition.assignment.strategy": self.strategy, "session.timeout.ms": self.session,
            "heartbeat.interval.ms": HEARTBEAT,
        } | ({"group.instance.id": self.instance} if self.instance else {})  # fmt: skip
        given = [word for name, value in settings.items() for word in ("-X", f"{name}={value}")]
        process = subprocess.Popen(
            [Kcat.program, "-b", self.place, "-G", self.group, "-u", "-f", "%s\n", *given, self.topic],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        reader = threading.Thread(target=lambda: self.values.extend(line.rstrip("\n") for line in process.stdout), daemon=True)
        watcher = threading.Thread(target=self.watch, args=(process.stderr,), daemon=True)
        reader.start()
        watcher.start()
        self.process = process
        self.ending.wait()
        process.terminate()
        process.wait(30)
        watcher.join(30)

    def watch(self, lines) -> None:
        """Follows what kcat says of its partitions."""
        for line in lines:
            parts = {int(number) for number in re.findall(r"\[(\d+)\]", line)}
            if "revoke" in line:
                self.revoked |= parts
                self.held = self.held - parts
            elif "rebalanced" in line:
                self.held = self.held | parts


MEMBERS = [ConfluentMember, KafkaPythonMember, AIOKafkaMember, KcatMember]
