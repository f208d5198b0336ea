# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""A small blocking HTTP/1.1 client for the engine's gateway, one kept connection per thread."""

import json
import socket
import threading

from .errors import GatewayError

_ANSWER_BYTES_MAX = 64 * 1024 * 1024


class Gateway:
    """Calls of one worker; safe to use from any thread."""

    def __init__(self, path, token="", worker_id=""):
        self.path = path
        self._head = (
            " HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\nMartlet-Worker: %s\r\n"
            "Content-Type: application/json\r\nContent-Length: " % (token, worker_id)
        )
        self._local = threading.local()

    def post(self, path, body, timeout=120.0):
        """Posts JSON bytes and returns the answer's bytes; raises GatewayError with the engine's message."""
        connection = self._connection(timeout)
        request = ("POST " + path + self._head + str(len(body)) + "\r\n\r\n").encode("latin-1")
        try:
            if len(body) < 65536:
                connection.socket.sendall(request + body)
            else:
                connection.socket.sendall(request)
                connection.socket.sendall(body)
            status, answer, keep = connection.read_answer()
        except (OSError, ValueError) as error:
            self._drop()
            raise GatewayError(
                "the engine's gateway did not answer %s: %s" % (path, error or type(error).__name__)
            ) from None
        if not keep:
            self._drop()
        if status >= 300:
            raise GatewayError(_problem(status, answer, path), status)
        return answer

    def post_json(self, path, text, timeout=120.0):
        """Posts JSON text and returns the parsed answer, or None when it is empty."""
        answer = self.post(path, text.encode("utf-8", "replace"), timeout)
        if not answer:
            return None
        try:
            return json.loads(answer)
        except ValueError:
            raise GatewayError("the engine's gateway answered %s with something that is not JSON" % path) from None

    def leave_to_child(self):
        """In a forked child: forgets the parent's connections, so the child opens its own."""
        self._local = threading.local()

    def connect(self, timeout=5.0):
        """Returns a new connected socket, for watching whether the engine lives."""
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        plain.settimeout(timeout)
        try:
            plain.connect(self.path)
        except OSError:
            plain.close()
            raise
        return plain

    def _connection(self, timeout):
        held = getattr(self._local, "connection", None)
        if held is not None and held.is_fresh():
            held.socket.settimeout(timeout)
            return held
        if held is not None:
            self._drop()
        try:
            held = _Connection(self.connect(timeout))
        except OSError as error:
            raise GatewayError("the engine's gateway at %s cannot be reached: %s" % (self.path, error)) from None
        self._local.connection = held
        return held

    def _drop(self):
        held = getattr(self._local, "connection", None)
        self._local.connection = None
        if held is not None:
            held.socket.close()


class _Connection:
    """One kept connection and the bytes read ahead on it."""

    __slots__ = ("socket", "_buffer")

    def __init__(self, plain):
        self.socket = plain
        self._buffer = b""

    def is_fresh(self):
        """Tells whether the other side has neither closed nor said anything unasked."""
        self.socket.setblocking(False)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
            return False
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False

    def read_answer(self):
        """Returns (status, body, keep-alive)."""
        while True:
            head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
            parts = head[0].split(" ", 2)
            if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
                raise ValueError("the answer is not HTTP")
            status = int(parts[1])
            if status >= 200:
                break
        fields = {}
        for line in head[1:]:
            name, _, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()
        keep = fields.get("connection", "").lower() != "close" and parts[0] != "HTTP/1.0"
        if status == 204 or status == 304:
            return status, b"", keep
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return status, self._chunks(), keep
        if "content-length" in fields:
            length = int(fields["content-length"])
            if not 0 <= length <= _ANSWER_BYTES_MAX:
                raise ValueError("the answer's length is out of range")
            return status, self._exactly(length), keep
        return status, self._rest(), False

    def _fill(self):
        data = self.socket.recv(262144)
        if not data:
            raise ValueError("the connection was closed")
        self._buffer += data

    def _until(self, mark):
        while mark not in self._buffer:
            if len(self._buffer) > 65536:
                raise ValueError("the answer's head is too long")
            self._fill()
        head, _, self._buffer = self._buffer.partition(mark)
        return head

    def _exactly(self, count):
        while len(self._buffer) < count:
            self._fill()
        body, self._buffer = self._buffer[:count], self._buffer[count:]
        return body

    def _chunks(self):
        parts, total = [], 0
        while True:
            size = int(self._until(b"\r\n").split(b";")[0], 16)
            total += size
            if total > _ANSWER_BYTES_MAX:
                raise ValueError("the answer is too long")
            if size == 0:
                while self._until(b"\r\n"):
                    pass
                return b"".join(parts)
            parts.append(self._exactly(size))
            self._exactly(2)

    def _rest(self):
        while len(self._buffer) <= _ANSWER_BYTES_MAX:
            data = self.socket.recv(262144)
            if not data:
                break
            self._buffer += data
        body, self._buffer = self._buffer, b""
        return body


def _problem(status, answer, path):
    """Returns the message of a problem+json body, with the field errors when it has some."""
    try:
        problem = json.loads(answer)
        message = problem.get("detail") or problem.get("message") or problem.get("title")
        errors = problem.get("errors")
        if message and isinstance(errors, dict):
            message += " (" + "; ".join("%s: %s" % pair for pair in errors.items()) + ")"
        if message:
            return message
    except (ValueError, AttributeError):
        pass
    text = answer[:500].decode("utf-8", "replace").strip()
    return "the engine answered %s with status %d%s" % (path, status, ": " + text if text else "")
