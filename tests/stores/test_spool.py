from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nomad.ports import Spooled, SpoolState, Unavailable
from nomad.stores import ledger
from nomad.stores.encoding import unpack_record
from nomad.stores.spool import SqliteSpool
from tests.stores.contract import SpoolContract
from tests.stores.samples import record


class TestSqliteSpool(SpoolContract):
    @pytest.fixture
    def store(self, spool: SqliteSpool) -> SqliteSpool:
        return spool


async def reopened(path: Path) -> SqliteSpool:
    spool = SqliteSpool(path)
    await spool.open()
    return spool


def found(spooled: Spooled) -> tuple[str, int]:
    return spooled.record.id, spooled.attempts


async def test_everything_is_there_after_a_restart(spool: SqliteSpool, tmp_path: Path) -> None:
    await spool.append([record(1), record(2), record(3)])
    first, second, _ = await spool.waiting(10)
    await spool.delivered([first.position])
    await spool.failed([second.position])
    await spool.close()

    again = await reopened(tmp_path / "spool.db")
    assert (again.state().records, again.state().oldest_at) == (2, 1002.0)
    assert [found(each) for each in await again.waiting(10)] == [("s2-Start", 1), ("s3-Start", 0)]
    await again.close()


async def test_what_was_promised_survives_kill_9(tmp_path: Path, promised: Callable[[str, Path], list[str]]) -> None:
    path = tmp_path / "spool.db"
    ids = await asyncio.to_thread(promised, "spool", path)
    spool = await reopened(path)
    kept = [each.record.id for each in await spool.waiting(1_000_000)]
    await spool.close()
    assert set(ids) <= set(kept)
    assert len(kept) == len(set(kept)) == spool.state().records
    for writer in range(8):  # each writer's records stand in the order in which they were given
        own = [number for number in (int(id[1:].partition("-")[0]) for id in kept) if number % 8 == writer]
        assert own == sorted(own)


async def test_a_crash_soon_after_the_acknowledgement_brings_a_record_back_with_its_id(
    spool: SqliteSpool, tmp_path: Path
) -> None:
    await spool.append([record(1), record(2)])
    await spool.delivered([each.position for each in await spool.waiting(1)])
    assert [found(each) for each in await spool.waiting(10)] == [("s2-Start", 0)]
    copy = tmp_path / "copy.db"  # what a process finds that comes after a crash in this moment
    for end in ("", "-wal"):
        await asyncio.to_thread(shutil.copy, tmp_path / f"spool.db{end}", f"{copy}{end}")
    again = await reopened(copy)
    assert [found(each) for each in await again.waiting(10)] == [("s1-Start", 0), ("s2-Start", 0)]
    await again.close()


async def test_a_record_that_cannot_be_read_does_not_block_the_others(spool: SqliteSpool, tmp_path: Path) -> None:
    await spool.append([record(1), record(2)])
    await spool.ledger.query("UPDATE entries SET data = x'00' WHERE id = 's1-Start'")
    await spool.close()
    spool = await reopened(tmp_path / "spool.db")
    assert [each.record.id for each in await spool.waiting(10)] == ["s2-Start"]
    assert spool.state() == SpoolState(1, 1002.0, 1)
    ((id, why),) = await spool.ledger.query("SELECT id, why FROM undeliverable")
    await spool.close()
    assert id == "s1-Start"
    assert why.startswith("cannot be read: ")


async def test_what_was_set_aside_is_kept_over_a_restart(spool: SqliteSpool, tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    await spool.append([record(1), record(2)])
    await spool.failed([each.position for each in await spool.waiting(1)], final="does not fit: \udcff")
    await spool.close()
    spool = await reopened(path)
    assert (spool.state().records, spool.state().undeliverable) == (1, 1)
    await spool.append([record(1)])  # somebody puts it back by hand, and it fails again
    await spool.failed([each.position for each in await spool.waiting(10)], final="still")
    assert (spool.state().records, spool.state().undeliverable) == (0, 2)
    await spool.close()
    with sqlite3.connect(path) as connection:
        aside = connection.execute("SELECT id, attempts, why, data FROM undeliverable ORDER BY id").fetchall()
    connection.close()
    assert [row[:3] for row in aside] == [("s1-Start", 1, "still"), ("s2-Start", 1, "still")]
    assert unpack_record(aside[0][3]) == record(1)


async def test_records_that_are_put_back_by_hand_wait_again(spool: SqliteSpool, tmp_path: Path) -> None:
    """The statements of docs/radius.md."""
    await spool.append([record(1)])
    await spool.failed([each.position for each in await spool.waiting(1)], final="too long")
    await spool.close()
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        connection.executescript(
            "INSERT INTO entries (kind, id, at, data) SELECT 'record', id, at, data FROM undeliverable;"
            "DELETE FROM undeliverable"
        )
    connection.close()
    spool = await reopened(tmp_path / "spool.db")
    assert [each.record for each in await spool.waiting(10)] == [record(1)]
    assert spool.state() == SpoolState(1, 1001.0, 0)
    await spool.close()


@pytest.mark.usefixtures("errors_expected")
async def test_what_waits_for_the_disk_is_told_too(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nobody would look for it once the disk takes it, and no alarm on the oldest record would ring."""
    await spool.append([record(1)])
    with monkeypatch.context() as broken:
        broken.setattr(ledger, "ADDS", ("INSERT INTO nowhere VALUES (?, ?, ?, ?, ?)",))
        for number in (2, 3):
            with pytest.raises(Unavailable):
                await spool.append([record(number)])
        assert spool.state().records == 3
        assert spool.state().oldest_at == record(1).at
        await spool.delivered([each.position for each in await spool.waiting(9)])
        assert (spool.state().records, spool.state().oldest_at) == (2, record(2).at)


async def test_a_closed_spool_is_unavailable(spool: SqliteSpool) -> None:
    await spool.close()
    with pytest.raises(Unavailable, match="not open"):
        await spool.append([record(1)])
    await spool.close()


async def test_a_thousand_durable_records_a_second(spool: SqliteSpool) -> None:
    began = time.perf_counter()
    await asyncio.gather(*(spool.append([record(number)]) for number in range(2000)))
    assert 2000 / (time.perf_counter() - began) >= 1000
    assert spool.state().records == 2000
