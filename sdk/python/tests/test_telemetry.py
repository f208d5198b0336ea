# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Logs, spans and metrics: their content, their ids, their bounds."""

import os
import time

import pytest
from conftest import SPAN, TRACE, attempt, plain

HIDE = "hide/opentelemetry/__init__.py"
HIDDEN = "raise ImportError('not installed here')\n"


@pytest.fixture(params=["with OpenTelemetry", "without OpenTelemetry"])
def both(request, start, folder):
    """Starts workers with and without OpenTelemetry importable."""

    def make(code, **options):
        if request.param.startswith("without"):
            environ = dict(options.pop("environ", {}))
            os.makedirs(folder + "/hide/opentelemetry")
            with open(folder + "/" + HIDE, "w") as stream:
                stream.write(HIDDEN)
            from conftest import SOURCE

            environ["PYTHONPATH"] = folder + "/hide:" + SOURCE
            return start(code, environ=environ, **options)
        pytest.importorskip("opentelemetry.sdk")
        return start(code, **options)

    return make


def test_logs_have_ids_scope_and_fields(both, gateway):
    worker = both(
        """
        import logging, sys
        lib = logging.getLogger("some.library")
        def handler(ctx, event):
            ctx.logger.info("info %s", 1)
            ctx.logger.debug("hidden")
            lib.warning("from a library")
            logging.error("root %d", 2)
            print("printed\\nin", "two lines")
            print("no newline", end="")
            print("to stderr", file=sys.stderr)
            sys.stdout.buffer.write(b"bytes\\n")
            try:
                1 / 0
            except ZeroDivisionError:
                ctx.logger.exception("caught")
        """
    )
    worker.invoke([attempt()])
    caught = gateway.wait_for_log("caught")
    assert caught["severityText"] == "ERROR" and caught["severityNumber"] == 17
    assert caught["attrs"]["exception.type"] == "ZeroDivisionError"
    assert caught["attrs"]["exception.message"] == "division by zero"
    assert "1 / 0" in caught["attrs"]["exception.stacktrace"]
    info = gateway.wait_for_log("info 1")
    assert (info["traceId"], info["spanId"]) == (TRACE, SPAN)
    assert info["attrs"]["scope"] == "user" and info["attrs"]["logger"] == "inspector-1"
    assert info["attrs"]["event_id"] == "1004356627333135" and info["severityText"] == "INFO"
    assert abs(int(info["timeUnixNano"]) / 1e9 - time.time()) < 60
    assert gateway.wait_for_log("from a library")["attrs"]["logger"] == "some.library"
    assert gateway.wait_for_log("root 2")["severityText"] == "ERROR"
    for text, logger, level in (
        ("printed", "stdout", "INFO"),
        ("in two lines", "stdout", "INFO"),
        ("no newline", "stdout", "INFO"),
        ("to stderr", "stderr", "WARN"),
        ("bytes", "stdout", "INFO"),
    ):
        record = gateway.wait_for_log(text)
        assert (record["attrs"]["logger"], record["severityText"], record["traceId"]) == (logger, level, TRACE), text
    assert not [record for record in gateway.logs() if record["text"] == "hidden"]
    resource = plain(gateway.of("/v1/logs")[0]["resourceLogs"][0]["resource"]["attributes"])
    assert resource["function_name"] == "inspector-1" and resource["pipeline_name"] == "frames"
    worker.stop()
    assert "printed\nin two lines\n" in worker.output() and "to stderr" in worker.output()


def test_ids_follow_threads_and_tasks(both, gateway):
    worker = both(
        """
        import asyncio
        async def handler(ctx, event):
            await asyncio.sleep(0.01)
            async def child():
                await asyncio.sleep(0.01)
                print("child of", event.id)
            await asyncio.gather(asyncio.create_task(child()), asyncio.to_thread(print, "thread of", event.id))
        """
    )
    events = []
    for n in range(1, 9):
        event = attempt(n)
        event["traceparent"] = "00-%032x-%016x-01" % (n, n)
        events.append(event)
    worker.invoke(events)
    for n in range(1, 9):
        for text in ("child of", "thread of"):
            record = gateway.wait_for_log("%s %d" % (text, 1004356627333134 + n))
            assert record["traceId"] == "%032x" % n and record["spanId"] == "%016x" % n


