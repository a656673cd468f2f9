"""Session timers as a proxy keeps them (RFC 4028 8): which intervals are too short, and what two phones agreed on.

Refreshes pass through, and where the caller asks for no timer the edge does, sooner where RADIUS gave an Idle-Timeout.
A call whose refresh never comes is ended by `housekeeping.py`; calls whose phones know no timers are looked after by
`probes.py`.
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


def bound(request: Request, most_s: int | None, least_s: int) -> None:
    """Ask for a refresh within this time, as a proxy may (8.1), but not sooner than the edge or the caller allows."""
    if most_s is None:
        return
    interval_s = max(most_s, least_s, _least_of_the_caller(request))
    if not request.has("session-expires"):
        request.add("session-expires", str(interval_s))
    elif interval_s < _interval(request):
        _, semicolon, params = (request.get("session-expires") or "").partition(";")
        request.replace_first("session-expires", f"{interval_s}{semicolon}{params}")


def ask(request: Request, interval_s: int) -> None:
    """Ask for a timer in a request that goes out, when its sender did not (8.1); 0 asks for none."""
    if interval_s and not request.has("session-expires") and request.method in REFRESHING:
        request.add("session-expires", str(max(interval_s, _least_of_the_caller(request))))


def agree(request: Request, response: Response) -> int | None:
    """The interval that a 2xx agrees on, None for no timer; `request` is the one that went out.

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


def _least_of_the_caller(request: Request) -> int:
    """Min-SE, 0 when there is none that can be read."""
    try:
        return parse_delta_seconds((request.get("min-se") or "0").partition(";")[0].strip(" \t"))
    except SipError:
        return 0


def _interval(message: Request | Response) -> int:
    try:
        return parse_delta_seconds((message.get("session-expires") or "").partition(";")[0].strip(" \t"))
    except SipError:
        raise SipError("session-expires", "malformed Session-Expires", header="Session-Expires") from None
