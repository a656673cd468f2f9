"""What attackers send, and what others send in the name of people: who is banned, slowed down, let in."""

from __future__ import annotations

import asyncio

import pytest

from nomad.config import Guard
from nomad.sip.message import Request
from tests.harness.peers import DOMAIN, Phone
from tests.harness.rig import Rig, on_rig

TIGHT = Guard(auth_failures=3, malformed=3)


async def challenge(phone: Phone) -> tuple[Request, str]:
    """A REGISTER of a phone, and the nonce that it was given."""
    request = phone.make("REGISTER", f"sip:{DOMAIN}")
    phone.send(request)
    answer = await phone.response(401)
    return request, (answer.get("www-authenticate") or "").split('nonce="')[1].partition('"')[0]


def forged(attacker: Phone, victim: Phone, nonce: str) -> Request:
    """Wrong credentials in the victim's name and from the victim's address, over a nonce that the attacker got."""
    request = victim.make("REGISTER", f"sip:{DOMAIN}")
    text = f'Digest username="alice", realm="{DOMAIN}", nonce="{nonce}", uri="sip:{DOMAIN}", response="{"0" * 32}"'
    request.set("authorization", text)
    return request


@on_rig(guard=TIGHT)
async def test_nobody_bans_another_address_with_forged_datagrams(rig: Rig) -> None:
    attacker, victim = rig.phone("bob"), rig.phone("alice")
    _, nonce = await challenge(attacker)
    for number in range(30):
        victim.send(forged(attacker, victim, nonce))
        victim.send(f"garbage {number}\r\n\r\n")
        victim.send(victim.make("OPTIONS", f"sip:{DOMAIN}", headers=[("user-agent", "friendly-scanner")]))
        await asyncio.sleep(0.01)
    assert rig.authenticator.asked == []  # credentials over another's nonce cost no trip to RADIUS
    assert {ban.kind for ban in await rig.console.bans()} == {"slowed"}
    victim.inbox.clear()
    await asyncio.sleep(2.0)
    request = victim.make("REGISTER", f"sip:{DOMAIN}")
    victim.send(request)
    answer = await victim.response(401)
    await asyncio.sleep(2.0)  # as a phone that sends again
    victim.send(victim.answer_challenge(request, answer))
    await victim.response(200)
    assert await rig.console.bans() == []


@on_rig(guard=TIGHT)
async def test_a_phone_that_is_logged_in_notices_nothing_of_forgers(rig: Rig) -> None:
    attacker, victim = rig.phone("bob"), rig.phone("alice")
    await victim.register()
    _, nonce = await challenge(attacker)
    for _ in range(30):
        victim.send(forged(attacker, victim, nonce))
        victim.send(victim.make("OPTIONS", f"sip:{DOMAIN}", headers=[("user-agent", "friendly-scanner")]))
    await asyncio.sleep(0.1)
    victim.inbox.clear()
    assert await rig.console.bans() == []
    await victim.register()


@on_rig(guard=TIGHT)
async def test_a_phone_on_a_connection_gets_in_beside_forgers(rig: Rig) -> None:
    forger, victim = rig.phone("bob"), rig.phone("alice", transport="tcp")
    forger.move((victim.flow.remote[0], 5060))
    for _ in range(30):
        forger.send(forger.make("OPTIONS", f"sip:{DOMAIN}", headers=[("user-agent", "friendly-scanner")]))
    await asyncio.sleep(0.01)
    assert [ban.kind for ban in await rig.console.bans()] == ["slowed"]
    await victim.register()  # over TCP nothing is sent again


@on_rig(guard=TIGHT)
async def test_wrong_credentials_over_an_own_nonce_ban(rig: Rig) -> None:
    attacker = rig.phone("alice", password="guess")
    for _ in range(3):
        request, _ = await challenge(attacker)
        attacker.send(attacker.answer_challenge(request, await _again(attacker, request)))
        await attacker.response(401)
    assert [(ban.kind, ban.reason) for ban in await rig.console.bans()] == [("banned", "auth")]
    neighbour = rig.phone("alice")
    await neighbour.register()


async def _again(phone: Phone, request: Request):  # type: ignore[no-untyped-def]
    copy = request.copy()
    copy.replace_first("via", phone.via())
    phone.send(copy)
    return await phone.response(401)


@on_rig()
async def test_a_phone_that_moved_is_told_stale_once(rig: Rig) -> None:
    phone = rig.phone("alice")
    request = phone.make("REGISTER", f"sip:{DOMAIN}")
    phone.send(request)
    before = await phone.response(401)
    phone.move(("203.0.113.77", 40000))
    phone.send(phone.answer_challenge(request, before))
    stale = await phone.response(401)
    assert "stale=true" in (stale.get("www-authenticate") or "")
    assert rig.authenticator.asked == []
    phone.send(phone.answer_challenge(request, stale))
    await phone.response(200)
    assert await rig.console.bans() == []


@pytest.mark.parametrize(("transport", "kind"), [("udp", "slowed"), ("tcp", "banned")])
def test_a_scanner_gets_no_answer(transport: str, kind: str) -> None:
    @on_rig()
    async def scenario(rig: Rig) -> None:
        scanner = rig.phone("alice", transport=transport)
        for user in range(100, 120):
            request = scanner.make("REGISTER", f"sip:{DOMAIN}", headers=[("user-agent", "friendly-scanner")])
            request.set("to", f"<sip:{user}@{DOMAIN}>")
            scanner.send(request)
        await scanner.quiet()
        assert [(ban.kind, ban.reason) for ban in await rig.console.bans()] == [(kind, "scanner")]
        assert rig.authenticator.asked == []
        await asyncio.sleep(61)
        scanner.send(scanner.make("OPTIONS", f"sip:{DOMAIN}"))
        await scanner.response(200)

    scenario()


@on_rig()
async def test_a_scanner_that_calls_is_refused(rig: Rig) -> None:
    scanner = rig.phone("alice")
    scanner.send(scanner.make("INVITE", f"sip:1000@{DOMAIN}", headers=[("user-agent", "friendly-scanner")]))
    await scanner.response(403)
    await asyncio.sleep(100)
    assert rig.signalling.stack.transactions == 0
