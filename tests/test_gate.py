"""Where the bans of the guard go; the whole edge is in test_app.py."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from nomad import tasks
from nomad.clock import Clock
from nomad.config import Guard
from nomad.gate import Gate
from nomad.metrics import Metrics
from nomad.ports import Deed, StoredBan, Unavailable

ADDRESS = "198.51.100.7"


class Bans:
    """A ban store in memory, which may be away."""

    def __init__(self, *stored: StoredBan) -> None:
        self.bans = {ban.address: ban for ban in stored}
        self.away = False

    async def put(self, ban: StoredBan) -> None:
        if self.away:
            raise Unavailable("the store is away")
        self.bans[ban.address] = ban

    async def remove(self, address: str) -> None:
        if self.away:
            raise Unavailable("the store is away")
        del self.bans[address]

    async def load(self, since: float) -> Sequence[StoredBan]:
        return [ban for ban in self.bans.values() if ban.until > since]


class Deeds:
    """Keeps what is put on record."""

    def __init__(self) -> None:
        self.deeds: list[Deed] = []

    def record(self, deed: Deed) -> None:
        self.deeds.append(deed)


async def opened(bans: Bans, deeds: Deeds | None = None, metrics: Metrics | None = None) -> Gate:
    more = {"exempt": (), "clock": Clock(), "metrics": metrics or Metrics(), "recorder": deeds or Deeds()}
    gate = Gate(Guard(), bans, **more)  # type: ignore[arg-type]
    await gate.open()
    return gate


async def test_a_ban_is_stored_recorded_and_counted_and_forgotten_when_it_is_lifted() -> None:
    bans, deeds, metrics, clock = Bans(), Deeds(), Metrics(), Clock()
    gate = await opened(bans, deeds, metrics)
    gate.guard.strike(ADDRESS, "scanner", clock.monotonic(), proven=True)
    await tasks.drain(1)
    assert list(bans.bans) == [ADDRESS]
    assert [(deed.by, deed.action, deed.what, deed.why) for deed in deeds.deeds] == [
        ("guard", "ban", ADDRESS, "scanner")
    ]
    assert b'nomad_bans_total{reason="scanner"} 1.0' in metrics.render()[0]
    assert gate.guard.unban(ADDRESS)
    await tasks.drain(1)
    assert bans.bans == {}
    await gate.close()


async def test_who_was_kept_out_before_is_kept_out_now() -> None:
    clock = Clock()
    gate = await opened(Bans(StoredBan(ADDRESS, "auth", clock.wall() + 60, 60.0)))
    assert not gate.guard.admits(ADDRESS, clock.monotonic())
    await gate.close()


async def test_a_store_that_is_away_costs_no_ban(caplog: pytest.LogCaptureFixture, errors_expected: None) -> None:
    bans, metrics, clock = Bans(), Metrics(), Clock()
    gate = await opened(bans, metrics=metrics)
    bans.away = True
    gate.guard.strike(ADDRESS, "scanner", clock.monotonic(), proven=True)
    await tasks.drain(1)
    assert not gate.guard.admits(ADDRESS, clock.monotonic())
    assert b'nomad_store_failures_total{what="ban"} 1.0' in metrics.render()[0]
    assert any(record.getMessage() == "store-failed" for record in caplog.records)
    await gate.close()
