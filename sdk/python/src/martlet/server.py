# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""A lean HTTP/1.1 server on asyncio's transports: one request at a time per connection, bounded, no dependencies."""

import asyncio
import re

BODY_BYTES_MAX = 256 * 1024 * 1024
HEAD_BYTES_MAX = 64 * 1024
HELD_BYTES_MAX = 256 * 1024
CONNECTIONS_MAX = 512
SILENCE_SECONDS = 60.0

_REQUEST = re.compile(r"([A-Z]{1,20}) (\S{1,8192}) HTTP/1\.([01])")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REASONS = {
    200: "OK",
    204: "No Content",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Payload Too Large",
    415: "Unsupported Media Type",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


class _Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Connection(asyncio.Protocol):
    """One client; `app.request(connection, method, path, headers, body)` answers, now or later."""

    def __init__(self, app, connections):
        self._app = app
        self._all = connections
        self._buffer = bytearray()
        self._body = None
        self._want = 0
        self._chunked = False
        self._head = None
        self._busy = False
        self._keep = True
        self._streaming = False
        self._paused = False
        self._reading = True
        self._heard = 0.0
        self.transport = None
        self.congested = False
        #: Called with no arguments when the client goes away before its answer is complete.
        self.on_lost = None

    def connection_made(self, transport):
        self.transport = transport
        self._heard = asyncio.get_running_loop().time()
        self._all.add(self)
        if len(self._all) > CONNECTIONS_MAX:
            self._refuse(_Refused(503, "too many connections; close some"))

    def connection_lost(self, error):
        self._all.discard(self)
        self._body = None
        self._buffer = bytearray()
        lost, self.on_lost = self.on_lost, None
        if lost is not None:
            lost()

    def pause_writing(self):
        self.congested = True

    def resume_writing(self):
        self.congested = False

    def data_received(self, data):
        self._heard = asyncio.get_running_loop().time()
        if self._body is not None and not self._chunked and not self._busy:
            room = self._want - len(self._body)
            if len(data) <= room:
                self._body += data
            else:
                self._body += data[:room]
                self._buffer += data[room:]
            if len(self._body) == self._want:
                self._dispatch()
            return
        self._buffer += data
        if self._busy:
            if len(self._buffer) > HELD_BYTES_MAX and self._reading:
                self._reading = False
                self.transport.pause_reading()
            return
        self._advance()

    def is_stuck(self, now):
        """Tells whether the client began a request and then fell silent."""
        half = self._body is not None or self._head is not None or len(self._buffer) > 0
        return half and not self._busy and now - self._heard > SILENCE_SECONDS

    @property
    def busy(self):
        """Tells whether an answer is outstanding."""
        return self._busy

    def _advance(self):
        try:
            while not self._busy and not self.transport.is_closing():
                if self._head is None and not self._read_head():
                    return
                if self._chunked:
                    if not self._read_chunks():
                        return
                elif self._body is not None and len(self._body) < self._want:
                    room = self._want - len(self._body)
                    self._body += self._buffer[:room]
                    del self._buffer[:room]
                    if len(self._body) < self._want:
                        return
                self._dispatch()
        except _Refused as refused:
            self._refuse(refused)

    def _read_head(self):
        while self._buffer[:2] == b"\r\n":
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise _Refused(431, "the request's head is longer than 64 KiB")
            if len(self._buffer) > 16 and b"\r\n" not in self._buffer[:8300]:
                first = bytes(self._buffer[:8])
                if not first[:3].isalpha() or len(self._buffer) > 8300:
                    raise _Refused(400, "this is not an HTTP/1.1 request")
            return False
        if end > HEAD_BYTES_MAX:
            raise _Refused(431, "the request's head is longer than 64 KiB")
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        match = _REQUEST.fullmatch(lines[0])
        if match is None:
            raise _Refused(400, "the request line is not `METHOD /path HTTP/1.1`")
        headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not _TOKEN.fullmatch(name):
                raise _Refused(400, "a header line is malformed")
            name, value = name.lower(), value.strip(" \t")
            if name in headers:
                if name in ("content-length", "transfer-encoding", "host") and headers[name] != value:
                    raise _Refused(400, "the header %s is given twice with different values" % name)
                value = value if name in ("content-length", "host") else headers[name] + ", " + value
            headers[name] = value
        connection = headers.get("connection", "").lower()
        self._keep = "close" not in connection and (match.group(3) == "1" or "keep-alive" in connection)
        self._plan_body(headers)
        self._head = (match.group(1), match.group(2), headers)
        if headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _plan_body(self, headers):
        coding = headers.get("transfer-encoding")
        length = headers.get("content-length")
        self._chunked = False
        if coding is not None:
            if length is not None:
                raise _Refused(400, "Content-Length and Transfer-Encoding exclude each other")
            if coding.lower() != "chunked":
                raise _Refused(501, "the only transfer coding is chunked")
            self._chunked = True
            self._want = 0
        elif length is not None:
            if not length.isascii() or not length.isdigit() or len(length) > 18:
                raise _Refused(400, "Content-Length is not a number")
            self._want = int(length)
            if self._want > BODY_BYTES_MAX:
                raise _Refused(413, "the body has %d bytes; the limit is %d" % (self._want, BODY_BYTES_MAX))
        else:
            self._want = 0
        self._body = bytearray()

    def _read_chunks(self):
        """Returns True once the last chunk is read; `_want` is what is left of the current one, -1 in the trailer."""
        buffer, at = self._buffer, 0
        try:
            while True:
                if self._want > 0:
                    part = buffer[at : at + self._want]
                    self._body += part
                    at += len(part)
                    self._want -= len(part)
                    if self._want > 0:
                        return False
                    self._want = -2
                if self._want == -2:
                    if len(buffer) - at < 2:
                        return False
                    if buffer[at : at + 2] != b"\r\n":
                        raise _Refused(400, "a chunk does not end where its size says")
                    at += 2
                    self._want = 0
                end = buffer.find(b"\r\n", at)
                if end < 0:
                    if len(buffer) - at > 8192:
                        raise _Refused(400, "a chunk's head is too long")
                    return False
                line = bytes(buffer[at:end])
                at = end + 2
                if self._want == -1:
                    if not line:
                        return True
                    continue
                size = line.partition(b";")[0].strip()
                if not size or len(size) > 15 or any(digit not in b"0123456789abcdefABCDEF" for digit in size):
                    raise _Refused(400, "a chunk's size is not hexadecimal")
                self._want = int(size, 16) or -1
                if self._want > 0 and len(self._body) + self._want > BODY_BYTES_MAX:
                    raise _Refused(413, "the body is longer than %d bytes" % BODY_BYTES_MAX)
        finally:
            del buffer[:at]

    def _dispatch(self):
        method, path, headers = self._head
        body, self._body, self._head, self._chunked = self._body, None, None, False
        self._busy = True
        try:
            self._app.request(self, method, path.partition("?")[0], headers, body)
        except Exception as error:
            self._app.failed(error)
            self.respond(500, b'{"error":"internal error of the worker"}', "application/json")

    def _refuse(self, refused):
        self._keep = False
        self._busy = True
        self.respond(refused.status, str(refused).encode() + b"\n", "text/plain")

    def respond(self, status, body=b"", media_type=None):
        """Sends a whole answer."""
        if self.transport.is_closing():
            return
        head = "HTTP/1.1 %d %s\r\n" % (status, _REASONS.get(status, "Status"))
        if media_type and status != 204:
            head += "Content-Type: %s\r\n" % media_type
        if status != 204:
            head += "Content-Length: %d\r\n" % len(body)
        if not self._keep:
            head += "Connection: close\r\n"
        self.transport.write(head.encode("latin-1") + b"\r\n" + body)
        self._answered()

    def start_stream(self, media_type):
        """Begins a chunked answer."""
        head = "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n" % media_type
        if not self._keep:
            head += "Connection: close\r\n"
        self.transport.write(head.encode("latin-1") + b"\r\n")

    def send(self, data, last=False):
        """Sends one chunk, and the end of the answer with the last one."""
        if self.transport.is_closing():
            return
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self.transport.write(chunk + b"0\r\n\r\n" if last else chunk)
        if last:
            self._answered()

    def close_after(self):
        """Makes the connection close once its answer is complete."""
        self._keep = False
        if not self._busy:
            self.transport.close()

    def _answered(self):
        self._busy = False
        self.on_lost = None
        if not self._keep:
            self.transport.close()
            return
        if not self._reading:
            self._reading = True
            self.transport.resume_reading()
        if self._buffer:
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self):
        if not self._busy and not self.transport.is_closing():
            self._advance()
