"""Where a request came from: `received` and `rport` of its top Via (RFC 3261 18.2.1, RFC 3581 4), and where to answer.

Pure.
"""

from __future__ import annotations

import ipaddress
import re

from nomad.sip.events import Flow
from nomad.sip.message import Request, Response

DEFAULT_PORT = 5060
# What phones send nearly always: one Via, no blanks, no quotes, an IPv4 address or a name.
_PLAIN_VIA = re.compile(r"SIP/2\.0/[A-Z]++ ([A-Za-z0-9.\-]++)(?::[0-9]++)?((?:;[A-Za-z0-9.\-_=]++)*)")


def note_source(request: Request, remote: tuple[str, int]) -> None:
    """Write down the source in the top Via, over whatever the peer itself claimed there. Raises `SipError`."""
    if _note_in_text(request, remote):
        return
    via = request.via
    params = via.params
    address, port = remote
    asked = "rport" in params
    if not asked and "received" not in params and _same_host(via.host, address):
        return
    via = via.with_param("received", address)  # an IPv6 address without brackets, RFC 5118 4.5
    if asked:
        via = via.with_param("rport", str(port))
    request.replace_first("via", str(via))


def _note_in_text(request: Request, remote: tuple[str, int]) -> bool:
    """The same for a plain Via with an IPv4 address, without taking it apart; False when it is anything else."""
    value = request.get("via") or ""
    plain = _PLAIN_VIA.fullmatch(value)
    if plain is None:
        return False
    host, params = plain.groups()
    params = params.lower()
    if ";received" in params:
        return False
    address, port = remote
    asked = params.find(";rport")
    if asked < 0:
        if host != address:
            request.replace_first("via", f"{value};received={address}")
        return True
    if params[asked + 6 : asked + 7] not in ("", ";") or params.count(";rport") > 1:
        return False
    cut = len(value) - len(params) + asked
    request.replace_first("via", f"{value[:cut]};received={address};rport={port}{value[cut + 6 :]}")
    return True


def reply_flow(request: Request, flow: Flow) -> Flow:
    """The flow that responses take, after `note_source`.

    Nearly always the one that the request came by. Over UDP without rport the response goes to the port in the Via
    (RFC 3261 18.2.2); but if the address in the Via is not the source, there is a NAT, and only the way back is open.
    """
    if flow.transport != "udp":
        return flow
    via = request.via
    port = via.port or DEFAULT_PORT
    if port == flow.remote[1] or "rport" in via.params or not _same_host(via.host, flow.remote[0]):
        return flow
    return flow._replace(remote=(flow.remote[0], port))


def return_place(response: Response, flow: Flow) -> tuple[str, int] | None:
    """Where to answer when the connection of the request is gone (RFC 3261 18.2.2), None when there is no such place.

    A connection to where the Via says, if that is the address that the request came from: behind a NAT nobody listens
    there. Not over TLS, where whoever answers would have to prove to be the name in the Via.
    """
    via = response.via
    if flow.transport != "tcp" or response.status < 200 or not _same_host(via.host, flow.remote[0]):
        return None
    return flow.remote[0], via.port or DEFAULT_PORT


def _same_host(host: str, address: str) -> bool:
    """Whether the host of a Via is this address; a name never is (RFC 3261 18.2.1)."""
    if host == address:
        return True
    if ":" not in host or ":" not in address:
        return False
    try:
        return ipaddress.ip_address(host.strip("[]")) == ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
