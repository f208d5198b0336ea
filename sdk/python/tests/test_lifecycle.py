# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Start, failure to start, stop, and the death of the engine."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from conftest import SOURCE, attempt

GOOD = "def handler(ctx, event):\n    return None\n"


def test_ready_says_what_runs(start, gateway):
    worker = start(GOOD)
    ready = gateway.of("/v1/ready")[0]
    assert ready["pid"] == worker.process.pid and ready["handler"] == "sync" and ready["init_micros"] >= 0
    assert ready["runtime"] == "python-%d.%d.%d" % sys.version_info[:3]
    assert worker.request("GET", "/readiness") == (200, b"Ready")
    assert worker.request("GET", "/liveness") == (200, b"Alive")
    assert worker.request("OPTIONS", "/")[0] == 200
    assert worker.request("GET", "/")[0] == 405
    assert worker.request("GET", "/nothing")[0] == 404
    assert os.stat(worker.path).st_mode & 0o777 == 0o600


FAILURES = [
    ("import nosuchmodule\n" + GOOD, "import", "ModuleNotFoundError", "requirements.txt", 'main.py", line 1'),
    ("def handler(ctx, event)\n    pass\n", "import", "SyntaxError", "main.py, line 1: ", "SyntaxError"),
    ("x = 1\n", "import", "AttributeError", "main.py has no function `handler`; add: def handler(ctx, event):", ""),
    (
        "def handler(event):\n    pass\n",
        "import",
        "TypeError",
        "main.py, line 1: handler(event) cannot be called with (ctx, event)",
        "",
    ),
    ("def init():\n    pass\n" + GOOD, "import", "TypeError", "init() cannot be called with (ctx)", ""),
    ("handler = 5\n", "import", "TypeError", "`handler` is int, not a function", ""),
    ("import sys\nsys.exit(2)\n", "import", "SystemExit", "called exit(2)", 'main.py", line 2'),
    ("def init(ctx):\n    {}['missing']\n" + GOOD, "init", "KeyError", "'missing'", "in init"),
    ("async def init(ctx):\n    raise OSError('no database')\n" + GOOD, "init", "OSError", "no database", "in init"),
]


@pytest.mark.parametrize("code, phase, kind, message, trace", FAILURES)
def test_failures_to_start(start, gateway, code, phase, kind, message, trace):
    worker = start(code, ready=False)
    assert worker.process.wait(20) == 3
    failed = gateway.wait_for("/v1/failed")[0]
    assert (failed["phase"], failed["type"]) == (phase, kind) and message in failed["message"], failed
    assert (
        trace in failed["traceback"]
        and "src/martlet" not in failed["traceback"]
        and "importlib" not in failed["traceback"]
    )
    assert kind in worker.output() and message in worker.output()
    assert not gateway.of("/v1/ready") and not os.path.exists(worker.path)


def test_errors_in_modules_name_their_file(start, gateway):
    worker = start("from common.models import x\n" + GOOD, files={"common/models.py": "x = [\n"}, ready=False)
    assert worker.process.wait(20) == 3
    failed = gateway.wait_for("/v1/failed")[0]
    assert failed["type"] == "SyntaxError" and failed["message"].startswith("models.py, line 1")


def test_missing_handler_file(start, gateway):
    worker = start(None, files={"other.py": GOOD}, ready=False)
    assert worker.process.wait(20) == 3
    assert "the handler file main.py is not in" in gateway.wait_for("/v1/failed")[0]["message"]
    assert "other.py" in gateway.of("/v1/failed")[0]["message"]


def test_init_is_optional_and_modules_beside_import(start):
    worker = start(
        "from common.models import VALUE\nimport flat\ndef handler(ctx, event):\n    return VALUE + flat.MORE\n",
        files={"common/models.py": "VALUE = 1\n", "flat.py": "MORE = 2\n"},
    )
    assert worker.invoke([attempt()])[0][4] == [{"data": 3}]


