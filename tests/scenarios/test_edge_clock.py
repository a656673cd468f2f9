"""The system's clock is set, forwards or backwards, while people talk: nothing gets longer or shorter by it."""

from __future__ import annotations

import asyncio

import pytest

from nomad.edge.calls import thaw
from nomad.sip.message import Request
from tests.harness.peers import Peer
from tests.harness.rig import Rig, Talk, on_rig, quiet_sip

DAY_S = 86_400.0


async def hang_up(rig: Rig, phone: Peer, talk: Talk) -> int:
    """Acct-Session-Time of the call that is over."""
    phone.send(talk.caller.request("BYE", phone.via()))
    rig.pbx.reply(await rig.pbx.request("BYE"), 200)
    await asyncio.sleep(1)
    (stop,) = rig.sink.of("Stop")
    return int(dict(stop.attributes)["Acct-Session-Time"])


@pytest.mark.parametrize("step", [DAY_S, -DAY_S, 600.0, -5.0])
@on_rig()
async def test_calls_and_registrations_last_as_long_as_they_would_have(rig: Rig, step: float) -> None:
    registered, phone = rig.phone("bob"), rig.phone("alice")
    await registered.register(expires=600)
    talk = await rig.talk(phone)
    rig.calls.expect_refresh(talk.call, rig.clock.wall() + 300)
    await asyncio.sleep(10)
    rig.clock.ahead += step
    await asyncio.sleep(20)
    assert rig.calls.live == 1
    assert rig.locations.bindings == 1
    (stored,) = await rig.live_calls.load()
    assert thaw(stored).answered_at == talk.call.answered_at == pytest.approx(rig.clock.wall() - 30, abs=1)
    assert await hang_up(rig, phone, talk) == 30
    (record,) = rig.cdrs.all
    assert record.duration_s == pytest.approx(30, abs=0.5)
    await asyncio.sleep(600)
    assert rig.locations.bindings == 0, "and not longer either"


@pytest.mark.parametrize("step", [DAY_S, -DAY_S])
@on_rig()
async def test_limits_are_reached_when_they_should_be(rig: Rig, step: float) -> None:
    phone = rig.phone("alice")
    await rig.talk(phone)
    await asyncio.sleep(10)
    rig.clock.ahead += step
    await asyncio.sleep(3580)
    assert rig.calls.live == 1
    for peer in (phone, rig.pbx):
        peer.reply(await peer.request("BYE", within=15), 200)
    await asyncio.sleep(1)
    (stop,) = rig.sink.of("Stop")
    assert dict(stop.attributes)["Acct-Session-Time"] == pytest.approx(3600, abs=2)


@pytest.mark.parametrize("step", [DAY_S, -DAY_S])
@on_rig()
async def test_a_missing_refresh_is_noticed_in_time(rig: Rig, step: float) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    rig.calls.expect_refresh(talk.call, rig.clock.wall() + 300)
    await asyncio.sleep(10)
    rig.clock.ahead += step
    await asyncio.sleep(280)
    assert rig.calls.live == 1
    await asyncio.sleep(30)
    assert rig.calls.live == 0
    (record,) = rig.cdrs.all
    assert record.terminate_cause == "Lost-Carrier"


@on_rig()
async def test_interim_updates_keep_their_pace(rig: Rig) -> None:
    rig.housekeeping.interim_interval_s = 60
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    await asyncio.sleep(90)
    rig.clock.ahead -= DAY_S
    await asyncio.sleep(100)
    assert await hang_up(rig, phone, talk) == 190
    lasted = [dict(each.attributes)["Acct-Session-Time"] for each in rig.sink.of("Interim-Update")]
    assert lasted == pytest.approx([60, 120, 180], abs=3)


@pytest.mark.parametrize("step", [DAY_S, -DAY_S])
@on_rig(sip=quiet_sip(dialog_check_s=300))
async def test_calls_are_asked_about_in_time(rig: Rig, step: float) -> None:
    phone = rig.phone("alice")
    await rig.talk(phone)
    await asyncio.sleep(10)
    rig.clock.ahead += step
    await asyncio.sleep(240)
    assert not any(isinstance(each, Request) and each.method == "OPTIONS" for each in phone.inbox)
    phone.reply(await phone.request("OPTIONS", within=80), 481)
    await asyncio.sleep(40)
    assert rig.calls.live == 0
