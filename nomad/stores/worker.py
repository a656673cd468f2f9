"""One thread that owns one database connection and commits the work of many callers at once (group commit).

What arrives while a commit is on its way to the disk shares the next one. Callers await plain futures: no timeout, no
current task is needed, so that a coroutine's first step may run outside a task. Knows no SQL.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from nomad.ports import Unavailable

logger = logging.getLogger(__name__)

MAX_WAITING = 100_000  # jobs; more are refused, so that a dead disk does not eat the memory
MAX_BATCH = 1000  # jobs in one transaction
REOPEN_AFTER_S = 1.0  # after a failed opening, jobs fail at once for this long instead of each waiting for a timeout


class Session(Protocol):
    """One open connection; only the worker's thread touches it."""

    def begin(self) -> None:
        """Open a transaction."""

    def commit(self) -> None:
        """Return when everything since `begin` is durable."""

    def rollback(self) -> None:
        """Forget everything since `begin`."""

    def write(self, statement: Any, rows: Sequence[Any]) -> None:
        """Run one statement for every row."""

    def close(self) -> None:
        """Close the connection."""


S = TypeVar("S", bound=Session)
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class _Job:
    """Either `work`, or rows for a `statement`; neither: the order to stop."""

    future: asyncio.Future[Any]
    work: Callable[[Any], Any] | None = None
    statement: Any = None
    rows: Sequence[Any] = ()
    urgent: bool = False
    then: Callable[[Any, Exception | None], None] | None = None
    outcome: Any = None
    error: Exception | None = None


