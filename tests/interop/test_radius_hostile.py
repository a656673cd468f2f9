"""RADIUS servers and directories that misbehave: each phone is answered in time, everyone else is served meanwhile.

A real edge; the RADIUS server is a real socket that answers one person well and another badly.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.edge import FORBIDDEN, Edge
from tests.harness.hostile import HostileRadius
from tests.harness.people import ALICE, BOB, CAROL, DOMAIN
from tests.harness.ports import HOST, free_port
from tests.harness.processes import wait_until
from tests.harness.sipp import Sipp, credentials
from tests.harness.wire import Message, Wire

TIMEOUT_S = 1.0  # of RADIUS
MARGIN_S = 1.5  # for everything else on a busy machine
NOBODY = f"sip:{HOST}:9"
BEHAVIOURS = {
    "wrong-secret": "did not answer . tries; dropped what came: wrong Response Authenticator",
    "unsigned": "dropped what came: no Message-Authenticator in the reply",
    "truncated": "did not answer . tries; dropped what came:",
    "garbage": "did not answer . tries; dropped what came:",
    "elsewhere": "did not answer . tries",
    "late": "did not answer . tries",
    "silent": "did not answer . tries",
}


class HostileEdge(Edge):
    """An edge whose log may have what this file is about, and no traceback."""

    def check_log(self) -> None:
        bad = [
            line for line in self.log().splitlines() if any(word in line for word in FORBIDDEN if "ERROR" not in word)
        ]
        assert not bad, bad[:5]

    def _config(self, *arguments: object) -> str:
        text: str = super()._config(*arguments)  # type: ignore[arg-type]  # passed on as they are
        return text.replace("[radius]\n", "[radius]\nverdict_cache_s = 0\nverdict_outage_s = 0\n", 1)


def login(edge: Edge, wire: Wire) -> tuple[Message, float]:
    """A registration, and how long the answer to the credentials took."""
    request = wire.compose("REGISTER", f"sip:{DOMAIN}", to=wire.address)
    request = wire.authorize(request, wire.ask(request))
    started = time.monotonic()
    return wire.ask(request, timeout_s=10.0), time.monotonic() - started


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_one_answer_goes_wrong(tmp_path: Path, behaviour: str) -> None:
    radius = HostileRadius({BOB.login: behaviour})
    edge = HostileEdge(tmp_path, pbx=NOBODY, radius=radius, timeout_s=TIMEOUT_S)
    try:
        with Wire(edge.sip, BOB) as bad, Wire(edge.sip, ALICE) as good, ThreadPoolExecutor() as threads:
            waiting = threads.submit(login, edge, bad)
            wait_until(lambda: BOB.login in radius.asked, timeout_s=5, what="the request about bob")
            served = 0
            while not waiting.done():
                assert good.register().status == 200
                served += 1
        answer, took = waiting.result()
        assert (answer.status, answer.reason) == (503, "Authentication service unavailable")
        assert answer.get("Retry-After")
        assert took < TIMEOUT_S + MARGIN_S
        assert served >= 3
        assert edge.metric("nomad_radius_server_up") == 2, "a server that answers others is not dead"
        lines = [line for line in edge.log().splitlines() if "verdict=radius" in line]
        assert len(lines) == 1
        why = BEHAVIOURS[behaviour].split(".")
        assert radius.auth in lines[0]
        assert all(part in lines[0] for part in why), lines[0]
        dropped = {
            reason: edge.metric("nomad_radius_replies_dropped_total", kind="auth", reason=reason)
            for reason in ("forged", "malformed", "late")
        }
        expected = {"wrong-secret": "forged", "unsigned": "forged", "truncated": "malformed", "garbage": "malformed"}
        if behaviour in expected:
            assert dropped[expected[behaviour]] >= 2, dropped
        else:
            assert not any(dropped.values()), dropped
        if behaviour == "late":
            wait_until(
                lambda: edge.metric("nomad_radius_replies_dropped_total", kind="auth", reason="late"),
                timeout_s=8,
                what="the late answer dropped and counted",
            )
            assert edge.metric("nomad_registrations") == 1, "it lets nobody in any more"
    finally:
        edge.stop()
        radius.stop()


def test_every_second_packet_lost(tmp_path: Path) -> None:
    radius = HostileRadius(dict.fromkeys((ALICE.login, BOB.login, CAROL.login), "every-second"))
    edge = HostileEdge(tmp_path, pbx=NOBODY, radius=radius, timeout_s=2.0)
    try:
        for person in (ALICE, BOB, CAROL):
            with Wire(edge.sip, person) as phone:
                assert phone.register().status == 200
        assert len(radius.asked) >= 6
    finally:
        edge.stop()
        radius.stop()


def test_failover_is_named_and_load_is_shared(tmp_path: Path) -> None:
    """Two servers: the first is silent and found dead; then both answer and share the load."""

    class Shared(HostileEdge):
        def _config(self, *arguments: object) -> str:
            text = super()._config(*arguments)
            text = text.replace("[radius]\n", "[radius]\nload_share = true\n", 1)
            return text.replace(f'auth = ["{first.auth}"]', f'auth = ["{first.auth}", "{second.auth}"]')

    first, second = HostileRadius({BOB.login: "silent"}), HostileRadius({})
    edge = Shared(tmp_path, pbx=NOBODY, radius=first, timeout_s=TIMEOUT_S)
    try:
        with Wire(edge.sip, BOB) as phone:
            for _ in range(6):
                assert phone.register().status == 200, "the other server answers in time"
        assert second.asked.count(BOB.login) >= 6
        assert f"RADIUS server {first.auth} (auth) is dead: did not answer" in edge.log()
        wait_until(lambda: edge.metric("nomad_radius_server_up") == 3, timeout_s=8, what="Status-Server answered")
        assert f"RADIUS server {first.auth} (auth) is back" in edge.log()
        people = [(ALICE.login, credentials(ALICE.login, ALICE.password), "600")]
        run = Sipp(tmp_path / "sipp", "register", target=edge.address, fields=people, calls=200, rate=200).wait()
        assert (run.successful, run.failed) == (200, 0), run.errors
        shares = [server.asked.count(ALICE.login) for server in (first, second)]
        assert min(shares) > 60, shares
    finally:
        edge.stop()
        first.stop()
        second.stop()


def test_nobody_waits_for_a_server_that_is_known_to_be_dead(tmp_path: Path) -> None:
    """Circuit breaker: after three silent requests each phone hears at once, until the server answers Status-Server."""
    radius = HostileRadius({BOB.login: "silent", ALICE.login: "silent", "": "silent"})
    edge = HostileEdge(tmp_path, pbx=NOBODY, radius=radius, timeout_s=TIMEOUT_S)
    try:
        with Wire(edge.sip, BOB) as phone:
            for _ in range(3):
                assert login(edge, phone)[0].status == 503
            asked = radius.asked.count(BOB.login)
            for _ in range(5):
                answer, took = login(edge, phone)
                assert answer.status == 503
                assert took < TIMEOUT_S
            assert radius.asked.count(BOB.login) == asked, "it is spared"
        lines = [line for line in edge.log().splitlines() if "verdict=radius" in line]
        assert f"{radius.auth} is dead for " in lines[-1]
        radius.improve("")
        wait_until(lambda: edge.metric("nomad_radius_server_up") == 2, timeout_s=8, what="an answer to Status-Server")
        with Wire(edge.sip, CAROL) as phone:
            assert phone.register().status == 200
    finally:
        edge.stop()
        radius.stop()


@pytest.fixture
def hanging() -> Iterator[str]:
    """An LDAP server that accepts connections and never answers a bind."""
    sock = socket.socket()
    sock.bind((HOST, 0))
    sock.listen(100)
    yield f"ldap://{HOST}:{sock.getsockname()[1]}"
    sock.close()


def test_a_directory_that_hangs_in_bind(tmp_path: Path, hanging: str) -> None:
    class LdapEdge(HostileEdge):
        def _config(self, *arguments: object) -> str:
            text = super()._config(*arguments)
            table = f'url = "{hanging}"\nbase = "dc=x"\nbind_dn = "cn=x"\nbind_password_file = "radius.secret"'
            return text.replace('url = "file:people.ldif"', table)

    edge = LdapEdge(tmp_path, pbx=NOBODY)
    (tmp_path / "radius.secret").write_text("x")
    edge.stop()
    edge.start()
    try:
        for _ in range(2):
            phones = [Wire(edge.sip, person) for person in (ALICE, BOB, CAROL)]
            with ThreadPoolExecutor() as threads:
                answers = [threads.submit(login, edge, phone) for phone in phones]
                with Wire(edge.sip) as other:
                    while not all(answer.done() for answer in answers):
                        assert other.ask(other.compose("OPTIONS", f"sip:{DOMAIN}")).status == 200
            for phone, answer in zip(phones, answers, strict=True):
                phone.close()
                message, took = answer.result()
                assert message.status == 503
                assert took < 2.0 + MARGIN_S
        assert f"directory is away: {hanging}" in edge.log()
    finally:
        edge.stop()


def test_ten_thousand_bad_logins_a_minute(tmp_path: Path) -> None:
    """At that rate for a while: each is refused, and people get in meanwhile."""
    edge = Edge(tmp_path, pbx=f"sip:{HOST}:{free_port()}", guard={"auth_failures": 1_000_000, "requests_per_s": 0})
    count, rate = 2000, 167
    bad = [(ALICE.login, credentials(ALICE.login, "wrong"), "600"), ("nobody", credentials("nobody", "x"), "600")]
    run = Sipp(
        tmp_path / "sipp",
        "register",
        target=edge.address,
        fields=bad,
        values={"CODE": "401"},
        calls=count,
        rate=rate,
        limit=1000,
        timeout_s=60.0,
    )
    try:
        served = 0
        with Wire(edge.sip, ALICE) as phone, Wire(edge.sip, CAROL) as other:
            while edge.metric("nomad_auth_total", result="refused") < count:
                assert phone.register().status == 200
                assert other.register().status == 200
                served += 2
        result = run.wait()
        assert (result.successful, result.failed) == (count, 0), result.errors
        assert served >= 50
        assert edge.metric("nomad_auth_total", result="unavailable") == 0
    finally:
        run.stop()
        edge.stop()
