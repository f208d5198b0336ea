# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""HTTP/2 as far as hostile clients need it: calls that are begun and not finished."""

import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK, END_HEADERS = 1, 4
INITIAL_WINDOW, FRAME_BYTES = 4, 16384


class Closed(Exception):
    pass


class Connection:
    """A connection that keeps to flow control and answers pings, and does nothing else that a client should."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.received = b""
        self.initial_window = 65535
        self.windows = {0: 65535}
        self.ended: set[int] = set()
        self.next_stream = 1
        self.socket.sendall(PREFACE)
        self.send_frame(SETTINGS, 0, 0, b"")
        while not self.receive(10):
            pass

    def send_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        try:
            self.socket.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload)
        except OSError as error:
            raise Closed from error

    def call(self, path: str, **headers: str) -> int:
        """Begins a call; returns the number of its stream."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        self.windows[stream] = self.initial_window
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "test", "content-type": "application/grpc", "te": "trailers"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.send_frame(HEADERS, END_HEADERS, stream, b"".join(b"\x00" + text(name) + text(value) for name, value in fields.items()))
        return stream

    def send(self, stream: int, data: bytes) -> int:
        """Sends as much as windows allow now; returns how much."""
        sent = 0
        while sent < len(data) and stream not in self.ended:
            count = min(self.windows[0], self.windows[stream], FRAME_BYTES, len(data) - sent)
            if count <= 0:
                break
            self.send_frame(DATA, 0, stream, data[sent : sent + count])
            self.windows[0] -= count
            self.windows[stream] -= count
            sent += count
        return sent

    def receive(self, seconds: float) -> bool:
        """Takes in what arrives within that time; whether anything did."""
        deadline = time.monotonic() + seconds
        found = False
        while True:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                more = self.socket.recv(1 << 16)
            except TimeoutError:
                return found
            except OSError as error:
                raise Closed from error
            if not more:
                raise Closed
            self.received += more
            found = True
            while len(self.received) >= 9:
                length = int.from_bytes(self.received[:3])
                if len(self.received) < 9 + length:
                    break
                kind, flags = self.received[3], self.received[4]
                stream = int.from_bytes(self.received[5:9]) & 0x7FFFFFFF
                payload, self.received = self.received[9 : 9 + length], self.received[9 + length :]
                self.take(kind, flags, stream, payload)
            deadline = min(deadline, time.monotonic() + 0.001)

    def take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            for place in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[place : place + 6])
                if name == INITIAL_WINDOW:
                    for open_stream in self.windows:
                        if open_stream:
                            self.windows[open_stream] += value - self.initial_window
                    self.initial_window = value
            self.send_frame(SETTINGS, ACK, 0, b"")
        elif kind == PING and not flags & ACK:
            self.send_frame(PING, ACK, 0, payload)
        elif kind == WINDOW_UPDATE:
            self.windows[stream] = self.windows.get(stream, 0) + int.from_bytes(payload)
        elif kind == RST_STREAM:
            self.ended.add(stream)
        elif kind == GOAWAY:
            raise Closed

    def close(self) -> None:
        self.socket.close()


def text(value: str) -> bytes:
    data = value.encode()
    assert len(data) < 127
    return bytes([len(data)]) + data


def announce(length: int) -> bytes:
    """What stands in front of a message of gRPC."""
    return struct.pack(">BI", 0, length)
