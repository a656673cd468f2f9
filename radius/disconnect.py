"""Listener for dynamic authorization: Disconnect-Request and CoA-Request from RADIUS servers (RFC 5176).

Checks the sender, the authenticators and Event-Timestamp, answers duplicates from a cache and refuses replays; what a
request means is up to the handler. RFC 5176 sections 2.3, 3, 3.5, 3.6, 6.3.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

from radius import packet as wire
from radius.attributes import Value, named
from radius.errors import EncodingError, PacketError
from radius.exchange import DuplicateCache
from radius.packet import Code, Packet, Type, integer_attribute
from radius.ports import SecretSource
from radius.server import Datagrams, ServerCounters

logger = logging.getLogger(__name__)

LOG_EVERY_S = 1.0
MAX_WORKING = 1000
MAX_REMEMBERED = 50_000
REMEMBER_S = 86_400.0  # longer than any timestamp is good, because a request may have none
Address = tuple[Any, ...]


class Kind(Enum):
    """What is asked for."""

    DISCONNECT = Code.DISCONNECT_REQUEST
    CHANGE = Code.COA_REQUEST


class ErrorCause(IntEnum):
    """Why a request is refused (RFC 5176 3.6)."""

    UNSUPPORTED_ATTRIBUTE = 401
    MISSING_ATTRIBUTE = 402
    NAS_IDENTIFICATION_MISMATCH = 403
    INVALID_REQUEST = 404
    UNSUPPORTED_SERVICE = 405
    INVALID_ATTRIBUTE_VALUE = 407
    ADMINISTRATIVELY_PROHIBITED = 501
    SESSION_CONTEXT_NOT_FOUND = 503
    SESSION_CONTEXT_NOT_REMOVABLE = 504
    RESOURCES_UNAVAILABLE = 506


@dataclass(frozen=True, slots=True)
class Order:
    """A verified Disconnect-Request or CoA-Request."""

    kind: Kind
    client: str
    user: str  # User-Name, "" when it is absent, as with the others
    session: str  # Acct-Session-Id
    calling: str  # Calling-Station-Id
    called: str  # Called-Station-Id
    classes: tuple[bytes, ...]
    attributes: tuple[tuple[str, Value], ...]  # all of them by name, for a CoA


OrderHandler = Callable[[Order], Awaitable[ErrorCause | None]]
"""Carries an order out; None acknowledges it, a cause refuses it."""


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """What the listener insists on."""

    window_s: float = 300.0
    """How far Event-Timestamp may be off (RFC 5176 6.3)."""
    require_timestamp: bool = False
    """Refuse requests without Event-Timestamp: safest, but radclient sends one only when told to."""
    require_message_authenticator: bool = False
    """Refuse requests without Message-Authenticator; the Request Authenticator already proves the secret."""
    nas_identifier: str = ""
    """When given, a request for another NAS-Identifier is refused with 403 (RFC 5176 3)."""


class DisconnectListener:
    """Receives orders on a UDP socket and answers them."""

    def __init__(
        self,
        clients: SecretSource,
        handler: OrderHandler,
        settings: ListenerSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.counters = ServerCounters()
        self._clients = clients
        self._handler = handler
        self._settings = settings or ListenerSettings()
        self._clock = clock
        self._duplicates = DuplicateCache()
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        self._working: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None
        self._logged_at = float("-inf")

    async def start(self, sock: socket.socket) -> tuple[str, int]:
        """Listen on a bound UDP socket, which belongs to the listener from now on; returns its address."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(self.receive), sock=sock)
        name = sock.getsockname()
        return str(name[0]), int(name[1])

    async def close(self) -> None:
        """Stop listening; orders in progress are carried out, unanswered."""
        if self._transport is not None:
            self._transport.close()
        await asyncio.gather(*self._working, return_exceptions=True)

    def receive(self, data: bytes, address: Address) -> None:
        """One datagram."""
        client = self._clients.find(address[0])
        if client is None:
            self._drop("unknown-client", "no such client", address)
            return
        try:
            request = wire.decode(data)
            if request.code not in (Code.DISCONNECT_REQUEST, Code.COA_REQUEST):
                raise PacketError("code", f"code {request.code} is not for this port")
            require = self._settings.require_message_authenticator
            wire.verify_request(request, client.secret, require_mac=require)
            self._check_time(request)
        except PacketError as error:
            self._drop(error.reason, error.text, address)
            return
        self.counters.requests += 1
        key = (address, request.code, request.identifier, request.authenticator)
        known = self._duplicates.look(key, asyncio.get_running_loop().time())
        if known is not None:
            self.counters.duplicates += 1
            if known:
                self._send(known, address)
            return
        if self._replayed(request):
            self._drop("replay", "a request that was carried out before", address)
            return
        if len(self._working) >= MAX_WORKING:
            self._duplicates.forget(key)
            self._drop("overload", "too many orders at once", address)
            return
        task = asyncio.create_task(self._work(request, client.name, client.secret, address, key))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _work(self, request: Packet, client: str, secret: bytes, address: Address, key: Any) -> None:
        try:
            cause = self._wrong_nas(request) or await self._handler(order_of(request, client))
        except Exception:
            logger.exception("%s of %s failed", Code(request.code).name, client)
            cause = ErrorCause.RESOURCES_UNAVAILABLE
        code = request.code + (1 if cause is None else 2)  # ACK and NAK follow their request, RFC 5176 5
        body = b"" if cause is None else integer_attribute(Type.ERROR_CAUSE, cause)
        try:
            data = wire.encode_reply(code, request, body, secret=secret, sign=True)
        except EncodingError as error:
            self._drop("too-long", str(error), address)
            return
        logger.info("%s of %s: %s", Code(request.code).name, client, "done" if cause is None else cause.name)
        self._duplicates.answer(key, data)
        self.counters.replies += 1
        self._send(data, address)

    def _check_time(self, request: Packet) -> None:
        """RFC 5176 6.3: a request that is too old, or not dated, may be a replay. Raises `PacketError`."""
        at = request.integer(Type.EVENT_TIMESTAMP)
        if at is None:
            if self._settings.require_timestamp:
                raise PacketError("timestamp-missing", "no Event-Timestamp")
        elif abs(self._clock() - at) > self._settings.window_s:
            raise PacketError("timestamp", f"Event-Timestamp is {self._clock() - at:.0f} s old")

    def _replayed(self, request: Packet) -> bool:
        """Whether the same octets came before, from wherever."""
        now = self._clock()
        seen = self._seen
        while seen and (len(seen) >= MAX_REMEMBERED or next(iter(seen.values())) <= now):
            seen.popitem(last=False)
        if request.authenticator in seen:
            return True
        seen[request.authenticator] = now + REMEMBER_S
        return False

    def _wrong_nas(self, request: Packet) -> ErrorCause | None:
        """RFC 5176 3: attributes that name another NAS."""
        asked = request.text(Type.NAS_IDENTIFIER)
        if self._settings.nas_identifier and asked and asked != self._settings.nas_identifier:
            return ErrorCause.NAS_IDENTIFICATION_MISMATCH
        return None

    def _send(self, data: bytes, address: Address) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, address)

    def _drop(self, reason: str, text: str, address: Address) -> None:
        self.counters.drop(reason)
        now = asyncio.get_running_loop().time()
        if now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            logger.warning("dropped an order of %s: %s", address[0], text)


def order_of(request: Packet, client: str) -> Order:
    """What a request asks for."""
    return Order(
        kind=Kind(request.code),
        client=client,
        user=request.text(Type.USER_NAME),
        session=request.text(Type.ACCT_SESSION_ID),
        calling=request.text(Type.CALLING_STATION_ID),
        called=request.text(Type.CALLED_STATION_ID),
        classes=tuple(request.get_all(Type.CLASS)),
        attributes=tuple(named(request)),
    )
