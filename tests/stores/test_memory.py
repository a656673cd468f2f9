from __future__ import annotations

import asyncio
import tracemalloc
from dataclasses import replace

import pytest

from nomad.ports import Registration
from nomad.stores.memory import EXPIRE_AT_ONCE, NONCE_COUNTS, STALE_ENTRIES, MemoryLocations, MemoryNonceWindow
from tests.stores.contract import LocationContract, NonceContract
from tests.stores.samples import binding, registration


class TestMemoryLocations(LocationContract):
    @pytest.fixture
    def store(self) -> MemoryLocations:
        return MemoryLocations()


class TestMemoryNonceWindow(NonceContract):
    @pytest.fixture
    def store(self) -> MemoryNonceWindow:
        return MemoryNonceWindow(wall=lambda: 1000.0)


async def test_mass_expiry_gives_way_to_other_work() -> None:
    store = MemoryLocations()
    for number in range(3 * EXPIRE_AT_ONCE):
        await store.save(registration(f"user{number}", number, expires_at=100.0))
    expiry = asyncio.ensure_future(store.expire(200.0))
    await asyncio.sleep(0)
    assert not expiry.done()
    assert (await store.get("user0")).bindings == ()
    await store.save(registration("alice", 9999, expires_at=150.0))
    assert len(await expiry) == 3 * EXPIRE_AT_ONCE + 1
    assert (len(store), store.bindings) == (0, 0)


async def test_changes_are_told() -> None:
    told: list[Registration] = []
    store = MemoryLocations(on_change=told.append)
    await store.save(registration(expires_at=100.0))
    await store.expire(101.0)
    assert [len(each.bindings) for each in told] == [1, 0]
    assert told[0].version < told[1].version


async def test_filled_from_a_snapshot() -> None:
    store = MemoryLocations()
    store.fill([registration("alice", 1, version=41), registration("bob", 2, version=7)])
    assert await store.find("1002") == "bob"
    await store.save(await store.get("bob"))
    assert (await store.get("bob")).version == 42
    assert [user for user, _ in await store.expire(2001.0)] == ["alice", "bob"]


async def test_contacts_are_counted() -> None:
    store = MemoryLocations()
    await store.save(replace(registration("alice"), bindings=(binding(1, expires_at=100.0), binding(2))))
    await store.save(registration("bob"))
    assert (len(store), store.bindings) == (2, 3)
    await store.expire(150.0)
    assert (len(store), store.bindings) == (2, 2)
    await store.save(replace(await store.get("bob"), bindings=()))
    assert (len(store), store.bindings) == (1, 1)


async def test_refreshes_do_not_grow_the_heap() -> None:
    store = MemoryLocations()
    await store.save(registration(expires_at=100_000.0))
    for number in range(3 * STALE_ENTRIES):
        await store.save(
            replace(await store.get("alice"), bindings=(binding(expires_at=99_000.0 - number % 2 * 500 - number / 10),))
        )
    assert len(store._expiries) <= STALE_ENTRIES + 3


async def test_fifty_thousand_registrations_in_less_than_3_kb_each() -> None:
    store, number = MemoryLocations(), 5000  # the cost is the same for each; ten times more only takes longer
    tracemalloc.start()
    for each in range(number):
        await store.save(registration(f"user{each}", each))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / number <= 3000


async def test_a_count_too_far_behind_is_refused() -> None:
    window = MemoryNonceWindow(wall=lambda: 1000.0)
    assert await window.accept("n", NONCE_COUNTS + 10, 2000.0)
    assert await window.accept("n", 11, 2000.0)
    assert not await window.accept("n", 10, 2000.0)


async def test_expired_nonces_are_forgotten() -> None:
    now = [1000.0]
    window = MemoryNonceWindow(wall=lambda: now[0])
    assert await window.accept("a", 1, 1010.0)
    now[0] = 1011.0
    assert await window.accept("b", 1, 1020.0)
    assert len(window) == 1


async def test_a_full_window_forgets_but_accepts_no_replay() -> None:
    window = MemoryNonceWindow(wall=lambda: 1000.0, limit=3)
    for number in range(5):
        assert await window.accept(f"n{number}", 1, 2000.0 + number)
    assert len(window) == 3
    assert not await window.accept("n0", 1, 2000.0)
    assert not await window.accept("n4", 1, 2004.0)
    assert await window.accept("n4", 2, 2004.0)
