"""Calls in progress and call records in the ledger: durable together with the accounting of the same moment.

Calls stay here; call records move to the database, many at a time, whenever it answers.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Sequence

from nomad.ports import Cdr, CdrQuery, CdrStore, LiveCall, Unavailable, UsageQuery, UserUsage
from nomad.stores.encoding import unpack_cdr
from nomad.stores.ledger import CALL, CDR, OVER, Ledger, Row
from nomad.stores.waiting import Waiting

logger = logging.getLogger(__name__)

MAX_BATCH = 500  # records that move in one transaction
GATHER_S = 1.0  # records wait this long for company; they are durable already
PAUSES_S = (1.0, 15.0)  # first and longest between tries of a database that does not answer


class JournalCalls:
    """A `CallStore` of this node. A call that was replaced or is over is deleted later, with what says that it is."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._places: dict[str, int] = {}  # of the newest entry of each call
        self._loaded = False  # whether calls of the process before are among them

    def put(self, call: LiveCall) -> asyncio.Future[None]:
        """Insert or replace; done when that is durable."""

        def then(position: int, error: Exception | None) -> None:
            if error is None:
                before = self._places.get(call.id)
                self._places[call.id] = position
                if before is not None:
                    self._ledger.drop([before])

        return self._ledger.add([(CALL, call.id, call.updated_at, call.data)], then)

    def remove(self, id: str) -> asyncio.Future[None]:
        """Forget an ended call; done when that is durable."""

        def then(position: int, error: Exception | None) -> None:
            if error is None and (before := self._places.pop(id, None)) is not None:
                self._ledger.drop([before, position])
            elif error is None and self._loaded:
                self._ledger.drop([position])

        return self._ledger.add([(OVER, id, time.time(), b"")], then)

    async def load(self) -> Sequence[LiveCall]:
        """Every stored call, when the edge starts."""
        calls: dict[str, LiveCall] = {}

        def then(rows: Sequence[Row], error: Exception | None) -> None:
            if error is not None:
                return
            places: dict[str, int] = {}
            for row in rows:
                if (before := places.pop(row.id, None)) is not None:
                    self._ledger.drop([before])
                    del calls[row.id]
                if row.kind == CALL:
                    places[row.id] = row.position
                    calls[row.id] = LiveCall(row.id, row.data, row.at)
                else:
                    self._ledger.drop([row.position])
            self._places, self._loaded = places, True

        await self._ledger.read((CALL, OVER), after=0, limit=sys.maxsize, then=then)
        return list(calls.values())


class CdrOutbox:
    """A `CdrStore` in front of another: what was added is kept here until that one has it, however long it is away."""

    def __init__(self, ledger: Ledger, cdrs: CdrStore, *, failed: Callable[[str], None]) -> None:
        """`failed` hears of each try that the other store refused."""
        self._cdrs = cdrs
        self._failed = failed
        self._wake = asyncio.Event()
        self._kept = Waiting(ledger, CDR, unpack_cdr, added=self._wake.set)
        self._moving = asyncio.Lock()
        self._mover: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to move what is left from before, and what comes."""
        self._wake.set()
        self._mover = asyncio.create_task(self._move_always(), name="call records")

    async def close(self) -> None:
        """Try once more to move what is kept, then stop."""
        if self._mover is not None:
            self._mover.cancel()
            await asyncio.gather(self._mover, return_exceptions=True)
            try:
                await self._move()
            except Unavailable as error:
                logger.error("%s; call records stay in the spool's file", error)

    def add(self, records: Sequence[Cdr]) -> asyncio.Future[None]:
        """Done when the records would survive a crash. The other store knows a record that it has by its id."""
        return self._kept.add([(record.id, record.ended_at, record) for record in records])

    async def query(self, query: CdrQuery) -> Sequence[Cdr]:
        """As of the other store, which gets what is kept here first."""
        await self._move()
        return await self._cdrs.query(query)

    async def usage(self, query: UsageQuery) -> Sequence[UserUsage]:
        """As of the other store, which gets what is kept here first."""
        await self._move()
        return await self._cdrs.usage(query)

    async def _move_always(self) -> None:
        first, longest = PAUSES_S
        pause = first
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            self._wake.clear()
            try:
                await self._move()
                pause = first
            except Unavailable as error:
                logger.error("call records wait: %s", error)
                self._failed("call record")
                self._wake.set()
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)

    async def _move(self) -> None:
        """Everything that is kept. Raises `Unavailable`."""
        async with self._moving:
            while entries := await self._kept.first(MAX_BATCH):
                await self._cdrs.add([entry.value for entry in entries])
                self._kept.done([entry.position for entry in entries])
                if len(entries) < MAX_BATCH:
                    break
