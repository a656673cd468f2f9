"""`nomad policy apply, show, diff, history, rollback`: the versions of a policy and the one that is in force."""

from __future__ import annotations

import asyncio
import difflib
import os
import pwd
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from nomad.cli.connection import AdminOption, JsonOption, Unreachable, connect
from nomad.cli.output import Failure, print_json, print_table, printable, say
from nomad.cli.service import DEFAULT_FILE, FileOption
from nomad.cli.times import local_short
from nomad.cli.trials import (
    DEFAULT_DAYS,
    DEFAULT_LIMIT,
    DaysOption,
    NewOption,
    expected,
    rehearse,
    show_broken,
    show_rehearsed,
)

if TYPE_CHECKING:
    from nomad.config import Config
    from nomad.edge.policy import Ruleset
    from nomad.policies import Applied, Change
    from nomad.ports import PolicyStore, PolicyVersion

SHORT_SHA = 12
DEFAULT_HISTORY = 20
FILE = "file"  # what `diff` calls the working copy
COLOURS = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}
PLAIN = "\x1b[0m"
T = TypeVar("T")

ByOption = Annotated[str, typer.Option("--by", metavar="WHO", help="Who does it, when not the user of the system.")]
WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for the history.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Also when expected verdicts are broken; needs --why, and is on record.")
]


@dataclass(frozen=True, slots=True)
class Site:
    """A configuration, its policy file and the versions of it."""

    config: Config
    path: Path
    store: PolicyStore


def apply(
    why: WhyOption = "",
    new: NewOption = None,
    base: Annotated[
        int | None,
        typer.Option(metavar="N", help="The version that the text was made from; refused if there is a newer."),
    ] = None,
    by: ByOption = "",
    force: ForceOption = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Check, test, try it on past calls; change nothing.")] = False,
    days: DaysOption = DEFAULT_DAYS,
    config: FileOption = DEFAULT_FILE,
    admin: AdminOption = "",
    as_json: JsonOption = False,
) -> None:
    """Check a policy, test it, store it as a version and put it in force; all of it or nothing."""
    from nomad import config as configuration
    from nomad.policies import Change, policy_file, read_policy

    if dry:
        loaded = configuration.load(config)
        path = policy_file(loaded)
        ruleset, broken = _judge(path, read_policy(new or path), str(new or path), force=True, why="dry run")
        show_rehearsed(rehearse(loaded, ruleset, days), limit=DEFAULT_LIMIT, as_json=as_json)
        if broken and not force:
            raise Failure(f"{broken} expected verdicts do not come: it would not be applied")
        return

    async def work(site: Site) -> Applied:
        made_from = base if base is not None else await _newest(site)  # as of before the text is read
        text = read_policy(new or site.path)
        _, failed = _judge(site.path, text, str(new or site.path), force=force, why=why)
        change = Change(text, by=by or system_user(), why=why, base=made_from, failed_tests=failed)
        return await _put_in_force(site, change, config, admin)

    _report(_on_site(config, work), as_json=as_json)


def rollback(
    number: Annotated[int, typer.Argument(metavar="N", help="The version to bring back; see: nomad policy history.")],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for the history.")],
    by: ByOption = "",
    force: ForceOption = False,
    config: FileOption = DEFAULT_FILE,
    admin: AdminOption = "",
    as_json: JsonOption = False,
) -> None:
    """Bring back the text of an older version, as a new version."""
    from nomad.policies import Change

    async def work(site: Site) -> Applied:
        old = await _version(site, number)
        _, failed = _judge(site.path, old.text, f"version {number}", force=force, why=why)
        change = Change(old.text, by=by or system_user(), why=why, restores=number, failed_tests=failed)
        return await _put_in_force(site, change, config, admin)

    _report(_on_site(config, work), as_json=as_json)


def show(
    number: Annotated[int | None, typer.Argument(metavar="[N]", help="A version; else the newest.")] = None,
    config: FileOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> None:
    """The text of a version."""
    version = _on_site(config, lambda site: _version(site, number))
    if as_json:
        print_json(_shown(version))
        return
    say(f"version {version.number}: {local_short(version.at)}, {version.by or '-'}: {version.why or '-'}")
    # A text that goes into a file goes there as it is; on a terminal it must not steer anything
    sys.stdout.write(printable(version.text, keep="\n\t") if sys.stdout.isatty() else version.text)


def diff(
    first: Annotated[int | None, typer.Argument(metavar="[A]", help="A version; else the newest.")] = None,
    second: Annotated[int | None, typer.Argument(metavar="[B]", help="A version; else the policy file.")] = None,
    config: FileOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> None:
    """What changed between two versions, or between a version and the policy file."""
    from nomad.policies import read_policy

    async def work(site: Site) -> tuple[str, str, str, str]:
        old = await _version(site, first)
        if second is None:
            return f"version {old.number}", old.text, str(site.path), read_policy(site.path)
        new = await _version(site, second)
        return f"version {old.number}", old.text, f"version {new.number}", new.text

    old_name, old, new_name, new = _on_site(config, work)
    lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), old_name, new_name, lineterm=""))
    if as_json:
        print_json({"from": old_name, "to": new_name, "changed": bool(lines), "diff": lines})
        return
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for line in lines:
        text = printable(line, keep="\t")
        colour = COLOURS.get(line[:1], "") if coloured else ""
        typer.echo(f"{colour}{text}{PLAIN}" if colour else text, color=True)
    if not lines:
        say(f"{old_name} and {new_name} are the same")


