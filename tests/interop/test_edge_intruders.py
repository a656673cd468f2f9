"""Nothing that is not authenticated reaches the PBX, whatever it claims; Asterisk's own SIP trace is the witness."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.asterisk import Asterisk
from tests.harness.edge import Edge
from tests.harness.people import ALICE, BOB, DOMAIN
from tests.harness.processes import wait_until
from tests.harness.wire import Dialog, Message, Wire, new_branch, new_call_id

ELSEWHERE = "127.0.0.2"  # not the PBX's address, nor the phone's


@pytest.fixture(scope="module")
def traced(asterisk: Asterisk) -> Asterisk:
    """The PBX with every SIP message in its log."""
    asterisk.cli("pjsip set logger on")
    return asterisk


@pytest.fixture(params=["127.0.0.1", ELSEWHERE])
def stranger(request: pytest.FixtureRequest, embedded_edge: Edge) -> Iterator[Wire]:
    """A peer without credentials: from the PBX's address but another port, or from elsewhere."""
    with Wire(embedded_edge.sip, ALICE, host=request.param) as wire:
        yield wire


def test_new_requests(embedded_edge: Edge, traced: Asterisk, stranger: Wire) -> None:
    edge, pbx = embedded_edge.address, traced.address
    to_pbx = f"Route: <sip:{pbx};lr>"
    via_us = f"Route: <sip:{edge};lr>, <sip:{pbx};lr>"
    asserted = f"P-Asserted-Identity: <sip:{ALICE.extension}@{DOMAIN}>"
    number, at_pbx = f"sip:1000@{DOMAIN}", f"sip:1000@{pbx}"
    tries: list[tuple[int, str, str, list[str]]] = [
        (407, "INVITE", number, []),
        (407, "INVITE", number, [asserted]),
        (407, "INVITE", at_pbx, []),
        (407, "INVITE", f"sip:{ALICE.extension}@{edge}", []),  # as the PBX calls roaming staff
        (407, "INVITE", f"sip:1000@{edge};maddr={pbx.partition(':')[0]}", []),
        (407, "INVITE", number, [f"Route: <sip:{edge};lr>"]),
        (407, "INVITE", number, [f"Route: <sip:{edge};lr;c=0123456789abcdef01234567>"]),
        (403, "INVITE", number, [to_pbx]),
        (403, "INVITE", number, [via_us]),
        (403, "INVITE", number, [f"Route: <sip:{edge};lr>", to_pbx]),
        (407, "INVITE", f"sip:{edge};lr", [to_pbx]),  # as a strict router before us would write it (RFC 3261 16.4)
        (403, "INVITE", f"sip:{edge};lr", [f"Route: <sip:{pbx};lr>, <{at_pbx}>"]),
        (403, "REGISTER", f"sip:{DOMAIN}", [to_pbx]),
        (403, "REGISTER", f"sip:{pbx}", []),
        (407, "MESSAGE", at_pbx, []),
        (403, "MESSAGE", number, [via_us]),
        (200, "OPTIONS", at_pbx, [to_pbx]),  # answered here
        *((403, method, at_pbx, [to_pbx]) for method in ("SUBSCRIBE", "REFER")),
        (407, "PUBLISH", at_pbx, []),
        *((481, method, at_pbx, [to_pbx]) for method in ("BYE", "INFO", "UPDATE", "NOTIFY", "PRACK")),
        (420, "INVITE", number, ["Proxy-Require: sec-agree"]),
    ]
    sent = []
    for status, method, uri, headers in tries:
        request = stranger.compose(method, uri, to=f"<{number}>", headers=headers)
        sent.append(_call_id(request))
        answer = stranger.ask(request)
        assert answer.status == status, f"{method} {uri} {headers}: {answer.first}"
    _assert_unseen(embedded_edge, traced, sent)


def test_requests_within_a_dialog_that_does_not_exist(embedded_edge: Edge, traced: Asterisk, stranger: Wire) -> None:
    pbx, sent = traced.address, []
    for method in ("INVITE", "BYE", "UPDATE", "OPTIONS", "MESSAGE"):
        headers = [f"Route: <sip:{embedded_edge.address};lr;c=0123456789abcdef01234567>", f"Route: <sip:{pbx};lr>"]
        request = stranger.compose(method, f"sip:1000@{pbx}", to="<sip:1000@x>;tag=1", headers=headers)
        sent.append(_call_id(request))
        assert stranger.ask(request).status == 481
    ack = stranger.compose("ACK", f"sip:1000@{pbx}", to="<sip:1000@x>;tag=1", headers=[f"Route: <sip:{pbx};lr>"])
    stranger.send(ack)
    _assert_unseen(embedded_edge, traced, [*sent, _call_id(ack)])


def test_people_reach_only_what_the_edge_serves(embedded_edge: Edge, traced: Asterisk) -> None:
    with Wire(embedded_edge.sip, ALICE) as wire:
        for uri in (f"sip:1000@{traced.address}", "sip:1000@elsewhere.example", f"sip:0899123456@{DOMAIN}"):
            request = wire.compose("INVITE", uri, body=wire.offer())
            assert wire.ask_as_person(request).status == 403
            _assert_unseen(embedded_edge, traced, [_call_id(request)])


