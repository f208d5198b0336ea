# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Publishing over gRPC beside producing over Kafka: the same payloads, the same topic settings, one engine on one machine.

    .venv/bin/python Benchmarks/grpc_publish.py --martlet .build/release/martlet --seconds 8

gRPC: streams of messages of 100 events of 1 KiB and calls of the same batches, from processes with grpcio. Kafka: librdkafka (confluent-kafka), acks=all.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import confluent_kafka
import grpc

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "sdk/python/src"))

from martlet.v1 import events_pb2, events_pb2_grpc, topics_pb2, topics_pb2_grpc  # noqa: E402

PAYLOAD, BATCH = 1024, 100


def batch(plain: bool) -> list:
    data = os.urandom(PAYLOAD)
    attributes = {} if plain else {"id": "0123456789abcdef", "source": "/benchmark", "type": "example:Load.Made"}
    return [events_pb2.Event(data=data, **attributes) for _ in range(BATCH)]


def stream(address: str, topic: str, until: float, plain: bool) -> int:
    events = batch(plain)
    # Serialized once: what is measured is the engine, not Python's encoder.
    text = events_pb2.PublishStreamRequest(topic=topic, events=events).SerializeToString()
    done = 0
    with grpc.insecure_channel(address) as channel:
        call = channel.stream_stream(
            "/martlet.v1.Publisher/PublishStream", response_deserializer=events_pb2.PublishStreamResponse.FromString
        )

        def messages():
            number = 0
            while time.time() < until:
                number += 1
                yield text + bytes([8, number % 128])

        for answer in call(messages()):
            for one in answer.acknowledgements:
                done += sum(not result.HasField("error") for result in one.results)
    return done


def calls(address: str, topic: str, until: float, plain: bool) -> int:
    text = events_pb2.PublishBatchRequest(topic=topic, events=batch(plain)).SerializeToString()
    done = 0
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/martlet.v1.Publisher/PublishBatch")
        pending = []
        while time.time() < until:
            pending.append(call.future(text))
            if len(pending) >= 16:
                pending.pop(0).result()
                done += BATCH
        for one in pending:
            one.result()
            done += BATCH
    return done


def produce(address: str, topic: str, until: float, plain: bool) -> int:
    data = os.urandom(PAYLOAD)
    done = 0

    def delivered(error, message) -> None:
        nonlocal done
        done += error is None

    producer = confluent_kafka.Producer(
        {"bootstrap.servers": address, "acks": "all", "linger.ms": 5, "batch.size": 1 << 20, "queue.buffering.max.messages": 200_000}
    )
    while time.time() < until:
        for _ in range(1000):
            try:
                producer.produce(topic, data, on_delivery=delivered)
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
    producer.flush(60)
    return done


def measure(name: str, work, address: str, topic: str, seconds: float, processes: int, plain: bool) -> float:
    began = time.time()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.starmap(time.sleep, [(0.3,)] * processes, 1)
        began = time.time()
        jobs = [(address, topic, began + seconds, plain)] * processes
        done = sum(pool.starmap(work, jobs, 1))
    taken = time.time() - began
    rate = done / taken
    print(f"{name:<44} {rate:>10,.0f} events/s {rate * PAYLOAD / 1e6:>8,.0f} MB/s", flush=True)
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--martlet", type=Path, default=ROOT / ".build/release/martlet")
    parser.add_argument("--seconds", type=float, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="martlet-bench-", dir=os.environ.get("TMPDIR")) as folder:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MARTLET_")}
        server = subprocess.Popen(
            [arguments.martlet, "serve", "--data-dir", f"{folder}/data", "--port", "0"], stdout=subprocess.PIPE, text=True,
            env=environment | {"HOME": folder},
        )  # fmt: skip
        try:
            places = {}
            for line in server.stdout:
                words = line.split()
                if words[:1] and words[0] in ("gRPC", "Kafka"):
                    places[words[0]] = words[1]
                if "Ctrl-C" in line:
                    break
            with grpc.insecure_channel(places["gRPC"]) as channel:
                stub = topics_pb2_grpc.TopicsStub(channel)
                for name in ("kafka", "streams", "calls", "plain"):
                    stub.CreateTopic(topics_pb2.CreateTopicRequest(name=name, partitions=4, retention_bytes=256 << 20))
            rows = [
                ("Kafka, librdkafka, acks=all, 1 process", produce, "Kafka", "kafka", 1, True),
                ("gRPC, streams of 100 events, 1 process", stream, "gRPC", "streams", 1, False),
                ("gRPC, streams of 100 plain records, 1 process", stream, "gRPC", "plain", 1, True),
                ("gRPC, calls of 100 events, 1 process", calls, "gRPC", "calls", 1, False),
                ("Kafka, 2 processes", produce, "Kafka", "kafka", 2, True),
                ("gRPC, streams of 100 events, 2 processes", stream, "gRPC", "streams", 2, False),
            ]
            rates = [measure(name, work, places[door], topic, arguments.seconds, n, plain) for name, work, door, topic, n, plain in rows]
            print(f"streams of events / Kafka, 1 process: {rates[1] / rates[0]:.0%}; 2 processes: {rates[5] / rates[4]:.0%}")
        finally:
            server.terminate()
            server.wait(40)


if __name__ == "__main__":
    main()
