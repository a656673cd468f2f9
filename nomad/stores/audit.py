"""The audit log in the SQL database: a chain of hashes, so that whoever changes or removes an entry is noticed.

There is no way to change or remove one here, and triggers refuse it to others who use the database by hand. What a
superuser cuts off the end shows only to who kept the head: every entry's hash goes to the log of the process too.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, text

from nomad.ports import AuditCheck, AuditEntry, AuditQuery, Deed
from nomad.stores.database import Database
from nomad.stores.encoding import storable
from nomad.stores.tables import audit

PAGE = 5000  # entries looked at in one query
LOCK_KEY = 0x6175646974  # "audit", of PostgreSQL's advisory lock
COLUMNS = (
    audit.c.number,
    audit.c.at,
    audit.c.by,
    audit.c.action,
    audit.c.what,
    audit.c.why,
    audit.c.more,
    audit.c.hash,
)


class SqlAuditLog:
    """An `AuditLog`. Several edges may share it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, deeds: Sequence[tuple[float, Deed]]) -> Sequence[AuditEntry]:
        """Put deeds behind the newest."""
        marks = [secrets.token_hex(12) for _ in deeds]  # work that is run twice must not store twice
        rows = [(mark, at, _storable(deed)) for mark, (at, deed) in zip(marks, deeds, strict=True)]

        def work(connection: Connection) -> list[AuditEntry]:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
            stored = connection.execute(select(*COLUMNS).where(audit.c.mark.in_(marks)).order_by(audit.c.number)).all()
            if stored:
                return [_entry(row) for row in stored]
            newest = connection.execute(
                select(audit.c.number, audit.c.hash).order_by(audit.c.number.desc()).limit(1)
            ).first()
            number, before = (newest[0], newest[1]) if newest is not None else (0, "")
            entries = []
            for mark, at, deed in rows:
                number += 1
                entry = AuditEntry(number, at, deed, chain_hash(number, at, deed, before))
                connection.execute(insert(audit).values(_row(entry, mark)))
                entries.append(entry)
                before = entry.hash
            return entries

        return await self._database.change(work)

    async def read(self, query: AuditQuery) -> Sequence[AuditEntry]:
        """Entries, newest first."""
        statement = select(*COLUMNS).order_by(audit.c.number.desc()).limit(max(query.limit, 0))
        if query.since is not None:
            statement = statement.where(audit.c.at >= query.since)
        if query.before is not None:
            statement = statement.where(audit.c.number < query.before)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [_entry(row) for row in rows]

    async def verify(self) -> AuditCheck:
        """Look at every entry, in pages, so that others have their turn between."""
        count, before = 0, ""
        while True:
            rows = await self._page(count)
            for row in rows:
                wanted = count + 1
                if row[0] != wanted:
                    return AuditCheck(count, before, wanted, f"entry {wanted} is missing")
                try:
                    entry = _entry(row)
                except (ValueError, TypeError):
                    return AuditCheck(count, before, wanted, f"entry {wanted} was changed")
                if entry.hash != chain_hash(entry.number, entry.at, entry.deed, before):
                    return AuditCheck(count, before, wanted, f"entry {wanted}, or what stood before it, was changed")
                count, before = wanted, entry.hash
            if len(rows) < PAGE:
                return AuditCheck(count, before)

    async def _page(self, after: int) -> Sequence[Any]:
        statement = select(*COLUMNS).where(audit.c.number > after).order_by(audit.c.number).limit(PAGE)
        return await self._database.read(lambda connection: connection.execute(statement).all())


def chain_hash(number: int, at: float, deed: Deed, before: str) -> str:
    """SHA-256 of an entry and of the hash before it, in hex."""
    whole = [before, number, at, deed.by, deed.action, deed.what, deed.why, [list(pair) for pair in deed.more]]
    return hashlib.sha256(json.dumps(whole, separators=(",", ":")).encode()).hexdigest()


def _storable(deed: Deed) -> Deed:
    more = tuple((storable(name), storable(value)) for name, value in deed.more)
    return Deed(storable(deed.by), deed.action, storable(deed.what), storable(deed.why), more)


def _row(entry: AuditEntry, mark: str) -> dict[str, Any]:
    deed = entry.deed
    return {
        "number": entry.number,
        "at": entry.at,
        "by": deed.by,
        "action": deed.action,
        "what": deed.what,
        "why": deed.why,
        "more": json.dumps(deed.more),
        "hash": entry.hash,
        "mark": mark,
    }


def _entry(row: Any) -> AuditEntry:
    """Raises `ValueError` or `TypeError` on what was never written."""
    number, at, by, action, what, why, more, hash = row
    pairs = tuple((str(name), str(value)) for name, value in json.loads(more))
    return AuditEntry(number, at, Deed(by, action, what, why, pairs), hash)
