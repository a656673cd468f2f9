"""The verdict on a call: identity, called number, circumstances and ruleset give an answer, with the reasons.

Pure; the live edge and `nomad policy explain` call the same function. Counting and clocks are the caller's. A deny wins
over every allow, what no rule allows is denied, and an emergency number is refused by nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import NamedTuple

from nomad.edge.policy.hours import days_around
from nomad.edge.policy.numbers import EMERGENCY, Entry, Found
from nomad.edge.policy.ruleset import LOCAL, Group, Membership, Ruleset, Tariff
from nomad.edge.policy.verdict import Attempt, Direction, Step, Verdict
from nomad.ports import NO_LIMITS, Limits

FORBIDDEN = 403
UNAVAILABLE = 480  # RFC 3261 21.4.18; tells a stranger no more than that nobody is there
NOT_ACCEPTABLE = 488  # RFC 3261 21.4.26: the phone may try again with other media
LIMIT_FIELDS = tuple(field.name for field in fields(Limits))
OWN = "by RADIUS"  # whose limit it is when it does not stand in the policy


class Refused(NamedTuple):
    """What a check found against a call: the step that says so, and the phrase for the user."""

    step: Step
    reason: str
    status: int = FORBIDDEN


def find_group(ruleset: Ruleset, user: str, groups: Sequence[str], classes: Sequence[bytes]) -> Group | None:
    """The first group of the file that matches the person."""
    found = ruleset.people.find(user, groups, classes)
    return found.group if found else None


def decide(ruleset: Ruleset, attempt: Attempt) -> Verdict:
    """The verdict on a call for a person; denied unless a rule allows it."""
    found = ruleset.classes.find(attempt.number)
    member = ruleset.people.find(attempt.user, attempt.groups, attempt.classes)
    name = member.group.name if member else ""
    chain = [_class_step(attempt, found)]
    if attempt.direction is Direction.INTERNET:
        refused = _from_internet(attempt, member, chain)
        return _verdict(chain, refused, name, found)
    if found.name == EMERGENCY:
        chain.append(Step("emergency", found.entry.line, "emergency numbers are always allowed"))
        return _verdict(chain, None, name, found)
    if member is None:
        step = Step("group", 0, f"user {attempt.user}: in no group")
        return _verdict(chain, Refused(step, "No policy group for you"), "", found)
    group = member.group
    chain.append(Step("group", member.line, f"user {attempt.user}: group {name}, by {member.by}"))
    tariff = ruleset.tariffs.get(found.name)
    refused = (
        _numbers(ruleset, attempt, found, group, chain)
        or _forwarding(attempt, found, group, chain)
        or _place(attempt, group, chain)
        or _connection(attempt, group, chain)
        or _hours(ruleset, attempt, group, chain)
        or _counts(attempt, group, chain)
        or _minutes(attempt, group, chain)
        or _money(attempt, group, tariff, chain)
    )
    if refused:
        return _verdict(chain, refused, name, found)
    longest, limits = _longest(attempt, group, tariff, chain), _limits(group, attempt.own)
    return _verdict(chain, None, name, found, max_call_s=longest, tariff=tariff, limits=limits)


def _verdict(
    chain: list[Step],
    refused: Refused | None,
    group: str,
    found: Found,
    *,
    max_call_s: float | None = None,
    tariff: Tariff | None = None,
    limits: Limits = NO_LIMITS,
) -> Verdict:
    if refused is not None:
        step, reason, status = refused
        return Verdict(False, group, found.name, step.rule, reason, (*chain, step), found.number, status)
    return Verdict(True, group, found.name, "", "", tuple(chain), found.number, 200, max_call_s, tariff, limits)


def _class_step(attempt: Attempt, found: Found) -> Step:
    number = attempt.number if found.number == attempt.number else f"{attempt.number} is {found.number}"
    if not found.name:
        return Step("class", 0, f"number {number}: in no class")
    return Step("class", found.entry.line, f"number {number}: class {found.name}, by '{found.entry.text}'")


# -- checks, in the order in which they are asked: each adds to the chain, or gives what refuses -------------------


def _from_internet(attempt: Attempt, member: Membership | None, chain: list[Step]) -> Refused | None:
    reason = ""  # the standard phrase: a stranger learns nothing about people
    if member is None:
        return Refused(Step("group", 0, f"user {attempt.user}: in no group"), reason, UNAVAILABLE)
    group = member.group
    chain.append(Step("group", member.line, f"user {attempt.user}: group {group.name}, by {member.by}"))
    line = group.line("from_internet")
    if not group.from_internet:
        text = f"group {group.name} is not called from the Internet"
        return Refused(Step("from_internet", line, text), reason, UNAVAILABLE)
    chain.append(Step("from_internet", line, f"group {group.name} may be called from the Internet"))
    return None


def _numbers(ruleset: Ruleset, attempt: Attempt, found: Found, group: Group, chain: list[Step]) -> Refused | None:
    name = found.name
    if entry := ruleset.deny.find(found):
        text = f"nobody may call {_what(entry, name)}"
        return Refused(Step("deny", entry.line, text), f"{_kind(entry, name)} not allowed")
    if entry := group.deny.find(found):
        text = f"group {group.name} denies {_what(entry, name)}"
        return Refused(Step("deny", entry.line, text), f"{_kind(entry, name)} not allowed for group {group.name}")
    entry = group.allow.find(found)
    if entry:
        chain.append(Step("allow", entry.line, f"group {group.name} allows {_what(entry, name)}"))
    elif entry := ruleset.allow.find(found):
        chain.append(Step("allow", entry.line, f"every group allows {_what(entry, name)}"))
    elif not name:
        step = Step("class", 0, "a number in no class is denied")
        return Refused(step, "Number not allowed: unknown kind of number")
    else:
        allowed = ", ".join(sorted({*group.allow.texts, *ruleset.allow.texts})) or "nothing"
        step = Step("class", group.line("allow"), f"group {group.name} allows {allowed}")
        return Refused(step, f"{name.capitalize()} numbers are not allowed for group {group.name}")
    if attempt.own_classes and name not in attempt.own_classes:
        text = f"{OWN} {attempt.user} may call {', '.join(attempt.own_classes)} only"
        return Refused(Step("own", 0, text), f"{name.capitalize() or 'These'} numbers are not allowed for you")
    return None


def _forwarding(attempt: Attempt, found: Found, group: Group, chain: list[Step]) -> Refused | None:
    if attempt.direction is not Direction.FORWARD:
        return None
    if group.forward is not None:
        line = group.line("forward")
        entry = group.forward.find(found)
        if entry is None:
            listed = ", ".join(group.forward.texts) or "nothing"
            text = f"group {group.name} forwards to {listed}"
            return Refused(Step("forward", line, text), f"Group {group.name} may not forward to this number")
        chain.append(Step("forward", entry.line, f"group {group.name} forwards to {_what(entry, found.name)}"))
    limit = group.max_forwarded_calls
    if limit is not None:
        step = Step(
            "forwarded", group.line("max_forwarded_calls"), f"{attempt.forwarded_calls} forwarded calls of {limit}"
        )
        if attempt.forwarded_calls >= limit:
            return Refused(step, f"You already have {attempt.forwarded_calls} forwarded calls; {limit} are allowed")
        chain.append(step)
    return None


def _place(attempt: Attempt, group: Group, chain: list[Step]) -> Refused | None:
    if not group.networks and not group.countries:
        return None
    source = attempt.source or "not known"
    try:
        address = ipaddress.ip_address(attempt.source.partition("%")[0])
    except ValueError:
        address = None
    if group.networks:
        line = group.line("networks")
        network = None if address is None else next((each for each in group.networks if address in each), None)
        if network is None:
            step = Step("networks", line, f"source {source} is in no allowed network")
            return Refused(step, "Calls from this network are not allowed")
        chain.append(Step("networks", line, f"source {source} is in {network}"))
    if group.countries:
        local = LOCAL if address is not None and not address.is_global else ""
        country = attempt.country or local
        step = Step("countries", group.line("countries"), f"source {source} is in {country or 'no known country'}")
        if country not in group.countries:
            return Refused(step, "Calls from this country are not allowed")
        chain.append(step)
    return None


def _connection(attempt: Attempt, group: Group, chain: list[Step]) -> Refused | None:
    if group.transports:
        listed = ", ".join(sorted(group.transports))
        line, by = group.line("transports"), attempt.transport or "unknown"
        if attempt.transport not in group.transports:
            step = Step("transports", line, f"the phone is connected by {by}, not by {listed}")
            return Refused(step, f"Calls over {by.upper()} are not allowed; connect by {listed.upper()}")
        chain.append(Step("transports", line, f"the phone is connected by {by}"))
    if group.media_encryption:
        line = group.line("media_encryption")
        if not attempt.encrypted_media:
            step = Step("media_encryption", line, "the media offered are not all encrypted")
            return Refused(step, "Calls need encrypted media (SRTP)", NOT_ACCEPTABLE)
        chain.append(Step("media_encryption", line, "the media offered are encrypted"))
    return None


def _hours(ruleset: Ruleset, attempt: Attempt, group: Group, chain: list[Step]) -> Refused | None:
    if not group.hours:
        return None
    local = datetime.fromtimestamp(attempt.at, ruleset.timezone)
    today, yesterday = days_around(local, ruleset.holidays)
    line, minute = group.line("hours"), local.hour * 60 + local.minute
    when = f"{local:%a %H:%M}" if today < 7 else f"{local:%a %H:%M} of a holiday"
    for hours in group.hours:
        if hours.covers(today, yesterday, minute):
            chain.append(Step("hours", line, f"{when} is within {hours.text}"))
            return None
    listed = "; ".join([hours.text for hours in group.hours])
    return Refused(Step("hours", line, f"{when} is outside {listed}"), f"Calls are allowed {listed} only")


def _counts(attempt: Attempt, group: Group, chain: list[Step]) -> Refused | None:
    limit, line, by = _smaller(group, attempt.own, "concurrent_calls", "max_concurrent_calls")
    if limit is not None:
        count = attempt.active_calls
        step = Step("concurrent", line, f"{count} calls of {limit:g} in progress{by}")
        if count >= limit:
            return Refused(step, f"You already have {count} calls; {limit:g} are allowed")
        chain.append(step)
    limit, line, by = _smaller(group, attempt.own, "calls_per_hour", "max_calls_per_hour")
    if limit is not None:
        count = attempt.calls_last_hour
        step = Step("per_hour", line, f"{count} calls of {limit:g} within the last hour{by}")
        if count >= limit:
            return Refused(step, f"Your {limit:g} calls of this hour are used up")
        chain.append(step)
    return None


def _minutes(attempt: Attempt, group: Group, chain: list[Step]) -> Refused | None:
    limit, line, by = _smaller(group, attempt.own, "seconds_per_day", "max_minutes_per_day")
    if limit is not None:
        used = attempt.seconds_today
        step = Step("minutes", line, f"{used / 60:.0f} minutes of {limit / 60:.0f} used today{by}")
        if used >= limit:
            return Refused(step, f"Your {limit / 60:.0f} minutes of today are used up")
        chain.append(step)
    limit, line, by = _smaller(group, attempt.own, "seconds_per_month", "max_minutes_per_month")
    if limit is not None:
        used = attempt.seconds_this_month
        step = Step("month", line, f"{used / 60:.0f} minutes of {limit / 60:.0f} used this month{by}")
        if used >= limit:
            return Refused(step, f"Your {limit / 60:.0f} minutes of this month are used up")
        chain.append(step)
    return None


def _money(attempt: Attempt, group: Group, tariff: Tariff | None, chain: list[Step]) -> Refused | None:
    """Calls that cost nothing are not refused for want of money."""
    limit, line, by = _smaller(group, attempt.own, "cost_per_day", "max_cost_per_day")
    if limit is None or tariff is None:
        return None
    step = Step("cost", line, f"{attempt.cost_today:.2f} of {limit:.2f} spent today{by}")
    if attempt.cost_today + tariff.setup >= limit:
        return Refused(step, f"Your {limit:.2f} of today are used up")
    chain.append(step)
    return None


def _longest(attempt: Attempt, group: Group, tariff: Tariff | None, chain: list[Step]) -> float | None:
    """How long the call may last: by the longest call, or by what is left of minutes and money."""
    longest: float | None = None
    text, line = "", 0
    for field, key, used, what in (
        ("call_s", "max_call_minutes", 0.0, "longest call"),
        ("seconds_per_day", "max_minutes_per_day", attempt.seconds_today, "minutes left today"),
        ("seconds_per_month", "max_minutes_per_month", attempt.seconds_this_month, "minutes left this month"),
        ("cost_per_day", "max_cost_per_day", attempt.cost_today, "money left today"),
    ):
        limit, at, by = _smaller(group, attempt.own, field, key)
        if limit is None:
            continue
        left: float | None = limit - used
        if field == "cost_per_day":
            left = None if tariff is None else tariff.affords_s(limit - used)
        if left is not None and (longest is None or left < longest):
            longest, line, text = left, at, f"{what}{by}"
    if longest is not None:
        chain.append(Step("longest", line, f"the call is ended after {_duration(longest)}: {text}"))
    return longest


# -- small parts -------------------------------------------------------------------------------------------------


def _smaller(group: Group, own: Limits, field: str, key: str) -> tuple[float | None, int, str]:
    """The smaller of a group's and a person's own limit, where it stands, and whose it is when it is the person's."""
    limit, mine = getattr(group.limits, field), getattr(own, field)
    if mine is not None and (limit is None or mine < limit):
        return mine, 0, f" ({OWN})"
    return limit, group.line(key) if limit is not None else 0, ""


def _limits(group: Group, own: Limits) -> Limits:
    """The smaller of each of a group's and a person's own limits."""
    if own == NO_LIMITS:
        return group.limits
    pairs = ((field, getattr(group.limits, field), getattr(own, field)) for field in LIMIT_FIELDS)
    return Limits(
        **{field: min((each for each in (one, other) if each is not None), default=None) for field, one, other in pairs}
    )


def _what(entry: Entry, name: str) -> str:
    return name if entry.text == name else f"'{entry.text}'"


def _kind(entry: Entry, name: str) -> str:
    return f"{name.capitalize()} numbers are" if entry.text == name else "This number is"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"
