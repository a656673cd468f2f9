"""Calls in progress: who talks to whom, which dialog side a request belongs to, when a call must end.

One Call has one owner at a time: the task that sets it up, later the request that changes it. Closing happens once,
here; what is accounted then is `accounting.py`'s part.
"""

from __future__ import annotations

import enum
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from nomad.edge.agenda import Agenda
from nomad.edge.policy import Tariff
from nomad.ports import NO_LIMITS, CallView, Grant, Limits, LiveCall
from nomad.sip.errors import Reject
from nomad.sip.events import Flow
from nomad.sip.message import Request, Response
from nomad.sip.uri import Uri

LINGER_S = 32.0  # how long an ended call still routes late requests and ACKs (64*T1)
LATE_REFRESH_S = 60.0
CALL_PARAM = "c"  # of our Record-Route URI; names the call
CSEQ_LEAP = 500  # more requests than a side has sent since its call was stored; gaps are allowed (RFC 3261 12.2.2)
MAX_CALLEES = 64  # dialogs that the forks of one call may create


class CallState(enum.StrEnum):
    """Where a call stands."""

    TRYING = "trying"
    RINGING = "ringing"
    ANSWERED = "answered"
    ENDED = "ended"


@dataclass(slots=True)
class Leg:
    """One side of a dialog as the edge sees it (RFC 3261 12)."""

    side: str  # phone or pbx
    flow: Flow
    tag: str = ""
    party: str = ""  # its From or To value
    contact: str = ""  # its remote target URI
    routes: tuple[str, ...] = ()  # its Record-Route values beyond us, nearest first
    cseq: int = 0  # highest CSeq number seen from it
    user: str = ""  # whose phone it is, when that is not the person that the call is accounted to
    target: str = ""  # the contact behind a GRUU in `contact` (RFC 5627), "" when that is none
    registered: Flow | None = None  # the flow that this contact was registered on when it was looked up

    def refresh(self, contact: str) -> None:
        """Another remote target (RFC 3261 12.2)."""
        if contact != self.contact:
            self.contact, self.target = contact, ""


@dataclass(slots=True)
class Call:
    """A call through the edge. Times are Unix seconds."""

    id: str
    call_id: str
    direction: str  # out: from a roaming phone; in: to roaming phones
    grant: Grant
    caller_address: str
    callee_address: str
    number_class: str
    started_at: float
    caller: Leg
    peer: str = ""
    user_agent: str = ""
    group: str = ""
    number: str = ""  # as the policy judged it
    policy: str = ""  # which version of it
    chain: str = ""  # rules that led to the verdict
    callees: dict[str, Leg] = field(default_factory=dict)
    state: CallState = CallState.TRYING
    answered_at: float | None = None
    answered_by: str = ""  # To tag of the first answer
    ended_at: float | None = None
    limit_s: float | None = None  # how long it may last from the answer on
    limits: Limits = NO_LIMITS  # of the user's group when the call was allowed; `usage.py` holds the call to them
    tariff: Tariff | None = None  # what it costs, None when nothing
    encrypted: bool = False  # whether its media must stay so
    policy_limit_s: float | None = None  # the policy's part of that, which no AAA server lengthens
    ends_at: float | None = None  # when the limit is reached
    status: int = 0
    terminate_cause: str = ""  # known before the end when the edge itself ends it
    forwarded: bool = False  # the member's phone sent it on; it is the member's call all the same
    multi: str = ""  # Acct-Multi-Session-Id, "" when the call belongs to no other
    interim_at: float = 0.0
    refresh_by: float | None = None  # when the session timer has run out (RFC 4028)

    @property
    def user(self) -> str:
        """The roaming member that the call is accounted to."""
        return self.grant.user

    @property
    def duration_s(self) -> float:
        """Seconds between answer and end, 0 when there was no answer."""
        if self.answered_at is None or self.ended_at is None:
            return 0.0
        return max(0.0, self.ended_at - self.answered_at)

    @property
    def cost(self) -> float:
        """What the call came to, in the currency of the policy."""
        return (
            self.tariff.cost(self.duration_s) if self.tariff and self.answered_at and self.direction == "out" else 0.0
        )

    @property
    def transport(self) -> str:
        """What the member's phone uses, "" while none has answered."""
        phone = self.caller if self.direction == "out" else self.callee()
        return phone.flow.transport if phone is not None else ""

    def callee(self) -> Leg | None:
        """The side that answered."""
        return self.callees.get(self.answered_by)

    def learn_callee(self, response: Response, side: str, flow: Flow) -> Leg:
        """Remember the dialog that a response creates or confirms (RFC 3261 12.1.2)."""
        tag = response.to.tag
        leg = self.callees.get(tag)
        if leg is None:
            if len(self.callees) >= MAX_CALLEES:
                raise Reject(503, rule="forks", why=f"call {self.id}: more than {MAX_CALLEES} dialogs")
            leg = self.callees[tag] = Leg(side, flow, tag)
        leg.party = response.get("to") or ""
        contacts = response.contacts
        if contacts:
            _ = contacts[0].uri  # what is no URI, nobody can be called at
            leg.refresh(contacts[0].uri_text)
        return leg


