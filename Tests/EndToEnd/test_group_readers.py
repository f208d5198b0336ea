# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""`topics consume --group` and readers over HTTP: they share a group's records, with subscribers over gRPC too."""

import json
import signal
import socket
import subprocess
import threading

import confluent_kafka
import pytest
from grpc_client import Client
from harness import PROGRAM, until


@pytest.fixture(scope="module")
def engine(shared):
    return shared


def make(engine, name, count=0, partitions=2):
    engine.post("topics", {"name": name, "partitions": partitions})
    write(engine, name, range(count))
    return name


def write(engine, topic, numbers):
    records = [{"value": f"{number}", "partition": number % engine.get(f"topics/{topic}")["partitions"]} for number in numbers]
    if records:
        engine.post(f"topics/{topic}/records", {"records": records})


class Consumer:
    """A command that reads for a group."""

    def __init__(self, engine, topic, group, *words):
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [PROGRAM, "topics", "consume", topic, "--group", group, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=engine.environment | {"MARTLET_SERVER": f"http://127.0.0.1:{engine.port}"},
        )  # fmt: skip
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def kill(self):
        self.process.kill()
        self.process.wait()


def begin(engine, group, topic, **fields):
    return engine.post(f"groups/{group}/readers", {"topic": topic} | fields)["id"]


def take(engine, group, reader, **fields):
    return engine.post(f"groups/{group}/readers/{reader}/records", {"wait": 30_000} | fields)


def committed(engine, group):
    return {one["partition"]: one["committed_offset"] for one in engine.get(f"groups/{group}")["partitions"]}


def test_two_commands_share_the_records_of_a_group(engine):
    topic = make(engine, "gr-shared")
    first, second = Consumer(engine, topic, "gr-two"), Consumer(engine, topic, "gr-two")
    try:
        until(lambda: "gr-two" in [one["name"] for one in engine.items("groups")], "the group has begun", 60)
        for start in range(0, 2000, 100):
            write(engine, topic, range(start, start + 100))
        until(lambda: len(first.lines) + len(second.lines) >= 2000, "all was read", 120)
        first.stop()
        write(engine, topic, range(2000, 2100))
        until(lambda: len(first.lines) + len(second.lines) >= 2100, "the other goes on", 120)
    finally:
        second.stop()
        first.kill()
    assert sorted(map(int, first.lines + second.lines)) == list(range(2100))
    assert engine.get("groups/gr-two")["lag_records"] == 0


def test_what_a_killed_reader_had_comes_again(engine):
    topic = make(engine, "gr-killed", 10)
    lost = begin(engine, "gr-k", topic)
    had = {record["value"] for record in take(engine, "gr-k", lost, limit=10)["data"]}
    assert had
    # It never acknowledges and is not heard of again; -e waits for what it had.
    lines = engine.cli("topics", "consume", topic, "--group", "gr-k", "-e").split()
    assert sorted(map(int, lines)) == list(range(10))
    engine.http("POST", f"/api/v1/groups/gr-k/readers/{lost}/records", {}).problem(404)


def test_offsets_follow_acknowledgements_and_never_go_back(engine):
    topic = make(engine, "gr-marks", 10, partitions=1)
    reader = begin(engine, "gr-m", topic)
    page = take(engine, "gr-m", reader, limit=4)
    assert [record["value"] for record in page["data"]] == ["0", "1", "2", "3"] and not page["at_end"]
    rest = take(engine, "gr-m", reader, limit=10, acknowledge=page["acknowledge"])
    assert [record["value"] for record in rest["data"]] == [f"{number}" for number in range(4, 10)]
    until(lambda: committed(engine, "gr-m") == {0: 4}, "the first page is committed")
    # Done with less than it was given: the rest goes to the next one.
    engine.api("DELETE", f"groups/gr-m/readers/{reader}?acknowledge={page['acknowledge']}")
    assert committed(engine, "gr-m") == {0: 4}
    assert engine.cli("topics", "consume", topic, "--group", "gr-m", "-e").split() == [f"{number}" for number in range(4, 10)]
    assert committed(engine, "gr-m") == {0: 10}
    # The group is free at once.
    engine.cli("groups", "reset", "gr-m", "--to", "earliest")


def test_records_of_an_answer_that_got_lost_are_given_again(engine):
    topic = make(engine, "gr-lost", 20, partitions=1)
    reader = begin(engine, "gr-l", topic)
    # A request whose caller goes away before it is answered, and one whose answer is not seen.
    path = f"/api/v1/groups/gr-l/readers/{reader}/records"
    waiting = begin(engine, "gr-l2", make(engine, "gr-lost-2", 0, partitions=1))
    with socket.create_connection(("127.0.0.1", engine.port), timeout=30) as gone:
        body = json.dumps({"wait": 30_000}).encode()
        head = f"POST {path.replace('gr-l/', 'gr-l2/').replace(reader, waiting)} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        gone.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: engine.http("POST", path.replace("gr-l/", "gr-l2/").replace(reader, waiting), {}).status == 409, "the request is under way", 30)
    until(lambda: engine.http("POST", path.replace("gr-l/", "gr-l2/").replace(reader, waiting), {}).status == 200, "it ended with its caller", 20)
    write(engine, "gr-lost-2", range(3))
    assert [record["value"] for record in take(engine, "gr-l2", waiting)["data"]][:1] == ["0"]

    assert len(take(engine, "gr-l", reader, limit=8)["data"]) == 8
    again = take(engine, "gr-l", reader, limit=5)
    assert [record["value"] for record in again["data"]] == ["0", "1", "2", "3", "4"]
    engine.api("DELETE", f"groups/gr-l/readers/{reader}?acknowledge={again['acknowledge']}")
    assert committed(engine, "gr-l") == {0: 5}
    assert engine.cli("topics", "consume", topic, "--group", "gr-l", "-e").split() == [f"{number}" for number in range(5, 20)]


