"""Calls from the PBX to the phones of a person: parallel forking (RFC 3261 16.7)."""

from __future__ import annotations

import asyncio

from nomad.sip.message import Request, Response
from tests.harness.line import EDGE
from tests.harness.peers import SDP, Phone, dialog_of_callee, dialog_of_caller
from tests.harness.rig import Rig, on_rig

PRIVATE = [("p-asserted-identity", '"Boss" <sip:2000@pbx.example>'), ("privacy", "user; id")]
PUBLIC = PRIVATE[:1]


async def registered(rig: Rig, count: int = 2, user: str = "bob") -> list[Phone]:
    """Phones of one person."""
    phones = [rig.phone(user) for _ in range(count)]
    for phone in phones:
        await phone.register()
    return phones


async def pass_final(rig: Rig, sent: Request, status: int) -> Response:
    """The final answer at the PBX, acknowledged when it is no 2xx."""
    answer = await rig.pbx.response(status)
    ack = Request("ACK", sent.uri_text)
    for name in ("via", "from", "call-id"):
        ack.add(name, sent.get(name) or "")
    ack.add("to", answer.get("to") or "")
    ack.add("cseq", f"{sent.cseq.number} ACK")
    rig.pbx.send(ack)
    return answer


@on_rig()
async def test_first_answer_wins_and_the_other_phone_stops_ringing(rig: Rig) -> None:
    one, two = await registered(rig)
    sent = rig.pbx.invite("1002")
    ringing = [await phone.request("INVITE") for phone in (one, two)]
    one.reply(ringing[0], 180, tag="one")
    two.reply(ringing[1], 180, tag="two")
    assert {(await rig.pbx.response(180)).to.tag for _ in "12"} == {"one", "two"}
    answered = two.reply(ringing[1], 200, tag="two", body=SDP)
    answer = await rig.pbx.response(200)
    assert answer.to.tag == "two"
    one.reply(await one.request("CANCEL"), 200)
    one.reply(ringing[0], 487, tag="one")
    await one.request("ACK")
    caller = dialog_of_caller(sent, answer)
    rig.pbx.send(caller.request("ACK", rig.pbx.via()))
    await two.request("ACK")
    call = rig.call()
    assert (call.user, call.direction, call.peer) == ("bob", "in", two.flow.remote[0])
    await asyncio.sleep(10)
    two.send(dialog_of_callee(ringing[1], answered).request("BYE", two.via()))
    rig.pbx.reply(await rig.pbx.request("BYE"), 200)
    await two.response(200)
    await asyncio.sleep(1)
    assert [record.status for record in rig.sink.received] == ["Start", "Stop"]
    assert [(cdr.result, cdr.direction, cdr.user, round(cdr.duration_s)) for cdr in rig.cdrs.all] == [
        ("answered", "in", "bob", 10)
    ]
    for peer in (one, two, rig.pbx):
        peer.inbox = [m for m in peer.inbox if not (isinstance(m, Response) and m.status == 100)]
        await peer.quiet()


@on_rig()
async def test_two_phones_answer_at_once_and_the_caller_ends_one(rig: Rig) -> None:
    one, two = await registered(rig)
    sent = rig.pbx.invite("1002")
    ringing = [await phone.request("INVITE") for phone in (one, two)]
    one.reply(ringing[0], 200, tag="one")
    two.reply(ringing[1], 200, tag="two")
    answers = [await rig.pbx.response(200) for _ in "12"]
    assert {answer.to.tag for answer in answers} == {"one", "two"}
    for answer in answers:
        rig.pbx.send(dialog_of_caller(sent, answer).request("ACK", rig.pbx.via()))
    await one.request("ACK")
    await two.request("ACK")
    loser = next(answer for answer in answers if answer.to.tag != rig.call().answered_by)
    rig.pbx.send(dialog_of_caller(sent, loser).request("BYE", rig.pbx.via()))
    phone = one if loser.to.tag == "one" else two
    phone.reply(await phone.request("BYE"), 200)
    await asyncio.sleep(1)
    assert rig.call().state == "answered"
    assert [record.status for record in rig.sink.received] == ["Start"]


