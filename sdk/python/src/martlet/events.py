# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The event classes a handler receives."""

import base64
import json
import re
import uuid
from collections.abc import MutableSequence
from datetime import datetime, timezone

from .errors import EventError
from .state import parse_traceparent, trace_id_of

_CORE = ("source", "id", "type", "specversion", "time", "subject", "datacontenttype", "dataschema")
_HIDDEN = frozenset(_CORE) | {"data", "data_base64", "martletattempt", "martletbatch"}
_SUBJECT_PREFIXES = ("vast-broker-", "vastdata.com:")
_TYPE = re.compile(r"([^:\s]+):([A-Za-z][A-Za-z0-9_]*)(?:\.([A-Za-z][A-Za-z0-9_.:*]*))?")
_SOURCE = re.compile(r"([^:\s]+):([^\s]+)")
_GUID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_kinds = {}


def _kind_of(full_type):
    """Returns (class, kind, subtype) for a CloudEvent type; remembered, since a function sees few types."""
    found = _kinds.get(full_type)
    if found is None:
        rest = full_type.partition(":")[2] or full_type
        kind, _, subtype = rest.partition(".")
        found = (_CLASSES.get(kind, ManualVastEvent), kind, subtype or None)
        if len(_kinds) < 1024:
            _kinds[full_type] = found
    return found


