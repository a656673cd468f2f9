"""When each of many things is to be looked at again. Pure; the time comes in."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

SPARE_ENTRIES = 1000


class Agenda:
    """The earliest time of a thing counts: whoever finds at that time that it is later now notes it again."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._entries: list[tuple[float, str]] = []  # a heap, also with entries that count no more

    def __len__(self) -> int:
        return len(self._due)

    def note(self, name: str, at: float) -> None:
        """Have it come up then, unless it comes up earlier."""
        if at < self._due.get(name, float("inf")):
            self._due[name] = at
            heapq.heappush(self._entries, (at, name))
            if len(self._entries) > 2 * len(self._due) + SPARE_ENTRIES:  # what comes and goes leaves entries behind
                self._renew()

    def drop(self, name: str) -> None:
        """It need not come up."""
        self._due.pop(name, None)

    def take(self, now: float) -> Iterator[str]:
        """What is due, earliest first; it comes up no more, unless it is noted again."""
        while self._entries and self._entries[0][0] <= now:
            at, name = heapq.heappop(self._entries)
            if self._due.get(name) == at:
                del self._due[name]
                yield name

    def move(self, seconds: float) -> None:
        """The clock was set."""
        self._due = {name: at + seconds for name, at in self._due.items()}
        self._renew()

    def _renew(self) -> None:
        self._entries = sorted((at, name) for name, at in self._due.items())
