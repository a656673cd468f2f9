"""What RADIUS allows one person, as it shows in calls: limits, classes, Idle-Timeout, changes by CoA."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from nomad.edge.orders import Orders
from nomad.ports import Change, Grant, Limits, Whom
from nomad.sip.message import Response
from tests.harness.peers import DOMAIN, PEOPLE, SDP, dialog_of_caller
from tests.harness.rig import Rig, on_rig
from tests.harness.wardens import ListRecorder

TIMER = ("supported", "timer")


def people(**changes: object) -> dict[str, tuple[str, Grant]]:
    """Everybody, alice with what RADIUS says of her."""
    password, grant = PEOPLE["alice"]
    return {**PEOPLE, "alice": (password, replace(grant, **changes))}  # type: ignore[arg-type]  # right types below


async def refusal(rig: Rig, number: str) -> Response:
    phone = rig.phone("alice")
    await phone.invite(number)
    return await phone.response(403)


@on_rig(people=people(limits=Limits(concurrent_calls=1), allowed_classes=("internal",)))
async def test_a_persons_own_limits(rig: Rig) -> None:
    assert (await refusal(rig, "0123456789")).reason == "National numbers are not allowed for you"
    await rig.talk(rig.phone("alice"))
    assert (await refusal(rig, "1000")).reason == "You already have 1 call; 1 is allowed"
    bob = rig.phone("bob")
    await rig.talk(bob)
    assert rig.calls.live == 2


@on_rig(people=people(limits=Limits(call_s=30.0)))
async def test_the_longest_call_of_a_person(rig: Rig) -> None:
    await rig.talk(rig.phone("alice"))
    await asyncio.sleep(32)
    rig.pbx.reply(await rig.pbx.request("BYE"), 200)
    assert rig.cdrs.all[0].terminate_cause == "Session-Timeout"


@on_rig(people=people(idle_timeout_s=300))
async def test_a_silent_call_ends_within_the_idle_timeout(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000", headers=[TIMER, ("session-expires", "1800;refresher=uac")])
    invite = await rig.pbx.request("INVITE")
    assert invite.get("session-expires") == "300;refresher=uac"
    rig.pbx.reply(invite, 200, tag="pbx", body=SDP)
    answer = await phone.response(200)
    assert answer.get("session-expires") == "300;refresher=uac"
    dialog = dialog_of_caller(sent, answer)
    phone.send(dialog.request("ACK", phone.via()))
    await rig.pbx.request("ACK")
    await asyncio.sleep(150)
    phone.send(dialog.request("UPDATE", phone.via(), headers=[TIMER, ("session-expires", "1800;refresher=uac")]))
    update = await rig.pbx.request("UPDATE")
    assert update.get("session-expires") == "300;refresher=uac"
    rig.pbx.reply(update, 200)
    await phone.response(200)
    await asyncio.sleep(290)
    assert rig.calls.live == 1, "the refresh began the time anew"
    await asyncio.sleep(25)
    rig.pbx.reply(await rig.pbx.request("BYE"), 200)
    assert rig.cdrs.all[0].terminate_cause == "Idle-Timeout"


@on_rig(people=people(idle_timeout_s=300))
async def test_where_neither_end_keeps_timers_silence_says_nothing(rig: Rig) -> None:
    await rig.talk(rig.phone("alice"))
    await asyncio.sleep(3000)
    assert rig.calls.live == 1


@on_rig(people=people(idle_timeout_s=300))
async def test_an_emergency_call_is_not_bounded(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("112", headers=[TIMER, ("session-expires", "1800;refresher=uac")])
    invite = await rig.pbx.request("INVITE")
    assert invite.get("session-expires") == "1800;refresher=uac"
    rig.pbx.reply(invite, 200, tag="pbx", body=SDP)
    dialog = dialog_of_caller(sent, await phone.response(200))
    phone.send(dialog.request("ACK", phone.via()))
    await rig.pbx.request("ACK")
    phone.send(dialog.request("UPDATE", phone.via(), headers=[TIMER, ("session-expires", "1800;refresher=uac")]))
    assert (await rig.pbx.request("UPDATE")).get("session-expires") == "1800;refresher=uac"


@on_rig(people=people(idle_timeout_s=300))
async def test_calls_to_a_person_have_the_idle_timeout_too(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.register()
    rig.pbx.invite("1001")
    assert (await phone.request("INVITE")).get("session-expires") == "300"


@on_rig()
async def test_a_change_of_groups_counts_at_the_next_call(rig: Rig) -> None:
    """The verdict cache does its part in edge/test_verdicts.py; here the login is asked for anew."""
    orders = Orders(
        calls=rig.calls,
        switchboard=rig.switchboard,
        accountant=rig.accountant,
        locations=rig.locations,
        domains=[DOMAIN],
        recorder=ListRecorder(),
    )
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    refer = talk.caller.request("REFER", phone.via(), headers=[("refer-to", f"<sip:0899123456@{DOMAIN}>")])
    phone.send(refer)
    assert (await phone.response(403)).reason == "Premium numbers are not allowed for group staff"
    assert await orders.change(Whom(user="alice"), Change(groups=("boss",))) == 1
    phone.send(talk.caller.request("REFER", phone.via(), headers=[("refer-to", f"<sip:0899123456@{DOMAIN}>")]))
    rig.pbx.reply(await rig.pbx.request("REFER"), 202)
    await phone.response(202)
    assert await orders.change(Whom(user="alice"), Change(allowed_classes=("internal",))) == 1
    phone.send(talk.caller.request("REFER", phone.via(), headers=[("refer-to", f"<sip:0123456789@{DOMAIN}>")]))
    assert (await phone.response(403)).reason == "National numbers are not allowed for you"
