from __future__ import annotations

import asyncio

import pytest

from nomad.edge import audit
from nomad.edge.audit import Auditor
from nomad.metrics import Metrics
from nomad.ports import Deed
from tests.harness.virtual import LoopClock, VirtualLoop
from tests.harness.wardens import MemoryAudit


def deed(number: int) -> Deed:
    return Deed("guard", "ban", str(number), "w" * 5000)


def run(scenario: object) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario)  # type: ignore[arg-type]


def test_deeds_are_stored_in_order_and_cut() -> None:
    async def scenario() -> None:
        stored = MemoryAudit()
        auditor = Auditor(stored, clock=LoopClock(), metrics=Metrics())
        for number in range(250):
            auditor.record(deed(number))
        await auditor.close()
        assert [each.deed.what for each in stored.entries] == [str(number) for number in range(250)]
        assert max(len(each.deed.why) for each in stored.entries) == 1000

    run(scenario())


def test_a_store_that_is_down_gets_them_when_it_is_back() -> None:
    async def scenario() -> None:
        stored = MemoryAudit()
        stored.down = True
        auditor = Auditor(stored, clock=LoopClock(), metrics=Metrics())
        auditor.record(deed(1))
        await asyncio.sleep(10)
        auditor.record(deed(2))
        stored.down = False
        await auditor.close()
        assert [each.deed.what for each in stored.entries] == ["1", "2"]

    run(scenario())


def test_memory_is_bounded_and_the_end_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_WAITING", 10)

    async def scenario() -> None:
        stored, metrics = MemoryAudit(), Metrics()
        stored.down = True
        auditor = Auditor(stored, clock=LoopClock(), metrics=metrics)
        for number in range(30):
            auditor.record(deed(number))
        assert b'nomad_store_failures_total{what="audit"} 20.0' in metrics.render()[0]
        await auditor.close()

    run(scenario())
