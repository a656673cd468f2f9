"""Answers that nobody can use, CANCELs and ACKs from elsewhere: nobody is left with half a call (RFC 3261 9, 13)."""

from __future__ import annotations

import asyncio

from nomad.ports import Unavailable
from nomad.sip.message import Request, Response
from tests.harness.peers import DOMAIN, SDP, Peer, dialog_of_caller
from tests.harness.rig import Rig, on_rig


async def rung(rig: Rig) -> tuple[Request, Request, Peer]:
    """A call of the PBX that rings at bob's: as the PBX sent it, as the phone got it, the phone."""
    phone = rig.phone("bob")
    await phone.register()
    sent = rig.pbx.invite("1002")
    invite = await phone.request("INVITE")
    phone.reply(invite, 180, tag="bob")
    await rig.pbx.response(180)
    return sent, invite, phone


@on_rig()
async def test_answer_whose_media_cannot_be_relayed_is_hung_up_on(rig: Rig) -> None:
    async def down(*_: object, **__: object) -> bytes:
        raise Unavailable("no ports")

    rig.switchboard._media.answer = down  # type: ignore[method-assign]
    sent, invite, phone = await rung(rig)
    answered = phone.reply(invite, 200, tag="bob", body=SDP)
    final = await rig.pbx.expect(503)
    assert final.call_id == sent.call_id
    ack, bye = await phone.request("ACK"), await phone.request("BYE")
    assert (ack.cseq.number, bye.cseq.number) == (invite.cseq.number, invite.cseq.number + 1)
    assert {ack.uri_text, bye.uri_text} == {answered.contacts[0].uri_text}
    assert (bye.to.tag, bye.from_.tag, bye.call_id) == ("bob", invite.from_.tag, invite.call_id)
    phone.reply(bye, 200)
    phone.send(answered)  # as if our ACK had been lost
    await phone.request("ACK")
    await phone.quiet()
    assert rig.calls.live == 0
    assert rig.sink.received == []


@on_rig()
async def test_answer_with_a_contact_that_cannot_be_read_is_hung_up_on(rig: Rig) -> None:
    _, invite, phone = await rung(rig)
    phone.reply(invite, 200, tag="bob", contact="<sip:")
    await rig.pbx.response(502)
    assert (await phone.request("ACK")).uri_text == invite.uri_text
    phone.reply(await phone.request("BYE"), 200)
    await phone.quiet()


@on_rig()
async def test_answer_with_a_route_that_cannot_be_read_is_hung_up_on(rig: Rig) -> None:
    _, invite, phone = await rung(rig)
    routes = ", ".join(f"<sip:10.0.0.{number};lr>" for number in range(100))
    phone.reply(invite, 200, tag="bob", headers=[("record-route", routes)])
    await rig.pbx.response(502)
    await phone.request("ACK")
    phone.reply(await phone.request("BYE"), 200)
    await phone.quiet()


@on_rig()
async def test_cancel_that_the_callee_never_confirms(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    rig.pbx.reply(invite, 180, tag="late")
    phone.cancel(sent)
    await rig.pbx.request("CANCEL")  # and no answer to it, so the INVITE is given up after 64*T1 (9.1)
    final = await phone.expect(487, within=40)
    assert isinstance(final, Response)
    phone.ack(sent, final)
    assert rig.calls.live == 0
    rig.pbx.reply(invite, 200, tag="late", body=SDP)
    await rig.pbx.quiet(2)  # its transaction is over: the PBX gives up by itself


@on_rig()
async def test_cancel_from_elsewhere_ends_nothing(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    rig.pbx.reply(invite, 180)
    await phone.response(180)
    stranger = Peer(rig.network, ("203.0.113.66", 5060))
    cancel = Request("CANCEL", sent.uri_text)
    for name in ("via", "from", "to", "call-id"):
        cancel.add(name, sent.get(name) or "")
    cancel.add("cseq", f"{sent.cseq.number} CANCEL")
    stranger.send(cancel)
    await stranger.response(481)
    await rig.pbx.quiet()
    phone.move((phone.flow.remote[0], 40404))  # what its NAT may do
    phone.cancel(sent)
    await rig.pbx.request("CANCEL")
    assert (await phone.response(200)).cseq.method == "CANCEL"


@on_rig()
async def test_cancel_of_what_is_no_invite_or_not_there(rig: Rig) -> None:
    phone = rig.phone("alice")
    message = await phone.login(phone.make("MESSAGE", f"sip:1000@{DOMAIN}"))
    arrived = await rig.pbx.request("MESSAGE")
    phone.cancel(message)
    assert (await phone.response(481)).cseq.method == "CANCEL"
    unknown = phone.make("INVITE", f"sip:1000@{DOMAIN}")
    phone.cancel(unknown)
    await phone.response(481)
    rig.pbx.reply(arrived, 200)
    await phone.response(200)
    await rig.pbx.quiet()


@on_rig()
async def test_ack_from_another_port_of_the_phone_passes(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    rig.pbx.reply(await rig.pbx.request("INVITE"), 200, body=SDP)
    dialog = dialog_of_caller(sent, await phone.response(200))
    stranger = Peer(rig.network, ("203.0.113.66", 5060))
    stranger.send(dialog.request("ACK", stranger.via()))
    await rig.pbx.quiet()
    before = phone.flow
    phone.move((phone.flow.remote[0], 40405))
    phone.send(dialog.request("ACK", phone.via()))
    await rig.pbx.request("ACK")
    assert rig.call().caller.flow == before  # what it says next is challenged
    phone.send(dialog.request("BYE", phone.via()))
    await phone.response(407)


@on_rig()
async def test_reinvite_whose_answer_names_no_usable_contact_keeps_the_old_one(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    phone.send(talk.caller.request("INVITE", phone.via(), headers=[("contact", "<sip:")]))
    rig.pbx.reply(await rig.pbx.request("INVITE"), 200, contact="<sip:")
    await phone.response(200)
    phone.send(talk.caller.request("ACK", phone.via()))
    await rig.pbx.request("ACK")
    await asyncio.sleep(1)
    assert await rig.console.hangup(talk.call.id)
    assert (await rig.pbx.request("BYE")).uri_text == talk.caller.target
    assert (await phone.request("BYE")).uri_text == f"sip:alice@{phone.host}"


@on_rig()
async def test_contact_that_is_no_uri_begins_no_dialog(rig: Rig) -> None:
    phone = rig.phone("alice")
    for contact in ("0", "<0>", "<sip:>", "<x y>"):
        for method in ("INVITE", "SUBSCRIBE"):
            request = phone.make(method, f"sip:1000@{DOMAIN}", body=SDP)
            request.set("contact", contact)
            await phone.login(request)
            await phone.response(400)
    await rig.pbx.quiet()
    talk = await rig.talk(phone)
    phone.send(talk.caller.request("UPDATE", phone.via(), headers=[("contact", "<0>")]))
    rig.pbx.reply(await rig.pbx.request("UPDATE"), 200, contact="<0>")
    await phone.response(200)
    assert await rig.console.hangup(talk.call.id)
    assert (await rig.pbx.request("BYE")).uri_text == talk.caller.target
    assert (await phone.request("BYE")).uri_text == f"sip:alice@{phone.host}"


@on_rig()
async def test_call_id_that_cannot_be_read_is_refused_without_a_traceback(rig: Rig) -> None:
    phone = rig.phone("alice")
    request = phone.make("INFO", f"sip:1000@{DOMAIN}", to=f"<sip:1000@{DOMAIN}>;tag=1")
    request.set("call-id", "two words")
    phone.send(request)
    await phone.response(400)
