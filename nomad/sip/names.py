"""Header names: what is known by heart, compact forms, and the usual spelling (RFC 3261 7.3.3, 20)."""

from __future__ import annotations

from typing import Final

from nomad.sip.errors import SipError
from nomad.sip.grammar import is_token

MAX_NAME_CHARS = 256

# Registered header names as they are usually spelled, and some that phones send.
_USUAL: Final = """
Accept Accept-Contact Accept-Encoding Accept-Language Accept-Resource-Priority Alert-Info Allow Allow-Events
Answer-Mode Authentication-Info Authorization Call-ID Call-Info Contact Content-Disposition Content-Encoding
Content-ID Content-Language Content-Length Content-Type CSeq Date Diversion Error-Info Event Expires Feature-Caps
Flow-Timer From Geolocation History-Info Identity Identity-Info Info-Package In-Reply-To Join Max-Breadth Max-Forwards
MIME-Version Min-Expires Min-SE Organization P-Access-Network-Info P-Asserted-Identity P-Associated-URI
P-Called-Party-ID P-Charging-Vector P-Early-Media P-Preferred-Identity P-Visited-Network-ID Path Permission-Missing
Policy-Contact Priority Priv-Answer-Mode Privacy Proxy-Authenticate Proxy-Authorization Proxy-Require RAck Reason
Recv-Info Record-Route Refer-Sub Refer-To Referred-By Reject-Contact Remote-Party-ID Replaces Reply-To
Request-Disposition Require Resource-Priority Retry-After Route RSeq Security-Client Security-Server Security-Verify
Server Service-Route Session-Expires SIP-ETag SIP-If-Match Subject Subscription-State Supported Suppress-If-Match
Target-Dialog Timestamp To Trigger-Consent Unsupported User-Agent User-to-User Via Warning WWW-Authenticate X-Real-IP
"""

COMPACT: Final = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}

_WIRE: Final[dict[str, str]] = {name.lower(): name for name in _USUAL.split()}

# Raw spelling -> canonical name: what arrives nearly always.
CANONICAL: Final[dict[str, str]] = {}


def _learn() -> None:
    for canonical, usual in _WIRE.items():
        titled = "-".join([part.capitalize() for part in canonical.split("-")])
        for spelling in (usual, canonical, titled, canonical.upper()):
            CANONICAL[spelling] = canonical
    for short, canonical in COMPACT.items():
        CANONICAL[short] = CANONICAL[short.upper()] = canonical


_learn()


def canonical_name(raw: str) -> str:
    """The lower-case long form of a name as received, blanks before the colon removed."""
    name = raw.rstrip(" \t")
    if not is_token(name) or len(name) > MAX_NAME_CHARS:
        raise SipError("header", "malformed header name")
    name = name.lower()
    return COMPACT.get(name, name)


def wire_name(name: str) -> str:
    """The usual spelling of a canonical name."""
    return _WIRE.get(name) or "-".join([part.capitalize() for part in name.split("-")])
