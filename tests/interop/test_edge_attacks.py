"""Attacks with real tools on the real edge: SIPVicious scans and cracks, a thief dials with a stolen password."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.edge import POLICY, Edge
from tests.harness.hook import Hook
from tests.harness.people import ALICE, BOB, DORA
from tests.harness.ports import HOST, free_port
from tests.harness.processes import attempt, wait_until
from tests.harness.sipp import Sipp
from tests.harness.sipvicious import SipVicious
from tests.harness.wire import Dialog, Wire

ELSEWHERE = "127.0.0.2"  # where the PBX is when SIPVicious attacks from 127.0.0.1: the PBX's address is never banned
THIEF, NEIGHBOUR = "127.0.0.66", "127.0.0.67"
NAMES = [ALICE.login, "nobody", BOB.login, DORA.login, "100", ALICE.extension, "root", "zoe"]
RIGHT = ALICE.password
GUESSES = [f"guess{number}" for number in range(60)]
PREMIUM_TOO = POLICY.replace('"internal", "national"]', '"internal", "national", "premium"]')
NewEdge = Callable[..., Edge]


@pytest.fixture
def new_edge(tmp_path: Path) -> Iterator[NewEdge]:
    """Starts an edge whose PBX is at a port of the test."""
    edges: list[Edge] = []

    def start(pbx_port: int = 0, **options: Any) -> Edge:
        host = HOST if pbx_port else ELSEWHERE
        folder = tmp_path / f"edge{len(edges)}"
        folder.mkdir()
        (folder / "none.toml").write_text("agents = []\n")
        edges.append(Edge(folder, pbx=f"sip:{host}:{pbx_port or free_port()}", **options))
        return edges[-1]

    yield start
    for edge in edges:
        edge.stop()


@pytest.fixture
def attack(tmp_path: Path) -> Callable[[Edge], SipVicious]:
    """SIPVicious against an edge."""
    return lambda edge: SipVicious(tmp_path, edge.sip)


def bans(edge: Edge) -> list[tuple[str, str, str]]:
    return [(ban["address"], ban["kind"], ban["reason"]) for ban in edge.get("/api/v1/bans")["bans"]]


def nomad(edge: Edge, *arguments: str) -> str:
    """A command of ours against the edge; it must succeed."""
    done = attempt([sys.executable, "-m", "nomad", *arguments, "-c", edge.folder / "nomad.toml"])
    assert done.returncode == 0, done.stdout
    return done.stdout


# -- SIPVicious as it is: known by its signature


def test_sipvicious_as_it_comes_finds_nothing(new_edge: NewEdge, attack: Callable[[Edge], SipVicious]) -> None:
    edge = new_edge()
    tool = attack(edge)
    assert tool.svmap().rows == ()
    assert tool.svwar(NAMES).rows == ()
    assert tool.svcrack(ALICE.login, [RIGHT]).rows == ()  # not even when the first guess is right
    assert bans(edge) == [(HOST, "slowed", "scanner")]
    assert edge.metric("nomad_auth_total", result="refused") == 0
    assert edge.metric("nomad_auth_total", result="challenged") == 0
    assert edge.metric("nomad_guard_suspects_total", reason="scanner") >= 1
    with Wire(edge.sip, BOB, host=NEIGHBOUR) as neighbour:
        assert neighbour.register().status == 200


# -- SIPVicious with its signatures changed: known by what it does


def test_a_disguised_war_dialler_cannot_tell_names_apart(
    new_edge: NewEdge, attack: Callable[[Edge], SipVicious]
) -> None:
    edge = new_edge(guard={"scanners": "none.toml"})
    tool = attack(edge)
    assert tool.svmap().rows != ()  # the disguise works: somebody is here
    for method in ("REGISTER", "INVITE", "OPTIONS"):
        rows = tool.svwar(NAMES, method).rows
        told = {state for _, state in rows}
        names = {name for name, _ in rows}
        assert rows == () or (len(told) == 1 and names >= set(NAMES)), f"{method} told names apart: {rows}"
    assert edge.metric("nomad_auth_total", result="accepted") == 0


def test_a_disguised_cracker_is_banned_before_it_is_right(
    new_edge: NewEdge, attack: Callable[[Edge], SipVicious]
) -> None:
    edge = new_edge(guard={"scanners": "none.toml", "auth_failures": 20, "ban_s": 600.0, "refusal_s": 0.02})
    tool = attack(edge)
    found = tool.svcrack(ALICE.login, [*GUESSES, RIGHT])
    assert found.rows == (), found.output
    assert bans(edge) == [(HOST, "banned", "auth")]
    assert edge.metric("nomad_bans_total", reason="auth") == 1
    assert 20 <= edge.metric("nomad_auth_total", result="refused") <= 40  # some were on their way
    assert tool.svcrack(ALICE.login, [RIGHT]).rows == ()
    assert edge.metric("nomad_auth_total", result="accepted") == 0
    assert HOST in nomad(edge, "bans")
    assert "ban" in nomad(edge, "audit")
    edge.kill9()
    edge.start()
    assert bans(edge) == [(HOST, "banned", "auth")]
    assert tool.svcrack(ALICE.login, [RIGHT]).rows == ()
    with Wire(edge.sip, ALICE, host=NEIGHBOUR) as neighbour:
        assert neighbour.register().status == 200
    nomad(edge, "unban", HOST)
    tool.svcrack(ALICE.login, [RIGHT])
    # So the tool's credentials are right, and it was the ban that stopped them. It takes the 403 that its Contact earns
    # for a wrong password.
    assert edge.metric("nomad_auth_total", result="accepted") == 2


# -- a stolen password


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A webhook, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    hook = asyncio.run_coroutine_threadsafe(Hook().start(), loop).result(10)
    yield hook
    asyncio.run_coroutine_threadsafe(hook.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def dial(thief: Wire, numbers: list[str]) -> tuple[list[Dialog], str]:
    """Call number after number until one is refused; the calls, and what was said then."""
    calls: list[Dialog] = []
    for number in numbers:
        try:
            calls.append(thief.call(number))
        except AssertionError as refused:
            return calls, str(refused)
    return calls, ""


def test_a_thief_who_dials_many_expensive_numbers_is_stopped(new_edge: NewEdge, hook: Hook, tmp_path: Path) -> None:
    pbx_port = free_port()
    extra = '[fraud]\ndestinations = { limit = 3, actions = ["lock", "end-calls", "tell-admin"] }\n'
    extra += f'[alarms]\nwebhook = "{hook.url}"\n'
    edge = new_edge(pbx_port, policy=PREMIUM_TOO, extra=extra)
    pbx = Sipp(tmp_path / "pbx", "answer", calls=3, port=pbx_port)
    with Wire(edge.sip, ALICE, host=THIEF) as thief:
        assert thief.register().status == 200
        calls, said = dial(thief, [f"08991{number:03}" for number in range(20)])
        assert len(calls) == 3
        assert "403 Account locked, please call your help desk" in said
        ended = []
        while (message := thief.receive(2.0)) is not None:
            if message.method == "BYE":
                ended.append(message.get("Call-ID"))
                thief.send(thief.answer(message, 200))
        assert sorted(set(ended)) == sorted(call.call_id for call in calls)
        assert pbx.wait().successful == 3  # each of its legs got its BYE
        assert thief.register().status == 401
    with Wire(edge.sip, ALICE) as owner:
        assert owner.register().status == 401
    wait_until(lambda: hook.posts, timeout_s=5, what="the webhook")
    alarm = json.loads(hook.posts[0][1])["alarm"]
    assert (alarm["user"], alarm["rule"], alarm["peer"]) == ("alice", "destinations", THIEF)
    assert sorted(alarm["calls"]) == ["08991000", "08991001", "08991002"]
    for call in calls:
        edge.wait_accounted(call.call_id, "Start", "Stop")
    assert "destinations" in nomad(edge, "locks")
    edge.restart()
    with Wire(edge.sip, ALICE) as owner:
        assert owner.register().status == 401
    nomad(edge, "unlock", "alice")
    with Wire(edge.sip, ALICE) as owner:
        assert owner.register().status == 200
    entries = json.loads(nomad(edge, "audit", "--json"))
    assert {("fraud", "lock", "alice")} <= {(each["by"], each["action"], each["what"]) for each in entries}
    assert any(each["action"] == "unlock" and each["by"].startswith("admin ") for each in entries)
    assert "none changed" in nomad(edge, "audit", "--verify")


def test_a_thief_who_makes_short_calls_is_stopped(new_edge: NewEdge, tmp_path: Path) -> None:
    pbx_port = free_port()
    extra = '[fraud]\nshort_calls = { limit = 4, within_s = 600.0, actions = ["lock", "end-calls"] }\n'
    edge = new_edge(pbx_port, policy=PREMIUM_TOO, extra=extra)
    pbx = Sipp(tmp_path / "pbx", "answer", calls=4, port=pbx_port)
    with Wire(edge.sip, ALICE, host=THIEF) as thief:
        for number in range(4):
            assert thief.hang_up(thief.call(f"08991{number}")).status == 200
        wait_until(lambda: edge.get("/api/v1/locks")["locks"], timeout_s=5, what="the lock")
        calls, said = dial(thief, ["089919"])
        assert calls == []
        assert "407" in said
    assert pbx.wait().successful == 4
