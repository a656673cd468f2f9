from __future__ import annotations

from dataclasses import replace

import pytest

from nomad.admin.app import AdminServer
from nomad.metrics import Metrics
from nomad.ports import Unavailable
from tests.admin.conftest import Ask
from tests.admin.console import ListConsole


async def test_healthy(ask: Ask) -> None:
    assert await ask("GET", "/healthz") == (200, {"ok": True})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"draining": True}, "draining"),
        ({"radius": (("a", False), ("b", False))}, "no RADIUS server answers"),
    ],
)
async def test_not_healthy(console: ListConsole, ask: Ask, change: dict[str, object], why: str) -> None:
    console.state = replace(console.state, **change)  # type: ignore[arg-type]  # the cases name fields of Status
    assert await ask("GET", "/healthz") == (503, {"ok": False, "why": why})


async def test_one_radius_server_is_enough(console: ListConsole, ask: Ask) -> None:
    console.state = replace(console.state, radius=(("a", False), ("b", True)))
    assert (await ask("GET", "/healthz"))[0] == 200


async def test_not_healthy_when_the_edge_cannot_say(console: ListConsole, ask: Ask) -> None:
    console.down = "store is gone"
    assert await ask("GET", "/healthz") == (503, {"ok": False, "why": "store is gone"})


async def test_metrics(ask: Ask) -> None:
    status, text = await ask("GET", "/metrics")
    assert status == 200
    assert 'nomad_build_info{version="1.2.3"} 1.0' in text
    status, text = await ask("GET", "/metrics/users")
    assert status == 200
    assert "# TYPE nomad_user_calls_total counter" in text


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "[::1]:8080", "localhost", "Console.inria.example:80"])
async def test_known_hosts_come_in(ask: Ask, host: str) -> None:
    assert (await ask("GET", "/api/v1/status", headers={"Host": host}))[0] == 200


@pytest.mark.parametrize("host", ["attacker.example", "127.0.0.1.attacker.example", "localhost.attacker.example", "["])
async def test_a_rebound_name_stays_out(ask: Ask, host: str) -> None:
    for path in ("/api/v1/status", "/metrics/users"):
        status, answer = await ask("GET", path, headers={"Host": host})
        assert status == 403
        assert "unknown Host" in answer["error"]
    assert (await ask("GET", "/metrics", headers={"Host": host}))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_posts_of_other_origins_are_refused(console: ListConsole, ask: Ask, headers: dict[str, str]) -> None:
    status, answer = await ask("POST", "/api/v1/drain", json={}, headers=headers)
    assert status == 403
    assert "another origin" in answer["error"]
    assert not console.state.draining


async def test_a_post_of_the_own_origin_is_taken(server: AdminServer, ask: Ask) -> None:
    headers = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert (await ask("POST", "/api/v1/drain", json={}, headers=headers))[0] == 200


@pytest.mark.parametrize("token", [b"sesame"])
async def test_a_token_is_demanded(ask: Ask, token: bytes) -> None:
    for path in ("/api/v1/status", "/metrics/users"):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic sesame"}):
            status, answer = await ask("GET", path, headers=headers)
            assert status == 401
            assert "admin token" in answer["error"]
        good = {"Authorization": "Bearer sesame", "Host": "any.example"}
        assert (await ask("GET", path, headers=good))[0] == 200
    assert (await ask("GET", "/healthz"))[0] == (await ask("GET", "/metrics"))[0] == 200


async def test_a_taken_port_is_told(server: AdminServer) -> None:
    second = AdminServer(ListConsole(), Metrics())
    with pytest.raises(Unavailable, match=r"admin: cannot listen on 127\.0\.0\.1:\d+: "):
        await second.start(*server.address)
