"""What peers may try on every transport, against the real process: an answer or the end of the connection, one count by
reason, one log line, and everything else goes on. Whatever it is, the log has no traceback (`Edge.stop`).
"""

from __future__ import annotations

import resource
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from tests.harness.people import ALICE, DOMAIN
from tests.harness.pki import Pki
from tests.harness.ports import HOST, free_port
from tests.harness.processes import wait_until
from tests.harness.secure import SecureEdge
from tests.harness.stream import BINARY, CLOSE, CONTINUATION, PING, SHAKE, TEXT, Stream, frame
from tests.harness.wire import Wire, new_branch, new_call_id
from tests.interop.conftest import NewFolder

PER_ADDRESS = 6
FIRST_S, MESSAGE_S, IDLE_S, HANDSHAKE_S = 1.0, 0.5, 1.5, 0.6
LIMITS = [
    f"max_connections_per_address = {PER_ADDRESS}",
    "max_connections = 16",
    f"first_message_s = {FIRST_S}",
    f"message_s = {MESSAGE_S}",
    f"idle_s = {IDLE_S}",
    f"handshake_s = {HANDSHAKE_S}",
]
STREAMS = ("tcp", "tls", "wss")
Dial = Callable[..., Stream]


@pytest.fixture(scope="module")
def edge(new_folder: NewFolder, pki: Pki) -> Iterator[SecureEdge]:
    """An edge on every transport that is short of patience."""
    server = SecureEdge(new_folder("edge-hostile"), pbx=f"sip:{HOST}:{free_port()}", pki=pki, sip=LIMITS)
    yield server
    server.stop()


@pytest.fixture
def dial(edge: SecureEdge, pki: Pki) -> Iterator[Dial]:
    """Opens connections, which are closed after the test."""
    made: list[Stream] = []
    trust = ssl.create_default_context(cafile=str(pki.ca))

    def open_one(transport: str, *, source: str = HOST, shake: bool = True) -> Stream:
        made.append(Stream(edge, transport, trust=trust, source=source, shake=shake))
        return made[-1]

    yield open_one
    for stream in made:
        stream.socket.close()
    wait_until(lambda: not edge.metric("nomad_sip_connections"), timeout_s=5, what="connections closed")


class Watch:
    """Counts and log lines of one reason, since it was made."""

    def __init__(self, edge: SecureEdge, reason: str, *, family: str = "malformed") -> None:
        self._edge = edge
        self._name = f"nomad_sip_{family}_total"
        self._reason = reason
        self._counted = edge.metric(self._name, reason=reason)
        self._logged = self._lines()

    def saw(self, count: int = 1) -> None:
        """Both are so many more, and nothing is wrong with the log."""
        wait_until(
            lambda: self._edge.metric(self._name, reason=self._reason) >= self._counted + count,
            timeout_s=5,
            what=f"{count} counted as {self._reason}",
        )
        assert self._edge.metric(self._name, reason=self._reason) == self._counted + count
        assert self._lines() == self._logged + count
        self._edge.check_log()

    def _lines(self) -> int:
        return sum(f"reason={self._reason} " in f"{line} " for line in self._edge.log().splitlines())


def options(transport: str, *headers: str, body: str = "", length: str = "") -> str:
    """A whole OPTIONS request."""
    lines = [f"OPTIONS sip:{DOMAIN} SIP/2.0", f"Via: SIP/2.0/{transport.upper()} {HOST};branch={new_branch()};rport"]
    lines += ["Max-Forwards: 70", f"From: <sip:alice@{DOMAIN}>;tag={secrets.token_hex(4)}", f"To: <sip:{DOMAIN}>"]
    lines += [f"Call-ID: {new_call_id()}", "CSeq: 1 OPTIONS", *headers]
    return "\r\n".join([*lines, f"Content-Length: {length or len(body)}", "", body])


def serves(stream: Stream) -> None:
    stream.send(options(stream.transport))
    assert b"SIP/2.0 200 " in stream.answer()


