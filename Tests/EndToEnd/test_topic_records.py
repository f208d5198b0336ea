# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Records over HTTP and on the command line: written, read, followed; CloudEvents in with curl."""

import http.client
import json
import signal
import socket
import subprocess
import time
import urllib.parse

import pytest
from harness import PROGRAM, Engine, until


@pytest.fixture(scope="module")
def engine(shared):
    return shared


def make(engine, name, partitions=1, **more):
    engine.post("topics", {"name": name, "partitions": partitions} | more)
    return name


def write(engine, topic, *records):
    return engine.post(f"topics/{topic}/records", {"records": list(records)})["data"]


def read(engine, topic, **query):
    return engine.get(f"topics/{topic}/records?{urllib.parse.urlencode(query, doseq=True)}")


def values(page):
    return [record["value"] for record in page["data"]]


# HTTP


def test_records_are_read_as_they_were_written(engine):
    topic = make(engine, "r-exact")
    headers = [{"name": "kind", "value": "exr"}, {"name": "kind", "value": None}, {"name": "raw", "value_base64": "/wA="}]
    places = write(
        engine, topic,
        {"key": "k", "value": "ä\n\"{}", "headers": headers, "timestamp": 1_700_000_000_123},
        {"key_base64": "//4=", "value_base64": "gIE="}, {"key": "gone", "value": None}, {},
    )  # fmt: skip
    assert places == [{"partition": 0, "offset": offset} for offset in range(4)]
    first, second, third, fourth = read(engine, topic)["data"]
    assert first == {
        "partition": 0, "offset": 0, "timestamp": 1_700_000_000_123, "key": "k", "value": "ä\n\"{}", "headers": headers,
    }  # fmt: skip
    assert (second["key_base64"], second["value_base64"]) == ("//4=", "gIE=") and "key" not in second
    assert third["value"] is None and third["key"] == "gone"
    assert fourth["key"] is None and fourth["value"] is None
    # What was read can be written again.
    assert write(engine, topic, *read(engine, topic)["data"])[-1]["offset"] == 7


def test_records_that_name_a_partition_keep_their_order_among_those_of_its_keys(engine):
    topic = make(engine, "r-order", partitions=4)
    place = write(engine, topic, {"key": "k", "value": "first"})[0]["partition"]
    for turn in range(10):
        records = [{"key": "k"} if number % 2 == 0 else {"partition": place} for number in range(20)]
        write(engine, topic, *(record | {"value": f"{turn}-{number}"} for number, record in enumerate(records)))
    found = values(read(engine, topic, limit=1000))
    assert found == ["first"] + [f"{turn}-{number}" for turn in range(10) for number in range(20)]


def test_places_to_begin_at(engine):
    topic = make(engine, "r-places", 2)
    for number in range(10):
        write(engine, topic, {"partition": number % 2, "value": f"{number}", "timestamp": 1000 + number})
    assert sorted(values(read(engine, topic))) == [f"{number}" for number in range(10)]
    assert values(read(engine, topic, partition=1)) == ["1", "3", "5", "7", "9"]
    assert values(read(engine, topic, partition=0, offset=3)) == ["6", "8"]
    assert values(read(engine, topic, partition=0, offset=-2)) == ["6", "8"]
    assert sorted(values(read(engine, topic, offset=-1))) == ["8", "9"]
    assert values(read(engine, topic, offset="latest")) == []
    assert sorted(values(read(engine, topic, timestamp=1005))) == ["5", "6", "7", "8", "9"]
    assert values(read(engine, topic, timestamp="1970-01-01T00:00:01.008Z", partition=0)) == ["8"]
    found, cursor = [], None
    while True:
        page = read(engine, topic, limit=3, **({"cursor": cursor} if cursor else {}))
        found += values(page)
        cursor = page["pagination"]["next_cursor"]
        if page["at_end"]:
            break
        assert len(page["data"]) == 3
    assert sorted(found) == [f"{number}" for number in range(10)]
    assert cursor == "0:5,1:5"


