from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from nomad.ports import CdrQuery, Unavailable
from nomad.stores import worker
from nomad.stores.database import Database
from nomad.stores.sql import SqlCdrs
from tests.harness.postgres import Postgres
from tests.stores.samples import cdr


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "sqlite+nothing:///x", "redis://127.0.0.1"])
def test_a_url_that_cannot_be_used_is_told(url: str) -> None:
    with pytest.raises(Unavailable, match="store "):
        Database(url)


async def test_a_database_that_cannot_be_opened_is_told_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="unable to open database file"):
        await Database(f"sqlite:///{tmp_path}/missing/nomad.db").open()
    with pytest.raises(Unavailable, match="refused") as caught:
        await Database("postgresql://nomad:hidden@127.0.0.1:1/x").open()
    assert "hidden" not in str(caught.value)


async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/nomad.db")
    await database.open()
    await database.close()
    with sqlite3.connect(tmp_path / "nomad.db") as connection:
        connection.execute("INSERT INTO nomad_schema VALUES (99)")
    connection.close()
    with pytest.raises(Unavailable, match="newer Nomad"):
        await database.open()


async def test_a_restarted_server_costs_no_record(postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "REOPEN_AFTER_S", 0.0)
    database = Database(postgres_server.url)
    await database.open()
    cdrs = SqlCdrs(database)
    await cdrs.add([cdr(1001)])
    await asyncio.to_thread(postgres_server.crash)
    with pytest.raises(Unavailable):
        await cdrs.add([cdr(1002)])
    postgres_server.restart()  # in this thread: what a thread started is killed when it ends

    async def stored() -> list[str]:
        return [each.id for each in await cdrs.query(CdrQuery(since=2001.0, until=2010.0))]

    await cdrs.add([cdr(1003)])
    postgres_server.restart()  # while nothing runs: the next write finds a dead connection
    await cdrs.add([cdr(1004)])
    assert await stored() == ["call-1004", "call-1003", "call-1001"]
    await database.close()
