from __future__ import annotations

import pytest

from nomad.edge.locks import Locks
from nomad.ports import Lock, Unavailable
from tests.harness.wardens import MemoryLocks

ALICE = Lock("Alice", "stolen", "admin", 10.0, ("A.Martin@inria.example",))


class Directory:
    def __init__(self) -> None:
        self.down = False
        self.changes = True
        self.told: list[tuple[str, bool]] = []

    async def switch(self, user: str, *, on: bool) -> bool:
        if self.down:
            raise Unavailable("no LDAP")
        self.told.append((user, on))
        return self.changes


@pytest.mark.parametrize(
    ("login", "locked"),
    [
        ("alice", True),
        ("ALICE@inria.example", True),
        ("alice+desk@inria.example", True),
        ("a.martin@inria.example", True),
        ("alice@elsewhere.example", False),
        ("a.martin", False),
        ("alic", False),
        ("bob", False),
        ("", False),
    ],
)
async def test_which_logins_are_locked(login: str, locked: bool) -> None:
    locks = Locks(MemoryLocks(), ("inria.example",))
    await locks.add(ALICE)
    assert (locks.of(login) == ALICE) is locked


async def test_locks_are_there_again_after_a_restart() -> None:
    store = MemoryLocks()
    before = Locks(store, ())
    await before.add(ALICE)
    await before.add(Lock("bob", "x", "admin", 5.0))
    assert await before.remove("bob") is not None
    assert await before.remove("bob") is None
    after = Locks(store, ())
    await after.load()
    assert after.all() == [ALICE]
    assert await after.remove("a.martin@inria.example") == ALICE
    assert (len(after), store.locks) == (0, {})


async def test_a_store_that_is_down_locks_all_the_same_but_unlocks_nobody() -> None:
    store = MemoryLocks()
    locks = Locks(store, ())
    store.down = True
    with pytest.raises(Unavailable):
        await locks.add(ALICE)
    assert locks.of("alice") == ALICE
    with pytest.raises(Unavailable):
        await locks.remove("alice")
    assert locks.of("alice") == ALICE


async def test_the_directory_is_told_where_that_is_wanted() -> None:
    directory = Directory()
    locks = Locks(MemoryLocks(), (), directory)
    await locks.add(ALICE)
    await locks.remove("alice")
    assert directory.told == [("Alice", False), ("Alice", True)]
    directory.changes = False
    await locks.add(ALICE)
    await locks.remove("alice")
    assert directory.told[2:] == [("Alice", False)]  # was disabled before, and stays so
    directory.down = True
    await locks.add(ALICE)
    assert locks.of("alice") == ALICE


async def test_a_second_lock_takes_the_place_of_the_first() -> None:
    locks = Locks(MemoryLocks(), ())
    await locks.add(ALICE)
    await locks.add(Lock("alice", "again", "fraud", 20.0))
    assert [lock.why for lock in locks.all()] == ["again"]
    assert locks.of("a.martin@inria.example") is None
