from __future__ import annotations

import json

import pytest

from nomad.ports import AuditCheck
from tests.admin.console import ListConsole
from tests.cli.conftest import Nomad


async def test_deeds_are_listed_newest_first(nomad: Nomad, console: ListConsole) -> None:
    lines = (await nomad("audit")).out.splitlines()
    assert lines[0].split() == ["NUMBER", "AT", "BY", "ACTION", "WHAT", "WHY"]
    assert [line.split()[0] for line in lines[1:]] == ["3", "2", "1"]
    assert lines[1].endswith("auth; seconds=60")
    assert [each["number"] for each in json.loads((await nomad("audit", "--json", "--limit", "2")).out)] == [3, 2]
    console.entries.clear()
    assert (await nomad("audit", "--since", "2h")).err == "nothing is on record\n"


async def test_deeds_come_in_pages(nomad: Nomad, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nomad.cli.audit.PAGE", 2)
    assert [each["number"] for each in json.loads((await nomad("audit", "--json", "--limit", "0")).out)] == [3, 2, 1]
    assert [each["number"] for each in json.loads((await nomad("audit", "--json", "--limit", "3")).out)] == [3, 2, 1]


async def test_the_chain_is_verified(nomad: Nomad, console: ListConsole) -> None:
    assert (await nomad("audit", "--verify")).out == "3 entries, none changed; head 3:hash3\n"
    assert (await nomad("audit", "--verify", "--head", "2:hash2")).code == 0
    console.checked = AuditCheck(1, "hash1", 2, "entry 2 was changed")
    ran = await nomad("audit", "--verify")
    assert (ran.code, ran.err) == (1, "nomad: the audit log was tampered with: entry 2 was changed\n")
    ran = await nomad("audit", "--verify", "--json")
    assert (ran.code, json.loads(ran.out)["broken_at"]) == (1, 2)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("9:hash9", "entry 9 is missing"),
        ("2:other", "entry 2 is not what was noted"),
        ("nonsense", "write it as --verify printed it"),
    ],
)
async def test_a_noted_head_must_be_there(nomad: Nomad, head: str, said: str) -> None:
    ran = await nomad("audit", "--verify", "--head", head)
    assert ran.code == 1
    assert said in ran.err


async def test_a_head_without_verify_is_refused(nomad: Nomad) -> None:
    assert (await nomad("audit", "--head", "1:x")).code == 1
