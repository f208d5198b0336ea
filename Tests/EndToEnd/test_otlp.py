# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""OpenTelemetry in and out, with OpenTelemetry's own Python SDK and exporters on the other side."""

import gzip
import http.client
import json
import logging
import re
import socket
import time
import zlib

import grpc
import pytest
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness import until
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GRPCLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GRPCMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GRPCSpans
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HTTPLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HTTPMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HTTPSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from otlp_receiver import GRPCReceiver, HTTPReceiver, certificate, until_quiet

TOKEN = "a-token-for-tests"
SIZE_MAX = 20 << 20


@pytest.fixture(scope="module")
def guarded(request):
    """An engine that asks for a token."""
    from conftest import engines

    with engines(request) as make:
        engine = make("guarded", settings={"MARTLET_TOKEN": TOKEN})
        engine.environment["MARTLET_TOKEN"] = TOKEN
        engine.start()
        yield engine
        assert engine.stop() == 0, engine.log_tail()


def grpc_address(engine) -> str:
    return engine.get("engine")["grpc_address"]


def exporters(engine, kind, compression, token=TOKEN):
    """Exporters of the SDK for spans, logs and metrics."""
    headers = {"authorization": f"Bearer {token}"}
    if kind == "http":
        base = f"http://127.0.0.1:{engine.port}/v1"
        packing = Compression.Gzip if compression else Compression.NoCompression
        return [
            make(endpoint=f"{base}/{signal}", headers=headers, compression=packing, timeout=10)
            for make, signal in [(HTTPSpans, "traces"), (HTTPLogs, "logs"), (HTTPMetrics, "metrics")]
        ]
    packing = grpc.Compression.Gzip if compression else grpc.Compression.NoCompression
    return [
        make(endpoint=grpc_address(engine), insecure=True, headers=headers, compression=packing, timeout=10)
        for make in [GRPCSpans, GRPCLogs, GRPCMetrics]
    ]


class Service:
    """A program instrumented with the SDK."""

    def __init__(self, name, engine, kind, compression):
        resource = Resource.create({"service.name": name, "service.namespace": "shop", "host.name": "h1"})
        spans, logs, metrics = exporters(engine, kind, compression)
        self.traces = TracerProvider(resource=resource)
        self.traces.add_span_processor(BatchSpanProcessor(spans))
        self.logs = LoggerProvider(resource=resource)
        self.logs.add_log_record_processor(BatchLogRecordProcessor(logs))
        self.metrics = MeterProvider(
            resource=resource, metric_readers=[PeriodicExportingMetricReader(metrics, export_interval_millis=60_000)]
        )
        self.tracer = self.traces.get_tracer("shop.orders", "1.2")

    def work(self):
        """One trace of two spans with a log record in it, and points of three kinds; returns the trace id."""
        logger = logging.Logger("shop.log")
        logger.addHandler(LoggingHandler(logger_provider=self.logs))
        linked = trace.Link(trace.SpanContext(7, 9, False), {"why": "batch"})
        with self.tracer.start_as_current_span("order", kind=trace.SpanKind.SERVER, links=[linked]) as outer:
            with self.tracer.start_as_current_span("charge", attributes={"amount": 12.5, "items": ["a", "b"]}) as inner:
                inner.add_event("retried", {"times": 2})
                logger.critical("no card %s", "é", extra={"order": 17})
                inner.set_status(trace.StatusCode.ERROR, "declined")
        meter = self.metrics.get_meter("shop.orders")
        meter.create_counter("orders", "1").add(3, {"kind": "web"})
        meter.create_histogram("latency", "ms").record(12)
        meter.create_up_down_counter("open").add(-2)
        for provider in (self.traces, self.logs, self.metrics):
            assert provider.force_flush() is not False
        return f"{outer.get_span_context().trace_id:032x}"

    def close(self):
        for provider in (self.traces, self.logs, self.metrics):
            provider.shutdown()


