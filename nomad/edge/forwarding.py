"""Calls that a phone sends on to somebody else: whom its 3xx names, and what the PBX is told (RFC 5806, RFC 7044).

The edge recurses on the 3xx of a phone (RFC 3261 16.7 step 4) when the policy lets its person call there; the call is
that person's from its answer on. Pure; judging is `dispatch.py`'s part, carrying `switchboard.py`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nomad.edge.policy import Verdict
from nomad.edge.trunks import Trunk
from nomad.sip.errors import SipError
from nomad.sip.events import Flow
from nomad.sip.headers import NameAddr
from nomad.sip.message import Request, Response
from nomad.sip.uri import Uri

MAX_DIVERSIONS = 5  # of one call before it reached us: two people who forward to each other must come to an end
DIVERSION, HISTORY_INFO = "diversion", "history-info"


@dataclass(frozen=True, slots=True)
class Onward:
    """Where a call is sent on to, and what the policy said of it."""

    number: str
    trunk: Trunk
    verdict: Verdict
    policy: str  # version


Judge = Callable[[Response, Flow], Awaitable[Onward | None]]
"""Says where the 3xx of a phone on this flow leads, None when its person may not send the call there."""


def target_of(response: Response) -> Uri | None:
    """Whom a 3xx prefers (RFC 3261 8.1.3.4, 20.10), None when it names nobody. Raises `SipError`."""
    contacts = response.contacts
    return max(contacts, key=_preference).uri if contacts else None


def times_diverted(request: Request) -> int:
    """How often a call was sent on before it reached us."""
    redirected = sum("cause=" in value for value in request.elements("history-info"))
    return max(len(request.elements(DIVERSION)), redirected)


def tell(request: Request, style: str, *, by: str, to: str, status: int) -> None:
    """Write into a request who sent it on, in the header that this PBX reads; `by` and `to` are URIs."""
    if style == DIVERSION:
        request.prepend(DIVERSION, f"<{by}>;reason=unconditional;counter=1")
    elif style == HISTORY_INFO:
        last = _last_index(request)
        index = f"{last}.1" if last else "1"
        request.add(HISTORY_INFO, f"<{by}>;index={index}")
        request.add(HISTORY_INFO, f"<{to};cause={status}>;index={index}.1;mp={index}")


def _preference(contact: NameAddr) -> float:
    try:
        return float(contact.params.get("q") or 1.0)
    except ValueError:
        return 0.0


def _last_index(request: Request) -> str:
    """The index of the newest entry (RFC 7044 10.3), "" when there is none that can be read."""
    values = request.elements(HISTORY_INFO)
    if not values:
        return ""
    try:
        index = NameAddr.parse(values[-1]).params.get("index") or ""
    except SipError:
        return ""
    return index if all(part.isascii() and part.isdecimal() for part in index.split(".")) else ""
