"""Credentials on their way to the AAA server and back: locked accounts stay out, refusals leave at set times.

So nobody can tell an unknown user from a wrong password, a disabled account, a locked one or one whose login is
remembered. Implements `ports.Authenticator` around another.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from nomad.clock import Clock
from nomad.edge.locks import Locks
from nomad.ports import Authenticator, Grant, Proof, Refusal


class Doorkeeper:
    """Lets good credentials through at once, and refuses all others alike."""

    def __init__(
        self,
        authenticator: Authenticator,
        locks: Locks,
        *,
        refusal_s: float,
        clock: Clock,
        refused: Callable[[str], None] = lambda login: None,
    ) -> None:
        """Refusals leave one to two times `refusal_s` after the question, all at common moments; when the verdict takes
        longer, whole times later. 0: at once. `refused` hears whose they are.
        """
        self._authenticator = authenticator
        self._locks = locks
        self._refusal_s = refusal_s
        self._clock = clock
        self._refused = refused

    async def check(self, proof: Proof) -> Grant | Refusal:
        """The verdict. Raises `Unavailable`."""
        started = self._clock.monotonic()
        answer = await self._ask(proof)
        if not isinstance(answer, Refusal):
            return answer
        self._refused(proof.username)
        if step := self._refusal_s:
            now = self._clock.monotonic()
            # The next whole step of the clock, and not of this question: what a timer is early or late by would tell
            # how long the verdict took, to who measures often enough.
            earliest = started + max(1, math.ceil((now - started) / step)) * step
            await asyncio.sleep(math.ceil(earliest / step) * step - now)
        return answer

    async def _ask(self, proof: Proof) -> Grant | Refusal:
        """The AAA server is not asked about a locked account, unless the person has a login that we do not know of."""
        if self._locks.of(proof.username) is not None:
            return Refusal()
        answer = await self._authenticator.check(proof)
        if isinstance(answer, Grant) and any(self._locks.of(name) for name in (answer.user, *answer.addresses)):
            return Refusal()
        return answer
