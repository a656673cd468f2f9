"""One SQLAlchemy database, SQLite or PostgreSQL by URL, behind one writing and one reading thread.

SQLite: WAL with synchronous=FULL: what was committed survives kill -9 and a power failure. Registrations and call
records come together in a few transactions a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from nomad.ports import Unavailable
from nomad.stores.migration import bring_up
from nomad.stores.worker import Worker

LOCK_WAIT_S = 5.0  # another process holds SQLite's write lock
CONNECT_TIMEOUT_S = 5
GATHER_S = 0.02  # writes that nobody's answer waits for may wait for company
STATEMENT_TIMEOUT_MS = 10_000
R = TypeVar("R")
Insert = sqlite.Insert | postgresql.Insert


class EngineSession:
    """A `Session` over one SQLAlchemy connection."""

    def __init__(self, engine: Engine) -> None:
        self.connection: Connection = engine.connect()

    def begin(self) -> None:
        """Open a transaction."""
        self.connection.begin()

    def commit(self) -> None:
        """Commit it."""
        self.connection.commit()

    def rollback(self) -> None:
        """Roll back what is open, if anything is."""
        self.connection.rollback()

    def write(self, statement: Any, rows: Sequence[Any]) -> None:
        """Run a statement for every row."""
        self.connection.execute(statement, rows)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class Database:
    """Where records are kept. Everything blocking happens in its two threads; errors arrive as `Unavailable`."""

    def __init__(self, url: str) -> None:
        try:
            self.url = _with_driver(make_url(url))
            self._engine = _engine(self.url)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise Unavailable(f"store {url.partition(':')[0]}: {error}") from None
        self.name = f"store {self.url.render_as_string(hide_password=True)}"
        errors = (SQLAlchemyError, OSError)
        self._writer = Worker(self.name, self._open_writer, errors=errors, gather_s=GATHER_S)
        self._reader = Worker(self.name, lambda: EngineSession(self._engine), errors=errors)
        in_memory = self.url.drivername.startswith("sqlite") and self.url.database in (None, "", ":memory:")
        if in_memory:  # a second connection would see another database
            self._reader = self._writer

    async def open(self) -> None:
        """Connect and make the tables that are missing. Raises `Unavailable`."""
        await self._writer.open()
        if self._reader is not self._writer:
            try:
                await self._reader.open()
            except Unavailable:
                await self._writer.close()
                raise

    async def close(self) -> None:
        """Finish what waits and disconnect."""
        await self._writer.close()
        await self._reader.close()

    async def write(self, statement: Any, rows: Sequence[dict[str, Any]], *, urgent: bool = False) -> None:
        """Run a statement for rows; return when they are durable. An urgent write waits for no company."""
        await self._writer.write(statement, rows, urgent=urgent)

    async def read(self, work: Callable[[Connection], R]) -> R:
        """Run a query; it sees everything whose `write` has returned."""
        return await self._reader.submit(lambda session: work(session.connection))

    async def change(self, work: Callable[[Connection], R]) -> R:
        """Run several statements as one; return when they are durable. May be run twice after a broken connection."""
        return await self._writer.submit(lambda session: work(session.connection))

    def insert(self, table: Table) -> Insert:
        """An INSERT that knows ON CONFLICT, in this database's dialect."""
        return postgresql.insert(table) if self.url.drivername.startswith("postgresql") else sqlite.insert(table)

    def upsert(self, table: Table) -> Insert:
        """An INSERT that replaces a row with the same key."""
        statement = self.insert(table)
        keys = [column.name for column in table.primary_key]
        rest = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
        return statement.on_conflict_do_update(index_elements=keys, set_=rest)

    def _open_writer(self) -> EngineSession:
        session = EngineSession(self._engine)
        try:
            if not bring_up(session.connection):
                raise Unavailable(f"{self.name}: made by a newer Nomad; use that one, or another [store] url")
        except BaseException:
            session.close()
            raise
        return session


def _with_driver(url: URL) -> URL:
    """The driver that Nomad ships, when the URL names none."""
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def _engine(url: URL) -> Engine:
    if url.drivername.startswith("sqlite"):
        engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": LOCK_WAIT_S})
        event.listen(engine, "connect", _set_up_sqlite)
        return engine
    if url.drivername.startswith("postgresql"):
        arguments = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
            "tcp_user_timeout": STATEMENT_TIMEOUT_MS,
            "application_name": "nomad",
        }
        return create_engine(url, poolclass=NullPool, connect_args=arguments)
    raise ArgumentError("use sqlite:///file.db or postgresql://user@host/database")


def _set_up_sqlite(connection: Any, record: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}").close()
