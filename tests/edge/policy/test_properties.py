"""What holds for every policy and every call: emergencies pass, order does not count, nothing widens what is denied."""

from __future__ import annotations

import contextlib
import tomllib
from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from nomad.config import ConfigError
from nomad.edge.policy import Attempt, Direction, Used, clean, compile_policy, decide
from nomad.edge.policy.compiler import _Compiler
from nomad.edge.policy.file import PolicyFile
from nomad.edge.policy.lines import Lines
from nomad.edge.policy.ruleset import Ruleset
from nomad.ports import Grant, Limits
from tests.edge.policy.test_verdicts import CASES, POLICY, RULES, attempt_of

EMERGENCY = tomllib.loads(POLICY)["classes"]["emergency"]
CASE_ATTEMPTS = [attempt_of(case) for _, case in CASES]
counts = st.integers(0, 10**9)
amounts = st.floats(0, 1e9)
limits = st.builds(
    Limits,
    concurrent_calls=st.none() | counts,
    calls_per_hour=st.none() | counts,
    seconds_per_day=st.none() | amounts,
    seconds_per_month=st.none() | amounts,
    cost_per_day=st.none() | amounts,
    call_s=st.none() | amounts,
)
names = st.sampled_from(["cn=staff,dc=x", "CN=Board, dc=x", "visitor", "cn=direction,dc=x", "", "x"]) | st.text(
    max_size=20
)
numbers = st.text("0123456789", min_size=1, max_size=20) | st.sampled_from(
    [attempt.number for attempt in CASE_ATTEMPTS]
)
attempts = st.builds(
    Attempt,
    grant=st.builds(
        Grant,
        user=st.sampled_from(["alice", "gina", "mallory"]) | st.text(max_size=10),
        groups=st.lists(names, max_size=4).map(tuple),
        classes=st.lists(st.binary(max_size=8) | st.sampled_from([b"travel", b"abroad"]), max_size=3).map(tuple),
        limits=limits,
        allowed_classes=st.lists(st.sampled_from(["internal", "mobile", "x"]), max_size=2).map(tuple),
    ),
    number=numbers,
    source=st.sampled_from(["192.0.2.7", "8.8.8.8", "::1", "", "nonsense"]) | st.ip_addresses().map(str),
    at=st.floats(0, 4e9),
    direction=st.sampled_from([Direction.OUT, Direction.FORWARD]),
    transport=st.sampled_from(["udp", "tcp", "tls", "ws", "wss", ""]),
    encrypted_media=st.booleans(),
    country=st.none() | st.sampled_from(["FR", "US"]),
    active_calls=counts,
    forwarded_calls=counts,
    used=st.builds(Used, amounts, amounts, amounts, counts),
)


def compiled(tree: dict[str, Any]) -> Ruleset:
    """A policy from a tree, as TOML would give it."""
    compiler = _Compiler(msgspec.convert(tree, PolicyFile), Lines(""), "p")
    ruleset = compiler.compile()
    assert compiler.problems == []
    return ruleset


@given(attempts, st.sampled_from(EMERGENCY))
def test_an_emergency_number_is_never_refused(attempt: Attempt, number: str) -> None:
    for dialled in (number, f"9{number}"):
        verdict = decide(RULES, replace(attempt, number=dialled))
        assert verdict.allowed
        assert verdict.number_class == "emergency"
        assert verdict.max_call_s is None


@given(attempts)
def test_a_verdict_is_whole(attempt: Attempt) -> None:
    verdict = decide(RULES, attempt)
    assert verdict == decide(RULES, attempt)
    assert verdict.chain
    assert verdict.why
    assert verdict.short
    assert verdict.allowed is (verdict.rule == "") is (verdict.status == 200)
    assert verdict.allowed or verdict.chain[-1].rule == verdict.rule
    assert verdict.max_call_s is None or verdict.max_call_s > 0 or attempt.grant.limits.call_s == 0
    lines = POLICY.count("\n")
    assert all(0 <= step.line <= lines for step in verdict.chain)


@given(attempts, st.text(max_size=80))
def test_no_text_that_is_dialled_breaks_it(attempt: Attempt, text: str) -> None:
    number = clean(text)
    assert number == "" or decide(RULES, replace(attempt, number=number)).chain
    assert decide(RULES, replace(attempt, number=text)).chain  # not even one that was not cleaned


@given(st.text("0123456789+*#", max_size=64), attempts)
def test_no_number_breaks_it(number: str, attempt: Attempt) -> None:
    verdict = decide(RULES, replace(attempt, number=number))
    again = decide(RULES, replace(attempt, number=verdict.number))
    # what is judged is one form of the number: that form is judged alike
    assert not verdict.number.startswith("+") or (again.allowed, again.number_class) == (
        verdict.allowed,
        verdict.number_class,
    )


@settings(max_examples=50)
@given(attempts, st.randoms())
def test_the_order_of_unrelated_rules_does_not_count(attempt: Attempt, chance: Any) -> None:
    tree = tomllib.loads(POLICY)

    def shuffled(items: Any) -> list[Any]:
        copied: list[Any] = list(items)
        chance.shuffle(copied)
        return copied

    for key in ("classes", "tariffs"):
        tree[key] = {name: tree[key][name] for name in shuffled(tree[key])}
    tree["classes"] = {name: shuffled(entries) for name, entries in tree["classes"].items()}
    tree["allow"], tree["deny"] = shuffled(tree["allow"]), shuffled(tree["deny"])
    for group in tree["group"]:
        for key in ("allow", "deny", "networks", "countries", "transports"):
            if key in group:
                group[key] = shuffled(group[key])
    as_it_stands, other = decide(RULES, attempt), decide(compiled(tree), attempt)
    for name in ("allowed", "group", "number_class", "rule", "number", "max_call_s"):
        assert getattr(other, name) == getattr(as_it_stands, name), name


