"""What people usually do, and what looks like a stolen account: countries, expensive calls, hours, failures.

Pure: what happened and when goes in, findings come out; `warden.py` acts on them. Memory is bounded in people and in
what is kept of each. Emergency calls are never looked at.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo

from nomad.config import Fraud, Watch
from nomad.edge.policy import EMERGENCY
from nomad.ports import Cdr

MAX_PEOPLE = 50_000  # the longest unseen are forgotten first
MAX_PLACES = 16  # of a person
MAX_CLASSES = 32
SAME_NUMBER = 2  # so many times the usual numbers at once may be calls, when some are to the same number
MAX_RECENT = 500  # calls or failures of a person in a window
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not look like the person. `rule` is a fixed word, the name of its table in [fraud]."""

    rule: str
    why: str


@dataclass(frozen=True, slots=True)
class Dialled:
    """A call that the policy allows and that is about to be made."""

    user: str
    number: str
    number_class: str
    at: float  # Unix seconds
    live: Sequence[str] = ()  # numbers of expensive classes that the person is calling at this moment
    transferred: bool = False  # the PBX will call in the person's stead: nobody here sees how long


@dataclass(slots=True)
class _Person:
    places: dict[str, float] = field(default_factory=dict)  # country -> last seen
    classes: frozenset[str] = frozenset()  # one object for all who never called
    hours: int = 0  # one bit for each hour of a working day, then of a day of the weekend
    calls: int = 0
    since: float = 0.0  # first call that is known of
    recent: dict[str, deque[tuple[float, str]]] = field(default_factory=dict)  # rule -> when and what


