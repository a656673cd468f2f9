"""Times as people write and read them: local, ISO 8601, h:mm:ss."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from datetime import time as time_of_day

from nomad.cli.output import Failure

AGO = re.compile(r"([0-9]{1,6})([smhdw])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
DAYS_AGO = {"today": 0, "yesterday": 1}


def parse_when(text: str, *, now: float, end: bool = False) -> float:
    """Unix seconds of "2026-11-01", "2026-11-01T18:30", "2h" (ago), "today", "yesterday" or "now".

    A day means its first moment, or with `end` its last, so that a period includes the day that ends it.
    """
    word = text.strip(" ").lower()
    if word == "now":
        return now
    if found := AGO.fullmatch(word):
        return now - int(found.group(1)) * SECONDS[found.group(2)]
    try:
        if word in DAYS_AGO:
            return _midnight(datetime.fromtimestamp(now).date() - timedelta(days=DAYS_AGO[word]), end)
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", word):
            return _midnight(date.fromisoformat(word), end)
        return datetime.fromisoformat(text.strip(" ")).timestamp()  # without an offset: local time
    except (ValueError, OverflowError, OSError):
        raise Failure(f"'{text}' is no time; write 2026-11-01, 2026-11-01T18:30, 2h, 7d, today or yesterday") from None


def local(at: float | None) -> str:
    """Local time in ISO 8601, with its offset; "" for None."""
    return "" if at is None else datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds")


def local_short(at: float | None) -> str:
    """Local time to the second without offset, for tables."""
    return local(at)[:19].replace("T", " ")


def duration(seconds: float) -> str:
    """h:mm:ss."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _midnight(day: date, end: bool) -> float:
    if end:
        day += timedelta(days=1)
    return datetime.combine(day, time_of_day()).timestamp()
