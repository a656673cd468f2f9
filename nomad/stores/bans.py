"""Bans in the SQL database, so that a restart lets nobody in who was kept out."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, select

from nomad.ports import StoredBan
from nomad.stores.database import Database
from nomad.stores.tables import bans


class SqlBans:
    """A `BanStore`. Edges that share a database each give their own `node` name."""

    def __init__(self, database: Database, *, node: str = "") -> None:
        self._database = database
        self._node = node
        self._put = database.upsert(bans)
        self._remove = delete(bans).where(bans.c.node == bindparam("of_node"), bans.c.address == bindparam("of"))

    async def put(self, ban: StoredBan) -> None:
        """Insert or replace, durably."""
        row = {
            "node": self._node,
            "address": ban.address,
            "reason": ban.reason,
            "until": ban.until,
            "length_s": ban.length_s,
        }
        await self._database.write(self._put, [row])

    async def remove(self, address: str) -> None:
        """Forget one that was lifted."""
        await self._database.write(self._remove, [{"of_node": self._node, "of": address}])

    async def load(self, since: float) -> Sequence[StoredBan]:
        """Those that ended after `since` (Unix seconds), or have not; older ones are forgotten."""
        outdated = delete(bans).where(bans.c.node == self._node, bans.c.until < since)
        await self._database.change(lambda connection: connection.execute(outdated).rowcount)
        statement = select(bans.c.address, bans.c.reason, bans.c.until, bans.c.length_s)
        statement = statement.where(bans.c.node == self._node).order_by(bans.c.until)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [StoredBan(*row) for row in rows]
