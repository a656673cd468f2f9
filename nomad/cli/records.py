"""`nomad cdr`: call records as a table, CSV or JSON."""

from __future__ import annotations

import csv
import re
import sys
import time
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import typer

from nomad.cli.connection import PAGE, AdminOption, ConfigOption, Edge, JsonOption, connect
from nomad.cli.output import print_json, print_table, printable, say
from nomad.cli.times import duration, local, local_short, parse_when

COLUMNS = (
    "id", "call_id", "direction", "user", "caller", "callee", "number_class", "started_at", "answered_at", "ended_at",
    "duration_s", "result", "status", "rule", "reason", "terminate_cause", "peer", "user_agent",
    "number", "group", "groups", "classes", "transport", "policy", "cost", "chain",
)  # fmt: skip
HEADINGS = ("STARTED", "TALK", "DIR", "USER", "FROM", "TO", "CLASS", "RESULT", "STATUS", "WHY")
LISTS = ("groups", "classes")
TIMES = ("started_at", "answered_at", "ended_at")
DEFAULT_LIMIT = 1000
FORMULA = re.compile(r"[=+\-@\t\r]")
PHONE_NUMBER = re.compile(r"\+?[0-9]+(@[A-Za-z0-9.-]+)?")


class Format(StrEnum):
    """How to write call records."""

    table = "table"
    csv = "csv"
    json = "json"


def cdr(
    user: Annotated[str, typer.Option("--user", "-u", help="Only calls of this user.")] = "",
    since: Annotated[str, typer.Option(help="2026-11-01, 2026-11-01T18:30, 2h, 7d, today, yesterday.")] = "",
    until: Annotated[str, typer.Option(help="The same; a day is included.")] = "",
    form: Annotated[Format, typer.Option("--format", help="How to write them.")] = Format.table,
    limit: Annotated[int, typer.Option(min=0, help="Newest calls to show; 0 for all.")] = DEFAULT_LIMIT,
    admin: AdminOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Call records, newest first."""
    now = time.time()
    start = parse_when(since, now=now) if since else None
    end = parse_when(until, now=now, end=True) if until else None
    found = list(_fetch(connect(admin, config), user=user, since=start, until=end, limit=limit + 1 if limit else 0))
    cut = bool(limit) and len(found) > limit
    if cut:
        found.pop()
    if as_json or form is Format.json:
        print_json(found)
    elif form is Format.csv:
        _write_csv(found)
    else:
        print_table(HEADINGS, (_row(each) for each in found), empty="no calls in this period")
    if cut:
        say(f"only the newest {limit} are shown; more with --limit, all with --limit 0")


def safe_cell(text: str) -> str:
    """A CSV cell that no spreadsheet takes for a formula; phone numbers stay as they are."""
    text = printable(text)
    return f"'{text}" if FORMULA.match(text) and not PHONE_NUMBER.fullmatch(text) else text


def _fetch(edge: Edge, *, user: str, since: float | None, until: float | None, limit: int) -> Iterator[dict[str, Any]]:
    """Page by page. Pages overlap in the second that a page ends in, so ids that were seen are left out."""
    seen: set[str] = set()
    while not limit or len(seen) < limit:
        size = min(limit, PAGE) if limit else PAGE
        page = edge.get("cdrs", user=user, since=_seconds(since), until=_seconds(until), limit=size)["cdrs"]
        new = [each for each in page if each["id"] not in seen]
        for each in new[: limit - len(seen) if limit else None]:
            seen.add(each["id"])
            yield each
        if len(page) < size or not new:
            return
        until = page[-1]["started_at"] + 1e-6


def _seconds(at: float | None) -> str | None:
    return None if at is None else f"{max(at, 0.0):.6f}"


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    return (
        local_short(record["started_at"]),
        duration(record["duration_s"]),
        record["direction"],
        record["user"],
        record["caller"],
        record["callee"],
        record["number_class"],
        record["result"],
        str(record["status"]),
        record["reason"] or record["rule"] or ("" if record["result"] != "answered" else record["terminate_cause"]),
    )


def _write_csv(found: list[dict[str, Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in found:
        shown = {**record, **{name: local(record[name]) for name in TIMES}}
        shown |= {name: "; ".join(record[name]) for name in LISTS}
        writer.writerow([safe_cell(cell) if isinstance(cell := shown[name], str) else cell for name in COLUMNS])
