# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""A small OTLP endpoint, over HTTP or gRPC, that keeps what it is sent and can be told to refuse."""

import ssl
import subprocess
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

REQUESTS = {
    "/v1/traces": trace_service_pb2.ExportTraceServiceRequest,
    "/v1/logs": logs_service_pb2.ExportLogsServiceRequest,
    "/v1/metrics": metrics_service_pb2.ExportMetricsServiceRequest,
}


def certificate(folder):
    """A certificate for localhost that no system trusts, and its key: two files."""
    files = folder / "endpoint.pem", folder / "endpoint.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-out", files[0], "-keyout", files[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


class Receiver:
    """What both kinds share."""

    def __init__(self):
        self.lock = threading.Lock()
        self.requests = []
        self.headers = []
        # Statuses for the next requests, by kind; empty takes them.
        self.refusals = []
        self.tries = 0

    def take(self, request, headers):
        """The refusal to answer with, or None."""
        with self.lock:
            self.tries += 1
            self.headers.append(dict(headers))
            if self.refusals:
                return self.refusals.pop(0)
            self.requests.append(request)
            return None

    def spans(self):
        """(attributes of the resource, span) of all traces."""
        found = []
        with self.lock:
            for request in self.requests:
                for resource in getattr(request, "resource_spans", []):
                    owner = texts(resource.resource.attributes)
                    found += [(owner, span) for scope in resource.scope_spans for span in scope.spans]
        return found

    def logs(self):
        found = []
        with self.lock:
            for request in self.requests:
                for resource in getattr(request, "resource_logs", []):
                    owner = texts(resource.resource.attributes)
                    found += [(owner, log) for scope in resource.scope_logs for log in scope.log_records]
        return found

    def metrics(self):
        found = []
        with self.lock:
            for request in self.requests:
                for resource in getattr(request, "resource_metrics", []):
                    owner = texts(resource.resource.attributes)
                    found += [(owner, metric) for scope in resource.scope_metrics for metric in scope.metrics]
        return found


def texts(attributes):
    return {pair.key: pair.value.string_value for pair in attributes}


class HTTPReceiver(Receiver):
    """OTLP/HTTP with protobuf; a refusal is (status, headers)."""

    def __init__(self, port=0, files=None):
        super().__init__()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = REQUESTS[self.path].FromString(body)
                refusal = receiver.take(request, {name.lower(): value for name, value in self.headers.items()})
                status, headers = refusal or (200, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.scheme = "http"
        if files:
            self.scheme = "https"
            security = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            security.load_cert_chain(*files)
            # The handshake is the handler's, so that one that fails ends no other.
            self.server.socket = security.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def endpoint(self):
        return f"{self.scheme}://{'localhost' if self.scheme == 'https' else '127.0.0.1'}:{self.port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class GRPCReceiver(Receiver):
    """OTLP/gRPC; a refusal is a status code."""

    def __init__(self, port=0, files=None):
        super().__init__()
        receiver = self

        def export(response):
            def answer(self, request, context):
                refusal = receiver.take(request, dict(context.invocation_metadata()))
                if refusal is not None:
                    context.abort(refusal, "not now")
                return response()

            return answer

        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        for module, messages, name in [
            (trace_service_pb2_grpc, trace_service_pb2, "Trace"), (logs_service_pb2_grpc, logs_service_pb2, "Logs"),
            (metrics_service_pb2_grpc, metrics_service_pb2, "Metrics"),
        ]:  # fmt: skip
            response = getattr(messages, f"Export{name}ServiceResponse")
            servicer = type(name, (getattr(module, f"{name}ServiceServicer"),), {"Export": export(response)})
            getattr(module, f"add_{name}ServiceServicer_to_server")(servicer(), self.server)
        self.host = "grpcs://localhost" if files else "grpc://127.0.0.1"
        if files:
            pair = (files[1].read_bytes(), files[0].read_bytes())
            self.port = self.server.add_secure_port(f"localhost:{port}", grpc.ssl_server_credentials([pair]))
        else:
            self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()

    @property
    def endpoint(self):
        return f"{self.host}:{self.port}"

    def close(self):
        self.server.stop(0).wait()


def until_quiet(receiver, seconds=1.0):
    """Waits until no request came for a while."""
    last, since = receiver.tries, time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(0.05)
        if receiver.tries != last:
            last, since = receiver.tries, time.monotonic()
