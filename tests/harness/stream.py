"""A connection to the edge over TCP, TLS or WSS that sends exactly what a test says, framing included."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import time
from types import TracebackType

from tests.harness.ports import HOST
from tests.harness.secure import SecureEdge

WAIT_S = 5.0
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 0x1, 0x2, 0x8, 0x9, 0xA, 0x0
SHAKE = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


class Stream:
    """One connection. Over WSS `send` wraps what it is given into one text frame."""

    def __init__(
        self, edge: SecureEdge, transport: str, *, trust: ssl.SSLContext, source: str = HOST, shake: bool = True
    ) -> None:
        port = {"tcp": edge.port, "tls": edge.tls_port, "wss": edge.wss_port}[transport]
        self.transport = transport
        plain = socket.create_connection((HOST, port), WAIT_S, source_address=(source, 0))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket = plain if transport == "tcp" else trust.wrap_socket(plain, server_hostname="localhost")
        except OSError:
            plain.close()
            raise
        self._buffer = b""
        if transport == "wss" and shake:
            self.raw(f"{SHAKE}Sec-WebSocket-Protocol: sip\r\n\r\n".encode())
            assert b" 101 " in self.until(b"\r\n\r\n")

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def send(self, message: bytes | str) -> None:
        """Send a message."""
        data = message.encode() if isinstance(message, str) else message
        self.raw(frame(TEXT, data) if self.transport == "wss" else data)

    def until(self, end: bytes) -> bytes:
        """What comes, up to and with these bytes; what came when the connection ended before, or nothing more came."""
        stop = time.monotonic() + WAIT_S
        while end not in self._buffer and time.monotonic() < stop:
            self.socket.settimeout(max(0.01, stop - time.monotonic()))
            try:
                data = self.socket.recv(65536)
            except OSError:
                break
            if not data:
                break
            self._buffer += data
        found, marker, rest = self._buffer.partition(end)
        self._buffer = rest
        return found + marker

    def answer(self) -> bytes:
        """The next answer's head; b"" when there is none."""
        return self.until(b"\r\n\r\n")

    def ends(self, within_s: float = WAIT_S) -> bytes | None:
        """What comes before the other side ends the connection; None when it does not."""
        stop = time.monotonic() + within_s
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while (left := stop - time.monotonic()) > 0:
                self.socket.settimeout(left)
                try:
                    data = self.socket.recv(65536)
                except TimeoutError:
                    return None
                if not data:
                    break
                self._buffer += data
            else:
                return None
        return self._buffer


def frame(opcode: int, data: bytes, *, last: bool = True, masked: bool = True) -> bytes:
    """A WebSocket frame of a client (RFC 6455 5.2)."""
    head = bytes([opcode | (0x80 if last else 0)])
    bit = 0x80 if masked else 0
    if len(data) < 126:
        head += bytes([bit | len(data)])
    elif len(data) < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", len(data))
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", len(data))
    if not masked:
        return head + data
    key = os.urandom(4)
    whole = (key * (len(data) // 4 + 1))[: len(data)]
    mixed = int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")
    return head + key + mixed.to_bytes(len(data), "big")
