"""Subscriptions through the edge: who asked whom for events, by which dialogs the news comes, until when (RFC 6665).

A SUBSCRIBE opens one, and a REFER outside of calls (RFC 3515 2.4.4). Notifiers are learned from 2xx and from NOTIFYs,
whichever comes first: a fork may have several. Who may subscribe is decided in `dispatch.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from nomad.edge.agenda import Agenda
from nomad.edge.calls import CALL_PARAM, CSEQ_LEAP, Leg
from nomad.ports import LiveCall
from nomad.sip.errors import Reject, SipError
from nomad.sip.events import Flow
from nomad.sip.grammar import parse_delta_seconds
from nomad.sip.message import Request
from nomad.sip.uri import Uri

GRACE_S = 32.0  # 64*T1: for a first NOTIFY (Timer N, RFC 6665 4.1.2.4), and for one that is under way at the end
LONGEST_S = 86_400.0  # without a refresh, whatever the notifier grants
MAX_NOTIFIERS = 8  # dialogs of one subscription; as many phones may answer a fork
ID_PREFIX = "sub-"  # tells them from calls, in the store and in Record-Route
RETRY_AFTER_S = 60


@dataclass(slots=True)
class Subscription:
    """One subscription. Times are Unix seconds."""

    id: str
    call_id: str
    user: str  # the person on the phone's side
    event: str
    subscriber: Leg
    far_side: str  # phone or pbx: where its notifiers are
    far_flows: tuple[Flow, ...] = ()  # where it was sent
    far_user: str = ""  # whose phone that is, when a person asked another's phone
    notifiers: dict[str, Leg] = field(default_factory=dict)
    ends_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Way:
    """A request within a subscription's dialog, between two of its sides."""

    subscription: Subscription
    sender: Leg
    receiver: Leg

    def user_of(self, leg: Leg) -> str:
        """Whose phone a side is."""
        return leg.user or self.subscription.user


