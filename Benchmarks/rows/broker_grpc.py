# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Events published over gRPC in batches, beside records produced over Kafka: the same bytes to topics of one engine."""

import os
import sys
import threading
import time

import grpc

from .broker_peers import KafkaEngine, measure as run
from .broker_produce import middle, spread
from .engine import BenchmarkError
from .result import Bench, Result

TURNS = 5
RECORDS = 1_000_000
SIZE = 1024
BATCH = 100
SHARE = 0.6
STREAMS = 2


def publish(address: str, topic: str, batches: int, request: bytes, answers: type) -> int:
    """Sends batches on one stream; returns how many events were acknowledged."""
    done = 0
    with grpc.insecure_channel(address) as channel:
        call = channel.stream_stream("/martlet.v1.Publisher/PublishStream", response_deserializer=answers.FromString)
        # Serialized once: what is measured is the engine, not Python's encoder. The last field is the message's number.
        messages = (request + bytes([8, number % 128]) for number in range(batches))
        for answer in call(messages):
            for one in answer.acknowledgements:
                done += sum(not result.HasField("error") for result in one.results)
    return done


def turn(address: str, topic: str, events_pb2) -> dict:
    """All batches over streams of one process, in threads, since grpcio does its work outside of Python."""
    data = os.urandom(SIZE)
    events = [events_pb2.Event(data=data, id="0123456789abcdef", source="/benchmark", type="example:Load.Made") for _ in range(BATCH)]
    request = events_pb2.PublishStreamRequest(topic=topic, events=events).SerializeToString()
    counts: list[int] = []
    batches = RECORDS // BATCH // STREAMS
    threads = [
        threading.Thread(target=lambda: counts.append(publish(address, topic, batches, request, events_pb2.PublishStreamResponse)))
        for _ in range(STREAMS)
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    if sum(counts) != batches * STREAMS * BATCH:
        raise BenchmarkError(f"{sum(counts):,} of {batches * STREAMS * BATCH:,} events were acknowledged")
    return {"records_per_second": sum(counts) / seconds, "megabytes_per_second": sum(counts) * SIZE / seconds / 1e6}


def measure(bench: Bench) -> list[Result]:
    sys.path.insert(0, str(bench.root / "sdk/python/src"))
    from martlet.v1 import events_pb2

    ours, kafka = [], []
    for number in range(TURNS):
        # An engine for each, so that neither writes back what the other one left.
        with KafkaEngine(bench.program, bench.directory) as engine:
            kafka.append(run(bench, "kafka", "produce", engine.kafka, engine.topic("bench"), RECORDS, SIZE))
        with KafkaEngine(bench.program, bench.directory) as engine:
            address = engine.call("GET", "/engine")["grpc_address"]
            ours.append(turn(address, engine.topic("bench"), events_pb2))
    ratio = middle(ours, "records_per_second") / middle(kafka, "records_per_second")
    return [
        Result(
            "broker_grpc", f"publish {BATCH} × 1 KiB over gRPC, {STREAMS} streams, on disk",
            f"{middle(ours, 'records_per_second'):,.0f} events/s · {middle(ours, 'megabytes_per_second'):.0f} MB/s",
            f"≥ {SHARE:.0%} of Kafka", ratio >= SHARE,
            ratio=f"{ratio:.0%} of Kafka ({middle(kafka, 'records_per_second'):,.0f}/s)", values={"ours": ours, "kafka": kafka},
            note=f"median of {TURNS} turns, {spread(ours)} MB/s; librdkafka in C {spread(kafka)} MB/s; events with id, source and type, from grpcio",
        )
    ]  # fmt: skip
