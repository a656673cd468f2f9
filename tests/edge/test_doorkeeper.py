from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from nomad.edge.doorkeeper import Doorkeeper
from nomad.edge.locks import Locks
from nomad.ports import Grant, Lock, Proof, Refusal, Unavailable
from tests.harness.virtual import LoopClock, VirtualLoop
from tests.harness.wardens import MemoryLocks

PROOF = Proof(username="alice", realm="r", nonce="n", uri="sip:r", method="REGISTER", response="x")


class Slow:
    """Answers after a time."""

    def __init__(self, answer: Grant | Refusal | None, delay_s: float) -> None:
        self._answer, self._delay_s = answer, delay_s

    async def check(self, proof: Proof) -> Grant | Refusal:
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        if self._answer is None:
            raise Unavailable("nobody there")
        return self._answer


def took(answer: Grant | Refusal | None, delay_s: float, refusal_s: float = 0.1, phase_s: float = 0.0) -> float:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        step = refusal_s or 1.0
        await asyncio.sleep(math.ceil(loop.time() / step) * step - loop.time() + phase_s)
        keeper = Doorkeeper(Slow(answer, delay_s), Locks(MemoryLocks(), ("r",)), refusal_s=refusal_s, clock=LoopClock())
        begin = loop.time()
        if answer is None:
            with pytest.raises(Unavailable):
                await keeper.check(PROOF)
        else:
            assert await keeper.check(PROOF) == answer
        return loop.time() - begin

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


@pytest.mark.parametrize("phase_s", [0.0, 0.01, 0.05, 0.099])
@pytest.mark.parametrize(("delay_s", "steps"), [(0.0, 1), (0.001, 1), (0.099, 1), (0.101, 2), (0.35, 4)])
def test_refusals_leave_at_common_moments_whatever_they_took(delay_s: float, steps: int, phase_s: float) -> None:
    left_at = took(Refusal(), delay_s, phase_s=phase_s) + phase_s
    assert left_at == pytest.approx(0.1 * (steps + (1 if phase_s else 0)))


@pytest.mark.parametrize("answer", [Grant("alice"), None])
def test_nothing_else_waits(answer: Grant | None) -> None:
    assert took(answer, 0.03) == pytest.approx(0.03)


def test_it_can_be_switched_off() -> None:
    assert took(Refusal(), 0.03, 0.0) == pytest.approx(0.03)


class Counting(Slow):
    """Accepts, and counts the questions."""

    asked = 0

    async def check(self, proof: Proof) -> Grant | Refusal:
        self.asked += 1
        return await super().check(proof)


@pytest.mark.parametrize(
    ("login", "asked"),
    [("alice", 0), ("Alice@R", 0), ("alice+desk", 0), ("a.martin@r", 0), ("an alias that nobody knows", 1)],
)
async def test_nobody_gets_in_with_a_locked_account(login: str, asked: int) -> None:
    locks = Locks(MemoryLocks(), ("r",))
    await locks.add(Lock("alice", "stolen", "admin", 0.0, ("a.martin@r",)))
    aaa = Counting(Grant("alice"), 0.0)
    keeper = Doorkeeper(aaa, locks, refusal_s=0.0, clock=LoopClock())
    assert await keeper.check(replace(PROOF, username=login)) == Refusal()
    assert aaa.asked == asked
    await locks.remove("alice")
    assert await keeper.check(replace(PROOF, username=login)) == Grant("alice")
