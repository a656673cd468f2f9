"""Accounting records on their way to a RADIUS server, in the ledger of this node."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from nomad.ports import AccountingRecord, Spooled, SpoolState
from nomad.stores.encoding import unpack_record
from nomad.stores.ledger import RECORD, Ledger
from nomad.stores.waiting import Waiting


class SqliteSpool:
    """A `Spool`. What cannot be delivered, or read any more, moves to the table `undeliverable` of the file."""

    def __init__(self, path: Path) -> None:
        self.ledger = Ledger(path)
        self._waiting = Waiting(self.ledger, RECORD, unpack_record)

    async def open(self) -> None:
        """Open the file and see what waits from before. Raises `Unavailable`, also when another process has it."""
        await self.ledger.open()
        await self._waiting.open()

    async def close(self) -> None:
        """Finish what waits and close the file."""
        await self.ledger.close()

    def append(self, records: Sequence[AccountingRecord]) -> asyncio.Future[None]:
        """Done when the records would survive a crash."""
        return self._waiting.add([(record.id, record.at, record) for record in records])

    async def waiting(self, limit: int, *, after: int = 0) -> Sequence[Spooled]:
        """The oldest waiting records with a position above `after`, in order."""
        found = await self._waiting.first(limit, after=after)
        return [Spooled(position, record, attempts) for position, _, attempts, record in found]

    async def delivered(self, positions: Sequence[int]) -> None:
        """Forget records that the server acknowledged; after a crash within a second they wait again."""
        self._waiting.done(positions)

    async def failed(self, positions: Sequence[int], *, final: str = "") -> None:
        """Count one more attempt; with `final`, the reason, set the records aside."""
        if final:
            await self._waiting.set_aside(positions, final)
        else:
            self._waiting.tried(positions)

    def state(self) -> SpoolState:
        """How much waits and since when, also for the disk."""
        refused = self.ledger.refused(RECORD)
        dates = [at for at in (self._waiting.oldest_at, *refused[:1]) if at is not None]
        return SpoolState(len(self._waiting) + len(refused), min(dates, default=None), self.ledger.aside)
