# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The worker's endpoints: health, CloudEvents, and the engine's streamed calls."""

import asyncio
import json
import logging
import os
import stat
from urllib.parse import unquote

from . import encoding
from .errors import EventError
from .logs import RUNTIME_LOGGER
from .server import Connection

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"

log = logging.getLogger(RUNTIME_LOGGER)


class StreamRequest:
    """A `POST /v1/invoke` whose results are streamed back as lines."""

    strict = False
    sends_on = False
    one_batch = False

    def __init__(self, connection, count):
        self._connection = connection
        self._left = count
        self.closed = False

    def deliver(self, fragment, count, error):
        """Writes one line of results; the last one ends the answer."""
        self._left -= count
        last = self._left <= 0
        if last:
            self.closed = True
        self._connection.send(encoding.to_bytes('{"results":[' + fragment + "]}\n"), last)

    def running(self, items):
        """Writes which events are inside a handler."""
        if not self._connection.congested:
            text = ",".join("[%d,%d]" % item for item in items)
            self._connection.send(b'{"running":[' + text.encode() + b"]}\n")

    def abandon(self):
        """Ends the answer without results for what never began."""
        self.closed = True
        self._connection.close_after()
        self._connection.send(b"", True)


class PostRequest:
    """A `POST /` answered with 204 or 500 once its calls are done."""

    strict = True
    sends_on = True

    def __init__(self, connection, count, one_batch):
        self._connection = connection
        self._left = count
        self._error = None
        self.one_batch = one_batch
        self.closed = False

    def deliver(self, fragment, count, error):
        """Counts results; answers after the last."""
        self._left -= count
        self._error = self._error or error
        if self._left <= 0:
            self.closed = True
            if self._error is None:
                self._connection.respond(204)
            else:
                self._connection.respond(500, _error_body(self._error), "application/json")

    def running(self, items):
        """Says nothing: the answer is not a stream."""

    def abandon(self):
        """Answers that the worker stops."""
        self.closed = True
        self._connection.close_after()
        self._connection.respond(503, b"the worker stops\n", "text/plain")


class Service:
    """Routes requests to the runner."""

    def __init__(self, runner):
        self._runner = runner
        self._connections = set()
        self._servers = []
        self.draining = False

    async def listen(self, path=None, port=None):
        """Listens on a Unix socket path or on a loopback port; returns the port."""
        loop = asyncio.get_running_loop()

        def make():
            return Connection(self, self._connections)

        if path:
            if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
                os.unlink(path)
            self._servers.append(await loop.create_unix_server(make, path, backlog=512))
            os.chmod(path, 0o600)
        if port is not None:
            server = await loop.create_server(make, "127.0.0.1", port, backlog=512, reuse_address=True)
            self._servers.append(server)
            port = server.sockets[0].getsockname()[1]
        loop.call_later(5.0, self._sweep)
        return port

    def stop_listening(self):
        """Accepts no more connections and closes idle ones."""
        self.draining = True
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.close_after()

    async def flush(self, seconds=1.0):
        """Waits until what was answered is handed to the kernel."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while loop.time() < deadline:
            open_ones = [c for c in self._connections if c.transport.get_write_buffer_size() or c.busy]
            if not open_ones:
                return
            await asyncio.sleep(0.005)

    def _sweep(self):
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._connections):
            if connection.is_stuck(now):
                connection.transport.abort()
        if not self.draining:
            loop.call_later(5.0, self._sweep)

    def failed(self, error):
        """Logs an error of the service itself."""
        log.error("error in the worker's server", exc_info=error)

    def request(self, connection, method, path, headers, body):
        """Answers one request."""
        if method in ("GET", "HEAD") and path in ("/readiness", "/liveness"):
            text = b"Ready" if path == "/readiness" else b"Alive"
            if self.draining and path == "/readiness":
                connection.respond(503, b"the worker stops\n", "text/plain")
            else:
                connection.respond(200, text if method == "GET" else b"", "text/plain")
        elif method == "OPTIONS":
            connection.respond(200)
        elif path not in ("/", "/v1/invoke"):
            message = b"nothing here; there are POST /, POST /v1/invoke, GET /readiness, GET /liveness\n"
            connection.respond(404, message, "text/plain")
        elif method != "POST":
            connection.respond(405, b"use POST\n", "text/plain")
        elif self.draining:
            connection.close_after()
            connection.respond(503, b"the worker stops\n", "text/plain")
        elif path == "/v1/invoke":
            self._invoke(connection, headers, body)
        else:
            self._post(connection, headers, body)

    def _invoke(self, connection, headers, body):
        if _media_type(headers) != BATCH:
            connection.respond(415, ("Content-Type must be %s\n" % BATCH).encode(), "text/plain")
            return
        try:
            raws = json.loads(body)
        except (ValueError, RecursionError) as error:
            connection.respond(400, ("the body is not JSON: %s\n" % error).encode("utf-8", "replace"), "text/plain")
            return
        del body
        if not isinstance(raws, list):
            connection.respond(400, b"the body must be a JSON array of CloudEvents\n", "text/plain")
            return
        connection.start_stream("application/x-ndjson")
        if not raws:
            connection.send(b"", True)
            return
        request = StreamRequest(connection, len(raws))
        connection.on_lost = lambda: self._runner.forget(request)
        self._runner.submit(request, raws)

    def _post(self, connection, headers, body):
        media_type = _media_type(headers)
        try:
            if media_type == BATCH:
                raws = _parse(body)
                if not isinstance(raws, list):
                    raise EventError("malformed vast event: a batch must be a JSON array")
            elif media_type == STRUCTURED:
                raws = [_parse(body)]
            elif "ce-specversion" in headers or "ce-type" in headers:
                raws = [_binary(headers, media_type, body)]
            else:
                text = "send a CloudEvent: binary (ce- headers), %s or %s; got %s\n" % (STRUCTURED, BATCH, media_type)
                connection.respond(415, text.encode("latin-1", "replace"), "text/plain")
                return
        except EventError as error:
            log.error("Error in handler execution: %s", error)
            described = {"type": "EventError", "message": str(error), "traceback": ""}
            connection.respond(500, _error_body(described), "application/json")
            return
        if not raws:
            connection.respond(204)
            return
        request = PostRequest(connection, len(raws), media_type == BATCH)
        connection.on_lost = lambda: self._runner.forget(request)
        self._runner.submit(request, raws)


def _media_type(headers):
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _parse(body):
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise EventError("malformed vast event: the body is not JSON: %s" % error) from None


def _binary(headers, media_type, body):
    raw = {}
    for name, value in headers.items():
        if name.startswith("ce-"):
            try:
                value = value.encode("latin-1").decode("utf-8")
            except UnicodeDecodeError:
                raise EventError("malformed vast event: header %s is not UTF-8" % name) from None
            raw[name[3:]] = unquote(value)
    if "content-type" in headers:
        raw["datacontenttype"] = headers["content-type"]
    if not body:
        return raw
    if media_type in ("", "application/json", "text/json") or media_type.endswith("+json"):
        raw["data"] = _parse(body)
    elif media_type.startswith("text/"):
        raw["data"] = body.decode("utf-8", "replace")
    else:
        import base64

        raw["data_base64"] = base64.b64encode(body).decode("ascii")
    return raw


def _error_body(error):
    described = {"error": error["message"], "type": error["type"], "traceback": error["traceback"]}
    return encoding.to_bytes(encoding.dumps(described))
