"""`policy.toml` compiled into a Ruleset: what `policy.decide` looks at.

Pure: text in, Ruleset or `ConfigError` with line and mend out. Reading and replacing the file is `app.py`'s part.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from nomad import config
from nomad.config import ConfigError
from nomad.edge.numbers import EMERGENCY, NumberClasses

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOURS = re.compile(r"([A-Za-z]{3})(?:-([A-Za-z]{3}))? ([0-2][0-9]):([0-5][0-9])-([0-2][0-9]):([0-5][0-9])")
DEFAULT_CLASSES: Mapping[str, tuple[str, ...]] = {
    EMERGENCY: ("15", "17", "18", "112"),
    "internal": ("re:[0-9]{4}",),
}
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Match(config.Struct, frozen=True):
    """Whom a group is for; any one of these is enough."""

    ldap_group: str = ""
    radius_class: str = ""
    filter_id: str = ""
    users: tuple[str, ...] = ()
    default: bool = False


class GroupTable(config.Struct, frozen=True):
    """One [[group]]."""

    name: str
    match: Match = Match()
    allow: tuple[str, ...] = ()
    """Classes of numbers that may be called."""
    max_concurrent_calls: int | None = None
    max_minutes_per_day: int | None = None
    max_call_minutes: int | None = None
    hours: tuple[str, ...] = ()
    """When calls may be made, as in "Mon-Fri 07:00-21:00"; empty: always."""
    networks: tuple[str, ...] = ()
    """Where calls may come from; empty: anywhere."""
    max_devices: int | None = None


class PolicyFile(config.Struct, frozen=True):
    """`policy.toml`."""

    classes: dict[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: dict(DEFAULT_CLASSES))
    group: tuple[GroupTable, ...] = ()
    timezone: str = ""
    """IANA time zone of `hours` and of the day of `max_minutes_per_day`; "" is the machine's."""


@dataclass(frozen=True, slots=True)
class OpenHours:
    """Days of the week (0 is Monday) and minutes of the day; the end may be on the next day."""

    days: frozenset[int]
    start_minute: int
    end_minute: int
    text: str

    def covers(self, weekday: int, minute: int) -> bool:
        """Whether a moment lies within."""
        if self.start_minute <= self.end_minute:
            return weekday in self.days and self.start_minute <= minute < self.end_minute
        if minute >= self.start_minute:
            return weekday in self.days
        return minute < self.end_minute and (weekday - 1) % 7 in self.days


@dataclass(frozen=True, slots=True)
class Group:
    """A group ready to be asked."""

    name: str
    match: Match
    allow: frozenset[str]
    max_concurrent_calls: int | None
    max_seconds_per_day: float | None
    max_call_s: float | None
    hours: tuple[OpenHours, ...]
    networks: tuple[Network, ...]
    max_devices: int | None


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All rules of one version of the policy."""

    classes: NumberClasses
    groups: tuple[Group, ...]
    timezone: tzinfo | None
    source: str  # file name, for people
    class_names: frozenset[str] = field(default=frozenset())
    version: str = ""  # what call records name it by: the number in the store, or the beginning of its SHA-256


def compile_policy(text: str, source: str) -> Ruleset:
    """Compile a policy file. Raises `ConfigError` that lists every finding with its line."""
    tables = config.decode(text, source, PolicyFile)
    problems: list[str] = []

    def wrong(path: str, message: str) -> None:
        line = config.line_of(text, f"$.{path}")
        problems.append(f"{source}:{line}: {path}: {message}" if line else f"{source}: {path}: {message}")

    for name, entries in tables.classes.items():
        for entry in entries:
            if problem := _entry_problem(entry):
                wrong(f"classes.{name}", problem)
    names: set[str] = set()
    groups = []
    for index, table in enumerate(tables.group):
        if table.name in names:
            wrong(f"group[{index}].name", f"a second group named '{table.name}'")
        names.add(table.name)
        for unknown in sorted(set(table.allow) - set(tables.classes)):
            wrong(f"group[{index}].allow", f"no class '{unknown}'; classes are {', '.join(sorted(tables.classes))}")
        try:
            groups.append(_compile_group(table))
        except ValueError as error:
            key, _, message = str(error).partition("|")
            wrong(f"group[{index}].{key}", message)
    timezone: tzinfo | None = None
    if tables.timezone:
        try:
            timezone = ZoneInfo(tables.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            wrong("timezone", f"no time zone '{tables.timezone}'; write it as in 'Europe/Paris'")
    if problems:
        raise ConfigError("\n".join(problems))
    return Ruleset(NumberClasses(tables.classes), tuple(groups), timezone, source, frozenset(tables.classes))


def default_ruleset() -> Ruleset:
    """Without a policy file: internal numbers and emergencies for everybody who logs in."""
    everybody = GroupTable(name="everybody", match=Match(default=True), allow=(EMERGENCY, "internal"))
    return Ruleset(
        NumberClasses(DEFAULT_CLASSES),
        (_compile_group(everybody),),
        None,
        "built-in policy",
        frozenset(DEFAULT_CLASSES),
    )


def _entry_problem(entry: str) -> str:
    if entry.startswith("re:"):
        try:
            re.compile(entry[3:])
        except re.error as error:
            return f"'{entry}' is no regular expression: {error}"
        return ""
    return (
        ""
        if re.fullmatch(r"(?=.)\+?[0-9*#]*", entry)
        else f"'{entry}' is no prefix of digits; begin patterns with 're:'"
    )


def _compile_group(table: GroupTable) -> Group:
    """Raises `ValueError("key|message")`."""
    for key in ("max_concurrent_calls", "max_minutes_per_day", "max_call_minutes", "max_devices"):
        limit = getattr(table, key)
        if limit is not None and limit < 0:
            raise ValueError(f"{key}|is below 0; leave it out for no limit")
    match = table.match
    if not (match.default or match.users or match.ldap_group or match.radius_class or match.filter_id):
        raise ValueError("match|matches nobody; name ldap_group, radius_class, filter_id, users, or default = true")
    networks: list[Network] = []
    for text in table.networks:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ValueError(f"networks|{error}") from None
    return Group(
        name=table.name,
        match=match,
        allow=frozenset(table.allow),
        max_concurrent_calls=table.max_concurrent_calls,
        max_seconds_per_day=None if table.max_minutes_per_day is None else table.max_minutes_per_day * 60.0,
        max_call_s=None if table.max_call_minutes is None else table.max_call_minutes * 60.0,
        hours=tuple(_open_hours(text) for text in table.hours),
        networks=tuple(networks),
        max_devices=table.max_devices,
    )


def _open_hours(text: str) -> OpenHours:
    found = HOURS.fullmatch(text)
    if not found or found[1].lower() not in DAYS or (found[2] or found[1]).lower() not in DAYS:
        raise ValueError(f"hours|'{text}' is not like 'Mon-Fri 07:00-21:00'")
    first, last = DAYS.index(found[1].lower()), DAYS.index((found[2] or found[1]).lower())
    days = frozenset((first + step) % 7 for step in range((last - first) % 7 + 1))
    start, end = int(found[3]) * 60 + int(found[4]), int(found[5]) * 60 + int(found[6])
    if start > 24 * 60 or end > 24 * 60:
        raise ValueError(f"hours|'{text}' has an hour above 24:00")
    return OpenHours(days, start, end, text)
