"""The composition root: a whole edge with its embedded RADIUS server, on loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from nomad import config
from nomad.app import Edge
from nomad.config import Config, ConfigError
from nomad.edge.calls import Call, CallState, Leg, freeze
from nomad.edge.policy import Ruleset
from nomad.edge.subscriptions import Subscription
from nomad.edge.subscriptions import freeze as freeze_subscription
from nomad.edge.trunks import Trunks
from nomad.inputs import load_ruleset
from nomad.ports import Grant, LiveCall, Reloaded, Target, Unavailable
from nomad.sip.events import Flow
from nomad.sip.uri import Uri
from nomad.stores.journal import JournalCalls
from nomad.stores.ledger import Ledger

PEOPLE = """dn: uid=alice,dc=example
objectClass: inetOrgPerson
uid: alice
mail: alice@inria.example
telephoneNumber: 1001
sipPassword: secret of alice
"""
POLICY = '[[group]]\nname = "{name}"\nmatch = {{ default = true }}\nallow = ["internal"]\n'
CONFIG = """
domain = "inria.example"
policy = "policy.toml"
[sip]
listen = ["udp:127.0.0.1:0", "tcp:127.0.0.1:0"]
[directory]
url = "file:people.ldif"
[[pbx]]
name = "pbx"
uri = "sip:127.0.0.1:5999"
[admin]
listen = "127.0.0.1:0"
[store]
url = "sqlite:///nomad.db"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "people.ldif").write_text(PEOPLE)
    (tmp_path / "policy.toml").write_text(POLICY.format(name="first"))
    file = tmp_path / "nomad.toml"
    file.write_text(CONFIG)
    return file


@pytest.fixture
async def edge(path: Path) -> AsyncIterator[Edge]:
    edge = Edge(config.load(path), config_path=path)
    await edge.start()
    yield edge
    await edge.stop(grace_s=0.5)


def write(path: Path, text: str) -> None:
    path.write_text(text)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.put_nowait(data)


async def ask(edge: Edge, make: Callable[[int], str]) -> bytes:
    """One request over UDP and its first answer."""
    loop = asyncio.get_running_loop()
    target = next((host, port) for transport, host, port in edge.sip_addresses if transport == "udp")
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    try:
        transport.sendto(make(transport.get_extra_info("sockname")[1]).encode(), target)
        async with asyncio.timeout(3):
            return await protocol.received.get()
    finally:
        transport.close()


def message(method: str, *, to: str = "<sip:x@inria.example>", call_id: str = "1") -> Callable[[int], str]:
    return lambda port: (
        f"{method} sip:inria.example SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{port};rport\r\n"
        f"From: <sip:alice@inria.example>;tag=from\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: 9 {method}\r\n"
        "Content-Length: 0\r\n\r\n"
    )


async def test_edge_serves_as_soon_as_it_has_started(edge: Edge) -> None:
    assert (await ask(edge, message("OPTIONS"))).startswith(b"SIP/2.0 200")
    assert (await ask(edge, message("REGISTER"))).startswith(b"SIP/2.0 401")
    assert edge.admin_url.startswith("http://127.0.0.1:")
    status = await edge.console.status()
    assert (status.calls, status.registrations, status.draining) == (0, 0, False)
    assert {listen.split(":")[0] for listen in status.listens} == {"udp", "tcp"}
    assert dict(status.pbx) == {"pbx": "sip:127.0.0.1:5999"}


async def test_reload_takes_up_the_policy_and_keeps_the_old_one_on_failure(edge: Edge, path: Path) -> None:
    policy = path.parent / "policy.toml"
    policy.write_text(POLICY.format(name="second"))
    assert (await edge.reload()).why == ""
    assert [group.name for group in edge.dispatcher.ruleset.groups] == ["second"]
    kept = edge.dispatcher.ruleset, edge.dispatcher.trunks, edge.config
    for file, text in (
        (policy, "[[group]]\nname = 5\n"),
        (policy, POLICY.format(name="x").replace("internal", "nothing")),
        (path, CONFIG.replace("[sip]", "[zip]")),
        (path, CONFIG.replace("sip:127.0.0.1:5999", "sip:[bad")),
        (path, CONFIG.replace('"policy.toml"', '"no.toml"')),
        (path, ""),
    ):
        before = file.read_text()
        file.write_text(text)
        assert (await edge.reload()).why
        assert (edge.dispatcher.ruleset, edge.dispatcher.trunks, edge.config) == kept
        file.write_text(before)
    policy.unlink()
    assert "policy" in (await edge.reload()).why
    assert (edge.dispatcher.ruleset, edge.dispatcher.trunks, edge.config) == kept
    policy.write_text('timezone = "Asia/Tokyo"\n' + POLICY.format(name="third"))
    assert (await edge.reload()).why == ""
    assert str(edge.usage.timezone) == "Asia/Tokyo"


