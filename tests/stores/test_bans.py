from __future__ import annotations

from nomad.ports import StoredBan
from nomad.stores.bans import SqlBans
from nomad.stores.database import Database

FIRST = StoredBan("198.51.100.7", "auth", 1060.0, 60.0)
SECOND = StoredBan("2001:db8:1:2::/64", "scanner", 2000.0, 120.0)


async def test_bans_are_kept_replaced_and_lifted(database: Database) -> None:
    store = SqlBans(database)
    await store.put(FIRST)
    await store.put(SECOND)
    longer = StoredBan(FIRST.address, "scanner", 3000.0, 120.0)
    await store.put(longer)
    assert await store.load(0.0) == [SECOND, longer]
    await store.remove(SECOND.address)
    await store.remove("192.0.2.1")
    assert await store.load(0.0) == [longer]


async def test_those_of_long_ago_are_forgotten(database: Database) -> None:
    store = SqlBans(database)
    await store.put(FIRST)
    await store.put(SECOND)
    assert await store.load(1500.0) == [SECOND]
    assert await store.load(0.0) == [SECOND]


async def test_nodes_of_one_database_keep_their_bans_apart(database: Database) -> None:
    await SqlBans(database, node="a").put(FIRST)
    assert await SqlBans(database, node="b").load(0.0) == []
    assert await SqlBans(database, node="a").load(0.0) == [FIRST]
