from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from nomad.ports import AccountingRecord, Unavailable
from nomad.stores import ledger as ledger_module
from nomad.stores import waiting as module
from nomad.stores.encoding import pack, unpack_record
from nomad.stores.ledger import RECORD, Ledger
from nomad.stores.waiting import Waiting
from tests.stores.samples import record

Queue = Waiting[AccountingRecord]


@pytest.fixture
async def queue(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Queue:
    monkeypatch.setattr(module, "HELD", 4)
    queue = Waiting(ledger, RECORD, unpack_record)
    await queue.open()
    return queue


def given(*numbers: int) -> list[tuple[str, float, AccountingRecord]]:
    return [(record(number).id, record(number).at, record(number)) for number in numbers]


async def numbers(queue: Queue, limit: int, *, after: int = 0) -> list[int]:
    return [int(entry.at) - 1000 for entry in await queue.first(limit, after=after)]


async def test_few_are_taken_without_a_look_at_the_file(
    ledger: Ledger, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.add(given(1, 2, 3))
    monkeypatch.setattr(ledger, "read", pytest.fail)
    first, *_ = await queue.first(2)
    assert await numbers(queue, 2) == [1, 2]
    assert await numbers(queue, 9, after=first.position) == [2, 3]
    queue.done([first.position])
    queue.done([first.position])
    assert (await numbers(queue, 9), len(queue), queue.oldest_at) == ([2, 3], 2, 1002.0)


async def test_many_come_from_the_file_until_they_are_few_again(
    ledger: Ledger, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.add(given(1, 2, 3))
    await queue.add(given(4, 5, 6))  # more than are held
    await queue.add(given(7))
    assert (len(queue), queue.oldest_at) == (7, 1001.0)
    one, two, three = await queue.first(3)
    assert [entry.value for entry in (one, two, three)] == [record(number) for number in (1, 2, 3)]
    queue.tried([two.position])
    queue.done([one.position])
    assert await numbers(queue, 3, after=two.position) == [3, 4, 5]
    _, _, four = found = await queue.first(3)
    assert [(entry.value, entry.attempts) for entry in found] == [(record(2), 1), (record(3), 0), (record(4), 0)]
    assert (len(queue), queue.oldest_at) == (6, 1002.0)
    queue.done([two.position, three.position, four.position])
    reading = asyncio.ensure_future(queue.first(5))
    await asyncio.sleep(0)
    added = queue.add(given(8))  # while the file is read
    assert [int(entry.at) - 1000 for entry in await reading] == [5, 6, 7]
    await added
    monkeypatch.setattr(ledger, "read", pytest.fail)
    assert (await numbers(queue, 9), len(queue), queue.oldest_at) == ([5, 6, 7, 8], 4, 1005.0)


async def test_what_nobody_waited_for_is_there(queue: Queue) -> None:
    queue.add(given(1)).cancel()
    await queue.add(given(2))
    assert await numbers(queue, 9) == [1, 2]


@pytest.mark.usefixtures("errors_expected")
async def test_after_an_error_the_file_is_asked(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    written = asyncio.Event()
    monkeypatch.setattr(queue, "_added", written.set)
    monkeypatch.setattr(ledger_module, "RETRY_S", 0.0)
    await queue.add(given(1))
    written.clear()
    with monkeypatch.context() as broken:
        broken.setattr(ledger_module, "ADDS", ("INSERT INTO nowhere VALUES (?, ?, ?, ?, ?)",))
        for number in (2, 3):
            with pytest.raises(Unavailable):
                await queue.add(given(number))
        assert await numbers(queue, 9) == [1]
    await written.wait()
    await queue.add(given(4))
    assert await numbers(queue, 9) == [1, 2, 3, 4]
    assert (len(queue), queue.oldest_at) == (4, 1001.0)


async def test_what_the_disk_takes_late_stands_where_it_belongs(
    ledger: Ledger, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was refused while the next, on its way already, was not."""
    thens = []

    def add(entries: object, then: Callable[[int, Exception | None], None]) -> None:
        thens.append(then)

    with monkeypatch.context() as held:
        held.setattr(ledger, "add", add)
        for number in (1, 2):
            queue.add(given(number))
    firsts: list[int] = []
    for number in (1, 2):
        entries = [(RECORD, record(number).id, record(number).at, pack(record(number)))]
        await ledger.add(entries, lambda first, _: firsts.append(first))
    thens[1](firsts[1], None)
    thens[0](firsts[0], None)
    assert await numbers(queue, 9) == [1, 2]
    assert len(queue) == 2


@pytest.mark.usefixtures("errors_expected")
async def test_what_is_over_does_not_come_back_while_it_cannot_be_deleted(
    ledger: Ledger, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.add(given(1, 2, 3))
    with monkeypatch.context() as broken:
        broken.setattr(ledger_module, "ADDS", ("INSERT INTO nowhere VALUES (?, ?, ?, ?, ?)",))
        broken.setattr(ledger_module, "DELETE", "DELETE FROM nowhere WHERE position IN (?)")
        queue.done([entry.position for entry in await queue.first(1)])
        with pytest.raises(Unavailable):
            await queue.add(given(4))
        assert (len(queue), queue.oldest_at) == (2, 1002.0)
        assert await numbers(queue, 1) == [2]
    assert (await numbers(queue, 9), len(queue)) == ([2, 3], 2)
    assert await ledger.query("SELECT at FROM entries") == [(1002.0,), (1003.0,)]


async def test_a_backlog_of_before_is_counted(ledger: Ledger, queue: Queue) -> None:
    await queue.add(given(*range(1, 8)))
    again = Waiting(ledger, RECORD, unpack_record)
    await again.open()
    assert (len(again), again.oldest_at) == (7, 1001.0)


async def test_nothing_but_unreadable_ones_at_the_front(ledger: Ledger, queue: Queue) -> None:
    await queue.add(given(*range(1, 8)))
    await ledger.query("UPDATE entries SET data = x'00' WHERE at < 1005")
    assert await numbers(queue, 2) == [5, 6]
    assert (len(queue), ledger.aside) == (3, 4)
