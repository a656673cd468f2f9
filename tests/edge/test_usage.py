"""What counts against somebody: sums, calls in progress, days and months, and who has used up everything."""

from __future__ import annotations

import random
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest

from nomad.edge.calls import Call, CallState, Leg
from nomad.edge.policy import Tariff, Used
from nomad.edge.usage import RESERVED_S, Calendar, Usage
from nomad.ports import Grant, Limits, UserUsage
from nomad.sip.events import Flow

FLOW = Flow("udp", ("192.0.2.1", 5060), ("198.51.100.1", 5060))
NOON = datetime(2027, 1, 15, 12, tzinfo=UTC).timestamp()
PENNY = Tariff(setup=0.0, per_minute=0.6)  # a hundredth a second
_names = iter(range(10**6))


def call(at: float, *, user: str = "alice", **more: object) -> Call:
    made = Call(f"c{next(_names)}", "x", "out", Grant(user), "a@x", "1@x", "national", at, Leg("phone", FLOW))
    for name, value in more.items():
        setattr(made, name, value)
    return made


def pick_up(usage: Usage, each: Call, at: float) -> None:
    each.state, each.answered_at = CallState.ANSWERED, at
    usage.answered(each, at)


def hang_up(usage: Usage, each: Call, at: float) -> None:
    each.state, each.ended_at = CallState.ENDED, at
    usage.end(each)


def talk(usage: Usage, start: float, seconds: float, *, user: str = "alice", **more: object) -> None:
    each = call(start, user=user, **more)
    usage.begin(each, start)
    pick_up(usage, each, start)
    hang_up(usage, each, start + seconds)


def at(zone: tzinfo, *when: int) -> float:
    return datetime(*when, tzinfo=zone).timestamp()  # type: ignore[misc, arg-type]  # year, month, day, ...


def test_calls_add_up() -> None:
    usage = Usage(UTC)
    talk(usage, NOON, 60, tariff=PENNY)
    talk(usage, NOON + 100, 30)
    assert usage.of("alice", NOON + 200) == pytest.approx((90.0, 90.0, 0.6, 2))
    assert usage.of("bob", NOON) == Used()


def test_a_call_counts_a_minute_from_the_verdict_and_then_what_it_lasts() -> None:
    usage = Usage(UTC)
    each = call(NOON, tariff=PENNY)
    usage.begin(each, NOON)
    whole = pytest.approx((RESERVED_S, RESERVED_S, 0.6, 1))
    assert usage.of("alice", NOON + 20) == whole
    pick_up(usage, each, NOON + 20)
    assert usage.of("alice", NOON + 79) == whole
    assert usage.of("alice", NOON + 120) == pytest.approx((100.0, 100.0, 1.0, 1))
    hang_up(usage, each, NOON + 130)
    assert usage.of("alice", NOON + 140) == pytest.approx((110.0, 110.0, 1.1, 1))


def test_a_call_that_nobody_answers_counts_as_a_call_and_no_more() -> None:
    usage = Usage(UTC)
    each = call(NOON, tariff=PENNY)
    usage.begin(each, NOON)
    hang_up(usage, each, NOON + 10)
    hang_up(usage, each, NOON + 10)
    assert usage.of("alice", NOON + 20) == Used(0.0, 0.0, 0.0, 1)


def test_emergency_calls_count_for_nothing() -> None:
    usage = Usage(UTC)
    talk(usage, NOON, 60, number_class="emergency")
    assert usage.of("alice", NOON + 60) == Used()


def test_a_call_to_a_person_that_is_sent_on_counts_only_while_it_may_become_the_persons_own() -> None:
    usage = Usage(UTC)
    each = call(NOON, direction="in")
    usage.begin(each, NOON)
    assert usage.of("alice", NOON + 1).seconds_today == RESERVED_S
    pick_up(usage, each, NOON + 5)  # one of the person's phones, after all
    assert usage.of("alice", NOON + 100).seconds_today == 0
    hang_up(usage, each, NOON + 200)
    assert usage.of("alice", NOON + 200).seconds_today == 0


