"""Call records and versions of the policy in the SQL database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, delete, func, select

from nomad.ports import Cdr, CdrQuery, Conflict, PolicyVersion, UsageQuery, UserUsage
from nomad.stores.database import Database
from nomad.stores.encoding import storable
from nomad.stores.tables import cdrs, policies

CDR_FIELDS = tuple(field.name for field in fields(Cdr))
VERSION_FIELDS = tuple(field.name for field in fields(PolicyVersion))
LONGEST_CALL_S = 7 * 86400.0  # one that lasts longer and ends in a new month counts for nothing in it
REFUSED = "refused"


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
        return [_cdr(row) for row in rows]

    async def usage(self, query: UsageQuery) -> Sequence[UserUsage]:
        """What people's own calls that have ended came to; added up by the database."""
        sums, recent = _sums(query), _recent(query)

        def add_up(connection: Connection) -> list[UserUsage]:
            begun: dict[str, list[float]] = {}
            for user, started_at in connection.execute(recent):
                begun.setdefault(user, []).append(started_at)
            found = [
                UserUsage(user, month, day, cost, tuple(begun.pop(user, ())))
                for user, month, day, cost in connection.execute(sums)
            ]
            return found + [UserUsage(user, 0.0, 0.0, 0.0, tuple(starts)) for user, starts in begun.items()]

        return await self._database.read(add_up)


class SqlPolicies:
    """A `PolicyStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # By two who add at once, the number is taken by one; the other is told
        adding = database.insert(policies).on_conflict_do_nothing(index_elements=["number"])
        self._add = adding.returning(policies.c.number)
        self._all = select(*(policies.c[name] for name in VERSION_FIELDS))

    async def add(self, versions: Sequence[PolicyVersion]) -> None:
        """Store all or nothing; the first must follow the newest that is there, else raises `Conflict`."""

        def add(connection: Connection) -> None:
            for version in versions:
                row = {name: getattr(version, name) for name in VERSION_FIELDS}
                if connection.execute(self._add, row).first() is None:
                    raise Conflict(f"version {version.number} of the policy is there already")
                if version.number > 1 and self._newest(connection, before=version.number) != version.number - 1:
                    raise Conflict(f"there is no version {version.number - 1} of the policy")

        await self._database.change(add)

    async def get(self, number: int) -> PolicyVersion | None:
        """One version."""
        return await self._first(self._all.where(policies.c.number == number))

    async def find(self, sha: str) -> PolicyVersion | None:
        """The newest version with this text."""
        return await self._first(self._all.where(policies.c.sha == sha).order_by(policies.c.number.desc()).limit(1))

    async def history(self, limit: int) -> Sequence[PolicyVersion]:
        """The newest versions, newest first."""
        statement = self._all.order_by(policies.c.number.desc()).limit(max(limit, 0))
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [PolicyVersion(*row) for row in rows]

    async def withdraw(self, number: int) -> None:
        """Forget a version that could not be put in force, if it is the newest; else raises `Conflict`."""

        def withdraw(connection: Connection) -> None:
            connection.execute(delete(policies).where(policies.c.number == number))
            if self._newest(connection) > number:
                raise Conflict(f"version {number} of the policy is not the newest")

        await self._database.change(withdraw)

    async def _first(self, statement: Select[Any]) -> PolicyVersion | None:
        row = await self._database.read(lambda connection: connection.execute(statement).first())
        return None if row is None else PolicyVersion(*row)

    @staticmethod
    def _newest(connection: Connection, *, before: int = 0) -> int:
        statement = select(func.coalesce(func.max(policies.c.number), 0))
        if before:
            statement = statement.where(policies.c.number < before)
        return int(connection.execute(statement).scalar_one())


def _sums(query: UsageQuery) -> Select[Any]:
    """Seconds and cost by user, of calls that were answered."""
    counted = cdrs.c.answered_at.is_not(None) & (cdrs.c.ended_at > query.month)
    of_day = _overlap(query.day)
    share = of_day / case((cdrs.c.duration_s > 0, cdrs.c.duration_s), else_=1.0)
    return (
        select(cdrs.c.user, func.sum(_overlap(query.month)), func.sum(of_day), func.sum(cdrs.c.cost * share))
        .where(_own(query), cdrs.c.started_at >= query.month - LONGEST_CALL_S, counted)
        .group_by(cdrs.c.user)
    )


def _recent(query: UsageQuery) -> Select[Any]:
    """When calls of the last hour began, by user."""
    begun = (cdrs.c.started_at > query.hour) & (cdrs.c.result != REFUSED)
    return select(cdrs.c.user, cdrs.c.started_at).where(_own(query), begun).order_by(cdrs.c.started_at)


def _own(query: UsageQuery) -> ColumnElement[bool]:
    ended = (cdrs.c.ended_at <= query.until) & (cdrs.c.started_at <= query.until)
    return (cdrs.c.direction == "out") & ended & cdrs.c.number_class.not_in(query.exempt)


def _overlap(since: float) -> ColumnElement[float]:
    """Seconds of a call after a moment."""
    return case(
        (cdrs.c.ended_at <= since, 0.0),
        (cdrs.c.answered_at < since, cdrs.c.ended_at - since),
        else_=cdrs.c.duration_s,
    )


def _cdr(row: Sequence[Any]) -> Cdr:
    known = dict(zip(CDR_FIELDS, row, strict=True))
    known["groups"] = tuple(json.loads(known["groups"]))
    known["classes"] = tuple(bytes.fromhex(value) for value in json.loads(known["classes"]))
    return Cdr(**known)


def _cdr_row(record: Cdr) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in CDR_FIELDS}
    row["groups"] = json.dumps(record.groups) if record.groups else "[]"
    row["classes"] = json.dumps([value.hex() for value in record.classes]) if record.classes else "[]"
    return {name: storable(value) if isinstance(value, str) else value for name, value in row.items()}
