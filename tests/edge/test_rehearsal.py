"""Past calls put to another policy: what differs, and that counts run as they would have."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from nomad.edge.policy import compile_policy
from nomad.edge.rehearsal import Kind, Rehearsal
from nomad.edge.usage import Usage
from nomad.geoip import NoCountries
from nomad.ports import Cdr, UserUsage

MORNING = datetime(2027, 1, 15, 8, tzinfo=UTC).timestamp()
RULES = """
timezone = "UTC"
[classes]
emergency = ["112"]
internal = ["re:[0-9]{{4}}"]
national = ["0"]
[tariffs.national]
per_minute = 1.0
[[group]]
name = "staff"
match = {{ filter_id = "staff" }}
allow = ["internal", "national"]
{}
"""


def record(minute: float, *, minutes: float = 1.0, number: str = "1000", **more: object) -> Cdr:
    start = MORNING + minute * 60
    made = Cdr(
        id=f"c{minute}-{number}", call_id="x", direction="out", user="alice", caller="alice@x", callee=f"{number}@x",
        number_class="internal", started_at=start, answered_at=start, ended_at=start + minutes * 60,
        duration_s=minutes * 60, result="answered", status=200, rule="", reason="", terminate_cause="User-Request",
        peer="192.0.2.7", user_agent="", number=number, group="staff", groups=("staff",), transport="tls", policy="1",
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def refused(minute: float, *, number: str = "1000", **more: object) -> Cdr:
    known = {"answered_at": None, "result": "refused", "status": 403, "rule": "hours", "chain": "class:5 hours:9"}
    more = {**known, **more}
    return record(minute, minutes=0, number=number, **more)


def put(limit: str, *records: Cdr, before: UserUsage | None = None) -> tuple[Rehearsal, list[tuple[Kind, float, str]]]:
    usage = Usage(UTC)
    usage.query(MORNING)
    usage.load([before] if before else [])
    rehearsal = Rehearsal(compile_policy(RULES.format(limit), "policy.toml"), usage, NoCountries())
    found = list(rehearsal.put(records))
    return rehearsal, [(d.kind, (d.record.started_at - MORNING) / 60, d.verdict.rule) for d in found]


def test_what_happened_as_it_would_have_is_no_difference() -> None:
    rehearsal, found = put("", record(0), record(5, number="0139635511"))
    assert (rehearsal.judged, found) == (2, [])


def test_calls_that_would_be_refused_and_those_that_would_be_allowed() -> None:
    _, found = put('deny = ["0899"]', record(0, number="0899123456"), refused(3), refused(4, number="0899123456"))
    assert found == [(Kind.REFUSED, 0, "deny"), (Kind.ALLOWED, 3, "")]


def test_groups_networks_and_transports_are_those_of_the_record() -> None:
    rules = 'networks = ["192.0.2.0/24"]\ntransports = ["tls"]'
    others = (record(1, groups=()), record(2, peer="198.51.100.1"), record(3, transport="udp"))
    _, found = put(rules, record(0), *others)
    assert [rule for _, _, rule in found] == ["group", "networks", "transports"]


def test_minutes_add_up_in_the_order_of_time_and_a_refused_call_costs_none() -> None:
    calls = [record(0, minutes=4), record(10, minutes=4), record(20, minutes=4), record(30, minutes=1)]
    _, found = put("max_minutes_per_day = 8", *calls)
    assert found == [(Kind.REFUSED, 20, "minutes"), (Kind.REFUSED, 30, "minutes")]


def test_a_call_that_would_have_been_ended_counts_as_long_as_it_may() -> None:
    _, found = put("max_call_minutes = 5\nmax_minutes_per_day = 12", *(record(n * 20, minutes=10) for n in range(4)))
    assert found == [
        (Kind.SHORTENED, 0, ""),
        (Kind.SHORTENED, 20, ""),
        (Kind.SHORTENED, 40, ""),  # for the two minutes that are left
        (Kind.REFUSED, 60, "minutes"),
    ]


def test_calls_that_a_phone_sent_on_are_judged_as_such() -> None:
    def sent_on(minute: int) -> Cdr:
        return replace(record(minute), chain="class:14 group:41 allow:42 forward longest:50")

    _, found = put("forward = []", record(0), sent_on(2))
    assert found == [(Kind.REFUSED, 2, "forward")]
    long = replace(sent_on(0), ended_at=sent_on(5).started_at)
    _, found = put("max_forwarded_calls = 1", long, record(1), sent_on(2), sent_on(6))
    assert found == [(Kind.REFUSED, 2, "forwarded")]


def test_calls_at_once_those_to_the_person_too() -> None:
    incoming = record(0, minutes=10, direction="in", number="1001")
    _, found = put(
        "max_concurrent_calls = 2", incoming, record(1, minutes=5), record(2, minutes=5), record(7, minutes=5)
    )
    assert found == [(Kind.REFUSED, 2, "concurrent")]


def test_money_and_calls_of_the_hour() -> None:
    calls = [record(n * 10, minutes=3, number="0139635511") for n in range(4)]
    assert put("max_cost_per_day = 6", *calls)[1] == [(Kind.REFUSED, 20, "cost"), (Kind.REFUSED, 30, "cost")]
    assert put("max_calls_per_hour = 2", *calls, record(65))[1] == [
        (Kind.REFUSED, 20, "per_hour"),
        (Kind.REFUSED, 30, "per_hour"),
    ]


def test_what_was_called_before_counts() -> None:
    before = UserUsage("alice", 3600.0, 0.0, 0.0)
    assert put("max_minutes_per_month = 60", record(0), before=before)[1] == [(Kind.REFUSED, 0, "month")]


def test_a_new_day_begins_anew() -> None:
    calls = [record(0, minutes=10), record(5, minutes=1), record(24 * 60, minutes=10)]
    assert put("max_minutes_per_day = 3", *calls)[1][1:] == [
        (Kind.REFUSED, 5, "minutes"),
        (Kind.SHORTENED, 24 * 60, ""),
    ]


def test_records_that_say_too_little_are_left_out() -> None:
    old = record(0, number="", groups=())
    locked = refused(1, rule="short-calls", chain="class:5 allow:7")  # refused by another part than the policy
    rehearsal, found = put("", old, locked, record(2))
    assert (rehearsal.judged, rehearsal.unknown, found) == (1, 1, [])


def test_emergency_calls_stay_allowed_and_count_for_nothing() -> None:
    calls = [record(0, number="112", minutes=50, groups=()), record(1)]
    assert put("max_minutes_per_day = 1", *calls)[1] == []
