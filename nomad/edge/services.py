"""The services of the edge, joined over its ports: one wiring for a running edge and for the tests' edge over fakes.

Opens nothing: what stands around the services is made by `app.py`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import tzinfo

from nomad import log
from nomad.clock import Clock
from nomad.config import Config
from nomad.edge.accounting import Accountant, Stores
from nomad.edge.addresses import OwnAddresses
from nomad.edge.auth import Authentication, Digest
from nomad.edge.calls import CallTable, thaw
from nomad.edge.dispatch import Dispatcher
from nomad.edge.dispatch import Parts as DispatchParts
from nomad.edge.doorkeeper import Doorkeeper
from nomad.edge.gateways import Gateways
from nomad.edge.gruu import Gruus
from nomad.edge.guard import Guard
from nomad.edge.habits import Habits
from nomad.edge.housekeeping import Housekeeping
from nomad.edge.judge import Parts as JudgeParts
from nomad.edge.locks import Locks
from nomad.edge.logins import Logins
from nomad.edge.names import Names
from nomad.edge.nonce import NonceSigner
from nomad.edge.notices import Notices
from nomad.edge.notices import Parts as NoticeParts
from nomad.edge.offers import Offers
from nomad.edge.orders import Orders
from nomad.edge.parties import Parties
from nomad.edge.policy import Ruleset
from nomad.edge.probes import Probes
from nomad.edge.proxy import Proxy
from nomad.edge.registrar import Registrar
from nomad.edge.scanners import Scanners
from nomad.edge.sides import Sides
from nomad.edge.subscriptions import ID_PREFIX, Subscriptions
from nomad.edge.subscriptions import thaw as thaw_subscription
from nomad.edge.switchboard import Switchboard
from nomad.edge.trunks import Trunks
from nomad.edge.usage import Usage
from nomad.edge.verdicts import Verdicts
from nomad.edge.warden import Force, Warden
from nomad.metrics import Metrics
from nomad.ports import (
    AccountingSink,
    Countries,
    FlowWatch,
    LiveCall,
    LocationStore,
    MediaRelay,
    NonceWindow,
    Notifier,
    Recorder,
    Resolver,
    Signalling,
)

logger = logging.getLogger(__name__)

CALL_LIMIT_S = 24 * 3600.0  # a call restored after a crash whose ends never hang up


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around the services."""

    signalling: Signalling
    watch: FlowWatch
    own: OwnAddresses
    resolver: Resolver
    media: MediaRelay
    locations: LocationStore
    window: NonceWindow
    guard: Guard
    verdicts: Verdicts
    locks: Locks
    recorder: Recorder
    notifier: Notifier
    key: bytes  # of nonces and GRUUs
    names: Names
    clock: Clock
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Rules:
    """What is judged by at the start; a reload gives the dispatcher others."""

    ruleset: Ruleset
    trunks: Trunks
    countries: Countries
    scanners: Scanners


