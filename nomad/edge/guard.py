"""The first look at a peer and at a request: rate limits and bans by address, then sanity of the message.

`admits` runs before parsing and must stay cheap. Knows nothing of users; counting per user is the policy's part.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from nomad.config import Guard as GuardTable
from nomad.ports import BanView
from nomad.sip.errors import Reject
from nomad.sip.message import Request

MAX_ADDRESSES = 100_000  # remembered at once; the oldest are forgotten first
LONGEST_BAN_S = 86_400.0
MAX_AGENT_CHARS = 200
MAX_CSEQ = 2**31 - 1000  # leaves room for a BYE of ours after any request of a phone (RFC 3261 8.1.1.5)
SCANNERS = re.compile(r"friendly-scanner|sipvicious|sundayddr|sip-?scan|pplsip|sipcli|vaxasip|iwar|sivus|warvox", re.I)
METHODS = (
    "INVITE",
    "ACK",
    "CANCEL",
    "BYE",
    "REGISTER",
    "OPTIONS",
    "UPDATE",
    "INFO",
    "PRACK",
    "REFER",
    "MESSAGE",
    "NOTIFY",
)
ALLOW = ", ".join(METHODS)
KNOWN_ELSEWHERE = frozenset({"SUBSCRIBE", "PUBLISH"})  # standard methods that we do not serve: 405, not 501


@dataclass(slots=True)
class _Ban:
    until: float  # monotonic
    reason: str
    length_s: float


class Guard:
    """Remembers addresses; one per edge. Implements `ports.Gate`."""

    def __init__(
        self,
        table: GuardTable,
        *,
        exempt: Sequence[str] = (),
        on_ban: Callable[[str, str, float], None] = lambda address, reason, seconds: None,
    ) -> None:
        self._on_ban = on_ban
        self.dropped = 0
        self._bans: dict[str, _Ban] = {}
        self._buckets: dict[str, list[float]] = {}  # address -> [tokens, time of the last look]
        self._strikes: dict[tuple[str, str], deque[float]] = {}
        self._exempt_cache: dict[str, bool] = {}
        self.configure(table, exempt=exempt)

    def configure(self, table: GuardTable, *, exempt: Sequence[str] = ()) -> None:
        """Take up new limits; bans in force stay."""
        self._table = table
        self._exempt = [ipaddress.ip_network(text, strict=False) for text in (*table.never_ban, *exempt)]
        self._exempt_cache.clear()

    def admits(self, address: str, now: float) -> bool:
        """Whether to look at what this address sends: not banned, and within its rate."""
        if self._bans:
            ban = self._bans.get(address)
            if ban is not None and now < ban.until:
                self.dropped += 1
                return False
        rate = self._table.requests_per_s
        if not rate:
            return True
        bucket = self._buckets.get(address)
        if bucket is None:
            _make_room(self._buckets)
            self._buckets[address] = [self._table.burst - 1.0, now]
            return True
        tokens = bucket[0] + (now - bucket[1]) * rate
        bucket[1] = now
        if tokens >= 1.0:
            bucket[0] = min(tokens, self._table.burst) - 1.0
            return True
        bucket[0] = tokens
        if self._is_exempt(address):
            return True
        self.dropped += 1
        return False

    def strike(self, address: str, kind: str, now: float) -> None:
        """Count a misdeed of an address: "auth", "malformed" or "scanner"; enough of them ban it."""
        if self._is_exempt(address):
            return
        limit = {"auth": self._table.auth_failures, "malformed": self._table.malformed, "scanner": 1}[kind]
        strikes = self._strikes.get((address, kind))
        if strikes is None:
            _make_room(self._strikes)
            strikes = self._strikes[address, kind] = deque()
        strikes.append(now)
        while strikes[0] < now - self._table.window_s:
            strikes.popleft()
        if len(strikes) >= limit:
            strikes.clear()
            self._ban(address, kind, now)

    def bans(self, now: float, wall: float) -> list[BanView]:
        """Bans in force; `wall` is the Unix time of the monotonic `now`."""
        return [
            BanView(address, ban.reason, wall + ban.until - now)
            for address, ban in self._bans.items()
            if ban.until > now
        ]

    def unban(self, address: str) -> bool:
        """Lift a ban and forget its history."""
        return self._bans.pop(address, None) is not None

    def _ban(self, address: str, reason: str, now: float) -> None:
        known = self._bans.get(address)
        length = self._table.ban_s if known is None else min(known.length_s * 2, LONGEST_BAN_S)
        _make_room(self._bans)
        self._bans[address] = _Ban(now + length, reason, length)
        self._on_ban(address, reason, length)

    def _is_exempt(self, address: str) -> bool:
        known = self._exempt_cache.get(address)
        if known is None:
            _make_room(self._exempt_cache)
            parsed = ipaddress.ip_address(address.partition("%")[0])
            known = self._exempt_cache[address] = any(parsed in network for network in self._exempt)
        return known


def check_sanity(request: Request) -> None:
    """Refuse what no part of the edge could serve (RFC 3261 16.3). Raises `Reject`."""
    method = request.method
    if method not in METHODS:
        if method == "SUBSCRIBE" and request.to.tag:
            return  # within a call, as to the progress of a REFER
        if method in KNOWN_ELSEWHERE:
            raise Reject(405, headers=(("Allow", ALLOW),), rule="method", why=method)
        raise Reject(501, headers=(("Allow", ALLOW),), rule="method")
    if request.uri.scheme not in ("sip", "sips", "tel"):
        raise Reject(416, rule="scheme")
    if request.cseq.number >= MAX_CSEQ:
        raise Reject(400, "CSeq is too high", rule="cseq")
    if request.max_forwards == 0 and (request.to.tag or method not in ("OPTIONS", "REGISTER")):
        raise Reject(483, rule="max-forwards")
    if request.has("proxy-require"):
        raise Reject(420, headers=(("Unsupported", ", ".join(request.elements("proxy-require"))),), rule="extension")


def is_scanner(request: Request) -> bool:
    """Whether the request carries the signature of a known scanning tool."""
    agent = request.get("user-agent")
    return agent is not None and _names_scanner(agent[:MAX_AGENT_CHARS])


@lru_cache(maxsize=1024)
def _names_scanner(agent: str) -> bool:
    return SCANNERS.search(agent) is not None


def _make_room(table: dict[Any, Any]) -> None:
    """Keep a table that strangers can grow within its bound: the oldest entries go."""
    if len(table) >= MAX_ADDRESSES:
        for key in list(itertools.islice(table, MAX_ADDRESSES // 10)):
            del table[key]