@pytest.mark.parametrize("compression", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_the_sdk_sends_all_three_signals(guarded, kind, compression):
    name = f"checkout-{kind}-{compression}"
    service = Service(name, guarded, kind, compression)
    trace_id = service.work()
    service.close()

    found = guarded.ask("traces", "get", trace_id)
    spans = {span["name"]: span for span in found["spans"]}
    outer, inner = spans["order"], spans["charge"]
    assert inner["parent_span_id"] == outer["span_id"] and "parent_span_id" not in outer
    assert (outer["kind"], inner["kind"]) == ("SERVER", "INTERNAL")
    assert (outer["status"], inner["status"], inner["status_message"]) == ("UNSET", "ERROR", "declined")
    assert inner["attributes"]["amount"] == "12.5" and json.loads(inner["attributes"]["items"]) == ["a", "b"]
    assert [(event["name"], event["attributes"]) for event in inner["events"]] == [("retried", {"times": "2"})]
    assert json.loads(outer["attributes"]["otel.links"]) == [
        {"trace_id": f"{7:032x}", "span_id": f"{9:016x}", "attributes": {"why": "batch"}}
    ]
    for span in spans.values():
        assert (span["pipeline"], span["function"]) == ("shop", name)
        assert span["attributes"]["service.name"] == name and span["attributes"]["host.name"] == "h1"
        assert (span["attributes"]["otel.scope.name"], span["attributes"]["otel.scope.version"]) == ("shop.orders", "1.2")
        assert span["attributes"]["telemetry.sdk.language"] == "python"
    assert [log["message"] for log in found["logs"]] == ["no card é"]

    logs = guarded.ask("logs", "get", "shop", "-f", name, "--severity", "FATAL", "--scope", "user")
    logs = logs["data"] if isinstance(logs, dict) else logs
    assert [log["message"] for log in logs] == ["no card é"]
    assert logs[0]["trace_id"] == trace_id and logs[0]["span_id"] == inner["span_id"]
    assert logs[0]["attributes"]["order"] == "17" and logs[0]["attributes"]["otel.scope.name"] == "shop.log"
    listed = guarded.ask("traces", "list", "shop", "--status", "ERROR")
    listed = listed["data"] if isinstance(listed, dict) else listed
    summary = next(one for one in listed if one["trace_id"] == trace_id)
    assert (summary["functions"], summary["spans"], summary["depth"]) == ([name], 2, 2)


def test_metric_points_are_in_the_store(make_engine):
    engine = make_engine(settings={"MARTLET_TOKEN": TOKEN})
    engine.start()
    service = Service("meter", engine, "http", True)
    service.work()
    service.close()
    columns = ("name", "type", "unit", "value", "count", "function", "attributes", "buckets")
    engine.environment["MARTLET_TOKEN"] = TOKEN
    points = {}
    until_end = time.monotonic() + 20
    while points.keys() != {"orders", "latency", "open"}:
        assert time.monotonic() < until_end, points.keys()
        found = engine.ask("sql", f"SELECT {', '.join(columns)} FROM system.metrics")
        rows = [tuple(row[column] for column in columns) for row in found]
        points = {row[0]: row for row in rows if row[0] in ("orders", "latency", "open")}
    assert points["orders"][1:6] == ("Counter", "1", 3.0, 1, "meter")
    assert points["open"][1:5] == ("UpDownCounter", "", -2.0, 1)
    assert points["latency"][1:5] == ("Histogram", "ms", 12.0, 1)
    buckets = points["latency"][7]
    assert sum(buckets["counts"]) == 1 and len(buckets["counts"]) == len(buckets["bounds"]) + 1
    assert (buckets["min"], buckets["max"]) == (12, 12)
    attributes = points["orders"][6]
    assert attributes["kind"] == "web" and attributes["service.name"] == "meter"


def request(count=1, name="s", start=1_700_000_000_000_000_000):
    spans = [
        {
            "traceId": f"{index + 1:032x}", "spanId": f"{index + 1:016X}", "name": name, "kind": 3,
            "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 5_000_000),
        }
        for index in range(count)
    ]  # fmt: skip
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "json"}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}], "unknownField": [1]}


def post(engine, body, type="application/json", **headers):
    headers = {"Content-Type": type} | {name.replace("_", "-"): value for name, value in headers.items()}
    return engine.http("POST", "/v1/traces", body, headers)


def status(answer, code):
    """The message of a refusal, in the encoding of the request."""
    assert answer.status == code, (answer.status, answer.body)
    if answer.headers.get_content_type() == "application/json":
        said = json.loads(answer.body)
        return said["code"], said["message"]
    assert answer.headers.get_content_type() == "application/x-protobuf"
    said = status_pb2.Status.FromString(answer.body)
    return said.code, said.message