@on_rig()
async def test_everybody_is_busy(rig: Rig) -> None:
    one, two = await registered(rig)
    sent = rig.pbx.invite("1002")
    one.reply(await one.request("INVITE"), 486)
    two.reply(await two.request("INVITE"), 486)
    await pass_final(rig, sent, 486)
    await asyncio.sleep(1)
    assert [cdr.result for cdr in rig.cdrs.all] == ["busy"]
    assert rig.calls.live == 0


@on_rig()
async def test_decline_ends_the_ringing_of_all(rig: Rig) -> None:
    one, two = await registered(rig)
    sent = rig.pbx.invite("1002")
    invite = await two.request("INVITE")
    two.reply(invite, 180)
    one.reply(await one.request("INVITE"), 603)
    two.reply(await two.request("CANCEL"), 200)
    two.reply(invite, 487)
    await pass_final(rig, sent, 603)


@on_rig()
async def test_caller_gives_up(rig: Rig) -> None:
    phones = await registered(rig)
    sent = rig.pbx.invite("1002")
    invites = [await phone.request("INVITE") for phone in phones]
    for phone, invite in zip(phones, invites, strict=True):
        phone.reply(invite, 180)
    await asyncio.sleep(1)
    cancel = Request("CANCEL", sent.uri_text)
    for name in ("via", "from", "to", "call-id"):
        cancel.add(name, sent.get(name) or "")
    cancel.add("cseq", f"{sent.cseq.number} CANCEL")
    rig.pbx.send(cancel)
    for phone, invite in zip(phones, invites, strict=True):
        phone.reply(await phone.request("CANCEL"), 200)
        phone.reply(invite, 487)
    await pass_final(rig, sent, 487)
    assert rig.calls.live == 0


@on_rig()
async def test_nobody_at_home(rig: Rig) -> None:
    await pass_final(rig, rig.pbx.invite("1002"), 480)
    phone = rig.phone("bob")
    await phone.register(expires=60)
    await asyncio.sleep(59.9)
    await phone.quiet(0)
    await asyncio.sleep(1.5)
    await pass_final(rig, rig.pbx.invite("1002"), 480)
    await phone.quiet()


@on_rig()
async def test_phone_that_is_gone_does_not_hold_up_the_other(rig: Rig) -> None:
    one, two = await registered(rig)
    rig.network.peers.pop(("udp", one.flow.remote))
    sent = rig.pbx.invite("1002")
    invite = await two.request("INVITE")
    two.reply(invite, 200)
    answer = await rig.pbx.response(200)
    rig.pbx.send(dialog_of_caller(sent, answer).request("ACK", rig.pbx.via()))
    await two.request("ACK")
    await asyncio.sleep(40)
    assert rig.call().state == "answered"


@on_rig()
async def test_connection_of_a_phone_that_broke(rig: Rig) -> None:
    phone = rig.phone("bob", transport="tcp")
    await phone.register()
    sent = rig.pbx.invite("1002")
    await phone.request("INVITE")
    rig.signalling.close(phone.flow)
    await pass_final(rig, sent, 480)
    assert rig.calls.live == 0


@on_rig()
async def test_asserted_identity_reaches_the_phone_unless_the_caller_wants_privacy(rig: Rig) -> None:
    (phone,) = await registered(rig, 1)
    for headers, shown in ((PRIVATE, False), (PUBLIC, True)):
        sent = rig.pbx.invite("1002", headers=headers)
        invite = await phone.request("INVITE")
        assert invite.has("p-asserted-identity") is shown
        answered = phone.reply(invite, 200, headers=[("p-asserted-identity", "<sip:president@x>")])
        answer = await rig.pbx.response(200)
        assert not answer.has("p-asserted-identity")
        phone.send(answered)  # again: the edge passes it on, as clean as the first
        await asyncio.sleep(0.1)
        assert rig.pbx.repeats.pop() == answer.encode()
        caller = dialog_of_caller(sent, answer)
        rig.pbx.send(caller.request("ACK", rig.pbx.via()))
        await phone.request("ACK")
        rig.pbx.send(caller.request("UPDATE", rig.pbx.via(), headers=headers))
        assert (await phone.request("UPDATE")).has("p-asserted-identity") is shown


