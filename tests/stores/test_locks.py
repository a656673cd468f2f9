from __future__ import annotations

from nomad.ports import Lock
from nomad.stores.database import Database
from nomad.stores.locks import SqlLocks

ALICE = Lock("alice", "stolen phone", "admin eve@127.0.0.1", 1000.5, ("a.martin@inria.example", "alice@inria.example"))
BOB = Lock("bob", "", "fraud", 900.0, in_directory=True)


async def test_locks_are_kept_replaced_and_removed(database: Database) -> None:
    store = SqlLocks(database)
    await store.put(ALICE)
    await store.put(BOB)
    assert await store.load() == [BOB, ALICE]
    again = Lock("bob", "again", "admin", 2000.0)
    await store.put(again)
    assert await store.load() == [ALICE, again]
    await store.remove("alice")
    await store.remove("nobody")
    assert await store.load() == [again]
