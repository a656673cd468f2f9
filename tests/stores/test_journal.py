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
from nomad.stores.spool import SqliteSpool
from nomad.stores.sql import SqlCdrs
from tests.harness.fakes import MemoryCdrs
from tests.stores.contract import CallContract, CdrContract
from tests.stores.samples import cdr, live, record


class TestJournalCalls(CallContract):
    @pytest.fixture
    def store(self, spool: SqliteSpool) -> JournalCalls:
        return JournalCalls(spool)


class TestCdrOutbox(CdrContract):
    @pytest.fixture
    async def store(self, spool: SqliteSpool, database: Database) -> AsyncIterator[CdrOutbox]:
        outbox = CdrOutbox(spool, SqlCdrs(database), failed=pytest.fail)
        await outbox.open()
        yield outbox
        await outbox.close()


class Moves:
    """What the outbox did, with a database that may be away."""

    def __init__(self, spool: SqliteSpool) -> None:
        self.cdrs = MemoryCdrs()
        self.third_failure = asyncio.Event()
        self._failures: list[str] = []
        self.outbox = CdrOutbox(spool, self.cdrs, failed=self._failed)

    def _failed(self, what: str) -> None:
        self._failures.append(what)
        if self._failures == ["call record"] * 3:
            self.third_failure.set()


async def kept(spool: SqliteSpool) -> list[str]:
    return [id for id, _ in await spool.read(journal.KEPT, (1000,))]


async def test_records_wait_for_a_database_that_is_away(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "GATHER_S", 0.0)
    monkeypatch.setattr(journal, "PAUSES_S", (0.0, 0.0))
    moves = Moves(spool)
    moves.cdrs.down = True
    await moves.outbox.open()
    await moves.outbox.add([cdr(1), cdr(2)])
    await moves.third_failure.wait()
    assert await kept(spool) == ["call-1", "call-2"]
    with pytest.raises(Unavailable):
        await moves.outbox.query(CdrQuery())
    moves.cdrs.down = False
    assert len(await moves.outbox.query(CdrQuery())) == 2
    assert await kept(spool) == []
    await moves.outbox.close()


async def test_what_a_process_left_is_moved_by_the_next(spool: SqliteSpool) -> None:
    first, second = Moves(spool), Moves(spool)
    first.cdrs.down = True
    await first.outbox.add([cdr(1)])
    await first.outbox.close()
    await second.outbox.open()
    await second.outbox.close()
    assert sorted(second.cdrs.records) == ["call-1"]
    assert await kept(spool) == []


async def test_more_records_than_one_batch(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_BATCH", 3)
    moves = Moves(spool)
    await moves.outbox.add([cdr(number) for number in range(10)])
    assert len(await moves.outbox.query(CdrQuery())) == 10
    assert await kept(spool) == []


async def test_text_that_no_database_takes_is_kept_whole(spool: SqliteSpool) -> None:
    moves = Moves(spool)
    odd = replace(cdr(1), caller="bytes \udcff that are no UTF-8", callee="NUL \x00 inside")
    await moves.outbox.add([odd])
    assert list(await moves.outbox.query(CdrQuery())) == [odd]


async def test_a_record_that_cannot_be_read_is_set_aside(spool: SqliteSpool) -> None:
    moves = Moves(spool)
    await moves.outbox.add([cdr(1), cdr(2)])
    await spool.write("UPDATE cdrs SET data = ? WHERE id = ?", [(b"\x00", "call-1")])
    assert [each.id for each in await moves.outbox.query(CdrQuery())] == ["call-2"]
    assert await kept(spool) == []
    ((id, why),) = await spool.read("SELECT id, why FROM undeliverable")
    assert id == "call-1"
    assert why.startswith("cannot be read")


async def test_committed_records_survive_kill_9(tmp_path: Path, promised: Callable[[str, Path], list[str]]) -> None:
    path = tmp_path / "nomad.db"
    ids = await asyncio.to_thread(promised, "records", path)
    database = Database(f"sqlite:///{path}")
    await database.open()
    spool = SqliteSpool(tmp_path / "spool.db")
    await spool.open()
    outbox = CdrOutbox(spool, SqlCdrs(database), failed=pytest.fail)
    stored = {each.id for each in await outbox.query(CdrQuery(limit=1_000_000))}
    calls = {each.id for each in await JournalCalls(spool).load()}
    await spool.close()
    await database.close()
    assert set(ids) <= stored
    assert set(ids) <= calls


async def test_a_call_that_ends_is_one_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = []
    monkeypatch.setattr(SqliteSpool, "_note", lambda _spool, state: commits.append(state))
    spool = SqliteSpool(tmp_path / "spool.db")
    await spool.open()
    calls, outbox = JournalCalls(spool), CdrOutbox(spool, MemoryCdrs(), failed=pytest.fail)
    await calls.put(live(1))
    del commits[:]
    await asyncio.gather(outbox.add([cdr(1)]), calls.remove("call-1"), spool.append([record(1)]))
    assert len(commits) == 1
    await spool.close()


def test_the_file_is_one_that_sqlite_tools_can_read(tmp_path: Path) -> None:
    async def fill() -> None:
        spool = SqliteSpool(tmp_path / "spool.db")
        await spool.open()
        await JournalCalls(spool).put(live(1))
        await spool.close()

    asyncio.run(fill())
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        assert connection.execute("SELECT id FROM calls").fetchall() == [("call-1",)]
    connection.close()
