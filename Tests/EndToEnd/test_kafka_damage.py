# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Damaged files, a full disk and a disk that fails to flush, as Kafka's clients see them."""

import hashlib
import os
import random
import shutil
import subprocess
import threading

import confluent_kafka
import grpc
import pytest
from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from grpc_client import Client, event
from harness import Engine, mount_in_memory, until
from kafka_wire import batch, new_producer, produce_batch

RECORDS = 600
#: Files of a data directory; those of a partition by their place among their kind, see `chosen`.
PARTITION = "log/topics/damaged/0"
KINDS = (
    f"{PARTITION}/first.log", f"{PARTITION}/middle.log", f"{PARTITION}/last.log", f"{PARTITION}/first.index", f"{PARTITION}/last.index",
    f"{PARTITION}/first.timeindex", f"{PARTITION}/last.timeindex", f"{PARTITION}/first.producers", f"{PARTITION}/middle.producers",
    f"{PARTITION}/last.producers", "log/topics/damaged/topic.json", "log/topics/damaged/topic.copy.json", "log/checkpoint",
    "log/groups/offsets.log", "log/groups/offsets.closed", "log/topics/compacted/0/compaction", "catalog.sqlite", "catalog.sqlite-mark",
    "secret.key", "log/topics/tx/0/last.log", "log/topics/tx/0/last.producers", "log/topics/compacted/0/first.log",
    "log/topics/compacted/0/last.log", "inventory.sqlite", "tables/tables.duckdb",
)  # fmt: skip
#: Those without which the engine does not start: users and rules that deny access would be gone.
REFUSED = ("catalog.sqlite", "catalog.sqlite-wal", "secret.key")
#: Databases whose damage shows when it is met: the engine says so at the start or later, or the byte told nothing.
DATABASES = ("inventory.sqlite", "tables/tables.duckdb")
#: The most records of one batch here.
BATCH = 50
FOLDERS = ("log", "log/topics", "log/topics/damaged", PARTITION, "log/groups")
COMMITTED, ABORTED, OPEN = range(10), range(100, 110), range(200, 205)


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


def read(place: str, topic: str, start: int = 0, committed: bool = True) -> list[int]:
    """Numbers of all records that can be read, checksums verified; goes on behind what cannot be read."""
    client = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": "unused", "enable.auto.commit": False, "check.crcs": True, "enable.partition.eof": True,
         "isolation.level": "read_committed" if committed else "read_uncommitted", "log_level": 0}
    )  # fmt: skip
    where = TopicPartition(topic, 0)
    begin, end = client.get_watermark_offsets(where, 30)
    found: list[int] = []
    at = max(start, begin)
    client.assign([TopicPartition(topic, 0, at)])
    while at < end:
        one = client.poll(30)
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


def transaction(place: str, name: str, numbers: range) -> confluent_kafka.Producer:
    """A producer with a transaction that has records on the disk."""
    client = producer(place, **{"transactional.id": name, "transaction.timeout.ms": 600000})
    client.init_transactions(60)
    client.begin_transaction()
    for number in numbers:
        client.produce("tx", value(number), partition=0)
    assert client.flush(60) == 0
    return client


