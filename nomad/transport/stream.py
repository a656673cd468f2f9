"""SIP over connections: accepts them within limits, opens them to targets and reuses them, finds them by flow.

One `Streams` serves TCP, TLS, WS and WSS. What happens on a connection is in `connection.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial

from nomad import log
from nomad.clock import Clock
from nomad.ports import Gate, Target, Unavailable
from nomad.sip.events import Flow
from nomad.tasks import spawn
from nomad.transport.connection import Connection, PlainWire, Receiver, StreamLimits, Wire
from nomad.transport.counters import Counters
from nomad.transport.refusals import Refusals
from nomad.transport.tls import ClientTls, ServerTls, check_peer
from nomad.transport.udp import bind

logger = logging.getLogger(__name__)

BACKLOG = 1024
ACCEPT_BATCH = 64  # connections taken in one go, so that a flood of them does not starve the rest
MAX_DIALS = 1_000  # connections being opened by us at once
NO_FILES_PAUSE_S = 1.0
TCP_OPTIONS = (
    (socket.TCP_NODELAY, 1),
    (socket.TCP_KEEPIDLE, 60),  # seconds
    (socket.TCP_KEEPINTVL, 15),  # seconds
    (socket.TCP_KEEPCNT, 4),
    (socket.TCP_USER_TIMEOUT, 60_000),  # milliseconds that sent bytes may stay unacknowledged
)

DialKey = tuple[str, str, int, str]
Dial = asyncio.Future[Connection]


class Streams:
    """All connections of the endpoint."""

    def __init__(
        self,
        receiver: Receiver,
        gate: Gate,
        clock: Clock,
        *,
        counters: Counters,
        refusals: Refusals,
        limits: StreamLimits,
        closed: Callable[[Flow, str], None],
        client_tls: ClientTls | None = None,
    ) -> None:
        """`closed` is called once for every flow that messages could have come by."""
        self._receiver = receiver
        self._gate = gate
        self._clock = clock
        self._counters = counters
        self._refusals = refusals
        self._limits = limits
        self._closed = closed
        self._client_tls = client_tls
        # No id is used twice, not even after a restart: flows are stored with registrations.
        self._next_id = int(clock.wall() * 1000) << 16
        self._connections: dict[int, Connection] = {}
        self._per_address: dict[str, int] = {}
        self._accepted = 0
        self._targets: dict[DialKey, Connection] = {}
        self._dials: dict[DialKey, Dial] = {}
        self._listeners: list[socket.socket] = []
        self._emptied: asyncio.Event | None = None

    # -- listening ---------------------------------------------------------------------------------------------------

    def listen(
        self,
        transport: str,
        host: str,
        port: int,
        *,
        wire: Callable[[], Wire] = PlainWire,
        tls: ServerTls | None = None,
    ) -> tuple[str, int]:
        """Accept connections at an address; returns it with the port that was bound. Raises `Unavailable`."""
        listener = bind(host, port, socket.SOCK_STREAM)
        try:
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise Unavailable(f"cannot listen on {host} port {port}: {error.strerror}") from None
        self._listeners.append(listener)
        self._resume(listener, transport, wire, tls)
        name: tuple[str, int] = listener.getsockname()[:2]
        return name

    def stop_listening(self) -> None:
        """Accept no further connection."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners.clear()

    async def close(self, timeout_s: float = 2.0) -> None:
        """Close every connection after what is written; drop those that take too long."""
        self.stop_listening()
        for connection in list(self._connections.values()):
            connection.close("stopped")
        if self._connections:
            self._emptied = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._emptied.wait()
            for connection in list(self._connections.values()):
                connection.abort("stopped")

    def _resume(self, listener: socket.socket, transport: str, wire: Callable[[], Wire], tls: ServerTls | None) -> None:
        if listener in self._listeners:
            accept = partial(self._accept, listener, transport, wire, tls)
            asyncio.get_running_loop().add_reader(listener.fileno(), accept)

    def _accept(self, listener: socket.socket, transport: str, wire: Callable[[], Wire], tls: ServerTls | None) -> None:
        now = self._clock.monotonic()
        for _ in range(ACCEPT_BATCH):
            try:
                accepted, remote = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                self._counters.drop("accept")
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # The listener stays readable: without a pause this would spin.
                    log.event(logger, "cannot accept", level=logging.ERROR, why=error.strerror)
                    loop = asyncio.get_running_loop()
                    loop.remove_reader(listener.fileno())
                    loop.call_later(NO_FILES_PAUSE_S, self._resume, listener, transport, wire, tls)
                return
            address = remote[0]
            if not self._gate.admits(address, now, True):
                self._refusals.note("gate", address, transport=transport)
                accepted.close()
            elif not self._reserve(address):
                self._refusals.note("too-many", address, transport=transport, why="connections")
                accepted.close()
            else:
                spawn(self._open(accepted, address, transport, wire, tls), name="accept")

    async def _open(
        self, accepted: socket.socket, address: str, transport: str, wire: Callable[[], Wire], tls: ServerTls | None
    ) -> None:
        """Put a connection on an accepted socket; with TLS this takes as long as the handshake."""
        connection = self._connection(wire(), transport, closed=partial(self._lost, address=address))
        loop = asyncio.get_running_loop()
        try:
            _prepare(accepted)
            if tls is None:
                await loop.connect_accepted_socket(lambda: connection, accepted)
            else:
                await loop.connect_accepted_socket(
                    lambda: connection,
                    accepted,
                    ssl=tls.context(self._clock.monotonic()),
                    ssl_handshake_timeout=self._limits.handshake_s,
                )
        except (OSError, ValueError) as error:  # includes ssl.SSLError, TimeoutError
            why = getattr(error, "reason", "") or str(error) or type(error).__name__
            self._refusals.note("tls-handshake" if tls else "accept", address, transport=transport, why=why)
        finally:
            if not connection.was_made:
                accepted.close()
                self._release(address)

    # -- opening -----------------------------------------------------------------------------------------------------

    async def connect(self, target: Target) -> Flow:
        """A connection to a target: the one that is open, or a new one; callers at the same time share it."""
        key = (target.transport, target.host.strip("[]"), target.port, target.name)
        connection = self._targets.get(key)
        if connection is not None and connection.usable:
            return connection.flow
        dial = self._dials.get(key)
        if dial is None:
            if len(self._dials) >= MAX_DIALS:
                raise Unavailable("too many connections are being opened")
            dial = self._dials[key] = asyncio.get_running_loop().create_future()
            spawn(self._dial(key, dial), name="connect")
        # One caller's cancellation does not end the attempt for the others.
        return (await asyncio.shield(dial)).flow

    async def _dial(self, key: DialKey, dial: Dial) -> None:
        try:
            connection = await self._try(key)
        except Unavailable as error:
            dial.set_exception(error)
            dial.exception()  # looked at: nobody may be waiting any more
        except BaseException:
            dial.set_exception(Unavailable("the attempt to connect broke off"))
            dial.exception()
            raise
        else:
            self._targets[key] = connection
            dial.set_result(connection)
        finally:
            del self._dials[key]

    async def _try(self, key: DialKey) -> Connection:
        transport, host, port, name = key
        if transport not in ("tcp", "tls"):
            raise Unavailable(f"cannot connect over {transport}")
        check = self._check_name(name) if transport == "tls" else lambda _: None
        connection = self._connection(PlainWire(), transport, closed=partial(self._lost, key=key), check=check)
        loop = asyncio.get_running_loop()
        place = f"{transport}:{host} port {port}"
        try:
            async with asyncio.timeout(self._limits.connect_s):
                dialled = await self._dialled_socket(host, port)
                try:
                    if transport == "tls" and self._client_tls is not None:
                        context = self._client_tls.context(self._clock.monotonic())
                        # Without a name the address stands in; no SNI is sent for an address.
                        await loop.create_connection(
                            lambda: connection, sock=dialled, ssl=context, server_hostname=name or host
                        )
                    else:
                        await loop.create_connection(lambda: connection, sock=dialled)
                finally:
                    if not connection.was_made:
                        dialled.close()
        except TimeoutError:
            raise Unavailable(f"{place} did not answer within {self._limits.connect_s:g} s") from None
        except (OSError, ValueError) as error:
            raise Unavailable(f"{place}: {getattr(error, 'strerror', '') or error}") from None
        if connection.failure is not None:
            raise Unavailable(f"{place}: {connection.failure}")
        if not connection.usable:
            raise Unavailable(f"{place}: {connection.why}")
        return connection

    @staticmethod
    async def _dialled_socket(host: str, port: int) -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            _prepare(made)
            await asyncio.get_running_loop().sock_connect(made, (host, port))
        except BaseException:
            made.close()
            raise
        return made

    def _check_name(self, name: str) -> Callable[[ssl.SSLObject | None], None]:
        if self._client_tls is None:
            raise Unavailable("no TLS for outgoing connections")

        def check(tls: ssl.SSLObject | None) -> None:
            if name:
                check_peer(tls.getpeercert() if tls is not None else None, name)

        return check

    # -- by flow -----------------------------------------------------------------------------------------------------

    def send(self, data: bytes, flow: Flow) -> bool:
        """Send one message by a flow; False when its connection is gone or the peer does not read."""
        connection = self._connections.get(flow.id)
        return connection is not None and connection.send(data)

    def expect_keepalives(self, flow: Flow, within_s: float) -> None:
        """Drop the connection of a flow when nothing comes by it for so long."""
        connection = self._connections.get(flow.id)
        if connection is not None:
            connection.expect_keepalives(within_s)

    def abort(self, flow: Flow, why: str) -> None:
        """Drop the connection of a flow."""
        connection = self._connections.get(flow.id)
        if connection is not None:
            connection.abort(why)

    def __len__(self) -> int:
        return len(self._connections)

    def _connection(
        self,
        wire: Wire,
        transport: str,
        *,
        closed: Callable[[Connection], None],
        check: Callable[[ssl.SSLObject | None], None] | None = None,
    ) -> Connection:
        self._next_id += 1
        return Connection(
            wire,
            self._receiver,
            transport=transport,
            id=self._next_id,
            limits=self._limits,
            opened=self._made,
            closed=closed,
            check=check,
        )

    def _made(self, connection: Connection) -> None:
        self._connections[connection.flow.id] = connection
        self._counters.opened(connection.flow.transport)

    def _lost(self, connection: Connection, *, address: str = "", key: DialKey | None = None) -> None:
        if address:
            self._release(address)
        if key is not None and self._targets.get(key) is connection:
            del self._targets[key]
        flow = connection.flow
        if self._connections.pop(flow.id, None) is not None:
            self._counters.closed(flow.transport)
            if connection.fault:
                self._refusals.note(connection.fault, flow.remote[0], transport=flow.transport, why=connection.why)
            self._closed(flow, connection.why)
        if not self._connections and self._emptied is not None:
            self._emptied.set()

    def _reserve(self, address: str) -> bool:
        """Count a connection of this address before the handshake; False when there are enough."""
        group = address_group(address)
        count = self._per_address.get(group, 0)
        if self._accepted >= self._limits.connections or count >= self._limits.per_address:
            return False
        self._accepted += 1
        self._per_address[group] = count + 1
        return True

    def _release(self, address: str) -> None:
        group = address_group(address)
        self._accepted -= 1
        count = self._per_address[group] - 1
        if count:
            self._per_address[group] = count
        else:
            del self._per_address[group]


def _prepare(sock: socket.socket) -> None:
    """Options of every connection: no delay, and probes that find dead peers and keep NAT bindings open."""
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in TCP_OPTIONS:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def address_group(address: str) -> str:
    """What one peer may own: the address, for IPv6 the /64 that it is in."""
    if ":" not in address:
        return address
    packed = ipaddress.IPv6Address(address.partition("%")[0]).packed
    return packed[:8].hex()
