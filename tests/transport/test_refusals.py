from __future__ import annotations

import logging

import pytest

from nomad.clock import Clock
from nomad.log import LINES_AT_ONCE, LINES_PER_S
from nomad.transport.counters import Counters
from nomad.transport.refusals import Refusals


class StoppedClock(Clock):
    """Moves when it is told to."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_everything_is_counted_and_a_flood_is_logged_in_part(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock, counters = StoppedClock(), Counters()
    refusals = Refusals(counters, clock)
    for _ in range(1000):
        refusals.note("too-many", "192.0.2.1", transport="tcp")
    refusals.note("idle-timeout", "192.0.2.2", transport="tcp", why="idle")
    assert counters.dropped == {"too-many": 1000, "idle-timeout": 1}
    assert len(caplog.records) == LINES_AT_ONCE + 1
    clock.now += 1.001 / LINES_PER_S
    for _ in range(2):
        refusals.note("too-many", "192.0.2.1", transport="tcp")
    assert len(caplog.records) == LINES_AT_ONCE + 2
    assert caplog.records[-1].fields["left_out"] == 1000 - LINES_AT_ONCE  # type: ignore[attr-defined]  # ours
