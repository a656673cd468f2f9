"""Requests that come back: loops by a mark in our branch, breadth by Max-Breadth, length by Max-Forwards (RFC 5393).

The mark covers all that decides where a request goes, and where it came from: what comes back otherwise is a spiral,
which is allowed.
"""

from __future__ import annotations

from nomad.edge.addresses import OwnAddresses
from nomad.sip.errors import Reject, SipError
from nomad.sip.events import Flow
from nomad.sip.message import Request

DEFAULT_MAX_FORWARDS = 70
DEFAULT_MAX_BREADTH = 60  # RFC 5393 5.3.3


def mark(request: Request, source: Flow) -> str:
    """What the request is known by when it comes back; nobody else can make it up."""
    get = request.get
    fields = (request.uri_text, get("from"), get("to"), get("call-id"), get("cseq"), get("route"), source.remote)
    return f"{hash(fields) & 0xFFFFFFFF:08x}"


def check(request: Request, source: Flow, own: OwnAddresses) -> None:
    """Raises `Reject(482)` when we have forwarded this very request before (RFC 3261 16.3 step 4, RFC 5393 4.2)."""
    vias = request.vias
    if len(vias) < 2:
        return
    suffix = f".{mark(request, source)}"
    if any(via.branch.endswith(suffix) and own.wrote(via) for via in vias[1:]):
        raise Reject(482, rule="loop")


def hops_left(request: Request) -> int:
    """Max-Forwards of the forwarded request (RFC 3261 16.6 step 3). Raises `Reject(483)`."""
    hops = request.max_forwards
    if hops is None:
        return DEFAULT_MAX_FORWARDS
    if hops == 0:
        raise Reject(483, rule="max-forwards")
    return hops - 1


def breadth_left(request: Request, branches: int) -> int:
    """Max-Breadth of each of so many branches at a time. Raises `Reject(440)` when it is too small (RFC 5393 5.3.3)."""
    text = request.get("max-breadth")
    if text is None:
        breadth = DEFAULT_MAX_BREADTH
    elif text.isascii() and text.isdecimal() and len(text) < 10:
        breadth = int(text)
    else:
        raise SipError("max-breadth", "malformed Max-Breadth", header="Max-Breadth")
    if breadth < branches:
        raise Reject(440, rule="max-breadth")
    return breadth // branches
