"""The page's edges; what it decides is in scenarios/test_edge_*.py."""

from __future__ import annotations

import asyncio
import logging

import pytest

from nomad.config import Guard
from nomad.edge.policy import compile_policy
from nomad.sip.events import AckMissing, FlowClosed, ServerKey, StrayResponse
from nomad.sip.message import Response
from tests.harness.peers import DOMAIN, SDP
from tests.harness.rig import Rig, on_rig


@pytest.mark.usefixtures("errors_expected")
def test_bug_is_answered_with_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(rig: Rig) -> None:
        async def broken(*_: object) -> None:
            raise KeyError("a bug")

        rig.dispatcher._parts.registrar.register = broken  # type: ignore[method-assign,assignment]
        phone = rig.phone("alice")
        await phone.login(phone.make("REGISTER", f"sip:{DOMAIN}"))
        answer = await phone.response(500)
        assert "bug" not in str(answer.encode())  # what went wrong is nobody's business outside
        phone.send(phone.make("OPTIONS", f"sip:{DOMAIN}"))
        await phone.response(200)

    with caplog.at_level(logging.ERROR), pytest.raises(AssertionError, match="a bug"):
        on_rig()(scenario)()
    assert "serving REGISTER failed" in caplog.text


@on_rig(guard=Guard(malformed=10))
async def test_garbage_is_counted_against_its_sender(rig: Rig) -> None:
    phone = rig.phone("alice")
    for number in range(10):
        phone.send(f"garbage {number}\r\n\r\n")
    await asyncio.sleep(0.1)
    assert [(ban.address, ban.reason) for ban in await rig.console.bans()] == [(phone.flow.remote[0], "malformed")]


@on_rig(guard=Guard(malformed=1, auth_failures=1))
async def test_pbx_is_never_banned(rig: Rig) -> None:
    for number in range(20):
        rig.pbx.send(f"garbage {number}\r\n\r\n")
    rig.pbx.invite("1001", headers=[("user-agent", "friendly-scanner")])
    await rig.pbx.response(480)
    assert await rig.console.bans() == []


@on_rig()
async def test_events_that_concern_nobody_pass_without_a_trace(rig: Rig) -> None:
    flow = rig.pbx.flow
    for event in (
        FlowClosed(flow, "gone"),
        StrayResponse(Response(200, "OK"), flow),
        AckMissing(ServerKey("b", "h", "INVITE")),
    ):
        rig.dispatcher.handle(event)
    await rig.pbx.quiet()


@on_rig()
async def test_reload_does_not_change_what_is_being_decided(rig: Rig) -> None:
    rig.authenticator.delay_s = 1.0
    phone = rig.phone("alice")
    await phone.invite("1000")
    await asyncio.sleep(0.2)
    rig.dispatcher.ruleset = compile_policy("", "nobody may call")
    await rig.pbx.request("INVITE")  # by the rules that it began with
    other = rig.phone("bob")
    await other.invite("1000")
    assert (await other.response(403)).reason == "No policy group for you"


@on_rig()
async def test_new_request_leaves_no_relay_behind(rig: Rig) -> None:
    phone = rig.phone("alice")
    phone.send(phone.make("INVITE", f"sip:1000@{DOMAIN}", body=SDP))
    await phone.response(407)
    assert rig.proxy._by_server == {}
