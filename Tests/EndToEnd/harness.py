# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""A real engine on a directory of its own, and what the tests do with one. Standard library only."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import textwrap
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(
    os.environ.get("MARTLET_BINARY") or os.environ.get("MARTLET_PROGRAM") or ROOT / ".build/release/martlet"
).resolve()
# Settings that say where the program finds what it needs; all others of the caller must not reach our engines.
KEPT_SETTINGS = ("MARTLET_PYTHON_ENVIRONMENT", "MARTLET_PYTHON_SDK", "MARTLET_DUCKDB_LIBRARY")
READY_SECONDS = 30
STOP_SECONDS = 45
NEVER = "0 0 0 1 1 ? 2099"


def until(check, what: str, seconds: float = 30, every: float = 0.02):
    """The first true answer of `check`."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s; last answer: {found!r}")
        time.sleep(every)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def mount_in_memory(folder: Path, *options: str) -> None:
    """Mounts a file system of its own; where that is not allowed the test is skipped, or fails if all tests are to run."""
    import pytest

    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode == 0:
        return
    reason = f"file systems cannot be mounted here: {done.stderr.strip()}"
    if os.environ.get("MARTLET_TEST_ALL"):
        pytest.fail(reason)
    pytest.skip(reason)


class Answer(NamedTuple):
    """What the API said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int, code: str | None = None) -> dict:
        """The body of a refusal, which must be complete."""
        assert self.status == status, (self.status, self.body[:2000])
        assert self.headers.get_content_type() == "application/problem+json"
        said = self.json
        assert said["status"] == status and said["title"] and said["detail"] and said["instance"], said
        if code is not None:
            assert said["code"] == code, said
        return said


class Refused(Exception):
    """The API answered with an error where none was expected."""


def parent(pid: int) -> int:
    """The parent of a process; 0 where it has ended."""
    with contextlib.suppress(OSError):
        return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])
    return 0


