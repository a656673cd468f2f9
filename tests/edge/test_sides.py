"""What each side gets of whole calls is in scenarios/test_edge_*.py."""

from __future__ import annotations

from nomad.edge.sides import beyond_us
from nomad.sip.message import Response


def test_route_sets_are_split_at_our_own_record_route() -> None:
    response = Response(200, "OK")
    for value in (
        "<sip:far;lr>",
        "<sip:near;lr>",
        "<sip:edge;lr;c=t1>",
        "<sip:edge;transport=tcp;lr;c=t1>",
        "<sip:p;lr>",
    ):
        response.add("record-route", value)
    assert beyond_us(response, "t1") == (("<sip:near;lr>", "<sip:far;lr>"), ("<sip:p;lr>",))
    assert beyond_us(response, "other") == ((), ())
