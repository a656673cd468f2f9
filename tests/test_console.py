"""What an admin sees and may do; orders during calls are in scenarios/test_edge_limits.py."""

from __future__ import annotations

import asyncio

import pytest

from nomad import __version__
from nomad.ports import CdrQuery, Grant
from tests.harness.peers import DOMAIN
from tests.harness.rig import Rig, on_rig

ALICE = Grant("alice", addresses=("alice.martin@inria.example",), extension="1001")


@on_rig()
async def test_status_at_a_glance(rig: Rig) -> None:
    await rig.phone("alice").register()
    await rig.phone("alice").register()
    await rig.talk(rig.phone("bob"))
    rig.sink.down = rig.authenticator.down = True
    status = await rig.console.status()
    assert (status.version, status.registrations, status.calls, status.draining) == (__version__, 2, 1, False)
    assert status.radius == (("radius", False),)


@on_rig()
async def test_calls_are_listed_oldest_first_with_their_state(rig: Rig) -> None:
    await rig.talk(rig.phone("alice"))
    await asyncio.sleep(1)
    await rig.phone("bob").invite("1000")
    await rig.pbx.request("INVITE")
    views = await rig.console.calls()
    assert [(view.user, view.state) for view in views] == [("alice", "answered"), ("bob", "trying")]
    assert views[0].started_at < views[1].started_at
    assert views[0].answered_at is not None
    assert views[1].answered_at is None


@on_rig()
async def test_registrations_by_user_and_records_newest_first(rig: Rig) -> None:
    for user in ("carol", "alice", "bob"):
        await rig.phone(user).register()
    assert [each.user for each in await rig.console.registrations()] == ["alice", "bob", "carol"]
    for user in ("alice", "bob"):
        phone = rig.phone(user)
        await phone.invite("0899123")
        await phone.response(403)
        await asyncio.sleep(0.5)
    assert [cdr.user for cdr in await rig.console.cdrs(CdrQuery())] == ["bob", "alice"]
    assert [cdr.user for cdr in await rig.console.cdrs(CdrQuery(user="alice"))] == ["alice"]


@on_rig()
async def test_bans_are_seen_and_lifted(rig: Rig) -> None:
    phone = rig.phone("alice", transport="tcp")
    phone.send(phone.make("OPTIONS", "sip:inria.example", headers=[("user-agent", "friendly-scanner")]))
    await phone.quiet()
    (ban,) = await rig.console.bans()
    assert (ban.address, ban.reason, ban.kind) == (phone.flow.remote[0], "scanner", "banned")
    assert round(ban.until - rig.clock.wall()) == 59
    assert await rig.console.unban(ban.address)
    assert not await rig.console.unban(ban.address)
    phone.send(phone.make("OPTIONS", "sip:inria.example"))
    await phone.response(200)


@pytest.mark.parametrize("name", ["alice", "Alice", "alice@inria.example", "alice.martin@inria.example", "1001"])
@on_rig(people={"alice": ("alice's secret", ALICE)})
async def test_a_person_is_locked_and_kicked_by_every_name(rig: Rig, name: str) -> None:
    phone = rig.phone("alice")
    await phone.register()
    await rig.talk(phone)
    assert await rig.console.kick(name) == 2
    await phone.request("BYE")
    await phone.register()
    assert await rig.console.lock(name, why="stolen") == 1
    await phone.login(phone.make("REGISTER", f"sip:{DOMAIN}"))
    await phone.response(401)
    assert [lock.user for lock in await rig.console.locks()] == ["alice"]
    assert await rig.console.unlock("alice")
    await phone.register()


@on_rig(people={"alice": ("alice's secret", ALICE)})
async def test_who_is_locked_by_an_address_without_a_registration_does_not_get_in_by_the_login(rig: Rig) -> None:
    await rig.console.lock("alice.martin@inria.example", why="stolen")
    phone = rig.phone("alice")
    await phone.login(phone.make("REGISTER", f"sip:{DOMAIN}"))
    await phone.response(401)
    assert await rig.console.unlock("alice.martin@inria.example")
    await phone.register()


@on_rig()
async def test_what_is_not_there_cannot_be_ended(rig: Rig) -> None:
    assert not await rig.console.hangup("no such call")
    assert await rig.console.kick("nobody") == 0


@on_rig()
async def test_reload_and_drain_are_the_composition_root_s(rig: Rig) -> None:
    assert (await rig.console.reload()).why == ""
    await rig.console.drain()
    assert rig.dispatcher.draining
