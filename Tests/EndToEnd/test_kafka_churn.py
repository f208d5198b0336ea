# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Consumer groups whose members keep arriving and vanishing: those that stay must get on."""

import asyncio
import contextlib
import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter

import aiokafka
import aiokafka.coordinator.assignors.range
import aiokafka.errors
import confluent_kafka
import kafka
import kafka.errors
import pytest
from confluent_kafka.admin import NewTopic
from harness import until
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka_wire import InBackground

# How long the storm lasts, and the longest time in it that may pass without a record.
SECONDS = float(os.environ.get("MARTLET_STORM_SECONDS") or 60)
PAUSE_MAX = 30

# A consumer that dies a second after it began, without a word to anybody.
CRASHING = """
import os, sys, time
import confluent_kafka
consumer = confluent_kafka.Consumer({
    "bootstrap.servers": sys.argv[1], "group.id": sys.argv[2], "session.timeout.ms": 6000, "log_level": 0,
    "enable.auto.commit": False, "partition.assignment.strategy": sys.argv[4],
})
consumer.subscribe([sys.argv[3]])
end = time.monotonic() + 1
while time.monotonic() < end:
    consumer.poll(0.1)
os._exit(9)
"""


@pytest.fixture(scope="module")
def engine(shared):
    return shared


class Publisher(InBackground):
    """Sends a numbered record to each partition in turn until told to stop."""

    def __init__(self, place, topic, partitions, pause):
        self.sent: set[str] = set()
        self.producer = confluent_kafka.Producer({"bootstrap.servers": place, "linger.ms": 5})

        def send():
            value = f"{len(self.sent)}"
            self.producer.produce(topic, value.encode(), partition=len(self.sent) % partitions)
            self.sent.add(value)
            self.producer.poll(0)
            time.sleep(pause)

        super().__init__(send)

    def finish(self, seconds: float = 30) -> None:
        super().finish(seconds)
        assert self.producer.flush(30) == 0, "not everything was delivered"


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_a_crash_loop_leaves_the_others_their_turns(engine, admin, place, strategy):
    topic, group, partitions = f"crash-loop-{strategy}", f"crash-loop-{strategy}-group", 4
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(30)
    seen: set[str] = set()
    # Records by the generation in which they came.
    turns: Counter[int] = Counter()
    generation = 0
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": group, "auto.offset.reset": "earliest", "session.timeout.ms": 6000,
         "heartbeat.interval.ms": 300, "partition.assignment.strategy": strategy, "enable.auto.commit": False}
    )  # fmt: skip
    consumer.subscribe([topic])

    def steady():
        record = consumer.poll(0.2)
        if record is None or record.error():
            return
        seen.add(record.value().decode())
        consumer.commit(record, asynchronous=True)
        turns[generation] += 1

    def look():
        nonlocal generation
        generation = engine.get(f"groups/{group}")["generation"]
        time.sleep(0.1)

    def crash():
        arguments = [place, group, topic, strategy]
        subprocess.run([sys.executable, "-c", CRASHING, *arguments], timeout=60, stderr=subprocess.DEVNULL)
        time.sleep(0.5)

    publisher = Publisher(place, topic, partitions, 0.02)
    reader, watcher, crasher = InBackground(steady), InBackground(look), InBackground(crash)
    publisher.start()
    reader.start()
    until(lambda: seen, "the consumer works", 60)
    watcher.start()
    crasher.start()
    until(lambda: crasher.rounds >= 2, "the loop goes round", 60)
    turns.clear()
    # A member that died with an assignment is missed for its session of six seconds, then it is the others' turn.
    until(lambda: len(turns) >= 4, "the consumer has its turns beside a crash loop", 120)
    publisher.finish()
    crasher.finish(60)
    until(lambda: publisher.sent <= seen, "every record was processed by the consumer that stayed", 60)
    watcher.finish()
    reader.finish()
    consumer.close()
    print(f"{len(seen)} records, {crasher.rounds} crashes, turns {dict(turns)}")


class ConfluentMember:
    """A member of a group with librdkafka."""

    def __init__(self, place, topic, group, strategy):
        self.consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": place, "group.id": group, "auto.offset.reset": "earliest", "log_level": 0, "enable.auto.commit": False,
             "session.timeout.ms": 6000, "heartbeat.interval.ms": 300, "partition.assignment.strategy": strategy}
        )  # fmt: skip
        self.consumer.subscribe([topic])

    def take(self) -> str | None:
        self.record = self.consumer.poll(0.2)
        return None if self.record is None or self.record.error() else self.record.value().decode()

    def commit(self) -> None:
        with contextlib.suppress(confluent_kafka.KafkaException):  # A rebalance: whoever has the partition now reads the record again.
            self.consumer.commit(self.record, asynchronous=False)

    def close(self) -> None:
        self.consumer.close()


class KafkaPythonMember:
    """A member of a group with kafka-python."""

    def __init__(self, place, topic, group, strategy):
        self.consumer = kafka.KafkaConsumer(
            topic, bootstrap_servers=place, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, session_timeout_ms=6000,
            heartbeat_interval_ms=300, partition_assignment_strategy=[ASSIGNORS[strategy]],
        )  # fmt: skip

    def take(self) -> str | None:
        for (record,) in self.consumer.poll(timeout_ms=200, max_records=1).values():
            return record.value.decode()
        return None

    def commit(self) -> None:
        with contextlib.suppress(kafka.errors.KafkaError):
            self.consumer.commit()

    def close(self) -> None:
        self.consumer.close()


