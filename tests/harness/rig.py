"""The whole edge on a fake network: its real stack and services, and scripted peers that exchange bytes with it.

`on_rig` runs a test in a `VirtualLoop`, so that waiting costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

from nomad import tasks
from nomad.config import Accounting, Config, Events, Fraud, Pbx, Sip
from nomad.config import Guard as GuardTable
from nomad.console import EdgeConsole, Knobs, Wardens
from nomad.edge.accounting import Stores
from nomad.edge.addresses import OwnAddresses
from nomad.edge.audit import Auditor
from nomad.edge.calls import Call
from nomad.edge.guard import Guard
from nomad.edge.locks import Locks
from nomad.edge.names import Names
from nomad.edge.policy import Ruleset, compile_policy
from nomad.edge.services import Books, Rules, Services, Surroundings
from nomad.edge.trunks import Trunks, make_trunk
from nomad.edge.verdicts import Trust, Verdicts
from nomad.geoip import NoCountries
from nomad.inputs import load_scanners
from nomad.media.off import MediaOff
from nomad.metrics import Metrics
from nomad.ports import Grant, PolicyView, Reloaded
from nomad.sip.message import Request, Response
from nomad.stores.memory import MemoryLocations, MemoryNonceWindow
from tests.harness.fakes import (
    FakeAuthenticator,
    FakeSink,
    MemoryCalls,
    MemoryCdrs,
    MemorySpool,
    NumericResolver,
)
from tests.harness.line import EDGE, FakeSignalling, Network
from tests.harness.peers import DOMAIN, PEOPLE, SDP, Dialog, PbxPeer, Phone, dialog_of_callee, dialog_of_caller
from tests.harness.virtual import LoopClock, VirtualLoop
from tests.harness.wardens import ListNotifier, MemoryAudit, MemoryLocks

PBX_ADDRESS = ("10.0.0.5", 5070)
POLICY = """
timezone = "UTC"
[classes]
emergency = ["112"]
internal = ["re:[0-9]{4}"]
premium = ["0899"]
national = ["0"]
[[group]]
name = "boss"
match = { filter_id = "boss" }
allow = ["internal", "national", "premium"]
[[group]]
name = "staff"
match = { default = true }
allow = ["internal", "national"]
max_concurrent_calls = 2
max_call_minutes = 60
"""

_names = itertools.count(1)


class CountedNames(Names):
    """Names that one test run has like the next."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self._numbers = itertools.count(first)

    def take(self, length: int) -> str:
        """The next number."""
        return f"{next(self._numbers):0{length}x}"


@dataclass(slots=True)
class Talk:
    """An answered call: the dialogs of its two ends, and the edge's view of it."""

    caller: Dialog
    callee: Dialog
    call: Call
    invite: Request  # as the callee got it
    answer: Response  # as the caller got it


def quiet_sip(**more: object) -> Sip:
    """An endpoint whose calls are left alone, however long they last."""
    listen = ("udp:192.0.2.1:5060", "tcp:192.0.2.1:5060")
    return Sip(listen=listen, **{"session_expires_s": 0, "dialog_check_s": 0, **more})  # type: ignore[arg-type]


@dataclass(slots=True)
class Options:
    """What a scenario changes in the edge."""

    policy: str = POLICY
    sip: Sip = field(default_factory=quiet_sip)
    guard: GuardTable = field(default_factory=GuardTable)
    fraud: Fraud = field(default_factory=Fraud)
    accounting: Accounting = field(default_factory=Accounting)
    pbx_transport: str = "udp"
    events: Events = field(default_factory=Events)
    people: Mapping[str, tuple[str, Grant]] = field(default_factory=lambda: dict(PEOPLE))


