"""An event loop in which waiting costs nothing: when every task waits, time jumps to the next timer.

`asyncio.sleep`, `asyncio.timeout` and `call_later` work as ever; a wait for 32 seconds is over at once, and two runs of
a test see the same order of events. For code without sockets and threads only.
"""

from __future__ import annotations

import asyncio
import selectors

from nomad.clock import Clock

EPOCH = 1_800_000_000.0  # Unix time at which a virtual loop begins: Friday 15 January 2027, 08:00 UTC


class _Idle(selectors.DefaultSelector):
    """Instead of waiting for sockets, lets the time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits, and no timer is running: nothing will ever happen again")
        if timeout > 0:
            self.now += timeout
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; its time begins at 0."""

    def __init__(self) -> None:
        self._idle = _Idle()
        super().__init__(self._idle)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._idle.now


class LoopClock(Clock):
    """A `Clock` that tells the time of the running loop; `ahead` is by how much the date was set since."""

    __slots__ = ("ahead",)

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        """Seconds of the loop."""
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        """The same as Unix time."""
        return EPOCH + self.monotonic() + self.ahead