class Engine:
    """One `martlet serve` and the ways to talk to it."""

    def __init__(self, directory: Path, data: Path | None = None, settings: dict[str, str] | None = None) -> None:
        self.directory = directory.resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.data = data or self.directory / "data"
        self.log = self.directory / "engine.log"
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("MARTLET_") or name in KEPT_SETTINGS
        } | {"MARTLET_CONFIG": str(self.directory / "no-config"), "HOME": str(self.directory), "NO_COLOR": "1"}
        self.settings = settings or {}
        self.token: str | None = self.settings.get("MARTLET_TOKEN")
        self.process: subprocess.Popen | None = None
        self.port = 0
        self.starts = 0

    # Life

    def launch(self, *arguments: str) -> subprocess.Popen:
        """Starts the program without waiting for anything."""
        environment = {
            name: value for name, value in self.environment.items() if name != "MARTLET_CONFIG"
        } | self.settings
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "serve", "--data-dir", self.data, "--port", "0", *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=environment, cwd=ROOT,
                start_new_session=True,
            )  # fmt: skip
        self.starts += 1
        return self.process

    def start(self, *arguments: str) -> float:
        """Starts it and waits until it is ready; returns the seconds that took."""
        began = time.monotonic()
        process = self.launch(*arguments)
        self.port = 0
        known = threading.Event()

        def read() -> None:
            with open(self.log, "ab") as log:
                for line in process.stdout:
                    log.write(line)
                    log.flush()
                    for word in line.decode(errors="replace").split():
                        if word.startswith("http://") and not known.is_set():
                            self.port = urllib.parse.urlsplit(word).port
                            known.set()
            known.set()

        threading.Thread(target=read, daemon=True).start()
        assert known.wait(READY_SECONDS), f"no address within {READY_SECONDS} s\n{self.log_tail()}"
        assert self.port, f"the engine ended\n{self.log_tail()}"
        until(self.is_ready, "the engine is ready", READY_SECONDS, every=0.005)
        return time.monotonic() - began

    def is_ready(self) -> bool:
        assert self.process.poll() is None, f"the engine ended with {self.process.returncode}\n{self.log_tail()}"
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.http("GET", "/readyz").status == 200
        return False

    def kill(self) -> None:
        """As a power failure of the process: SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """Stops it in order; returns its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                return -signal.SIGKILL
        return self.process.returncode

    def clean_up(self) -> None:
        """Ends the engine and whatever it may have left running."""
        self.kill()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def log_tail(self, characters: int = 6000) -> str:
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def processes(self) -> list[int]:
        """Worker processes that belong to the data directory."""
        wanted = os.fsencode(str(self.data))
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) in (os.getpid(), self.process.pid if self.process else 0):
                continue
            with contextlib.suppress(OSError):
                command = Path("/proc", entry, "cmdline").read_bytes()
                environment = Path("/proc", entry, "environ").read_bytes()
                state = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and b"python" in command and (wanted in command or wanted in environment):
                    found.append(int(entry))
        return found

    # HTTP

    def http(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 60
    ) -> Answer:
        """One request on a connection of its own; a body that is not bytes is sent as JSON."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, bytearray)):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def api(self, method: str, path: str, body: Any = None, timeout: float = 60) -> Any:
        """JSON of a request below /api/v1 that must succeed."""
        answer = self.http(method, f"/api/v1/{path}", body, timeout=timeout)
        if answer.status >= 300:
            raise Refused(f"{method} {path}: {answer.status} {answer.body.decode(errors='replace')}")
        return answer.json if answer.body else None

    def get(self, path: str) -> Any:
        return self.api("GET", path)

    def post(self, path: str, body: Any = None, timeout: float = 60) -> Any:
        return self.api("POST", path, {} if body is None else body, timeout)

    def items(self, path: str) -> list[dict]:
        return self.get(path)["data"]

    # Command line

    def run(self, *arguments: Any, input: str | bytes | None = None, **environment: str) -> subprocess.CompletedProcess:
        """One command of the command line."""
        given = input.encode() if isinstance(input, str) else input
        done = subprocess.run(
            [PROGRAM, *map(os.fsencode, map(str, arguments))], input=b"" if given is None else given,
            capture_output=True, cwd=self.directory, timeout=300,
            env=self.environment | {"MARTLET_SERVER": f"http://127.0.0.1:{self.port}"} | environment,
        )  # fmt: skip
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def cli(self, *arguments: Any, input: str | None = None) -> str:
        """Standard output of a command that must succeed."""
        done = self.run(*arguments, input=input)
        assert done.returncode == 0, f"martlet {' '.join(map(str, arguments))}: {done.returncode}\n{done.stderr}"
        return done.stdout

    def ask(self, *arguments: Any) -> Any:
        """JSON of a command that must succeed."""
        return json.loads(self.cli(*arguments, "-o", "json"))

    # Things to work with

    def folder(self, name: str, source: str, **files: str) -> Path:
        """A function's folder."""
        folder = self.directory / "functions" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "main.py").write_text(textwrap.dedent(source))
        for file, text in files.items():
            (folder / file).write_text(text)
        return folder

    def build(self, name: str, source: str, **files: str) -> None:
        self.cli("functions", "build", name, "--target", self.folder(name, source, **files))

    def function(self, name: str, source: str, **files: str) -> int:
        """Makes or updates a function; returns its newest revision."""
        self.build(name, source, **files)
        if self.http("GET", f"/api/v1/functions/{name}").status == 200:
            self.api("PUT", f"functions/{name}", {})
        else:
            self.cli("functions", "create", name, "--publish")
        return self.get(f"functions/{name}")["last_revision_number"]

    def source(self, name: str, partitions: int = 1) -> "Source":
        """A trigger that never fires, and its topic: what is published there in its name goes down its links."""
        self.post("topics", {"name": name, "partitions": partitions})
        trigger = self.post("triggers", {"name": name, "type": "Schedule", "cron_schedule": NEVER, "topic": name})
        return Source(self, name, f"vastdata.com:{name}.{trigger['guid']}")

    def pipeline(
        self, name: str, deployments: dict[str, dict], links: list[dict], triggers: list[str] | None = None,
        deploy: bool = True, **config: Any,
    ) -> "Pipeline":  # fmt: skip
        """Makes or updates a pipeline; `deployments` maps instances to their fields."""
        document = manifest(name, deployments, links, triggers, **config)
        if self.http("GET", f"/api/v1/pipelines/{name}").status == 200:
            self.api("PUT", f"pipelines/{name}", document)
        else:
            self.post("pipelines", document)
        made = Pipeline(self, name)
        if deploy:
            made.deploy()
        return made

    def tables(self) -> set[str]:
        return {table["name"] for table in self.items("tables?limit=1000")}

    def sql(self, statement: str, *parameters: Any) -> list[list]:
        body = {"sql": statement, "parameters": list(parameters), "limit": 1_000_000}
        return self.post("sql", body)["rows"]

    def column(self, table: str, column: str) -> list:
        """All values of a column, or none where the table is not there yet."""
        answer = self.http("POST", "/api/v1/sql", {"sql": f'select {column} from "{table}"', "limit": 1_000_000})
        if answer.status != 200:
            assert "does not exist" in answer.json["detail"] or answer.status == 404, answer.body
            return []
        return [row[0] for row in answer.json["rows"]]

    def dead_letters(self, pipeline: str) -> list[dict]:
        """Dead letters of a pipeline in full, oldest first."""
        found = self.items(f"dead-letters?limit=1000&pipeline={pipeline}")
        return [self.get(f"dead-letters/{letter['id']}") for letter in reversed(found)]

    def records(self, topic: str) -> dict[int, list["StoredRecord"]]:
        """Every record on disk by partition."""
        folder = self.data / "log/topics" / topic
        return {int(part.name): read_partition(part) for part in folder.iterdir() if part.name.isdigit()}


