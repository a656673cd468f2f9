"""A new request's whole life, top to bottom: guard, identify, decide, route, act. The only place that catches `Reject`.

Each request is served by one coroutine; those that never wait cost no task (`tasks.spawn` runs the first step at once).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from nomad import log, tasks
from nomad.clock import Clock
from nomad.edge import judge, loops
from nomad.edge.addresses import OwnAddresses
from nomad.edge.attempts import check_media
from nomad.edge.auth import Authentication, Identity
from nomad.edge.calls import CallTable, Hop, Leg
from nomad.edge.forwarding import Onward
from nomad.edge.gruu import GR, leads_to_phone
from nomad.edge.guard import ALLOW, METHODS, UNDERSTOOD, Guard, check_sanity
from nomad.edge.judge import Judge
from nomad.edge.notices import METHODS as NOTICES
from nomad.edge.notices import Notices
from nomad.edge.parties import Parties
from nomad.edge.policy import Ruleset
from nomad.edge.proxy import PBX, PHONE, Proxy, Relay
from nomad.edge.registrar import Registrar
from nomad.edge.scanners import Scanners
from nomad.edge.sides import Incoming
from nomad.edge.subscriptions import Subscriptions, Way
from nomad.edge.switchboard import Switchboard
from nomad.edge.trunks import Trunks
from nomad.metrics import Metrics
from nomad.ports import Countries, Signalling, Unavailable
from nomad.sip.build import response_to
from nomad.sip.dialog import pop_own_route
from nomad.sip.errors import Reject, SipError
from nomad.sip.events import (
    AckArrived,
    BranchFailed,
    BranchTimedOut,
    CancelArrived,
    Event,
    Flow,
    FlowClosed,
    RequestArrived,
    ResponseArrived,
    StrayResponse,
)
from nomad.sip.message import Request, Response
from nomad.sip.uri import Uri

logger = logging.getLogger(__name__)

BRANCH_EVENTS = (ResponseArrived, BranchTimedOut, BranchFailed, CancelArrived)
RETRY_AFTER_S = 10
ALLOW_CALLS = ", ".join(method for method in METHODS if method not in NOTICES)
QUIET = frozenset({"challenge", "nonce"})  # every login has one; not worth an info line
NEEDS_DIALOG = frozenset({"BYE", "UPDATE", "INFO", "PRACK"})


@dataclass(frozen=True, slots=True)
class Parts:
    """What the dispatcher puts to work."""

    guard: Guard
    auth: Authentication
    registrar: Registrar
    parties: Parties
    calls: CallTable
    subscriptions: Subscriptions
    switchboard: Switchboard
    notices: Notices
    proxy: Proxy
    own: OwnAddresses
    judging: judge.Parts


class Dispatcher:
    """Serves every event of the endpoint. Implements `ports.EventHandler`."""

    def __init__(
        self,
        parts: Parts,
        ruleset: Ruleset,
        trunks: Trunks,
        *,
        countries: Countries,
        signalling: Signalling,
        clock: Clock,
        metrics: Metrics,
        new_tag: Callable[[], str],
        scanners: Scanners,
    ) -> None:
        self.ruleset = ruleset  # these four are replaced as a whole by a reload
        self.trunks = trunks
        self.scanners = scanners
        self.countries = countries
        self.draining = False
        self._parts = parts
        self._signalling = signalling
        self._clock = clock
        self._metrics = metrics
        self._new_tag = new_tag
        self._budget = log.Budget()
        self._judge = Judge(
            parts.judging,
            trunks=lambda: self.trunks,
            countries=lambda: self.countries,
            own=parts.own,
            clock=clock,
            metrics=metrics,
            new_id=new_tag,
        )

    def handle(self, event: Event) -> None:
        """One event from the stack or the transport."""
        if isinstance(event, RequestArrived):
            tasks.spawn(self._serve(Incoming(event.key, event.request, event.flow)), name="request")
        elif isinstance(event, AckArrived):
            self._acknowledge(event.request, event.flow)
        elif isinstance(event, BRANCH_EVENTS):
            self._parts.proxy.handle(event)
        elif isinstance(event, StrayResponse):
            self._answer_again(event.response, event.flow)
        elif isinstance(event, FlowClosed):
            tasks.spawn(self._parts.registrar.flow_closed(event.flow), name="flow")

    def malformed(self, flow: Flow, reason: str, text: str) -> None:
        """Bytes that were no SIP message."""
        peer, transport, now = flow.remote[0], flow.transport, self._clock.monotonic()
        left_out = self._budget.take(reason, now)
        if left_out is not None:
            more = left_out or None
            log.event(logger, "malformed", peer=peer, transport=transport, reason=reason, text=text, left_out=more)
        self._parts.guard.strike(peer, "malformed", now, proven=transport != "udp")

    # -- the one page --------------------------------------------------------------------------------------------

    async def _serve(self, incoming: Incoming) -> None:
        started = self._clock.monotonic()
        relay = self._parts.proxy.begin(incoming.key, incoming.request, started)
        try:
            await self._decide(incoming, relay)
            return
        except Reject as reject:
            self._refuse(incoming, reject, started)
        except SipError as error:
            phrase = _phrase(incoming.request, error)
            self._refuse(incoming, Reject(error.status, phrase, rule="malformed", why=error.reason), started)
        except Unavailable as error:
            self._refuse(incoming, Reject(503, retry_after=RETRY_AFTER_S, rule="unavailable", why=str(error)), started)
        except asyncio.CancelledError:  # the edge stops and waits no longer
            self._refuse(incoming, Reject(503, retry_after=RETRY_AFTER_S, rule="stopping"), started)
            raise
        except Exception:
            logger.exception("serving %s failed", incoming.request.method)
            self._refuse(incoming, Reject(500, rule="bug"), started)
        finally:
            self._parts.proxy.end(relay)

    async def _decide(self, incoming: Incoming, relay: Relay) -> None:
        request, flow = incoming.request, incoming.flow
        ruleset = self.ruleset
        method = request.method
        trunk = self.trunks.of(flow)
        check_sanity(request)
        if trunk is None and (signature := self.scanners.find(request)):
            self._turn_away(incoming, signature)
            return
        own_route = self._pop_own_routes(request)
        loops.check(request, flow, self._parts.own)
        if request.to.tag and method != "REGISTER":
            way = self._parts.subscriptions.find(request, flow, own_route)
            if way is None:
                await self._within_call(incoming, relay, own_route)
            else:
                await self._within_subscription(incoming, relay, way)
        elif method in NEEDS_DIALOG or (method == "NOTIFY" and trunk is None):  # nobody subscribed (RFC 6665 4.1.3)
            raise Reject(481, rule="dialog")
        elif method == "OPTIONS":
            request.check()  # nothing else looks at it
            headers = (("Allow", self._allow), ("Accept", "application/sdp"), ("Supported", ", ".join(UNDERSTOOD)))
            self._answer(incoming, 200, headers=headers)
        elif method in NOTICES and not self._parts.notices.enabled:
            raise Reject(405, headers=(("Allow", self._allow),), rule="method", why=method)
        elif self.draining:
            raise Reject(503, "Going down, please use another server", retry_after=RETRY_AFTER_S, rule="draining")
        elif request.has("route"):
            raise Reject(403, "Route not allowed", rule="route", why=request.get("route") or "")
        elif method == "REGISTER":
            await self._register(incoming, ruleset)
        elif trunk is not None:
            await self._from_pbx(incoming, relay)
        else:
            await self._from_phone(incoming, relay, ruleset)

    async def _register(self, incoming: Incoming, ruleset: Ruleset) -> None:
        started = self._clock.monotonic()
        request = incoming.request
        if not self._parts.own.is_us(request.uri):
            raise Reject(403, "This registrar does not serve that domain", rule="foreign-domain", why=request.uri.host)
        identity = await self._identify(incoming)
        headers = await self._parts.registrar.register(request, incoming.flow, identity, ruleset)
        if identity.answer:
            headers.append(("Authentication-Info", identity.answer))
        self._answer(incoming, 200, headers=headers)
        self._log(incoming, "registered", 200, started, user=identity.user)

    async def _from_phone(self, incoming: Incoming, relay: Relay, ruleset: Ruleset) -> None:
        request = incoming.request
        if request.method == "INVITE" and request.has("proxy-authorization"):
            self._answer(incoming, 100)
        identity = await self._identify(incoming)
        self._parts.switchboard.check_session(request)
        if not identity.owns(request.from_.uri):
            raise Reject(403, "This From address is not yours", rule="from", why=request.from_.uri.address)
        if request.method in NOTICES:
            await self._notice(incoming, relay, identity, ruleset)
            return
        phone = await self._parts.parties.phone_of(request.uri)
        number = await self._parts.parties.number_of(request.uri, phone)
        relay.check_cancelled()
        verdict = self._judge.verdict(incoming, identity, number, ruleset)
        if refused := self._judge.refusal(incoming, identity.grant, verdict):
            refusal, rule = refused
            await self._judge.put_on_record(incoming, identity, number, verdict, ruleset, refusal=refusal, rule=rule)
            raise refusal
        switchboard = self._parts.switchboard
        call = switchboard.open_out(incoming, identity, number, verdict, policy=ruleset.label)
        if phone is None:
            trunk = self.trunks.for_number(verdict.dial)
            await switchboard.call_out(incoming, relay, call, number=verdict.dial, trunk=trunk)
        else:
            await switchboard.call_phone(incoming, relay, call, phone)

    async def _notice(self, incoming: Incoming, relay: Relay, identity: Identity, ruleset: Ruleset) -> None:
        """A person's request that makes no call: about the person, or about a number that the person may call."""
        request, notices = incoming.request, self._parts.notices
        method = request.method
        notices.check_rate(identity.user)
        phone = await self._parts.parties.phone_of(request.uri) if method != "PUBLISH" else None
        if phone is None and method in ("SUBSCRIBE", "PUBLISH") and identity.owns(request.uri):
            number = identity.grant.extension or request.uri.unescaped_user
        elif method == "PUBLISH":
            raise Reject(403, "This address is not yours", rule="address", why=request.uri.address)
        else:
            number = await self._parts.parties.number_of(request.uri, phone)
            if phone is None or phone.user != identity.user:
                self._judge.notice(incoming, identity, number, ruleset)
        if method == "REFER":
            if phone is not None:
                self._judge.reach(identity, phone)
            await self._judge.transfer(incoming, identity, ruleset)
        if phone is not None:
            await notices.to_phone(incoming, relay, identity, phone)
            return
        await notices.to_pbx(incoming, relay, identity, number=number, trunk=self.trunks.for_number(number))

    async def _from_pbx(self, incoming: Incoming, relay: Relay) -> None:
        request = incoming.request
        calls = request.method == "INVITE"
        if calls:
            self._parts.switchboard.check_session(request)
            self._answer(incoming, 100)
        elif request.method == "PUBLISH":
            raise Reject(405, headers=(("Allow", self._allow),), rule="method", why="PUBLISH from the PBX")
        registration, number = await self._parts.parties.called(request.uri)
        relay.check_cancelled()
        if calls:
            ruleset, grant = self.ruleset, registration.grant

            async def judge(response: Response, flow: Flow) -> Onward | None:
                if grant is None or GR in request.uri.params:  # that one phone or none (RFC 5627 6.1)
                    return None
                ringing = Incoming(incoming.key, request, flow)  # as if the phone had called
                return await self._judge.forward(response, ringing, grant, ruleset)

            await self._parts.switchboard.ring(incoming, relay, registration, number, judge=judge)
        else:
            await self._parts.notices.to_phones(incoming, relay, registration)

    async def _within_call(self, incoming: Incoming, relay: Relay, own_route: Uri | None) -> None:
        request = incoming.request
        hop = self._parts.calls.find(request, own_route)
        if await self._check_sender(incoming, hop.sender, hop.user_of(hop.sender), of=f"call {hop.call.id}"):
            self._parts.switchboard.store(hop.call)
        self._parts.switchboard.check_session(request)
        if request.method == "REFER" and hop.sender.side == PHONE:
            identity = Identity(hop.call.grant, frozenset())
            await self._judge.transfer(incoming, identity, self.ruleset, party=hop.receiver)
        if hop.call.encrypted:
            check_media(request)
        if request.method == "INVITE":
            self._answer(incoming, 100)
        await self._parts.parties.follow(hop.receiver, hop.user_of(hop.receiver))
        await self._parts.switchboard.carry(incoming, relay, hop)

    async def _within_subscription(self, incoming: Incoming, relay: Relay, way: Way) -> None:
        subscription = way.subscription
        of = f"subscription {subscription.id}"
        if await self._check_sender(incoming, way.sender, way.user_of(way.sender), of=of):
            self._parts.notices.moved(subscription)
        await self._parts.parties.follow(way.receiver, way.user_of(way.receiver))
        await self._parts.notices.carry(incoming, relay, way)

    # -- steps ---------------------------------------------------------------------------------------------------

    async def _identify(self, incoming: Incoming) -> Identity:
        guard, address = self._parts.guard, incoming.flow.remote[0]
        try:
            identity = await self._parts.auth.identify(incoming.request, address)
        except Reject as reject:
            if reject.rule == "credentials":
                guard.strike(address, "auth", self._clock.monotonic(), proven=True)
            elif reject.rule == "nonce":  # nobody knows who sent it; phones do so once when they moved
                guard.strike(address, "auth", self._clock.monotonic(), proven=False)
            raise
        guard.proved(address, self._clock.monotonic())
        registers = incoming.request.method == "REGISTER"
        self._parts.judging.warden.logged_in(
            identity.grant, self.countries.of(address), registers=registers, peer=address
        )
        return identity

    def _turn_away(self, incoming: Incoming, signature: str) -> None:
        """A scanning tool learns nothing, not even that somebody is here; an INVITE has to be answered."""
        flow = incoming.flow
        self._parts.guard.strike(flow.remote[0], "scanner", self._clock.monotonic(), proven=flow.transport != "udp")
        if incoming.request.method == "INVITE":
            raise Reject(403, rule="scanner", why=signature)
        self._metrics.refused("scanner")
        self._log(incoming, "scanner", 0, self._clock.monotonic(), why=signature)

    async def _check_sender(self, incoming: Incoming, sender: Leg, user: str, *, of: str) -> bool:
        """A request within a dialog must come from the side that it claims to be from; whether that one moved."""
        flow = incoming.flow
        if sender.flow == flow:
            return False
        if sender.side == PBX:
            if self.trunks.of(flow) is None:
                raise Reject(403, rule="forged-dialog", why=f"{of}: not from the PBX")
        else:
            identity = await self._identify(incoming)  # the phone moved, or somebody pretends to be it
            if identity.user != user:
                raise Reject(403, rule="forged-dialog", why=f"{of}: not its user")
        sender.flow = flow
        return True

    @property
    def _allow(self) -> str:
        return ALLOW if self._parts.notices.enabled else ALLOW_CALLS

    def _answer_again(self, response: Response, flow: Flow) -> None:
        """A 2xx to an INVITE of an earlier process, sent again because the ACK died with that one (RFC 6026 7.2)."""
        try:
            caller = self._parts.calls.caller_of(response, flow)
            if caller is not None and response.has_more("via"):
                side = PHONE if self.trunks.of(flow) is None else PBX
                self._parts.switchboard.carry_answer(response, caller, side=side)
                return
            why = "belongs to nothing"
        except SipError as error:
            why = error.phrase
        self._drop("response", flow, why)

    def _acknowledge(self, request: Request, flow: Flow) -> None:
        """The ACK of a 2xx: forwarded when its sender is the side it claims to be, dropped otherwise.

        An ACK cannot be challenged (RFC 3261 22.1). A phone whose NAT gave it another port meanwhile is believed: it
        has the address, both tags and the name of the call; its next request will be challenged.
        """
        try:
            hop = self._parts.calls.find(request, self._pop_own_routes(request))
            if self._is_of_sender(hop.sender, flow):
                if leads_to_phone(hop.receiver.contact):
                    tasks.spawn(self._pass_ack(request, flow, hop), name="ack")
                else:
                    self._parts.switchboard.carry_ack(request, flow, hop)
                return
            why = "not from its side of the call"
        except Reject:
            why = "belongs to no call"
        except SipError as error:
            why = error.phrase
        self._drop("ack", flow, why)

    async def _pass_ack(self, request: Request, flow: Flow, hop: Hop) -> None:
        """Forward the ACK to a phone whose Contact is a GRUU."""
        try:
            await self._parts.parties.follow(hop.receiver, hop.user_of(hop.receiver))
            self._parts.switchboard.carry_ack(request, flow, hop)
        except (Reject, SipError, Unavailable) as error:
            self._drop("ack", flow, str(error))

    def _drop(self, what: str, flow: Flow, why: str) -> None:
        self._metrics.dropped(what)
        log.event(logger, f"{what}-dropped", level=logging.DEBUG, peer=flow.remote[0], why=why)

    def _is_of_sender(self, sender: Leg, flow: Flow) -> bool:
        if sender.side == PBX and self.trunks.of(flow) is not None:
            return True
        return sender.flow == flow or (sender.side == PHONE and sender.flow.remote[0] == flow.remote[0])

    def _pop_own_routes(self, request: Request) -> Uri | None:
        """Take our own Route entries off (RFC 3261 16.4); the last one names the call, if any does."""
        last = None
        while (route := pop_own_route(request, self._parts.own.is_us)) is not None:
            last = route
        return last

    # -- answers -------------------------------------------------------------------------------------------------

    def _answer(
        self,
        incoming: Incoming,
        status: int,
        reason: str = "",
        headers: tuple[tuple[str, str], ...] | list[tuple[str, str]] = (),
    ) -> None:
        tag = "" if status == 100 else self._new_tag()
        self._signalling.respond(
            incoming.key, response_to(incoming.request, status, reason, to_tag=tag, headers=headers)
        )

    def _refuse(self, incoming: Incoming, reject: Reject, started: float) -> None:
        self._answer(incoming, reject.status, reject.reason, reject.headers)
        if reject.rule in QUIET and not logger.isEnabledFor(logging.DEBUG):
            return
        level = logging.DEBUG if reject.rule in QUIET else logging.INFO
        self._metrics.refused(reject.rule)
        self._log(incoming, reject.rule or "refused", reject.status, started, why=reject.why, level=level)

    def _log(
        self,
        incoming: Incoming,
        verdict: str,
        status: int,
        started: float,
        *,
        user: str = "",
        why: str = "",
        level: int = logging.INFO,
    ) -> None:
        request = incoming.request
        log.event(
            logger,
            "request",
            level=level,
            method=request.method,
            callid=request.get("call-id") or "",
            user=user or _claimed_user(request),
            peer=incoming.flow.remote[0],
            verdict=verdict,
            status=status,
            why=why,
            ms=round((self._clock.monotonic() - started) * 1000, 1),
        )


def _phrase(request: Request, error: SipError) -> str:
    """What is wrong with a request, with the header at fault; typed values do not know where they stood."""
    if not error.header:
        try:
            request.check()
        except SipError as first:
            if first.text == error.text:
                return first.phrase
    return error.phrase


def _claimed_user(request: Request) -> str:
    """Who a request says that it is from, for the log; "" when that cannot be read."""
    try:
        return request.from_.uri.user
    except SipError:
        return ""
