from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Nomad
from tests.cli.site import LEAST
from tests.harness.people import BOB, DOMAIN, ERIN, SAMPLE, ldif

PASSWORD = re.compile(r"([a-z0-9]{4}-){4}[a-z0-9]{4}")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "nomad.toml").write_text(LEAST)
    (tmp_path / "people.ldif").write_text(ldif(SAMPLE))
    return str(tmp_path / "nomad.toml")


async def logs_in(nomad: Nomad, config: str, user: str, password: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setenv("NOMAD_TEST_PASSWORD", password)
    return (await nomad("radius-test", user, "-c", config, "--algorithm", "SHA-256")).code == 0


async def test_a_device_comes_and_goes(bare: Nomad, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await bare("secret", ERIN.login, "--device", "Desk", "-c", config)
    assert made.code == 0
    assert "created the credentials of device desk; the phone logs in as erin+desk" in made.err
    password = made.out.strip()
    assert PASSWORD.fullmatch(password)
    assert await logs_in(bare, config, "erin+desk", password, monkeypatch)
    assert await logs_in(bare, config, f"erin+desk@{DOMAIN}", password, monkeypatch)
    sofa = (await bare("secret", ERIN.mail, "-d", "sofa", "-c", config)).out.strip()
    rotated = json.loads((await bare("secret", "erin", "-d", "desk", "-c", config, "--json")).out)
    assert (rotated["done"], rotated["users"][0]) == ("rotated", "erin+desk")
    assert not await logs_in(bare, config, "erin+desk", password, monkeypatch)
    assert await logs_in(bare, config, "erin+desk", rotated["password"], monkeypatch)
    listed = json.loads((await bare("secret", "erin", "--list", "-c", config, "--json")).out)
    assert [each["device"] for each in listed["credentials"]] == ["desk", "sofa"]
    gone = await bare("secret", "erin", "-d", "desk", "--revoke", "-c", config)
    assert (gone.code, gone.out) == (0, "")
    assert "nomad kick erin" in gone.err
    assert not await logs_in(bare, config, "erin+desk", rotated["password"], monkeypatch)
    assert await logs_in(bare, config, "erin+sofa", sofa, monkeypatch), "one by one"
    again = await bare("secret", "erin", "-d", "desk", "--revoke", "-c", config)
    assert again.code == 1
    assert "erin has no credentials of device desk" in again.err


async def test_the_login_of_a_person_is_replaced_in_every_form(
    bare: Nomad, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await logs_in(bare, config, BOB.mail, BOB.password, monkeypatch)
    password = (await bare("secret", BOB.login, "-c", config)).out.strip()
    for form in (BOB.login, BOB.mail, f"{BOB.login}@{DOMAIN}"):
        assert await logs_in(bare, config, form, password, monkeypatch)
        assert not await logs_in(bare, config, form, BOB.password, monkeypatch)
    await bare("secret", BOB.login, "--revoke", "-c", config)
    assert not await logs_in(bare, config, BOB.login, password, monkeypatch)
    assert "bob has no SIP credentials" in (await bare("secret", BOB.login, "--list", "-c", config)).err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nobody"], "nobody has login 'nobody'"),
        (["erin", "-d", "a b"], "is no device name"),
        (["erin", "--list", "--revoke"], "exclude each other"),
        (["erin", "--ask", "--revoke"], "exclude each other"),
    ],
)
async def test_what_cannot_be(bare: Nomad, config: str, arguments: list[str], text: str) -> None:
    ran = await bare("secret", *arguments, "-c", config)
    assert (ran.code, ran.out) == (1, "")
    assert text in ran.err


async def test_a_chosen_password(bare: Nomad, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["short", "long enough"])
    monkeypatch.setattr("typer.prompt", lambda *_, **__: next(answers))
    short = await bare("secret", "erin", "--ask", "-c", config)
    assert (short.code, "too short" in short.err) == (1, True)
    long = await bare("secret", "erin", "--ask", "-c", config)
    assert (long.code, long.out) == (0, ""), "who typed it knows it"
    assert await logs_in(bare, config, "erin", "long enough", monkeypatch)


async def test_no_directory(bare: Nomad, tmp_path: Path) -> None:
    text = LEAST.replace('[directory]\nurl = "file:people.ldif"', "").replace(
        "[[pbx]]", '[radius]\nauth = ["127.0.0.1"]\nacct = ["127.0.0.1"]\nsecret_file = "s"\n[[pbx]]'
    )
    (tmp_path / "nomad.toml").write_text(text)
    (tmp_path / "s").write_text("x")
    ran = await bare("secret", "erin", "-c", str(tmp_path / "nomad.toml"))
    assert (ran.code, "directory.url: is missing" in ran.err) == (1, True)
    await asyncio.sleep(0)
