"""What is asked of the policy, and what it answers: the verdict with every rule that led to it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from nomad.edge.policy.ruleset import Tariff
from nomad.ports import NO_LIMITS, Grant, Limits


class Direction(enum.StrEnum):
    """Which way a call goes, seen from the person whom it is judged for."""

    OUT = "out"  # the person calls
    INTERNET = "internet"  # somebody on the open Internet calls the person
    FORWARD = "forward"  # the person's phone sends a call on to somebody else (302, REFER)


class Used(NamedTuple):
    """What a person has called, and what counts against limits. Calls in progress are included."""

    seconds_today: float = 0.0  # since midnight
    seconds_this_month: float = 0.0
    cost_today: float = 0.0  # in the currency of the policy
    calls_last_hour: int = 0


NOTHING = Used()


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call that somebody wants to make, and what is known of it. Counts are without this call."""

    grant: Grant  # whose call it is, as the AAA server says
    number: str  # clean, see `numbers.clean`; with `Direction.INTERNET` the number that was called
    source: str  # address of the phone
    at: float  # Unix seconds
    direction: Direction = Direction.OUT
    transport: str = ""  # udp, tcp, tls, ws or wss
    encrypted_media: bool = False  # whether every stream of the offer demands SRTP
    country: str | None = None  # ISO 3166 code of the source address, None when not known
    active_calls: int = 0  # calls that the person has now
    forwarded_calls: int = 0  # those of them that the person's phone sent on
    used: Used = NOTHING


Note = tuple[str, int, str, tuple[object, ...]]
"""A step that is not written out: rule, line, text with places for values, values. Most chains are never read."""


class Step(NamedTuple):
    """One rule that was looked at. `line` is that of the policy file, 0 when the rule does not stand there."""

    rule: str  # fixed word
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.text} (line {self.line})" if self.line else self.text


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided and why. `rule` is a fixed word, `reason` a short phrase for the user."""

    allowed: bool
    group: str
    number_class: str
    rule: str  # what refused, "" when allowed
    reason: str
    notes: tuple[Note, ...]
    number: str = ""  # as the rules were asked, normalised
    status: int = 403  # what a refused caller is answered
    max_call_s: float | None = None  # the call ends after this time
    tariff: Tariff | None = None  # what the call costs, None when nothing
    limits: Limits = NO_LIMITS  # of the group; a running call is held to them and to the person's own
    encrypted: bool = False  # media must stay encrypted while the call lasts
    dial: str = ""  # what the PBX is to dial, when the person calls and may

    @property
    def chain(self) -> tuple[Step, ...]:
        """Every rule that was looked at, in order, for admins."""
        return tuple(Step(rule, line, text.format(*values)) for rule, line, text, values in self.notes)

    @property
    def why(self) -> str:
        """The whole chain in one line, for the log."""
        return "; ".join(map(str, self.chain))

    @property
    def short(self) -> str:
        """The rules and their lines alone, for call records: `class:7 group:14 deny:31`."""
        return " ".join([f"{note[0]}:{note[1]}" if note[1] else note[0] for note in self.notes])