class VastEvent:
    """One CloudEvent; concrete class by type: element, schedule, function or manual.

    `VastEvent(attributes, data)` makes one, as the CloudEvents SDK does: `id`, `specversion` and `time` are filled in.
    """

    __slots__ = ("_raw", "_data", "_labels")

    def __init__(self, attributes=None, data=None):
        raw = dict(attributes or {})
        raw.setdefault("specversion", "1.0")
        raw.setdefault("id", str(uuid.uuid4()))
        raw.setdefault("time", datetime.now(timezone.utc).isoformat())
        if data is not None:
            raw.pop("data_base64", None)
            raw["data"] = data
        self._raw = raw
        self._labels = None

    @classmethod
    def create(cls, attributes, data=None):
        """Makes an event from attributes and data."""
        return cls(attributes, data)

    @property
    def id(self):
        """The event's id; retries keep it."""
        return self._raw.get("id")

    @property
    def type(self):
        """The kind only: Element, Schedule, Function, or another for manual events."""
        return _kind_of(self._raw.get("type") or "")[1]

    @property
    def subtype(self):
        """The part of the type after the dot, such as ElementCreated; None for function events."""
        return _kind_of(self._raw.get("type") or "")[2]

    @property
    def version(self):
        """The CloudEvents version."""
        return self._raw.get("specversion")

    @property
    def timestamp(self):
        """The event's time as it was written, RFC 3339."""
        return self._raw.get("time")

    @property
    def attempt(self):
        """Which attempt this is, from 1."""
        try:
            return int(self._raw.get("martletattempt", 1))
        except (TypeError, ValueError):
            return 1

    @property
    def trigger(self):
        """The trigger's name, from the source `<authority>:<trigger>.<guid>`."""
        return self._source_parts()[0]

    @property
    def trigger_id(self):
        """The trigger's guid, from the source; None when the source has none."""
        return self._source_parts()[1]

    def _source_parts(self):
        rest = (self._raw.get("source") or "").partition(":")[2]
        name, dot, guid = rest.rpartition(".")
        if dot and _GUID.fullmatch(guid):
            return name, guid
        name, dot, guid = rest.partition(".")
        return (name or None), (guid or None)

    @property
    def broker(self):
        """The broker, from the subject `<broker>.<topic>`."""
        return self._subject_parts()[0]

    @property
    def topic(self):
        """The topic, from the subject `<broker>.<topic>`."""
        return self._subject_parts()[1]

    def _subject_parts(self):
        subject = self._raw.get("subject") or ""
        for prefix in _SUBJECT_PREFIXES:
            if subject.startswith(prefix):
                subject = subject[len(prefix) :]
                break
        broker, _, topic = subject.partition(".")
        return (broker or None), (topic or None)

    @property
    def bucket(self):
        """The view or bucket of the element; None without `elementpath`."""
        path = self._raw.get("elementpath")
        return path.partition("/")[0] if path else None

    @property
    def object_key(self):
        """The element's key inside its view; None without `elementpath`."""
        path = self._raw.get("elementpath")
        return path.partition("/")[2] if path else None

    @property
    def partition_key(self):
        """`elementpath` for element events, else the `partitionkey` extension."""
        if self.type == "Element":
            return self._raw.get("elementpath") or self._raw.get("partitionkey")
        return self._raw.get("partitionkey")

    @property
    def extensions(self):
        """The attributes that are not CloudEvents core attributes."""
        hidden = _HIDDEN
        return {key: value for key, value in self._raw.items() if key not in hidden}

    def get_attributes(self):
        """Returns every attribute: the core ones in the reference's order, then the extensions."""
        raw = self._raw
        attributes = {name: raw.get(name) for name in _CORE}
        if attributes["datacontenttype"] is None and "data" in raw:
            attributes["datacontenttype"] = "application/json"
        hidden = _HIDDEN
        for key, value in raw.items():
            if key not in hidden:
                attributes[key] = value
        return attributes

    @property
    def data(self):
        """The payload: parsed JSON, or bytes for other content."""
        try:
            return self._data
        except AttributeError:
            pass
        raw = self._raw
        if "data" in raw:
            data = raw["data"]
        elif raw.get("data_base64") is not None:
            try:
                data = base64.b64decode(raw["data_base64"], validate=True)
            except (TypeError, ValueError) as error:
                raise EventError("malformed vast event: data_base64 is not base64: %s" % error) from None
            if _is_json(raw.get("datacontenttype")):
                try:
                    data = json.loads(data)
                except ValueError:
                    pass
        else:
            data = None
        self._data = data
        return data

    @data.setter
    def data(self, value):
        self._data = value
        self._raw.pop("data_base64", None)
        self._raw["data"] = value

    def get_data(self):
        """Returns the payload."""
        return self.data

    def get_trace_id(self):
        """Returns the trace id as 32 hex digits; seeded from the event's id when there is no traceparent."""
        ids = parse_traceparent(self._raw.get("traceparent"))
        return ids[0] if ids else trace_id_of(self._raw.get("id", ""))

    def get_trigger_labels(self):
        """Returns the labels set so far."""
        return dict(self._labels or {})

    def set_trigger_labels(self, labels):
        """Merges `labels` into the set that chooses the next links; all pairs of a link must match."""
        if not isinstance(labels, dict):
            raise TypeError("set_trigger_labels takes a dict of strings, not %s" % type(labels).__name__)
        if not labels:
            raise ValueError(
                "set_trigger_labels: the labels are empty; to send the event nowhere set one that no link has"
            )
        for key, value in labels.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise TypeError("set_trigger_labels: label %r=%r must be a string for a string" % (key, value))
        self._labels = {**(self._labels or {}), **labels}

    def as_element_event(self):
        """Returns this event when it is an element event, else raises TypeError."""
        return self._cast(ElementTriggerVastEvent, "element")

    def as_schedule_event(self):
        """Returns this event when it is a schedule event, else raises TypeError."""
        return self._cast(ScheduleVastEvent, "schedule")

    def as_function_event(self):
        """Returns this event when it is a function event, else raises TypeError."""
        return self._cast(FunctionVastEvent, "function")

    def as_manual_event(self):
        """Returns this event when it is none of the other kinds, else raises TypeError."""
        return self._cast(ManualVastEvent, "manual")

    def _cast(self, wanted, name):
        if isinstance(self, wanted):
            return self
        if type(self) is VastEvent and _kind_of(self._raw.get("type") or "")[0] is wanted:
            other = wanted.__new__(wanted)
            other._raw = self._raw
            other._labels = self._labels
            return other
        raise TypeError("event %s is not a %s event: its type is %r" % (self.id, name, self._raw.get("type")))

    def get(self, key, default=None):
        """Returns one attribute."""
        if key in ("data", "data_base64"):
            return default
        return self._raw.get(key, default)

    def __getitem__(self, key):
        if key in ("data", "data_base64"):
            raise KeyError(key)
        return self._raw[key]

    def __setitem__(self, key, value):
        self._raw[key] = value

    def __delitem__(self, key):
        del self._raw[key]

    def __contains__(self, key):
        return key in self._raw and key not in ("data", "data_base64")

    def __iter__(self):
        return iter(self.get_attributes())

    def __len__(self):
        return len(self.get_attributes())

    def __eq__(self, other):
        if not isinstance(other, VastEvent):
            return NotImplemented
        return self.get_attributes() == other.get_attributes() and self.data == other.data

    __hash__ = None

    def __str__(self):
        return str({"attributes": self.get_attributes(), "data": self.data})

    __repr__ = __str__