def test_a_strangers_request_within_a_call(embedded_edge: Edge, traced: Asterisk) -> None:
    """With everything right that an eavesdropper could know: Call-ID, tags, route, Contact, branch."""
    with Wire(embedded_edge.sip, ALICE) as phone, Wire(embedded_edge.sip, BOB, host=ELSEWHERE) as thief:
        call = phone.call("1000")
        _wait_traced(traced, call.call_id, 4)  # INVITE, 100, 200, ACK
        for method in ("BYE", "INVITE", "UPDATE", "INFO"):
            forged = thief.within(_copy(call, cseq=50), method)
            challenge = thief.ask(forged)
            assert challenge.status == 407
            refused = thief.ask(thief.authorize(forged, challenge))  # bob proves that he is bob
            assert (refused.status, refused.reason) == (403, "Forbidden")
            back = thief.ask(thief.within(_turned(call, phone.contact, cseq=50), method))  # as if from the PBX
            assert back.status == 403
        thief.send(thief.within(call, "ACK", cseq=call.cseq))
        assert phone.receive(0.1) is None
        assert embedded_edge.metric("nomad_calls_active") == 1
        assert embedded_edge.metric("nomad_sip_rejected_total", rule="forged-dialog") >= 8
        assert phone.hang_up(call).status == 200
        _wait_traced(traced, call.call_id, 6)
    embedded_edge.wait_accounted(call.call_id, "Start", "Stop")


def test_a_phone_that_moved_proves_itself(embedded_edge: Edge, traced: Asterisk) -> None:
    with Wire(embedded_edge.sip, ALICE) as before, Wire(embedded_edge.sip, ALICE, host=ELSEWHERE) as after:
        call = before.call("1000")
        assert after.ask_as_person(after.within(call, "BYE")).status == 200
    embedded_edge.wait_accounted(call.call_id, "Start", "Stop")
    traced.wait_idle()


def test_credentials_serve_once(embedded_edge: Edge, traced: Asterisk) -> None:
    with Wire(embedded_edge.sip, ALICE) as phone, Wire(embedded_edge.sip, ALICE, host=ELSEWHERE) as thief:
        invite = phone.compose("INVITE", f"sip:4486@{DOMAIN}", body=phone.offer())
        overheard = phone.authorize(invite, phone.ask(invite))
        assert phone.ask(overheard).status == 486
        call_id = _call_id(overheard)
        _wait_traced(traced, call_id, 4)  # INVITE, 100, 486, ACK
        thief.send(overheard)  # to the bit, also the branch
        sent = []
        for uri in (f"sip:4486@{DOMAIN}", f"sip:1000@{DOMAIN}"):
            again = _renamed(overheard, uri)
            sent.append(_call_id(again))
            answer = thief.ask(again)
            if uri in overheard:
                assert answer.status == 407
                assert "stale=true" in answer.get("Proxy-Authenticate")
            else:
                assert (answer.status, answer.reason) == (403, "Digest uri is not the Request-URI")
        forged = _renamed(overheard, f"sip:1000@{DOMAIN}").replace('uri="sip:4486', 'uri="sip:1000')
        forged = forged.replace("nc=00000001", "nc=00000002")
        sent.append(_call_id(forged))
        assert thief.ask(forged).status == 407
    _assert_unseen(embedded_edge, traced, sent)
    _wait_traced(traced, call_id, 4)


def test_a_nonce_of_ones_own_making(embedded_edge: Edge, traced: Asterisk) -> None:
    with Wire(embedded_edge.sip, ALICE) as wire:
        request = wire.compose("INVITE", f"sip:1000@{DOMAIN}")
        challenge = wire.ask(request)
        nonce = challenge.get("Proxy-Authenticate").split('nonce="')[1].split('"')[0]
        later = "ffffffff" + nonce[8:]  # valid for longer, but not signed
        headers = tuple((name, value.replace(nonce, later)) for name, value in challenge.headers)
        answer = wire.ask(wire.authorize(request, Message(challenge.first, headers, "")))
        assert answer.status == 407
        assert "stale=true" in answer.get("Proxy-Authenticate")  # answered anew, and never let in
    _assert_unseen(embedded_edge, traced, [_call_id(request)])


def _assert_unseen(edge: Edge, pbx: Asterisk, call_ids: list[str]) -> None:
    """None of these Call-IDs came to the PBX before a call that is allowed."""
    with Wire(edge.sip, ALICE) as wire:
        call = wire.call("1000")
        assert wire.hang_up(call).status == 200
    wait_until(lambda: _trace(pbx, call.call_id), timeout_s=5, what="the allowed call at the PBX")
    log = pbx.output()
    assert [call_id for call_id in call_ids if call_id in log] == []


def _wait_traced(pbx: Asterisk, call_id: str, count: int) -> None:
    """The PBX has seen and sent exactly so many messages of a call."""
    wait_until(lambda: _trace(pbx, call_id) >= count, timeout_s=5, what=f"{count} messages of {call_id} at the PBX")
    assert _trace(pbx, call_id) == count


def _trace(pbx: Asterisk, call_id: str) -> int:
    """How many messages with a Call-ID the PBX has seen and sent."""
    return pbx.output().count(f"Call-ID: {call_id}")


def _call_id(request: str) -> str:
    return request.split("\r\nCall-ID: ")[1].split("\r\n")[0]


def _copy(call: Dialog, *, cseq: int) -> Dialog:
    return Dialog(call.call_id, call.local, call.remote, call.target, call.routes, cseq)


def _turned(call: Dialog, contact: str, *, cseq: int) -> Dialog:
    """The call as its other side would see it."""
    return Dialog(call.call_id, call.remote, call.local, contact.strip("<>"), call.routes, cseq)


def _renamed(request: str, uri: str) -> str:
    """The same as a new request: other branch, Call-ID and Request-URI."""
    old = request.split(" ")[1]
    return (
        request.replace(f"INVITE {old} ", f"INVITE {uri} ", 1)
        .replace(_call_id(request), new_call_id())
        .replace(request.split("branch=")[1].split("\r\n")[0], new_branch())
    )
