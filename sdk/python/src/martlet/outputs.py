# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What a handler returned, as output events of a result line."""

import base64

from . import encoding
from .events import _HIDDEN, VastEvent, VastEventList

_ATTRIBUTES_ALSO = frozenset(("source", "id", "type", "time", "subject", "datacontenttype", "dataschema"))


def output_text(value, event):
    """Returns the JSON text of `out` for one call, or None when there is nothing to send on."""
    if value is None:
        return None
    kind = type(value)
    if kind is dict or kind is str:
        return _data_text(value, event._labels)
    if isinstance(value, VastEvent):
        return "[" + encoding.dumps(event_output(value, event._labels)) + "]"
    if isinstance(value, VastEventList) or (
        isinstance(value, (list, tuple)) and value and all(isinstance(item, VastEvent) for item in value)
    ):
        return encoding.dumps([event_output(item, event._labels) for item in value])
    if isinstance(value, (bytes, bytearray, memoryview)):
        output = {"data_base64": base64.b64encode(bytes(value)).decode("ascii")}
        if event._labels:
            output["labels"] = event._labels
        return encoding.dumps([output])
    return _data_text(value, event._labels)


def _data_text(value, labels):
    try:
        text = encoding.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError("the handler's return value cannot be sent on: %s" % error) from None
    if labels:
        return '[{"data":' + text + ',"labels":' + encoding.dumps(labels) + "}]"
    return '[{"data":' + text + "}]"


def event_output(value, labels=None):
    """Returns one output for a VastEvent: its payload, its labels (else those of the input) and its attributes."""
    raw = value._raw
    output = {}
    if "data" in raw:
        output["data"] = raw["data"]
    elif raw.get("data_base64") is not None:
        output["data_base64"] = raw["data_base64"]
    else:
        output["data"] = None
    labels = value._labels or labels
    if labels:
        output["labels"] = labels
    attributes = {
        key: kept
        for key, kept in raw.items()
        if kept is not None and (key in _ATTRIBUTES_ALSO or key not in _HIDDEN) and key != "traceparent"
    }
    if attributes:
        output["attributes"] = attributes
    return output


def batch_outputs(value, events):
    """Returns one `out` text per event of a batch; the handler must return as many items as it got."""
    if value is None:
        return [None] * len(events)
    if not isinstance(value, (list, tuple, VastEventList)):
        raise TypeError(
            "a batching handler returns a list with one item per event, or None; this one returned %s"
            % type(value).__name__
        )
    if len(value) != len(events):
        raise ValueError(
            "the batching handler got %d events and returned %d items; return one per event (None for no output)"
            % (len(events), len(value))
        )
    return [output_text(item, event) for item, event in zip(value, events)]
