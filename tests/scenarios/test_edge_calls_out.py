"""Calls from a phone through the edge to the PBX."""

from __future__ import annotations

import asyncio
import re

from nomad.edge.policy import compile_policy
from tests.harness.line import EDGE
from tests.harness.peers import DOMAIN, SDP, dialog_of_caller
from tests.harness.rig import PBX_ADDRESS, Rig, on_rig

SECRETS = [("p-asserted-identity", "<sip:president@inria.example>"), ("p-preferred-identity", "<sip:2000@x>")]
SENT_ON = [("diversion", "<sip:2000@inria.example>"), ("history-info", "<sip:2000@inria.example>;index=1")]


@on_rig()
async def test_call_is_set_up_and_ended_by_the_caller(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    await asyncio.sleep(30)
    phone.send(talk.caller.request("BYE", phone.via()))
    rig.pbx.reply(await rig.pbx.request("BYE"), 200)
    await phone.response(200)
    await asyncio.sleep(1)
    assert [record.status for record in rig.sink.received] == ["Start", "Stop"]
    (cdr,) = rig.cdrs.all
    assert (cdr.result, cdr.user, cdr.status, round(cdr.duration_s)) == ("answered", "alice", 200, 30)
    assert (cdr.caller, cdr.callee, cdr.number_class) == (f"alice@{DOMAIN}", f"1000@{DOMAIN}", "internal")
    assert (cdr.number, cdr.group, cdr.transport, cdr.peer) == ("1000", "staff", "udp", phone.flow.remote[0])
    assert (cdr.groups, cdr.classes) == ((), (b"class of alice",))
    assert cdr.chain == "class:5 group:14 allow:15 concurrent:16 longest:17"  # rules and their lines
    assert rig.live_calls.calls == {}
    assert rig.network.lost == []
    await phone.quiet()
    await rig.pbx.quiet()


@on_rig()
async def test_what_judged_a_refused_call_is_in_its_record(rig: Rig) -> None:
    phone = rig.phone("carol", transport="tcp")
    await phone.invite("77")
    await phone.response(403)
    await asyncio.sleep(1)
    (cdr,) = rig.cdrs.all
    assert (cdr.number, cdr.group, cdr.groups, cdr.transport) == ("77", "boss", ("boss",), "tcp")
    assert cdr.chain == "class group:10 class"  # a number in no class: no line allows it


@on_rig()
async def test_call_is_ended_by_the_pbx(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    await asyncio.sleep(5)
    rig.pbx.send(talk.callee.request("BYE", rig.pbx.via()))
    bye = await phone.request("BYE")
    assert not bye.has("route")
    phone.reply(bye, 200)
    await rig.pbx.response(200)
    await asyncio.sleep(1)
    stop = dict(rig.sink.of("Stop")[0].attributes)
    assert (stop["Acct-Session-Time"], stop["Acct-Terminate-Cause"]) == (5, "User-Request")
    assert stop["Class"] == b"class of alice"
    assert rig.calls.live == 0


@on_rig()
async def test_what_the_pbx_gets(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone, headers=[*SECRETS, *SENT_ON, ("remote-party-id", "<sip:x@y>"), ("x-note", "stays")])
    invite = talk.invite
    assert invite.uri_text == f"sip:1000@{PBX_ADDRESS[0]}:{PBX_ADDRESS[1]}"
    assert invite.get_all("p-asserted-identity") == [f'"Alice" <sip:1001@{DOMAIN}>']
    for gone in ("p-preferred-identity", "remote-party-id", *(name for name, _ in SENT_ON)):
        assert not invite.has(gone)
    for gone in ("proxy-authorization", "authorization"):
        assert not invite.has(gone)
    assert invite.get("x-note") == "stays"
    assert invite.max_forwards == 69
    assert len(invite.vias) == 2
    assert invite.vias[1].received == phone.flow.remote[0]
    (route,) = invite.elements("record-route")
    assert re.fullmatch(rf"<sip:{EDGE[0]}:{EDGE[1]};lr;c={talk.call.id}>", route)
    assert invite.body == SDP


@on_rig(pbx_transport="tcp")
async def test_double_record_route_between_udp_and_tcp(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    outer, inner = talk.invite.elements("record-route")
    assert outer == f"<sip:{EDGE[0]}:{EDGE[1]};transport=tcp;lr;c={talk.call.id}>"
    assert inner == f"<sip:{EDGE[0]}:{EDGE[1]};lr;c={talk.call.id}>"
    assert talk.invite.via.transport == "TCP"
    assert talk.invite.via.port == EDGE[1]  # not the port of the connection, where nobody listens
    phone.send(talk.caller.request("INFO", phone.via()))
    info = await rig.pbx.request("INFO")
    assert not info.has("route")
    rig.pbx.reply(info, 200)
    await phone.response(200)
    rig.pbx.send(talk.callee.request("BYE", rig.pbx.via()))
    bye = await phone.request("BYE")
    assert not bye.has("route")
    phone.reply(bye, 200)
    await rig.pbx.response(200)


@on_rig()
async def test_early_media_and_reliable_provisional(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    rig.pbx.reply(invite, 183, body=SDP, headers=[("require", "100rel"), ("rseq", "1")])
    progress = await phone.response(183)
    assert progress.body == SDP
    dialog = dialog_of_caller(sent, progress)
    phone.send(dialog.request("PRACK", phone.via(), headers=[("rack", "1 1 INVITE")]))
    rig.pbx.reply(await rig.pbx.request("PRACK"), 200)
    await phone.response(200)
    phone.send(dialog.request("UPDATE", phone.via()))
    rig.pbx.reply(await rig.pbx.request("UPDATE"), 200)
    await phone.response(200)
    rig.pbx.reply(invite, 200)
    assert (await phone.response(200)).cseq.method == "INVITE"
    assert rig.call().state == "answered"


@on_rig()
async def test_busy(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    rig.pbx.reply(await rig.pbx.request("INVITE"), 486)
    phone.ack(sent, await phone.response(486))
    await rig.pbx.request("ACK")
    await asyncio.sleep(1)
    assert [(cdr.result, cdr.status) for cdr in rig.cdrs.all] == [("busy", 486)]
    assert rig.sink.received == []
    assert rig.calls.active_of("alice") == 0


@on_rig()
async def test_cancel_before_anything_was_forwarded(rig: Rig) -> None:
    rig.authenticator.delay_s = 1.0
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    await asyncio.sleep(0.2)
    phone.cancel(sent)
    assert (await phone.response(200)).cseq.method == "CANCEL"
    phone.ack(sent, await phone.response(487))
    await rig.pbx.quiet()
    assert rig.calls.live == 0


@on_rig(pbx_transport="tcp")
async def test_cancel_or_hangup_while_the_pbx_is_being_connected(rig: Rig) -> None:
    rig.signalling.connect_s = 1.0
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    await asyncio.sleep(0.2)
    phone.cancel(sent)
    phone.ack(sent, await phone.response(487))
    sent = await phone.invite("1000")
    await asyncio.sleep(0.2)
    assert await rig.console.hangup(rig.call().id)
    phone.ack(sent, await phone.response(487))
    await rig.pbx.quiet()
    assert [cdr.result for cdr in rig.cdrs.all] == ["cancelled", "cancelled"]
    assert rig.calls.live == 0


@on_rig()
async def test_cancel_while_ringing(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    rig.pbx.reply(invite, 180)
    await phone.response(180)
    phone.cancel(sent)
    cancel = await rig.pbx.request("CANCEL")
    assert cancel.via.branch == invite.via.branch
    rig.pbx.reply(cancel, 200)
    rig.pbx.reply(invite, 487)
    await rig.pbx.request("ACK")
    phone.ack(sent, await phone.response(487))
    await asyncio.sleep(1)
    assert [(cdr.result, cdr.status) for cdr in rig.cdrs.all] == [("cancelled", 487)]


@on_rig()
async def test_cancel_before_the_pbx_said_anything_waits_for_it(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    phone.cancel(sent)
    await asyncio.sleep(0.3)
    assert "CANCEL" not in rig.pbx.summary()  # RFC 3261 9.1
    rig.pbx.reply(invite, 100)
    rig.pbx.reply(await rig.pbx.request("CANCEL"), 200)
    rig.pbx.reply(invite, 487)
    phone.ack(sent, await phone.response(487))


@on_rig()
async def test_cancel_that_crosses_the_answer_leaves_a_call_that_can_be_ended(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    rig.pbx.reply(invite, 180)
    await phone.response(180)
    rig.pbx.reply(invite, 200)
    phone.cancel(sent)
    answer = await phone.response(200)
    while answer.cseq.method != "INVITE":
        answer = await phone.response(200)
    dialog = dialog_of_caller(sent, answer)
    phone.send(dialog.request("ACK", phone.via()))
    await rig.pbx.request("ACK")
    phone.send(dialog.request("BYE", phone.via()))
    rig.pbx.reply(await rig.pbx.request("BYE"), 200)
    await asyncio.sleep(1)
    assert [record.status for record in rig.sink.received] == ["Start", "Stop"]


@on_rig()
async def test_two_answers_of_a_pbx_that_forked(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    await asyncio.sleep(1)
    rig.pbx.reply(talk.invite, 200, tag="other", headers=SECRETS[:0])
    second = await phone.response(200)
    assert second.to.tag == "other"
    dialog = dialog_of_caller(talk.invite, second)
    dialog.local, dialog.cseq = talk.caller.local, talk.caller.cseq
    phone.send(dialog.request("ACK", phone.via()))
    await rig.pbx.request("ACK")
    phone.send(dialog.request("BYE", phone.via()))  # RFC 3261 13.2.2.4: the caller ends what it does not want
    rig.pbx.reply(await rig.pbx.request("BYE"), 200)
    await phone.response(200)
    assert rig.call().state == "answered"  # the first goes on
    assert [record.status for record in rig.sink.received] == ["Start"]


@on_rig()
async def test_repeated_answer_is_passed_on_until_it_is_acknowledged(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    answer = rig.pbx.reply(invite, 200)
    await phone.response(200)
    rig.pbx.send(answer)
    await asyncio.sleep(0.1)
    assert len(phone.repeats) == 1
    await asyncio.sleep(1)
    assert len(rig.sink.of("Start")) == 1


@on_rig()
async def test_pbx_that_cannot_be_reached(rig: Rig) -> None:
    rig.signalling.unreachable.add(PBX_ADDRESS[0])
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    answer = await phone.response(503)
    assert answer.has("retry-after")
    phone.ack(sent, answer)
    await asyncio.sleep(1)
    assert [(cdr.result, cdr.status, cdr.rule) for cdr in rig.cdrs.all] == [("failed", 503, "pbx")]
    rig.signalling.unreachable.clear()
    rig.resolver.down = True
    phone.ack(await phone.invite("1000"), await phone.response(503))
    assert rig.calls.live == 0


@on_rig()
async def test_pbx_that_says_nothing(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    await rig.pbx.request("INVITE")
    answer = await phone.response(408, within=40)
    assert answer.to.tag
    phone.ack(sent, answer)
    assert len(rig.pbx.repeats) == 6  # 0.5, 1.5, 3.5, 7.5, 15.5, 31.5 s
    await asyncio.sleep(1)
    assert [(cdr.result, cdr.status) for cdr in rig.cdrs.all] == [("no-answer", 408)]


@on_rig(pbx_transport="tcp")
async def test_connection_to_the_pbx_that_breaks_during_setup(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    await rig.pbx.request("INVITE")
    rig.signalling.close(rig.pbx.flow)
    phone.ack(sent, await phone.response(500))
    assert rig.calls.live == 0


@on_rig()
async def test_ringing_without_end(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    rig.pbx.reply(invite, 180)
    cancel = await rig.pbx.request("CANCEL", within=185)
    rig.pbx.reply(cancel, 200)
    rig.pbx.reply(invite, 487)
    phone.ack(sent, await phone.response(487))
    assert rig.calls.live == 0


@on_rig()
async def test_ringing_pbx_that_ignores_the_cancel(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    rig.pbx.reply(await rig.pbx.request("INVITE"), 180)
    await phone.response(180)
    phone.cancel(sent)
    phone.ack(sent, await phone.response(487, within=40))
    assert rig.calls.live == 0


@on_rig()
async def test_policy_refuses_with_its_reason_and_a_call_record(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("0899123456")
    answer = await phone.response(403)
    assert answer.reason == "Premium numbers are not allowed for group staff"
    phone.ack(sent, answer)
    await asyncio.sleep(1)
    (cdr,) = rig.cdrs.all
    assert (cdr.result, cdr.status, cdr.rule, cdr.reason) == ("refused", 403, "class", answer.reason)
    assert rig.sink.received == []
    await rig.pbx.quiet()
    await rig.talk(rig.phone("carol"), "0899123456")


@on_rig()
async def test_extension_is_found_by_sip_address(rig: Rig) -> None:
    await rig.phone("bob").register()
    talk = await rig.talk(rig.phone("alice"), uri=f"sip:bob@{DOMAIN}")
    assert talk.invite.uri.user == "1002"
    phone = rig.phone("alice")
    phone.ack(await phone.invite("", uri=f"sip:ghost@{DOMAIN}"), await phone.response(404))


@on_rig()
async def test_number_with_signs_that_a_uri_must_escape(rig: Rig) -> None:
    policy = rig.options.policy.replace('national = ["0"]', 'national = ["0", "#"]')
    rig.dispatcher.ruleset = compile_policy(policy, "policy.toml")
    talk = await rig.talk(rig.phone("alice"), "%2331%23")
    assert talk.invite.uri.user == "%2331%23"
    assert talk.call.callee_address == f"#31#@{DOMAIN}"


@on_rig()
async def test_telephone_uri(rig: Rig) -> None:
    talk = await rig.talk(rig.phone("alice"), uri="tel:01-39-63-55-11")
    assert talk.invite.uri.user == "0139635511"


@on_rig()
async def test_message_goes_to_the_pbx_with_our_assertion(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.login(phone.make("MESSAGE", f"sip:1000@{DOMAIN}", headers=SECRETS))
    message = await rig.pbx.request("MESSAGE")
    assert message.get_all("p-asserted-identity") == [f'"Alice" <sip:1001@{DOMAIN}>']
    assert not message.has("record-route")
    assert not message.has("proxy-authorization")
    rig.pbx.reply(message, 202)
    await phone.response(202)
    assert rig.calls.live == 0


@on_rig()
async def test_credentials_for_others_pass_ours_do_not(rig: Rig) -> None:
    for spelling in (f'realm="{DOMAIN}"', f'REALM = "{DOMAIN}"', f"realm={DOMAIN}"):
        phone = rig.phone("alice")
        request = phone.make("INVITE", f"sip:1000@{DOMAIN}", body=SDP)
        phone.send(request)
        again = phone.answer_challenge(request, await phone.response(407))
        ours = (again.get("proxy-authorization") or "").replace(f'realm="{DOMAIN}"', spelling)
        again.set("proxy-authorization", ours)
        again.add("authorization", ours)
        again.add("proxy-authorization", 'Digest username="x", realm="pbx", nonce="1", uri="sip:x", response="2"')
        phone.send(again)
        invite = await rig.pbx.request("INVITE")
        (kept,) = invite.get_all("proxy-authorization")
        assert 'realm="pbx"' in kept
        assert not invite.has("authorization")
        rig.pbx.reply(invite, 486)
        await phone.response(486)


@on_rig()
async def test_request_that_was_not_understood_by_the_pbx_comes_back_as_it_is(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    rig.pbx.reply(invite, 488, headers=[("warning", '304 pbx "no codec"'), ("x-reason", "café")], reason="No codec")
    answer = await phone.response(488)
    assert (answer.reason, answer.get("warning")) == ("No codec", '304 pbx "no codec"')
    assert len(answer.vias) == 1
    phone.ack(sent, answer)


@on_rig()
async def test_503_of_the_pbx_is_not_said_of_the_edge(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    rig.pbx.reply(await rig.pbx.request("INVITE"), 503)
    phone.ack(sent, await phone.response(500))