class Source:
    """Where tests put events in."""

    def __init__(self, engine: Engine, topic: str, source: str) -> None:
        self.engine = engine
        self.topic = topic
        self.source = source

    def event(self, id: str, data: Any = None, **attributes: Any) -> dict:
        return {
            "specversion": "1.0", "id": id, "source": self.source, "type": "vastdata.com:Schedule.TimerElapsed",
            "cronschedule": NEVER, "timerelapsedtimestamp": "2026-01-01T00:00:00Z",
            "datacontenttype": "application/json", "data": data,
        } | attributes  # fmt: skip

    def send(self, *events: dict) -> None:
        body = json.dumps(events).encode()
        headers = {"Content-Type": "application/cloudevents-batch+json"}
        answer = self.engine.http("POST", f"/api/v1/topics/{self.topic}/events", body, headers)
        assert answer.status == 202, (answer.status, answer.body)
        assert answer.json["count"] == len(events)

    def send_ids(self, ids, data: Any = None, **attributes: Any) -> None:
        self.send(*(self.event(str(id), data, **attributes) for id in ids))


class Pipeline:
    """A pipeline and how it does."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name

    def act(self, verb: str, body: Any = None, timeout: float = 60) -> dict:
        return self.engine.post(f"pipelines/{self.name}/{verb}", body, timeout)

    def deploy(self, timeout: float = 60) -> dict:
        return self.act("deploy", timeout=timeout)

    def show(self) -> dict:
        return self.engine.get(f"pipelines/{self.name}")

    def status(self, deployment: str | None = None) -> dict:
        found = self.engine.items(f"pipelines/{self.name}/deployments")
        return found[0] if deployment is None else next(one for one in found if one["name"] == deployment)

    def is_done(self) -> bool:
        found = self.engine.items(f"pipelines/{self.name}/deployments")
        return bool(found) and all(one["lag"] == 0 and one["in_flight"] == 0 for one in found)

    def wait(self, seconds: float = 30) -> None:
        """Until everything published so far is processed or dead-lettered, and committed."""
        until(self.is_done, f"pipeline {self.name} has no lag", seconds, every=0.05)


def manifest(
    name: str, deployments: dict[str, dict], links: list[dict], triggers: list[str] | None = None, **config: Any
) -> dict:
    if triggers is None:
        sources = [link["source"] if isinstance(link["source"], list) else [link["source"]] for link in links]
        triggers = sorted({source for some in sources for source in some if source not in deployments})
    return {
        "name": name,
        "manifest": {
            "triggers": [{"name": trigger, "vrn": trigger} for trigger in triggers],
            "function_deployments": [
                {"name": instance, "function_vrn": instance} | fields for instance, fields in deployments.items()
            ],
            "links": links,
        }
        | ({"config": config} if config else {}),
    }


# The files of a topic, read by the format's description: docs/formats/segment.md.


class StoredRecord(NamedTuple):
    """One record of a segment."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]


def _make_crc_table() -> list[int]:
    table = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE = _make_crc_table()


def crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRC_TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _variable(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at


def _bytes(data: bytes, at: int) -> tuple[bytes | None, int]:
    length, at = _variable(data, at)
    return (None, at) if length < 0 else (data[at : at + length], at + length)


def read_partition(folder: Path, checksums: bool = False) -> list[StoredRecord]:
    """All records; fails unless offsets are contiguous from the first segment's name on."""
    records: list[StoredRecord] = []
    expected = None
    for segment in sorted(folder.glob("*.log")):
        data = segment.read_bytes()
        base = int(segment.stem)
        assert expected in (None, base), f"{segment} begins at {base}, not {expected}"
        expected, at = base, 0
        while at < len(data):
            number = int.from_bytes(data[at : at + 8], "big", signed=True)
            length = int.from_bytes(data[at + 8 : at + 12], "big")
            if length == 0 and not any(data[at:]):
                break  # Room that is part of the file already and not written yet.
            batch = data[at : at + 12 + length]
            assert len(batch) == 12 + length and batch[16] == 2, f"{segment} at {at}: no whole batch"
            assert number == expected, f"{segment} at {at}: offset {number}, not {expected}"
            if checksums:
                assert int.from_bytes(batch[17:21], "big") == crc32c(batch[21:]), f"{segment} at {at}: checksum"
            assert batch[22] & 7 == 0, "compressed batches are not read here"
            count = int.from_bytes(batch[57:61], "big")
            place = 61
            for index in range(count):
                size, place = _variable(batch, place)
                end = place + size
                _, place = _variable(batch, place + 1)
                delta, place = _variable(batch, place)
                key, place = _bytes(batch, place)
                value, place = _bytes(batch, place)
                headers = {}
                amount, place = _variable(batch, place)
                for _ in range(amount):
                    name, place = _bytes(batch, place)
                    content, place = _bytes(batch, place)
                    headers[name.decode()] = (content or b"").decode(errors="replace")
                assert place == end and delta == index, f"{segment} at {at}: record {index}"
                records.append(StoredRecord(number + delta, key, value, headers))
            expected = number + int.from_bytes(batch[23:27], "big") + 1
            at += 12 + length
    return records
