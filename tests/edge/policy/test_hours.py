"""nomad.edge.policy.hours: which moments lie within, holidays, midnight."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from nomad.edge.policy.hours import HOLIDAY, Calendar, day_of, parse_holiday, parse_hours

HOLIDAYS = frozenset({"2026-12-25", "01-01"})


@pytest.mark.parametrize(
    ("today", "minute", "open_"),
    [(5, 22 * 60, True), (6, 60, True), (6, 120, False), (5, 60, False), (6, 22 * 60, False), (0, 420, False)],
)
def test_hours_may_pass_midnight(today: int, minute: int, open_: bool) -> None:
    assert parse_hours("Sat 22:00-02:00").covers(today, (today - 1) % 7, minute) is open_


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("Mon-Fri 07:00-21:00", {0, 1, 2, 3, 4}),
        ("Sat-Mon 07:00-21:00", {5, 6, 0}),
        ("Mon,Wed-Thu 07:00-21:00", {0, 2, 3}),
        ("holidays 10:00-12:00", {HOLIDAY}),
        ("sun,HOLIDAYS 10:00-12:00", {6, HOLIDAY}),
    ],
)
def test_days(text: str, days: set[int]) -> None:
    assert parse_hours(text).days == days


@pytest.mark.parametrize(
    "text", ["", "Mon", "Mo-Fr 7-21", "Mon-Foo 07:00-21:00", "Mon- 07:00-24:30", "Mon 29:00-30:00", "Mon- 07:00-08:00"]
)
def test_what_is_no_hours(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not like|above 24:00"):
        parse_hours(text)


@pytest.mark.parametrize(
    ("text", "empty"), [("Mon 07:00-07:00", True), ("Mon 24:00-06:00", True), ("Mon 23:00-00:00", False)]
)
def test_hours_that_never_apply(text: str, empty: bool) -> None:
    assert parse_hours(text).is_empty is empty


def test_a_holiday_is_no_day_of_the_week() -> None:
    assert day_of(datetime(2026, 12, 24, 9), HOLIDAYS) == 3
    assert day_of(datetime(2026, 12, 25, 9), HOLIDAYS) == HOLIDAY
    assert day_of(datetime(2027, 12, 25, 9), HOLIDAYS) == 5


@pytest.mark.parametrize("text", ["2026-02-30", "13-01", "christmas", "", "2026-1-1", "20261225", "2026-W52-5"])
def test_what_is_no_holiday(text: str) -> None:
    with pytest.raises(ValueError, match="is no day"):
        parse_holiday(text)


def test_the_29th_of_february_is_a_day() -> None:
    assert parse_holiday("02-29") == "02-29"


def test_the_clock_of_a_policy() -> None:
    calendar = Calendar(ZoneInfo("Europe/Paris"), HOLIDAYS)
    noon = datetime(2026, 12, 26, 11, 0, tzinfo=UTC).timestamp()
    assert calendar.at(noon) == (5, HOLIDAY, 12 * 60, "Sat 12:00")
    assert calendar.at(noon + 59.9) is calendar.at(noon)
    assert calendar.at(noon + 60) == (5, HOLIDAY, 12 * 60 + 1, "Sat 12:01")
    assert calendar.at(noon - 86400) == (HOLIDAY, 3, 12 * 60, "Fri 12:00 of a holiday")


@pytest.mark.parametrize(
    ("utc", "local"),
    [
        (datetime(2026, 3, 29, 0, 59, tzinfo=UTC), "Sun 01:59"),  # then the clock leaps
        (datetime(2026, 3, 29, 1, 0, tzinfo=UTC), "Sun 03:00"),
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "Sun 02:30"),  # this half hour comes twice
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "Sun 02:30"),
    ],
)
def test_summer_time(utc: datetime, local: str) -> None:
    assert Calendar(ZoneInfo("Europe/Paris"), frozenset()).at(utc.timestamp()).text == local
