from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from nomad.ports import Unavailable
from nomad.stores.database import Database
from nomad.stores.memory import MemoryLocations
from nomad.stores.snapshot import RegistrationSnapshot
from nomad.stores.tables import registrations
from tests.stores.samples import binding, registration


async def loaded(database: Database, now: float = 1500.0) -> list[str]:
    return sorted(each.user for each in await RegistrationSnapshot(database).load(now))


async def test_registrations_come_back_as_they_were(database: Database) -> None:
    snapshot = RegistrationSnapshot(database)
    locations = MemoryLocations(on_change=snapshot.note)
    await locations.save(registration("alice", 1))
    await locations.save(registration("b\udcffb", 2))
    await snapshot.close()
    found = {each.user: each for each in await RegistrationSnapshot(database).load(1500.0)}
    assert found["alice"] == await locations.get("alice")
    assert found["b\udcffb"] == await locations.get("b\udcffb")


async def test_the_last_change_counts_and_removals_are_kept(database: Database) -> None:
    snapshot = RegistrationSnapshot(database)
    locations = MemoryLocations(on_change=snapshot.note)
    for user in ("alice", "bob"):
        await locations.save(registration(user))
    await snapshot.flush()
    for _ in range(50):
        await locations.save(replace(await locations.get("alice"), extension="7"))
    await locations.save(replace(await locations.get("bob"), bindings=()))
    await snapshot.flush()
    assert await RegistrationSnapshot(database).load(1500.0) == [await locations.get("alice")]
    await snapshot.close()


async def test_expired_registrations_are_dropped(database: Database) -> None:
    snapshot = RegistrationSnapshot(database)
    snapshot.note(registration("late", expires_at=1400.0))
    snapshot.note(replace(registration("half"), bindings=(binding(1, expires_at=1400.0), binding(2))))
    await snapshot.flush()
    (found,) = await snapshot.load(1500.0)
    assert (found.user, found.bindings) == ("half", (binding(2),))
    assert await loaded(database, now=0.0) == ["half"]


async def test_bindings_on_connections_are_dropped(database: Database) -> None:
    snapshot = RegistrationSnapshot(database)
    snapshot.note(replace(registration("both"), bindings=(binding(1, transport="tls"), binding(2))))
    snapshot.note(replace(registration("tcp"), bindings=(binding(3, transport="tcp"),)))
    await snapshot.flush()
    (found,) = await snapshot.load(1500.0)
    assert (found.user, found.bindings) == ("both", (binding(2),))


async def test_nodes_of_one_database_keep_apart(database: Database) -> None:
    first = RegistrationSnapshot(database, node="a")
    first.note(registration("alice"))
    await first.flush()
    assert await RegistrationSnapshot(database, node="b").load(1500.0) == []
    assert await loaded(database) == []


async def test_a_row_that_cannot_be_read_is_left_out(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    snapshot = RegistrationSnapshot(database)
    snapshot.note(registration("alice"))
    snapshot.note(registration("bob"))
    await snapshot.flush()
    spoil = update(registrations).where(registrations.c.user == "alice").values(data=b"\x00")
    await database.change(lambda connection: connection.execute(spoil).rowcount)
    assert await loaded(database) == ["bob"]
    assert "'alice' cannot be read" in caplog.text


async def test_what_was_flushed_survives_kill_9(tmp_path: Path, promised: Callable[[str, Path], list[str]]) -> None:
    path = tmp_path / "nomad.db"
    users = await asyncio.to_thread(promised, "registrations", path)
    database = Database(f"sqlite:///{path}")
    await database.open()
    assert set(users) <= set(await loaded(database))
    await database.close()


async def test_a_store_that_is_gone_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(f"sqlite:///{tmp_path}/nomad.db")
    await database.open()
    snapshot = RegistrationSnapshot(database)
    await database.close()
    snapshot.note(registration())
    with pytest.raises(Unavailable):
        await snapshot.flush()
    await snapshot.close()
    assert "1 registrations are not saved" in caplog.text


async def test_what_comes_back_is_held_once(database: Database) -> None:
    snapshot = RegistrationSnapshot(database)
    for number in (1, 2):
        snapshot.note(registration(f"user{number}", number))
    await snapshot.flush()
    one, two = await snapshot.load(1500.0)
    (first,), (second,) = one.bindings, two.bindings
    assert one.grant is not None
    assert two.grant is not None
    assert first.user_agent is second.user_agent
    assert first.flow.local is second.flow.local
    assert one.grant.groups is two.grant.groups
    assert one.user is one.grant.user
    assert one.addresses[0] is one.grant.addresses[0]
