"""How long each person has called today; kept in memory, filled from call records at start."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, tzinfo

from nomad.ports import Cdr


class Usage:
    """Seconds of calls from roaming phones by user, for the current day of the policy's time zone."""

    def __init__(self, timezone: tzinfo | None = None) -> None:
        self.timezone = timezone  # replaced by a reload
        self._day = 0
        self._seconds: dict[str, float] = {}

    def midnight(self, now: float) -> float:
        """Unix time at which the day of `now` began."""
        local = datetime.fromtimestamp(now, self.timezone)
        return local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()

    def load(self, records: Iterable[Cdr], now: float) -> None:
        """Count finished calls of today."""
        for record in records:
            if record.direction == "out":
                self.add(record.user, record.duration_s, now)

    def add(self, user: str, seconds: float, now: float) -> None:
        """Count a finished call."""
        self._turn(now)
        self._seconds[user] = self._seconds.get(user, 0.0) + seconds

    def today(self, user: str, now: float) -> float:
        """Seconds of today."""
        self._turn(now)
        return self._seconds.get(user, 0.0)

    def _turn(self, now: float) -> None:
        day = datetime.fromtimestamp(now, self.timezone).toordinal()
        if day != self._day:
            self._day = day
            self._seconds.clear()