@pytest.mark.parametrize(
    "environ, message",
    [
        ({"MARTLET_TIMEOUT_SECONDS": "soon"}, "MARTLET_TIMEOUT_SECONDS is 'soon'"),
        ({"MARTLET_CONCURRENCY": "-1"}, "MARTLET_CONCURRENCY is '-1'"),
        ({"MARTLET_FUNCTION_CONTEXT": "{"}, "MARTLET_FUNCTION_CONTEXT is not JSON"),
        ({"MARTLET_WORKER_SOCKET": ""}, "set MARTLET_WORKER_SOCKET or MARTLET_WORKER_PORT"),
        ({"MARTLET_WORKER_SOCKET": "/nonexistent/w.sock"}, "the worker cannot listen on /nonexistent/w.sock"),
        ({"K_SINK": "ftp://x"}, "K_SINK is 'ftp://x'"),
        ({"K_SINK": "http://x/", "K_CE_OVERRIDES": "[]"}, "failed parsing knative CE overrides"),
    ],
)
def test_wrong_settings(start, gateway, environ, message):
    worker = start(GOOD, environ=environ, ready=False)
    assert worker.process.wait(20) == 3
    assert message in worker.output() and "src/martlet" not in worker.output()
    if "WORKER_SOCKET or" not in message:
        assert (
            message in gateway.wait_for("/v1/failed")[0]["message"]
            and gateway.of("/v1/failed")[0]["phase"] == "runtime"
        )


def test_forked_children_keep_working(start, gateway):
    worker = start(
        """
        import multiprocessing
        def child(ctx, queue):
            print("printed by the child")
            ctx.logger.warning("logged by the child")
            ctx.tables["t"].upsert({"k": "child"}, key=["k"])
            queue.put("done")
        def handler(ctx, event):
            print("before")
            ctx.tables["t"].upsert({"k": "parent"}, key=["k"])
            fork = multiprocessing.get_context("fork")
            queue = fork.Queue()
            process = fork.Process(target=child, args=(ctx, queue))
            process.start()
            said = queue.get(timeout=10)
            process.join()
            ctx.tables["t"].upsert({"k": "after"}, key=["k"])
            return said
        """
    )
    assert worker.invoke([attempt()])[0][4] == [{"data": "done"}]
    keys = [commit["operations"][0]["rows"][0][0] for commit in gateway.of("/v1/tables/commit")]
    assert keys == ["parent", "child", "after"]
    assert worker.stop() == 0
    assert "printed by the child" in worker.output() and "logged by the child" in worker.output()


def test_a_context_for_unit_tests():
    import martlet

    ctx = martlet.Context()
    with ctx.transaction():
        ctx.tables["t"].upsert({"k": 1}, key=["k"])
    with ctx.tracer.start_as_current_span("s") as span:
        span.set_attribute("a", 1)
    ctx.counter("c").add(1)
    ctx.logger.info("fine")
    assert ctx.function_name and ctx.secrets == {}


def test_init_trace(start, gateway):
    start("def init(ctx):\n    ctx.logger.info('in init')\n    print('said')\n" + GOOD)
    span = gateway.wait_for_span("init")
    assert gateway.wait_for_log("in init")["traceId"] == span["traceId"] == gateway.wait_for_log("said")["traceId"]
    assert "parentSpanId" not in span


def test_start_is_quick(start, gateway):
    """Import time of the runtime alone, without a timed assertion on a shared machine beyond a sane bound."""
    code = (
        "import sys, time; t = time.perf_counter(); import martlet.worker; "
        "print(int((time.perf_counter() - t) * 1000)); "
        "print(','.join(m for m in sys.modules if m.startswith('opentelemetry')))"
    )
    best = 10_000
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=dict(os.environ, PYTHONPATH=SOURCE),
            capture_output=True,
            text=True,
            check=True,
        )
        best = min(best, int(done.stdout.split("\n")[0]))
    assert done.stdout.split("\n")[1] == "", "OpenTelemetry was loaded though nothing asked for it"
    assert best < 1000


