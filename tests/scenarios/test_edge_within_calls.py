"""Requests within a call, honest and forged (RFC 3261 12.2, 16.4 and the toll fraud that it invites)."""

from __future__ import annotations

import asyncio

from nomad.sip.message import Response
from tests.harness.line import EDGE
from tests.harness.peers import DOMAIN, SDP, Peer, dialog_of_callee, dialog_of_caller
from tests.harness.rig import PBX_ADDRESS, Rig, on_rig

STRANGER = ("203.0.113.66", 5060)


@on_rig()
async def test_requests_of_both_sides_pass(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    for sender, receiver, dialog in ((phone, rig.pbx, talk.caller), (rig.pbx, phone, talk.callee)):
        for name in ("INFO", "UPDATE", "MESSAGE", "OPTIONS", "NOTIFY"):
            sender.send(dialog.request(name, sender.via()))
            arrived = await receiver.request(name)
            assert not arrived.has("route")
            assert not arrived.has("record-route")
            receiver.reply(arrived, 200)
            assert (await sender.response(200)).cseq.method == name


@on_rig()
async def test_reinvite_and_its_ack(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    again = talk.caller.request("INVITE", phone.via(), headers=[("contact", f"<sip:new@{phone.host}>")])
    phone.send(again)
    invite = await rig.pbx.request("INVITE")
    rig.pbx.reply(invite, 200, body=SDP, contact="<sip:other@10.0.0.6>")
    await phone.response(200)
    talk.caller.target = "sip:other@10.0.0.6"
    ack = talk.caller.request("ACK", phone.via())
    phone.send(ack)
    assert (await rig.pbx.request("ACK")).uri_text == "sip:other@10.0.0.6"
    assert talk.call.caller.contact == f"sip:new@{phone.host}"
    assert await rig.console.hangup(talk.call.id)
    assert (await phone.request("BYE")).uri_text == f"sip:new@{phone.host}"
    bye = await rig.pbx.request("BYE")
    assert bye.uri_text == "sip:other@10.0.0.6"
    assert bye.cseq.number > again.cseq.number


@on_rig()
async def test_bye_from_a_forged_source(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    stranger = Peer(rig.network, STRANGER)
    stranger.send(talk.caller.request("BYE", stranger.via()))
    await stranger.response(407)
    stranger.send(talk.callee.request("BYE", stranger.via()))
    await stranger.response(403)
    await rig.pbx.quiet()
    await phone.quiet()
    assert talk.call.state == "answered"


@on_rig()
async def test_bye_of_another_person(rig: Rig) -> None:
    phone, other = rig.phone("alice"), rig.phone("bob")
    talk = await rig.talk(phone)
    bye = talk.caller.request("BYE", other.via())
    other.send(bye)
    other.send(other.answer_challenge(bye, await other.response(407)))
    await other.response(403)
    await rig.pbx.quiet()
    assert talk.call.state == "answered"


@on_rig()
async def test_ack_from_a_forged_source_is_dropped(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    stranger = Peer(rig.network, STRANGER)
    for dialog in (talk.caller, talk.callee):
        stranger.send(dialog.request("ACK", stranger.via(), cseq=dialog.cseq))
    unknown = talk.caller.request("ACK", phone.via(), cseq=1)
    unknown.set("call-id", "nobody's")
    phone.send(unknown)
    broken = talk.caller.request("ACK", phone.via(), cseq=1)
    broken.set("from", "<sip:")
    phone.send(broken)
    await rig.pbx.quiet()
    await phone.quiet()


@on_rig()
async def test_phone_whose_port_changed_is_asked_once_and_goes_on(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    phone.move((phone.flow.remote[0], 55555))
    update = talk.caller.request("UPDATE", phone.via())
    phone.send(update)
    phone.send(phone.answer_challenge(update, await phone.response(407)))
    arrived = await rig.pbx.request("UPDATE")
    assert not arrived.has("proxy-authorization")
    rig.pbx.reply(arrived, 200)
    await phone.response(200)
    rig.pbx.send(talk.callee.request("BYE", rig.pbx.via()))
    phone.reply(await phone.request("BYE"), 200)
    await rig.pbx.response(200)


@on_rig()
async def test_tags_and_token_must_all_fit(rig: Rig) -> None:
    phone = rig.phone("alice")
    first, second = await rig.talk(phone), await rig.talk(phone)
    for name, value in (("to", "<sip:1000@x>;tag=guess"), ("from", "<sip:x@y>;tag=guess"), ("call-id", "guess")):
        bye = first.caller.request("BYE", phone.via(), cseq=900)
        bye.set(name, value)
        phone.send(bye)
        await phone.response(481)
    bye = first.caller.request("BYE", phone.via())
    bye.set("route", second.caller.routes[0])
    phone.send(bye)
    await phone.response(481)
    await rig.pbx.quiet()


@on_rig()
async def test_route_and_request_uri_of_a_phone_lead_nowhere_but_to_the_other_side(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    for name in ("INFO", "INVITE", "ACK"):
        forged = talk.caller.request(name, phone.via())
        forged.set_uri(f"sip:0899123456@{PBX_ADDRESS[0]}")
        forged.add("route", "<sip:203.0.113.66;lr>")
        phone.send(forged)
        arrived = await rig.pbx.request(name)
        assert arrived.uri_text == talk.caller.target
        assert not arrived.has("route")
        if name == "INVITE":
            rig.pbx.reply(arrived, 200)
    assert rig.network.lost == []


@on_rig()
async def test_route_set_beyond_us_is_kept(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    invite.prepend("record-route", "<sip:10.0.0.7;lr>")  # a proxy between us and who answers
    answered = rig.pbx.reply(invite, 200)
    answer = await phone.response(200)
    caller, callee = dialog_of_caller(sent, answer), dialog_of_callee(invite, answered)
    assert len(caller.routes) == 2
    phone.send(caller.request("ACK", phone.via()))
    assert (await rig.pbx.request("ACK")).elements("route") == ["<sip:10.0.0.7;lr>"]
    assert await rig.console.hangup(rig.call().id)
    assert (await rig.pbx.request("BYE")).elements("route") == ["<sip:10.0.0.7;lr>"]
    bye = await phone.request("BYE")
    assert not bye.has("route")
    assert callee.call_id == bye.call_id


@on_rig()
async def test_route_headers_of_new_requests_are_refused(rig: Rig) -> None:
    phone = rig.phone("alice")
    ours = f"<sip:{EDGE[0]}:{EDGE[1]};lr>"
    for value in ("<sip:10.0.0.5;lr>", f"{ours}, <sip:10.0.0.5:5070;lr>", "<sip:10.0.0.5>"):
        phone.send(phone.make("INVITE", f"sip:1000@{DOMAIN}", headers=[("route", value)], body=SDP))
        await phone.response(403)
    await rig.talk(phone, headers=[("route", ours)])  # we are its outbound proxy: fine
    strict = phone.make("INVITE", f"sip:{EDGE[0]};lr", headers=[("route", f"<sip:0899@{PBX_ADDRESS[0]}>")], body=SDP)
    await phone.login(strict)
    await phone.response(403)
    await rig.pbx.quiet()


@on_rig()
async def test_request_uri_that_names_the_pbx_or_anybody_else(rig: Rig) -> None:
    phone = rig.phone("alice")
    for uri in (
        f"sip:1000@{PBX_ADDRESS[0]}:{PBX_ADDRESS[1]}",
        "sip:1000@evil.example",
        f"sip:1000@{EDGE[0]}:9999",
        f"sip:1000@{DOMAIN}.evil.example",
    ):
        await phone.login(phone.make("INVITE", uri, body=SDP))
        await phone.response(403)
    await rig.pbx.quiet()


@on_rig()
async def test_from_that_is_not_the_caller_s(rig: Rig) -> None:
    phone = rig.phone("alice")
    for address in (f"sip:bob@{DOMAIN}", "sip:alice@evil.example", f"sip:1002@{DOMAIN}", "tel:+331", "sip:anonymous@x"):
        await phone.invite("1000", from_=f"<{address}>;tag=1")
        await phone.response(403)
    await rig.pbx.quiet()
    await rig.talk(phone, from_=f"<sip:1001@{DOMAIN}>;tag=1")


@on_rig()
async def test_new_request_within_no_call(rig: Rig) -> None:
    phone = rig.phone("alice")
    for name in ("INVITE", "BYE", "REFER", "MESSAGE", "OPTIONS"):
        phone.send(phone.make(name, f"sip:0899123@{DOMAIN}", to=f"<sip:0899123@{DOMAIN}>;tag=invented"))
        await phone.response(481)
    assert rig.authenticator.asked == []


@on_rig()
async def test_bye_that_the_pbx_refuses_does_not_leave_a_call_that_nobody_pays(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    phone.send(talk.caller.request("BYE", phone.via(), headers=[("require", "nonsense")]))
    bye = await rig.pbx.request("BYE")
    rig.pbx.reply(bye, 420)
    await phone.response(420)
    ours = await rig.pbx.request("BYE")
    assert not ours.has("require")
    assert ours.cseq.number > bye.cseq.number
    assert (ours.from_.tag, ours.to.tag) == (bye.from_.tag, bye.to.tag)
    rig.pbx.reply(ours, 200)
    await asyncio.sleep(1)
    assert [record.status for record in rig.sink.received] == ["Start", "Stop"]


@on_rig()
async def test_transfer_is_a_call_that_the_policy_judges(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    premium = (f"<sip:0899123456@{DOMAIN}>", f"sip:0899123456@{PBX_ADDRESS[0]}", "tel:0899123456")
    for target in (*premium, "<sip:1000@evil.example>"):
        phone.send(talk.caller.request("REFER", phone.via(), headers=[("refer-to", target)]))
        await phone.response(403)
    for more in ("?To=%3Csip%3A0899123456%40x%3E", "?Replaces=x&%52oute=%3Csip%3Ax%3E", ";method=BYE"):
        target = f"<sip:1000@inria.example{more}>"
        phone.send(talk.caller.request("REFER", phone.via(), headers=[("refer-to", target)]))
        assert (await phone.response(403)).reason == "Refer-To may name a call to replace and no more"
    phone.send(talk.caller.request("REFER", phone.via()))
    await phone.response(400)
    await rig.pbx.quiet()
    for target in (f"<sip:1002@{DOMAIN}>", f"<sip:1002@{PBX_ADDRESS[0]}:{PBX_ADDRESS[1]}?Replaces=1%3Bto-tag%3D2>"):
        phone.send(talk.caller.request("REFER", phone.via(), headers=[("refer-to", target)]))
        rig.pbx.reply(await rig.pbx.request("REFER"), 202)
        await phone.response(202)
    rig.pbx.send(talk.callee.request("REFER", rig.pbx.via(), headers=[("refer-to", "<sip:0899123456@pbx.example>")]))
    assert (await phone.request("REFER")).has("refer-to")  # the PBX may ask for what it likes


@on_rig()
async def test_other_side_that_does_not_answer(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    rig.network.peers.pop(("udp", PBX_ADDRESS))
    phone.send(talk.caller.request("BYE", phone.via()))
    await phone.response(100, within=5.0)
    await asyncio.sleep(40)
    assert rig.calls.live == 0
    assert [record.status for record in rig.sink.received] == ["Start", "Stop"]
    await phone.quiet(0)  # RFC 4320: no 408 to a non-INVITE


@on_rig()
async def test_what_a_phone_asserts_within_a_call_is_removed(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    phone.send(talk.caller.request("UPDATE", phone.via(), headers=[("p-asserted-identity", "<sip:president@x>")]))
    update = await rig.pbx.request("UPDATE")
    assert not update.has("p-asserted-identity")
    rig.pbx.send(talk.callee.request("UPDATE", rig.pbx.via()))
    arrived = await phone.request("UPDATE")
    phone.reply(arrived, 200, headers=[("remote-party-id", "<sip:president@x>")])
    answer = await rig.pbx.response(200)
    assert isinstance(answer, Response)
    assert not answer.has("remote-party-id")


@on_rig()
async def test_max_forwards(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    spent = talk.caller.request("INFO", phone.via())
    spent.set("max-forwards", "0")
    phone.send(spent)
    await phone.response(483)
    missing = talk.caller.request("INFO", phone.via())
    missing.remove("max-forwards")
    phone.send(missing)
    assert (await rig.pbx.request("INFO")).max_forwards == 70


@on_rig()
async def test_cseq_that_leaves_no_room_for_a_bye_of_ours(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    phone.send(talk.caller.request("INFO", phone.via(), cseq=2**31 - 1))
    await phone.response(400)
    await rig.pbx.quiet()