def test_the_hour_slides() -> None:
    usage = Usage(UTC)
    for minute in (0, 10, 20):
        talk(usage, NOON + minute * 60, 1)
    assert [usage.of("alice", NOON + minute * 60).calls_last_hour for minute in (30, 59, 60, 71, 81)] == [3, 3, 2, 1, 0]


def test_a_transfer_counts_as_a_call_of_the_hour() -> None:
    usage = Usage(UTC)
    usage.count("alice", NOON)
    assert usage.of("alice", NOON + 1) == Used(0.0, 0.0, 0.0, 1)


def test_calls_of_an_hour_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nomad.edge.usage.MAX_CALLS", 5)
    usage = Usage(UTC)
    for second in range(9):
        talk(usage, NOON + second, 0.5)
    assert usage.of("alice", NOON + 10).calls_last_hour == 5


def test_a_call_over_midnight_belongs_to_both_days() -> None:
    usage = Usage(UTC)
    midnight = at(UTC, 2027, 1, 16)
    each = call(midnight - 600, tariff=PENNY)
    usage.begin(each, midnight - 600)
    pick_up(usage, each, midnight - 600)
    assert usage.of("alice", midnight - 1).seconds_today == 599
    assert usage.of("alice", midnight + 10) == pytest.approx((10.0, 610.0, 0.1, 1))
    hang_up(usage, each, midnight + 60)
    assert usage.of("alice", midnight + 70) == pytest.approx((60.0, 660.0, 0.6, 1))


def test_a_new_month_begins_anew() -> None:
    usage = Usage(UTC)
    first = at(UTC, 2027, 2, 1)
    talk(usage, first - 100, 50)
    each = call(first - 30)
    usage.begin(each, first - 30)
    pick_up(usage, each, first - 30)
    assert usage.of("alice", first - 10).seconds_this_month == 50 + RESERVED_S
    hang_up(usage, each, first + 40)
    assert usage.of("alice", first + 50) == Used(40.0, 40.0, 0.0, 2)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Paris", (2026, 3, 29), 23),  # the clocks go forward
        ("Europe/Paris", (2026, 10, 25), 25),  # and back
        ("Africa/Cairo", (2026, 4, 24), 23),  # there is no midnight: the day begins at 01:00
        ("America/Havana", (2026, 11, 1), 25),  # midnight comes twice: the day begins with the first
        ("UTC", (2026, 12, 31), 24),
    ],
)
def test_days_are_as_long_as_they_are(zone: str, day: tuple[int, int, int], hours: int) -> None:
    calendar = Calendar(ZoneInfo(zone))
    noon = at(ZoneInfo(zone), *day, 12)
    calendar.turn(noon)
    assert calendar.ends - calendar.day == hours * 3600
    began, ended = calendar.day, calendar.ends
    for moment in (began, began + 1, began + 3599, began + 3601, ended - 1):
        again = Calendar(ZoneInfo(zone))
        again.turn(moment)
        assert (again.day, again.ends) == (began, ended)
    calendar.turn(ended)
    assert (calendar.day, calendar.today) == (ended, datetime(*day).toordinal() + 1)


def test_a_clock_that_is_set_back_brings_no_old_day_back() -> None:
    usage = Usage(UTC)
    midnight = at(UTC, 2027, 1, 16)
    talk(usage, midnight + 5, 50)
    assert usage.of("alice", midnight - 5).seconds_today == 50
    assert usage.of("alice", midnight + 60).seconds_today == 50


def test_another_time_zone_keeps_what_is_of_today_there_too() -> None:
    usage = Usage(UTC)
    talk(usage, NOON, 60)
    usage.move(ZoneInfo("Europe/Paris"), NOON + 100)
    assert str(usage.timezone) == "Europe/Paris"
    assert usage.of("alice", NOON + 100).seconds_today == 60
    usage.move(ZoneInfo("Pacific/Kiritimati"), NOON + 200)  # 14 hours ahead: it is tomorrow there
    assert usage.of("alice", NOON + 200) == Used(0.0, 60.0, 0.0, 1)


