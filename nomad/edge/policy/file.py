"""The keys of `policy.toml`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nomad import config
from nomad.edge.policy.numbers import EMERGENCY, LONGEST_INTERNAL

DEFAULT_CLASSES: Mapping[str, tuple[str, ...]] = {
    EMERGENCY: ("15", "17", "18", "112"),
    "internal": ("re:[0-9]{4}",),
}
Words = str | tuple[str, ...]
MATCHES = ("ldap_group", "radius_class", "filter_id", "users")


class Match(config.Struct, frozen=True):
    """Whom a group is for; any one of these is enough."""

    ldap_group: Words = ()
    radius_class: Words = ()
    filter_id: Words = ()
    users: tuple[str, ...] = ()
    default: bool = False


def words(value: Words) -> tuple[str, ...]:
    """One word or several."""
    if isinstance(value, str):
        return (value,) if value else ()
    return value


def names_of(match: Match) -> list[tuple[str, str]]:
    """What a group matches: kinds and values."""
    names = [(kind, value) for kind in MATCHES for value in words(getattr(match, kind))]
    return [*names, ("default", "")] if match.default else names


class GroupTable(config.Struct, frozen=True):
    """One [[group]]. A limit that is left out is none; an empty list where something comes from means anywhere."""

    name: str
    match: Match = Match()
    allow: tuple[str, ...] = ()
    """Classes, prefixes ("+4930") or "re:" and an expression: what may be called."""
    deny: tuple[str, ...] = ()
    """The same for what may not be called; wins over every `allow`."""
    max_concurrent_calls: int | None = None
    max_calls_per_hour: int | None = None
    max_minutes_per_day: int | None = None
    max_minutes_per_month: int | None = None
    max_cost_per_day: float | None = None
    """In the unit of the tariffs."""
    max_call_minutes: int | None = None
    """How long one call may last; it is ended then."""
    hours: tuple[str, ...] = ()
    """When calls may be made, as in "Mon-Fri 07:00-21:00" or "holidays 10:00-12:00"; empty: always."""
    networks: tuple[str, ...] = ()
    """Where calls may come from."""
    countries: tuple[str, ...] = ()
    """The same by country (ISO 3166), "local" for addresses that are not of the Internet; needs `geoip`."""
    transports: tuple[str, ...] = ()
    """How phones must be connected to call, as in ["tls", "wss"]."""
    media_encryption: bool = False
    """Whether a call must offer encrypted media (SRTP) only."""
    from_internet: bool = False
    """Whether people of the group may be called from the open Internet."""
    forward: tuple[str, ...] | None = None
    """What their phones may forward or transfer calls to, out of what is allowed; left out: all of that."""
    max_forwarded_calls: int | None = None
    """Calls at once that their phones forwarded or transferred."""
    max_devices: int | None = None


class NumbersTable(config.Struct, frozen=True):
    """[numbers]: how numbers are dialled here. With a country all are brought to E.164 before they are judged."""

    country: str = ""
    """ISO 3166 code, as in "FR"; "" leaves numbers as they are dialled."""
    international_prefix: str = ""
    """What is dialled before a country code; "" is the country's usual one."""
    national_prefix: str = ""
    """What is dialled before a national number; "" is the country's usual one."""
    outside_prefix: str = ""
    """What the PBX wants before every outside number, as in "0"; "" when nothing."""
    longest_internal: int = LONGEST_INTERNAL
    """Numbers of up to so many digits stay as they are dialled: extensions, short codes."""


class TariffTable(config.Struct, frozen=True):
    """[tariffs.CLASS]: what a call to the class costs."""

    per_minute: float = 0.0
    setup: float = 0.0
    """What an answered call costs on top."""


class PolicyFile(config.Struct, frozen=True):
    """`policy.toml`."""

    timezone: str = ""
    """IANA time zone of `hours` and of days and months; "" is the machine's."""
    holidays: tuple[str, ...] = ()
    """Days on which only `hours` that name "holidays" count: "2026-12-25", or "12-25" in every year."""
    allow: tuple[str, ...] = ()
    """What every group may call, besides its own list."""
    deny: tuple[str, ...] = ()
    """What nobody may call."""
    numbers: NumbersTable = NumbersTable()
    classes: dict[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: dict(DEFAULT_CLASSES))
    tariffs: dict[str, TariffTable] = msgspec.field(default_factory=dict)
    group: tuple[GroupTable, ...] = ()
