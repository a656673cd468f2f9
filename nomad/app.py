"""Composition root: configuration in, a running edge out. Start, reload, drain, stop.

The only place that opens anything; the services over it are joined in `edge/services.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from nomad import __version__, log, tasks
from nomad import config as configuration
from nomad.admin.app import AdminServer
from nomad.alarm.desk import AlarmDesk
from nomad.clock import Clock
from nomad.config import DNS_PORT, Config, ConfigError, Radius, parse_listen, secret, split_host_port
from nomad.console import EdgeConsole, Knobs, Wardens
from nomad.directory import open_switch
from nomad.edge.accounting import Stores
from nomad.edge.addresses import OwnAddresses
from nomad.edge.audit import Auditor
from nomad.edge.dispatch import Dispatcher
from nomad.edge.housekeeping import Housekeeping
from nomad.edge.locks import Locks
from nomad.edge.names import Names
from nomad.edge.policy import Ruleset
from nomad.edge.services import Books, Rules, Services, Surroundings
from nomad.edge.trunks import Trunks
from nomad.edge.verdicts import Trust, Verdicts
from nomad.gate import Gate
from nomad.inputs import (
    client_tls,
    identify,
    inside_addresses,
    load_countries,
    load_ruleset,
    load_scanners,
    load_trunks,
    nonce_key,
    policy_warnings,
    server_tls,
    store_url,
    stream_limits,
    trusted_addresses,
    view_of,
)
from nomad.media.off import MediaOff
from nomad.metrics import Metrics
from nomad.ports import CdrQuery, Deed, EventHandler, PolicyView, Reloaded, Unavailable
from nomad.servers import RadiusServers
from nomad.sip.events import Event, Flow
from nomad.sip.stack import Stack
from nomad.stores.audit import SqlAuditLog
from nomad.stores.bans import SqlBans
from nomad.stores.database import Database
from nomad.stores.journal import CdrOutbox, JournalCalls
from nomad.stores.locks import SqlLocks
from nomad.stores.memory import MemoryLocations, MemoryNonceWindow
from nomad.stores.snapshot import RegistrationSnapshot
from nomad.stores.spool import SqliteSpool
from nomad.stores.sql import SqlCdrs, SqlPolicies
from nomad.transport.endpoint import Endpoint
from nomad.transport.resolver import DnsResolver

logger = logging.getLogger(__name__)

STOP_GRACE_S = 32.0
LEARN_S = 60 * 86_400.0  # habits come from the call records of so long
LEARN_CALLS = 100_000  # and from the newest of them
LEARN_PAGE = 2000
FOLLOW_S = 5.0


class Edge:
    """One running edge."""

    dispatcher: Dispatcher
    housekeeping: Housekeeping

    def __init__(self, config: Config, *, config_path: Path | None = None, clock: Clock | None = None) -> None:
        self.config = self._started_with = config
        self._reloading = asyncio.Lock()
        self.restart: tuple[str, ...] = ()  # keys that changed in the file since the start and need a new process
        self.metrics = Metrics(max_users=config.admin.max_metric_users, pseudonymise=config.admin.pseudonymise_users)
        self._config_path = config_path
        self._clock = clock or Clock()
        self._closers: list[Callable[[], Awaitable[object]]] = []  # run in reverse order
        self._jobs: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open everything; when this returns, phones can register. Raises `ConfigError` or `Unavailable`."""
        try:
            await self._start()
        except BaseException:
            await self._close()
            raise

    async def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Refuse new work, let running requests finish, write what is open, close. Calls stay in the store."""
        self.drain()
        self.auditor.record(Deed("edge", "stop", "edge", more=(("calls", str(self.calls.live)),)))
        await tasks.drain(grace_s)
        if not self.calls.live:
            await self.accountant.node("Accounting-Off")
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(self.radius.timeout_s + 1):
                while await self.accountant.delivery.deliver_once():
                    pass
        await self._close()
        log.event(logger, "stopped", calls=self.calls.live)

    def drain(self) -> None:
        """Refuse new calls and registrations; what is there goes on."""
        self.dispatcher.draining = True

    @property
    def sip_addresses(self) -> tuple[tuple[str, str, int], ...]:
        """Transport, host and port of every SIP socket."""
        return tuple(
            (listen.transport, listen.host, listen.port) for listen in map(parse_listen, self.endpoint.listens)
        )

    @property
    def admin_url(self) -> str:
        """Where the admin API is, "" when it is off."""
        return self._admin_url

    async def reload(self, by: str = "") -> Reloaded:
        """Take up the configuration and policy files again; on an error nothing changes."""
        async with self._reloading:  # or what was read first might be put in force last
            done = await self._reload()
        deed = "reload-failed" if done.why else "reload"
        more = (("policy", done.policy.version), ("sha", done.policy.short_sha))
        self.auditor.record(Deed(by or "edge", deed, self.dispatcher.ruleset.source, done.why, more))
        return done

    async def _reload(self) -> Reloaded:
        try:
            config = configuration.load(self._config_path) if self._config_path else self.config
            # A large policy takes a while to compile: calls go on meanwhile
            ruleset = await identify(await asyncio.to_thread(load_ruleset, config), self.policies)
            scanners = load_scanners(config)
            countries = load_countries(config)
            trunks = Trunks(await load_trunks(config, self.resolver, known=self.dispatcher.trunks))
            self.radius.renew()
        except (ConfigError, Unavailable) as error:
            self.metrics.reloaded(False)
            log.event(logger, "reload-failed", level=logging.ERROR, why=str(error))
            return Reloaded(str(error), policy=view_of(self.dispatcher.ruleset))
        self.verdicts.clear()  # RADIUS may say other groups by now, which go with the new rules
        self.usage.move(ruleset.timezone, self._clock.wall())
        self.dispatcher.ruleset = ruleset
        self.dispatcher.scanners = scanners
        self.dispatcher.countries = countries
        self.habits.table = config.fraud
        self.habits.timezone = ruleset.timezone
        self.guard.configure(config.guard, exempt=trusted_addresses(trunks))
        self._use(trunks, config)
        self.notices.configure(config.events)
        self.housekeeping.interim_interval_s = config.accounting.interim_interval_s
        self.config = config
        self.metrics.reloaded(True)
        self.restart = configuration.needing_restart(self._started_with, config)
        self._warn(ruleset)
        policy = self._in_force("reloaded", ruleset, restart=", ".join(self.restart))
        return Reloaded(restart=self.restart, policy=policy)

    def _in_force(self, event: str, ruleset: Ruleset, **more: object) -> PolicyView:
        """Say which policy counts from now on."""
        policy = view_of(ruleset)
        self.metrics.policy_in_force(policy.version, policy.sha)
        known: dict[str, object] = {"policy": policy.version, "sha": policy.short_sha, "source": policy.source}
        log.event(logger, event, level=logging.INFO, **known, **more)
        return policy

    def _use(self, trunks: Trunks, config: Config) -> None:
        """Take up PBXs and their addresses."""
        self.dispatcher.trunks = trunks
        self.guard.configure(config.guard, exempt=trusted_addresses(trunks))
        self._own.reach(inside_addresses(trunks, list(self.sip_addresses)))

    async def _follow(self) -> None:
        """Take up the addresses of PBXs whose names have moved."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            config, known = self.config, self.dispatcher.trunks
            try:
                trunks = Trunks(await load_trunks(config, self.resolver, known=known))
            except ConfigError as error:  # a password file that cannot be read at this moment
                log.event(logger, "pbx-not-followed", level=logging.WARNING, why=str(error))
                continue
            if known is not self.dispatcher.trunks or [t.sources for t in trunks.all] == [t.sources for t in known.all]:
                continue
            self._use(trunks, config)
            places = sorted(f"{host} port {port}" for trunk in trunks.all for host, port in trunk.sources)
            log.event(logger, "pbx-moved", places=", ".join(places))

    # -- starting, step by step ----------------------------------------------------------------------------------

    async def _start(self) -> None:
        config, clock = self.config, self._clock
        ruleset = load_ruleset(config)
        self._warn(ruleset)
        self.resolver = DnsResolver(
            clock, nameservers=[split_host_port(text, DNS_PORT) for text in config.sip.nameservers]
        )
        trunks = Trunks(await load_trunks(config, self.resolver))
        await self._open_stores()
        ruleset = await identify(ruleset, self.policies)
        await self._open_radius()
        await self._open_guard(trunks)
        stores = Stores(self.spool, self.cdrs, self._live_calls)
        books = Books(config, stores, self.radius.sink, timezone=ruleset.timezone, clock=clock, metrics=self.metrics)
        self.calls, self.subscriptions = books.calls, books.subscriptions
        self.usage, self.accountant = books.usage, books.accountant
        # Before any socket is open: a BYE of a restored call must find it, and no Start may come before Accounting-On
        restored = await books.restore(clock.wall())
        if not restored:
            await self.accountant.node("Accounting-On")
        early = await self._open_endpoint(trunks)
        await self._join_services(books, Rules(ruleset, trunks, load_countries(config), load_scanners(config)))
        self.endpoint.handler = self.dispatcher
        early.hand_over(self.dispatcher)
        self._jobs = [
            asyncio.create_task(self.accountant.delivery.drain(), name="accounting"),
            asyncio.create_task(self.housekeeping.run(), name="housekeeping"),
            asyncio.create_task(self._learn(), name="habits"),
            asyncio.create_task(self._follow(), name="pbx names"),
        ]
        self._closers.append(self._end_jobs)
        self.disconnect_address = await self.radius.listen(self.orders, self._clock)
        await self._open_admin()
        self.auditor.record(Deed("edge", "start", "edge", more=(("version", __version__),)))
        self._in_force(
            "started", ruleset, version=__version__, listens=", ".join(self.endpoint.listens), calls=restored
        )

    async def _open_stores(self) -> None:
        config = self.config
        database = self._database = Database(store_url(config))
        await database.open()
        self._closers.append(database.close)
        self._snapshot = RegistrationSnapshot(database)
        self._closers.append(self._snapshot.close)
        self.locations = MemoryLocations(on_change=self._snapshot.note)
        self.locations.fill(await self._snapshot.load(self._clock.wall()))
        self.audit_log = SqlAuditLog(database)
        self.auditor = Auditor(self.audit_log, clock=self._clock, metrics=self.metrics)
        self._closers.append(self.auditor.close)
        self.locks = Locks(SqlLocks(database), config.domains, open_switch(config))
        await self.locks.load()
        self.policies = SqlPolicies(database)
        self.spool = SqliteSpool(config.path(config.store.spool))
        await self.spool.open()
        self._closers.append(self.spool.close)
        self._live_calls = JournalCalls(self.spool.ledger)
        self.cdrs = CdrOutbox(self.spool.ledger, SqlCdrs(database), failed=self.metrics.store_failure)
        await self.cdrs.open()
        self._closers.append(self.cdrs.close)

    async def _open_guard(self, trunks: Trunks) -> None:
        self.gate = Gate(
            self.config.guard,
            SqlBans(self._database),
            exempt=trusted_addresses(trunks),
            clock=self._clock,
            metrics=self.metrics,
            recorder=self.auditor,
        )
        self.guard = self.gate.guard
        self._closers.append(self.gate.close)
        await self.gate.open()

    async def _open_radius(self) -> None:
        self.radius = RadiusServers(self.config, self.metrics)
        self._closers.append(self.radius.close)
        await self.radius.start()
        table = self.config.radius or Radius()
        self.verdicts = Verdicts(
            self.radius.authenticator,
            Trust(grace_s=table.verdict_cache_s, outage_s=table.verdict_outage_s),
            clock=self._clock,
            metrics=self.metrics,
        )

    async def _open_endpoint(self, trunks: Trunks) -> _Later:
        """Listen; what comes before the services are there is kept."""
        config, sip = self.config, self.config.sip
        self.endpoint = Endpoint(
            None,
            self.guard,
            self._clock,
            stack=Stack(limit=sip.max_transactions),
            limits=stream_limits(config),
            server_tls=server_tls(config),
            client_tls=client_tls(config),
            origins=sip.origins or tuple(f"https://{domain}" for domain in config.domains),
        )
        self._closers.append(self.endpoint.close)
        listens = [parse_listen(text) for text in sip.listen]
        early = self.endpoint.handler = _Later()
        bound = [
            (each.transport, *await self.endpoint.listen(each.transport, each.host, each.port)) for each in listens
        ]
        inside = inside_addresses(trunks, bound)
        self._own = OwnAddresses(config.domains, bound, outside=sip.advertise, inside=inside)
        return early

    async def _join_services(self, books: Books, rules: Rules) -> None:
        config, clock = self.config, self._clock
        desk = AlarmDesk(config, failed=self.metrics.store_failure)
        desk.start()
        self._closers.append(desk.stop)
        services = Services(
            config,
            Surroundings(
                signalling=self.endpoint,
                watch=self.endpoint,
                own=self._own,
                resolver=self.resolver,
                media=MediaOff(),
                locations=self.locations,
                window=MemoryNonceWindow(wall=clock.wall),
                guard=self.guard,
                verdicts=self.verdicts,
                locks=self.locks,
                recorder=self.auditor,
                notifier=desk,
                key=nonce_key(config),
                names=Names(),
                clock=clock,
                metrics=self.metrics,
            ),
            books,
            rules,
        )
        await services.registrar.resume()
        self.switchboard = services.switchboard
        self.notices = services.notices
        self.orders = services.orders
        self.habits = services.habits
        self.dispatcher = services.dispatcher
        self.housekeeping = services.housekeeping

    async def _learn(self) -> None:
        """What people usually do, from the call records of the last days; newest first, some at a time."""
        until = self._clock.wall()
        since, left = until - LEARN_S, LEARN_CALLS
        try:
            while left > 0:
                page = await self.cdrs.query(CdrQuery(since=since, until=until, limit=LEARN_PAGE))
                self.habits.learn(page, self.dispatcher.countries.of)
                left -= len(page)
                if len(page) < LEARN_PAGE or page[-1].started_at >= until:
                    return
                until = page[-1].started_at
        except Unavailable as error:
            log.event(logger, "store-failed", level=logging.ERROR, what="habits", error=str(error))

    async def _open_admin(self) -> None:
        config = self.config
        self.metrics.watch(
            registrations=lambda: self.locations.bindings,
            calls=lambda: self.calls.live,
            subscriptions=lambda: len(self.subscriptions),
            bans=lambda: self.guard.banned(self._clock.monotonic()),
            locks=lambda: len(self.locks),
            spool=self.spool.state,
            radius=self.radius.states,
        )
        self.metrics.watch_transport(self.endpoint.counters)
        self.console = EdgeConsole(
            Knobs(
                reload=self.reload,
                drain=self.drain,
                draining=lambda: self.dispatcher.draining,
                listens=lambda: tuple(self.endpoint.listens),
                radius=self.radius.states,
                pbx=lambda: tuple((trunk.name, trunk.uri.text) for trunk in self.dispatcher.trunks.all),
                policy=lambda: view_of(self.dispatcher.ruleset),
                restart=lambda: self.restart,
            ),
            calls=self.calls,
            switchboard=self.switchboard,
            orders=self.orders,
            guard=self.guard,
            locations=self.locations,
            cdrs=self.cdrs,
            spool=self.spool,
            wardens=Wardens(self.locks, self.audit_log, self.auditor),
            clock=self._clock,
        )
        self._admin_url = ""
        if config.admin.listen:
            token = secret(config, config.admin.token_file, "NOMAD_ADMIN_TOKEN")
            admin = AdminServer(self.console, self.metrics, token=token)
            await admin.start(*split_host_port(config.admin.listen, 8080))
            self._admin_url = admin.url
            self._closers.append(admin.stop)

    def _warn(self, ruleset: Ruleset) -> None:
        for text in policy_warnings(self.config, ruleset):
            log.event(logger, "policy-warning", level=logging.WARNING, text=text)

    async def _end_jobs(self) -> None:
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    async def _close(self) -> None:
        while self._closers:
            try:
                await self._closers.pop()()
            except (OSError, Unavailable) as error:
                log.event(logger, "close-failed", level=logging.ERROR, why=str(error))


class _Later:
    """Keeps events while the edge is not wired yet; the stack takes what peers resend for known."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def handle(self, event: Event) -> None:
        """Keep it."""
        self._events.append(event)

    def hand_over(self, handler: EventHandler) -> None:
        """Pass on what was kept."""
        for event in self._events:
            handler.handle(event)
        self._events.clear()

    def malformed(self, flow: Flow, reason: str, text: str) -> None:
        """Nobody counts yet."""
