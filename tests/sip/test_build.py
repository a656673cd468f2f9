"""Responses, requests, ACK and CANCEL."""

import pytest

from nomad.sip.build import ack_for, cancel_for, new_request, reason_phrase, response_to
from nomad.sip.message import Request, parse_message

INVITE = (
    b"INVITE sip:bob@h SIP/2.0\r\nv: SIP/2.0/UDP a;branch=1, SIP/2.0/UDP b;branch=2\r\nVia: SIP/2.0/UDP c\r\n"
    b"Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr>\r\nf: <sip:alice@h>;tag=f\r\nt: <sip:bob@h>\r\ni: c1\r\n"
    b"CSeq: 7 INVITE\r\nTimestamp: 54\r\nSubject: x\r\nContent-Length: 0\r\n\r\n"
)


def invite(data: bytes = INVITE) -> Request:
    message = parse_message(data)
    assert isinstance(message, Request)
    return message


def test_a_response_takes_over_what_it_must() -> None:
    response = response_to(
        invite(), 200, to_tag="t1", headers=[("Contact", "<sip:bob@h>")], body=b"v=0", content_type="application/sdp"
    )
    assert response.encode() == (
        b"SIP/2.0 200 OK\r\nv: SIP/2.0/UDP a;branch=1, SIP/2.0/UDP b;branch=2\r\nVia: SIP/2.0/UDP c\r\n"
        b"f: <sip:alice@h>;tag=f\r\nTo: <sip:bob@h>;tag=t1\r\ni: c1\r\nCSeq: 7 INVITE\r\n"
        b"Contact: <sip:bob@h>\r\nContent-Type: application/sdp\r\nContent-Length: 3\r\n\r\nv=0"
    )
    assert (response.to.tag, response.cseq.number, response.size) == ("t1", 7, 0)


def test_a_100_gets_no_tag_but_the_timestamp() -> None:
    response = response_to(invite(), 100, to_tag="t1")
    assert (response.reason, response.to.tag, response.get("timestamp")) == ("Trying", "", "54")


def test_a_tag_that_is_there_stays() -> None:
    tagged = invite(INVITE.replace(b"t: <sip:bob@h>", b"t: <sip:bob@h>;tag=theirs"))
    assert response_to(tagged, 481, "Gone away", to_tag="t1").to.tag == "theirs"
    assert response_to(tagged, 481, "Gone away").reason == "Gone away"


def test_a_malformed_to_is_echoed() -> None:
    broken = invite(INVITE.replace(b"t: <sip:bob@h>", b't: "<sip:bob@h>'))
    assert response_to(broken, 400, to_tag="t1").get("to") == '"<sip:bob@h>'


def test_a_request_of_ours() -> None:
    request = new_request(
        "OPTIONS",
        "sip:pbx",
        from_="<sip:edge>;tag=1",
        to="<sip:pbx>",
        call_id="c",
        cseq=3,
        via="SIP/2.0/UDP edge;branch=z9hG4bK1",
        routes=["<sip:p;lr>"],
        headers=[("Accept", "application/sdp")],
    )
    assert request.encode() == (
        b"OPTIONS sip:pbx SIP/2.0\r\nVia: SIP/2.0/UDP edge;branch=z9hG4bK1\r\nRoute: <sip:p;lr>\r\nMax-Forwards: 70\r\n"
        b"From: <sip:edge>;tag=1\r\nTo: <sip:pbx>\r\nCall-ID: c\r\nCSeq: 3 OPTIONS\r\nAccept: application/sdp\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    parse_message(request.encode()).check()


def test_ack_belongs_to_its_invite() -> None:
    ours = invite()
    ack = ack_for(ours, response_to(ours, 486, to_tag="t9"))  # RFC 3261 17.1.1.3
    assert ack.encode() == (
        b"ACK sip:bob@h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=1\r\nRoute: <sip:p1;lr>\r\nRoute: <sip:p2;lr>\r\n"
        b"Max-Forwards: 70\r\nf: <sip:alice@h>;tag=f\r\nTo: <sip:bob@h>;tag=t9\r\ni: c1\r\nCSeq: 7 ACK\r\n"
        b"Content-Length: 0\r\n\r\n"
    )


def test_cancel_belongs_to_its_invite() -> None:
    cancel = cancel_for(invite())  # RFC 3261 9.1
    assert (cancel.method, str(cancel.cseq), cancel.get_all("via")) == (
        "CANCEL",
        "7 CANCEL",
        ["SIP/2.0/UDP a;branch=1"],
    )
    assert (cancel.get("to"), cancel.get_all("route")) == ("<sip:bob@h>", ["<sip:p1;lr>", "<sip:p2;lr>"])
    parse_message(cancel.encode()).check()


@pytest.mark.parametrize(
    ("status", "phrase"), [(200, "OK"), (299, "OK"), (499, "Client Error"), (699, "Global Failure"), (999, "Unknown")]
)
def test_reason_phrase(status: int, phrase: str) -> None:
    assert reason_phrase(status) == phrase
