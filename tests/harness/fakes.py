"""What stands around the edge in tests without sockets: an AAA server, stores, an accounting sink, a resolver.

Each does what its port promises, in memory, and can be told to be down.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from nomad.ports import (
    AccountingRecord,
    Cdr,
    CdrQuery,
    Grant,
    LiveCall,
    Proof,
    Refusal,
    Spooled,
    SpoolState,
    Target,
    Unavailable,
    Undeliverable,
    UsageQuery,
    UserUsage,
    Vouched,
)
from nomad.sip.uri import Uri

T = TypeVar("T")


def _begun(work: Callable[[T], None], value: T, *, delay_s: float = 0.0) -> asyncio.Future[None]:
    """A store's work, which begins before anybody awaits it."""

    async def later() -> None:
        await asyncio.sleep(delay_s)
        work(value)

    if delay_s:
        return asyncio.ensure_future(later())
    future = asyncio.get_running_loop().create_future()
    try:
        work(value)
        future.set_result(None)
    except Unavailable as error:
        future.set_exception(error)
    return future


def digest(
    username: str,
    password: str,
    *,
    realm: str,
    nonce: str,
    method: str,
    uri: str,
    nc: str = "",
    cnonce: str = "",
    qop: str = "",
) -> str:
    """The response of RFC 7616 3.4.1 with MD5."""

    def h(text: str) -> str:
        return hashlib.md5(text.encode("utf-8", "surrogateescape")).hexdigest()

    middle = f"{nonce}:{nc}:{cnonce}:{qop}" if qop else nonce
    return h(f"{h(f'{username}:{realm}:{password}')}:{middle}:{h(f'{method}:{uri}')}")


class FakeAuthenticator:
    """Knows people by login and `login@realm`, and checks their digests."""

    def __init__(self, people: Mapping[str, tuple[str, Grant]]) -> None:
        self.people = dict(people)  # login -> password, grant
        self.down = False
        self.delay_s = 0.0
        self.refused = Refusal()  # what a wrong password and an unknown user get
        self.asked: list[Proof] = []

    async def vouch(self, proof: Proof) -> Vouched | Refusal:
        """As a RADIUS server would, without the secret."""
        self.asked.append(proof)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.down:
            raise Unavailable("no RADIUS server answered")
        known = self.people.get(proof.username.partition("@")[0])
        if known is None:
            return self.refused
        expected = digest(
            proof.username,
            known[0],
            realm=proof.realm,
            nonce=proof.nonce,
            method=proof.method,
            uri=proof.uri,
            nc=proof.nc,
            cnonce=proof.cnonce,
            qop=proof.qop,
        )
        return Vouched(known[1]) if proof.response == expected else self.refused


class FakeSink:
    """An accounting server; `refuse` names sessions that it never acknowledges."""

    def __init__(self) -> None:
        self.down = False
        self.delay_s = 0.0
        self.refuse: set[str] = set()
        self.hopeless: set[str] = set()  # ids of records that can never be sent
        self.received: list[AccountingRecord] = []
        self.tries = 0

    async def send(self, record: AccountingRecord) -> None:
        """Acknowledge, or not."""
        self.tries += 1
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if record.id in self.hopeless:
            raise Undeliverable("does not fit into a packet")
        if self.down or record.session in self.refuse:
            raise Unavailable("no accounting server answered")
        self.received.append(record)

    def of(self, status: str) -> list[AccountingRecord]:
        """Acknowledged records of one kind."""
        return [record for record in self.received if record.status == status]


