"""`nomad lookup`: each kind of address, with a directory, a policy, PBXs and a running edge."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nomad.admin.app import AdminServer
from tests.admin.console import ListConsole
from tests.cli.conftest import Nomad
from tests.cli.site import text_of, write
from tests.harness.people import ALICE
from tests.stores.samples import registration


async def look(bare: Nomad, path: Path, address: str, *more: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the answer in JSON, and the steps as people read them."""
    shown = await bare("lookup", address, "-c", str(path), *more)
    answer: dict[str, Any] = json.loads((await bare("lookup", address, "-c", str(path), "--json", *more)).out)
    return shown.code, answer, shown.out


async def test_an_extension(nomad: Nomad, path: Path, server: AdminServer, console: ListConsole) -> None:
    console.registered = [replace(registration("alice", 1), extension="1001")]
    code, answer, text = await look(nomad, path, "1001", "--admin", server.url)
    assert code == 0
    assert (answer["number"], answer["user"], answer["phones"]) == ("1001", "alice", ["udp 192.0.2.1:1025"])
    assert answer["from_phone"] == "sip:1001@127.0.0.1 by PBX pbx"
    assert answer["from_pbx"] == "1 phones of alice"
    steps = [each["step"] for each in answer["steps"]]
    assert steps == ["dial plan", "phone", "policy", "policy", "PBX", "DNS"]
    assert "class internal, by 're:[0-9]{4}'" in text
    assert "may be called by everybody" in text
    assert "sip:127.0.0.1:5999 is at udp:127.0.0.1:5999" in text
    assert text.splitlines()[-2:] == [
        "a member's call goes to sip:1001@127.0.0.1 by PBX pbx",
        "a call of the PBX goes to 1 phones of alice",
    ]


async def test_the_address_of_somebody_who_is_registered(
    nomad: Nomad, path: Path, server: AdminServer, console: ListConsole
) -> None:
    console.registered = [replace(registration(ALICE.login), addresses=(ALICE.mail,), extension=ALICE.extension)]
    code, answer, text = await look(nomad, path, f"sip:{ALICE.mail}", "--admin", server.url)
    assert code == 0
    assert f"{ALICE.login}, extension {ALICE.extension}" in text
    assert (answer["number"], answer["user"]) == (ALICE.extension, ALICE.login)
    assert answer["from_phone"].startswith(f"sip:{ALICE.extension}@")


async def test_the_address_of_somebody_who_is_not(
    nomad: Nomad, path: Path, server: AdminServer, console: ListConsole
) -> None:
    console.registered = []
    code, answer, text = await look(nomad, path, ALICE.mail, "--admin", server.url)
    assert (code, answer["from_phone"], answer["from_pbx"]) == (1, "nowhere", "nowhere")
    assert "404 until a phone is" in text
    code, _, text = await look(nomad, path, "nobody.at.all@inria.example", "--admin", server.url)
    assert code == 1
    assert "nobody is nobody.at.all@inria.example" in text


async def test_without_an_edge_the_rest_is_told(bare: Nomad, path: Path) -> None:
    code, answer, text = await look(bare, path, ALICE.login)
    assert code == 0
    assert "not known: no edge answers at" in text
    assert answer["number"] == ALICE.extension
    assert "once a phone of" in text


@pytest.mark.parametrize(
    ("address", "step", "told"),
    [
        ("1234*427", "ISN", "not routed yet"),
        ("+33139635511", "ENUM", "not routed yet"),
        ("tel:+33-1-39-63-55-11", "ENUM", "not routed yet"),
    ],
)
async def test_what_is_not_routed_is_said(bare: Nomad, path: Path, address: str, step: str, told: str) -> None:
    code, answer, _ = await look(bare, path, address)
    assert told in next(each["text"] for each in answer["steps"] if each["step"] == step)
    assert code == 1  # the policy has no class for it
    assert any("in no class" in each["text"] for each in answer["steps"])


async def test_the_dial_plan_refuses_what_the_edge_refuses(bare: Nomad, path: Path) -> None:
    code, answer, text = await look(bare, path, "sip:bob@elsewhere.example")
    assert code == 1
    assert "refused: 403 Calls to other domains are not allowed (elsewhere.example)" in text
    assert [each["step"] for each in answer["steps"]] == ["dial plan"]


async def test_emergency_numbers_and_numbers_that_nobody_may_call(bare: Nomad, path: Path) -> None:
    code, answer, text = await look(bare, path, "112")
    assert (code, answer["from_phone"]) == (0, "sip:112@127.0.0.1 by PBX pbx")
    assert "everybody may call it" in text
    assert "no PBX has it as extension: the first one" in text
    code, _, text = await look(bare, path, "0899123456")
    assert code == 1
    assert "may be called by nobody" in text


async def test_a_second_pbx_takes_its_extensions(bare: Nomad, path: Path) -> None:
    more = '[[pbx]]\nname = "lab"\nuri = "sip:[::1]:5998;transport=tcp"\nextensions = "7[0-9]{3}"\n'
    write(
        path,
        text_of(path).replace('uri = "sip:127.0.0.1:5999"', 'uri = "sip:127.0.0.1:5999"\nextensions = "1[0-9]{3}"')
        + more,
    )
    _, answer, text = await look(bare, path, "7001")
    assert answer["from_phone"] == "sip:7001@[::1] by PBX lab"
    assert "is at tcp:[::1]:5998" in text


@pytest.mark.parametrize("address", ["", "sip:", "sip:@", "http://x", "tel:", "a b@c d"])
async def test_what_is_no_address_is_told(bare: Nomad, path: Path, address: str) -> None:
    ran = await bare("lookup", address, "-c", str(path))
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert ran.err or "refused" in ran.out or "nowhere" in ran.out
