"""How the services of the edge are joined; what they do together is in scenarios/."""

from __future__ import annotations

from typing import Any

import pytest

from nomad.config import Pbx
from nomad.edge.calls import Call, CallState, Leg, freeze
from nomad.edge.services import CALL_LIMIT_S
from nomad.edge.subscriptions import ID_PREFIX, Subscription
from nomad.edge.subscriptions import freeze as freeze_subscription
from nomad.edge.trunks import Trunks, make_trunk
from nomad.ports import Grant, LiveCall
from nomad.sip.events import Flow
from tests.harness.rig import PBX_ADDRESS, Rig, on_rig

FLOW = Flow("udp", ("192.0.2.1", 5060), ("198.51.100.1", 5060))


def answered(id: str, at: float) -> Call:
    call = Call(id, "x", "out", Grant("alice"), "a@x", "1000@x", "internal", at, Leg("phone", FLOW, "from"))
    call.state, call.answered_at, call.answered_by = CallState.ANSWERED, at, "to"
    call.callees["to"] = Leg("pbx", FLOW, "to")
    return call


@on_rig()
async def test_calls_and_subscriptions_come_back_and_what_cannot_be_read_is_told(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    now = rig.clock.wall()
    watch = Subscription(f"{ID_PREFIX}1", "y", "alice", "dialog", Leg("phone", FLOW, "a"), "pbx", ends_at=now + 600)
    broken = LiveCall("c2", b"{", now)
    for stored in (freeze(answered("c1", now - 60), now), freeze_subscription(watch, now), broken):
        await rig.live_calls.put(stored)
    assert await rig.books.restore(now) == 1
    assert [each.id for each in rig.calls] == ["c1"]
    assert [each.id for each in rig.subscriptions] == [watch.id]
    assert rig.usage.of("alice", now).seconds_today == 60.0
    lost: list[Any] = [record for record in caplog.records if record.message == "call-lost"]
    assert [record.fields["id"] for record in lost] == ["c2"]


@on_rig()
async def test_a_restored_call_that_nobody_hangs_up_ends_in_the_end(rig: Rig) -> None:
    now = rig.clock.wall()
    await rig.live_calls.put(freeze(answered("c1", now), now))
    await rig.books.restore(now)
    assert rig.calls.overdue(now + CALL_LIMIT_S - 1) == []
    assert [each.id for each in rig.calls.overdue(now + CALL_LIMIT_S)] == ["c1"]


@on_rig()
async def test_logins_are_those_of_the_pbxs_that_a_reload_brought(rig: Rig) -> None:
    pbx = Pbx(name="pbx", uri=rig.config.pbx[0].uri, trusted=(PBX_ADDRESS[0],), username="edge")
    rig.dispatcher.trunks = Trunks([make_trunk(pbx, places=[PBX_ADDRESS], password="p")])
    phone = rig.phone("alice")
    await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    challenge = 'Digest realm="asterisk", nonce="n1", algorithm=MD5, qop="auth"'
    rig.pbx.reply(invite, 401, headers=[("www-authenticate", challenge)])
    assert 'username="edge"' in ((await rig.pbx.request("INVITE")).get("authorization") or "")
