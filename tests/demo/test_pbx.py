"""The demo's PBX, called by the demo's phone directly; a third agent stands for the edge where calls go back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from nomad.demo.leg import IncomingLeg, Invitation, OutgoingLeg
from nomad.demo.pbx import TONE_HZ, Pbx
from nomad.demo.softphone import Softphone
from tests.harness.phone import phone


@pytest.fixture
async def pbx() -> AsyncIterator[Pbx]:
    made = Pbx()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def caller(pbx: Pbx) -> AsyncIterator[Softphone]:
    async with phone("3001", "", edge=pbx.address) as made:
        pbx.trust(made.agent.address)
        yield made


async def test_echo_sends_back_what_it_hears(pbx: Pbx, caller: Softphone) -> None:
    call = await caller.call("1000")
    assert call.answered
    heard = await call.hear(15)
    assert heard.tone
    assert heard.packets >= 15
    assert not call.media.heard(TONE_HZ).tone
    seen = await call.hangup()
    assert seen is not None
    assert seen.status == 200
    assert (pbx.calls[0].callee, pbx.calls[0].status, pbx.calls[0].ended) == ("1000", 200, True)


@pytest.mark.parametrize("number", ["2000", "0123456789", "15"])
async def test_tone_plays_and_hangs_up(
    pbx: Pbx, caller: Softphone, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nomad.demo.pbx.TONE_S", 0.3)
    call = await caller.call(number)
    heard = await call.hear(8, hz=TONE_HZ)
    assert heard.tone
    assert await call.wait_ended() == "peer"


@pytest.mark.parametrize(
    ("number", "status"),
    [
        ("4486", "486 Busy Here"),
        ("4480", "480 Temporarily Unavailable"),
        ("4603", "603 Refused By The PBX"),
        ("9999", "404 Not Found"),
    ],
)
async def test_numbers_that_are_refused(pbx: Pbx, caller: Softphone, number: str, status: str) -> None:
    call = await caller.call(number)
    assert str(call.last) == status
    assert pbx.calls[0].ended


async def test_an_offer_without_g711_is_not_acceptable(pbx: Pbx, caller: Softphone) -> None:
    body = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 18\r\n"
    leg = OutgoingLeg(caller.agent, Invitation("sip:1000@pbx", "sip:3001@pbx", "3001", pbx.address, body))
    assert not await leg.dial(3)
    assert leg.last.status == 488


async def test_only_the_edge_is_let_in(pbx: Pbx, caller: Softphone) -> None:
    async with phone("mallory", "", edge=pbx.address) as mallory:
        call = await mallory.call("1000")
        assert call.last.status == 403
        assert pbx.untrusted == [mallory.agent.address]
    assert pbx.calls == []


async def test_a_pbx_that_knows_no_edge_lets_nobody_in(pbx: Pbx) -> None:
    async with phone("mallory", "", edge=pbx.address) as mallory:
        assert (await mallory.call("1000")).last.status == 403


async def test_a_person_is_called_back_through_the_edge_and_both_hear_each_other(pbx: Pbx, caller: Softphone) -> None:
    call, answering = await caller.start_call("3002")
    ringing = await caller.wait_ringing()
    assert ringing is not None
    assert isinstance(ringing.leg, IncomingLeg)
    assert ringing.leg.request.uri == f"sip:3002@{caller.agent.address[0]}:{caller.agent.address[1]}"
    assert ringing.leg.request.get_header("p-asserted-identity") == "<sip:3001@inria.example>"
    await ringing.answer()
    await answering
    assert call.answered
    assert [seen.status for seen in call.seen] == [100, 180, 200]
    assert (await call.hear(10)).tone
    assert (await ringing.hear(10)).tone
    await call.hangup()
    assert await ringing.wait_ended() == "peer"
    assert pbx.calls[0].ended


async def test_the_called_person_hangs_up_refuses_or_is_given_up(pbx: Pbx, caller: Softphone) -> None:
    call, answering = await caller.start_call("3002")
    ringing = await caller.wait_ringing()
    assert ringing is not None
    await ringing.answer()
    await answering
    await ringing.hangup()
    assert await call.wait_ended() == "peer"

    call, answering = await caller.start_call("3002")
    ringing = await caller.wait_ringing()
    assert ringing is not None
    ringing.reject()
    await answering
    assert str(call.last) == "486 Busy Here"

    call, answering = await caller.start_call("3002")
    ringing = await caller.wait_ringing()
    assert ringing is not None
    call.cancel()
    await answering
    assert call.last.status == 487
    assert await ringing.wait_ended() == "peer"


async def test_the_pbx_calls_a_person(pbx: Pbx, caller: Softphone) -> None:
    calling = asyncio.create_task(pbx.call("3001"))
    ringing = await caller.wait_ringing()
    assert ringing is not None
    await ringing.answer()
    desk = await calling
    assert desk.leg.answered
    assert (await ringing.hear(10, hz=TONE_HZ)).tone
    assert (await desk.hear(10, hz=440)).tone
    await ringing.hangup()
    await desk.leg.ended.wait()


async def test_the_asserted_identity_is_remembered(pbx: Pbx, caller: Softphone) -> None:
    leg = OutgoingLeg(
        caller.agent,
        Invitation(
            "sip:4486@pbx",
            "sip:alice@pbx",
            "alice",
            pbx.address,
            "",
            headers=(("P-Asserted-Identity", '"Alice" <sip:3001@inria.example;user=phone>'),),
        ),
    )
    await leg.dial(3)
    assert pbx.calls[0].asserted == "sip:3001@inria.example"
