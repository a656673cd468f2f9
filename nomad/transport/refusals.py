"""What peers were refused below SIP, by reason: counted always, logged as long as there are not too many of a kind."""

from __future__ import annotations

import logging

from nomad import log
from nomad.clock import Clock
from nomad.transport.counters import Counters

logger = logging.getLogger(__name__)

LINES_PER_S = 5.0  # of one reason, on the average
BURST = 20.0


class Refusals:
    """One per endpoint. A flood fills the counter, not the disk: the next line says how many were left out."""

    def __init__(self, counters: Counters, clock: Clock) -> None:
        self._counters = counters
        self._clock = clock
        self._budgets: dict[str, list[float]] = {}  # reason -> lines left, time of the last look, lines left out

    def note(self, reason: str, peer: str, *, transport: str, why: str = "") -> None:
        """Something of a peer's was dropped; the reason is a fixed word of ours."""
        self._counters.drop(reason)
        now = self._clock.monotonic()
        budget = self._budgets.get(reason)
        if budget is None:
            budget = self._budgets[reason] = [BURST, now, 0.0]
        budget[0] = min(BURST, budget[0] + (now - budget[1]) * LINES_PER_S)
        budget[1] = now
        if budget[0] < 1.0:
            budget[2] += 1.0
            return
        budget[0] -= 1.0
        left_out, budget[2] = int(budget[2]), 0.0
        log.event(logger, "dropped", reason=reason, peer=peer, transport=transport, why=why, left_out=left_out)
