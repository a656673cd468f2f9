"""Minutes, money and calls of the hour on the whole edge: many at once, over midnight, in the middle of a call, after a
crash.
"""

from __future__ import annotations

import asyncio

import pytest

from nomad.sip.message import Request, Response
from tests.harness.peers import DOMAIN, SDP, Phone
from tests.harness.rig import Rig, Talk, on_rig
from tests.harness.virtual import EPOCH

RULES = """
timezone = "UTC"
[classes]
emergency = ["112"]
internal = ["re:[0-9]{{4}}"]
national = ["0"]
[tariffs.national]
per_minute = 0.5
[[group]]
name = "staff"
match = {{ default = true }}
allow = ["internal", "national"]
{}
"""
MIDNIGHT = EPOCH + 16 * 3600  # the virtual loop begins at 08:00 UTC


def limited(limit: str) -> str:
    return RULES.format(limit)


async def hang_up(rig: Rig, phone: Phone, talk: Talk) -> None:
    phone.send(talk.caller.request("BYE", phone.via()))
    rig.pbx.reply(await rig.pbx.request("BYE"), 200)
    await phone.response(200)


async def flood(rig: Rig, phone: Phone, number: str, calls: int) -> tuple[list[Request], list[Response]]:
    """So many INVITEs in one moment, all waiting for RADIUS together: those that reach the PBX, those refused."""
    rig.authenticator.delay_s = 0.1
    requests = [phone.make("INVITE", f"sip:{number}@{DOMAIN}", body=SDP) for _ in range(calls)]
    phone.send(requests[0])
    challenge = await phone.response(407)
    for request in requests:
        phone.send(phone.answer_challenge(request, challenge))
    await asyncio.sleep(1)
    rig.authenticator.delay_s = 0.0
    refused = [m for m in phone.inbox if isinstance(m, Response) and m.status == 403]
    return [m for m in rig.pbx.inbox if isinstance(m, Request)], refused


async def _never_more(rig: Rig, reason: str, rule: str) -> None:
    phone = rig.phone("alice")
    forwarded, refused = await flood(rig, phone, "0139635511", 200)
    assert (len(forwarded), len(refused)) == (2, 198)
    assert {m.reason for m in refused} == {reason}
    assert len([cdr for cdr in rig.cdrs.all if cdr.rule == rule]) == 198


@on_rig(policy=limited("max_minutes_per_day = 2"))
async def test_200_invites_at_once_never_exceed_the_minutes_of_the_day(rig: Rig) -> None:
    await _never_more(rig, "Your 2 minutes of today are used up", "minutes")


@on_rig(policy=limited("max_minutes_per_month = 2"))
async def test_200_invites_at_once_never_exceed_the_minutes_of_the_month(rig: Rig) -> None:
    await _never_more(rig, "Your 2 minutes of this month are used up", "month")


@on_rig(policy=limited("max_cost_per_day = 1.0"))
async def test_200_invites_at_once_never_exceed_the_money_of_the_day(rig: Rig) -> None:
    await _never_more(rig, "Your 1.00 of today are used up", "cost")


@on_rig(policy=limited("max_calls_per_hour = 2"))
async def test_200_invites_at_once_never_exceed_the_calls_of_the_hour(rig: Rig) -> None:
    await _never_more(rig, "Your 2 calls of this hour are used up", "per_hour")
    phone = rig.phone("alice")
    for invite in [m for m in rig.pbx.inbox if isinstance(m, Request)]:
        rig.pbx.reply(invite, 486)
    rig.pbx.inbox.clear()
    await asyncio.sleep(3590)
    await phone.invite("0139635511")
    await phone.response(403)
    await asyncio.sleep(20)
    await rig.talk(phone, "0139635511")


@on_rig(policy=limited("max_minutes_per_day = 2"))
async def test_calls_that_nobody_answers_cost_no_minutes(rig: Rig) -> None:
    phone = rig.phone("alice")
    forwarded, _ = await flood(rig, phone, "1000", 5)
    for invite in forwarded:
        rig.pbx.reply(invite, 486)
    await asyncio.sleep(1)
    rig.pbx.inbox.clear()
    phone.inbox.clear()
    await rig.talk(phone)


async def _ended_by_limit(rig: Rig, phone: Phone, *, rule: str, reason: str, seconds: int, within: float) -> None:
    for peer in (phone, rig.pbx):
        bye = await peer.request("BYE", within=within)
        peer.reply(bye, 200)
    await asyncio.sleep(1)
    stop = dict(rig.sink.of("Stop")[-1].attributes)
    assert (stop["Acct-Terminate-Cause"], stop["Nomad-Rule"]) == ("Session-Timeout", rule)
    assert seconds <= int(stop["Acct-Session-Time"]) <= seconds + 2
    cdr = rig.cdrs.all[-1]
    assert (cdr.result, cdr.terminate_cause, cdr.rule, cdr.reason) == ("answered", "Session-Timeout", rule, reason)
    assert f'nomad_calls_limited_total{{rule="{rule}"}} 1.0' in rig.metrics.render()[0].decode()
    await phone.quiet()
    await rig.pbx.quiet()


