# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""`ctx`, the object `init` and `handler` get."""

import os
import uuid
from datetime import datetime, timezone

from . import encoding, logs, tables
from .errors import EmitError, GatewayError
from .events import VastEvent
from .state import current_traceparent

_global_ctx = None


def get_global_ctx():
    """Returns the worker's context, from anywhere in user code; None before `init`."""
    return _global_ctx


def set_global_ctx(ctx):
    """Makes `ctx` what `get_global_ctx` returns."""
    global _global_ctx
    _global_ctx = ctx


class Secrets(dict):
    """`ctx.secrets`: secret name to a dict of its keys."""

    def __missing__(self, name):
        known = ", ".join(sorted(self)) or "none"
        raise KeyError("secret %r is not given to this function; it has: %s" % (name, known))

    def __repr__(self):
        return "Secrets(%s)" % ", ".join(sorted(self))

    __str__ = __repr__


def read_secrets(folder):
    """Reads `<secret>/<key>` files; values are text, or bytes when they are not UTF-8."""
    secrets = Secrets()
    if not folder or not os.path.isdir(folder):
        return secrets
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if name.startswith(".") or not os.path.isdir(path):
            continue
        entries = secrets[name] = {}
        for key in sorted(os.listdir(path)):
            file = os.path.join(path, key)
            if key.startswith("..") or not os.path.isfile(file):
                continue
            with open(file, "rb") as stream:
                value = stream.read()
            try:
                entries[key] = value.decode("utf-8")
            except UnicodeDecodeError:
                entries[key] = value
    return secrets


