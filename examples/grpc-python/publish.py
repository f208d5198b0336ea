# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Publishes a batch of events, and prints where each of them is.

    python publish.py --topic readings --count 5
"""

import argparse
import json
import uuid

import grpc
from martlet.v1 import events_pb2, events_pb2_grpc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:8071", help="where the engine listens for gRPC")
    parser.add_argument("--topic", default="readings")
    parser.add_argument("--count", type=int, default=5)
    arguments = parser.parse_args()

    events = [
        events_pb2.Event(
            id=str(uuid.uuid4()),
            source="/examples/grpc-python",
            type="example:Reading.Taken",
            data_content_type="application/json",
            key=f"sensor-{number % 3}".encode(),
            data=json.dumps({"sensor": number % 3, "value": number}).encode(),
        )
        for number in range(arguments.count)
    ]
    with grpc.insecure_channel(arguments.address) as channel:
        publisher = events_pb2_grpc.PublisherStub(channel)
        answer = publisher.PublishBatch(events_pb2.PublishBatchRequest(topic=arguments.topic, events=events), timeout=30)
    # Each event has an outcome of its own: one that is refused does not harm the others.
    for event, result in zip(events, answer.results, strict=True):
        if result.HasField("error"):
            print(f"{event.id} was refused: {result.error.message}")
        else:
            print(f"{event.id} is on disk: {result.topic}, partition {result.partition}, offset {result.offset}")


if __name__ == "__main__":
    main()
