from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nomad.ports import Unavailable
from nomad.stores.encoding import unpack_record
from nomad.stores.spool import SqliteSpool
from tests.stores.contract import SpoolContract
from tests.stores.samples import record


class TestSqliteSpool(SpoolContract):
    @pytest.fixture
    def store(self, spool: SqliteSpool) -> SqliteSpool:
        return spool


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = SqliteSpool(path)
    await spool.open()
    await spool.append([record(1), record(2), record(3)])
    first, second, _ = await spool.waiting(10)
    await spool.delivered([first.position])
    await spool.failed([second.position])
    await spool.close()

    again = SqliteSpool(path)
    await again.open()
    assert (again.state().records, again.state().oldest_at) == (2, 1002.0)
    assert [(each.record.id, each.attempts) for each in await again.waiting(10)] == [("s2-Start", 1), ("s3-Start", 0)]
    await again.close()


async def test_what_was_promised_survives_kill_9(tmp_path: Path, promised: Callable[[str, Path], list[str]]) -> None:
    path = tmp_path / "spool.db"
    ids = await asyncio.to_thread(promised, "spool", path)
    spool = SqliteSpool(path)
    await spool.open()
    kept = [each.record.id for each in await spool.waiting(1_000_000)]
    await spool.close()
    assert set(ids) <= set(kept)
    assert len(kept) == len(set(kept)) == spool.state().records
    for writer in range(8):  # each writer's records stand in the order in which they were given
        own = [number for number in (int(id[1:].partition("-")[0]) for id in kept) if number % 8 == writer]
        assert own == sorted(own)


async def test_a_second_process_is_refused(tmp_path: Path, spool: SqliteSpool) -> None:
    with pytest.raises(Unavailable, match=r"spool .*spool\.db: database is locked"):
        await SqliteSpool(tmp_path / "spool.db").open()
    await spool.append([record(1)])


async def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(Unavailable, match="not a database"):
        await SqliteSpool(path).open()
    with pytest.raises(Unavailable, match="unable to open"):
        await SqliteSpool(tmp_path / "missing" / "spool.db").open()


async def test_a_record_that_cannot_be_read_does_not_block_the_others(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = SqliteSpool(path)
    await spool.open()
    await spool.append([record(1), record(2)])
    await spool.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE spool SET data = x'00' WHERE id = 's1-Start'")
    connection.close()
    await spool.open()
    assert [each.record.id for each in await spool.waiting(10)] == ["s2-Start"]
    assert (spool.state().records, spool.state().undeliverable) == (1, 1)
    await spool.close()
    with sqlite3.connect(path) as connection:
        ((id, why),) = connection.execute("SELECT id, why FROM undeliverable").fetchall()
    connection.close()
    assert id == "s1-Start"
    assert why.startswith("cannot be read: ")


async def test_what_was_set_aside_is_kept_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = SqliteSpool(path)
    await spool.open()
    await spool.append([record(1), record(2)])
    await spool.failed([each.position for each in await spool.waiting(1)], final="does not fit: \udcff")
    await spool.close()
    await spool.open()
    assert (spool.state().records, spool.state().undeliverable) == (1, 1)
    await spool.append([record(1)])  # somebody puts it back by hand, and it fails again
    await spool.failed([each.position for each in await spool.waiting(10)], final="still")
    assert (spool.state().records, spool.state().undeliverable) == (0, 2)
    await spool.close()
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT id, attempts, why, data FROM undeliverable ORDER BY id").fetchall()
    connection.close()
    assert [row[:3] for row in found] == [("s1-Start", 1, "still"), ("s2-Start", 1, "still")]
    assert unpack_record(found[0][3]) == record(1)


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
