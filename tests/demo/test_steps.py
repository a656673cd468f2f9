"""A step that did not really happen does not count: each check against a stage that is broken in one way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nomad.demo import steps
from nomad.demo.pbx import Pbx
from nomad.demo.records import AdminApi, RecordsError
from nomad.demo.steps import ALICE, Stage, StepFailed, Steps
from tests.harness.phone import Peer, TinyRegistrar


@pytest.fixture
async def played(tmp_path: Path) -> AsyncIterator[tuple[Steps, TinyRegistrar, Pbx]]:
    """A registrar that knows Alice in place of the edge, and a PBX that nothing leads to."""
    registrar = TinyRegistrar({ALICE[0]: ALICE[1]})
    pbx = Pbx()
    await pbx.start()
    async with Peer(registrar.answer) as edge:
        stage = Stage(
            edge=edge.address, admin=AdminApi("http://127.0.0.1:9"), detail=tmp_path, pbx=pbx, pbx_address="pbx:5060"
        )
        pbx.trust(edge.address)
        made = Steps(stage)
        await made.start()
        yield made, registrar, pbx
        await made.stop()
    await pbx.stop()


async def test_register_is_seen_and_a_wrong_password_is_not_let_in(played: tuple[Steps, TinyRegistrar, Pbx]) -> None:
    made, registrar, _ = played
    assert await made.wrong_password() == "401 Who Are You, 401 Who Are You: not let in"
    assert await made.register() == "alice: 401 Who Are You, 200 OK, for 3600 s"
    registrar.users = {ALICE[0]: "not-" + ALICE[1]}
    with pytest.raises(StepFailed, match="401 Who Are You, 200 OK"):
        await made.wrong_password()
    registrar.nonce = "new"
    with pytest.raises(StepFailed, match="expected 401 then 200 for alice"):
        await made.register()


async def test_calls_that_fail_are_told(
    played: tuple[Steps, TinyRegistrar, Pbx], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "CALL_S", 0.05)
    made, registrar, _ = played
    with pytest.raises(StepFailed, match="1000 was not answered: 407 Who Are You, 404 Not Found"):
        await made.call_echo()
    with pytest.raises(StepFailed, match="there is no call"):
        await made.hang_up()
    with pytest.raises(StepFailed, match=r"expected 403 with the policy's reason, saw .*404 Not Found"):
        await made.refused_premium()
    registrar.on_invite = lambda transaction: transaction.answer(403, "Forbidden")
    with pytest.raises(StepFailed, match=r"expected 403 with the policy's reason, saw .*403 Forbidden"):
        await made.refused_premium()
    registrar.on_invite = lambda transaction: transaction.answer(403, "Premium numbers are not allowed")
    assert await made.refused_premium() == "0899123456: 403 Premium numbers are not allowed"


async def test_a_phone_that_does_not_ring_is_told(
    played: tuple[Steps, TinyRegistrar, Pbx], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "CALL_S", 0.1)
    made, registrar, _ = played
    registrar.users["bob"] = "bob-demo-3141"
    with pytest.raises(StepFailed, match="the phone did not ring; the PBX saw 407"):
        await made.incoming_call()
    with pytest.raises(StepFailed, match=r"bob's phone did not ring; alice saw .*404 Not Found"):
        await made.call_a_colleague()


async def test_records_must_be_readable(played: tuple[Steps, TinyRegistrar, Pbx]) -> None:
    made, _, _ = played
    for step in (made.health, made.call_records):
        with pytest.raises(RecordsError):
            await step()


async def test_a_foreign_pbx_calls_nobody(tmp_path: Path) -> None:
    foreign = Steps(Stage(edge=("127.0.0.1", 9), admin=AdminApi(""), detail=tmp_path, pbx=None, pbx_address="pbx:5060"))
    names = [name for name, _ in foreign.all()]
    assert "incoming call" not in names
    assert names[-2:] == ["call records", "accounting"]
