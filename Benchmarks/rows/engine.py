# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""A `martlet serve` of our own, and a client that keeps its connection."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.parse
from pathlib import Path

READY_SECONDS = 30
STOP_SECONDS = 45
FUNCTIONS = Path(__file__).resolve().parents[1] / "functions"
PASSED_ON = ("MARTLET_PYTHON_ENVIRONMENT", "MARTLET_PYTHON_SDK", "MARTLET_DUCKDB_LIBRARY")


class BenchmarkError(Exception):
    """What could not be measured or came out wrong, in words for the person who runs the benchmarks."""


class Engine:
    """An engine on a data directory of its own; use it in a `with`, which stops it and removes what it kept."""

    def __init__(self, program: Path, base: Path) -> None:
        self.program = program
        self.directory = Path(tempfile.mkdtemp(prefix="engine-", dir=base))
        self.log = self.directory / "engine.log"
        self.process: subprocess.Popen | None = None
        self.ready_seconds = 0.0
        self._client: http.client.HTTPConnection | None = None
        # Settings of the person who runs this must not reach our engine, apart from where its parts are.
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("MARTLET_") or key in PASSED_ON}

    def __enter__(self) -> "Engine":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        """Starts it on a free port and waits until it answers."""
        start = time.perf_counter()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.program, "serve", "--data-dir", self.directory / "data", "--port", "0", "--log-level", "warning"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=self.environment, start_new_session=True,
            )  # fmt: skip
        address = ""
        while not address:
            line = self.process.stdout.readline().decode(errors="replace")
            if not line:
                self.process.wait(READY_SECONDS)
                raise BenchmarkError(f"the engine did not start:\n{self.log.read_text(errors='replace')[-2000:]}")
            address = next((word for word in line.split() if word.startswith("http://")), "")
        parts = urllib.parse.urlsplit(address)
        self.server = f"http://{parts.hostname}:{parts.port}"
        self._client = self.client()
        status, _ = self.request("GET", "/readyz")
        self.ready_seconds = time.perf_counter() - start
        if status != 200:
            raise BenchmarkError(f"the engine answered {status} to /readyz")

    def client(self) -> http.client.HTTPConnection:
        """A connection of one's own."""
        parts = urllib.parse.urlsplit(self.server)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)

    def stop(self) -> None:
        if self._client is not None:
            self._client.close()
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def request(self, method: str, path: str, body: bytes | None = None, media_type: str = "application/json") -> tuple[int, bytes]:
        headers = {} if body is None else {"Content-Type": media_type}
        self._client.request(method, path, body, headers)
        answer = self._client.getresponse()
        return answer.status, answer.read()

    def call(self, method: str, path: str, body: object = None) -> dict:
        """Sends JSON, returns JSON; raises on an answer that is not a success."""
        data = None if body is None else json.dumps(body).encode()
        status, answer = self.request(method, "/api/v1" + path, data)
        if status >= 300:
            raise BenchmarkError(f"{method} {path} was answered with {status}: {answer.decode(errors='replace')[:2000]}")
        return json.loads(answer) if answer else {}

    def run(self, *arguments: str | Path) -> str:
        """Runs one command of the command line; returns what it wrote."""
        environment = self.environment | {"MARTLET_SERVER": self.server, "MARTLET_CONFIG": str(self.directory / "no-config")}
        result = subprocess.run(
            [self.program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, timeout=600
        )
        if result.returncode != 0:
            raise BenchmarkError(f"'martlet {' '.join(map(str, arguments))}' failed: {result.stderr.strip()}")
        return result.stdout

    def rss_mb(self) -> float:
        """Resident memory of the engine's process alone."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise BenchmarkError("the engine's memory cannot be read")

    def processor_seconds(self) -> float:
        """Processor time of the engine's process alone."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def processor_seconds_with_workers(self) -> float:
        """Processor time of the engine's process and of those it started that still run."""
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, fields = path.read_text().rsplit(")", 1)
            except OSError:
                continue  # It ended meanwhile.
            fields = fields.split()
            if self.process.pid in (int(name.split(" ", 1)[0]), int(fields[1])):
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    # What the rows have in common.

    def function(self, name: str, folder: Path | None = None) -> None:
        """Builds, creates and publishes a function."""
        self.run("functions", "build", name, "--target", folder or FUNCTIONS / name)
        self.run("functions", "create", "-n", name, "--artifact-source", name, "--publish")

    def view(self, name: str) -> Path:
        path = self.directory / name
        path.mkdir()
        self.run("views", "create", name, "--path", path)
        return path

    def pipeline(self, name: str, trigger: str, function: str, deployment: dict, link: dict | None = None) -> None:
        """Makes a pipeline of one trigger and one function, and deploys it."""
        manifest = {
            "triggers": [{"name": "source", "vrn": f"vast:dataengine:triggers:{trigger}"}],
            "function_deployments": [{"name": "work", "function_vrn": f"vast:dataengine:functions:{function}"} | deployment],
            "links": [{"source": ["source"], "destination": ["work"], "config": link or {"retries": 3, "events_order": "unordered"}}],
        }
        config = self.directory / f"{name}.json"
        config.write_text(json.dumps({"name": name, "manifest": manifest}))
        self.run("pipelines", "create", "--config", config, "--deploy")

    def deployment(self, pipeline: str) -> dict:
        return self.call("GET", f"/pipelines/{pipeline}/deployments")["data"][0]

    def wait(self, pipeline: str, wanted: int, seconds: float, pause: float = 0.05) -> dict:
        """Waits until `wanted` events are processed; returns the deployment's counters."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.deployment(pipeline)
            if status["succeeded"] >= wanted:
                return status
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{pipeline}: {status['succeeded']} of {wanted} events were processed in {seconds:.0f} s: {status}")
            time.sleep(pause)

    def require(self, pipeline: str, count: int) -> None:
        """Checks that exactly `count` events were processed, without failure."""
        status = self.deployment(pipeline)
        found = (status["succeeded"], status["failed"], status["retried"], status["dead_lettered"])
        if found != (count, 0, 0, 0):
            raise BenchmarkError(f"{pipeline}: expected {count} successes and nothing else, found {status}")
