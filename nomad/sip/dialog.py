"""What a proxy needs of routes: taking its own off (RFC 3261 16.4), and where a request goes next (16.6 step 6, 7)."""

from __future__ import annotations

from collections.abc import Callable

from nomad.sip.headers import NameAddr
from nomad.sip.message import Request
from nomad.sip.uri import Uri


def pop_own_route(request: Request, is_us: Callable[[Uri], bool]) -> Uri | None:
    """Take off the first Route if it is ours and return its URI; None when there is none of ours.

    A strict router before us put our Record-Route URI into the Request-URI and the real one last into Route; that is
    undone here.
    """
    if not request.has("route"):
        return None
    own = request.uri
    if own.scheme in ("sip", "sips") and own.lr and is_us(own):
        routes = request.elements("route")
        request.remove("route")
        for value in routes[:-1]:
            request.add("route", value)
        request.set_uri(NameAddr.parse(routes[-1]).uri_text)
        return own
    first = request.routes[0].uri
    if not is_us(first):
        return None
    request.pop_first("route")
    return first


def next_hop(request: Request) -> Uri:
    """Where a request goes: its first Route, else its Request-URI."""
    routes = request.routes
    return routes[0].uri if routes else request.uri
