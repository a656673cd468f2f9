"""What peers were refused below SIP, by reason: counted always, logged as long as there are not too many of a kind."""

from __future__ import annotations

import logging

from nomad import log
from nomad.clock import Clock
from nomad.transport.counters import Counters

logger = logging.getLogger(__name__)


class Refusals:
    """One per endpoint. A flood fills the counter, not the disk: the next line says how many were left out."""

    def __init__(self, counters: Counters, clock: Clock) -> None:
        self._counters = counters
        self._clock = clock
        self._budget = log.Budget()

    def note(self, reason: str, peer: str, *, transport: str, why: str = "") -> None:
        """Something of a peer's was dropped; the reason is a fixed word of ours."""
        self._counters.drop(reason)
        left_out = self._budget.take(reason, self._clock.monotonic())
        if left_out is not None:
            log.event(logger, "dropped", reason=reason, peer=peer, transport=transport, why=why, left_out=left_out)