class MemorySpool:
    """A spool whose disk may fail."""

    def __init__(self) -> None:
        self.down = False
        self.delay_s = 0.0
        self.records: dict[int, Spooled] = {}
        self.aside: dict[str, str] = {}  # why, by record id
        self._ids: set[str] = set()
        self._next = 1

    def append(self, records: Sequence[AccountingRecord]) -> asyncio.Future[None]:
        """Keep."""
        return _begun(self._append, records, delay_s=self.delay_s)

    def _append(self, records: Sequence[AccountingRecord]) -> None:
        self._check()
        for record in records:
            if record.id not in self._ids:
                self._ids.add(record.id)
                self.records[self._next] = Spooled(self._next, record, 0)
                self._next += 1

    async def waiting(self, limit: int, *, after: int = 0) -> Sequence[Spooled]:
        """The oldest."""
        self._check()
        return [self.records[position] for position in sorted(self.records) if position > after][:limit]

    async def delivered(self, positions: Sequence[int]) -> None:
        """Forget."""
        self._check()
        for position in positions:
            self._ids.discard(self.records.pop(position).record.id)

    async def failed(self, positions: Sequence[int], *, final: str = "") -> None:
        """Count, or set aside."""
        self._check()
        for position in positions:
            known = self.records[position]
            self.records[position] = Spooled(position, known.record, known.attempts + 1)
            if final:
                self.aside[known.record.id] = final
        if final:
            await self.delivered(positions)

    def state(self) -> SpoolState:
        """How much waits."""
        oldest_at = min((each.record.at for each in self.records.values()), default=None)
        return SpoolState(len(self.records), oldest_at, len(self.aside))

    def _check(self) -> None:
        if self.down:
            raise Unavailable("disk full")


class MemoryCdrs:
    """Call records."""

    def __init__(self) -> None:
        self.down = False
        self.records: dict[str, Cdr] = {}

    def add(self, records: Sequence[Cdr]) -> asyncio.Future[None]:
        """Keep each once."""
        return _begun(self._add, records)

    def _add(self, records: Sequence[Cdr]) -> None:
        if self.down:
            raise Unavailable("no database")
        for record in records:
            self.records.setdefault(record.id, record)

    async def query(self, query: CdrQuery) -> Sequence[Cdr]:
        """Newest first."""
        found = [
            each
            for each in self.records.values()
            if query.user in ("", each.user)
            and (query.since is None or each.started_at >= query.since)
            and (query.until is None or each.started_at < query.until)
        ]
        return sorted(found, key=lambda each: -each.started_at)[: query.limit]

    async def usage(self, query: UsageQuery) -> Sequence[UserUsage]:
        """Record by record."""
        if self.down:
            raise Unavailable("no database")
        found: dict[str, UserUsage] = {}
        for each in self.records.values():
            if each.direction != "out" or each.number_class in query.exempt or each.ended_at > query.until:
                continue
            known = found.setdefault(each.user, UserUsage(each.user, 0.0, 0.0, 0.0))
            began = each.answered_at if each.answered_at is not None else each.ended_at
            month = max(0.0, each.ended_at - max(began, query.month))
            day = max(0.0, each.ended_at - max(began, query.day))
            recent = each.started_at > query.hour and each.result != "refused"
            found[each.user] = UserUsage(
                each.user,
                known.seconds_month + month,
                known.seconds_day + day,
                known.cost_day + each.cost * (day / each.duration_s if each.duration_s else 0.0),
                known.calls + ((each.started_at,) if recent else ()),
            )
        return list(found.values())

    @property
    def all(self) -> list[Cdr]:
        """In the order that they came."""
        return list(self.records.values())


class MemoryCalls:
    """Calls in progress."""

    def __init__(self) -> None:
        self.down = False
        self.calls: dict[str, LiveCall] = {}

    def put(self, call: LiveCall) -> asyncio.Future[None]:
        """Keep."""
        return _begun(self._put, call)

    def remove(self, id: str) -> asyncio.Future[None]:
        """Forget."""
        return _begun(self._remove, id)

    def _put(self, call: LiveCall) -> None:
        self._check()
        self.calls[call.id] = call

    def _remove(self, id: str) -> None:
        self._check()
        self.calls.pop(id, None)

    async def load(self) -> Sequence[LiveCall]:
        """All."""
        self._check()
        return list(self.calls.values())

    def _check(self) -> None:
        if self.down:
            raise Unavailable("no database")


class NumericResolver:
    """Takes the host of a URI for an address."""

    def __init__(self) -> None:
        self.down = False

    async def resolve(self, uri: Uri) -> Sequence[Target]:
        """One target."""
        if self.down:
            raise Unavailable("no DNS")
        return [Target(uri.transport or "udp", uri.host, uri.port or 5060)]
