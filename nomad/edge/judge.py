"""Judges what people ask for: circumstances make the policy's question, its verdict and the fraud guard's an answer.

Calls, requests outside of calls, transfers and the 3xx of a phone. Decides nothing itself: rules are `policy`'s and
`warden`'s part, acting is `dispatch.py`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from nomad import log
from nomad.clock import Clock
from nomad.edge.accounting import Accountant
from nomad.edge.addresses import OwnAddresses
from nomad.edge.attempts import attempt_of, refusal_of
from nomad.edge.auth import Identity
from nomad.edge.calls import Call, CallTable, Leg
from nomad.edge.forwarding import MAX_DIVERSIONS, Onward, target_of, times_diverted
from nomad.edge.parties import Parties
from nomad.edge.policy import NOTHING, Direction, Ruleset, Verdict, decide
from nomad.edge.proxy import PHONE
from nomad.edge.sides import Incoming
from nomad.edge.trunks import Trunks
from nomad.edge.usage import Usage
from nomad.edge.warden import Warden
from nomad.metrics import Metrics
from nomad.ports import Countries, Grant, Registration
from nomad.sip.bindings import MAX_USER_AGENT_CHARS
from nomad.sip.errors import Reject, SipError
from nomad.sip.headers import NameAddr
from nomad.sip.message import Response
from nomad.sip.uri import Uri, unescape

logger = logging.getLogger(__name__)

REFERABLE = frozenset({"replaces", "require"})  # of a Refer-To: what an attended transfer needs (RFC 5589 7)


@dataclass(frozen=True, slots=True)
class Parts:
    """What is asked."""

    parties: Parties
    calls: CallTable
    usage: Usage
    warden: Warden
    accountant: Accountant


class Judge:
    """Asks, and answers with `Reject`."""

    def __init__(
        self,
        parts: Parts,
        *,
        trunks: Callable[[], Trunks],
        countries: Callable[[], Countries],
        own: OwnAddresses,
        clock: Clock,
        metrics: Metrics,
        new_id: Callable[[], str],
    ) -> None:
        self._parts = parts
        self._trunks = trunks
        self._countries = countries
        self._own = own
        self._clock = clock
        self._metrics = metrics
        self._new_id = new_id

    def verdict(
        self,
        incoming: Incoming,
        identity: Identity,
        number: str,
        ruleset: Ruleset,
        *,
        direction: Direction = Direction.OUT,
        active_calls: int | None = None,
        forwarded_calls: int = 0,
        counted: bool = True,
    ) -> Verdict:
        """What the policy says of a call by a person to a number."""
        now, user = self._clock.wall(), identity.user
        attempt = attempt_of(
            incoming,
            identity.grant,
            number,
            ruleset=ruleset,
            countries=self._countries(),
            used=self._parts.usage.of(user, now) if counted else NOTHING,
            at=now,
            active_calls=self._parts.calls.active_of(user) if active_calls is None else active_calls,
            direction=direction,
            forwarded_calls=forwarded_calls,
        )
        return decide(ruleset, attempt)

    def refusal(self, incoming: Incoming, grant: Grant, verdict: Verdict) -> tuple[Reject, str] | None:
        """The answer to a call that is not to be made, and the rule that says so; None for one that is."""
        if not verdict.allowed:
            return self._policy_refusal(verdict), verdict.rule
        refusal = self._fraud_refusal(incoming, grant, verdict)
        return None if refusal is None else (refusal, refusal.rule)

    async def put_on_record(
        self,
        incoming: Incoming,
        identity: Identity,
        number: str,
        verdict: Verdict,
        ruleset: Ruleset,
        *,
        refusal: Reject,
        rule: str,
    ) -> None:
        """Write down a call that is refused."""
        request = incoming.request
        call = Call(
            id=self._new_id(),
            call_id=request.call_id,
            direction="out",
            grant=identity.grant,
            caller_address=request.from_.uri.address,
            callee_address=f"{number}@{request.uri.host}",
            number_class=verdict.number_class,
            started_at=self._clock.wall(),
            caller=Leg(PHONE, incoming.flow),
            peer=incoming.flow.remote[0],
            user_agent=(request.get("user-agent") or "")[:MAX_USER_AGENT_CHARS],
            number=verdict.number,
            group=verdict.group,
            policy=ruleset.label,
            chain=verdict.short,
        )
        await self._parts.accountant.refused(call, status=refusal.status, rule=rule, reason=refusal.reason)

    def notice(
        self,
        incoming: Incoming,
        identity: Identity,
        number: str,
        ruleset: Ruleset,
        *,
        direction: Direction = Direction.OUT,
    ) -> Verdict:
        """Raises `Reject` when a person may not call this number, however many calls the person has now.

        What the person has called counts for a transfer only: the others are no calls.
        """
        forwarded = self._parts.calls.forwarded_of(identity.user) if direction is Direction.FORWARD else 0
        verdict = self.verdict(
            incoming,
            identity,
            number,
            ruleset,
            direction=direction,
            active_calls=0,
            forwarded_calls=forwarded,
            counted=direction is Direction.FORWARD,
        )
        if not verdict.allowed:
            raise self._policy_refusal(verdict)
        return verdict

    def reach(self, identity: Identity, phone: Registration) -> None:
        """Raises `Reject` when a person may not ask this phone to call: it is another's, and the two do not talk.

        The phone would call as its own person, at whose cost: who is in a call with one may transfer it (RFC 5589 7.3).
        """
        if phone.user != identity.user and not self._parts.calls.join(identity.grant, phone.user, phone.extension):
            why = f"{identity.user} and {phone.user}"
            raise Reject(403, "You are in no call with this person", rule="transfer", why=why)

    async def transfer(
        self, incoming: Incoming, identity: Identity, ruleset: Ruleset, *, party: Leg | None = None
    ) -> None:
        """A transfer makes the PBX call in the phone's stead (RFC 3515): the policy judges it like a call.

        `party` is the other side of the call that is transferred.
        """
        values = incoming.request.get_all("refer-to")
        if len(values) != 1:
            raise Reject(400, "Exactly one Refer-To is needed", rule="transfer")
        target = NameAddr.parse(values[0]).uri
        if not _is_plain(target):
            raise Reject(403, "Refer-To may name a call to replace and no more", rule="transfer", why=target.text)
        if target.scheme in ("sip", "sips") and target.host in self._pbx_hosts(party):
            target = Uri.build(target.unescaped_user, self._own.domain)
        number = await self._parts.parties.number_of(target, await self._parts.parties.phone_of(target))
        verdict = self.notice(incoming, identity, number, ruleset, direction=Direction.FORWARD)
        if verdict.dial != number:  # the PBX reads the number where it stands, and may make another of it
            raise Reject(403, f"Please transfer to {verdict.dial}", rule="transfer", why=number)
        if refusal := self._fraud_refusal(incoming, identity.grant, verdict, transferred=True):
            raise refusal
        self._parts.usage.count(identity.user, self._clock.wall())

    async def forward(self, response: Response, ringing: Incoming, grant: Grant, ruleset: Ruleset) -> Onward | None:
        """Where the 3xx of a phone leads, judged as a call by its person; None when that may not be."""
        try:
            if times_diverted(ringing.request) >= MAX_DIVERSIONS:
                raise Reject(482, rule="diversions")
            target = target_of(response)
            if target is None:
                return None
            if target.host in self._pbx_hosts():
                target = Uri.build(target.unescaped_user, self._own.domain)
            number = await self._parts.parties.number_of(target)
            if number == grant.extension:
                raise Reject(482, rule="forward-loop")
            calls = self._parts.calls
            verdict = self.verdict(
                ringing,
                Identity(grant, frozenset()),
                number,
                ruleset,
                direction=Direction.FORWARD,
                active_calls=max(0, calls.active_of(grant.user) - 1),  # without this one
                forwarded_calls=calls.forwarded_of(grant.user),
            )
            if not verdict.allowed:
                raise self._policy_refusal(verdict)
            if refusal := self._fraud_refusal(ringing, grant, verdict):
                raise refusal
        except Reject as reject:
            self._not_forwarded(ringing, grant, rule=reject.rule, why=reject.why)
            return None
        except SipError as error:
            self._not_forwarded(ringing, grant, rule="malformed", why=error.text)
            return None
        return Onward(verdict.dial, self._trunks().for_number(verdict.dial), verdict, ruleset.label)

    def _not_forwarded(self, ringing: Incoming, grant: Grant, *, rule: str, why: str) -> None:
        self._metrics.refused(rule)
        callid, peer = ringing.request.call_id, ringing.flow.remote[0]
        log.event(logger, "not-forwarded", callid=callid, user=grant.user, peer=peer, verdict=rule, why=why)

    def _pbx_hosts(self, party: Leg | None = None) -> set[str]:
        """Where the parties of a PBX are, as phones that transfer a call to one of them name it."""
        hosts = {trunk.uri.host for trunk in self._trunks().all}
        if party is not None and party.contact:
            hosts.add(Uri.parse(party.contact).host)
        return hosts

    def _fraud_refusal(
        self, incoming: Incoming, grant: Grant, verdict: Verdict, *, transferred: bool = False
    ) -> Reject | None:
        """The answer to a call that a stolen account may be making, None for one that is to be made."""
        peer, warden = incoming.flow.remote[0], self._parts.warden
        return warden.check_call(grant, verdict.number, verdict.number_class, peer, transferred=transferred)

    def _policy_refusal(self, verdict: Verdict) -> Reject:
        """Count a refusal by the policy, and the answer to it."""
        self._metrics.policy_refusal(verdict.rule)
        return refusal_of(verdict, self._own.domain)


def _is_plain(target: Uri) -> bool:
    """Whether a Refer-To asks for a call to whom it names: a header in it, as Route, may lead the PBX elsewhere."""
    if (target.params.get("method") or "INVITE").upper() != "INVITE":
        return False
    names = (unescape(field.partition("=")[0]).lower() for field in target.headers.split("&") if field)
    return all(name in REFERABLE for name in names)