def test_json_has_hex_ids_and_unknown_fields(guarded):
    answer = post(guarded, request(name="json-span"))
    assert (answer.status, answer.json) == (200, {})
    spans = guarded.get(f"traces/{1:032x}")["spans"]
    assert [span["span_id"] for span in spans if span["name"] == "json-span"] == [f"{1:016x}"]
    assert spans[0]["kind"] == "CLIENT" and spans[0]["duration_micros"] == 5000


def test_entries_that_cannot_be_kept_are_counted(guarded):
    body = request(3)
    body["resourceSpans"][0]["scopeSpans"][0]["spans"][1]["traceId"] = "00" * 16
    answer = post(guarded, body)
    assert answer.status == 200
    assert int(answer.json["partialSuccess"]["rejectedSpans"]) == 1
    assert "trace id" in answer.json["partialSuccess"]["errorMessage"]
    made = trace_service_pb2.ExportTraceServiceRequest()
    made.resource_spans.add().scope_spans.add().spans.add(trace_id=b"1" * 16, span_id=b"2" * 7)
    answer = post(guarded, made.SerializeToString(), "application/x-protobuf")
    said = trace_service_pb2.ExportTraceServiceResponse.FromString(answer.body)
    assert (answer.status, said.partial_success.rejected_spans) == (200, 1)


@pytest.mark.parametrize(
    "body, type, headers, code, text",
    [
        (b"{", "application/json", {}, 400, "OTLP/JSON"),
        (b'{"resourceSpans":[null]}', "application/json", {}, 400, "OTLP/JSON"),
        (b'{"resourceSpans":7}', "application/json", {}, 400, "OTLP/JSON"),
        (b"[" * 100_000, "application/json", {}, 400, "OTLP/JSON"),
        (b"\xff\xff\xff", "application/x-protobuf", {}, 400, "protobuf"),
        (b"\x0a\xff\xff\xff\xff\x0f", "application/x-protobuf", {}, 400, "protobuf"),
        (b"not gzip", "application/x-protobuf", {"content_encoding": "gzip"}, 400, "gzip"),
        (gzip.compress(b"\0" * 1000)[:-9], "application/x-protobuf", {"content_encoding": "gzip"}, 400, "gzip"),
        (b"", "application/x-protobuf", {"content_encoding": "br"}, 415, "br"),
        (b"x", "text/plain", {}, 415, "text/plain"),
        (gzip.compress(b"\0" * (SIZE_MAX + 1)), "application/x-protobuf", {"content_encoding": "gzip"}, 413, "20 MiB"),
    ],
)  # fmt: skip
def test_bad_bodies_are_refused_in_the_senders_encoding(guarded, body, type, headers, code, text):
    number, message = status(post(guarded, body, type, **headers), code)
    assert number in (3, 8, 12) and text in message, (number, message)


def test_what_just_fits_is_taken(guarded):
    """A field of unknown number fills a message up to the limit."""
    head = b"\x7a" + bytes([0x80 | size & 0x7F if last else size for size, last in _varint(SIZE_MAX - 5)])
    body = head + b"\0" * (SIZE_MAX - len(head))
    assert len(body) == SIZE_MAX
    for packed, headers in [(body, {}), (gzip.compress(body, 1), {"content_encoding": "gzip"})]:
        assert post(guarded, packed, "application/x-protobuf", **headers).status == 200
    assert post(guarded, zlib.compress(body, 1), "application/x-protobuf", content_encoding="deflate").status == 200


def _varint(value):
    parts = []
    while True:
        value, rest = value >> 7, value & 0x7F
        parts.append((rest, value > 0))
        if value == 0:
            return parts


def test_a_body_that_is_too_large_is_refused_at_its_head(guarded):
    connection = http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=10)
    connection.putrequest("POST", "/v1/traces")
    for name, value in [
        ("Content-Type", "application/x-protobuf"), ("Content-Length", str(SIZE_MAX + 1)),
        ("Authorization", f"Bearer {TOKEN}"),
    ]:  # fmt: skip
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    said = status_pb2.Status.FromString(answer.read())
    assert (answer.status, said.code) == (413, 8)
    connection.close()


