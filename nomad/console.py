"""The one object that the admin API, the pages and the commands ask or command. Implements `ports.Console`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from nomad import __version__
from nomad.clock import Clock
from nomad.edge.calls import CallTable
from nomad.edge.guard import Guard
from nomad.edge.locks import MAX_WHY_CHARS, Locks
from nomad.edge.orders import Orders
from nomad.edge.switchboard import Switchboard
from nomad.ports import (
    AuditCheck,
    AuditEntry,
    AuditLog,
    AuditQuery,
    BanView,
    CallView,
    Cdr,
    CdrQuery,
    CdrStore,
    Deed,
    LocationStore,
    Lock,
    PolicyView,
    Recorder,
    Registration,
    Reloaded,
    Spool,
    Status,
    Whom,
)


@dataclass(frozen=True, slots=True)
class Knobs:
    """What only the composition root can do or tell."""

    reload: Callable[[str], Awaitable[Reloaded]]  # takes who asks for it
    drain: Callable[[], None]
    draining: Callable[[], bool]
    listens: Callable[[], tuple[str, ...]]
    radius: Callable[[], tuple[tuple[str, bool], ...]]
    pbx: Callable[[], tuple[tuple[str, str], ...]]
    policy: Callable[[], PolicyView]
    restart: Callable[[], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Wardens:
    """What keeps accounts locked and deeds on record."""

    locks: Locks
    audit: AuditLog
    recorder: Recorder


class EdgeConsole:
    """A running edge, seen and commanded by an admin."""

    def __init__(
        self,
        knobs: Knobs,
        *,
        calls: CallTable,
        switchboard: Switchboard,
        orders: Orders,
        guard: Guard,
        locations: LocationStore,
        cdrs: CdrStore,
        spool: Spool,
        wardens: Wardens,
        clock: Clock,
    ) -> None:
        self._knobs = knobs
        self._calls = calls
        self._switchboard = switchboard
        self._orders = orders
        self._guard = guard
        self._locations = locations
        self._cdrs = cdrs
        self._spool = spool
        self._locks = wardens.locks
        self._audit = wardens.audit
        self._recorder = wardens.recorder
        self._clock = clock
        self._started_at = clock.wall()

    async def status(self) -> Status:
        """The edge at a glance."""
        return Status(
            version=__version__,
            started_at=self._started_at,
            draining=self._knobs.draining(),
            registrations=sum(len(each.bindings) for each in await self.registrations()),
            calls=self._calls.live,
            spool_records=self._spool.state().records,
            spool_undeliverable=self._spool.state().undeliverable,
            listens=self._knobs.listens(),
            radius=self._knobs.radius(),
            pbx=self._knobs.pbx(),
            policy=self._knobs.policy(),
            restart=self._knobs.restart(),
        )

    async def registrations(self) -> Sequence[Registration]:
        """Every registration, by user."""
        return sorted([each async for each in self._locations.browse()], key=lambda each: each.user)

    async def calls(self) -> Sequence[CallView]:
        """Every call in progress, oldest first."""
        return self._calls.views()

    async def hangup(self, call: str, *, by: str = "") -> bool:
        """End a call by its id with a BYE to both sides."""
        found = self._calls.get(call)
        if found is None:
            return False
        self._record(by, "hangup", call, more=(("user", found.user), ("callee", found.callee_address)))
        await self._switchboard.hang_up(found, cause="Admin-Reset")
        return True

    async def kick(self, user: str, *, by: str = "") -> int:
        """Remove the registrations of a person and end the person's calls and subscriptions."""
        login = await self._orders.login_of(user)
        gone = await self._orders.disconnect(Whom(user=login))
        if gone:
            self._record(by, "kick", login, more=(("removed", str(gone)),))
        return gone

    async def lock(self, user: str, *, why: str, by: str = "") -> int:
        """Let nobody in with this account, and kick the person."""
        login = await self._orders.login_of(user)
        registration = await self._locations.get(login)
        why = why[:MAX_WHY_CHARS]
        self._record(by, "lock", login, why)
        await self._locks.add(Lock(login, why, by, self._clock.wall(), registration.addresses))
        return await self._orders.disconnect(Whom(user=login))

    async def unlock(self, user: str, *, by: str = "") -> bool:
        """Let the user in again."""
        lock = await self._locks.remove(user)
        if lock is not None:
            self._record(by, "unlock", lock.user)
        return lock is not None

    async def locks(self) -> Sequence[Lock]:
        """Locked accounts, oldest first."""
        return self._locks.all()

    async def audit(self, query: AuditQuery) -> Sequence[AuditEntry]:
        """What was done, newest first."""
        return await self._audit.read(query)

    async def verify_audit(self) -> AuditCheck:
        """Whether the audit log is what was written."""
        return await self._audit.verify()

    def _record(self, by: str, action: str, what: str, why: str = "", more: tuple[tuple[str, str], ...] = ()) -> None:
        self._recorder.record(Deed(by or "admin", action, what, why, more))

    async def bans(self) -> Sequence[BanView]:
        """Banned addresses."""
        return self._guard.bans(self._clock.monotonic(), self._clock.wall())

    async def unban(self, address: str, *, by: str = "") -> bool:
        """Lift a ban."""
        lifted = self._guard.unban(address)
        if lifted:
            self._record(by, "unban", address)
        return lifted

    async def cdrs(self, query: CdrQuery) -> Sequence[Cdr]:
        """Call records, newest first."""
        return await self._cdrs.query(query)

    async def reload(self, *, by: str = "") -> Reloaded:
        """Reload configuration and policy; on an error nothing changes."""
        return await self._knobs.reload(by or "admin")

    async def drain(self, *, by: str = "") -> None:
        """Refuse new work; calls in progress go on."""
        self._record(by, "drain", "edge")
        self._knobs.drain()
