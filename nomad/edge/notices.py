"""Requests outside of calls, carried: SUBSCRIBE, NOTIFY, PUBLISH, MESSAGE and REFER (RFC 6665, 3903, 3428, 3515).

Who may ask for what was decided before (`dispatch.py`). From a person to a PBX or to the one phone that a GRUU names,
from a PBX to all phones of a person, and within the dialogs of subscriptions. A live subscription is stored, so that
news still comes after a crash.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from nomad import log, tasks
from nomad.clock import Clock
from nomad.config import Events
from nomad.edge.auth import Identity
from nomad.edge.calls import Leg
from nomad.edge.gateways import Gateways, Passage
from nomad.edge.logins import Logins
from nomad.edge.outbound import by_next_flow, targets
from nomad.edge.proxy import PBX, PHONE, Branch, Proxy, Relay, Retry
from nomad.edge.sides import Incoming, Sides, beyond_us, calling_leg, guard_identity, new_target, remote_target
from nomad.edge.subscriptions import ID_PREFIX, Subscription, Subscriptions, Way, freeze, learn, seconds_left
from nomad.edge.trunks import Trunk
from nomad.ports import Binding, CallStore, Registration, Unavailable
from nomad.sip.errors import Reject
from nomad.sip.events import Flow
from nomad.sip.message import Request, Response

logger = logging.getLogger(__name__)

METHODS = frozenset({"SUBSCRIBE", "NOTIFY", "PUBLISH", "MESSAGE", "REFER"})
OPENING = frozenset({"SUBSCRIBE", "REFER"})  # what makes a subscription
REFER_S = 60.0  # a REFER's subscription, until its first NOTIFY says more
# Answers to a refresh after which there is no subscription any more (RFC 6665 4.1.2.2, RFC 5057 5.1)
FATAL = frozenset({404, 405, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 604})
MAX_PEOPLE = 100_000  # whose rates are remembered
RETRY_AFTER_S = 60


@dataclass(frozen=True, slots=True)
class Parts:
    """What carries."""

    sides: Sides
    gateways: Gateways
    logins: Logins
    proxy: Proxy
    subscriptions: Subscriptions
    calls: CallStore  # keeps subscriptions too


class Notices:
    """Carries what makes no call."""

    def __init__(self, table: Events, parts: Parts, *, clock: Clock, new_id: Callable[[], str]) -> None:
        self._parts = parts
        self._clock = clock
        self._new_id = new_id
        self._rates: dict[str, tuple[float, float]] = {}  # user -> requests left, as of then (monotonic)
        self.configure(table)

    def configure(self, table: Events) -> None:
        """Take up new limits; subscriptions that are there go on."""
        self._table = table
        self._parts.subscriptions.limit = table.max_subscriptions
        self._parts.subscriptions.per_person = table.max_per_person

    @property
    def enabled(self) -> bool:
        """Whether such requests are served at all."""
        return self._table.enabled

    def check_rate(self, user: str) -> None:
        """Count a request of a person. Raises `Reject` when there were too many within the last minute."""
        most = float(self._table.requests_per_minute)
        now = self._clock.monotonic()
        left, at = self._rates.pop(user, (most, now))
        left = min(most, left + (now - at) * most / 60.0)
        if len(self._rates) >= MAX_PEOPLE:
            del self._rates[next(iter(self._rates))]
        self._rates[user] = (max(0.0, left - 1.0), now)
        if left < 1.0:
            raise Reject(503, "Too many requests", retry_after=RETRY_AFTER_S, rule="rate", why=user)

    # -- outside of dialogs --------------------------------------------------------------------------------------

    async def to_pbx(self, incoming: Incoming, relay: Relay, identity: Identity, *, number: str, trunk: Trunk) -> None:
        """Forward a person's request to a PBX."""
        parts = self._parts
        subscription = self._open(incoming, PHONE, identity.user)
        token = subscription.id if subscription is not None else ""

        def make(flow: Flow) -> tuple[Request, Retry | None]:
            copy = parts.sides.to_pbx(incoming, identity.grant, number, trunk=trunk, flow=flow, token=token)
            if subscription is not None:
                subscription.far_flows = (flow,)
            return copy, parts.logins.sign(copy, flow, trunk)

        passage = Passage(parts.gateways, trunk, make)
        try:
            branch = await parts.gateways.fit(await passage.begin())
        except BaseException:
            self._end(subscription)
            raise
        await self._relay(incoming, relay, [branch], subscription, retry=passage.retry)

    async def to_phones(self, incoming: Incoming, relay: Relay, registration: Registration) -> None:
        """Forward a PBX's request to all phones of a person."""
        bindings = targets(registration.bindings, self._clock.wall())
        if not bindings:
            raise Reject(480, "Nobody is registered at this extension", rule="unregistered", why=registration.user)
        count = len(bindings)

        def make(binding: Binding, token: str) -> Branch:
            return self._parts.sides.to_phone(incoming, binding, token=token, branches=count)

        await self._fork(incoming, relay, registration, bindings, make, self._open(incoming, PBX, registration.user))

    async def to_phone(self, incoming: Incoming, relay: Relay, identity: Identity, registration: Registration) -> None:
        """Forward a person's request to the one phone that it names by a GRUU (RFC 5627)."""
        bindings = targets(registration.bindings, self._clock.wall())
        user, count = registration.user, len(bindings)

        def make(binding: Binding, token: str) -> Branch:
            to_phone = self._parts.sides.phone_to_phone
            return to_phone(incoming, identity.grant, binding, user=user, token=token, branches=count)

        subscription = self._open(incoming, PHONE, identity.user, far_user=user)
        await self._fork(incoming, relay, registration, bindings, make, subscription)

    async def _fork(
        self,
        incoming: Incoming,
        relay: Relay,
        registration: Registration,
        bindings: Sequence[Binding],
        make: Callable[[Binding, str], Branch],
        subscription: Subscription | None,
    ) -> None:
        """Forward a request to phones; `make` gives what one gets, with a Record-Route that names the subscription."""

        def to_phone(binding: Binding) -> Branch:
            if subscription is None:
                return make(binding, "")
            subscription.far_flows += (binding.flow,)
            return make(binding, subscription.id)

        try:
            branches = [to_phone(binding) for binding in bindings]
        except BaseException:
            self._end(subscription)
            raise
        next_flow = by_next_flow(registration.bindings, bindings, self._clock.wall(), to_phone)
        await self._relay(incoming, relay, branches, subscription, retry=next_flow)

    async def _relay(
        self,
        incoming: Incoming,
        relay: Relay,
        branches: list[Branch],
        subscription: Subscription | None,
        *,
        retry: Retry | None = None,
    ) -> None:
        request = incoming.request

        async def observe(response: Response, branch: Branch) -> None:
            guard_identity(response, branch.side)
            if branch.side == PHONE and 300 <= response.status < 400:
                response.remove("contact")  # nobody judged whom the PBX would ask there
            if subscription is not None and 200 <= response.status < 300:
                self._accepted(subscription, request, response, branch)

        status = 0
        try:
            status = await self._parts.proxy.relay(relay, request, branches, observe=observe, retry=retry)
        finally:
            if status >= 300 or status == 0:
                # Unanswered too: who asked has given up by now (RFC 4320), and asks anew
                self._end(subscription if subscription is not None and not subscription.notifiers else None)

    def _open(self, incoming: Incoming, side: str, user: str, *, far_user: str = "") -> Subscription | None:
        request = incoming.request
        if request.method not in OPENING:
            return None
        leg = calling_leg(side, request, incoming.flow)
        leg.routes = tuple(request.elements("record-route"))
        subscription = Subscription(
            id=f"{ID_PREFIX}{self._new_id()}",
            call_id=request.call_id,
            user=user,
            event=(request.get("event") or "refer").partition(";")[0].strip(" \t"),
            subscriber=leg,
            far_side=PBX if side == PHONE and not far_user else PHONE,
            far_user=far_user,
        )
        self._parts.subscriptions.open(subscription, self._clock.wall(), by_person=side == PHONE)
        return subscription

    def _accepted(self, subscription: Subscription, request: Request, response: Response, branch: Branch) -> None:
        """A 2xx makes the dialog, unless a NOTIFY was faster, and says how long it lasts."""
        tag = response.to.tag
        leg = subscription.notifiers.get(tag) or Leg(branch.side, branch.flow, tag, user=branch.user)
        leg.party = response.get("to") or ""
        leg.refresh(new_target(response, leg.contact))
        leg.routes, subscription.subscriber.routes = beyond_us(response, subscription.id)
        learn(subscription, leg)
        granted = response.expires if request.method == "SUBSCRIBE" else REFER_S
        if granted is None:
            granted = request.expires or 0
        self._last(subscription, granted)

    # -- within the dialogs of subscriptions ---------------------------------------------------------------------

    async def carry(self, incoming: Incoming, relay: Relay, way: Way) -> None:
        """Forward a request within a subscription's dialog to its other side."""
        request, subscription = incoming.request, way.subscription
        sender, receiver = way.sender, way.receiver
        refreshes = request.method in ("SUBSCRIBE", "NOTIFY")
        sender.cseq = max(sender.cseq, request.cseq.number)
        if refreshes:
            self._refresh_target(subscription, sender, request)
        forwarded = self._parts.sides.within(
            request, incoming.flow, sender=sender, receiver=receiver, token=subscription.id if refreshes else ""
        )
        left = seconds_left(request) if request.method == "NOTIFY" else None

        async def observe(response: Response, branch: Branch) -> None:
            guard_identity(response, branch.side)
            if not 200 <= response.status < 300 or not refreshes:
                return
            receiver.refresh(new_target(response, receiver.contact))
            if request.method == "SUBSCRIBE" and response.expires is not None:
                self._last(subscription, response.expires)

        branch = await self._parts.gateways.fit(Branch(forwarded, receiver.flow, receiver.side))
        retry = self._parts.logins.sign(forwarded, receiver.flow) if receiver.side == PBX else None
        if left:
            self._last(subscription, left)
        status = await self._parts.proxy.relay(relay, request, [branch], observe=observe, retry=retry)
        if left == 0.0 or (refreshes and status in FATAL):
            self._end_dialog(subscription, sender if request.method == "NOTIFY" else receiver)

    def _refresh_target(self, subscription: Subscription, sender: Leg, request: Request) -> None:
        """Both methods refresh the target of their dialog, and the first NOTIFY makes it (RFC 6665 4.4.1)."""
        target = remote_target(request) or sender.contact
        moved = target != sender.contact
        sender.refresh(target)
        if request.method == "NOTIFY" and sender.tag not in subscription.notifiers:
            sender.party = request.get("from") or ""
            sender.routes = tuple(request.elements("record-route"))
            learn(subscription, sender)
            moved = True
        if moved:
            self.moved(subscription)

    def moved(self, subscription: Subscription) -> None:
        """A side of a subscription is elsewhere now; a crash must not forget it."""
        if subscription in self._parts.subscriptions:
            self._store(self._parts.calls.put(freeze(subscription, self._clock.wall())))

    # -- ending --------------------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Forget what has ended; `now` is Unix time."""
        for subscription in self._parts.subscriptions.expire(now):
            self._store(self._parts.calls.remove(subscription.id))

    def move(self, seconds: float) -> None:
        """The clock was set."""
        self._parts.subscriptions.move(seconds)

    def drop(self, user: str) -> int:
        """Forget every subscription of a person, who is let in no more; its next news gets 481."""
        found = [each for each in self._parts.subscriptions if user in (each.user, each.far_user)]
        for subscription in found:
            self._end(subscription)
        return len(found)

    def _last(self, subscription: Subscription, seconds: float) -> None:
        self._parts.subscriptions.last(subscription, seconds, self._clock.wall())
        self.moved(subscription)

    def _end_dialog(self, subscription: Subscription, notifier: Leg) -> None:
        """One notifier has ended its part; the subscription lasts until its last one has."""
        subscription.notifiers.pop(notifier.tag, None)
        if not subscription.notifiers:
            self._end(subscription)

    def _end(self, subscription: Subscription | None) -> None:
        if subscription is not None and self._parts.subscriptions.remove(subscription):
            self._store(self._parts.calls.remove(subscription.id))

    def _store(self, work: Awaitable[None]) -> None:
        tasks.spawn(_try(work), name="subscription")


async def _try(work: Awaitable[None]) -> None:
    """A store that is down costs no news, but what a crash then forgets."""
    try:
        await work
    except Unavailable as error:
        log.event(logger, "store-failed", level=logging.ERROR, what="subscriptions", error=str(error))
