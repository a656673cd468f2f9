"""Rates of people; what is carried is in scenarios/test_edge_notices.py."""

from __future__ import annotations

import asyncio

import pytest

from nomad.config import Events
from nomad.edge import notices
from nomad.sip.errors import Reject
from tests.harness.rig import Rig, on_rig


@on_rig(events=Events(requests_per_minute=60))
async def test_a_minute_s_worth_at_once_then_one_a_second(rig: Rig) -> None:
    for _ in range(60):
        rig.notices.check_rate("alice")
    with pytest.raises(Reject):
        rig.notices.check_rate("alice")
    rig.notices.check_rate("bob")
    await asyncio.sleep(3)
    for _ in range(3):
        rig.notices.check_rate("alice")
    with pytest.raises(Reject):
        rig.notices.check_rate("alice")


@on_rig()
async def test_rates_are_remembered_of_so_many(rig: Rig) -> None:
    for number in range(notices.MAX_PEOPLE + 10):
        rig.notices.check_rate(f"user{number}")
    assert len(rig.notices._rates) == notices.MAX_PEOPLE


@on_rig()
async def test_limits_change_while_it_runs(rig: Rig) -> None:
    rig.notices.configure(Events(enabled=False, max_subscriptions=3, max_per_person=2))
    assert not rig.notices.enabled
    assert (rig.subscriptions.limit, rig.subscriptions.per_person) == (3, 2)
