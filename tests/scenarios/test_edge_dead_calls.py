"""Calls whose ends are gone without a BYE: session timers that the edge asks for, and questions within the dialog."""

from __future__ import annotations

import asyncio

from nomad.edge.calls import thaw
from nomad.sip.message import Request
from tests.edge.test_logins import CHALLENGE, is_signed, with_password
from tests.harness.peers import SDP, Peer, dialog_of_caller
from tests.harness.rig import Rig, on_rig, quiet_sip

TIMED = quiet_sip(session_expires_s=1800)
ASKED = quiet_sip(dialog_check_s=300)


async def questioned(peer: Peer, status: int, *, within: float = 320) -> Request:
    """A question within the call, answered."""
    options = await peer.request("OPTIONS", within=within)
    if status:
        peer.reply(options, status)
    return options


@on_rig(sip=TIMED)
async def test_edge_asks_for_a_timer_and_the_caller_refreshes(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000", headers=[("supported", "timer")])
    invite = await rig.pbx.request("INVITE")
    assert invite.get("session-expires") == "1800"
    rig.pbx.reply(invite, 200, body=SDP)  # knows no timers
    answer = await phone.response(200)
    assert answer.get("session-expires") == "1800;refresher=uac"
    assert "timer" in answer.elements("require")
    dialog = dialog_of_caller(sent, answer)
    phone.send(dialog.request("ACK", phone.via()))
    await rig.pbx.request("ACK")
    await asyncio.sleep(900)
    phone.send(dialog.request("UPDATE", phone.via(), headers=[("supported", "timer")]))
    update = await rig.pbx.request("UPDATE")
    assert update.get("session-expires") == "1800"  # forgotten by the phone
    rig.pbx.reply(update, 200)
    assert (await phone.response(200)).get("session-expires") == "1800;refresher=uac"
    await asyncio.sleep(1790)
    assert rig.calls.live == 1
    await asyncio.sleep(30)
    assert rig.calls.live == 0
    assert rig.cdrs.all[0].terminate_cause == "Lost-Carrier"


@on_rig(sip=TIMED)
async def test_callee_that_knows_timers_refreshes_for_a_caller_that_does_not(rig: Rig) -> None:
    phone = rig.phone("bob")
    await phone.register()
    rig.pbx.invite("1002", headers=[("min-se", "2400")])
    invite = await phone.request("INVITE")
    assert invite.get("session-expires") == "2400"
    phone.reply(invite, 200, headers=[("session-expires", "2400;refresher=uas")])
    assert (await rig.pbx.response(200)).get("session-expires") == "2400;refresher=uas"
    assert rig.call().refresh_by is not None


@on_rig(sip=TIMED)
async def test_no_timer_where_nobody_knows_any(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    assert talk.invite.get("session-expires") == "1800"
    assert not talk.answer.has("session-expires")
    assert talk.call.refresh_by is None


@on_rig(sip=ASKED)
async def test_ends_that_have_the_call_keep_it(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    for status in (200, 500, 405):
        asked = await questioned(phone, status)
        assert (asked.call_id, asked.to.tag, asked.cseq.number) == (talk.invite.call_id, talk.invite.from_.tag, 0)
        assert not asked.has("route")
        other = await questioned(rig.pbx, status)
        assert (other.uri_text, other.from_.tag) == (talk.caller.target, talk.invite.from_.tag)
    phone.send(talk.caller.request("INFO", phone.via()))  # in order still
    assert (await rig.pbx.request("INFO")).cseq.number == talk.caller.cseq
    assert rig.calls.live == 1


@on_rig(sip=ASKED)
async def test_end_that_has_not_the_call_ends_it(rig: Rig) -> None:
    for status in (481, 408):
        phone = rig.phone("alice")
        talk = await rig.talk(phone)
        await questioned(phone, 200)
        await questioned(rig.pbx, status)
        bye = await phone.request("BYE")
        assert bye.cseq.number > 0
        phone.reply(bye, 200)
        rig.pbx.reply(await rig.pbx.request("BYE"), 481)
        await asyncio.sleep(1)
        cdr = next(each for each in rig.cdrs.all if each.id == talk.call.id)
        assert (cdr.result, cdr.terminate_cause) == ("answered", "Lost-Carrier")
        assert dict(rig.sink.of("Stop")[-1].attributes)["Acct-Terminate-Cause"] == "Lost-Carrier"


@on_rig(sip=ASKED)
async def test_phone_that_says_nothing_twice_is_gone(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    await questioned(phone, 0)
    await questioned(rig.pbx, 200)
    await questioned(phone, 200, within=80)  # it was out of reach for a moment
    await questioned(rig.pbx, 200)
    await questioned(phone, 0)
    await questioned(rig.pbx, 200, within=40)
    assert rig.calls.live == 1
    await questioned(phone, 0, within=80)
    await questioned(rig.pbx, 200, within=40)
    rig.pbx.reply(await rig.pbx.request("BYE"), 200)
    assert rig.calls.live == 0
    assert talk.call.terminate_cause == "Lost-Carrier"


@on_rig(sip=ASKED)
async def test_phone_whose_connection_is_gone(rig: Rig) -> None:
    phone = rig.phone("alice", transport="tcp")
    await rig.talk(phone)
    rig.network.peers.pop((phone.flow.transport, phone.flow.remote))
    await questioned(rig.pbx, 200, within=340)
    await questioned(rig.pbx, 200, within=100)
    await rig.pbx.request("BYE")


@on_rig(sip=quiet_sip(dialog_check_s=300, session_expires_s=1800))
async def test_call_with_a_timer_is_not_asked(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000", headers=[("supported", "timer")])
    rig.pbx.reply(await rig.pbx.request("INVITE"), 200)
    phone.send(dialog_of_caller(sent, await phone.response(200)).request("ACK", phone.via()))
    await rig.pbx.request("ACK")
    await asyncio.sleep(1000)
    phone.inbox.clear()
    await phone.quiet()
    await rig.pbx.quiet()


@on_rig(sip=ASKED)
async def test_call_that_ends_while_it_is_asked_about(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    asked = await phone.request("OPTIONS", within=320)
    phone.send(talk.caller.request("BYE", phone.via()))
    rig.pbx.reply(await rig.pbx.request("BYE"), 200)
    await phone.response(200)
    phone.reply(asked, 481)
    await rig.pbx.quiet(40)
    assert [cdr.terminate_cause for cdr in rig.cdrs.all] == ["User-Request"]


@on_rig(sip=ASKED)
async def test_pbx_that_challenges_the_question(rig: Rig) -> None:
    with_password(rig)
    phone = rig.phone("alice")
    await rig.talk(phone)
    await questioned(phone, 200)
    rig.pbx.reply(await rig.pbx.request("OPTIONS"), 401, headers=[("www-authenticate", CHALLENGE)])
    again = await rig.pbx.request("OPTIONS")
    assert is_signed(again)
    rig.pbx.reply(again, 481)
    await phone.request("BYE")


@on_rig(sip=quiet_sip(session_expires_s=1800, dialog_check_s=300))
async def test_timer_and_places_survive_a_crash(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000", headers=[("supported", "timer")])
    rig.pbx.reply(await rig.pbx.request("INVITE"), 200)
    dialog = dialog_of_caller(sent, await phone.response(200))
    phone.send(dialog.request("ACK", phone.via()))
    await rig.pbx.request("ACK")
    await asyncio.sleep(900)
    phone.move((phone.flow.remote[0], 45678))
    update = dialog.request("UPDATE", phone.via(), headers=[("supported", "timer"), ("contact", "<sip:new@x>")])
    phone.send(update)
    phone.send(phone.answer_challenge(update, await phone.response(407)))
    rig.pbx.reply(await rig.pbx.request("UPDATE"), 200, contact="<sip:other@10.0.0.9>")
    await phone.response(200)
    await asyncio.sleep(1)
    before = rig.call()
    after = Rig(rig.options, survivors=rig)
    await rig.stop()
    (stored,) = rig.live_calls.calls.values()
    now = after.clock.wall()
    after.calls.restore(thaw(stored), latest_end=now + 86400, now=now)
    after.start()
    call = after.call()
    callee = call.callee()
    assert callee is not None
    assert (call.caller.flow, call.caller.contact, callee.contact) == (phone.flow, "sip:new@x", "sip:other@10.0.0.9")
    assert call.refresh_by == before.refresh_by
    await asyncio.sleep(1750)
    assert after.calls.live == 1
    assert (await phone.request("BYE", within=100)).uri_text == "sip:new@x"
    await asyncio.sleep(1)
    assert [cdr.terminate_cause for cdr in rig.cdrs.all] == ["Lost-Carrier"]
    await after.stop()


@on_rig(sip=TIMED)
async def test_refresh_that_was_due_during_a_crash_may_still_come(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000", headers=[("supported", "timer")])
    rig.pbx.reply(await rig.pbx.request("INVITE"), 200)
    phone.send(dialog_of_caller(sent, await phone.response(200)).request("ACK", phone.via()))
    await rig.pbx.request("ACK")
    await rig.stop()
    await asyncio.sleep(3000)
    after = Rig(rig.options, survivors=rig)
    (stored,) = rig.live_calls.calls.values()
    now = after.clock.wall()
    after.calls.restore(thaw(stored), latest_end=now + 86400, now=now)
    after.start()
    await asyncio.sleep(55)
    assert after.calls.live == 1
    await asyncio.sleep(10)
    assert after.calls.live == 0
    await after.stop()


@on_rig(sip=quiet_sip(session_expires_s=1800, dialog_check_s=300))
async def test_nothing_but_its_ends_ends_an_emergency_call(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone, "112")
    assert not talk.invite.has("session-expires")
    await asyncio.sleep(3000)
    await phone.quiet()
    await rig.pbx.quiet()
    assert rig.calls.live == 1