def test_what_the_store_added_up_is_taken_over() -> None:
    usage = Usage(UTC)
    query = usage.query(NOON)
    assert (query.month, query.day, query.hour) == (at(UTC, 2027, 1, 1), at(UTC, 2027, 1, 15), NOON - 3600)
    assert "emergency" in query.exempt
    usage.load([UserUsage("alice", 500.0, 100.0, 2.5, (NOON - 3000, NOON - 10))])
    restored = call(NOON - 2000, answered_at=NOON - 1990, state=CallState.ANSWERED)
    usage.begin(restored, NOON)
    assert usage.of("alice", NOON) == Used(2090.0, 2490.0, 2.5, 3)
    assert usage.of("alice", NOON + 1000).calls_last_hour == 2


def test_who_has_used_up_the_minutes_is_named_when_it_is_so() -> None:
    usage = Usage(UTC)
    limits = Limits(seconds_per_day=300.0)
    talk(usage, NOON, 100)
    each = call(NOON + 200, limits=limits)
    usage.begin(each, NOON + 200)
    pick_up(usage, each, NOON + 210)
    assert usage.exhausted(NOON + 211) == []
    assert usage.exhausted(NOON + 409) == []
    ((found, rule, reason),) = usage.exhausted(NOON + 410)
    assert (found, rule, reason) == (each, "minutes", "Your 5 minutes of today are used up")
    assert usage.exhausted(NOON + 411) == []
    assert [e.call for e in usage.exhausted(NOON + 416)] == [each]  # it is still there: named again
    hang_up(usage, each, NOON + 416)
    assert usage.exhausted(NOON + 500) == []


def test_calls_at_once_share_what_is_left() -> None:
    usage = Usage(UTC)
    limits = Limits(seconds_per_day=300.0)
    calls = [call(NOON, limits=limits) for _ in range(3)]
    for each in calls:
        usage.begin(each, NOON)
        pick_up(usage, each, NOON)
    assert usage.exhausted(NOON + 99) == []
    assert [e.call for e in usage.exhausted(NOON + 100.5)] == calls


def test_one_that_ends_leaves_more_to_the_others() -> None:
    usage = Usage(UTC)
    limits = Limits(seconds_per_day=300.0)
    one, two = call(NOON, limits=limits), call(NOON, limits=limits)
    for each in (one, two):
        usage.begin(each, NOON)
        pick_up(usage, each, NOON)
    assert usage.exhausted(NOON + 1) == []
    hang_up(usage, one, NOON + 50)
    assert usage.exhausted(NOON + 151) == []
    assert [e.call for e in usage.exhausted(NOON + 250.5)] == [two]


def test_a_new_day_gives_new_minutes_to_a_call_in_progress() -> None:
    usage = Usage(UTC)
    midnight = at(UTC, 2027, 1, 16)
    each = call(midnight - 200, limits=Limits(seconds_per_day=300.0))
    usage.begin(each, midnight - 200)
    pick_up(usage, each, midnight - 200)
    assert [usage.exhausted(midnight + second) for second in (-199, 0, 101, 200, 299)] == [[]] * 5
    assert [e.rule for e in usage.exhausted(midnight + 300.5)] == ["minutes"]


def test_minutes_of_the_month_and_money_run_out_too() -> None:
    usage = Usage(UTC)
    usage.query(NOON)
    usage.load([UserUsage("alice", 1000.0, 0.0, 0.0), UserUsage("bob", 0.0, 0.0, 2.0)])
    month = call(NOON, limits=Limits(seconds_per_month=1100.0, cost_per_day=0.1))  # costs nothing: money is no matter
    money = call(NOON, user="bob", limits=Limits(cost_per_day=3.0), tariff=PENNY)
    free = call(NOON, user="bob", limits=Limits(cost_per_day=3.0))
    for each in (month, money, free):
        usage.begin(each, NOON)
        pick_up(usage, each, NOON)
    assert usage.exhausted(NOON + 1) == []
    assert usage.exhausted(NOON + 99) == []
    found = {e.call.id: (e.rule, e.reason) for e in usage.exhausted(NOON + 100.5)}
    assert found == {
        month.id: ("month", "Your 18 minutes of this month are used up"),
        money.id: ("cost", "Your 3.00 of today are used up"),
    }


