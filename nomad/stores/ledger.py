"""The file of this node for what must outlive the process, and is not needed for long: entries of a few kinds in a row.

Entries are only ever added, at the end: all that is given to the file in one step of the event loop is one INSERT, and
touches one page. What is over is deleted later, many at once: a crash before that brings it back, and whoever reads
entries must bear to see one again. SQLite, WAL with synchronous=FULL: what `add` returned for survives kill -9 and a
power failure. Callers share syncs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from nomad.ports import Unavailable
from nomad.stores.salvage import mend
from nomad.stores.worker import Worker

logger = logging.getLogger(__name__)

LOCK_WAIT_S = 1.0
SWEEP_S = 1.0  # what is over is deleted this long after, at most
RIDE_S = 0.25  # so often at most it is deleted with what is added, in one transaction and one sync of the disk
VALUES = 5  # of a row that is added: position, kind, id, Unix seconds, data
AT_ONCE = 16  # rows of one INSERT
RETRY_S = 1.0  # how often a disk that refused is tried again
MAX_REFUSED = 10_000  # additions that are held for it; what comes then is lost
OWN_FAULT = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)  # not the disk's
RECORD, CDR, CALL, OVER = "record", "cdr", "call", "over"  # kinds; the last: the call of that id has ended
SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    position INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
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
"""
TABLES = {
    "entries": ("position", "kind", "id", "at", "attempts", "data"),
    "undeliverable": ("id", "at", "attempts", "why", "data"),
}
# Files of before entries had one table each for their kinds
OLD = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'spool'"
TAKE_OVER = (
    "INSERT INTO entries SELECT position, 'record', id, at, attempts, data FROM spool ORDER BY position",
    "INSERT INTO entries (kind, id, at, data) SELECT 'call', id, updated_at, data FROM calls ORDER BY updated_at",
    "INSERT INTO entries (kind, id, at, data) SELECT 'cdr', id, 0, data FROM cdrs",
    "DROP TABLE spool",
    "DROP TABLE calls",
    "DROP TABLE cdrs",
)
ADD = "INSERT INTO entries (position, kind, id, at, data) VALUES "
# The rows of a job that runs again after its connection broke may be there
ADDS = tuple(
    f"{ADD} {', '.join(['(?, ?, ?, ?, ?)'] * rows)} ON CONFLICT (position) DO NOTHING" for rows in range(1, AT_ONCE + 1)
)
THESE = "(SELECT value FROM json_each(?))"
READ = """SELECT position, kind, id, at, attempts, data FROM entries WHERE position > ? AND kind IN {}
    ORDER BY position LIMIT ?"""
COUNT = "SELECT count(*) FROM entries WHERE kind = ?"
DELETE = f"DELETE FROM entries WHERE position IN {THESE}"  # noqa: S608 - a constant
TRIED = "UPDATE entries SET attempts = attempts + ? WHERE position = ?"
SET_ASIDE = """INSERT OR REPLACE INTO undeliverable (id, at, attempts, why, data)
    SELECT id, at, attempts + 1, ?, data FROM entries WHERE position = ?"""
COUNT_ASIDE = "SELECT count(*) FROM undeliverable"
LAST = "SELECT coalesce(max(position), 0) FROM entries"
R = TypeVar("R")


class Row(NamedTuple):
    """An entry as it is in the file."""

    position: int
    kind: str
    id: str
    at: float
    attempts: int
    data: bytes


class _Addition(NamedTuple):
    """Entries on their way into the file."""

    first: int
    rows: list[Any]
    then: Callable[[int, Exception | None], None]


