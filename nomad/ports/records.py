"""Seams of what is kept of calls and of the policy: call records, what they add up to, versions of the policy."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Cdr:
    """One finished call, or one refused attempt. Times are Unix seconds."""

    id: str  # Acct-Session-Id of the call
    call_id: str
    direction: str  # out: from a roaming phone; in: to roaming phones
    user: str
    caller: str  # user@host
    callee: str
    number_class: str
    started_at: float
    answered_at: float | None
    ended_at: float
    duration_s: float  # from the answer; 0 when there was none
    result: str  # answered, busy, cancelled, no-answer, refused, failed
    status: int  # final SIP status
    rule: str  # the policy rule or check that refused, "" otherwise
    reason: str  # the reason phrase that the caller saw when it was refused or failed
    terminate_cause: str  # Acct-Terminate-Cause by name, "" when never answered
    peer: str  # source address of the phone
    user_agent: str
    number: str = ""  # as the policy judged it, in E.164 where the site's rules say how
    group: str = ""  # policy group that judged the call
    groups: tuple[str, ...] = ()  # what RADIUS said of the person: LDAP groups, Filter-Id
    classes: tuple[bytes, ...] = ()  # RADIUS Class
    transport: str = ""  # that the phone used
    policy: str = ""  # which policy judged: number of the version, or the beginning of its SHA-256
    cost: float = 0.0  # by the tariff of that policy
    chain: str = ""  # rules that led to the verdict


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """From which moments to add up what people's own calls came to; Unix seconds."""

    month: float
    day: float
    hour: float
    until: float
    exempt: tuple[str, ...] = ()  # classes of numbers that count for nothing


@dataclass(frozen=True, slots=True)
class UserUsage:
    """What finished calls of one person come to; a call that began before a period counts with its part in it."""

    user: str
    seconds_month: float
    seconds_day: float
    cost_day: float
    calls: tuple[float, ...] = ()  # when calls of the last hour began, oldest first


@dataclass(frozen=True, slots=True)
class CdrQuery:
    """Which call records to read; newest first."""

    user: str = ""
    since: float | None = None
    until: float | None = None
    limit: int = 1000


class CdrStore(Protocol):
    """Call records."""

    def add(self, records: Sequence[Cdr]) -> Awaitable[None]:
        """Store; a record id that is already there is not added again."""

    async def query(self, query: CdrQuery) -> Sequence[Cdr]:
        """Read, newest first."""

    async def usage(self, query: UsageQuery) -> Sequence[UserUsage]:
        """What people's own calls that have ended came to; added up in the store."""


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One text that the policy had. Numbers have no gaps."""

    number: int
    at: float  # Unix seconds
    by: str
    why: str
    sha: str  # SHA-256 of the text in UTF-8, hex
    text: str
    restores: int | None = None  # the version that this one brings back
    failed_tests: int = 0  # expected verdicts that it breaks, when it was forced


class PolicyStore(Protocol):
    """Every version of the policy, in the order in which they were applied."""

    async def add(self, versions: Sequence[PolicyVersion]) -> None:
        """Store all or nothing; the first must follow the newest that is there, else raises `Conflict`."""

    async def get(self, number: int) -> PolicyVersion | None:
        """One version."""

    async def find(self, sha: str) -> PolicyVersion | None:
        """The newest version with this text."""

    async def history(self, limit: int) -> Sequence[PolicyVersion]:
        """The newest versions, newest first."""

    async def withdraw(self, number: int) -> None:
        """Forget a version that could not be put in force, if it is the newest; else raises `Conflict`."""


@dataclass(frozen=True, slots=True)
class PolicyView:
    """The policy that is in force."""

    version: str  # its number in the store, "unversioned" when it was never applied, or "built-in"
    sha: str = ""  # SHA-256 of the file, hex
    source: str = ""

    @property
    def short_sha(self) -> str:
        """Enough of it for people."""
        return self.sha[:12]


BUILT_IN = PolicyView("built-in")