class Context:
    """What a function knows of its surroundings; any attribute set on it in `init` is there in `handler`."""

    def __init__(self, settings=None, gateway=None, telemetry=None, logger=None, table_sink=None, secrets_dir=None):
        settings = settings or {}
        self._gateway = gateway
        self._telemetry = telemetry
        self._tracing = None
        self._metering = None
        self.logger = logger or logs.context_logger("function")
        self.function_name = settings.get("function_name") or os.environ.get("K_NAME") or "function"
        self.function_revision = settings.get("function_revision")
        self.pipeline_name = settings.get("pipeline_name")
        self.deployment_name = settings.get("deployment_name")
        self.authority = settings.get("authority") or "vastdata.com"
        self.broker = settings.get("broker")
        self.pipeline_triggers_map = settings.get("downstream") or {}
        self.secrets_dir = secrets_dir
        self.secrets = read_secrets(secrets_dir)
        self.user_data = {}
        self.tables = tables.Tables(table_sink or tables.MemorySink())

    get_global_ctx = staticmethod(get_global_ctx)
    set_global_ctx = staticmethod(set_global_ctx)

    @property
    def tracer(self):
        """An OpenTelemetry tracer, or our own with the same methods where OpenTelemetry is not installed."""
        if self._tracing is None:
            from . import otel, tracing

            telemetry = self._telemetry
            self._tracing = tracing.Tracer(None) if telemetry is None else otel.tracer(telemetry)
        return self._tracing

    @property
    def meter(self):
        """An OpenTelemetry meter, or our own with the same methods where OpenTelemetry is not installed."""
        return self._meters().meter

    def _meters(self):
        if self._metering is None:
            from . import metrics

            telemetry = self._telemetry
            self._metering = metrics.Metering(metrics.Meter(None)) if telemetry is None else metrics.metering(telemetry)
        return self._metering

    def start_as_current_span(self, name, *args, **options):
        """Starts a span that is the current one inside `with`."""
        return self.tracer.start_as_current_span(name, *args, **options)

    def start_as_current_event_span(self, name=None, event=None, *args, **options):
        """The same with the event's id, type, source and subject as attributes; takes the event first or second."""
        if isinstance(name, VastEvent):
            name, event = event, name
        attributes = dict(options.pop("attributes", None) or {})
        if event is not None:
            for key in ("id", "type", "source", "subject"):
                value = event.get(key)
                if value is not None:
                    attributes["event." + key] = value
        name = name or (event.get("type") if event is not None else None) or "event"
        return self.tracer.start_as_current_span(name, *args, attributes=attributes, **options)

    def counter(self, name, description="", unit=""):
        """Returns the counter of that name; `.add(amount, attributes)`."""
        return self._meters().instrument("counter", name, description, unit)

    def histogram(self, name, description="", unit=""):
        """Returns the histogram of that name; `.record(amount, attributes)`."""
        return self._meters().instrument("histogram", name, description, unit)

    def gauge(self, name, description="", unit=""):
        """Returns the gauge of that name; `.set(amount, attributes)`."""
        return self._meters().instrument("gauge", name, description, unit)

    def updowncounter(self, name, description="", unit=""):
        """Returns the up-down counter of that name; `.add(amount, attributes)`."""
        return self._meters().instrument("up_down_counter", name, description, unit)

    def transaction(self):
        """All table writes inside `with ctx.transaction():` happen together or not at all."""
        return self.tables.transaction()

    def emit(
        self, topic, data=None, *, key=None, type=None, source=None, subject=None, id=None, time=None, **extensions
    ):
        """Puts events into a topic and returns their number, durable on return.

        `data` is a payload (dict, list, str, number, bytes), a VastEvent, or a list of VastEvents. Inside a transaction
        the events are sent right after it committed, and not at all when it fails.
        """
        if not isinstance(topic, str) or not topic:
            raise EmitError("emit: the topic is %r; it must be a name" % (topic,))
        options = {"type": type, "source": source, "subject": subject, "id": id, "time": time, "partitionkey": key}
        for name, value in extensions.items():
            if not (name.isascii() and name.isalnum() and name.lower() == name and len(name) <= 20):
                raise EmitError("emit: extension %r: use 1 to 20 lower-case letters and digits" % name)
            options[name] = value
        if isinstance(data, VastEvent):
            events = [data]
        elif isinstance(data, (list, tuple)) and data and all(isinstance(item, VastEvent) for item in data):
            events = data
        else:
            events = [VastEvent({}, data)] if not isinstance(data, (bytes, bytearray)) else [_bytes_event(data)]
        try:
            text = encoding.dumps({"topic": topic, "events": [self._stamped(event, options) for event in events]})
        except (TypeError, ValueError) as error:
            raise EmitError("emit to %s: %s" % (topic, error)) from None
        if not tables.run_after_commit(lambda: self._send(topic, text)):
            self._send(topic, text)
        return len(events)

    def _stamped(self, event, options):
        raw = {key: value for key, value in event._raw.items() if value is not None and not key.startswith("martlet")}
        for key, value in options.items():
            if value is not None:
                raw[key] = value if isinstance(value, (str, int, bool)) else str(value)
        raw.setdefault("specversion", "1.0")
        raw.setdefault("id", str(uuid.uuid4()))
        raw.setdefault("time", datetime.now(timezone.utc).isoformat())
        raw.setdefault("type", "%s:Function" % self.authority)
        raw.setdefault("source", "%s:%s" % (self.authority, self.function_name))
        if "data" in raw:
            raw.setdefault("datacontenttype", "application/json")
        parent = current_traceparent()
        if parent:
            raw["traceparent"] = parent
        return raw

    def _send(self, topic, text):
        if self._gateway is None:
            import sys

            print("emit: " + text, file=sys.__stdout__, flush=True)
            return
        try:
            self._gateway.post_json("/v1/emit", text)
        except GatewayError as error:
            raise EmitError("emit to %s: %s" % (topic, error)) from None

    def flush_telemetry(self, seconds=2.0):
        """Sends queued log records, spans and metrics now."""
        if self._telemetry is not None:
            from . import otel

            otel.flush(seconds)
            self._telemetry.flush(seconds)


def _bytes_event(data):
    import base64

    event = VastEvent({"datacontenttype": "application/octet-stream"})
    event._raw["data_base64"] = base64.b64encode(bytes(data)).decode("ascii")
    return event