def test_the_persons_own_limits_hold_too_and_may_change_meanwhile() -> None:
    usage = Usage(UTC)
    each = call(NOON, limits=Limits(seconds_per_day=300.0))
    usage.begin(each, NOON)
    pick_up(usage, each, NOON)
    each.grant = Grant("alice", limits=Limits(seconds_per_day=100.0))  # as an order of RADIUS does
    usage.answered(each, NOON + 50)
    assert usage.exhausted(NOON + 51) == []
    assert [e.reason for e in usage.exhausted(NOON + 100.5)] == ["Your 2 minutes of today are used up"]


def test_people_for_whom_nothing_counts_are_forgotten_once_a_day() -> None:
    usage = Usage(UTC)
    usage.forget(NOON)
    for number in range(50):
        talk(usage, NOON, 60, user=f"user{number}")
    long = call(NOON, user="late")
    usage.begin(long, NOON)
    usage.forget(NOON + 10)
    assert len(usage) == 51
    usage.forget(at(UTC, 2027, 2, 2))
    assert len(usage) == 1
    assert usage.of("user1", at(UTC, 2027, 2, 2)) == Used()


def test_somebody_who_was_forgotten_meanwhile_is_not_looked_for() -> None:
    usage = Usage(UTC)
    usage.forget(NOON)
    talk(usage, NOON, 30, limits=Limits(seconds_per_day=90 * 86400.0))
    assert usage.exhausted(NOON + 1) == []
    usage.forget(at(UTC, 2027, 2, 2))
    assert len(usage) == 0
    assert usage.exhausted(at(UTC, 2028, 1, 1)) == []


@pytest.mark.parametrize("seed", range(5))
def test_sums_are_those_of_a_plain_count(seed: int) -> None:
    """Random calls over two days, and at every step the sums against a count of all calls anew."""
    chance = random.Random(seed)
    usage, zone = Usage(ZoneInfo("Europe/Paris")), ZoneInfo("Europe/Paris")
    start = at(zone, 2026, 10, 31, 1)
    now, calls = start, list[Call]()
    for _ in range(400):
        now += chance.expovariate(1 / 400)
        open_calls = [each for each in calls if each.ended_at is None]
        if open_calls and chance.random() < 0.6:
            each = chance.choice(open_calls)
            if each.answered_at is None and chance.random() < 0.7:
                pick_up(usage, each, now)
            else:
                hang_up(usage, each, now)
        else:
            calls.append(call(now, tariff=chance.choice([None, PENNY])))
            usage.begin(calls[-1], now)
        day = datetime.fromtimestamp(now, zone).replace(hour=0, minute=0, second=0, microsecond=0)
        assert usage.of("alice", now) == _plain_count(calls, now, day.timestamp(), day.replace(day=1).timestamp())


def _plain_count(calls: list[Call], now: float, day: float, month: float) -> object:
    today = this_month = cost = 0.0
    for each in calls:
        if each.ended_at is None and (each.answered_at is None or now - each.answered_at < RESERVED_S):
            today, this_month = today + RESERVED_S, this_month + RESERVED_S
            cost += each.tariff.cost(RESERVED_S) if each.tariff else 0.0
        elif each.answered_at is not None:
            end = each.ended_at or now
            part = max(0.0, end - max(each.answered_at, day))
            today, this_month = today + part, this_month + max(0.0, end - max(each.answered_at, month))
            cost += each.tariff.cost(part) if each.tariff else 0.0
    recent = sum(each.started_at > now - 3600 for each in calls)
    return pytest.approx((today, this_month, cost, recent))