def test_odd_records_harm_nothing(both, gateway):
    worker = both(
        """
        import logging
        class Bad(Exception):
            def __str__(self):
                raise RuntimeError("no text")
        def handler(ctx, event):
            ctx.logger.info("%d files", "three")
            ctx.logger.info("odd extra", extra={"attributes": {"o": object(), 5: {1, 2}, "n": float("nan"), "deep": {"a": [None]}}})
            ctx.logger.info("half \\udcff")
            with ctx.tracer.start_as_current_span("odd") as span:
                span.set_attribute("o", object())
                span.set_attribute("big", 2**70)
            ctx.histogram("h").record(float("inf"))
            raise Bad()
        """
    )
    result = worker.invoke([attempt()])[0]
    assert result[1] == "error" and result[5]["type"] == "Bad"
    gateway.wait_for_log("%d files (its arguments do not fit")
    assert gateway.wait_for_log("odd extra")["attrs"]["n"] == "NaN"
    gateway.wait_for_log("half ?")
    gateway.wait_for_span("odd")
    gateway.wait_for_log("Error in handler execution: Bad")


def test_opentelemetry_api_without_its_sdk(start, folder, gateway):
    """Only the API can be imported: the current span works, and ctx.tracer is our own."""
    pytest.importorskip("opentelemetry.sdk")
    from conftest import SOURCE

    with open(folder + "/sitecustomize.py", "w") as stream:
        stream.write(
            "import sys\n"
            "class Refuse:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name.startswith('opentelemetry.sdk'):\n"
            "            raise ModuleNotFoundError(name)\n"
            "sys.meta_path.insert(0, Refuse())\n"
        )
    worker = start(
        """
        from opentelemetry import metrics, trace
        tracer = trace.get_tracer(__name__)
        def handler(ctx, event):
            trace.get_current_span().set_attribute("a", 1)
            with tracer.start_as_current_span("lost"):
                pass
            with ctx.tracer.start_as_current_span("kept"):
                ctx.logger.info("inside")
            ctx.counter("c").add(2)
        """,
        environ={"PYTHONPATH": folder + ":" + SOURCE},
    )
    result = worker.invoke([attempt()])[0]
    assert result[1] == "ok" and result[6]["attributes"] == {"a": 1}, result
    kept = gateway.wait_for_span("kept")
    assert kept["parentSpanId"] == SPAN and gateway.wait_for_log("inside")["spanId"] == kept["spanId"]
    worker.stop()
    assert gateway.metrics()["c"]["sum"]["dataPoints"][0]["asInt"] == "2"


def test_logs_are_fresh(start, gateway):
    worker = start("def handler(ctx, event):\n    ctx.logger.info('fresh')\n")
    worker.invoke([attempt(data=0)])
    began = time.monotonic()
    gateway.wait_for_log("fresh", 2)
    assert time.monotonic() - began < 0.4