# -- size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", STREAMS)
@pytest.mark.parametrize(
    "headers",
    [
        ["X-Long: " + "x" * 40_000],
        [f"X-{number}: {'y' * 60}" for number in range(1000)],  # 64 KB
        ["Via: SIP/2.0/UDP 192.0.2.1"] * 2_000,
    ],
    ids=["one line", "64 KB", "2,000 Vias"],
)
def test_heads_that_are_too_large(edge: SecureEdge, dial: Dial, transport: str, headers: list[str]) -> None:
    request = options(transport, *headers)
    no_message = transport == "wss" and len(request) > 65_535  # a frame larger than any message may be
    watch, stream = Watch(edge, "websocket" if no_message else "too-large"), dial(transport)
    stream.send(request)
    if no_message:
        ended = stream.ends()
        assert ended is not None
        assert ended[:1] == bytes([0x80 | CLOSE])
        assert struct.unpack("!H", ended[2:4])[0] == 1009
        watch.saw()
        return
    answer = stream.answer()
    assert b"SIP/2.0 513 " in answer
    assert answer.count(b"Via:") <= 70
    watch.saw()
    if transport != "wss":  # there a frame says where the next message begins
        assert stream.ends() is not None


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_ten_thousand_vias(edge: SecureEdge, dial: Dial, transport: str) -> None:
    watch, stream = Watch(edge, "too-large"), dial(transport)
    try:
        stream.send(options(transport, *["Via: SIP/2.0/UDP 192.0.2.1"] * 10_000))
    except OSError:
        pass  # closed in the middle of it
    ended = stream.ends()
    assert ended is not None
    if transport == "tcp":  # over TLS the end may overtake the answer
        assert b"SIP/2.0 513 " in ended
    watch.saw()


def test_large_datagrams(edge: SecureEdge) -> None:
    watch = Watch(edge, "too-large")
    with Wire(edge.sip, ALICE) as wire:
        for headers in (["X-Long: " + "x" * 40_000], ["Via: SIP/2.0/UDP 192.0.2.1"] * 2_000):
            wire.send(options("udp", *headers))
            answer = wire.receive()
            assert answer is not None
            assert answer.status == 513
            assert len(answer.all("Via")) <= 70
    watch.saw(2)


# -- lengths and pieces --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "tls"])
@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "99999999999999999999", "0\r\nContent-Length: 5", "4,4"])
def test_lengths_that_are_none(edge: SecureEdge, dial: Dial, transport: str, length: str) -> None:
    watch, stream = Watch(edge, "content-length"), dial(transport)
    stream.send(options(transport, length=length))
    ended = stream.ends()
    assert ended is not None
    if transport == "tcp":
        assert b"SIP/2.0 400 " in ended
    watch.saw()


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_a_length_that_is_too_short_or_too_long(edge: SecureEdge, dial: Dial, transport: str) -> None:
    watch, stream = Watch(edge, "start-line"), dial(transport)
    stream.send(options(transport, body="\0\0v=0\r\n", length="1"))
    ended = stream.ends()  # the first is whole; what follows is nothing
    assert ended is not None
    assert b"SIP/2.0 200 " in ended
    watch.saw()
    watch, stream = Watch(edge, "message-timeout", family="dropped"), dial(transport)
    serves(stream)
    stream.send(options(transport, length="5000"))
    assert stream.ends() is not None
    watch.saw()


@pytest.mark.parametrize("transport", STREAMS)
def test_two_messages_in_a_segment(dial: Dial, transport: str) -> None:
    stream = dial(transport)
    both = [options(transport).encode() for _ in range(2)]
    stream.raw(b"".join(frame(TEXT, each) for each in both) if transport == "wss" else b"".join(both))
    assert [b"SIP/2.0 200 " in stream.answer() for _ in range(2)] == [True, True]


@pytest.mark.parametrize("transport", STREAMS)
def test_one_message_in_500_segments(dial: Dial, transport: str) -> None:
    stream = dial(transport)
    data = options(transport, f"X-Pad: {'x' * 300}").encode()
    data = frame(TEXT, data) if transport == "wss" else data
    cut = len(data) // 500 + 1
    for start in range(0, len(data), cut):
        stream.raw(data[start : start + cut])
    assert b"SIP/2.0 200 " in stream.answer()


@pytest.mark.parametrize("transport", ["tcp", "tls"])
@pytest.mark.parametrize(
    "garbage", [b"\0" * 500, b"\x16\x03\x01" * 50, b"GET / HTTP/1.1\r\n\r\n", b"\r\nX", b" \r\n\r\n"]
)
def test_bytes_that_are_no_message(edge: SecureEdge, dial: Dial, transport: str, garbage: bytes) -> None:
    before = edge.metric("nomad_sip_malformed_total")
    stream = dial(transport)
    stream.raw(garbage + b"\r\n\r\n")
    assert stream.ends() is not None
    assert edge.metric("nomad_sip_malformed_total") == before + 1


@pytest.mark.parametrize("place", ["From", "Subject", "Call-ID", "Via"])
def test_nul_bytes_within(edge: SecureEdge, dial: Dial, place: str) -> None:
    """Nobody is hurt by them; where they matter the request is refused."""
    for transport in STREAMS:
        stream = dial(transport)
        text = options(transport, "Subject: x").replace(f"{place}: ", f"{place}: \0", 1)
        stream.send(text)
        answer = stream.until(b"\r\n\r\n") if place != "Via" else b""  # without a Via nobody can be answered
        assert place == "Via" or b"SIP/2.0 200 " in answer or b"SIP/2.0 400 " in answer
        serves(stream)
    edge.check_log()