class Rig:
    """The services of an edge over fakes."""

    network: Network
    sink: FakeSink
    spool: MemorySpool
    cdrs: MemoryCdrs
    live_calls: MemoryCalls
    locations: MemoryLocations
    stored_locks: MemoryLocks
    audit: MemoryAudit
    pbx: PbxPeer

    def __init__(self, options: Options | None = None, *, survivors: Rig | None = None) -> None:
        """`survivors` is an edge that crashed: its stores, network and peers stay."""
        options = options or Options()
        self.options = options
        self.clock = LoopClock()
        self.network = survivors.network if survivors else Network()
        self.authenticator = FakeAuthenticator(options.people)
        self.sink = survivors.sink if survivors else FakeSink()
        self.spool = survivors.spool if survivors else MemorySpool()
        self.cdrs = survivors.cdrs if survivors else MemoryCdrs()
        self.live_calls = survivors.live_calls if survivors else MemoryCalls()
        self.locations = survivors.locations if survivors else MemoryLocations()
        self.stored_locks = survivors.stored_locks if survivors else MemoryLocks()
        self.audit = survivors.audit if survivors else MemoryAudit()
        self.resolver = NumericResolver()
        self.metrics = Metrics()
        uri = f"sip:{PBX_ADDRESS[0]}:{PBX_ADDRESS[1]};transport={options.pbx_transport}"
        self.config = Config(
            domain=DOMAIN,
            pbx=(Pbx(name="pbx", uri=uri, trusted=(PBX_ADDRESS[0],)),),
            sip=options.sip,
            guard=options.guard,
            fraud=options.fraud,
            accounting=options.accounting,
            events=options.events,
        )
        self.ruleset: Ruleset = compile_policy(options.policy, "policy.toml")
        self._build(survivors)
        self.pbx = survivors.pbx if survivors else PbxPeer(self.network, PBX_ADDRESS, options.pbx_transport)
        self._jobs: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to deliver accounting and to keep house."""
        self._jobs = [
            asyncio.create_task(self.accountant.delivery.drain()),
            asyncio.create_task(self.housekeeping.run()),
        ]

    async def restore(self) -> None:
        """Take over what the edge before left; before `start`."""
        await self.books.restore(self.clock.wall())

    async def stop(self) -> None:
        """End the jobs."""
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        await self.auditor.close()

    def phone(self, user: str, *, transport: str = "udp", password: str = "", port: int = 0) -> Phone:
        """A phone of a person, somewhere on the Internet."""
        number = next(_names)
        return Phone(
            self.network, user, (f"198.51.100.{number % 250 + 1}", port or 10_000 + number), transport, password
        )

    def call(self) -> Call:
        """The only call in progress."""
        (call,) = self.calls
        return call

    async def talk(self, phone: Phone, number: str = "1000", **more: object) -> Talk:
        """A call from a phone to the PBX, answered and acknowledged."""
        sent = await phone.invite(number, **more)  # type: ignore[arg-type]
        invite = await self.pbx.request("INVITE")
        self.pbx.reply(invite, 180)
        await phone.response(180)
        answered = self.pbx.reply(invite, 200, body=SDP)
        answer = await phone.response(200)
        phone.inbox = [m for m in phone.inbox if not (isinstance(m, Response) and m.status == 100)]
        caller, callee = dialog_of_caller(sent, answer), dialog_of_callee(invite, answered)
        caller.cseq = sent.cseq.number
        phone.send(caller.request("ACK", phone.via()))
        await self.pbx.request("ACK")
        return Talk(caller, callee, self.calls_by_call_id(invite.call_id), invite, answer)

    def calls_by_call_id(self, call_id: str) -> Call:
        """The call in progress with this Call-ID."""
        return next(call for call in self.calls if call.call_id == call_id)

    def _build(self, survivors: Rig | None) -> None:
        config, clock = self.config, self.clock
        self.trunks = Trunks([make_trunk(pbx, places=[PBX_ADDRESS]) for pbx in config.pbx])
        self.guard = Guard(config.guard, exempt=[PBX_ADDRESS[0]], wall=clock.wall)
        self.auditor = Auditor(self.audit, clock=clock, metrics=self.metrics)
        self.locks = Locks(self.stored_locks, config.domains)
        self.notifier = ListNotifier()
        self.signalling = FakeSignalling(self.network, clock, self.guard)
        verdicts = Verdicts(self.authenticator, Trust(0.0, 0.0), clock=clock, metrics=self.metrics)
        listens = [("udp", *EDGE), ("tcp", *EDGE)]
        inside = {PBX_ADDRESS[0]: EDGE[0]}
        stores = Stores(self.spool, self.cdrs, self.live_calls)
        timezone = self.ruleset.timezone
        self.books = Books(config, stores, self.sink, timezone=timezone, clock=clock, metrics=self.metrics)
        services = Services(
            config,
            Surroundings(
                signalling=self.signalling,
                watch=self.signalling,
                own=OwnAddresses(config.domains, listens, outside=config.sip.advertise, inside=inside),
                resolver=self.resolver,
                media=MediaOff(),
                locations=self.locations,
                window=MemoryNonceWindow(wall=clock.wall),
                guard=self.guard,
                verdicts=verdicts,
                locks=self.locks,
                recorder=self.auditor,
                notifier=self.notifier,
                key=b"k" * 32,
                names=CountedNames(1_000_000 if survivors else 1),
                clock=clock,
                metrics=self.metrics,
            ),
            self.books,
            Rules(self.ruleset, self.trunks, NoCountries(), load_scanners(config)),
        )
        self.calls, self.subscriptions = self.books.calls, self.books.subscriptions
        self.usage, self.accountant = self.books.usage, self.books.accountant
        self.proxy, self.gateways = services.proxy, services.gateways
        self.switchboard, self.notices = services.switchboard, services.notices
        self.registrar, self.warden, self.orders = services.registrar, services.warden, services.orders
        self.dispatcher, self.housekeeping = services.dispatcher, services.housekeeping
        self.signalling.handler = self.dispatcher
        self.console = EdgeConsole(
            Knobs(
                reload=self._reload,
                drain=self._drain,
                draining=lambda: self.dispatcher.draining,
                listens=lambda: ("udp:192.0.2.1:5060",),
                radius=lambda: (("radius", not self.authenticator.down),),
                pbx=lambda: (("pbx", config.pbx[0].uri),),
                policy=lambda: PolicyView("unversioned"),
                restart=tuple,
            ),
            calls=self.calls,
            switchboard=self.switchboard,
            orders=self.orders,
            guard=self.guard,
            locations=self.locations,
            cdrs=self.cdrs,
            spool=self.spool,
            wardens=Wardens(self.locks, self.audit, self.auditor),
            clock=clock,
        )

    async def _reload(self, by: str) -> Reloaded:
        return Reloaded()

    def _drain(self) -> None:
        self.dispatcher.draining = True


class _Tracebacks(logging.Handler):
    """Keeps every logged exception: there must be none, whatever a peer sends."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(logging.Formatter().format(record))


@contextlib.contextmanager
def logged_tracebacks() -> Iterator[list[str]]:
    """Every exception that is logged meanwhile."""
    tracebacks = _Tracebacks()
    logging.getLogger().addHandler(tracebacks)
    try:
        yield tracebacks.found
    finally:
        logging.getLogger().removeHandler(tracebacks)


def on_rig(**changes: object) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Run a test in virtual time with a fresh `rig`; `changes` are those of `Options`. No exception may be logged."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**fixtures: object) -> None:
            async def main() -> None:
                rig = Rig(Options(**changes))  # type: ignore[arg-type]  # checked by the dataclass
                rig.start()
                try:
                    await test(rig=rig, **fixtures)
                finally:
                    await rig.stop()
                    await tasks.drain(0.0)

            with logged_tracebacks() as found, asyncio.Runner(loop_factory=VirtualLoop) as runner:
                runner.run(main())
            assert not found, "\n".join(found)

        signature = inspect.signature(test)
        del run.__wrapped__  # pytest is not to see the parameter `rig`
        parameters = [each for each in signature.parameters.values() if each.name != "rig"]
        run.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
        return run

    return decorate
