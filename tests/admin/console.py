"""A console over plain lists, for whoever talks to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nomad.ports import (
    AuditCheck,
    AuditEntry,
    AuditQuery,
    BanView,
    CallView,
    Cdr,
    CdrQuery,
    Deed,
    Lock,
    PolicyView,
    Registration,
    Reloaded,
    Status,
    Unavailable,
)
from tests.stores.samples import cdr, registration

STATUS = Status(
    version="1.2.3",
    started_at=1000.0,
    draining=False,
    registrations=2,
    calls=1,
    spool_records=3,
    listens=("udp:127.0.0.1:5060",),
    radius=(("127.0.0.1:1812", True),),
    pbx=(("asterisk", "sip:127.0.0.1:5070"),),
    policy=PolicyView("7", "ab" * 32, "policy.toml"),
    restart=("sip.listen",),
)
CALL = CallView(
    id="call-1", direction="out", user="alice", caller="alice@inria.example", callee="1000@inria.example",
    state="answered", started_at=1000.0, answered_at=1002.0, peer="192.0.2.1:5060",
)  # fmt: skip


@dataclass
class ListConsole:
    """Implements `ports.Console`."""

    state: Status = STATUS
    registered: list[Registration] = field(default_factory=lambda: [registration("alice", 1), registration("bob", 2)])
    active: list[CallView] = field(default_factory=lambda: [CALL])
    banned: list[BanView] = field(default_factory=lambda: [BanView("198.51.100.9", "scanner", 4102444800.0)])
    records: list[Cdr] = field(default_factory=lambda: [cdr(n) for n in range(5)])
    reload_says: str = ""
    restart: tuple[str, ...] = ()
    down: str = ""
    queries: list[CdrQuery] = field(default_factory=list)
    by: list[str] = field(default_factory=list)
    locked: list[Lock] = field(default_factory=lambda: [Lock("mallory", "stolen phone", "admin eve@::1", 1000.0)])
    entries: list[AuditEntry] = field(
        default_factory=lambda: [
            AuditEntry(n, 1000.0 + n, Deed("guard", "ban", f"198.51.100.{n}", "auth", (("seconds", "60"),)), f"hash{n}")
            for n in (1, 2, 3)
        ]
    )
    checked: AuditCheck = field(default_factory=lambda: AuditCheck(3, "hash3"))

    async def status(self) -> Status:
        if self.down:
            raise Unavailable(self.down)
        return self.state

    async def registrations(self) -> Sequence[Registration]:
        return self.registered

    async def calls(self) -> Sequence[CallView]:
        return self.active

    async def hangup(self, call: str, *, by: str = "") -> bool:
        self.by.append(by)
        before = len(self.active)
        self.active = [each for each in self.active if each.id != call]
        return len(self.active) < before

    async def kick(self, user: str, *, by: str = "") -> int:
        self.by.append(by)
        gone = sum(len(each.bindings) for each in self.registered if each.user == user)
        self.registered = [each for each in self.registered if each.user != user]
        return gone

    async def bans(self) -> Sequence[BanView]:
        return self.banned

    async def unban(self, address: str, *, by: str = "") -> bool:
        self.by.append(by)
        before = len(self.banned)
        self.banned = [each for each in self.banned if each.address != address]
        return len(self.banned) < before

    async def cdrs(self, query: CdrQuery) -> Sequence[Cdr]:
        if self.down:
            raise Unavailable(self.down)
        self.queries.append(query)
        found = [
            each
            for each in self.records
            if query.user in ("", each.user)
            and (query.since is None or each.started_at >= query.since)
            and (query.until is None or each.started_at < query.until)
        ]
        return sorted(found, key=lambda each: (-each.started_at, each.id))[: query.limit]

    async def reload(self, *, by: str = "") -> Reloaded:
        self.by.append(by)
        return Reloaded(self.reload_says, self.restart, self.state.policy)

    async def drain(self, *, by: str = "") -> None:
        self.by.append(by)
        self.state = replace(self.state, draining=True)

    async def lock(self, user: str, *, why: str, by: str = "") -> int:
        self.by.append(by)
        self.locked.append(Lock(user, why, by, 2000.0))
        return 2

    async def unlock(self, user: str, *, by: str = "") -> bool:
        self.by.append(by)
        before = len(self.locked)
        self.locked = [each for each in self.locked if each.user != user]
        return len(self.locked) < before

    async def locks(self) -> Sequence[Lock]:
        return self.locked

    async def audit(self, query: AuditQuery) -> Sequence[AuditEntry]:
        found = [each for each in self.entries[::-1] if query.since is None or each.at >= query.since]
        return [each for each in found if query.before is None or each.number < query.before][: query.limit]

    async def verify_audit(self) -> AuditCheck:
        return self.checked
