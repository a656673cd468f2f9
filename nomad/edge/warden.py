"""Acts on what looks like a stolen account: warns, locks it, ends its calls, has it register again, tells the admin.

What looks so is decided by `habits.py`; which action follows which finding by the configuration ([fraud]).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from dataclasses import dataclass

from nomad import log, tasks
from nomad.clock import Clock
from nomad.config import Watch
from nomad.edge.calls import CallTable
from nomad.edge.habits import Dialled, Finding, Habits
from nomad.edge.locks import Locks
from nomad.edge.orders import CAUSE, Orders
from nomad.edge.policy import EMERGENCY
from nomad.edge.switchboard import Switchboard
from nomad.metrics import Metrics
from nomad.ports import Alarm, Cdr, Deed, Grant, Lock, Notifier, Recorder, Unavailable
from nomad.sip.errors import Reject

logger = logging.getLogger(__name__)

BY = "fraud"
MAX_QUIET = 10_000  # warnings that are not repeated for a while
REFUSING = frozenset({"refuse", "lock", "reregister"})
REASONS = {  # what the user reads; the first that fits
    "lock": "Account locked, please call your help desk",
    "reregister": "Please register again",
    "refuse": "Call refused, please call your help desk",
}


@dataclass(frozen=True, slots=True)
class Force:
    """What the warden acts with."""

    locks: Locks
    calls: CallTable
    orders: Orders
    switchboard: Switchboard
    recorder: Recorder
    notifier: Notifier


class Warden:
    """Watches accounts; one per edge."""

    def __init__(self, habits: Habits, force: Force, *, clock: Clock, metrics: Metrics) -> None:
        self._habits = habits
        self._force = force
        self._clock = clock
        self._metrics = metrics
        self._quiet: dict[tuple[str, str], float] = {}  # user and rule -> until when a warning is not repeated
        self._must_register: set[str] = set()

    def logged_in(self, grant: Grant, place: str | None, *, registers: bool, peer: str) -> None:
        """Somebody's credentials were right; `place` is the country, None when it is not known."""
        if registers and self._must_register:
            self._must_register.discard(grant.user)
        if finding := self._habits.login(grant.user, place, self._clock.wall()):
            self._act([finding], grant, peer)

    def refused_login(self, login: str) -> None:
        """Somebody's credentials were refused."""
        user = self._habits.person(login)  # strangers choose names: those of nobody are not kept
        if user and (finding := self._habits.failed(user, self._clock.wall())):
            self._act([finding], Grant(user), "")

    def check_call(
        self, grant: Grant, number: str, number_class: str, peer: str, *, transferred: bool = False
    ) -> Reject | None:
        """The refusal of a call that must not be made. No await may stand between this and opening the call."""
        user = grant.user
        if number_class == EMERGENCY:
            return None
        if self._force.locks.of(user) is not None:  # within a call nobody is asked for credentials
            return Reject(403, REASONS["lock"], rule="fraud-locked")
        if user in self._must_register:
            return Reject(403, REASONS["reregister"], rule="fraud-reregister")
        live = self._live(user) if number_class in self._habits.table.expensive else []
        dialled = Dialled(user, number, number_class, self._clock.wall(), live, transferred)
        findings = self._habits.dialled(dialled)
        if not findings:
            return None
        taken = self._act(findings, grant, peer)
        if not taken & REFUSING:
            return None
        reason = next(text for action, text in REASONS.items() if action in taken)
        return Reject(403, reason, rule=f"fraud-{findings[0].rule}", why="; ".join(each.why for each in findings))

    def call_ended(self, record: Cdr, grant: Grant) -> None:
        """A call was put on record, or its refusal."""
        if finding := self._habits.ended(record):
            self._act([finding], grant, record.peer)

    def _live(self, user: str) -> list[str]:
        """Numbers of expensive classes that a person is calling, or that the person's phones have sent calls on to."""
        if not self._force.calls.active_of(user):
            return []
        expensive = self._habits.table.expensive
        calls = [self._force.switchboard.leads_to(call) for call in self._force.calls if call.user == user]
        return [number for number, number_class in calls if number_class in expensive]

    def _act(self, findings: list[Finding], grant: Grant, peer: str) -> frozenset[str]:
        """The actions that are taken now; what takes time goes on by itself."""
        taken: set[str] = set()
        for finding in findings:
            watch: Watch = getattr(self._habits.table, finding.rule)
            if self._repeats(grant.user, finding.rule, watch):
                continue
            taken.update(watch.actions)
            self._metrics.fraud(finding.rule)
            log.event(
                logger, "fraud", level=logging.WARNING, user=grant.user, rule=finding.rule, why=finding.why, peer=peer
            )
            tasks.spawn(self._carry_out(finding, watch, grant, peer), name="fraud")
        return frozenset(taken)

    def _repeats(self, user: str, rule: str, watch: Watch) -> bool:
        """Whether this is a warning that was given a while ago. What stops somebody is done every time."""
        if set(watch.actions) - {"warn", "tell-admin"}:
            return False
        now = self._clock.monotonic()
        if self._quiet.get((user, rule), 0.0) > now:
            return True
        if len(self._quiet) >= MAX_QUIET:
            self._quiet = {key: until for key, until in self._quiet.items() if until > now}
            if len(self._quiet) >= MAX_QUIET:
                self._quiet.clear()
        self._quiet[user, rule] = now + self._habits.table.quiet_s
        return False

    async def _carry_out(self, finding: Finding, watch: Watch, grant: Grant, peer: str) -> None:
        """Lock first: from then on nothing new begins. The admin is told in the end, of what was done."""
        user, force, at = grant.user, self._force, self._clock.wall()
        why = f"{finding.rule}: {finding.why}"
        ended: list[str] = []
        done = ["warn"]
        if "reregister" in watch.actions:
            self._must_register.add(user)  # before all that waits: other calls may be about to be made
        if "lock" in watch.actions:
            await self._try("lock", done, force.locks.add(Lock(user, why, BY, at, tuple(grant.addresses))))
        if "end-calls" in watch.actions:
            for call in [call for call in force.calls if call.user == user and call.number_class != EMERGENCY]:
                ended.append(call.number)
                await force.switchboard.hang_up(call, cause=CAUSE)
            done.append("end-calls")
        if "reregister" in watch.actions or "lock" in watch.actions:
            await self._try("unregister", done, force.orders.unregister(user))
        more = (("actions", " ".join(done)), ("peer", peer), *((("calls", " ".join(ended)),) if ended else ()))
        force.recorder.record(Deed(BY, "lock" if "lock" in done else "warn", user, why, more))
        if "tell-admin" in watch.actions:
            force.notifier.tell(Alarm(at, finding.rule, user, finding.why, peer, tuple(done), tuple(ended)))

    async def _try(self, what: str, done: list[str], work: Awaitable[object]) -> None:
        """A lock holds in memory when the store fails, so it counts as done."""
        try:
            await work
        except Unavailable as error:
            self._metrics.store_failure(what)
            log.event(logger, "store-failed", level=logging.ERROR, what=what, error=str(error))
        done.append(what)
