"""What is asked of the policy; whole requests are in scenarios/test_edge_*.py."""

from __future__ import annotations

import pytest

from nomad.edge.auth import Identity
from nomad.edge.policy import Direction
from nomad.edge.sides import Incoming
from nomad.sip.errors import Reject
from nomad.sip.events import ServerKey
from nomad.sip.message import Response
from tests.harness.peers import DOMAIN, PEOPLE
from tests.harness.rig import Rig, on_rig


def ringing(rig: Rig) -> Incoming:
    phone = rig.phone("bob")
    return Incoming(ServerKey("b", "h", "INVITE"), phone.make("INVITE", f"sip:1002@{DOMAIN}"), phone.flow)


@on_rig()
async def test_person_with_calls_enough_may_still_ask_about_others(rig: Rig) -> None:
    bob = Identity(PEOPLE["bob"][1], frozenset())
    alice = rig.phone("bob")
    for _ in "12":
        await rig.talk(alice)
    judge = rig.dispatcher._judge
    assert judge.verdict(ringing(rig), bob, "1000", rig.ruleset).rule == "concurrent"
    assert judge.notice(ringing(rig), bob, "1000", rig.ruleset).allowed
    with pytest.raises(Reject) as refused:
        judge.notice(ringing(rig), bob, "0899123456", rig.ruleset, direction=Direction.FORWARD)
    assert refused.value.status == 403


@on_rig()
async def test_redirection_that_names_nobody_leads_nowhere(rig: Rig) -> None:
    grant = PEOPLE["bob"][1]
    assert await rig.dispatcher._judge.forward(Response(302, "Moved"), ringing(rig), grant, rig.ruleset) is None
    moved = Response(302, "Moved")
    moved.add("contact", f"<sip:1000@{DOMAIN}>")
    onward = await rig.dispatcher._judge.forward(moved, ringing(rig), grant, rig.ruleset)
    assert onward is not None
    assert (onward.number, onward.trunk, onward.verdict.number_class) == ("1000", rig.trunks.all[0], "internal")
