"""Calls that a phone sends on to somebody else: judged and paid as calls of its person (302, RFC 3261 16.7 step 4)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from nomad.edge.trunks import Trunks
from nomad.sip.message import Request, Response
from tests.edge.test_logins import CHALLENGE, is_signed, with_password
from tests.harness.peers import DOMAIN, SDP, Phone, dialog_of_callee, dialog_of_caller
from tests.harness.rig import PBX_ADDRESS, POLICY, Rig, on_rig

FORWARDING = POLICY.replace('name = "staff"', 'name = "staff"\nforward = ["national"]\nmax_forwarded_calls = 1')


async def sent_on(rig: Rig, phone: Phone, target: str, *, status: int = 302, **more: object) -> Request:
    """A call of the PBX to bob, which his phone sends on; the INVITE of the PBX."""
    sent = rig.pbx.invite("1002", **more)  # type: ignore[arg-type]
    contact = [("contact", target)] if target else []
    phone.reply(await phone.request("INVITE"), status, headers=contact)
    await phone.request("ACK")
    return sent


async def bob(rig: Rig) -> Phone:
    """A registered phone."""
    phone = rig.phone("bob")
    await phone.register()
    return phone


@on_rig()
async def test_call_that_is_sent_on_is_a_call_of_the_person(rig: Rig) -> None:
    phone = await bob(rig)
    sent = await sent_on(rig, phone, f"<sip:0123456789@{DOMAIN}>")
    invite = await rig.pbx.request("INVITE")
    assert invite.uri_text == f"sip:0123456789@{PBX_ADDRESS[0]}:{PBX_ADDRESS[1]}"
    assert invite.get("diversion") == f"<sip:1002@{DOMAIN}>;reason=unconditional;counter=1"
    assert (invite.get("from"), invite.call_id) == (sent.get("from"), sent.call_id)
    rig.pbx.reply(invite, 180, tag="gsm")
    await rig.pbx.response(180)
    answered = rig.pbx.reply(invite, 200, tag="gsm", body=SDP)
    answer = await rig.pbx.response(200)
    caller, callee = dialog_of_caller(sent, answer), dialog_of_callee(invite, answered)
    rig.pbx.send(caller.request("ACK", rig.pbx.via()))
    await rig.pbx.request("ACK")
    call = rig.call()
    assert (call.user, call.direction, call.number_class, call.limit_s) == ("bob", "out", "national", 3600.0)
    await asyncio.sleep(90)
    rig.pbx.send(callee.request("BYE", rig.pbx.via()))
    bye = await rig.pbx.request("BYE")
    assert bye.from_.tag == "gsm"
    rig.pbx.reply(bye, 200)
    await rig.pbx.response(200)
    await asyncio.sleep(1)
    (cdr,) = rig.cdrs.all
    assert (cdr.user, cdr.direction, cdr.caller, cdr.callee) == (
        "bob",
        "out",
        "2000@pbx.example",
        f"0123456789@{DOMAIN}",
    )
    assert (cdr.result, cdr.number_class, round(cdr.duration_s)) == ("answered", "national", 90)
    assert [record.status for record in rig.sink.received] == ["Start", "Stop"]
    assert rig.usage.of("bob", rig.clock.wall()).seconds_today == pytest.approx(90, abs=0.1)
    assert rig.calls.active_of("bob") == 0
    await phone.quiet()


@on_rig()
async def test_limit_ends_a_call_that_was_sent_on(rig: Rig) -> None:
    phone = await bob(rig)
    sent = await sent_on(rig, phone, f"<sip:0123456789@{DOMAIN}>")
    invite = await rig.pbx.request("INVITE")
    rig.pbx.reply(invite, 200, tag="gsm")
    answer = await rig.pbx.response(200)
    rig.pbx.send(dialog_of_caller(sent, answer).request("ACK", rig.pbx.via()))
    await rig.pbx.request("ACK")
    byes = [await rig.pbx.request("BYE", within=3605), await rig.pbx.request("BYE")]
    assert {bye.from_.tag for bye in byes} == {"gsm", sent.from_.tag}


@pytest.mark.parametrize(
    "target",
    [
        f"<sip:0899123456@{DOMAIN}>",
        "<tel:0899123456>",
        f"<sip:0899123456@{PBX_ADDRESS[0]}>",
        "<sip:1000@evil.example>",
        f"<sip:nobody@{DOMAIN}>",
        f"<sip:1002@{DOMAIN}>",  # itself
        f"<sip:bob@{DOMAIN}>",
        "<sip:",
        "<mailto:bob@x>",
        "",
    ],
)
def test_what_a_person_may_not_call_nobody_calls(target: str) -> None:
    async def scenario(rig: Rig) -> None:
        phone = await bob(rig)
        await sent_on(rig, phone, target)
        refused = await rig.pbx.response(302)
        assert not refused.has("contact")
        assert rig.pbx.inbox == [m for m in rig.pbx.inbox if not isinstance(m, Request)]
        assert rig.calls.live == 0
        (cdr,) = rig.cdrs.all
        assert (cdr.direction, cdr.answered_at) == ("in", None)

    on_rig()(scenario)()


@on_rig(policy=FORWARDING, pbx_transport="tcp")
async def test_no_more_at_once_than_the_group_may_forward_while_the_pbx_is_slow(rig: Rig) -> None:
    phone = await bob(rig)
    rig.signalling.connect_s = 1.0
    rings = []
    for _ in range(3):
        rig.pbx.invite("1002")
        rings.append(await phone.request("INVITE"))
    for ring in rings:
        phone.reply(ring, 302, headers=[("contact", f"<sip:0123456789@{DOMAIN}>")])
    await asyncio.sleep(3)
    statuses = [message.status for message in rig.pbx.inbox if isinstance(message, Response) and message.status > 100]
    assert (statuses, len([1 for message in rig.pbx.inbox if isinstance(message, Request)])) == ([302, 302], 1)


@on_rig(policy=FORWARDING)
async def test_group_that_may_call_more_than_it_may_forward_to(rig: Rig) -> None:
    phone = await bob(rig)
    await sent_on(rig, phone, f"<sip:1000@{DOMAIN}>")  # allowed to call, not to forward
    await rig.pbx.response(302)
    await sent_on(rig, phone, f"<sip:0123456789@{DOMAIN}>")
    await rig.pbx.request("INVITE")
    await sent_on(rig, phone, f"<sip:0123456789@{DOMAIN}>")  # a second one at once
    await rig.pbx.response(302)
    rig.pbx.inbox.clear()
    alice = rig.phone("alice")
    caller = (await rig.talk(alice)).caller
    alice.send(caller.request("REFER", alice.via(), headers=[("refer-to", f"<sip:1002@{DOMAIN}>")]))
    assert (await alice.response(403)).reason == "Group staff may not forward to this number"
    alice.send(caller.request("REFER", alice.via(), headers=[("refer-to", f"<sip:0123456789@{DOMAIN}>")]))
    await rig.pbx.request("REFER")


@on_rig()
async def test_other_phone_that_answers_first_keeps_the_call(rig: Rig) -> None:
    one, two = await bob(rig), await bob(rig)
    sent = rig.pbx.invite("1002")
    ringing = await two.request("INVITE")
    two.reply(ringing, 180, tag="two")
    one.reply(await one.request("INVITE"), 302, headers=[("contact", f"<sip:0123@{DOMAIN}>")])
    onward = await rig.pbx.request("INVITE")
    rig.pbx.reply(onward, 180, tag="gsm")
    two.reply(ringing, 200, tag="two", body=SDP)
    answer = await rig.pbx.response(200)
    rig.pbx.reply(await rig.pbx.request("CANCEL"), 200)
    rig.pbx.reply(onward, 487, tag="gsm")
    rig.pbx.send(dialog_of_caller(sent, answer).request("ACK", rig.pbx.via()))
    await two.request("ACK")
    call = rig.call()
    assert (call.direction, call.number_class, call.forwarded, call.limit_s) == ("in", "internal", False, None)


@on_rig()
async def test_caller_gives_up_while_it_rings_elsewhere(rig: Rig) -> None:
    phone = await bob(rig)
    sent = await sent_on(rig, phone, f"<sip:0123@{DOMAIN}>")
    onward = await rig.pbx.request("INVITE")
    rig.pbx.reply(onward, 180, tag="gsm")
    await rig.pbx.response(180)
    cancel = Request("CANCEL", sent.uri_text)
    for name in ("via", "from", "to", "call-id"):
        cancel.add(name, sent.get(name) or "")
    cancel.add("cseq", f"{sent.cseq.number} CANCEL")
    rig.pbx.send(cancel)
    rig.pbx.reply(await rig.pbx.request("CANCEL"), 200)
    rig.pbx.reply(onward, 487, tag="gsm")
    final = await rig.pbx.expect(487)
    assert final.call_id == sent.call_id
    assert rig.calls.live == 0
    assert rig.switchboard._onward == {}


@on_rig()
async def test_one_number_for_each_call_and_an_end_to_going_round(rig: Rig) -> None:
    one, two = await bob(rig), await bob(rig)
    rig.pbx.invite("1002")
    for phone in (one, two):
        phone.reply(await phone.request("INVITE"), 302, headers=[("contact", f"<sip:0123@{DOMAIN}>")])
    rig.pbx.reply(await rig.pbx.request("INVITE"), 486)
    await rig.pbx.response(302)  # of the second phone: the lower class (16.7 step 6), and it names nobody
    rig.pbx.inbox.clear()
    one.move(("198.51.100.251", 1))
    diverted = [("diversion", f"<sip:{number}@x>;reason=unconditional") for number in range(5)]
    await sent_on(rig, two, f"<sip:0123@{DOMAIN}>", headers=diverted)
    await asyncio.sleep(40)
    assert not any(isinstance(message, Request) for message in rig.pbx.inbox)


@on_rig()
async def test_best_of_several_contacts(rig: Rig) -> None:
    phone = await bob(rig)
    await sent_on(
        rig, phone, f"<sip:0123@{DOMAIN}>;q=0.2, <sip:0456@{DOMAIN}>;q=0.7, <sip:0789@{DOMAIN}>;q=x", status=300
    )
    assert (await rig.pbx.request("INVITE")).uri.user == "0456"


@on_rig()
async def test_pbx_that_reads_history_info(rig: Rig) -> None:
    (trunk,) = rig.trunks.all
    rig.dispatcher.trunks = Trunks([replace(trunk, diversion="history-info")])
    phone = await bob(rig)
    before = [("history-info", "<sip:2000@pbx.example>;index=1")]
    await sent_on(rig, phone, f"<sip:0123@{DOMAIN}>", headers=before)
    invite = await rig.pbx.request("INVITE")
    assert invite.elements("history-info")[1:] == [
        f"<sip:1002@{DOMAIN}>;index=1.1",
        f"<{invite.uri_text};cause=302>;index=1.1.1;mp=1.1",
    ]
    assert not invite.has("diversion")


@on_rig()
async def test_pbx_that_challenges_gets_credentials_here_too(rig: Rig) -> None:
    with_password(rig)
    phone = await bob(rig)
    await sent_on(rig, phone, f"<sip:0123@{DOMAIN}>")
    rig.pbx.reply(await rig.pbx.request("INVITE"), 401, headers=[("www-authenticate", CHALLENGE)])
    await rig.pbx.request("ACK")
    assert is_signed(await rig.pbx.request("INVITE"))


@on_rig(pbx_transport="tcp")
async def test_pbx_that_cannot_be_reached_again(rig: Rig) -> None:
    phone = await bob(rig)
    sent = rig.pbx.invite("1002")
    invite = await phone.request("INVITE")
    rig.signalling.unreachable.add(PBX_ADDRESS[0])
    phone.reply(invite, 302, headers=[("contact", f"<sip:0123@{DOMAIN}>")])
    refused = await rig.pbx.response(302)
    assert (refused.call_id, refused.has("contact")) == (sent.call_id, False)