@dataclass(frozen=True, slots=True)
class Hop:
    """An in-dialog request between the two sides of a call."""

    call: Call
    sender: Leg
    receiver: Leg
    from_caller: bool

    def user_of(self, leg: Leg) -> str:
        """Whose phone a side is."""
        return leg.user or self.call.user


class CallTable:
    """Every call in progress, and for a while those that just ended."""

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}
        self._by_dialog: dict[str, list[Call]] = {}  # Call-ID -> calls; several when a PBX keeps the Call-ID
        self._active: dict[str, int] = {}  # user -> calls not ended
        self._ended: deque[tuple[float, Call]] = deque()
        self._deadlines = Agenda()  # by call id, as the next
        self._refreshes = Agenda()
        self.live = 0

    def open(self, call: Call) -> None:
        """Take a call in; it counts against its user from now on."""
        self._calls[call.id] = call
        self._by_dialog.setdefault(call.call_id, []).append(call)
        self._active[call.user] = self._active.get(call.user, 0) + 1
        self.live += 1

    def restore(self, call: Call, *, now: float, latest_end: float) -> None:
        """Take in a call that was in progress when the last process ended; it must end by then at the latest.

        A refresh that was due while nobody was here has a while from `now` on to come.
        """
        self.open(call)
        if call.refresh_by is not None:
            self.expect_refresh(call, max(call.refresh_by, now + LATE_REFRESH_S))
        for leg in (call.caller, *call.callees.values()):
            leg.cseq += CSEQ_LEAP
        limit = latest_end if call.limit_s is None else (call.answered_at or call.started_at) + call.limit_s
        self._ends_at(call, min(limit, latest_end))

    def limit(self, call: Call, limit_s: float) -> None:
        """Let a call last this long from its answer on, in place of what was allowed before."""
        call.limit_s = limit_s
        if call.answered_at is not None:
            self._ends_at(call, call.answered_at + limit_s)

    def expect_refresh(self, call: Call, by: float | None) -> None:
        """The two sides agreed to refresh the call until then; None ends the session timer."""
        if call.state is CallState.ANSWERED:
            call.refresh_by = by
            if by is not None:
                self._refreshes.note(call.id, by)

    def lapsed(self, now: float) -> list[Call]:
        """Calls whose refresh did not come, each once."""
        calls = []
        for id in self._refreshes.take(now):
            call = self.get(id)
            if call is None or call.refresh_by is None:
                continue
            if call.refresh_by <= now:
                calls.append(call)
            else:
                self.expect_refresh(call, call.refresh_by)
        return calls

    def move(self, seconds: float) -> None:
        """The clock was set: what is dated by the old one is dated anew, so that no call gets longer or shorter."""
        for call in self._calls.values():
            call.started_at += seconds
            call.interim_at += seconds
            for name in ("answered_at", "ended_at", "ends_at", "refresh_by"):
                at = getattr(call, name)
                if at is not None:
                    setattr(call, name, at + seconds)
        self._deadlines.move(seconds)
        self._refreshes.move(seconds)
        self._ended = deque((at + seconds, call) for at, call in self._ended)

    def get(self, id: str) -> Call | None:
        """A call that has not ended."""
        call = self._calls.get(id)
        return None if call is None or call.state is CallState.ENDED else call

    def active_of(self, user: str) -> int:
        """How many calls a user has now."""
        return self._active.get(user, 0)

    def forwarded_of(self, user: str) -> int:
        """How many of them the user's phone sent on."""
        return sum(call.forwarded and call.user == user for call in self)

    def join(self, one: Grant, other: str, extension: str) -> bool:
        """Whether two people talk: by a call of the edge alone, or by one through a PBX that both are in."""
        answered = [call for call in self if call.user in (one.user, other) and call.state is CallState.ANSWERED]
        for caller, called, number in ((one.user, other, extension), (other, one.user, one.extension)):
            takes = any(call.user == called and call.direction == "in" for call in answered)
            for call in answered:
                callee = call.callee()
                if call.user != caller or call.direction != "out" or callee is None:
                    continue
                if callee.user == called or (takes and number and call.number == number):
                    return True
        return False

    def __iter__(self) -> Iterator[Call]:
        return (call for call in tuple(self._calls.values()) if call.state is not CallState.ENDED)

    def answered(self, call: Call, tag: str, at: float) -> None:
        """The first 2xx came."""
        call.state = CallState.ANSWERED
        call.answered_at = at
        call.answered_by = tag
        call.status = 200
        if call.limit_s is not None:
            self._ends_at(call, at + call.limit_s)

    def overdue(self, now: float) -> list[Call]:
        """Answered calls whose limit was reached, each once."""
        calls = []
        for id in self._deadlines.take(now):
            call = self.get(id)
            if call is None or call.ends_at is None:
                continue
            if call.ends_at <= now:
                call.ends_at = None
                calls.append(call)
            else:
                self._deadlines.note(id, call.ends_at)
        return calls

    def _ends_at(self, call: Call, at: float) -> None:
        call.ends_at = at
        self._deadlines.note(call.id, at)

    def end(self, call: Call, *, at: float, status: int = 0, cause: str = "") -> bool:
        """Mark a call as ended; False when it already was, so that it is accounted once."""
        if call.state is CallState.ENDED:
            return False
        call.state = CallState.ENDED
        call.ended_at = at
        call.status = status or call.status
        call.terminate_cause = cause
        self.live -= 1
        left = self._active[call.user] - 1
        if left:
            self._active[call.user] = left
        else:
            del self._active[call.user]
        self._ended.append((at + LINGER_S, call))
        return True

    def forget(self, now: float) -> None:
        """Drop calls that ended long enough ago."""
        while self._ended and self._ended[0][0] <= now:
            call = self._ended.popleft()[1]
            del self._calls[call.id]
            same = self._by_dialog[call.call_id]
            same.remove(call)
            if not same:
                del self._by_dialog[call.call_id]

    def find(self, request: Request, own_route: Uri | None) -> Hop:
        """The call and the two sides of an in-dialog request. Raises `Reject(481)`.

        `own_route` is the Record-Route URI of ours that the request carried, which names the call.
        """
        call_id = request.call_id
        token = own_route.params.get(CALL_PARAM) if own_route is not None else None
        if token is not None:
            named = self._calls.get(token)
            candidates = [named] if named is not None and named.call_id == call_id else []
        else:
            candidates = self._by_dialog.get(call_id, [])
        sender_tag, receiver_tag = request.from_.tag, request.to.tag
        for call in candidates:
            if sender_tag == call.caller.tag and receiver_tag in call.callees:
                return Hop(call, call.caller, call.callees[receiver_tag], True)
            if receiver_tag == call.caller.tag and sender_tag in call.callees:
                return Hop(call, call.callees[sender_tag], call.caller, False)
        raise Reject(481, rule="dialog")

    def family(self, request: Request) -> str:
        """What links a new call to one in progress (RFC 2866 5.11): the Call-ID, or Replaces (RFC 3891); else ""."""
        kin = self._by_dialog.get(request.call_id)
        if kin is None and request.has("replaces"):
            kin = self._by_dialog.get((request.get("replaces") or "").partition(";")[0].strip(" \t"))
        return kin[0].multi or kin[0].id if kin else ""

    def caller_of(self, response: Response, flow: Flow) -> Leg | None:
        """The caller of the answered call that a repeated 2xx to its INVITE belongs to, None when there is none.

        The response must come by the flow of the side that answered.
        """
        if not 200 <= response.status < 300 or response.cseq.method != "INVITE":
            return None
        for call in self._by_dialog.get(response.call_id, []):
            callee = call.callees.get(response.to.tag)
            if callee is not None and callee.flow == flow and call.caller.tag == response.from_.tag:
                return call.caller if call.state is CallState.ANSWERED else None
        return None

    def views(self) -> list[CallView]:
        """Calls in progress for people, oldest first."""
        return [
            CallView(
                id=call.id,
                direction=call.direction,
                user=call.user,
                caller=call.caller_address,
                callee=call.callee_address,
                state=str(call.state),
                started_at=call.started_at,
                answered_at=call.answered_at,
                peer=call.peer,
            )
            for call in self
        ]


def freeze(call: Call, now: float) -> LiveCall:
    """A call as the call store keeps it."""
    try:
        data = msgspec.msgpack.encode(call)
    except UnicodeEncodeError:  # bytes of a peer that are no UTF-8, as Latin-1 names; JSON escapes them
        data = json.dumps(msgspec.to_builtins(call)).encode("ascii")
    return LiveCall(call.id, data, now)


def thaw(stored: LiveCall) -> Call:
    """The call again. Raises `ValueError` on data of another version."""
    if stored.data[:1] == b"{":
        return msgspec.convert(json.loads(stored.data), Call)
    return msgspec.msgpack.decode(stored.data, type=Call)
