"""Session timers as a proxy keeps them (RFC 4028 8): which intervals are too short, and what two phones agreed on.

Refreshes pass through; a call whose refresh never comes is ended by `housekeeping.py`. The edge asks for no timer where
neither phone does.
"""

from __future__ import annotations

from nomad.edge.outbound import supports
from nomad.sip.errors import Reject, SipError
from nomad.sip.headers import parse_delta_seconds
from nomad.sip.message import Request, Response

GRACE_S = 10.0  # a refresh may be this late
REFRESHING = ("INVITE", "UPDATE")
TIMER = "timer"


def check_interval(request: Request, least_s: int) -> None:
    """Raises `Reject(422)` when the interval is too short and the caller can ask again with a longer one (8.1)."""
    if request.method in REFRESHING and request.has("session-expires"):
        interval = _interval(request)
        if interval < least_s and supports(request, TIMER):
            raise Reject(422, headers=(("Min-SE", str(least_s)),), rule="session-interval", why=f"{interval} s")


def agree(request: Request, response: Response) -> int | None:
    """The interval that a 2xx agrees on, None for no timer.

    When only the caller keeps timers, the answer is made to say so, as the last proxy that knows must do (8.2).
    """
    if response.has("session-expires"):
        try:
            return _interval(response)
        except SipError:
            return None  # the call itself is none the worse
    if request.has("session-expires") and supports(request, TIMER):
        interval = _interval(request)
        response.add("session-expires", f"{interval};refresher=uac")
        if TIMER not in response.elements("require"):
            response.add("require", TIMER)
        return interval
    return None


def _interval(message: Request | Response) -> int:
    try:
        return parse_delta_seconds((message.get("session-expires") or "").partition(";")[0].strip(" \t"))
    except SipError:
        raise SipError("session-expires", "malformed Session-Expires", header="Session-Expires") from None
