"""STUN, WebSocket and the transaction stack on any input: no exception but `SipError`, and pieces do not matter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nomad.sip.build import response_to
from nomad.sip.errors import SipError
from nomad.sip.events import ClientKey, Flow, RequestArrived, ServerKey
from nomad.sip.framing import Keepalive
from nomad.sip.message import Request, parse_message
from nomad.sip.sdp import is_encrypted
from nomad.sip.stack import Stack
from nomad.transport import stun
from nomad.transport.source import note_source, reply_flow
from nomad.transport.websocket import WebSocketWire
from tests.fuzz.strategies import message, near
from tests.harness.stream import SHAKE, frame

PEER = ("192.0.2.7", 5060)
HEAD = b"\x00\x01\x00\x08\x21\x12\xa4\x42" + b"t" * 12
HELLO = f"{SHAKE}Sec-WebSocket-Protocol: sip\r\n\r\n".encode()

frames = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from([0, 1, 1, 2, 3, 8, 9, 10]),
            st.one_of(st.binary(max_size=140), near),
            st.booleans(),
            st.sampled_from([True, True, True, False]),
        ).map(lambda each: frame(each[0], each[1], last=each[2], masked=each[3])),
        st.binary(max_size=20),
    ),
    max_size=6,
).map(b"".join)


@given(st.one_of(st.binary(max_size=600), st.binary(max_size=60).map(lambda rest: HEAD + rest)))
def test_stun(data: bytes) -> None:
    for remote in (PEER, ("2001:db8::7", 5060)):
        answer = stun.answer(data, remote)
        assert answer is None or answer[:2] in (b"\x01\x01", b"\x01\x11")


def through(pieces: list[bytes]) -> tuple[list[bytes | Keepalive], bytes, str]:
    wire = WebSocketWire(["*"])
    items: list[bytes | Keepalive] = []
    output = b""
    for piece in pieces:
        items += wire.feed(piece)
        output += wire.take_output()
        if wire.failed is not None or wire.finished:
            break
    return items, output, wire.failed.reason if wire.failed else ""


@given(frames, st.integers(1, 40))
def test_websocket_pieces_do_not_matter(data: bytes, size: int) -> None:
    whole = through([HELLO, data])
    pieces = through([HELLO, *(data[at : at + size] for at in range(0, len(data), size))])
    assert pieces[0] == whole[0][: len(pieces[0])]
    assert bool(pieces[2]) == bool(whole[2])


@given(st.binary(max_size=300))
def test_websocket_handshake(data: bytes) -> None:
    through([data])
    through([HELLO[:-2] + data])


@given(st.binary(max_size=300))
def test_session_descriptions(data: bytes) -> None:
    assert is_encrypted(data) in (True, False)


Step = tuple[str, bytes, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["receive", "receive", "repeat", "respond", "request", "cancel", "break", "wait"]),
        st.one_of(near, message),
        st.integers(100, 699),
    ),
    max_size=12,
)


@given(steps, st.sampled_from(["udp", "tcp"]))
def test_the_stack_keeps_nothing_for_ever(script: list[Step], transport: str) -> None:
    flow = Flow(transport, ("192.0.2.1", 5060), PEER, 0 if transport == "udp" else 1)
    stack, now, seen = Stack(), 0.0, b""
    arrived: list[tuple[ServerKey, Request]] = []
    asked: list[ClientKey] = []
    for number, (what, data, status) in enumerate(script):
        now += 0.1
        if what in ("receive", "repeat"):
            seen = data if what == "receive" else seen
            try:
                parsed = parse_message(seen)
                if isinstance(parsed, Request):
                    note_source(parsed, flow.remote)
                    stack.receive(parsed, reply_flow(parsed, flow), now)
                else:
                    stack.receive(parsed, flow, now)
            except SipError:
                pass
        elif what == "respond" and arrived:
            try:
                stack.respond(arrived[-1][0], response_to(arrived[-1][1], status, to_tag="t"), now)
            except SipError:
                pass
        elif what == "request":
            request = parse_message(
                f"INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKours{number}\r\nFrom: <sip:a>;tag=1\r\n"
                f"To: <sip:b>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n".encode()
            )
            assert isinstance(request, Request)
            asked.append(stack.request(request, flow, now, patience_s=4.0 if status % 2 else None))
        elif what == "cancel" and asked:
            stack.cancel(asked[-1], now)
        elif what == "break":
            stack.flow_failed(flow, now, "gone")
        elif what == "wait":
            now += status / 10
            stack.run_timers(now)
        arrived += [(event.key, event.request) for event in stack.take_events() if isinstance(event, RequestArrived)]
        stack.take_sends()
    for key, request in arrived:
        try:
            stack.respond(key, response_to(request, 500, to_tag="t"), now)
        except SipError:
            pass
    stack.flow_failed(flow, now, "the end")
    for _ in range(200):
        now += 1.0
        stack.run_timers(now)
    assert stack.transactions <= sum(1 for _, request in arrived if _unanswerable(request))


def _unanswerable(request: Request) -> bool:
    """A request whose headers admit no answer; the endpoint apologises for such, and the edge answers the rest."""
    try:
        response_to(request, 500, to_tag="t")
    except SipError:
        return True
    return False
