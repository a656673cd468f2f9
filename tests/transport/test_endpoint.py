"""The endpoint over real sockets: what comes in, what goes out, what goes wrong."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable

import pytest

from nomad import tasks
from nomad.clock import Clock
from nomad.ports import Target, Unavailable
from nomad.sip.build import response_to
from nomad.sip.events import (
    AckArrived,
    BranchFailed,
    BranchTimedOut,
    CancelArrived,
    Event,
    Flow,
    FlowClosed,
    RequestArrived,
    ResponseArrived,
    StrayResponse,
)
from nomad.sip.message import Request, Response, parse_message
from nomad.sip.stack import Stack
from nomad.sip.timers import Timers
from nomad.transport import keepalives
from nomad.transport.connection import StreamLimits
from nomad.transport.endpoint import Endpoint, source_address
from nomad.transport.stun import MAGIC
from nomad.transport.tls import ClientTls, ServerTls
from tests.harness.pki import Pki
from tests.transport.conftest import Gate


def request(
    method: str = "OPTIONS", *, branch: str = "z9hG4bK1", via: str = "UDP 10.9.9.9;rport", extra: str = ""
) -> bytes:
    return (
        f"{method} sip:edge@inria.example SIP/2.0\r\nVia: SIP/2.0/{via};branch={branch}\r\nMax-Forwards: 70\r\n"
        f"From: <sip:a@inria.example>;tag=1\r\nTo: <sip:b@inria.example>\r\nCall-ID: c1\r\nCSeq: 1 {method}\r\n"
        f"{extra}Content-Length: 0\r\n\r\n"
    ).encode()


class Handler:
    """Keeps every event; answers requests with `answer` unless that is 0."""

    def __init__(self) -> None:
        self.endpoint: Endpoint | None = None
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.bad: list[tuple[str, str]] = []
        self.answer = 200
        self.error: Exception | None = None

    def handle(self, event: Event) -> None:
        self.events.put_nowait(event)
        if self.error is not None:
            raise self.error
        if isinstance(event, RequestArrived) and self.answer:
            assert self.endpoint is not None
            self.endpoint.respond(event.key, response_to(event.request, self.answer, to_tag="edge"))

    def malformed(self, flow: Flow, reason: str, text: str) -> None:
        self.bad.append((reason, text))
        if self.error is not None:
            raise self.error

    async def next(self) -> Event:
        return await asyncio.wait_for(self.events.get(), 3)


class Phone:
    """A peer with a UDP socket."""

    def __init__(self, address: tuple[str, int], *, family: socket.AddressFamily = socket.AF_INET) -> None:
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.settimeout(3)
        self._socket.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        self._edge = address
        self.address: tuple[str, int] = self._socket.getsockname()[:2]

    def send(self, data: bytes) -> None:
        self._socket.sendto(data, self._edge)

    async def receive(self) -> bytes:
        return await asyncio.to_thread(self._socket.recv, 65535)

    async def message(self) -> Request | Response:
        return parse_message(await self.receive())

    def close(self) -> None:
        self._socket.close()


class Edge:
    def __init__(
        self, gate: Gate, *, timers: Timers | None = None, limits: StreamLimits | None = None, pki: Pki | None = None
    ) -> None:
        self.handler = Handler()
        tls = pki.issue("edge") if pki else None
        self.endpoint = Endpoint(
            self.handler,
            gate,
            Clock(),
            stack=Stack(timers or Timers()),
            limits=limits,
            server_tls=ServerTls(tls.certificate, tls.key) if tls else None,
            client_tls=ClientTls(pki.ca) if pki else None,
            origins=("https://phone.example",),
        )
        self.handler.endpoint = self.endpoint
        self.phones: list[Phone] = []

    async def phone(self, host: str = "127.0.0.1") -> Phone:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.phones.append(Phone(await self.endpoint.listen("udp", host, 0), family=family))
        return self.phones[-1]

    async def close(self) -> None:
        await self.endpoint.close()
        for phone in self.phones:
            phone.close()


MakeEdge = Callable[..., Edge]


@pytest.fixture
async def make(gate: Gate) -> AsyncIterator[MakeEdge]:
    made: list[Edge] = []

    def maker(**options: object) -> Edge:
        made.append(Edge(gate, **options))  # type: ignore[arg-type]  # passed on as they are
        return made[-1]

    yield maker
    for edge in made:
        await edge.close()
    assert await tasks.drain(1) == 0


@pytest.fixture
def edge(make: MakeEdge) -> Edge:
    return make()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> Response:
    writer.write(data)
    answer = parse_message(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 3))
    assert isinstance(answer, Response)
    return answer


# -- UDP -------------------------------------------------------------------------------------------------------------


async def test_a_request_is_answered_where_it_came_from(edge: Edge) -> None:
    phone = await edge.phone()
    phone.send(request())
    answer = await phone.message()
    assert isinstance(answer, Response)
    assert answer.status == 200
    assert answer.via.received == "127.0.0.1"
    assert answer.via.rport == phone.address[1]
    event = await edge.handler.next()
    assert isinstance(event, RequestArrived)
    assert event.flow.remote == phone.address
    assert edge.endpoint.counters.requests == {("OPTIONS", "udp"): 1}
    assert edge.endpoint.counters.responses == {("OPTIONS", 200): 1}
    assert edge.endpoint.listens == [f"udp:127.0.0.1:{event.flow.local[1]}"]


async def test_a_retransmission_is_answered_but_not_handled_again(edge: Edge) -> None:
    phone = await edge.phone()
    answers = []
    for _ in range(3):
        phone.send(request())
        answers.append(await phone.receive())
    assert len(set(answers)) == 1
    assert edge.handler.events.qsize() == 1
    assert edge.endpoint.counters.retransmissions == 2
    assert edge.endpoint.counters.requests == {("OPTIONS", "udp"): 1}


async def test_over_ipv6(edge: Edge) -> None:
    phone = await edge.phone("::1")
    phone.send(request(via="UDP [2001:db8::9];rport"))
    answer = await phone.message()
    assert answer.via.received == "::1"
    assert edge.endpoint.listens[0].startswith("udp:[::1]:")


async def test_keepalives_are_answered(edge: Edge) -> None:
    phone = await edge.phone()
    for silent in (b"\r\n", b"\0", b"", b"  ", b"\r\n\0"):
        phone.send(silent)
    phone.send(b"\r\n\r\n")
    assert await phone.receive() == b"\r\n"
    phone.send(struct.pack("!HHI", 1, 0, MAGIC) + bytes(12))
    assert (await phone.receive())[:2] == b"\x01\x01"
    phone.send(struct.pack("!HHI", 0x0011, 0, MAGIC) + bytes(12))  # an indication
    phone.send(b"\r\n\r\n" + request())
    assert isinstance(await phone.message(), Response)
    assert edge.endpoint.counters.keepalives == {"crlf": 1, "stun": 1}
    assert edge.endpoint.counters.dropped == {"stun": 1}
    assert edge.handler.bad == []


async def test_a_flow_without_the_keepalives_that_were_promised_is_given_up(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepalives, "SWEEP_S", 0.01)
    endpoint, quiet, phone = edge.endpoint, await edge.phone(), await edge.phone()
    phone.send(request())
    arrived = await edge.handler.next()
    assert isinstance(arrived, RequestArrived)
    endpoint.expect_keepalives(arrived.flow, 3600.0)
    silent = arrived.flow._replace(remote=quiet.address)
    endpoint.expect_keepalives(silent, 0.0)
    assert await edge.handler.next() == FlowClosed(silent, "no keepalives")
    endpoint.expect_keepalives(arrived.flow, 0.2)
    phone.send(struct.pack("!HHI", 1, 0, MAGIC) + bytes(12))
    assert await edge.handler.next() == FlowClosed(arrived.flow, "no keepalives")
    assert endpoint.counters.keepalives == {"stun": 1, "missed": 2}


async def test_the_gate_keeps_datagrams_out(edge: Edge, gate: Gate) -> None:
    phone = await edge.phone()
    gate.refused.add("127.0.0.1")
    for data in (request(), b"\r\n\r\n", b"rubbish"):
        phone.send(data)
    other = await edge.phone("::1")
    other.send(request())
    await other.message()
    while edge.endpoint.counters.dropped.get("gate", 0) < 3:  # noqa: ASYNC110 - counted by another socket's reader
        await asyncio.sleep(0)
    assert edge.handler.events.qsize() == 1
    assert edge.handler.bad == []


# -- malformed -------------------------------------------------------------------------------------------------------


async def test_a_malformed_request_gets_400_and_the_reason(edge: Edge) -> None:
    phone = await edge.phone()
    phone.send(request(extra="CSeq: 2 OPTIONS\r\n"))
    first = await phone.message()
    assert isinstance(first, Response)
    assert first.status == 400
    assert first.reason == edge.handler.bad[0][1]
    assert first.via.rport == phone.address[1]
    assert first.to.tag
    phone.send(request(extra="CSeq: 2 OPTIONS\r\n"))
    assert (await phone.message()).to.tag == first.to.tag
    phone.send(request().replace(b"SIP/2.0\r\nVia", b"SIP/7.0\r\nVia"))
    version = await phone.message()
    assert isinstance(version, Response)
    assert version.status == 505
    assert len(edge.handler.bad) == 3
    assert sum(edge.endpoint.counters.malformed.values()) == 3
    assert edge.handler.events.empty()


@pytest.mark.parametrize(
    "data",
    [
        b"rubbish",
        b"\xff" * 1000,
        b"\x00\x01\x02\x03",
        b"OPTIONS sip:x SIP/2.0\r\n\r\n",
        request("ACK", extra="CSeq: 2 ACK\r\n"),
        request().replace(b"OPTIONS sip:edge@inria.example SIP/2.0", b"SIP/2.0 999999 Huh"),
        request().replace(b"Via: SIP/2.0/UDP 10.9.9.9", b"Via: nonsense"),
    ],
)
async def test_what_cannot_be_answered_is_dropped_and_counted(edge: Edge, data: bytes) -> None:
    phone = await edge.phone()
    phone.send(data)
    phone.send(request(branch="z9hG4bKnext"))
    answer = await phone.message()
    assert answer.via.branch == "z9hG4bKnext"
    assert len(edge.handler.bad) == 1
    assert edge.handler.events.qsize() == 1


async def test_a_failing_handler_gives_500_and_stops_nothing(
    edge: Edge, caplog: pytest.LogCaptureFixture, errors_expected: None
) -> None:
    phone = await edge.phone()
    edge.handler.error = RuntimeError("bug")
    phone.send(request())
    answer = await phone.message()
    assert isinstance(answer, Response)
    assert answer.status == 500
    phone.send(b"rubbish")
    phone.send(request("INFO", branch="z9hG4bK2"))
    await phone.message()
    edge.handler.error = None
    phone.send(request(branch="z9hG4bK3"))
    answer = await phone.message()
    assert isinstance(answer, Response)
    assert answer.status == 200
    assert [record.getMessage() for record in caplog.records] == [
        "handler failed on RequestArrived",
        "handler failed on a malformed message",
        "handler failed on RequestArrived",
    ]


async def test_a_bug_of_ours_is_logged_and_stops_nothing(
    edge: Edge, caplog: pytest.LogCaptureFixture, errors_expected: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = await edge.phone()
    with monkeypatch.context() as patched:
        patched.setattr("nomad.transport.endpoint.note_source", lambda *_: 1 // 0)
        phone.send(request())
        while not caplog.records:  # noqa: ASYNC110 - a log record is not an event
            await asyncio.sleep(0)
    phone.send(request())
    await phone.message()
    assert edge.endpoint.counters.malformed == {"internal": 1}


# -- connections -----------------------------------------------------------------------------------------------------


async def test_over_tcp_however_the_bytes_are_cut(edge: Edge) -> None:
    address = await edge.endpoint.listen("tcp", "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*address)
    two = request(via="TCP 127.0.0.1", branch="z9hG4bKa") + request(via="TCP 127.0.0.1", branch="z9hG4bKb")
    assert (await ask(reader, writer, two)).via.branch == "z9hG4bKa"
    assert (await ask(reader, writer, b"")).via.branch == "z9hG4bKb"
    for byte in request(via="TCP 127.0.0.1", branch="z9hG4bKc"):
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert (await ask(reader, writer, b"")).via.branch == "z9hG4bKc"
    events = [await edge.handler.next() for _ in range(3)]
    writer.close()
    closed = await edge.handler.next()
    assert isinstance(closed, FlowClosed)
    assert all(isinstance(event, RequestArrived) and event.flow == closed.flow for event in events)


async def test_a_malformed_message_on_a_connection_is_answered_and_the_next_one_read(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection(*await edge.endpoint.listen("tcp", "127.0.0.1", 0))
    assert (await ask(reader, writer, request(via="TCP 127.0.0.1", extra="CSeq: 2 INFO\r\n"))).status == 400
    assert (await ask(reader, writer, request(via="TCP 127.0.0.1"))).status == 200
    writer.write(b"\x00\x00\x00\x00")
    assert await asyncio.wait_for(reader.read(), 3) == b""
    assert len(edge.handler.bad) == 2
    writer.close()


async def test_the_gate_is_asked_for_each_message(edge: Edge, gate: Gate) -> None:
    reader, writer = await asyncio.open_connection(*await edge.endpoint.listen("tcp", "127.0.0.1", 0))
    await ask(reader, writer, request(via="TCP 127.0.0.1"))
    gate.refused.add("127.0.0.1")
    writer.write(request(via="TCP 127.0.0.1", branch="z9hG4bKbanned"))
    while edge.endpoint.counters.dropped != {"gate": 1}:  # noqa: ASYNC110 - a counter is not an event
        await asyncio.sleep(0)
    writer.close()


async def answered_late(edge: Edge, via: str) -> None:
    """A request over a connection that is closed before the answer."""
    edge.handler.answer = 0
    _, writer = await asyncio.open_connection(*await edge.endpoint.listen("tcp", "127.0.0.1", 0))
    writer.write(request("INVITE", via=via))
    arrived = await edge.handler.next()
    assert isinstance(arrived, RequestArrived)
    writer.close()
    assert isinstance(await edge.handler.next(), FlowClosed)
    edge.endpoint.respond(arrived.key, response_to(arrived.request, 486, to_tag="x"))


async def test_a_late_response_goes_where_the_via_says(edge: Edge) -> None:
    came: asyncio.Queue[bytes] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await answered_late(edge, f"TCP 127.0.0.1:{port}")
    assert (await asyncio.wait_for(came.get(), 3)).startswith(b"SIP/2.0 486 ")
    assert edge.endpoint.counters.dropped == {}
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("via", ["TCP 127.0.0.1:1", "TCP 10.9.9.9:5060", "TCP phone.example", "TCP 10.9.9.9;rport"])
async def test_a_late_response_that_reaches_nobody_is_counted(edge: Edge, via: str) -> None:
    await answered_late(edge, via)
    async with asyncio.timeout(3):
        while edge.endpoint.counters.dropped != {"flow-gone": 1}:  # noqa: ASYNC110 - a counter is not an event
            await asyncio.sleep(0)


@pytest.mark.parametrize("transport", ["ws", "wss"])
async def test_over_websocket(make: MakeEdge, pki: Pki, transport: str) -> None:
    from websockets.asyncio.client import connect

    edge = make(pki=pki)
    host, port = await edge.endpoint.listen(transport, "127.0.0.1", 0)
    async with connect(
        f"{transport}://{host}:{port}/",
        subprotocols=["sip"],  # type: ignore[list-item]  # a NewType
        origin="https://phone.example",  # type: ignore[arg-type]  # a NewType
        ssl=ClientTls(pki.ca).context(0.0) if transport == "wss" else None,
    ) as browser:
        await browser.send(request(via=f"{transport.upper()} df7jal23ls0d.invalid").decode())
        answer = await asyncio.wait_for(browser.recv(), 3)
        assert isinstance(answer, str)
        assert answer.startswith("SIP/2.0 200 OK")
        arrived = await edge.handler.next()
        assert isinstance(arrived, RequestArrived)
        assert arrived.flow.transport == transport
        assert arrived.request.via.received == "127.0.0.1"


async def test_over_tls(make: MakeEdge, pki: Pki) -> None:
    edge, other = make(pki=pki), make(pki=pki)
    address = await edge.endpoint.listen("tls", "127.0.0.1", 0)
    flow = await other.endpoint.connect(Target("tls", *address, "inria.example"))
    other.endpoint.request(parsed(request(via="TLS 127.0.0.1")), flow)
    answered = await other.handler.next()
    assert isinstance(answered, ResponseArrived)
    assert answered.response.status == 200


# -- what we send ----------------------------------------------------------------------------------------------------


def parsed(data: bytes) -> Request:
    message = parse_message(data)
    assert isinstance(message, Request)
    return message


async def test_a_request_of_ours_and_its_response(edge: Edge) -> None:
    phone = await edge.phone()
    flow = await edge.endpoint.connect(Target("udp", *phone.address))
    key = edge.endpoint.request(parsed(request("INVITE", branch="z9hG4bKours")), flow)
    invite = await phone.message()
    assert isinstance(invite, Request)
    phone.send(response_to(invite, 180, to_tag="p").encode())
    ringing = await edge.handler.next()
    assert isinstance(ringing, ResponseArrived)
    assert (ringing.key, ringing.response.status, ringing.flow) == (key, 180, flow)
    edge.endpoint.cancel(key, (("Reason", "SIP;cause=200"),))
    cancel = await phone.message()
    assert isinstance(cancel, Request)
    assert (cancel.method, cancel.get("reason")) == ("CANCEL", "SIP;cause=200")
    phone.send(response_to(invite, 487, to_tag="p").encode())
    assert isinstance(await edge.handler.next(), ResponseArrived)
    ack = await phone.message()
    assert isinstance(ack, Request)
    assert ack.method == "ACK"


async def test_requests_are_resent_and_time_out(make: MakeEdge) -> None:
    edge = make(timers=Timers(t1=0.005, t2=0.02, t4=0.02))
    phone = await edge.phone()
    flow = await edge.endpoint.connect(Target("udp", *phone.address))
    key = edge.endpoint.request(parsed(request(branch="z9hG4bKours")), flow)
    assert await phone.receive() == await phone.receive() == await phone.receive()
    timed_out = await edge.handler.next()
    assert timed_out == BranchTimedOut(key)


async def test_a_request_on_a_closed_flow_fails_after_the_call(edge: Edge) -> None:
    await edge.endpoint.listen("tcp", "127.0.0.1", 0)
    gone = Flow("tcp", ("127.0.0.1", 1), ("127.0.0.1", 2), 12345)
    key = edge.endpoint.request(parsed(request(via="TCP 127.0.0.1")), gone)
    assert edge.handler.events.empty()  # the caller does not know the key yet
    failed = await edge.handler.next()
    assert isinstance(failed, BranchFailed)
    assert failed.key == key


async def test_a_connection_that_breaks_fails_its_requests(edge: Edge, make: MakeEdge) -> None:
    other = make()
    other.handler.answer = 0
    flow = await edge.endpoint.connect(Target("tcp", *await other.endpoint.listen("tcp", "127.0.0.1", 0)))
    key = edge.endpoint.request(parsed(request(via="TCP 127.0.0.1")), flow)
    await other.handler.next()
    await other.endpoint.close()
    failed, closed = await edge.handler.next(), await edge.handler.next()
    if isinstance(failed, FlowClosed):
        failed, closed = closed, failed
    assert isinstance(failed, BranchFailed)
    assert failed.key == key
    assert isinstance(closed, FlowClosed)
    assert closed.flow == flow


async def test_a_request_from_within_a_handler(edge: Edge) -> None:
    phone = await edge.phone()
    flow = await edge.endpoint.connect(Target("udp", *phone.address))
    answer = edge.handler.handle

    def handle(event: Event) -> None:
        answer(event)
        if isinstance(event, RequestArrived):
            edge.endpoint.request(
                parsed(request("INFO", branch="z9hG4bKours")), Flow("tcp", flow.local, flow.remote, 9)
            )
            assert edge.handler.events.qsize() == 1

    edge.handler.handle = handle  # type: ignore[method-assign]  # wraps it
    phone.send(request())
    await phone.message()
    assert isinstance(await edge.handler.next(), RequestArrived)
    assert isinstance(await edge.handler.next(), BranchFailed)


async def test_ack_cancel_and_stray_responses_come_up(edge: Edge) -> None:
    edge.handler.answer = 0
    phone = await edge.phone()
    phone.send(request("INVITE"))
    arrived = await edge.handler.next()
    assert isinstance(arrived, RequestArrived)
    phone.send(request("CANCEL"))
    assert isinstance(await edge.handler.next(), CancelArrived)
    answer = await phone.message()
    assert isinstance(answer, Response)
    assert answer.status == 200
    phone.send(request("ACK", branch="z9hG4bKother"))
    assert isinstance(await edge.handler.next(), AckArrived)
    phone.send(response_to(arrived.request, 200, to_tag="x").encode())
    assert isinstance(await edge.handler.next(), StrayResponse)


async def test_forward_sends_without_a_transaction(edge: Edge) -> None:
    phone = await edge.phone()
    flow = await edge.endpoint.connect(Target("udp", *phone.address))
    edge.endpoint.forward(parsed(request("ACK")), flow)
    ack = await phone.message()
    assert isinstance(ack, Request)
    edge.endpoint.forward(response_to(parsed(request("INVITE")), 200, to_tag="x"), flow)
    assert isinstance(await phone.message(), Response)
    assert edge.endpoint.counters.responses == {("INVITE", 200): 1}
    edge.endpoint.forward(ack, Flow("udp", ("127.0.0.1", 1), phone.address))
    assert edge.endpoint.counters.dropped == {"flow-gone": 1}


async def test_which_socket_a_target_is_reached_from(edge: Edge) -> None:
    with pytest.raises(Unavailable, match="not listening"):
        await edge.endpoint.connect(Target("udp", "127.0.0.1", 5060))
    first = await edge.endpoint.listen("udp", "127.0.0.2", 0)
    second = await edge.endpoint.listen("udp", "127.0.0.1", 0)
    v6 = await edge.endpoint.listen("udp", "::1", 0)
    assert (await edge.endpoint.connect(Target("udp", "127.0.0.1", 5060))).local == second
    assert (await edge.endpoint.connect(Target("udp", "[::1]", 5060))).local == v6
    assert (await edge.endpoint.connect(Target("udp", "127.0.0.2", 5060))).local in (first, second)
    with pytest.raises(Unavailable, match="is not an address"):
        await edge.endpoint.connect(Target("udp", "pbx.example", 5060))


async def test_what_cannot_be_listened_on(edge: Edge, gate: Gate) -> None:
    with pytest.raises(Unavailable, match="certificate"):
        await edge.endpoint.listen("tls", "127.0.0.1", 0)
    with pytest.raises(Unavailable, match="not spoken"):
        await edge.endpoint.listen("sctp", "127.0.0.1", 0)
    with pytest.raises(Unavailable, match="nobody handles"):
        await Endpoint(None, gate, Clock()).listen("udp", "127.0.0.1", 0)


def test_the_source_address_is_the_kernels_choice() -> None:
    assert source_address("127.0.0.1", 5060) == "127.0.0.1"
    assert source_address("::1", 5060) == "::1"
    assert source_address("no address", 5060) == ""


async def test_a_late_answer_to_a_request_that_could_hardly_be_read(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection(*await edge.endpoint.listen("tcp", "127.0.0.1", 0))
    await ask(reader, writer, request("INVITE", via="TCP 127.0.0.1"))
    event = await edge.handler.next()
    assert isinstance(event, RequestArrived)
    writer.close()
    assert isinstance(await edge.handler.next(), FlowClosed)
    edge.endpoint._transmit(b"SIP/2.0 400 Bad\r\nVia: x\r\n\r\n", event.flow)
    assert edge.endpoint.counters.dropped == {"flow-gone": 1}


def test_without_file_descriptors_the_source_address_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", exhausted)
    assert source_address("127.0.0.1", 5060) == ""


async def test_a_cancel_of_nothing_is_counted_and_logged(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    phone = await edge.phone()
    phone.send(request("CANCEL"))
    answer = await phone.message()
    assert isinstance(answer, Response)
    assert answer.status == 481
    assert edge.endpoint.counters.responses == {("CANCEL", 481): 1}
    assert edge.endpoint.counters.dropped == {"cancel": 1}
    assert [record.fields["reason"] for record in caplog.records if hasattr(record, "fields")] == ["cancel"]
