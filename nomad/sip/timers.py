"""The durations of RFC 3261 (table 4) and a queue of running timers.

Pure: nobody waits here, the caller says what time it is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timers:
    """The timer values that everything else derives from, in seconds (RFC 3261 17.1.1.1, table 4)."""

    t1: float = 0.5  # estimate of the round trip time
    t2: float = 4.0  # longest pause between two sends of a non-INVITE request or an INVITE response
    t4: float = 5.0  # how long a message may live in the network
    timer_c: float = 180.0  # the proxy's patience with a ringing branch (RFC 3261 16.6 step 11); not the stack's
    timer_d: float = 32.0  # how long finals of an INVITE are absorbed over UDP; at least 32 s (RFC 3261 17.1.1.2)

    @property
    def transaction(self) -> float:
        """64*T1: the longest that a transaction waits for its peer (timers B, F, H, J, L, M)."""
        return 64 * self.t1


class TimerQueue(Generic[T]):
    """Running timers, one first-in-first-out queue per duration: starting and firing one costs the same at any load.

    Nothing is ever taken out of the middle. The owner tells at firing time whether a timer still counts, by comparing
    the due time with the one that it noted when it started the timer.
    """

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        self._queues: dict[float, deque[tuple[float, T]]] = {}

    def start(self, duration: float, item: T, now: float) -> float:
        """Start a timer; returns when it is due. `now` must not go back from call to call."""
        due = now + duration
        queue = self._queues.get(duration)
        if queue is None:
            queue = self._queues[duration] = deque()
        queue.append((due, item))
        return due

    def next_due(self) -> float | None:
        """When the next timer is due, also one that does not count any more; None when none runs."""
        earliest: float | None = None
        for queue in self._queues.values():
            if queue:
                due = queue[0][0]
                if earliest is None or due < earliest:
                    earliest = due
        return earliest

    def take_due(self, now: float) -> list[tuple[float, T]]:
        """Remove and return the timers that are due, each with its due time, earliest first."""
        fired: list[tuple[float, T]] = []
        for queue in self._queues.values():
            while queue and queue[0][0] <= now:
                fired.append(queue.popleft())
        if len(fired) > 1:
            fired.sort(key=_due_time)
        return fired


def _due_time(timer: tuple[float, T]) -> float:
    return timer[0]
