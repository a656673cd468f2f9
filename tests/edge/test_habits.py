"""What looks like a stolen account, and what does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nomad.config import Fraud, Watch
from nomad.edge import habits as module
from nomad.edge.habits import Dialled, Finding, Habits
from nomad.ports import Cdr
from tests.stores.samples import cdr

MONDAY = datetime(2026, 11, 23, 10, 30, tzinfo=UTC).timestamp()
DAY, HOUR = 86_400.0, 3600.0
ALL = ("lock",)


def watching(**rules: Watch) -> Habits:
    """Only these rules."""
    off = dict.fromkeys(
        ("new_country", "short_calls", "destinations", "unusual", "failures", "refused_calls"), Watch(actions=())
    )
    table = Fraud(learn_calls=3, learn_days=2, **{**off, **rules})  # type: ignore[arg-type]  # only rules are in there
    return Habits(table, UTC)


def nowhere(address: str) -> str | None:
    return None


def call(number: str = "+4490", *, at: float = MONDAY, kind: str = "premium", live: tuple[str, ...] = ()) -> Dialled:
    return Dialled("alice", number, kind, at, live)


def ended(number: str, at: float, seconds: float = 5.0, **more: object) -> Cdr:
    answered = at - seconds if seconds else None
    plain = replace(
        cdr(1),
        direction="out",
        user="alice",
        number=number,
        number_class="premium",
        started_at=at - seconds - 3,
        answered_at=answered,
        ended_at=at,
        duration_s=seconds,
        result="answered" if seconds else "no-answer",
        rule="",
    )
    return replace(plain, **more)  # type: ignore[arg-type]


# -- countries


def test_a_country_that_the_person_was_never_in() -> None:
    habits = watching(new_country=Watch(actions=ALL))
    assert habits.login("alice", "FR", MONDAY) is None  # nothing was known
    assert habits.login("alice", "FR", MONDAY) is None
    assert habits.login("alice", None, MONDAY) is None
    assert habits.login("bob", "US", MONDAY) is None
    assert habits.login("alice", "US", MONDAY) == Finding("new_country", "logged in from US, before from FR")
    assert habits.login("alice", "US", MONDAY) is None  # known by now


def test_countries_are_learned_from_call_records() -> None:
    habits = watching(new_country=Watch(actions=ALL))
    habits.learn([ended("+4490", MONDAY, peer="192.0.2.1")], {"192.0.2.1": "DE"}.get)
    assert habits.login("alice", "DE", MONDAY) is None
    assert habits.login("alice", "US", MONDAY) is not None


def test_a_traveller_s_countries_are_bounded_the_oldest_go() -> None:
    habits = watching(new_country=Watch(actions=ALL))
    for number in range(100):
        habits.login("alice", f"C{number}", MONDAY + number)
    assert habits.login("alice", "C99", MONDAY + 100) is None
    assert habits.login("alice", "C0", MONDAY + 100) is not None


# -- short calls


def test_many_short_expensive_calls() -> None:
    habits = watching(short_calls=Watch(actions=ALL, limit=3, within_s=60))
    assert [habits.ended(ended(f"+4490{n}", MONDAY + n)) is None for n in range(3)] == [True, True, False]
    assert habits.ended(ended("+44909", MONDAY + 9)) is None  # the count begins anew


@pytest.mark.parametrize(
    "record",
    [
        ended("+4490", MONDAY, seconds=31.0),
        ended("1000", MONDAY, number_class="internal"),
        ended("+4490", MONDAY, direction="in"),
        ended("112", MONDAY, number_class="emergency"),
    ],
)
def test_calls_that_are_long_cheap_or_not_the_person_s_do_not_count(record: Cdr) -> None:
    habits = watching(short_calls=Watch(actions=ALL, limit=1))
    assert habits.ended(record) is None


def test_calls_apart_in_time_do_not_count() -> None:
    habits = watching(short_calls=Watch(actions=ALL, limit=2, within_s=60))
    assert habits.ended(ended("+4490", MONDAY)) is None
    assert habits.ended(ended("+4490", MONDAY + 61)) is None


def test_who_tries_a_busy_number_again_and_again_is_no_thief() -> None:
    habits = watching(short_calls=Watch(actions=ALL, limit=3, within_s=600))
    assert all(habits.ended(ended("+4490", MONDAY + n, seconds=0.0)) is None for n in range(50))
    assert habits.ended(ended("+4491", MONDAY + 51, seconds=0.0)) is None
    assert habits.ended(ended("+4492", MONDAY + 52, seconds=0.0)) is not None


# -- many at once


def test_many_expensive_destinations_at_once() -> None:
    habits = watching(destinations=Watch(actions=ALL, limit=3))
    assert habits.dialled(call("+4493", live=("+4491", "+4492"))) == []
    assert habits.dialled(call("+4493", live=("+4491", "+4492", "+4493"))) == []  # the same number twice
    (finding,) = habits.dialled(call("+4494", live=("+4491", "+4492", "+4493")))
    assert (finding.rule, finding.why) == ("destinations", "4 expensive numbers at once, 3 are usual")
    assert habits.dialled(call("1000", kind="internal", live=("1", "2", "3", "4"))) == []


def test_many_calls_at_once_to_one_number() -> None:
    """The number of a thief's partner earns by the minute: the same one many times is what pays."""
    habits = watching(destinations=Watch(actions=ALL, limit=3))
    assert habits.dialled(call("+4491", live=5 * ("+4491",))) == []  # a phone that lost its call dials again
    (finding,) = habits.dialled(call("+4491", live=6 * ("+4491",)))
    assert finding.why == "7 expensive calls at once, 6 are usual"


