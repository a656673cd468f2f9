from __future__ import annotations

import json
from pathlib import Path

import pytest

from radius.config import ClientTable, Config, DirectoryTable, Listen
from radius.service import Service
from tests.cli.conftest import Nomad
from tests.cli.site import LEAST
from tests.harness.people import ALICE, DOMAIN, DORA, SAMPLE, ldif
from tests.harness.ports import HOST, free_port


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "nomad.toml").write_text(LEAST)
    (tmp_path / "people.ldif").write_text(ldif(SAMPLE))
    (tmp_path / "radius.secret").write_text("s3cret")
    monkeypatch.setenv("NOMAD_TEST_PASSWORD", ALICE.password)
    return str(tmp_path / "nomad.toml")


async def test_a_login_at_the_embedded_server(bare: Nomad, config: str) -> None:
    ran = await bare("radius-test", ALICE.login, "-c", config)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("embedded server: accepted in ")
    assert f"addresses        alice@{DOMAIN}" in ran.out
    shown = json.loads((await bare("radius-test", ALICE.mail, "--json", "-c", config)).out)
    (server,) = shown["servers"]
    assert (server["result"], server["grant"]["user"], server["ms"] > 0) == ("accepted", "alice", True)


async def test_limits_are_shown(bare: Nomad, config: str, tmp_path: Path) -> None:
    people = (tmp_path / "people.ldif").read_text()
    limits = "sipMaxCalls: 0\nsipAllowClass: internal\nsipAllowClass: national\n"
    (tmp_path / "people.ldif").write_text(people.replace(f"uid: {ALICE.login}\n", f"uid: {ALICE.login}\n{limits}", 1))
    ran = await bare("radius-test", ALICE.login, "-c", config)
    assert "  max_calls        0\n" in ran.out
    assert "  allowed_classes  internal, national\n" in ran.out


async def test_refusals(bare: Nomad, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = await bare("radius-test", "nobody", "-c", config)
    assert (ran.code, ran.out) == (1, "")
    assert "embedded server: refused in " in ran.err
    assert "Invalid credentials" in ran.err
    monkeypatch.setenv("NOMAD_TEST_PASSWORD", DORA.password)
    assert "This account is disabled" in (await bare("radius-test", DORA.login, "-c", config)).err


async def test_named_servers_are_asked_one_by_one(bare: Nomad, config: str, tmp_path: Path) -> None:
    directory = DirectoryTable(url="file:people.ldif")
    served = Config(
        client=(ClientTable(address=HOST, secret_file="radius.secret"),),
        directory=directory,
        listen=Listen(auth=f"{HOST}:0", acct=f"{HOST}:0"),
        domains=(DOMAIN,),
        folder=str(tmp_path),
    )
    service = Service(served)
    await service.start()
    try:
        good, bad = f"{HOST}:{service.addresses[0][1]}", f"{HOST}:{free_port()}"
        radius = f'[radius]\nauth = ["{good}", "{bad}"]\nacct = ["{good}"]\nsecret_file = "radius.secret"\n'
        (tmp_path / "nomad.toml").write_text(LEAST + radius + "timeout_s = 0.3\n")
        both = await bare("radius-test", ALICE.login, "-c", config)
        assert both.code == 1
        assert both.out.startswith(f"{good}: accepted")
        assert f"{bad}: unavailable" in both.err
        one = await bare("radius-test", ALICE.login, "--server", good, "-c", config)
        assert (one.code, one.err) == (0, "")
        (tmp_path / "radius.secret").write_text("wrong")
        wrong = await bare("radius-test", ALICE.login, "-s", good, "-c", config)
        assert wrong.code == 1
        assert "unavailable" in wrong.err
    finally:
        await service.close()


async def test_what_cannot_be_asked(bare: Nomad, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOMAD_RADIUS_SECRET", raising=False)
    assert "secret_file: is missing" in (await bare("radius-test", "a", "-s", HOST, "-c", config)).err
    assert "write host:port" in (await bare("radius-test", "a", "-s", "::1:1:x", "-c", config)).err
