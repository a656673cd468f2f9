"""One request until its reply: identifiers, retransmission, reply check, duplicates (RFC 2865 3, RFC 5080 2.2).

Pure: octets, the monotonic time and randomness come in, octets go out. Does not choose servers and owns no socket; a
channel is the number of a socket.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

from radius import packet as wire
from radius.errors import PacketError
from radius.packet import Code, Packet

IDENTIFIERS = 256  # per channel, RFC 2865 3


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before each retransmission (RFC 5080 2.2.1); jitter is between -1 and 1."""

    initial_s: float = 0.5
    max_s: float = 16.0

    def first(self, jitter: float) -> float:
        """RT = IRT + RAND*IRT."""
        return self.initial_s * (1 + 0.1 * jitter)

    def next(self, before: float, jitter: float) -> float:
        """RT = 2*RTprev + RAND*RTprev, at most MRT + RAND*MRT."""
        delay = before * (2 + 0.1 * jitter)
        return delay if delay <= self.max_s else self.max_s * (1 + 0.1 * jitter)


@dataclass(slots=True, eq=False)
class Exchange:
    """A request that waits for its reply. `token` is the caller's."""

    channel: int
    identifier: int
    code: int
    authenticator: bytes
    data: bytes
    started_at: float
    give_up_at: float
    delay: float
    token: Any
    sent: int = 1
    waiting: bool = True
    dropped: str = ""  # what was wrong with the last reply that was not taken


class Answer(NamedTuple):
    """A verified reply and what it answers."""

    exchange: Exchange
    packet: Packet


@dataclass(slots=True)
class Counters:
    """What one server's traffic looked like."""

    requests: int = 0
    retransmissions: int = 0
    replies: int = 0
    timeouts: int = 0
    late: int = 0  # replies that nothing waits for
    forged: int = 0  # wrong authenticator or Message-Authenticator, or none
    malformed: int = 0
    full: int = 0  # requests that found no free identifier


class Exchanges:
    """All requests in flight to one server."""

    def __init__(
        self,
        secret: bytes,
        backoff: Backoff,
        *,
        channels: int,
        jitter: Callable[[], float],
        entropy: Callable[[int], bytes],
    ) -> None:
        self.counters = Counters()
        self._secret = secret
        self._backoff = backoff
        self._channels = channels
        self._jitter = jitter
        self._entropy = entropy
        self._opened = 0
        self._free: deque[int] = deque()
        self._pending: dict[int, Exchange] = {}
        self._timers: list[tuple[float, int, Exchange]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._pending)

    def begin(
        self, code: int, attributes: bytes, token: Any, *, now: float, give_up_at: float, resend: bool = True
    ) -> Exchange | None:
        """Encode and remember a request; None when every identifier is in use. Raises `EncodingError`."""
        if not self._free and not self._open_channel():
            self.counters.full += 1
            return None
        key = self._free[0]
        identifier = key % IDENTIFIERS
        nonce = self._entropy(16)
        # Only an Access-Request needs the signature; accounting has an authenticator that is a hash (RFC 2866 3).
        sign = code not in (Code.ACCOUNTING_REQUEST,)
        data = wire.encode_request(code, identifier, attributes, secret=self._secret, nonce=nonce, sign=sign)
        self._free.popleft()
        delay = self._backoff.first(self._jitter()) if resend else math.inf
        exchange = Exchange(key // IDENTIFIERS, identifier, code, data[4:20], data, now, give_up_at, delay, token)
        self._pending[key] = exchange
        self._schedule(exchange, now)
        self.counters.requests += 1
        return exchange

    def receive(self, channel: int, data: bytes) -> Answer | None:
        """A datagram that came on a channel; None when it answers nothing, and then it is counted."""
        exchange = self._pending.get(channel * IDENTIFIERS + data[1]) if len(data) > 1 else None
        try:
            packet = wire.decode(data)
        except PacketError as error:
            self.counters.malformed += 1
            if exchange is not None:
                exchange.dropped = error.text
            return None
        if exchange is None:
            self.counters.late += 1
            return None
        require = exchange.code == Code.ACCESS_REQUEST
        try:
            wire.verify_reply(packet, exchange.code, exchange.authenticator, self._secret, require_mac=require)
        except PacketError as error:
            self.counters.forged += 1
            exchange.dropped = error.text
            return None
        self.counters.replies += 1
        self.abandon(exchange)
        return Answer(exchange, packet)

    def abandon(self, exchange: Exchange) -> None:
        """Wait no longer; the identifier is used again after all the others."""
        if exchange.waiting:
            exchange.waiting = False
            key = exchange.channel * IDENTIFIERS + exchange.identifier
            del self._pending[key]
            self._free.append(key)

    def due(self, now: float) -> tuple[list[Exchange], list[Exchange]]:
        """Exchanges to send again, and exchanges that nobody answered in time."""
        again: list[Exchange] = []
        silent: list[Exchange] = []
        timers = self._timers
        while timers and timers[0][0] <= now:
            exchange = heapq.heappop(timers)[2]
            if not exchange.waiting:
                continue
            if now >= exchange.give_up_at:
                self.counters.timeouts += 1
                self.abandon(exchange)
                silent.append(exchange)
                continue
            exchange.delay = self._backoff.next(exchange.delay, self._jitter())
            exchange.sent += 1
            self.counters.retransmissions += 1
            self._schedule(exchange, now)
            again.append(exchange)
        return again, silent

    def next_timer(self) -> float | None:
        """When to call `due`; may be early, never late."""
        while self._timers and not self._timers[0][2].waiting:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def waiting(self) -> list[Exchange]:
        """Every exchange in flight."""
        return list(self._pending.values())

    def _schedule(self, exchange: Exchange, now: float) -> None:
        self._serial += 1
        when = min(now + exchange.delay, exchange.give_up_at)
        heapq.heappush(self._timers, (when, self._serial, exchange))

    def _open_channel(self) -> bool:
        if self._opened >= self._channels:
            return False
        first = self._opened * IDENTIFIERS
        self._opened += 1
        self._free.extend(range(first, first + IDENTIFIERS))
        return True


class DuplicateCache:
    """Answers retransmitted requests with the reply that was already given (RFC 5080 2.2.2)."""

    def __init__(self, *, lifetime_s: float = 10.0, limit: int = 50_000) -> None:
        self._lifetime_s = lifetime_s
        self._limit = limit
        self._entries: OrderedDict[Hashable, tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def look(self, key: Hashable, now: float) -> bytes | None:
        """None for a new request, which is then remembered; b"" while it is worked on; else its reply."""
        entries = self._entries
        entry = entries.get(key)
        if entry is not None and entry[0] > now:
            return entry[1]
        while entries and (len(entries) >= self._limit or next(iter(entries.values()))[0] <= now):
            entries.popitem(last=False)
        entries[key] = (now + self._lifetime_s, b"")
        return None

    def answer(self, key: Hashable, reply: bytes) -> None:
        """Remember the reply; does nothing when the request is forgotten already."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries[key] = (entry[0], reply)

    def forget(self, key: Hashable) -> None:
        """The request was not answered, so that a retransmission is worked on anew."""
        self._entries.pop(key, None)
