from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nomad.ports import CdrQuery, Unavailable
from nomad.stores import journal
from nomad.stores.database import Database
from nomad.stores.journal import CdrOutbox, JournalCalls
from nomad.stores.ledger import Ledger, _Session
from nomad.stores.spool import SqliteSpool
from nomad.stores.sql import SqlCdrs
from tests.harness.fakes import MemoryCdrs
from tests.stores.contract import CallContract, CdrContract
from tests.stores.samples import cdr, live, record


class TestJournalCalls(CallContract):
    @pytest.fixture
    def store(self, ledger: Ledger) -> JournalCalls:
        return JournalCalls(ledger)


class TestCdrOutbox(CdrContract):
    @pytest.fixture
    async def store(self, ledger: Ledger, database: Database) -> AsyncIterator[CdrOutbox]:
        outbox = CdrOutbox(ledger, SqlCdrs(database), failed=pytest.fail)
        await outbox.open()
        yield outbox
        await outbox.close()


class Moves:
    """What the outbox did, with a database that may be away."""

    def __init__(self, ledger: Ledger) -> None:
        self.cdrs = MemoryCdrs()
        self.third_failure = asyncio.Event()
        self._failures: list[str] = []
        self.outbox = CdrOutbox(ledger, self.cdrs, failed=self._failed)

    def _failed(self, what: str) -> None:
        self._failures.append(what)
        if self._failures == ["call record"] * 3:
            self.third_failure.set()


async def kept(ledger: Ledger) -> list[str]:
    return [id for (id,) in await ledger.query("SELECT id FROM entries WHERE kind = 'cdr' ORDER BY position")]


async def test_records_wait_for_a_database_that_is_away(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "GATHER_S", 0.0)
    monkeypatch.setattr(journal, "PAUSES_S", (0.0, 0.0))
    moves = Moves(ledger)
    moves.cdrs.down = True
    await moves.outbox.open()
    await moves.outbox.add([cdr(1), cdr(2)])
    await moves.third_failure.wait()
    assert await kept(ledger) == ["call-1", "call-2"]
    with pytest.raises(Unavailable):
        await moves.outbox.query(CdrQuery())
    moves.cdrs.down = False
    assert len(await moves.outbox.query(CdrQuery())) == 2
    assert await kept(ledger) == []
    await moves.outbox.close()


async def test_what_a_process_left_is_moved_by_the_next(ledger: Ledger) -> None:
    first, second = Moves(ledger), Moves(ledger)
    first.cdrs.down = True
    await first.outbox.add([cdr(1)])
    await first.outbox.close()
    await second.outbox.open()
    await second.outbox.close()
    assert sorted(second.cdrs.records) == ["call-1"]
    assert await kept(ledger) == []


async def test_more_records_than_one_batch(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_BATCH", 3)
    moves = Moves(ledger)
    await moves.outbox.add([cdr(number) for number in range(10)])
    assert len(await moves.outbox.query(CdrQuery())) == 10
    assert await kept(ledger) == []


async def test_text_that_no_database_takes_is_kept_whole(ledger: Ledger) -> None:
    moves = Moves(ledger)
    odd = replace(cdr(1), caller="bytes \udcff that are no UTF-8", callee="NUL \x00 inside")
    await moves.outbox.add([odd])
    assert list(await moves.outbox.query(CdrQuery())) == [odd]


async def test_a_record_that_cannot_be_read_is_set_aside(ledger: Ledger) -> None:
    moves = Moves(ledger)
    await moves.outbox.add([cdr(1), cdr(2)])
    await ledger.query("UPDATE entries SET data = x'00' WHERE id = 'call-1'")
    assert [each.id for each in await moves.outbox.query(CdrQuery())] == ["call-2"]
    assert await kept(ledger) == []
    ((id, why),) = await ledger.query("SELECT id, why FROM undeliverable")
    assert id == "call-1"
    assert why.startswith("cannot be read")


async def test_committed_records_survive_kill_9(tmp_path: Path, promised: Callable[[str, Path], list[str]]) -> None:
    path = tmp_path / "nomad.db"
    ids = await asyncio.to_thread(promised, "records", path)
    database = Database(f"sqlite:///{path}")
    await database.open()
    ledger = Ledger(tmp_path / "spool.db")
    await ledger.open()
    outbox = CdrOutbox(ledger, SqlCdrs(database), failed=pytest.fail)
    stored = {each.id for each in await outbox.query(CdrQuery(limit=1_000_000))}
    calls = {each.id for each in await JournalCalls(ledger).load()}
    await ledger.close()
    await database.close()
    assert set(ids) <= stored
    assert set(ids) <= calls


async def test_a_call_that_ends_is_one_insert(
    ledger: Ledger, spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inserts: list[int] = []
    insert = _Session._insert

    def inserting(session: _Session) -> None:
        inserts.append(len(session._rows) // 5)
        insert(session)

    monkeypatch.setattr(_Session, "_insert", inserting)
    calls, outbox = JournalCalls(ledger), CdrOutbox(ledger, MemoryCdrs(), failed=pytest.fail)
    await asyncio.gather(calls.put(live(1)), spool.append([record(1)]))
    await asyncio.gather(outbox.add([cdr(1)]), calls.remove("call-1"), spool.append([record(1, status="Stop")]))
    assert inserts == [2, 3]


async def test_a_call_that_was_replaced_or_is_over_leaves_nothing(ledger: Ledger) -> None:
    calls = JournalCalls(ledger)
    await calls.put(live(1))
    await calls.put(live(1, data=b"newer"))
    await calls.put(live(2))
    await calls.remove("call-2")
    assert await ledger.query("SELECT id, data FROM entries") == [("call-1", b"newer")]


async def test_what_a_crash_left_of_calls_is_put_in_order(ledger: Ledger) -> None:
    first = JournalCalls(ledger)
    drop, ledger.drop = ledger.drop, lambda positions: None  # type: ignore[method-assign]  # killed before the sweep
    for call in (live(1), live(2), live(1, data=b"newer")):
        await first.put(call)
    await first.remove("call-2")
    ledger.drop = drop  # type: ignore[method-assign]
    second = JournalCalls(ledger)
    await second.remove("call-1")  # before anybody loaded the calls: they must not come back
    assert list(await second.load()) == []
    assert await ledger.query("SELECT id FROM entries") == []


def test_the_file_is_one_that_sqlite_tools_can_read(tmp_path: Path) -> None:
    async def fill() -> None:
        ledger = Ledger(tmp_path / "spool.db")
        await ledger.open()
        await JournalCalls(ledger).put(live(1))
        await ledger.close()

    asyncio.run(fill())
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        assert connection.execute("SELECT kind, id FROM entries").fetchall() == [("call", "call-1")]
    connection.close()
