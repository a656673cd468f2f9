"""The verdict on a call: identity, called number, circumstances and ruleset give an answer, with the reasons.

Pure; the live edge and `nomad policy explain` call the same function. Counting and clocks are the caller's. A deny wins
over every allow, what no rule allows is denied, and an emergency number is refused by nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import NamedTuple

from nomad.edge.policy.numbers import EMERGENCY, Entry, Found
from nomad.edge.policy.places import address_of
from nomad.edge.policy.ruleset import LOCAL, Group, Membership, Ruleset, Tariff
from nomad.edge.policy.verdict import Attempt, Direction, Note, Verdict
from nomad.ports import NO_LIMITS, Limits

FORBIDDEN = 403
UNAVAILABLE = 480  # RFC 3261 21.4.18; tells a stranger no more than that nobody is there
NOT_ACCEPTABLE = 488  # RFC 3261 21.4.26: the phone may try again with other media
OK = 200
BY_RADIUS = " (by RADIUS)"  # whose limit it is when it does not stand in the policy
LIMIT_FIELDS = tuple(field.name for field in fields(Limits))


class Refused(NamedTuple):
    """What a check found against a call: the note that says so, and the phrase for the user."""

    note: Note
    reason: str
    status: int = FORBIDDEN


class Bounds(NamedTuple):
    """The limits that count for a person; those named in `own` are the person's and stand in no file."""

    limits: Limits
    own: frozenset[str]
    group: Group

    def where(self, field: str, key: str) -> tuple[int, str]:
        """The line of a limit, and whose it is when it is the person's."""
        return (0, BY_RADIUS) if field in self.own else (self.group.lines[key], "")


NOTHING_OWN: frozenset[str] = frozenset()


def find_group(ruleset: Ruleset, user: str, groups: Sequence[str], classes: Sequence[bytes]) -> Group | None:
    """The first group of the file that matches the person."""
    found = ruleset.people.find(user, groups, classes)
    return found.group if found else None


def decide(ruleset: Ruleset, attempt: Attempt) -> Verdict:
    """The verdict on a call for a person; denied unless a rule allows it."""
    found = ruleset.classes.find(attempt.number)
    member = ruleset.people.find(attempt.grant.user, attempt.grant.groups, attempt.grant.classes)
    notes = [_class_note(attempt, found)]
    if attempt.direction is Direction.INTERNET:
        return _verdict(notes, _from_internet(attempt, member, notes), member, found)
    if found.name == EMERGENCY:
        notes.append(("emergency", found.entry.line, "emergency numbers are always allowed", ()))
        return replace(_verdict(notes, None, member, found), dial=attempt.number)
    if member is None:
        note = ("group", 0, "user {}: in no group", (attempt.grant.user,))
        return _verdict(notes, Refused(note, "No policy group for you"), None, found)
    group = member.group
    notes.append(_member_note(attempt, member))
    tariff = ruleset.tariffs.get(found.name)
    bounds = _bounds(group, attempt.grant.limits)
    refused = (
        _numbers(ruleset, attempt, found, group, notes)
        or _forwarding(attempt, found, group, notes)
        or _place(attempt, group, notes)
        or _connection(attempt, group, notes)
        or _hours(ruleset, attempt, group, notes)
        or _counts(attempt, bounds, notes)
        or _minutes(attempt, bounds, notes)
        or _money(attempt, bounds, tariff, notes)
    )
    if refused:
        return _verdict(notes, refused, member, found)
    longest = _longest(attempt, bounds, tariff, notes)
    return Verdict(
        allowed=True,
        group=group.name,
        number_class=found.name,
        rule="",
        reason="",
        notes=tuple(notes),
        number=found.number,
        status=OK,
        max_call_s=longest,
        tariff=tariff,
        limits=group.limits,
        encrypted=_needs_encryption(attempt, group),
        dial=found.dial or attempt.number,
    )


def _verdict(notes: list[Note], refused: Refused | None, member: Membership | None, found: Found) -> Verdict:
    group = member.group.name if member else ""
    if refused is None:
        return Verdict(True, group, found.name, "", "", tuple(notes), found.number, OK)
    note, reason, status = refused
    return Verdict(False, group, found.name, note[0], reason, (*notes, note), found.number, status)


