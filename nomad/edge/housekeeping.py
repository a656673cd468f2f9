"""What happens without anybody asking: limits reached, bindings expired, Interim-Updates due, old state forgotten."""

from __future__ import annotations

import asyncio
import logging

from nomad import log, tasks
from nomad.clock import Clock
from nomad.edge.accounting import Accountant
from nomad.edge.calls import Call, CallTable
from nomad.edge.guard import Guard
from nomad.edge.notices import Notices
from nomad.edge.probes import Probes
from nomad.edge.proxy import Proxy
from nomad.edge.switchboard import Switchboard
from nomad.edge.usage import Usage
from nomad.metrics import Metrics
from nomad.ports import LocationStore, Unavailable

logger = logging.getLogger(__name__)

TICK_S = 1.0
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
