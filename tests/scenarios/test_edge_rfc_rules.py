"""Rules of RFC 3261 16 and its extensions on the wire: forks, challenges, timers, strict routers, early dialogs."""

from __future__ import annotations

import asyncio

import pytest

from nomad.sip.message import Request, Response
from tests.harness.line import EDGE
from tests.harness.peers import DOMAIN, SDP, dialog_of_caller
from tests.harness.rig import Rig, on_rig


@on_rig()
async def test_challenges_of_two_phones_come_back_together(rig: Rig) -> None:
    phones = [rig.phone("bob"), rig.phone("bob")]
    for phone in phones:
        await phone.register()
    rig.pbx.invite("1002")
    one, two = [await phone.request("INVITE") for phone in phones]
    phones[0].reply(one, 401, headers=[("www-authenticate", 'Digest realm="one", nonce="1"')])
    phones[1].reply(two, 407, headers=[("proxy-authenticate", 'Digest realm="two", nonce="2"')])
    answer = await rig.pbx.expect(401)
    assert (answer.get("www-authenticate") or "").startswith('Digest realm="one"')
    assert (answer.get("proxy-authenticate") or "").startswith('Digest realm="two"')


@on_rig()
async def test_best_answer_of_a_fork(rig: Rig) -> None:
    phones = [rig.phone("bob"), rig.phone("bob"), rig.phone("bob")]
    for phone in phones:
        await phone.register()
    for statuses, best in (((486, 503, 404), {486, 404}), ((503, 503, 503), {500}), ((480, 603, 486), {603})):
        rig.pbx.inbox.clear()
        rig.pbx.invite("1002")
        for phone, status in zip(phones, statuses, strict=True):
            phone.reply(await phone.request("INVITE"), status)
        answer: Response | None = None
        while answer is None:
            await asyncio.sleep(0.01)
            answer = next((m for m in rig.pbx.inbox if isinstance(m, Response) and m.status >= 200), None)
        assert answer.status in best
        for phone in phones:
            phone.inbox.clear()


@on_rig()
async def test_phone_that_rings_too_long_is_cancelled(rig: Rig) -> None:
    phone = rig.phone("bob")
    await phone.register()
    rig.pbx.invite("1002")
    invite = await phone.request("INVITE")
    phone.reply(invite, 180)
    await rig.pbx.response(180)
    await asyncio.sleep(170)
    phone.reply(invite, 183)  # Timer C starts anew (16.7 step 2)
    await asyncio.sleep(170)
    assert not any(isinstance(m, Request) for m in phone.inbox)
    phone.reply(await phone.request("CANCEL", within=20), 200)
    phone.reply(invite, 487)
    await rig.pbx.response(487)
    assert rig.calls.live == 0