def fill_groups_and_transactions(place: str) -> None:
    members = confluent_kafka.Consumer(
        {"bootstrap.servers": place, "group.id": "readers", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    )
    members.subscribe(["damaged", "untouched"])
    until(lambda: members.poll(0.5) is not None, "the group has a member with partitions", 60)
    members.commit(offsets=[TopicPartition("damaged", 0, 123, "so far"), TopicPartition("untouched", 0, 234)], asynchronous=False)
    transaction(place, "done", COMMITTED).commit_transaction(60)
    transaction(place, "taken back", ABORTED).abort_transaction(60)
    OPEN_PRODUCERS.append(transaction(place, "left open", OPEN))
    members.close()


#: Kept, since one that goes aborts its transaction.
OPEN_PRODUCERS: list = []
#: Batches of numbered producers by topic, with their offsets.
NUMBERED: dict[str, list[tuple[bytes, int]]] = {"damaged": [], "untouched": []}
#: What the compacted topic held when all was whole.
KEPT: list[int] = []
ROWS = [[number, f"row {number}"] for number in range(3000)]


def send_numbered(place: str, topic: str, number: int) -> None:
    sent = batch([value(number)], *new_producer(place), sequence=0)
    assert produce_batch(place, topic, sent) == (0, number)
    NUMBERED[topic].append((sent, number))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A data directory with every kind of file, as an orderly stop leaves it."""
    engine = Engine(tmp_path_factory.mktemp("whole"))
    try:
        engine.start()
        place = address(engine)
        admin = AdminClient({"bootstrap.servers": place})
        settings = {"segment.bytes": "400000"}
        compacted = {"cleanup.policy": "compact", "segment.bytes": "100000", "min.cleanable.dirty.ratio": "0.01"}
        topics = [NewTopic(name, 1, config=settings) for name in ("damaged", "untouched", "tx")]
        for future in admin.create_topics([*topics, NewTopic("compacted", 1, config=compacted)]).values():
            future.result(30)
        for topic in ("damaged", "untouched"):
            # The first and the last record are of producers that can send the same batch again.
            send_numbered(place, topic, 0)
            for first in range(1, RECORDS - 1, BATCH):
                numbers = range(first, min(first + BATCH, RECORDS - 1))
                produce(place, topic, [value(number) for number in numbers], **{"enable.idempotence": True})
            send_numbered(place, topic, RECORDS - 1)
        client = producer(place)
        for number in range(300):
            client.produce("compacted", value(number), key=f"key {number % 10}")
            if number % 20 == 19:
                assert client.flush(60) == 0
        engine.cli("kafka", "users", "create", "alice", input="a password\n")
        engine.cli("kafka", "acls", "create", "--user", "alice", "--operation", "write", "--topic", "damaged", "--deny")
        fill_groups_and_transactions(place)
        until((engine.data / "log/topics/compacted/0/compaction").exists, "the topic is compacted", 120)
        until(lambda: len(list((engine.data / PARTITION).glob("*.producers"))) > 0, "producers are stored", 60)
        KEPT.extend(read(place, "compacted"))
        engine.cli("sql", "--write", "create table kept as select range n, 'row ' || range s from range(3000)")
        assert engine.sql("select n, s from kept order by n") == ROWS
        assert engine.stop() == 0
        yield engine.data
    finally:
        engine.clean_up()
        for held in (OPEN_PRODUCERS, KEPT, *NUMBERED.values()):
            held.clear()


@pytest.fixture(scope="module")
def killed(whole, tmp_path_factory):
    """The same after more was written and the engine killed: the catalog's last commits are in its write-ahead log."""
    folder = tmp_path_factory.mktemp("killed")
    shutil.copytree(whole, folder / "data", symlinks=True)
    engine = Engine(folder)
    try:
        engine.start()
        engine.cli("topics", "create", "late")
        engine.cli("kafka", "users", "create", "bob", input="a password\n")
        engine.cli("kafka", "acls", "create", "--user", "bob", "--operation", "write", "--topic", "late", "--deny")
        assert produce(address(engine), "late", [value(0)]) == [0]
        engine.kill()
        assert (engine.data / "catalog.sqlite-wal").stat().st_size > 4096
        # Sockets cannot be copied; where their paths would be too long they are elsewhere.
        shutil.rmtree(engine.data / "run", ignore_errors=True)
        yield engine.data
    finally:
        engine.clean_up()


def chosen(data, kind: str):
    place, _, suffix = (data / kind).name.partition(".")
    files = sorted((data / kind).parent.glob(f"*.{suffix}"))
    if place in ("first", "middle", "last"):
        return files[{"first": 0, "middle": len(files) // 2, "last": -1}[place]]
    return data / kind


def harm(path, how: str, chance: random.Random) -> None:
    if how == "missing":
        path.unlink()
        return
    held = bytearray(path.read_bytes())
    at = chance.randrange(len(held))
    if how.startswith("flipped"):
        held[at] ^= chance.randrange(1, 256)
    else:
        del held[at:]
    path.write_bytes(held)


def seeded() -> random.Random:
    seed = int(os.environ.get("MARTLET_TEST_SEED") or random.randrange(2**31))
    print(f"MARTLET_TEST_SEED={seed}")
    return random.Random(seed)


def refusal(engine: Engine) -> str:
    """What an engine says that does not start."""
    engine.launch()
    code = engine.process.wait(60)
    said = engine.log_tail(4000)
    assert code not in (0, -6, -11) and "Fatal error" not in said, (code, said)
    return said


def rules(engine: Engine) -> tuple[list, list]:
    users = sorted(one["name"] for one in engine.ask("kafka", "users", "list")["data"])
    return users, sorted((one["principal"], one["permission"]) for one in engine.ask("kafka", "acls", "list")["data"])


def check_the_rest(engine: Engine, damaged: str, lossy: str | None = None, lost_max: int = RECORDS) -> None:
    """What holds whatever was damaged: only records of the topic `lossy` may be gone, as many as said and in one piece, and that is told."""
    place = address(engine)
    everything = list(range(RECORDS))
    # A batch that is sent again is known, however the state of producers came back.
    for topic, batches in NUMBERED.items():
        for batch, offset in batches if topic != lossy else []:
            assert produce_batch(place, topic, batch) == (0, offset), f"{topic}: a batch sent again was not known"
    assert read(place, "untouched") == everything
    kept, committed, found = read(place, "compacted"), read(place, "tx"), read(place, "damaged")
    status = engine.run("engine", "status")
    told = status.stdout + status.stderr
    is_told = status.returncode == 1 and "damaged" in told
    assert committed == sorted(set(committed)) and set(committed) <= set(COMMITTED), "what was not committed is given out"
    assert committed == list(COMMITTED) or lossy == "tx" and is_told, "transactions are not all or nothing"
    if lossy != "tx":
        assert read(place, "tx", committed=False)[: len(COMMITTED)] == list(COMMITTED)
    assert kept == sorted(set(kept)) and set(kept) <= set(KEPT), "a replaced record is there again"
    assert set(range(290, 300)) <= set(kept) or lossy == "compacted" and is_told, "the last records of keys are gone"
    assert rules(engine) == (["alice"], [("User:alice", "deny")])
    assert found == sorted(set(found)) and set(found) <= set(everything), "records stand out of order or twice"
    if found != everything:
        assert lossy == "damaged", "a file beside the records made records unreadable"
        assert is_told, "records are lost and nobody is told"
        lost = sorted(set(everything) - set(found))
        assert lost == list(range(lost[0], lost[-1] + 1)) and len(lost) <= lost_max, f"more is gone than was damaged: {lost}"
    # Positions of the group are what was committed, or are known to be lost.
    group = confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": "readers"})
    stands = {one.topic: one for one in group.committed([TopicPartition("damaged", 0), TopicPartition("untouched", 0)], 30)}
    group.close()
    for topic, right, note in (("damaged", 123, "so far"), ("untouched", 234, None)):
        if (stands[topic].offset, stands[topic].metadata or None) != (right, note):
            if damaged == "log/topics/damaged" == f"log/topics/{topic}":
                continue  # They were of the topic that is gone, which is told.
            assert damaged.startswith("log/groups") and stands[topic].offset < right and "offsets.log" in told, (topic, stands, told)
    # All go on.
    for topic in ("untouched", "damaged", "tx"):
        offsets = produce(place, topic, [value(RECORDS)])
        assert all(isinstance(one, int) for one in offsets), offsets
        assert read(place, topic, offsets[0], committed=False) == [RECORDS]


HOWS = ("flipped", "flipped again", "truncated", "missing")
#: A missing database of tables comes up as a new one.
HARMS = [(kind, how) for kind in KINDS for how in HOWS if (kind, how) != ("tables/tables.duckdb", "missing")]


@pytest.mark.parametrize(("kind", "how"), HARMS)
def test_a_damaged_file_harms_nothing_else_and_gives_out_nothing_wrong(make_engine, whole, tmp_path, kind, how):
    data = tmp_path / "data"
    shutil.copytree(whole, data, symlinks=True)
    path = chosen(data, kind)
    harm(path, how, seeded())
    engine = make_engine(data=data)
    if kind in REFUSED:
        said = refusal(engine)
        assert str(path) in said and "restore" in said, said
        return
    if kind in DATABASES:
        check_database(engine, path, kind)
        return
    engine.start()
    lossy = path.parent.parent.name if path.suffix == ".log" and path.parent.name == "0" else None
    check_the_rest(engine, kind, lossy, BATCH if how.startswith("flipped") else records_of(path))
    if how == "missing" and path.name in ("offsets.log", "catalog.sqlite-mark"):
        status = engine.run("engine", "status")
        assert status.returncode == 1 and path.name in status.stdout, status.stdout
    assert engine.stop() == 0


@pytest.mark.parametrize(
    ("kind", "at", "bytes"),
    [(f"{PARTITION}/middle.log", 57, b"\0\0\0\0"), (f"{PARTITION}/first.log", 57, b"\0\0\0\0"), ("log/topics/compacted/0/first.log", 23, b"\0\x41")],
    ids=["no records in the middle", "no records at the start", "an end beyond the log"],
)  # fmt: skip
def test_a_damaged_header_is_not_passed_over(make_engine, whole, tmp_path, kind, at, bytes):
    """A first batch that says it has no records, and one without records that says the next one begins far on."""
    data = tmp_path / "data"
    shutil.copytree(whole, data, symlinks=True)
    path = chosen(data, kind)
    held = bytearray(path.read_bytes())
    held[at : at + len(bytes)] = bytes
    path.write_bytes(held)
    engine = make_engine(data=data)
    engine.start()
    check_the_rest(engine, kind, path.parent.parent.name, BATCH)
    status = engine.run("engine", "status")
    assert status.returncode == 1 and str(path) in status.stdout, status.stdout


def records_of(path) -> int:
    """How many records a segment of the damaged topic has at most; none in other files."""
    if path.parent.parent.name != "damaged" or path.suffix != ".log":
        return 0
    begins = sorted(int(one.stem) for one in path.parent.glob("*.log"))
    return min([one for one in begins if one > int(path.stem)], default=RECORDS) - int(path.stem)


def check_database(engine: Engine, path, kind: str) -> None:
    """It is told, at the start or later, or everything is as it was."""
    try:
        engine.start()
    except AssertionError:
        assert engine.process.wait(60) not in (0, -6, -11)
        said = engine.log_tail(4000)
        assert kind == "inventory.sqlite" and str(path) in said and "Fatal error" not in said, said
        return
    if kind == "tables/tables.duckdb":
        answer = engine.http("POST", "/api/v1/sql", {"sql": "select n, s from kept order by n", "limit": 1_000_000})
        if answer.status == 200:
            assert answer.json["rows"] == ROWS, "a table gave out other rows than it held"
        else:
            # A block is met when it is read, all of it where the database does not open at all.
            status = engine.run("engine", "status")
            assert "orrupt" in answer.json["detail"] or status.returncode == 1 and "tables.duckdb" in status.stdout, (answer, status)
    check_the_rest(engine, kind)


@pytest.mark.parametrize("how", ["flipped", "flipped again", "truncated", "missing"])
@pytest.mark.parametrize("kind", ["catalog.sqlite", "catalog.sqlite-wal"])
def test_a_catalog_that_lost_something_after_a_kill_is_refused(make_engine, killed, tmp_path, kind, how):
    data = tmp_path / "data"
    shutil.copytree(killed, data, symlinks=True)
    harm(data / kind, how, seeded())
    left = {path.name: path.read_bytes() for path in data.glob("catalog.sqlite*") if not path.name.endswith("-shm")}
    engine = make_engine(data=data)
    try:
        engine.start()
    except AssertionError:
        assert engine.process.wait(60) not in (0, -6, -11)
        said = engine.log_tail(4000)
        assert "catalog.sqlite" in said and "damaged" in said or "missing" in said, said
        assert "backup" in said, said
        for name, content in left.items():
            assert (data / name).read_bytes() == content, f"{name} was changed by an engine that did not start"
    else:
        # A byte that says nothing: everything is there.
        assert how.startswith("flipped"), "it started without what is missing"
        assert rules(engine) == (["alice", "bob"], [("User:alice", "deny"), ("User:bob", "deny")])
        assert read(address(engine), "late") == [0]
        assert engine.run("engine", "status").returncode == 0


def test_a_kill_alone_loses_nothing_of_the_catalog(make_engine, killed, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(killed, data, symlinks=True)
    with open(data / "catalog.sqlite-wal", "ab") as log:
        log.write(os.urandom(3000))  # A commit that a crash cut short.
    engine = make_engine(data=data)
    engine.start()
    assert rules(engine) == (["alice", "bob"], [("User:alice", "deny"), ("User:bob", "deny")])
    assert engine.run("engine", "status").returncode == 0


def test_a_data_directory_without_its_catalog_is_refused(make_engine, whole, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(whole, data, symlinks=True)
    for path in data.glob("catalog.sqlite*"):
        path.unlink()
    said = refusal(make_engine(data=data))
    assert "catalog.sqlite" in said and "missing" in said and "secret.key" in said and "backup" in said, said


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_missing_folder_is_told(make_engine, whole, tmp_path, folder):
    data = tmp_path / "data"
    shutil.copytree(whole, data, symlinks=True)
    shutil.rmtree(data / folder)
    engine = make_engine(data=data)
    if folder in ("log", "log/topics"):
        for _ in range(2):
            said = refusal(engine)
            assert "missing" in said and "mount" in said and str(data / "log") in said, said
        (data / "log/start-empty").touch()
        engine.start()
        assert read(address(engine), "untouched") == []
        status = engine.run("engine", "status")
        assert status.returncode == 1 and "untouched" in status.stdout, status.stdout
        return
    engine.start()
    status = engine.run("engine", "status")
    assert status.returncode == 1 and str(data / folder) in status.stdout, status.stdout
    check_the_rest(engine, folder, "damaged" if "damaged" in folder else None)
    assert engine.stop() == 0


@pytest.mark.parametrize("how", ["flipped", "flipped again", "truncated", "empty"])
def test_a_damaged_replacement_leaves_the_segments_it_is_for(make_engine, whole, tmp_path, how):
    data = tmp_path / "data"
    shutil.copytree(whole, data, symlinks=True)
    first, second, third = sorted((data / PARTITION).glob("*.log"))[:3]
    path = data / PARTITION / f"{first.stem}-{third.stem}.replacement"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    chance = seeded()
    if how == "empty":
        path.write_bytes(b"")
    else:
        harm(path, how, chance)
    engine = make_engine(data=data)
    engine.start()
    assert read(address(engine), "damaged") == list(range(RECORDS))
    check_the_rest(engine, PARTITION)


def test_a_damaged_database_of_tables_is_told(make_engine, whole, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(whole, data, symlinks=True)
    path = data / "tables/tables.duckdb"
    path.write_bytes(path.read_bytes()[:5000])
    engine = make_engine(data=data)
    engine.start()
    until(lambda: "tables.duckdb" in engine.run("engine", "status").stdout, "engine status names it", 60)
    assert engine.run("engine", "status").returncode == 1
    check_the_rest(engine, "tables")


def test_a_full_disk_refuses_records_and_loses_none(make_engine):
    engine = make_engine()
    folder = engine.data / "log"
    mount_in_memory(folder, "-o", "size=24m")
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


class Load:
    """Clients of every kind at work at once until told to stop; keeps what was acknowledged."""

    def __init__(self, engine: Engine) -> None:
        self.place = address(engine)
        self.engine = engine
        self.stop = threading.Event()
        self.plain: list[int] = []
        self.grpc: list[str] = []
        self.transactions: dict[int, str] = {}
        self.committed = -1
        self.failures: list[BaseException] = []
        self.threads = [threading.Thread(target=self.guarded, args=(work,)) for work in (self.fill, self.transact, self.commit, self.publish)]

    def guarded(self, work) -> None:
        try:
            work()
        except BaseException as error:
            self.failures.append(error)

    def fill(self) -> None:
        number = 0
        while not self.stop.is_set():
            client = producer(self.place, **{"message.timeout.ms": 5000})
            for one in range(number, number + 100):
                client.produce("full", value(one), on_delivery=lambda error, record: None if error else self.plain.append(number_of(record.value())))
                client.produce("squeezed", value(one), key=f"key {one % 20}", partition=0)
            client.flush(30)
            number += 100

    def transact(self) -> None:
        client = None
        number = 0
        while not self.stop.is_set():
            number += 10
            try:
                if client is None:
                    client = producer(self.place, **{"transactional.id": "t", "transaction.timeout.ms": 10000})
                    client.init_transactions(10)
                client.begin_transaction()
                self.transactions[number] = "unknown"
                for one in range(number, number + 10):
                    client.produce("together", value(one), partition=0)
                client.commit_transaction(10)
                self.transactions[number] = "committed"
            except confluent_kafka.KafkaException:
                client = None

    def commit(self) -> None:
        group = confluent_kafka.Consumer({"bootstrap.servers": self.place, "group.id": "g", "enable.auto.commit": False})
        at = 0
        while not self.stop.is_set():
            at += 1
            try:
                group.commit(offsets=[TopicPartition("full", 0, at, "x" * 500)], asynchronous=False)
                self.committed = at
            except confluent_kafka.KafkaException:
                self.stop.wait(0.05)
        group.close()

    def publish(self) -> None:
        client = Client(self.engine)
        number = 0
        while not self.stop.is_set():
            number += 1
            try:
                results = client.publish("events-in", *(event(f"{number}-{part}", b"x" * 500) for part in range(20)))
                self.grpc += [f"{number}-{part}" for part, one in enumerate(results) if not one.HasField("error")]
            except grpc.RpcError:
                self.stop.wait(0.05)
        client.close()

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(120)


def test_a_disk_that_becomes_full_under_every_kind_of_work_loses_nothing(make_engine):
    engine = make_engine()
    mount_in_memory(engine.data, "-o", "size=64m")
    load = None
    try:
        engine.start()
        admin = AdminClient({"bootstrap.servers": address(engine)})
        squeezed = {"cleanup.policy": "compact", "segment.bytes": "1000000", "min.cleanable.dirty.ratio": "0.01"}
        topics = [NewTopic(name, 1) for name in ("full", "together", "events-in")] + [NewTopic("squeezed", 1, config=squeezed)]
        for future in admin.create_topics(topics).values():
            future.result(30)
        load = Load(engine)
        for thread in load.threads:
            thread.start()
        told = until(lambda: (said := engine.run("engine", "status")).returncode == 1 and said, "engine status tells", 240, every=0.5)
        assert any(word in told.stdout for word in ("No space left", "no room left", "disk is full")), told.stdout
        until(lambda: "disk is full" in engine.log.read_text(errors="replace"), "the log tells", 60)
        load.stop.wait(5)
        load.end()
        assert not load.failures, load.failures
        assert engine.process.poll() is None, engine.log_tail()
        engine.kill()
        subprocess.run(["mount", "-o", "remount,size=400m", engine.data], check=True)
        engine.start()
        place = address(engine)
        found = read(place, "full")
        assert set(load.plain) <= set(found) and load.plain, "acknowledged records are gone"
        together = read(place, "together")
        assert len(together) == len(set(together))
        for number, state in load.transactions.items():
            there = sum(number <= one < number + 10 for one in together)
            assert there == 10 if state == "committed" else there in (0, 10), (number, state, there)
        group = confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": "g"})
        assert group.committed([TopicPartition("full", 0)], 30)[0].offset >= load.committed > 0
        group.close()
        client = Client(engine)
        assert set(load.grpc) <= {one.event.id for one in client.read_all("events-in")} and load.grpc
        client.close()
        assert produce(place, "full", [value(1)]) and engine.run("engine", "status").returncode == 0
        engine.kill()
    finally:
        if load:
            load.end()
        engine.kill()
        subprocess.run(["umount", engine.data], check=False)


FAILING_FLUSH = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Fails for files whose path has what the file named by FAILING holds, once that is there.
static int fails(int file) {
    char link[64], path[4096] = "", word[256] = "";
    FILE *sign = fopen(getenv("FAILING"), "r");
    if (!sign) return 0;
    size_t length = fread(word, 1, sizeof word - 1, sign);
    fclose(sign);
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (!length || readlink(link, path, sizeof path - 1) <= 0 || !strstr(path, word)) return 0;
    errno = EIO;
    return 1;
}

int fdatasync(int file) {
    return fails(file) ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(file);
}

int fsync(int file) {
    return fails(file) ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
}
"""


@pytest.fixture
def failing(make_engine, tmp_path):
    """An engine whose flushes of some files can be made to fail, and how."""
    source, library, sign = tmp_path / "failing.c", tmp_path / "failing.so", tmp_path / "sign"
    source.write_text(FAILING_FLUSH)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    engine = make_engine(settings={"LD_PRELOAD": str(library), "FAILING": str(sign)})
    engine.start()

    def fail(word: str | None) -> None:
        sign.unlink(missing_ok=True)
        if word:
            sign.with_suffix(".new").write_text(word)
            sign.with_suffix(".new").rename(sign)

    return engine, fail


def refused_code(call) -> int:
    with pytest.raises(confluent_kafka.KafkaException) as caught:
        call()
    return caught.value.args[0].code()


def test_a_catalog_that_cannot_be_flushed_refuses_as_a_failing_disk(failing):
    engine, fail = failing
    admin = AdminClient({"bootstrap.servers": address(engine)})
    admin.create_topics([NewTopic("before", 1)])["before"].result(30)
    fail("catalog.sqlite-wal")
    assert refused_code(lambda: admin.create_topics([NewTopic("new", 1)])["new"].result(30)) == KafkaError.KAFKA_STORAGE_ERROR
    assert refused_code(lambda: admin.delete_topics(["before"])["before"].result(30)) == KafkaError.KAFKA_STORAGE_ERROR
    assert "the catalog is damaged or cannot be written" in engine.log_tail(20000)
    status = engine.run("engine", "status")
    assert status.returncode == 1 and "catalog.sqlite" in status.stdout, status.stdout
    assert produce(address(engine), "before", [value(0)]) == [0], "records do not need the catalog"
    fail(None)
    engine.kill()
    engine.start()
    assert read(address(engine), "before") == [0]
    assert "new" not in AdminClient({"bootstrap.servers": address(engine)}).list_topics(timeout=30).topics
    assert engine.run("engine", "status").returncode == 0


def test_offsets_that_cannot_be_flushed_are_not_committed(failing):
    engine, fail = failing
    place = address(engine)
    assert produce(place, "t", [value(0), value(1)]) == [0, 1]
    group = confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": "g", "enable.auto.commit": False})
    group.commit(offsets=[TopicPartition("t", 0, 1)], asynchronous=False)
    fail("/groups/offsets.log")
    refused_code(lambda: group.commit(offsets=[TopicPartition("t", 0, 2)], asynchronous=False))
    fail(None)
    refused_code(lambda: group.commit(offsets=[TopicPartition("t", 0, 2)], asynchronous=False))
    assert group.committed([TopicPartition("t", 0)], 30)[0].offset == 1
    group.close()
    status = engine.run("engine", "status")
    assert status.returncode == 1 and "offsets.log" in status.stdout, status.stdout
    assert produce(place, "t", [value(2)]) == [2]
    engine.kill()
    engine.start()
    group = confluent_kafka.Consumer({"bootstrap.servers": address(engine), "group.id": "g"})
    assert group.committed([TopicPartition("t", 0)], 30)[0].offset in (1, 2), "what was committed is lost"
    group.close()


def test_settings_that_cannot_be_flushed_are_not_changed(failing):
    engine, fail = failing
    place = address(engine)
    admin = AdminClient({"bootstrap.servers": place})
    admin.create_topics([NewTopic("t", 1)])["t"].result(30)
    fail("/topics/t/topic.json")
    assert refused_code(lambda: next(iter(admin.create_partitions([NewPartitions("t", 3)]).values())).result(30)) == KafkaError.KAFKA_STORAGE_ERROR
    assert "changing files of the log failed" in engine.log_tail(20000)
    assert len(admin.list_topics("t", timeout=30).topics["t"].partitions) == 1
    fail(None)
    assert produce(place, "t", [value(0)]) == [0]
    next(iter(admin.create_partitions([NewPartitions("t", 3)]).values())).result(30)
    engine.kill()
    engine.start()
    assert len(AdminClient({"bootstrap.servers": address(engine)}).list_topics("t", timeout=30).topics["t"].partitions) == 3
    assert read(address(engine), "t") == [0]


def test_a_checkpoint_that_cannot_be_flushed_costs_nothing_but_time(failing):
    engine, fail = failing
    place = address(engine)
    fail("/log/checkpoint")
    assert produce(place, "t", [value(number) for number in range(50)]) == list(range(50))
    assert engine.stop() == 0
    assert "no checkpoint was written" in engine.log_tail(20000)
    fail(None)
    engine.start()
    assert read(address(engine), "t") == list(range(50))
    assert engine.run("engine", "status").returncode == 0


def test_a_flush_that_fails_stops_its_partition_and_nothing_else(failing):
    engine, fail = failing
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
    fail("/topics/failing/")
    send(0, 1)
    client.flush(30)
    assert len(answers[0]) == 1 and not isinstance(answers[0][0], int), "a record was acknowledged that is not on the disk"
    # The flush would succeed now; the kernel may have dropped what it could not write, so the partition stays stopped.
    fail(None)
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
