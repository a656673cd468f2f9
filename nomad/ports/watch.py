"""Seams of the guard: bans, locked accounts, the audit log, and who is told of an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredBan:
    """A ban as it survives a restart."""

    address: str  # or a network (IPv6)
    reason: str
    until: float  # Unix seconds
    length_s: float  # the next one of the same address is longer


class BanStore(Protocol):
    """Bans."""

    async def put(self, ban: StoredBan) -> None:
        """Insert or replace, durably."""

    async def remove(self, address: str) -> None:
        """Forget one that was lifted."""

    async def load(self, since: float) -> Sequence[StoredBan]:
        """Those that ended after `since` (Unix seconds), or have not; older ones are forgotten."""


@dataclass(frozen=True, slots=True)
class Lock:
    """An account that nobody gets in with."""

    user: str  # canonical login
    why: str
    by: str
    at: float  # Unix seconds
    names: tuple[str, ...] = ()  # further logins of the person, lower case
    in_directory: bool = False  # whether it was we who had the directory refuse the account


class LockStore(Protocol):
    """Locked accounts."""

    async def put(self, lock: Lock) -> None:
        """Insert or replace; return when it would survive a crash."""

    async def remove(self, user: str) -> None:
        """Forget one."""

    async def load(self) -> Sequence[Lock]:
        """All, oldest first."""


class AccountSwitch(Protocol):
    """An account as the directory has it."""

    async def switch(self, user: str, *, on: bool) -> bool:
        """Let the directory refuse, or accept again, this login; whether that changed it. Raises `Unavailable`."""


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that was done to people, addresses, calls or the edge."""

    by: str  # guard, fraud, signal, "radius ADDRESS", "admin NAME@ADDRESS"
    action: str  # a fixed word: ban, unban, lock, unlock, kick, hangup, disconnect, change, reload, drain, ...
    what: str  # address, user, call id or version
    why: str = ""
    more: tuple[tuple[str, str], ...] = ()  # what else belongs on record


class Recorder(Protocol):
    """Where deeds are told."""

    def record(self, deed: Deed) -> None:
        """Put a deed on record. Returns at once; deeds keep their order."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A deed on record. `hash` covers all of it and the hash of the entry before."""

    number: int  # from 1, without gaps
    at: float  # Unix seconds
    deed: Deed
    hash: str


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which entries to read; newest first."""

    since: float | None = None
    before: int | None = None  # only entries with a lower number
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """Whether the audit log is what was written."""

    entries: int
    head: str = ""  # hash of the newest entry; whoever keeps it elsewhere notices when entries are cut off the end
    broken_at: int | None = None  # the first entry that is not what was written
    why: str = ""


class AuditLog(Protocol):
    """What was done, by whom and why; nothing is ever changed or removed."""

    async def append(self, deeds: Sequence[tuple[float, Deed]]) -> Sequence[AuditEntry]:
        """Put deeds, with their times in Unix seconds, behind the newest. Raises `Unavailable`."""

    async def read(self, query: AuditQuery) -> Sequence[AuditEntry]:
        """Entries, newest first."""

    async def verify(self) -> AuditCheck:
        """Look at every entry."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """What the watch over accounts noticed, for the admin."""

    at: float  # Unix seconds
    rule: str
    user: str
    why: str
    peer: str
    done: tuple[str, ...]  # actions taken
    calls: tuple[str, ...] = ()  # numbers of live calls that were ended


class Notifier(Protocol):
    """Tells the admin."""

    def tell(self, alarm: Alarm) -> None:
        """Send it. Returns at once; what cannot be sent is logged and counted."""