def test_child_spans(both, gateway):
    worker = both(
        """
        def handler(ctx, event):
            with ctx.tracer.start_as_current_span("outer", attributes={"a": 1}) as outer:
                outer.set_attributes({"b": True, "c": 1.5, "d": ["x", "y"]})
                ctx.logger.info("in outer")
                with ctx.start_as_current_span("inner") as inner:
                    inner.add_event("step", {"n": 1})
                ctx.tables["t"].upsert({"k": 1}, key=["k"])
            with ctx.start_as_current_event_span("per event", event):
                pass
            try:
                with ctx.tracer.start_as_current_span("failing"):
                    raise ValueError("boom")
            except ValueError:
                pass
            @ctx.tracer.start_as_current_span("decorated")
            def work():
                return 1
            work(); work()
        """
    )
    worker.invoke([attempt()])
    inner = gateway.wait_for_span("inner")
    outer = gateway.wait_for_span("outer")
    gateway.wait_for("/v1/traces", lambda _: len([s for s in gateway.spans() if s["name"] == "decorated"]) == 2)
    assert outer["traceId"] == inner["traceId"] == TRACE and outer["parentSpanId"] == SPAN
    assert inner["parentSpanId"] == outer["spanId"] and outer["kind"] == 1
    assert plain(outer["attributes"])["a"] == "1" and plain(outer["attributes"])["b"] is True
    assert plain(outer["attributes"])["d"] == {"values": [{"stringValue": "x"}, {"stringValue": "y"}]}
    assert inner["events"][0]["name"] == "step"
    assert int(outer["startTimeUnixNano"]) <= int(inner["startTimeUnixNano"]) <= int(outer["endTimeUnixNano"])
    failing = gateway.wait_for_span("failing")
    assert failing["status"]["code"] == 2 and "boom" in failing["status"]["message"]
    assert plain(failing["events"][0]["attributes"])["exception.type"] == "ValueError"
    per_event = plain(gateway.wait_for_span("per event")["attributes"])
    assert per_event["event.id"] == "1004356627333135"
    assert gateway.wait_for_log("in outer")["spanId"] == outer["spanId"]
    commit = gateway.of("/v1/tables/commit")[0]
    assert commit["traceparent"] == "00-%s-%s-01" % (TRACE, outer["spanId"])


def test_what_is_set_on_the_current_span_returns_with_the_result(start):
    pytest.importorskip("opentelemetry.sdk")
    worker = start(
        """
        from opentelemetry import trace
        def handler(ctx, event):
            span = trace.get_current_span()
            context = span.get_span_context()
            if event.data == "plain":
                return None
            span.set_attribute("frames", 12)
            span.add_event("opened", {"path": "a.exr"})
            span.record_exception(KeyError("missing"))
            span.set_status(trace.Status(trace.StatusCode.ERROR, "half read"))
            span.end()
            span.set_attribute("late", float("nan"))
            tracer = trace.get_tracer(__name__)
            with tracer.start_as_current_span("child") as child:
                inner = trace.get_current_span() is child
            return ["%032x" % context.trace_id, "%016x" % context.span_id, span.is_recording(), inner, trace.get_current_span() is span]
        """
    )
    result, quiet = worker.invoke([attempt(1), attempt(2, data="plain")])
    assert result[4][0]["data"] == [TRACE, SPAN, True, True, True]
    span = result[6]
    assert (
        span["attributes"] == {"frames": 12, "late": "nan"}
        and span["status"] == "ERROR"
        and span["message"] == "half read"
    )
    assert [event["name"] for event in span["events"]] == ["opened", "exception"]
    assert span["events"][0]["attributes"] == {"path": "a.exr"}
    assert abs(span["events"][0]["time"] / 1e6 - time.time()) < 60
    assert quiet[6] is None


def test_spans_do_not_leak_between_calls(start):
    pytest.importorskip("opentelemetry.sdk")
    worker = start(
        """
        from opentelemetry import context, trace
        def handler(ctx, event):
            seen = "%032x" % trace.get_current_span().get_span_context().trace_id
            context.attach(trace.set_span_in_context(trace.INVALID_SPAN))
            return seen
        """,
        environ={"MARTLET_CONCURRENCY": "1"},
    )
    events = [dict(attempt(n), traceparent="00-%032x-%016x-01" % (n, n)) for n in range(1, 6)]
    assert [result[4][0]["data"] for result in worker.invoke(events)] == ["%032x" % n for n in range(1, 6)]


