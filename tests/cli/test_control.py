from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nomad.cli.times import local_short
from tests.admin.console import ListConsole
from tests.cli.conftest import Nomad
from tests.stores.samples import registration


async def test_status(nomad: Nomad) -> None:
    ran = await nomad("status")
    assert ran.code == 0
    assert "serving" in ran.out
    assert "127.0.0.1:1812 up" in ran.out
    assert "7 abababababab policy.toml" in ran.out
    assert "needs a restart" in ran.out
    assert json.loads((await nomad("status", "--json")).out)["registrations"] == 2


async def test_registrations(nomad: Nomad, console: ListConsole) -> None:
    ran = await nomad("registrations")
    lines = ran.out.splitlines()
    assert lines[0].split() == [
        "USER",
        "EXTENSION",
        "ADDRESS",
        "PEER",
        "SINCE",
        "EXPIRES",
        "IN",
        "USER",
        "AGENT",
        "PATH",
    ]
    assert lines[1].split()[:5] == ["alice", "1001", "alice@inria.example", "udp", "192.0.2.1:1025"]
    assert len(lines) == 3
    assert [each["user"] for each in json.loads((await nomad("registrations", "--json")).out)] == ["alice", "bob"]
    assert [line.split()[0] for line in (await nomad("registrations", "--user", "bob")).out.splitlines()] == [
        "USER",
        "bob",
    ]
    console.registered = []
    assert (await nomad("registrations")).err == "nobody is registered\n"
    assert (await nomad("registrations", "-u", "zoe")).err == "zoe is not registered\n"


async def test_registrations_show_since_when_with_what_and_by_which_path(nomad: Nomad, console: ListConsole) -> None:
    found = console.registered[0]
    path = ("<sip:p1.example;lr;ob>", "<sip:p2.example;lr>")
    phone = replace(found.bindings[0], path=path, registered_at=1_800_000_000.0, user_agent="Phone/1.0", reg_id=2)
    console.registered = [replace(found, bindings=(phone,))]
    line = (await nomad("registrations")).out.splitlines()[1]
    for text in (local_short(1_800_000_000.0), "Phone/1.0", " ".join(path)):
        assert text in line
    (shown,) = json.loads((await nomad("registrations", "--json")).out)[0]["bindings"]
    assert (shown["registered_at"], shown["user_agent"], shown["reg_id"]) == (1_800_000_000.0, "Phone/1.0", 2)
    assert shown["path"] == list(path)


async def test_registrations_come_in_pages(nomad: Nomad, console: ListConsole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nomad.cli.connection.PAGE", 2)
    console.registered = [registration(f"user{n}", n) for n in range(5)]
    assert len(json.loads((await nomad("registrations", "--json")).out)) == 5


async def test_calls_and_hangup(nomad: Nomad) -> None:
    ran = await nomad("calls")
    assert ran.out.splitlines()[1].split()[:2] == ["call-1", "answered"]
    assert json.loads((await nomad("calls", "--json")).out)[0]["id"] == "call-1"
    assert (await nomad("hangup", "call-1")).out == "call call-1 is ended\n"
    ran = await nomad("hangup", "call-1")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "nomad: there is no call call-1; see: nomad calls\n"
    ran = await nomad("calls")
    assert (ran.code, ran.out, ran.err) == (0, "", "no calls in progress\n")


async def test_kick(nomad: Nomad) -> None:
    assert (await nomad("kick", "alice")).out == "alice: 1 registrations and calls removed\n"
    assert (await nomad("kick", "alice")).code == 1
    assert json.loads((await nomad("kick", "bob", "--json")).out) == {"user": "bob", "removed": 1}


async def test_bans_and_unban(nomad: Nomad) -> None:
    assert "198.51.100.9  banned  scanner" in (await nomad("bans")).out
    assert json.loads((await nomad("bans", "--json")).out)[0]["reason"] == "scanner"
    assert (await nomad("unban", "198.51.100.9")).code == 0
    assert (await nomad("unban", "198.51.100.9")).code == 1
    assert (await nomad("bans")).err == "no address is banned\n"


async def test_reload_and_drain(nomad: Nomad, console: ListConsole) -> None:
    ran = await nomad("reload")
    assert (ran.out, ran.err) == ("reloaded; policy 7 abababababab policy.toml\n", "")
    console.restart = ("sip.listen",)
    assert (await nomad("reload")).err == "sip.listen changed, and needs a restart\n"
    assert json.loads((await nomad("reload", "--json")).out)["restart"] == ["sip.listen"]
    console.reload_says = "policy.toml:3: unknown key 'alow'; did you mean 'allow'?"
    ran = await nomad("reload")
    assert ran.code == 1
    assert ran.err == f"nomad: nothing changed: {console.reload_says}\n"
    assert (await nomad("drain")).code == 0
    assert console.state.draining
    assert "draining" in (await nomad("status")).out


async def test_what_peers_wrote_cannot_steer_the_terminal(nomad: Nomad, console: ListConsole) -> None:
    console.active = [replace(console.active[0], callee="\x1b]0;owned\x07[red]x\u202e\r\n@y")]
    ran = await nomad("calls")
    assert r"\x1b]0;owned\x07[red]x\u202e\r\n@y" in ran.out
    assert "\x1b" not in ran.out


@pytest.mark.parametrize("arguments", [["hangup"], ["nonsense"], ["status", "--nonsense"], ["cdr", "--format", "xml"]])
async def test_usage_errors_are_2(bare: Nomad, arguments: list[str]) -> None:
    ran = await bare(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Usage: nomad" in ran.err


async def test_help_and_version(bare: Nomad) -> None:
    ran = await bare("--help")
    assert ran.code == 0
    assert "registrations" in ran.out
    assert (await bare("--version")).out.startswith("nomad ")