def _class_note(attempt: Attempt, found: Found) -> Note:
    dialled = attempt.number
    number = dialled if found.number == dialled else f"{dialled} is {found.number}"
    if not found.name:
        return ("class", 0, "number {}: in no class", (number,))
    return ("class", found.entry.line, "number {}: class {}, by '{}'", (number, found.name, found.entry.text))


def _member_note(attempt: Attempt, member: Membership) -> Note:
    values = (attempt.grant.user, member.group.name, member.by)
    return ("group", member.group.lines["match"], "user {}: group {}, by {}", values)


# -- checks, in the order in which they are asked: each adds its notes, or gives what refuses ------------------------


def _from_internet(attempt: Attempt, member: Membership | None, notes: list[Note]) -> Refused | None:
    reason = ""  # the standard phrase: a stranger learns nothing about people
    if member is None:
        return Refused(("group", 0, "user {}: in no group", (attempt.grant.user,)), reason, UNAVAILABLE)
    group = member.group
    notes.append(_member_note(attempt, member))
    line = group.lines["from_internet"]
    if not group.from_internet:
        note = ("from_internet", line, "group {} is not called from the Internet", (group.name,))
        return Refused(note, reason, UNAVAILABLE)
    notes.append(("from_internet", line, "group {} may be called from the Internet", (group.name,)))
    return None


def _numbers(ruleset: Ruleset, attempt: Attempt, found: Found, group: Group, notes: list[Note]) -> Refused | None:
    name = found.name
    if not found.exists:
        note: Note = ("class", 0, "no number of any country has more than 15 digits, '*' or '#', or begins with 0", ())
        return Refused(note, "Number not allowed: there is no such number")
    if ruleset.deny and (entry := ruleset.deny.find(found)):
        note = ("deny", entry.line, "nobody may call {}", (_what(entry, name),))
        return Refused(note, f"{_kind(entry, name)} not allowed")
    if group.deny and (entry := group.deny.find(found)):
        note = ("deny", entry.line, "group {} denies {}", (group.name, _what(entry, name)))
        return Refused(note, f"{_kind(entry, name)} not allowed for group {group.name}")
    if entry := group.allow.find(found):
        notes.append(("allow", entry.line, "group {} allows {}", (group.name, _what(entry, name))))
    elif entry := ruleset.allow.find(found):
        notes.append(("allow", entry.line, "every group allows {}", (_what(entry, name),)))
    elif not name:
        return Refused(("class", 0, "a number in no class is denied", ()), "Number not allowed: unknown kind of number")
    else:
        allowed = ", ".join(sorted({*group.allow.texts, *ruleset.allow.texts})) or "nothing"
        note = ("class", group.lines["allow"], "group {} allows {}", (group.name, allowed))
        return Refused(note, f"{name.capitalize()} numbers are not allowed for group {group.name}")
    if attempt.grant.allowed_classes and name not in attempt.grant.allowed_classes:
        text = "user {} may call {} only{}"
        note = ("own", 0, text, (attempt.grant.user, ", ".join(attempt.grant.allowed_classes), BY_RADIUS))
        return Refused(note, f"{name.capitalize() or 'These'} numbers are not allowed for you")
    return None


def _forwarding(attempt: Attempt, found: Found, group: Group, notes: list[Note]) -> Refused | None:
    if attempt.direction is not Direction.FORWARD:
        return None
    if group.forward is not None:
        entry = group.forward.find(found)
        if entry is None:
            listed = ", ".join(group.forward.texts) or "nothing"
            note: Note = ("forward", group.lines["forward"], "group {} forwards to {}", (group.name, listed))
            return Refused(note, f"Group {group.name} may not forward to this number")
        notes.append(("forward", entry.line, "group {} forwards to {}", (group.name, _what(entry, found.name))))
    else:  # it goes on record that the call was sent on
        notes.append(("forward", 0, "group {} forwards to all that it may call", (group.name,)))
    limit = group.max_forwarded_calls
    if limit is not None:
        count, line = attempt.forwarded_calls, group.lines["max_forwarded_calls"]
        note = ("forwarded", line, "{} of {} forwarded calls in progress", (count, limit))
        if count >= limit:
            return Refused(note, _too_many(count, limit, "forwarded call"))
        notes.append(note)
    return None