def test_sigterm_drains(start, gateway):
    worker = start(
        """
        import time
        def handler(ctx, event):
            time.sleep(0.6)
            print("finished", event.id)
            return 1
        """,
        environ={"MARTLET_CONCURRENCY": "2"},
    )
    connection, answer = worker.start_invoke([attempt(n) for n in range(6)])
    time.sleep(0.2)
    worker.process.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in answer.read().splitlines()]
    connection.close()
    results = [result for line in lines for result in line.get("results", ())]
    assert len(results) == 2 and all(result[1] == "ok" for result in results)
    assert worker.process.wait(10) == 0
    assert not os.path.exists(worker.path)
    assert len([record for record in gateway.logs() if record["text"].startswith("finished")]) == 2


def test_sigterm_grace_ends(start):
    worker = start(
        "import time\ndef handler(ctx, event):\n    time.sleep(60)\n", environ={"MARTLET_GRACE_SECONDS": "0.3"}
    )
    connection, answer = worker.start_invoke([attempt()])
    time.sleep(0.2)
    began = time.monotonic()
    assert worker.stop() == 1
    assert time.monotonic() - began < 5
    connection.close()


def test_async_sigterm_drains(start):
    worker = start("import asyncio\nasync def handler(ctx, event):\n    await asyncio.sleep(0.5)\n    return 2\n")
    connection, answer = worker.start_invoke([attempt()])
    time.sleep(0.1)
    worker.process.send_signal(signal.SIGTERM)
    assert b'"ok"' in answer.read()
    connection.close()
    assert worker.process.wait(10) == 0


def wait_gone(pid, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with open("/proc/%d/stat" % pid) as stream:
                if stream.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("busy", [False, True])
def test_worker_dies_with_its_parent(folder, gateway, busy):
    """A parent process starts the worker and is killed; the gateway lives on."""
    os.makedirs(folder + "/app")
    with open(folder + "/app/main.py", "w") as stream:
        stream.write("import time\ndef handler(ctx, event):\n    while True:\n        pass\n" if busy else GOOD)
    environ = dict(
        os.environ,
        PYTHONPATH=SOURCE,
        MARTLET_WORKER_SOCKET=folder + "/w.sock",
        MARTLET_GATEWAY_SOCKET=gateway.server_address,
        MARTLET_APP_PATH=folder + "/app",
    )
    code = textwrap.dedent(
        """
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-m", "martlet.worker"])
        print(child.pid, flush=True)
        time.sleep(100)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    try:
        gateway.wait_for("/v1/ready")
        if busy:
            from conftest import UnixConnection

            connection = UnixConnection(folder + "/w.sock")
            connection.request(
                "POST", "/v1/invoke", json.dumps([attempt()]), {"Content-Type": "application/cloudevents-batch+json"}
            )
            connection.getresponse()
        parent.kill()
        parent.wait()
        assert wait_gone(pid, 3)
    finally:
        parent.stdout.close()
        if not wait_gone(pid, 0):
            os.kill(pid, signal.SIGKILL)


def test_worker_exits_when_the_gateway_is_lost(start, folder):
    """The gateway is a process of its own, not the worker's parent, and is killed."""
    path = folder + "/lost.sock"
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "conftest.py")
    engine = subprocess.Popen([sys.executable, script, path], stdout=subprocess.PIPE)
    try:
        assert engine.stdout.readline() == b"listening\n"
        worker = start(GOOD, ready=False, environ={"MARTLET_GATEWAY_SOCKET": path})
        deadline = time.monotonic() + 10
        while not os.path.exists(worker.path):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(subprocess.TimeoutExpired):
            worker.process.wait(1.0)
    finally:
        engine.kill()
        engine.wait()
        engine.stdout.close()
    assert worker.process.wait(15) == 4
    assert "the engine's gateway is gone" in worker.output()
    assert not os.path.exists(worker.path)
