# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Bounded queues of log records and spans, sent to the engine as OTLP/JSON within a quarter of a second."""

import base64
import threading
import time
from collections import deque

from . import encoding
from .errors import GatewayError

LOG_RECORDS_MAX = 10_000
LOG_BYTES_MAX = 16 * 1024 * 1024
SPANS_MAX = 5_000
BATCH_MAX = 2_000
BODY_TEXT_MAX = 64 * 1024
GATHER_SECONDS = 0.1
PAUSE_SECONDS = 0.05

_SEVERITY = ((50, 21, "FATAL"), (40, 17, "ERROR"), (30, 13, "WARN"), (20, 9, "INFO"), (10, 5, "DEBUG"))


def severity(level):
    """Returns (OTLP number, name) for a stdlib logging level."""
    for least, number, name in _SEVERITY:
        if level >= least:
            return number, name
    return 1, "TRACE"


class Telemetry:
    """Takes records from any thread without blocking it; a full queue drops its oldest entries and counts them."""

    def __init__(self, gateway, resource):
        self._gateway = gateway
        self._resource = {"attributes": otlp_attributes(resource)}
        self._lock = threading.Lock()
        self._logs = deque()
        self._log_bytes = 0
        self._logs_dropped = 0
        self._spans = deque()
        self._spans_dropped = 0
        self._wake = threading.Event()
        self._send_lock = threading.Lock()
        self._thread = None
        self._closed = False
        self._metrics = []

    def add_log(self, level, scope, logger, body, ids=None, event_id=None, attributes=None, at=None):
        """Queues one log record; `level` is a stdlib level, `scope` is `user` or `vast-runtime`."""
        if self._gateway is None:
            return
        if len(body) > BODY_TEXT_MAX:
            body = body[:BODY_TEXT_MAX] + "… (%d characters left out)" % (len(body) - BODY_TEXT_MAX)
        trace = attributes.get("exception.stacktrace") if attributes else None
        if trace and len(trace) > BODY_TEXT_MAX:
            attributes["exception.stacktrace"] = trace[:BODY_TEXT_MAX]
        record = (at or time.time_ns(), level, scope, logger, body, ids, event_id, attributes)
        with self._lock:
            logs = self._logs
            logs.append(record)
            self._log_bytes += _size(record)
            while len(logs) > LOG_RECORDS_MAX or self._log_bytes > LOG_BYTES_MAX:
                self._log_bytes -= _size(logs.popleft())
                self._logs_dropped += 1
        if not self._wake.is_set():
            self._start()

    def add_span(self, span):
        """Queues one ended span, ours or OpenTelemetry's."""
        if self._gateway is None:
            return
        with self._lock:
            self._spans.append(span)
            if len(self._spans) > SPANS_MAX:
                self._spans.popleft()
                self._spans_dropped += 1
        if not self._wake.is_set():
            self._start()

    def leave_to_child(self):
        """In a forked child: takes nothing more, since no thread sends it there."""
        self._gateway = None
        self._lock = threading.Lock()

    def add_metrics_source(self, collect):
        """Calls `collect()` every five seconds and at exit, and sends the list of OTLP metrics it returns."""
        self._metrics.append(collect)
        self._start()

    def post(self, path, text):
        """Sends OTLP/JSON; returns False when the engine did not take it."""
        if self._gateway is None:
            return False
        try:
            self._gateway.post(path, encoding.to_bytes(text), 5.0)
            return True
        except GatewayError:
            return False

    def metrics_text(self, scopes):
        """Returns an OTLP/JSON metrics request for [(scope name, metrics)]."""
        return encoding.encode_plain(
            {
                "resourceMetrics": [
                    {
                        "resource": self._resource,
                        "scopeMetrics": [{"scope": {"name": name}, "metrics": found} for name, found in scopes],
                    }
                ]
            }
        )

    def flush(self, seconds=2.0):
        """Sends what is queued, for at most `seconds`."""
        deadline = time.monotonic() + seconds
        self._collect_metrics()
        while time.monotonic() < deadline and (self._logs or self._spans or self._logs_dropped):
            if not self._send_lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                return
            try:
                if not self._send_round():
                    return
            finally:
                self._send_lock.release()

    def _start(self):
        self._wake.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="martlet-telemetry", daemon=True)
                    self._thread.start()

    def _run(self):
        metrics_due = time.monotonic() + 5.0
        while not self._closed:
            wait = max(0.05, metrics_due - time.monotonic()) if self._metrics else None
            if self._wake.wait(wait):
                time.sleep(GATHER_SECONDS)
                self._wake.clear()
                while self._logs or self._spans:
                    with self._send_lock:
                        sent = self._send_round()
                    time.sleep(PAUSE_SECONDS if sent else 0.5)
            if self._metrics and time.monotonic() >= metrics_due:
                self._collect_metrics()
                metrics_due = time.monotonic() + 5.0

    def _collect_metrics(self):
        for collect in list(self._metrics):
            found = collect()
            if found:
                try:
                    self.post("/v1/metrics", self.metrics_text([("user", found)]))
                except (TypeError, ValueError) as error:
                    self.add_log(30, "vast-runtime", "martlet.telemetry", "metrics could not be written: %s" % error)

    def _send_round(self):
        with self._lock:
            logs = [self._logs.popleft() for _ in range(min(BATCH_MAX, len(self._logs)))]
            self._log_bytes -= sum(map(_size, logs))
            dropped, self._logs_dropped = self._logs_dropped, 0
            spans = [self._spans.popleft() for _ in range(min(BATCH_MAX, len(self._spans)))]
            spans_dropped, self._spans_dropped = self._spans_dropped, 0
        sent = True
        if dropped or spans_dropped:
            text = "telemetry queue full: %d log records and %d spans were dropped" % (dropped, spans_dropped)
            counts = {"dropped.log_records": dropped, "dropped.spans": spans_dropped}
            logs.append((time.time_ns(), 30, "vast-runtime", "martlet.telemetry", text, None, None, counts))
        if logs and not self._post_made("/v1/logs", self._logs_text, logs):
            sent = False
            with self._lock:
                room = LOG_RECORDS_MAX - len(self._logs)
                kept = logs[-room:] if room > 0 else []
                self._logs.extendleft(reversed(kept))
                self._log_bytes += sum(map(_size, kept))
                self._logs_dropped += len(logs) - len(kept)
        if spans and not self._post_made("/v1/traces", self._spans_text, spans):
            sent = False
            with self._lock:
                self._spans_dropped += len(spans)
        return sent

    def _post_made(self, path, make, items):
        """Posts what `make` writes of the items; those it cannot write are left out and counted."""
        try:
            text = make(items)
        except Exception:
            good = []
            for item in items:
                try:
                    make([item])
                    good.append(item)
                except Exception:
                    self._logs_dropped += 1
            if not good:
                return True
            text = make(good)
        return self.post(path, text)

    def _logs_text(self, records):
        scopes = {}
        for at, level, scope, logger, body, ids, event_id, attributes in records:
            number, name = severity(level)
            shown = {"scope": scope, "logger": logger}
            if event_id is not None:
                shown["event_id"] = event_id
            if attributes:
                shown.update(attributes)
            record = {
                "timeUnixNano": str(at),
                "observedTimeUnixNano": str(at),
                "severityNumber": number,
                "severityText": name,
                "body": {"stringValue": body},
                "attributes": otlp_attributes(shown),
            }
            if ids is not None:
                record["traceId"], record["spanId"] = ids
            scopes.setdefault(scope, []).append(record)
        return encoding.encode_plain(
            {
                "resourceLogs": [
                    {
                        "resource": self._resource,
                        "scopeLogs": [{"scope": {"name": name}, "logRecords": found} for name, found in scopes.items()],
                    }
                ]
            }
        )

    def _spans_text(self, spans):
        return encoding.encode_plain(
            {
                "resourceSpans": [
                    {
                        "resource": self._resource,
                        "scopeSpans": [{"scope": {"name": "user"}, "spans": [otlp_span(span) for span in spans]}],
                    }
                ]
            }
        )