def _place(attempt: Attempt, group: Group, notes: list[Note]) -> Refused | None:
    if not group.networks and not group.countries:
        return None
    source = attempt.source or "not known"
    address = address_of(attempt.source)
    if group.networks:
        line = group.lines["networks"]
        network = "" if address is None else group.networks.find(address)
        if not network:
            note: Note = ("networks", line, "source {} is in no allowed network", (source,))
            return Refused(note, "Calls from this network are not allowed")
        notes.append(("networks", line, "source {} is in {}", (source, network)))
    if group.countries:
        local = LOCAL if address is not None and not address.is_global else ""
        country = attempt.country or local
        note = ("countries", group.lines["countries"], "source {} is in {}", (source, country or "no known country"))
        if country not in group.countries:
            return Refused(note, "Calls from this country are not allowed")
        notes.append(note)
    return None


def _connection(attempt: Attempt, group: Group, notes: list[Note]) -> Refused | None:
    if group.transports:
        line, by = group.lines["transports"], attempt.transport or "unknown"
        if attempt.transport not in group.transports:
            listed = ", ".join(sorted(group.transports))
            note: Note = ("transports", line, "the phone is connected by {}, not by {}", (by, listed))
            return Refused(note, f"Calls over {by.upper()} are not allowed; connect by {listed.upper()}")
        notes.append(("transports", line, "the phone is connected by {}", (by,)))
    if _needs_encryption(attempt, group):
        line = group.lines["media_encryption"]
        if not attempt.encrypted_media:
            note = ("media_encryption", line, "the media offered are not all encrypted", ())
            return Refused(note, "Calls need encrypted media (SRTP)", NOT_ACCEPTABLE)
        notes.append(("media_encryption", line, "the media offered are encrypted", ()))
    return None


def _needs_encryption(attempt: Attempt, group: Group) -> bool:
    """A phone that sends a call on offers no media."""
    return group.media_encryption and attempt.direction is not Direction.FORWARD


def _hours(ruleset: Ruleset, attempt: Attempt, group: Group, notes: list[Note]) -> Refused | None:
    if not group.hours:
        return None
    line = group.lines["hours"]
    today, yesterday, minute, when = ruleset.calendar.at(attempt.at)
    for hours in group.hours:
        if hours.covers(today, yesterday, minute):
            notes.append(("hours", line, "{} is within {}", (when, hours.text)))
            return None
    listed = "; ".join([hours.text for hours in group.hours])
    return Refused(("hours", line, "{} is outside {}", (when, listed)), f"Calls are allowed {listed} only")


def _counts(attempt: Attempt, bounds: Bounds, notes: list[Note]) -> Refused | None:
    limit = bounds.limits.concurrent_calls
    if limit is not None:
        count = attempt.active_calls
        line, by = bounds.where("concurrent_calls", "max_concurrent_calls")
        note: Note = ("concurrent", line, "{} of {} calls in progress{}", (count, limit, by))
        if count >= limit:
            return Refused(note, _too_many(count, limit, "call"))
        notes.append(note)
    limit = bounds.limits.calls_per_hour
    if limit is not None:
        count = attempt.used.calls_last_hour
        line, by = bounds.where("calls_per_hour", "max_calls_per_hour")
        note = ("per_hour", line, "{} of {} calls within the last hour{}", (count, limit, by))
        if count >= limit:
            return Refused(note, f"Your {limit} calls of this hour are used up")
        notes.append(note)
    return None


