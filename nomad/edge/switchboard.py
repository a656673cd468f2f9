"""Sets calls up, carries what is said within them, and ends them: always through the same closing function.

Who may call whom was decided before (`dispatch.py`). Calls from phones go to a PBX, calls from a PBX ring all phones of
a member. Media is offered to the relay on the way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from nomad import log, tasks
from nomad.clock import Clock
from nomad.config import Config
from nomad.edge import sessions
from nomad.edge.accounting import Accountant, cause_of
from nomad.edge.auth import Identity
from nomad.edge.calls import Call, CallState, CallTable, Hop, Leg
from nomad.edge.forwarding import Judge, Onward, tell
from nomad.edge.gateways import Gateways, Passage, may_be_large
from nomad.edge.logins import Logins
from nomad.edge.outbound import by_next_flow, takers, targets
from nomad.edge.personal import longest_call
from nomad.edge.policy import EMERGENCY, Verdict
from nomad.edge.proxy import FLOW_FAILED, PBX, PHONE, Branch, Proxy, Relay, Retry
from nomad.edge.sides import Incoming, Sides, beyond_us, calling_leg, guard_identity, new_target
from nomad.edge.trunks import Trunk
from nomad.metrics import Metrics
from nomad.ports import Binding, Grant, MediaRelay, Registration, Signalling, Unavailable
from nomad.sip.bindings import MAX_USER_AGENT_CHARS
from nomad.sip.build import new_request
from nomad.sip.errors import Reject, SipError
from nomad.sip.events import Flow
from nomad.sip.message import Request, Response
from nomad.sip.uri import Uri

logger = logging.getLogger(__name__)

SDP = "application/sdp"


class Switchboard:
    """Connects the two sides of calls."""

    def __init__(
        self,
        config: Config,
        signalling: Signalling,
        media: MediaRelay,
        *,
        sides: Sides,
        gateways: Gateways,
        logins: Logins,
        proxy: Proxy,
        calls: CallTable,
        accountant: Accountant,
        clock: Clock,
        metrics: Metrics,
        new_id: Callable[[], str],
    ) -> None:
        self._config = config
        self._signalling = signalling
        self._media = media
        self._sides = sides
        self._gateways = gateways
        self._logins = logins
        self._proxy = proxy
        self._calls = calls
        self._accountant = accountant
        self._clock = clock
        self._metrics = metrics
        self._new_id = new_id
        self._onward: dict[str, Onward] = {}  # call id -> where a phone sent it on to, while it rings
        self._setups: dict[str, Relay] = {}  # call id -> INVITE that has no final response yet

    # -- new calls -----------------------------------------------------------------------------------------------

    def open_out(
        self, incoming: Incoming, identity: Identity, number: str, verdict: Verdict, *, policy: str = ""
    ) -> Call:
        """Take in the call of a member; no await may stand between the verdict and this."""
        request = incoming.request
        if verdict.number_class != EMERGENCY:
            sessions.bound(request, identity.grant.idle_timeout_s, self._config.sip.min_session_expires_s)
        call = Call(
            id=self._new_id(),
            call_id=request.call_id,
            direction="out",
            grant=identity.grant,
            caller_address=request.from_.uri.address,
            callee_address=f"{number}@{self._config.domain}",
            number_class=verdict.number_class,
            started_at=self._clock.wall(),
            multi=self._calls.family(request),
            caller=calling_leg(PHONE, request, incoming.flow),
            peer=incoming.flow.remote[0],
            user_agent=(request.get("user-agent") or "")[:MAX_USER_AGENT_CHARS],
            group=verdict.group,
            number=verdict.number,
            policy=policy,
            chain=verdict.short,
            limit_s=_longest(verdict, identity.grant),
            policy_limit_s=verdict.limits.call_s,
            limits=verdict.limits,
            tariff=verdict.tariff,
            encrypted=verdict.encrypted,
        )
        self._calls.open(call)
        self._accountant.opened(call)
        return call

    async def call_out(self, incoming: Incoming, relay: Relay, call: Call, *, number: str, trunk: Trunk) -> None:
        """Forward a member's INVITE to the PBX and see the call through its setup."""
        self._setups[call.id] = relay

        def make(flow: Flow) -> tuple[Request, Retry | None]:
            forwarded = self._sides.to_pbx(incoming, call.grant, number, trunk=trunk, flow=flow, token=call.id)
            return forwarded, self._logins.sign(forwarded, flow, trunk)

        passage = Passage(self._gateways, trunk, make)
        try:
            branch = await passage.begin()
        except Unavailable as error:
            del self._setups[call.id]
            await self._close(call, status=503, cause="NAS-Error", rule="pbx", reason="PBX unreachable")
            raise Reject(503, "PBX unreachable", rule="pbx", retry_after=10, why=str(error)) from None
        except BaseException:
            del self._setups[call.id]
            await self._close(call, status=500, cause="NAS-Error")
            raise
        await self._set_up(incoming, relay, call, [branch], retry=passage.retry)

    async def ring(
        self, incoming: Incoming, relay: Relay, registration: Registration, number: str, *, judge: Judge
    ) -> None:
        """Fork a PBX's INVITE to all phones of a member; the first answer wins.

        `judge` says where a phone may send the call on to: that number rings in its place, one for each call.
        """
        request = incoming.request
        grant, bindings = self._phones(registration, request)
        sessions.bound(request, grant.idle_timeout_s, self._config.sip.min_session_expires_s)
        call = Call(
            id=self._new_id(),
            call_id=request.call_id,
            direction="in",
            grant=grant,
            caller_address=request.from_.uri.address,
            callee_address=f"{number}@{self._config.domain}",
            number_class="internal",
            started_at=self._clock.wall(),
            multi=self._calls.family(request),
            caller=calling_leg(PBX, request, incoming.flow),
            peer=bindings[0].flow.remote[0],
            user_agent=bindings[0].user_agent,
            number=number,
        )

        onward: Retry | None = None

        async def retry(response: Response | None, failed: Branch) -> Branch | None:
            """What rings in the place of a phone: its next flow (RFC 5626 7), or whom it names (16.7 step 4)."""
            nonlocal onward
            if failed.side == PBX:
                return await onward(response, failed) if onward is not None else None
            if response is not None and response.status != FLOW_FAILED:
                sent_on = await self._send_on(incoming, call, failed, response, judge)
                if sent_on is None:
                    return None
                branch, onward = sent_on
                return branch
            return await next_flow(response, failed)

        to_phone = partial(self._sides.to_phone, incoming, token=call.id, branches=len(bindings))
        next_flow = by_next_flow(registration.bindings, bindings, self._clock.wall(), to_phone)
        branches = [to_phone(binding) for binding in bindings]
        self._calls.open(call)
        await self._set_up(incoming, relay, call, branches, retry=retry)

    async def call_phone(self, incoming: Incoming, relay: Relay, call: Call, registration: Registration) -> None:
        """Forward a member's INVITE to the one phone that it names by a GRUU (RFC 5627), of this or another member."""
        try:
            _, bindings = self._phones(registration, incoming.request)
            to_phone = partial(
                self._sides.phone_to_phone,
                incoming,
                call.grant,
                user=registration.user,
                token=call.id,
                branches=len(bindings),
            )
            branches = [to_phone(binding) for binding in bindings]
        except Reject as reject:
            await self._close(call, status=reject.status, cause="User-Error", rule=reject.rule, reason=reject.reason)
            raise
        next_flow = by_next_flow(registration.bindings, bindings, self._clock.wall(), to_phone)
        await self._set_up(incoming, relay, call, branches, retry=next_flow)

    def _phones(self, registration: Registration, request: Request) -> tuple[Grant, list[Binding]]:
        """Who is called, and which phones ring. Raises `Reject` when there are none."""
        bindings = targets(registration.bindings, self._clock.wall())
        if not bindings or registration.grant is None:
            raise Reject(480, "Nobody is registered at this extension", rule="unregistered", why=registration.user)
        bindings = takers(bindings, request.body)
        if not bindings:
            raise Reject(488, "No phone of this person takes such media", rule="media", why=registration.user)
        return registration.grant, bindings

    async def _send_on(
        self, incoming: Incoming, call: Call, failed: Branch, response: Response, judge: Judge
    ) -> tuple[Branch, Retry] | None:
        """The branch to where a phone sends its call on to, None when it may not or the PBX is away."""
        if call.id in self._onward or not 300 <= response.status < 400:
            return None
        onward = await judge(response, failed.flow)
        if onward is None:
            return None
        # No await stands between the verdict and this: many at once do not get more through than one after the other
        self._onward[call.id], call.forwarded = onward, True
        call.limits, call.tariff = onward.verdict.limits, onward.verdict.tariff
        if onward.verdict.number_class != EMERGENCY:
            self._accountant.opened(call, onward=True)
        trunk = onward.trunk

        def make(flow: Flow) -> tuple[Request, Retry | None]:
            request = self._sides.onward(incoming, onward.number, trunk=trunk, flow=flow, token=call.id)
            by = Uri.build(call.grant.extension or call.user, self._config.domain)
            tell(request, trunk.diversion, by=str(by), to=request.uri_text, status=response.status)
            return request, self._logins.sign(request, flow, trunk)

        passage = Passage(self._gateways, trunk, make)
        try:
            branch = await passage.begin()
            await self._offer(call, incoming, branch)
            branch = await self._gateways.fit(branch)
        except (Unavailable, Reject) as error:
            self._accountant.given_up(call)
            self._onward.pop(call.id, None)
            call.forwarded = False
            log.event(logger, "not-forwarded", level=logging.WARNING, id=call.id, why=str(error))
            return None
        call.peer = failed.flow.remote[0]
        return branch, passage.retry

    def leads_to(self, call: Call) -> tuple[str, str]:
        """The number that a call is to, and its class; when a phone has sent it on, those of where to."""
        onward = self._onward.get(call.id)
        if onward is None:
            return call.number, call.number_class
        return onward.verdict.number, onward.verdict.number_class

    def _pays(self, call: Call, onward: Onward) -> None:
        """The number that a phone sent a call on to has answered: it is a call of the phone's person from now on."""
        verdict = onward.verdict
        call.direction = "out"
        call.callee_address = f"{onward.number}@{self._config.domain}"
        call.number_class = verdict.number_class
        call.group, call.number, call.policy, call.chain = verdict.group, verdict.number, onward.policy, verdict.short
        call.limit_s, call.policy_limit_s = _longest(verdict, call.grant), verdict.limits.call_s

    async def _offer(self, call: Call, incoming: Incoming, branch: Branch) -> None:
        """Offer a session to a branch: its media by way of the relay, its timer if nobody asked for one.

        Raises `Unavailable`.
        """
        sessions.ask(branch.request, self._timer_of(call))
        if branch.request.body and branch.request.content_type == SDP:
            branch.request.body = await self._media.offer(
                call.id, branch.request.body, from_flow=incoming.flow, to_flow=branch.flow
            )

    async def _set_up(
        self,
        incoming: Incoming,
        relay: Relay,
        call: Call,
        branches: list[Branch],
        *,
        retry: Retry | None = None,
    ) -> None:
        request = incoming.request
        started = self._clock.monotonic()

        refused: set[str] = set()  # tags of those whose answer was of no use to the caller

        async def observe(response: Response, branch: Branch) -> None:
            guard_identity(response, branch.side)
            if branch.side == PHONE and 300 <= response.status < 400:
                response.remove("contact")  # the PBX would call there in the phone's stead, and nobody judged it
            if response.status == 100 or response.status >= 300 or not response.to.tag:
                return
            try:
                await self._progress(call, branch.request, response, branch, started)
            except (Reject, SipError, Unavailable):
                if response.status >= 200:
                    self._hang_up_on(response, branch, call, again=response.to.tag in refused)
                    refused.add(response.to.tag)
                raise

        self._setups[call.id] = relay
        status = 500
        try:
            for branch in branches:
                await self._offer(call, incoming, branch)
            branches = [await self._gateways.fit(branch) for branch in branches]
            relay.check_cancelled()
            status = await self._proxy.relay(relay, request, branches, observe=observe, retry=retry)
        except Reject as reject:
            status = reject.status
            raise
        finally:
            del self._setups[call.id]
            self._onward.pop(call.id, None)
            if call.state is not CallState.ANSWERED:
                await self._close(call, status=status, cause=call.terminate_cause or cause_of(status))

    def check_session(self, request: Request) -> None:
        """Raises `Reject(422)` when the phones would have to refresh the call too often (RFC 4028 8.1)."""
        sessions.check_interval(request, self._config.sip.min_session_expires_s)

    def _hang_up_on(self, answer: Response, branch: Branch, call: Call, *, again: bool) -> None:
        """ACK and BYE for who answered a call that the caller will not get (RFC 3261 13.2.2.4)."""
        invite = branch.request
        target = new_target(answer, invite.uri_text)
        try:
            routes, _ = beyond_us(answer, call.id)
        except SipError:  # that may be what was wrong with it
            routes = ()
        number = invite.cseq.number
        for method, cseq in (("ACK", number), ("BYE", number + 1)):
            request = new_request(
                method,
                target,
                from_=invite.get("from") or "",
                to=answer.get("to") or "",
                call_id=call.call_id,
                cseq=cseq,
                via=self._proxy.via(branch.flow),
                routes=routes,
            )
            if method == "ACK":
                self._signalling.forward(request, branch.flow)
            elif not again:
                self._signalling.request(request, branch.flow)

    def _timer_of(self, call: Call) -> int:
        """The session timer to ask for; none in an emergency call, which nothing ends but its ends."""
        return 0 if call.number_class == EMERGENCY else self._config.sip.session_expires_s

    def _until(self, interval: int | None) -> float | None:
        return None if interval is None else self._clock.wall() + interval + sessions.GRACE_S

    async def _progress(self, call: Call, request: Request, response: Response, branch: Branch, started: float) -> None:
        """A provisional or successful answer: learn the dialog; the first 2xx makes it a call to account."""
        if call.state is CallState.ENDED and call.answered_at is None and response.status >= 200:
            raise Reject(487, rule="late-answer")  # the caller has its final answer, and it is another
        leg = call.learn_callee(response, branch.side, branch.flow)
        if response.body and response.content_type == SDP:
            response.body = await self._media.answer(
                call.id, response.body, from_flow=branch.flow, to_flow=call.caller.flow
            )
        if response.has("record-route"):
            leg.routes, call.caller.routes = beyond_us(response, call.id)
        leg.user = branch.user
        if response.status < 200:
            if call.state is CallState.TRYING:
                call.state = CallState.RINGING
            return
        interval = sessions.agree(request, response)
        if call.state is CallState.ANSWERED or call.state is CallState.ENDED:
            return
        onward = self._onward.get(call.id)
        if onward is not None:
            call.forwarded = branch.side == PBX
            if call.forwarded:
                self._pays(call, onward)
        self._calls.answered(call, leg.tag, self._clock.wall())
        self._calls.expect_refresh(call, self._until(interval))
        if branch.side == PHONE and call.direction == "in":
            call.peer = branch.flow.remote[0]
        self._metrics.call_setup_seconds(self._clock.monotonic() - started)
        await self._accountant.started(call)

    # -- within calls --------------------------------------------------------------------------------------------

    async def carry(self, incoming: Incoming, relay: Relay, hop: Hop) -> None:
        """Forward a request within a call to its other side; a BYE ends the call."""
        request, call = incoming.request, hop.call
        hop.sender.cseq = max(hop.sender.cseq, request.cseq.number)
        if request.method in sessions.REFRESHING and call.refresh_by is not None and call.number_class != EMERGENCY:
            sessions.bound(request, call.grant.idle_timeout_s, self._config.sip.min_session_expires_s)
        forwarded = self._sides.within(request, incoming.flow, sender=hop.sender, receiver=hop.receiver)
        refreshes = request.method in sessions.REFRESHING
        if refreshes:
            hop.sender.refresh(new_target(request, hop.sender.contact))
            if call.state is CallState.ANSWERED:
                sessions.ask(forwarded, self._timer_of(call))
        ending = None
        if request.method == "BYE" and call.state is CallState.ANSWERED and self._is_answered_dialog(hop):
            ending = self._close(call, status=200, cause="User-Request")

        async def observe(response: Response, branch: Branch) -> None:
            guard_identity(response, branch.side)
            if 200 <= response.status < 300 and refreshes:
                hop.receiver.refresh(new_target(response, hop.receiver.contact))
                self._calls.expect_refresh(call, self._until(sessions.agree(branch.request, response)))
                self.store(call)

        receiver = hop.receiver
        branch = await self._gateways.fit(Branch(forwarded, receiver.flow, receiver.side))
        retry = self._logins.sign(forwarded, receiver.flow) if receiver.side == PBX else None
        status = await self._proxy.relay(relay, request, [branch], observe=observe, sent=ending, retry=retry)
        if ending is not None and status >= 300 and status != 481:
            # The call is accounted as ended: so it must end, whatever was wrong with this BYE
            self._bye(call, to=hop.receiver, sender=hop.sender)

    def store(self, call: Call) -> None:
        """A side of a call moved, or its timer did: a crash must not forget it."""
        if call.state is CallState.ANSWERED:
            self._accountant.changed(call)

    def carry_ack(self, request: Request, flow: Flow, hop: Hop) -> None:
        """Forward the ACK of a 2xx; it has no transaction (RFC 3261 17.1.1.3)."""
        receiver = hop.receiver
        forwarded = self._sides.within(request, flow, sender=hop.sender, receiver=receiver)
        branch = Branch(forwarded, receiver.flow, receiver.side)
        if may_be_large(branch):
            tasks.spawn(self._ack_large(branch), name="ack")
        else:
            self._signalling.forward(forwarded, receiver.flow)

    async def _ack_large(self, branch: Branch) -> None:
        branch = await self._gateways.fit(branch)
        self._signalling.forward(branch.request, branch.carrier or branch.flow)

    def carry_answer(self, response: Response, caller: Leg, *, side: str) -> None:
        """Forward a 2xx that has no transaction here any more, from a phone or a PBX, to the caller of its call."""
        guard_identity(response, side)
        response.pop_first("via")
        self._signalling.forward(response, caller.flow)

    def _is_answered_dialog(self, hop: Hop) -> bool:
        callee = hop.receiver if hop.from_caller else hop.sender
        return callee.tag == hop.call.answered_by

    # -- ending calls --------------------------------------------------------------------------------------------

    async def hang_up(self, call: Call, *, cause: str, rule: str = "", reason: str = "") -> None:
        """End a call from our side: BYE to both sides, or CANCEL while it is being set up.

        `rule` and `reason` go into its record.
        """
        setup = self._setups.get(call.id)
        if call.state is not CallState.ANSWERED:
            if setup is not None:
                call.terminate_cause = cause
                setup.cancel()
            return
        callee = call.callee()
        if callee is not None:
            self._bye(call, to=callee, sender=call.caller)
            self._bye(call, to=call.caller, sender=callee)
        await self._close(call, status=200, cause=cause, rule=rule, reason=reason)

    def _bye(self, call: Call, *, to: Leg, sender: Leg) -> None:
        if not to.contact:
            return
        sender.cseq += 1
        request = new_request(
            "BYE",
            to.target or to.contact,
            from_=sender.party,
            to=to.party,
            call_id=call.call_id,
            cseq=sender.cseq,
            via=self._proxy.via(to.flow),
            routes=to.routes,
        )
        retry = self._logins.sign(request, to.flow) if to.side == PBX else None
        if retry is None:
            self._signalling.request(request, to.flow)  # what becomes of it is no matter
        else:
            tasks.spawn(self._end_with(request, to.flow, retry), name="bye")

    async def _end_with(self, bye: Request, flow: Flow, retry: Retry) -> None:
        await self._proxy.ask(bye, flow, retry=retry)

    async def _close(self, call: Call, *, status: int, cause: str, rule: str = "", reason: str = "") -> None:
        """The one way a call ends: counted, accounted, its media freed."""
        if not self._calls.end(call, at=self._clock.wall(), status=status, cause=cause):
            return
        log.event(
            logger,
            "call",
            callid=call.call_id,
            id=call.id,
            direction=call.direction,
            user=call.user,
            peer=call.peer,
            caller=call.caller_address,
            callee=call.callee_address,
            status=call.status,
            seconds=round(call.duration_s, 3),
            cause=cause,
            rules=call.chain,
        )
        try:
            await self._media.close(call.id)
        except Unavailable as error:
            log.event(logger, "media-failed", level=logging.WARNING, id=call.id, why=str(error))
        await self._accountant.ended(call, rule=rule, reason=reason)


def _longest(verdict: Verdict, grant: Grant) -> float | None:
    """How long a call may last from its answer on; nothing ends an emergency call but its ends.

    Minutes and money that run out are the part of `usage.py`.
    """
    return None if verdict.number_class == EMERGENCY else longest_call(verdict.limits.call_s, grant)
