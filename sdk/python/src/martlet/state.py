# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Which invocation the current thread or task belongs to."""

import hashlib
import re
from contextvars import ContextVar

#: The running `Invocation`, None outside a handler or `init`.
current = ContextVar("martlet_invocation", default=None)

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16


def parse_traceparent(value):
    """Returns (trace id, span id) as hex, or None when `value` is no valid W3C traceparent."""
    if not isinstance(value, str):
        return None
    match = _TRACEPARENT.match(value)
    if match is None or match.group(1) == _NO_TRACE or match.group(2) == _NO_SPAN:
        return None
    return match.group(1), match.group(2)


def trace_id_of(event_id):
    """Returns the trace id of an event without a traceparent: its id when that is hex or a UUID, else a hash of it."""
    text = str(event_id).replace("-", "")
    try:
        number = int(text, 16)
    except ValueError:
        number = 0
    if 0 < number < 1 << 128:
        return "%032x" % number
    return hashlib.md5(str(event_id).encode("utf-8", "replace")).hexdigest()


class Invocation:
    """One handler call: its place in the request, when it began, and what it left on its span."""

    __slots__ = ("request", "index", "raw", "start", "began", "span", "lines", "timed_out", "_ids", "__weakref__")

    def __init__(self, request, index, raw):
        self.request = request
        self.index = index
        self.raw = raw
        self.start = 0
        self.began = 0
        self.span = None
        self.lines = None
        self.timed_out = False
        self._ids = None

    @property
    def ids(self):
        """(trace id, span id) of this attempt as hex."""
        ids = self._ids
        if ids is None:
            raw = self._first()
            ids = parse_traceparent(raw.get("traceparent"))
            if ids is None:
                seed = trace_id_of(raw.get("id", ""))
                ids = (seed, hashlib.md5((seed + "span").encode()).hexdigest()[:16])
            self._ids = ids
        return ids

    @ids.setter
    def ids(self, value):
        self._ids = value

    @property
    def event_id(self):
        """The id of the event (the first one of a batch)."""
        found = self._first().get("id")
        return found if isinstance(found, str) else None

    def _first(self):
        raw = self.raw[0] if type(self.raw) is list else self.raw
        return raw if isinstance(raw, dict) else {}


def current_traceparent():
    """Returns the W3C traceparent of the innermost active span, or None outside a call."""
    from . import tracing

    context = tracing.active_ids()
    return None if context is None else "00-%s-%s-01" % context
