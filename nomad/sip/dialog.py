"""To tags and routes as a proxy needs them (RFC 3261 8.2.7, 16.4, 16.6). Keeps no dialogs."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from nomad.sip.errors import SipError
from nomad.sip.message import Request
from nomad.sip.uri import Uri


def stateless_tag(request: Request) -> str:
    """A To tag that is the same each time the same request comes, without remembering it (RFC 3261 8.2.7)."""
    fields = (request.get("call-id"), request.get("via"), request.get("cseq"), request.get("from"))
    return f"{zlib.crc32(repr(fields).encode('utf-8', 'surrogateescape')):08x}"


def pop_own_route(request: Request, is_us: Callable[[Uri], bool]) -> Uri | None:
    """Take off one entry that we put into the route; None when the topmost is not ours (RFC 3261 16.4).

    When a strict router put our Record-Route URI into the Request-URI, that is undone and the URI returned: only our
    Record-Route URIs have `lr`. Two entries in a row are ours when the request changed the transport (RFC 5658).
    """
    if not request.has("route"):
        return None
    target = _parsed(request.uri_text)
    if target is not None and target.lr and is_us(target):
        routes = request.routes
        if not routes:
            return None
        elements = request.elements("route")
        request.set_uri(routes[-1].uri_text)
        request.remove("route")
        for element in elements[:-1]:
            request.add("route", element)
        return target
    routes = request.routes
    if not routes or not is_us(routes[0].uri):
        return None
    own = routes[0].uri
    request.pop_first("route")
    return own


def next_hop(request: Request) -> Uri:
    """Where a request is to be sent, the strict router's order of URIs made right first (RFC 3261 16.6 steps 6, 7)."""
    routes = request.routes
    if not routes:
        return request.uri
    first = routes[0].uri
    if first.lr:
        return first
    request.pop_first("route")
    request.add("route", f"<{request.uri_text}>")
    request.set_uri(routes[0].uri_text)
    return first


def _parsed(text: str) -> Uri | None:
    try:
        return Uri.parse(text)
    except SipError:
        return None
