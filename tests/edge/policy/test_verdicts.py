"""Expected verdicts with their explanations: who calls what, and what the policy says (verdicts.toml)."""

from __future__ import annotations

import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from nomad.edge.policy import Attempt, Direction, Used, compile_policy, decide
from nomad.ports import Grant, Limits

HERE = Path(__file__).parent
POLICY = (HERE / "verdicts.policy.toml").read_text(encoding="utf-8")
RULES = compile_policy(POLICY, "verdicts.policy.toml")
TABLE = tomllib.loads((HERE / "verdicts.toml").read_text(encoding="utf-8"))
CASES = [(topic["name"], case) for topic in TABLE["topic"] for case in topic["cases"]]
TUESDAY = "2026-11-24T10:00"


def attempt_of(case: dict[str, Any]) -> Attempt:
    person = TABLE["people"].get(case["who"], {})
    at = datetime.fromisoformat(case.get("at", TUESDAY))
    return Attempt(
        Grant(
            case["who"],
            groups=tuple(case.get("groups", person.get("groups", ()))),
            classes=tuple(name.encode() for name in case.get("classes", person.get("classes", ()))),
            limits=Limits(**case.get("own", {})),
            allowed_classes=tuple(case.get("own_classes", ())),
        ),
        case["to"],
        source=case.get("source", "192.0.2.7"),
        at=(at if at.tzinfo else at.replace(tzinfo=ZoneInfo("Europe/Paris"))).timestamp(),
        direction=Direction(case.get("way", "out")),
        transport=case.get("by", "tls"),
        encrypted_media=case.get("srtp", True),
        country=case.get("country"),
        active_calls=case.get("calls", 0),
        forwarded_calls=case.get("forwarded", 0),
        used=Used(
            seconds_today=case.get("day", 0) * 60.0,
            seconds_this_month=case.get("month", 0) * 60.0,
            cost_today=case.get("spent", 0.0),
            calls_last_hour=case.get("hour", 0),
        ),
    )


@pytest.mark.parametrize(
    "case", [case for _, case in CASES], ids=[f"{topic}-{case['who']}-{case['to']}" for topic, case in CASES]
)
def test_the_policy_says_what_is_expected(case: dict[str, Any]) -> None:
    verdict = decide(RULES, attempt_of(case))
    says = "allowed" if verdict.allowed else f"{verdict.status} {verdict.reason}".strip()
    assert (says, verdict.short, verdict.chain[-1].text) == (case["says"], case["rules"], case["because"])
    assert verdict.max_call_s == pytest.approx(case["seconds"]) if "seconds" in case else verdict.max_call_s is None


def test_the_table_is_large_and_asks_every_rule() -> None:
    assert len(CASES) >= 150
    refusing = {decide(RULES, attempt_of(case)).rule for _, case in CASES}
    assert refusing == {
        *(
            "",
            "class",
            "deny",
            "own",
            "forward",
            "forwarded",
            "networks",
            "countries",
            "transports",
            "media_encryption",
        ),
        *("hours", "concurrent", "per_hour", "minutes", "month", "cost", "from_internet"),
    }


def test_the_lines_of_the_table_are_those_of_the_policy() -> None:
    lines = POLICY.splitlines()
    keys = {"hours": "hours = ", "concurrent": "max_concurrent_calls = ", "transports": "transports = "}
    for _, case in CASES:
        for step in decide(RULES, attempt_of(case)).chain:
            if step.rule in keys and step.line:
                assert lines[step.line - 1].startswith(keys[step.rule])


def test_the_policy_of_the_table_is_without_doubt() -> None:
    assert RULES.warnings == ()
