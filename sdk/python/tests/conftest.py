# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""A real gateway on a Unix socket and real worker processes, for every test."""

import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

import pytest

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
sys.path.insert(0, SOURCE)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


class GatewayServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The engine's gateway as the protocol page describes it; keeps what it got."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, path):
        self.calls = []
        self.arrived = threading.Condition()
        self.refuse = {}
        super().__init__(path, _GatewayHandler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def of(self, path):
        with self.arrived:
            return [body for called, body, _ in self.calls if called == path]

    def wait_for(self, path, check=lambda bodies: bodies, seconds=10):
        deadline = time.monotonic() + seconds
        with self.arrived:
            while True:
                found = [body for called, body, _ in self.calls if called == path]
                if check(found):
                    return found
                left = deadline - time.monotonic()
                assert left > 0, "nothing fitting came to %s: %r" % (path, found[-3:])
                self.arrived.wait(left)

    def logs(self):
        """Every log record so far, flattened."""
        records = []
        for body in self.of("/v1/logs"):
            for resource in body["resourceLogs"]:
                for scoped in resource["scopeLogs"]:
                    for record in scoped["logRecords"]:
                        records.append(
                            dict(record, text=record["body"]["stringValue"], attrs=plain(record["attributes"]))
                        )
        return records

    def wait_for_log(self, text, seconds=10):
        self.wait_for("/v1/logs", lambda _: any(text in r["text"] for r in self.logs()), seconds)
        return next(record for record in self.logs() if text in record["text"])

    def spans(self):
        return [
            span
            for body in self.of("/v1/traces")
            for resource in body["resourceSpans"]
            for scoped in resource["scopeSpans"]
            for span in scoped["spans"]
        ]

    def wait_for_span(self, name, seconds=10):
        self.wait_for("/v1/traces", lambda _: any(span["name"] == name for span in self.spans()), seconds)
        return next(span for span in self.spans() if span["name"] == name)

    def metrics(self):
        return {
            metric["name"]: metric
            for body in self.of("/v1/metrics")
            for resource in body["resourceMetrics"]
            for scoped in resource["scopeMetrics"]
            for metric in scoped["metrics"]
        }


def plain(attributes):
    return {item["key"]: next(iter(item["value"].values())) for item in attributes}


class _GatewayHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = False

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        status, answer = server.refuse.get(self.path, (None, None))
        if status is None:
            status, answer = 204, None
            if self.path == "/v1/tables/commit":
                counts = {}
                for operation in body["operations"]:
                    count = counts.setdefault(operation["table"], {"upserted": 0, "deleted": 0})
                    count["upserted" if operation["op"] == "upsert" else "deleted"] += len(operation["rows"])
                status, answer = 200, {"tables": counts}
            elif self.path == "/v1/emit":
                status, answer = 200, {"count": len(body["events"])}
            elif self.path not in ("/v1/ready", "/v1/failed"):
                status, answer = 200, {}
        with server.arrived:
            server.calls.append((self.path, body, dict(self.headers)))
            server.arrived.notify_all()
        text = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def address_string(self):
        return "worker"

    def log_message(self, *_):
        pass


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=30):
        super().__init__("worker", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class WorkerProcess:
    """One `python -m martlet.worker`."""

    def __init__(self, folder, gateway, code, environ=None, files=None, python=(), cwd=None):
        self.folder, self.gateway = folder, gateway
        self.path = os.path.join(folder, "w.sock")
        self.app = os.path.join(folder, "app")
        os.makedirs(self.app, exist_ok=True)
        if code is not None:
            with open(os.path.join(self.app, "main.py"), "w") as stream:
                stream.write(textwrap.dedent(code))
        for name, text in (files or {}).items():
            os.makedirs(os.path.dirname(os.path.join(self.app, name)), exist_ok=True)
            with open(os.path.join(self.app, name), "w") as stream:
                stream.write(textwrap.dedent(text))
        function = {
            "function_name": "inspector-1",
            "function_revision": 3,
            "pipeline_name": "frames",
            "deployment_name": "inspector",
            "downstream": {"writer": {"tier": "vip"}, "alerts": {}},
            "broker": "broker",
            "authority": "vastdata.com",
        }
        self.environ = {
            key: value for key, value in os.environ.items() if not key.startswith(("K_", "MARTLET_", "VAST"))
        }
        self.environ.update(
            PYTHONPATH=SOURCE,
            PYTHONDONTWRITEBYTECODE="1",
            MARTLET_WORKER_ID="w1",
            MARTLET_WORKER_SOCKET=self.path,
            MARTLET_WORKER_TOKEN="secret-token",
            MARTLET_APP_PATH=self.app,
            MARTLET_HANDLER="main.py",
            MARTLET_FUNCTION_CONTEXT=json.dumps(function),
        )
        if gateway is not None:
            self.environ["MARTLET_GATEWAY_SOCKET"] = gateway.server_address
        self.environ.update(environ or {})
        self.out = open(os.path.join(folder, "out.txt"), "w+b")
        self.process = subprocess.Popen(
            [sys.executable, *(python or ("-m", "martlet.worker"))],
            env=self.environ,
            stdout=self.out,
            stderr=subprocess.STDOUT,
        )

    def ready(self, seconds=20):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if self.gateway.of("/v1/ready"):
                return self
            with self.gateway.arrived:
                self.gateway.arrived.wait(0.05)
        raise AssertionError("the worker did not become ready: status %s\n%s" % (self.process.poll(), self.output()))

    def output(self):
        self.out.flush()
        with open(self.out.name, "rb") as stream:
            return stream.read().decode("utf-8", "replace")

    def connection(self, timeout=30):
        return UnixConnection(self.path, timeout)

    def request(self, method, path, body=b"", headers=None):
        connection = self.connection()
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, body, headers):
        status, answer = self.request("POST", "/", body, headers)
        return status, json.loads(answer) if answer[:1] == b"{" else answer

    def send(self, event):
        """Posts one structured event to `/`."""
        return self.post(json.dumps(event), {"Content-Type": "application/cloudevents+json"})

    def start_invoke(self, events):
        connection = self.connection()
        connection.request(
            "POST", "/v1/invoke", json.dumps(events), {"Content-Type": "application/cloudevents-batch+json"}
        )
        return connection, connection.getresponse()

    def lines(self, events):
        connection, answer = self.start_invoke(events)
        try:
            assert answer.status == 200, answer.read()
            return [json.loads(line) for line in answer.read().splitlines()]
        finally:
            connection.close()

    def invoke(self, events):
        """Returns the results by index, each filled up to seven fields."""
        results = {}
        for line in self.lines(events):
            for result in line.get("results", ()):
                assert result[0] not in results
                results[result[0]] = result + [None] * (7 - len(result))
        assert sorted(results) == list(range(len(events)))
        return [results[index] for index in range(len(events))]

    def stop(self, number=signal.SIGTERM, seconds=15):
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)


