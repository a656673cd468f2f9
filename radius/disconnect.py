"""Listener for dynamic authorization: Disconnect-Request and CoA-Request from RADIUS servers (RFC 5176).

Checks the authenticators and Event-Timestamp and refuses replays; what a request means is up to the handler, how it
comes in is the part of `intake.py`, over TLS of `radsec.py`. RFC 5176 sections 2.3, 3, 3.5, 3.6, 6.3.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, IntEnum

from radius import packet as wire
from radius.attributes import Value, named
from radius.errors import PacketError
from radius.intake import Intake
from radius.packet import Code, Packet, Type, integer_attribute
from radius.ports import Client, SecretSource

logger = logging.getLogger(__name__)

PORT = 3799  # RFC 5176 2.1
ORDERS = (Code.DISCONNECT_REQUEST, Code.COA_REQUEST)
MAX_REMEMBERED = 50_000
REMEMBER_S = 86_400.0  # longer than any timestamp is good, because a request may have none


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


class DisconnectListener(Intake):
    """Takes orders and answers them."""

    max_working = 1000
    cancels = False

    def __init__(
        self,
        clients: SecretSource,
        handler: OrderHandler,
        settings: ListenerSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clients)
        self._handler = handler
        self._settings = settings or ListenerSettings()
        self._clock = clock
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def check(self, request: Packet, client: Client) -> None:
        """Code, authenticators and time. Raises `PacketError`."""
        if request.code not in ORDERS:
            raise PacketError("code", f"code {request.code} is not for this port")
        wire.verify_request(request, client.secret, require_mac=self._settings.require_message_authenticator)
        self._check_time(request)

    def admit(self, request: Packet) -> None:
        """Whether the same octets came before, from wherever. Raises `PacketError`."""
        now = self._clock()
        seen = self._seen
        while seen and (len(seen) >= MAX_REMEMBERED or next(iter(seen.values())) <= now):
            seen.popitem(last=False)
        if request.authenticator in seen:
            raise PacketError("replay", "a request that was carried out before")
        seen[request.authenticator] = now + REMEMBER_S

    async def answer(self, request: Packet, client: Client) -> bytes:
        """Carry an order out; ACK or NAK."""
        try:
            cause = self._wrong_nas(request) or await self._handler(order_of(request, client.name))
        except Exception:
            logger.exception("%s of %s failed", Code(request.code).name, client.name)
            cause = ErrorCause.RESOURCES_UNAVAILABLE
        logger.info("%s of %s: %s", Code(request.code).name, client.name, "done" if cause is None else cause.name)
        code = request.code + (1 if cause is None else 2)  # ACK and NAK follow their request, RFC 5176 5
        body = b"" if cause is None else integer_attribute(Type.ERROR_CAUSE, cause)
        return wire.encode_reply(code, request, body, secret=client.secret, sign=True)

    def _check_time(self, request: Packet) -> None:
        """RFC 5176 6.3: a request that is too old, or not dated, may be a replay. Raises `PacketError`."""
        at = request.integer(Type.EVENT_TIMESTAMP)
        if at is None:
            if self._settings.require_timestamp:
                raise PacketError("timestamp-missing", "no Event-Timestamp")
        elif abs(self._clock() - at) > self._settings.window_s:
            raise PacketError("timestamp", f"Event-Timestamp is {self._clock() - at:.0f} s old")

    def _wrong_nas(self, request: Packet) -> ErrorCause | None:
        """RFC 5176 3: attributes that name another NAS."""
        asked = request.text(Type.NAS_IDENTIFIER)
        if self._settings.nas_identifier and asked and asked != self._settings.nas_identifier:
            return ErrorCause.NAS_IDENTIFICATION_MISMATCH
        return None


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