def test_the_token_is_asked_for(guarded):
    for token in ["wrong", None]:
        headers = {"Content-Type": "application/x-protobuf"} | ({"Authorization": f"Bearer {token}"} if token else {})
        connection = http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=10)
        connection.request("POST", "/v1/traces", b"", headers)
        answer = connection.getresponse()
        assert answer.status == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
        assert status_pb2.Status.FromString(answer.read()).code == 16
        connection.close()
        metadata = [("authorization", f"Bearer {token}")] if token else []
        with grpc.insecure_channel(grpc_address(guarded)) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                stub = trace_service_pb2_grpc.TraceServiceStub(channel)
                stub.Export(trace_service_pb2.ExportTraceServiceRequest(), metadata=metadata, timeout=10)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    spans, _, metrics = exporters(guarded, "http", False, token="wrong")
    assert spans.export([]) is not SpanExportResult.SUCCESS
    for exporter in (spans, metrics):
        exporter.shutdown()


def test_a_token_that_only_reads_sends_no_telemetry(make_engine):
    engine = make_engine(settings={"MARTLET_TOKEN": TOKEN, "MARTLET_READ_TOKEN": "a-read-token-for-tests"})
    engine.environment["MARTLET_TOKEN"] = TOKEN
    engine.start()
    for token, code in [("a-read-token-for-tests", grpc.StatusCode.PERMISSION_DENIED), (TOKEN, None)]:
        with grpc.insecure_channel(grpc_address(engine)) as channel:
            stub = trace_service_pb2_grpc.TraceServiceStub(channel)
            metadata = [("authorization", f"Bearer {token}")]
            if code is None:
                stub.Export(trace_service_pb2.ExportTraceServiceRequest(), metadata=metadata, timeout=10)
                continue
            with pytest.raises(grpc.RpcError) as refused:
                stub.Export(trace_service_pb2.ExportTraceServiceRequest(), metadata=metadata, timeout=10)
            assert refused.value.code() == code, refused.value
            assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1
        connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=10)
        headers = {"Content-Type": "application/x-protobuf", "Authorization": f"Bearer {token}"}
        connection.request("POST", "/v1/traces", b"", headers)
        assert connection.getresponse().status == 403
        connection.close()


def test_grpc_refuses_what_is_too_large_and_stays_well(guarded):
    with grpc.insecure_channel(grpc_address(guarded), options=[("grpc.max_send_message_length", -1)]) as channel:
        stub = trace_service_pb2_grpc.TraceServiceStub(channel)
        metadata = [("authorization", f"Bearer {TOKEN}")]
        large = trace_service_pb2.ExportTraceServiceRequest()
        large.resource_spans.add().schema_url = "x" * (SIZE_MAX + 1)
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            with pytest.raises(grpc.RpcError) as refused:
                stub.Export(large, metadata=metadata, compression=compression, timeout=30)
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, refused.value
            assert "at most" in refused.value.details()
        # Far beyond the limit the transport breaks the call off, which clients see as cancelled.
        large.resource_spans[0].schema_url = "x" * (2 * SIZE_MAX + 1)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Export(large, metadata=metadata, timeout=30)
        assert refused.value.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED), refused.value
        stub.Export(trace_service_pb2.ExportTraceServiceRequest(), metadata=metadata, timeout=10)


def test_grpc_answers_health_checks_without_a_token(guarded):
    with grpc.insecure_channel(grpc_address(guarded)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        first = next(iter(stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)))
        assert first.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as refused:
            stub.Check(health_pb2.HealthCheckRequest(service="no.such"), timeout=10)
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_grpc_can_be_switched_off_and_its_port_be_taken(make_engine):
    without = make_engine("without", settings={"MARTLET_GRPC_ENABLED": "false"})
    without.start()
    assert "grpc_address" not in without.get("engine")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = make_engine("refused", settings={"MARTLET_GRPC_PORT": str(taken.getsockname()[1])})
        process = refused.launch()
        assert process.wait(30) != 0
        assert "another program uses that port" in refused.log_tail() and "grpc.port" in refused.log_tail()


