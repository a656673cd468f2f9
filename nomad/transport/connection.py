"""One TCP, TLS or WebSocket connection with a SIP peer: cuts bytes into messages, watches the clock, bounds what waits.

Knows neither who may connect (`stream.py`) nor what the messages say.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from nomad.ports import Unavailable
from nomad.sip.errors import SipError
from nomad.sip.events import Flow
from nomad.sip.framing import Keepalive, StreamFramer

PONG = b"\r\n"  # RFC 5626 4.4.1
PINGED = ("ws", "wss")
PLAIN = ("tcp", "ws")  # TLS cannot say that only our side has nothing more to say


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What one peer may cost us. Times are seconds."""

    connections: int = 10_000
    per_address: int = 100  # IPv6: per /64
    handshake_s: float = 10.0  # TLS
    first_message_s: float = 30.0  # from the accept to the first whole message
    message_s: float = 10.0  # from its first byte to its last
    idle_s: float = 7500.0  # without a message, longer than the longest registration; TCP finds dead peers
    ping_s: float = 30.0  # of silence, until a WebSocket is pinged: shorter than what proxies on the way allow
    pong_s: float = 20.0
    unsent_bytes: int = 1 << 20  # waiting for a peer that does not read
    connect_s: float = 5.0
    closing_s: float = 2.0  # for the peer to read why, and to stop sending


class Wire(Protocol):
    """How SIP messages lie in a byte stream."""

    @property
    def ready(self) -> bool:
        """Whether messages can be sent."""

    @property
    def in_message(self) -> bool:
        """Whether the peer owes us the rest of something."""

    @property
    def finished(self) -> bool:
        """Whether the connection is to be closed once the output is written."""

    @property
    def failed(self) -> SipError | None:
        """Why the stream makes no sense any more; what came before was handed out."""

    def feed(self, data: bytes) -> list[bytes | Keepalive]:
        """Whole messages, in order. May raise what `failed` would tell."""

    def wrap(self, data: bytes) -> bytes:
        """The bytes that carry a message."""

    def take_output(self) -> bytes:
        """What the wire itself wants to say."""

    def ping(self) -> bytes:
        """What the peer has to answer at once, b"" when there is no such thing."""


class Receiver(Protocol):
    """Who is told what a connection brings."""

    def received(self, data: bytes, flow: Flow) -> None:
        """One whole message."""

    def keepalive(self, flow: Flow) -> None:
        """A ping was answered."""

    def unreadable(self, error: SipError, flow: Flow) -> None:
        """The stream makes no sense any more; the connection is closed after this returns."""


class PlainWire:
    """Messages one after another, told apart by Content-Length (RFC 3261 18.3)."""

    ready = True
    finished = False

    def __init__(self) -> None:
        self._framer = StreamFramer()

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._framer.in_message

    @property
    def failed(self) -> SipError | None:
        """Why no further message can be found."""
        return self._framer.failed

    def feed(self, data: bytes) -> list[bytes | Keepalive]:
        """Whole messages and keepalives."""
        return self._framer.feed(data)

    def wrap(self, data: bytes) -> bytes:
        """The message itself."""
        return data

    def take_output(self) -> bytes:
        """Nothing: keepalives are answered by the connection."""
        return b""

    def ping(self) -> bytes:
        """Nothing: only the one who opened a connection sends CRLF (RFC 5626 4.4.1)."""
        return b""


