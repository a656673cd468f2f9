"""Cuts a byte stream into SIP messages and keepalives (RFC 3261 18.3, RFC 5626 4.4.1). Owns no socket.

The output does not depend on how the bytes were chopped up. Work is linear in the bytes fed.
"""

from __future__ import annotations

from enum import Enum

from nomad.sip.errors import SipError
from nomad.sip.message import MAX_HEAD_BYTES, MAX_MESSAGE_BYTES, MalformedMessage, salvage

MAX_BODY_BYTES = MAX_MESSAGE_BYTES

_TOKEN_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.!%*_+`'~")


class Keepalive(Enum):
    """What stands between messages on a stream (RFC 5626 4.4.1)."""

    PING = "CRLFCRLF"
    PONG = "CRLF"


class StreamFramer:
    """Takes what was read from one connection, gives whole messages and keepalives in order.

    Two CRLF are a PING. A single CRLF counts as PONG only when what follows shows that it is no half PING.
    A fault is raised once everything before it was handed out: look at `failed`, or feed again.
    """

    __slots__ = ("_buffer", "_fault", "_max_body", "_max_head", "_need", "_scanned")

    def __init__(self, *, max_head: int = MAX_HEAD_BYTES, max_body: int = MAX_BODY_BYTES) -> None:
        self._buffer = bytearray()
        self._max_head = max_head
        self._max_body = max_body
        self._scanned = 0  # no end of head begins before this position
        self._need = 0  # length of the whole message, 0 while its head is incomplete
        self._fault: SipError | None = None

    @property
    def failed(self) -> SipError | None:
        """Why the stream cannot go on, None while it can."""
        return self._fault

    @property
    def pending_bytes(self) -> int:
        """How many bytes wait for the rest of their message."""
        return len(self._buffer)

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and is not complete."""
        return bool(self._buffer) and self._buffer[0] not in b"\r\n"

    def feed(self, data: bytes) -> list[bytes | Keepalive]:
        """Take more bytes. Raises `SipError` when the stream can be followed no longer."""
        out: list[bytes | Keepalive] = []
        if self._fault is None:
            self._buffer += data
            try:
                while self._buffer:
                    piece = self._next_piece()
                    if piece is None:
                        return out
                    out.append(piece)
            except SipError as fault:
                self._fault = MalformedMessage(fault, salvage(bytes(self._buffer)))
                self._buffer.clear()
        if self._fault is not None and not out:
            raise self._fault
        return out

    def _next_piece(self) -> bytes | Keepalive | None:
        buffer = self._buffer
        if not self._need:
            if buffer[0] in b"\r\n":
                return self._next_keepalive()
            if not self._find_head():
                return None
        if len(buffer) < self._need:
            return None
        message = bytes(buffer[: self._need])
        del buffer[: self._need]
        self._need = self._scanned = 0
        return message

    def _next_keepalive(self) -> Keepalive | None:
        buffer = self._buffer
        start = bytes(buffer[:4])
        if not b"\r\n\r\n".startswith(start[:2]):
            raise SipError("line-end", "line end without its other half")
        if len(start) < 4 and b"\r\n\r\n".startswith(start):
            return None
        if start == b"\r\n\r\n":
            del buffer[:4]
            return Keepalive.PING
        del buffer[:2]
        return Keepalive.PONG

    def _find_head(self) -> bool:
        buffer = self._buffer
        if buffer[0] not in _TOKEN_BYTES:
            raise SipError("start-line", "not a SIP message")
        end = buffer.find(b"\r\n\r\n", self._scanned, self._max_head + 4)
        if end < 0:
            if len(buffer) >= self._max_head + 4:
                raise SipError("too-large", "header is too large", status=513)
            self._scanned = max(0, len(buffer) - 3)
            return False
        length = content_length(bytes(buffer[:end]))
        if length > self._max_body:
            raise SipError("too-large", "body is too large", status=513)
        self._need = end + 4 + length
        return True


def content_length(head: bytes) -> int:
    """The one Content-Length of a head; on a stream there is no other end of the body (RFC 3261 18.3)."""
    found = -1
    if b"\r\n " in head or b"\r\n\t" in head:
        head = head.replace(b"\r\n ", b"  ").replace(b"\r\n\t", b"  ")  # as the parser will read it (RFC 3261 7.3.1)
    for line in head.split(b"\r\n")[1:]:
        if line[:1] not in b"lLcC":
            continue
        name, _, value = line.partition(b":")
        if name.rstrip(b" \t").lower() not in (b"content-length", b"l"):
            continue
        value = value.strip(b" \t")
        if found >= 0 or not value.isdigit() or len(value) > 10:
            raise SipError("content-length", "Content-Length is repeated or no number", header="Content-Length")
        found = int(value)
    if found < 0:
        raise SipError("content-length", "Content-Length is missing", header="Content-Length")
    return found
