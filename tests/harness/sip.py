"""For tests of the SIP core: messages that are short to ask for, parsed from real bytes, and a stack on a bench."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nomad.sip.build import response_to
from nomad.sip.events import ClientKey, Flow, ResponseArrived
from nomad.sip.message import Request, Response, parse_message
from nomad.sip.stack import Stack
from nomad.sip.transaction import server_key
from tests.harness.clock import FakeClock

HERE = ("192.0.2.1", 5060)
THERE = ("198.51.100.7", 5060)
UDP = Flow("udp", HERE, THERE)
TCP = Flow("tcp", HERE, THERE, 1)


def make_request(
    method: str = "OPTIONS",
    *,
    branch: str = "z9hG4bK-1",
    uri: str = "sip:bob@example.com",
    sent_by: str = "198.51.100.7:5060",
    transport: str = "UDP",
    call_id: str = "call-1",
    cseq: int = 1,
    cseq_method: str = "",
    to_tag: str = "",
    headers: Iterable[str] = (),
) -> Request:
    """A request as it comes from the wire."""
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/{transport} {sent_by};branch={branch}",
        "Max-Forwards: 70",
        "From: <sip:alice@example.com>;tag=from-1",
        "To: <sip:bob@example.com>" + (f";tag={to_tag}" if to_tag else ""),
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {cseq_method or method}",
        *headers,
    ]
    message = parse_message(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert isinstance(message, Request)
    return message


def make_response(
    request: Request, status: int, *, tag: str = "to-1", headers: Iterable[tuple[str, str]] = ()
) -> Response:
    """A response as it comes from the wire."""
    message = parse_message(response_to(request, status, to_tag=tag, headers=headers).encode())
    assert isinstance(message, Response)
    return message


class Bench:
    """One transaction of a stack, the clock, and what came out."""

    def __init__(self, method: str = "OPTIONS", *, flow: Flow = UDP, limit: int = 100) -> None:
        self.clock = FakeClock(0.0)
        self.stack = Stack(limit=limit)
        self.flow = flow
        self.request = make_request(method)
        self.server = server_key(self.request)
        self.client = ClientKey(self.request.via.branch, method)

    @property
    def now(self) -> float:
        return self.clock.now

    def receive(self, message: Request | Response) -> None:
        self.stack.receive(message, self.flow, self.now)

    def respond(self, status: int) -> None:
        self.stack.respond(self.server, make_response(self.request, status), self.now)

    def answer(self, status: int) -> None:
        """The peer's response to our request."""
        self.receive(make_response(self.request, status))

    def send(self) -> None:
        self.stack.request(self.request, self.flow, self.now)

    def sends(self) -> str:
        """What was sent, in words: methods and statuses."""
        words = []
        for data, flow in self.stack.take_sends():
            message = parse_message(data)
            assert flow == self.flow
            words.append(message.method if isinstance(message, Request) else str(message.status))
        return " ".join(words)

    def events(self) -> str:
        """What happened, in words."""
        words = []
        for event in self.stack.take_events():
            name = type(event).__name__
            words.append(f"{name}:{event.response.status}" if isinstance(event, ResponseArrived) else name)
        return " ".join(words)

    def output(self) -> str:
        return f"{self.sends()} | {self.events()}"

    def run(self, seconds: float) -> None:
        self.clock.run(seconds, self.stack)

    def state(self) -> str:
        transaction = self.stack._server.get(self.server) or self.stack._client.get(self.client)
        return transaction.state.name.lower() if transaction else "terminated"


Step = Callable[[Bench], None]


def ack(bench: Bench) -> None:
    bench.receive(make_request("ACK", cseq_method="ACK", to_tag="to-1"))


def server_in(method: str, flow: Flow, *steps: Step) -> Bench:
    bench = Bench(method, flow=flow)
    bench.receive(bench.request)
    for step in steps:
        step(bench)
    bench.output()
    return bench


def client_in(method: str, flow: Flow, *steps: Step) -> Bench:
    bench = Bench(method, flow=flow)
    bench.send()
    for step in steps:
        step(bench)
    bench.output()
    return bench