def test_commands_and_subscribers_over_grpc_are_one_group(engine):
    topic = make(engine, "gr-mixed", 0)
    client = Client(engine)
    command = Consumer(engine, topic, "gr-x")
    try:
        until(lambda: "gr-x" in [one["name"] for one in engine.items("groups")], "the group has begun", 60)
        subscription = client.subscribe(topic, group="gr-x")
        subscription.begin()
        write(engine, topic, range(200))
        assert subscription.take(1)
        # What it was given and did not acknowledge goes to the command when it has gone.
        client.close()
        until(lambda: set(command.lines) == {f"{number}" for number in range(200)}, "the command has read everything", 60)
        # Another one that wants something else of the same group is told so.
        make(engine, "gr-else", 1)
        done = engine.run("topics", "consume", "gr-else", "--group", "gr-x", "-e")
        assert done.returncode == 7 and done.stdout == "" and "gr-mixed" in done.stderr, done
    finally:
        command.stop()
        client.close()


def test_members_over_kafka_and_commands_exclude_each_other(engine):
    topic = make(engine, "gr-kafka", 10)
    settings = {"bootstrap.servers": engine.get("engine")["kafka_address"], "group.id": "gr-c", "auto.offset.reset": "earliest"}
    consumer = confluent_kafka.Consumer(settings)
    try:
        consumer.subscribe([topic])
        until(lambda: consumer.poll(0.5), "the member reads", 60)
        done = engine.run("topics", "consume", topic, "--group", "gr-c", "-e")
        assert done.returncode == 7 and done.stdout == "" and "Kafka" in done.stderr, done
    finally:
        consumer.close()


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (["--group", "__mine", "-e"], "engine's own", 6), (["--group", "", "-e"], "empty", 2),
        (["--group", "gr-r", "--partition", "0"], "all partitions", 2), (["--group", "gr-r", "--from", "17"], "groups reset", 2),
    ],
)  # fmt: skip
def test_a_group_that_cannot_be_read_for_is_refused_before_anything_is_printed(engine, words, says, code):
    if engine.http("GET", "/api/v1/topics/gr-refused").status == 404:
        make(engine, "gr-refused", 5)
    done = engine.run("topics", "consume", "gr-refused", *words)
    assert (done.returncode, done.stdout) == (code, "") and says in done.stderr, done


def test_requests_of_readers_are_checked(engine):
    topic = make(engine, "gr-checked", 1)
    engine.http("POST", "/api/v1/groups/g/readers", {"topic": "none-such"}).problem(404)
    engine.http("POST", "/api/v1/groups/g/readers", {"topic": "__system.logs"}).problem(403)
    for body in [{}, {"topic": topic, "from": "17"}, {"topic": topic, "form": "latest"}, {"topic": 7}]:
        engine.http("POST", "/api/v1/groups/g/readers", body).problem(422)
    reader = begin(engine, "gr-ch", topic)
    path = f"/api/v1/groups/gr-ch/readers/{reader}"
    for body in [{"acknowledge": -1}, {"acknowledge": 999}, {"limit": 0}, {"limit": 5001}, {"wait": 30_001}, {"stop_at_end": "yes"}, {"x": 1}]:
        engine.http("POST", f"{path}/records", body).problem(422)
    engine.http("PUT", f"/api/v1/groups/other/readers/{reader}").problem(404)
    assert engine.http("PUT", path).status == 204
    assert engine.http("DELETE", path).status == 204
    engine.http("DELETE", path).problem(404)


def test_a_reader_goes_on_when_the_engine_was_restarted(make_engine):
    engine = make_engine()
    engine.start()
    port = engine.port
    topic = make(engine, "gr-restart", 10)
    command = Consumer(engine, topic, "gr-s")
    try:
        until(lambda: len(command.lines) == 10, "the first ten", 60)
        engine.kill()
        engine.start("--port", f"{port}", "--grpc-port", "0", "--kafka-port", "0")
        write(engine, topic, range(10, 20))
        until(lambda: set(command.lines) >= {f"{number}" for number in range(20)}, "the next ten", 120)
    finally:
        command.stop()
        command.kill()


def test_a_producer_goes_on_when_the_engine_was_restarted(make_engine):
    engine = make_engine()
    engine.start()
    port = engine.port
    make(engine, "pr-restart")
    process = subprocess.Popen(
        [PROGRAM, "topics", "produce", "pr-restart"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=engine.environment | {"MARTLET_SERVER": f"http://127.0.0.1:{port}"},
    )  # fmt: skip
    try:
        process.stdin.write("before\n")
        process.stdin.flush()
        until(lambda: engine.get("topics/pr-restart/records")["data"], "the first record", 60)
        engine.kill()
        process.stdin.write("while\n")
        process.stdin.flush()
        engine.start("--port", f"{port}", "--grpc-port", "0", "--kafka-port", "0")
        process.stdin.write("after\n")
        process.stdin.close()
        assert process.wait(120) == 0, process.stderr.read()
        said = process.stderr.read()
        assert "trying again" in said and "connected again" in said
    finally:
        process.kill()
    assert {record["value"] for record in engine.get("topics/pr-restart/records")["data"]} == {"before", "while", "after"}
