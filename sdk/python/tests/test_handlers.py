# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""How handlers run: threads, tasks, batches, results, errors, timeouts."""

import json
import threading
import time

import pytest
from conftest import SPAN, TRACE, attempt, element

HELLO = """
from vast_runtime.vast_event import VastEvent
from vast.dataengine.sdk import Context, VastEventList, event_batching_handler
from opentelemetry import trace


def init(ctx):
    with ctx.tracer.start_as_current_span("Hello Init"):
        ctx.logger.info("Initialized... Hello, World!")
        ctx.greeting = "Hello World"


def handler(ctx, event: VastEvent):
    with ctx.tracer.start_as_current_span("Hello Handler") as span:
        span.set_attribute("event_type", getattr(event, "get_type", lambda: "element_trigger")())
        ctx.logger.info(f"Handler {event}")
        return ctx.greeting
"""


def test_unmodified_hello_world(start, gateway):
    pytest.importorskip("opentelemetry.sdk")
    worker = start(HELLO)
    assert gateway.of("/v1/ready")[0]["handler"] == "sync"
    result = worker.invoke([attempt()])[0]
    assert result[1] == "ok" and result[4] == [{"data": "Hello World"}]
    assert gateway.wait_for_log("Handler {'attributes'")["traceId"] == TRACE
    span = gateway.wait_for_span("Hello Handler")
    assert span["traceId"] == TRACE and span["parentSpanId"] == SPAN
    assert gateway.wait_for_span("Hello Init")["parentSpanId"] == gateway.wait_for_span("init")["spanId"]


def test_reference_start_command(start):
    worker = start(
        "def handler(ctx, event):\n    return 1\n",
        environ={"MARTLET_APP_PATH": "/nowhere"},
        ready=False,
    )
    assert worker.process.wait(20) == 3
    again = start(
        "def handler(ctx, event):\n    return 1\n",
        python=("-m", "vast_runtime.main", "--app-path", worker.app, "--handler", "main.py"),
    )
    assert again.invoke([attempt()])[0][4] == [{"data": 1}]


def test_ctx_members(start):
    worker = start(
        """
        import os
        def init(ctx):
            ctx.anything = {"a": 1}
            ctx.user_data["k"] = "v"
        def handler(ctx, event):
            from martlet import get_global_ctx
            ctx.logger("called %s", "directly")
            return {
                "function_name": ctx.function_name, "map": ctx.pipeline_triggers_map, "any": ctx.anything,
                "user_data": ctx.user_data, "same": ctx.get_global_ctx() is ctx and get_global_ctx() is ctx,
                "pipeline": ctx.pipeline_name, "revision": ctx.function_revision,
                "cwd": os.path.basename(os.getcwd()),
            }
        """
    )
    data = worker.invoke([attempt()])[0][4][0]["data"]
    assert data == {
        "function_name": "inspector-1",
        "map": {"writer": {"tier": "vip"}, "alerts": {}},
        "any": {"a": 1},
        "user_data": {"k": "v"},
        "same": True,
        "pipeline": "frames",
        "revision": 3,
        "cwd": "app",
    }
    worker.gateway.wait_for_log("called directly")


def test_secrets_as_dict_and_files(start, folder):
    import os

    os.makedirs(folder + "/secrets/vast-db")
    with open(folder + "/secrets/vast-db/access_key", "w") as stream:
        stream.write("line 1\nline 2\n")
    worker = start(
        """
        import os
        def handler(ctx, event):
            with open(os.environ["MARTLET_SECRETS_DIR"] + "/vast-db/access_key") as stream:
                same = stream.read() == ctx.secrets["vast-db"]["access_key"]
            try:
                ctx.secrets["nope"]
            except KeyError as error:
                missing = str(error)
            return [list(ctx.secrets.keys()), same, ctx.secrets.get("other", "default"), missing, str(ctx.secrets)]
        """,
        environ={"MARTLET_SECRETS_DIR": folder + "/secrets"},
    )
    keys, same, other, missing, shown = worker.invoke([attempt()])[0][4][0]["data"]
    assert keys == ["vast-db"] and same and other == "default"
    assert "secret 'nope' is not given" in missing and "line 1" not in shown


