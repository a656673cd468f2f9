"""received, rport, and where responses go."""

from __future__ import annotations

import pytest

from nomad.sip.build import response_to
from nomad.sip.errors import SipError
from nomad.sip.events import Flow
from nomad.sip.message import Request, parse_message
from nomad.transport.source import note_source, reply_flow, return_place

REMOTE = ("192.0.2.7", 4444)


def request(via: str) -> Request:
    text = (
        f"OPTIONS sip:x@inria.example SIP/2.0\r\nVia: {via}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n"
        "Call-ID: 1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
    message = parse_message(text.encode())
    assert isinstance(message, Request)
    return message


@pytest.mark.parametrize(
    ("via", "remote", "noted"),
    [
        ("192.0.2.7:4444;branch=z9hG4bK1", REMOTE, "192.0.2.7:4444;branch=z9hG4bK1"),
        ("192.0.2.7;branch=z9hG4bK1;rport", REMOTE, "192.0.2.7;branch=z9hG4bK1;received=192.0.2.7;rport=4444"),
        ("10.0.0.1;branch=z9hG4bK1;rport", REMOTE, "10.0.0.1;branch=z9hG4bK1;received=192.0.2.7;rport=4444"),
        ("10.0.0.1;RPORT;branch=z9hG4bK1", REMOTE, "10.0.0.1;received=192.0.2.7;rport=4444;branch=z9hG4bK1"),
        ("192.0.2.7;rport ;x=y", REMOTE, "192.0.2.7;rport=4444;x=y;received=192.0.2.7"),
        ("192.0.2.7;rportal;x=y", ("192.0.2.7", 5060), "192.0.2.7;rportal;x=y"),
        ("10.0.0.1;branch=z9hG4bK1", REMOTE, "10.0.0.1;branch=z9hG4bK1;received=192.0.2.7"),
        ("phone.example;branch=z9hG4bK1", REMOTE, "phone.example;branch=z9hG4bK1;received=192.0.2.7"),
        ("192.0.2.7;received=1.2.3.4;branch=z9hG4bK1", REMOTE, "192.0.2.7;received=192.0.2.7;branch=z9hG4bK1"),
        ("192.0.2.7;rport=9;branch=z9hG4bK1", REMOTE, "192.0.2.7;rport=4444;branch=z9hG4bK1;received=192.0.2.7"),
        ("[2001:DB8:0::1];branch=z9hG4bK1", ("2001:db8::1", 9), "[2001:DB8:0::1];branch=z9hG4bK1"),
        ("[2001:db8::2];branch=z9hG4bK1", ("2001:db8::1", 9), "[2001:db8::2];branch=z9hG4bK1;received=2001:db8::1"),
        ("192.0.2.7;branch=z9hG4bK1", ("2001:db8::1", 9), "192.0.2.7;branch=z9hG4bK1;received=2001:db8::1"),
    ],
)
def test_the_source_is_noted(via: str, remote: tuple[str, int], noted: str) -> None:
    message = request(f"SIP/2.0/UDP {via}")
    note_source(message, remote)
    assert message.get("via") == f"SIP/2.0/UDP {noted}"


def test_only_the_top_via_of_a_joined_line_is_touched() -> None:
    message = request("SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bK1 , SIP/2.0/TCP 10.0.0.2;rport;branch=z9hG4bK2")
    note_source(message, REMOTE)
    assert message.vias[0].rport == 4444
    assert message.vias[1].params["rport"] is None


@pytest.mark.parametrize(
    ("via", "port"),
    [
        ("192.0.2.7:4444", 4444),
        ("192.0.2.7:5070", 5070),  # RFC 3261 18.2.2
        ("192.0.2.7", 5060),
        ("192.0.2.7:5070;rport", 4444),  # RFC 3581 4
        ("10.0.0.1:5070", 4444),  # behind a NAT
        ("phone.example:5070", 4444),
    ],
)
def test_where_responses_go(via: str, port: int) -> None:
    flow = Flow("udp", ("127.0.0.1", 5060), REMOTE)
    message = request(f"SIP/2.0/UDP {via};branch=z9hG4bK1")
    note_source(message, REMOTE)
    assert reply_flow(message, flow) == flow._replace(remote=(REMOTE[0], port))


def test_a_connection_answers_on_itself() -> None:
    flow = Flow("tcp", ("127.0.0.1", 5060), REMOTE, 7)
    assert reply_flow(request("SIP/2.0/TCP 192.0.2.7:5070;branch=z9hG4bK1"), flow) is flow


def test_a_broken_via_is_a_sip_error() -> None:
    message = request("SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1")
    message.set("via", "nonsense")
    with pytest.raises(SipError):
        note_source(message, REMOTE)


@pytest.mark.parametrize(
    ("via", "place"),
    [
        ("TCP 192.0.2.7:5070", (REMOTE[0], 5070)),
        ("TCP 192.0.2.7", (REMOTE[0], 5060)),
        ("TCP 10.0.0.1:5070", None),  # behind a NAT: there is somebody else, or nobody
        ("TCP phone.example:5070", None),
    ],
)
def test_where_a_late_response_goes(via: str, place: tuple[str, int] | None) -> None:
    flow = Flow("tcp", ("127.0.0.1", 5060), REMOTE, 7)
    asked = request(f"SIP/2.0/{via};branch=z9hG4bK1")
    assert return_place(response_to(asked, 200), flow) == place
    assert return_place(response_to(asked, 180), flow) is None
    assert return_place(response_to(asked, 200), flow._replace(transport="tls")) is None