class Books:
    """What goes on and what it comes to: calls, subscriptions, minutes, accounting."""

    def __init__(
        self,
        config: Config,
        stores: Stores,
        sink: AccountingSink,
        *,
        timezone: tzinfo | None,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.stores = stores
        self.calls = CallTable()
        self.subscriptions = Subscriptions(
            limit=config.events.max_subscriptions, per_person=config.events.max_per_person
        )
        self.usage = Usage(timezone)
        self.accountant = Accountant(
            stores,
            sink,
            clock=clock,
            metrics=metrics,
            usage=self.usage,
            account_refused=config.accounting.refused,
        )

    async def restore(self, now: float) -> int:
        """Take in the calls and subscriptions that were there when the last process ended; how many calls.

        `now` is Unix time. Before any request comes: a BYE of a restored call must find it.
        """
        self.usage.load(await self.stores.cdrs.usage(self.usage.query(now)))
        return sum(self._restored(stored, now) for stored in await self.stores.calls.load())

    def _restored(self, stored: LiveCall, now: float) -> bool:
        """Whether this was a call."""
        try:
            if stored.id.startswith(ID_PREFIX):
                self.subscriptions.restore(thaw_subscription(stored))
                return False
            call = thaw(stored)
        except ValueError as error:
            log.event(logger, "call-lost", level=logging.ERROR, id=stored.id, why=str(error))
            return False
        self.calls.restore(call, now=now, latest_end=now + CALL_LIMIT_S)
        self.accountant.opened(call)
        return True


class Services:
    """Everything that decides. Its `dispatcher` is what the endpoint calls."""

    def __init__(self, config: Config, around: Surroundings, books: Books, rules: Rules) -> None:
        self._config = config
        self._around = around
        self._books = books
        self._join_lines()
        self._join_watch(rules.ruleset.timezone)
        self._join_requests(rules)

    def _join_lines(self) -> None:
        """What requests pass through on their way to PBXs and phones."""
        config, around, books = self._config, self._around, self._books
        clock, metrics, new_id = around.clock, around.metrics, around.names.id
        self.proxy = proxy = Proxy(
            around.signalling, around.own, clock=clock, new_branch=around.names.branch, timer_c_s=config.sip.timer_c_s
        )
        sides = Sides(config, proxy=proxy)
        self.logins = Logins(trunk_of=lambda flow: self.dispatcher.trunks.of(flow), via=proxy.via, new_cnonce=new_id)
        self.gateways = Gateways(around.signalling, around.resolver, proxy=proxy, clock=clock, metrics=metrics)
        self.switchboard = Switchboard(
            config,
            around.signalling,
            around.media,
            sides=sides,
            gateways=self.gateways,
            logins=self.logins,
            proxy=proxy,
            calls=books.calls,
            accountant=books.accountant,
            clock=clock,
            metrics=metrics,
            new_id=new_id,
        )
        self.notices = Notices(
            config.events,
            NoticeParts(sides, self.gateways, self.logins, proxy, books.subscriptions, books.stores.calls),
            clock=clock,
            new_id=new_id,
        )

    def _join_watch(self, timezone: tzinfo | None) -> None:
        """What ends calls and logins that were allowed."""
        config, around, books = self._config, self._around, self._books
        self.orders = Orders(
            calls=books.calls,
            switchboard=self.switchboard,
            accountant=books.accountant,
            locations=around.locations,
            domains=config.domains,
            recorder=around.recorder,
            forget=around.verdicts.forget,
            drop=self.notices.drop,
            amend=around.verdicts.amend,
        )
        self.habits = Habits(config.fraud, timezone)
        force = Force(around.locks, books.calls, self.orders, self.switchboard, around.recorder, around.notifier)
        self.warden = Warden(self.habits, force, clock=around.clock, metrics=around.metrics)
        books.accountant.watch = self.warden.call_ended

    def _join_requests(self, rules: Rules) -> None:
        """What a new request meets, and what happens without one."""
        config, around, books = self._config, self._around, self._books
        clock, metrics = around.clock, around.metrics
        gruus = Gruus(
            around.key, locations=around.locations, own=around.own, wall=clock.wall, random=around.names.random
        )
        self.registrar = Registrar(
            config.sip, locations=around.locations, gruus=gruus, watch=around.watch, own=around.own, clock=clock
        )
        parties = Parties(around.own, around.locations, gruus)
        self.dispatcher = Dispatcher(
            DispatchParts(
                guard=around.guard,
                auth=self._authentication(),
                registrar=self.registrar,
                parties=parties,
                calls=books.calls,
                subscriptions=books.subscriptions,
                switchboard=self.switchboard,
                notices=self.notices,
                proxy=self.proxy,
                own=around.own,
                judging=JudgeParts(parties, books.calls, books.usage, self.warden, books.accountant),
            ),
            rules.ruleset,
            rules.trunks,
            countries=rules.countries,
            signalling=around.signalling,
            clock=clock,
            metrics=metrics,
            new_tag=around.names.tag,
            scanners=rules.scanners,
        )
        self.housekeeping = Housekeeping(
            calls=books.calls,
            proxy=self.proxy,
            switchboard=self.switchboard,
            notices=self.notices,
            probes=Probes(
                calls=books.calls,
                switchboard=self.switchboard,
                proxy=self.proxy,
                logins=self.logins,
                clock=clock,
                interval_s=config.sip.dialog_check_s,
            ),
            accountant=books.accountant,
            locations=around.locations,
            guard=around.guard,
            usage=books.usage,
            clock=clock,
            metrics=metrics,
            interim_interval_s=config.accounting.interim_interval_s,
        )

    def _authentication(self) -> Authentication:
        config, around = self._config, self._around
        return Authentication(
            Digest(config.domain, config.domains, Offers.of(config), config.sip.digest_qop),
            nonces=NonceSigner(around.key, lifetime_s=config.sip.nonce_lifetime_s, random=around.names.random),
            window=around.window,
            authenticator=Doorkeeper(
                around.verdicts,
                around.locks,
                refusal_s=config.guard.refusal_s,
                clock=around.clock,
                refused=self.warden.refused_login,
            ),
            clock=around.clock,
            metrics=around.metrics,
            answer=around.verdicts.answer,
        )
