import pytest

from nomad.edge.addresses import OwnAddresses
from nomad.edge.loops import breadth_left, check, hops_left, mark
from nomad.sip.errors import Reject, SipError
from nomad.sip.events import Flow
from nomad.sip.message import Request

OWN = OwnAddresses(("inria.example",), [("udp", "192.0.2.1", 5060)])
PBX = Flow("udp", ("192.0.2.1", 5060), ("10.0.0.5", 5060))
PHONE = Flow("udp", ("192.0.2.1", 5060), ("198.51.100.7", 5060))


def invite(*vias: str, uri: str = "sip:1000@inria.example", **headers: str) -> Request:
    request = Request("INVITE", uri)
    for via in (*vias, "SIP/2.0/UDP 198.51.100.7;branch=z9hG4bKphone"):
        request.add("via", via)
    for name, value in {"from": "<sip:a@x>;tag=1", "to": "<sip:b@x>", "call_id": "1", "cseq": "1 INVITE"}.items():
        request.add(name.replace("_", "-"), headers.get(name, value))
    return request


def ours(request: Request, source: Flow = PBX, host: str = "192.0.2.1:5060") -> str:
    return f"SIP/2.0/UDP {host};branch=z9hG4bK77.{mark(request, source)};rport"


def test_the_same_request_again_is_a_loop() -> None:
    pbx = "SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKpbx"
    with pytest.raises(Reject) as caught:
        check(invite(pbx, ours(invite())), PBX, OWN)
    assert caught.value.status == 482
    check(invite(), PBX, OWN)


def test_what_comes_back_otherwise_is_a_spiral() -> None:
    pbx = "SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKpbx"
    check(invite(pbx, ours(invite(), PHONE)), PBX, OWN)
    check(invite(pbx, ours(invite()), uri="sip:2000@inria.example"), PBX, OWN)
    check(invite(pbx, ours(invite()), cseq="2 INVITE"), PBX, OWN)


def test_what_somebody_else_wrote_is_no_loop() -> None:
    check(invite("SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKpbx", ours(invite(), host="10.0.0.9:5060")), PBX, OWN)


def test_max_forwards_counts_down_to_483() -> None:
    request = invite()
    assert hops_left(request) == 70
    request.set("max-forwards", "1")
    assert hops_left(request) == 0
    request.set("max-forwards", "0")
    with pytest.raises(Reject) as caught:
        hops_left(request)
    assert caught.value.status == 483


def test_max_breadth_is_shared_among_branches() -> None:
    request = invite()
    assert breadth_left(request, 1) == 60
    assert breadth_left(request, 7) == 8
    request.set("max-breadth", "2")
    assert breadth_left(request, 2) == 1
    with pytest.raises(Reject) as caught:
        breadth_left(request, 3)
    assert caught.value.status == 440
    request.set("max-breadth", "many")
    with pytest.raises(SipError):
        breadth_left(request, 1)