def test_refusals_say_what_to_do(engine):
    topic = make(engine, "r-refusals")
    path = f"/api/v1/topics/{topic}/records"
    assert "up to 0" in engine.http("GET", f"{path}?offset=7").problem(422)["fix"]
    engine.http("GET", f"{path}?partition=3").problem(422)
    for query in ["offset=x", "cursor=x", "timestamp=x", "limit=0", "offset=1&timestamp=5m", "wait=99999999"]:
        engine.http("GET", f"{path}?{query}").problem(400)
    engine.http("GET", "/api/v1/topics/no-such/records").problem(404)
    bad = {"records": [{"value": "a"}, {"value": "b", "partition": 9}]}
    assert engine.http("POST", path, bad).problem(422)["errors"][0]["field"] == "records[1].partition"
    for record in [{"vlaue": "x"}, {"value": 1}, {"value": "a", "value_base64": "YQ=="}, {"value_base64": "%"}, 7]:
        engine.http("POST", path, {"records": [record]}).problem(422)
    engine.http("POST", path, {"records": []}).problem(422)
    engine.http("POST", "/api/v1/topics/__pipeline.x/records", {"records": [{}]}).problem(404)
    assert values(read(engine, topic)) == []


def test_a_read_can_wait(engine):
    topic = make(engine, "r-wait", 3)
    began = time.monotonic()
    assert values(read(engine, topic, wait=300)) == []
    assert 0.25 < time.monotonic() - began < 5
    process = subprocess.Popen(
        [PROGRAM, "topics", "consume", topic, "--max", "1"], stdout=subprocess.PIPE,
        env=engine.environment | {"MARTLET_SERVER": f"http://127.0.0.1:{engine.port}"},
    )  # fmt: skip
    try:
        write(engine, topic, {"value": "there", "partition": 2})
        assert process.communicate(timeout=20)[0] == b"there\n"
    finally:
        process.kill()


