"""What is no proper SIP: a right answer where one is possible, a counter, a log line, and everything else goes on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.harness.asterisk import Asterisk
from tests.harness.edge import Edge
from tests.harness.people import ALICE, DOMAIN
from tests.harness.processes import wait_until
from tests.harness.wire import Wire
from tests.interop.conftest import NewFolder

VICTIM = "127.0.0.9"


@pytest.fixture(params=["udp", "tcp"])
def wire(request: pytest.FixtureRequest, embedded_edge: Edge) -> Iterator[Wire]:
    """A peer over UDP or TCP."""
    with Wire(embedded_edge.sip, ALICE, transport=request.param) as peer:
        yield peer


Change = Callable[[str], str]
REFUSED: dict[str, tuple[int, Change]] = {
    "unknown method": (501, lambda text: text.replace("OPTIONS", "WIBBLE")),
    "method that needs a login": (407, lambda text: text.replace("OPTIONS", "PUBLISH")),
    "uri scheme": (416, lambda text: text.replace("OPTIONS sip:", "OPTIONS nobody:")),
    "hops used up": (483, lambda text: text.replace("OPTIONS", "MESSAGE").replace("Forwards: 70", "Forwards: 0")),
    "hops are no number": (400, lambda text: text.replace("Forwards: 70", "Forwards: many")),
    "version": (505, lambda text: text.replace(" SIP/2.0\r\nVia", " SIP/7.0\r\nVia", 1)),
    "CSeq of another method": (400, lambda text: text.replace("1 OPTIONS", "1 INVITE")),
    "CSeq too large": (400, lambda text: text.replace("CSeq: 1 ", "CSeq: 36893488147419103232 ")),
    "body that is announced and missing": (400, lambda text: text.replace("Content-Length: 0", "Content-Length: 99")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_requests_that_are_answered(embedded_edge: Edge, wire: Wire, what: str) -> None:
    status, change = REFUSED[what]
    request = change(wire.compose("OPTIONS", f"sip:{embedded_edge.address}"))
    wire.send(request)
    if what.startswith("body") and wire.transport == "tcp":
        assert wire.receive(0.1) is None  # on a stream the body may still come
        return
    answer = wire.receive()
    assert answer is not None
    assert answer.status == status, answer.first
    assert answer.get("Call-ID") in request
    assert answer.get("Via").startswith(f"SIP/2.0/{wire.transport.upper()} {wire.host}:{wire.port}")
    _assert_serves(embedded_edge)


GARBAGE: dict[str, bytes] = {
    "binary": random.Random(1).randbytes(900),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no headers": b"OPTIONS sip:x SIP/2.0\r\n\r\n",
    "start line only": b"INVITE\r\n\r\n",
    "no end": b"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1",
    "colons": b":::::\r\n" * 100 + b"\r\n",
    "nul bytes": b"\x41\0\0\0\r\n\r\n",
    "response to nobody": b"SIP/2.0 200 OK\r\n\r\n",
    "tls hello": bytes.fromhex("160301020001000 1fc0303".replace(" ", "")) + bytes(500),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_datagrams_that_are_no_sip(embedded_edge: Edge, what: str) -> None:
    before = embedded_edge.metric("nomad_sip_malformed_total")
    with Wire(embedded_edge.sip) as wire:
        wire.send(GARBAGE[what])
        _wait_counted(embedded_edge, before)
        assert wire.receive(0.05) is None  # nobody to answer to
    _assert_serves(embedded_edge)


@pytest.mark.parametrize("what", [what for what in GARBAGE if what not in ("no end", "tls hello")])
def test_streams_that_are_no_sip(embedded_edge: Edge, what: str) -> None:
    before = embedded_edge.metric("nomad_sip_malformed_total")
    with Wire(embedded_edge.sip, transport="tcp") as wire:
        wire.send(GARBAGE[what] + b"\r\n\r\n")
        _wait_counted(embedded_edge, before)
    _assert_serves(embedded_edge)


def test_every_beginning_of_a_request(embedded_edge: Edge) -> None:
    """A request that was cut anywhere is answered 200, 400 or not at all."""
    with Wire(embedded_edge.sip, ALICE) as wire:
        whole = wire.compose("OPTIONS", f"sip:{embedded_edge.address}", headers=["Content-Type: application/sdp"])
        for length in range(1, len(whole) - 4, 3):
            wire.send(whole[:length])
        answers = []
        while (answer := wire.receive(0.3)) is not None:
            answers.append(answer.status)
    assert set(answers) <= {200, 400}
    _assert_serves(embedded_edge)


def test_bytes_one_by_one_over_tcp(embedded_edge: Edge) -> None:
    with Wire(embedded_edge.sip, ALICE, transport="tcp") as wire:
        request = wire.compose("OPTIONS", f"sip:{embedded_edge.address}")
        for byte in request.encode():
            wire.send(bytes((byte,)))
        assert wire.final(request).status == 200
        both = [wire.compose("OPTIONS", f"sip:{embedded_edge.address}") for _ in range(2)]
        wire.send("".join(both))
        assert [wire.final(each).status for each in both] == [200, 200]


def test_oversize(embedded_edge: Edge) -> None:
    uri = f"sip:{embedded_edge.address}"
    long_header, many_headers = [f"X-Long: {'x' * 40_000}"], [f"X-{number}: y" for number in range(1000)]
    before = embedded_edge.metric("nomad_sip_malformed_total", reason="too-large")
    answers = []
    for headers in (long_header, many_headers):
        for transport in ("udp", "tcp"):
            with Wire(embedded_edge.sip, ALICE, transport=transport) as wire:
                wire.send(wire.compose("OPTIONS", uri, headers=headers))
                answer = wire.receive(0.3)
                answers.append(answer.status if answer else 0)
    assert set(answers) <= {0, 513}
    assert embedded_edge.metric("nomad_sip_malformed_total", reason="too-large") == before + 4
    assert embedded_edge.log().count("reason=too-large") == before + 4
    with Wire(embedded_edge.sip, ALICE, transport="tcp") as wire:  # a head without an end is not kept
        wire.send(f"OPTIONS {uri} SIP/2.0\r\n")
        try:
            for _ in range(40):
                wire.send("X-More: " + "x" * 4000 + "\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        else:
            assert wire.is_closed()
    with Wire(embedded_edge.sip, ALICE, transport="tcp") as wire:  # nor a body of any length that is announced
        wire.send(wire.compose("OPTIONS", uri).replace("Content-Length: 0", "Content-Length: 999999999"))
        assert wire.is_closed()
    _assert_serves(embedded_edge)


def test_garbage_does_not_disturb_a_call(embedded_edge: Edge, asterisk: Asterisk) -> None:
    with Wire(embedded_edge.sip, ALICE) as phone, Wire(embedded_edge.sip) as other:
        call = phone.call("1000")
        generator = random.Random(2)
        for _ in range(300):
            other.send(generator.randbytes(generator.randrange(1, 1400)))
        assert phone.hang_up(call).status == 200
    embedded_edge.wait_accounted(call.call_id, "Start", "Stop")
    asterisk.wait_idle()


def test_who_sends_too_much_of_it_is_banned(new_folder: NewFolder, asterisk: Asterisk) -> None:
    edge = Edge(new_folder("edge-ban"), pbx=asterisk.uri, guard={"malformed": 10, "auth_failures": 5})
    try:
        with Wire(edge.sip, ALICE, host=VICTIM) as wire:
            assert wire.register().status == 200
            for _ in range(10):
                wire.send(GARBAGE["http"])  # over UDP anybody can send in this name
            assert wire.ask(wire.compose("OPTIONS", f"sip:{edge.address}")).status == 200
            for _ in range(10):
                with Wire(edge.sip, ALICE, host=VICTIM, transport="tcp") as stream:
                    stream.send(GARBAGE["http"])
                    assert stream.is_closed()
            wait_until(lambda: edge.metric("nomad_bans_active") == 1, timeout_s=5, what="a ban")
            wire.send(wire.compose("OPTIONS", f"sip:{edge.address}"))
            assert wire.receive(0.2) is None
        (ban,) = edge.get("/api/v1/bans")["bans"]
        assert (ban["address"], ban["reason"]) == (VICTIM, "malformed")
        with Wire(edge.sip, ALICE, host="127.0.0.8", password="wrong") as guesser:
            for _ in range(5):
                assert guesser.register().status == 401
            guesser.send(guesser.compose("OPTIONS", f"sip:{edge.address}"))
            assert guesser.receive(0.2) is None
        assert edge.metric("nomad_bans_total", reason="auth") == 1
        _assert_serves(edge)
        assert f"banned peer={VICTIM} reason=malformed" in edge.log()
    finally:
        edge.stop()


def _wait_counted(edge: Edge, before: float) -> None:
    wait_until(
        lambda: edge.metric("nomad_sip_malformed_total") > before, timeout_s=3, what="a malformed message counted"
    )


def _assert_serves(edge: Edge) -> None:
    """The edge answers, and its log has no traceback."""
    with Wire(edge.sip, ALICE) as wire:
        assert wire.ask(wire.compose("OPTIONS", f"sip:{DOMAIN}")).status == 200
    edge.check_log()
