from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from nomad.cli.output import Failure
from nomad.cli.times import duration, local, local_short, parse_when

NOW = 1793534400.0  # 2026-11-01T12:00:00+01:00 in Paris


@pytest.fixture(autouse=True)
def _in_paris(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("now", "2026-11-01T13:00:00+01:00"),
        ("2h", "2026-11-01T11:00:00+01:00"),
        ("30m", "2026-11-01T12:30:00+01:00"),
        ("1w", "2026-10-25T13:00:00+01:00"),
        ("today", "2026-11-01T00:00:00+01:00"),
        (" Yesterday", "2026-10-31T00:00:00+01:00"),
        ("2026-10-25", "2026-10-25T00:00:00+02:00"),
        ("2026-10-26", "2026-10-26T00:00:00+01:00"),
        ("2026-11-01T18:30", "2026-11-01T18:30:00+01:00"),
        ("2026-11-01T18:30:00Z", "2026-11-01T19:30:00+01:00"),
    ],
)
def test_times_are_local(text: str, at: str) -> None:
    assert local(parse_when(text, now=NOW)) == at


def test_a_period_includes_the_day_that_ends_it() -> None:
    assert local(parse_when("2026-10-25", now=NOW, end=True)) == "2026-10-26T00:00:00+01:00"
    assert local(parse_when("today", now=NOW, end=True)) == "2026-11-02T00:00:00+01:00"


@pytest.mark.parametrize("text", ["", "soon", "2 h", "-2h", "2026-13-01", "99999999h", "2026-11-01T", "1e9"])
def test_anything_else_is_told(text: str) -> None:
    with pytest.raises(Failure, match="is no time; write 2026-11-01"):
        parse_when(text, now=NOW)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.4, "0:00:59"), (61, "0:01:01"), (90061, "25:01:01"), (-3, "0:00:00")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_tables_show_no_offset() -> None:
    assert local_short(NOW) == "2026-11-01 13:00:00"
    assert local(None) == local_short(None) == ""