class Subscriptions:
    """Every subscription, bounded in number as a whole and per person."""

    def __init__(self, *, limit: int, per_person: int) -> None:
        self.limit = limit  # these two are replaced by a reload
        self.per_person = per_person
        self._by_id: dict[str, Subscription] = {}
        self._by_call_id: dict[str, list[Subscription]] = {}
        self._of_user: dict[str, int] = {}
        self._ends = Agenda()  # by id

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, subscription: object) -> bool:
        return isinstance(subscription, Subscription) and subscription.id in self._by_id

    def __iter__(self) -> Iterator[Subscription]:
        return iter(tuple(self._by_id.values()))

    def open(self, subscription: Subscription, now: float, *, by_person: bool) -> None:
        """Take one in, for as long as a first NOTIFY may take. Raises `Reject` when there are too many."""
        count = self._of_user.get(subscription.user, 0)
        if by_person and count >= self.per_person:
            raise Reject(403, f"You have {count} subscriptions; no more are allowed", rule="subscriptions")
        if len(self._by_id) >= self.limit:
            raise Reject(503, retry_after=RETRY_AFTER_S, rule="subscriptions", why=f"{self.limit} subscriptions")
        self._add(subscription)
        self.ends(subscription, now + GRACE_S)

    def restore(self, subscription: Subscription) -> None:
        """Take in one of the last process."""
        for leg in (subscription.subscriber, *subscription.notifiers.values()):
            leg.cseq += CSEQ_LEAP
        self._add(subscription)
        self.ends(subscription, subscription.ends_at)

    def last(self, subscription: Subscription, seconds: float, now: float) -> None:
        """Let one last so long from now on, and a little more for what is under way."""
        if subscription.id in self._by_id:
            self.ends(subscription, now + min(seconds, LONGEST_S) + GRACE_S)

    def ends(self, subscription: Subscription, at: float) -> None:
        """Let one end then."""
        subscription.ends_at = at
        self._ends.note(subscription.id, at)

    def move(self, seconds: float) -> None:
        """The clock was set: each lasts as long as it would have."""
        for subscription in self._by_id.values():
            subscription.ends_at += seconds
        self._ends.move(seconds)

    def remove(self, subscription: Subscription) -> bool:
        """Forget one; False when it was forgotten before."""
        if self._by_id.pop(subscription.id, None) is None:
            return False
        self._ends.drop(subscription.id)
        same = self._by_call_id[subscription.call_id]
        same.remove(subscription)
        if not same:
            del self._by_call_id[subscription.call_id]
        left = self._of_user[subscription.user] - 1
        if left:
            self._of_user[subscription.user] = left
        else:
            del self._of_user[subscription.user]
        return True

    def expire(self, now: float) -> list[Subscription]:
        """Forget those that have ended; each once."""
        ended = []
        for id in self._ends.take(now):
            subscription = self._by_id[id]
            if subscription.ends_at <= now:
                self.remove(subscription)
                ended.append(subscription)
            else:
                self.ends(subscription, subscription.ends_at)
        return ended

    def find(self, request: Request, flow: Flow, own_route: Uri | None) -> Way | None:
        """The two sides of a request within a subscription's dialog, None when it belongs to none.

        The sender of a first NOTIFY is a new side, which `learn` keeps once it is known to be who it claims to be.
        """
        same = self._by_call_id.get(request.call_id)
        if same is None:
            return None
        token = own_route.params.get(CALL_PARAM) if own_route is not None else None
        from_tag, to_tag = request.from_.tag, request.to.tag
        for each in same:
            if token is not None and token != each.id:
                continue
            if from_tag == each.subscriber.tag and to_tag in each.notifiers:
                return Way(each, each.subscriber, each.notifiers[to_tag])
            if to_tag == each.subscriber.tag:
                known = each.notifiers.get(from_tag)
                if known is not None:
                    return Way(each, known, each.subscriber)
                if request.method == "NOTIFY" and each.far_flows and len(each.notifiers) < MAX_NOTIFIERS:
                    path = flow if flow in each.far_flows else each.far_flows[0]
                    return Way(each, Leg(each.far_side, path, from_tag, user=each.far_user), each.subscriber)
        return None

    def _add(self, subscription: Subscription) -> None:
        self._by_id[subscription.id] = subscription
        self._by_call_id.setdefault(subscription.call_id, []).append(subscription)
        self._of_user[subscription.user] = self._of_user.get(subscription.user, 0) + 1


def learn(subscription: Subscription, leg: Leg) -> None:
    """Keep a notifier that showed itself; of more than `MAX_NOTIFIERS` the later ones are not heard."""
    if leg is not subscription.subscriber and len(subscription.notifiers) < MAX_NOTIFIERS:
        subscription.notifiers.setdefault(leg.tag, leg)


def seconds_left(request: Request) -> float | None:
    """What a NOTIFY says of how long its subscription lasts, 0 when it has ended, None when it does not say.

    RFC 6665 4.1.3; a NOTIFY without Subscription-State says nothing.
    """
    state, _, rest = (request.get("subscription-state") or "").partition(";")
    if state.strip(" \t").lower() == "terminated":
        return 0.0
    for part in rest.split(";"):
        name, _, value = part.partition("=")
        if name.strip(" \t").lower() == "expires":
            try:
                return float(parse_delta_seconds(value.strip(" \t")))
            except SipError:
                return None
    return None


def freeze(subscription: Subscription, now: float) -> LiveCall:
    """A subscription as the store of calls keeps it."""
    try:
        data = msgspec.msgpack.encode(subscription)
    except UnicodeEncodeError:  # bytes of a peer that are no UTF-8
        data = json.dumps(msgspec.to_builtins(subscription)).encode("ascii")
    return LiveCall(subscription.id, data, now)


def thaw(stored: LiveCall) -> Subscription:
    """The subscription again. Raises `ValueError` on data of another version."""
    if stored.data[:1] == b"{":
        return msgspec.convert(json.loads(stored.data), Subscription)
    return msgspec.msgpack.decode(stored.data, type=Subscription)
