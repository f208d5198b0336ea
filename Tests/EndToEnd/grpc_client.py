# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What the tests do with the engine over gRPC, with the generated Python client."""

import contextlib
import queue
import sys
import threading
import time

import grpc
from harness import ROOT

sys.path.insert(0, str(ROOT / "sdk/python/src"))

from martlet.v1 import events_pb2, events_pb2_grpc, groups_pb2_grpc, topics_pb2, topics_pb2_grpc  # noqa: E402

OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


class Client:
    """Stubs of all services over one connection."""

    def __init__(self, engine, token: str | None = None) -> None:
        self.channel = grpc.insecure_channel(engine.get("engine")["grpc_address"], options=OPTIONS)
        channel = self.channel
        if token is not None:
            channel = grpc.intercept_channel(self.channel, Bearer(token))
        self.publisher = events_pb2_grpc.PublisherStub(channel)
        self.subscriber = events_pb2_grpc.SubscriberStub(channel)
        self.topics = topics_pb2_grpc.TopicsStub(channel)
        self.groups = groups_pb2_grpc.GroupsStub(channel)

    def topic(self, name: str, partitions: int = 1, **fields) -> str:
        self.topics.CreateTopic(topics_pb2.CreateTopicRequest(name=name, partitions=partitions, **fields), timeout=30)
        return name

    def publish(self, topic: str, *events):
        """Results of a batch."""
        request = events_pb2.PublishBatchRequest(topic=topic, events=events)
        return list(self.publisher.PublishBatch(request, timeout=60).results)

    def subscribe(self, topics, **fields) -> "Subscription":
        names = [topics] if isinstance(topics, str) else topics
        return Subscription(self.subscriber, events_pb2.Open(topics=names, **fields))

    def read_all(self, topic: str, **fields):
        """Every record of a topic, without a group."""
        opened = events_pb2.Open(topics=[topic], start=events_pb2.Start(earliest=True), stop_at_end=True, **fields)
        found = []
        for answer in self.subscriber.Subscribe(iter([events_pb2.SubscribeRequest(open=opened)]), timeout=60):
            found += answer.deliveries
        return found

    def close(self) -> None:
        self.channel.close()


class Bearer(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Adds a token to calls."""

    def __init__(self, token: str) -> None:
        self.token = token

    def _with(self, details):
        metadata = [*(details.metadata or []), ("authorization", f"Bearer {self.token}")]
        return details._replace(metadata=metadata)

    def intercept_unary_unary(self, continuation, details, request):
        return continuation(self._with(details), request)

    def intercept_stream_stream(self, continuation, details, requests):
        return continuation(self._with(details), requests)


class Subscription:
    """One stream: deliveries are collected by a thread, requests are sent as asked."""

    def __init__(self, stub, opened) -> None:
        self.requests: queue.Queue = queue.Queue()
        self.requests.put(events_pb2.SubscribeRequest(open=opened))
        self.deliveries: queue.Queue = queue.Queue()
        self.positions: dict[tuple[str, int], int] = {}
        self.committed: dict[tuple[str, int], int] = {}
        self.error: grpc.RpcError | None = None
        self.opened = threading.Event()
        self.call = stub.Subscribe(iter(self.requests.get, None))
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            for answer in self.call:
                if answer.HasField("opened"):
                    self.positions = {(one.topic, one.partition): one.offset for one in answer.opened.positions}
                    self.opened.set()
                for one in answer.committed:
                    self.committed[one.topic, one.partition] = one.offset
                for delivery in answer.deliveries:
                    self.deliveries.put(delivery)
        except grpc.RpcError as error:
            self.error = error
        finally:
            self.opened.set()

    def begin(self) -> "Subscription":
        """Waits until the engine has begun."""
        assert self.opened.wait(30)
        if self.error is not None:
            raise self.error
        return self

    def take(self, count: int, seconds: float = 30) -> list:
        """So many deliveries."""
        deadline = time.monotonic() + seconds
        found = []
        while len(found) < count:
            try:
                found.append(self.deliveries.get(timeout=max(0.01, deadline - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"{len(found)} of {count} deliveries came: {self.error}") from None
        return found

    def has_nothing(self, seconds: float) -> bool:
        with contextlib.suppress(queue.Empty):
            self.deliveries.get(timeout=seconds)
            return False
        return True

    def acknowledge(self, *deliveries) -> None:
        message = events_pb2.Acknowledge(ids=[one.id for one in deliveries])
        self.requests.put(events_pb2.SubscribeRequest(acknowledge=message))

    def acknowledge_through(self, delivery) -> None:
        message = events_pb2.Acknowledge(through=delivery.id)
        self.requests.put(events_pb2.SubscribeRequest(acknowledge=message))

    def reject(self, *deliveries, delay_ms: int = 0) -> None:
        message = events_pb2.Reject(ids=[one.id for one in deliveries], delay_ms=delay_ms)
        self.requests.put(events_pb2.SubscribeRequest(reject=message))

    def extend(self, *deliveries, milliseconds: int = 0) -> None:
        message = events_pb2.Extend(ids=[one.id for one in deliveries], acknowledge_within_ms=milliseconds)
        self.requests.put(events_pb2.SubscribeRequest(extend=message))

    def send(self, **fields) -> None:
        self.requests.put(events_pb2.SubscribeRequest(**fields))

    def end(self, seconds: float = 30) -> None:
        """Ends in order and waits for the end of the call."""
        self.requests.put(None)
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "the call has not ended"

    def cut(self) -> None:
        """Ends as a client that is gone does."""
        self.call.cancel()
        self.requests.put(None)
        self.thread.join(30)

    def failure(self, seconds: float = 30) -> grpc.RpcError:
        """The error the call ends with."""
        self.thread.join(seconds)
        assert self.error is not None, "the call has no error"
        return self.error


def event(id: str, data: bytes = b"", **fields):
    return events_pb2.Event(id=id, source="/tests", type="tests:Thing.Happened", data=data, **fields)


def record(data: bytes, key: bytes | None = None, **fields):
    """A record that is no event."""
    return events_pb2.Event(data=data, **({} if key is None else {"key": key}), **fields)
