"""What a call becomes on record: RADIUS accounting (RFC 2866), a call record, the stored live call, the counters.

A record is durable in the spool before anything else; `delivery.py` brings it to RADIUS. A failing store never stops a
call: it is logged and counted, and the call goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from nomad import log
from nomad.clock import Clock
from nomad.edge.calls import Call, freeze
from nomad.edge.delivery import Delivery
from nomad.edge.usage import Usage
from nomad.metrics import Metrics
from nomad.ports import (
    AccountingRecord,
    AccountingSink,
    CallStore,
    Cdr,
    CdrStore,
    Grant,
    Spool,
    Unavailable,
)

logger = logging.getLogger(__name__)

PATIENCE_S = 2.0  # how long a call waits for a disk; the record stays on its way all the same
REFUSED = "NAS-Request"  # Acct-Terminate-Cause of what the policy refused: we ended it, and not for an error
CAUSES = {
    487: "User-Request", 408: "Host-Request", 480: "Host-Request", 486: "Host-Request", 600: "Host-Request",
    603: "Host-Request",
}  # fmt: skip
Attribute = tuple[str, str | int | bytes]
RESULTS = {486: "busy", 600: "busy", 487: "cancelled", 408: "no-answer", 480: "no-answer", 603: "declined"}


@dataclass(frozen=True, slots=True)
class Stores:
    """Where records go."""

    spool: Spool
    cdrs: CdrStore
    calls: CallStore


def _unwatched(record: Cdr, grant: Grant) -> None:
    """Nobody looks for what is unusual."""


class Accountant:
    """Writes the records of calls."""

    def __init__(
        self,
        stores: Stores,
        sink: AccountingSink,
        *,
        clock: Clock,
        metrics: Metrics,
        usage: Usage,
        account_refused: bool = False,
    ) -> None:
        self.delivery = Delivery(stores.spool, sink, clock=clock, metrics=metrics)
        self._stores = stores
        self._clock = clock
        self._metrics = metrics
        self._usage = usage
        self._account_refused = account_refused
        self.watch: Callable[[Cdr, Grant], None] = _unwatched

    def opened(self, call: Call, *, onward: bool = False) -> None:
        """The call was allowed, or its being sent `onward`: it counts against what its user may call from now on."""
        if onward or call.direction == "out":
            self._usage.begin(call, self._clock.wall())

    def given_up(self, call: Call) -> None:
        """A call is not sent on after all."""
        self._usage.end(call)

    async def started(self, call: Call) -> None:
        """The call was answered: its Start record and the live call are durable when this returns."""
        self._usage.answered(call, self._clock.wall())
        # What is given to the stores in one step is durable together.
        live = self._meanwhile("live call", self._stores.calls.put(freeze(call, self._clock.wall())))
        await self._spool([_record(call, "Start", call.answered_at or call.started_at)], live)

    def changed(self, call: Call) -> None:
        """A limit of an answered call changed; a crash must not forget it."""
        self._usage.answered(call, self._clock.wall())
        self._meanwhile("live call", self._stores.calls.put(freeze(call, self._clock.wall())))

    async def interim(self, calls: Sequence[Call], now: float) -> None:
        """These calls go on (RFC 2869 2.1); all of it becomes durable at once."""
        await self._spool([_interim(call, now) for call in calls])

    async def ended(self, call: Call, *, rule: str = "", reason: str = "") -> None:
        """The call is over: its Stop record and the call record are durable when this returns."""
        record = _cdr(call, rule, reason)
        self._usage.end(call)
        self._metrics.call_ended(record)
        self.watch(record, call.grant)
        answered = call.answered_at is not None
        # What is given to the stores in one step is durable together.
        together = [self._meanwhile("call record", self._stores.cdrs.add([record]))]
        if answered:
            together.append(self._meanwhile("live call", self._stores.calls.remove(record.id)))
        if answered or self._account_refused:
            await self._spool([_stop(call, rule)], *together)

    async def refused(self, call: Call, *, status: int, rule: str, reason: str) -> None:
        """A person's call was refused by us before it became one."""
        call.ended_at, call.status, call.terminate_cause = self._clock.wall(), status, REFUSED
        record = replace(_cdr(call, rule, reason), result="refused")
        self._metrics.call_ended(record)
        self.watch(record, call.grant)
        self._meanwhile("call record", self._stores.cdrs.add([record]))
        if self._account_refused:
            await self._spool([_stop(call, rule)])

    async def node(self, status: str) -> None:
        """Accounting-On or Accounting-Off: the edge starts or stops (RFC 2866 5.1)."""
        at = self._clock.wall()
        id = f"{status}-{at:.6f}"
        await self._spool([AccountingRecord(id, id, status, "", at)])

    async def _spool(self, records: Sequence[AccountingRecord], *together: asyncio.Future[None]) -> None:
        """Return when the records, and what was stored `together` with them, are durable.

        Or when the disk took too long: then they are on their way still.
        """
        spooled = self._meanwhile("accounting record", self._stores.spool.append(records))
        spooled.add_done_callback(lambda _: self.delivery.wake())
        _, late = await asyncio.wait((spooled, *together), timeout=PATIENCE_S)
        if late:
            self._metrics.store_failure("accounting record")
            log.event(logger, "store-slow", level=logging.ERROR, what="accounting record", records=len(records))

    def _meanwhile(self, what: str, work: Awaitable[None]) -> asyncio.Future[None]:
        """Begin to store something at once, without waiting for the disk."""
        future = asyncio.ensure_future(work)
        future.add_done_callback(partial(self._settled, what))
        return future

    def _settled(self, what: str, future: asyncio.Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, Unavailable):
            self._metrics.store_failure(what)
            log.event(logger, "store-failed", level=logging.ERROR, what=what, error=str(error))
        elif error is not None:
            logger.error("%s was not stored", what, exc_info=error)


