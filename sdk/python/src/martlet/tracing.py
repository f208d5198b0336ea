# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Spans: those of an invocation, and a small tracer for functions without OpenTelemetry."""

import functools
import random
import time
import traceback
from collections import namedtuple
from contextlib import contextmanager
from contextvars import ContextVar

from .state import current

_active = ContextVar("martlet_span", default=None)
_ids = random.SystemRandom()

#: Set by `otel` once OpenTelemetry's API is loaded: returns its current (trace id, span id) as integers, or None.
foreign_ids = None

ATTRIBUTES_MAX = 128
EVENTS_MAX = 128
TEXT_MAX = 32768


def new_trace_id():
    """Returns 32 random hex digits."""
    return "%032x" % (_ids.getrandbits(128) or 1)


def new_span_id():
    """Returns 16 random hex digits."""
    return "%016x" % (_ids.getrandbits(64) or 1)


def active_ids():
    """Returns (trace id, span id) of the innermost active span as hex, or None."""
    span = _active.get()
    if span is not None:
        return span.trace_id, span.span_id
    if foreign_ids is not None:
        found = foreign_ids()
        if found is not None:
            return found
    invocation = current.get()
    return None if invocation is None else invocation.ids


SpanContext = namedtuple("SpanContext", "trace_id span_id is_remote trace_flags trace_state is_valid")


