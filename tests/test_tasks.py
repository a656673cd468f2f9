"""Background work: the eager first step, the hand-over to a Task, failures, cancellation."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from nomad import tasks

Scenario = Callable[[], Awaitable[None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """Runs a scenario on either kind of loop; a complaint to the loop's exception handler fails the test."""

    def runner(scenario: Scenario) -> None:
        complaints: list[dict[str, object]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
            await asyncio.wait_for(scenario(), 5)
            assert await tasks.drain(1.0) == 0

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as loop_runner:
            loop_runner.run(main())
        assert complaints == []
        assert tasks.count() == 0

    return runner


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_work_that_never_waits_needs_no_task(run: Callable[[Scenario], None]) -> None:
    seen: list[int] = []

    async def work() -> None:
        seen.append(1)

    async def scenario() -> None:
        assert tasks.spawn(work(), name="w") is None
        assert seen == [1]

    run(scenario)


def test_the_rest_runs_in_a_task(run: Callable[[Scenario], None]) -> None:
    seen: list[object] = []

    async def scenario() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            seen.append("first")
            seen.append(await future)
            await asyncio.sleep(0)
            seen.append("last")

        task = tasks.spawn(work(), name="w")
        assert task is not None
        assert seen == ["first"]
        await settle()
        future.set_result(7)
        await task
        assert seen == ["first", 7, "last"]
        assert task.get_name() == "w"

    run(scenario)


def test_the_future_is_done_before_the_task_runs(run: Callable[[Scenario], None]) -> None:
    seen: list[object] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        failed: asyncio.Future[int] = loop.create_future()
        cancelled: asyncio.Future[int] = loop.create_future()

        async def work(future: asyncio.Future[int]) -> None:
            try:
                seen.append(await future)
            except (ValueError, asyncio.CancelledError) as error:
                seen.append(type(error))

        started = [tasks.spawn(work(future), name="w") for future in (done, failed, cancelled)]
        done.set_result(1)
        failed.set_exception(ValueError())
        cancelled.cancel()
        await asyncio.gather(*(task for task in started if task))
        assert seen == [1, ValueError, asyncio.CancelledError]

    run(scenario)


def test_two_tasks_await_one_future(run: Callable[[Scenario], None]) -> None:
    seen: list[str] = []

    async def scenario() -> None:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def work(name: str) -> None:
            seen.append(name + await future)

        plain = asyncio.create_task(work("a"))
        await asyncio.sleep(0)
        first = tasks.spawn(work("b"), name="b")
        second = tasks.spawn(work("c"), name="c")
        assert first is not None
        assert second is not None
        await settle()
        future.set_result("!")
        await asyncio.gather(plain, first, second)
        assert sorted(seen) == ["a!", "b!", "c!"]

    run(scenario)


def test_a_bare_yield_first(run: Callable[[Scenario], None]) -> None:
    seen: list[int] = []

    async def work() -> None:
        await asyncio.sleep(0)
        seen.append(1)

    async def scenario() -> None:
        task = tasks.spawn(work(), name="w")
        assert task is not None
        await task
        assert seen == [1]

    run(scenario)


@pytest.mark.parametrize("settled", [False, True])
def test_cancel_reaches_the_coroutine(run: Callable[[Scenario], None], settled: bool) -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # cleaning up may wait
            seen.append("cleaned")
            raise

    async def scenario() -> None:
        task = tasks.spawn(work(), name="w")
        assert task is not None
        if settled:
            await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == ["cleaned"]

    run(scenario)


@pytest.mark.usefixtures("errors_expected")
@pytest.mark.parametrize("wait", [False, True])
def test_a_failure_is_logged_once(
    run: Callable[[Scenario], None], caplog: pytest.LogCaptureFixture, wait: bool
) -> None:
    async def work() -> None:
        if wait:
            await asyncio.sleep(0)
        raise ValueError("bug")

    async def scenario() -> None:
        tasks.spawn(work(), name="broken")
        await settle()

    with caplog.at_level(logging.ERROR):
        run(scenario)
    assert [record.getMessage() for record in caplog.records] == ["task broken failed"]


def test_a_cancellation_in_the_first_step_is_silent(
    run: Callable[[Scenario], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    async def scenario() -> None:
        assert tasks.spawn(work(), name="w") is None

    run(scenario)
    assert caplog.records == []


def test_timeouts_work_from_the_first_step(run: Callable[[Scenario], None]) -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            seen.append("late")
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    async def scenario() -> None:
        task = tasks.spawn(work(), name="w")
        assert task is not None
        await task
        assert seen == ["late"]

    run(scenario)


def test_a_task_group_in_the_first_step(run: Callable[[Scenario], None]) -> None:
    seen: list[str] = []

    async def child(fail: bool) -> None:
        await asyncio.sleep(0)
        if fail:
            raise ValueError
        await asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child(True))
                group.create_task(child(False))
        except* ValueError:
            seen.append("group")

    async def scenario() -> None:
        task = tasks.spawn(work(), name="w")
        assert task is not None
        await task
        assert seen == ["group"]

    run(scenario)


def test_the_current_task_of_the_first_step_stands_for_the_later_one(run: Callable[[Scenario], None]) -> None:
    kept: list[asyncio.Task[None]] = []

    async def work() -> None:
        current = asyncio.current_task()
        assert current is not None
        assert current.get_name() == "w"
        assert current.get_loop() is asyncio.get_running_loop()
        assert not current.done()
        kept.append(current)
        await asyncio.get_running_loop().create_future()

    async def itself() -> None:
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        assert current.cancelling() == 1
        await asyncio.get_running_loop().create_future()

    async def undecided() -> None:
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        assert current.uncancel() == 0
        await asyncio.sleep(0)

    async def scenario() -> None:
        task = tasks.spawn(work(), name="w")
        assert task is not None
        kept[0].cancel()
        assert kept[0].cancelling() == 1
        assert kept[0].uncancel() == 0
        with pytest.raises(asyncio.CancelledError):
            await task
        assert kept[0].done()
        suicide = tasks.spawn(itself(), name="w")
        assert suicide is not None
        with pytest.raises(asyncio.CancelledError):
            await suicide
        pardoned = tasks.spawn(undecided(), name="w")
        assert pardoned is not None
        await pardoned

    run(scenario)


def test_the_caller_keeps_its_task_and_context(run: Callable[[Scenario], None]) -> None:
    variable = contextvars.ContextVar("variable", default="outer")
    seen: list[str] = []

    async def work() -> None:
        variable.set("inner")
        await asyncio.sleep(0)
        seen.append(variable.get())

    async def nested() -> None:
        tasks.spawn(work(), name="w")

    async def scenario() -> None:
        mine = asyncio.current_task()
        tasks.spawn(nested(), name="n")
        assert asyncio.current_task() is mine
        assert variable.get() == "outer"
        await settle()
        assert seen == ["inner"]

    run(scenario)


def test_drain_waits_and_then_cancels(run: Callable[[Scenario], None]) -> None:
    seen: list[str] = []

    async def short() -> None:
        await asyncio.sleep(0)
        tasks.spawn(shorter(), name="grandchild")

    async def shorter() -> None:
        await asyncio.sleep(0)
        seen.append("short")

    async def endless() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append("endless")

    async def scenario() -> None:
        tasks.spawn(short(), name="s")
        assert await tasks.drain(1.0) == 0
        assert seen == ["short"]
        tasks.spawn(endless(), name="e")
        assert await tasks.drain(0.01) == 1
        assert seen == ["short", "endless"]

    run(scenario)


def test_only_a_task_drives_the_rest() -> None:
    async def work() -> None:
        pass

    coro = work()
    rest = tasks._Rest(coro, None, marked=False)
    with pytest.raises(TypeError):
        rest.__await__()
    rest.close()
