"""Starts work that nobody awaits, and waits for it at shutdown.

`spawn` runs the first step at once: work that never really waits costs no `asyncio.Task`. Does not limit how many run.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import tasks as _tasks
from collections.abc import Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any

logger = logging.getLogger(__name__)

_running: set[asyncio.Task[None]] = set()


def spawn(coro: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None] | None:
    """Run a coroutine in the background; None when it finished in its first step, which runs before this returns.

    An exception that leaves the coroutine is logged once and goes no further; a cancellation is silent.
    """
    loop = asyncio.get_running_loop()
    context = copy_context()
    starter = _Starter(name, loop)
    outer = asyncio.current_task(loop)
    if outer is not None:
        _tasks._leave_task(loop, outer)
    _tasks._enter_task(loop, starter)  # type: ignore[arg-type]  # stands in for a Task, see _Starter
    try:
        yielded = context.run(coro.send, None)
    except (StopIteration, asyncio.CancelledError):
        return None
    except Exception as error:  # noqa: BLE001 - whatever it is, it is logged and must not reach the caller
        _log_failure(name, error)
        return None
    finally:
        _tasks._leave_task(loop, starter)  # type: ignore[arg-type]  # as above
        if outer is not None:
            _tasks._enter_task(loop, outer)
    return _hand_over(coro, yielded, starter=starter, context=context)


async def drain(timeout_s: float) -> int:
    """Wait for everything that was spawned on this loop, and cancel what is left then; returns how many were left."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while waiting := _of_loop(loop):
        _, late = await asyncio.wait(waiting, timeout=max(0.0, deadline - loop.time()))
        if late:
            for task in late:
                task.cancel()
            await asyncio.wait(late, timeout=1.0)
            return len(late)
    return 0


def count() -> int:
    """How many spawned tasks are unfinished."""
    return len(_running)


def _of_loop(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[None]]:
    current = asyncio.current_task(loop)
    return [task for task in _running if task.get_loop() is loop and task is not current]


def _hand_over(
    coro: Coroutine[Any, Any, None], yielded: Any, *, starter: _Starter, context: Context
) -> asyncio.Task[None]:
    """Make a Task of what is left of a coroutine after its first step."""
    if getattr(yielded, "_asyncio_future_blocking", None):
        # Another task may await the same future before ours runs; the mark is set again in _Rest.send.
        yielded._asyncio_future_blocking = False
        rest = _Rest(coro, yielded, marked=True)
    else:
        rest = _Rest(coro, yielded, marked=False)
    task = asyncio.Task(rest, loop=starter.loop, name=starter.name, context=context)
    _running.add(task)
    task.add_done_callback(_finished)
    starter.become(task)
    return task


def _finished(task: asyncio.Task[None]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log_failure(task.get_name(), error)


def _log_failure(name: str, error: BaseException) -> None:
    logger.error("task %s failed", name, exc_info=error)


class _Rest(Coroutine[Any, Any, None]):
    """A coroutine that has already yielded once: yields the same again to its Task, then goes on.

    Not a generator, because a Task that is cancelled before its first step throws into it, and that must reach `coro`.
    """

    __slots__ = ("__name__", "__qualname__", "_coro", "_first", "_marked", "_started")

    def __init__(self, coro: Coroutine[Any, Any, None], first: Any, *, marked: bool) -> None:
        self._coro = coro
        self._first = first
        self._marked = marked
        self._started = False
        self.__name__: str = getattr(coro, "__name__", "rest")
        self.__qualname__: str = getattr(coro, "__qualname__", "rest")

    def send(self, value: Any) -> Any:
        if self._started:
            return self._coro.send(value)
        self._started = True
        first, self._first = self._first, None
        if self._marked:
            first._asyncio_future_blocking = True
        return first

    def throw(self, *error: Any) -> Any:
        self._started = True
        self._first = None
        return self._coro.throw(*error)

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise TypeError("only a Task drives this")


class _Starter:
    """What `asyncio.current_task()` gives during the first step: enough of a Task for timeouts and task groups.

    Whoever kept it (asyncio.timeout does) reaches the Task that took over.
    """

    __slots__ = ("__weakref__", "_cancelled", "_message", "_task", "loop", "name")

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.loop = loop
        self._task: asyncio.Task[None] | None = None
        self._cancelled = 0
        self._message: Any = None

    def become(self, task: asyncio.Task[None]) -> None:
        self._task = task
        for _ in range(self._cancelled):
            task.cancel(self._message)

    def get_name(self) -> str:
        return self.name

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self.loop

    def done(self) -> bool:
        return self._task is not None and self._task.done()

    def cancel(self, msg: Any = None) -> bool:
        if self._task is not None:
            return self._task.cancel(msg)
        self._cancelled += 1
        self._message = msg
        return True

    def cancelling(self) -> int:
        return self._cancelled if self._task is None else self._task.cancelling()

    def uncancel(self) -> int:
        if self._task is not None:
            return self._task.uncancel()
        self._cancelled = max(0, self._cancelled - 1)
        return self._cancelled
