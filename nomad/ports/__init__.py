"""Every seam of the edge: what can be swapped stands here, what does not stand here cannot.

An adapter raises `Unavailable` (and `Conflict` where written) and nothing else; `edge` decides what that means.
Imports `nomad.sip` values only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nomad.ports.records import BUILT_IN as BUILT_IN
from nomad.ports.records import Cdr as Cdr
from nomad.ports.records import CdrQuery as CdrQuery
from nomad.ports.records import CdrStore as CdrStore
from nomad.ports.records import PolicyStore as PolicyStore
from nomad.ports.records import PolicyVersion as PolicyVersion
from nomad.ports.records import PolicyView as PolicyView
from nomad.ports.records import UsageQuery as UsageQuery
from nomad.ports.records import UserUsage as UserUsage
from nomad.ports.watch import AccountSwitch as AccountSwitch
from nomad.ports.watch import Alarm as Alarm
from nomad.ports.watch import AuditCheck as AuditCheck
from nomad.ports.watch import AuditEntry as AuditEntry
from nomad.ports.watch import AuditLog as AuditLog
from nomad.ports.watch import AuditQuery as AuditQuery
from nomad.ports.watch import BanStore as BanStore
from nomad.ports.watch import Deed as Deed
from nomad.ports.watch import Lock as Lock
from nomad.ports.watch import LockStore as LockStore
from nomad.ports.watch import Notifier as Notifier
from nomad.ports.watch import Recorder as Recorder
from nomad.ports.watch import StoredBan as StoredBan
from nomad.sip.bindings import Binding as Binding
from nomad.sip.events import ClientKey, Event, Flow, ServerKey
from nomad.sip.message import Request, Response
from nomad.sip.uri import Uri


class Unavailable(Exception):
    """Something outside did not do its part; the text says what and why, for the log."""


class Undeliverable(Unavailable):
    """Something outside will not take this, however often it is asked."""


class Conflict(Exception):
    """The stored value changed since it was read; read again and retry."""


# -- who may come in ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proof:
    """Digest credentials as a phone sent them, with the request method (RFC 7616 3.4). The password is not in it."""

    username: str
    realm: str
    nonce: str
    uri: str
    method: str
    response: str
    algorithm: str = "MD5"
    qop: str = ""
    nc: str = ""
    cnonce: str = ""
    opaque: str = ""
    body_hash: str = ""  # hex hash of the body, for qop=auth-int only
    address: str = ""  # the address of record that the request is about, user@host


@dataclass(frozen=True, slots=True)
class Limits:
    """How much somebody may call; None is no limit. Emergency calls have none."""

    concurrent_calls: int | None = None
    calls_per_hour: int | None = None
    seconds_per_day: float | None = None
    seconds_per_month: float | None = None
    cost_per_day: float | None = None  # in the currency of the policy's tariffs
    call_s: float | None = None  # how long one call may last


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Grant:
    """What the AAA server says of a person whose credentials it accepted."""

    user: str  # canonical login, the key of everything we keep about the person
    addresses: tuple[str, ...] = ()  # SIP addresses that the person owns, user@domain, lower case
    extension: str = ""  # the person's number at the PBX
    groups: tuple[str, ...] = ()  # policy groups: LDAP groups, Filter-Id
    classes: tuple[bytes, ...] = ()  # RADIUS Class, echoed in accounting (RFC 2865 5.25)
    display_name: str = ""
    session_timeout_s: int | None = None
    idle_timeout_s: int | None = None
    interim_interval_s: int | None = None
    message: str = ""  # Reply-Message
    limits: Limits = NO_LIMITS  # the person's own; the smaller of these and the policy group's counts
    allowed_classes: tuple[str, ...] = ()  # number classes; empty: the policy alone decides


@dataclass(frozen=True, slots=True)
class Refusal:
    """The AAA server refused the credentials; it does not say whether user or password was wrong."""

    message: str = ""  # for the user, one line
    final: bool = False  # the credentials were right, the person may not come in: asking again is of no use


class Authenticator(Protocol):
    """Checks digest credentials."""

    async def check(self, proof: Proof) -> Grant | Refusal:
        """Ask the AAA server. Raises `Unavailable` when no server answered in time."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """A grant, with what checks the same person's next proof; "" when the server does not trust us with it."""

    grant: Grant
    ha1: str = field(default="", repr=False)  # hex, of the proof's username, realm and algorithm (RFC 7616 3.4.2)