def cause_of(status: int) -> str:
    """Acct-Terminate-Cause (RFC 2866 5.10) of a call that ended with this final response instead of an answer."""
    return CAUSES.get(status, "User-Error" if status < 500 else "Service-Unavailable")


def _record(call: Call, status: str, at: float, *extra: Attribute, suffix: str = "") -> AccountingRecord:
    attributes: tuple[Attribute, ...] = (
        ("Acct-Multi-Session-Id", call.multi or call.id),
        ("Calling-Station-Id", f"sip:{call.caller_address}"),
        ("Called-Station-Id", f"sip:{call.callee_address}"),
        ("Nomad-SIP-Call-Id", call.call_id[:247]),
        ("Nomad-SIP-From-Tag", call.caller.tag[:247]),
        ("Nomad-SIP-To-Tag", call.answered_by[:247]),
        ("Nomad-SIP-Method", "INVITE"),
        ("Nomad-SIP-Response-Code", call.status),
        ("Nomad-Direction", call.direction),
        ("Nomad-Number-Class", call.number_class),
        ("Nomad-User-Agent", call.user_agent),
        ("Nomad-Peer", call.peer),
        *(("Class", value) for value in call.grant.classes),
        *extra,
    )
    return AccountingRecord(f"{call.id}-{status}{suffix}", call.id, status, call.user, at, _told(attributes))


def _interim(call: Call, now: float) -> AccountingRecord:
    elapsed = max(0, int(now - (call.answered_at or now)))  # a clock may have been set back
    return _record(call, "Interim-Update", now, ("Acct-Session-Time", elapsed), suffix=f"-{elapsed}")


def _stop(call: Call, rule: str) -> AccountingRecord:
    return _record(
        call,
        "Stop",
        call.ended_at or call.started_at,
        ("Acct-Session-Time", round(call.duration_s)),
        ("Acct-Terminate-Cause", call.terminate_cause or "User-Request"),
        ("Nomad-Rule", rule),
    )


def _told(attributes: tuple[Attribute, ...]) -> tuple[Attribute, ...]:
    """Without empty text, which has no place in an attribute (RFC 2865 5)."""
    return tuple(pair for pair in attributes if pair[1] not in ("", b""))


def _cdr(call: Call, rule: str, reason: str) -> Cdr:
    answered = call.answered_at is not None
    return Cdr(
        id=call.id,
        call_id=call.call_id,
        direction=call.direction,
        user=call.user,
        caller=call.caller_address,
        callee=call.callee_address,
        number_class=call.number_class,
        started_at=call.started_at,
        answered_at=call.answered_at,
        ended_at=call.ended_at or call.started_at,
        duration_s=call.duration_s,
        result="answered" if answered else RESULTS.get(call.status, "failed"),
        status=call.status,
        rule=rule,
        reason=reason,
        terminate_cause=call.terminate_cause if answered else "",
        peer=call.peer,
        user_agent=call.user_agent,
        number=call.number,
        group=call.group,
        groups=call.grant.groups,
        classes=call.grant.classes,
        transport=call.transport,
        policy=call.policy,
        cost=call.cost,
        chain=call.chain,
    )
