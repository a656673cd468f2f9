"""How packets reach one server: connected UDP sockets (RFC 2865), or TLS connections (RFC 6614).

A channel carries 256 requests in flight, that is one socket or one connection. What cannot be sent, and what comes
back, is told to the owner; which request that concerns is the owner's part.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, Protocol

from radius.errors import PacketError, RadiusUnavailable
from radius.packet import Code
from radius.radsec import HANDSHAKE_S, MAX_UNREAD_BYTES, Framer

RECEIVE_BYTES = 4097  # one more than a packet may have
READS_PER_WAKE = 32
SOCKET_BUFFER_BYTES = 1 << 20
RECONNECT_S = 0.2  # at least this long between two tries to connect
REOPEN_S = 2.0  # the same for a connection that is only kept open
PROBE_S = 30  # idle for so long: the system asks whether the other side is there
ORDERS = (Code.DISCONNECT_REQUEST, Code.COA_REQUEST)


OrderReceiver = Callable[[bytes, tuple[str, int], Callable[[bytes], None]], None]
"""Takes an order, the server's address, and how to answer."""


class Owner(Protocol):
    """Who uses lines."""

    def received(self, channel: int, data: bytes) -> None:
        """A packet came."""

    def refused(self, channel: int, why: str) -> None:
        """Nothing that is in flight on the channel will be answered."""

    def connected(self, channel: int) -> None:
        """A connection is there anew; what was sent before is lost."""


class Lines(Protocol):
    """Channels to one server."""

    async def resolve(self) -> None:
        """Look up the server's address. Raises `RadiusUnavailable`."""

    def send(self, loop: asyncio.AbstractEventLoop, channel: int, data: bytes) -> None:
        """Put a packet on its way."""

    def suspect(self, channel: int, since: float) -> None:
        """A request sent at that time was not answered: a connection that has been silent since may be dead."""

    def take_orders(self, loop: asyncio.AbstractEventLoop, receive: OrderReceiver) -> None:
        """From now on keep a connection open, and hand over what the server orders on it (RFC 5176 over RFC 6614)."""

    def close(self) -> None:
        """Close everything."""


