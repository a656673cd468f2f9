"""Makes messages: responses to requests, new requests, the ACK and CANCEL that belong to an INVITE (RFC 3261 8, 9, 17).

Invents no tags, branches or Call-IDs: the caller brings them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from nomad.sip.errors import SipError
from nomad.sip.message import Request, Response

REASONS: Final[dict[int, str]] = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    199: "Early Dialog Terminated",
    200: "OK",
    202: "Accepted",
    204: "No Notification",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    412: "Conditional Request Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    417: "Unknown Resource-Priority",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    424: "Bad Location Information",
    428: "Use Identity Header",
    429: "Provide Referrer Identity",
    430: "Flow Failed",
    433: "Anonymity Disallowed",
    436: "Bad Identity Info",
    437: "Unsupported Credential",
    438: "Invalid Identity Header",
    439: "First Hop Lacks Outbound Support",
    440: "Max-Breadth Exceeded",
    469: "Bad Info Package",
    470: "Consent Needed",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    493: "Undecipherable",
    494: "Security Agreement Required",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    555: "Push Notification Service Not Supported",
    580: "Precondition Failure",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
    607: "Unwanted",
    608: "Rejected",
}

M = TypeVar("M", Request, Response)

_CLASSES: Final = {1: "Progress", 2: "OK", 3: "Redirection", 4: "Client Error", 5: "Server Error", 6: "Global Failure"}
_ECHOED: Final = frozenset({"via", "from", "to", "call-id", "cseq"})


def reason_phrase(status: int) -> str:
    """The usual reason phrase of a status, or that of its class."""
    return REASONS.get(status) or _CLASSES.get(status // 100, "Unknown")


def response_to(
    request: Request,
    status: int,
    reason: str = "",
    *,
    to_tag: str = "",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str = "",
) -> Response:
    """A response with the headers that it takes over from its request (RFC 3261 8.2.6).

    `to_tag` is put on a To that has no tag, except in a 100. A 100 echoes Timestamp (RFC 3261 8.2.6.1).
    """
    response = Response(status, reason or reason_phrase(status))
    response.take_lines(request, _ECHOED)
    if status == 100:
        response.take_lines(request, frozenset({"timestamp"}))
    elif to_tag and not _has_tag(request):
        response.set("to", f"{request.get('to')};tag={to_tag}")
    return _finish(response, headers, body, content_type)


def _has_tag(request: Request) -> bool:
    try:
        return bool(request.to.tag)
    except SipError:
        return True  # echoed as it is: this answers a malformed request


def new_request(
    method: str,
    uri: str,
    *,
    from_: str,
    to: str,
    call_id: str,
    cseq: int,
    via: str,
    routes: Iterable[str] = (),
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str = "",
) -> Request:
    """A request of our own (RFC 3261 8.1.1)."""
    request = Request(method, uri)
    request.add("via", via)
    for route in routes:
        request.add("route", route)
    request.add("max-forwards", "70")
    request.add("from", from_)
    request.add("to", to)
    request.add("call-id", call_id)
    request.add("cseq", f"{cseq} {method}")
    return _finish(request, headers, body, content_type)


def ack_for(invite: Request, response: Response) -> Request:
    """The ACK of a final response other than 2xx (RFC 3261 17.1.1.3)."""
    return _belonging_to(invite, "ACK", to=response.get("to") or "")


def cancel_for(invite: Request) -> Request:
    """The CANCEL of an INVITE that we sent (RFC 3261 9.1)."""
    return _belonging_to(invite, "CANCEL", to=invite.get("to") or "")


def _belonging_to(invite: Request, method: str, *, to: str) -> Request:
    request = Request(method, invite.uri_text)
    request.add("via", str(invite.via))
    request.take_lines(invite, frozenset({"route"}))
    request.add("max-forwards", "70")
    request.take_lines(invite, frozenset({"from"}))
    request.add("to", to)
    request.take_lines(invite, frozenset({"call-id"}))
    request.add("cseq", f"{invite.cseq.number} {method}")
    return request


def _finish(message: M, headers: Iterable[tuple[str, str]], body: bytes, content_type: str) -> M:
    for name, value in headers:
        message.add(name.lower(), value)
    message.body = body
    if content_type:
        message.set("content-type", content_type)
    return message
