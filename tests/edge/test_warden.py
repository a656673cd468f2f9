"""Which actions follow which findings; whole stolen accounts are in scenarios/test_edge_fraud.py."""

from __future__ import annotations

import asyncio

import pytest

from nomad.config import Fraud, Watch
from nomad.edge import warden
from nomad.ports import Grant
from tests.harness.rig import Rig, on_rig

ALICE = Grant("alice", addresses=("alice@inria.example",))
WARNING = Fraud(new_country=Watch(actions=("warn", "tell-admin")), quiet_s=3600)


def travel(rig: Rig, user: Grant, *countries: str) -> None:
    for country in countries:
        rig.warden.logged_in(user, country, registers=True, peer="198.51.100.7")


@on_rig(fraud=WARNING)
async def test_a_warning_is_repeated_after_a_while_only(rig: Rig) -> None:
    travel(rig, ALICE, "FR", "US", "CN", "RU")
    travel(rig, Grant("bob"), "FR", "US")
    assert [(alarm.user, alarm.why.partition(",")[0]) for alarm in rig.notifier.alarms] == [
        ("alice", "logged in from US"),
        ("bob", "logged in from US"),
    ]
    await asyncio.sleep(3601)
    travel(rig, ALICE, "BR")
    assert rig.notifier.alarms[-1].why.startswith("logged in from BR")
    assert b'nomad_fraud_total{rule="new_country"} 3.0' in rig.metrics.render()[0]


@on_rig(fraud=WARNING)
async def test_remembered_warnings_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warden, "MAX_QUIET", 10)
    for number in range(100):
        travel(rig, Grant(f"user{number}"), "FR", "US")
    assert len(rig.notifier.alarms) == 100
    assert len(rig.warden._quiet) <= 10


@on_rig(fraud=Fraud(new_country=Watch(actions=("lock",))))
async def test_a_lock_closes_every_name_of_the_person_at_once(rig: Rig) -> None:
    travel(rig, ALICE, "FR", "US")
    assert rig.locks.of("alice@inria.example") is not None  # nothing was awaited


@on_rig(fraud=Fraud(new_country=Watch(actions=("lock", "tell-admin"))))
async def test_a_store_that_is_down_is_counted_and_the_rest_is_done(rig: Rig) -> None:
    rig.stored_locks.down = True
    travel(rig, ALICE, "FR", "US")
    await asyncio.sleep(0.1)
    assert rig.locks.of("alice") is not None
    assert [alarm.done for alarm in rig.notifier.alarms] == [("warn", "lock", "unregister")]
    assert b'nomad_store_failures_total{what="lock"} 1.0' in rig.metrics.render()[0]
