"""Finds calls that ended without a word, where no session timer was agreed: asks both ends if they still have them.

The question is an OPTIONS within the dialog (RFC 3261 11.2, 12.2) whose CSeq number is 0: an end that has the dialog
answers 200, or 500 because the number is below those that it has seen (12.2.2); one that has not answers 481. So the
question uses up no number, and what the other end sends next is still in order.
"""

from __future__ import annotations

from nomad import tasks
from nomad.clock import Clock
from nomad.edge.calls import Call, CallState, CallTable, Leg
from nomad.edge.logins import Logins
from nomad.edge.policy import EMERGENCY
from nomad.edge.proxy import PBX, Proxy
from nomad.edge.switchboard import Switchboard
from nomad.sip.build import new_request

SCAN_S = 10.0  # between two looks at all calls
AGAIN_S = 30.0  # after a question that nobody answered; the second time ends the call
MAX_AT_ONCE = 50  # calls asked at a time
GONE = frozenset({408, 481})


class Probes:
    """Asks, and ends what nobody knows of any more."""

    def __init__(
        self,
        *,
        calls: CallTable,
        switchboard: Switchboard,
        proxy: Proxy,
        logins: Logins,
        clock: Clock,
        interval_s: float,
    ) -> None:
        """`interval_s` is how long a call is left in peace; 0 asks nobody."""
        self._calls = calls
        self._switchboard = switchboard
        self._proxy = proxy
        self._logins = logins
        self._clock = clock
        self._interval_s = interval_s
        self._scan_at = 0.0
        self._due: dict[str, float] = {}  # call id -> when to ask next, once it was asked
        self._silent: set[str] = set()  # calls that did not answer the last question
        self._asking: set[str] = set()

    def tick(self, now: float) -> None:
        """Ask about the calls that are due; `now` is Unix time."""
        if not self._interval_s or now < self._scan_at:
            return
        self._scan_at = now + SCAN_S
        live = {call.id: call for call in self._calls if _is_watched(call)}
        self._due = {id: at for id, at in self._due.items() if id in live}
        self._silent &= live.keys()
        for call in live.values():
            if len(self._asking) >= MAX_AT_ONCE:
                break
            due = self._due.get(call.id, (call.answered_at or now) + self._interval_s)
            if due <= now and call.id not in self._asking:
                self._asking.add(call.id)
                tasks.spawn(self._ask(call), name="probe")

    def move(self, seconds: float) -> None:
        """The clock was set."""
        self._scan_at += seconds
        self._due = {id: at + seconds for id, at in self._due.items()}

    async def _ask(self, call: Call) -> None:
        try:
            callee = call.callee()
            if callee is None:
                return
            statuses = [await self._status(call, call.caller, callee), await self._status(call, callee, call.caller)]
        finally:
            self._asking.discard(call.id)
        silent = None in statuses
        self._due[call.id] = self._clock.wall() + (AGAIN_S if silent else self._interval_s)
        if not _is_watched(call):
            return  # it ended, or a timer was agreed, while we asked
        if not GONE.isdisjoint(statuses) or (silent and call.id in self._silent):
            await self._switchboard.hang_up(call, cause="Lost-Carrier")
        elif silent:
            self._silent.add(call.id)
        else:
            self._silent.discard(call.id)

    async def _status(self, call: Call, to: Leg, sender: Leg) -> int | None:
        """What an end says, None when it says nothing."""
        if not to.contact or call.state is not CallState.ANSWERED:
            return 0  # it cannot be asked
        request = new_request(
            "OPTIONS",
            to.target or to.contact,
            from_=sender.party,
            to=to.party,
            call_id=call.call_id,
            cseq=0,
            via=self._proxy.via(to.flow),
            routes=to.routes,
        )
        retry = self._logins.sign(request, to.flow) if to.side == PBX else None
        response = await self._proxy.ask(request, to.flow, side=to.side, retry=retry)
        return None if response is None else response.status


def _is_watched(call: Call) -> bool:
    """Whether nothing else would find out that a call is dead; an emergency call is nobody's to end."""
    return call.state is CallState.ANSWERED and call.refresh_by is None and call.number_class != EMERGENCY
