"""RADIUS server for asyncio: datagrams to verified requests to replies, with duplicates answered from a cache.

RFC 2865, 2866, 5080 2.2.2, 5997. Strangers and unsigned requests are dropped and counted. `radsec.py` is
the shell for RADIUS over TLS (RFC 6614).
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from radius import packet as wire
from radius.errors import EncodingError, PacketError
from radius.exchange import DuplicateCache
from radius.packet import Code, Packet
from radius.ports import Client, Handler, Reply

logger = logging.getLogger(__name__)

MAX_WORKING = 20_000  # requests that wait for the directory; more are dropped, their clients try again
SOCKET_BUFFER_BYTES = 1 << 22
LOG_EVERY_S = 1.0
Address = tuple[Any, ...]


class Clients:
    """Clients by address or network; the longest network wins."""

    def __init__(self, clients: Mapping[str, Client]) -> None:
        networks = [(ipaddress.ip_network(text, strict=False), client) for text, client in clients.items()]
        self._networks = sorted(networks, key=lambda entry: -entry[0].prefixlen)
        self._known: dict[str, Client] = {}

    def find(self, address: str) -> Client | None:
        """The client at this address, None for a stranger."""
        client = self._known.get(address)
        if client is None:
            ip = ipaddress.ip_address(address.partition("%")[0])
            ip = getattr(ip, "ipv4_mapped", None) or ip
            client = next((client for network, client in self._networks if ip in network), None)
            if client is not None and len(self._known) < 10_000:
                self._known[address] = client
        return client


@dataclass(slots=True)
class ServerCounters:
    """What came in and what became of it."""

    requests: int = 0
    replies: int = 0
    duplicates: int = 0
    silent: int = 0  # requests that the handler did not answer
    dropped: dict[str, int] = field(default_factory=dict)  # by reason

    def drop(self, reason: str) -> None:
        """Count a datagram that gets no reply."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


class Server:
    """One listening role: a socket, the codes that it answers, a handler."""

    def __init__(self, clients: Clients, handler: Handler, *, codes: Iterable[int], status_code: int) -> None:
        self.counters = ServerCounters()
        self._clients = clients
        self._handler = handler
        self._codes = frozenset((*codes, Code.STATUS_SERVER))
        self._status_code = status_code
        self._duplicates = DuplicateCache()
        self._working: set[asyncio.Task[None]] = set()
        self._logged_at = float("-inf")
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self, sock: socket.socket) -> None:
        """Serve on a bound UDP socket, which belongs to the server from now on."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(self.receive), sock=sock)

    async def close(self) -> None:
        """Stop listening; requests in progress are given up."""
        if self._transport is not None:
            self._transport.close()
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)

    def receive(
        self,
        data: bytes,
        address: Address,
        *,
        client: Client | None = None,
        send: Callable[[bytes], None] | None = None,
    ) -> None:
        """One packet: a datagram, or of a `client` whose connection takes the reply with `send`."""
        client = client or self._clients.find(address[0])
        answer = send or functools.partial(self._send, address=address)
        if client is None:
            self._drop("unknown-client", "no such client", address)
            return
        try:
            request = wire.decode(data)
            if request.code not in self._codes:
                raise PacketError("code", f"code {request.code} is not for this port")
            signed = request.code in (Code.ACCESS_REQUEST, Code.STATUS_SERVER)
            status = request.code == Code.STATUS_SERVER  # RFC 5997 3: always signed
            wire.verify_request(
                request, client.secret, require_mac=signed and (client.require_message_authenticator or status)
            )
        except PacketError as error:
            self._drop(error.reason, error.text, address)
            return
        self.counters.requests += 1
        key = (address, request.code, request.identifier, request.authenticator)
        known = self._duplicates.look(key, asyncio.get_running_loop().time())
        if known is not None:
            self.counters.duplicates += 1
            if known:
                answer(known)
            return
        if len(self._working) >= MAX_WORKING:
            self._duplicates.forget(key)
            self._drop("overload", "too many requests wait for the directory", address)
            return
        task = asyncio.create_task(self._work(request, client, address, key, answer))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _work(
        self, request: Packet, client: Client, address: Address, key: Any, answer: Callable[[bytes], None]
    ) -> None:
        data = b""
        try:
            reply = await self._handler.handle(request, client)
            if reply is None:
                self.counters.silent += 1
            else:
                data = self._encode(reply, request, client)
        except (PacketError, EncodingError) as error:
            self._drop(getattr(error, "reason", "too-long"), str(error), address)
        except Exception:
            logger.exception("request of %s failed", client.name)
        if not data:
            self._duplicates.forget(key)
            return
        self._duplicates.answer(key, data)
        self.counters.replies += 1
        answer(data)

    def _encode(self, reply: Reply, request: Packet, client: Client) -> bytes:
        status = request.code == Code.STATUS_SERVER
        code = self._status_code if status else reply.code
        # A reply to an Access-Request is always signed (CVE-2024-3596); accounting is answered in kind.
        sign = status or request.code == Code.ACCESS_REQUEST or bool(request.mac_at)
        return wire.encode_reply(code, request, reply.attributes, secret=client.secret, sign=sign)

    def _send(self, data: bytes, address: Address) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, address)

    def _drop(self, reason: str, text: str, address: Address) -> None:
        self.counters.drop(reason)
        now = asyncio.get_running_loop().time()
        if now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            logger.warning("dropped a datagram of %s: %s (%d so far)", address[0], text, self.counters.dropped[reason])


class Datagrams(asyncio.DatagramProtocol):
    """Hands each datagram to who receives them."""

    def __init__(self, receive: Callable[[bytes, Address], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """One datagram."""
        self._receive(data, addr)
