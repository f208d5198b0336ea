# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The peer: functions-framework with its production server, and a client that keeps its connections."""

import os
import selectors
import socket
import subprocess
import sys
import time

from .engine import FUNCTIONS, BenchmarkError

BODY = b'{"number":1,"text":"a trivial event"}'
START_SECONDS = 30


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class FunctionsFramework:
    """One server; use it in a `with`."""

    def __init__(self, workers: int) -> None:
        self.port = free_port()
        self.workers = workers
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> "FunctionsFramework":
        self.process = subprocess.Popen(
            [sys.executable, "-m", "functions_framework", "--target", "handle", "--signature-type", "cloudevent",
             "--source", FUNCTIONS / "peer.py", "--host", "127.0.0.1", "--port", str(self.port)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=os.environ | {"WORKERS": str(self.workers)},
        )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.process.kill()
                    said = self.process.stderr.read().decode(errors="replace")
                    raise BenchmarkError(f"functions-framework did not start:\n{said[-2000:]}") from None
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()

    def rate(self, count: int, connections: int) -> float:
        """Sends `count` events over `connections` kept connections, each with one request at a time; returns events per second."""
        request = (
            f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\nce-specversion: 1.0\r\n"
            f"ce-id: 1\r\nce-source: bench\r\nce-type: example.com:Bench\r\nce-time: 2026-01-01T00:00:00Z\r\n"
            f"Content-Length: {len(BODY)}\r\n\r\n"
        ).encode() + BODY  # fmt: skip
        selector = selectors.DefaultSelector()
        sent = done = reconnected = 0
        start = time.perf_counter()

        def connect() -> None:
            connection = socket.create_connection(("127.0.0.1", self.port), 10)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(connection, selectors.EVENT_READ, bytearray())
            connection.sendall(request)

        for _ in range(min(connections, count)):
            connect()
            sent += 1
        while done < count:
            ready = selector.select(10)
            if not ready:
                raise BenchmarkError(f"functions-framework fell silent after {done} of {count} events")
            for key, _ in ready:
                connection, buffer = key.fileobj, key.data
                buffer += connection.recv(65536)
                if not (length := whole(buffer)):
                    continue
                if not buffer.startswith(b"HTTP/1.1 200"):
                    raise BenchmarkError(f"functions-framework answered {bytes(buffer[:300])!r}")
                is_closing = b"connection: close" in buffer[:length].lower()
                buffer.clear()
                done += 1
                if is_closing:
                    selector.unregister(connection)
                    connection.close()
                    reconnected += 1
                if sent < count:
                    sent += 1
                    if is_closing:
                        connect()
                    else:
                        connection.sendall(request)
        seconds = time.perf_counter() - start
        for key in list(selector.get_map().values()):
            key.fileobj.close()
        selector.close()
        if reconnected > count / 100:
            raise BenchmarkError(f"functions-framework closed {reconnected} connections; they were to be kept")
        return count / seconds


def whole(buffer: bytearray) -> int:
    """The length of the answer in `buffer` if it is all there."""
    head = buffer.find(b"\r\n\r\n")
    if head < 0:
        return 0
    at = buffer[:head].lower().find(b"content-length:")
    if at < 0:
        raise BenchmarkError("functions-framework answered without a length")
    length = head + 4 + int(buffer[at + 15 : buffer.find(b"\r\n", at)])
    return length if len(buffer) >= length else 0
