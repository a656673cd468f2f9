"""How much each person has called: minutes of the day and the month, cost of the day, calls within the last hour.

Calls that have ended are sums, which the store adds up at the start. Calls in progress count with what they have come
to so far, and with a whole minute from the verdict on: so of many that begin at once, no more are let in than what is
left will carry. Whoever has used up what was allowed is named by `exhausted`. Pure; the counts are this edge's own.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from typing import NamedTuple

from nomad.edge.agenda import Agenda
from nomad.edge.calls import Call
from nomad.edge.policy import EMERGENCY, NOTHING, Used
from nomad.ports import UsageQuery, UserUsage

RESERVED_S = 60.0  # what a call counts for at least while it is in progress
HOUR_S = 3600.0
DAY_S = 86400.0
MAX_CALLS = 10_000  # calls of one person within an hour that are told apart
RECHECK_S = 5.0  # calls that had to end are looked at again: they may not have
WHOLE = 1e-6  # seconds, or money: what is left when nothing is


class Exhausted(NamedTuple):
    """A call that has to end, by which rule, and the phrase for people."""

    call: Call
    rule: str
    reason: str


class Calendar:
    """When the day and the month of a moment began, in a time zone."""

    def __init__(self, timezone: tzinfo | None) -> None:
        self.timezone = timezone
        self.day = self.month = self.ends = 0.0  # Unix seconds
        self.today = self.first = 0  # ordinals of the dates

    def turn(self, now: float) -> None:
        """Take up the day of `now`; a clock that is set back does not bring an old day back."""
        if now < self.ends:
            return
        today = datetime.fromtimestamp(now, self.timezone).date()
        self.today, self.first = today.toordinal(), today.replace(day=1).toordinal()
        self.day, self.month = self._midnight(today), self._midnight(today.replace(day=1))
        self.ends = self._midnight(today + timedelta(days=1))

    def move(self, timezone: tzinfo | None, now: float) -> None:
        """Another time zone from now on."""
        if timezone != self.timezone:
            self.timezone, self.ends = timezone, 0.0
            self.turn(now)

    def _midnight(self, day: date) -> float:
        """The first moment of a day: of a midnight that comes twice the first, of one that is left out the next."""
        return datetime(day.year, day.month, day.day, tzinfo=self.timezone).timestamp()


@dataclass(slots=True)
class _Tally:
    """What one person has used up, as of a day and a month."""

    today: int
    first: int
    seconds_today: float = 0.0
    seconds_this_month: float = 0.0
    cost_today: float = 0.0
    begun: list[float] = field(default_factory=list)  # calls of the last hour, oldest first
    live: list[Call] = field(default_factory=list)

    @property
    def metered(self) -> bool:
        """Whether time or money of a call in progress may run out."""
        return any(_is_metered(call) for call in self.live)


class Usage:
    """What people's own calls come to. Calls to emergency numbers count for nothing."""

    def __init__(self, timezone: tzinfo | None = None) -> None:
        self._calendar = Calendar(timezone)
        self._tallies: dict[str, _Tally] = {}
        self._checks = Agenda()  # when somebody may have used up everything
        self._swept = 0  # day of the last `forget`

    def __len__(self) -> int:
        return len(self._tallies)

    @property
    def timezone(self) -> tzinfo | None:
        """Of days and months."""
        return self._calendar.timezone

    def move(self, timezone: tzinfo | None, now: float) -> None:
        """Another time zone from now on; what was counted for today stays if that is still today there."""
        self._calendar.move(timezone, now)

    def query(self, now: float) -> UsageQuery:
        """What to ask the store for, to `load` it."""
        self._calendar.turn(now)
        until = now + DAY_S  # the clock may have been set back since
        return UsageQuery(self._calendar.month, self._calendar.day, now - HOUR_S, until, (EMERGENCY,))

    def load(self, usages: Iterable[UserUsage]) -> None:
        """Take over what calls that have ended came to; before any call is begun."""
        for usage in usages:
            tally = self._tally(usage.user)
            tally.seconds_this_month = usage.seconds_month
            tally.seconds_today = usage.seconds_day
            tally.cost_today = usage.cost_day
            tally.begun.extend(usage.calls)

    def begin(self, call: Call, now: float) -> None:
        """A person's own call was allowed, or comes back after a restart; it counts from now on."""
        if call.number_class == EMERGENCY:
            return
        self._calendar.turn(now)
        tally = self._tally(call.user)
        tally.live.append(call)
        _note(tally, call.started_at)
        if call.answered_at is not None and tally.metered:
            self._checks.note(call.user, now)

    def count(self, user: str, now: float) -> None:
        """A call of the hour that the edge does not see: the PBX makes it in the person's stead (RFC 3515)."""
        self._calendar.turn(now)
        _note(self._tally(user), now)

    def answered(self, call: Call, now: float) -> None:
        """The call was answered: it uses up time and money, if it is the user's own."""
        tally = self._tallies.get(call.user)
        if tally is None:
            return
        if call.direction != "out":
            _take_out(tally.live, call)  # it was to be sent on, but a phone took it
        if tally.metered:
            self._checks.note(call.user, now)

    def end(self, call: Call) -> None:
        """The call is over; what it came to stays."""
        tally = self._tallies.get(call.user)
        if tally is None or not _take_out(tally.live, call) or call.answered_at is None or call.ended_at is None:
            return
        self._calendar.turn(call.ended_at)
        today, month, cost = self._share(call, call.ended_at)
        tally = self._fresh(tally)
        tally.seconds_today += today
        tally.seconds_this_month += month
        tally.cost_today += cost

    def of(self, user: str, now: float) -> Used:
        """What counts against a person's limits, with calls in progress."""
        tally = self._tallies.get(user)
        if tally is None:
            return NOTHING
        self._calendar.turn(now)
        tally = self._fresh(tally)
        if tally.begun:
            del tally.begun[: bisect_right(tally.begun, now - HOUR_S)]
        seconds_today, seconds_this_month, cost = tally.seconds_today, tally.seconds_this_month, tally.cost_today
        for call in tally.live:
            if call.answered_at is None or now - call.answered_at < RESERVED_S:
                today = month = RESERVED_S
                money = call.tariff.cost(RESERVED_S) if call.tariff else 0.0
            else:
                today, month, money = self._share(call, now)
            seconds_today += today
            seconds_this_month += month
            cost += money
        return Used(seconds_today, seconds_this_month, cost, len(tally.begun))

    def exhausted(self, now: float) -> list[Exhausted]:
        """Calls that must end, because their user has used up what was allowed for the day or the month."""
        found: list[Exhausted] = []
        for user in self._checks.take(now):
            tally = self._tallies.get(user)
            if tally is not None:
                self._calendar.turn(now)
                found += self._watch(user, self._fresh(tally), now)
        return found

    def forget(self, now: float) -> None:
        """Once a day, drop people for whom nothing counts any more; they may come back."""
        self._calendar.turn(now)
        if self._swept == self._calendar.today:
            return
        self._swept = self._calendar.today
        for user, tally in list(self._tallies.items()):
            used = self.of(user, now)
            if not tally.live and not any(used):
                del self._tallies[user]

    # -- calls in progress ---------------------------------------------------------------------------------------

    def _watch(self, user: str, tally: _Tally, now: float) -> list[Exhausted]:
        """Which calls must end now; and look again when the first of the others may have to."""
        talking = [call for call in tally.live if call.answered_at is not None]
        today, month, cost = tally.seconds_today, tally.seconds_this_month, tally.cost_today
        for call in talking:
            share = self._share(call, now)
            today, month, cost = today + share[0], month + share[1], cost + share[2]
        per_s = sum(call.tariff.per_minute / 60.0 for call in talking if call.tariff)
        found, next_s = [], float("inf")
        for call in talking:
            rule = reason = ""
            per_day, per_month, money = _limits_of(call)
            for limit, used, speed, name, text in (
                (per_day, today, len(talking), "minutes", "minutes of today"),
                (per_month, month, len(talking), "month", "minutes of this month"),
                (money, cost, per_s, "cost", "of today"),
            ):
                if limit is None:
                    continue
                if limit - used <= WHOLE:
                    amount = f"{limit:.2f}" if name == "cost" else f"{limit / 60:.0f}"
                    rule, reason = rule or name, reason or f"Your {amount} {text} are used up"
                elif speed:
                    next_s = min(next_s, (limit - used) / speed)
            if rule:
                found.append(Exhausted(call, rule, reason))
                next_s = min(next_s, RECHECK_S)
        if next_s < float("inf"):
            self._checks.note(user, now + next_s)
        return found

    def _share(self, call: Call, until: float) -> tuple[float, float, float]:
        """Seconds of today and of this month that an answered call comes to, and its cost of today."""
        answered = call.answered_at or until
        seconds = max(0.0, until - answered)
        today = max(0.0, until - max(answered, self._calendar.day))
        month = max(0.0, until - max(answered, self._calendar.month))
        if call.tariff is None:
            return today, month, 0.0
        part = today / seconds if seconds else 1.0
        return today, month, call.tariff.cost(seconds) * part

    # -- tallies -------------------------------------------------------------------------------------------------

    def _tally(self, user: str) -> _Tally:
        tally = self._tallies.get(user)
        if tally is None:
            tally = self._tallies[user] = _Tally(self._calendar.today, self._calendar.first)
        return self._fresh(tally)

    def _fresh(self, tally: _Tally) -> _Tally:
        """The tally, begun anew when its day or month is over."""
        if tally.today != self._calendar.today:
            tally.today, tally.seconds_today, tally.cost_today = self._calendar.today, 0.0, 0.0
            if tally.first != self._calendar.first:
                tally.first, tally.seconds_this_month = self._calendar.first, 0.0
        return tally


def _note(tally: _Tally, began: float) -> None:
    insort(tally.begun, began)
    del tally.begun[:-MAX_CALLS]


def _is_metered(call: Call) -> bool:
    return _limits_of(call) != (None, None, None)


def _limits_of(call: Call) -> tuple[float | None, float | None, float | None]:
    """Seconds of the day and the month, and money: the smaller of the group's limits and the person's own of now."""
    group, own = call.limits, call.grant.limits
    return (
        _smaller(group.seconds_per_day, own.seconds_per_day),
        _smaller(group.seconds_per_month, own.seconds_per_month),
        _smaller(group.cost_per_day, own.cost_per_day) if call.tariff is not None else None,
    )


def _smaller(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def _take_out(calls: list[Call], call: Call) -> bool:
    for place, each in enumerate(calls):
        if each is call:
            del calls[place]
            return True
    return False
