"""The verdict on a call: identity, called number, circumstances and ruleset give Allow or Deny, with the reasons.

Pure; the live edge and `nomad policy explain` call the same function. Counting and clocks are the caller's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from nomad.edge.numbers import EMERGENCY
from nomad.edge.ruleset import Group, Match, Ruleset


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call that somebody wants to make."""

    user: str
    groups: Sequence[str]  # LDAP groups and Filter-Id of the user
    classes: Sequence[bytes]  # RADIUS Class of the user
    number: str  # clean, see `numbers.clean`
    source: str  # address of the phone
    at: float  # Unix seconds
    active_calls: int = 0  # calls that the user has now, without this one
    seconds_today: float = 0.0  # what the user has called since midnight


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided and why. `rule` is a fixed word, `reason` a short phrase for the user, `chain` for admins."""

    allowed: bool
    group: str
    number_class: str
    rule: str
    reason: str
    chain: tuple[str, ...]
    max_call_s: float | None = None  # the call ends after this time


def decide(ruleset: Ruleset, attempt: Attempt) -> Verdict:
    """The verdict on a call by a person to a number; denied unless a rule allows it."""
    number_class, entry = ruleset.classes.find(attempt.number)
    chain = [f"number {attempt.number}: " + (f"class {number_class}, by '{entry}'" if number_class else "in no class")]
    group = find_group(ruleset, attempt.user, attempt.groups, attempt.classes)
    if number_class == EMERGENCY:
        chain.append("emergency numbers are always allowed")
        return Verdict(True, group.name if group else "", number_class, "", "", tuple(chain))

    def deny(rule: str, reason: str, detail: str) -> Verdict:
        chain.append(detail)
        return Verdict(False, group.name if group else "", number_class, rule, reason, tuple(chain))

    if group is None:
        return deny("group", "No policy group for you", f"user {attempt.user}: in no group")
    chain.append(f"user {attempt.user}: group {group.name}, by {_match_text(group.match)}")
    if not number_class:
        return deny("class", "Number not allowed: unknown kind of number", "a number in no class is denied")
    if number_class not in group.allow:
        allowed = ", ".join(sorted(group.allow)) or "nothing"
        return deny(
            "class",
            f"{number_class.capitalize()} numbers are not allowed for group {group.name}",
            f"group {group.name} allows {allowed}",
        )
    chain.append(f"group {group.name} allows {number_class}")
    for check in (_networks, _hours, _concurrent, _minutes):
        rule, reason, detail = check(ruleset, group, attempt)
        if rule:
            return deny(rule, reason, detail)
        if detail:
            chain.append(detail)
    return Verdict(True, group.name, number_class, "", "", tuple(chain), _longest(group, attempt))


def find_group(ruleset: Ruleset, user: str, groups: Sequence[str], classes: Sequence[bytes]) -> Group | None:
    """The first group of the file that matches the person."""
    names = {_folded(name) for name in groups}
    for group in ruleset.groups:
        match = group.match
        if (
            match.default
            or user in match.users
            or (match.ldap_group and _folded(match.ldap_group) in names)
            or (match.filter_id and _folded(match.filter_id) in names)
            or (match.radius_class and match.radius_class.encode() in classes)
        ):
            return group
    return None


Finding = tuple[str, str, str]  # rule ("" when it allows), reason for the user, detail for admins


def _networks(ruleset: Ruleset, group: Group, attempt: Attempt) -> Finding:
    if not group.networks:
        return "", "", ""
    address = ipaddress.ip_address(attempt.source)
    for network in group.networks:
        if address in network:
            return "", "", f"source {attempt.source} is in {network}"
    return "networks", "Calls from this network are not allowed", f"source {attempt.source} is in no allowed network"


def _hours(ruleset: Ruleset, group: Group, attempt: Attempt) -> Finding:
    if not group.hours:
        return "", "", ""
    local = datetime.fromtimestamp(attempt.at, ruleset.timezone)
    for hours in group.hours:
        if hours.covers(local.weekday(), local.hour * 60 + local.minute):
            return "", "", f"{local:%a %H:%M} is within {hours.text}"
    listed = "; ".join(hours.text for hours in group.hours)
    return "hours", f"Calls are allowed {listed} only", f"{local:%a %H:%M} is outside {listed}"


def _concurrent(ruleset: Ruleset, group: Group, attempt: Attempt) -> Finding:
    limit = group.max_concurrent_calls
    if limit is None:
        return "", "", ""
    detail = f"{attempt.active_calls} calls of {limit} in progress"
    if attempt.active_calls >= limit:
        return "concurrent", f"You already have {attempt.active_calls} calls; {limit} are allowed", detail
    return "", "", detail


def _minutes(ruleset: Ruleset, group: Group, attempt: Attempt) -> Finding:
    limit = group.max_seconds_per_day
    if limit is None:
        return "", "", ""
    detail = f"{attempt.seconds_today / 60:.0f} minutes of {limit / 60:.0f} used today"
    if attempt.seconds_today >= limit:
        return "minutes", f"Your {limit / 60:.0f} minutes of today are used up", detail
    return "", "", detail


def _longest(group: Group, attempt: Attempt) -> float | None:
    left = None if group.max_seconds_per_day is None else group.max_seconds_per_day - attempt.seconds_today
    limits = [limit for limit in (group.max_call_s, left) if limit is not None]
    return min(limits) if limits else None


def _match_text(match: Match) -> str:
    for key in ("ldap_group", "radius_class", "filter_id"):
        if value := getattr(match, key):
            return f"{key} '{value}'"
    return "user list" if match.users else "default"


def _folded(name: str) -> str:
    """Group names compare without case and without blanks around the commas of a DN (RFC 4514)."""
    return ",".join(part.strip() for part in name.lower().split(","))
