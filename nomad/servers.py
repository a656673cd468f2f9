"""The RADIUS servers of a configuration: named ones or the embedded one, pools to them, the listener for their orders.

A part of the composition root that the commands use too. Decides nothing about people.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from nomad import log
from nomad.aaa import RadiusAccounting, RadiusAuthenticator, RadiusOrders
from nomad.clock import Clock
from nomad.config import DISCONNECT_PORT, RADSEC, Config, ConfigError, Radius, is_loopback, secret, split_host_port
from nomad.metrics import Metrics
from nomad.ports import OrderTaker, Unavailable
from radius import radsec
from radius.client import Pool, Server, Settings
from radius.config import Attributes as RadiusAttributes
from radius.config import Config as RadiusConfig
from radius.config import DirectoryTable as RadiusDirectory
from radius.disconnect import ORDERS, DisconnectListener, ListenerSettings
from radius.errors import ConfigError as RadiusConfigError
from radius.errors import RadiusUnavailable
from radius.ports import Client
from radius.server import Clients
from radius.service import EmbeddedServer, bind

logger = logging.getLogger(__name__)

AUTH_PORT, ACCT_PORT = 1812, 1813
VARIABLE = "NOMAD_RADIUS_SECRET"


class RadiusServers:
    """Connected to the RADIUS servers, from `start` to `close`."""

    embedded: EmbeddedServer | None = None
    authenticator: RadiusAuthenticator
    sink: RadiusAccounting

    def __init__(self, config: Config, metrics: Metrics) -> None:
        self._config = config
        self._table = config.radius or Radius()
        self._metrics = metrics
        self._pools: dict[str, Pool] = {}  # by kind
        self._closers: list[Callable[[], Awaitable[None]]] = []  # run in reverse order
        self._contexts: list[ssl.SSLContext] = []
        self.orders_over_tls = ("", 0)

    @property
    def timeout_s(self) -> float:
        """How long one request may take."""
        return self._table.timeout_s

    @property
    def nas_identifier(self) -> str:
        """What we call ourselves."""
        return self._table.nas_identifier or self._config.domain

    def states(self) -> tuple[tuple[str, bool], ...]:
        """Each server and whether it is up."""
        return tuple(state for pool in self._pools.values() for state in pool.states())

    def dropped(self) -> dict[tuple[str, str, str], float]:
        """Replies that were not taken, by server, kind and reason."""
        return {
            (server, kind, reason): getattr(counters, reason)
            for kind, pool in self._pools.items()
            for server, counters in pool.counters().items()
            for reason in ("forged", "malformed", "late")
        }

    async def start(self) -> None:
        """Start the embedded server if it is meant, and open the pools. Raises `ConfigError` or `Unavailable`."""
        if self._table.embedded:
            auth, acct = await self._start_embedded()
        else:
            auth = [self._server(text, AUTH_PORT) for text in self._table.auth]
            acct = [self._server(text, ACCT_PORT) for text in self._table.acct]
        nas = self.nas_identifier
        at_edge = self._table.verify == "edge"
        private = all(server.tls is not None or is_loopback(server.host) for server in auth)
        if at_edge and not private:
            raise ConfigError("radius.verify: \"edge\" is for servers at loopback addresses or behind 'radsec:' only")
        self.authenticator = RadiusAuthenticator(
            await self._open(auth, "auth"),
            dialect=self._table.dialect,
            nas_identifier=nas,
            take_ha1=private and (at_edge or remembers_verdicts(self._table)),
            verify=at_edge,
        )
        self._metrics.watch_replies(self.dropped)
        self.sink = RadiusAccounting(await self._open(acct, "acct"), nas_identifier=nas)

    async def listen(self, taker: OrderTaker, clock: Clock) -> tuple[str, int]:
        """Take Disconnect and CoA (RFC 5176) as configured; the UDP address. Raises `ConfigError`."""
        table = self._table
        if not (table.disconnect_listen or table.disconnect_radsec_listen or table.disconnect_from_servers):
            return "", 0
        shared = secret(self._config, table.secret_file, VARIABLE) if table.disconnect_listen else b""
        listener = DisconnectListener(
            Clients({text: Client(text, shared) for text in table.disconnect_clients}),
            RadiusOrders(taker),
            ListenerSettings(
                require_timestamp=table.disconnect_strict,
                require_message_authenticator=table.disconnect_strict,
                nas_identifier=self.nas_identifier,
            ),
            clock=clock.wall,
        )
        self._closers.append(listener.close)
        self._metrics.watch_orders(listener.counters)
        if table.disconnect_from_servers:
            self._pools["auth"].take_orders(listener)
        if table.disconnect_radsec_listen:
            self.orders_over_tls = await self._listen_over_tls(listener)
        return await self._listen_over_udp(listener) if table.disconnect_listen else ("", 0)

    async def _listen_over_udp(self, listener: DisconnectListener) -> tuple[str, int]:
        try:
            sock = bind(*split_host_port(self._table.disconnect_listen, DISCONNECT_PORT))
        except RadiusConfigError as error:
            raise ConfigError(f"radius.disconnect_{error}") from None
        host, port = await listener.start(sock)
        log.event(logger, "orders", address=f"{host}:{port}", clients=", ".join(self._table.disconnect_clients))
        return host, port

    async def _listen_over_tls(self, listener: DisconnectListener) -> tuple[str, int]:
        """A stranger on the UDP port may be a client here; the certificate is what counts, not the secret."""
        table = self._table
        names = table.disconnect_certificate_names
        over_tls = radsec.RadsecListener(
            Clients({text: Client(text, radsec.SECRET) for text in table.disconnect_clients}),
            dict.fromkeys(ORDERS, listener),
            names=dict.fromkeys(table.disconnect_clients, names) if names else {},
        )
        self._closers.append(over_tls.close)
        where = split_host_port(table.disconnect_radsec_listen, radsec.PORT)
        try:
            host, port = await over_tls.start(*where, self._tls(radsec.server_context))
        except RadiusConfigError as error:
            raise ConfigError(f"radius.disconnect_radsec_listen: {error}") from None
        log.event(logger, "orders", address=f"radsec:{host}:{port}", clients=", ".join(table.disconnect_clients))
        return host, port

    async def close(self) -> None:
        """Close what was opened."""
        while self._closers:
            await self._closers.pop()()

    async def _start_embedded(self) -> tuple[list[Server], list[Server]]:
        try:
            server = EmbeddedServer(embedded_config(self._config), digest_ha1=remembers_verdicts(self._table))
            self._closers.append(server.stop)
            await server.start()
        except RadiusConfigError as error:
            raise ConfigError(str(error)) from None
        self.embedded = server
        return [Server(*server.auth, server.secret)], [Server(*server.acct, server.secret)]

    def _server(self, text: str, port: int) -> Server:
        """A named server; "radsec:" stands for TLS and for nothing but TLS."""
        if not text.startswith(RADSEC):
            return Server(*split_host_port(text, port), secret(self._config, self._table.secret_file, VARIABLE))
        try:
            context = self._tls(radsec.client_context)
        except RadiusConfigError as error:
            raise ConfigError(str(error)) from None
        host, number = split_host_port(text.removeprefix(RADSEC), radsec.PORT)
        return Server(host, number, radsec.SECRET, context)

    def renew(self) -> None:
        """Take up certificates whose files were replaced; open connections stay. Raises `ConfigError`."""
        for context in self._contexts:
            try:
                radsec.renew(context, **self._certificates())
            except RadiusConfigError as error:
                raise ConfigError(str(error)) from None

    def _tls(self, make: Callable[..., ssl.SSLContext]) -> ssl.SSLContext:
        context = make(**self._certificates())
        self._contexts.append(context)
        return context

    def _certificates(self) -> dict[str, Any]:
        config, table = self._config, self._table
        return {
            "certificate": config.path(table.certificate),
            "key": config.path(table.private_key) if table.private_key else None,
            "ca": config.path(table.ca_file),
        }

    async def _open(self, servers: list[Server], kind: str) -> Pool:
        settings = Settings(
            timeout_s=self.timeout_s, load_share=self._table.load_share, nas_identifier=self.nas_identifier
        )
        pool = Pool(servers, settings, kind=kind, on_result=self._metrics.radius)
        self._closers.append(pool.close)
        try:
            await pool.start()
        except RadiusUnavailable as error:
            raise Unavailable(str(error)) from None
        self._pools[kind] = pool
        return pool


def remembers_verdicts(table: Radius) -> bool:
    """Whether the edge has a use for the HA1 of people."""
    return table.verdict_cache_s > 0 or table.verdict_outage_s > 0


def embedded_config(config: Config) -> RadiusConfig:
    """The embedded RADIUS server's configuration."""
    table, names = config.directory, config.directory.attributes
    return RadiusConfig(
        client=(),
        directory=RadiusDirectory(
            url=table.url,
            base=table.base,
            bind_dn=table.bind_dn,
            bind_password_file=table.bind_password_file,
            start_tls=table.start_tls,
            ca_file=table.ca_file,
            attributes=RadiusAttributes(**{name: getattr(names, name) for name in names.__struct_fields__}),
        ),
        domains=config.domains,
        realms=(config.domain,),
        detail=config.accounting.detail,
        sql=config.accounting.sql,
        sql_password_file=config.accounting.sql_password_file,
        folder=config.folder,
    )
