# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The event classes, inside a real worker and on their own."""

import json

import pytest
from conftest import TRACE, attempt, element, schedule

GOLDEN = (
    "{'attributes': {'source': 'vastdata.com:s3-trigger.b45a6820-410c-457a-ac1b-035a102b5d05', "
    "'id': '1004356627333135', 'type': 'vastdata.com:Element.ElementCreated', 'specversion': '1.0', "
    "'time': '2026-04-08T15:41:29.591955+00:00', 'subject': 'vast-broker-engine-broker.main', "
    "'datacontenttype': 'application/json', 'dataschema': None, 'elementhandle': '8025198034623744117', "
    "'elementpath': 's3-bucket-name/dir/test.md', 'elementsourcetype': 'vast:s3', 'knativekafkaoffset': '135498', "
    "'knativekafkapartition': '0'}, 'data': {'Records': [{'eventName': 'ObjectCreated:Put'}]}}"
)


def test_str_is_the_reference_form(start):
    worker = start("def handler(ctx, event):\n    return str(event)\n")
    result = worker.invoke([element(martletattempt=2, martletbatch=1)])[0]
    assert result[4] == [{"data": GOLDEN}]


MEMBERS = """
    NAMES = ("id type subtype version timestamp trigger trigger_id broker topic bucket object_key partition_key "
             "extensions data attempt").split()

    def handler(ctx, event):
        members = {name: getattr(event, name) for name in NAMES}
        members["get_data"] = event.get_data()
        members["attributes"] = event.get_attributes()
        members["trace"] = event.get_trace_id()
        members["class"] = type(event).__name__
        members["get"] = event.get("elementpath", "none")
        members["item"] = event["id"]
        members["has_get_type"] = hasattr(event, "get_type")
        casts = {}
        for cast in ("element", "schedule", "function", "manual"):
            try:
                casts[cast] = getattr(event, "as_%s_event" % cast)() is event
            except TypeError as error:
                casts[cast] = str(error)
        members["casts"] = casts
        if members["class"] == "ScheduleVastEvent":
            members["cron"] = event.as_schedule_event().cron_schedule
            members["elapsed"] = event.timer_elapsed_timestamp
        if members["class"] == "FunctionVastEvent":
            members["from"] = event.function_trigger
        return members
"""


def members_of(worker, event):
    return worker.invoke([event])[0][4][0]["data"]


def test_members_of_every_kind(start):
    worker = start(MEMBERS)
    found = members_of(worker, attempt(triggerext1="x"))
    assert found["type"] == "Element" and found["subtype"] == "ElementCreated" and found["version"] == "1.0"
    assert found["class"] == "ElementTriggerVastEvent"
    assert found["trigger"] == "s3-trigger" and found["trigger_id"] == "b45a6820-410c-457a-ac1b-035a102b5d05"
    assert found["broker"] == "engine-broker" and found["topic"] == "main"
    assert found["bucket"] == "s3-bucket-name" and found["object_key"] == "dir/test.md"
    assert found["partition_key"] == "s3-bucket-name/dir/test.md" == found["get"]
    assert found["timestamp"] == "2026-04-08T15:41:29.591955+00:00"
    assert found["extensions"]["triggerext1"] == "x" and "martletattempt" not in found["extensions"]
    assert "id" not in found["extensions"] and found["attributes"]["id"] == found["id"] == found["item"]
    assert found["data"] == found["get_data"] == {"Records": [{"eventName": "ObjectCreated:Put"}]}
    assert found["trace"] == TRACE and found["attempt"] == 1 and found["has_get_type"] is False
    assert found["casts"]["element"] is True
    assert "is not a schedule event: its type is 'vastdata.com:Element.ElementCreated'" in found["casts"]["schedule"]

    found = members_of(worker, schedule())
    assert (found["type"], found["subtype"], found["class"]) == ("Schedule", "TimerElapsed", "ScheduleVastEvent")
    assert found["cron"] == "0 0/5 * ? * * *" and found["elapsed"] == "2026-04-08T15:45:00Z"
    assert found["bucket"] is None and found["object_key"] is None
    assert found["partition_key"] == schedule()["partitionkey"]
    assert found["trace"] == schedule()["id"].replace("-", "")
    assert found["casts"]["schedule"] is True and found["casts"]["element"] is not True

    found = members_of(worker, element(type="vastdata.com:Function", source="vastdata.com:resize-2", partitionkey="p"))
    assert (found["type"], found["subtype"], found["class"]) == ("Function", None, "FunctionVastEvent")
    assert found["from"] == "resize-2" == found["trigger"] and found["trigger_id"] is None
    assert found["partition_key"] == "p"

    found = members_of(worker, element(type="acme.org:Order.Placed", subject="vastdata.com:kafka-view.default-topic"))
    assert (found["class"], found["type"], found["broker"]) == ("ManualVastEvent", "Order", "kafka-view")
    assert found["topic"] == "default-topic" and found["casts"]["manual"] is True


