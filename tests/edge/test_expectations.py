from __future__ import annotations

from pathlib import Path

import pytest

from nomad.config import ConfigError
from nomad.edge.expectations import cases_beside, try_out
from nomad.edge.policy import compile_policy

ROOT = Path(__file__).resolve().parents[2]
RULES = compile_policy(
    """
timezone = "Europe/Paris"
[classes]
internal = ["re:[0-9]{4}"]
national = ["0"]
[[group]]
name = "staff"
match = { filter_id = "staff", radius_class = "gold" }
allow = ["internal"]
hours = ["Mon-Fri 08:00-18:00"]
max_concurrent_calls = 2
max_minutes_per_day = 60
networks = ["192.0.2.0/24"]
transports = ["tls"]
""",
    "policy.toml",
)
STAFF = '[[test]]\ngroups = ["staff"]\nnumber = "1000"\n'


@pytest.mark.parametrize(
    ("more", "expect"),
    [
        ("", "allowed = true"),
        ("", 'allowed = true, rule = "", class = "internal", group = "staff", max_call_minutes = 60'),
        ('at = "2026-01-07T18:30"', 'allowed = false, rule = "hours"'),
        ('at = "2026-01-07T16:59+00:00"', "allowed = true"),  # 17:59 in Paris
        ('at = "2026-01-07T17:01+00:00"', "allowed = false"),
        ('from = "198.51.100.1"', 'allowed = false, rule = "networks"'),
        ('transport = "udp"', 'allowed = false, rule = "transports"'),
        ("active_calls = 2", 'allowed = false, rule = "concurrent"'),
        ("minutes_today = 60", 'allowed = false, rule = "minutes"'),
        ("minutes_today = 50", "allowed = true, max_call_minutes = 10"),
        ('way = "internet"', 'allowed = false, rule = "from_internet"'),
    ],
)
def test_expected_verdicts_that_come(more: str, expect: str) -> None:
    outcome = try_out(RULES, f"{STAFF}{more}\nexpect = {{ {expect} }}\n", "t.toml")
    assert (outcome.held, outcome.broken) == (1, ())


def test_people_are_matched_by_class_and_user_too() -> None:
    text = '[[test]]\nclasses = ["gold"]\nnumber = "1000"\nexpect = { allowed = true }\n'
    assert try_out(RULES, text, "t.toml").held == 1


def test_what_comes_instead_is_told_with_the_line() -> None:
    text = (
        f"{STAFF}expect = {{ allowed = true }}\n\n"
        '[[test]]\nname = "national"\ngroups = ["staff"]\nnumber = "0139635511"\n'
        'expect = { allowed = true, rule = "" }\n'
        f"{STAFF}expect = {{ allowed = true, class = 'national', group = 'x', max_call_minutes = 5 }}\n"
    )
    outcome = try_out(RULES, text, "t.toml")
    assert outcome.held == 1
    first, second = map(str, outcome.broken)
    assert first.startswith(
        "t.toml:6: national: expected allowed, rule none; came refused, rule class (group staff allows internal"
    )
    assert second.startswith(
        "t.toml:11: somebody calls 1000: expected class national, group x, max_call_minutes 5; "
        "came class internal, group staff, max_call_minutes 60 ("
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (STAFF, "missing required field `expect`"),
        (f"{STAFF}expect = {{ allowd = true }}", "unknown key 'allowd'; did you mean 'allowed'?"),
        (f"{STAFF}expect = {{ clas = 'x', allowed = true }}", "did you mean 'class'?"),
        (f"{STAFF}form = '192.0.2.1'\nexpect = {{ allowed = true }}", "did you mean 'from'?"),
        (f"{STAFF}at = 'noon'\nexpect = {{ allowed = true }}", "t.toml:4: test[0].at: 'noon' is no time"),
        (f"{STAFF}transport = 'quic'\nexpect = {{ allowed = true }}", "t.toml:4: test[0].transport: 'quic' is none of"),
        (f"{STAFF}from = 'home'\nexpect = {{ allowed = true }}", "test[0].from: 'home' is no IP address; write it as"),
        (f"{STAFF}country = 'france'\nexpect = {{ allowed = true }}", "test[0].country: 'france' is no ISO 3166 code"),
        (f"{STAFF}cost_today = -1\nexpect = {{ allowed = true }}", "test[0].cost_today: is below 0; leave it out"),
        (f"{STAFF}way = 'up'\nexpect = {{ allowed = true }}", "way: 'up' is none of out, internet, forward"),
        ("[[test]]\nnumber = 'bob'\nexpect = { allowed = true }", "number: 'bob' is no number"),
    ],
)
def test_a_table_that_is_wrong_is_told(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=r"t\.toml") as wrong:
        try_out(RULES, text, "t.toml")
    assert told in str(wrong.value)


def test_the_sample_policy_keeps_what_its_table_says() -> None:
    policy = ROOT / "deploy" / "policy.toml"
    ruleset = compile_policy(policy.read_text(), str(policy))
    table = cases_beside(policy)
    assert table.name == "policy.tests.toml"
    outcome = try_out(ruleset, table.read_text(), str(table))
    assert outcome.broken == ()
    assert outcome.held >= 15
