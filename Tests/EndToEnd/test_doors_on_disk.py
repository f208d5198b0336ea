# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What the doors of gRPC and HTTP acknowledge is on disk: they refuse what cannot be flushed."""

import json

import grpc
import pytest
from grpc_client import Client, event, events_pb2
from harness import Engine
from test_kafka_damage import failing as failing


def publish_one(engine: Engine, client: Client, topic: str, id: str):
    client.publisher.Publish(events_pb2.PublishRequest(topic=topic, event=event(id, id.encode())), timeout=60)


def publish_batch(engine: Engine, client: Client, topic: str, id: str):
    (result,) = client.publish(topic, event(id, id.encode()))
    if result.HasField("error"):
        raise RefusedPublish(result.error.code, result.error.message)


def publish_stream(engine: Engine, client: Client, topic: str, id: str):
    message = events_pb2.PublishStreamRequest(number=7, topic=topic, events=[event(id, id.encode())])
    for answer in client.publisher.PublishStream(iter([message]), timeout=60):
        for acknowledgement in answer.acknowledgements:
            assert acknowledgement.number == 7
            (result,) = acknowledgement.results
            if result.HasField("error"):
                raise RefusedPublish(result.error.code, result.error.message)
            return
    raise AssertionError("the stream ended without an acknowledgement and without an error")


def post_event(engine: Engine, client: Client, topic: str, id: str):
    body = {"specversion": "1.0", "id": id, "source": "/tests", "type": "tests:Thing.Happened", "data": id}
    posted(engine, f"topics/{topic}/events", json.dumps(body).encode(), "application/cloudevents+json")


def post_events(engine: Engine, client: Client, topic: str, id: str):
    body = [{"specversion": "1.0", "id": id, "source": "/tests", "type": "tests:Thing.Happened", "data": id}]
    posted(engine, f"topics/{topic}/events", json.dumps(body).encode(), "application/cloudevents-batch+json")


def post_records(engine: Engine, client: Client, topic: str, id: str):
    posted(engine, f"topics/{topic}/records", json.dumps({"records": [{"key": "k", "value": id}]}).encode(), "application/json")


def posted(engine: Engine, path: str, body: bytes, kind: str) -> None:
    answer = engine.http("POST", f"/api/v1/{path}", body, {"Content-Type": kind})
    if answer.status >= 300:
        raise RefusedPublish(answer.status, answer.problem(answer.status)["detail"])


class RefusedPublish(Exception):
    """A door said that it did not take a record."""


DOORS = {
    "Publish": publish_one, "PublishBatch": publish_batch, "PublishStream": publish_stream, "events": post_event, "events-batch": post_events,
    "records": post_records,
}  # fmt: skip


def test_no_door_acknowledges_what_is_not_flushed(failing):
    """The page cache has what was written, so only a flush that fails shows who answers before it."""
    engine, fail = failing
    client = Client(engine)

    def held(topic: str) -> list[int]:
        return [one["offset"] for one in engine.get(f"topics/{topic}/records?limit=100")["data"]]

    for door, publish in DOORS.items():
        topic = client.topic(f"door-{door}")
        publish(engine, client, topic, "1")
        assert held(topic) == [0], door
        fail(f"/topics/{topic}/")
        for id in ("2", "3"):
            with pytest.raises((RefusedPublish, grpc.RpcError)) as caught:
                publish(engine, client, topic, id)
            error = caught.value
            code, said = (error.code().value[0], error.details()) if isinstance(error, grpc.RpcError) else error.args
            assert code in (grpc.StatusCode.UNAVAILABLE.value[0], 503), (door, code, said)
            assert topic in said, (door, said)
        assert held(topic) == [0], f"{door}: what was not acknowledged is seen"
        # The flush would succeed now; the kernel may have dropped what it could not write.
        fail(None)
        with pytest.raises((RefusedPublish, grpc.RpcError)):
            publish(engine, client, topic, "4")
        assert held(topic) == [0], door
        status = engine.run("engine", "status")
        assert status.returncode == 1 and topic in status.stdout, (door, status.stdout)
    # All others go on, and these after a restart.
    other = client.topic("door-other")
    for publish in DOORS.values():
        publish(engine, client, other, "1")
    assert held(other) == [*range(len(DOORS))]
    client.close()
    engine.kill()
    engine.start()
    client = Client(engine)
    assert held(other) == [*range(len(DOORS))]
    for door, publish in DOORS.items():
        before = held(f"door-{door}")
        assert before[0] == 0, f"{door}: what was acknowledged is gone"
        publish(engine, client, f"door-{door}", "5")
        assert len(held(f"door-{door}")) == len(before) + 1, door
    client.close()
