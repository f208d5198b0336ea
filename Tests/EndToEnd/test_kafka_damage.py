# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Damaged files, a full disk and a disk that fails to flush, as Kafka's clients see them."""

import hashlib
import os
import random
import shutil
import subprocess

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from harness import Engine, until

RECORDS = 600
KINDS = (
    "log/topics/damaged/0/00000000000000000000.log", "log/topics/damaged/0/last.log", "log/topics/damaged/0/00000000000000000000.index",
    "log/topics/damaged/0/last.index", "log/topics/damaged/0/00000000000000000000.timeindex", "log/topics/damaged/0/last.producers",
    "log/topics/damaged/topic.json", "log/topics/damaged/topic.copy.json", "log/checkpoint", "log/groups/offsets.log",
)  # fmt: skip


def value(number: int) -> bytes:
    """A record that shows whether it is as it was written."""
    body = random.Random(number).randbytes(2000)
    return f"{number:06d}".encode() + hashlib.sha256(body).digest() + body


def number_of(value: bytes) -> int:
    assert hashlib.sha256(value[38:]).digest() == value[6:38], "a record was changed on the disk and given out all the same"
    return int(value[:6])


def address(engine: Engine) -> str:
    return engine.get("engine")["kafka_address"]


def producer(place: str, **settings) -> confluent_kafka.Producer:
    return confluent_kafka.Producer({"bootstrap.servers": place, "acks": "all", "linger.ms": 5, "log_level": 0} | settings)


def produce(place: str, topic: str, values: list[bytes], **settings) -> list:
    """Offsets of what was acknowledged, errors of what was not."""
    answers: list = []
    client = producer(place, **settings)
    for one in values:
        client.produce(topic, one, on_delivery=lambda error, record: answers.append(error or record.offset()))
    assert client.flush(30) == 0
    return answers


def read(place: str, topic: str, start: int = 0) -> list[int]:
    """Numbers of all records that can be read, checksums verified; goes on behind what cannot be read."""
    client = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": "unused", "enable.auto.commit": False, "check.crcs": True, "enable.partition.eof": True,
         "log_level": 0}
    )  # fmt: skip
    where = TopicPartition(topic, 0)
    end = client.get_watermark_offsets(where, 30)[1]
    found: list[int] = []
    at = start
    client.assign([TopicPartition(topic, 0, at)])
    while at < end:
        one = client.poll(10)
        assert one is not None, f"{topic}: nothing came at offset {at} of {end}"
        if not one.error():
            found.append(number_of(one.value()))
            at = one.offset() + 1
        elif one.error().code() == KafkaError._PARTITION_EOF:
            break
        else:
            at += 1
            client.seek(TopicPartition(topic, 0, at))
    client.close()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A data directory with every kind of file, as an orderly stop leaves it."""
    engine = Engine(tmp_path_factory.mktemp("whole"))
    try:
        engine.start()
        place = address(engine)
        admin = AdminClient({"bootstrap.servers": place})
        settings = {"segment.bytes": "400000"}
        for future in admin.create_topics([NewTopic("damaged", 1, config=settings), NewTopic("untouched", 1, config=settings)]).values():
            future.result(30)
        for topic in ("damaged", "untouched"):
            for first in range(0, RECORDS, 50):
                numbers = range(first, first + 50)
                produce(place, topic, [value(number) for number in numbers], **{"enable.idempotence": True})
        group = confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": "readers", "enable.auto.commit": False})
        group.commit(offsets=[TopicPartition("damaged", 0, 123), TopicPartition("untouched", 0, 234)], asynchronous=False)
        group.close()
        assert engine.stop() == 0
        yield engine.data
    finally:
        engine.clean_up()


def chosen(data, kind: str):
    folder = data / "log/topics/damaged/0"
    if kind.endswith("/last.log"):
        return max(folder.glob("*.log"))
    if kind.endswith("/last.index"):
        return max(folder.glob("*.index"))
    if kind.endswith("/last.producers"):
        return max(folder.glob("*.producers"))
    return data / kind


@pytest.mark.parametrize("how", ["flipped", "truncated"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_harms_nothing_else_and_gives_out_nothing_wrong(make_engine, whole, tmp_path, kind, how):
    data = tmp_path / "data"
    shutil.copytree(whole, data, symlinks=True)
    path = chosen(data, kind)
    held = bytearray(path.read_bytes())
    seed = int(os.environ.get("MARTLET_TEST_SEED") or random.randrange(2**31))
    print(f"MARTLET_TEST_SEED={seed}")
    at = random.Random(seed).randrange(len(held))
    if how == "flipped":
        held[at] ^= 0xFF
    else:
        del held[at:]
    path.write_bytes(held)

    engine = make_engine(data=data)
    engine.start()
    place = address(engine)
    everything = list(range(RECORDS))
    assert read(place, "untouched") == everything
    found = read(place, "damaged")
    assert found == sorted(set(found)), "records stand out of order or twice"
    status = engine.run("engine", "status")
    if path.suffix == ".log" and path.parent.name == "0":
        assert found != everything or how == "flipped"
        if found != everything:
            assert status.returncode == 1 and "damaged" in status.stdout + status.stderr, "records are lost and nobody is told"
    else:
        assert found == everything, "a file beside the records made records unreadable"
    # Positions of the group are what was committed, or are known to be lost.
    group = confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": "readers"})
    stands = {one.topic: one.offset for one in group.committed([TopicPartition("damaged", 0), TopicPartition("untouched", 0)], 30)}
    group.close()
    for topic, right in (("damaged", 123), ("untouched", 234)):
        if stands[topic] != right:
            assert kind == "log/groups/offsets.log" and stands[topic] < right and status.returncode == 1, (topic, stands)
    # Both go on.
    for topic in ("untouched", "damaged"):
        offsets = produce(place, topic, [value(RECORDS)])
        assert all(isinstance(one, int) for one in offsets), offsets
        assert read(place, topic, offsets[0]) == [RECORDS]
    assert engine.stop() == 0


def mounted(path, size: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted as root")


def test_a_full_disk_refuses_records_and_loses_none(make_engine):
    engine = make_engine()
    folder = engine.data / "log"
    mounted(folder, "24m")
    try:
        engine.start()
        place = address(engine)
        admin = AdminClient({"bootstrap.servers": place})
        admin.create_topics([NewTopic("full", 1)])["full"].result(30)
        acknowledged: list[int] = []
        number = 0
        refused = None
        while refused is None and number < 20000:
            answers = produce(place, "full", [value(number + index) for index in range(200)], **{"message.timeout.ms": 3000})
            acknowledged += [one for one in answers if isinstance(one, int)]
            refused = next((one for one in answers if not isinstance(one, int)), None)
            number += 200
        assert refused is not None, "the disk never was full"
        assert refused.code() in (KafkaError.KAFKA_STORAGE_ERROR, KafkaError._MSG_TIMED_OUT), refused
        before = read(place, "full")
        assert len(before) >= len(acknowledged)
        # Nothing that was acknowledged is lost by a kill while the disk is full, and it goes on once there is room.
        engine.kill()
        engine.start()
        place = address(engine)
        assert read(place, "full")[: len(before)] == before
        subprocess.run(["mount", "-o", "remount,size=100m", folder], check=True)
        until(lambda: isinstance(produce(place, "full", [value(number)], **{"message.timeout.ms": 3000})[0], int), "it takes records again")
        assert read(place, "full")[-1] == number
        engine.kill()
    finally:
        engine.kill()
        subprocess.run(["umount", folder], check=False)


FAILING_FLUSH = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Fails for files of the topic "failing" once the file named by FAILING is there.
int fdatasync(int file) {
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (readlink(link, path, sizeof path - 1) > 0 && strstr(path, "/topics/failing/") && !access(getenv("FAILING"), F_OK)) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(file);
}
"""


