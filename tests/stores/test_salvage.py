from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from pathlib import Path

import pytest

from nomad.ports import Unavailable
from nomad.stores import ledger
from nomad.stores.salvage import mend
from nomad.stores.spool import SqliteSpool
from tests.stores.samples import record

PAGE_BYTES = 4096
RECORDS = 2000


async def fill(path: Path) -> None:
    spool = SqliteSpool(path)
    await spool.open()
    await spool.append([record(number) for number in range(RECORDS)])
    await spool.close()


def damage(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek(page * PAGE_BYTES)
        file.write(os.urandom(PAGE_BYTES))


def damaged(path: Path) -> list[Path]:
    return list(path.parent.glob(f"{path.name}.damaged-*"))


async def numbers(spool: SqliteSpool) -> list[int]:
    return [int(each.record.at) - 1000 for each in await spool.waiting(2 * RECORDS)]


@pytest.mark.usefixtures("errors_expected")
async def test_a_damaged_page_costs_what_stood_on_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "spool.db"
    await fill(path)
    damage(path, path.stat().st_size // PAGE_BYTES // 2)
    spool = SqliteSpool(path)
    with caplog.at_level(logging.ERROR):
        await spool.open()
    found = await numbers(spool)
    assert found == sorted(found)
    assert RECORDS - 200 < len(found) < RECORDS
    assert {0, RECORDS - 1} <= set(found)
    await spool.append([record(RECORDS)])
    assert (await numbers(spool))[-1] == RECORDS
    await spool.close()
    (kept,) = damaged(path)
    assert str(kept) in caplog.text
    await spool.open()
    assert len(await numbers(spool)) == len(found) + 1
    await spool.close()
    assert len(damaged(path)) == 1


@pytest.mark.usefixtures("errors_expected")
async def test_nothing_readable_is_no_reason_not_to_start(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    await fill(path)
    for page in range(1, path.stat().st_size // PAGE_BYTES):
        damage(path, page)
    spool = SqliteSpool(path)
    await spool.open()
    assert await numbers(spool) == []
    await spool.append([record(1)])
    await spool.close()
    assert len(damaged(path)) == 1


async def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(b"something else" * 1000)
    with pytest.raises(Unavailable, match="not a database"):
        await SqliteSpool(path).open()
    assert path.read_bytes() == b"something else" * 1000
    assert not damaged(path)


async def test_a_whole_file_stays_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    await fill(path)
    before = path.read_bytes()
    assert await asyncio.to_thread(mend, path, ledger.SCHEMA, ledger.TABLES) == ""
    assert path.read_bytes() == before
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        assert await asyncio.to_thread(mend, path, ledger.SCHEMA, ledger.TABLES) == "", "somebody else has it"
    other.close()
    assert mend(tmp_path / "none.db", ledger.SCHEMA, ledger.TABLES) == ""
