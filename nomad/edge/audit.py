"""Deeds on their way into the audit log: in order, without anybody waiting, tried again while the store is down.

Each deed is a line in the log of the process at once; the hash that it got follows when it is stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from nomad import log
from nomad.clock import Clock
from nomad.metrics import Metrics
from nomad.ports import AuditLog, Deed, Unavailable

logger = logging.getLogger(__name__)

MAX_WAITING = 10_000  # deeds that the store did not take yet; more are in the log of the process only, and counted
MAX_BATCH = 100
MAX_TEXT_CHARS = 1000
RETRY_S = 1.0
PATIENCE_S = 3.0  # at the end


class Auditor:
    """Implements `ports.Recorder` over an audit log."""

    def __init__(self, audit: AuditLog, *, clock: Clock, metrics: Metrics) -> None:
        self._audit = audit
        self._clock = clock
        self._metrics = metrics
        self._waiting: deque[tuple[float, Deed]] = deque()
        self._writing: asyncio.Task[None] | None = None

    def record(self, deed: Deed) -> None:
        """Put a deed on record."""
        at = round(self._clock.wall(), 3)
        deed = Deed(deed.by, deed.action, _short(deed.what), _short(deed.why), deed.more)
        more = "; ".join(f"{name} {value}" for name, value in deed.more)
        log.event(logger, "audit", by=deed.by, action=deed.action, what=deed.what, why=deed.why, more=more)
        if len(self._waiting) >= MAX_WAITING:
            self._metrics.store_failure("audit")
            return
        self._waiting.append((at, deed))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write(), name="audit")

    async def close(self) -> None:
        """Return when everything is stored, or the store took too long."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=PATIENCE_S)
        if self._writing is not None:
            log.event(logger, "audit-lost", level=logging.ERROR, entries=len(self._waiting))
            self._writing.cancel()

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting[index] for index in range(min(len(self._waiting), MAX_BATCH))]
                try:
                    entries = await self._audit.append(batch)
                except Unavailable as error:
                    self._metrics.store_failure("audit")
                    log.event(logger, "store-failed", level=logging.ERROR, what="audit", error=str(error))
                    await asyncio.sleep(RETRY_S)
                    continue
                for _ in batch:
                    self._waiting.popleft()
                log.event(logger, "audit-head", number=entries[-1].number, hash=entries[-1].hash)
        finally:
            self._writing = None


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARS else text[:MAX_TEXT_CHARS]