class Worker(Generic[S]):
    """Runs jobs in order in its thread. A job that fails does not harm the others of its transaction.

    Jobs must be safe to run twice: after a broken connection what was not known to be committed runs again. `errors`
    are what the session raises when the database fails; callers get them as `Unavailable` that starts with `name`.
    """

    def __init__(
        self,
        name: str,
        open_session: Callable[[], S],
        *,
        errors: tuple[type[Exception], ...],
        gather_s: float = 0.0,
    ) -> None:
        """`gather_s`: how long a first job waits for others to share its transaction, in seconds."""
        self._name = name
        self._open_session = open_session
        self._errors = errors
        self._gather_s = gather_s
        self._jobs: queue.SimpleQueue[list[_Job]] = queue.SimpleQueue()
        self._given: list[_Job] = []  # in this step of the event loop: the thread gets them together
        self._put_count = 0
        self._thread: threading.Thread | None = None
        self._session: S | None = None  # the thread's own, as is everything below
        self._taken_count = 0
        self._refuse_until = 0.0
        self._refusal = ""

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return self._put_count - self._taken_count

    async def open(self) -> None:
        """Start the thread and open the database. Raises `Unavailable`; then nothing runs."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()
        try:
            await self.submit(_nothing)
        except Unavailable:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish what waits, then close the database and end the thread."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        stopped = asyncio.get_running_loop().create_future()
        self._give(_Job(stopped))
        await stopped
        thread.join()

    def submit(
        self, work: Callable[[S], R], *, then: Callable[[Any, Exception | None], None] | None = None
    ) -> asyncio.Future[R]:
        """Run `work(session)` in the thread; the future is done when the transaction that it was part of is.

        `then` is called with the outcome or the error in the order of the jobs, also when nobody waits any more.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._put(_Job(future, work=work, then=then))
        return future

    def write(
        self,
        statement: Any,
        rows: Sequence[Any],
        *,
        urgent: bool = False,
        then: Callable[[Any, Exception | None], None] | None = None,
    ) -> asyncio.Future[None]:
        """Run a statement for rows; neighbours in the queue with the same statement become one call.

        An urgent one waits for no company. `then` is as for `submit`.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if rows:
            self._put(_Job(future, statement=statement, rows=rows, urgent=urgent, then=then))
        else:
            future.set_result(None)
        return future

    def _put(self, job: _Job) -> None:
        if self._thread is None:
            job.error = Unavailable(f"{self._name}: not open")
        elif self.waiting >= MAX_WAITING:
            job.error = Unavailable(f"{self._name}: {MAX_WAITING} writes wait already")
        else:
            self._give(job)
            return
        _resolve([job])

    def _give(self, job: _Job) -> None:
        if not self._given:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._given.append(job)
        self._put_count += 1

    def _hand_over(self) -> None:
        """Wake the thread once for what one step of the event loop brought."""
        given, self._given = self._given, []
        self._jobs.put(given)

    # -- from here on: in the thread --

    def _run(self) -> None:
        stopped: _Job | None = None
        while stopped is None:
            batch = self._take()
            if _stops(batch[-1]):
                stopped = batch.pop()
            if batch:
                self._do(batch)
                _report(batch)
        self._drop_session()
        _report([stopped])

    def _take(self) -> list[_Job]:
        """Everything that waits, up to the limit; the order to stop is always the last."""
        batch: list[_Job] = []
        closes_at = time.monotonic() + self._gather_s
        waits = True
        while len(batch) < MAX_BATCH and not (batch and _stops(batch[-1])):
            left = closes_at - time.monotonic() if waits else 0.0
            try:
                if not batch:
                    more = self._jobs.get()
                    closes_at = time.monotonic() + self._gather_s
                else:
                    more = self._jobs.get(timeout=left) if left > 0 else self._jobs.get_nowait()
            except queue.Empty:
                break
            waits = waits and not any(job.urgent or job.work is not None for job in more)  # somebody waits
            batch += more
        self._taken_count += len(batch)
        return batch

    def _do(self, batch: list[_Job]) -> None:
        """Run the batch in one transaction; if that fails, on a fresh connection, each job in its own."""
        failure = self._attempt(batch)
        if failure is None or isinstance(failure, Unavailable):
            return
        if isinstance(failure, self._errors):
            self._drop_session()  # it may be the connection that broke
        elif len(batch) == 1:
            return
        for job in batch:
            self._attempt([job])

    def _attempt(self, jobs: list[_Job]) -> Exception | None:
        """One transaction over these jobs. On an error nothing of it is stored and every job carries the error."""
        error: Exception | None = None
        shown: Exception | None = None
        try:
            session = self._ready_session()
            session.begin()
            _perform(session, jobs)
            session.commit()
        except self._errors as failure:
            error, shown = failure, Unavailable(f"{self._name}: {_first_line(failure)}")
            shown.__cause__ = failure
        except Exception as failure:  # noqa: BLE001 - a bug in a job is its caller's to hear of, not the thread's end
            error = shown = failure
        if error is not None:
            self._rollback()
        for job in jobs:
            job.error = shown
        return error

    def _ready_session(self) -> S:
        """The open connection. Raises `Unavailable` when there is none and none can be made."""
        if self._session is None:
            if time.monotonic() < self._refuse_until:
                raise Unavailable(self._refusal)
            try:
                self._session = self._open_session()
            except self._errors as error:
                self._refuse_until = time.monotonic() + REOPEN_AFTER_S
                self._refusal = f"{self._name}: {_first_line(error)}"
                raise Unavailable(self._refusal) from None
        return self._session

    def _rollback(self) -> None:
        if self._session is None:
            return
        try:
            self._session.rollback()
        except self._errors:
            self._drop_session()

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        try:
            session.close()
        except self._errors as error:
            logger.warning("%s: closing failed: %s", self._name, _first_line(error))


def _stops(job: _Job) -> bool:
    return job.work is None and job.statement is None


def _nothing(session: Session) -> None:
    """The job that only opens the database."""


def _perform(session: Session, jobs: list[_Job]) -> None:
    """Run the jobs in order; neighbours that write with the same statement become one call."""
    index = 0
    while index < len(jobs):
        job = jobs[index]
        index += 1
        if job.work is not None:
            job.outcome = job.work(session)
            continue
        rows = list(job.rows)
        while index < len(jobs) and jobs[index].work is None and jobs[index].statement is job.statement:
            rows.extend(jobs[index].rows)
            index += 1
        session.write(job.statement, rows)


def _first_line(error: Exception) -> str:
    """A database error without its SQL and parameters, which may hold personal data."""
    origin = getattr(error, "orig", None) or error
    return (str(origin) or type(origin).__name__).splitlines()[0]


def _report(jobs: list[_Job]) -> None:
    """Wake the event loop once for all of them."""
    try:
        jobs[0].future.get_loop().call_soon_threadsafe(_resolve, jobs)
    except RuntimeError:  # the loop is closed: nobody waits any more
        pass


def _resolve(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.then is not None:
            job.then(job.outcome, job.error)
        if job.future.done():  # cancelled
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.outcome)