def test_a_flood_is_pushed_back_and_not_lost(make_engine):
    """More than the queue holds is answered 503 with Retry-After; whoever sends it again loses nothing."""
    engine = make_engine()
    engine.start()
    body = trace_service_pb2.ExportTraceServiceRequest()
    spans = body.resource_spans.add().scope_spans.add().spans
    for index in range(50_000):
        spans.add(trace_id=(index + 1).to_bytes(16, "big"), span_id=b"2" * 8, name="flood",
                  start_time_unix_nano=1_700_000_000_000_000_000, end_time_unix_nano=1_700_000_000_000_000_001)  # fmt: skip
    packed = body.SerializeToString()
    refused = sent = 0
    until_end = time.monotonic() + 60
    while sent < 8:
        assert time.monotonic() < until_end
        answer = engine.http("POST", "/v1/traces", packed, {"Content-Type": "application/x-protobuf"})
        if answer.status == 200:
            sent += 1
        else:
            assert status(answer, 503)[0] == 14 and int(answer.headers["Retry-After"]) >= 1
            refused += 1
            time.sleep(0.2)
    print(f"{refused} requests were refused")

    def count(query: str) -> int:
        return engine.ask("sql", query)[0]["n"]

    while count("SELECT count(*) AS n FROM system.spans WHERE name = 'flood'") < 8 * 50_000:
        assert time.monotonic() < until_end
        time.sleep(0.2)
    assert count("SELECT count(*) AS n FROM system.spans WHERE name = 'flood'") == 8 * 50_000
    assert count("SELECT count(*) AS n FROM system.logs WHERE message LIKE '%were dropped%'") == 0


# Out

FUNCTION = """
    def handler(ctx, event):
        ctx.logger.warning("counted %s", event.id)
        with ctx.tracer.start_as_current_span("inside"):
            pass
        return None
"""


def flow(engine):
    """A function behind a topic."""
    engine.function("tell", FUNCTION)
    source = engine.source("ticks")
    engine.pipeline("telling", {"tell": {}}, [{"source": "ticks", "destination": "tell"}])
    return source


@pytest.mark.parametrize("kind", [HTTPReceiver, GRPCReceiver])
def test_spans_and_logs_of_the_engine_are_exported(make_engine, kind):
    receiver = kind()
    settings = {
        "MARTLET_TELEMETRY_EXPORT_ENDPOINT": receiver.endpoint,
        "MARTLET_TELEMETRY_EXPORT_HEADERS": "x-tenant=blue%2C1,authorization=Bearer secret-value",
    }
    engine = make_engine(settings=settings)
    engine.start()
    source = flow(engine)
    source.send_ids(range(5))
    until(lambda: sum(span.name == "function tell" for _, span in receiver.spans()) == 5, "spans are exported")
    until(lambda: sum("counted" in log.body.string_value for _, log in receiver.logs()) == 5, "logs are exported")
    by_id = {span.span_id: (owner, span) for owner, span in receiver.spans()}
    for owner, span in by_id.values():
        if span.name == "function tell":
            assert (owner["service.name"], owner["service.namespace"]) == ("tell", "telling")
            parent = by_id[span.parent_span_id][1]
            assert parent.name == "dispatch tell" and parent.trace_id == span.trace_id
            assert parent.start_time_unix_nano <= parent.end_time_unix_nano <= span.end_time_unix_nano
            attributes = {pair.key: pair.value.string_value for pair in span.attributes}
            assert attributes["cloudevents.event_id"] in "01234" and span.kind == 2 and span.status.code == 1
    assert any(span.name == "inside" for _, span in by_id.values())
    owner, log = next(one for one in receiver.logs() if "counted" in one[1].body.string_value)
    assert (log.severity_number, log.severity_text, owner["service.name"]) == (13, "WARN", "tell")
    assert log.span_id in by_id
    assert all(headers["x-tenant"] == "blue,1" for headers in receiver.headers)
    assert all(headers["authorization"] == "Bearer secret-value" for headers in receiver.headers)
    assert "secret-value" not in engine.log_tail(1_000_000)
    # What comes from outside is kept, and not sent on.
    assert post(engine, request(name="from-outside")).status == 200
    assert engine.get(f"traces/{1:032x}")["spans"]
    until_quiet(receiver)
    assert not any(span.name == "from-outside" for _, span in receiver.spans())
    assert engine.stop() == 0
    receiver.close()


