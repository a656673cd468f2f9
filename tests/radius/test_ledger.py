"""radius.ledger: many callers, one write; failures reach those whom they concern."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from radius.errors import LedgerUnavailable
from radius.ledger import MAX_BATCH, RECOVER_S, BatchLedger
from radius.ports import Record
from tests.radius.samples import record


class Shelf:
    """A book in memory; the first write waits for `gate`."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.refused: dict[str, str] = {}
        self.failure: Exception | None = None
        self.gate = threading.Event()
        self.closed = False

    def store(self, records: Sequence[Record]) -> dict[str, str]:
        self.gate.wait(5)
        if self.failure is not None:
            raise self.failure
        self.batches.append([each.id for each in records])
        return self.refused

    def close(self) -> None:
        self.closed = True


async def test_what_comes_during_a_write_shares_the_next() -> None:
    shelf = Shelf()
    ledger = BatchLedger(shelf)
    records = [record("Start", f"s{number}") for number in range(MAX_BATCH + 2)]
    first = asyncio.create_task(ledger.write(records[0]))
    await asyncio.sleep(0)
    rest = [asyncio.create_task(ledger.write(each)) for each in records[1:]]
    await asyncio.sleep(0)
    shelf.gate.set()
    await asyncio.gather(first, *rest)
    await ledger.close()
    assert [len(batch) for batch in shelf.batches] == [1, MAX_BATCH, 1]
    assert [id for batch in shelf.batches for id in batch] == [each.id for each in records]
    assert shelf.closed


async def test_a_record_that_is_refused_harms_no_other() -> None:
    shelf = Shelf()
    shelf.gate.set()
    good, bad = record("Start", "good"), record("Start", "bad")
    shelf.refused = {bad.id: "fits no column"}
    ledger = BatchLedger(shelf)
    results = await asyncio.gather(ledger.write(good), ledger.write(bad), return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], LedgerUnavailable)
    assert ledger.ready()


@pytest.mark.usefixtures("errors_expected")
@pytest.mark.parametrize("failure", [LedgerUnavailable("disk full"), RuntimeError("a bug")])
async def test_a_failure_reaches_every_writer_and_the_next_write_tries_again(failure: Exception) -> None:
    shelf = Shelf()
    shelf.gate.set()
    shelf.failure = failure
    ledger = BatchLedger(shelf)
    writes = [ledger.write(record("Start", f"s{number}")) for number in range(3)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [LedgerUnavailable] * 3
    assert not ledger.ready()
    shelf.failure = None
    await ledger.write(record("Stop"))
    assert len(shelf.batches) == 1


async def test_a_book_that_failed_counts_as_ready_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    shelf.gate.set()
    shelf.failure = LedgerUnavailable("away")
    ledger = BatchLedger(shelf)
    with pytest.raises(LedgerUnavailable):
        await ledger.write(record("Start"))
    loop = asyncio.get_running_loop()
    later = loop.time() + RECOVER_S + 1
    monkeypatch.setattr(loop, "time", lambda: later)
    assert ledger.ready()


async def test_a_request_that_is_given_up_harms_nobody() -> None:
    shelf = Shelf()
    ledger = BatchLedger(shelf)
    given_up = asyncio.create_task(ledger.write(record("Start", "s1")))
    other = asyncio.create_task(ledger.write(record("Start", "s2")))
    await asyncio.sleep(0)
    given_up.cancel()
    shelf.gate.set()
    await other