@on_rig(policy=limited("max_minutes_per_day = 10"))
async def test_minutes_that_run_out_end_the_call_both_ways_and_the_record_says_so(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    await asyncio.sleep(240)
    await hang_up(rig, phone, talk)
    await rig.talk(phone)
    await _ended_by_limit(
        rig, phone, rule="minutes", reason="Your 10 minutes of today are used up", seconds=360, within=362
    )
    await phone.invite("1000")
    assert (await phone.response(403)).reason == "Your 10 minutes of today are used up"
    await rig.talk(phone, "112")  # an emergency call is nobody's to refuse, nor to end
    await asyncio.sleep(1000)
    assert rig.calls.live == 1


@on_rig(policy=limited("max_cost_per_day = 2.0"))
async def test_money_that_runs_out_ends_the_call_that_costs_and_no_other(rig: Rig) -> None:
    phone, other = rig.phone("alice"), rig.phone("alice")
    await rig.talk(other, "1000")
    await rig.talk(phone, "0139635511")
    await _ended_by_limit(rig, phone, rule="cost", reason="Your 2.00 of today are used up", seconds=240, within=242)
    assert rig.cdrs.all[-1].cost == pytest.approx(2.0, abs=0.02)
    await other.quiet()
    assert rig.calls.live == 1


@on_rig(policy=limited("max_call_minutes = 3"))
async def test_the_longest_call_is_named_in_the_record(rig: Rig) -> None:
    phone = rig.phone("alice")
    await rig.talk(phone)
    await _ended_by_limit(
        rig, phone, rule="longest", reason="The call has lasted as long as calls may", seconds=180, within=182
    )


@on_rig(policy=limited("max_minutes_per_day = 10"))
async def test_two_calls_at_once_use_the_minutes_twice_as_fast(rig: Rig) -> None:
    phones = [rig.phone("alice"), rig.phone("alice")]
    for phone in phones:
        await rig.talk(phone)
    for phone in phones:
        phone.reply(await phone.request("BYE", within=302), 200)
    await asyncio.sleep(1)
    assert sum(cdr.duration_s for cdr in rig.cdrs.all) == pytest.approx(600, abs=4)


@on_rig(policy=limited("max_minutes_per_day = 10"))
async def test_a_call_over_midnight_has_the_minutes_of_both_days(rig: Rig) -> None:
    phone = rig.phone("alice")
    await asyncio.sleep(MIDNIGHT - rig.clock.wall() - 300)
    await rig.talk(phone)
    await _ended_by_limit(
        rig, phone, rule="minutes", reason="Your 10 minutes of today are used up", seconds=900, within=902
    )
    assert rig.clock.wall() - MIDNIGHT == pytest.approx(600, abs=4)
    used = rig.usage.of("alice", rig.clock.wall())
    assert used.seconds_today == pytest.approx(600, abs=2)
    assert used.seconds_this_month == pytest.approx(900, abs=2)


@on_rig(policy=limited("max_minutes_per_day = 10"))
async def test_counters_are_there_after_a_crash_and_a_call_in_progress_still_ends(rig: Rig) -> None:
    phone, other = rig.phone("alice"), rig.phone("alice")
    talk = await rig.talk(phone)
    await asyncio.sleep(300)
    await hang_up(rig, phone, talk)
    await rig.talk(other)
    await asyncio.sleep(100)
    before = rig.usage.of("alice", rig.clock.wall())
    await rig.stop()
    after = Rig(rig.options, survivors=rig)
    await after.restore()
    after.start()
    assert after.usage.of("alice", rig.clock.wall()) == pytest.approx(before)
    other.reply(await other.request("BYE", within=202), 200)
    await asyncio.sleep(1)
    assert after.cdrs.all[-1].rule == "minutes"
    await phone.invite("1000")
    assert (await phone.response(403)).reason == "Your 10 minutes of today are used up"
    await after.stop()


@on_rig(policy=limited("max_minutes_per_day = 2"))
async def test_calls_that_phones_send_on_count_from_the_verdict_on(rig: Rig) -> None:
    bob = rig.phone("bob")
    await bob.register()
    for target, status in (
        (f"<sip:0123456789@{DOMAIN}>", 0),
        (f"<sip:0123456780@{DOMAIN}>", 0),
        ("<tel:0123456781>", 302),
    ):
        rig.pbx.invite("1002")
        bob.reply(await bob.request("INVITE"), 302, headers=[("contact", target)])
        await bob.request("ACK")
        if status:
            await rig.pbx.response(status)
        else:
            await rig.pbx.request("INVITE")
    assert rig.usage.of("bob", rig.clock.wall()).seconds_today == 120


@on_rig(policy=limited("max_calls_per_hour = 2"))
async def test_transfers_count_as_calls_of_the_hour_and_messages_do_not(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    transfer = [("refer-to", f"<sip:0139635511@{DOMAIN}>")]
    phone.send(talk.caller.request("REFER", phone.via(), headers=transfer))
    rig.pbx.reply(await rig.pbx.request("REFER"), 202)
    await phone.response(202)
    phone.send(talk.caller.request("REFER", phone.via(), headers=transfer))
    assert (await phone.response(403)).reason == "Your 2 calls of this hour are used up"
    await phone.login(phone.make("MESSAGE", f"sip:1000@{DOMAIN}"))
    rig.pbx.reply(await rig.pbx.request("MESSAGE"), 200)
    await phone.response(200)
