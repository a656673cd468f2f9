"""What happens without anybody asking: limits reached, bindings expired, Interim-Updates due, old state forgotten.

Also that the clock was set: then what is dated by the old one is dated anew, or calls and registrations would end, and
calls be accounted, by as much too early or too late.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from nomad import log, tasks
from nomad.clock import Clock
from nomad.edge.accounting import Accountant
from nomad.edge.calls import Call, CallState, CallTable
from nomad.edge.guard import Guard
from nomad.edge.notices import Notices
from nomad.edge.probes import Probes
from nomad.edge.proxy import Proxy
from nomad.edge.switchboard import Switchboard
from nomad.edge.usage import Usage
from nomad.metrics import Metrics
from nomad.ports import Conflict, LocationStore, Unavailable

logger = logging.getLogger(__name__)

TICK_S = 1.0
STEP_S = 2.0  # by so much a clock does not go wrong in a round, it is set
MOVED_AT_ONCE = 200  # registrations, then other work has its turn
LONGEST = ("longest", "The call has lasted as long as calls may")
SESSION_TIMEOUT = ("session-timeout", "The call has lasted as long as RADIUS allows")


class Housekeeping:
    """Runs once a second."""

    def __init__(
        self,
        *,
        calls: CallTable,
        proxy: Proxy,
        switchboard: Switchboard,
        notices: Notices,
        probes: Probes,
        accountant: Accountant,
        locations: LocationStore,
        guard: Guard,
        usage: Usage,
        clock: Clock,
        metrics: Metrics,
        interim_interval_s: int,
    ) -> None:
        self.interim_interval_s = interim_interval_s  # live
        self._calls = calls
        self._proxy = proxy
        self._switchboard = switchboard
        self._notices = notices
        self._probes = probes
        self._accountant = accountant
        self._locations = locations
        self._guard = guard
        self._usage = usage
        self._clock = clock
        self._metrics = metrics
        self._offset: float | None = None  # from the monotonic clock to the other, as of the last round

    async def run(self) -> None:
        """Tick for as long as the edge runs."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self.tick()
            except Exception:  # whatever it is, limits must be kept in the next round
                logger.exception("a round of housekeeping failed")

    async def tick(self) -> None:
        """One round."""
        await self._follow_clock()
        now = self._clock.wall()
        for call in self._calls.overdue(now):
            self._end(call, *(LONGEST if call.limit_s == call.policy_limit_s else SESSION_TIMEOUT))
        for call, rule, reason in self._usage.exhausted(now):
            self._end(call, rule, reason)
        for call in self._calls.lapsed(now):
            cause = "Lost-Carrier" if call.grant.idle_timeout_s is None else "Idle-Timeout"
            tasks.spawn(self._switchboard.hang_up(call, cause=cause), name="session timer")
        await self._interim(now)
        self._calls.forget(now)
        self._usage.forget(now)
        self._notices.expire(now)
        self._probes.tick(now)
        self._proxy.forget(self._clock.monotonic())
        self._proxy.assure(self._clock.monotonic())
        self._guard.forget(self._clock.monotonic())
        try:
            for user, binding in await self._locations.expire(now):
                log.event(logger, "expired", level=logging.DEBUG, user=user, contact=binding.contact)
        except Unavailable as error:
            log.event(logger, "store-failed", level=logging.ERROR, what="locations", error=str(error))

    async def _follow_clock(self) -> None:
        offset = self._clock.wall() - self._clock.monotonic()
        before, self._offset = self._offset if self._offset is not None else offset, offset
        if abs(offset - before) < STEP_S:
            self._offset = before  # many small steps are a large one
            return
        step = offset - before
        log.event(logger, "clock-set", level=logging.WARNING, seconds=round(step, 1), calls=self._calls.live)
        self._calls.move(step)
        self._notices.move(step)
        self._probes.move(step)
        for call in self._calls:
            if call.state is CallState.ANSWERED:
                self._accountant.changed(call)
        try:
            await self._move_registrations(step)
        except Unavailable as error:
            log.event(logger, "store-failed", level=logging.ERROR, what="locations", error=str(error))

    async def _move_registrations(self, seconds: float) -> None:
        moved = 0
        async for registration in self._locations.browse():
            bindings = tuple(replace(each, expires_at=each.expires_at + seconds) for each in registration.bindings)
            try:
                await self._locations.save(replace(registration, bindings=bindings))
            except Conflict:
                continue  # written a moment ago, by the new clock
            moved += 1
            if moved % MOVED_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _end(self, call: Call, rule: str, reason: str) -> None:
        """A limit was reached: BYE to both sides, and the record says which limit it was."""
        log.event(logger, "limit", callid=call.call_id, id=call.id, user=call.user, rule=rule, reason=reason)
        self._metrics.limit_reached(rule)
        ending = self._switchboard.hang_up(call, cause="Session-Timeout", rule=rule, reason=reason)
        tasks.spawn(ending, name="limit")

    async def _interim(self, now: float) -> None:
        due = [call for call in self._calls if self._interim_is_due(call, now)]
        for call in due:
            call.interim_at = now
        if due:
            await self._accountant.interim(due, now)

    def _interim_is_due(self, call: Call, now: float) -> bool:
        period = call.grant.interim_interval_s or self.interim_interval_s
        return bool(period) and call.answered_at is not None and now - max(call.interim_at, call.answered_at) >= period
