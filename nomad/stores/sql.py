"""Call records and calls in progress in the SQL database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select

from nomad.ports import Cdr, CdrQuery, LiveCall
from nomad.stores.database import Database
from nomad.stores.encoding import storable
from nomad.stores.tables import calls, cdrs

CDR_FIELDS = tuple(field.name for field in fields(Cdr))


class SqlCdrs:
    """A `CdrStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._add = database.insert(cdrs).on_conflict_do_nothing(index_elements=["id"])

    async def add(self, records: Sequence[Cdr]) -> None:
        """Store durably; a record id that is already there is not added again."""
        await self._database.write(self._add, [_cdr_row(record) for record in records])

    async def query(self, query: CdrQuery) -> Sequence[Cdr]:
        """Calls that started from `since` up to before `until`, newest first."""
        statement = select(*(cdrs.c[name] for name in CDR_FIELDS))
        if query.user:
            statement = statement.where(cdrs.c.user == storable(query.user))
        if query.since is not None:
            statement = statement.where(cdrs.c.started_at >= query.since)
        if query.until is not None:
            statement = statement.where(cdrs.c.started_at < query.until)
        statement = statement.order_by(cdrs.c.started_at.desc(), cdrs.c.id.desc()).limit(max(query.limit, 0))
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [Cdr(*row) for row in rows]


class SqlCalls:
    """A `CallStore`. Edges that share a database each give their own `node` name."""

    def __init__(self, database: Database, *, node: str = "") -> None:
        self._database = database
        self._node = node
        self._put = database.upsert(calls)
        self._remove = delete(calls).where(calls.c.node == bindparam("of_node"), calls.c.id == bindparam("of_id"))

    async def put(self, call: LiveCall) -> None:
        """Insert or replace, durably."""
        row = {
            "node": self._node,
            "id": call.id,
            "call_id": storable(call.call_id),
            "data": call.data,
            "updated_at": call.updated_at,
        }
        await self._database.write(self._put, [row], urgent=True)

    async def remove(self, id: str) -> None:
        """Forget an ended call."""
        await self._database.write(self._remove, [{"of_node": self._node, "of_id": id}])

    async def load(self) -> Sequence[LiveCall]:
        """Every stored call, when the edge starts."""
        statement = select(calls.c.id, calls.c.call_id, calls.c.data, calls.c.updated_at)
        statement = statement.where(calls.c.node == self._node).order_by(calls.c.updated_at)

        def load(connection: Connection) -> list[LiveCall]:
            return [LiveCall(*row) for row in connection.execute(statement)]

        return await self._database.read(load)


def _cdr_row(record: Cdr) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in CDR_FIELDS}
    return {name: storable(value) if isinstance(value, str) else value for name, value in row.items()}
