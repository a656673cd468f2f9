"""Calls from a phone through the edge to the PBX."""

from __future__ import annotations

import asyncio

from tests.harness.rig import Rig, on_rig


@on_rig()
async def test_call_is_set_up_and_ended_by_the_caller(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    await asyncio.sleep(30)
    phone.send(talk.caller.request("BYE", phone.via()))
    bye = await rig.pbx.request("BYE")
    rig.pbx.reply(bye, 200)
    await phone.response(200)
    await asyncio.sleep(1)
    assert [record.status for record in rig.sink.received] == ["Start", "Stop"]
    (cdr,) = rig.cdrs.all
    assert (cdr.result, cdr.user, cdr.status, round(cdr.duration_s)) == ("answered", "alice", 200, 30)
    assert rig.live_calls.calls == {}
    assert rig.network.lost == []
    await phone.quiet()
    await rig.pbx.quiet()
