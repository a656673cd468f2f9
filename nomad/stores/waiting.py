"""Entries of one kind that wait in the ledger to be brought elsewhere, oldest first.

While they are few they are held in memory as well, and the file is only read after a restart or after an outage.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from nomad.stores.encoding import pack, storable
from nomad.stores.ledger import Ledger, Row

logger = logging.getLogger(__name__)

HELD = 2000  # entries in memory at most
T = TypeVar("T")


class Entry(NamedTuple, Generic[T]):
    """A value that waits."""

    position: int
    at: float
    attempts: int
    value: T


class Waiting(Generic[T]):
    """A queue. One caller at a time takes from it, any number add to it."""

    def __init__(
        self, ledger: Ledger, kind: str, unpack: Callable[[bytes], T], *, added: Callable[[], None] | None = None
    ) -> None:
        """`added` is called whenever something was added."""
        self._ledger = ledger
        self._kind = kind
        self._unpack = unpack
        self._added = added
        self._held: dict[int, Entry[T]] = {}
        self._whole = False  # whether all that waits is held
        self._count = 0
        self._oldest_at: float | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def oldest_at(self) -> float | None:
        """When the oldest was added, Unix seconds; while they are too many to be held, as of the last `first`."""
        if self._whole:
            return next(iter(self._held.values())).at if self._held else None
        return self._oldest_at

    async def open(self) -> None:
        """See what is in the file."""
        await self.first(HELD)
        if not self._whole:
            self._count = await self._ledger.count(self._kind)

    def add(self, values: Sequence[tuple[str, float, T]]) -> asyncio.Future[None]:
        """Add values: id, Unix seconds, value. The future is done when they would survive a crash."""

        def then(first: int, error: Exception | None) -> None:
            if error is not None:
                self._let_go()  # who knows what is in the file
                return
            self._count += len(values)
            if self._whole and self._held and first < next(reversed(self._held)):
                self._let_go()  # the disk had refused these, and took others meanwhile
            elif self._whole:
                for position, (_, at, value) in enumerate(values, first):
                    self._held[position] = Entry(position, at, 0, value)
                if len(self._held) > HELD:
                    self._let_go()
            elif self._oldest_at is None:
                self._oldest_at = values[0][1]
            if self._added is not None:
                self._added()

        return self._ledger.add(((self._kind, storable(id), at, pack(value)) for id, at, value in values), then)

    async def first(self, limit: int, *, after: int = 0) -> list[Entry[T]]:
        """The oldest with a position above `after`, in order."""
        if self._whole:
            if not after:
                return list(islice(self._held.values(), limit))
            return list(islice((entry for entry in self._held.values() if entry.position > after), limit))
        asked = limit + len(self._ledger.over())
        entries: list[Entry[T]] = []
        unreadable: list[tuple[str, int]] = []

        def then(rows: Sequence[Row], error: Exception | None) -> None:
            if error is not None:
                return
            over = self._ledger.over()
            for row in rows:
                if row.position in over:
                    continue
                try:
                    entries.append(Entry(row.position, row.at, row.attempts, self._unpack(row.data)))
                except ValueError as fault:
                    logger.error("spool: %s %s cannot be read and is set aside: %s", self._kind, row.id, fault)
                    unreadable.append((f"cannot be read: {fault}", row.position))
            if not after:
                self._oldest_at = entries[0].at if entries else None
                if len(rows) < asked:  # that was all: from here on what is added is held
                    self._whole = True
                    self._held = {entry.position: entry for entry in entries}
                    self._count = len(entries)

        await self._ledger.read((self._kind,), after=after, limit=asked, then=then)
        if unreadable:
            if not self._whole:
                self._count = max(0, self._count - len(unreadable))
            await self._ledger.set_aside(unreadable)
            if not entries:  # behind them there may be others
                return await self.first(limit, after=after)
        return entries[:limit]

    def done(self, positions: Iterable[int]) -> None:
        """These are elsewhere now."""
        positions = list(positions)
        if self._whole:
            positions = [position for position in positions if self._held.pop(position, None) is not None]
        self._count = max(0, self._count - len(positions))
        self._ledger.drop(positions)

    def tried(self, positions: Sequence[int]) -> None:
        """These were tried once more, in vain."""
        for position in positions:
            entry = self._held.get(position)
            if entry is not None:
                self._held[position] = entry._replace(attempts=entry.attempts + 1)
        self._ledger.tried(positions)

    async def set_aside(self, positions: Sequence[int], why: str) -> None:
        """These will never get there; they are kept, out of the way."""
        await self._ledger.set_aside([(storable(why), position) for position in positions])
        for position in positions:
            self._held.pop(position, None)
        self._count = max(0, self._count - len(positions))

    def _let_go(self) -> None:
        """Ask the file from here on."""
        self._oldest_at = self.oldest_at
        self._whole = False
        self._held = {}
