#!/usr/bin/env python3
# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""How many spans a second the engine takes by OTLP, over HTTP and gRPC, until they are in the store.

    .venv/bin/python Benchmarks/otlp.py --martlet .build/release/martlet

Requests of 1,000 spans with ten attributes each are made before and sent by several connections; one that is refused because there is no
room is sent again, as SDKs do. The clock stops when the engine has written everything, and the spans in the store are counted.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

SPANS = 1_000


def requests(count):
    made = []
    for number in range(count):
        request = trace_service_pb2.ExportTraceServiceRequest()
        resource = request.resource_spans.add()
        for name, value in [("service.name", "bench"), ("host.name", "h"), ("telemetry.sdk.language", "python")]:
            resource.resource.attributes.add(key=name).value.string_value = value
        spans = resource.scope_spans.add().spans
        start = time.time_ns()
        for index in range(SPANS):
            span = spans.add(
                trace_id=(number * SPANS + index + 1).to_bytes(16, "big"), span_id=(index + 1).to_bytes(8, "big"),
                name="GET /orders/{id}", kind=2, start_time_unix_nano=start, end_time_unix_nano=start + 1_500_000,
            )  # fmt: skip
            for name in range(10):
                span.attributes.add(key=f"http.attribute.{name}").value.string_value = f"value {index % 100}"
        made.append(request)
    return made


class HTTPSender:
    def __init__(self, port, form):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.headers = {"Content-Type": form}

    def send(self, body):
        self.connection.request("POST", "/v1/traces", body, self.headers)
        answer = self.connection.getresponse()
        answer.read()
        if answer.status not in (200, 503):
            sys.exit(f"status {answer.status}")
        return answer.status == 200


class GRPCSender:
    def __init__(self, address):
        self.stub = trace_service_pb2_grpc.TraceServiceStub(
            grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        )

    def send(self, request):
        try:
            self.stub.Export(request, timeout=60)
            return True
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            return False


def run(martlet, kind, count, connections):
    directory = Path(tempfile.mkdtemp(prefix="martlet-bench-"))
    engine = subprocess.Popen(
        [martlet, "serve", "--data-dir", directory / "data", "--port", "0"], stdout=subprocess.PIPE, text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
    )  # fmt: skip
    try:
        text = ""
        while "Ctrl-C" not in text:
            text += engine.stdout.readline()
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)", text)[1])
        made = requests(count)
        if kind == "grpc":
            address = re.search(r"gRPC: (\S+)", text)[1]
            bodies, sender = made, lambda: GRPCSender(address)
        elif kind == "json":
            bodies, sender = [as_json(request) for request in made], lambda: HTTPSender(port, "application/json")
        else:
            bodies = [request.SerializeToString() for request in made]
            sender = lambda: HTTPSender(port, "application/x-protobuf")
        refused = [0] * connections

        def work(index):
            mine = sender()
            for body in bodies[index::connections]:
                while not mine.send(body):
                    refused[index] += 1
                    time.sleep(0.1)

        began = time.monotonic()
        threads = [threading.Thread(target=work, args=(index,)) for index in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = time.monotonic() - began
        # A query sees everything recorded before it.
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", f"/api/v1/traces/{1:032x}")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        written = time.monotonic() - began
        # Sinks that are behind show the last spans a moment later.
        stored, deadline = 0, time.monotonic() + 60
        while stored < count * SPANS and time.monotonic() < deadline:
            body = json.dumps({"sql": "SELECT count(*) FROM system.spans"})
            connection.request("POST", "/api/v1/sql", body, {"Content-Type": "application/json", "Accept": "application/json"})
            stored = json.loads(connection.getresponse().read())["rows"][0][0]
        assert stored == count * SPANS, f"{stored} of {count * SPANS} spans are in the store"
        return {
            "kind": kind, "spans": stored, "taken_per_second": round(stored / taken), "written_per_second": round(stored / written),
            "refused_requests": sum(refused),
        }  # fmt: skip
    finally:
        engine.kill()
        engine.wait()
        shutil.rmtree(directory, ignore_errors=True)


def as_json(request):
    """OTLP's JSON: protobuf's, but ids in hex."""
    from google.protobuf import json_format

    value = json_format.MessageToDict(request)
    for resource, source in zip(value["resourceSpans"], request.resource_spans):
        for scope, spans in zip(resource["scopeSpans"], source.scope_spans):
            for span, original in zip(scope["spans"], spans.spans):
                span["traceId"], span["spanId"] = original.trace_id.hex(), original.span_id.hex()
                span["kind"] = original.kind
    return json.dumps(value).encode()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--martlet", default=".build/release/martlet")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--kinds", default="http,grpc,json")
    arguments = parser.parse_args()
    for kind in arguments.kinds.split(","):
        print(json.dumps(run(arguments.martlet, kind, arguments.requests, arguments.connections)), flush=True)


if __name__ == "__main__":
    main()
