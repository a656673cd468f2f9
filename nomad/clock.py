"""The two clocks of the edge: one to measure with and one to date with.

The harness has a clock with the same two methods that tests turn by hand.
"""

from __future__ import annotations

import time


class Clock:
    """Tells the time. Timers and limits use `monotonic`, records and expiry dates use `wall`."""

    __slots__ = ()

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        return time.monotonic()

    def wall(self) -> float:
        """Unix seconds."""
        return time.time()