def test_a_transfer_goes_on_for_a_while_and_counts_as_a_short_call() -> None:
    watch = Watch(actions=ALL, limit=3, within_s=600)
    habits = watching(destinations=watch, short_calls=watch)

    def transfer(number: str, at: float) -> list[str]:
        return [found.rule for found in habits.dialled(replace(call(number, at=at), transferred=True))]

    assert [transfer("+4491", MONDAY + n) for n in range(2)] == [[], []]
    assert transfer("+4491", MONDAY + 2) == ["short_calls"]
    assert transfer("+4492", MONDAY + 590) == []
    assert [found.rule for found in habits.dialled(call("+4494", at=MONDAY + 591, live=("+4493",)))] == ["destinations"]
    assert habits.dialled(call("+4494", at=MONDAY + 603, live=("+4493",))) == []  # the first have passed


# -- habit


def accustomed() -> Habits:
    habits = watching(unusual=Watch(actions=ALL))
    for day in (7, 6, 5, 4, 3):
        habits.learn([ended("+4490", MONDAY - day * DAY, number_class="premium")], nowhere)
    return habits


def test_within_habit() -> None:
    habits = accustomed()
    assert habits.dialled(call(at=MONDAY)) == []
    assert habits.dialled(call(at=MONDAY + HOUR)) == []  # an hour later is the same habit


def test_an_hour_never_used() -> None:
    (finding,) = accustomed().dialled(call(at=MONDAY - 7 * HOUR))
    assert (finding.rule, finding.why) == ("unusual", "never called around 3:00 before")
    (weekend,) = watching_weekdays().dialled(call(at=MONDAY + 5 * DAY))
    assert weekend.rule == "unusual"


def watching_weekdays() -> Habits:
    habits = watching(unusual=Watch(actions=ALL))
    for day in range(5):
        habits.learn([ended("+4490", MONDAY - 7 * DAY + day * DAY)], nowhere)
    return habits


def test_a_class_never_used() -> None:
    (finding,) = accustomed().dialled(call(kind="international"))
    assert finding.why == "first call ever to a number of class international"


def test_cheap_calls_and_new_people_have_no_habit() -> None:
    assert accustomed().dialled(call(at=MONDAY - 7 * HOUR, kind="national")) == []
    habits = watching(unusual=Watch(actions=ALL))
    for hour in range(10):
        assert habits.dialled(call(at=MONDAY + hour * HOUR)) == []


# -- failures and refusals


def test_refused_logins_of_people_that_are_known() -> None:
    habits = watching(failures=Watch(actions=ALL, limit=3))
    assert habits.person("alice") == ""  # nobody of that name was ever here
    habits.login("alice", None, MONDAY)
    habits.login("Zoe", None, MONDAY)
    logins = ["alice", "alice+desk@inria.example", "Alice@inria.example"]
    assert [habits.person(login) for login in logins] == ["alice"] * 3
    assert habits.person("Zoe@inria.example") == "Zoe"
    assert [habits.failed("alice", MONDAY) is None for _ in range(3)] == [True, True, False]


def test_calls_that_the_policy_refused() -> None:
    habits = watching(refused_calls=Watch(actions=ALL, limit=2))
    refused = ended("+4490", MONDAY, seconds=0.0, result="refused", rule="class")
    assert habits.ended(refused) is None
    assert habits.ended(refused) is not None
    ours = replace(refused, rule="fraud-destinations")
    assert [habits.ended(ours) for _ in range(5)] == [None] * 5


# -- always


def test_emergency_calls_are_never_looked_at() -> None:
    rule = Watch(actions=ALL, limit=1)
    habits = Habits(
        Fraud(expensive=("emergency",), short_calls=rule, destinations=rule, unusual=rule, refused_calls=rule), UTC
    )
    assert habits.dialled(call("112", kind="emergency", live=("1", "2", "3"))) == []
    assert habits.ended(ended("112", MONDAY, number_class="emergency")) is None


def test_rules_without_actions_are_not_watched() -> None:
    habits = watching()
    habits.login("alice", "FR", MONDAY)
    assert habits.login("alice", "US", MONDAY) is None
    assert habits.dialled(call(live=tuple("123456789"))) == []
    assert habits.ended(ended("+4490", MONDAY)) is None
    assert habits.failed("alice", MONDAY) is None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PEOPLE", 10)
    habits = watching(short_calls=Watch(actions=ALL, limit=500))
    for number in range(100):
        habits.login(f"user{number}", None, MONDAY)
    assert len(habits) == 10
    assert habits.person("user99")
    assert not habits.person("user0")
    for number in range(5000):
        habits.ended(ended(f"+44{number}", MONDAY, user="user99"))
    person = habits._people["user99"]
    assert len(person.recent["short_calls"]) <= 500