class Voucher(Protocol):
    """An AAA server that may trust us with secrets."""

    async def vouch(self, proof: Proof) -> Vouched | Refusal:
        """Ask the AAA server. Raises `Unavailable` when no server answered in time."""


# -- what the AAA server orders later (RFC 5176) -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Whom:
    """Whose sessions an order is about: those that fit everything that is given (RFC 5176 3)."""

    user: str = ""
    session: str = ""  # Acct-Session-Id
    calling: str = ""  # Calling-Station-Id
    called: str = ""  # Called-Station-Id
    classes: tuple[bytes, ...] = ()
    by: str = field(default="", compare=False)  # who orders it, for the audit log


@dataclass(frozen=True, slots=True)
class Change:
    """New limits of running sessions; None leaves one as it is."""

    session_timeout_s: int | None = None  # from the answer of the call, as in an Access-Accept
    interim_interval_s: int | None = None
    groups: tuple[str, ...] | None = None  # in place of those that the person had
    allowed_classes: tuple[str, ...] | None = None
    limits: Limits = NO_LIMITS  # those that are given; the others stay


class OrderTaker(Protocol):
    """Carries out what the AAA server orders about sessions that it authorised before."""

    async def disconnect(self, whom: Whom) -> int:
        """End these sessions; how many calls and bindings there were. Raises `Unavailable`."""

    async def change(self, whom: Whom, change: Change) -> int:
        """Give these people and calls other limits; how many sessions there were. Raises `Unavailable`."""


# -- where people are --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registration:
    """All bindings of one person. `version` 0 means nothing is stored."""

    user: str
    version: int = 0
    bindings: tuple[Binding, ...] = ()
    extension: str = ""
    addresses: tuple[str, ...] = ()
    grant: Grant | None = None  # the newest grant, so that a call to the person knows who that is


class LocationStore(Protocol):
    """Registrations by user."""

    async def get(self, user: str) -> Registration:
        """The registration of a user; version 0 and no bindings when there is none."""

    async def save(self, registration: Registration) -> None:
        """Store if the stored version still is `registration.version` (then increased), else raise `Conflict`."""

    async def find(self, address: str) -> str:
        """The user who owns this extension or SIP address among the registered, "" when nobody."""

    async def expire(self, now: float) -> Sequence[tuple[str, Binding]]:
        """Drop bindings that expired before `now` (Unix seconds); return them with their users."""

    def browse(self) -> AsyncIterator[Registration]:
        """Every registration, in no order."""


class NonceWindow(Protocol):
    """Remembers the nonce counts that were used (RFC 7616 3.4, nc)."""

    async def accept(self, nonce: str, count: int, expires_at: float) -> bool:
        """True the first time for this nonce and count. Entries may be forgotten after `expires_at` (Unix seconds)."""


# -- what happened -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccountingRecord:
    """One RADIUS Accounting-Request to be, by attribute names of the dictionary (RFC 2866)."""

    id: str  # unique; a record sent twice carries the same
    session: str  # Acct-Session-Id; records of one session are delivered in order
    status: str  # Start, Interim-Update, Stop, Accounting-On, Accounting-Off
    user: str
    at: float  # Unix seconds of the event; Acct-Delay-Time is worked out when sending
    attributes: tuple[tuple[str, str | int | bytes], ...] = ()


