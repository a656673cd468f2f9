import pytest

from nomad.edge.addresses import OwnAddresses
from nomad.sip.events import Flow
from nomad.sip.headers import Via
from nomad.sip.uri import Uri

OWN = OwnAddresses(
    ["inria.example", "sip.inria.example"],
    [("udp", "192.0.2.1", 5060), ("tls", "192.0.2.1", 5061), ("udp", "2001:db8::1", 5060)],
    outside="203.0.113.7",
)


@pytest.mark.parametrize(
    ("uri", "ours"),
    [
        ("sip:alice@inria.example", True),
        ("sip:alice@INRIA.example", True),
        ("sip:sip.inria.example;lr", True),
        ("sip:inria.example:5060", True),
        ("sip:inria.example:5070", False),
        ("sip:192.0.2.1", True),
        ("sip:192.0.2.1:5070", False),
        ("sips:192.0.2.1", True),
        ("sip:203.0.113.7:5060", True),
        ("sip:[2001:db8::1]:5060", True),
        ("sip:192.0.2.2", False),
        ("sip:evil.example", False),
        ("sip:192.0.2.1;transport=tls", True),
    ],
)
def test_which_uris_name_us(uri: str, ours: bool) -> None:
    assert OWN.is_us(Uri.parse(uri)) is ours


def test_peers_outside_see_the_advertised_address_and_the_pbx_the_inner_one() -> None:
    own = OwnAddresses(["x"], [("udp", "0.0.0.0", 5060)], outside="203.0.113.7", inside={"10.0.0.9": "10.0.0.1"})
    assert own.sent_by(Flow("udp", ("0.0.0.0", 5060), ("198.51.100.1", 9))) == "203.0.113.7:5060"
    assert own.sent_by(Flow("udp", ("0.0.0.0", 5060), ("10.0.0.9", 5060))) == "10.0.0.1:5060"
    assert own.is_us(Uri.parse("sip:10.0.0.1"))


def test_an_edge_with_two_homes_shows_each_side_its_own() -> None:
    listens = [("udp", "203.0.113.7", 5060), ("udp", "10.0.0.1", 5060)]
    inside = Flow("udp", ("10.0.0.1", 5060), ("10.0.0.9", 5060))
    outside = Flow("udp", ("203.0.113.7", 5060), ("198.51.100.1", 9))
    for advertised, seen in (("", "203.0.113.7:5060"), ("sip.inria.example", "sip.inria.example:5060")):
        own = OwnAddresses(["x"], listens, outside=advertised, inside={"10.0.0.9": "10.0.0.1"})
        assert (own.sent_by(outside), own.sent_by(inside)) == (seen, "10.0.0.1:5060")


def test_a_pbx_on_our_host_is_not_us() -> None:
    own = OwnAddresses(["x"], [("udp", "203.0.113.7", 5060)], inside={"10.0.0.1": "10.0.0.1"})
    assert not own.is_us(Uri.parse("sip:10.0.0.1:5060"))


def test_record_route_names_transport_and_call() -> None:
    flow = Flow("tcp", ("2001:db8::1", 5060), ("2001:db8::2", 9), 3)
    own = OwnAddresses(["x"], [("tcp", "2001:db8::1", 5060)])
    assert own.record_route(flow, "abc") == "<sip:[2001:db8::1]:5060;transport=tcp;lr;c=abc>"


@pytest.mark.parametrize(
    ("transport", "host", "outside", "route"),
    [
        ("udp", "192.0.2.1", "", "<sip:192.0.2.1:5060;lr>"),
        ("tcp", "2001:db8::1", "", "<sip:[2001:db8::1]:5060;transport=tcp;lr>"),
        ("udp", "0.0.0.0", "", ""),
        ("tcp", "::", "", ""),
        ("udp", "0.0.0.0", "203.0.113.7", "<sip:203.0.113.7:5060;lr>"),
        ("tls", "192.0.2.1", "", ""),
        ("wss", "2001:db8::1", "", ""),
        ("tls", "0.0.0.0", "sip.inria.example", "<sip:sip.inria.example:5060;transport=tls;lr>"),
    ],
)
def test_service_route_is_one_that_phones_can_use(transport: str, host: str, outside: str, route: str) -> None:
    own = OwnAddresses(["x"], [(transport, host, 5060)], outside=outside)
    assert own.service_route(Flow(transport, (host, 5060), ("198.51.100.1", 9), 1)) == route


def test_our_own_via_is_known() -> None:
    assert OWN.wrote(Via.parse("SIP/2.0/UDP 203.0.113.7:5060;branch=z9hG4bK1"))
    assert OWN.wrote(Via.parse("SIP/2.0/UDP [2001:DB8::1];branch=z9hG4bK1"))
    assert not OWN.wrote(Via.parse("SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1"))
    assert not OWN.wrote(Via.parse("SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK1"))
