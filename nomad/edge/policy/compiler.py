"""`policy.toml` compiled into a Ruleset. Text in, Ruleset or `ConfigError` with line and mend out.

Reading and replacing the file is `app.py`'s part.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import tzinfo
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nomad import config
from nomad.config import ConfigError
from nomad.edge.policy.file import GroupTable, Match, PolicyFile, names_of
from nomad.edge.policy.hours import Calendar, parse_holiday, parse_hours
from nomad.edge.policy.lines import Lines
from nomad.edge.policy.numbers import (
    EMERGENCY,
    PREFIX,
    Entry,
    NumberClasses,
    Numbering,
    NumberList,
    entry_problem,
)
from nomad.edge.policy.places import Network, Networks
from nomad.edge.policy.ruleset import LOCAL, Group, People, Ruleset, Tariff
from nomad.edge.policy.warnings import LIMITS, warnings_of
from nomad.ports import Limits

TRANSPORTS = ("udp", "tcp", "tls", "ws", "wss")
COUNTRY = re.compile(r"[A-Z]{2}|local")
MAX_LIMIT = 1_000_000_000
BUILT_IN = "built-in policy"
T = TypeVar("T")


def compile_policy(text: str, source: str) -> Ruleset:
    """Compile a policy file. Raises `ConfigError` that lists every finding with its line."""
    compiler = _Compiler(config.decode(text, source, PolicyFile), Lines(text), source)
    ruleset = compiler.compile()
    if compiler.problems:
        raise ConfigError("\n".join(compiler.problems))
    return ruleset


def default_ruleset() -> Ruleset:
    """Without a policy file: internal numbers and emergencies for everybody who logs in."""
    everybody = GroupTable(name="everybody", match=Match(default=True), allow=(EMERGENCY, "internal"))
    return _Compiler(PolicyFile(group=(everybody,)), Lines(""), BUILT_IN).compile()


class _Compiler:
    """Compiles one file; what is wrong is collected in `problems`."""

    def __init__(self, tables: PolicyFile, lines: Lines, source: str) -> None:
        self.problems: list[str] = []
        self._tables = tables
        self._lines = lines
        self._source = source
        self._class_names = frozenset(tables.classes)

    def compile(self) -> Ruleset:
        tables = self._tables
        numbering = self._numbering()
        classes = self._classes()
        groups = [self._group(index, table, numbering) for index, table in enumerate(tables.group)]
        names: set[str] = set()
        for index, table in enumerate(tables.group):
            if not table.name.isprintable() or not table.name:  # it stands in reason phrases and in the log
                self._wrong(f"group[{index}].name", f"{table.name!r} cannot be read; give the group another name")
            if table.name in names:
                self._wrong(f"group[{index}].name", f"a second group named '{table.name}'; give it another name")
            names.add(table.name)
        members = [(group, names_of(table.match)) for group, table in zip(groups, tables.group, strict=True)]
        holidays = frozenset(self._each("holidays", tables.holidays, parse_holiday))
        timezone = self._timezone()
        return Ruleset(
            classes=NumberClasses(classes, numbering),
            groups=tuple(groups),
            people=People(members),
            allow=self._list("allow", tables.allow, numbering),
            deny=self._list("deny", tables.deny, numbering),
            tariffs=self._tariffs(),
            calendar=Calendar(timezone, holidays),
            timezone=timezone,
            source=self._source,
            class_names=self._class_names,
            needs_country=any(group.countries for group in groups),
            needs_media=any(group.media_encryption for group in groups),
            warnings=() if self.problems else warnings_of(tables, self._lines, numbering, self._source),
        )

    def _wrong(self, path: str, message: str, entry: str = "") -> None:
        line = self._lines.of(path, entry)
        where = f"{self._source}:{line}" if line else self._source
        self.problems.append(f"{where}: {path}: {message}")

    def _numbering(self) -> Numbering:
        table = self._tables.numbers
        for key in ("international_prefix", "national_prefix", "outside_prefix"):
            value = getattr(table, key)
            if value and not value.isdigit():
                self._wrong(f"numbers.{key}", f"'{value}' is no digits; write what is dialled, as '00'")
        if table.longest_internal < 0:
            self._wrong("numbers.longest_internal", "is below 0; 0 lets nothing stay as it is dialled")
        try:
            return Numbering(
                table.country,
                international_prefix=table.international_prefix,
                national_prefix=table.national_prefix,
                outside_prefix=table.outside_prefix,
                longest_internal=table.longest_internal,
            )
        except ValueError as error:
            self._wrong("numbers.country", str(error))
            return Numbering()

    def _classes(self) -> dict[str, tuple[Entry, ...]]:
        classes = {}
        for name, entries in self._tables.classes.items():
            if PREFIX.fullmatch(name) or not name.isprintable() or not name:
                self._wrong(f"classes.{name!r}", "looks like a number, or cannot be read; give the class another name")
            classes[name] = self._entries(f"classes.{name}", entries)
        return classes

    def _entries(self, path: str, texts: Iterable[str]) -> tuple[Entry, ...]:
        entries = []
        for text in texts:
            if problem := entry_problem(text):
                self._wrong(path, problem, text)
            else:
                entries.append(Entry(text, self._lines.of(path, text)))
        return tuple(entries)

    def _list(self, path: str, texts: Sequence[str], numbering: Numbering) -> NumberList:
        """An `allow`, `deny` or `forward`: names of classes, and entries as classes have them."""
        entries = []
        for text in texts:
            if text not in self._class_names and entry_problem(text) and text[:1].isalpha() and text[:3] != "re:":
                near = difflib.get_close_matches(text, self._class_names, n=1)
                mend = f"did you mean '{near[0]}'?" if near else f"classes are {', '.join(sorted(self._class_names))}"
                self._wrong(path, f"no class '{text}'; {mend}", text)
            elif text in self._class_names:
                entries.append(Entry(text, self._lines.of(path, text)))
            else:
                entries += self._entries(path, (text,))
        return NumberList(entries, self._class_names, numbering, wide=path.endswith("deny"))

    def _tariffs(self) -> dict[str, Tariff]:
        tariffs = {}
        for name, table in self._tables.tariffs.items():
            for key in ("per_minute", "setup"):
                amount = getattr(table, key)
                if not 0 <= amount <= MAX_LIMIT:  # nor NaN
                    self._wrong(f"tariffs.{name}.{key}", "is no amount of money; write it as in 0.25")
            tariffs[name] = Tariff(table.setup, table.per_minute, self._lines.of(f"tariffs.{name}"))
        return tariffs

    def _timezone(self) -> tzinfo | None:
        name = self._tables.timezone
        if not name:
            return None
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self._wrong("timezone", f"no time zone '{name}'; write it as in 'Europe/Paris'")
            return None

    def _each(self, path: str, texts: Iterable[str], parse: Callable[[str], T]) -> list[T]:
        values = []
        for text in texts:
            try:
                values.append(parse(text))
            except ValueError as error:
                self._wrong(path, str(error), text)
        return values

    def _group(self, index: int, table: GroupTable, numbering: Numbering) -> Group:
        path = f"group[{index}]"
        for key in LIMITS:
            limit = getattr(table, key)
            if limit is not None and not 0 <= limit <= MAX_LIMIT:
                self._wrong(f"{path}.{key}", f"is not from 0 to {MAX_LIMIT:,}; leave it out for no limit")
        if not names_of(table.match):
            self._wrong(
                f"{path}.match",
                "matches nobody; name ldap_group, radius_class, filter_id, users, or default = true",
            )
        return Group(
            name=table.name,
            allow=self._list(f"{path}.allow", table.allow, numbering),
            deny=self._list(f"{path}.deny", table.deny, numbering),
            forward=None if table.forward is None else self._list(f"{path}.forward", table.forward, numbering),
            limits=Limits(
                concurrent_calls=table.max_concurrent_calls,
                calls_per_hour=table.max_calls_per_hour,
                seconds_per_day=_seconds(table.max_minutes_per_day),
                seconds_per_month=_seconds(table.max_minutes_per_month),
                cost_per_day=table.max_cost_per_day,
                call_s=_seconds(table.max_call_minutes),
            ),
            max_forwarded_calls=table.max_forwarded_calls,
            hours=tuple(self._each(f"{path}.hours", table.hours, parse_hours)),
            networks=Networks(self._each(f"{path}.networks", table.networks, _network)),
            countries=frozenset(self._each(f"{path}.countries", table.countries, _country)),
            transports=frozenset(self._each(f"{path}.transports", table.transports, _transport)),
            media_encryption=table.media_encryption,
            from_internet=table.from_internet,
            max_devices=table.max_devices,
            lines={key: self._lines.of(f"{path}.{key}") for key in GroupTable.__struct_fields__},
        )


def _seconds(minutes: int | None) -> float | None:
    return None if minutes is None else min(minutes, MAX_LIMIT) * 60.0


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        try:
            whole = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"'{text}' is no network; write it as in '192.0.2.0/24' or '2001:db8::/32'") from None
        raise ValueError(f"'{text}' has host bits set; write '{whole}'") from None


def _country(text: str) -> str:
    if not COUNTRY.fullmatch(text):
        raise ValueError(f"'{text}' is no ISO 3166 code as 'FR', nor '{LOCAL}'")
    return text


def _transport(text: str) -> str:
    if text not in TRANSPORTS:
        raise ValueError(f"'{text}' is none of {', '.join(TRANSPORTS)}")
    return text
