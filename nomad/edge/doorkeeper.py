"""Credentials on their way to the AAA server and back: refusals leave at set times, whatever they took.

So nobody can tell an unknown user from a wrong password, a disabled account, a locked one or one whose login is
remembered. Implements `ports.Authenticator` around another.
"""

from __future__ import annotations

import asyncio
import math

from nomad.clock import Clock
from nomad.ports import Authenticator, Grant, Proof, Refusal


class Doorkeeper:
    """Lets good credentials through at once, and refuses all others alike."""

    def __init__(self, authenticator: Authenticator, *, refusal_s: float, clock: Clock) -> None:
        """Refusals leave at multiples of `refusal_s` after the question; 0: at once."""
        self._authenticator = authenticator
        self._refusal_s = refusal_s
        self._clock = clock

    async def check(self, proof: Proof) -> Grant | Refusal:
        """The verdict. Raises `Unavailable`."""
        started = self._clock.monotonic()
        answer = await self._authenticator.check(proof)
        if isinstance(answer, Refusal) and self._refusal_s:
            took = self._clock.monotonic() - started
            await asyncio.sleep(math.ceil(took / self._refusal_s or 1.0) * self._refusal_s - took)
        return answer
