import pytest

from nomad.edge.outbound import MAX_CLOSED, Flows, check_register, flow_timer, reply_headers, takers, targets
from nomad.ports import Binding
from nomad.sip.errors import Reject
from nomad.sip.events import Flow
from nomad.sip.message import Request

UDP = Flow("udp", ("192.0.2.1", 5060), ("198.51.100.7", 5060))
TLS = Flow("tls", ("192.0.2.1", 5061), ("198.51.100.7", 40000), 7)
MANAGED = '<sip:alice@198.51.100.7>;reg-id=1;+sip.instance="<urn:uuid:1>"'


def register(contact: str = MANAGED, *headers: tuple[str, str], vias: int = 1) -> Request:
    request = Request("REGISTER", "sip:inria.example")
    for number in range(vias):
        request.add("via", f"SIP/2.0/UDP 198.51.100.{number};branch=z9hG4bK1")
    for name, value in (("contact", contact), *headers):
        request.add(name, value)
    return request


def binding(
    contact: str = "sip:a@x", *, flow: Flow = TLS, instance: str = "", reg_id: int = 0, at: float = 9
) -> Binding:
    return Binding(contact, flow, "1", 1, at, instance=instance, reg_id=reg_id)


def test_who_manages_flows_says_so() -> None:
    supported = ("supported", "path, outbound")
    assert check_register(register(MANAGED, supported))
    assert not check_register(register(MANAGED))
    assert not check_register(register("<sip:alice@198.51.100.7>;reg-id=1", supported))
    assert not check_register(register("<sip:alice@198.51.100.7>", supported))
    assert not check_register(register("*", supported))


def test_a_first_hop_that_does_not_keep_flows_is_named() -> None:
    supported = ("supported", "outbound")
    with pytest.raises(Reject) as caught:
        check_register(register(MANAGED, supported, vias=2))
    assert caught.value.status == 439
    with pytest.raises(Reject):
        check_register(register(MANAGED, supported, ("path", "<sip:p2;lr;ob>, <sip:p1;lr>"), vias=2))
    assert check_register(register(MANAGED, supported, ("path", "<sip:p2;lr>, <sip:p1;lr;ob>"), vias=2))


def test_headers_of_the_answer() -> None:
    request = register(MANAGED, ("supported", "path, outbound"), ("path", "<sip:p2;lr>"), ("path", "<sip:p1;lr;ob>"))
    route = "<sip:192.0.2.1:5060;lr>"
    assert reply_headers(request, TLS, outbound=True, service_route=route) == [
        ("Require", "outbound"),
        ("Flow-Timer", "120"),
        ("Path", "<sip:p2;lr>, <sip:p1;lr;ob>"),
        ("Service-Route", route),
    ]
    assert reply_headers(register(MANAGED, ("path", "<sip:p;lr>")), UDP, outbound=False, service_route="") == []
    assert reply_headers(register(), UDP, outbound=True, service_route="") == [
        ("Require", "outbound"),
        ("Flow-Timer", "25"),
    ]


def test_of_two_flows_to_one_phone_the_newest_rings() -> None:
    old, new = binding("sip:a@1", instance="<i>", reg_id=1, at=10), binding("sip:a@2", instance="<i>", reg_id=2, at=20)
    other, plain = binding("sip:a@3", instance="<j>", reg_id=1), binding("sip:a@4")
    gone = binding("sip:a@5", at=1)
    assert targets([old, new, other, plain, plain, gone], 5.0) == [new, other, plain, plain]


def test_browsers_take_webrtc_and_phones_take_the_rest() -> None:
    phone, browser = binding("sip:a@1"), binding("sip:a@2", flow=TLS._replace(transport="wss"))
    plain, webrtc = b"m=audio 4000 RTP/AVP 0\r\n", b"m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n"
    assert takers([phone, browser], plain) == takers([phone, browser], b"m=audio 4000 RTP/SAVP 0\r\n") == [phone]
    assert takers([phone, browser], webrtc) == [browser]
    assert takers([phone, browser], b"") == [phone, browser]


def test_who_is_asked_for_keepalives() -> None:
    assert [flow_timer(TLS._replace(transport=each), relayed=False) for each in ("udp", "tcp", "tls", "ws", "wss")] == [
        25, 120, 120, 0, 0
    ]  # fmt: skip
    assert flow_timer(UDP, relayed=True) == 0


def test_registrations_by_a_flow_are_known_until_it_ends() -> None:
    flows = Flows()
    managed = [binding(instance="<i>", reg_id=1)]
    assert flows.note("alice", managed, TLS)
    assert flows.note("bob", [binding()], TLS)
    assert flows.note("carol", [binding(flow=UDP, instance="<i>", reg_id=1)], UDP)
    assert flows.note("carol", [binding(flow=UDP, instance="<i>", reg_id=1)], UDP)
    assert flows.note("dave", [binding(flow=UDP, instance="<j>", reg_id=1)], UDP)
    assert flows.close(UDP) == ("carol", "dave")
    assert flows.close(TLS) == ("alice",)
    assert flows.close(TLS) == ()
    assert not flows.note("alice", managed, TLS)
    assert flows.note("carol", [binding(flow=UDP, instance="<i>", reg_id=1)], UDP)  # over UDP it may come again


def test_closed_connections_are_forgotten_in_time() -> None:
    flows = Flows()
    for number in range(MAX_CLOSED + 10):
        flows.close(TLS._replace(id=number))
    assert flows.note("alice", [binding(flow=TLS._replace(id=0), reg_id=1)], TLS._replace(id=0))
