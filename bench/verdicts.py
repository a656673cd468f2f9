"""Time of one verdict of a large policy: 200 groups, 2,000 prefixes, every rule of the person's group set."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

from bench.setting import Setting
from nomad.edge.policy import Attempt, Ruleset, compile_policy, decide
from nomad.ports import Grant

GROUPS, PREFIXES, CLASSES = 200, 2000, 20
PEOPLE = 600
TURNS = 7
BUDGET_US = 30.0
GROUP = """
[[group]]
name = "g{number}"
match = {{ ldap_group = "cn=g{number},ou=groups,dc=x", filter_id = "f{number}", users = ["u{number}"] }}
allow = ["internal", {classes}]
deny = ["+999999"]
max_concurrent_calls = 4
max_calls_per_hour = 100
max_minutes_per_day = 240
max_minutes_per_month = 2400
max_cost_per_day = 10
max_call_minutes = 60
hours = ["Mon-Fri 07:00-21:00", "Mon-Sun 00:00-24:00"]
networks = ["198.51.100.0/24", "0.0.0.0/0"]
transports = ["tls", "wss"]
media_encryption = true
"""


def policy_text(*, groups: int = GROUPS, prefixes: int = PREFIXES) -> str:
    """A policy of that size; with the same seed always the same."""
    chance = random.Random(5)
    names = [f"class{number}" for number in range(CLASSES)]
    classes: dict[str, list[str]] = {name: [] for name in names}
    seen: set[str] = set()
    turns = itertools.cycle(names)
    while len(seen) < prefixes:
        digits = "".join(chance.choice("0123456789") for _ in range(chance.randint(1, 7)))
        prefix = f"+{chance.randint(1, 9)}{digits}"
        if prefix not in seen:
            seen.add(prefix)
            classes[next(turns)].append(prefix)
    lines = ['timezone = "Europe/Paris"', 'holidays = ["12-25"]', 'deny = ["+8819"]', "[numbers]", 'country = "FR"']
    lines += ["[classes]", 'emergency = ["112"]', 'internal = ["re:[0-9]{4}"]', 'world = ["+"]']
    lines += [f"{name} = [{_quoted(entries)}]" for name, entries in classes.items()]
    lines += [f"[tariffs.{name}]\nper_minute = 0.1" for name in (*names, "world")]
    allowed = _quoted([*names, "world"])
    return "\n".join(lines) + "".join(GROUP.format(number=number, classes=allowed) for number in range(groups))


def attempt(number: str, *, group: int) -> Attempt:
    """A call of somebody in one of the groups."""
    return Attempt(
        Grant("amy", groups=("cn=other,dc=x", f"cn=g{group},ou=groups,dc=x", "cn=more,dc=x"), classes=(b"x",)),
        number,
        source="192.0.2.7",
        at=1_795_000_000.0,
        transport="tls",
        encrypted_media=True,
    )


def measure(setting: Setting) -> dict[str, Any]:
    """Microseconds of a verdict, with a number that was judged before and with one that never was."""
    started = time.process_time()
    rules = compile_policy(policy_text(), "policy.toml")
    compiled_ms = (time.process_time() - started) * 1000
    new, known = [], []
    for turn in range(TURNS):
        calls = [attempt(f"+33139{turn}{number:05}", group=number % GROUPS) for number in range(PEOPLE)]
        new.append(_each_us(rules, calls))
        known.append(_each_us(rules, calls))
    found = {"new_number_us": round(min(new), 1), "known_number_us": round(min(known), 1)}
    result = {
        "groups": GROUPS,
        "prefixes": PREFIXES,
        "compiled_ms": round(compiled_ms),
        **found,
        "budget_us": BUDGET_US,
    }
    setting.console.print(f"one verdict: {result}")
    return result


def _each_us(rules: Ruleset, calls: list[Attempt]) -> float:
    started = time.process_time()
    for call in calls:
        decide(rules, call)
    return (time.process_time() - started) / len(calls) * 1e6


def _quoted(words: list[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)