def history(
    limit: Annotated[int, typer.Option(min=1, help="Newest versions to show.")] = DEFAULT_HISTORY,
    config: FileOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> None:
    """Who put which version in force, when and why."""
    from nomad.policies import fingerprint, read_policy

    async def work(site: Site) -> tuple[str, list[PolicyVersion]]:
        in_file = fingerprint(read_policy(site.path)) if site.path.exists() else ""
        return in_file, list(await site.store.history(limit))

    in_file, versions = _on_site(config, work)
    current = next((each.number for each in versions if each.sha == in_file), None)
    if as_json:
        kept = [{**_shown(each), "in_file": each.number == current} for each in versions]
        for each in kept:
            del each["text"]
        print_json(kept)
        return
    rows = [
        (
            f"{each.number}{' *' if each.number == current else ''}",
            local_short(each.at),
            each.by or "-",
            each.sha[:SHORT_SHA],
            _remark(each),
        )
        for each in versions
    ]
    print_table(("VERSION", "WHEN", "WHO", "SHA-256", "WHY"), rows, empty="no version yet; see: nomad policy apply")
    if versions and current is None:
        say("the policy file is none of these: it was edited without 'nomad policy apply'")


def system_user() -> str:
    """Who runs this, by the system; with sudo the person behind it."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    behind = os.environ.get("SUDO_USER", "") if os.getuid() == 0 else ""
    return f"{behind} (sudo)" if behind and behind != name else name


@asynccontextmanager
async def open_site(config_path: Path) -> AsyncIterator[Site]:
    """The policy of a configuration with its store. Raises `ConfigError` or `Unavailable`."""
    from nomad import config as configuration
    from nomad.inputs import store_url
    from nomad.policies import policy_file
    from nomad.stores.database import Database
    from nomad.stores.sql import SqlPolicies

    loaded = configuration.load(config_path)
    path = policy_file(loaded)
    database = Database(store_url(loaded))
    await database.open()
    try:
        yield Site(loaded, path, SqlPolicies(database))
    finally:
        await database.close()


def _on_site(config_path: Path, work: Callable[[Site], Awaitable[T]]) -> T:
    from nomad.ports import Conflict

    async def run() -> T:
        async with open_site(config_path) as site:
            return await work(site)

    try:
        return asyncio.run(run())
    except Conflict as error:
        raise Failure(f"nothing changed: {error}") from None


async def _newest(site: Site) -> int:
    """The number of the newest version, 0 when there is none."""
    found = await site.store.history(1)
    return found[0].number if found else 0


async def _version(site: Site, number: int | None) -> PolicyVersion:
    if number is None:
        newest = await site.store.history(1)
        if not newest:
            raise Failure("there is no version yet; see: nomad policy apply")
        return newest[0]
    found = await site.store.get(number)
    if found is None:
        raise Failure(f"there is no version {number}; see: nomad policy history")
    return found


def _judge(path: Path, text: str, name: str, *, force: bool, why: str) -> tuple[Ruleset, int]:
    """Compile and test a text; how many expected verdicts it breaks. Raises `ConfigError` or `Failure`."""
    from nomad.edge.expectations import cases_beside
    from nomad.edge.policy import compile_policy

    ruleset = compile_policy(text, name)
    for warning in ruleset.warnings:
        say(warning)
    outcome = expected(ruleset, cases_beside(path))
    if outcome is None or not outcome.broken:
        return ruleset, 0
    show_broken(outcome)
    count = len(outcome.broken)
    if not force:
        raise Failure(
            f"nothing changed: {count} expected verdicts do not come; mend the policy or {cases_beside(path).name}, "
            "or give --force and --why"
        )
    if not why:
        raise Failure(f"nothing changed: --force over {count} broken expectations needs --why")
    return ruleset, count


async def _put_in_force(site: Site, change: Change, config_path: Path, admin: str) -> Applied:
    from nomad.policies import Policies, fingerprint

    def activate() -> None:
        if not admin and not site.config.admin.listen:
            say("admin.listen is empty: the edge is not told; send it SIGHUP")
            return
        try:
            answer = connect(admin, config_path).post("reload")
        except Unreachable:
            say("no edge runs here; it takes the policy up when it starts")
            return
        if answer.get("policy", {}).get("sha") != fingerprint(change.text):
            raise Failure("nothing changed: the edge that answers has another policy file; see -c and --admin")
        for key in answer.get("restart", ()):
            say(f"{key} changed too, and needs a restart")

    return await Policies(site.store, site.path, wall=time.time).apply(change, activate=activate)


def _report(applied: Applied, *, as_json: bool) -> None:
    version = applied.version
    if as_json:
        shown = _shown(version)
        del shown["text"]
        print_json({**shown, "new": applied.is_new, "found": applied.found})
        return
    if applied.found is not None:
        say(f"what stood in the file before is kept as version {applied.found}")
    if applied.is_new:
        typer.echo(printable(f"version {version.number} is in force ({version.sha[:SHORT_SHA]}, {version.by})"))
    else:
        typer.echo(f"version {version.number} is this text already; it is in force")


def _shown(version: PolicyVersion) -> dict[str, Any]:
    return asdict(version)


def _remark(version: PolicyVersion) -> str:
    marks = []
    if version.restores is not None:
        marks.append(f"[back to {version.restores}]")
    if version.failed_tests:
        marks.append(f"[forced, breaks {version.failed_tests} tests]")
    return " ".join([*marks, version.why or "-"])
