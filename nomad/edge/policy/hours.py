"""When a rule applies: days of the week, holidays, times of the day."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import NamedTuple

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOLIDAY = 7  # beside the days of the week, 0 is Monday
DAY_MINUTES = 24 * 60
HOURS = re.compile(r"([A-Za-z,-]+) ([0-2][0-9]):([0-5][0-9])-([0-2][0-9]):([0-5][0-9])")
HOLIDAY_TEXT = re.compile("([0-9]{4}-)?[0-9]{2}-[0-9]{2}")
LEAP_YEAR = "2024-"


@dataclass(frozen=True, slots=True)
class OpenHours:
    """Days and minutes of the day; an end before the start is on the next day."""

    days: frozenset[int]
    start_minute: int
    end_minute: int
    text: str

    def covers(self, today: int, yesterday: int, minute: int) -> bool:
        """Whether a moment lies within; days by number, `HOLIDAY` when they are one."""
        if self.start_minute <= self.end_minute:
            return today in self.days and self.start_minute <= minute < self.end_minute
        if minute >= self.start_minute:
            return today in self.days
        return minute < self.end_minute and yesterday in self.days

    @property
    def is_empty(self) -> bool:
        """Whether no moment ever lies within."""
        return self.start_minute == self.end_minute or self.start_minute >= DAY_MINUTES


def parse_hours(text: str) -> OpenHours:
    """Hours from a line such as "Mon-Fri,holidays 07:00-21:00". Raises `ValueError`."""
    found = HOURS.fullmatch(text)
    days = _days(found[1].lower()) if found else frozenset()
    if not found or not days:
        raise ValueError(f"'{text}' is not like 'Mon-Fri 07:00-21:00' or 'Sat,holidays 10:00-12:00'")
    start, end = int(found[2]) * 60 + int(found[3]), int(found[4]) * 60 + int(found[5])
    if start > DAY_MINUTES or end > DAY_MINUTES:
        raise ValueError(f"'{text}' has an hour above 24:00")
    return OpenHours(days, start, end, text)


def parse_holiday(text: str) -> str:
    """A day as `day_of` looks for it. Raises `ValueError`."""
    try:
        if not HOLIDAY_TEXT.fullmatch(text):  # the library reads other forms too, as "20261225"
            raise ValueError(text)
        date.fromisoformat(LEAP_YEAR + text if len(text) == len("12-25") else text)
    except ValueError:
        raise ValueError(f"'{text}' is no day; write '2026-12-25', or '12-25' for every year") from None
    return text


class Moment(NamedTuple):
    """A moment by the clock of the policy."""

    today: int  # 0 for Monday, or `HOLIDAY`
    yesterday: int
    minute: int  # of the day
    text: str  # for people


class Calendar:
    """The clock of a policy; remembers the last minute, because calls come in order."""

    __slots__ = ("_holidays", "_last", "_minute", "_timezone")

    def __init__(self, timezone: tzinfo | None, holidays: AbstractSet[str]) -> None:
        self._timezone = timezone
        self._holidays = holidays
        self._minute = -1
        self._last = Moment(0, 0, 0, "")

    def at(self, seconds: float) -> Moment:
        """The moment of a Unix time."""
        minute = int(seconds // 60)
        if minute != self._minute:
            local = datetime.fromtimestamp(seconds, self._timezone)
            today = day_of(local, self._holidays)
            yesterday = day_of(local - timedelta(days=1), self._holidays)
            text = f"{local:%a %H:%M} of a holiday" if today == HOLIDAY else f"{local:%a %H:%M}"
            self._last = Moment(today, yesterday, local.hour * 60 + local.minute, text)
            self._minute = minute
        return self._last


def day_of(moment: datetime, holidays: AbstractSet[str]) -> int:
    """The day of a moment: 0 for Monday, or `HOLIDAY`."""
    if holidays:
        text = moment.date().isoformat()
        if text in holidays or text[5:] in holidays:
            return HOLIDAY
    return moment.weekday()


def _days(text: str) -> frozenset[int]:
    """Days of a list such as "mon-fri,sun,holidays", none when it cannot be read."""
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if part == "holidays":
            days.add(HOLIDAY)
        elif first in DAYS and last in DAYS:
            start, end = DAYS.index(first), DAYS.index(last)
            days.update((start + step) % 7 for step in range((end - start) % 7 + 1))
        else:
            return frozenset()
    return frozenset(days)