def test_twenty_plain_calls_at_once_and_no_more(start):
    worker = start(
        """
        import threading, time
        lock, now, most = threading.Lock(), 0, 0
        def handler(ctx, event):
            global now, most
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.1)
            with lock:
                now -= 1
            return most
        """
    )
    started = time.monotonic()
    results = worker.invoke([attempt(n) for n in range(60)])
    took = time.monotonic() - started
    assert max(result[4][0]["data"] for result in results) == 20
    assert 0.3 <= took < 2
    assert all(result[3] >= 100_000 for result in results)
    assert abs(results[0][2] / 1e6 - time.time()) < 60


def test_concurrency_spans_requests(start):
    worker = start(
        """
        import threading, time
        lock, now, most = threading.Lock(), 0, 0
        def handler(ctx, event):
            global now, most
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.05)
            with lock:
                now -= 1
            return most
        """,
        environ={"MARTLET_CONCURRENCY": "3"},
    )
    found = []
    threads = [
        threading.Thread(target=lambda: found.extend(worker.invoke([attempt(n) for n in range(6)]))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 18 and max(result[4][0]["data"] for result in found) == 3


def test_async_handler_bounds_and_isolation(start, gateway):
    worker = start(
        """
        import asyncio, contextvars
        now = most = 0
        mine = contextvars.ContextVar("mine", default="clean")
        async def init(ctx):
            await asyncio.sleep(0)
            ctx.started = True
        async def handler(ctx, event):
            global now, most
            now += 1
            most = max(most, now)
            before = mine.get()
            mine.set(event.id)
            await asyncio.sleep(0.05)
            now -= 1
            return [most, before, mine.get() == event.id, ctx.started]
        """,
        environ={"MARTLET_CONCURRENCY": "5"},
    )
    assert gateway.of("/v1/ready")[0]["handler"] == "async"
    results = [result[4][0]["data"] for result in worker.invoke([attempt(n) for n in range(20)])]
    assert max(result[0] for result in results) == 5
    assert all(result[1:] == ["clean", True, True] for result in results)


def test_blocked_async_loop_does_not_stop_the_server(start):
    worker = start("import time\nasync def handler(ctx, event):\n    time.sleep(1.1)\n")
    connection, answer = worker.start_invoke([attempt(1), attempt(2)])
    started = time.monotonic()
    assert worker.request("GET", "/liveness") == (200, b"Alive")
    assert time.monotonic() - started < 0.8
    lines = [json.loads(line) for line in answer.read().splitlines()]
    running = [line["running"] for line in lines if "running" in line]
    assert len(running) >= 6 and any(items and items[0][1] >= 200 for items in running)
    connection.close()


def test_running_lines_every_200_ms(start):
    worker = start("import time\ndef handler(ctx, event):\n    time.sleep(0.9)\n", environ={"MARTLET_CONCURRENCY": "2"})
    connection, answer = worker.start_invoke([attempt(n) for n in range(3)])
    seen = []
    while True:
        line = answer.readline()
        if not line:
            break
        seen.append((time.monotonic(), json.loads(line)))
    running = [(at, line["running"]) for at, line in seen if "running" in line]
    assert 6 <= len(running) <= 11
    gaps = [after[0] - before[0] for before, after in zip(running, running[1:])]
    assert all(0.1 < gap < 0.45 for gap in gaps), gaps
    assert sorted(index for index, _ in running[0][1]) == [0, 1]
    assert [index for index, _ in running[-1][1]] == [2]
    assert all(millis < 1100 for _, items in running for _, millis in items)
    connection.close()


def test_results_stream_before_the_request_ends(start):
    worker = start("import time\ndef handler(ctx, event):\n    time.sleep(float(event.data))\n    return event.data\n")
    connection, answer = worker.start_invoke([attempt(1, data=0.0), attempt(2, data=1.0)])
    started = time.monotonic()
    first = json.loads(answer.readline())
    assert first["results"][0][0] == 0 and time.monotonic() - started < 0.5
    rest = [json.loads(line) for line in answer.read().splitlines()]
    assert rest[-1]["results"][0][0] == 1
    connection.close()


def test_batching_handler(start, gateway):
    worker = start(
        """
        from vast.dataengine.sdk import VastEventList, event_batching_handler
        @event_batching_handler
        def handler(ctx, events_list: VastEventList):
            assert isinstance(events_list, VastEventList)
            if events_list[0].get("bad") == "length":
                return [1]
            if events_list[0].get("bad") == "raise":
                raise RuntimeError("no")
            events_list[0].set_trigger_labels({"first": "yes"})
            return [{"n": event.get_data()["n"], "of": len(events_list)} for event in events_list]
        """
    )
    assert gateway.of("/v1/ready")[0]["handler"] == "batch"
    events = [attempt(n, data={"n": n}, martletbatch=n // 3) for n in range(7)]
    results = worker.invoke(events)
    assert [result[4][0]["data"] for result in results] == [{"n": n, "of": 3 if n < 6 else 1} for n in range(7)]
    assert [bool(result[4][0].get("labels")) for result in results] == [True, False, False, True, False, False, True]
    assert results[0][2:4] == results[1][2:4]
    bad = worker.invoke([attempt(n, bad="length", martletbatch=9) for n in range(2)])
    assert [r[1] for r in bad] == ["error", "error"] and "got 2 events and returned 1 items" in bad[0][5]["message"]
    assert {r[5]["type"] for r in worker.invoke([attempt(n, bad="raise", martletbatch=9) for n in range(2)])} == {
        "RuntimeError"
    }
    status, _ = worker.post(
        json.dumps([element(n, data={"n": n}) for n in range(4)]),
        {"Content-Type": "application/cloudevents-batch+json"},
    )
    assert status == 204


def test_async_batching_handler(start):
    worker = start(
        """
        from martlet import event_batching_handler
        @event_batching_handler
        async def handler(ctx, events):
            return [len(events) for _ in events]
        """
    )
    results = worker.invoke([attempt(n, martletbatch=1) for n in range(4)])
    assert [result[4] for result in results] == [[{"data": 4}]] * 4


def test_return_values(start):
    worker = start(
        """
        import datetime, decimal, pathlib
        from martlet import VastEvent
        class Odd: pass
        def handler(ctx, event):
            kind = event.data
            if kind == "none": return None
            if kind == "labelled":
                event.set_trigger_labels({"a": "b"})
                return {"x": 1}
            if kind == "forward": return event
            if kind == "made":
                return VastEvent({"type": "acme:Thing.Made", "source": "acme:me", "color": "red"}, {"y": 2})
            if kind == "several":
                a, b = VastEvent({"id": "1"}, 1), VastEvent({"id": "2"}, 2)
                b.set_trigger_labels({"only": "b"})
                return [a, b]
            if kind == "bytes": return b"\\x00\\x01"
            if kind == "list": return [1, {"a": None}]
            if kind == "rich":
                return {"at": datetime.date(2026, 4, 8), "d": decimal.Decimal("1.50"), "p": pathlib.Path("a/b"), "s": {3}}
            if kind == "surrogate": return "a\\udcffb"
            if kind == "odd": return {"o": Odd()}
            if kind == "nan": return {"v": float("nan")}
            async def later(): return "awaited"
            if kind == "coroutine": return later()
        """
    )
    kinds = "none labelled forward made several bytes list rich surrogate odd nan coroutine".split()
    found = dict(zip(kinds, worker.invoke([attempt(n, data=kind) for n, kind in enumerate(kinds)])))
    assert found["none"][4] is None
    assert found["labelled"][4] == [{"data": {"x": 1}, "labels": {"a": "b"}}]
    forward = found["forward"][4][0]
    assert forward["data"] == "forward" and forward["attributes"]["elementpath"] == "s3-bucket-name/dir/test.md"
    assert not {"traceparent", "martletattempt", "data", "specversion"} & set(forward["attributes"])
    made = found["made"][4][0]
    assert made["data"] == {"y": 2} and made["attributes"]["type"] == "acme:Thing.Made"
    assert made["attributes"]["color"] == "red"
    assert [output["data"] for output in found["several"][4]] == [1, 2]
    assert found["several"][4][1]["labels"] == {"only": "b"} and "labels" not in found["several"][4][0]
    assert found["bytes"][4] == [{"data_base64": "AAE="}]
    assert found["list"][4] == [{"data": [1, {"a": None}]}]
    assert found["rich"][4] == [{"data": {"at": "2026-04-08", "d": "1.50", "p": "a/b", "s": [3]}}]
    assert found["surrogate"][4] == [{"data": "a?b"}]
    assert found["odd"][1] == "error" and "Odd cannot be written as JSON" in found["odd"][5]["message"]
    assert found["nan"][1] == "error" and "NaN" in found["nan"][5]["message"]
    assert found["coroutine"][4] == [{"data": "awaited"}]


def test_exceptions_have_the_users_traceback_only(start, gateway):
    worker = start(
        """
        import helper
        def handler(ctx, event):
            if event.data == "exit":
                raise SystemExit(4)
            try:
                helper.deep(event.data)
            except KeyError as error:
                raise ValueError("bad %s" % event.data) from error
        """,
        files={"helper.py": "def deep(key):\n    return {}[key]\n"},
    )
    result, left = worker.invoke([attempt(1, data="k"), attempt(2, data="exit")])
    assert result[1] == "error" and result[5]["type"] == "ValueError" and result[5]["message"] == "bad k"
    trace = result[5]["traceback"]
    assert "helper.py" in trace and "in deep" in trace and "KeyError: 'k'" in trace and "main.py" in trace
    assert "src/martlet" not in trace and "importlib" not in trace
    assert left[5]["type"] == "SystemExit" and "called exit(4)" in left[5]["message"]
    record = gateway.wait_for_log("Error in handler execution: ValueError: bad k")
    assert (
        record["severityText"] == "ERROR" and record["traceId"] == TRACE and record["attrs"]["scope"] == "vast-runtime"
    )
    assert "in deep" in record["attrs"]["exception.stacktrace"]
    status, answer = worker.send(element(data="k"))
    assert (
        status == 500
        and answer["type"] == "ValueError"
        and answer["error"] == "bad k"
        and "in deep" in answer["traceback"]
    )


def test_timeouts_are_reported_once(start, gateway):
    code = "import time\ndef handler(ctx, event):\n    time.sleep(event.data)\n    return 1\n"
    worker = start(code, environ={"MARTLET_TIMEOUT_SECONDS": "0.5", "MARTLET_CONCURRENCY": "1"})
    started = time.monotonic()
    late, fine, last = worker.invoke([attempt(1, data=0.9), attempt(2, data=0.4), attempt(3, data=0.4)])
    assert time.monotonic() - started < 4
    assert late[1] == "timeout" and 500_000 <= late[3] < 1_200_000 and late[5]["type"] == "TimeoutError"
    assert "time.sleep(event.data)" in late[5]["traceback"]
    assert fine[1] == "ok" and last[1] == "ok"
    status, answer = worker.send(element(data=2))
    assert status == 500 and "longer than 0.5 s" in answer["error"]


def test_async_timeouts_cancel_the_task(start, gateway):
    worker = start(
        """
        import asyncio
        async def handler(ctx, event):
            try:
                await asyncio.sleep(event.data)
            except asyncio.CancelledError:
                ctx.logger.warning("cancelled %s", event.id)
                raise
        """,
        environ={"MARTLET_TIMEOUT_SECONDS": "0.3"},
    )
    late, fine = worker.invoke([attempt(1, data=5), attempt(2, data=0)])
    assert (late[1], fine[1]) == ("timeout", "ok")
    gateway.wait_for_log("cancelled 1004356627333135")


def test_empty_request_and_closed_connection(start):
    worker = start(
        """
        import time
        ran = []
        def handler(ctx, event):
            if event.data == "count":
                return len(ran)
            ran.append(1)
            time.sleep(0.2)
        """,
        environ={"MARTLET_CONCURRENCY": "2"},
    )
    assert worker.lines([]) == []
    connection, answer = worker.start_invoke([attempt(n) for n in range(40)])
    assert b"running" in answer.readline() or b"running" in answer.readline()
    answer.close()
    connection.close()
    time.sleep(0.7)
    counted = worker.invoke([attempt(99, data="count")])[0][4][0]["data"]
    assert 2 <= counted <= 6


def test_no_log_lines_per_event_at_info(start, gateway):
    worker = start("def handler(ctx, event):\n    ctx.logger.info('mine')\n")
    worker.invoke([attempt()])
    gateway.wait_for_log("mine")
    assert not [record for record in gateway.logs() if record["text"].startswith(("START", "END", "Function returned"))]


def test_debug_log_lines(start, gateway):
    worker = start("def handler(ctx, event):\n    return {'a': 1}\n", environ={"VAST_LOG_LEVEL": "DEBUG"})
    worker.invoke([attempt()])
    start_line = gateway.wait_for_log("START EventId")
    assert "TraceId: %s" % TRACE in start_line["text"] and start_line["attrs"]["scope"] == "vast-runtime"
    gateway.wait_for_log("Function returned: {'a': 1}")
    gateway.wait_for_log("END EventId: 1004356627333135")