def _minutes(attempt: Attempt, bounds: Bounds, notes: list[Note]) -> Refused | None:
    limit = bounds.limits.seconds_per_day
    if limit is not None:
        used = attempt.used.seconds_today
        line, by = bounds.where("seconds_per_day", "max_minutes_per_day")
        note: Note = ("minutes", line, "{:.0f} of {:.0f} minutes used today{}", (used / 60, limit / 60, by))
        if used >= limit:
            return Refused(note, f"Your {limit / 60:.0f} minutes of today are used up")
        notes.append(note)
    limit = bounds.limits.seconds_per_month
    if limit is not None:
        used = attempt.used.seconds_this_month
        line, by = bounds.where("seconds_per_month", "max_minutes_per_month")
        note = ("month", line, "{:.0f} of {:.0f} minutes used this month{}", (used / 60, limit / 60, by))
        if used >= limit:
            return Refused(note, f"Your {limit / 60:.0f} minutes of this month are used up")
        notes.append(note)
    return None


def _money(attempt: Attempt, bounds: Bounds, tariff: Tariff | None, notes: list[Note]) -> Refused | None:
    """Calls that cost nothing are not refused for want of money."""
    limit = bounds.limits.cost_per_day
    if limit is None or tariff is None:
        return None
    line, by = bounds.where("cost_per_day", "max_cost_per_day")
    note: Note = ("cost", line, "{:.2f} of {:.2f} spent today{}", (attempt.used.cost_today, limit, by))
    if attempt.used.cost_today >= limit:
        return Refused(note, f"Your {limit:.2f} of today are used up")
    if attempt.used.cost_today + tariff.setup >= limit:
        return Refused(note, f"What is left of your {limit:.2f} of today is too little for this call")
    notes.append(note)
    return None


def _longest(attempt: Attempt, bounds: Bounds, tariff: Tariff | None, notes: list[Note]) -> float | None:
    """How long the call may last: by the longest call, or by what is left of minutes and money."""
    limits = bounds.limits
    longest, field, key, what = limits.call_s, "call_s", "max_call_minutes", "longest call"
    if limits.seconds_per_day is not None:
        left = limits.seconds_per_day - attempt.used.seconds_today
        if longest is None or left < longest:
            longest, field, key, what = left, "seconds_per_day", "max_minutes_per_day", "minutes left today"
    if limits.seconds_per_month is not None:
        left = limits.seconds_per_month - attempt.used.seconds_this_month
        if longest is None or left < longest:
            longest, field, key, what = left, "seconds_per_month", "max_minutes_per_month", "minutes left this month"
    if limits.cost_per_day is not None and tariff is not None:
        affordable = tariff.affords_s(limits.cost_per_day - attempt.used.cost_today)
        if affordable is not None and (longest is None or affordable < longest):
            longest, field, key, what = affordable, "cost_per_day", "max_cost_per_day", "money left today"
    if longest is not None:
        line, by = bounds.where(field, key)
        minutes, seconds = divmod(round(longest), 60)
        text = "the call is ended after {} min {} s: {}{}" if seconds else "the call is ended after {0} min: {2}{3}"
        notes.append(("longest", line, text, (minutes, seconds, what, by)))
    return longest


# -- small parts -------------------------------------------------------------------------------------------------


def _bounds(group: Group, own: Limits) -> Bounds:
    """The group's limits, and of each the person's own where that is smaller."""
    if own is NO_LIMITS or own == NO_LIMITS:
        return Bounds(group.limits, NOTHING_OWN, group)
    values, mine = {}, set()
    for field in LIMIT_FIELDS:
        limit, personal = getattr(group.limits, field), getattr(own, field)
        if personal is not None and (limit is None or personal < limit):
            mine.add(field)
            limit = personal
        values[field] = limit
    return Bounds(Limits(**values), frozenset(mine), group)


def _too_many(count: int, limit: int, what: str) -> str:
    has = f"1 {what}" if count == 1 else f"{count} {what}s"
    return f"You already have {has}; {limit} {'is' if limit == 1 else 'are'} allowed"


def _what(entry: Entry, name: str) -> str:
    return name if entry.text == name else f"'{entry.text}'"


def _kind(entry: Entry, name: str) -> str:
    return f"{name.capitalize()} numbers are" if entry.text == name else "This number is"
