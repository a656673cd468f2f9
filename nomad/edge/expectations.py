"""Verdicts that a policy has to give: `policy.tests.toml`, kept beside the policy, and what of it a policy breaks.

Pure: text and ruleset in, findings out. The same `decide` as on the running edge gives the verdicts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from nomad import config
from nomad.config import ConfigError
from nomad.edge.policy import TRANSPORTS, Attempt, Direction, Ruleset, Used, Verdict, address_of, clean, decide
from nomad.ports import Grant

COUNTRY = re.compile("[A-Z]{2}")
COUNTS = (
    "active_calls",
    "forwarded_calls",
    "calls_last_hour",
    "minutes_today",
    "minutes_this_month",
    "cost_today",
)
SUFFIX = ".tests.toml"
NOON = "2026-01-07T12:00"  # a Wednesday
SOMEWHERE = "192.0.2.1"  # RFC 5737


class Expect(config.Struct, frozen=True):
    """What has to come; what is left out may be anything."""

    allowed: bool
    rule: str | None = None
    """What refuses: class, deny, hours, concurrent, minutes, cost, ...; as `nomad policy explain` names it."""
    number_class: str | None = msgspec.field(name="class", default=None)
    group: str | None = None
    max_call_minutes: float | None = None


class Case(config.Struct, frozen=True):
    """One [[test]]."""

    number: str
    """As it is dialled."""
    expect: Expect
    name: str = ""
    user: str = "somebody"
    groups: tuple[str, ...] = ()
    """LDAP groups and Filter-Ids of the user."""
    classes: tuple[str, ...] = ()
    """RADIUS Class of the user."""
    at: str = NOON
    """When; without an offset by the clock of the policy."""
    source: str = msgspec.field(name="from", default=SOMEWHERE)
    """Address of the phone."""
    transport: str = "tls"
    encrypted_media: bool = True
    country: str = ""
    way: str = "out"
    """"out", from the "internet" to the person, or "forward"ed by the person's phone."""
    active_calls: int = 0
    forwarded_calls: int = 0
    calls_last_hour: int = 0
    minutes_today: float = 0.0
    minutes_this_month: float = 0.0
    cost_today: float = 0.0


class CaseFile(config.Struct, frozen=True):
    """`policy.tests.toml`."""

    test: tuple[Case, ...] = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """An expected verdict that did not come."""

    where: str  # file and line
    name: str
    wanted: str
    came: str

    def __str__(self) -> str:
        return f"{self.where}: {self.name}: expected {self.wanted}; came {self.came}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a table of expected verdicts."""

    held: int
    broken: tuple[Broken, ...] = ()


def cases_beside(policy: Path) -> Path:
    """Where the expected verdicts of a policy file are."""
    return policy.with_suffix(SUFFIX)


def try_out(ruleset: Ruleset, text: str, source: str) -> Outcome:
    """Ask a policy for every expected verdict. Raises `ConfigError` on a table that cannot be read."""
    cases = config.decode(text, source, CaseFile).test
    problems: list[str] = []
    broken: list[Broken] = []
    for index, case in enumerate(cases):
        where = f"{source}:{config.line_of(text, f'$.test[{index}]')}"
        try:
            attempt = _attempt(case, ruleset)
        except ValueError as error:
            key = str(error).partition(":")[0]
            line = config.line_of(text, f"$.test[{index}].{key}")
            problems.append(f"{source}:{line}: test[{index}].{error}")
            continue
        verdict = decide(ruleset, attempt)
        wanted, came = _difference(case.expect, verdict)
        if wanted:
            name = case.name or f"{case.user} calls {case.number}"
            broken.append(Broken(where, name, ", ".join(wanted), f"{', '.join(came)} ({_told(verdict)})"))
    if problems:
        raise ConfigError("\n".join(problems))
    return Outcome(len(cases) - len(broken), tuple(broken))


def _attempt(case: Case, ruleset: Ruleset) -> Attempt:
    """Raises `ValueError` with the key and the mend."""
    number = clean(case.number)
    if not number:
        raise ValueError(f"number: '{case.number}' is no number; write digits, '+', '*' and '#'")
    if case.way not in list(Direction):
        raise ValueError(f"way: '{case.way}' is none of {', '.join(Direction)}")
    if case.transport not in TRANSPORTS:
        raise ValueError(f"transport: '{case.transport}' is none of {', '.join(TRANSPORTS)}")
    if address_of(case.source) is None:
        raise ValueError(f"from: '{case.source}' is no IP address; write it as in '{SOMEWHERE}'")
    if case.country and not COUNTRY.fullmatch(case.country):
        raise ValueError(f"country: '{case.country}' is no ISO 3166 code; write it as in 'FR'")
    for key in COUNTS:
        if not getattr(case, key) >= 0:
            raise ValueError(f"{key}: is below 0; leave it out for nothing")
    try:
        moment = datetime.fromisoformat(case.at)
        at = (moment if moment.tzinfo else moment.replace(tzinfo=ruleset.timezone)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"at: '{case.at}' is no time; write it as in '{NOON}'") from None
    return Attempt(
        Grant(case.user, groups=case.groups, classes=tuple(each.encode() for each in case.classes)),
        number,
        source=case.source,
        at=at,
        direction=Direction(case.way),
        transport=case.transport,
        encrypted_media=case.encrypted_media,
        country=case.country or None,
        active_calls=case.active_calls,
        forwarded_calls=case.forwarded_calls,
        used=Used(
            seconds_today=case.minutes_today * 60,
            seconds_this_month=max(case.minutes_this_month, case.minutes_today) * 60,
            cost_today=case.cost_today,
            calls_last_hour=case.calls_last_hour,
        ),
    )


def _difference(expect: Expect, verdict: Verdict) -> tuple[list[str], list[str]]:
    """What was wanted and what came, where they differ."""
    longest = None if verdict.max_call_s is None else verdict.max_call_s / 60
    pairs = [
        ("", _word(expect.allowed), _word(verdict.allowed)),
        ("rule ", expect.rule, verdict.rule),
        ("class ", expect.number_class, verdict.number_class),
        ("group ", expect.group, verdict.group),
        ("max_call_minutes ", expect.max_call_minutes, longest),
    ]
    different = [(key, want, came) for key, want, came in pairs if want is not None and want != came]
    return (
        [f"{key}{_shown(want)}" for key, want, _ in different],
        [f"{key}{_shown(came)}" for key, _, came in different],
    )


def _word(allowed: bool) -> str:
    return "allowed" if allowed else "refused"


def _shown(value: str | float | None) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value or "none")


def _told(verdict: Verdict) -> str:
    return str(verdict.chain[-1]) if verdict.chain else verdict.reason