class AccountingSink(Protocol):
    """Where accounting records go."""

    async def send(self, record: AccountingRecord) -> None:
        """Return when a server acknowledged the record. Raises `Unavailable`, `Undeliverable` when it never can be."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """An accounting record that waits in the spool."""

    position: int
    record: AccountingRecord
    attempts: int


@dataclass(frozen=True, slots=True)
class SpoolState:
    """How much waits, and since when."""

    records: int
    oldest_at: float | None  # Unix seconds of the record that waits longest
    undeliverable: int = 0  # records that were set aside


class Spool(Protocol):
    """Durable queue of accounting records on this node."""

    def append(self, records: Sequence[AccountingRecord]) -> Awaitable[None]:
        """Done when the records would survive a crash."""

    async def waiting(self, limit: int, *, after: int = 0) -> Sequence[Spooled]:
        """The oldest waiting records with a position above `after`, in order."""

    async def delivered(self, positions: Sequence[int]) -> None:
        """Forget records that the server acknowledged; a crash soon after may bring them back."""

    async def failed(self, positions: Sequence[int], *, final: str = "") -> None:
        """Count one more attempt; with `final`, the reason, set the records aside: they wait no more, and are kept."""

    def state(self) -> SpoolState:
        """What the metrics show; kept in memory, costs nothing."""


@dataclass(frozen=True, slots=True)
class LiveCall:
    """A call in progress as it survives a crash: enough to route its BYE, to end it and to account it."""

    id: str
    data: bytes  # the edge's own encoding (edge/calls.py)
    updated_at: float


class CallStore(Protocol):
    """Calls in progress."""

    def put(self, call: LiveCall) -> Awaitable[None]:
        """Insert or replace, durably."""

    def remove(self, id: str) -> Awaitable[None]:
        """Forget an ended call, durably."""

    async def load(self) -> Sequence[LiveCall]:
        """Every stored call, when the edge starts."""


# -- towards SIP peers -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """One place to try (RFC 3263): an address, not a name, unless `name` must be checked in a certificate."""

    transport: str
    host: str
    port: int
    name: str = ""


class Resolver(Protocol):
    """SIP URI to targets (RFC 3263)."""

    async def resolve(self, uri: Uri) -> Sequence[Target]:
        """Targets in the order to try. Raises `Unavailable` when the DNS does not answer or knows nothing."""


class Signalling(Protocol):
    """The SIP endpoint as the edge sees it. Nothing here waits for the peer except `connect`."""

    def respond(self, key: ServerKey, response: Response) -> None:
        """Answer a request; final and provisional. Does nothing when the transaction is gone."""

    def request(self, request: Request, flow: Flow, *, patience_s: float | None = None) -> ClientKey:
        """Send a request in a new client transaction; its top Via must already carry our branch.

        An INVITE without any answer times out after `patience_s`, when that is less than timer B.
        """

    def cancel(self, key: ClientKey, headers: Sequence[tuple[str, str]] = ()) -> None:
        """CANCEL an INVITE that has no final response yet, as soon as RFC 3261 9.1 allows."""

    def forward(self, message: Request | Response, flow: Flow) -> None:
        """Send without a transaction: the ACK of a 2xx, a response that belongs to no transaction."""

    async def connect(self, target: Target) -> Flow:
        """A flow to a target, over an existing connection when there is one. Raises `Unavailable`."""


class Countries(Protocol):
    """Where addresses are."""

    def of(self, address: str) -> str | None:
        """The ISO 3166 code of an address, None when it is not known. Returns at once."""


class FlowWatch(Protocol):
    """Looks after flows by which phones promised to send keepalives (RFC 5626 4.4)."""

    def expect_keepalives(self, flow: Flow, within_s: float) -> None:
        """When nothing came by the flow for so long, it is given up: `FlowClosed` follows."""


class EventHandler(Protocol):
    """What the endpoint calls. Both return at once; longer work goes into a task."""

    def handle(self, event: Event) -> None:
        """One event from the stack or the transport."""

    def malformed(self, flow: Flow, reason: str, text: str) -> None:
        """Bytes that were no SIP message; the endpoint has already answered if that was possible."""


class Gate(Protocol):
    """Asked before a datagram is parsed and before a connection is accepted."""

    def admits(self, address: str, now: float, connected: bool = False) -> bool:
        """Whether to look at what this address sends; `now` is the monotonic clock in seconds.

        `connected`: it came over a connection, so nobody else sent it in the name of this address.
        """


# -- media -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MediaStats:
    """What a relay counted for one call."""

    packets: int = 0
    octets: int = 0
    lost: int = 0


class MediaRelay(Protocol):
    """Anchors the media of a call. The relay `off` passes bodies through."""

    async def offer(self, call: str, body: bytes, *, from_flow: Flow, to_flow: Flow) -> bytes:
        """The session description to forward in place of an offer. Raises `Unavailable`."""

    async def answer(self, call: str, body: bytes, *, from_flow: Flow, to_flow: Flow) -> bytes:
        """The same for the answer."""

    async def close(self, call: str) -> MediaStats:
        """Free the call's ports; zeros when the relay knows nothing of it."""


