from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import datetime

import pytest

from nomad.cli.records import COLUMNS, safe_cell
from tests.admin.console import ListConsole
from tests.cli.conftest import Nomad
from tests.stores.samples import cdr


async def test_table(nomad: Nomad) -> None:
    ran = await nomad("cdr")
    lines = ran.out.splitlines()
    assert lines[0].split()[:3] == ["STARTED", "TALK", "DIR"]
    assert len(lines) == 6
    assert lines[1].split()[2:6] == ["0:01:00", "out", "alice", "alice@inria.example"]
    assert "User-Request" in lines[1]


async def test_a_refusal_shows_its_reason(nomad: Nomad, console: ListConsole) -> None:
    console.records = [replace(cdr(1), result="refused", status=403, rule="class", reason="Premium numbers are barred")]
    assert "Premium numbers are barred" in (await nomad("cdr")).out
    console.records = []
    assert (await nomad("cdr")).err == "no calls in this period\n"


async def test_json(nomad: Nomad) -> None:
    for arguments in (["--json"], ["--format", "json"]):
        found = json.loads((await nomad("cdr", *arguments)).out)
        assert [each["id"] for each in found] == ["call-4", "call-3", "call-2", "call-1", "call-0"]
        assert found[0]["started_at"] == 1004.0


async def test_csv(nomad: Nomad, console: ListConsole) -> None:
    console.records = [replace(cdr(1), user_agent='=cmd|"/c calc"!A1', reason="a,b", answered_at=None)]
    rows = list(csv.DictReader(io.StringIO((await nomad("cdr", "--format", "csv")).out)))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["user_agent"] == '\'=cmd|"/c calc"!A1'
    assert rows[0]["callee"] == "+33123456789@inria.example"
    assert rows[0]["reason"] == "a,b"
    assert rows[0]["answered_at"] == ""
    assert rows[0]["duration_s"] == "60.5"
    assert datetime.fromisoformat(rows[0]["started_at"]).timestamp() == 1001


async def test_user_and_period_reach_the_edge(nomad: Nomad, console: ListConsole) -> None:
    await nomad("cdr", "--user", "bob", "--since", "1970-01-02T00:00:00+00:00", "--until", "1970-01-03T00:00:00+00:00")
    query = console.queries[-1]
    assert (query.user, query.since, query.until) == ("bob", 86400.0, 172800.0)


async def test_a_wrong_time_is_told(nomad: Nomad) -> None:
    ran = await nomad("cdr", "--since", "last week")
    assert ran.code == 1
    assert ran.err.startswith("nomad: 'last week' is no time; write 2026-11-01")


async def test_the_limit_is_told(nomad: Nomad) -> None:
    ran = await nomad("cdr", "--limit", "2", "--json")
    assert len(json.loads(ran.out)) == 2
    assert ran.err == "only the newest 2 are shown; more with --limit, all with --limit 0\n"
    assert (await nomad("cdr", "--limit", "5")).err == ""


async def test_all_pages(nomad: Nomad, console: ListConsole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nomad.cli.records.PAGE", 3)
    console.records = [cdr(n, started_at=1000.0 + n // 2) for n in range(10)]
    for limit, wanted in (("0", 10), ("7", 7)):
        found = json.loads((await nomad("cdr", "--json", "--limit", limit)).out)
        assert len({each["id"] for each in found}) == len(found) == wanted


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("alice", "alice"),
        ("+33123456789", "+33123456789"),
        ("+33123456789@inria.example", "+33123456789@inria.example"),
        ("=1+1", "'=1+1"),
        ("+1+1", "'+1+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ('+cmd|" /C calc"!A0', '\'+cmd|" /C calc"!A0'),
        ("\t=1", "\\t=1"),
        ("a\r\n=1", "a\\r\\n=1"),
    ],
)
def test_no_cell_is_a_formula(text: str, cell: str) -> None:
    assert safe_cell(text) == cell
