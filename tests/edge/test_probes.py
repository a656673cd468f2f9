"""How questions are spread; what comes of their answers is in scenarios/test_edge_dead_calls.py."""

from __future__ import annotations

import asyncio

from nomad.edge import probes
from nomad.edge.calls import Call, CallState, Leg
from nomad.ports import Grant
from nomad.sip.events import Flow
from tests.harness.line import EDGE
from tests.harness.rig import Rig, on_rig, quiet_sip


def live_call(rig: Rig, number: int) -> Call:
    """An answered call of long ago whose ends are nowhere."""
    flow = Flow("udp", EDGE, ("198.51.100.9", 1000 + number))
    caller = Leg("phone", flow, "from", "<sip:a@x>;tag=from", "sip:a@198.51.100.9")
    call = Call(f"c{number}", f"id{number}", "out", Grant("alice"), "a@x", "b@x", "internal", 0.0, caller)
    call.callees["to"] = Leg("pbx", flow, "to", "<sip:b@x>;tag=to", "sip:b@198.51.100.9")
    call.state, call.answered_by, call.answered_at = CallState.ANSWERED, "to", 1.0
    rig.calls.open(call)
    return call


@on_rig(sip=quiet_sip(dialog_check_s=300))
async def test_calls_are_not_all_asked_at_once(rig: Rig) -> None:
    for number in range(probes.MAX_AT_ONCE + 20):
        live_call(rig, number)
    await asyncio.sleep(probes.SCAN_S + 2)
    assert len(rig.housekeeping._probes._asking) == probes.MAX_AT_ONCE
    await asyncio.sleep(600)
    assert rig.calls.live == 0
    assert rig.housekeeping._probes._asking == set()
    await asyncio.sleep(60)
    assert rig.housekeeping._probes._due == {}
    assert rig.housekeeping._probes._silent == set()


@on_rig(sip=quiet_sip())
async def test_switched_off(rig: Rig) -> None:
    live_call(rig, 1)
    await asyncio.sleep(10_000)
    assert rig.calls.live == 1
    assert rig.network.lost == []


@on_rig(sip=quiet_sip(dialog_check_s=300))
async def test_end_that_cannot_be_asked_is_left_alone(rig: Rig) -> None:
    call = live_call(rig, 1)
    call.caller.contact = call.callees["to"].contact = ""
    await asyncio.sleep(1000)
    assert rig.calls.live == 1