# -- the console -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallView:
    """A live call as people see it."""

    id: str
    direction: str
    user: str
    caller: str
    callee: str
    state: str  # trying, ringing, answered
    started_at: float
    answered_at: float | None
    peer: str


@dataclass(frozen=True, slots=True)
class BanView:
    """A banned address, or a network (IPv6)."""

    address: str
    reason: str
    until: float  # Unix seconds
    kind: str = "banned"  # or slowed: suspected of what may be forged


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of a reload."""

    why: str = ""  # why nothing changed, "" when it was taken up
    restart: tuple[str, ...] = ()  # keys that changed since the edge started and need a new process
    policy: PolicyView = BUILT_IN


@dataclass(frozen=True, slots=True)
class Status:
    """The edge at a glance."""

    version: str
    started_at: float
    draining: bool
    registrations: int
    calls: int
    spool_records: int
    spool_undeliverable: int = 0
    listens: tuple[str, ...] = ()
    radius: tuple[tuple[str, bool], ...] = field(default=())  # server, up
    pbx: tuple[tuple[str, str], ...] = field(default=())  # name, uri
    policy: PolicyView = BUILT_IN
    restart: tuple[str, ...] = ()  # keys that changed in the file and need a new process


class Console(Protocol):
    """The one object that the admin pages, the API and the commands may ask or command.

    `by` is who commands, for the audit log.
    """

    async def status(self) -> Status:
        """The edge at a glance."""

    async def registrations(self) -> Sequence[Registration]:
        """Every registration, by user."""

    async def calls(self) -> Sequence[CallView]:
        """Every call in progress, oldest first."""

    async def hangup(self, call: str, *, by: str = "") -> bool:
        """End a call by its id with a BYE to both sides; False when there is no such call."""

    async def kick(self, user: str, *, by: str = "") -> int:
        """Remove a person's registrations and end the person's calls; how many bindings and calls went."""

    async def lock(self, user: str, *, why: str, by: str = "") -> int:
        """Let nobody in with this account, and kick the user; how many bindings and calls went."""

    async def unlock(self, user: str, *, by: str = "") -> bool:
        """Let the user in again; False when the account was not locked."""

    async def locks(self) -> Sequence[Lock]:
        """Locked accounts, oldest first."""

    async def audit(self, query: AuditQuery) -> Sequence[AuditEntry]:
        """What was done, newest first."""

    async def verify_audit(self) -> AuditCheck:
        """Whether the audit log is what was written."""

    async def bans(self) -> Sequence[BanView]:
        """Banned addresses."""

    async def unban(self, address: str, *, by: str = "") -> bool:
        """Lift a ban; False when there was none."""

    async def cdrs(self, query: CdrQuery) -> Sequence[Cdr]:
        """Call records, newest first."""

    async def reload(self, *, by: str = "") -> Reloaded:
        """Reload configuration and policy; on an error nothing changes."""

    async def drain(self, *, by: str = "") -> None:
        """Refuse new work; calls in progress go on."""
