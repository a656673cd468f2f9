"""A verdict costs the same whatever the size of the policy: counted in steps, not by the clock."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from bench.verdicts import attempt, policy_text
from nomad.edge.policy import Attempt, Ruleset, compile_policy, decide

MAX_STEPS = 90  # calls of functions, Python's and C's, for a verdict that asks every rule


def steps(rules: Ruleset, call: Attempt) -> int:
    """How many functions one verdict calls."""
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        verdict = decide(rules, call)
    finally:
        sys.setprofile(None)
    assert verdict.allowed, verdict.why
    return count


def test_a_verdict_of_a_large_policy_takes_no_more_steps() -> None:
    small = compile_policy(policy_text(groups=1, prefixes=60), "p")
    large = compile_policy(policy_text(groups=200, prefixes=2000), "p")
    number = "+33139000001"
    first, last = attempt(number, group=0), attempt(number, group=199)
    decide(small, first)
    decide(large, last)
    assert steps(large, last) == steps(large, attempt(number, group=0)) == steps(small, first)
    assert steps(large, last) <= MAX_STEPS


def test_a_number_that_was_never_judged_takes_few_steps_more() -> None:
    rules = compile_policy(policy_text(), "p")
    known = attempt("+33139000001", group=100)
    decide(rules, known)
    new = attempt("+33139000002", group=100)
    assert steps(rules, new) <= steps(rules, known) + 40
