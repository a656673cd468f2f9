"""`nomad policy test` and `nomad policy dry-run`: a policy tried out before it is in force."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nomad.cli.connection import JsonOption
from nomad.cli.output import Failure, print_json, print_table, printable, say
from nomad.cli.service import DEFAULT_FILE, FileOption
from nomad.cli.times import duration, local_short

if TYPE_CHECKING:
    from nomad.config import Config
    from nomad.edge.expectations import Outcome
    from nomad.edge.policy import Ruleset
    from nomad.edge.rehearsal import Difference
    from nomad.ports import Cdr, CdrStore

DEFAULT_DAYS = 7
MAX_DAYS = 400
DEFAULT_LIMIT = 20
DAY_S = 86400.0
PIECE_S = 6 * 3600.0  # records are read in pieces of so long, so that a month of them needs no memory
MAX_RECORDS = 1_000_000  # of one piece
TITLES = {
    "refused": "would have been refused:",
    "allowed": "were refused and would have been allowed:",
    "shortened": "would have been ended earlier:",
}

NewOption = Annotated[
    Path | None, typer.Option("--file", "-f", metavar="NEW", help="The text to take; else the policy file itself.")
]
DaysOption = Annotated[int, typer.Option(min=1, max=MAX_DAYS, help="Whole days back, and today.")]


@dataclass(slots=True)
class Rehearsed:
    """What came of a dry run."""

    since: float
    judged: int = 0
    unknown: int = 0
    found: dict[str, list[Difference]] = field(default_factory=lambda: {kind: [] for kind in TITLES})


def try_out(
    new: NewOption = None,
    table: Annotated[
        Path | None, typer.Option("--tests", metavar="FILE", help="Expected verdicts; else those beside the policy.")
    ] = None,
    config: FileOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> None:
    """Ask a policy for every expected verdict. Exit code 1 when one does not come."""
    from nomad import config as configuration
    from nomad.edge.expectations import cases_beside
    from nomad.edge.policy import compile_policy
    from nomad.policies import policy_file, read_policy

    path = policy_file(configuration.load(config))
    source = new or path
    table = table or cases_beside(path)
    outcome = expected(compile_policy(read_policy(source), str(source)), table)
    if outcome is None:
        raise Failure(f"{table}: does not exist; write expected verdicts into it, or name another file with --tests")
    if as_json:
        print_json(
            {"ok": not outcome.broken, "held": outcome.held, "broken": [asdict(each) for each in outcome.broken]}
        )
    else:
        show_broken(outcome)
        typer.echo(f"{outcome.held} of {outcome.held + len(outcome.broken)} expected verdicts came")
    if outcome.broken:
        raise typer.Exit(1)


def dry_run(
    new: NewOption = None,
    days: DaysOption = DEFAULT_DAYS,
    limit: Annotated[int, typer.Option(min=0, help="Calls to show of each kind; 0 for all.")] = DEFAULT_LIMIT,
    config: FileOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> None:
    """What a policy would have said of the calls of the last days. Changes nothing."""
    from nomad import config as configuration
    from nomad.edge.policy import compile_policy
    from nomad.policies import policy_file, read_policy

    loaded = configuration.load(config)
    source = new or policy_file(loaded)
    ruleset = compile_policy(read_policy(source), str(source))
    show_rehearsed(rehearse(loaded, ruleset, days), limit=limit, as_json=as_json)


def expected(ruleset: Ruleset, table: Path) -> Outcome | None:
    """What becomes of a table of expected verdicts, None when there is no such file. Raises `ConfigError`."""
    from nomad.edge import expectations
    from nomad.policies import read_policy

    return expectations.try_out(ruleset, read_policy(table), str(table)) if table.exists() else None


def show_broken(outcome: Outcome) -> None:
    """Each expected verdict that did not come, on stderr."""
    for broken in outcome.broken:
        say(str(broken))


def rehearse(config: Config, ruleset: Ruleset, days: int) -> Rehearsed:
    """Put the call records of the last days to a policy. Raises `Unavailable`."""
    from nomad.inputs import store_url
    from nomad.stores.database import Database
    from nomad.stores.sql import SqlCdrs

    async def run() -> Rehearsed:
        database = Database(store_url(config))
        await database.open()
        try:
            return await _rehearse(SqlCdrs(database), config, ruleset, days)
        finally:
            await database.close()

    return asyncio.run(run())


async def _rehearse(store: CdrStore, config: Config, ruleset: Ruleset, days: int) -> Rehearsed:
    from dataclasses import replace

    from nomad.edge.rehearsal import Rehearsal
    from nomad.edge.usage import Usage
    from nomad.inputs import load_countries

    now = time.time()
    usage = Usage(ruleset.timezone)
    since = usage.query(now - days * DAY_S).day  # the midnight before
    usage = Usage(ruleset.timezone)
    usage.load(await store.usage(replace(usage.query(since), until=since)))
    rehearsal = Rehearsal(ruleset, usage, load_countries(config))
    done = Rehearsed(since)
    async for records in _in_order(store, since, now):
        for each in rehearsal.put(records):
            done.found[each.kind].append(each)
    done.judged, done.unknown = rehearsal.judged, rehearsal.unknown
    return done


async def _in_order(store: CdrStore, since: float, until: float) -> AsyncIterator[list[Cdr]]:
    from nomad.ports import CdrQuery

    while since < until:
        query = CdrQuery(since=since, until=since + PIECE_S, limit=MAX_RECORDS)
        yield sorted(await store.query(query), key=lambda each: each.started_at)
        since += PIECE_S


def show_rehearsed(done: Rehearsed, *, limit: int, as_json: bool) -> None:
    """The differences, in a table for each kind."""
    counts = {kind: len(found) for kind, found in done.found.items()}
    if as_json:
        shown = {kind: [_shown(each) for each in found] for kind, found in done.found.items()}
        print_json({"since": done.since, "judged": done.judged, "unknown": done.unknown, "counts": counts, **shown})
        return
    typer.echo(
        f"of {done.judged} calls since {local_short(done.since)} this policy would have refused {counts['refused']}, "
        f"allowed {counts['allowed']} that were refused, and ended {counts['shortened']} earlier"
    )
    if done.unknown:
        say(f"{done.unknown} older records do not say who called what; they are left out")
    for kind, found in done.found.items():
        if not found:
            continue
        typer.echo(f"\n{TITLES[kind]}")
        rows = [_row(each) for each in (found[:limit] if limit else found)]
        print_table(("WHEN", "USER", "NUMBER", "CLASS", "TALK", "WHAT HAPPENED", "NOW"), rows, empty="")
        if len(rows) < len(found):
            say(f"and {len(found) - len(rows)} more; all with --limit 0")


def _row(each: Difference) -> tuple[str, ...]:
    record, verdict = each.record, each.verdict
    if each.kind == "refused":
        now = f"{verdict.rule}: {verdict.reason}"
    elif each.kind == "allowed":
        now = f"allowed, group {verdict.group}"
    else:
        now = f"ended after {duration(verdict.max_call_s or 0.0)}"
    happened = f"{record.rule}: {record.reason}" if record.rule else record.result
    return (
        local_short(record.started_at),
        record.user,
        printable(record.callee.rpartition("@")[0]),
        verdict.number_class,
        duration(record.duration_s),
        happened,
        now,
    )


def _shown(each: Difference) -> dict[str, Any]:
    record, verdict = each.record, each.verdict
    return {
        "id": record.id,
        "started_at": record.started_at,
        "user": record.user,
        "number": record.callee.rpartition("@")[0],
        "duration_s": record.duration_s,
        "result": record.result,
        "rule": record.rule,
        "reason": record.reason,
        "verdict": {
            "allowed": verdict.allowed,
            "class": verdict.number_class,
            "group": verdict.group,
            "rule": verdict.rule,
            "reason": verdict.reason,
            "max_call_s": verdict.max_call_s,
            "chain": [str(step) for step in verdict.chain],
        },
    }
