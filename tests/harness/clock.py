"""A clock that tests turn by hand; it has the two methods of `nomad.clock.Clock`."""

from __future__ import annotations

from typing import Protocol

START = 1000.0
WALL_START = 1_800_000_000.0


class Timed(Protocol):
    """What has timers: the SIP stack, a response context, the fake network."""

    def next_timer(self) -> float | None: ...

    def run_timers(self, now: float) -> object: ...


class FakeClock:
    """Stands still until it is told to go on."""

    def __init__(self, now: float = START, *, wall: float = WALL_START) -> None:
        self.now = now
        self._wall_offset = wall - now

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self._wall_offset

    def advance(self, seconds: float) -> float:
        """Let time pass in which nobody runs timers; the new monotonic time."""
        assert seconds >= 0.0
        self.now += seconds
        return self.now

    def run(self, seconds: float, *timed: Timed) -> None:
        """Let time pass; timers fire when they are due, in order."""
        self.run_until(self.now + seconds, *timed)

    def run_until(self, end: float, *timed: Timed) -> None:
        """As `run`, up to a monotonic time."""
        while self.step(*timed, end=end):
            pass
        self.now = max(self.now, end)

    def step(self, *timed: Timed, end: float = float("inf")) -> bool:
        """Go on to the next timer that is due by `end` and fire it; False when there is none."""
        due, part = min([(_due(part), index) for index, part in enumerate(timed)], default=(float("inf"), 0))
        if due > end or due == float("inf"):
            return False
        self.now = max(self.now, due)
        timed[part].run_timers(self.now)
        return True


def _due(part: Timed) -> float:
    due = part.next_timer()
    return float("inf") if due is None else due
