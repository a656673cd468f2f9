"""All rules of one version of the policy, ready to be asked."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from nomad.edge.policy.hours import Calendar, OpenHours
from nomad.edge.policy.numbers import NumberClasses, NumberList
from nomad.edge.policy.places import Networks
from nomad.ports import Limits

LOCAL = "local"  # country of addresses that are not of the Internet
SHORT_SHA = 12
MAX_FOLDED = 10_000  # names of groups whose folded form is remembered


@dataclass(frozen=True, slots=True)
class Tariff:
    """What calls to a class cost, by the second."""

    setup: float
    per_minute: float
    line: int = 0

    def cost(self, seconds: float) -> float:
        """What an answered call of this length costs."""
        return self.setup + self.per_minute * seconds / 60.0

    def affords_s(self, money: float) -> float | None:
        """How long a call may last for this money, None when for ever."""
        if self.per_minute <= 0:
            return None
        return max(0.0, money - self.setup) / self.per_minute * 60.0


@dataclass(frozen=True, slots=True)
class Group:
    """A group ready to be asked."""

    name: str
    allow: NumberList
    deny: NumberList
    forward: NumberList | None  # None: whatever is allowed
    limits: Limits
    max_forwarded_calls: int | None
    hours: tuple[OpenHours, ...]
    networks: Networks
    countries: frozenset[str]
    transports: frozenset[str]
    media_encryption: bool
    from_internet: bool
    max_devices: int | None
    lines: Mapping[str, int]  # of every key; of the group where it is not given, 0 without a file


@dataclass(frozen=True, slots=True)
class Membership:
    """The group that a person is in, and what says so."""

    group: Group
    by: str


class People:
    """Finds the first group of the file that matches a person, in as many look-ups as the person has names."""

    def __init__(self, members: Sequence[tuple[Group, Sequence[tuple[str, str]]]]) -> None:
        """`members` is each group with what it matches: a kind (ldap_group, users, ...) and a value."""
        self._members: dict[tuple[str, str], tuple[int, Membership]] = {}
        for place, (group, names) in enumerate(members):
            for kind, value in names:
                key = folded(value) if kind in FOLDED else value
                by = f"{kind} '{value}'" if kind in NAMED else kind
                self._members.setdefault((kind, key), (place, Membership(group, by)))

    def find(self, user: str, groups: Sequence[str], classes: Sequence[bytes]) -> Membership | None:
        """The group of a person with these LDAP groups, Filter-Ids and RADIUS classes."""
        found = self._members.get
        matches = [found(("users", folded(user))), found(EVERYBODY)]
        for name in groups:
            key = folded(name)
            matches += (found(("ldap_group", key)), found(("filter_id", key)))
        matches += [found(("radius_class", value.decode("utf-8", "replace"))) for value in classes]
        first = None
        for match in matches:
            if match is not None and (first is None or match[0] < first[0]):
                first = match
        return first[1] if first else None


FOLDED = frozenset({"ldap_group", "filter_id", "users"})  # else "Mallory" would be another than "mallory" is
NAMED = frozenset({"ldap_group", "filter_id", "radius_class"})
EVERYBODY = ("default", "")


@functools.lru_cache(MAX_FOLDED)
def folded(name: str) -> str:
    """Names compare without case and without blanks around the commas of a DN (RFC 4514)."""
    return ",".join([part.strip() for part in name.lower().split(",")])


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All rules of one version of the policy."""

    classes: NumberClasses
    groups: tuple[Group, ...]
    people: People
    allow: NumberList  # for every group
    deny: NumberList  # for everybody
    tariffs: Mapping[str, Tariff]
    calendar: Calendar
    timezone: tzinfo | None
    source: str  # file name, for people
    version: str = ""  # its number in the store; "" when it was never applied
    sha: str = ""  # SHA-256 of the file, hex; "" for the built-in policy
    class_names: frozenset[str] = frozenset()
    needs_country: bool = False  # whether a group asks where addresses are
    needs_media: bool = False  # whether a group asks if media are encrypted
    warnings: tuple[str, ...] = ()  # what is legal and hardly meant: file, line, key, what, mend

    @property
    def label(self) -> str:
        """What call records name it by."""
        return self.version or self.sha[:SHORT_SHA] or self.source
