"""SIP over WebSocket: handshake, messages, protocol errors. No sockets: the client is `websockets`' sans-IO one."""

from __future__ import annotations

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from nomad.sip.framing import Keepalive
from nomad.transport.websocket import MAX_FRAMES, WebSocketWire
from tests.harness.stream import CLOSE, PING, SHAKE, TEXT, frame

HOME = "https://phone.example"


class Browser:
    """The other side of a wire."""

    def __init__(
        self, wire: WebSocketWire, *, origin: str | None = HOME, subprotocols: tuple[str, ...] = ("sip",)
    ) -> None:
        self.wire = wire
        self.protocol = ClientProtocol(
            parse_uri("ws://edge.example/"),
            origin=None if origin is None else Origin(origin),
            subprotocols=[Subprotocol(each) for each in subprotocols] or None,
        )

    def shake(self) -> Response:
        self.protocol.send_request(self.protocol.connect())
        self.flush()
        event = self.protocol.events_received()[0]
        assert isinstance(event, Response)
        return event

    def flush(self) -> list[bytes | Keepalive]:
        items = self.wire.feed(b"".join(self.protocol.data_to_send()))
        if output := self.wire.take_output():
            self.protocol.receive_data(output)
        return items

    def state(self) -> tuple[bool, bool, bool]:
        return self.wire.ready, self.wire.in_message, self.wire.finished

    def frames(self) -> list[Frame]:
        return [event for event in self.protocol.events_received() if isinstance(event, Frame)]


@pytest.fixture
def browser() -> Browser:
    made = Browser(WebSocketWire([HOME]))
    assert made.shake().status_code == 101
    return made


def test_the_handshake_takes_the_subprotocol() -> None:
    browser = Browser(WebSocketWire([HOME]), subprotocols=("chat", "sip"))
    assert browser.state() == (False, False, False)
    response = browser.shake()
    assert response.status_code == 101
    assert response.headers["Sec-WebSocket-Protocol"] == "sip"
    assert browser.state() == (True, False, False)


@pytest.mark.parametrize("subprotocols", [(), ("chat",)])
def test_without_the_subprotocol_it_is_refused(subprotocols: tuple[str, ...]) -> None:
    browser = Browser(WebSocketWire([HOME]), subprotocols=subprotocols)
    assert browser.shake().status_code == 400
    assert browser.wire.failed is not None
    assert browser.wire.finished
    assert not browser.wire.ready
    assert browser.wire.feed(b"more") == []


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        ([HOME], "https://evil.example", 403),
        ([HOME], "https://phone.example.evil.example", 403),
        ([], HOME, 403),
        ([HOME], None, 101),  # no browser
        (["*"], "https://evil.example", 101),
    ],
)
def test_which_pages_may_connect(origins: list[str], origin: str | None, status: int) -> None:
    assert Browser(WebSocketWire(origins), origin=origin).shake().status_code == status


@pytest.mark.parametrize("data", [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"OPTIONS sip:x SIP/2.0\r\n\r\n"])
def test_what_is_no_websocket_client(data: bytes) -> None:
    wire = WebSocketWire([HOME])
    wire.feed(data)
    assert wire.failed is not None
    assert wire.failed.reason == "websocket-handshake"
    assert not wire.ready


def test_an_endless_handshake_is_cut() -> None:
    wire = WebSocketWire([HOME])
    wire.feed(b"GET / HTTP/1.1\r\n")
    for _ in range(300):
        wire.feed(b"X-Pad: " + b"a" * 1000 + b"\r\n")
    assert wire.failed is not None


def test_text_and_binary_messages(browser: Browser) -> None:
    browser.protocol.send_text(b"OPTIONS sip:x SIP/2.0\r\n\r\n")
    browser.protocol.send_binary(b"SIP/2.0 200 OK\r\n\r\n\xff")
    assert browser.flush() == [b"OPTIONS sip:x SIP/2.0\r\n\r\n", b"SIP/2.0 200 OK\r\n\r\n\xff"]


def test_a_message_in_fragments_and_pieces(browser: Browser) -> None:
    browser.protocol.send_text(b"OPTIONS ", fin=False)
    browser.protocol.send_continuation(b"sip:x ", fin=False)
    browser.protocol.send_ping(b"between")
    browser.protocol.send_continuation(b"SIP/2.0", fin=True)
    data = b"".join(browser.protocol.data_to_send())
    items: list[bytes | Keepalive] = []
    for byte in data[:-1]:
        items += browser.wire.feed(bytes([byte]))
        assert items == []
    assert browser.state() == (True, True, False)
    assert browser.wire.feed(data[-1:]) == [b"OPTIONS sip:x SIP/2.0"]
    assert browser.state() == (True, False, False)
    browser.protocol.receive_data(browser.wire.take_output())
    assert [frame.opcode for frame in browser.frames()] == [Opcode.PONG]


