"""Registrations that survive a restart: changed users are written behind, the rest is left alone.

A write takes what changed while the one before it was on its way to the disk; many changes of one user are one write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select

from nomad.ports import Registration, Unavailable
from nomad.stores.database import Database
from nomad.stores.encoding import pack, storable, unpack_registration
from nomad.stores.tables import registrations

logger = logging.getLogger(__name__)

MAX_BATCH = 500  # users in one write, so that a storm of registrations does not hold the database for long
RETRY_S = 1.0  # pause after a failed write
PAUSE_S = 0.2  # between writes, so that many changes share one


class RegistrationSnapshot:
    """Keeps a copy of the registrations in the database; `note` goes to `MemoryLocations(on_change=...)`.

    Edges that share a database each give their own `node` name.
    """

    def __init__(self, database: Database, *, node: str = "") -> None:
        self._database = database
        self._node = node
        self._changed: dict[str, Registration] = {}
        self._writing: asyncio.Task[None] | None = None
        self._failing = False
        self._hurry = False  # somebody waits in `flush`
        self._put = database.upsert(registrations)
        table = registrations.c
        self._remove = delete(registrations).where(
            table.node == bindparam("of_node"), table.user == bindparam("of_user")
        )

    @property
    def waiting(self) -> int:
        """How many users changed and are not written yet, besides those of the write in progress."""
        return len(self._changed)

    def note(self, registration: Registration) -> None:
        """A registration changed; without bindings it is gone."""
        self._changed[registration.user] = registration
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write(), name="registration snapshot")

    async def load(self, now: float) -> list[Registration]:
        """What is still valid at `now` (Unix seconds).

        Bindings on connections are dropped: the connections are gone. Those on UDP flows stay usable.
        """
        statement = select(registrations.c.user, registrations.c.data).where(
            registrations.c.node == self._node, registrations.c.expires_at >= now
        )
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        outdated = delete(registrations).where(registrations.c.node == self._node, registrations.c.expires_at < now)
        await self._database.change(lambda connection: connection.execute(outdated).rowcount)
        loaded = []
        memo: dict[Any, Any] = {}
        for user, data in rows:
            try:
                registration = unpack_registration(data)
            except ValueError as error:
                logger.warning("snapshot: registration of %r cannot be read and is dropped: %s", user, error)
                continue
            usable = tuple(b for b in registration.bindings if b.expires_at >= now and not b.flow.reliable)
            if usable:
                loaded.append(_without_copies(replace(registration, bindings=usable), memo))
        return loaded

    async def flush(self) -> None:
        """Return when everything noted so far is durable. Raises `Unavailable`."""
        self._hurry = True
        try:
            while self._writing is not None:
                if self._failing:
                    raise Unavailable("registration snapshot: the store does not answer")
                await asyncio.wait([self._writing], timeout=RETRY_S)
        finally:
            self._hurry = False

    async def close(self) -> None:
        """Try once more to write what waits, then stop."""
        try:
            await self.flush()
        except Unavailable as error:
            logger.error("%s; %d registrations are not saved", error, len(self._changed))
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        try:
            while self._changed:
                batch = dict(islice(self._changed.items(), MAX_BATCH))
                for user in batch:
                    del self._changed[user]
                try:
                    await self._write_batch(list(batch.values()))
                    self._failing = False
                    if not self._hurry:
                        await asyncio.sleep(PAUSE_S)
                except Unavailable as error:
                    if not self._failing:
                        logger.error("registration snapshot: %s", error)
                    self._failing = True
                    self._changed = {**batch, **self._changed}
                    await asyncio.sleep(RETRY_S)
        finally:
            self._writing = None

    async def _write_batch(self, batch: Sequence[Registration]) -> None:
        def write(connection: Connection) -> None:
            present = [registration for registration in batch if registration.bindings]
            absent = [registration for registration in batch if not registration.bindings]
            if present:
                connection.execute(self._put, [self._row(registration) for registration in present])
            if absent:
                rows = [{"of_node": self._node, "of_user": storable(registration.user)} for registration in absent]
                connection.execute(self._remove, rows)

        await self._database.change(write)

    def _row(self, registration: Registration) -> dict[str, object]:
        return {
            "node": self._node,
            "user": storable(registration.user),
            "expires_at": max(binding.expires_at for binding in registration.bindings),
            "data": pack(registration),
        }


def _without_copies(registration: Registration, memo: dict[Any, Any]) -> Registration:
    """The same with one object for each value that comes again: many registrations are held in memory."""

    def same(value: Any) -> Any:
        return memo.setdefault(value, value)

    bindings = []
    for binding in registration.bindings:
        flow = binding.flow._replace(transport=same(binding.flow.transport), local=same(binding.flow.local))
        address, agent = same(binding.address), same(binding.user_agent)
        bindings.append(replace(binding, flow=flow, address=address, user_agent=agent))
    addresses, grant = tuple(map(same, registration.addresses)), registration.grant
    if grant is not None:
        owned = tuple(map(same, grant.addresses))
        user, extension, groups = same(grant.user), same(grant.extension), same(grant.groups)
        grant = replace(grant, user=user, extension=extension, addresses=owned, groups=groups)
    user, extension = same(registration.user), same(registration.extension)
    return replace(
        registration, user=user, bindings=tuple(bindings), addresses=addresses, extension=extension, grant=grant
    )
