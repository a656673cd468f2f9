"""Three fixed flows through the whole edge in one process, on a fake network: what `bench.guard` counts.

    python -m bench.flows FLOW=COUNT ...

The scripted peers and fake stores of the tests take part, so the figures are good for comparing with themselves only.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping

from tests.harness.rig import Options, Rig
from tests.harness.virtual import VirtualLoop

Step = Callable[[], Awaitable[object]]
REST_S = 40.0  # virtual: until no transaction is left


async def _registration(rig: Rig) -> Step:
    """Challenge, credentials, answer."""
    phone = rig.phone("alice")
    return phone.register


async def _call(rig: Rig) -> Step:
    """Challenge, set-up through the PBX, hang-up."""
    phone = rig.phone("alice")

    async def step() -> None:
        talk = await rig.talk(phone)
        phone.send(talk.caller.request("BYE", phone.via()))
        rig.pbx.reply(await rig.pbx.request("BYE"), 200)
        await phone.response(200)

    return step


async def _message(rig: Rig) -> Step:
    """A request within a call and its answer."""
    phone = rig.phone("alice")
    talk = await rig.talk(phone)

    async def step() -> None:
        phone.send(talk.caller.request("INFO", phone.via()))
        rig.pbx.reply(await rig.pbx.request("INFO"), 200)
        await phone.response(200)

    return step


FLOWS: Mapping[str, Callable[[Rig], Awaitable[Step]]] = {
    "registration": _registration,
    "call": _call,
    "message": _message,
}


def run(counts: Mapping[str, int]) -> None:
    """Each flow so many times, one after the other, in virtual time."""

    async def main() -> None:
        for flow, count in counts.items():
            rig = Rig(Options())
            rig.start()
            step = await FLOWS[flow](rig)
            for _ in range(count):
                await step()
            await asyncio.sleep(REST_S)
            await rig.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


if __name__ == "__main__":
    logging.disable()
    run({name: int(count) for name, _, count in (argument.partition("=") for argument in sys.argv[1:])})
