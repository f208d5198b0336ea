# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""`python -m martlet.localrun` and K_SINK, as real processes."""

import http.client
import http.server
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from conftest import SOURCE, TRACE, element

CODE = """
import os
def init(ctx):
    ctx.logger.info("secrets %s", sorted(ctx.secrets))
def handler(ctx, event):
    print("user line", os.environ.get("COLOR"), ctx.secrets["db"]["pem"].count("\\n"))
    with open(os.environ["MARTLET_SECRETS_DIR"] + "/db/pem") as stream:
        assert stream.read() == ctx.secrets["db"]["pem"]
    with ctx.transaction():
        ctx.tables["files"].upsert({"path": event.object_key, "size": 1}, key=["path"])
    if event.get("bad"):
        raise ValueError("bad event")
    return {"ok": True}
"""


class Local:
    def __init__(self, folder, code, config=None, environ=None, arguments=()):
        self.app = os.path.join(folder, "my-function")
        os.makedirs(self.app)
        with open(self.app + "/main.py", "w") as stream:
            stream.write(textwrap.dedent(code))
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("K_", "MARTLET_", "VAST"))}
        clean.update(environ or {}, PYTHONPATH=SOURCE, PYTHONDONTWRITEBYTECODE="1")
        if config is not None:
            clean["MARTLET_LOCALRUN_CONFIG"] = json.dumps(config)
        self.log = open(os.path.join(folder, "local.txt"), "w+b")
        command = [sys.executable, "-m", "martlet.localrun", "--app-path", self.app, "--port", "0", *arguments]
        self.process = subprocess.Popen(command, env=clean, cwd=folder, stdout=self.log, stderr=subprocess.STDOUT)

    def output(self):
        with open(self.log.name, "rb") as stream:
            return stream.read().decode()

    def wait_for(self, text, seconds=15):
        deadline = time.monotonic() + seconds
        while text not in self.output():
            assert time.monotonic() < deadline and self.process.poll() is None, self.output()
            time.sleep(0.01)
        return self.output()

    def ready(self):
        text = self.wait_for("Handler is now ready")
        self.port = int(re.search(r"listening on port (\d+)", text).group(1))
        return self

    def send(self, event):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", "/", json.dumps(event), {"Content-Type": "application/cloudevents+json"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body


@pytest.fixture
def local(folder):
    started = []

    def make(*args, **options):
        started.append(Local(folder, *args, **options))
        return started[-1]

    yield make
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        one.log.close()


CONFIG = {"envs": {"COLOR": "red", "N": 5}, "secrets": {"db": {"pem": "-----\nabc\n"}}}


def test_log_lines_are_the_references(local):
    one = local(CODE, CONFIG).ready()
    status, body = one.send(element(traceparent="00-%s-00f067aa0ba902b7-01" % TRACE))
    assert (status, body) == (204, b"")
    text = one.wait_for("END EventId")
    order = [
        "Starting VAST DataEngine Runtime",
        "App Path: ",
        "Handler: main.py",
        "Call Init Handler: init",
        "secrets ['db']",
        "Init Handler Completed, duration: ",
        "Runtime is listening on port ",
        "Handler is now ready to accept requests",
        "START EventId: 1004356627333135, TraceId: %s, EventType: vastdata.com:Element.ElementCreated" % TRACE,
        "user line red 2",
        "table files: upsert 1 row on key path",
        '{"path":"dir/test.md","size":1}',
        "Function returned: {'ok': True} with duration ",
        "No sink URL configured",
        "END EventId: 1004356627333135, Duration: ",
    ]
    places = [text.find(line) for line in order]
    assert -1 not in places and places == sorted(places), (list(zip(order, places)), text)
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d\d \[my-function\] \[INFO\] \[user\] secrets", text, re.M)
    status, body = one.send(element(bad="1"))
    assert status == 500 and json.loads(body)["error"] == "bad event"
    text = one.wait_for("Error in handler execution: ValueError: bad event")
    assert 'main.py", line' in text
    one.process.terminate()
    assert one.process.wait(10) == 0


def test_yaml_config_and_missing_config(local, folder):
    pytest.importorskip("yaml")
    with open(folder + "/config.yaml", "w") as stream:
        stream.write("envs:\n  COLOR: blue\nsecrets:\n  db:\n    pem: |\n      a\n      b\n")
    one = local(CODE, arguments=("--config", "config.yaml", "--log-level", "DEBUG")).ready()
    assert one.send(element())[0] == 204
    one.wait_for("user line blue 2")
    one.process.terminate()
    one.process.wait(10)


def test_missing_config_is_a_warning(local):
    one = local("def handler(ctx, event):\n    pass\n").ready()
    assert "there is no config.yaml" in one.output()
    assert one.send(element())[0] == 204


@pytest.mark.parametrize(
    "config, message",
    [
        ({"env": {}}, "unknown key env; there are `envs` and `secrets`"),
        ([1], "must be a mapping"),
        ({"secrets": {"a": "b"}}, "secrets.a must be a mapping"),
        ({"secrets": {"../a": {"k": "v"}}}, "cannot be a file name"),
    ],
)
def test_bad_config(local, config, message):
    one = local("def handler(ctx, event):\n    pass\n", config)
    assert one.process.wait(15) == 3
    assert message in one.output()


class SinkServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        self.got = []
        self.status = 202
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.got.append((self.path, {key.lower(): value for key, value in self.headers.items()}, body))
                self.send_response(server.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def test_results_go_to_the_sink(local):
    sink = SinkServer()
    environ = {
        "K_SINK": "http://127.0.0.1:%d/broker" % sink.server_address[1],
        "K_CE_OVERRIDES": json.dumps({"extensions": {"region": "eu"}}),
        "K_NAME": "echo-1",
    }
    code = """
    from vast.dataengine.sdk import VastEvent
    def handler(ctx, event):
        if event.data == "none": return None
        if event.data == "event": return VastEvent({"type": "acme:Thing", "source": "acme:me", "id": "77"}, {"own": 1})
        return {"echo": event.data}
    """
    one = local(code, environ=environ).ready()
    traceparent = "00-%s-00f067aa0ba902b7-01" % TRACE
    assert one.send(element(data="x", traceparent=traceparent))[0] == 204
    assert one.send(element(data="none"))[0] == 204
    assert one.send(element(data="event"))[0] == 204
    assert len(sink.got) == 2
    path, headers, body = sink.got[0]
    assert path == "/broker" and json.loads(body) == {"echo": "x"} and headers["content-type"] == "application/json"
    assert headers["ce-type"] == "vastdata.com:Function" and headers["ce-source"] == "vastdata.com:echo-1"
    assert headers["ce-id"] == "1004356627333135" and headers["ce-subject"] == element()["subject"]
    assert headers["ce-partitionkey"] == "s3-bucket-name/dir/test.md" and headers["ce-traceparent"] == traceparent
    assert headers["ce-region"] == "eu" and headers["ce-specversion"] == "1.0"
    assert sink.got[1][1]["ce-type"] == "acme:Thing" and sink.got[1][1]["ce-id"] == "77"
    one.wait_for("CloudEvent sent to sink")
    sink.status = 503
    status, body = one.send(element(data="x"))
    assert status == 500 and "answered 503" in json.loads(body)["error"]
    sink.shutdown()
    sink.server_close()
