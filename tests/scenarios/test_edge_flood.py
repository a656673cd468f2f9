"""Many phones over a network that loses, repeats and delays: nothing is counted twice and nothing is left behind."""

from __future__ import annotations

import asyncio
import random

import pytest

from nomad.sip.events import Flow
from nomad.sip.message import Request
from tests.harness.peers import Phone, dialog_of_caller
from tests.harness.rig import Rig, on_rig


def unreliable(rig: Rig, chance: random.Random) -> None:
    """From now on what the edge gets may come twice, or late."""
    arrived = rig.signalling.arrived

    def twice(data: bytes, flow: Flow) -> None:
        arrived(data, flow)
        for _ in range(chance.randrange(3)):
            asyncio.get_running_loop().call_later(chance.random(), arrived, data, flow)

    rig.signalling.arrived = twice  # type: ignore[method-assign]


async def answer_everything(rig: Rig) -> None:
    while True:
        request = next((m for m in rig.pbx.inbox if isinstance(m, Request)), None)
        if request is None:
            await asyncio.sleep(0.01)
            continue
        rig.pbx.inbox.remove(request)
        if request.method != "ACK":
            rig.pbx.reply(request, 200, tag=f"pbx{request.call_id.partition('@')[0]}")


async def call(rig: Rig, phone: Phone, seconds: float) -> None:

    sent = await phone.invite("1000")
    answer = await phone.response(200, within=10)
    dialog = dialog_of_caller(sent, answer)
    phone.send(dialog.request("ACK", phone.via()))
    await asyncio.sleep(seconds)
    phone.send(dialog.request("BYE", phone.via()))
    await phone.response(200, within=10)


@pytest.mark.parametrize("seed", range(5))
def test_calls_over_a_network_that_repeats(seed: int) -> None:
    @on_rig()
    async def scenario(rig: Rig) -> None:
        chance = random.Random(seed)
        unreliable(rig, chance)
        answering = asyncio.create_task(answer_everything(rig))
        phones = [rig.phone(user) for user in ("alice", "bob", "carol") for _ in range(2)]
        for _ in range(5):
            await asyncio.gather(*(call(rig, phone, chance.uniform(0.5, 20)) for phone in phones))
        await asyncio.sleep(60)
        answering.cancel()
        assert (len(rig.sink.of("Start")), len(rig.sink.of("Stop")), len(rig.cdrs.all)) == (30, 30, 30)
        assert len({record.id for record in rig.sink.received}) == 60
        assert rig.calls.live == 0
        assert rig.live_calls.calls == {}
        assert rig.proxy._by_branch == {}
        assert rig.network.lost == []

    scenario()