@on_rig()
async def test_early_dialog_that_ends_is_told(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.invite("1000", headers=[("supported", "199")])
    invite = await rig.pbx.request("INVITE")
    rig.pbx.reply(invite, 180, tag="one")
    rig.pbx.reply(invite, 199, tag="one")
    rig.pbx.reply(invite, 180, tag="two")
    await phone.response(180)
    assert (await phone.response(199)).to.tag == "one"
    assert (await phone.response(180)).to.tag == "two"
    rig.pbx.reply(invite, 200, tag="two", body=SDP)
    await phone.response(200)
    assert rig.call().answered_by == "two"


@on_rig()
async def test_strict_router_on_either_side(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    for sender, receiver, dialog in ((phone, rig.pbx, talk.caller), (rig.pbx, phone, talk.callee)):
        info = dialog.request("INFO", sender.via())
        ours = dialog.routes[0].strip("<>")
        info.set_uri(ours)  # what a router of RFC 2543 makes of it (16.4)
        info.set("route", f"<{dialog.target}>")
        sender.send(info)
        arrived = await receiver.request("INFO")
        assert (arrived.uri_text, arrived.has("route")) == (dialog.target, False)
        receiver.reply(arrived, 200)
        await sender.response(200)


@on_rig()
async def test_answer_that_comes_again_goes_back_again_until_its_ack(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    answered = rig.pbx.reply(invite, 200, body=SDP)
    answer = await phone.response(200)
    for count in (1, 2):
        await asyncio.sleep(2)
        rig.pbx.send(answered)  # RFC 6026 7.2: the client transaction lives on as Accepted
        await asyncio.sleep(0.1)
        assert phone.repeats.count(answer.encode()) == count
    phone.send(sent)  # RFC 6026 7.1: absorbed by the server transaction
    await rig.pbx.quiet()
    phone.send(dialog_of_caller(sent, answer).request("ACK", phone.via()))
    await rig.pbx.request("ACK")
    assert len(rig.sink.of("Start")) == 1


@on_rig()
async def test_only_100_is_sent_to_what_is_no_invite(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    phone.send(talk.caller.request("INFO", phone.via()))
    info = await rig.pbx.request("INFO")
    rig.pbx.reply(info, 183)  # RFC 4320 4.1
    rig.pbx.reply(info, 408)  # RFC 4320 4.2
    await phone.quiet()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_who_waits_long_for_the_answer_to_what_is_no_invite_is_told_100_once(transport: str) -> None:
    async def scenario(rig: Rig) -> None:
        phone = rig.phone("alice", transport=transport)
        talk = await rig.talk(phone)
        phone.send(sent := talk.caller.request("INFO", phone.via()))
        info = await rig.pbx.request("INFO")
        await phone.quiet(3.4)  # not before Timer E is at T2: RFC 4320 4.1
        assert (await phone.response(100, within=1.2)).cseq.method == "INFO"
        await phone.quiet(4)
        if transport == "udp":
            phone.send(sent)
            await phone.quiet()  # a copy to the byte: the harness counts it apart
            assert len(phone.repeats) == 1
        rig.pbx.reply(info, 200)
        await phone.response(200)
        await phone.quiet(5)

    on_rig()(scenario)()


@on_rig()
async def test_a_late_answer_to_what_is_no_invite_goes_nowhere(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    phone.send(talk.caller.request("INFO", phone.via()))
    info = await rig.pbx.request("INFO")
    await phone.response(100, within=5.0)
    await asyncio.sleep(40)
    rig.pbx.reply(info, 200)  # RFC 4320 4.2
    await phone.quiet()


@on_rig()
async def test_a_ringing_call_is_not_told_100_again(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.invite("1000")
    await phone.response(100)
    rig.pbx.reply(await rig.pbx.request("INVITE"), 180)
    await phone.response(180)
    await phone.quiet(10)


@on_rig()
async def test_login_that_waits_for_radius_is_told_100(rig: Rig) -> None:
    phone = rig.phone("alice")
    phone.send(request := phone.make("REGISTER", f"sip:{DOMAIN}"))
    challenge = await phone.response(401)
    rig.authenticator.delay_s = 6.0
    phone.send(phone.answer_challenge(request, challenge))
    await phone.quiet(3.4)
    assert (await phone.response(100, within=1.2)).cseq.method == "REGISTER"
    await phone.response(200, within=3.0)


@on_rig()
async def test_answers_go_to_the_port_that_asked(rig: Rig) -> None:
    phone = rig.phone("alice")
    request = phone.make("OPTIONS", f"sip:{EDGE[0]}")
    request.set("via", "SIP/2.0/UDP 192.168.1.9:5099;branch=z9hG4bKnat;rport")
    phone.send(request)
    answer = await phone.response(200)  # RFC 3581 4
    assert answer.via.received == phone.flow.remote[0]
    assert answer.via.rport == phone.flow.remote[1]


@on_rig()
async def test_older_pbx_that_names_a_caller_who_wants_privacy(rig: Rig) -> None:
    phone = rig.phone("bob")
    await phone.register()
    rig.pbx.invite("1002", headers=[("remote-party-id", "<sip:2000@pbx.example>;privacy=full"), ("privacy", "id")])
    invite = await phone.request("INVITE")
    assert not invite.has("remote-party-id")
    assert invite.get("privacy") == "id"