def test_a_flush_that_fails_stops_its_partition_and_nothing_else(make_engine, tmp_path):
    source, library, sign = tmp_path / "failing.c", tmp_path / "failing.so", tmp_path / "sign"
    source.write_text(FAILING_FLUSH)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    engine = make_engine(settings={"LD_PRELOAD": str(library), "FAILING": str(sign)})
    engine.start()
    place = address(engine)
    admin = AdminClient({"bootstrap.servers": place})
    for future in admin.create_topics([NewTopic("failing", 2), NewTopic("other", 1)]).values():
        future.result(30)
    soon = {"message.timeout.ms": 3000}
    assert len(produce(place, "failing", [value(0)], **soon)) == 1 and produce(place, "other", [value(0)]) == [0]
    client = producer(place, **soon)
    answers: dict[int, list] = {0: [], 1: []}

    def send(partition: int, number: int) -> None:
        client.produce(
            "failing", value(number), partition=partition, on_delivery=lambda error, record: answers[partition].append(error or record.offset())
        )

    start = admin.list_offsets({TopicPartition("failing", 0): confluent_kafka.admin.OffsetSpec.latest()})
    before = next(iter(start.values())).result(30).offset
    sign.touch()
    send(0, 1)
    client.flush(30)
    assert len(answers[0]) == 1 and not isinstance(answers[0][0], int), "a record was acknowledged that is not on the disk"
    # The flush would succeed now; the kernel may have dropped what it could not write, so the partition stays stopped.
    sign.unlink()
    send(0, 2)
    client.flush(30)
    assert not isinstance(answers[0][1], int), answers
    assert answers[0][1].code() in (KafkaError.KAFKA_STORAGE_ERROR, KafkaError._MSG_TIMED_OUT), answers
    # What was acknowledged before can be read; the topic's other partition and other topics go on.
    end = next(iter(admin.list_offsets({TopicPartition("failing", 0): confluent_kafka.admin.OffsetSpec.latest()}).values())).result(30).offset
    assert end == before, "what was not acknowledged is seen"
    send(1, 3)
    client.flush(30)
    assert isinstance(answers[1][-1], int) and produce(place, "other", [value(1)]) == [1]
    said = engine.run("engine", "status")
    assert said.returncode == 1 and "failing" in said.stdout + said.stderr, said.stdout
    # After a restart it goes on, and every record that is there is whole.
    engine.kill()
    engine.start()
    place = address(engine)
    assert all(isinstance(one, int) for one in produce(place, "failing", [value(4), value(5)]))
    read(place, "failing")
