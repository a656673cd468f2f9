"""Databases to run the contract against."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from nomad.stores.database import Database
from nomad.stores.ledger import Ledger
from nomad.stores.spool import SqliteSpool
from tests.harness import postgres
from tests.harness.debian import ROOT, require


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    require("postgresql")
    server = postgres.Postgres()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "sqlite-memory", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/nomad.db"
    if request.param == "sqlite-memory":
        return "sqlite://"
    server: postgres.Postgres = request.getfixturevalue("postgres_server")
    engine = create_engine(server.url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return server.url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def ledger(spool: SqliteSpool) -> Ledger:
    return spool.ledger


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[SqliteSpool]:
    spool = SqliteSpool(tmp_path / "spool.db")
    await spool.open()
    yield spool
    await spool.close()


@pytest.fixture
def promised(tmp_path: Path) -> Callable[[str, Path], list[str]]:
    """Start a process that stores, kill it with SIGKILL in the middle, and tell what it had promised to keep."""

    def run(kind: str, path: Path) -> list[str]:
        command = [sys.executable, "-m", "tests.stores.crash", kind, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            ids = [process.stdout.readline().strip() for _ in range(400)]
            process.kill()
            ids += process.stdout.read().split("\n")[:-1]
        assert process.returncode == -signal.SIGKILL
        return ids

    return run
