"""What keeps accounts locked and deeds on record, in memory; each can be told to be down."""

from __future__ import annotations

from collections.abc import Sequence

from nomad.ports import Alarm, AuditCheck, AuditEntry, AuditQuery, Deed, Lock, Unavailable


class MemoryLocks:
    """Locked accounts."""

    def __init__(self) -> None:
        self.down = False
        self.locks: dict[str, Lock] = {}

    async def put(self, lock: Lock) -> None:
        """Keep."""
        self._check()
        self.locks[lock.user] = lock

    async def remove(self, user: str) -> None:
        """Forget."""
        self._check()
        self.locks.pop(user, None)

    async def load(self) -> Sequence[Lock]:
        """All."""
        return sorted(self.locks.values(), key=lambda lock: lock.at)

    def _check(self) -> None:
        if self.down:
            raise Unavailable("no database")


class MemoryAudit:
    """An audit log without hashes."""

    def __init__(self) -> None:
        self.down = False
        self.entries: list[AuditEntry] = []

    @property
    def deeds(self) -> list[tuple[str, str, str]]:
        """By whom, what, to whom."""
        return [(each.deed.by, each.deed.action, each.deed.what) for each in self.entries]

    async def append(self, deeds: Sequence[tuple[float, Deed]]) -> Sequence[AuditEntry]:
        """Keep."""
        if self.down:
            raise Unavailable("no database")
        added = [AuditEntry(len(self.entries) + n, at, deed, f"hash{n}") for n, (at, deed) in enumerate(deeds, 1)]
        self.entries += added
        return added

    async def read(self, query: AuditQuery) -> Sequence[AuditEntry]:
        """Newest first."""
        found = [each for each in self.entries if query.before is None or each.number < query.before]
        return [each for each in found[::-1] if query.since is None or each.at >= query.since][: query.limit]

    async def verify(self) -> AuditCheck:
        """Nobody changed anything."""
        return AuditCheck(len(self.entries), self.entries[-1].hash if self.entries else "")


class ListNotifier:
    """Keeps alarms."""

    def __init__(self) -> None:
        self.alarms: list[Alarm] = []

    def tell(self, alarm: Alarm) -> None:
        """Keep it."""
        self.alarms.append(alarm)


class ListRecorder:
    """Keeps deeds."""

    def __init__(self) -> None:
        self.deeds: list[Deed] = []

    def record(self, deed: Deed) -> None:
        """Keep it."""
        self.deeds.append(deed)