async def test_a_large_policy_is_compiled_beside_the_calls(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def load(config: Config) -> Ruleset:
        threads.append(threading.current_thread())
        return load_ruleset(config)

    monkeypatch.setattr("nomad.app.load_ruleset", load)
    assert (await edge.reload()).why == ""
    assert threads
    assert threading.main_thread() not in threads


async def test_requests_outside_of_calls_are_switched_off_by_a_reload(edge: Edge, path: Path) -> None:
    assert (await ask(edge, message("SUBSCRIBE"))).startswith(b"SIP/2.0 407")
    write(path, CONFIG + "\n[events]\nenabled = false\nmax_per_person = 3\n")
    assert (await edge.reload()).why == ""
    assert (await ask(edge, message("SUBSCRIBE"))).startswith(b"SIP/2.0 405")
    assert edge.subscriptions.per_person == 3


async def test_subscription_of_an_earlier_process_is_there_again(path: Path) -> None:
    first = Edge(config.load(path))
    await first.start()
    now = time.time()
    leg = Leg("phone", Flow("udp", ("127.0.0.1", 5060), ("127.0.0.1", 9)), "from")
    kept = Subscription("sub-1", "id@phone", "alice", "dialog", leg, "pbx", ends_at=now + 1000)
    broken = LiveCall("sub-2", b"nonsense", now)
    await first._live_calls.put(freeze_subscription(kept, now))
    await first._live_calls.put(broken)
    await first.stop(grace_s=0)
    second = Edge(config.load(path))
    await second.start()
    try:
        assert [each.id for each in second.subscriptions] == ["sub-1"]
        assert second.calls.live == 0
    finally:
        await second.stop(grace_s=0)


async def test_of_two_reloads_at_once_the_later_one_counts(
    edge: Edge, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = path.parent / "policy.toml"
    tasks: list[asyncio.Task[Reloaded]] = []
    resolve = edge.resolver.resolve

    async def overtaken(uri: Uri) -> Sequence[Target]:
        monkeypatch.setattr(edge.resolver, "resolve", resolve)
        write(policy, POLICY.format(name="later"))
        tasks.append(asyncio.create_task(edge.reload()))
        await asyncio.wait(tasks, timeout=0.3)  # it would be done by then if it did not have to wait
        return await resolve(uri)

    monkeypatch.setattr(edge.resolver, "resolve", overtaken)
    write(policy, POLICY.format(name="earlier"))
    await edge.reload()
    await asyncio.gather(*tasks)
    assert [group.name for group in edge.dispatcher.ruleset.groups] == ["later"]


async def test_a_policy_that_cannot_be_used_is_in_log_and_metric(
    edge: Edge, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = path.parent / "policy.toml"
    policy.write_text(POLICY.format(name="x").replace("internal", "nothing"))
    with caplog.at_level(logging.WARNING):
        why = (await edge.reload()).why
    assert "policy.toml:" in why
    assert "no class 'nothing'" in why
    assert [(r.message, r.fields["why"]) for r in caplog.records if hasattr(r, "fields")] == [("reload-failed", why)]
    assert b"nomad_config_last_reload_success 0.0" in edge.metrics.render()[0]
    policy.write_text(POLICY.format(name="y") + "max_devices = 0\n")
    with caplog.at_level(logging.WARNING):
        assert (await edge.reload()).why == ""
    warnings = [r.fields["text"] for r in caplog.records if r.message == "policy-warning"]  # type: ignore[attr-defined]
    assert any("group[0].max_devices: is 0 and allows no device at all" in text for text in warnings)
    assert b"nomad_config_last_reload_success 1.0" in edge.metrics.render()[0]


async def test_requests_in_the_drain_are_refused(edge: Edge) -> None:
    edge.drain()
    assert (await ask(edge, message("REGISTER"))).startswith(b"SIP/2.0 503")
    assert (await edge.console.status()).draining


async def test_call_of_the_process_before_is_known_before_anybody_can_ask(path: Path) -> None:
    flow = Flow("udp", ("127.0.0.1", 5060), ("127.0.0.1", 5999))
    call = Call(
        "c1", "restored", "out", Grant("alice"), "alice@x", "1000@x", "internal", 1.0, Leg("phone", flow, "from")
    )
    call.state, call.answered_at, call.answered_by = CallState.ANSWERED, 1.0, "to"
    call.callees["to"] = Leg("pbx", flow, "to")
    ledger = Ledger(path.parent / "nomad-spool.db")
    await ledger.open()
    await JournalCalls(ledger).put(freeze(call, 1.0))
    await ledger.close()
    edge = Edge(config.load(path), config_path=path)
    opened = edge._open_endpoint
    known = []

    async def noting(trunks: Trunks) -> object:
        known.append(edge.calls.live)
        return await opened(trunks)

    edge._open_endpoint = noting  # type: ignore[method-assign,assignment]
    await edge.start()
    try:
        assert known == [1]
        answer = await ask(edge, message("BYE", to="<sip:1000@x>;tag=to", call_id="restored"))
        assert answer.startswith(b"SIP/2.0 407")  # known, but not from its phone
    finally:
        await edge.stop(grace_s=0.5)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("file:people.ldif", "file:nobody.ldif"),
        ("sip:127.0.0.1:5999", "sip:[bad"),
        ("sqlite:///nomad.db", "sqlite:////proc/nowhere/x.db"),
        ('["udp:127.0.0.1:0", "tcp:127.0.0.1:0"]', '["udp:192.0.2.1:0"]'),
    ],
)
async def test_start_that_fails_says_why_and_leaves_nothing_open(path: Path, old: str, new: str) -> None:
    write(path, CONFIG.replace(old, new))
    tasks = asyncio.all_tasks()
    with pytest.raises((ConfigError, Unavailable)) as wrong:
        await Edge(config.load(path), config_path=path).start()
    assert str(wrong.value)
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() <= tasks


async def test_start_with_a_nonce_key_that_is_too_short(path: Path) -> None:
    write(path.parent / "nonce.key", "short")
    write(path, CONFIG.replace("[sip]", '[sip]\nnonce_key_file = "nonce.key"'))
    with pytest.raises(ConfigError, match="at least 32"):
        await Edge(config.load(path)).start()


async def test_bans_survive_a_restart_and_reach_the_program(path: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    code = "import sys; open(sys.argv[1], 'a').write(' '.join(sys.argv[2:]) + '\\n')"
    words = ", ".join(
        f"'{word}'" if '"' in word else json.dumps(word) for word in (sys.executable, "-c", code, str(seen))
    )
    write(path, f"{CONFIG}\n[guard]\ncommand = [{words}]\n")
    edge = Edge(config.load(path), config_path=path)
    await edge.start()
    edge.guard.strike("198.51.100.7", "auth", 0.0, proven=False)
    edge.guard.strike("198.51.100.7", "scanner", edge._clock.monotonic(), proven=True)
    edge.guard.strike("198.51.100.8", "scanner", edge._clock.monotonic(), proven=True)
    assert await edge.console.unban("198.51.100.8")
    await edge.gate.firewall.settled()
    await edge.stop(grace_s=0.5)
    again = Edge(config.load(path), config_path=path)
    await again.start()
    try:
        assert [ban.address for ban in await again.console.bans()] == ["198.51.100.7"]
        assert not again.guard.admits("198.51.100.7", again._clock.monotonic())
        await again.gate.firewall.settled()
    finally:
        await again.stop(grace_s=0.5)
    told = [line.split()[:2] for line in seen.read_text().splitlines()]
    assert told == [
        ["ban", "198.51.100.7"],
        ["ban", "198.51.100.8"],
        ["unban", "198.51.100.8"],
        ["ban", "198.51.100.7"],
    ]
