"""`nomad policy explain`: the verdict on a call that nobody makes, by the same function that the running edge asks."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nomad.cli.connection import JsonOption
from nomad.cli.output import Failure, print_json, print_table, printable
from nomad.cli.service import DEFAULT_FILE, FileOption
from nomad.cli.times import parse_when

if TYPE_CHECKING:
    from nomad.config import Config
    from nomad.edge.policy import Attempt, Ruleset, Verdict
    from nomad.ports import Grant

MARKS = {True: "ok", False: "no"}


class Way(StrEnum):
    """Which way the call goes; see `edge.policy.Direction`."""

    out = "out"
    internet = "internet"
    forward = "forward"


class Transport(StrEnum):
    """How the phone is connected."""

    udp = "udp"
    tcp = "tcp"
    tls = "tls"
    ws = "ws"
    wss = "wss"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, with the person and the number as they were found."""

    attempt: Attempt
    ruleset: Ruleset
    verdict: Verdict


def explain(
    user: Annotated[str, typer.Option("--user", "-u", metavar="USER", help="Who calls: a login or mail address.")],
    to: Annotated[str, typer.Option("--to", "-t", metavar="NUMBER", help="What is dialled.")],
    at: Annotated[
        str, typer.Option(metavar="TIME", help="When, as in 2026-12-25T10:00 by the clock of the policy; else now.")
    ] = "",
    source: Annotated[str, typer.Option("--from", metavar="IP", help="Address of the phone.")] = "",
    transport: Annotated[Transport, typer.Option(help="How the phone is connected.")] = Transport.tls,
    plain_media: Annotated[bool, typer.Option("--plain-media", help="The phone does not demand SRTP.")] = False,
    way: Annotated[
        Way, typer.Option(help="out, from the internet to the person, or forwarded by its phone.")
    ] = Way.out,
    group: Annotated[
        list[str] | None, typer.Option("--group", metavar="NAME", help="LDAP group or Filter-Id; asks no directory.")
    ] = None,
    radius_class: Annotated[
        list[str] | None, typer.Option("--class", metavar="TEXT", help="RADIUS Class; asks no directory.")
    ] = None,
    login: Annotated[
        bool, typer.Option("--login", help="Ask RADIUS who that is; password as in 'nomad radius-test'.")
    ] = False,
    calls: Annotated[int, typer.Option(min=0, help="Calls that the person has now.")] = 0,
    calls_last_hour: Annotated[int, typer.Option(min=0, help="Calls begun within the last hour.")] = 0,
    minutes_today: Annotated[float, typer.Option(min=0, help="Minutes called today.")] = 0,
    minutes_this_month: Annotated[float, typer.Option(min=0, help="Minutes called this month.")] = 0,
    cost_today: Annotated[float, typer.Option(min=0, help="Money spent today.")] = 0,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="Another policy file, to try it out.")
    ] = None,
    config: FileOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> None:
    """What the policy says of a call, and every rule that led to it. Exit code 1 when it is refused."""
    from nomad import config as configuration
    from nomad import inputs
    from nomad.edge.policy import Attempt, Direction, Used, decide

    if login and (group or radius_class):
        raise Failure("--login and --group or --class exclude each other")
    loaded = configuration.load(config)
    ruleset = inputs.load_ruleset(loaded) if policy is None else _read(policy)
    if group or radius_class:
        grant = _named(user, group or [], radius_class or [])
    else:
        grant = _by_radius(loaded, user) if login else asyncio.run(_by_directory(loaded, user))
    attempt = Attempt(
        grant,
        _number(loaded, to),
        source=source,
        at=_moment(at, ruleset),
        direction=Direction(way),
        transport=transport,
        encrypted_media=not plain_media,
        country=inputs.load_countries(loaded).of(source) if source else None,
        active_calls=calls,
        used=Used(
            seconds_today=minutes_today * 60,
            seconds_this_month=max(minutes_this_month, minutes_today) * 60,
            cost_today=cost_today,
            calls_last_hour=calls_last_hour,
        ),
    )
    asked = Asked(attempt, ruleset, decide(ruleset, attempt))
    if as_json:
        print_json(_as_json(asked))
    else:
        _print(asked)
    if not asked.verdict.allowed:
        raise typer.Exit(1)