class Connection(asyncio.Protocol):
    """The asyncio side of one connection."""

    def __init__(
        self,
        wire: Wire,
        receiver: Receiver,
        *,
        transport: str,
        id: int,
        limits: StreamLimits,
        opened: Callable[[Connection], None],
        closed: Callable[[Connection], None],
        check: Callable[[ssl.SSLObject | None], None] | None = None,
    ) -> None:
        """`check` is asked before anything is read and raises `Unavailable` when the peer is not who it should be."""
        self.flow = Flow(transport, ("", 0), ("", 0), id)
        self.why = "closed by the peer"  # why it ended
        self.fault = ""  # a fixed word when it ended because of what the peer did, or did not do
        self.failure: Unavailable | None = None  # what `check` raised
        self.was_made = False  # whether `closed` was or will be called
        self._wire = wire
        self._receiver = receiver
        self._limits = limits
        self._opened = opened
        self._on_closed = closed
        self._check = check
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = self._loop.time()  # when the last whole message came
        self._deadline = 0.0
        self._deadline_kind = "idle"
        self._patience = ("idle", limits.idle_s)  # how long the peer may be silent
        self._deaf = False  # what comes is not looked at any more
        self._proven = check is not None  # whether it brought a whole message; who we dialled need not speak first

    @property
    def usable(self) -> bool:
        """Whether messages can be sent now."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._deaf and self._wire.ready

    def send(self, data: bytes) -> bool:
        """Send one message; False when the connection is gone or the peer does not read."""
        if not self.usable:
            return False
        self._write(self._wire.wrap(data))
        return self.usable

    def expect_keepalives(self, within_s: float) -> None:
        """Give the peer up when it is silent for so long."""
        self._patience = ("keepalive", within_s)
        self._watch(got_item=False)

    def abort(self, why: str, *, fault: str = "") -> None:
        """Drop the connection at once, unsent bytes included; `fault` is a fixed word for the counter."""
        if self._transport is not None and not self._transport.is_closing():
            self.why = self.why if self._deaf else why
            self.fault = fault
            self._transport.abort()

    def close(self, why: str) -> None:
        """Close after the unsent bytes."""
        if self._transport is not None and not self._transport.is_closing():
            self.why = why
            self._transport.close()

    def _hang_up(self, why: str) -> None:
        """Close after a last answer. To close with bytes unread would reset the connection, and the answer with it."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self.flow.transport in PLAIN and transport.can_write_eof():
            self.why, self._deaf = why, True
            transport.write_eof()
            self._expect("closing", self._limits.closing_s)
        else:
            self.close(why)

    # -- called by the loop ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open, TLS included."""
        self.was_made = True
        self._transport = cast(asyncio.Transport, transport)
        local, remote = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        if not local or not remote:  # it was reset meanwhile
            self._transport.abort()
            return
        self.flow = self.flow._replace(local=tuple(local[:2]), remote=tuple(remote[:2]))
        try:
            if self._check is not None:
                self._check(transport.get_extra_info("ssl_object"))
        except Unavailable as error:
            self.failure = error
            self._transport.abort()
            return
        self._opened(self)
        if self._proven:
            self._expect_silence()
        else:
            self._expect("first message", self._limits.first_message_s)

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer."""
        if self.failure is not None or self._deaf:
            return
        error: SipError | None = None
        items: list[bytes | Keepalive] = []
        try:
            items = self._wire.feed(data)
        except SipError as caught:
            error = caught
        if output := self._wire.take_output():
            self._write(output)
        for item in items:
            self._take(item)
        error = error or self._wire.failed
        if error is not None:
            self._receiver.unreadable(error, self.flow)
            self._hang_up(error.reason)
        elif self._wire.finished:
            self.close("closed by the peer")
        else:
            self._watch(got_item=bool(items))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
        if exc is not None:
            self.why = str(exc) or type(exc).__name__
        self._transport = None
        self._on_closed(self)

    # -- private -----------------------------------------------------------------------------------------------------

    def _take(self, item: bytes | Keepalive) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if isinstance(item, bytes):
            self._proven = True
            self._heard_at = self._loop.time()
            self._receiver.received(item, self.flow)
        elif item is Keepalive.PING:
            if self._wire.ready:
                self._write(self._wire.wrap(PONG))
            self._receiver.keepalive(self.flow)

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() + len(data) > self._limits.unsent_bytes:
            self.abort("does not read", fault="not-reading")
        else:
            transport.write(data)

    def _watch(self, *, got_item: bool) -> None:
        """Choose the deadline that holds after bytes came in."""
        if not self._proven:
            return  # that of the first message goes on, whatever trickles in
        if not self._wire.in_message:
            self._expect_silence()
        elif got_item or self._deadline_kind != "message":
            self._expect("message", self._limits.message_s)  # not moved by further pieces of the same message

    def _expect_silence(self) -> None:
        if self.flow.transport in PINGED:
            self._expect("quiet", min(self._limits.ping_s, self._limits.idle_s))
        else:
            self._expect(*self._patience)

    def _ping(self) -> None:
        """Keep the way to a quiet browser open, and find out whether it is still there (RFC 6455 5.5.2)."""
        if self._loop.time() - self._heard_at >= self._limits.idle_s:
            self.abort("idle timeout", fault="idle-timeout")
        elif self.usable:
            self._write(self._wire.ping())
            self._expect("pong", self._limits.pong_s)

    def _expect(self, kind: str, seconds: float) -> None:
        self._deadline_kind = kind
        self._deadline = self._loop.time() + seconds
        # A timer that is due earlier finds out for itself: re-arming it per message would cost more than firing.
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._loop.time() < self._deadline - 0.001:
            self._timer = self._loop.call_at(self._deadline, self._due)
        elif self._deaf:
            self.abort(self.why)
        elif self._deadline_kind == "quiet":
            self._ping()
        else:
            kind = self._deadline_kind
            self.abort(f"{kind} timeout", fault=f"{kind.replace(' ', '-')}-timeout")
