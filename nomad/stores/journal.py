"""Calls in progress and call records in the file of the spool: durable together with the accounting of the same moment.

Calls stay here; call records move to the database, many at a time, whenever it answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from nomad.ports import Cdr, CdrQuery, CdrStore, LiveCall, Unavailable, UsageQuery, UserUsage
from nomad.stores.encoding import pack, storable, unpack_cdr
from nomad.stores.spool import SqliteSpool

logger = logging.getLogger(__name__)

MAX_BATCH = 500  # records that move in one transaction
GATHER_S = 0.2  # records wait this long for company; they are durable already
PAUSES_S = (1.0, 15.0)  # first and longest between tries of a database that does not answer

PUT = """INSERT INTO calls (id, call_id, data, updated_at) VALUES (?, ?, ?, ?) ON CONFLICT (id)
    DO UPDATE SET call_id = excluded.call_id, data = excluded.data, updated_at = excluded.updated_at"""
REMOVE = "DELETE FROM calls WHERE id = ?"
LOAD = "SELECT id, call_id, data, updated_at FROM calls ORDER BY updated_at"
KEEP = "INSERT INTO cdrs (id, data) VALUES (?, ?) ON CONFLICT (id) DO NOTHING"
KEPT = "SELECT id, data FROM cdrs LIMIT ?"
MOVED = "DELETE FROM cdrs WHERE id = ?"
SET_ASIDE = """INSERT OR REPLACE INTO undeliverable (id, at, attempts, why, data)
    SELECT id, 0, 1, ?, data FROM cdrs WHERE id = ?"""


class JournalCalls:
    """A `CallStore` of this node."""

    def __init__(self, spool: SqliteSpool) -> None:
        self._spool = spool

    async def put(self, call: LiveCall) -> None:
        """Insert or replace, durably."""
        await self._spool.write(PUT, [(call.id, storable(call.call_id), call.data, call.updated_at)])

    async def remove(self, id: str) -> None:
        """Forget an ended call."""
        await self._spool.write(REMOVE, [(id,)])

    async def load(self) -> Sequence[LiveCall]:
        """Every stored call, when the edge starts."""
        return [LiveCall(*row) for row in await self._spool.read(LOAD)]


class CdrOutbox:
    """A `CdrStore` in front of another: what was added is kept here until that one has it, however long it is away."""

    def __init__(self, spool: SqliteSpool, cdrs: CdrStore, *, failed: Callable[[str], None]) -> None:
        """`failed` hears of each try that the other store refused."""
        self._spool = spool
        self._cdrs = cdrs
        self._failed = failed
        self._wake = asyncio.Event()
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

    async def add(self, records: Sequence[Cdr]) -> None:
        """Return when the records would survive a crash. A record id that is already there is not added again."""
        await self._spool.write(KEEP, [(storable(record.id), pack(record)) for record in records])
        self._wake.set()

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
            while rows := await self._spool.read(KEPT, (MAX_BATCH,)):
                records = []
                for id, data in rows:
                    try:
                        records.append(unpack_cdr(data))
                    except ValueError as error:
                        logger.error("call record %s cannot be read and is set aside: %s", id, error)
                        await self._spool.write(SET_ASIDE, [(f"cannot be read: {error}", id)])
                await self._cdrs.add(records)
                await self._spool.write(MOVED, [(id,) for id, _ in rows])
                if len(rows) < MAX_BATCH:
                    break
