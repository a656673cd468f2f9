"""The clock of the edge."""

from __future__ import annotations

import time

from nomad.clock import Clock


def test_monotonic_never_goes_back() -> None:
    clock = Clock()
    readings = [clock.monotonic() for _ in range(100)]
    assert readings == sorted(readings)


def test_wall_is_unix_time() -> None:
    assert abs(Clock().wall() - time.time()) < 5
