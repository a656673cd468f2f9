"""The guard of a running edge, and where its bans go: store, packet filter, log, metrics and the audit log."""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from nomad import log, tasks
from nomad.alarm.firewall import Firewall
from nomad.clock import Clock
from nomad.config import Guard as GuardTable
from nomad.edge.guard import FORGIVEN_S, Guard
from nomad.metrics import Metrics
from nomad.ports import BanStore, Deed, Recorder, StoredBan, Unavailable

logger = logging.getLogger(__name__)


class Gate:
    """Has the guard, from `open` to `close`."""

    def __init__(
        self,
        table: GuardTable,
        bans: BanStore,
        *,
        exempt: Sequence[str],
        clock: Clock,
        metrics: Metrics,
        recorder: Recorder,
    ) -> None:
        self._bans = bans
        self._clock = clock
        self._metrics = metrics
        self._recorder = recorder
        self.firewall = Firewall(table, failed=metrics.store_failure)
        self.guard = Guard(
            table,
            exempt=exempt,
            wall=clock.wall,
            on_ban=self._banned,
            on_unban=self._unbanned,
            on_suspect=self._suspected,
        )

    async def open(self) -> None:
        """Keep out who was kept out before. Raises `Unavailable`."""
        self.firewall.start()
        now = self._clock.wall()
        stored = await self._bans.load(now - FORGIVEN_S)
        self.guard.restore(stored, self._clock.monotonic())
        for ban in stored:
            if ban.until > now:
                self.firewall.ban(ban.address, ban.until - now)

    async def close(self) -> None:
        """Bans stay, in the store and in the packet filter."""
        await self.firewall.stop()

    def _banned(self, ban: StoredBan) -> None:
        self._metrics.banned(ban.reason)
        log.event(
            logger, "banned", level=logging.WARNING, peer=ban.address, reason=ban.reason, seconds=round(ban.length_s)
        )
        self._recorder.record(Deed("guard", "ban", ban.address, ban.reason, (("seconds", f"{ban.length_s:.0f}"),)))
        self.firewall.ban(ban.address, ban.length_s)
        self._keep(self._bans.put(ban))

    def _unbanned(self, ban: StoredBan) -> None:
        log.event(logger, "unbanned", peer=ban.address)
        self.firewall.unban(ban.address)
        self._keep(self._bans.remove(ban.address))

    def _suspected(self, address: str, reason: str) -> None:
        self._metrics.suspected(reason)
        log.event(logger, "suspected", peer=address, reason=reason)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Store something without waiting for it."""

        async def keep() -> None:
            try:
                await work
            except Unavailable as error:
                self._metrics.store_failure("ban")
                log.event(logger, "store-failed", level=logging.ERROR, what="ban", error=str(error))

        tasks.spawn(keep(), name="ban")
