"""Takes requests in: senders, checks, duplicates, a bound on the work, one log line for what is dropped.

RFC 2865, 5080 2.2.2. `server.py` answers clients with it, `disconnect.py` takes orders; `radsec.py` is the shell for
RADIUS over TLS (RFC 6614).
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from radius import packet as wire
from radius.errors import EncodingError, PacketError
from radius.exchange import DuplicateCache
from radius.packet import Packet
from radius.ports import Client, SecretSource

logger = logging.getLogger(__name__)

SOCKET_BUFFER_BYTES = 1 << 22
LOG_EVERY_S = 1.0
Address = tuple[Any, ...]
Send = Callable[[bytes], None]


@dataclass(slots=True)
class IntakeCounters:
    """What came in and what became of it."""

    requests: int = 0
    replies: int = 0
    duplicates: int = 0
    silent: int = 0  # requests that were not answered on purpose
    dropped: dict[str, int] = field(default_factory=dict)  # by reason

    def drop(self, reason: str) -> None:
        """Count a datagram that gets no reply."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


class Intake:
    """One role on a socket, on connections, or on both; what a request means is the subclass's part."""

    max_working = 20_000  # requests that wait for an answer; more are dropped, their senders try again
    cancels = True  # what is not answered yet is given up at the end; else carried out, unanswered

    def __init__(self, clients: SecretSource) -> None:
        self.counters = IntakeCounters()
        self._clients = clients
        self._duplicates = DuplicateCache()
        self._working: set[asyncio.Task[None]] = set()
        self._logged_at = float("-inf")
        self._transport: asyncio.DatagramTransport | None = None

    def check(self, request: Packet, client: Client) -> None:
        """Whether the request is what it claims to be, and ours to answer. Raises `PacketError`."""
        raise NotImplementedError

    def admit(self, request: Packet) -> None:
        """A last look at a request that is not a copy of another. Raises `PacketError`."""

    async def answer(self, request: Packet, client: Client) -> bytes:
        """The reply as octets, b"" for none. Raises `PacketError` and `EncodingError`."""
        raise NotImplementedError

    async def start(self, sock: socket.socket) -> tuple[str, int]:
        """Listen on a bound UDP socket, which belongs to the intake from now on; its address."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(self.receive), sock=sock)
        name = sock.getsockname()
        return str(name[0]), int(name[1])

    async def close(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()
        if self.cancels:
            for task in self._working:
                task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)

    def receive(self, data: bytes, address: Address, *, client: Client | None = None, send: Send | None = None) -> None:
        """One packet: a datagram, or of a `client` whose connection takes the reply with `send`."""
        client = client or self._clients.find(address[0])
        reply = send or functools.partial(self._send, address=address)
        if client is None:
            self._drop("unknown-client", "no such client", address)
            return
        try:
            request = wire.decode(data)
            self.check(request, client)
        except PacketError as error:
            self._drop(error.reason, error.text, address)
            return
        self.counters.requests += 1
        key = (address, request.code, request.identifier, request.authenticator)
        known = self._duplicates.look(key, asyncio.get_running_loop().time())
        if known is not None:
            self.counters.duplicates += 1
            if known:
                reply(known)
            return
        try:
            if len(self._working) >= self.max_working:
                raise PacketError("overload", "too many requests wait for their answers")
            self.admit(request)
        except PacketError as error:
            self._duplicates.forget(key)
            self._drop(error.reason, error.text, address)
            return
        task = asyncio.create_task(self._work(request, client, address, key, reply))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _work(self, request: Packet, client: Client, address: Address, key: Any, reply: Send) -> None:
        data = b""
        try:
            data = await self.answer(request, client)
        except (PacketError, EncodingError) as error:
            self._drop(getattr(error, "reason", "too-long"), str(error), address)
        except Exception:
            logger.exception("request of %s failed", client.name)
        if not data:
            self._duplicates.forget(key)
            return
        self._duplicates.answer(key, data)
        self.counters.replies += 1
        reply(data)

    def _send(self, data: bytes, address: Address) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, address)

    def _drop(self, reason: str, text: str, address: Address) -> None:
        self.counters.drop(reason)
        now = asyncio.get_running_loop().time()
        if now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            logger.warning("dropped a packet of %s: %s (%d so far)", address[0], text, self.counters.dropped[reason])


class Datagrams(asyncio.DatagramProtocol):
    """Hands each datagram to who receives them."""

    def __init__(self, receive: Callable[[bytes, Address], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """One datagram."""
        self._receive(data, addr)
