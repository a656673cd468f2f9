"""What a policy would have said of calls that were made: past call records, judged again in the order of time.

Minutes, money, calls at once and calls of the hour are counted as the policy in question would have let them come
about: a call that it refuses counts for nothing, one that it allows lasts as long as it did. Pure. What records do not
hold cannot count: a person's own limits from RADIUS, and whether media were encrypted, which is taken for granted.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nomad.edge.calls import Call, CallState, Leg
from nomad.edge.policy import EMERGENCY, Attempt, Direction, Ruleset, Verdict, decide
from nomad.edge.usage import Usage
from nomad.ports import Cdr, Countries, Grant
from nomad.sip.events import Flow

NO_FLOW = Flow("", ("", 0), ("", 0))
REFUSED = "refused"
EARLIER_S = 1.0  # a call that would have ended so little earlier is no difference


class Kind(enum.StrEnum):
    """How a verdict differs from what happened."""

    REFUSED = "refused"  # it was allowed
    ALLOWED = "allowed"  # it was refused
    SHORTENED = "shortened"  # it lasted longer than it may


@dataclass(frozen=True, slots=True)
class Difference:
    """A call that the policy would have treated in another way."""

    kind: Kind
    record: Cdr
    verdict: Verdict


class Rehearsal:
    """A policy that past calls are put to. `usage` holds what was called before the first of them."""

    def __init__(self, ruleset: Ruleset, usage: Usage, countries: Countries) -> None:
        self.judged = 0
        self.unknown = 0  # records of an older Nomad, which do not hold what a verdict needs
        self._ruleset = ruleset
        self._usage = usage
        self._countries = countries
        self._active: dict[str, int] = {}
        self._forwarded: dict[str, int] = {}
        self._ends: list[tuple[float, int, Call]] = []
        self._count = 0

    def put(self, records: Iterable[Cdr]) -> Iterator[Difference]:
        """Judge more records, oldest first."""
        for record in records:
            self._end_until(record.started_at)
            if record.direction != "out":
                self._begin(record, None)
            elif not record.number or (record.result == REFUSED and not _is_of_policy(record)):
                self.unknown += not record.number  # what others than the policy refused is no matter of it
            else:
                yield from self._judge(record)

    def _judge(self, record: Cdr) -> Iterator[Difference]:
        self.judged += 1
        verdict = decide(self._ruleset, self._attempt(record))
        was_refused = record.result == REFUSED
        if verdict.allowed:
            self._begin(record, verdict)
            longest = verdict.max_call_s
            if was_refused:
                yield Difference(Kind.ALLOWED, record, verdict)
            elif longest is not None and record.duration_s > longest + EARLIER_S:
                yield Difference(Kind.SHORTENED, record, verdict)
        elif not was_refused:
            yield Difference(Kind.REFUSED, record, verdict)

    def _attempt(self, record: Cdr) -> Attempt:
        return Attempt(
            Grant(record.user, groups=record.groups, classes=record.classes),
            record.callee.rpartition("@")[0] or record.number,  # as it was dialled
            source=record.peer,
            at=record.started_at,
            direction=Direction.FORWARD if _was_sent_on(record) else Direction.OUT,
            transport=record.transport,
            encrypted_media=True,
            country=self._countries.of(record.peer) if self._ruleset.needs_country else None,
            active_calls=self._active.get(record.user, 0),
            forwarded_calls=self._forwarded.get(record.user, 0),
            used=self._usage.of(record.user, record.started_at),
        )

    def _begin(self, record: Cdr, verdict: Verdict | None) -> None:
        """Count a call from now until it ended, or had to; without a verdict it is somebody else's."""
        if record.result == REFUSED and verdict is None:
            return
        call = Call(
            id=record.id,
            call_id=record.call_id,
            direction=record.direction,
            grant=Grant(record.user),
            caller_address=record.caller,
            callee_address=record.callee,
            number_class=verdict.number_class if verdict else "",
            started_at=record.started_at,
            caller=Leg("", NO_FLOW),
            answered_at=record.answered_at,
            tariff=verdict.tariff if verdict else None,
            forwarded=verdict is not None and _was_sent_on(record),
        )
        ends_at = record.ended_at
        if record.answered_at is not None and verdict is not None and verdict.max_call_s is not None:
            ends_at = min(ends_at, record.answered_at + verdict.max_call_s)
        if verdict is not None and verdict.number_class != EMERGENCY:
            self._usage.begin(call, record.started_at)
        self._active[call.user] = self._active.get(call.user, 0) + 1
        self._forwarded[call.user] = self._forwarded.get(call.user, 0) + call.forwarded
        self._count += 1
        heapq.heappush(self._ends, (ends_at, self._count, call))

    def _end_until(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            ended_at, _, call = heapq.heappop(self._ends)
            call.state, call.ended_at = CallState.ENDED, ended_at
            self._usage.end(call)
            self._active[call.user] -= 1
            self._forwarded[call.user] -= call.forwarded
            if not self._active[call.user]:
                del self._active[call.user], self._forwarded[call.user]


def _was_sent_on(record: Cdr) -> bool:
    """Whether the person's phone sent the call on: then the policy was asked for that too (`Verdict.short`)."""
    return any(rule.partition(":")[0] == "forward" for rule in record.chain.split(" "))


def _is_of_policy(refused: Cdr) -> bool:
    """Whether the policy refused: then the rule is the last that was looked at (`Verdict.short`)."""
    return refused.rule == refused.chain.rpartition(" ")[2].partition(":")[0]
