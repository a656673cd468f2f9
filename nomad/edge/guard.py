"""The first look at a peer and at a request: rate limits and bans by address, then sanity of the message.

`admits` runs before parsing and must stay cheap. A ban needs proof of the address: a connection, or credentials made
with a nonce that was given to this address. What may be forged over UDP only slows an address down, and never one that
logged in lately. Knows nothing of users; `habits.py` watches those.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nomad.config import Guard as GuardTable
from nomad.edge.sources import key_text, parse_key, source_key
from nomad.ports import BanView, StoredBan
from nomad.sip.errors import Reject
from nomad.sip.message import Request

MAX_ADDRESSES = 100_000  # remembered at once; the oldest are forgotten first
MAX_SHOWN = 1000  # slowed addresses in one answer: strangers choose how many there are
LONGEST_BAN_S = 86_400.0
FORGIVEN_S = 86_400.0  # after so long without a ban the next one is a first one again
SWEEP_S = 60.0
PROVEN_S = 7200.0  # so long after a login nothing that may be forged slows an address down
MAX_CSEQ = 2**31 - 1000  # leaves room for a BYE of ours after any request of a phone (RFC 3261 8.1.1.5)
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
    "SUBSCRIBE",
    "PUBLISH",
)
ALLOW = ", ".join(METHODS)
UNDERSTOOD = ("path", "outbound", "gruu")  # option tags of requests to the edge itself (RFC 3327, 5626, 5627)


@dataclass(slots=True)
class _Ban:
    until: float  # monotonic
    reason: str
    length_s: float


@dataclass(slots=True)
class _Suspect:
    until: float  # monotonic
    reason: str
    next_at: float  # when the next message is looked at


def _ignore(ban: StoredBan) -> None:
    """Nobody wants to know."""


class Guard:
    """Remembers addresses; one per edge. Implements `ports.Gate`."""

    def __init__(
        self,
        table: GuardTable,
        *,
        exempt: Sequence[str] = (),
        wall: Callable[[], float] = lambda: 0.0,
        on_ban: Callable[[StoredBan], None] = _ignore,
        on_unban: Callable[[StoredBan], None] = _ignore,
        on_suspect: Callable[[str, str], None] = lambda address, reason: None,
    ) -> None:
        """`wall` is Unix time, in which others are told of bans."""
        self._wall = wall
        self._on_ban = on_ban
        self._on_unban = on_unban
        self._on_suspect = on_suspect
        self.dropped = 0
        # Apart, so that forged sources, which fill the other tables, push no ban out.
        self._bans: dict[str, _Ban] = {}
        self._suspects: dict[str, _Suspect] = {}
        self._proven: dict[str, float] = {}  # key -> until when
        self._buckets: dict[str, list[float]] = {}  # key -> [tokens, time of the last look]
        self._strikes: dict[tuple[str, str, bool], list[float]] = {}  # times; a list, since most have few
        self._sweep_at = 0.0
        self._exempt_cache: dict[str, bool] = {}
        self.configure(table, exempt=exempt)

    def configure(self, table: GuardTable, *, exempt: Sequence[str] = ()) -> None:
        """Take up new limits; bans in force stay, but not those of addresses that are exempt now."""
        self._table = table
        self._exempt = [ipaddress.ip_network(text, strict=False) for text in (*table.never_ban, *exempt)]
        self._exempt_cache.clear()
        for key in [key for key in self._bans if self._is_exempt(key_text(key).partition("/")[0])]:
            self.unban(key_text(key))

    def restore(self, bans: Iterable[StoredBan], now: float) -> None:
        """Take up the bans of an earlier process; those that ended keep the next one growing."""
        wall = self._wall()
        for ban in bans:
            key = parse_key(ban.address)
            if key and not self._is_exempt(ban.address.partition("/")[0]):
                self._bans[key] = _Ban(now + ban.until - wall, ban.reason, ban.length_s)

    def admits(self, address: str, now: float, connected: bool = False) -> bool:
        """Whether to look at what this address sends: not banned, and within its rate.

        What others may have sent in its name slows only down what may be theirs too: no connections.
        """
        key = address if ":" not in address else source_key(address)
        if self._bans:
            ban = self._bans.get(key)
            if ban is not None and now < ban.until:
                self.dropped += 1
                return False
        if self._suspects and not connected:
            suspect = self._suspects.get(key)
            if suspect is not None and now < suspect.until:
                if now < suspect.next_at:
                    self.dropped += 1
                    return False
                suspect.next_at = now + self._table.suspect_pause_s
        rate = self._table.requests_per_s
        if not rate:
            return True
        bucket = self._buckets.get(key)
        if bucket is None:
            _make_room(self._buckets)
            self._buckets[key] = [self._table.burst - 1.0, now]
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

    def strike(self, address: str, kind: str, now: float, *, proven: bool) -> None:
        """Count a misdeed of an address: "auth", "malformed" or "scanner".

        Enough of them ban it when `proven`: nobody else can have sent them in its name. Else they slow it down.
        """
        if self._is_exempt(address):
            return
        key = source_key(address)
        if not proven and self._proven.get(key, 0.0) > now:
            return
        limit = {"auth": self._table.auth_failures, "malformed": self._table.malformed, "scanner": 1}[kind]
        strikes = self._strikes.get((key, kind, proven))
        if strikes is None:
            _make_room(self._strikes)
            strikes = self._strikes[key, kind, proven] = []
        strikes.append(now)
        while strikes[0] < now - self._table.window_s:
            del strikes[0]
        if len(strikes) < limit:
            return
        strikes.clear()
        if proven:
            self._ban(key, kind, now)
        else:
            self._slow_down(key, kind, now)

    def proved(self, address: str, now: float) -> None:
        """Somebody at this address logged in with a nonce that was given to it."""
        key = source_key(address)
        _make_room(self._proven)
        self._proven[key] = now + PROVEN_S
        if self._suspects:
            self._suspects.pop(key, None)

    def bans(self, now: float, wall: float) -> list[BanView]:
        """Bans in force, then slowed addresses; `wall` is the Unix time of the monotonic `now`."""
        found = [
            BanView(key_text(key), ban.reason, wall + ban.until - now)
            for key, ban in self._bans.items()
            if ban.until > now
        ]
        slowed = (
            BanView(key_text(key), each.reason, wall + each.until - now, kind="slowed")
            for key, each in self._suspects.items()
            if each.until > now
        )
        return [*found, *itertools.islice(slowed, MAX_SHOWN)]

    def banned(self, now: float) -> int:
        """How many addresses are banned."""
        return sum(ban.until > now for ban in self._bans.values())

    def unban(self, address: str) -> bool:
        """Lift a ban, or what slows an address down, and forget its history."""
        key = parse_key(address)
        ban = self._bans.pop(key, None)
        if ban is not None:
            self._on_unban(StoredBan(key_text(key), ban.reason, self._wall(), ban.length_s))
        return self._suspects.pop(key, None) is not None or ban is not None

    def _ban(self, key: str, reason: str, now: float) -> None:
        known = self._bans.get(key)
        length = self._table.ban_s
        if known is not None and now - known.until < FORGIVEN_S:
            length = min(known.length_s * 2, LONGEST_BAN_S)
        _make_room(self._bans)
        self._bans[key] = _Ban(now + length, reason, length)
        self._on_ban(StoredBan(key_text(key), reason, self._wall() + length, length))

    def _slow_down(self, key: str, reason: str, now: float) -> None:
        if key not in self._suspects:
            _make_room(self._suspects)
            self._on_suspect(key_text(key), reason)
        self._suspects[key] = _Suspect(now + self._table.suspect_s, reason, now + self._table.suspect_pause_s)

    def forget(self, now: float) -> None:
        """Drop what slows nobody down any more; bans stay for a day, for the length of the next."""
        for key in [key for key, each in self._suspects.items() if each.until <= now]:
            del self._suspects[key]
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_S
            self._sweep(now)

    def _sweep(self, now: float) -> None:
        """Forget the addresses that are as good as new. Made anew, since a dictionary that was large stays so."""
        table = self._table
        full_s = table.burst / table.requests_per_s if table.requests_per_s else 0.0
        self._buckets = {key: each for key, each in self._buckets.items() if each[1] + full_s > now}
        self._strikes = {key: each for key, each in self._strikes.items() if each and each[-1] + table.window_s > now}
        self._proven = {key: until for key, until in self._proven.items() if until > now}
        self._bans = {key: ban for key, ban in self._bans.items() if ban.until + FORGIVEN_S > now}
        self._exempt_cache = {}

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
        raise Reject(501, headers=(("Allow", ALLOW),), rule="method")
    if request.uri.scheme not in ("sip", "sips", "tel"):
        raise Reject(416, rule="scheme")
    if request.cseq.number >= MAX_CSEQ:
        raise Reject(400, "CSeq is too high", rule="cseq")
    if request.max_forwards == 0 and (request.to.tag or method not in ("OPTIONS", "REGISTER")):
        raise Reject(483, rule="max-forwards")
    if request.has("proxy-require"):
        _unsupported(request.elements("proxy-require"))
    # What the edge itself answers, as registrar or as the end (RFC 3261 10.3 step 2, 8.2.2.3); other ends judge theirs
    if request.has("require") and (method == "REGISTER" or (method == "OPTIONS" and not request.to.tag)):
        _unsupported([option for option in request.elements("require") if option.lower() not in UNDERSTOOD])


def _unsupported(options: Sequence[str]) -> None:
    if options:
        raise Reject(420, headers=(("Unsupported", ", ".join(options)),), rule="extension")


def _make_room(table: dict[Any, Any]) -> None:
    """Keep a table that strangers can grow within its bound: the oldest entries go."""
    if len(table) >= MAX_ADDRESSES:
        for key in list(itertools.islice(table, MAX_ADDRESSES // 10)):
            del table[key]