@pytest.mark.parametrize("kind", [HTTPReceiver, GRPCReceiver])
def test_telemetry_travels_encrypted_to_an_endpoint_that_is_trusted_and_to_no_other(make_engine, tmp_path, kind):
    files = certificate(tmp_path)
    receiver = kind(files=files)
    settings = {"MARTLET_TELEMETRY_EXPORT_ENDPOINT": receiver.endpoint}
    # Nobody has signed the certificate that the system knows.
    doubting = make_engine("doubting", settings=settings)
    doubting.start()
    flow(doubting).send_ids(range(3))
    until(lambda: "waits to be exported" in doubting.log_tail(), "the log says that the endpoint is not trusted", 60)
    assert receiver.spans() == [] and doubting.stop() == 0
    trusting = make_engine("trusting", settings=settings | {"MARTLET_TELEMETRY_EXPORT_CERTIFICATE": str(files[0])})
    trusting.start()
    flow(trusting).send_ids(range(3))
    until(lambda: sum(span.name == "function tell" for _, span in receiver.spans()) == 3, "spans are exported", 60)
    assert trusting.stop() == 0
    receiver.close()
    missing = make_engine("missing", settings=settings | {"MARTLET_TELEMETRY_EXPORT_CERTIFICATE": "/no/such/file"})
    assert missing.launch().wait(30) != 0
    assert re.search(r"telemetry\.export\.certificate.*/no/such/file", missing.log_tail(), re.DOTALL)


@pytest.mark.parametrize("kind", [HTTPReceiver, GRPCReceiver])
def test_an_endpoint_that_is_away_costs_nothing(make_engine, kind):
    """Events go on at once, and what waited is sent when the endpoint is there."""
    gone = kind()
    port, endpoint = gone.port, gone.endpoint
    gone.close()
    engine = make_engine(settings={"MARTLET_TELEMETRY_EXPORT_ENDPOINT": endpoint})
    engine.start()
    source = flow(engine)
    source.send_ids(range(200))
    until(lambda: engine.get("pipelines/telling")["name"] and all(
        one["lag"] == 0 for one in engine.items("pipelines/telling/deployments")), "events are processed")  # fmt: skip
    until(lambda: "waits to be exported" in engine.log_tail(), "the log says that the endpoint is away")
    receiver = kind(port)
    receiver.refusals = [(503, {"Retry-After": "1"}), (429, {})] if kind is HTTPReceiver else [grpc.StatusCode.UNAVAILABLE]
    until(lambda: sum(span.name == "function tell" for _, span in receiver.spans()) >= 200, "spans are exported", 60)
    until(lambda: sum("counted" in log.body.string_value for _, log in receiver.logs()) >= 200, "logs are exported", 60)
    until_quiet(receiver)
    ids = [span.span_id for _, span in receiver.spans()]
    assert len(ids) == len(set(ids)), "a span was sent twice"
    until(lambda: "telemetry is exported again" in engine.log_tail(), "the log says that the endpoint is back")
    assert engine.stop() == 0
    receiver.close()


def test_what_is_left_is_sent_at_the_stop_and_variables_count(make_engine):
    receiver = HTTPReceiver()
    engine = make_engine(settings={
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint + "/", "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=green",
        "MARTLET_TELEMETRY_EXPORT_SIGNALS": "traces",
    })  # fmt: skip
    engine.start()
    source = flow(engine)
    source.send_ids(range(3))
    engine_pipeline = lambda: all(one["lag"] == 0 for one in engine.items("pipelines/telling/deployments"))
    until(engine_pipeline, "events are processed")
    assert engine.stop() == 0
    assert sum(span.name == "function tell" for _, span in receiver.spans()) == 3
    assert receiver.logs() == [] and receiver.headers[0]["x-tenant"] == "green"
    receiver.close()


def test_an_endpoint_that_is_none_keeps_the_engine_from_starting(make_engine):
    engine = make_engine(settings={"MARTLET_TELEMETRY_EXPORT_ENDPOINT": "ftp://x"})
    assert engine.launch().wait(30) != 0
    assert re.search(r"telemetry\.export\.endpoint.*http://127", engine.log_tail(), re.DOTALL)


def test_two_engines_that_export_to_each_other_send_nothing_round(make_engine):
    first = make_engine("first")
    first.start()
    second = make_engine("second", settings={"MARTLET_TELEMETRY_EXPORT_ENDPOINT": f"http://127.0.0.1:{first.port}"})
    second.start()
    source = flow(second)
    source.send_ids(range(3))
    def arrived():
        listed = first.items("traces?pipeline=telling&since=1h")
        return listed if len(listed) == 3 else None

    traces = until(arrived, "traces arrive at the other engine")
    assert all(trace["functions"] == ["tell"] and trace["event_id"] for trace in traces)
