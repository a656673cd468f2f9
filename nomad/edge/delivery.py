"""Drains the spool of accounting records to the AAA servers: in order per session, sessions side by side, for ever.

A record leaves the spool when it was acknowledged, or when no later try can do better: then it is set aside, counted,
and what follows in its session goes on. An outage of the servers sets nothing aside, however long it lasts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from nomad import log
from nomad.clock import Clock
from nomad.metrics import Metrics
from nomad.ports import AccountingSink, Spool, Spooled, Unavailable, Undeliverable

logger = logging.getLogger(__name__)

BATCH = 256
GATHER_S = 0.2  # records wait this long for company on their way to RADIUS; they are durable already
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
# A record that is not acknowledged while others are: tried less and less often, and set aside in the end
STRIKES = 16
STRIKE_S = 600.0
LONGEST_REST_S = 60.0


@dataclass(slots=True)
class _Trouble:
    """A record that was tried in vain."""

    since: float
    acknowledged: int  # how many others had been when it was tried last
    strikes: int = 0  # failures since which others were acknowledged
    rest_until: float = 0.0


@dataclass(slots=True)
class _Tried:
    """What became of some records of one session."""

    acknowledged: int = 0
    failed: list[tuple[Spooled, str]] = field(default_factory=list)  # at most one: the rest has to wait for it
    final: list[tuple[Spooled, str]] = field(default_factory=list)


class Delivery:
    """Takes records out of the spool."""

    def __init__(self, spool: Spool, sink: AccountingSink, *, clock: Clock, metrics: Metrics) -> None:
        self._spool = spool
        self._sink = sink
        self._clock = clock
        self._metrics = metrics
        self._wake = asyncio.Event()
        self._after = 0  # the batch before had nothing but records that nobody takes: look behind them
        self._stuck: set[str] = set()  # sessions in those batches; what follows in them has to wait
        self._delivering = asyncio.Lock()  # two who deliver at once would send the same records
        self._acknowledged = 0
        self._troubles: dict[str, _Trouble] = {}  # by session, about its oldest record
        self._silent = False  # in the last round nothing was acknowledged, and the servers are to blame

    def wake(self) -> None:
        """There is something new in the spool."""
        self._wake.set()

    async def drain(self) -> None:
        """Deliver the spool for as long as the edge runs."""
        pause = FIRST_PAUSE_S
        while True:
            self._wake.clear()
            await asyncio.sleep(GATHER_S)
            try:
                if await self.deliver_once():
                    pause = FIRST_PAUSE_S
                    continue
                waiting, silent = self._spool.state().records, self._silent
            except Unavailable as error:
                log.event(logger, "spool", level=logging.ERROR, error=str(error))
                waiting, silent = 1, True
            except Exception:  # whatever it is, accounting must not end with it
                logger.exception("accounting records were not delivered")
                waiting, silent = 1, True
            if not waiting:
                await self._wake.wait()
                continue
            await self._rest(pause, wakes=not silent)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def deliver_once(self) -> int:
        """Try the oldest batch; how many records left the spool."""
        async with self._delivering:
            return await self._deliver_batch()

    async def _rest(self, pause: float, *, wakes: bool) -> None:
        """During an outage new records change nothing; otherwise they need not wait for those that nobody takes."""
        if not wakes:
            await asyncio.sleep(pause)
            return
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _deliver_batch(self) -> int:
        now, before = self._clock.monotonic(), self._acknowledged
        batch = await self._spool.waiting(BATCH, after=self._after)
        sessions: dict[str, list[Spooled]] = {}
        for spooled in batch:
            if spooled.record.session not in self._stuck:
                sessions.setdefault(spooled.record.session, []).append(spooled)
        ready = [session for session in sessions if not self._rests(session, now)]
        tried = await asyncio.gather(*(self._deliver(sessions[session]) for session in ready))
        failed = [one for each in tried for one in each.failed]
        final = [one for each in tried for one in each.final]
        final += await self._blame(failed, before)
        for spooled, why in final:
            await self._set_aside(spooled, why)
        left = sum(each.acknowledged for each in tried) + len(final)
        self._silent = not left and any(not self._is_blamed(spooled) for spooled, _ in failed)
        if left or len(batch) < BATCH:
            self._after = 0
            self._stuck.clear()
        else:
            self._after = batch[-1].position
            self._stuck.update(sessions)
        return left

    async def _deliver(self, records: Sequence[Spooled]) -> _Tried:
        tried = _Tried()
        for spooled in records:
            record = spooled.record
            try:
                await self._sink.send(record)
            except Undeliverable as error:
                tried.final.append((spooled, str(error)))
                continue
            except Unavailable as error:
                if spooled.attempts == 0:
                    log.event(logger, "accounting-waits", level=logging.WARNING, session=record.session, why=str(error))
                tried.failed.append((spooled, str(error)))
                break
            self._metrics.accounting_sent(record.status)
            self._acknowledged += 1
            self._troubles.pop(record.session, None)
            tried.acknowledged += 1
            # At once: others of the batch may wait long for a server, and a crash meanwhile would send this again
            await self._spool.delivered((spooled.position,))
        return tried

    def _is_blamed(self, spooled: Spooled) -> bool:
        trouble = self._troubles.get(spooled.record.session)
        return trouble is not None and trouble.strikes > 0

    def _rests(self, session: str, now: float) -> bool:
        trouble = self._troubles.get(session)
        return trouble is not None and now < trouble.rest_until

    async def _blame(self, failed: Sequence[tuple[Spooled, str]], before: int) -> list[tuple[Spooled, str]]:
        """Those of the failed that it is hopeless to send: servers that acknowledge others do not take them."""
        now = self._clock.monotonic()
        hopeless, again = [], []
        for spooled, why in failed:
            session = spooled.record.session
            trouble = self._troubles.setdefault(session, _Trouble(now, before))
            if trouble.acknowledged < self._acknowledged:
                trouble.acknowledged = self._acknowledged
                trouble.strikes += 1
                if trouble.strikes > 1:  # once may be a lost packet
                    trouble.rest_until = now + min(2.0 ** (trouble.strikes - 2), LONGEST_REST_S)
            if trouble.strikes >= STRIKES and now - trouble.since >= STRIKE_S:
                hopeless.append((spooled, f"others are acknowledged, this is not; {why}"))
            else:
                again.append(spooled.position)
        if again:
            await self._spool.failed(again)
        return hopeless

    async def _set_aside(self, spooled: Spooled, why: str) -> None:
        record = spooled.record
        await self._spool.failed([spooled.position], final=why)
        self._troubles.pop(record.session, None)
        log.event(
            logger,
            "accounting-undeliverable",
            level=logging.ERROR,
            session=record.session,
            record=record.id,
            attempts=spooled.attempts + 1,
            why=why,
        )