def test_base64_data_is_bytes(start):
    worker = start(
        "def handler(ctx, event):\n    return {'kind': type(event.data).__name__, 'size': len(event.data)}\n"
    )
    raw = element(datacontenttype="application/octet-stream", data_base64="AAECAw==")
    del raw["data"]
    assert worker.invoke([raw])[0][4] == [{"data": {"kind": "bytes", "size": 4}}]
    raw["data_base64"] = "!!"
    result = worker.invoke([raw])[0]
    assert result[1] == "error" and "data_base64 is not base64" in result[5]["message"]


def test_own_events_behave_like_the_cloudevents_sdk():
    from martlet import VastEvent, VastEventList

    event = VastEvent({"type": "vastdata.com:Element.ElementCreated", "source": "s:t"}, {"a": 1})
    assert event.id and event["specversion"] == "1.0" and event.get("time") and "source" in event
    assert event.as_element_event().get_data() == {"a": 1}
    event["color"] = "red"
    assert event.extensions == {"color": "red"} and list(event)[:3] == ["source", "id", "type"]
    del event["color"]
    assert event.extensions == {}
    with pytest.raises(TypeError):
        event.as_function_event()
    listed = VastEventList([event])
    assert len(listed) == 1 and listed[0] is event and list(listed) == [event] and listed == [event]
    assert isinstance(listed[:1], VastEventList)


def test_labels_merge_and_refuse_empty_ones():
    from martlet import VastEvent

    event = VastEvent({"type": "a:Manual", "source": "a:b"})
    with pytest.raises(ValueError):
        event.set_trigger_labels({})
    event.set_trigger_labels({"tier": "vip"})
    event.set_trigger_labels({"region": "us", "tier": "gold"})
    assert event.get_trigger_labels() == {"tier": "gold", "region": "us"}
    with pytest.raises(TypeError):
        event.set_trigger_labels({"tier": 1})


CASES = [
    ({"id": "not hex"}, "invalid literal for int() with base 16: 'not hex'"),
    ({"subject": None}, "malformed vast event: broker"),
    ({"subject": "nodot"}, "malformed vast event: broker"),
    ({"type": "ElementCreated"}, "type is 'ElementCreated'"),
    ({"source": "nowhere"}, "source is 'nowhere'"),
    ({"id": ""}, "id is ''"),
    ({"specversion": "7"}, "specversion '7'"),
]


def test_malformed_events_get_500_and_say_why(start):
    worker = start("def handler(ctx, event):\n    return None\n")
    assert worker.send(element())[0] == 204
    for change, message in CASES:
        status, answer = worker.send(element(**change))
        assert status == 500 and message in answer["error"], (change, answer)
    assert worker.send([1])[0] == 500
    assert worker.send(schedule())[0] == 204


def test_engine_calls_accept_any_id(start):
    worker = start("def handler(ctx, event):\n    return event.get_trace_id()\n")
    ok, bad, worse = worker.invoke([element(id="order-17"), {"id": "1", "type": "a:B"}, 5])
    assert ok[1] == "ok" and len(ok[4][0]["data"]) == 32
    assert bad[1] == "error" and "source is missing" in bad[5]["message"] and bad[5]["type"] == "EventError"
    assert worse[1] == "error" and "not an object" in worse[5]["message"]


def test_binary_structured_and_batch_content(start):
    worker = start(
        """
        seen = []
        def handler(ctx, event):
            if event.get("ask"):
                return seen
            seen.append([event.id, event.get("name"), event.get_data() if not isinstance(event.data, bytes) else "bytes"])
        """
    )
    binary = {
        "ce-" + key: str(value)
        for key, value in element().items()
        if key not in ("data", "dataschema", "datacontenttype")
    }
    binary["ce-id"] = "a1"
    binary["ce-name"] = "caf%C3%A9"
    assert worker.post(b'{"x": 1}', dict(binary, **{"Content-Type": "application/json; charset=utf-8"}))[0] == 204
    assert worker.post(b"hello", dict(binary, **{"Content-Type": "text/plain"}))[0] == 204
    assert worker.post(b"\x00\xff", dict(binary, **{"Content-Type": "application/octet-stream"}))[0] == 204
    assert worker.send(element(id="a2"))[0] == 204
    batch = json.dumps([element(id="a3"), element(id="a4")])
    assert worker.post(batch, {"Content-Type": "application/cloudevents-batch+json"})[0] == 204
    assert worker.post(b"[]", {"Content-Type": "application/cloudevents-batch+json"})[0] == 204
    seen = worker.invoke([attempt(ask="yes")])[0][4][0]["data"]
    assert seen[:3] == [["a1", "café", {"x": 1}], ["a1", "café", "hello"], ["a1", "café", "bytes"]]
    assert sorted(entry[0] for entry in seen[3:]) == ["a2", "a3", "a4"]
    assert worker.post(b"x", {"Content-Type": "text/plain"})[0] == 415
    assert worker.post(b"{}", {"Content-Type": "application/json"})[0] == 415
    assert worker.request("POST", "/v1/invoke", b"[]", {"Content-Type": "application/json"})[0] == 415