def test_metrics(both, gateway):
    worker = both(
        """
        def init(ctx):
            ctx.files = ctx.counter("files.seen", "files seen")
        def handler(ctx, event):
            ctx.files.add(1, {"kind": "exr"})
            ctx.histogram("read.time", "time to read", "ms").record(12.5)
            ctx.histogram("read.time").record(700)
            ctx.updowncounter("open.files").add(-2)
            ctx.gauge("queue.depth", unit="1").set(7)
            ctx.meter.create_counter("by.meter").add(3)
            try:
                ctx.gauge("files.seen")
            except ValueError as error:
                return str(error)
        """
    )
    results = worker.invoke([attempt(n) for n in range(3)])
    assert "is a counter already" in results[0][4][0]["data"]
    worker.stop()
    found = gateway.metrics()
    counter = found["files.seen"]["sum"]
    assert counter["isMonotonic"] is True and counter["aggregationTemporality"] == 2
    assert counter["dataPoints"][0]["asInt"] == "3" and plain(counter["dataPoints"][0]["attributes"]) == {"kind": "exr"}
    histogram = found["read.time"]["histogram"]["dataPoints"][0]
    assert found["read.time"]["unit"] == "ms" and found["read.time"]["description"] == "time to read"
    assert (
        histogram["count"] == "6" and histogram["sum"] == 2137.5 and (histogram["min"], histogram["max"]) == (12.5, 700)
    )
    assert sum(map(int, histogram["bucketCounts"])) == 6
    assert len(histogram["bucketCounts"]) == len(histogram["explicitBounds"]) + 1
    assert (
        found["open.files"]["sum"]["dataPoints"][0]["asInt"] == "-6" and not found["open.files"]["sum"]["isMonotonic"]
    )
    assert found["queue.depth"]["gauge"]["dataPoints"][0]["asInt"] == "7"
    assert found["by.meter"]["sum"]["dataPoints"][0]["asInt"] == "9"


def test_flooding_stdout_harms_nobody(start, gateway):
    worker = start(
        """
        import resource, time
        def handler(ctx, event):
            if event.data == "flood":
                end = time.monotonic() + 2
                n = 0
                while time.monotonic() < end:
                    print("flood line %d of a function that will not stop talking" % n)
                    n += 1
                print("x" * 50_000_000)
                return n
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        """
    )
    before = worker.invoke([attempt(data="memory")])[0][4][0]["data"]
    connection, answer = worker.start_invoke([attempt(1, data="flood")])
    slowest = 0
    for n in range(30):
        began = time.monotonic()
        worker.invoke([attempt(n, data="memory")])
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.02)
    answer.read()
    connection.close()
    assert slowest < 0.5
    after = worker.invoke([attempt(data="memory")])[0][4][0]["data"]
    assert after - before < 400_000, "grew by %d KiB" % (after - before)
    dropped = gateway.wait_for_log("telemetry queue full")
    assert int(dropped["attrs"]["dropped.log_records"]) > 0 and dropped["attrs"]["scope"] == "vast-runtime"


FLOOD = """
import resource
def handler(ctx, event):
    print("y" * 300_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
"""


def test_a_reader_that_never_reads_stdout_blocks_nobody(folder, gateway):
    import subprocess

    from conftest import WorkerProcess

    read, write = os.pipe()
    worker = WorkerProcess.__new__(WorkerProcess)
    original = subprocess.Popen

    def piped(command, **options):
        options.update(stdout=write, stderr=write)
        return original(command, **options)

    subprocess.Popen = piped
    try:
        worker.__init__(folder, gateway, FLOOD)
    finally:
        subprocess.Popen = original
    try:
        worker.ready()
        began = time.monotonic()
        sizes = [result[4][0]["data"] for result in worker.invoke([attempt(n) for n in range(600)])]
        assert time.monotonic() - began < 10
        assert max(sizes) - min(sizes) < 100_000, "grew by %d KiB" % (max(sizes) - min(sizes))
    finally:
        assert worker.stop() == 0
        os.close(read)
        os.close(write)
        worker.out.close()
