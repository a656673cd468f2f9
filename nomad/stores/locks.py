"""Locked accounts in the SQL database. Edges that share it share the locks."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import bindparam, delete, select

from nomad.ports import Lock
from nomad.stores.database import Database
from nomad.stores.encoding import storable
from nomad.stores.tables import locks


class SqlLocks:
    """A `LockStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._put = database.upsert(locks)
        self._remove = delete(locks).where(locks.c.user == bindparam("of_user"))

    async def put(self, lock: Lock) -> None:
        """Insert or replace, durably."""
        row = {
            "user": storable(lock.user),
            "why": storable(lock.why),
            "by": storable(lock.by),
            "at": lock.at,
            "names": json.dumps(lock.names),
            "in_directory": lock.in_directory,
        }
        await self._database.write(self._put, [row], urgent=True)

    async def remove(self, user: str) -> None:
        """Forget one."""
        await self._database.write(self._remove, [{"of_user": storable(user)}], urgent=True)

    async def load(self) -> Sequence[Lock]:
        """All, oldest first."""
        columns = (locks.c.user, locks.c.why, locks.c.by, locks.c.at, locks.c.names, locks.c.in_directory)
        statement = select(*columns).order_by(locks.c.at, locks.c.user)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [Lock(*row[:4], tuple(json.loads(row[4])), bool(row[5])) for row in rows]
