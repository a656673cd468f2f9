from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nomad.edge.policy import Attempt, Used, compile_policy, decide, default_ruleset, find_group
from nomad.ports import Grant

RULES = compile_policy(
    """
timezone = "Europe/Paris"
[classes]
emergency = ["15", "112"]
internal = ["re:[0-9]{4}"]
national = ["0", "+33"]
international = ["00", "+"]
premium = ["089", "+3389"]
[[group]]
name = "staff"
match = { ldap_group = "cn=staff,ou=groups,dc=inria,dc=example" }
allow = ["internal", "national"]
max_concurrent_calls = 2
max_minutes_per_day = 60
max_call_minutes = 30
hours = ["Mon-Fri 07:00-21:00"]
networks = ["192.0.2.0/24", "2001:db8::/32"]
[[group]]
name = "abroad"
match = { filter_id = "travel" }
allow = ["international"]
[[group]]
name = "vip"
match = { radius_class = "gold" }
allow = ["premium"]
[[group]]
name = "named"
match = { users = ["zoe"] }
allow = []
""",
    "policy.toml",
)
MONDAY_NOON = datetime(2026, 10, 26, 10, 20, tzinfo=UTC).timestamp()
ALICE = Grant("alice", groups=("cn=staff, ou=groups, DC=inria, dc=example",))
CALL = Attempt(ALICE, "1000", source="192.0.2.7", at=MONDAY_NOON)
NOBODY = Grant("alice")


@pytest.mark.parametrize(
    ("change", "allowed", "rule", "reason"),
    [
        ({}, True, "", ""),
        ({"number": "0139635511"}, True, "", ""),
        ({"number": "0899123456"}, False, "class", "Premium numbers are not allowed for group staff"),
        ({"number": "+33899123456"}, False, "class", "Premium numbers are not allowed for group staff"),
        ({"number": "+4930"}, False, "class", "International numbers are not allowed for group staff"),
        ({"number": "77"}, False, "class", "Number not allowed: unknown kind of number"),
        ({"source": "198.51.100.1"}, False, "networks", "Calls from this network are not allowed"),
        ({"source": "2001:db8::7"}, True, "", ""),
        ({"at": MONDAY_NOON + 12 * 3600}, False, "hours", "Calls are allowed Mon-Fri 07:00-21:00 only"),
        ({"at": MONDAY_NOON + 5 * 86400}, False, "hours", "Calls are allowed Mon-Fri 07:00-21:00 only"),
        ({"active_calls": 1}, True, "", ""),
        ({"active_calls": 2}, False, "concurrent", "You already have 2 calls; 2 are allowed"),
        ({"used": Used(3599.0)}, True, "", ""),
        ({"used": Used(3600.0)}, False, "minutes", "Your 60 minutes of today are used up"),
        ({"grant": NOBODY}, False, "group", "No policy group for you"),
        ({"grant": Grant("alice", groups=("TRAVEL",)), "number": "+4930"}, True, "", ""),
        ({"grant": Grant("alice", classes=(b"gold",)), "number": "0899123456"}, True, "", ""),
        ({"grant": Grant("zoe")}, False, "class", "Internal numbers are not allowed for group named"),
    ],
)
def test_verdicts(change: dict[str, object], allowed: bool, rule: str, reason: str) -> None:
    verdict = decide(RULES, replace(CALL, **change))  # type: ignore[arg-type]
    assert (verdict.allowed, verdict.rule, verdict.reason) == (allowed, rule, reason)
    assert verdict.chain


def test_emergency_numbers_pass_every_limit() -> None:
    night = replace(CALL, number="112", source="198.51.100.1", at=MONDAY_NOON + 5 * 86400, active_calls=9, grant=NOBODY)
    assert decide(RULES, night).allowed


@pytest.mark.parametrize(("used", "longest"), [(0.0, 1800.0), (2400.0, 1200.0)])
def test_a_call_ends_with_the_day_s_minutes_or_the_longest_call(used: float, longest: float) -> None:
    assert decide(RULES, replace(CALL, used=Used(used))).max_call_s == longest


def test_the_chain_tells_every_rule_and_its_line() -> None:
    assert tuple(map(str, decide(RULES, CALL).chain)) == (
        "number 1000: class internal, by 're:[0-9]{4}' (line 5)",
        "user alice: group staff, by ldap_group 'cn=staff,ou=groups,dc=inria,dc=example' (line 11)",
        "group staff allows internal (line 12)",
        "source 192.0.2.7 is in 192.0.2.0/24 (line 17)",
        "Mon 11:20 is within Mon-Fri 07:00-21:00 (line 16)",
        "0 of 2 calls in progress (line 13)",
        "0 of 60 minutes used today (line 14)",
        "the call is ended after 30 min: longest call (line 15)",
    )


def test_the_built_in_policy_allows_everybody_internal_numbers_only() -> None:
    rules = default_ruleset()
    assert find_group(rules, "anyone", (), ()) is not None
    assert decide(rules, replace(CALL, grant=NOBODY)).allowed
    assert not decide(rules, replace(CALL, grant=NOBODY, number="0139635511")).allowed
