"""Registrations and nonce counts in this process. Survives nothing by itself; `snapshot.py` keeps the registrations."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace

from nomad.ports import Binding, Conflict, Registration

EXPIRE_AT_ONCE = 200  # bindings, then other work has its turn
NONCE_COUNTS = 256  # how far a nonce count may be behind the highest one (requests overtake each other)
MAX_NONCES = 100_000
FIRST_COUNT = (1, 1)  # of a nonce that was used once, as most are: one object for all
STALE_ENTRIES = 1000  # outdated entries that the expiry heap may hold besides one for each user


class MemoryLocations:
    """A `LocationStore`. `on_change` hears of each registration that changed; without bindings means it is gone.

    Versions come from one counter, so that a registration that was removed and made anew never has an old version.
    An address that two people claim stays with the first until that one's registration ends.
    """

    def __init__(self, *, on_change: Callable[[Registration], None] | None = None) -> None:
        self._by_user: dict[str, Registration] = {}
        self._owners: dict[str, str | tuple[str, ...]] = {}  # extension or address -> user(s), first come first
        self._on_change = on_change
        self._version = 0
        self._bindings = 0
        self._expiries: list[tuple[float, str]] = []  # for each user one that is no later than its first expiry

    def __len__(self) -> int:
        return len(self._by_user)

    @property
    def bindings(self) -> int:
        """How many contacts are registered; costs nothing."""
        return self._bindings

    def fill(self, registrations: Iterable[Registration]) -> None:
        """Take over registrations from a snapshot, when the edge starts."""
        for registration in registrations:
            self._version = max(self._version, registration.version)
            self._put(registration)

    async def get(self, user: str) -> Registration:
        """The registration of a user; version 0 and no bindings when there is none."""
        return self._by_user.get(user) or Registration(user)

    async def save(self, registration: Registration) -> None:
        """Store if the stored version still is `registration.version`, else raise `Conflict`."""
        stored = self._by_user.get(registration.user)
        if registration.version != (stored.version if stored else 0):
            raise Conflict(f"registration of {registration.user!r} changed meanwhile")
        self._store(registration)

    async def find(self, address: str) -> str:
        """The user who owns this extension or SIP address among the registered, "" when nobody."""
        owner = self._owners.get(address) or self._owners.get(address.lower(), "")
        return owner if isinstance(owner, str) else owner[0]

    async def expire(self, now: float) -> Sequence[tuple[str, Binding]]:
        """Drop bindings that expired before `now` (Unix seconds); return them with their users."""
        gone: list[tuple[str, Binding]] = []
        breathe_at = EXPIRE_AT_ONCE
        while self._expiries and self._expiries[0][0] < now:
            _, user = heapq.heappop(self._expiries)
            registration = self._by_user.get(user)
            if registration is None:
                continue
            kept = tuple(binding for binding in registration.bindings if binding.expires_at >= now)
            if kept:  # in place of the entry that was taken: of those that are left, or that were refreshed meanwhile
                heapq.heappush(self._expiries, (min([binding.expires_at for binding in kept]), user))
            if len(kept) == len(registration.bindings):
                continue
            gone.extend((user, binding) for binding in registration.bindings if binding.expires_at < now)
            self._store(replace(registration, bindings=kept))
            if len(gone) >= breathe_at:  # after an outage thousands may expire together; calls must not wait for that
                breathe_at = len(gone) + EXPIRE_AT_ONCE
                await asyncio.sleep(0)
        return gone

    async def browse(self) -> AsyncIterator[Registration]:
        """Every registration as of now, in no order."""
        for registration in list(self._by_user.values()):
            yield registration

    def _store(self, registration: Registration) -> None:
        self._version += 1
        registration = replace(registration, version=self._version)
        if registration.bindings:
            self._put(registration)
        else:
            self._remove(registration.user)
        if self._on_change is not None:
            self._on_change(registration)

    def _put(self, registration: Registration) -> None:
        user = registration.user
        old = self._by_user.get(user)
        self._by_user[user] = registration
        self._bindings += len(registration.bindings) - (len(old.bindings) if old else 0)
        if old is None:
            self._claim(user, _keys(registration))
        elif old.extension != registration.extension or old.addresses != registration.addresses:
            before, after = _keys(old), _keys(registration)
            self._release(user, before - after)
            self._claim(user, after - before)
        self._schedule(registration, old)

    def _remove(self, user: str) -> None:
        old = self._by_user.pop(user, None)
        if old is not None:
            self._bindings -= len(old.bindings)
            self._release(user, _keys(old))

    def _claim(self, user: str, keys: Iterable[str]) -> None:
        for key in keys:
            owner = self._owners.get(key)
            if owner is None:
                self._owners[key] = user
            else:
                self._owners[key] = (*((owner,) if isinstance(owner, str) else owner), user)

    def _release(self, user: str, keys: Iterable[str]) -> None:
        for key in keys:
            owner = self._owners[key]
            if isinstance(owner, str):
                del self._owners[key]
                continue
            left = tuple(other for other in owner if other != user)
            self._owners[key] = left if len(left) > 1 else left[0]

    def _schedule(self, registration: Registration, old: Registration | None) -> None:
        """Pushed anew only when something expires earlier than before; what is outdated is found out in time."""
        first = _first_expiry(registration)
        if old is not None and _first_expiry(old) <= first:
            return
        heapq.heappush(self._expiries, (first, registration.user))
        if len(self._expiries) > 2 * len(self._by_user) + STALE_ENTRIES:
            self._expiries = [(_first_expiry(each), user) for user, each in self._by_user.items()]
            heapq.heapify(self._expiries)


class MemoryNonceWindow:
    """A `NonceWindow` with a sliding window of counts for each nonce (RFC 7616 3.4).

    When it is full, the nonce that expires first is forgotten, and from then on unknown nonces that expire no later
    than it are refused: the phone gets a new nonce, a replay gets nothing.
    """

    def __init__(self, *, wall: Callable[[], float] = time.time, limit: int = MAX_NONCES) -> None:
        self._wall = wall
        self._limit = limit
        self._seen: dict[str, tuple[int, int]] = {}  # nonce -> highest count, bits of the counts below it
        self._expiries: list[float] = []  # each once
        self._ending: dict[float, list[str]] = {}  # nonces by expiry: many are made within one second
        self._forgotten_until = 0.0

    def __len__(self) -> int:
        return len(self._seen)

    async def accept(self, nonce: str, count: int, expires_at: float) -> bool:
        """True the first time for this nonce and count. Entries are forgotten after `expires_at` (Unix seconds)."""
        known = self._seen.get(nonce)
        if known is None:
            return self._begin(nonce, count, expires_at)
        highest, used = known
        if count > highest:
            shift = min(count - highest, NONCE_COUNTS)
            used = ((used << shift) | 1) & ((1 << NONCE_COUNTS) - 1)
            self._seen[nonce] = (count, used)
            return True
        bit = 1 << (highest - count)
        if highest - count >= NONCE_COUNTS or used & bit:
            return False
        self._seen[nonce] = (highest, used | bit)
        return True

    def _begin(self, nonce: str, count: int, expires_at: float) -> bool:
        self._forget(self._wall())
        if expires_at <= self._forgotten_until:
            return False
        self._seen[nonce] = FIRST_COUNT if count == 1 else (count, 1)
        ending = self._ending.get(expires_at)
        if ending is None:
            self._ending[expires_at] = [nonce]
            heapq.heappush(self._expiries, expires_at)
        else:
            ending.append(nonce)
        return True

    def _forget(self, now: float) -> None:
        """Make room: what expired, and when that is not enough what expires first."""
        while self._expiries and (self._expiries[0] < now or len(self._seen) >= self._limit):
            expired_at = self._expiries[0]
            ending = self._ending[expired_at]
            del self._seen[ending.pop()]
            if not ending:
                del self._ending[expired_at]
                heapq.heappop(self._expiries)
            self._forgotten_until = max(self._forgotten_until, expired_at)


def _first_expiry(registration: Registration) -> float:
    return min([binding.expires_at for binding in registration.bindings])


def _keys(registration: Registration) -> set[str]:
    keys = {address if address.islower() else address.lower() for address in registration.addresses}  # no copies
    if registration.extension:
        keys.add(registration.extension)
    return keys
