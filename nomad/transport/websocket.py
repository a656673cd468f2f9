"""SIP over WebSocket (RFC 7118): one SIP message in one WebSocket message, over `websockets`' sans-IO protocol.

Pure: it is a `Wire` of `connection.py`. Server side only; browsers do not accept connections.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from nomad.sip.errors import SipError
from nomad.sip.framing import Keepalive
from nomad.sip.message import MAX_MESSAGE_BYTES

SUBPROTOCOL = Subprotocol("sip")
MAX_FRAMES = 256  # of one message

_quiet = logging.getLogger(f"{__name__}.protocol")
_quiet.setLevel(logging.WARNING)  # it would log each connection


class WebSocketWire:
    """One server side of a WebSocket.

    `origins` are the pages that may connect, as browsers write them ("https://phone.example"); "*" lets every page in.
    A client that sends no Origin is no browser and is let in.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        allowed: list[Origin | None] | None = None
        if "*" not in origins:
            allowed = [None, *(Origin(origin) for origin in origins)]
        self._protocol = ServerProtocol(
            origins=allowed, subprotocols=[SUBPROTOCOL], max_size=MAX_MESSAGE_BYTES, logger=_quiet
        )
        self._parts: list[bytes] = []
        self._unread = 0  # bytes of a frame that has begun and not ended
        self.failed: SipError | None = None

    @property
    def ready(self) -> bool:
        """Whether the opening handshake is done and nobody has said goodbye."""
        return self._protocol.state is State.OPEN

    @property
    def in_message(self) -> bool:
        """Whether a frame or a fragmented message has begun and not ended."""
        return bool(self._parts) or self._unread > 0

    @property
    def finished(self) -> bool:
        """Whether the handshake failed or a close frame went either way."""
        return self._protocol.state in (State.CLOSING, State.CLOSED) or self._protocol.close_expected()

    def feed(self, data: bytes) -> list[bytes | Keepalive]:
        """Whole messages, in order; `failed` says when the peer broke the WebSocket protocol."""
        protocol = self._protocol
        if self.finished:
            return []
        protocol.receive_data(data)
        items: list[bytes | Keepalive] = []
        unread = self._unread + len(data)
        for event in protocol.events_received():
            if isinstance(event, Request):
                self._open(event)
                unread = len(protocol.reader.buffer)
            elif isinstance(event, Frame):
                unread -= _size(event)
                if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                    self._collect(event, items)
        self._unread = max(0, unread)
        if protocol.handshake_exc is not None:
            items.clear()  # who did not wait for the answer is not heard
            self.failed = SipError("websocket-handshake", "WebSocket handshake refused")
        elif protocol.parser_exc is not None and protocol.close_rcvd is None:
            self.failed = SipError("websocket", "WebSocket protocol error")
        return items

    def wrap(self, data: bytes) -> bytes:
        """One WebSocket message: text, or binary when the SIP message is not UTF-8 (RFC 7118 5)."""
        if _is_utf8(data):
            self._protocol.send_text(data)
        else:
            self._protocol.send_binary(data)
        return b"".join(self._protocol.data_to_send())

    def take_output(self) -> bytes:
        """Handshake answers, pongs and close frames."""
        return b"".join(self._protocol.data_to_send())

    def ping(self) -> bytes:
        """A ping frame."""
        self._protocol.send_ping(b"")
        return b"".join(self._protocol.data_to_send())

    def _open(self, request: Request) -> None:
        """Answer the opening handshake; the subprotocol "sip" is mandatory (RFC 7118 4.1)."""
        if not self._protocol.eof_sent:  # bytes that came with the handshake may have ended it already
            self._protocol.send_response(self._protocol.accept(request))

    def _collect(self, frame: Frame, items: list[bytes | Keepalive]) -> None:
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            if len(self._parts) > MAX_FRAMES:
                self._protocol.fail(CloseCode.MESSAGE_TOO_BIG)
                self.failed = SipError("websocket", "too many WebSocket fragments")
            return
        message = b"".join(self._parts)
        self._parts.clear()
        if message.strip(b"\r\n"):
            items.append(message)
        else:  # RFC 7118 6: CRLF keepalives are allowed here too
            items.append(Keepalive.PING if message.startswith(b"\r\n\r\n") else Keepalive.PONG)


def _size(frame: Frame) -> int:
    """Bytes that a frame of a client took; a longer form of its length is none (RFC 6455 5.2)."""
    length = len(frame.data)
    return length + (6 if length < 126 else 8 if length < 65536 else 14)


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