class SpanData:
    """What one span records, with the methods OpenTelemetry spans have."""

    def __init__(self, name, trace_id, span_id, parent_id=None, attributes=None, kind=0, start=None, sink=None):
        self.name = name
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id
        self.kind = kind
        self.start_time = start or time.time_ns()
        self.end_time = None
        self.attributes = {}
        self.events = []
        self.links = []
        self.status = None
        self.status_message = None
        self._sink = sink
        if attributes:
            self.set_attributes(attributes)

    def set_attribute(self, key, value):
        """Sets one attribute."""
        if self.end_time is None and value is not None:
            if key in self.attributes or len(self.attributes) < ATTRIBUTES_MAX:
                self.attributes[str(key)] = _bounded(value)

    def set_attributes(self, attributes):
        """Sets several attributes."""
        for key, value in dict(attributes).items():
            self.set_attribute(key, value)

    def add_event(self, name, attributes=None, timestamp=None):
        """Adds an event; `timestamp` is in nanoseconds since 1970."""
        if self.end_time is None and len(self.events) < EVENTS_MAX:
            kept = {str(key): _bounded(value) for key, value in dict(attributes or {}).items()}
            self.events.append((str(name), timestamp or time.time_ns(), kept))

    def add_link(self, context, attributes=None):
        """Adds a link to another span."""
        if self.end_time is None and len(self.links) < EVENTS_MAX:
            self.links.append((context, dict(attributes or {})))

    def record_exception(self, exception, attributes=None, timestamp=None, escaped=False):
        """Adds an `exception` event."""
        details = {
            "exception.type": type(exception).__qualname__,
            "exception.message": str(exception),
            "exception.stacktrace": "".join(
                traceback.format_exception(type(exception), exception, exception.__traceback__)
            ),
            "exception.escaped": str(bool(escaped)),
        }
        details.update(dict(attributes or {}))
        self.add_event("exception", details, timestamp)

    def set_status(self, status, description=None):
        """Sets the status: OK, ERROR or UNSET, by name, by OpenTelemetry's StatusCode or by its Status."""
        if self.end_time is not None or self.status == "OK":
            return
        code = getattr(status, "status_code", status)
        name = str(getattr(code, "name", code)).upper()
        if name in ("OK", "ERROR"):
            self.status = name
            self.status_message = description or getattr(status, "description", None) if name == "ERROR" else None

    def update_name(self, name):
        """Renames the span."""
        self.name = str(name)

    def is_recording(self):
        """Tells whether the span has not ended."""
        return self.end_time is None

    def get_span_context(self):
        """Returns the ids, as integers."""
        return SpanContext(int(self.trace_id, 16), int(self.span_id, 16), False, 1, {}, True)

    def end(self, end_time=None):
        """Ends the span; a child span is then exported."""
        if self.end_time is None:
            self.end_time = end_time or time.time_ns()
            if self._sink is not None:
                self._sink.add_span(self)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is not None and self.is_recording():
            self.record_exception(error)
            self.set_status("ERROR", "%s: %s" % (kind.__name__, error))
        self.end()
        return False

    def report(self):
        """Returns what user code set, as the result line's `span`, or None when it set nothing."""
        if not (self.attributes or self.events or self.status or self.links):
            return None
        return {
            "attributes": {key: _strict(value) for key, value in self.attributes.items()},
            "events": [
                {"name": name, "time": at // 1000, "attributes": {key: _strict(value) for key, value in kept.items()}}
                for name, at, kept in self.events
            ],
            "status": self.status,
            "message": self.status_message,
        }


#: What `invocation_span` makes; `otel` puts a class here that is OpenTelemetry's Span too.
invocation_span_class = SpanData


def invocation_span(invocation):
    """Returns the span of an invocation, made when user code first asks for it."""
    span = invocation.span
    if span is None or (span.__class__ is SpanData and invocation_span_class is not SpanData):
        trace_id, span_id = invocation.ids
        fresh = invocation_span_class("handler", trace_id, span_id, start=invocation.start * 1000 or None)
        if span is not None:
            fresh.__dict__.update({key: value for key, value in span.__dict__.items()})
        span = invocation.span = fresh
    return span


def current_span():
    """Returns the innermost span of this package's own tracer, or the invocation's span, or None."""
    span = _active.get()
    if span is not None:
        return span
    invocation = current.get()
    return None if invocation is None else invocation_span(invocation)


class Tracer:
    """Makes spans; the methods are those of an OpenTelemetry tracer."""

    def __init__(self, sink):
        self._sink = sink

    def start_span(self, name, context=None, kind=0, attributes=None, links=(), start_time=None, **_options):
        """Starts a span below the current one, without making it the current one."""
        parent = active_ids()
        trace_id = parent[0] if parent else new_trace_id()
        kind = getattr(kind, "value", kind) or 0
        span = SpanData(name, trace_id, new_span_id(), parent and parent[1], attributes, kind, start_time, self._sink)
        for link in links or ():
            span.add_link(getattr(link, "context", link), getattr(link, "attributes", None))
        return span

    def start_as_current_span(self, name, *args, end_on_exit=True, **options):
        """Starts a span that is the current one inside `with`, or for every call of the decorated function."""
        return _CurrentSpan(lambda: self.start_span(name, *args, **options), end_on_exit, options)


class _CurrentSpan:
    def __init__(self, make, end_on_exit, options):
        self._make = make
        self._end = end_on_exit
        self._record = options.pop("record_exception", True)
        self._set_status = options.pop("set_status_on_exception", True)
        self._open = []

    def __enter__(self):
        span = self._make()
        self._open.append((span, _active.set(span)))
        return span

    def __exit__(self, kind, error, trace):
        span, token = self._open.pop()
        _active.reset(token)
        if isinstance(error, Exception):
            if self._record:
                span.record_exception(error)
            if self._set_status:
                span.set_status("ERROR", "%s: %s" % (kind.__name__, error))
        if self._end:
            span.end()
        return False

    def __call__(self, function):
        import inspect

        again = functools.partial(_CurrentSpan, self._make, self._end)
        options = {"record_exception": self._record, "set_status_on_exception": self._set_status}
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run(*args, **kwargs):
                with again(dict(options)):
                    return await function(*args, **kwargs)

        else:

            @functools.wraps(function)
            def run(*args, **kwargs):
                with again(dict(options)):
                    return function(*args, **kwargs)

        return run


@contextmanager
def use(span):
    """Makes a span of this package's own tracer the current one."""
    token = _active.set(span)
    try:
        yield span
    finally:
        _active.reset(token)


def _bounded(value):
    if isinstance(value, str):
        return value if len(value) <= TEXT_MAX else value[:TEXT_MAX]
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")[:TEXT_MAX]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_bounded(item) for item in list(value)[:ATTRIBUTES_MAX]]
    if hasattr(value, "item"):
        try:
            return _bounded(value.item())
        except (TypeError, ValueError):
            pass
    return str(value)[:TEXT_MAX]


def _strict(value):
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return value
