"""One connection against a transport in memory: deadlines and bounds that sockets make hard to see."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from nomad.ports import Unavailable
from nomad.sip.errors import SipError
from nomad.sip.events import Flow
from nomad.transport.connection import Connection, PlainWire, StreamLimits
from nomad.transport.websocket import WebSocketWire

MESSAGE = b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n"


class MemoryTransport(asyncio.Transport):
    """Keeps what is written; `stuck` bytes are never read by the peer."""

    def __init__(self, protocol: Connection, *, names: bool = True) -> None:
        super().__init__({"sockname": ("127.0.0.1", 5060), "peername": ("127.0.0.1", 4444)} if names else {})
        self.written = b""
        self.stuck = 0
        self.ended = ""
        self.eof = False
        self._protocol = protocol

    def is_closing(self) -> bool:
        return bool(self.ended)

    def get_write_buffer_size(self) -> int:
        return self.stuck

    def write(self, data: Any) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def close(self) -> None:
        self.ended = "closed"
        self._protocol.connection_lost(None)

    def abort(self) -> None:
        self.ended = "aborted"
        self._protocol.connection_lost(None)


class Made:
    """A connection on a memory transport, and what it reports."""

    def __init__(self, limits: StreamLimits | None = None, **options: Any) -> None:
        self.received_: list[bytes] = []
        self.errors: list[str] = []
        self.closed: list[str] = []
        self.opened: list[Connection] = []
        options.setdefault("transport", "tcp")
        self.connection = Connection(
            options.pop("wire", None) or PlainWire(),
            self,
            id=7,
            limits=limits or StreamLimits(),
            opened=self.opened.append,
            closed=lambda connection: self.closed.append(connection.why),
            **options,
        )

    async def ended(self) -> None:
        async with asyncio.timeout(2):
            while not self.closed:  # noqa: ASYNC110 - the transport in memory has no event
                await asyncio.sleep(0)

    def start(self, *, names: bool = True) -> MemoryTransport:
        transport = MemoryTransport(self.connection, names=names)
        self.connection.connection_made(transport)
        return transport

    def received(self, data: bytes, flow: Flow) -> None:
        self.received_.append(data)

    def keepalive(self, flow: Flow) -> None:
        pass

    def unreadable(self, error: SipError, flow: Flow) -> None:
        self.errors.append(error.reason)


async def test_its_flow() -> None:
    made = Made()
    usable_before = made.connection.usable
    made.start()
    assert made.connection.flow == Flow("tcp", ("127.0.0.1", 5060), ("127.0.0.1", 4444), 7)
    assert (usable_before, made.connection.usable) == (False, True)
    assert made.opened == [made.connection]
    made.connection.close("enough")


async def test_a_connection_that_was_reset_before_it_was_made() -> None:
    made = Made()
    assert made.start(names=False).ended == "aborted"
    assert made.opened == []
    assert made.closed == ["closed by the peer"]


async def test_a_peer_that_is_somebody_else() -> None:
    def check(tls: object) -> None:
        raise Unavailable("somebody else")

    made = Made(check=check)
    transport = made.start()
    assert transport.ended == "aborted"
    assert str(made.connection.failure) == "somebody else"
    made.connection.data_received(MESSAGE)
    assert made.received_ == []
    assert made.opened == []


async def test_a_write_that_would_pass_the_bound_drops_the_peer() -> None:
    made = Made(StreamLimits(unsent_bytes=100))
    transport = made.start()
    assert made.connection.send(b"x" * 60)
    transport.stuck = 60
    assert not made.connection.send(b"x" * 60)
    assert transport.ended == "aborted"
    assert made.closed == ["does not read"]
    assert not made.connection.send(b"x")


async def test_pings_are_bounded_like_everything_written() -> None:
    made = Made(StreamLimits(unsent_bytes=1))
    transport = made.start()
    made.connection.data_received(b"\r\n\r\n" + MESSAGE)
    assert transport.ended == "aborted"
    assert made.received_ == []  # nothing is handled once it is dropped


async def test_a_message_after_the_end_is_not_taken() -> None:
    made = Made(StreamLimits(closing_s=0.01))
    transport = made.start()
    made.connection.data_received(MESSAGE + b"\x00" + MESSAGE)
    assert made.received_ == [MESSAGE]
    assert made.errors == ["start-line"]
    assert (transport.eof, made.closed) == (True, [])  # a reset would take the last answer with it
    made.connection.data_received(MESSAGE)
    assert not made.connection.send(MESSAGE)
    await made.ended()
    assert (made.received_, made.closed, made.connection.fault) == ([MESSAGE], ["start-line"], "")


async def test_the_reason_of_a_broken_connection() -> None:
    made = Made()
    made.start()
    made.connection.connection_lost(ConnectionResetError("reset by peer"))
    assert made.closed == ["reset by peer"]
    made.connection.abort("again")
    made.connection.close("again")
    assert made.closed == ["reset by peer"]


@pytest.mark.parametrize(
    ("limits", "pieces", "why"),
    [
        (StreamLimits(first_message_s=0.01), [], "first message timeout"),
        (StreamLimits(first_message_s=0.01, message_s=60), [MESSAGE[:9]], "first message timeout"),
        (StreamLimits(idle_s=0.01), [MESSAGE], "idle timeout"),
        (StreamLimits(message_s=0.01), [MESSAGE, MESSAGE[:9]], "message timeout"),
        (StreamLimits(message_s=0.01), [MESSAGE + MESSAGE[:9], MESSAGE[9:12]], "message timeout"),
        (StreamLimits(message_s=0.01, idle_s=0.02), [MESSAGE + MESSAGE[:9], MESSAGE[9:]], "idle timeout"),
    ],
)
async def test_deadlines(limits: StreamLimits, pieces: list[bytes], why: str) -> None:
    made = Made(limits)
    made.start()
    for piece in pieces:
        made.connection.data_received(piece)
    await made.ended()
    assert (made.closed, made.connection.fault) == ([why], why.replace(" ", "-"))


async def test_a_phone_that_promised_keepalives_and_sends_none_is_dropped() -> None:
    made = Made(StreamLimits(idle_s=600.0))
    transport = made.start()
    made.connection.data_received(MESSAGE)
    made.connection.expect_keepalives(0.05)
    made.connection.data_received(b"\r\n\r\n")
    await made.ended()
    assert (made.connection.why, transport.ended) == ("keepalive timeout", "aborted")


async def test_who_we_dialled_need_not_speak_first() -> None:
    made = Made(StreamLimits(first_message_s=0.0, idle_s=0.01), check=lambda _: None)
    made.start()
    await made.ended()
    assert made.closed == ["idle timeout"]


class Page:
    """A browser on a memory transport."""

    def __init__(self, limits: StreamLimits) -> None:
        self.made = Made(limits, wire=WebSocketWire(["*"]), transport="ws")
        self.transport = self.made.start()
        self.protocol = ClientProtocol(parse_uri("ws://edge.example/"), subprotocols=[Subprotocol("sip")])
        self.protocol.send_request(self.protocol.connect())
        self.flush()

    def flush(self) -> None:
        for _ in range(2):
            if output := b"".join(self.protocol.data_to_send()):
                self.made.connection.data_received(output)
            if answer := self.transport.written:
                self.transport.written = b""
                self.protocol.receive_data(answer)
        if pong := b"".join(self.protocol.data_to_send()):
            self.made.connection.data_received(pong)

    async def written(self) -> None:
        async with asyncio.timeout(2):
            while not self.transport.written:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)


async def test_a_quiet_browser_is_pinged_and_dropped_when_it_is_dead() -> None:
    page = Page(StreamLimits(ping_s=0.01, pong_s=0.02, first_message_s=5))
    page.protocol.send_text(MESSAGE)
    page.flush()
    assert page.made.received_ == [MESSAGE]
    for _ in range(3):
        await page.written()
        page.flush()  # answers the ping
    await page.made.ended()
    assert (page.made.closed, page.made.connection.fault) == (["pong timeout"], "pong-timeout")


async def test_pongs_do_not_keep_a_browser_that_says_nothing() -> None:
    page = Page(StreamLimits(ping_s=0.001, pong_s=5, idle_s=0.02, first_message_s=5))
    page.protocol.send_text(MESSAGE)
    page.flush()
    async with asyncio.timeout(2):
        while not page.made.closed:
            page.flush()
            await asyncio.sleep(0)
    assert page.made.connection.fault == "idle-timeout"
