from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nomad.ports import Unavailable
from nomad.stores import ledger as module
from nomad.stores import worker
from nomad.stores.encoding import pack
from nomad.stores.journal import JournalCalls
from nomad.stores.ledger import CALL, CDR, RECORD, Ledger
from nomad.stores.spool import SqliteSpool
from tests.stores.samples import cdr, live, record


def ignore(_outcome: object, _error: Exception | None) -> None:
    pass


async def ids(ledger: Ledger, *, after: int = 0) -> list[str]:
    return [row.id for row in await ledger.read((RECORD,), after=after, limit=10_000, then=ignore)]


async def test_a_second_process_is_refused(tmp_path: Path, ledger: Ledger) -> None:
    with pytest.raises(Unavailable, match=r"spool .*spool\.db: database is locked"):
        await Ledger(tmp_path / "spool.db").open()
    await ledger.add([(RECORD, "a", 1.0, b"")], ignore)


async def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(Unavailable, match="not a database"):
        await Ledger(path).open()
    with pytest.raises(Unavailable, match="unable to open"):
        await Ledger(tmp_path / "missing" / "spool.db").open()


async def test_more_entries_at_once_than_one_insert_takes(ledger: Ledger) -> None:
    firsts: list[int] = []
    counts = (1, module.AT_ONCE, 3 * module.AT_ONCE + 1)
    for count in counts:
        entries = [(RECORD, f"{count}-{number}", 1.0, b"x") for number in range(count)]
        await ledger.add(entries, lambda first, _: firsts.append(first))
    expected = [f"{count}-{number}" for count in counts for number in range(count)]
    assert await ids(ledger) == expected
    assert await ids(ledger, after=firsts[2] - 1) == expected[-counts[2] :]


