"""The once-a-second round; limits and Interim-Updates of whole calls are in scenarios/test_edge_limits.py."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from nomad.ports import Unavailable
from tests.harness.rig import Rig, on_rig


@on_rig()
async def test_old_state_is_forgotten(rig: Rig) -> None:
    phone = rig.phone("alice")
    for _ in range(5):
        talk = await rig.talk(phone)
        phone.send(talk.caller.request("BYE", phone.via()))
        rig.pbx.reply(await rig.pbx.request("BYE"), 200)
        await phone.response(200)
    await asyncio.sleep(200)
    assert list(rig.calls._calls) == []
    assert rig.calls._by_dialog == {}
    assert rig.calls._active == {}
    assert rig.proxy._by_branch == {}
    assert rig.proxy._by_server == {}
    assert rig.switchboard._setups == {}
    assert rig.signalling.stack.transactions == 0


@on_rig()
async def test_store_that_is_down_does_not_stop_the_round(rig: Rig) -> None:
    async def down(now: float) -> list[object]:
        raise Unavailable("no Redis")

    rig.locations.expire = down  # type: ignore[method-assign,assignment]
    phone = rig.phone("alice")
    await rig.talk(phone)
    await phone.request("BYE", within=3603)


@pytest.mark.usefixtures("errors_expected")
def test_bug_in_one_round_does_not_end_them(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(rig: Rig) -> None:
        forget, calls = rig.calls.forget, 0

        def broken(now: float) -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise KeyError("a bug")
            forget(now)

        rig.calls.forget = broken  # type: ignore[method-assign]
        await asyncio.sleep(5)
        assert calls > 3

    with caplog.at_level(logging.ERROR), pytest.raises(AssertionError, match="a bug"):
        on_rig()(scenario)()
    assert "round of housekeeping failed" in caplog.text


@on_rig()
async def test_interim_period_of_radius_comes_before_ours(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    talk.call.grant = replace(talk.call.grant, interim_interval_s=10)
    rig.housekeeping.interim_interval_s = 1000
    await asyncio.sleep(35)
    assert len(rig.sink.of("Interim-Update")) == 3
