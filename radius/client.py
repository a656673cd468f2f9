"""RADIUS client for asyncio: a pool of servers for one role, many requests in flight, failover, dead time, revival.

RFC 2865, 2866, 5080, 5997. Replies are read on connected sockets, so that the kernel drops what other addresses send;
what is late or forged is counted and dropped. Runs on plain futures and call_at: no task and no timeout object per
request. `lines.py` has the sockets, and the connections of RADIUS over TLS (RFC 6614).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from radius.errors import RadiusUnavailable
from radius.exchange import Answer, Backoff, Counters, Exchange, Exchanges
from radius.health import Health, Limits
from radius.intake import Intake
from radius.lines import Lines, TlsLines, UdpLines
from radius.packet import Code, Packet, Type, attribute
from radius.ports import Client
from radius.radsec import PREFIX

logger = logging.getLogger(__name__)

SWEEP_S = 0.01

ResultHook = Callable[[str, str, str, float], None]
"""Called with server, kind, result and seconds after each request to a server. Results: accept, reject, challenge,
ok (accounting, status), timeout, refused, full."""

RESULTS = {
    Code.ACCESS_ACCEPT: "accept",
    Code.ACCESS_REJECT: "reject",
    Code.ACCESS_CHALLENGE: "challenge",
    Code.ACCOUNTING_RESPONSE: "ok",
}


@dataclass(frozen=True, slots=True)
class Server:
    """Where a RADIUS server is, and the secret shared with it."""

    host: str
    port: int
    secret: bytes = field(repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    """For RADIUS over TLS (RFC 6614), with the secret `radsec.SECRET`; None for UDP."""

    @property
    def name(self) -> str:
        """host:port, for logs and metrics, behind "radsec:" when TLS is meant."""
        address = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        return f"{PREFIX}{address}" if self.tls else address


@dataclass(frozen=True, slots=True)
class Settings:
    """How a pool behaves."""

    timeout_s: float = 2.0
    """How long one request may take over all tries and servers."""
    initial_s: float = 0.4
    """First retransmission; shortened when the timeout leaves a server less than three times that."""
    load_share: bool = False
    """Spread requests over all servers that are up, instead of preferring the first."""
    channels: int = 64
    """Sockets per server; each carries 256 requests in flight. They are opened when needed."""
    status_server: bool = True
    """Whether dead servers are asked by Status-Server (RFC 5997)."""
    limits: Limits = field(default_factory=Limits)
    source: str = ""
    """Local address to send from; "" lets the system choose."""
    nas_identifier: str = "nomad"
    """NAS-Identifier in Status-Server requests."""


class Pool:
    """The servers of one role, authentication or accounting, in order of preference."""

    def __init__(
        self,
        servers: Sequence[Server],
        settings: Settings | None = None,
        *,
        kind: str = "auth",
        on_result: ResultHook | None = None,
        jitter: Callable[[], float] = lambda: random.uniform(-1, 1),  # noqa: S311 - spreads load, keeps no secret
    ) -> None:
        if not servers:
            raise ValueError("a pool needs at least one server")
        self._settings = settings or Settings()
        self._turn = 0
        self._servers = [
            _Server(server, self._settings, kind=kind, share=len(servers), on_result=on_result, jitter=jitter)
            for server in servers
        ]

    async def start(self) -> None:
        """Look up the servers' addresses. Raises `RadiusUnavailable` for a name that does not resolve."""
        for server in self._servers:
            await server.resolve()

    async def close(self) -> None:
        """Close the sockets; requests in flight fail."""
        for server in self._servers:
            server.close()

    def take_orders(self, intake: Intake) -> bool:
        """Let servers over TLS order on connections that are kept open for it (RFC 5176); False: there is none."""
        taken = [server.take_orders(intake) for server in self._servers]
        return any(taken)

    async def request(self, code: int, attributes: bytes) -> Packet:
        """Send to one server after the other until one answers; returns the verified reply.

        Raises `RadiusUnavailable` when none did within the timeout, `EncodingError` when it is too long.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        deadline = now + self._settings.timeout_s
        left = self._candidates()
        failures: list[str] = []
        while left and now < deadline:
            server = left.pop(0)
            if not server.health.admit(now):
                failures.append(server.why(now))
                continue
            share = (deadline - now) / (1 + sum(other.health.up for other in left))
            reply = await server.ask(loop, code, attributes, give_up_at=now + share, alone=not left)
            if isinstance(reply, Packet):
                return reply
            now = loop.time()
            failures.append(f"{server.name} {reply}")
        raise RadiusUnavailable("; ".join(failures) or "no time left")

    def states(self) -> tuple[tuple[str, bool], ...]:
        """Each server, and whether it is up."""
        return tuple((server.name, server.health.up) for server in self._servers)

    def counters(self) -> dict[str, Counters]:
        """What each server's traffic looked like."""
        return {server.name: server.exchanges.counters for server in self._servers}

    @property
    def in_flight(self) -> int:
        """Requests that wait for a reply."""
        return sum(len(server.exchanges) for server in self._servers)

    def _candidates(self) -> list[_Server]:
        """Servers in the order to try: those that are up first."""
        servers = self._servers
        if len(servers) == 1:
            return [servers[0]]
        if self._settings.load_share:
            self._turn = (self._turn + 1) % len(servers)
            servers = [*servers[self._turn :], *servers[: self._turn]]  # who has as little to do comes by turns
            return sorted(servers, key=lambda server: (not server.health.up, len(server.exchanges)))
        return sorted(servers, key=lambda server: not server.health.up)