async def test_what_is_over_is_deleted_without_being_asked_for(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEEP_S", 0.0)
    swept = asyncio.Event()
    sweep = module._Session.sweep
    loop = asyncio.get_running_loop()

    def sweeping(session: module._Session, *over: object) -> None:
        sweep(session, *over)  # type: ignore[arg-type]
        loop.call_soon_threadsafe(swept.set)

    monkeypatch.setattr(module._Session, "sweep", sweeping)
    firsts: list[int] = []
    await ledger.add([(RECORD, "a", 1.0, b""), (RECORD, "b", 1.0, b"")], lambda first, _: firsts.append(first))
    ledger.drop(firsts)
    await swept.wait()
    assert await ledger.query("SELECT id FROM entries") == [("b",)]


async def test_what_is_over_goes_with_the_next_addition(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its transaction, and not with each of them."""
    transactions: list[list[str]] = []
    perform, sweep = worker._perform, module._Session.sweep

    def performing(session: module._Session, jobs: Sequence[object]) -> None:
        transactions.append([])
        perform(session, jobs)  # type: ignore[arg-type]

    def sweeping(session: module._Session, over: list[int], tried: Counter[int]) -> None:
        transactions[-1].append(f"{len(over)} deleted")
        sweep(session, over, tried)

    monkeypatch.setattr(worker, "_perform", performing)
    monkeypatch.setattr(module._Session, "sweep", sweeping)
    monkeypatch.setattr(module, "SWEEP_S", 1e9)
    firsts: list[int] = []
    for ride_s in (0.0, 1e9):
        monkeypatch.setattr(module, "RIDE_S", ride_s)
        for name in "ab":
            await ledger.add([(RECORD, name, 1.0, b"")], lambda first, _: firsts.append(first))
            ledger.drop(firsts[-1:])
    assert transactions == [[], ["1 deleted"], [], []]


async def test_a_delete_that_failed_is_made_up_for(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    firsts: list[int] = []
    await ledger.add([(RECORD, "a", 1.0, b""), (RECORD, "b", 1.0, b"")], lambda first, _: firsts.append(first))
    ledger.drop(firsts)
    ledger.tried([firsts[0] + 1])
    with monkeypatch.context() as broken:
        broken.setattr(module, "DELETE", "DELETE FROM nowhere WHERE position IN (?)")
        assert await ids(ledger) == ["a", "b"]
    assert await ids(ledger) == ["b"]
    assert await ledger.query("SELECT attempts FROM entries") == [(1,)]


async def test_neighbours_of_an_entry_that_no_file_takes_are_kept(ledger: Ledger) -> None:
    told: list[type[Exception] | None] = []

    def then(_first: int, error: Exception | None) -> None:
        told.append(None if error is None else type(error))

    entries = [[(RECORD, "a", 1.0, b"")], [(RECORD, "bad", None, b"")], [(RECORD, "c", 1.0, b"")]]
    added = [ledger.add(each, then) for each in entries]  # type: ignore[arg-type]
    outcomes = await asyncio.gather(*added, return_exceptions=True)
    assert [type(each) for each in outcomes] == [type(None), Unavailable, type(None)]
    assert told == [None, Unavailable, None]
    assert await ids(ledger) == ["a", "c"]


async def test_a_file_of_before_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "CREATE TABLE spool (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at REAL NOT NULL,"
            " attempts INTEGER NOT NULL DEFAULT 0, data BLOB NOT NULL);"
            "CREATE TABLE calls (id TEXT PRIMARY KEY, call_id TEXT NOT NULL, data BLOB NOT NULL,"
            " updated_at REAL NOT NULL) WITHOUT ROWID;"
            "CREATE TABLE cdrs (id TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;"
        )
        connection.execute("INSERT INTO spool VALUES (7, ?, 1001.0, 3, ?)", (record(1).id, pack(record(1))))
        connection.execute("INSERT INTO calls VALUES (?, 'x', ?, ?)", (live(1).id, live(1).data, live(1).updated_at))
        connection.execute("INSERT INTO cdrs VALUES (?, ?)", (cdr(1).id, pack(cdr(1))))
    connection.close()
    for _ in range(2):
        spool = SqliteSpool(path)
        await spool.open()
        ledger = spool.ledger
        assert [(each.position, each.record, each.attempts) for each in await spool.waiting(10)] == [(7, record(1), 3)]
        assert list(await JournalCalls(ledger).load()) == [live(1)]
        assert [row.data for row in await ledger.read((CDR,), after=0, limit=10, then=ignore)] == [pack(cdr(1))]
        assert {row.kind for row in await ledger.read((CALL, CDR), after=7, limit=10, then=ignore)} == {CALL, CDR}
        await ledger.close()


REFUSING = ("INSERT INTO nowhere VALUES (?, ?, ?, ?, ?)",)


@pytest.mark.usefixtures("errors_expected")
async def test_what_the_disk_refused_is_written_when_it_takes_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    told: list[tuple[str, bool]] = []
    all_there = asyncio.Event()

    def then(name: str) -> Callable[[int, Exception | None], None]:
        def hear(_first: int, error: Exception | None) -> None:
            told.append((name, error is None))
            if (name, error) == ("c", None):
                all_there.set()

        return hear

    with monkeypatch.context() as broken:
        broken.setattr(module, "ADDS", REFUSING)
        for name in "abc":
            with pytest.raises(Unavailable, match="nowhere" if name == "a" else "held in memory"):
                await ledger.add([(RECORD, name, 1.0, b"")], then(name))
    await all_there.wait()
    await ledger.add([(RECORD, "d", 1.0, b"")], then("d"))
    assert await ids(ledger) == ["a", "b", "c", "d"]
    assert told == [*((name, False) for name in "abc"), *((name, True) for name in "abcd")]
    assert "the disk writes again, 3 additions had waited" in caplog.text


@pytest.mark.usefixtures("errors_expected")
async def test_a_disk_that_takes_nothing_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_REFUSED", 2)
    ledger = Ledger(tmp_path / "other.db")
    await ledger.open()
    with monkeypatch.context() as broken:
        broken.setattr(module, "ADDS", REFUSING)
        for name in "abc":
            with pytest.raises(Unavailable):
                await ledger.add([(RECORD, name, 1.0, b"")], ignore)
        assert "lost ['record', 'c']" in caplog.text
        await ledger.close()
    assert "never took 2 additions" in caplog.text


@pytest.mark.usefixtures("errors_expected")
async def test_what_is_held_is_tried_once_more_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "other.db")
    await ledger.open()
    with monkeypatch.context() as broken:
        broken.setattr(module, "ADDS", REFUSING)
        with pytest.raises(Unavailable):
            await ledger.add([(RECORD, "a", 1.0, b"")], ignore)
    await ledger.close()
    await ledger.open()
    assert await ids(ledger) == ["a"]
    await ledger.close()
