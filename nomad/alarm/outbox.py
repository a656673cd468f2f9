"""Alarms on their way to somebody: a bounded queue, one after the other, tried again with growing pauses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from nomad import log
from nomad.ports import Alarm, Unavailable

logger = logging.getLogger(__name__)

MAX_WAITING = 100  # alarms; more are dropped and counted
FIRST_PAUSE_S = 1.0


class Outbox:
    """Implements `ports.Notifier` over something that sends one alarm and raises `Unavailable` when it cannot."""

    def __init__(
        self,
        name: str,
        send: Callable[[Alarm], Awaitable[None]],
        *,
        tries: int,
        failed: Callable[[str], None] = lambda name: None,
    ) -> None:
        """`failed` hears `name` for every alarm that was given up."""
        self._name = name
        self._send = send
        self._tries = tries
        self._failed = failed
        self._alarms: asyncio.Queue[Alarm] = asyncio.Queue(MAX_WAITING)
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._worker = asyncio.get_running_loop().create_task(self._work(), name=self._name)

    async def stop(self) -> None:
        """Send nothing more; what waits is in the audit log."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])
            self._worker = None

    def tell(self, alarm: Alarm) -> None:
        """Send it, soon."""
        try:
            self._alarms.put_nowait(alarm)
        except asyncio.QueueFull:
            self._give_up(alarm, f"{MAX_WAITING} wait already")

    async def settled(self) -> None:
        """Return when every alarm so far was sent, or given up."""
        await self._alarms.join()

    async def _work(self) -> None:
        while True:
            alarm = await self._alarms.get()
            try:
                await self._deliver(alarm)
            except Exception:  # whatever it is, the next alarm must be sent
                logger.exception("an alarm was not sent")
                self._failed(self._name)
            finally:
                self._alarms.task_done()

    async def _deliver(self, alarm: Alarm) -> None:
        pause, why = FIRST_PAUSE_S, ""
        for left in range(self._tries - 1, -1, -1):
            try:
                await self._send(alarm)
                return
            except Unavailable as error:
                why = str(error)
            if left:
                await asyncio.sleep(pause)
                pause *= 2
        self._give_up(alarm, why)

    def _give_up(self, alarm: Alarm, why: str) -> None:
        self._failed(self._name)
        log.event(logger, "alarm-lost", level=logging.WARNING, to=self._name, user=alarm.user, rule=alarm.rule, why=why)