class Habits:
    """Remembers people; one per edge."""

    def __init__(self, table: Fraud, timezone: tzinfo | None = None) -> None:
        self.table = table  # this and the time zone are replaced by a reload
        self.timezone = timezone
        self._people: OrderedDict[str, _Person] = OrderedDict()

    def __len__(self) -> int:
        return len(self._people)

    def person(self, login: str) -> str:
        """Whom a phone logs in as, by name, address or device login; "" for nobody who was ever here."""
        local = login.partition("@")[0]
        names = (login, login.lower(), local, local.lower(), local.lower().partition("+")[0])
        return next((name for name in names if name in self._people), "")

    def learn(self, records: Iterable[Cdr], place_of: Callable[[str], str | None]) -> None:
        """Take call records of earlier days for habit; `place_of` gives the country of an address."""
        for record in records:
            if record.direction != "out" or record.result == "refused":
                continue
            self._note(record.user, record.number_class, record.started_at)
            if place := place_of(record.peer):
                self._visit(self._person(record.user), place, record.started_at)

    def login(self, user: str, place: str | None, at: float) -> Finding | None:
        """A person logged in from a country, None where that is not known."""
        person = self._person(user)
        if not place:
            return None
        known = person.places
        new = bool(known) and place not in known
        self._visit(person, place, at)
        if not new or not self.table.new_country.actions:
            return None
        return Finding(
            "new_country", f"logged in from {place}, before from {', '.join(sorted(known.keys() - {place}))}"
        )

    def dialled(self, call: Dialled) -> list[Finding]:
        """A person is about to call; what is found is found before the call is made."""
        if call.number_class == EMERGENCY:
            return []
        looks = (self._parallel, self._unusual) if call.number_class in self.table.expensive else ()
        findings = [finding for look in looks if (finding := look(call)) is not None]
        if looks and call.transferred:
            findings += self._transferred(call)
        self._note(call.user, call.number_class, call.at)
        return findings

    def ended(self, record: Cdr) -> Finding | None:
        """A call of a person ended, or was refused by the policy."""
        if record.direction != "out" or record.number_class == EMERGENCY:
            return None
        if record.rule.startswith("fraud-"):
            return None  # our own doing
        if record.result == "refused":
            what = f"{record.number_class or 'unknown'} number refused: {record.rule}"
            return self._count("refused_calls", record.user, record.ended_at, what, "calls refused by the policy")
        if record.number_class not in self.table.expensive or record.duration_s >= self.table.short_call_s:
            return None
        number = record.number or record.callee
        if record.answered_at is None and self._has("short_calls", record.user, record.ended_at, number):
            return None  # who tries again until somebody answers makes one call
        text = f"calls shorter than {self.table.short_call_s:g} s to expensive numbers"
        return self._count("short_calls", record.user, record.ended_at, number, text)

    def failed(self, user: str, at: float) -> Finding | None:
        """Credentials in the name of a `person` were refused."""
        return self._count("failures", user, at, "", "refused logins")

    # -- rules ---------------------------------------------------------------------------------------------------

    def _parallel(self, call: Dialled) -> Finding | None:
        watch = self.table.destinations
        if not watch.actions:
            return None
        calls = [*call.live, *(number for _, number in self._recent("destinations", call.user, call.at)), call.number]
        count, most = len(set(calls)), watch.limit
        if count > most:
            return Finding("destinations", f"{count} expensive numbers at once, {most} are usual")
        if len(calls) > SAME_NUMBER * most:  # some, because a phone that lost its call dials again
            return Finding("destinations", f"{len(calls)} expensive calls at once, {SAME_NUMBER * most} are usual")
        return None

    def _transferred(self, call: Dialled) -> list[Finding]:
        """A transfer counts as going on for a while, and as a short call: it may be either."""
        if self.table.destinations.actions:
            self._recent("destinations", call.user, call.at).append((call.at, call.number))
        text = "transfers and short calls to expensive numbers"
        finding = self._count("short_calls", call.user, call.at, call.number, text)
        return [] if finding is None else [finding]

    def _unusual(self, call: Dialled) -> Finding | None:
        """Only for who was seen often and long enough that there is a habit."""
        person = self._people.get(call.user)
        table = self.table
        if not table.unusual.actions or person is None:
            return None
        if person.calls < table.learn_calls or call.at - person.since < table.learn_days * DAY_S:
            return None
        if call.number_class not in person.classes:
            return Finding("unusual", f"first call ever to a number of class {call.number_class}")
        hour = self._hour(call.at)
        day = hour // 24 * 24
        near = sum(1 << (day + (hour + step) % 24) for step in (-1, 0, 1))
        if not person.hours & near:
            return Finding("unusual", f"never called around {hour % 24}:00 before")
        return None

    # -- memory --------------------------------------------------------------------------------------------------

    def _count(self, rule: str, user: str, at: float, what: str, text: str) -> Finding | None:
        """One more; when it is one too many the count begins anew."""
        watch: Watch = getattr(self.table, rule)
        if not watch.actions:
            return None
        recent = self._recent(rule, user, at)
        recent.append((at, what))
        if len(recent) < watch.limit:
            return None
        last = recent[-1][1]
        recent.clear()
        return Finding(
            rule, f"{watch.limit} {text} within {watch.within_s:g} s" + (f", the last {last}" if last else "")
        )

    def _has(self, rule: str, user: str, at: float, what: str) -> bool:
        return any(each == what for _, each in self._recent(rule, user, at))

    def _recent(self, rule: str, user: str, at: float) -> deque[tuple[float, str]]:
        watch: Watch = getattr(self.table, rule)
        recent = self._person(user).recent.setdefault(rule, deque(maxlen=MAX_RECENT))
        while recent and recent[0][0] <= at - watch.within_s:
            recent.popleft()
        return recent

    def _note(self, user: str, number_class: str, at: float) -> None:
        person = self._person(user)
        person.calls += 1
        person.since = min(person.since or at, at)
        person.hours |= 1 << self._hour(at)
        if len(person.classes) < MAX_CLASSES:
            person.classes |= {number_class}

    def _hour(self, at: float) -> int:
        local = datetime.fromtimestamp(at, self.timezone)
        return local.hour + (24 if local.weekday() >= 5 else 0)

    def _visit(self, person: _Person, place: str, at: float) -> None:
        places = person.places
        places[place] = max(at, places.get(place, 0.0))
        if len(places) > MAX_PLACES:
            del places[min(places, key=places.__getitem__)]

    def _person(self, user: str) -> _Person:
        person = self._people.get(user)
        if person is None:
            person = self._people[user] = _Person()
            if len(self._people) > MAX_PEOPLE:
                self._people.popitem(last=False)
        else:
            self._people.move_to_end(user)
        return person