def _size(record):
    trace = record[7].get("exception.stacktrace") if record[7] else None
    return len(record[4]) + 256 + (len(trace) if trace else 0)


def otlp_value(value):
    """Returns an OTLP AnyValue."""
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)} if -(1 << 63) <= value < 1 << 63 else {"stringValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": otlp_double(value)}
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode("ascii")}
    if isinstance(value, (list, tuple)):
        return {"arrayValue": {"values": [otlp_value(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": otlp_attributes(value)}}
    return {"stringValue": str(value)}


def otlp_double(value):
    """Returns a double as protobuf's JSON writes it."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def otlp_attributes(attributes):
    """Returns a list of OTLP KeyValues; None values are left out."""
    return [
        {"key": str(key), "value": otlp_value(value)} for key, value in (attributes or {}).items() if value is not None
    ]


def otlp_span(span):
    """Returns one OTLP span, from ours or OpenTelemetry's."""
    if hasattr(span, "trace_id"):
        ids = (span.trace_id, span.span_id, span.parent_id)
        events = span.events
        status, message = {"OK": 1, "ERROR": 2}.get(span.status, 0), span.status_message
    else:
        own, parent = span.get_span_context(), span.parent
        ids = ("%032x" % own.trace_id, "%016x" % own.span_id, parent and "%016x" % parent.span_id)
        events = [(event.name, event.timestamp, event.attributes) for event in span.events]
        status, message = span.status.status_code.value, span.status.description
    done = {
        "traceId": ids[0],
        "spanId": ids[1],
        "name": span.name,
        "kind": int(getattr(span.kind, "value", span.kind)) + 1,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": otlp_attributes(span.attributes),
        "events": [
            {"name": name, "timeUnixNano": str(at), "attributes": otlp_attributes(kept)} for name, at, kept in events
        ],
        "status": {"code": status},
    }
    if ids[2]:
        done["parentSpanId"] = ids[2]
    if message:
        done["status"]["message"] = message
    links = [_otlp_link(link) for link in span.links]
    if links:
        done["links"] = links
    return done


def _otlp_link(link):
    context, attributes = link if isinstance(link, tuple) else (link.context, link.attributes)
    return {
        "traceId": "%032x" % context.trace_id,
        "spanId": "%016x" % context.span_id,
        "attributes": otlp_attributes(attributes),
    }