# -- slowness ------------------------------------------------------------------------------------------------------


def test_slow_senders_are_dropped_on_every_stream(edge: SecureEdge, dial: Dial) -> None:
    watch = Watch(edge, "first-message-timeout", family="dropped")
    slow = {dial(transport): options(transport).encode() for transport in ("tcp", "tls")}
    slow[dial("wss")] = frame(TEXT, options("wss").encode())
    slow[dial("wss", shake=False)] = SHAKE.encode()
    silent, sending, place = dial("tcp"), set(slow), 0
    began = time.monotonic()
    while sending and time.monotonic() - began < FIRST_S + 3:
        for stream in list(sending):
            try:
                stream.raw(slow[stream][place : place + 1])
            except OSError:
                sending.discard(stream)
        place += 1
        time.sleep(0.05)
    assert not sending
    assert all(stream.ends() is not None for stream in (*slow, silent))
    watch.saw(5)


def test_slow_senders_are_dropped_in_the_middle_of_later_messages_too(edge: SecureEdge, dial: Dial) -> None:
    """A first message that was good buys no patience for the next; pings between pieces buy none either."""
    watch = Watch(edge, "message-timeout", family="dropped")
    slow = {dial(transport): options(transport).encode() for transport in ("tcp", "tls")}
    slow[dial("wss")] = frame(TEXT, options("wss").encode())
    slow[dial("wss")] = frame(TEXT, b"O", last=False) + frame(PING, b"") * 500
    sending, place = set(slow), 0
    for stream in slow:
        serves(stream)
    began = time.monotonic()
    while sending and time.monotonic() - began < 8:
        for stream in list(sending):
            try:
                stream.raw(slow[stream][place : place + 1])
            except OSError:
                sending.discard(stream)
        place += 1
        time.sleep(0.05)
    assert not sending
    assert all(stream.ends() is not None for stream in slow)
    watch.saw(4)


def test_a_handshake_that_is_not_made(edge: SecureEdge, dial: Dial) -> None:
    watch = Watch(edge, "tls-handshake", family="dropped")
    with socket.create_connection((HOST, edge.tls_port), 5) as silent:
        silent.settimeout(5)
        assert silent.recv(100) == b""
    watch.saw()


@pytest.mark.parametrize("transport", STREAMS)
def test_idle_connections_are_closed(edge: SecureEdge, dial: Dial, transport: str) -> None:
    watch, stream = Watch(edge, "idle-timeout", family="dropped"), dial(transport)
    serves(stream)
    assert stream.ends() is not None
    watch.saw()


@pytest.mark.parametrize("transport", STREAMS)
def test_a_peer_that_does_not_read(edge: SecureEdge, dial: Dial, transport: str) -> None:
    watch, stream = Watch(edge, "not-reading", family="dropped"), dial(transport)
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    request = options(transport, f"Via: SIP/2.0/UDP {HOST};x={'y' * 20_000}")
    stream.socket.settimeout(5)
    try:
        for _ in range(2000):
            stream.send(request.replace("Call-ID: ", f"Call-ID: {secrets.token_hex(4)}").replace("z9hG4bK", "z9hG4bKx"))
    except OSError:
        pass
    watch.saw()


# -- numbers -------------------------------------------------------------------------------------------------------


def test_connections_of_one_address_and_of_all(edge: SecureEdge, dial: Dial) -> None:
    watch = Watch(edge, "too-many", family="dropped")
    first = [dial("tcp") for _ in range(PER_ADDRESS)]
    assert dial("tcp").ends() is not None
    watch.saw()
    others = [dial("tcp", source=f"127.0.0.{20 + number // PER_ADDRESS}") for number in range(16 - PER_ADDRESS)]
    assert dial("tcp", source="127.0.0.30").ends() is not None
    watch.saw(2)
    for stream in (first[0], others[0]):
        serves(stream)


# -- WebSocket -----------------------------------------------------------------------------------------------------