class Follower:
    """A reader of server-sent events."""

    def __init__(self, engine, topic, query="", last=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=20)
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        self.connection.request("GET", f"/api/v1/topics/{topic}/records{query}", headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        assert self.answer.headers.get_content_type() == "text/event-stream"
        self.last = None
        self.block()

    def block(self):
        """The fields of one event or comment."""
        fields = {}
        while line := self.answer.readline().decode().rstrip("\n"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        if "id" in fields:
            self.last = fields["id"]
        return fields

    def next(self):
        while "data" not in (fields := self.block()):
            pass
        return json.loads(fields["data"])["value"]

    def close(self):
        self.connection.close()


def test_following_goes_on_where_it_was(engine):
    topic = make(engine, "r-follow", 3)
    write(engine, topic, {"value": "before"})
    follower = Follower(engine, topic)
    for number in range(20):
        write(engine, topic, {"value": f"{number}", "key": f"{number}"})
    seen = [follower.next() for _ in range(7)]
    last = follower.last
    follower.close()
    again = Follower(engine, topic, last=last)
    seen += [again.next() for _ in range(13)]
    again.close()
    assert sorted(seen, key=int) == [f"{number}" for number in range(20)]
    # Nothing came in front of the first event, and the place is known nevertheless.
    quiet = Follower(engine, topic)
    assert quiet.last and "before" not in seen
    quiet.close()
    behind = Follower(engine, topic, "?offset=earliest")
    assert "before" in [behind.next() for _ in range(21)]
    behind.close()


def test_many_readers_and_one_that_reads_nothing(tmp_path):
    engine = Engine(tmp_path)
    engine.start()
    try:
        topic = make(engine, "busy")
        idle = Follower(engine, topic)
        readers = [Follower(engine, topic) for _ in range(40)]
        value = "x" * 20_000
        for number in range(100):
            write(engine, topic, *({"value": f"{number}.{part} {value}"} for part in range(10)))
        for reader in readers:
            assert [reader.next().split()[0] for _ in range(1000)][-1] == "99.9"
        # 20 MB went to each of the others; what the silent one gets is kept back, not kept in memory.
        status = (engine_status(engine.process.pid))
        assert status < 700 << 20, f"{status >> 20} MiB of memory"
        for reader in [idle, *readers]:
            reader.close()
        assert engine.stop() == 0
    finally:
        engine.clean_up()


def engine_status(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS"))


def test_no_more_follow_than_there_may_be_however_many_ask_at_once(engine):
    topic = make(engine, "r-crowd")
    request = f"GET /api/v1/topics/{topic}/records?offset=earliest HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode()
    callers = [socket.create_connection(("127.0.0.1", engine.port), timeout=60) for _ in range(300)]
    try:
        for caller in callers:
            caller.sendall(request)
        write(engine, topic, {"value": "for-all"})
        followers = 0
        for caller in callers:
            said = b""
            while not any(word in said for word in (b"for-all", b"event: error", b" 503 ")):
                piece = caller.recv(65536)
                assert piece, said
                said += piece
            followers += b"for-all" in said
        # Followers of tests before this one may not have been missed yet.
        assert 200 < followers <= 256
    finally:
        for caller in callers:
            caller.close()


def test_a_stop_ends_followers(tmp_path):
    engine = Engine(tmp_path)
    engine.start()
    try:
        follower = Follower(engine, make(engine, "t"))
        began = time.monotonic()
        assert engine.stop() == 0
        assert time.monotonic() - began < 10
        follower.close()
    finally:
        engine.clean_up()


# CloudEvents with curl


def curl(engine, topic, *arguments):
    done = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", *arguments, f"http://127.0.0.1:{engine.port}/api/v1/topics/{topic}/events"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def headers_of(record):
    return {header["name"]: header["value"] for header in record["headers"]}


def test_cloudevents_in_all_three_modes_with_curl(engine):
    topic = make(engine, "r-events")
    binary = ["-H", "ce-specversion: 1.0", "-H", "ce-id: 1", "-H", "ce-source: curl", "-H", "ce-type: example.com:T"]
    assert curl(engine, topic, *binary, "-H", "ce-partitionkey: k", "-H", "Content-Type: text/plain", "-d", "hello") == (
        202, '{"count":1}',
    )  # fmt: skip
    event = {"specversion": "1.0", "id": "2", "source": "curl", "type": "example.com:T", "data": {"a": [1, "x"]}}
    structured = ["-H", "Content-Type: application/cloudevents+json", "-d", json.dumps(event)]
    assert curl(engine, topic, *structured)[0] == 202
    batch = [event | {"id": f"{number}", "data": number} for number in range(3, 6)]
    batched = ["-H", "Content-Type: application/cloudevents-batch+json", "-d", json.dumps(batch)]
    assert curl(engine, topic, *batched) == (202, '{"count":3}')
    records = read(engine, topic)["data"]
    assert [headers_of(record)["ce_id"] for record in records] == ["1", "2", "3", "4", "5"]
    assert all(headers_of(record)["ce_type"] == "example.com:T" for record in records)
    assert records[0]["value"] == "hello" and records[0]["key"] == "k"
    assert headers_of(records[0])["content-type"] == "text/plain"
    assert json.loads(records[1]["value"]) == {"a": [1, "x"]}
    assert [json.loads(record["value"]) for record in records[2:]] == [3, 4, 5]
    for refused in [["-d", "x"], [*structured[:3], '{"specversion":"1.0"}'], [*batched[:3], json.dumps([{}])]]:
        status, body = curl(engine, topic, *refused)
        assert status == 422, body
    assert len(read(engine, topic)["data"]) == 5


# Command line


def test_lines_go_in_and_come_out(engine):
    topic = make(engine, "c-lines", 4)
    lines = [f"key{number % 7}:value {number}" for number in range(5000)]
    said = engine.cli("topics", "produce", topic, "-K", ":", "-H", "from=test", input="\n".join(lines) + "\n")
    assert said.startswith(f"Produced 5000 records to {topic}")
    out = engine.cli("topics", "consume", topic, "-e", "-f", "%k:%s\\n").splitlines()
    assert sorted(out) == sorted(lines)
    for key in range(7):
        wanted = [line for line in lines if line.startswith(f"key{key}:")]
        assert [line for line in out if line.startswith(f"key{key}:")] == wanted
    one = json.loads(engine.cli("topics", "consume", topic, "-e", "--max", "1", "-o", "json"))
    assert one["headers"] == [{"name": "from", "value": "test"}] and one["value"].startswith("value ")
    shown = engine.cli("topics", "consume", topic, "-e", "--max", "1", "-f", "%t %p %o %T %S %K %h %%\\x21")
    assert shown == f"{topic} {one['partition']} {one['offset']} {one['timestamp']} 7 4 from=test %!"


def test_json_records_and_files(engine, tmp_path):
    first, second = make(engine, "c-json"), make(engine, "c-json-copy", 3)
    picture = bytes(range(256)) * 10
    (tmp_path / "picture").write_bytes(picture)
    (tmp_path / "lines").write_text("a\nb\r\n\nlast without an end")
    engine.cli("topics", "produce", first, "--whole", "--key", "cover", tmp_path / "picture")
    engine.cli("topics", "produce", first, tmp_path / "lines")
    engine.cli("topics", "produce", first, "-K", ":", "-Z", input="gone:\n")
    records = engine.cli("topics", "consume", first, "-e", "-o", "json")
    engine.cli("topics", "produce", second, "--json", input=records)
    assert [json.loads(line)["offset"] for line in records.splitlines()] == list(range(6))
    copied = read(engine, second)["data"]
    assert len(copied) == 6
    tombstone = [record for record in copied if record["key"] == "gone"]
    assert tombstone and tombstone[0]["value"] is None
    done = subprocess.run(
        [PROGRAM, "topics", "consume", first, "-e", "--max", "1", "-f", "%s"], capture_output=True, timeout=60,
        env=engine.environment | {"MARTLET_SERVER": f"http://127.0.0.1:{engine.port}"},
    )  # fmt: skip
    assert done.stdout == picture


def test_cloudevents_from_lines(engine):
    topic = make(engine, "c-events")
    lines = "".join(json.dumps({"type": "example.com:T", "data": number}) + "\n" for number in range(5))
    assert "Produced 5 events" in engine.cli("topics", "produce", topic, "--cloudevents", input=lines)
    records = read(engine, topic)["data"]
    assert [json.loads(record["value"]) for record in records] == list(range(5))
    assert {headers_of(record)["ce_type"] for record in records} == {"example.com:T"}


def test_a_group_goes_on_where_it_was(engine):
    topic = make(engine, "c-group", 2)
    engine.cli("topics", "produce", topic, input="".join(f"{number}\n" for number in range(10)))
    first = engine.cli("topics", "consume", topic, "--group", "c-readers", "-e", "--max", "4").splitlines()
    second = engine.cli("topics", "consume", topic, "--group", "c-readers", "-e").splitlines()
    assert len(first) == 4 and sorted(first + second, key=int) == [f"{number}" for number in range(10)]
    assert engine.cli("topics", "consume", topic, "--group", "c-readers", "-e") == ""
    assert engine.get("groups/c-readers")["lag_records"] == 0


def test_tail_shows_the_newest_and_goes_on(engine):
    topic = make(engine, "c-tail", 3)
    for number in range(12):
        write(engine, topic, {"value": f"{number}", "partition": number % 3, "timestamp": 1000 + number})
    assert engine.cli("topics", "tail", topic, "-n", "4", "--no-follow").split() == ["8", "9", "10", "11"]
    process = subprocess.Popen(
        [PROGRAM, "topics", "tail", topic, "-n", "1"], stdout=subprocess.PIPE, text=True,
        env=engine.environment | {"MARTLET_SERVER": f"http://127.0.0.1:{engine.port}"},
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "11\n"
        write(engine, topic, {"value": "new"})
        assert process.stdout.readline() == "new\n"
    finally:
        process.kill()
        process.wait()


def test_an_interrupted_producer_says_what_it_wrote(engine):
    topic = make(engine, "c-interrupt")
    process = subprocess.Popen(
        [PROGRAM, "topics", "produce", topic], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=engine.environment | {"MARTLET_SERVER": f"http://127.0.0.1:{engine.port}"},
    )  # fmt: skip
    process.stdin.write("one\ntwo\n")
    process.stdin.flush()
    # Lines are not kept waiting for more.
    until(lambda: values(read(engine, topic)) == ["one", "two"], "the lines are there")
    process.send_signal(signal.SIGINT)
    process.wait(20)
    assert process.returncode == 130
    assert process.stdout.read().startswith("Produced 2 records")


def test_what_is_wrong_is_said(engine):
    topic = make(engine, "c-wrong")
    for words, text in [
        ((topic, "--json"), "is not JSON"),
        ((topic, "-K", ":"), "line 1 has no ':'"),
        ((topic, "/no/such"), "cannot read /no/such"),
        (("no-such-topic",), "no-such-topic"),
    ]:
        done = engine.run("topics", "produce", *words, input="x\n")
        assert done.returncode != 0 and text in done.stderr, done.stderr
    done = engine.run("topics", "consume", topic, "-e", "-f", "%q")
    assert done.returncode != 0 and "%q" in done.stderr
    for command in ["produce", "consume", "tail"]:
        assert "Examples:" in engine.cli("topics", command, "--help")
