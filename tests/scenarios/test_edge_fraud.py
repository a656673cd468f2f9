"""Stolen accounts: the watch stops them, their calls end, the admin is told, everything is on record."""

from __future__ import annotations

import asyncio

import pytest

from nomad.config import Fraud, Watch
from nomad.ports import CdrQuery
from nomad.sip.message import Request
from tests.harness.peers import SDP, Phone
from tests.harness.rig import Rig, Talk, on_rig

POLICY = """
timezone = "UTC"
[classes]
emergency = ["112"]
internal = ["re:[0-9]{4}"]
premium = ["0899"]
[[group]]
name = "staff"
match = { default = true }
allow = ["internal", "premium"]
"""
STOP = ("lock", "end-calls", "tell-admin")
PARALLEL = Fraud(destinations=Watch(actions=STOP, limit=3))


async def short_call(rig: Rig, phone: Phone, number: str, seconds: float = 2.0) -> None:
    talk = await rig.talk(phone, number)
    await asyncio.sleep(seconds)
    phone.send(talk.caller.request("BYE", phone.via()))
    rig.pbx.reply(await rig.pbx.request("BYE"), 200)
    await phone.response(200)


async def refusal(phone: Phone, number: str) -> str:
    await phone.invite(number)
    return (await phone.response(403)).reason


def refer_to(number: str) -> tuple[str, str]:
    return ("refer-to", f"<sip:{number}@inria.example>")


async def is_locked_out(phone: Phone) -> None:
    request = phone.make("REGISTER", "sip:inria.example")
    phone.send(request)
    phone.send(phone.answer_challenge(request, await phone.response(401)))
    await phone.response(401)