@settings(max_examples=50)
@given(attempts, st.data())
def test_a_group_of_others_changes_nothing(attempt: Attempt, data: st.DataObject) -> None:
    tree = tomllib.loads(POLICY)
    place = data.draw(st.integers(0, len(tree["group"])))
    tree["group"].insert(
        place, {"name": "others", "match": {"users": ["\x00nobody"]}, "deny": ["national"], "allow": []}
    )
    as_it_stands, other = decide(RULES, attempt), decide(compiled(tree), attempt)
    assert (other.allowed, other.rule, other.group) == (as_it_stands.allowed, as_it_stands.rule, as_it_stands.group)


@settings(max_examples=50)
@given(attempts, st.sampled_from(["premium", "national", "mobile", "+", "0", "re:.*", "1", "internal"]))
def test_a_further_deny_allows_nothing_more(attempt: Attempt, entry: str) -> None:
    tree = tomllib.loads(POLICY)
    tree["deny"] = [entry, *tree["deny"]]
    if decide(compiled(tree), attempt).allowed:
        assert decide(RULES, attempt).allowed


@given(attempts)
def test_a_persons_own_limits_never_widen(attempt: Attempt) -> None:
    without = decide(RULES, replace(attempt, grant=replace(attempt.grant, limits=Limits(), allowed_classes=())))
    verdict = decide(RULES, attempt)
    if verdict.allowed:
        assert without.allowed
        if without.max_call_s is not None:
            assert verdict.max_call_s is not None
            assert verdict.max_call_s <= without.max_call_s


@given(attempts, counts, amounts)
def test_who_used_more_is_allowed_no_more(attempt: Attempt, more: int, much: float) -> None:
    today, month, cost, calls = attempt.used
    later = replace(
        attempt,
        active_calls=attempt.active_calls + more,
        forwarded_calls=attempt.forwarded_calls + more,
        used=Used(today + much, month + much, cost + much, calls + more),
    )
    if decide(RULES, later).allowed:
        assert decide(RULES, attempt).allowed


@given(st.text("0123456789", min_size=9, max_size=9).filter(lambda digits: digits[0] != "0"), attempts)
def test_every_way_to_dial_a_number_is_judged_alike(digits: str, attempt: Attempt) -> None:
    forms = [f"+33{digits}", f"0033{digits}", f"0{digits}", f"90{digits}", f"90033{digits}", f"+330{digits}"]
    verdicts = [decide(RULES, replace(attempt, number=form)) for form in forms]
    assert {verdict.number for verdict in verdicts} == {f"+33{digits}"}
    assert len({(verdict.allowed, verdict.number_class, verdict.rule) for verdict in verdicts}) == 1


@given(st.text(max_size=300))
def test_no_text_breaks_the_compiler(text: str) -> None:
    with contextlib.suppress(ConfigError):
        compile_policy(text, "p")


WORDS = [
    "internal",
    "national",
    "re:[0-9]*",
    "re:(",
    "+33",
    "0",
    "",
    "emergency",
    "12x",
    "Mon 07:00-08:00",
    "192.0.2.0/24",
    "x",
]
words = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=4)
amount = st.none() | st.integers(-2, 2) | st.integers() | st.floats()
GROUP_KEYS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("allow", "deny", "forward", "hours", "networks", "countries", "transports"), words),
    **dict.fromkeys(("max_concurrent_calls", "max_minutes_per_day", "max_cost_per_day", "max_call_minutes"), amount),
    "match": st.fixed_dictionaries({}, optional={"users": words, "ldap_group": words, "default": st.booleans()}),
}
TARIFF = st.fixed_dictionaries({"per_minute": st.floats()})
trees = st.fixed_dictionaries(
    {},
    optional={
        "classes": st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), words, max_size=4),
        "tariffs": st.dictionaries(st.sampled_from(WORDS), TARIFF, max_size=2),
        "deny": words,
        "holidays": words,
        "timezone": st.sampled_from(["Europe/Paris", "Europe", "../x", "\x00", ""]) | st.text(max_size=5),
        "numbers": st.fixed_dictionaries(
            {},
            optional={
                "country": st.sampled_from(["FR", "US", "IT", "001", "x", ""]),
                "outside_prefix": st.text(max_size=2),
            },
        ),
        "group": st.lists(st.fixed_dictionaries({"name": st.text(max_size=3)}, optional=GROUP_KEYS), max_size=3),
    },
)


@given(trees, attempts)
def test_any_policy_is_compiled_or_refused_with_its_reasons(tree: dict[str, Any], attempt: Attempt) -> None:
    try:
        tables = msgspec.convert(tree, PolicyFile)
    except msgspec.ValidationError:
        return
    compiler = _Compiler(tables, Lines(""), "p")
    ruleset = compiler.compile()
    if not compiler.problems:
        assert decide(ruleset, attempt).chain
        assert all(warning.startswith("p: ") for warning in ruleset.warnings)
