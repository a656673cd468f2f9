"""Accounting records into a book: many records in one write, each acknowledged when it is durable.

What comes while a write is on its way shares the next one. Knows neither files nor SQL (`detail.py`, `radacct.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from radius.errors import LedgerUnavailable
from radius.ports import Record

logger = logging.getLogger(__name__)

MAX_BATCH = 500  # records in one write
RECOVER_S = 5.0  # after a failed write, so long the book does not count as ready


class Book(Protocol):
    """Keeps records for good. Blocks; is used by one thread at a time."""

    def store(self, records: Sequence[Record]) -> dict[str, str]:
        """Return when these are durable; a record that is there already is not added again.

        Those that can never be stored are returned by id, with the reason. Raises `LedgerUnavailable`: then none is.
        """

    def close(self) -> None:
        """Give back what is held."""


class BatchLedger:
    """A `Ledger` over a book that blocks."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._waiting: list[tuple[Record, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._failed_at = float("-inf")

    async def write(self, record: Record) -> None:
        """Return when the record is durable. Raises `LedgerUnavailable`."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_waiting())
        await done

    def ready(self) -> bool:
        """Whether a record would be stored, as far as is known."""
        return asyncio.get_running_loop().time() - self._failed_at > RECOVER_S

    async def close(self) -> None:
        """Store what waits, then close."""
        if self._writer is not None:
            await self._writer
        await asyncio.to_thread(self._book.close)

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            try:
                refused = await asyncio.to_thread(self._book.store, [record for record, _ in batch])
            except Exception as error:
                self._failed_at = asyncio.get_running_loop().time()
                failure = error if isinstance(error, LedgerUnavailable) else LedgerUnavailable(f"a bug: {error!r}")
                if failure is not error:
                    logger.exception("accounting records were not stored")
                for _, done in batch:
                    _settle(done, failure)
                continue
            for record, done in batch:
                why = refused.get(record.id)
                _settle(done, LedgerUnavailable(f"record {record.id}: {why}") if why else None)


def _settle(done: asyncio.Future[None], failure: LedgerUnavailable | None) -> None:
    if done.done():  # the request was given up
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)
