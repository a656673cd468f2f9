"""A whole edge that remembers verdicts: fewer trips, an outage that nobody notices, and what ends that."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nomad.app import Edge
from nomad.demo.softphone import Softphone
from nomad.ports import Whom
from tests.harness.people import ALICE, BOB
from tests.harness.site import phone_of, running_edge


@asynccontextmanager
async def phones(edge: Edge) -> AsyncIterator[tuple[Softphone, Softphone]]:
    alice, bob = phone_of(edge, ALICE), phone_of(edge, BOB)
    await alice.start()
    await bob.start()
    try:
        yield alice, bob
    finally:
        await alice.stop()
        await bob.stop()


def trips(edge: Edge) -> float:
    """Access-Requests so far."""
    text = edge.metrics.render()[0].decode()
    lines = [line for line in text.splitlines() if line.startswith("nomad_radius_requests_total")]
    return sum(float(line.rpartition(" ")[2]) for line in lines if 'kind="auth"' in line)


@asynccontextmanager
async def outage(edge: Edge) -> AsyncIterator[None]:
    """The RADIUS server hangs."""
    assert edge.radius.embedded is not None
    pid = edge.radius.embedded.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_refresh_costs_no_trip_until_something_changes(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as (edge, _), phones(edge) as (alice, bob):
        for _ in range(3):
            assert (await alice.register()).ok
        assert trips(edge) == 1
        assert (await bob.register()).ok
        assert trips(edge) == 2
        await edge.orders.disconnect(Whom(user=ALICE.login))
        assert (await bob.register()).ok
        assert trips(edge) == 2, "bob is another matter"
        assert (await alice.register()).ok
        assert trips(edge) == 3
        await edge.console.kick(ALICE.login)
        assert (await alice.register()).ok
        assert trips(edge) == 4
        assert (await edge.reload()).why == ""
        assert (await alice.register()).ok
        assert trips(edge) == 5


async def test_credentials_that_were_seen_are_still_not_good_twice(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as (edge, _), phones(edge) as (alice, _bob):
        assert (await alice.register()).ok
        wrong = phone_of(edge, ALICE, password="guess")
        await wrong.start()
        assert not (await wrong.register()).ok
        await wrong.stop()
        assert trips(edge) == 2, "a guess is RADIUS's to judge"


async def test_an_outage(tmp_path: Path) -> None:
    async with (
        running_edge(tmp_path, radius="timeout_s = 0.2\nverdict_cache_s = 0") as (edge, _),
        phones(edge) as (alice, bob),
    ):
        assert (await alice.register()).ok
        async with outage(edge):
            assert (await alice.register()).ok
            call = await alice.call("1000")
            assert call.answered
            refused = await bob.register()
            assert refused.last.status == 503
            await call.hangup()
        assert trips(edge) >= 4


@pytest.mark.parametrize("setting", ["verdict_cache_s = 0\nverdict_outage_s = 0"])
async def test_switched_off(tmp_path: Path, setting: str) -> None:
    radius = f"timeout_s = 0.2\n{setting}"
    async with running_edge(tmp_path, radius=radius) as (edge, _), phones(edge) as (alice, _bob):
        assert (await alice.register()).ok
        assert (await alice.register()).ok
        assert trips(edge) == 2
        async with outage(edge):
            assert (await alice.register()).last.status == 503


async def test_a_person_who_left_is_out_after_the_grace(tmp_path: Path) -> None:
    async with running_edge(tmp_path, radius="verdict_cache_s = 0.001") as (edge, _), phones(edge) as (alice, _bob):
        assert (await alice.register()).ok
        text = (tmp_path / "people.ldif").read_text()
        (tmp_path / "people.ldif").write_text(text.replace(f"uid: {ALICE.login}\n", "uid: gone\n"))
        for _ in range(40):
            if not (await alice.register()).ok:
                break
            await asyncio.sleep(0.05)  # the server looks at its file five times a second
        assert (await alice.register()).last.status == 401
        assert len(edge.verdicts) == 0
