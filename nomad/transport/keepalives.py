"""UDP flows whose phones promised keepalives (RFC 5626 4.4, 6): which of them have fallen silent.

A keepalive costs one look and one store; all flows are looked through every few seconds. Connections watch themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nomad.clock import Clock
from nomad.sip.events import Flow

SWEEP_S = 5.0


class Keepalives:
    """Calls `lapsed` once for each flow by which no keepalive came in time."""

    def __init__(self, lapsed: Callable[[Flow], None], clock: Clock) -> None:
        self._lapsed = lapsed
        self._clock = clock
        self._due: dict[Flow, tuple[float, float]] = {}  # flow -> latest time of the next keepalive, interval
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    def expect(self, flow: Flow, within_s: float) -> None:
        """From now on something must come by this flow at least so often."""
        self._due[flow] = (self._clock.monotonic() + within_s, within_s)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def heard(self, flow: Flow, now: float) -> None:
        """A keepalive came."""
        known = self._due.get(flow)
        if known is not None:
            self._due[flow] = (now + known[1], known[1])

    def stop(self) -> None:
        """Expect nothing any more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        silent = [flow for flow, (due, _) in self._due.items() if due < now]
        for flow in silent:
            del self._due[flow]
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep) if self._due else None
        for flow in silent:
            self._lapsed(flow)
