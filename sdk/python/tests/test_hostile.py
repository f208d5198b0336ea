# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Bytes no client should send: each harms its own connection only."""

import socket
import time

import pytest
from conftest import attempt

GOOD = "def handler(ctx, event):\n    return len(str(event.data))\n"
HEAD = b"POST /v1/invoke HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents-batch+json\r\n"


def exchange(worker, data, close=True, seconds=3):
    """Sends bytes on a new connection and returns all that comes back until it is closed or silent."""
    plain = socket.socket(socket.AF_UNIX)
    plain.settimeout(seconds)
    plain.connect(worker.path)
    answer = b""
    try:
        plain.sendall(data)
        if close:
            while True:
                part = plain.recv(65536)
                if not part:
                    break
                answer += part
        else:
            answer = plain.recv(65536)
    except (ConnectionError, socket.timeout):
        pass
    finally:
        plain.close()
    return answer


CASES = [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS", b"400"),
    (b"GET\r\n\r\n", b"400"),
    (b"GET / HTTP/2.0\r\n\r\n", b"400"),
    (b"get / HTTP/1.1\r\n\r\n", b"400"),
    (HEAD + b"Content-Length: -1\r\n\r\n", b"400"),
    (HEAD + b"Content-Length: 1e3\r\n\r\n", b"400"),
    (HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n", b"400"),
    (HEAD + b"Content-Length: 99999999999999999\r\n\r\n", b"413"),
    (HEAD + b"Content-Length: 268435457\r\n\r\n", b"413"),
    (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n[]   ", b"400"),
    (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n[]", b"400"),
    (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", b"501"),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]x\r\n", b"400"),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffff\r\n", b"413"),
    (HEAD + b"Bad Header: x\r\n\r\n", b"400"),
    (HEAD + b"no colon\r\n\r\n", b"400"),
    (b"GET / HTTP/1.1\r\nX: " + b"a" * 70000, b"431"),
    (b"A" * 9000, b"400"),
]


def test_malformed_http_closes_that_connection_only(start):
    worker = start(GOOD)
    keep = worker.connection()
    keep.request("GET", "/liveness")
    assert keep.getresponse().read() == b"Alive"
    for data, status in CASES:
        answer = exchange(worker, data)
        assert answer.startswith(b"HTTP/1.1 " + status), (data[:80], answer)
        assert b"Connection: close" in answer
    keep.request("GET", "/liveness")
    assert keep.getresponse().read() == b"Alive"
    keep.close()
    assert worker.invoke([attempt()])[0][1] == "ok"


BODIES = [b"{", b"[1,", b"\xff\xfe[]", b'["\xff"]', b"{}", b"null", b"[" * 200_000, b"[" + b"9" * 5000 + b"]", b""]


def test_bad_bodies_get_400(start):
    worker = start(GOOD)
    for body in BODIES:
        answer = exchange(worker, HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert answer.startswith(b"HTTP/1.1 400"), (body[:20], answer)
        structured = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents+json\r\n"
        answer = exchange(worker, structured + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert answer.startswith(b"HTTP/1.1 500") and b"malformed vast event" in answer, (body[:20], answer)
    assert worker.invoke([attempt()])[0][1] == "ok"


def test_half_requests_wait_without_harm(start):
    worker = start(GOOD)
    half = []
    for data in (
        b"",
        b"POST",
        HEAD,
        HEAD + b"Content-Length: 100\r\n\r\n[",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n[",
    ) * 20:
        plain = socket.socket(socket.AF_UNIX)
        plain.connect(worker.path)
        plain.sendall(data)
        half.append(plain)
    assert worker.invoke([attempt()])[0][1] == "ok"
    for plain in half:
        plain.close()
    assert worker.request("GET", "/readiness") == (200, b"Ready")


def test_slow_bytes_pipelined_requests_and_chunked_bodies(start):
    worker = start(GOOD)
    request = b"GET /liveness HTTP/1.1\r\nHost: x\r\n\r\n"
    plain = socket.socket(socket.AF_UNIX)
    plain.connect(worker.path)
    for byte in request:
        plain.sendall(bytes([byte]))
    assert plain.recv(1000).endswith(b"Alive")
    plain.sendall(request * 10 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    answer = b""
    while True:
        part = plain.recv(65536)
        if not part:
            break
        answer += part
    assert answer.count(b"Alive") == 11
    plain.close()
    import json

    body = json.dumps([attempt()]).encode()
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(body[n : n + 7]), body[n : n + 7]) for n in range(0, len(body), 7))
    data = HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nTrailer: x\r\n\r\n"
    assert b'[[0,"ok",' in exchange(worker, data)
    expect = HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    assert exchange(worker, expect, close=False) == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("size", [200 * 1024 * 1024])
def test_two_hundred_megabytes(start, size):
    import json

    worker = start(GOOD)
    frame = json.dumps([attempt(data="@")]).encode()
    before, after = frame.split(b"@")
    plain = socket.socket(socket.AF_UNIX)
    plain.settimeout(60)
    plain.connect(worker.path)
    plain.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (len(before) + size + len(after)) + before)
    part = b"x" * (1 << 20)
    for _ in range(size >> 20):
        plain.sendall(part)
    assert worker.request("GET", "/liveness") == (200, b"Alive")
    plain.sendall(after)
    answer = b""
    while not answer.endswith(b"0\r\n\r\n"):
        answer += plain.recv(65536)
    assert b'[{"data":%d}]' % size in answer
    plain.close()
    assert worker.invoke([attempt()])[0][1] == "ok"


def patient_connection(worker):
    """Connects, waiting while the worker's queue of new connections is full."""
    deadline = time.monotonic() + 10
    while True:
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(3)
        try:
            plain.connect(worker.path)
            return plain
        except BlockingIOError:
            plain.close()
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_too_many_connections(start):
    worker = start(GOOD)
    held = [patient_connection(worker) for _ in range(512)]
    try:
        one_more = patient_connection(worker)
        assert b"503" in one_more.recv(1000) and one_more.recv(1000) == b""
        one_more.close()
        held[0].sendall(b"GET /liveness HTTP/1.1\r\nHost: x\r\n\r\n")
        assert held[0].recv(1000).endswith(b"Alive")
    finally:
        for plain in held:
            plain.close()
    deadline = time.monotonic() + 10
    while worker.request("GET", "/liveness") != (200, b"Alive"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
