"""Locked accounts: whom nobody gets in as, whatever the AAA server says. Kept in the store, asked from memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from nomad import log
from nomad.ports import AccountSwitch, Lock, LockStore, Unavailable

logger = logging.getLogger(__name__)

MAX_WHY_CHARS = 200
DEVICE = "+"  # between a login and the name of a device (`nomad secret --device`)


class Locks:
    """Every locked account. With a `switch`, the directory is told too, so that other services refuse it as well."""

    def __init__(self, store: LockStore, domains: Sequence[str], switch: AccountSwitch | None = None) -> None:
        self._store = store
        self._domains = tuple(domains)
        self._switch = switch
        self._by_user: dict[str, Lock] = {}
        self._by_name: dict[str, Lock] = {}

    def __len__(self) -> int:
        return len(self._by_user)

    def all(self) -> list[Lock]:
        """Oldest first."""
        return sorted(self._by_user.values(), key=lambda lock: (lock.at, lock.user))

    async def load(self) -> None:
        """Take up what is stored, when the edge starts. Raises `Unavailable`."""
        for lock in await self._store.load():
            self._keep(lock)

    def of(self, login: str) -> Lock | None:
        """The lock on an account by what a phone logs in with: login, address, either with a device's name."""
        if not self._by_name:
            return None
        name = login.lower()
        local, at, domain = name.rpartition("@")
        if not at:
            local, domain = name, ""
        found = self._by_name.get(name)
        if found is None and (not domain or domain in self._domains):
            found = self._by_name.get(local) or self._by_name.get(local.partition(DEVICE)[0])
        return found

    async def add(self, lock: Lock) -> None:
        """Lock an account: from now on, before the store has it. Raises `Unavailable` when it will not survive."""
        self._drop(lock.user)
        self._keep(lock)
        await self._store.put(lock)
        if await self._tell(lock.user, on=False) and self._by_user.get(lock.user.lower()) is lock:
            lock = replace(lock, in_directory=True)
            self._keep(lock)
            await self._store.put(lock)

    async def remove(self, user: str) -> Lock | None:
        """Let a person in again; the lock that was there. Raises `Unavailable`, then it still is."""
        lock = self._by_user.get(user.lower()) or self.of(user)
        if lock is None:
            return None
        await self._store.remove(lock.user)
        self._drop(lock.user)
        if lock.in_directory:  # who was disabled there before stays so
            await self._tell(lock.user, on=True)
        return lock

    async def _tell(self, user: str, *, on: bool) -> bool:
        if self._switch is None:
            return False
        try:
            return await self._switch.switch(user, on=on)
        except Unavailable as error:
            log.event(logger, "directory-lock-failed", level=logging.WARNING, user=user, on=on, why=str(error))
            return False

    def _keep(self, lock: Lock) -> None:
        self._by_user[lock.user.lower()] = lock
        for name in _names(lock):
            self._by_name[name] = lock

    def _drop(self, user: str) -> None:
        lock = self._by_user.pop(user.lower(), None)
        if lock is not None:
            for name in _names(lock):
                self._by_name.pop(name, None)


def _names(lock: Lock) -> Iterable[str]:
    return dict.fromkeys((lock.user.lower(), *(name.lower() for name in lock.names)))