class Ledger:
    """Entries in the order in which they were added. Belongs to one event loop, and the file to this process alone.

    What the disk refuses (full, read-only, errors) is held in memory, and written when it takes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._worker = Worker(f"spool {path}", lambda: _Session(path), errors=(sqlite3.Error, OSError))
        self._next = 0
        self._over: list[int] = []
        self._tried: Counter[int] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._swept_at = 0.0
        self._refused: deque[_Addition] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._open = False
        self.aside = 0  # how many were set aside

    async def open(self) -> None:
        """Open the file. Raises `Unavailable`, also when another process has it."""
        try:
            kept = await asyncio.to_thread(mend, self._path, SCHEMA, TABLES)
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"spool {self._path}: is damaged and cannot be mended: {error}") from None
        if kept:
            logger.error("spool %s was damaged; what could be read was taken over, it is kept as %s", self._path, kept)
        await self._worker.open()
        last, self.aside = await self._worker.submit(lambda session: session.survey())
        # Microseconds: a position is never used again, also when the file was empty at a restart
        self._next = max(last + 1, time.time_ns() // 1000)
        self._open = True

    async def close(self) -> None:
        """Finish what waits and close the file."""
        self._open = False
        if self._retry is not None:
            self._retry.cancel()
        last_try = [self._write(addition) for addition in self._refused]
        self._sweep()
        await self._worker.close()
        lost = sum(isinstance(each, Exception) for each in await asyncio.gather(*last_try, return_exceptions=True))
        if lost:
            logger.error("spool %s: the disk never took %d additions, they are lost", self._path, lost)

    def add(
        self,
        entries: Iterable[tuple[str, str, float, bytes]],
        then: Callable[[int, Exception | None], None],
    ) -> asyncio.Future[None]:
        """Add entries: kind, id, Unix seconds, data. The future is done when they would survive a crash.

        Then `then` is called, in the order of the additions and whether or not somebody still waits for the future:
        with the position of the first entry, the others follow it, and the error if it is not known to be there. After
        an error of the disk it is called once more, when they are there after all.
        """
        first = position = self._next
        rows: list[Any] = []
        for entry in entries:
            rows += (position, *entry)
            position += 1
        self._next = position
        addition = _Addition(first, rows, then)
        if self._refused:
            return self._behind(addition)
        future = self._write(addition)
        if self._over and asyncio.get_running_loop().time() - self._swept_at >= RIDE_S:
            self._sweep()
        return future

    def _write(self, addition: _Addition) -> asyncio.Future[None]:
        def settled(_: object, error: Exception | None) -> None:
            if error is not None and self._open and not isinstance(error.__cause__, OWN_FAULT):
                self._hold(addition, error)
            addition.then(addition.first, error)

        return self._worker.write(ADD, addition.rows, then=settled)

    def _behind(self, addition: _Addition) -> asyncio.Future[None]:
        """While the disk refuses what came before; the order stays."""
        error = Unavailable(f"spool {self._path}: held in memory, {len(self._refused)} additions wait for the disk")
        self._hold(addition, error)
        addition.then(addition.first, error)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(error)
        return future

    def _hold(self, addition: _Addition, error: Exception) -> None:
        if len(self._refused) >= MAX_REFUSED:
            logger.error("spool %s: lost %s, too many wait for the disk", self._path, addition.rows[1:3])
            return
        self._refused.append(addition)
        if self._retry is None:
            logger.error("%s; what is to be written is held in memory until the disk takes it", error)
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._try_again)

    def refused(self, kind: str) -> list[float]:
        """When those entries of a kind were made that wait in memory for the disk, oldest first; Unix seconds."""
        return [
            addition.rows[place + 2]
            for addition in self._refused
            for place in range(1, len(addition.rows), VALUES)
            if addition.rows[place] == kind
        ]

    def _try_again(self) -> None:
        """The oldest first, alone: all of them each time would be too much work for nothing."""
        oldest = self._refused[0]

        def settled(_: object, error: Exception | None) -> None:
            if not self._open:
                return
            if error is not None and not isinstance(error.__cause__, OWN_FAULT):
                self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._try_again)
                return
            logger.warning("spool %s: the disk writes again, %d additions had waited", self._path, len(self._refused))
            self._retry = None
            refused, self._refused = self._refused, deque()
            addition = refused.popleft()
            addition.then(addition.first, error)
            for addition in refused:
                self._write(addition).add_done_callback(_heard)

        self._worker.write(ADD, oldest.rows, then=settled).add_done_callback(_heard)

    def drop(self, positions: Iterable[int]) -> None:
        """These entries are over. They will be deleted, unless a crash comes first."""
        self._over += positions
        self._sweep_soon()

    def over(self) -> frozenset[int]:
        """What is over and could not be deleted yet: reads still find it."""
        return frozenset(self._over)

    def tried(self, positions: Iterable[int]) -> None:
        """Count one more try of these entries; as late as `drop` deletes."""
        self._tried.update(positions)
        self._sweep_soon()

    def read(
        self, kinds: Sequence[str], *, after: int, limit: int, then: Callable[[Any, Exception | None], None]
    ) -> asyncio.Future[list[Row]]:
        """The oldest entries of these kinds with a position above `after`, without what is over.

        `then` is called as that of `add`, with the rows.
        """
        self._sweep()
        return self._worker.submit(lambda session: session.read(kinds, after, limit), then=then)

    def count(self, kind: str) -> asyncio.Future[int]:
        """How many entries of a kind the file has."""
        return self._worker.submit(lambda session: session.count(kind))

    async def set_aside(self, rows: Sequence[tuple[str, int]]) -> None:
        """Move entries out of the way, for somebody to look at: why, and the position."""
        self._sweep()
        self.aside = await self._worker.submit(lambda session: session.set_aside(rows))

    async def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Any statement on the file."""
        self._sweep()
        return await self._worker.submit(lambda session: session.query(statement, parameters))

    def _sweep_soon(self) -> None:
        if self._timer is None and self._open:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Delete what is over, ahead of whatever is asked of the file after this."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._over and not self._tried:
            return
        self._swept_at = asyncio.get_running_loop().time()
        over, tried = self._over, self._tried
        self._over, self._tried = [], Counter()

        def then(outcome: object, error: Exception | None) -> None:
            if error is not None:
                logger.error("%s; what is over stays in the file for now", error)
                self._over += over
                self._tried += tried
                self._sweep_soon()

        self._worker.submit(lambda session: session.sweep(over, tried), then=then).add_done_callback(_heard)