class ElementTriggerVastEvent(VastEvent):
    """Something happened to a file or object."""

    __slots__ = ()

    @property
    def element_path(self):
        """`<view>/<key>`."""
        return self._raw.get("elementpath")

    @property
    def element_handle(self):
        """The element's handle, an integer as a string."""
        return self._raw.get("elementhandle")

    @property
    def element_source_type(self):
        """Where the element lives, such as `vast:s3`."""
        return self._raw.get("elementsourcetype")


class ScheduleVastEvent(VastEvent):
    """A schedule's time came."""

    __slots__ = ()

    @property
    def cron_schedule(self):
        """The schedule in seven fields."""
        return self._raw.get("cronschedule")

    @property
    def timer_elapsed_timestamp(self):
        """When the schedule fired, as it was written."""
        return self._raw.get("timerelapsedtimestamp")


class FunctionVastEvent(VastEvent):
    """What the function before returned."""

    __slots__ = ()

    @property
    def function_trigger(self):
        """The name of the function that returned it."""
        return (self._raw.get("source") or "").partition(":")[2] or None


class ManualVastEvent(VastEvent):
    """An event of any other type, such as one a person sent."""

    __slots__ = ()


_CLASSES = {"Element": ElementTriggerVastEvent, "Schedule": ScheduleVastEvent, "Function": FunctionVastEvent}


class VastEventList(MutableSequence):
    """The events of one call of a batching handler, in delivery order."""

    __slots__ = ("_events",)

    def __init__(self, events=()):
        self._events = list(events)

    @property
    def events(self):
        """The events as a list."""
        return self._events

    def __getitem__(self, index):
        found = self._events[index]
        return VastEventList(found) if isinstance(index, slice) else found

    def __setitem__(self, index, event):
        self._events[index] = event

    def __delitem__(self, index):
        del self._events[index]

    def __len__(self):
        return len(self._events)

    def insert(self, index, event):
        """Inserts an event before `index`."""
        self._events.insert(index, event)

    def __eq__(self, other):
        if isinstance(other, VastEventList):
            return self._events == other._events
        return self._events == other if isinstance(other, list) else NotImplemented

    __hash__ = None

    def __repr__(self):
        return "VastEventList(%r)" % (self._events,)


def event_batching_handler(function):
    """Marks a handler that takes `(ctx, events_list)` with a `VastEventList`."""
    function.__martlet_batching__ = True
    return function


def event_from(raw):
    """Builds the event of the right class around one structured CloudEvent, without copying it."""
    try:
        found = _kinds[raw["type"]]
        if not raw["id"] or not raw["source"]:
            _require(raw)
    except (KeyError, TypeError):
        _require(raw)
        found = _kind_of(raw["type"])
    cls = found[0]
    event = cls.__new__(cls)
    event._raw = raw
    event._labels = None
    return event


def _require(raw):
    """Raises EventError unless `raw` is an object with the attributes CloudEvents demands."""
    if not isinstance(raw, dict):
        raise EventError("malformed vast event: it is a JSON %s, not an object" % type(raw).__name__)
    for name in ("id", "source", "type"):
        value = raw.get(name)
        if not isinstance(value, str) or not value:
            raise EventError(
                "malformed vast event: %s is %s; it must be a non-empty string"
                % (name, "missing" if value is None else repr(value))
            )


def check_strictly(raw):
    """Raises EventError for what the reference runtime refuses over HTTP: id, subject, source and type grammar."""
    _require(raw)
    if raw.get("specversion", "1.0") not in ("1.0", "0.3"):
        raise EventError("malformed vast event: specversion %r is not 1.0" % (raw.get("specversion"),))
    try:
        int(raw["id"].replace("-", ""), 16)
    except ValueError:
        raise EventError(
            "malformed vast event: id: invalid literal for int() with base 16: %r; use hexadecimal digits or a UUID"
            % raw["id"]
        ) from None
    subject = raw.get("subject")
    if not isinstance(subject, str) or "." not in subject:
        raise EventError(
            "malformed vast event: broker and topic: subject is %r; it must be <broker>.<topic>" % (subject,)
        )
    if not _TYPE.fullmatch(raw["type"]):
        raise EventError("malformed vast event: type is %r; it must be <authority>:<Kind>[.<Subtype>]" % raw["type"])
    if not _SOURCE.fullmatch(raw["source"]):
        raise EventError("malformed vast event: source is %r; it must be <authority>:<name>[.<guid>]" % raw["source"])


def _is_json(media_type):
    if not media_type:
        return True
    base = media_type.partition(";")[0].strip().lower()
    return base in ("application/json", "text/json") or base.endswith("+json")