class UdpLines:
    """Connected UDP sockets, opened when needed; the kernel drops what other addresses send."""

    def __init__(self, host: str, port: int, *, name: str, source: str, owner: Owner) -> None:
        self._host = host
        self._port = port
        self._name = name
        self._source = source
        self._owner = owner
        self._address = _numeric(host, port)
        self._sockets: list[socket.socket] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def resolve(self) -> None:
        """Look up the address of a server that is given by name."""
        if self._address is not None:
            return
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise RadiusUnavailable(f"{self._name}: name does not resolve: {error.strerror}") from None
        family, _, _, _, address = found[0]
        self._address = (family, (str(address[0]), int(address[1])))

    def send(self, loop: asyncio.AbstractEventLoop, channel: int, data: bytes) -> None:
        """Send at once; what does not go out is sent again like what gets lost."""
        self._loop = loop
        try:
            while channel >= len(self._sockets):
                self._open()
            sock = self._sockets[channel]
            try:
                sock.send(data)
            except ConnectionRefusedError:
                sock.send(data)  # the error was that of an earlier datagram; this one is not sent yet
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._owner.refused(channel, f"refused: {error.strerror}")

    def suspect(self, channel: int, since: float) -> None:
        """Nothing to do: a socket has no state that could be lost."""

    def take_orders(self, loop: asyncio.AbstractEventLoop, receive: OrderReceiver) -> None:
        """Over UDP orders come to a port of their own."""

    def close(self) -> None:
        """Close the sockets."""
        for sock in self._sockets:
            if self._loop is not None:
                self._loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()

    def _open(self) -> None:
        if self._address is None:
            raise OSError(0, "address is not known yet")
        assert self._loop is not None
        family, address = self._address
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
            if self._source:
                sock.bind((self._source, 0))
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        self._loop.add_reader(sock.fileno(), self._readable, sock, len(self._sockets))
        self._sockets.append(sock)

    def _readable(self, sock: socket.socket, channel: int) -> None:
        for _ in range(READS_PER_WAKE):
            try:
                data = sock.recv(RECEIVE_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # libuv stops watching a socket that had an error, and uvloop does not start again by itself
                assert self._loop is not None
                self._loop.remove_reader(sock.fileno())
                self._loop.add_reader(sock.fileno(), self._readable, sock, channel)
                self._owner.refused(channel, f"refused: {error.strerror}")
                return
            self._owner.received(channel, data)


class TlsLines:
    """TLS connections, opened when needed and anew when they end. Never anything else than TLS."""

    def __init__(self, host: str, port: int, *, name: str, context: ssl.SSLContext, owner: Owner) -> None:
        self._host = host
        self._port = port
        self._name = name
        self._context = context
        self._owner = owner
        self._channels: dict[int, _Stream] = {}
        self._closed = False
        self._orders: OrderReceiver | None = None

    async def resolve(self) -> None:
        """Names are looked up at each connection."""

    def send(self, loop: asyncio.AbstractEventLoop, channel: int, data: bytes) -> None:
        """Send on the channel's connection; while there is none the owner sends again in `connected`."""
        stream = self._channels.get(channel)
        if stream is None:
            stream = self._channels[channel] = _Stream(self, loop, channel)
        stream.send(data)

    def take_orders(self, loop: asyncio.AbstractEventLoop, receive: OrderReceiver) -> None:
        """Open the first channel and keep it open; orders are taken on all of them."""
        self._orders = receive
        self._channels[0] = _Stream(self, loop, 0, keep=True)
        self._channels[0].open()

    def received(self, stream: _Stream, packet: bytes) -> None:
        """A packet came: a reply, or an order."""
        if self._orders is not None and packet[0] in ORDERS:
            self._orders(packet, (self._host, stream.channel), stream.answer)
        else:
            self._owner.received(stream.channel, packet)

    def suspect(self, channel: int, since: float) -> None:
        """End a connection on which nothing came since; TCP itself would hope for a quarter of an hour."""
        stream = self._channels.get(channel)
        if stream is not None and stream.heard_at < since:
            stream.abort()

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        for stream in self._channels.values():
            stream.close()

    async def connect(self, stream: _Stream) -> str:
        """Open a connection for a stream: "" when it is there, else why it is not."""
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(
                lambda: stream,
                self._host,
                self._port,
                ssl=self._context,
                server_hostname=self._host,
                ssl_handshake_timeout=HANDSHAKE_S,
            )
        except ssl.SSLCertVerificationError as error:
            return f"certificate is not good: {error.verify_message}"
        except ssl.SSLError as error:
            return f"TLS failed: {error.reason or error}"
        except (OSError, ConnectionError, TimeoutError) as error:
            return f"refused: {getattr(error, 'strerror', '') or error or type(error).__name__}"
        return ""

    @property
    def closed(self) -> bool:
        """Whether nothing may be opened any more."""
        return self._closed

    @property
    def owner(self) -> Owner:
        """Who is told."""
        return self._owner


class _Stream(asyncio.Protocol):
    """One channel: at most one connection at a time."""

    def __init__(self, lines: TlsLines, loop: asyncio.AbstractEventLoop, channel: int, *, keep: bool = False) -> None:
        """`keep`: open it anew whenever it ends, not only when there is something to send."""
        self._lines = lines
        self._loop = loop
        self.channel = channel
        self._keep = keep
        self._transport: Any = None
        self._framer = Framer()
        self._connecting: asyncio.Task[None] | None = None
        self._tried_at = float("-inf")
        self.heard_at = float("-inf")

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            if self._transport.get_write_buffer_size() <= MAX_UNREAD_BYTES:
                self._transport.write(data)
            return
        self.open()

    def answer(self, data: bytes) -> None:
        """Answer an order; nothing when the connection it came on is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def open(self) -> None:
        if self._transport is None and self._connecting is None and not self._lines.closed:
            self._connecting = self._loop.create_task(self._connect(RECONNECT_S))

    async def _connect(self, pause: float) -> None:
        try:
            await asyncio.sleep(self._tried_at + pause - self._loop.time())
            self._tried_at = self._loop.time()
            self._framer = Framer()
            why = await self._lines.connect(self)
        finally:
            self._connecting = None
        if why:
            self._lines.owner.refused(self.channel, why)
            self._stay_open()

    def _stay_open(self) -> None:
        if self._keep and self._connecting is None and self._transport is None and not self._lines.closed:
            self._connecting = self._loop.create_task(self._connect(REOPEN_S))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.heard_at = self._loop.time()
        if self._keep:
            _probe_when_idle(transport.get_extra_info("socket"))
        self._lines.owner.connected(self.channel)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        try:
            packets = self._framer.feed(data)
        except PacketError:
            self._transport.abort()
            return
        for packet in packets:
            self._lines.received(self, packet)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._lines.closed:
            self._lines.owner.refused(self.channel, f"refused: connection ended{f': {exc}' if exc else ''}")
            self._stay_open()

    def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _probe_when_idle(sock: Any) -> None:
    """A firewall that forgot an idle connection would keep the server's orders from us, and nobody would notice."""
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_S // 3),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    ):
        sock.setsockopt(level, option, value)


def _numeric(host: str, port: int) -> tuple[int, tuple[str, int]] | None:
    """The address of a server that is given by number; None for a name."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return None
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))