def _heard(future: asyncio.Future[None]) -> None:
    """Nobody waits for this future; its error was seen to."""
    if not future.cancelled():
        future.exception()


class _Session:
    """The worker's connection."""

    def __init__(self, path: Path) -> None:
        self._rows: list[Any] = []  # of this transaction, not in the file yet
        self._connection = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None)
        try:
            # An exclusive lock: two processes that drain one spool would account every call twice.
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
                self._connection.execute(f"PRAGMA {pragma}").fetchall()
            self._connection.executescript(SCHEMA)
            self._connection.execute("BEGIN IMMEDIATE")
            if self._connection.execute(OLD).fetchone() is not None:
                for statement in TAKE_OVER:
                    self._connection.execute(statement)
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.close()
            raise

    def begin(self) -> None:
        """Nothing yet: most transactions are one INSERT, which needs no BEGIN and no COMMIT."""
        self._rows.clear()

    def commit(self) -> None:
        if len(self._rows) > VALUES * AT_ONCE:
            self._transact()
        elif self._rows:
            self._insert()
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def rollback(self) -> None:
        self._rows.clear()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def write(self, statement: Any, rows: Sequence[Any]) -> None:
        self._rows += rows

    def close(self) -> None:
        self._connection.close()

    def survey(self) -> tuple[int, int]:
        (last,) = self._connection.execute(LAST).fetchone()
        (aside,) = self._connection.execute(COUNT_ASIDE).fetchone()
        return last, aside

    def read(self, kinds: Sequence[str], after: int, limit: int) -> list[Row]:
        self._transact()
        statement = READ.format(f"({', '.join('?' * len(kinds))})")
        found = self._connection.execute(statement, (after, *kinds, limit)).fetchall()
        return [Row(*row) for row in found]

    def count(self, kind: str) -> int:
        self._transact()
        (count,) = self._connection.execute(COUNT, (kind,)).fetchone()
        return int(count)

    def query(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        self._transact()
        return self._connection.execute(statement, parameters).fetchall()

    def sweep(self, over: list[int], tried: Counter[int]) -> None:
        self._transact()
        if tried:
            self._connection.executemany(TRIED, [(times, position) for position, times in tried.items()])
        if over:
            self._connection.execute(DELETE, (json.dumps(over),))

    def set_aside(self, rows: Sequence[tuple[str, int]]) -> int:
        self._transact()
        self._connection.executemany(SET_ASIDE, rows)
        self._connection.execute(DELETE, (json.dumps([position for _, position in rows]),))
        (aside,) = self._connection.execute(COUNT_ASIDE).fetchone()
        return int(aside)

    def _transact(self) -> None:
        """Make a transaction of what was written so far and of what follows."""
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
        self._insert()

    def _insert(self) -> None:
        rows = self._rows
        for start in range(0, len(rows), VALUES * AT_ONCE):
            some = rows[start : start + VALUES * AT_ONCE]
            self._connection.execute(ADDS[len(some) // VALUES - 1], some)
        rows.clear()