@pytest.mark.parametrize("length", [0, 125, 126, 65_000])
def test_a_frame_is_on_its_way_from_its_first_byte_to_its_last(browser: Browser, length: int) -> None:
    """Also while its head was taken and nothing waits: `message_s` runs."""
    for _ in range(2):
        browser.protocol.send_text(b"x" * length)
        data = b"".join(browser.protocol.data_to_send())
        for byte in data[:-1]:
            browser.wire.feed(bytes([byte]))
            assert browser.state() == (True, True, False)
        browser.wire.feed(data[-1:])
        assert browser.state() == (True, False, False)


@pytest.mark.parametrize(
    ("data", "item"), [(b"\r\n\r\n", Keepalive.PING), (b"\r\n", Keepalive.PONG), (b"", Keepalive.PONG)]
)
def test_keepalives(browser: Browser, data: bytes, item: Keepalive) -> None:
    browser.protocol.send_text(data)
    assert browser.flush() == [item]


@pytest.mark.parametrize(
    ("data", "opcode"),
    [(b"plain", Opcode.TEXT), ("été".encode(), Opcode.TEXT), (b"\xff\xfe", Opcode.BINARY)],
)
def test_what_we_send(browser: Browser, data: bytes, opcode: Opcode) -> None:
    browser.protocol.receive_data(browser.wire.wrap(data))
    (frame,) = browser.frames()
    assert (frame.opcode, bytes(frame.data), frame.fin) == (opcode, data, True)


def test_a_close_is_answered(browser: Browser) -> None:
    browser.protocol.send_text(b"last")
    browser.protocol.send_close(1000)
    assert browser.flush() == [b"last"]
    assert browser.wire.finished
    assert browser.wire.failed is None
    assert browser.protocol.close_rcvd is not None
    assert browser.protocol.state is not State.OPEN


def test_too_big_a_message_ends_it(browser: Browser) -> None:
    browser.protocol.send_text(b"x" * 70_000)
    assert browser.flush() == []
    assert browser.wire.failed is not None
    assert browser.protocol.close_rcvd is not None
    assert browser.protocol.close_rcvd.code == 1009


def test_too_many_fragments_end_it(browser: Browser) -> None:
    browser.protocol.send_text(b"x", fin=False)
    for _ in range(MAX_FRAMES + 1):
        browser.protocol.send_continuation(b"x", fin=False)
    assert browser.flush() == []
    assert browser.wire.failed is not None


def test_an_unmasked_frame_ends_it_after_the_messages_before(browser: Browser) -> None:
    browser.protocol.send_text(b"good")
    good = b"".join(browser.protocol.data_to_send())
    assert browser.wire.feed(good + b"\x81\x01x") == [b"good"]
    assert browser.wire.failed is not None
    assert browser.wire.failed.reason == "websocket"


@pytest.mark.parametrize("first", ["GET / HTTP/1.1", "POST / HTTP/1.1", "GET / HTTP/1.0"])
@pytest.mark.parametrize("origin", [HOME, "https://evil.example"])
@pytest.mark.parametrize(
    "more",
    [
        b"no frame",
        frame(CLOSE, b"\x03\xe8"),
        frame(PING, b"x"),
        frame(TEXT, b"OPTIONS sip:x SIP/2.0"),
        frame(TEXT, b"unmasked", masked=False),
        frame(TEXT, b"x" * 70_000),
    ],
    ids=["none", "close", "ping", "text", "unmasked", "oversize"],
)
def test_who_does_not_wait_for_the_handshake(first: str, origin: str, more: bytes) -> None:
    """RFC 6455 4.1: nothing may come before the answer. What does breaks nothing, and after a refusal is not heard."""
    shake = SHAKE.replace("GET / HTTP/1.1", first) + f"Sec-WebSocket-Protocol: sip\r\nOrigin: {origin}\r\n\r\n"
    wire = WebSocketWire([HOME])
    items = wire.feed(shake.encode() + more)
    good = (
        first == "GET / HTTP/1.1"
        and origin == HOME
        and more[:1] in (b"\x89", b"\x81")
        and b" 101 " in wire.take_output()
    )
    assert wire.ready is good
    assert (wire.failed is not None or wire.finished) is not good
    assert items == ([b"OPTIONS sip:x SIP/2.0"] if good and more[:1] == b"\x81" else [])
    assert wire.feed(b"more") == []
