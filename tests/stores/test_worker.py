from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from nomad.ports import Unavailable
from nomad.stores import worker as worker_module
from nomad.stores.worker import Worker


class BrokenError(Exception):
    """What the store below raises."""


class Store:
    """A store that a test can hold and break."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.opened = 0
        self.closed = 0
        self.committed: list[Any] = []
        self.commits: list[int] = []
        self.calls: list[list[Any]] = []
        self.refuse_open = False
        self.break_commits = 0


class StoreSession:
    def __init__(self, store: Store) -> None:
        if store.refuse_open:
            raise BrokenError("nobody there\nsecret second line")
        store.opened += 1
        self.store = store
        self.pending: list[Any] = []

    def begin(self) -> None:
        self.pending = []

    def commit(self) -> None:
        self.store.gate.wait(5)
        if self.store.break_commits:
            self.store.break_commits -= 1
            raise BrokenError("connection lost")
        self.store.committed += self.pending
        self.store.commits.append(len(self.pending))

    def rollback(self) -> None:
        self.pending = []

    def write(self, statement: Any, rows: Sequence[Any]) -> None:
        if "bad" in rows:
            raise BrokenError("bad row")
        self.store.calls.append(list(rows))
        self.pending += rows

    def close(self) -> None:
        self.store.closed += 1


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def worker(store: Store) -> AsyncIterator[Worker[StoreSession]]:
    worker = Worker("store x", lambda: StoreSession(store), errors=(BrokenError,))
    await worker.open()
    store.commits.clear()
    yield worker
    await worker.close()
    assert store.opened == store.closed


async def taken(worker: Worker[StoreSession]) -> None:
    """Until the thread has taken what waits."""
    while worker.waiting:  # noqa: ASYNC110 - the thread cannot set an asyncio.Event
        await asyncio.sleep(0)


async def test_what_waits_during_a_commit_shares_the_next(worker: Worker[StoreSession], store: Store) -> None:
    store.gate.clear()
    first = worker.write("insert", [0])
    await taken(worker)
    rest = [worker.write("insert", [number]) for number in range(1, 101)]
    store.gate.set()
    await asyncio.gather(first, *rest)
    assert store.commits == [1, 100]
    assert store.calls[-1] == list(range(1, 101))
    assert store.committed == list(range(101))


async def test_jobs_of_one_step_share_a_transaction(worker: Worker[StoreSession], store: Store) -> None:
    """However fast the thread is: it gets them together."""
    for first in range(0, 100, 2):
        await asyncio.gather(worker.write("insert", [first]), worker.write("insert", [first + 1]))
    assert store.commits == [2] * 50


async def test_what_follows_is_done_in_order_for_whoever_still_waits(
    worker: Worker[StoreSession], store: Store
) -> None:
    told: list[tuple[int, Any, str]] = []

    def note(number: int) -> Callable[[Any, Exception | None], None]:
        return lambda outcome, error: told.append((number, outcome, str(error or "")))

    worker.write("insert", [1], then=note(1)).cancel()
    failing = worker.write("other", ["bad"], then=note(2))
    assert await worker.submit(lambda session: 42, then=note(3)) == 42
    assert isinstance(failing.exception(), Unavailable)
    assert told == [(1, None, ""), (2, None, "store x: bad row"), (3, 42, "")]
    await worker.close()
    worker.write("insert", [2], then=note(4)).exception()
    assert told[3:] == [(4, None, "store x: not open")]


async def test_different_statements_keep_their_order(worker: Worker[StoreSession], store: Store) -> None:
    store.gate.clear()
    jobs = [worker.write("insert", [0])]
    await taken(worker)
    jobs += [worker.write("insert", [1]), worker.write("insert", [2]), worker.write("delete", [1])]
    jobs += [worker.submit(lambda session: session.write("x", ["work"])), worker.write("delete", [2])]
    store.gate.set()
    await asyncio.gather(*jobs)
    assert store.calls == [[0], [1, 2], [1], ["work"], [2]]


async def test_a_bad_job_fails_alone(worker: Worker[StoreSession], store: Store) -> None:
    def fail(session: StoreSession) -> None:
        raise ZeroDivisionError

    store.gate.clear()
    jobs: list[asyncio.Future[Any]] = [worker.write("insert", [0])]
    jobs += [worker.write("insert", [1]), worker.write("insert", ["bad"]), worker.submit(fail)]
    jobs += [worker.write("insert", [2])]
    store.gate.set()
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(each) for each in outcomes] == [type(None), type(None), Unavailable, ZeroDivisionError, type(None)]
    assert str(outcomes[2]) == "store x: bad row"
    assert store.committed == [0, 1, 2]


async def test_a_broken_connection_is_replaced_and_the_work_done(worker: Worker[StoreSession], store: Store) -> None:
    store.break_commits = 1
    await worker.write("insert", [1])
    assert store.committed == [1]
    assert (store.opened, store.closed) == (2, 1)


async def test_a_dead_store_fails_fast_and_comes_back(worker: Worker[StoreSession], store: Store) -> None:
    store.break_commits, store.refuse_open = 10, True
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"^store x: nobody there$"):
            await worker.write("insert", [1])
    store.break_commits, store.refuse_open = 0, False
    with pytest.raises(Unavailable):
        await worker.write("insert", [2])
    worker._refuse_until = 0.0
    await worker.write("insert", [3])
    assert store.committed == [3]


async def test_results_and_cancelled_callers(worker: Worker[StoreSession], store: Store) -> None:
    store.gate.clear()
    gone = worker.write("insert", [1])
    gone.cancel()
    answer = worker.submit(lambda session: 42)
    store.gate.set()
    assert await answer == 42
    assert store.committed == [1]


async def test_the_queue_is_bounded(
    worker: Worker[StoreSession], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "MAX_WAITING", 2)
    store.gate.clear()
    jobs = [worker.write("insert", [0])]
    await taken(worker)
    jobs += [worker.write("insert", [number]) for number in (1, 2)]
    with pytest.raises(Unavailable, match="2 writes wait already"):
        await worker.write("insert", [3])
    store.gate.set()
    await asyncio.gather(*jobs)


async def test_closing_finishes_what_waits(store: Store) -> None:
    worker = Worker("store x", lambda: StoreSession(store), errors=(BrokenError,))
    await worker.open()
    jobs = [worker.write("insert", [number]) for number in range(10)]
    await worker.close()
    assert store.committed == list(range(10))
    assert all(job.done() for job in jobs)
    with pytest.raises(Unavailable, match="not open"):
        await worker.write("insert", [11])


async def test_a_store_that_does_not_open(store: Store) -> None:
    store.refuse_open = True
    worker = Worker("store x", lambda: StoreSession(store), errors=(BrokenError,))
    with pytest.raises(Unavailable, match="nobody there"):
        await worker.open()
    with pytest.raises(Unavailable, match="not open"):
        await worker.write("insert", [1])


def test_awaiting_needs_no_task(store: Store) -> None:
    """The edge runs the first step of a coroutine outside a task."""

    async def main() -> None:
        worker = Worker("store x", lambda: StoreSession(store), errors=(BrokenError,))
        await worker.open()

        async def add() -> str:
            await worker.write("insert", [1])
            return "done"

        coroutine = add()
        stepped: list[asyncio.Future[Any]] = []
        asyncio.get_running_loop().call_soon(lambda: stepped.append(coroutine.send(None)))
        await asyncio.sleep(0)
        stepped[0]._asyncio_future_blocking = False
        await stepped[0]
        with pytest.raises(StopIteration):
            coroutine.send(None)
        await worker.close()

    asyncio.run(main())
