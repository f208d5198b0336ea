# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Reads a topic for a consumer group, and acknowledges each event when it is done with it.

    python subscribe.py --topic readings --group printers
    python subscribe.py --topic readings --group printers --count 5      # ends after five events

Start it twice: the two share the partitions. Kill one: what it had not acknowledged goes to the other.
"""

import argparse
import queue

import grpc
from martlet.v1 import events_pb2, events_pb2_grpc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:8071", help="where the engine listens for gRPC")
    parser.add_argument("--topic", default="readings")
    parser.add_argument("--group", default="printers")
    parser.add_argument("--count", type=int, help="how many events to take; for ever where not given")
    arguments = parser.parse_args()

    requests: queue.Queue = queue.Queue()
    requests.put(
        events_pb2.SubscribeRequest(
            open=events_pb2.Open(
                topics=[arguments.topic],
                group=arguments.group,
                start=events_pb2.Start(earliest=True),
                in_flight_max=100,
                acknowledge_within_ms=30_000,
            )
        )
    )
    taken = 0
    with grpc.insecure_channel(arguments.address) as channel:
        # None ends our half of the stream; the engine then stores what was acknowledged and ends the call.
        for answer in events_pb2_grpc.SubscriberStub(channel).Subscribe(iter(requests.get, None)):
            done = []
            for delivery in answer.deliveries:
                if arguments.count is not None and taken == arguments.count:
                    break
                event = delivery.event
                again = f" (delivery {delivery.delivery_count})" if delivery.delivery_count > 1 else ""
                print(f"{event.topic}/{event.partition}/{delivery.offset} {event.type} {event.data.decode()}{again}", flush=True)
                done.append(delivery.id)
                taken += 1
            if done:
                requests.put(events_pb2.SubscribeRequest(acknowledge=events_pb2.Acknowledge(ids=done)))
            if taken == arguments.count:
                requests.put(None)


if __name__ == "__main__":
    main()
