# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Records that are not in memory go from the file to the socket without passing through the engine; through TLS they cannot."""

import os
import random
import struct
import subprocess

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient
from kafka_clients import create
from kafka_security import Stand

RECORDS = 1600
RECORD_BYTES = 10_000

COUNTING = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

// Adds what sendfile has sent to the number in the file named by COUNTED.
static long long *counted;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("COUNTED"), O_RDWR);
    if (file < 0) _exit(70);
    counted = mmap(NULL, sizeof *counted, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (counted == MAP_FAILED) _exit(70);
    close(file);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
    ssize_t sent = ((ssize_t (*)(int, int, off_t *, size_t))dlsym(RTLD_NEXT, "sendfile"))(out, in, offset, count);
    if (sent > 0) __atomic_add_fetch(counted, sent, __ATOMIC_SEQ_CST);
    return sent;
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t count) {
    ssize_t sent = ((ssize_t (*)(int, int, off64_t *, size_t))dlsym(RTLD_NEXT, "sendfile64"))(out, in, offset, count);
    if (sent > 0) __atomic_add_fetch(counted, sent, __ATOMIC_SEQ_CST);
    return sent;
}
"""


@pytest.fixture
def counting(tmp_path):
    """Settings of an engine whose use of sendfile is counted, and what it has sent."""
    source, library, count = tmp_path / "counting.c", tmp_path / "counting.so", tmp_path / "count"
    source.write_text(COUNTING)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    count.write_bytes(bytes(8))
    return {"LD_PRELOAD": str(library), "COUNTED": str(count)}, lambda: struct.unpack("q", count.read_bytes())[0]


def value(number: int) -> bytes:
    return random.Random(number).randbytes(RECORD_BYTES)


@pytest.mark.parametrize("form", ["plaintext", "tls"])
def test_records_on_disk_are_sent_without_copying_them(make_engine, counting, form):
    settings, sent = counting
    stand = Stand(make_engine, form, **settings)
    given = {"bootstrap.servers": stand.place} | stand.secured(mechanism=None).librdkafka()
    create(AdminClient(given), "t", **{"segment.bytes": "4000000"})
    producer = confluent_kafka.Producer(given | {"acks": "all", "linger.ms": 5})
    for number in range(RECORDS):
        producer.produce("t", value(number), partition=0)
        producer.poll(0)
    assert producer.flush(60) == 0
    # What was written is in no memory of the engine after a restart, nor in that of the system.
    assert stand.engine.stop() == 0
    for path in (stand.engine.data / "log/topics/t/0").glob("*.log"):
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)
    stand.start()
    given["bootstrap.servers"] = stand.place
    before = sent()
    consumer = confluent_kafka.Consumer(given | {"group.id": "unused", "enable.auto.commit": False, "check.crcs": True})
    consumer.assign([confluent_kafka.TopicPartition("t", 0, 0)])
    for number in range(RECORDS):
        record = consumer.poll(60)
        assert record is not None and not record.error(), f"record {number}: {record and record.error()}"
        assert (record.offset(), record.value()) == (number, value(number))
    consumer.close()
    count, whole = sent() - before, RECORDS * RECORD_BYTES
    print(f"{form}: sendfile sent {count} bytes of {whole} of records")
    if form == "tls":
        assert count == 0
    else:
        assert count > 0.9 * whole