def _read(path: Path) -> Ruleset:
    from nomad.edge.policy import compile_policy

    try:
        return compile_policy(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{path}: cannot be read: {error}") from None


def _named(user: str, groups: list[str], classes: list[str]) -> Grant:
    from nomad.ports import Grant

    return Grant(user=user, groups=tuple(groups), classes=tuple(each.encode() for each in classes))


def _by_radius(config: Config, user: str) -> Grant:
    from nomad.cli.login import grant_of

    return grant_of(config, user)


async def _by_directory(config: Config, user: str) -> Grant:
    """The person as the embedded RADIUS server would let in, without a password."""
    from nomad.ports import Grant

    person = await _find(config, user)
    if person is None:
        raise Failure(f"{user}: no such person in {config.directory.url}; or name --group, or --class")
    return Grant(user=person.login, extension=person.extension, groups=person.groups, classes=person.classes)


async def _find(config: Config, login: str) -> Any:
    from nomad.servers import embedded_config
    from radius.errors import DirectoryUnavailable
    from radius.service import open_directory

    if not config.directory.url:
        raise Failure("directory.url: is missing; name the person's --group or --class, or ask RADIUS with --login")
    directory = open_directory(embedded_config(config))
    try:
        return await directory.find(login)
    except DirectoryUnavailable as error:
        raise Failure(str(error)) from None
    finally:
        await directory.close()


def _number(config: Config, text: str) -> str:
    """A number as it is dialled, or the extension of the person whom an address means."""
    from nomad.edge.policy import clean

    name = text.removeprefix("sip:").removeprefix("sips:").removeprefix("tel:")
    number = clean(name.partition("@")[0].partition(";")[0])
    if number:
        return number
    person = asyncio.run(_find(config, name.partition(";")[0]))
    if person is None or not person.extension:
        raise Failure(f"'{text}' is no number, and nobody in {config.directory.url} with an extension")
    return str(person.extension)


def _moment(text: str, ruleset: Ruleset) -> float:
    """Unix seconds; a time without an offset is by the clock of the policy."""
    try:
        moment = datetime.fromisoformat(text.strip(" "))
        return (moment if moment.tzinfo else moment.replace(tzinfo=ruleset.timezone)).timestamp()
    except (ValueError, OverflowError):
        return parse_when(text or "now", now=time.time())


def _print(asked: Asked) -> None:
    verdict, chain = asked.verdict, asked.verdict.chain
    last = len(chain) - 1
    rows = [
        (MARKS[verdict.allowed or place < last], step.rule, str(step.line or "-"), step.text)
        for place, step in enumerate(chain)
    ]
    print_table(("", "RULE", "LINE", "WHAT IT SAYS"), rows, empty="")
    typer.echo(printable(_summary(verdict)))


def _summary(verdict: Verdict) -> str:
    from nomad.sip.build import reason_phrase

    if not verdict.allowed:
        return f"refused: {verdict.status} {verdict.reason or reason_phrase(verdict.status)}"
    text = "allowed"
    if verdict.max_call_s is not None:
        text += f", for {verdict.max_call_s / 60:.3g} minutes at most"
    if verdict.tariff is not None:
        text += f", costs {verdict.tariff.per_minute:g} a minute"
        text += f" and {verdict.tariff.setup:g} for the setup" if verdict.tariff.setup else ""
    return text


def _as_json(asked: Asked) -> dict[str, object]:
    attempt, verdict = asked.attempt, asked.verdict
    grant, tariff = attempt.grant, verdict.tariff
    return {
        "allowed": verdict.allowed,
        "status": verdict.status,
        "reason": verdict.reason,
        "rule": verdict.rule,
        "user": grant.user,
        "groups": list(grant.groups),
        "classes": [value.decode("utf-8", "replace") for value in grant.classes],
        "group": verdict.group,
        "dialled": attempt.number,
        "number": verdict.number,
        "class": verdict.number_class,
        "max_call_s": verdict.max_call_s,
        "tariff": None if tariff is None else {"setup": tariff.setup, "per_minute": tariff.per_minute},
        "chain": [{"rule": step.rule, "line": step.line, "text": step.text} for step in verdict.chain],
        "policy": asked.ruleset.source,
    }
