from __future__ import annotations

from dataclasses import replace

import pytest

from tests.admin.conftest import Ask
from tests.admin.console import ListConsole
from tests.stores.samples import cdr, registration


async def test_status(ask: Ask) -> None:
    status, answer = await ask("GET", "/api/v1/status")
    assert status == 200
    assert answer["registrations"] == 2
    assert answer["radius"] == [{"server": "127.0.0.1:1812", "up": True}]
    assert answer["pbx"] == [{"name": "asterisk", "uri": "sip:127.0.0.1:5070"}]


async def test_registrations_are_flat(ask: Ask) -> None:
    _, answer = await ask("GET", "/api/v1/registrations")
    assert (answer["total"], answer["more"]) == (2, False)
    alice = answer["registrations"][0]
    assert (alice["user"], alice["extension"], alice["addresses"]) == ("alice", "1001", ["alice@inria.example"])
    assert alice["bindings"][0]["peer"] == "192.0.2.1:1025"
    assert alice["bindings"][0]["expires_in_s"] == 0  # it expired long ago


async def test_registrations_by_page_and_user(console: ListConsole, ask: Ask) -> None:
    console.registered = [registration(f"user{n}", n) for n in range(5)]
    _, first = await ask("GET", "/api/v1/registrations?limit=3")
    assert ([each["user"] for each in first["registrations"]], first["more"]) == (["user0", "user1", "user2"], True)
    _, second = await ask("GET", "/api/v1/registrations?limit=3&after=user2")
    assert ([each["user"] for each in second["registrations"]], second["more"]) == (["user3", "user4"], False)
    _, one = await ask("GET", "/api/v1/registrations?user=user4")
    assert [each["user"] for each in one["registrations"]] == ["user4"]


async def test_text_that_is_no_utf8_is_shown(console: ListConsole, ask: Ask) -> None:
    console.registered = [registration("al\udcffice")]
    _, answer = await ask("GET", "/api/v1/registrations")
    assert answer["registrations"][0]["user"] == r"al\xffice"


async def test_calls_and_hangup(console: ListConsole, ask: Ask) -> None:
    _, answer = await ask("GET", "/api/v1/calls")
    assert [call["id"] for call in answer["calls"]] == ["call-1"]
    assert await ask("POST", "/api/v1/hangup", json={"call": "call-1"}) == (200, {"call": "call-1"})
    assert console.active == []
    status, answer = await ask("POST", "/api/v1/hangup", json={"call": "call-1"})
    assert status == 404
    assert "no call call-1" in answer["error"]


async def test_kick(console: ListConsole, ask: Ask) -> None:
    assert await ask("POST", "/api/v1/kick", json={"user": "alice"}) == (200, {"user": "alice", "removed": 1})
    assert (await ask("POST", "/api/v1/kick", json={"user": "alice"}))[0] == 404


async def test_bans_and_unban(ask: Ask) -> None:
    _, answer = await ask("GET", "/api/v1/bans")
    assert answer["bans"][0]["reason"] == "scanner"
    assert (await ask("POST", "/api/v1/unban", json={"address": "198.51.100.9"}))[0] == 200
    assert (await ask("POST", "/api/v1/unban", json={"address": "198.51.100.9"}))[0] == 404


async def test_cdrs(console: ListConsole, ask: Ask) -> None:
    console.records.append(replace(cdr(9), user="bob"))
    _, answer = await ask("GET", "/api/v1/cdrs?user=alice&since=1001.5&until=1004&limit=1")
    assert [each["id"] for each in answer["cdrs"]] == ["call-3"]
    await ask("GET", "/api/v1/cdrs?limit=999999")
    assert console.queries[-1].limit == 10_000


async def test_reload_and_drain(console: ListConsole, ask: Ask) -> None:
    policy = {"version": "7", "sha": "ab" * 32, "source": "policy.toml"}
    done = {"reloaded": True, "restart": [], "policy": policy}
    assert await ask("POST", "/api/v1/reload", json={}) == (200, done)
    console.reload_says = "policy.toml:3: unknown key"
    assert await ask("POST", "/api/v1/reload", json={}) == (
        409,
        {"error": "nothing changed: policy.toml:3: unknown key"},
    )
    assert await ask("POST", "/api/v1/drain", json={}) == (200, {"draining": True})
    assert console.state.draining


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/cdrs?limit=0", 400),
        ("/api/v1/cdrs?limit=-1", 400),
        ("/api/v1/cdrs?limit=x", 400),
        ("/api/v1/cdrs?since=nan", 400),
        ("/api/v1/cdrs?until=yesterday", 400),
        ("/api/v1/nothing", 404),
        ("/api/v1/drain", 405),
        ("/", 404),
    ],
)
async def test_bad_questions_get_json(ask: Ask, path: str, status: int) -> None:
    got, answer = await ask("GET", path)
    assert got == status
    assert answer["error"]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"data": {"call": "call-1"}}, 415),  # what an HTML form sends
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"data": b"\xff", "headers": {"Content-Type": "application/json"}}, 400),
        ({"json": []}, 400),
        ({"json": {}}, 400),
        ({"json": {"call": 1}}, 400),
        ({"json": {"call": "x" * 70_000}}, 413),
    ],
)
async def test_bad_commands_get_json(console: ListConsole, ask: Ask, options: dict[str, object], status: int) -> None:
    got, answer = await ask("POST", "/api/v1/hangup", **options)
    assert got == status
    assert answer["error"]
    assert console.active


async def test_an_unavailable_store_is_503(console: ListConsole, ask: Ask) -> None:
    console.down = "store sqlite: disk full"
    assert await ask("GET", "/api/v1/cdrs") == (503, {"error": "store sqlite: disk full"})


async def test_locks(console: ListConsole, ask: Ask) -> None:
    _, answer = await ask("GET", "/api/v1/locks")
    assert [(lock["user"], lock["why"]) for lock in answer["locks"]] == [("mallory", "stolen phone")]
    assert await ask("POST", "/api/v1/lock", json={"user": "bob"}) == (400, {"error": 'send {"why": "..."}'})
    assert await ask("POST", "/api/v1/lock", json={"user": "bob", "why": "odd"}) == (200, {"user": "bob", "removed": 2})
    assert await ask("POST", "/api/v1/unlock", json={"user": "bob"}) == (200, {"user": "bob"})
    assert (await ask("POST", "/api/v1/unlock", json={"user": "bob"}))[0] == 404


async def test_audit_by_page(console: ListConsole, ask: Ask) -> None:
    _, first = await ask("GET", "/api/v1/audit?limit=2")
    assert [each["number"] for each in first["entries"]] == [3, 2]
    assert first["entries"][0]["more"] == {"seconds": "60"}
    _, second = await ask("GET", "/api/v1/audit?before=2")
    assert [each["number"] for each in second["entries"]] == [1]
    _, late = await ask("GET", "/api/v1/audit?since=1003")
    assert [each["number"] for each in late["entries"]] == [3]
    assert (await ask("GET", "/api/v1/audit?before=x"))[0] == 400
    assert (await ask("GET", "/api/v1/audit/verify"))[1]["entries"] == 3


async def test_who_commands_is_told(console: ListConsole, ask: Ask) -> None:
    await ask("POST", "/api/v1/drain", json={}, headers={"X-Nomad-User": "eve\u202e" + "x" * 100})
    await ask("POST", "/api/v1/hangup", json={"call": "call-1"})
    assert console.by == [f"admin eve{'x' * 60}@127.0.0.1", "admin somebody@127.0.0.1"]
