# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Publishes lines of standard input for as long as there are some, and sends again what was not acknowledged when a connection breaks.

    seq 1000 | python stream.py --topic readings
"""

import argparse
import collections
import sys
import time

import grpc
from martlet.v1 import events_pb2, events_pb2_grpc

SOURCE = "/examples/grpc-python/stream"
ATTEMPTS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:8071", help="where the engine listens for gRPC")
    parser.add_argument("--topic", default="readings")
    arguments = parser.parse_args()

    lines = enumerate((line.rstrip("\n").encode() for line in sys.stdin), 1)
    unacknowledged: collections.OrderedDict[int, bytes] = collections.OrderedDict()

    def message(number: int, line: bytes):
        # The same id when it is sent again, so that readers can tell.
        event = events_pb2.Event(id=f"line-{number}", source=SOURCE, type="example:Line.Read", data=line)
        return events_pb2.PublishStreamRequest(number=number, topic=arguments.topic, events=[event])

    def messages():
        for number, line in list(unacknowledged.items()):
            yield message(number, line)
        for number, line in lines:
            unacknowledged[number] = line
            yield message(number, line)

    count, refused = 0, 0
    for attempt in range(ATTEMPTS):
        try:
            with grpc.insecure_channel(arguments.address) as channel:
                for answer in events_pb2_grpc.PublisherStub(channel).PublishStream(messages()):
                    for one in answer.acknowledgements:
                        unacknowledged.pop(one.number, None)
                        failed = [result.error.message for result in one.results if result.HasField("error")]
                        count += not failed
                        refused += bool(failed)
                        for text in failed:
                            print(f"line {one.number} was refused: {text}", file=sys.stderr)
            break
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or attempt == ATTEMPTS - 1:
                raise
            time.sleep(1 << attempt)
    print(f"{count} lines are on disk, {refused} were refused")


if __name__ == "__main__":
    main()
