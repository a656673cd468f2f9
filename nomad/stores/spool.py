"""Accounting records on their way to a RADIUS server, in an SQLite file that belongs to this process alone.

Calls in progress and call records share the file and its transactions, see `journal.py`.

WAL with synchronous=FULL: what `append` returned for survives kill -9 and a power failure. Callers share syncs.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nomad.ports import AccountingRecord, Spooled, SpoolState
from nomad.stores.encoding import pack, storable, unpack_record
from nomad.stores.worker import Worker

logger = logging.getLogger(__name__)

LOCK_WAIT_S = 1.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS spool (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    data BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS undeliverable (
    id TEXT PRIMARY KEY,
    at REAL NOT NULL,
    attempts INTEGER NOT NULL,
    why TEXT NOT NULL,
    data BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS calls (
    id TEXT PRIMARY KEY,
    call_id TEXT NOT NULL,
    data BLOB NOT NULL,
    updated_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cdrs (
    id TEXT PRIMARY KEY,
    data BLOB NOT NULL
) WITHOUT ROWID;
"""
APPEND = "INSERT INTO spool (position, id, at, data) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
WAITING = "SELECT position, attempts, data FROM spool WHERE position > ? ORDER BY position LIMIT ?"
DELIVERED = "DELETE FROM spool WHERE position = ?"
FAILED = "UPDATE spool SET attempts = attempts + 1 WHERE position = ?"
SET_ASIDE = """INSERT OR REPLACE INTO undeliverable (id, at, attempts, why, data)
    SELECT id, at, attempts + 1, ?, data FROM spool WHERE position = ?"""
COUNT = "SELECT count(*) FROM spool"
COUNT_ASIDE = "SELECT count(*) FROM undeliverable"
OLDEST = "SELECT at FROM spool ORDER BY position LIMIT 1"
LAST = "SELECT coalesce(max(position), 0) FROM spool"


class SqliteSpool:
    """A `Spool`. What cannot be delivered, or read any more, moves to the table `undeliverable` of the file."""

    def __init__(self, path: Path) -> None:
        self._state = SpoolState(records=0, oldest_at=None)
        self._worker = Worker(f"spool {path}", lambda: _SpoolSession(path, self._note), errors=(sqlite3.Error, OSError))

    async def open(self) -> None:
        """Open the file. Raises `Unavailable`, also when another process has it."""
        await self._worker.open()

    async def close(self) -> None:
        """Finish what waits and close the file."""
        await self._worker.close()

    async def append(self, records: Sequence[AccountingRecord]) -> None:
        """Return when the records would survive a crash. A record id that is already there is not added again."""
        rows = [(storable(record.id), record.at, pack(record)) for record in records]
        if rows:
            await self._worker.submit(lambda session: session.append(rows))

    async def waiting(self, limit: int, *, after: int = 0) -> Sequence[Spooled]:
        """The oldest waiting records with a position above `after`, in order."""
        return await self._worker.submit(lambda session: session.waiting(limit, after))

    async def delivered(self, positions: Sequence[int]) -> None:
        """Forget records that the server acknowledged."""
        rows = [(position,) for position in positions]
        if rows:
            await self._worker.submit(lambda session: session.delivered(rows))

    async def failed(self, positions: Sequence[int], *, final: str = "") -> None:
        """Count one more attempt; with `final`, the reason, set the records aside."""
        if final:
            rows = [(storable(final), position) for position in positions]
            await self._worker.submit(lambda session: session.set_aside(rows))
        else:
            await self._worker.write(FAILED, [(position,) for position in positions])

    async def write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a statement on another table of the file for every row; return when that is durable."""
        await self._worker.write(statement, rows)

    async def read(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Query another table of the file."""
        return await self._worker.submit(lambda session: session.read(statement, parameters))

    def state(self) -> SpoolState:
        """How much waits and since when, as of the last commit."""
        return self._state

    def _note(self, state: SpoolState) -> None:
        self._state = state


class _SpoolSession:
    """The worker's connection. Counts what waits, so that nobody has to ask the file."""

    def __init__(self, path: Path, note: Callable[[SpoolState], None]) -> None:
        self._note = note
        self._connection = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None)
        try:
            # An exclusive lock: two processes that drain one spool would account every call twice.
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
                self._connection.execute(f"PRAGMA {pragma}").fetchall()
            self._connection.executescript(SCHEMA)
            self._oldest_at = self._look_up_oldest()
            (last,) = self._connection.execute(LAST).fetchone()
            # Microseconds: a position is never used again, also when the file was empty at a restart
            self._next = max(last + 1, time.time_ns() // 1000)
            self.begin()
            (self._records,) = self._connection.execute(COUNT).fetchone()
            (self._aside,) = self._connection.execute(COUNT_ASIDE).fetchone()
            self.commit()
        except BaseException:
            self._connection.close()
            raise

    def begin(self) -> None:
        self._change = 0
        self._recount = False
        self._set_aside = False
        self._first_at = self._oldest_at
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        if self._recount:
            self._first_at = self._look_up_oldest()
        if self._set_aside:
            (self._aside,) = self._connection.execute(COUNT_ASIDE).fetchone()
        self._connection.execute("COMMIT")
        self._records += self._change
        self._oldest_at = self._first_at
        self._note(SpoolState(records=self._records, oldest_at=self._oldest_at, undeliverable=self._aside))

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def write(self, statement: Any, rows: Sequence[Any]) -> None:
        self._connection.executemany(statement, rows)

    def close(self) -> None:
        self._connection.close()

    def read(self, statement: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, parameters).fetchall()

    def append(self, rows: Sequence[tuple[str, float, bytes]]) -> None:
        placed = [(position, *row) for position, row in enumerate(rows, self._next)]
        self._next += len(rows)
        added = self._connection.executemany(APPEND, placed).rowcount
        self._change += added
        self._recount = self._recount or added < len(rows)
        if self._first_at is None:
            self._first_at = rows[0][1]

    def delivered(self, rows: Sequence[tuple[int]]) -> None:
        self._recount = True
        self._change -= self._connection.executemany(DELIVERED, rows).rowcount

    def set_aside(self, rows: Sequence[tuple[str, int]]) -> None:
        self._connection.executemany(SET_ASIDE, rows)
        self._recount = True
        self._change -= self._connection.executemany(DELIVERED, [(position,) for _, position in rows]).rowcount
        self._set_aside = True

    def waiting(self, limit: int, after: int) -> list[Spooled]:
        spooled = []
        for position, attempts, data in self._connection.execute(WAITING, (after, limit)).fetchall():
            try:
                spooled.append(Spooled(position, unpack_record(data), attempts))
            except ValueError as error:
                logger.error("spool: record at position %d cannot be read and is set aside: %s", position, error)
                self.set_aside([(f"cannot be read: {error}", position)])
        return spooled

    def _look_up_oldest(self) -> float | None:
        row = self._connection.execute(OLDEST).fetchone()
        return row[0] if row else None