@on_rig(policy=POLICY, fraud=PARALLEL)
async def test_many_expensive_calls_at_once_are_stopped_and_ended(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.register()
    talks: list[Talk] = [await rig.talk(phone, f"08991{n}") for n in range(3)]
    await rig.talk(phone, "112")
    assert await refusal(phone, "089999") == "Account locked, please call your help desk"
    byes = [await phone.request("BYE") for _ in talks]
    assert {bye.call_id for bye in byes} == {talk.caller.call_id for talk in talks}
    for _ in talks:
        await rig.pbx.request("BYE")
    for bye in byes:
        phone.reply(bye, 200)
    assert [call.number for call in rig.calls] == ["112"]  # nobody ends that one
    assert (await rig.locations.get("alice")).bindings == ()
    await is_locked_out(phone)
    await is_locked_out(rig.phone("alice", transport="tcp"))
    (lock,) = await rig.console.locks()
    assert (lock.user, lock.by) == ("alice", "fraud")
    assert lock.why == "destinations: 4 expensive numbers at once, 3 are usual"
    assert rig.stored_locks.locks["alice"] == lock
    (alarm,) = rig.notifier.alarms
    assert (alarm.user, alarm.rule, alarm.peer) == ("alice", "destinations", phone.flow.remote[0])
    assert alarm.done == ("warn", "lock", "end-calls", "unregister")
    assert sorted(alarm.calls) == ["089910", "089911", "089912"]
    assert ("fraud", "lock", "alice") in rig.audit.deeds
    records = {cdr.number: cdr for cdr in await rig.console.cdrs(CdrQuery())}
    assert (records["089999"].rule, records["089999"].result) == ("fraud-destinations", "refused")
    assert records["089910"].terminate_cause == "Admin-Reset"
    asked = len(rig.authenticator.asked)
    await is_locked_out(phone)
    assert len(rig.authenticator.asked) == asked  # RADIUS is not asked
    assert await rig.console.unlock("alice", by="admin eve@127.0.0.1")
    await phone.register()
    await short_call(rig, phone, "1000")
    assert ("admin eve@127.0.0.1", "unlock", "alice") in rig.audit.deeds


@on_rig(policy=POLICY, fraud=Fraud(short_calls=Watch(actions=STOP, limit=4, within_s=600)))
async def test_a_script_of_short_calls_is_stopped(rig: Rig) -> None:
    phone = rig.phone("alice")
    for number in range(4):
        await short_call(rig, phone, f"08991{number}")
    await asyncio.sleep(0.1)
    await is_locked_out(phone)
    assert [(alarm.rule, alarm.user) for alarm in rig.notifier.alarms] == [("short_calls", "alice")]
    bob = rig.phone("bob")
    await short_call(rig, bob, "08991")  # others go on


@on_rig(policy=POLICY, fraud=Fraud(destinations=Watch(actions=("refuse",), limit=1)))
async def test_a_call_can_be_refused_without_more(rig: Rig) -> None:
    phone = rig.phone("alice")
    await rig.talk(phone, "08991")
    assert await refusal(phone, "08992") == "Call refused, please call your help desk"
    assert rig.calls.live == 1
    assert rig.notifier.alarms == []
    assert await rig.console.locks() == []


@on_rig(policy=POLICY, fraud=Fraud(destinations=Watch(actions=("reregister",), limit=1)))
async def test_a_phone_can_be_made_to_register_again(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.register()
    await rig.talk(phone, "08991")
    assert await refusal(phone, "08992") == "Please register again"
    assert (await rig.locations.get("alice")).bindings == ()
    assert await refusal(phone, "1000") == "Please register again"
    await phone.invite("112")
    await rig.pbx.request("INVITE")  # not that one
    await phone.register()
    await phone.invite("1000")
    await rig.pbx.request("INVITE")


@on_rig(policy=POLICY, fraud=Fraud(destinations=Watch(actions=("warn", "tell-admin"), limit=1)))
async def test_a_warning_lets_the_call_go_on_and_is_not_repeated(rig: Rig) -> None:
    phone = rig.phone("alice")
    for number in range(4):
        await rig.talk(phone, f"08991{number}")
    await asyncio.sleep(0.1)
    assert rig.calls.live == 4
    assert [alarm.rule for alarm in rig.notifier.alarms] == ["destinations"]
    assert [deed for deed in rig.audit.deeds if deed[0] == "fraud"] == [("fraud", "warn", "alice")]


@on_rig(policy=POLICY, fraud=PARALLEL)
async def test_no_race_lets_more_calls_through(rig: Rig) -> None:
    """As a script dials: everything at once, nobody waits for an answer."""
    phone = rig.phone("alice")
    await phone.register()
    requests = []
    for number in range(40):
        request = phone.make("INVITE", f"sip:08991{number:02}@inria.example", body=SDP)
        phone.send(request)
        requests.append((request, await phone.response(407)))
        phone.ack(*requests[-1])
    for request, challenge in requests:
        phone.send(phone.answer_challenge(request, challenge))
    await asyncio.sleep(1.0)
    reached = [message for message in rig.pbx.inbox if isinstance(message, Request) and message.method == "INVITE"]
    assert len(reached) <= 3
    assert len(await rig.console.locks()) == 1
    for invite in reached:
        rig.pbx.reply(invite, 180)  # only now may it be cancelled (RFC 3261 9.1)
    for _ in reached:
        rig.pbx.reply(await rig.pbx.request("CANCEL"), 200)
    for invite in reached:
        rig.pbx.reply(invite, 487)
    await asyncio.sleep(1.0)
    assert rig.calls.live == 0


@on_rig(policy=POLICY, fraud=PARALLEL)
async def test_a_transfer_is_a_call_of_the_person(rig: Rig) -> None:
    phone = rig.phone("alice")
    talks = [await rig.talk(phone, f"08991{n}") for n in range(3)]
    refer = talks[0].caller.request("REFER", phone.via(), headers=[("refer-to", "<sip:089999@inria.example>")])
    phone.send(refer)
    await phone.response(403)
    assert [lock.user for lock in await rig.console.locks()] == ["alice"]


@on_rig(policy=POLICY, fraud=PARALLEL)
async def test_transfers_one_after_the_other_are_stopped(rig: Rig) -> None:
    """The PBX calls in the person's stead, so no call of the person is to be seen while it lasts."""
    phone = rig.phone("alice")
    for number in range(3):
        talk = await rig.talk(phone, "1000")
        phone.send(talk.caller.request("REFER", phone.via(), headers=[refer_to(f"08991{number}")]))
        rig.pbx.reply(await rig.pbx.request("REFER"), 202)
        phone.send(talk.caller.request("BYE", phone.via()))
        rig.pbx.reply(await rig.pbx.request("BYE"), 200)
        await phone.response(200)
    talk = await rig.talk(phone, "1000")
    phone.send(talk.caller.request("REFER", phone.via(), headers=[refer_to("089999")]))
    assert (await phone.response(403)).reason == "Account locked, please call your help desk"
    assert [lock.why for lock in await rig.console.locks()] == [
        "destinations: 4 expensive numbers at once, 3 are usual"
    ]


@on_rig(policy=POLICY, fraud=PARALLEL)
async def test_calls_that_phones_send_on_count_before_they_are_answered(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.register()
    for number in range(4):
        rig.pbx.invite("1001")
        contact = [("contact", f"<sip:08991{number}@inria.example>")]
        phone.reply(await phone.request("INVITE"), 302, headers=contact)
        await phone.request("ACK")
        if number < 3:
            await rig.pbx.request("INVITE")
    await rig.pbx.response(302)
    assert [lock.user for lock in await rig.console.locks()] == ["alice"]


@on_rig(policy=POLICY, fraud=Fraud(destinations=Watch(actions=("lock",), limit=1)))
async def test_who_is_locked_transfers_and_sends_on_no_more(rig: Rig) -> None:
    """Calls go on where no action ends them, and nobody is asked for credentials within them."""
    phone = rig.phone("alice")
    talk = await rig.talk(phone, "08991")
    await refusal(phone, "08992")
    assert talk.call.state == "answered"
    phone.send(talk.caller.request("REFER", phone.via(), headers=[refer_to("1002")]))
    assert (await phone.response(403)).reason == "Account locked, please call your help desk"
    phone.send(talk.caller.request("REFER", phone.via(), headers=[refer_to("112")]))
    await rig.pbx.request("REFER")


@on_rig(policy=POLICY, fraud=Fraud(failures=Watch(actions=("lock",), limit=5)))
async def test_failures_lock_only_people_who_exist(rig: Rig) -> None:
    attacker = rig.phone("alice", password="guess")
    for login in ("nobody", "alice") * 6:
        request = attacker.make("REGISTER", "sip:inria.example")
        attacker.send(request)
        attacker.send(attacker.answer_challenge(request, await attacker.response(401), username=login))
        await attacker.response(401)
    assert await rig.console.locks() == []  # alice was never here either
    phone = rig.phone("alice")
    await phone.register()
    for login in ("alice", "Alice", "ALICE@inria.example", "alice+desk", "alice"):
        request = attacker.make("REGISTER", "sip:inria.example")
        attacker.send(request)
        attacker.send(attacker.answer_challenge(request, await attacker.response(401), username=login))
        await attacker.response(401)
    await asyncio.sleep(0.1)
    assert [lock.user for lock in await rig.console.locks()] == ["alice"]
    assert (await rig.locations.get("alice")).bindings == ()


@pytest.mark.parametrize("crash", [False, True])
def test_a_lock_outlives_the_process_and_a_store_that_is_down(crash: bool) -> None:
    @on_rig(policy=POLICY, fraud=PARALLEL)
    async def scenario(rig: Rig) -> None:
        rig.stored_locks.down = not crash
        phone = rig.phone("alice")
        for number in range(3):
            await rig.talk(phone, f"08991{number}")
        await refusal(phone, "089999")
        await is_locked_out(phone)
        if crash:
            after = Rig(rig.options, survivors=rig)
            await after.locks.load()
            await is_locked_out(phone)

    scenario()
