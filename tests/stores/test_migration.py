"""Databases that an older Nomad made."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, text

from nomad.ports import CdrQuery, UsageQuery
from nomad.stores.database import Database
from nomad.stores.sql import SqlCdrs, SqlPolicies
from nomad.stores.tables import SCHEMA_VERSION, metadata
from tests.harness.debian import ROOT
from tests.stores.samples import cdr, policy_version

FIRST = (  # what version 1 made
    "CREATE TABLE nomad_schema (version INTEGER NOT NULL PRIMARY KEY)",
    """CREATE TABLE cdrs (id VARCHAR(255) NOT NULL PRIMARY KEY, call_id TEXT NOT NULL, direction VARCHAR(8) NOT NULL,
    "user" TEXT NOT NULL, caller TEXT NOT NULL, callee TEXT NOT NULL, number_class TEXT NOT NULL,
    started_at DOUBLE PRECISION NOT NULL, answered_at DOUBLE PRECISION, ended_at DOUBLE PRECISION NOT NULL,
    duration_s DOUBLE PRECISION NOT NULL, result TEXT NOT NULL, status INTEGER NOT NULL, rule TEXT NOT NULL,
    reason TEXT NOT NULL, terminate_cause TEXT NOT NULL, peer TEXT NOT NULL, user_agent TEXT NOT NULL)""",
    "CREATE INDEX cdrs_by_start ON cdrs (started_at)",
    "INSERT INTO nomad_schema VALUES (1)",
    """INSERT INTO cdrs VALUES ('old', 'c', 'out', 'alice', 'a@x', '1000@x', 'internal', 1000, 1001, 1031, 30,
    'answered', 200, '', '', 'User-Request', '192.0.2.1', 'phone')""",
)


@pytest.fixture
async def old_database(database_url: str) -> Database:
    """Closed, and as version 1 left it."""
    if database_url == "sqlite://":
        pytest.skip("a database in memory is never old")
    database = Database(database_url)
    await database.open()

    def back(connection: Connection) -> None:
        metadata.drop_all(connection)
        for statement in FIRST:
            connection.execute(text(statement))

    await database.change(back)
    await database.close()
    return database


async def test_an_old_database_gets_what_is_missing_and_keeps_what_is_there(old_database: Database) -> None:
    await old_database.open()
    cdrs = SqlCdrs(old_database)
    (old,) = await cdrs.query(CdrQuery())
    assert (old.id, old.duration_s, old.groups, old.classes, old.number, old.cost) == ("old", 30.0, (), (), "", 0.0)
    await cdrs.add([cdr(2000)])
    assert len(await cdrs.usage(UsageQuery(month=0.0, day=0.0, hour=0.0, until=1e10))) == 1
    await SqlPolicies(old_database).add([policy_version(1)])
    indexes = await old_database.read(lambda connection: inspect(connection).get_indexes("cdrs"))
    assert {index["name"] for index in indexes} >= {"cdrs_by_start", "cdrs_by_user"}
    versions = await old_database.read(lambda c: c.execute(text("SELECT version FROM nomad_schema")).scalars().all())
    assert sorted(versions) == [1, SCHEMA_VERSION]
    await old_database.close()
    await old_database.open()  # nothing is left to do
    await old_database.close()


async def test_two_that_open_an_old_database_at_once_both_come_up(old_database: Database) -> None:
    second = Database(old_database.url.render_as_string(hide_password=False))
    await asyncio.gather(old_database.open(), second.open())
    await SqlCdrs(second).add([cdr(1)])
    assert len(await SqlCdrs(old_database).query(CdrQuery())) == 2
    await asyncio.gather(old_database.close(), second.close())


def test_processes_that_make_the_same_file_at_once_all_come_up(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\nfrom nomad.stores.database import Database\n"
        "async def main():\n    d = Database(sys.argv[1]); await d.open(); await d.close()\nasyncio.run(main())"
    )
    command = [sys.executable, "-c", script, f"sqlite:///{tmp_path}/new.db"]
    started = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    failures = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0] * 4, failures
    with sqlite3.connect(tmp_path / "new.db") as connection:
        assert connection.execute("SELECT version FROM nomad_schema").fetchall() == [(SCHEMA_VERSION,)]
    connection.close()