def test_fragments_and_pings_and_binary_frames(dial: Dial) -> None:
    stream = dial("wss")
    data = options("wss").encode()
    stream.raw(frame(TEXT, data[:50], last=False) + frame(PING, b"here?") + frame(CONTINUATION, data[50:]))
    assert stream.until(b"here?")[-7:-5] == b"\x8a\x05"  # the pong comes between
    assert b"SIP/2.0 200 " in stream.answer()
    stream.raw(frame(BINARY, options("wss").encode()))
    assert b"SIP/2.0 200 " in stream.answer()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"x" * 70_000), 1009),
        (frame(TEXT, b"OPTIONS", masked=False), 1002),
        (frame(0x3, b"reserved"), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(PING, b"x", last=False), 1002),
        (frame(CONTINUATION, b"of nothing"), 1002),
        (frame(TEXT, b"one", last=False) + frame(TEXT, b"two"), 1002),
        (frame(TEXT, b"x", last=False) + frame(CONTINUATION, b"x", last=False) * 300, 1009),
    ],
    ids=["oversize", "unmasked", "opcode", "long ping", "split ping", "continuation", "interleaved", "fragments"],
)
def test_what_breaks_a_websocket(edge: SecureEdge, dial: Dial, data: bytes, code: int) -> None:
    watch, stream = Watch(edge, "websocket"), dial("wss")
    stream.raw(data)
    ended = stream.ends()
    assert ended is not None
    assert ended[:1] == bytes([0x80 | CLOSE])
    assert struct.unpack("!H", ended[2:4])[0] == code
    watch.saw()


def test_a_close_is_answered(edge: SecureEdge, dial: Dial) -> None:
    stream = dial("wss")
    stream.raw(frame(CLOSE, struct.pack("!H", 1000)))
    ended = stream.ends()
    assert ended is not None
    assert ended[:4] == bytes([0x80 | CLOSE, 2]) + struct.pack("!H", 1000)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"{SHAKE}\r\n", b"400"),  # no subprotocol
        (f"{SHAKE}Sec-WebSocket-Protocol: chat\r\n\r\n", b"400"),
        (f"{SHAKE}Sec-WebSocket-Protocol: sip\r\nOrigin: https://evil.example\r\n\r\n", b"403"),
        (SHAKE.replace("Version: 13", "Version: 8") + "Sec-WebSocket-Protocol: sip\r\n\r\n", b"400"),
        ("POST / HTTP/1.1\r\n\r\n", b""),
    ],
)
def test_handshakes_that_are_refused(edge: SecureEdge, dial: Dial, head: str, status: bytes) -> None:
    watch, stream = Watch(edge, "websocket-handshake"), dial("wss", shake=False)
    stream.raw(head.encode())
    ended = stream.ends()
    assert ended is not None
    assert ended.startswith(b"HTTP/1.1 " + status)
    watch.saw()


@pytest.mark.parametrize("head", ["POST / HTTP/1.1", "GET / HTTP/1.0", "GET / HTTP/1.1"])
def test_handshakes_whose_answer_is_not_waited_for(edge: SecureEdge, dial: Dial, head: str) -> None:
    counted = edge.metric("nomad_sip_malformed_total")
    stream = dial("wss", shake=False)
    shake = SHAKE.replace("GET / HTTP/1.1", head) + "Sec-WebSocket-Protocol: sip\r\n\r\n"
    stream.raw(shake.encode() + b"no frame")
    assert stream.ends() is not None
    wait_until(lambda: edge.metric("nomad_sip_malformed_total") == counted + 1, timeout_s=5, what="a refusal")
    edge.check_log()


# -- overload ------------------------------------------------------------------------------------------------------


def test_a_flood_is_refused_and_health_checks_pass(new_folder: NewFolder) -> None:
    limit, flood = 500, 5000
    lines = [f"max_transactions = {limit}"]
    edge = SecureEdge(new_folder("edge-flood"), pbx=f"sip:{HOST}:{free_port()}", sip=lines)
    try:
        before = edge.metric("process_resident_memory_bytes")
        with Wire(edge.sip, ALICE) as wire, Wire(edge.sip) as health:
            assert wire.register().status == 200
            statuses: dict[int, int] = {}
            for number in range(flood):
                wire.send(wire.compose("REGISTER", f"sip:{DOMAIN}", to=wire.address))
                if number % 500 == 499:
                    assert health.ask(health.compose("OPTIONS", f"sip:{DOMAIN}")).status == 200
                while (answer := wire.receive(0.0005)) is not None:
                    statuses[answer.status] = statuses.get(answer.status, 0) + 1
                    assert answer.status != 503 or answer.get("Retry-After") == "10"
            while (answer := wire.receive(0.3)) is not None:
                statuses[answer.status] = statuses.get(answer.status, 0) + 1
        assert set(statuses) == {401, 503}
        assert limit - 10 <= statuses[401] <= limit
        assert edge.metric("nomad_sip_dropped_total", reason="overload") == statuses[503]
        assert 1 <= edge.log().count("reason=overload") < statuses[503] / 5  # a flood does not fill the disk
        grown = edge.metric("process_resident_memory_bytes") - before
        assert grown < 40 * resource.getpagesize() * 256  # 40 MB
        edge.check_log()
    finally:
        edge.kill9()  # its transactions would hold up a stop in good order
