"""`nomad audit`: what was done, by whom and why; and whether the log is what was written."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from nomad.cli.connection import PAGE, AdminOption, ConfigOption, Edge, JsonOption, connect
from nomad.cli.output import Failure, print_json, print_table
from nomad.cli.times import local_short, parse_when

DEFAULT_LIMIT = 200


def audit(
    since: Annotated[str, typer.Option(help="2026-11-01, 2026-11-01T18:30, 2h, 7d, today, yesterday.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Newest entries to show; 0 for all.")] = DEFAULT_LIMIT,
    verify: Annotated[bool, typer.Option("--verify", help="Check the chain of hashes over all entries.")] = False,
    head: Annotated[
        str, typer.Option(metavar="NUMBER:HASH", help="With --verify: an entry that must be there as it was noted.")
    ] = "",
    admin: AdminOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What was done to people, addresses, calls and the edge, newest first."""
    edge = connect(admin, config)
    if verify:
        _verify(edge, head, as_json=as_json)
        return
    if head:
        raise Failure("--head goes with --verify")
    start = parse_when(since, now=time.time()) if since else None
    found = list(_fetch(edge, since=start, limit=limit))
    if as_json:
        print_json(found)
        return
    rows = [
        (
            str(each["number"]),
            local_short(each["at"]),
            each["by"],
            each["action"],
            each["what"],
            "; ".join([*([each["why"]] if each["why"] else []), *(f"{k}={v}" for k, v in each["more"].items())]),
        )
        for each in found
    ]
    print_table(("NUMBER", "AT", "BY", "ACTION", "WHAT", "WHY"), rows, empty="nothing is on record")


def _fetch(edge: Edge, *, since: float | None, limit: int) -> Iterator[dict[str, Any]]:
    before, left = None, limit
    while True:
        size = min(left, PAGE) if limit else PAGE
        start = None if since is None else f"{max(since, 0.0):.6f}"
        page = edge.get("audit", since=start, before=before, limit=size)["entries"]
        yield from page
        left -= len(page)
        if len(page) < size or (limit and left <= 0):
            return
        before = page[-1]["number"]


def _verify(edge: Edge, head: str, *, as_json: bool) -> None:
    found = edge.get("audit/verify")
    problem = found["why"]
    if not problem and head:
        problem = _missing(edge, head)
    if as_json:
        print_json({**found, "why": problem})
        if problem:
            sys.exit(1)
        return
    if problem:
        raise Failure(f"the audit log was tampered with: {problem}")
    typer.echo(f"{found['entries']} entries, none changed; head {found['entries']}:{found['head']}")


def _missing(edge: Edge, head: str) -> str:
    """What is wrong with an entry that somebody noted, "" when it is there."""
    number, colon, hash = head.partition(":")
    if not colon or not number.isdecimal():
        raise Failure(f"'{head}' is no head; write it as --verify printed it, NUMBER:HASH")
    page = edge.get("audit", before=int(number) + 1, limit=1)["entries"]
    if not page or page[0]["number"] != int(number):
        return f"entry {number} is missing"
    return "" if page[0]["hash"] == hash else f"entry {number} is not what was noted"
