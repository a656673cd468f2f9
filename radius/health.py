"""Whether a server is worth asking: up, dead, or on trial (RFC 5080 2.2.1, RFC 5997; a circuit breaker).

Pure; the monotonic time comes in. Does not send the Status-Server itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """How a server is treated."""

    UP = "up"
    DEAD = "dead"  # asked by Status-Server only
    TRIAL = "trial"  # dead, but one real request is on its way to find out


class Input(Enum):
    """What happened."""

    ANSWERED = "answered"
    SILENT = "silent"
    TRIED = "tried"


TRANSITIONS = {
    (State.UP, Input.ANSWERED): State.UP,
    (State.UP, Input.SILENT): State.DEAD,
    (State.UP, Input.TRIED): State.UP,
    (State.DEAD, Input.ANSWERED): State.UP,
    (State.DEAD, Input.SILENT): State.DEAD,
    (State.DEAD, Input.TRIED): State.TRIAL,
    (State.TRIAL, Input.ANSWERED): State.UP,
    (State.TRIAL, Input.SILENT): State.DEAD,
    (State.TRIAL, Input.TRIED): State.TRIAL,  # the trial before came to nothing, not even to silence
}


@dataclass(frozen=True, slots=True)
class Limits:
    """When a server counts as dead, and how it comes back."""

    failures: int = 3
    """So many requests in a row without any reply in between."""
    probe_s: float = 1.0
    """How often a dead server gets a Status-Server."""
    dead_s: float = 10.0
    """After this long a real request is risked, for servers that know no Status-Server."""


class Health:
    """The health of one server."""

    def __init__(self, limits: Limits) -> None:
        self.state = State.UP
        self.since = 0.0  # when it came up or died; trials change nothing
        self._limits = limits
        self._failures = 0
        self._next_trial = 0.0
        self._answered_at = float("-inf")

    @property
    def up(self) -> bool:
        """Whether requests go there without further ado."""
        return self.state is State.UP

    def admit(self, now: float) -> bool:
        """Whether the next request may go there; a dead server is given one on trial now and then."""
        if self.state is State.UP:
            return True
        if now < self._next_trial:
            return False
        # A trial whose request was given up, or could not be sent, is followed by another like every other trial.
        self._next_trial = now + self._limits.dead_s
        self._go(Input.TRIED, now)
        return True

    def answered(self, now: float) -> bool:
        """A verified reply came; True when that brought the server back."""
        self._answered_at = now
        self._failures = 0
        return self._go(Input.ANSWERED, now)

    def silent(self, started_at: float, now: float) -> bool:
        """A request that began at `started_at` got no reply; True when the server is dead from now on.

        It does not count when another request was answered meanwhile: then packets get lost, the server lives.
        """
        if self._answered_at >= started_at:
            return False
        self._failures += 1
        if self.state is State.UP and self._failures < self._limits.failures:
            return False
        was = self.state
        if self._go(Input.SILENT, now):
            self._next_trial = now + self._limits.dead_s
        return was is State.UP

    def _go(self, what: Input, now: float) -> bool:
        state = TRANSITIONS[(self.state, what)]
        if state is self.state:
            return False
        if State.UP in (state, self.state):
            self.since = now
        self.state = state
        return True