@on_rig()
async def test_request_uri_is_the_contact_of_the_phone_as_it_registered(rig: Rig) -> None:
    phone = rig.phone("bob")
    await phone.register(headers=[("path", "<sip:198.51.100.250;lr>"), ("supported", "path")])
    rig.pbx.invite("1002")
    invite = await phone.request("INVITE")
    assert invite.uri_text == f"sip:bob@{phone.host}"
    assert invite.get("route") == "<sip:198.51.100.250;lr>"


@on_rig()
async def test_address_in_place_of_the_extension(rig: Rig) -> None:
    (phone,) = await registered(rig, 1)
    rig.pbx.invite("", uri="sip:bob@inria.example")
    await phone.request("INVITE")
    assert rig.call().callee_address == "1002@inria.example"


@on_rig()
async def test_answer_that_cannot_be_read_stops_all_ringing(rig: Rig) -> None:
    one, two = await registered(rig)
    sent = rig.pbx.invite("1002")
    ringing = [await phone.request("INVITE") for phone in (one, two)]
    one.reply(ringing[0], 180, contact="<sip:x")
    two.reply(ringing[1], 180, tag="two")
    assert (await rig.pbx.response(180)).to.tag == "two"
    one.reply(ringing[0], 200, contact="<sip:x")
    two.reply(await two.request("CANCEL"), 200)
    two.reply(ringing[1], 487, tag="two")
    final = await rig.pbx.expect(502)
    assert isinstance(final, Response)
    assert rig.calls.live == 0
    assert sent.call_id == final.call_id


@on_rig()
async def test_header_in_latin_1_does_not_stop_a_call(rig: Rig) -> None:
    (phone,) = await registered(rig, 1)
    sent = rig.pbx.invite("1002", caller='"Ren\udce9e" <sip:2000@pbx.example>', headers=[("user-agent", "PBX \udce9")])
    invite = await phone.request("INVITE")
    assert invite.get("from") == sent.get("from")
    phone.reply(invite, 200)
    answer = await rig.pbx.response(200)
    rig.pbx.send(dialog_of_caller(sent, answer).request("ACK", rig.pbx.via()))
    await phone.request("ACK")
    await asyncio.sleep(1)
    assert rig.call().id in rig.live_calls.calls
    assert len(rig.sink.of("Start")) == 1


@on_rig()
async def test_pbx_is_known_by_its_address_only(rig: Rig) -> None:
    stranger = rig.phone("alice")
    request = stranger.make("INVITE", f"sip:1002@{EDGE[0]}", from_="<sip:2000@pbx.example>;tag=1", body=SDP)
    stranger.send(request)
    await stranger.response(407)


@on_rig()
async def test_redirection_by_a_phone_does_not_tell_the_pbx_whom_to_call(rig: Rig) -> None:
    (phone,) = await registered(rig, 1)
    sent = rig.pbx.invite("1002")
    phone.reply(await phone.request("INVITE"), 302, headers=[("contact", "<sip:0899123456@10.0.0.5>")])
    assert not (await pass_final(rig, sent, 302)).has("contact")


@on_rig()
async def test_phones_that_cannot_take_the_media_do_not_ring(rig: Rig) -> None:
    webrtc = SDP.replace(b"RTP/AVP", b"UDP/TLS/RTP/SAVPF")
    phone, page = rig.phone("bob"), rig.phone("bob", transport="wss")
    await phone.register()
    rig.pbx.invite("1002", body=webrtc)
    assert (await rig.pbx.response(488)).reason == "No phone of this person takes such media"
    await page.register()
    rig.pbx.invite("1002", body=webrtc)
    await page.request("INVITE")
    rig.pbx.invite("1002")
    await phone.request("INVITE")
    assert [message.method for message in (*phone.inbox, *page.inbox) if isinstance(message, Request)] == []
