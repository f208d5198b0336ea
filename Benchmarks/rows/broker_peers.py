# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The brokers that ours is measured against, as Debian ships them, and the clients that measure all of them."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

from .engine import BenchmarkError, Engine
from .peer import free_port
from .result import Bench

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
LIBRARIES = {"kafka": "rdkafka", "nats": "libnats"}
"""Of which library a client is one; others speak for themselves."""
START_SECONDS = 20
RUN_SECONDS = 600


def client(bench: Bench, name: str) -> Path:
    """The client's program, compiled where it is not there yet."""
    program = bench.root / ".build" / "benchmark-clients" / name
    source = CLIENTS / f"{name}.c"
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    flags = []
    if library := LIBRARIES.get(name):
        found = subprocess.run(["pkg-config", "--cflags", "--libs", library], capture_output=True, text=True)
        if found.returncode != 0:
            raise BenchmarkError(f"{library} is not there; install the peers with: Tools/setup peers")
        flags = found.stdout.split()
    made = subprocess.run(["cc", "-O2", "-o", program, source, *flags, "-lpthread"], capture_output=True, text=True)
    if made.returncode != 0:
        raise BenchmarkError(f"{source} could not be compiled:\n{made.stderr[-2000:]}")
    return program


def measure(bench: Bench, name: str, *arguments: object) -> dict:
    """Runs one command of a client; returns what it printed, with rates added where it counted records."""
    run = subprocess.run([client(bench, name), *map(str, arguments)], capture_output=True, text=True, timeout=RUN_SECONDS)
    if run.returncode != 0:
        raise BenchmarkError(f"{name} {' '.join(map(str, arguments))}: {run.stderr.strip()[-2000:]}")
    found = json.loads(run.stdout)
    if "seconds" in found:
        found["records_per_second"] = found["records"] / found["seconds"]
        found["megabytes_per_second"] = found["bytes"] / found["seconds"] / 1e6
    return found


class KafkaEngine(Engine):
    """An engine whose Kafka port is asked for by name."""

    def __enter__(self) -> "KafkaEngine":
        super().__enter__()
        self.kafka = self.call("GET", "/engine")["kafka_address"]
        return self

    def topic(self, name: str, partitions: int = 1) -> str:
        self.run("topics", "create", name, "--partitions", str(partitions))
        return name

    @property
    def logs(self) -> Path:
        return self.directory / "data"


class Peer:
    """A server of somebody else's on a free port; use it in a `with`, which ends it and removes what it kept."""

    name = ""

    def __init__(self, bench: Bench) -> None:
        self.port = free_port()
        self.directory = bench.directory / f"{self.name}-{self.port}"
        self.directory.mkdir()

    def command(self) -> list[str]:
        raise NotImplementedError

    def __enter__(self) -> "Peer":
        command = self.command()
        if shutil.which(command[0]) is None:
            raise BenchmarkError(f"there is no {command[0]}; install the peers with: Tools/setup peers")
        self.log = open(self.directory / "server.log", "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=self.directory)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    said = (self.directory / "server.log").read_text(errors="replace")
                    self.__exit__()
                    raise BenchmarkError(f"{self.name} did not start:\n{said[-2000:]}") from None
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class Nats(Peer):
    """JetStream with streams in files; as it is shipped it acknowledges before it syncs."""

    name = "nats"

    def command(self) -> list[str]:
        settings = self.directory / "nats.conf"
        # With 64 MiB, as shipped, the server cuts off a client that it pushes to faster than the client reads, and what was on its way is lost.
        settings.write_text(f'listen: "127.0.0.1:{self.port}"\nmax_pending: 1GB\njetstream {{ store_dir: "{self.directory}/streams" }}\n')
        return ["nats-server", "-c", str(settings)]

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def publish(self, bench: Bench, subject: str, records: int, size: int) -> dict:
        return measure(bench, "nats", "publish", self.url, subject, records, size, 8192)

    def consume(self, bench: Bench, subject: str, records: int) -> dict:
        return measure(bench, "nats", "consume", self.url, subject, records)


class Redis(Peer):
    """Streams in an append-only file that is synced before each answer."""

    name = "redis"

    def command(self) -> list[str]:
        return ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory), "--save", "",
                "--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]  # fmt: skip

    def publish(self, clients: int, pipeline: int, records: int, size: int) -> dict:
        run = subprocess.run(
            ["redis-benchmark", "-p", str(self.port), "-c", str(clients), "-P", str(pipeline), "-n", str(records), "--precision", "3",
             "XADD", "stream", "*", "d", "x" * size],
            capture_output=True, text=True, timeout=RUN_SECONDS,
        )  # fmt: skip
        rate = re.search(r"throughput summary: ([\d.]+) requests per second", run.stdout)
        if run.returncode != 0 or rate is None:
            raise BenchmarkError(f"redis-benchmark: {(run.stderr or run.stdout).strip()[-2000:]}")
        return {"records_per_second": float(rate[1]), "megabytes_per_second": float(rate[1]) * size / 1e6}


def forget_cached(directory: Path) -> None:
    """Lets go of what the page cache holds of the files in `directory`."""
    os.sync()
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)
