"""nomad.edge.policy.hours: which moments lie within, holidays, midnight."""

from datetime import datetime

import pytest

from nomad.edge.policy.hours import HOLIDAY, day_of, days_around, parse_holiday, parse_hours

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
    "text", ["", "Mon", "Mo-Fr 7-21", "Mon-Foo 07:00-21:00", "Mon- 07:00-24:30", "Mon 29:00-30:00", "Mon 07:00-25:00"]
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
    assert days_around(datetime(2031, 1, 2, 9), HOLIDAYS) == (3, HOLIDAY)


@pytest.mark.parametrize("text", ["2026-02-30", "13-01", "christmas", "", "2026-1-1"])
def test_what_is_no_holiday(text: str) -> None:
    with pytest.raises(ValueError, match="is no day"):
        parse_holiday(text)


def test_the_29th_of_february_is_a_day() -> None:
    assert parse_holiday("02-29") == "02-29"