class AIOKafkaMember:
    """A member of a group with aiokafka."""

    def __init__(self, place, topic, group, strategy):
        assert strategy == "range"
        self.loop = asyncio.new_event_loop()

        async def start():
            consumer = aiokafka.AIOKafkaConsumer(
                topic, bootstrap_servers=place, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
                session_timeout_ms=6000, heartbeat_interval_ms=300,
                partition_assignment_strategy=[aiokafka.coordinator.assignors.range.RangePartitionAssignor],
            )  # fmt: skip
            await consumer.start()
            return consumer

        self.consumer = self.loop.run_until_complete(start())

    def take(self) -> str | None:
        for self.place, (self.record,) in self.loop.run_until_complete(self.consumer.getmany(timeout_ms=200, max_records=1)).items():
            return self.record.value.decode()
        return None

    def commit(self) -> None:
        with contextlib.suppress(aiokafka.errors.KafkaError):
            self.loop.run_until_complete(self.consumer.commit({self.place: self.record.offset + 1}))

    def close(self) -> None:
        self.loop.run_until_complete(self.consumer.stop())
        self.loop.close()


ASSIGNORS = {"range": RangePartitionAssignor, "cooperative-sticky": CooperativeStickyAssignor}
#: By strategy, who takes part: aiokafka does not know the cooperative one.
KINDS = {
    "range": [ConfluentMember, KafkaPythonMember, ConfluentMember, AIOKafkaMember],
    "cooperative-sticky": [ConfluentMember, ConfluentMember, ConfluentMember, KafkaPythonMember],
}


@pytest.mark.parametrize("strategy", KINDS)
def test_a_storm_of_members_loses_nothing_and_stops_nothing(engine, admin, place, strategy):
    """Members come and go for a while: every record is processed, none is skipped by a commit, and it never stands still."""
    seed = int(os.environ.get("MARTLET_TEST_SEED") or random.randrange(2**31))
    print(f"MARTLET_TEST_SEED={seed}")
    chance = random.Random(seed)
    for noisy in ("kafka", "aiokafka"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    # As many as members and some more, so that each has its turn.
    partitions, most = 24, 20
    topic, group = f"storm-{strategy}", f"storm-{strategy}-group"
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(30)
    seen: Counter[str] = Counter()
    # Records by the kind of member that processed them.
    shares: Counter[str] = Counter()
    lock = threading.Lock()
    failures: list[str] = []
    pauses: list[float] = []
    last_seen = time.monotonic()

    def consume(kind, lifetime):
        nonlocal last_seen
        try:
            member = kind(place, topic, group, strategy)
            stop = time.monotonic() + lifetime
            while time.monotonic() < stop:
                value = member.take()
                if value is None:
                    continue
                with lock:
                    now = time.monotonic()
                    pauses.append(now - last_seen)
                    last_seen = now
                    seen[value] += 1
                    shares[kind.__name__] += 1
                member.commit()
            member.close()
        except Exception as error:
            failures.append(f"{kind.__name__}: {error!r}")

    generations: list[int] = []
    lags: list[int] = []
    sizes: list[int] = []

    def look():
        status = engine.get(f"groups/{group}")
        generations.append(status["generation"])
        lags.append(status["lag_records"])
        sizes.append(len(status["members"]))
        time.sleep(0.2)

    publisher = Publisher(place, topic, partitions, 0.01)
    publisher.start()
    threads: list[threading.Thread] = []
    alive: list[threading.Thread] = []

    def bring(lifetime):
        kind = KINDS[strategy][len(threads) % len(KINDS[strategy])]
        member = threading.Thread(target=consume, args=(kind, lifetime), daemon=True)
        member.start()
        threads.append(member)
        alive.append(member)

    # All at once, then they come and go.
    for _ in range(most):
        bring(chance.uniform(2, 14))
    until(lambda: seen, "the first records are processed", 60)
    watcher = InBackground(look)
    watcher.start()
    last_seen = time.monotonic()
    pauses.clear()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        alive = [one for one in alive if one.is_alive()]
        while len(alive) < most:
            bring(chance.uniform(2, 14))
        time.sleep(chance.uniform(0.05, 0.5))
    pauses.append(time.monotonic() - last_seen)
    stormy = len(seen)
    publisher.finish()
    watcher.finish()
    longest = max(pauses)
    full = [size >= most for size in sizes]
    times_full = sum(now and not before for before, now in zip([False, *full], full, strict=False))
    print(
        f"{len(publisher.sent)} records, {stormy} read in the storm by {dict(shares)}, longest pause {longest:.1f} s, lag at most {max(lags)} "
        f"and {lags[-1]} at the end, generations {generations[0]} to {generations[-1]}, {len(threads)} members, {min(sizes)} to {max(sizes)} at once, "
        f"{times_full} times {most} of them"
    )
    assert longest < PAUSE_MAX, f"nothing was processed for {longest:.0f} s"
    assert generations[-1] - generations[0] >= 5, generations
    assert stormy > len(publisher.sent) / 4, f"{stormy} of {len(publisher.sent)} were processed in the storm"
    assert times_full >= 5 and min(sizes) < most, f"the group did not have {most} members again and again: {sizes}"
    assert shares.keys() == {kind.__name__ for kind in KINDS[strategy]}, f"not every kind of client had its turns: {shares}"
    for one in threads:
        one.join(90)
    assert not failures, failures
    # What is left is read by one last member, from where the others committed.
    last = threading.Thread(target=consume, args=(ConfluentMember, 90), daemon=True)
    last.start()
    until(lambda: publisher.sent <= set(seen), "every record was processed", 80)
    assert not failures, failures
