from __future__ import annotations

import pytest

from nomad.sip.dialog import next_hop, pop_own_route, stateless_tag
from nomad.sip.message import Request
from nomad.sip.uri import Uri
from tests.harness.sip import make_request

EDGE = "sip:edge.example.com;lr"


def is_us(uri: Uri) -> bool:
    return uri.host == "edge.example.com"


def routed(*routes: str, uri: str = "sip:bob@192.0.2.5") -> Request:
    return make_request("BYE", uri=uri, to_tag="to-1", headers=[f"Route: {route}" for route in routes])


def test_the_stateless_tag_is_that_of_the_request() -> None:
    tag = stateless_tag(make_request("INVITE"))
    assert tag == stateless_tag(make_request("INVITE"))
    assert len(tag) == 8
    assert tag != stateless_tag(make_request("INVITE", branch="z9hG4bK-2"))
    assert tag != stateless_tag(make_request("INVITE", call_id="call-2"))
    assert tag != stateless_tag(make_request("INVITE", cseq=2))


def test_the_stateless_tag_takes_any_bytes() -> None:
    assert stateless_tag(make_request("INVITE", call_id="caf\udce9@x".encode("utf-8", "replace").decode()))


def test_without_a_route_nothing_is_ours() -> None:
    request = routed(uri="sip:edge.example.com;lr")
    assert pop_own_route(request, is_us) is None
    assert request.uri_text == "sip:edge.example.com;lr"


def test_our_own_topmost_route_is_taken_off() -> None:
    request = routed(f"<{EDGE};call=7>, <sip:other.example.com;lr>")
    popped = pop_own_route(request, is_us)
    assert popped is not None
    assert popped.params["call"] == "7"
    assert request.elements("route") == ["<sip:other.example.com;lr>"]
    assert pop_own_route(request, is_us) is None


def test_two_routes_of_ours_come_off_one_by_one() -> None:
    request = routed(f"<{EDGE};transport=tcp>", f"<{EDGE};transport=udp>")
    transports = []
    while (popped := pop_own_route(request, is_us)) is not None:
        transports.append(popped.transport)
    assert transports == ["tcp", "udp"]
    assert not request.has("route")


def test_a_route_of_ours_further_down_stays() -> None:
    request = routed("<sip:other.example.com;lr>", f"<{EDGE}>")
    assert pop_own_route(request, is_us) is None
    assert len(request.routes) == 2


def test_what_a_strict_router_did_is_undone() -> None:
    request = routed("<sip:other.example.com;lr>, <sip:bob@192.0.2.5:5070>", uri=EDGE)
    popped = pop_own_route(request, is_us)
    assert popped == Uri.parse(EDGE)
    assert request.uri_text == "sip:bob@192.0.2.5:5070"
    assert request.elements("route") == ["<sip:other.example.com;lr>"]


def test_a_request_to_us_without_lr_was_not_changed_by_a_strict_router() -> None:
    request = routed("<sip:other.example.com;lr>", uri="sip:edge.example.com")
    assert pop_own_route(request, is_us) is None
    assert request.uri_text == "sip:edge.example.com"


@pytest.mark.parametrize("uri", [EDGE, "sip:bob@192.0.2.5"])
def test_an_empty_route_is_none(uri: str) -> None:
    assert pop_own_route(routed(",", uri=uri), is_us) is None


def test_an_unreadable_request_uri_is_not_ours() -> None:
    request = routed(f"<{EDGE}>", uri="sip:bob@")
    assert pop_own_route(request, is_us) is not None


def test_the_next_hop_is_the_request_uri_without_route() -> None:
    request = routed()
    assert next_hop(request) == Uri.parse("sip:bob@192.0.2.5")


def test_the_next_hop_is_the_first_loose_router() -> None:
    request = routed("<sip:p1.example.com;lr>", "<sip:p2.example.com;lr>")
    assert next_hop(request) == Uri.parse("sip:p1.example.com;lr")
    assert len(request.routes) == 2
    assert request.uri_text == "sip:bob@192.0.2.5"


def test_a_strict_router_gets_its_order() -> None:
    request = routed("<sip:strict.example.com>", "<sip:p2.example.com;lr>")
    assert next_hop(request) == Uri.parse("sip:strict.example.com")
    assert request.uri_text == "sip:strict.example.com"
    assert request.elements("route") == ["<sip:p2.example.com;lr>", "<sip:bob@192.0.2.5>"]
    # RFC 3261 16.4: the loose router behind it undoes that
    request.set_uri("sip:p2.example.com;lr")
    request.pop_first("route")
    assert pop_own_route(request, lambda uri: uri.host == "p2.example.com") is not None
    assert request.uri_text == "sip:bob@192.0.2.5"
    assert not request.has("route")
