# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Bad input gets a message that says what, where and what to do, and harms nothing else."""

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

import harness
from bad_documents import DOCUMENTS, PIPELINE
from harness import Engine, until

KINDS = ("views", "triggers", "functions", "pipelines", "topics", "secrets")
WITNESS = 'def handler(ctx, event):\n    ctx.tables["witness"].upsert({"id": event.id}, key=["id"])\n'


class Witness:
    """A pipeline that must go on whatever happens beside it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.count = 0
        engine.function("witness", WITNESS)
        self.source = engine.source("witness-in")
        self.pipeline = engine.pipeline(
            "witness", {"witness": {}}, [{"source": "witness-in", "destination": "witness"}]
        )

    def check(self) -> None:
        self.count += 1
        id = f"w{self.count}"
        self.source.send(self.source.event(id))
        until(lambda: id in self.engine.column("witness", "id"), "the witness's event")
        assert self.engine.process.poll() is None and self.engine.http("GET", "/readyz").status == 200

    def names(self) -> dict[str, list]:
        return {
            kind: [(one["name"], one["updated_at"]) for one in self.engine.items(f"{kind}?limit=1000")]
            for kind in KINDS
        }


@pytest.fixture(scope="module")
def witness(shared):
    (shared.directory / "view").mkdir()
    shared.post("views", {"name": "v", "path": str(shared.directory / "view")})
    shared.source("s")
    shared.function("ok", "def handler(ctx, event):\n    pass\n")
    return Witness(shared)


@pytest.fixture
def unharmed(witness):
    """Fails when the test changed any resource or stopped the witness."""
    before = witness.names()
    yield witness.engine
    witness.check()
    after = witness.names()
    assert {kind: [n for n, _ in names] for kind, names in after.items()} == {
        kind: [n for n, _ in names] for kind, names in before.items()
    }


def refused(done: subprocess.CompletedProcess, code: int, *texts: str) -> str:
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stdout == "", "errors go to standard error"
    assert "error: " in done.stderr and "fix: " in done.stderr, done.stderr
    for text in texts:
        assert text in done.stderr, f"{text!r} is not in: {done.stderr}"
    return done.stderr


@pytest.mark.parametrize("case", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_bad_document_is_refused(unharmed, case):
    kind, text, exit_code, status, code, field, line, texts = case
    file = unharmed.directory / "a file"
    file.write_text("")
    text = text.replace("{view}", str(unharmed.directory / "view")).replace("{file}", str(file))
    document = unharmed.directory / "document.yaml"
    document.write_text(text)
    flag = "--config" if kind == "pipelines" else "-f"
    said = refused(unharmed.run(kind, "create", flag, document), exit_code, *texts)
    if field is not None:
        assert field in said
    if line is not None:
        assert f"line {line}" in said, said
    answer = unharmed.http("POST", f"/api/v1/{kind}", text.encode(), {"Content-Type": "application/yaml"})
    problem = answer.problem(status, code)
    assert problem.get("fix") or all(error.get("fix") for error in problem["errors"]), problem
    if field is not None:
        at_fault = [error for error in problem["errors"] if field in error["field"]]
        assert at_fault, problem
        assert line is None or at_fault[0]["line"] == line, problem


def test_the_dry_run_refuses_the_same_and_stores_nothing(unharmed):
    document = unharmed.directory / "document.yaml"
    document.write_text(PIPELINE + "colour: red\n")
    answer = unharmed.http(
        "POST", "/api/v1/pipelines?dry_run=true", document.read_bytes(), {"Content-Type": "application/yaml"}
    )
    answer.problem(422, "invalid")
    document.write_text(PIPELINE)
    answer = unharmed.http(
        "POST", "/api/v1/pipelines?dry_run=true", document.read_bytes(), {"Content-Type": "application/yaml"}
    )
    assert answer.status == 200 and answer.json["name"] == "a"


@pytest.mark.parametrize(
    "arguments",
    [
        ("views", "create", "-f", "nowhere.yaml"), ("triggers", "create", "-f", "nowhere.yaml"),
        ("pipelines", "create", "--config", "nowhere.yaml"), ("secrets", "create", "-f", "nowhere.yaml"),
        ("functions", "create", "-f", "nowhere.yaml"), ("topics", "publish", "s", "-e", "nowhere.yaml"),
        ("functions", "build", "nowhere"), ("sql", "-f", "nowhere.sql"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)  # fmt: skip
def test_a_missing_file_is_named(unharmed, arguments):
    refused(unharmed.run(*arguments), 3, "nowhere")


@pytest.mark.parametrize("kind", [*KINDS, "tables", "dead-letters"])
def test_what_does_not_exist_is_named(unharmed, kind):
    command = {"tables": ("tables", "get", "nix"), "dead-letters": ("dead-letters", "show", "0-999999")}.get(
        kind, (kind, "get", "nix")
    )
    refused(unharmed.run(*command), 3, command[-1])
    problem = unharmed.http("GET", f"/api/v1/{kind}/{command[-1]}").problem(404, "notFound")
    assert problem["fix"]


def test_what_is_in_use_is_not_deleted_and_its_users_are_named(unharmed):
    for kind, name, user in (
        ("functions", "witness", "witness"),
        ("triggers", "witness-in", "witness"),
        ("topics", "witness-in", "witness-in"),
    ):
        refused(unharmed.run(kind, "delete", name, "--force"), 7, user)
        assert unharmed.http("DELETE", f"/api/v1/{kind}/{name}").problem(409, "inUse")["errors"]


def test_wrong_command_lines_exit_with_two(unharmed):
    for arguments in (
        ("views", "create"),
        ("views", "creat"),
        ("pipelines", "replay", "witness"),
        ("views", "list", "--colour"),
        ("-o", "xml", "views", "list"),
    ):
        done = unharmed.run(*arguments)
        assert done.returncode == 2 and done.stderr and not done.stdout, (arguments, done)


def test_an_engine_that_cannot_be_reached_is_said(unharmed):
    refused(unharmed.run("views", "list", "--server", "http://127.0.0.1:1"), 5, "http://127.0.0.1:1", "martlet serve")


def test_syntax_errors_in_code_are_shown_with_their_line(unharmed):
    folder = unharmed.folder("syntax", "import os\n\ndef handler(ctx, event):\n    return (1,\n")
    done = unharmed.run("functions", "build", "syntax", "--target", folder)
    assert done.returncode == 4 and not done.stdout
    for text in ("main.py", "line 4", "SyntaxError", "'(' was never closed", "return (1,"):
        assert text in done.stderr, done.stderr
    assert unharmed.items("bundles?name=syntax") == []
    refused(
        unharmed.run("functions", "build", "syntax", "--target", unharmed.folder("syntax", "x = 1\n")),
        4,
        "handler",
        "main.py",
    )


def test_a_missing_module_is_shown_with_the_traceback(unharmed):
    unharmed.function("module", "import os\nimport nosuchmodule\n\ndef handler(ctx, event):\n    pass\n")
    unharmed.pipeline("module", {"module": {}}, [{"source": "s", "destination": "module"}], deploy=False)
    try:
        refused(
            unharmed.run("pipelines", "deploy", "module"), 1, "ModuleNotFoundError: No module named 'nosuchmodule'",
            'main.py", line 2', "import nosuchmodule", "requirements.txt",
        )  # fmt: skip
        problem = unharmed.http("POST", "/api/v1/pipelines/module/deploy", {}).problem(409, "failedPrecondition")
        assert problem["trace"].startswith("Traceback (most recent call last):\n")
        assert problem["trace"].rstrip().endswith("ModuleNotFoundError: No module named 'nosuchmodule'")
        shown = unharmed.get("pipelines/module")
        assert shown["status"] == "Failure" and "nosuchmodule" in shown["reason"]
        assert unharmed.items("pipelines/module/deployments") == []
    finally:
        unharmed.cli("pipelines", "delete", "module", "--force")
        unharmed.cli("functions", "delete", "module", "--force")


@pytest.mark.parametrize("megabytes", [2, 200])
def test_an_event_that_is_too_large_is_refused(unharmed, megabytes):
    ends = unharmed.items("topics/s/partitions")
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "large",
        "ce-type": "t",
        "ce-source": "s",
        "Content-Type": "application/octet-stream",
    }
    answer = unharmed.http("POST", "/api/v1/topics/s/events", b"x" * (megabytes << 20), headers)
    problem = answer.problem(413, "tooLarge")
    assert problem["fix"] and "1048588" in problem["detail"], problem
    assert "messageBytesMax" not in problem["detail"], "there is no such setting"
    file = unharmed.directory / "large.json"
    small = {"specversion": "1.0", "id": "small", "type": "t", "source": "s", "data": 1}
    file.write_text(json.dumps([small, small | {"id": "large", "data": "x" * (megabytes << 20)}]))
    try:
        refused(unharmed.run("topics", "publish", "s", "-e", file), 4, "1048588")
    finally:
        file.unlink()
    assert unharmed.items("topics/s/partitions") == ends, "all of a request or nothing"


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(unharmed):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", unharmed.port, timeout=20)
    connection.putrequest("POST", "/api/v1/topics/s/events")
    connection.putheader("Content-Type", "application/cloudevents+json")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413 and json.loads(answer.read())["code"] == "tooLarge"
    connection.close()


def test_invalid_utf8_is_refused_with_its_place(unharmed):
    file = unharmed.directory / "bytes.yaml"
    file.write_bytes(b"name: a\npath: \xff\xfe\n")
    refused(unharmed.run("views", "create", "-f", file), 4, "UTF-8", "line 2", "0xff")
    yaml = {"Content-Type": "application/yaml"}
    problem = unharmed.http("POST", "/api/v1/views", file.read_bytes(), yaml).problem(400, "invalid")
    assert "UTF-8" in problem["detail"] and problem["errors"][0]["line"] == 2 and problem["fix"]
    json_type = {"Content-Type": "application/json"}
    assert unharmed.http("POST", "/api/v1/views", b'{"name": "\xff"}', json_type).problem(400, "invalid")["fix"]
    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t", "ce-source": "s"} | json_type
    ends = unharmed.items("topics/s/partitions")
    assert unharmed.http("POST", "/api/v1/topics/s/events", b'"\xff"', event).problem(400, "invalid")["fix"]
    assert unharmed.items("topics/s/partitions") == ends
    # Bytes that claim to be nothing else are any bytes.
    octets = event | {"Content-Type": "application/octet-stream"}
    assert unharmed.http("POST", "/api/v1/topics/s/events", b"\xff\x00", octets).status == 202
    for path in ("/api/v1/views/%ff%fe", "/api/v1/views?name=%ff", "/api/v1/tables/%c3%28"):
        assert unharmed.http("GET", path).status in (400, 404, 422)
    shown = unharmed.run("views", "get", b"\xff\xfe".decode(errors="surrogateescape"))
    assert shown.returncode in (2, 3, 4) and "error" in shown.stderr.lower()


def test_files_whose_names_are_not_utf8_do_not_stop_a_view(unharmed):
    view = unharmed.directory / "odd"
    view.mkdir()
    unharmed.post("views", {"name": "odd", "path": str(view)})
    try:
        with open(os.fsencode(view) + b"/\xff\xfe.dat", "wb") as file:
            file.write(b"x")
        (view / "plain.dat").write_text("x")
        until(lambda: "plain.dat" in [one["key"] for one in unharmed.items("views/odd/elements")], "the other file")
        assert unharmed.get("views/odd")["status"] == "ready"
    finally:
        unharmed.cli("views", "delete", "odd", "--force")


def test_a_view_whose_directory_vanishes_says_so_and_recovers(unharmed):
    view = unharmed.directory / "gone"
    view.mkdir()
    unharmed.post("views", {"name": "gone", "path": str(view)})
    try:
        view.rename(view.with_name("away"))
        shown = until(lambda: (one := unharmed.get("views/gone"))["status"] == "failed" and one, "the failure", 10)
        assert str(view) in shown["reason"], shown
        assert "failed" in unharmed.cli("views", "get", "gone")
        view.with_name("away").rename(view)
        until(lambda: unharmed.get("views/gone")["status"] == "ready", "the recovery", 10)
        (view / "file").write_text("x")
        until(lambda: [one["key"] for one in unharmed.items("views/gone/elements")] == ["file"], "its files")
    finally:
        unharmed.cli("views", "delete", "gone", "--force")
        shutil.rmtree(view, ignore_errors=True)


@pytest.mark.parametrize(
    ("statement", "texts"),
    [
        ("select * from nowhere", ("nowhere",)), ("selec 1", ("selec",)), ("drop table witness", ("read",)),
        ("insert into witness values ('x')", ("read",)), ("select * from read_csv('/etc/passwd')", ("files", "cannot be reached from sql")),
        ("selec 1; select 2", ("selec",)), ("", ()),
    ],
)  # fmt: skip
def test_statements_that_cannot_be_run_are_refused(unharmed, statement, texts):
    done = unharmed.run("sql", statement)
    assert done.returncode in (2, 3, 4) and done.stderr.startswith("error: ") and not done.stdout, done
    for text in texts:
        assert text in done.stderr.lower(), done.stderr
    answer = unharmed.http("POST", "/api/v1/sql", {"sql": statement})
    assert answer.status in (400, 404, 422) and answer.json["detail"]
    two = unharmed.http("POST", "/api/v1/sql", {"sql": "select 1; select 2"})
    assert "One SQL statement" in two.problem(422, "invalid")["detail"]


def test_raw_requests_that_are_no_http_end_their_connection_only(unharmed):
    import socket

    for sent in (
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /api/v1/views HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", unharmed.port), timeout=10) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            said = connection.recv(65536)
            assert not said or said.startswith(b"HTTP/1.1 4"), said[:200]


# Engines


def ended(engine: Engine, *arguments: str, seconds: float = 15) -> str:
    """What an engine that cannot start said."""
    process = engine.launch(*arguments)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the engine started\n{engine.log_tail()}") from None
    assert process.returncode == 1, process.returncode
    return engine.log_tail()


def test_a_second_engine_on_the_directory_is_refused(unharmed, make_engine):
    said = ended(make_engine("second", data=unharmed.data))
    for text in ("in use", str(unharmed.data), str(unharmed.process.pid), "stop that engine"):
        assert text in said


def test_a_port_in_use_is_named(unharmed, make_engine):
    engine = make_engine("port")
    said = ended(engine, "--port", str(unharmed.port))
    assert str(unharmed.port) in said and "port" in said and "--port" in said or "another port" in said, said
    engine.start()


def test_settings_that_are_wrong_are_named(make_engine):
    engine = make_engine()
    for arguments, texts in (
        (("--port", "99999"), ("99999",)),
        (("--log-level", "loud"), ("loud",)),
        (("--host", "not a host"), ("not a host",)),
        (("--config", "/nowhere/martlet.yaml"), ("/nowhere/martlet.yaml",)),
    ):
        process = engine.launch(*arguments)
        try:
            assert process.wait(15) in (1, 2), process.returncode
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the engine started with {arguments}") from None
        said = engine.log_tail()
        assert all(text in said for text in texts), said


def test_a_data_directory_that_is_a_file_is_refused(make_engine):
    engine = make_engine()
    engine.data.write_text("x")
    assert str(engine.data) in ended(engine)


@contextmanager
def mounted(folder: Path, *options: str):
    """A file system of its own in memory."""
    harness.mount_in_memory(folder, *options)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_read_only_data_directory_is_refused(make_engine):
    engine = make_engine()
    with mounted(engine.directory / "disk", "-o", "size=200m") as disk:
        engine.data = disk / "data"
        engine.start()
        assert engine.stop() == 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        said = ended(engine)
        assert str(engine.data) in said and "read-only" in said.lower(), said
        engine.data = disk / "new"
        assert str(disk) in ended(engine)
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        engine.data = disk / "data"
        engine.start()
        engine.stop()


def test_a_full_disk_loses_nothing_and_work_goes_on_when_there_is_room(make_engine):
    engine = make_engine()
    with mounted(engine.directory / "disk", "-o", "size=160m") as disk:
        engine.data = disk / "data"
        engine.start()
        try:
            witness = Witness(engine)
            witness.check()
            ballast = disk / "ballast"
            with open(ballast, "wb", buffering=0) as file:
                for size in (1 << 20, 4096):
                    try:
                        while True:
                            file.write(b"x" * size)
                    except OSError:
                        continue
            acknowledged: list[str] = []

            def fill():
                """Publishes until that is refused."""
                event = witness.source.event(f"f{len(acknowledged)}", "x" * 200_000)
                body = json.dumps([event]).encode()
                headers = {"Content-Type": "application/cloudevents-batch+json"}
                answer = engine.http("POST", "/api/v1/topics/witness-in/events", body, headers)
                if answer.status == 202:
                    acknowledged.append(event["id"])
                    return None
                return answer

            problem = until(fill, "the refusal", 30, every=0).problem(507, "storageFull")
            assert problem["fix"]
            answer = engine.http("POST", "/api/v1/topics", {"name": "more", "partitions": 50})
            assert answer.status in (507, 201), answer.body
            assert engine.http("GET", "/readyz").status in (200, 503) and engine.process.poll() is None
            assert engine.get("pipelines/witness")["name"] == "witness"
            assert engine.sql("select count(*) from witness")[0][0] >= 1
            ballast.unlink()
            until(lambda: set(engine.column("witness", "id")) >= set(acknowledged), "what was acknowledged", 60)
            witness.check()
            witness.pipeline.wait(60)
            assert engine.items("dead-letters") == []
            assert engine.get("engine")["damage"] == []
            engine.kill()
            engine.start()
            witness.check()
            assert set(engine.column("witness", "id")) >= set(acknowledged)
        finally:
            engine.clean_up()


# Damage


def flip(file: Path, at: int) -> None:
    with open(file, "r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 0x40]))


def test_damage_in_a_segment_is_reported_and_read_around(make_engine):
    engine = make_engine()
    engine.start()
    engine.function("reader", 'def handler(ctx, event):\n    ctx.tables["read"].upsert({"id": event.id}, key=["id"])\n')
    source = engine.source("old")
    pipeline = engine.pipeline("reader", {"reader": {}}, [{"source": "old", "destination": "reader"}])
    for number in range(20):  # A batch each.
        source.send_ids([f"e{number}a", f"e{number}b"], data="x" * 300)
    pipeline.wait()
    engine.cli("tables", "delete", "read", "--force")
    assert engine.stop() == 0
    (segment,) = (engine.data / "log/topics/old/0").glob("*.log")
    before = segment.read_bytes()
    at = 0
    while int.from_bytes(before[at : at + 8], "big") != 18:
        at += 12 + int.from_bytes(before[at + 8 : at + 12], "big")
    flip(segment, at + 200)
    damaged = segment.read_bytes()

    engine.start()
    replayed = engine.cli("pipelines", "replay", "reader", "--from", "0")
    wanted = {f"e{number}{half}" for number in range(20) for half in "ab"} - {"e9a", "e9b"}
    until(lambda: set(engine.column("read", "id")) >= wanted, "the other events", 20)
    pipeline.wait()
    assert set(engine.column("read", "id")) == wanted, replayed
    (found,) = engine.get("engine")["damage"]
    assert found["what"] == "topic old, partition 0, offsets 18 to 19" and found["path"] == str(segment), found
    assert "checksum" in found["message"]
    done = engine.run("engine", "status")
    assert done.returncode == 1
    assert "topic old, partition 0, offsets 18 to 19" in done.stdout and segment.name in done.stdout, done.stdout
    # It goes on being written, and nothing was deleted or changed.
    source.send_ids(["after"])
    until(lambda: "after" in engine.column("read", "id"), "an event after the damage")
    engine.kill()
    engine.start()
    assert segment.read_bytes()[: len(damaged)] == damaged
    source.send_ids(["later"])
    until(lambda: "later" in engine.column("read", "id"), "an event after a restart")


def test_a_torn_tail_is_cut(make_engine):
    engine = make_engine()
    engine.start()
    source = engine.source("torn")
    source.send_ids(range(10))
    engine.kill()
    (segment,) = (engine.data / "log/topics/torn/0").glob("*.log")
    with open(segment, "ab") as file:
        file.write((10).to_bytes(8, "big") + (500).to_bytes(4, "big") + b"\0" * 100)
    engine.start()
    assert engine.items("topics/torn/partitions")[0]["end_offset"] == 10
    source.send_ids([10])
    assert engine.get("engine")["damage"] == [] and engine.run("engine", "status").returncode == 0
    assert engine.stop() == 0
    assert [record.headers["ce_id"] for record in harness.read_partition(segment.parent, checksums=True)] == [
        str(n) for n in range(11)
    ]


@pytest.mark.parametrize("name", ["catalog.sqlite", "inventory.sqlite"])
def test_a_damaged_database_is_named_and_not_touched(make_engine, name):
    engine = make_engine()
    engine.start()
    engine.source("kept")
    assert engine.stop() == 0
    file = engine.data / name
    content = file.read_bytes()
    file.write_bytes(b"no database at all" * 100)
    said = ended(engine)
    assert str(file) in said and "damaged" in said and "backup" in said, said
    assert file.read_bytes() == b"no database at all" * 100
    file.write_bytes(content)
    engine.start()
    assert engine.get("topics/kept")["name"] == "kept"


def test_a_missing_secret_key_is_said(make_engine):
    engine = make_engine()
    engine.start()
    engine.post("secrets", {"name": "a", "entries": [{"key": "k", "value": "hidden"}]})
    assert engine.stop() == 0
    key = engine.data / "secret.key"
    kept = key.read_bytes()
    key.unlink()
    said = ended(engine)
    assert str(key) in said and "backup" in said and "hidden" not in said
    key.write_bytes(kept)
    key.chmod(0o644)
    assert "644" in ended(engine) or "others" in ended(engine)
    key.chmod(0o600)
    engine.start()
