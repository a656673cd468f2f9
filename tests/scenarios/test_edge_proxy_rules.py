"""Rules of a proxy that calls meet seldom: loops, breadth, hops, redirections, session timers, events."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from nomad.sip.message import Response
from tests.harness.peers import DOMAIN, SDP, Dialog, Phone, dialog_of_caller
from tests.harness.rig import Rig, on_rig

TIMERS = [("supported", "timer"), ("session-expires", "1800;refresher=uac")]


@dataclass(frozen=True, slots=True)
class Answered:
    """A call of alice to the PBX, and the 200 that she got."""

    caller: Phone
    dialog: Dialog
    answer: Response


async def answered(rig: Rig, *, callee: list[tuple[str, str]] | None = None) -> Answered:
    phone = rig.phone("alice")
    sent = await phone.invite("1000", headers=TIMERS)
    invite = await rig.pbx.request("INVITE")
    rig.pbx.reply(invite, 200, tag="pbx", body=SDP, headers=callee or [])
    answer = await phone.response(200)
    dialog = dialog_of_caller(sent, answer)
    phone.send(dialog.request("ACK", phone.via()))
    await rig.pbx.request("ACK")
    return Answered(phone, dialog, answer)


@on_rig()
async def test_a_request_that_comes_back_unchanged_is_refused(rig: Rig) -> None:
    phone = rig.phone("bob")
    await phone.register()
    rig.pbx.invite("1002")
    forwarded = await phone.request("INVITE")
    mark = forwarded.vias[0].branch.rpartition(".")[2]
    assert len(mark) == 8
    looped = forwarded.copy()  # what the PBX would send if it got its own call back: the same but for Via
    looped.set_uri("sip:1002@192.0.2.1:5060")
    looped.prepend("via", rig.pbx.via())
    looped.remove("record-route")
    rig.pbx.send(looped)
    await rig.pbx.response(482)


@on_rig()
async def test_breadth_of_a_fork(rig: Rig) -> None:
    phones = [rig.phone("bob"), rig.phone("bob")]
    for phone in phones:
        await phone.register()
    rig.pbx.invite("1002", headers=[("max-breadth", "1")])
    await rig.pbx.response(440)
    rig.pbx.invite("1002", headers=[("max-breadth", "9")])
    assert [(await phone.request("INVITE")).get("max-breadth") for phone in phones] == ["4", "4"]
    caller = rig.phone("alice")
    await caller.login(caller.make("MESSAGE", f"sip:1000@{DOMAIN}"))
    assert (await rig.pbx.request("MESSAGE")).get("max-breadth") == "60"  # every request that may fork further on


@on_rig()
async def test_no_request_leaves_with_negative_max_forwards(rig: Rig) -> None:
    call = await answered(rig)
    caller = call.caller
    for method in ("OPTIONS", "INFO"):
        request = call.dialog.request(method, caller.via())
        request.set("max-forwards", "0")
        caller.send(request)
        await caller.response(483)
    await rig.pbx.quiet()


@on_rig()
async def test_redirection_by_the_pbx_goes_back_and_by_a_phone_names_nobody(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.invite("1000")
    rig.pbx.reply(await rig.pbx.request("INVITE"), 302, headers=[("contact", f"<sip:1001@{DOMAIN}>")])
    assert f"1001@{DOMAIN}" in ((await phone.response(302)).get("contact") or "")
    callee = rig.phone("bob")
    await callee.register()
    rig.pbx.invite("1002")
    callee.reply(await callee.request("INVITE"), 302, headers=[("contact", "<sip:0899123456@elsewhere.example>")])
    refused = await rig.pbx.response(302)
    assert "elsewhere" not in (refused.get("contact") or "")


@on_rig()
async def test_too_short_a_session_is_refused(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.invite("1000", headers=[("supported", "timer"), ("session-expires", "30")])
    assert (await phone.response(422)).get("min-se") == "90"
    await rig.pbx.quiet()
    assert not list(rig.calls)


@on_rig()
async def test_call_whose_refresh_never_comes_is_ended_and_accounted(rig: Rig) -> None:
    answer = (await answered(rig)).answer
    assert answer.get("session-expires") == "1800;refresher=uac"
    assert "timer" in answer.elements("require")
    await asyncio.sleep(1800)
    assert rig.calls.live == 1
    await asyncio.sleep(15)
    rig.pbx.reply(await rig.pbx.request("BYE"), 200)
    assert rig.calls.live == 0
    (cdr,) = rig.cdrs.all
    assert (cdr.result, cdr.terminate_cause) == ("answered", "Lost-Carrier")


@on_rig()
async def test_refresh_moves_the_end_and_its_absence_in_a_refresh_ends_the_timer(rig: Rig) -> None:
    call = await answered(rig, callee=[("session-expires", "1800;refresher=uac"), ("require", "timer")])
    caller, dialog = call.caller, call.dialog
    await asyncio.sleep(900)
    caller.send(dialog.request("UPDATE", caller.via(), headers=TIMERS))
    update = await rig.pbx.request("UPDATE")
    assert update.get("session-expires") == "1800;refresher=uac"
    rig.pbx.reply(update, 200, headers=[("session-expires", "1800;refresher=uac")])
    await caller.response(200)
    await asyncio.sleep(1700)
    assert rig.calls.live == 1
    caller.send(dialog.request("UPDATE", caller.via()))
    rig.pbx.reply(await rig.pbx.request("UPDATE"), 200)
    await caller.response(200)
    await asyncio.sleep(300)
    assert rig.calls.live == 1


@on_rig()
async def test_subscriptions_pass_within_calls(rig: Rig) -> None:
    call = await answered(rig)
    caller, dialog = call.caller, call.dialog
    for method in ("SUBSCRIBE", "NOTIFY"):
        caller.send(dialog.request(method, caller.via()))
        rig.pbx.reply(await rig.pbx.request(method), 200)
        await caller.response(200)


@on_rig()
async def test_flow_of_a_phone_that_is_gone_within_a_call(rig: Rig) -> None:
    callee = rig.phone("bob", transport="tcp")
    await callee.register()
    sent = rig.pbx.invite("1002")
    callee.reply(await callee.request("INVITE"), 200, tag="bob", body=SDP)
    dialog = dialog_of_caller(sent, await rig.pbx.response(200))
    rig.pbx.send(dialog.request("ACK", rig.pbx.via()))
    rig.network.peers.pop((callee.flow.transport, callee.flow.remote))
    rig.pbx.send(dialog.request("INFO", rig.pbx.via()))
    await asyncio.sleep(0.01)
    rig.signalling.close(callee.flow)
    await rig.pbx.response(430)
