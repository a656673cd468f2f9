"""From a request to what the policy is asked, and from its verdict to the answer. Pure; counting is the caller's."""

from __future__ import annotations

from nomad.edge.policy import Attempt, Direction, Ruleset, Used, Verdict
from nomad.edge.sides import Incoming
from nomad.ports import Countries, Grant
from nomad.sip.errors import Reject
from nomad.sip.grammar import quote
from nomad.sip.message import Request
from nomad.sip.sdp import has_plain_stream, is_encrypted

WARN_CODE = 399  # RFC 3261 20.43: miscellaneous, for people
MEDIA_RULE = "media_encryption"
OFFERING = frozenset({"INVITE", "UPDATE"})


def attempt_of(
    incoming: Incoming,
    grant: Grant,
    number: str,
    *,
    ruleset: Ruleset,
    countries: Countries,
    used: Used,
    at: float,
    active_calls: int,
    direction: Direction = Direction.OUT,
    forwarded_calls: int = 0,
) -> Attempt:
    """A call that a person wants to make with a request; what no group asks for is not looked up."""
    flow = incoming.flow
    return Attempt(
        grant,
        number,
        source=flow.remote[0],
        at=at,
        direction=direction,
        transport=flow.transport,
        encrypted_media=ruleset.needs_media and _offers_no_plain_media(incoming.request),
        country=countries.of(flow.remote[0]) if ruleset.needs_country else None,
        active_calls=active_calls,
        forwarded_calls=forwarded_calls,
        used=used,
    )


def refusal_of(verdict: Verdict, agent: str) -> Reject:
    """The answer to a call that the policy refuses: the reason as phrase, and again where phones show it."""
    warning = (("Warning", f"{WARN_CODE} {agent} {quote(verdict.reason)}"),) if verdict.reason else ()
    return Reject(verdict.status, verdict.reason, headers=warning, rule=f"policy-{verdict.rule}", why=verdict.why)


def check_media(request: Request) -> None:
    """Raises `Reject(488)` when a call that must be encrypted would go on in clear (RFC 3261 14.2)."""
    if request.method in OFFERING and has_plain_stream(request.body):
        raise Reject(488, "Calls need encrypted media (SRTP)", rule=f"policy-{MEDIA_RULE}")


def _offers_no_plain_media(request: Request) -> bool:
    """Whether what makes no call, as MESSAGE, or a call that demands SRTP. One without an offer could get any media."""
    return request.method != "INVITE" or is_encrypted(request.body)
