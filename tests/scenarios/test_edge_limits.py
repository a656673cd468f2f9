"""Limits, orders of an admin, draining, and what survives a crash."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from nomad import tasks
from nomad.config import Accounting
from nomad.edge.calls import thaw
from nomad.edge.policy import compile_policy
from nomad.ports import Registration
from nomad.sip.message import Request, Response
from tests.harness.peers import DOMAIN, PEOPLE, SDP, dialog_of_caller
from tests.harness.rig import Rig, on_rig

INTERIM = Accounting(interim_interval_s=60)
IMPATIENT = {**PEOPLE, "alice": (PEOPLE["alice"][0], replace(PEOPLE["alice"][1], session_timeout_s=90))}


@on_rig()
async def test_200_invites_at_once_never_exceed_the_limit(rig: Rig) -> None:
    rig.authenticator.delay_s = 0.1
    phone = rig.phone("alice")
    requests = [phone.make("INVITE", f"sip:1000@{DOMAIN}", body=SDP) for _ in range(200)]
    phone.send(requests[0])
    challenge = await phone.response(407)
    for request in requests:
        phone.send(phone.answer_challenge(request, challenge))
    await asyncio.sleep(1)
    refused = [m for m in phone.inbox if isinstance(m, Response) and m.status == 403]
    forwarded = [m for m in rig.pbx.inbox if isinstance(m, Request)]
    assert (len(forwarded), len(refused)) == (2, 198)
    assert {m.reason for m in refused} == {"You already have 2 calls; 2 are allowed"}
    assert rig.calls.active_of("alice") == 2
    assert len([cdr for cdr in rig.cdrs.all if cdr.rule == "concurrent"]) == 198
    for invite in forwarded:
        rig.pbx.reply(invite, 486)
    await asyncio.sleep(1)
    assert rig.calls.active_of("alice") == 0
    phone.inbox.clear()
    rig.pbx.inbox.clear()
    rig.authenticator.delay_s = 0.0
    await rig.talk(phone)


@on_rig()
async def test_longest_call(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    await asyncio.sleep(3590)
    assert talk.call.state == "answered"
    for peer in (phone, rig.pbx):
        bye = await peer.request("BYE", within=15)
        peer.reply(bye, 200)
        assert bye.cseq.number > 0
    await asyncio.sleep(1)
    (stop,) = rig.sink.of("Stop")
    attributes = dict(stop.attributes)
    assert attributes["Acct-Terminate-Cause"] == "Session-Timeout"
    assert 3600 <= int(attributes["Acct-Session-Time"]) <= 3601
    assert rig.cdrs.all[0].terminate_cause == "Session-Timeout"
    await phone.quiet()
    await rig.pbx.quiet()


@on_rig(people=IMPATIENT)
async def test_session_timeout_of_radius_ends_a_call_but_no_emergency(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    await phone.request("BYE", within=92)
    assert talk.call.terminate_cause == "Session-Timeout"
    emergency = await rig.talk(rig.phone("alice"), "112")
    await asyncio.sleep(200)
    assert emergency.call.state == "answered"


@on_rig()
async def test_minutes_of_a_day(rig: Rig) -> None:
    policy = rig.options.policy + "max_minutes_per_day = 2\n"
    rig.dispatcher.ruleset = compile_policy(policy, "policy.toml")
    phone = rig.phone("alice")
    await rig.talk(phone)
    await phone.request("BYE", within=122)
    await phone.invite("1000")
    assert (await phone.response(403)).reason == "Your 2 minutes of today are used up"
    await asyncio.sleep(86400)
    await rig.talk(rig.phone("alice"))


@on_rig()
async def test_hangup_by_an_admin(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    (view,) = await rig.console.calls()
    assert (view.user, view.state, view.direction, view.id) == ("alice", "answered", "out", talk.call.id)
    assert await rig.console.hangup(view.id)
    assert not await rig.console.hangup(view.id)
    to_phone, to_pbx = await phone.request("BYE"), await rig.pbx.request("BYE")
    assert (to_phone.from_.tag, to_phone.to.tag) == (to_pbx.to.tag, to_pbx.from_.tag)
    assert to_phone.uri_text == f"sip:alice@{phone.host}"
    assert to_pbx.uri_text == talk.caller.target
    phone.reply(to_phone, 200)
    rig.pbx.reply(to_pbx, 200)
    await asyncio.sleep(1)
    assert dict(rig.sink.of("Stop")[0].attributes)["Acct-Terminate-Cause"] == "Admin-Reset"
    assert await rig.console.calls() == []


async def hang_up_while_ringing(rig: Rig) -> None:
    """An admin ends a call that nobody has answered yet."""
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    rig.pbx.reply(invite, 180)
    await phone.response(180)
    assert await rig.console.hangup(rig.call().id)
    rig.pbx.reply(await rig.pbx.request("CANCEL"), 200)
    rig.pbx.reply(invite, 487)
    phone.ack(sent, await phone.response(487))


@on_rig()
async def test_hangup_while_ringing(rig: Rig) -> None:
    await hang_up_while_ringing(rig)


@on_rig()
async def test_kick_ends_calls_and_registrations(rig: Rig) -> None:
    phone, other = rig.phone("alice"), rig.phone("bob")
    await phone.register()
    await other.register()
    await rig.talk(phone)
    assert await rig.console.kick("alice") == 2
    await phone.request("BYE")
    await rig.pbx.request("BYE")
    assert [each.user for each in await rig.console.registrations()] == ["bob"]
    assert await rig.console.kick("alice") == 0


@on_rig()
async def test_kick_while_the_phone_registers(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.register()
    save, raced = rig.locations.save, False

    async def racing(registration: Registration) -> None:
        nonlocal raced
        if not raced:
            raced = True
            await save(await rig.locations.get("alice"))  # somebody else was faster
        await save(registration)

    rig.locations.save = racing  # type: ignore[method-assign]
    assert await rig.console.kick("alice") == 1
    assert await rig.console.registrations() == []


@on_rig()
async def test_draining_refuses_new_work_only(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    await rig.console.drain()
    assert (await rig.console.status()).draining
    for method in ("REGISTER", "INVITE", "MESSAGE"):
        phone.send(phone.make(method, f"sip:1000@{DOMAIN}"))
        assert (await phone.response(503)).has("retry-after")
    rig.pbx.invite("1001")
    await rig.pbx.response(503)
    phone.send(phone.make("OPTIONS", f"sip:{DOMAIN}"))
    await phone.response(200)
    phone.send(talk.caller.request("BYE", phone.via()))
    rig.pbx.reply(await rig.pbx.request("BYE"), 200)
    await phone.response(200)


@on_rig()
async def test_call_that_still_rings_when_the_grace_is_over_is_given_up(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.invite("1000")
    rig.pbx.reply(await rig.pbx.request("INVITE"), 180)
    await phone.response(180)
    assert await tasks.drain(5.0) == 1
    await rig.pbx.request("CANCEL")
    assert (await phone.response(503)).cseq.method == "INVITE"
    assert rig.calls.live == 0


@on_rig()
async def test_call_survives_a_crash(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    await asyncio.sleep(100)
    await rig.stop()
    after = Rig(rig.options, survivors=rig)
    now = after.clock.wall()
    for stored in await after.live_calls.load():
        after.calls.restore(thaw(stored), now=after.clock.wall(), latest_end=now + 86400)
    after.start()
    assert after.calls.active_of("alice") == 1
    await asyncio.sleep(10)
    phone.send(talk.caller.request("BYE", phone.via()))
    rig.pbx.reply(await rig.pbx.request("BYE"), 200)
    await phone.response(200)
    await asyncio.sleep(1)
    assert [record.status for record in after.sink.received] == ["Start", "Stop"]
    assert round(after.cdrs.all[0].duration_s) == 110
    assert after.live_calls.calls == {}
    await after.stop()


@on_rig()
async def test_an_answer_sent_again_after_a_crash_reaches_its_caller_without_a_hidden_identity(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    await rig.stop()
    after = Rig(rig.options, survivors=rig)
    for stored in await after.live_calls.load():
        after.calls.restore(thaw(stored), now=after.clock.wall(), latest_end=after.clock.wall() + 86400)
    after.start()
    private = [("p-asserted-identity", "<sip:2000@pbx.example>"), ("privacy", "id")]
    rig.pbx.reply(talk.invite, 200, headers=private)
    answer = await phone.response(200)
    assert (answer.cseq.method, answer.to.tag) == ("INVITE", talk.answer.to.tag)
    assert not answer.has("p-asserted-identity")
    await after.stop()


@on_rig()
async def test_restored_call_still_ends_at_its_limit_with_a_bye_that_counts(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    for _ in range(3):  # requests after the call was stored
        phone.send(talk.caller.request("INFO", phone.via()))
        rig.pbx.reply(await rig.pbx.request("INFO"), 200)
        await phone.response(200)
    await asyncio.sleep(100)
    await rig.stop()
    after = Rig(rig.options, survivors=rig)
    for stored in await after.live_calls.load():
        after.calls.restore(thaw(stored), now=after.clock.wall(), latest_end=after.clock.wall() + 86400)
    after.start()
    bye = await rig.pbx.request("BYE", within=3600)
    assert bye.cseq.number > talk.caller.cseq
    await phone.request("BYE")
    await asyncio.sleep(1)
    assert dict(after.sink.of("Stop")[0].attributes)["Acct-Terminate-Cause"] == "Session-Timeout"
    await after.stop()


@on_rig(accounting=INTERIM)
async def test_interim_updates(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    await asyncio.sleep(185)
    phone.send(talk.caller.request("BYE", phone.via()))
    await asyncio.sleep(100)
    assert [r.status for r in rig.sink.received] == ["Start", *["Interim-Update"] * 3, "Stop"]
    times = [int(dict(r.attributes)["Acct-Session-Time"]) for r in rig.sink.of("Interim-Update")]
    assert [round(time / 60) for time in times] == [1, 2, 3]
    assert len({record.id for record in rig.sink.received}) == 5


@on_rig()
async def test_accounting_waits_for_radius_and_loses_nothing(rig: Rig) -> None:
    rig.sink.down = True
    phone = rig.phone("alice")
    for _ in range(3):
        talk = await rig.talk(phone)
        await asyncio.sleep(60)
        phone.send(talk.caller.request("BYE", phone.via()))
        rig.pbx.reply(await rig.pbx.request("BYE"), 200)
        await phone.response(200)
    tries = rig.sink.tries
    await asyncio.sleep(600)
    assert rig.sink.tries - tries < 3 * 2 * 45  # backs off to one look in 15 s
    assert (await rig.console.status()).spool_records == 6
    rig.sink.down = False
    await asyncio.sleep(20)
    assert (await rig.console.status()).spool_records == 0
    sessions: dict[str, list[str]] = {}
    for record in rig.sink.received:
        sessions.setdefault(record.session, []).append(record.status)
    assert list(sessions.values()) == [["Start", "Stop"]] * 3
    assert rig.sink.received[0].at < rig.sink.received[-1].at


@on_rig()
async def test_stores_that_fail_never_stop_a_call(rig: Rig) -> None:
    rig.spool.down = rig.cdrs.down = rig.live_calls.down = True
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    phone.send(talk.caller.request("BYE", phone.via()))
    rig.pbx.reply(await rig.pbx.request("BYE"), 200)
    await phone.response(200)
    await phone.invite("0899123456")
    await phone.response(403)
    assert rig.calls.live == 0
    rig.spool.down = rig.cdrs.down = rig.live_calls.down = False
    await rig.talk(phone)
    await asyncio.sleep(20)
    assert len(rig.sink.of("Start")) == 1  # the deliverer lives on


@on_rig()
async def test_slow_disk_holds_up_one_call_and_not_for_long(rig: Rig) -> None:
    rig.spool.delay_s = 30.0
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    rig.pbx.reply(invite, 200)
    answer = await phone.response(200, within=3)
    phone.send(dialog_of_caller(sent, answer).request("ACK", phone.via()))
    await rig.pbx.request("ACK")


@on_rig(accounting=Accounting(refused=True))
async def test_refused_attempts_are_accounted_when_asked_for(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.invite("0899123456")
    await phone.response(403)
    sent = await phone.invite("1000")
    rig.pbx.reply(await rig.pbx.request("INVITE"), 486)
    phone.ack(sent, await phone.response(486))
    await asyncio.sleep(1)
    assert [record.status for record in rig.sink.received] == ["Stop", "Stop"]
    assert [dict(r.attributes)["Acct-Session-Time"] for r in rig.sink.received] == [0, 0]
    assert [dict(r.attributes)["Nomad-SIP-Response-Code"] for r in rig.sink.received] == [403, 486]
    causes = [dict(r.attributes)["Acct-Terminate-Cause"] for r in rig.sink.received]
    assert causes == ["NAS-Request", "Host-Request"]


@on_rig(accounting=Accounting(refused=True))
async def test_a_call_that_is_ended_while_it_rings_says_by_whom(rig: Rig) -> None:
    await hang_up_while_ringing(rig)
    await asyncio.sleep(1)
    (stop,) = rig.sink.received
    told = dict(stop.attributes)
    assert (told["Nomad-SIP-Response-Code"], told["Acct-Terminate-Cause"]) == (487, "Admin-Reset")