@pytest.fixture
def folder():
    made = tempfile.mkdtemp(prefix="mw-")
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def gateway(folder):
    server = GatewayServer(os.path.join(folder, "g.sock"))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def start(folder, gateway):
    """`start(code)` returns a ready worker; `start(code, ready=False)` one that may fail."""
    started = []

    def make(code, ready=True, **options):
        worker = WorkerProcess(folder, gateway, code, **options)
        started.append(worker)
        return worker.ready() if ready else worker

    yield make
    for worker in started:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()
        worker.out.close()


def element(number=1, **more):
    """An element event as the reference shows it."""
    event = {
        "specversion": "1.0",
        "id": str(1004356627333134 + number),
        "type": "vastdata.com:Element.ElementCreated",
        "source": "vastdata.com:s3-trigger.b45a6820-410c-457a-ac1b-035a102b5d05",
        "subject": "vast-broker-engine-broker.main",
        "time": "2026-04-08T15:41:29.591955+00:00",
        "datacontenttype": "application/json",
        "dataschema": None,
        "elementhandle": "8025198034623744117",
        "elementpath": "s3-bucket-name/dir/test.md",
        "elementsourcetype": "vast:s3",
        "knativekafkaoffset": "135498",
        "knativekafkapartition": "0",
        "data": {"Records": [{"eventName": "ObjectCreated:Put"}]},
    }
    event.update(more)
    return event


def attempt(number=1, **more):
    """The same as the engine sends it to `/v1/invoke`."""
    return element(number, traceparent="00-%s-%s-01" % (TRACE, SPAN), martletattempt=1, **more)


def schedule(**more):
    event = {
        "specversion": "1.0",
        "id": "6f1c2d34-0000-4000-8000-000000000001",
        "type": "vastdata.com:Schedule.TimerElapsed",
        "source": "vastdata.com:every-five.25d743ba-5c35-4524-a165-5a6566801b63",
        "subject": "broker.main",
        "time": "2026-04-08T15:45:00+00:00",
        "cronschedule": "0 0/5 * ? * * *",
        "timerelapsedtimestamp": "2026-04-08T15:45:00Z",
        "partitionkey": "6f1c2d34-0000-4000-8000-000000000001",
        "data": {"message": "Activating trigger by cron"},
    }
    event.update(more)
    return event


if __name__ == "__main__":
    GatewayServer(sys.argv[1])
    print("listening", flush=True)
    signal.pause()
