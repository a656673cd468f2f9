"""Policies tried out before they are in force: expected verdicts and past calls, with a real database."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

from nomad.ports import Cdr
from nomad.stores.database import Database
from nomad.stores.sql import SqlCdrs
from tests.cli.conftest import Nomad
from tests.cli.site import POLICY, WIDER, text_of, write
from tests.stores.samples import cdr

TESTS = """\
[[test]]
name = "colleagues"
number = "1000"
expect = { allowed = true, class = "internal" }

[[test]]
name = "premium"
number = "0899123456"
expect = { allowed = false, rule = "class" }
"""


async def keep(path: Path, *records: Cdr) -> None:
    database = Database(f"sqlite:///{path.parent / 'nomad.db'}")
    await database.open()
    await SqlCdrs(database).add(records)
    await database.close()


def past(place: int, dialled: str, *, days: float = 1.0, more: dict[str, object] | None = None) -> Cdr:
    start = time.time() - days * 86400 + place
    known = {"answered_at": start, "ended_at": start + 60, "duration_s": 60.0, "policy": "1", "peer": "192.0.2.7"}
    made = replace(cdr(place, started_at=start), callee=f"{dialled}@inria.example", number=dialled)
    return replace(made, **{**known, **(more or {})})  # type: ignore[arg-type]


async def test_expected_verdicts_that_come(bare: Nomad, path: Path, tmp_path: Path) -> None:
    ran = await bare("policy", "test", "-c", str(path))
    assert ran.code == 1
    assert "policy.tests.toml: does not exist" in ran.err
    write(tmp_path / "policy.tests.toml", TESTS)
    ran = await bare("policy", "test", "-c", str(path))
    assert (ran.code, ran.out, ran.err) == (0, "2 of 2 expected verdicts came\n", "")


async def test_expected_verdicts_that_do_not_come(bare: Nomad, path: Path, policy: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "policy.tests.toml", TESTS)
    new = write(tmp_path / "new.toml", WIDER)
    ran = await bare("policy", "test", "-c", str(path), "--file", str(new))
    assert (ran.code, ran.out) == (1, "1 of 2 expected verdicts came\n")
    assert ran.err == (
        f"{table.resolve()}:6: premium: expected refused, rule class; came allowed, rule none "
        "(group everybody allows premium (line 10))\n"
    )
    shown = json.loads((await bare("policy", "test", "-c", str(path), "--file", str(new), "--json")).out)
    assert (shown["ok"], shown["held"], shown["broken"][0]["name"]) == (False, 1, "premium")


async def test_an_apply_that_breaks_one_is_refused_unless_forced_with_a_reason(
    bare: Nomad, path: Path, policy: Path, tmp_path: Path
) -> None:
    await bare("policy", "apply", "-c", str(path))
    write(tmp_path / "policy.tests.toml", TESTS)
    new = str(write(tmp_path / "new.toml", WIDER))
    ran = await bare("policy", "apply", "-c", str(path), "--file", new)
    assert ran.code == 1
    assert "premium: expected refused" in ran.err
    assert "nothing changed: 1 expected verdicts do not come" in ran.err
    assert (await bare("policy", "apply", "-c", str(path), "--file", new, "--force")).code == 1
    assert text_of(policy) == POLICY
    ran = await bare("policy", "apply", "-c", str(path), "--file", new, "--force", "--why", "the boss wants it")
    assert ran.code == 0
    shown = json.loads((await bare("policy", "history", "-c", str(path), "--json")).out)
    assert [each["failed_tests"] for each in shown] == [1, 0]
    assert "[forced, breaks 1 tests] the boss wants it" in (await bare("policy", "history", "-c", str(path))).out
    write(tmp_path / "policy.tests.toml", "[[test]]\n")
    ran = await bare("policy", "rollback", "1", "--why", "x", "-c", str(path))
    assert ran.code == 1
    assert "policy.tests.toml:1" in ran.err


async def test_dry_run_names_the_calls(bare: Nomad, path: Path, policy: Path, tmp_path: Path) -> None:
    refused: dict[str, object] = {
        "answered_at": None,
        "duration_s": 0.0,
        "result": "refused",
        "rule": "class",
        "chain": "class:7 group:8 class:10",
        "reason": "Not premium",
    }
    await keep(
        path,
        past(1, "1000"),
        past(2, "0899123456", more=refused),
        past(3, "4444", days=2),
        past(4, "4444", days=20),
        past(5, "1000", more={"number": ""}),
    )
    new = write(tmp_path / "new.toml", f'{WIDER}deny = ["4"]\n')
    ran = await bare("policy", "dry-run", "-c", str(path), "--file", str(new))
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].startswith("of 3 calls since ")
    assert lines[0].endswith("this policy would have refused 1, allowed 1 that were refused, and ended 0 earlier")
    assert "1 older records do not say who called what" in ran.err
    refused_row = lines[lines.index("would have been refused:") + 2]
    assert refused_row.split()[2:5] == ["alice", "4444", "internal"]
    assert "deny: This number is not allowed for group everybody" in refused_row
    allowed_row = lines[lines.index("were refused and would have been allowed:") + 2]
    assert "class: Not premium" in allowed_row
    assert allowed_row.endswith("allowed, group everybody")
    shown = json.loads((await bare("policy", "dry-run", "-c", str(path), "--file", str(new), "--json")).out)
    assert shown["counts"] == {"refused": 1, "allowed": 1, "shortened": 0}
    assert shown["refused"][0]["verdict"]["rule"] == "deny"
    more = await bare("policy", "dry-run", "-c", str(path), "--file", str(new), "--days", "30", "--limit", "1")
    assert "of 4 calls" in more.out
    assert "and 1 more; all with --limit 0" in more.err


async def test_apply_dry_run_changes_nothing(bare: Nomad, path: Path, policy: Path, tmp_path: Path) -> None:
    write(tmp_path / "policy.tests.toml", TESTS)
    await keep(path, past(1, "1000"))
    new = write(tmp_path / "new.toml", WIDER)
    ran = await bare("policy", "apply", "-c", str(path), "--file", str(new), "--dry-run", "--days", "2")
    assert ran.code == 1
    assert "premium: expected refused" in ran.err
    assert ran.err.endswith("nomad: 1 expected verdicts do not come: it would not be applied\n")
    forced = await bare("policy", "apply", "-c", str(path), "--file", str(new), "--dry-run", "--force")
    assert forced.code == 0
    assert ran.out.startswith("of 1 calls since ")
    assert text_of(policy) == POLICY
    assert json.loads((await bare("policy", "history", "-c", str(path), "--json")).out) == []