class _Server:
    """One server: its sockets, what is in flight, one timer for all of it."""

    def __init__(
        self,
        server: Server,
        settings: Settings,
        *,
        kind: str,
        share: int,
        on_result: ResultHook | None,
        jitter: Callable[[], float],
    ) -> None:
        self.name = server.name
        self.health = Health(settings.limits)
        initial_s = min(settings.initial_s, settings.timeout_s / share / 3.5)
        self.exchanges = Exchanges(
            server.secret, Backoff(initial_s), channels=settings.channels, jitter=jitter, entropy=os.urandom
        )
        self._server = server
        self._settings = settings
        self._kind = kind
        self._on_result = on_result
        self._jitter = jitter
        self._lines = _lines_to(server, settings, self)
        self._stream = server.tls is not None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._probe: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._trouble = ""
        self._swept_at = 0.0
        self._closed = False
        self._takes_orders = False

    def why(self, now: float) -> str:
        """Why the server is not asked, for the log."""
        return f"{self.name} is dead for {now - self.health.since:.1f} s" + (
            f" ({self._trouble})" * bool(self._trouble)
        )

    async def resolve(self) -> None:
        """Look up the address of a server that is given by name. Raises `RadiusUnavailable`."""
        await self._lines.resolve()

    def take_orders(self, intake: Intake) -> bool:
        """The server's certificate says who orders."""
        if not self._stream:
            return False
        self._loop = asyncio.get_running_loop()
        self._takes_orders = True
        sender = Client(self.name, self._server.secret)
        self._lines.take_orders(
            self._loop, lambda data, address, send: intake.receive(data, address, client=sender, send=send)
        )
        return True

    async def ask(
        self, loop: asyncio.AbstractEventLoop, code: int, attributes: bytes, *, give_up_at: float, alone: bool
    ) -> Packet | str:
        """The verified reply, or why there is none. `alone`: nobody else can be asked, so keep trying."""
        self._loop = loop
        started_at = loop.time()
        future: asyncio.Future[Packet | str] = loop.create_future()
        exchange = self.exchanges.begin(
            code,
            attributes,
            (future, alone),
            now=started_at,
            give_up_at=give_up_at,
            resend=not self._stream,  # TLS resends by itself (RFC 6613 2.6.1)
        )
        if exchange is None:
            self._report("full", 0.0)
            return f"has {len(self.exchanges)} requests in flight"
        self._send(exchange)
        self._arm()
        try:
            reply = await future
        finally:
            if exchange.waiting:
                self.exchanges.abandon(exchange)
        result = RESULTS.get(reply.code, "ok") if isinstance(reply, Packet) else self._failed(reply)  # type: ignore[call-overload]  # any number may come
        self._report(result, loop.time() - started_at)
        return reply

    def close(self) -> None:
        """Close the sockets; whoever waits is told."""
        self._closed = True
        for handle in (self._timer, self._probe):
            if handle is not None:
                handle.cancel()
        for exchange in self.exchanges.waiting():
            self._settle(exchange, "was closed")
        self._lines.close()

    @staticmethod
    def _failed(reply: str) -> str:
        return "refused" if "refused" in reply else "timeout"

    def _report(self, result: str, seconds: float, kind: str = "") -> None:
        if self._on_result is not None:
            self._on_result(self.name, kind or self._kind, result, seconds)

    # -- lines

    def _send(self, exchange: Exchange) -> None:
        assert self._loop is not None
        self._lines.send(self._loop, exchange.channel, exchange.data)

    def received(self, channel: int, data: bytes) -> None:
        """A packet came; it need not be a reply."""
        answer = self.exchanges.receive(channel, data)
        if answer is not None:
            self._answered(answer)

    def connected(self, channel: int) -> None:
        """A new connection: whoever still waits is sent on it."""
        self._trouble = ""
        for exchange in self.exchanges.waiting():
            if exchange.channel == channel:
                self._send(exchange)
        if channel == 0 and self._takes_orders:
            self._ask_status()  # a server learns by the first request whose connection this is

    def _answered(self, answer: Answer) -> None:
        assert self._loop is not None
        if self.health.answered(self._loop.time()):
            self._trouble = ""
            logger.warning("RADIUS server %s (%s) is back", self.name, self._kind)
            if self._probe is not None:
                self._probe.cancel()
                self._probe = None
        self._settle(answer.exchange, answer.packet)

    def refused(self, channel: int, why: str) -> None:
        """Nothing listens, or the connection is gone: whoever has another server goes there at once."""
        self._trouble = why
        assert self._loop is not None
        now = self._loop.time()
        if now - self._swept_at < SWEEP_S and not self._stream:
            return  # thousands in flight bring thousands of such errors
        self._swept_at = now
        for exchange in self.exchanges.waiting():
            if exchange.channel != channel:
                continue
            if exchange.token is not None and not exchange.token[1]:
                self.exchanges.abandon(exchange)
                self._silent(exchange, self._trouble)
            elif self._stream:
                self._send(exchange)  # connects again, and sends then

    # -- time

    def _arm(self) -> None:
        when = self.exchanges.next_timer()
        if when is None or self._closed:
            return
        assert self._loop is not None
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when  # uvloop's handle does not know it when that is past already
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        assert self._loop is not None
        self._timer = None
        again, silent = self.exchanges.due(self._loop.time())
        for exchange in again:
            self._send(exchange)
        for exchange in silent:
            self._lines.suspect(exchange.channel, exchange.started_at)
            dropped = f"; dropped what came: {exchange.dropped}" if exchange.dropped else ""
            self._silent(exchange, self._trouble or f"did not answer {exchange.sent} tries{dropped}")
        self._arm()

    def _silent(self, exchange: Exchange, why: str) -> None:
        assert self._loop is not None
        now = self._loop.time()
        if exchange.token is not None and self.health.silent(exchange.started_at, now):
            logger.warning("RADIUS server %s (%s) is dead: %s", self.name, self._kind, why)
            self._plan_probe()
        self._settle(exchange, why)

    def _settle(self, exchange: Exchange, outcome: Packet | str) -> None:
        if exchange.token is None:
            result = "ok" if isinstance(outcome, Packet) else "timeout"
            self._report(result, 0.0 if self._loop is None else self._loop.time() - exchange.started_at, "status")
            return
        future: asyncio.Future[Packet | str] = exchange.token[0]
        if not future.done():
            future.set_result(outcome)

    # -- revival

    def _plan_probe(self) -> None:
        if self._settings.status_server and self._loop is not None and self._probe is None and not self._closed:
            delay = self._settings.limits.probe_s * (1 + 0.1 * self._jitter())
            self._probe = self._loop.call_later(delay, self._send_probe)

    def _send_probe(self) -> None:
        """Ask a dead server by Status-Server (RFC 5997 2.1); never retransmitted, the next one is the next try."""
        self._probe = None
        if not self.health.up:
            self._ask_status()
            self._plan_probe()

    def _ask_status(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        body = attribute(Type.NAS_IDENTIFIER, self._settings.nas_identifier.encode()[:253])
        exchange = self.exchanges.begin(
            Code.STATUS_SERVER, body, None, now=now, give_up_at=now + self._settings.limits.probe_s, resend=False
        )
        if exchange is not None:
            self._send(exchange)
            self._arm()


def _lines_to(server: Server, settings: Settings, owner: _Server) -> Lines:
    if server.tls is not None:
        return TlsLines(server.host, server.port, name=server.name, context=server.tls, owner=owner)
    return UdpLines(server.host, server.port, name=server.name, source=settings.source, owner=owner)
