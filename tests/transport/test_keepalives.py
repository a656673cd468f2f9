from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from nomad.sip.events import Flow
from nomad.transport.keepalives import SWEEP_S, Keepalives
from tests.harness.virtual import LoopClock, VirtualLoop

FLOW = Flow("udp", ("192.0.2.1", 5060), ("198.51.100.7", 5060))
OTHER = FLOW._replace(remote=("198.51.100.8", 5060))


def virtually(test: Callable[[Keepalives, list[Flow]], Awaitable[None]]) -> None:
    async def main() -> None:
        lapsed: list[Flow] = []
        keepalives = Keepalives(lapsed.append, LoopClock())
        await test(keepalives, lapsed)
        keepalives.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


@pytest.mark.parametrize("silent", [False, True])
def test_a_flow_lasts_while_keepalives_come(silent: bool) -> None:
    async def run(keepalives: Keepalives, lapsed: list[Flow]) -> None:
        keepalives.expect(FLOW, 55.0)
        for _ in range(10):
            await asyncio.sleep(25.0)
            if not silent:
                keepalives.heard(FLOW, asyncio.get_running_loop().time())
        assert lapsed == [FLOW] * silent
        assert len(keepalives) == (not silent)

    virtually(run)


def test_when_a_flow_is_given_up() -> None:
    async def run(keepalives: Keepalives, lapsed: list[Flow]) -> None:
        keepalives.expect(FLOW, 55.0)
        await asyncio.sleep(30.0)
        keepalives.expect(OTHER, 55.0)
        await asyncio.sleep(24.9)
        assert lapsed == []
        await asyncio.sleep(2 * SWEEP_S)
        assert lapsed == [FLOW]
        await asyncio.sleep(60.0)
        assert lapsed == [FLOW, OTHER]
        keepalives.expect(FLOW, 55.0)  # it is back
        await asyncio.sleep(70.0)
        assert lapsed == [FLOW, OTHER, FLOW]

    virtually(run)


def test_flows_that_promised_nothing_are_not_remembered() -> None:
    async def run(keepalives: Keepalives, lapsed: list[Flow]) -> None:
        keepalives.heard(FLOW, 1.0)
        await asyncio.sleep(1000.0)
        assert (len(keepalives), lapsed) == (0, [])

    virtually(run)
