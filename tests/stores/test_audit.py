from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from nomad.ports import AuditCheck, AuditQuery, Deed, Unavailable
from nomad.stores import audit
from nomad.stores.audit import SqlAuditLog
from nomad.stores.database import Database

BAN = Deed("guard", "ban", "198.51.100.7", "auth", (("seconds", "60"),))
LOCK = Deed("admin eve@127.0.0.1", "lock", "al\udcffice", "because \x00 of 'quotes'; and é")


async def filled(database: Database, count: int = 5) -> SqlAuditLog:
    log = SqlAuditLog(database)
    for number in range(count):
        await log.append([(1000.0 + number, BAN if number % 2 else LOCK)])
    return log


async def test_entries_are_numbered_chained_and_read_newest_first(database: Database) -> None:
    log = SqlAuditLog(database)
    first = await log.append([(1000.125, BAN), (1000.5, LOCK)])
    second = await log.append([(2000.0, BAN)])
    assert [entry.number for entry in (*first, *second)] == [1, 2, 3]
    assert await log.read(AuditQuery()) == [*second, *first[::-1]]
    assert [entry.number for entry in await log.read(AuditQuery(since=1000.5))] == [3, 2]
    assert [entry.number for entry in await log.read(AuditQuery(before=3, limit=1))] == [2]
    assert first[1].deed.what == r"al\xffice"
    assert await log.verify() == AuditCheck(3, second[0].hash)


async def test_an_empty_log_is_whole(database: Database) -> None:
    assert await SqlAuditLog(database).verify() == AuditCheck(0, "")


async def test_many_at_once_keep_one_chain(database: Database) -> None:
    logs = [SqlAuditLog(database), SqlAuditLog(database)]
    await asyncio.gather(*(logs[n % 2].append([(float(n), BAN)]) for n in range(50)))
    assert (await logs[0].verify()).entries == 50


async def test_pages_are_chained_too(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAGE", 2)
    log = await filled(database, 5)
    check = await log.verify()
    assert (check.entries, check.broken_at) == (5, None)


@pytest.mark.parametrize("statement", ["UPDATE audit SET why = 'x' WHERE number = 2", "DELETE FROM audit"])
async def test_the_database_itself_refuses_changes(database: Database, statement: str) -> None:
    if database.url.render_as_string() == "sqlite://":
        pytest.skip("a database in memory ends with the connection that an error closes")
    log = await filled(database)
    with pytest.raises((Unavailable, DatabaseError)):
        await database.change(lambda connection: connection.execute(text(statement)).rowcount)
    assert (await log.verify()).entries == 5


@pytest.mark.parametrize(
    ("statement", "broken_at"),
    [
        ("UPDATE audit SET why = 'x' WHERE number = 2", 2),
        ("UPDATE audit SET at = at + 1 WHERE number = 4", 4),
        ("UPDATE audit SET more = '[]' WHERE number = 2", 2),
        ("UPDATE audit SET more = 'nonsense' WHERE number = 2", 2),
        ("UPDATE audit SET hash = 'x' WHERE number = 5", 5),
        ("DELETE FROM audit WHERE number = 3", 3),
        ("DELETE FROM audit WHERE number = 1", 1),
        ("UPDATE audit SET number = 9 WHERE number = 5", 5),
    ],
)
async def test_who_gets_round_that_is_found_out(tmp_path: Path, statement: str, broken_at: int) -> None:
    database = Database(f"sqlite:///{tmp_path}/nomad.db")
    await database.open()
    try:
        log = await filled(database)
        with sqlite3.connect(tmp_path / "nomad.db") as forger:
            forger.execute("DROP TRIGGER audit_no_update")
            forger.execute("DROP TRIGGER audit_no_delete")
            forger.execute(statement)
        forger.close()
        check = await log.verify()
        assert check.broken_at == broken_at
        assert check.why
    finally:
        await database.close()


async def test_what_is_cut_off_the_end_shows_to_who_kept_the_head(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/nomad.db")
    await database.open()
    try:
        log = await filled(database)
        head = (await log.verify()).head
        with sqlite3.connect(tmp_path / "nomad.db") as forger:
            forger.execute("DROP TRIGGER audit_no_delete")
            forger.execute("DELETE FROM audit WHERE number = 5")
        forger.close()
        check = await log.verify()
        assert (check.entries, check.broken_at) == (4, None)
        assert check.head != head
    finally:
        await database.close()
