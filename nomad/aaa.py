"""Authenticator and AccountingSink over `radius.client`: proofs to Access-Requests, records to Accounting-Requests.

And orders of `radius.disconnect` to an OrderTaker. RFC 2865, 2866, 5090, 5176 and draft-sterman.
Decides nothing and keeps nothing.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable

from nomad.ports import (
    AccountingRecord,
    Change,
    Grant,
    OrderTaker,
    Proof,
    Refusal,
    Unavailable,
    Undeliverable,
    Vouched,
    Whom,
)
from radius import digest
from radius.attributes import NOMAD, Value, encode, encoder
from radius.client import Pool
from radius.digest import Digest
from radius.disconnect import ErrorCause, Kind, Order
from radius.errors import EncodingError, PacketError, RadiusUnavailable
from radius.packet import Code, Packet, Type, attribute

logger = logging.getLogger(__name__)

ADDRESS, EXTENSION, GROUP, DISPLAY_NAME = 1, 2, 3, 4  # of the vendor "Nomad"
SIP_AOR = 122  # RFC 5090 3.20
MAX_DELAY_S = 0xFFFFFFFF
LEAST_INTERIM_S = 60  # RFC 2869 5.16
# RFC 5176 3 and 3.6: what names a session, what an order may carry besides, and what a CoA can change here
SELECTING = ("User-Name", "Acct-Session-Id", "Calling-Station-Id", "Called-Station-Id", "Class")
PASSING = (
    "NAS-Identifier", "NAS-IP-Address", "NAS-IPv6-Address", "Event-Timestamp", "Proxy-State", "Acct-Terminate-Cause",
    "Reply-Message",
)  # fmt: skip
CHANGEABLE = {"Session-Timeout": "session_timeout_s", "Acct-Interim-Interval": "interim_interval_s"}
HA1_DIGITS = {"MD5": 32, "SHA-256": 64, "SHA-512-256": 64}  # not -sess: that HA1 is good for one nonce only
HEX = frozenset("0123456789abcdef")
_DIALECTS = {"sterman": digest.to_sterman, "rfc5090": digest.to_rfc5090}


class RadiusAuthenticator:
    """Checks digest credentials by RADIUS. Implements `ports.Authenticator` and `ports.Voucher`."""

    def __init__(
        self,
        pool: Pool,
        *,
        dialect: str = "sterman",
        nas_identifier: str = "nomad",
        nas_address: str = "",
        take_ha1: bool = False,
    ) -> None:
        """`take_ha1` only where nobody can read the replies: a Digest-HA1 that came over a network is not used."""
        self._pool = pool
        self._take_ha1 = take_ha1
        self._rfc5090 = dialect == "rfc5090"
        self._to_attributes = _DIALECTS[dialect]
        # What is the same in every request. RFC 2865 4.1: NAS-IP-Address or NAS-Identifier must be there.
        self._fixed = encode([("Service-Type", "Sip-Session"), ("NAS-Identifier", nas_identifier)])
        if nas_address:
            version = ipaddress.ip_address(nas_address).version
            self._fixed += encode([("NAS-IP-Address" if version == 4 else "NAS-IPv6-Address", nas_address)])

    async def check(self, proof: Proof) -> Grant | Refusal:
        """Ask a RADIUS server. Raises `Unavailable` when none answered in time."""
        answer = await self.vouch(proof)
        return answer.grant if isinstance(answer, Vouched) else answer

    async def vouch(self, proof: Proof) -> Vouched | Refusal:
        """The same, with the HA1 of the proof when the server gave it. Raises `Unavailable`."""
        try:
            reply = await self._pool.request(Code.ACCESS_REQUEST, self._attributes(proof))
        except EncodingError:
            return Refusal()  # longer than any credentials that a server could know
        except RadiusUnavailable as error:
            raise Unavailable(f"RADIUS authentication: {error}") from None
        try:
            if reply.code != Code.ACCESS_ACCEPT:
                return Refusal(_message(reply))
            return Vouched(_grant(reply, proof), _ha1(reply, proof) if self._take_ha1 else "")
        except PacketError as error:
            raise Unavailable(f"RADIUS authentication: reply cannot be used: {error.text}") from None

    def _attributes(self, proof: Proof) -> bytes:
        credentials = Digest(
            username=proof.username,
            realm=proof.realm,
            nonce=proof.nonce,
            uri=proof.uri,
            method=proof.method,
            response=proof.response,
            algorithm=proof.algorithm,
            qop=proof.qop,
            nc=proof.nc,
            cnonce=proof.cnonce,
            opaque=proof.opaque,
            body_hash=proof.body_hash,
        )
        body = attribute(Type.USER_NAME, proof.username.encode("utf-8", "surrogateescape")) + self._fixed
        body += self._to_attributes(credentials)
        if self._rfc5090 and proof.address:
            body += attribute(SIP_AOR, f"sip:{proof.address}".encode("utf-8", "surrogateescape"))
        return body


class RadiusAccounting:
    """Delivers accounting records by RADIUS."""

    def __init__(
        self,
        pool: Pool,
        *,
        nas_identifier: str = "nomad",
        nas_address: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._fixed = encode([("NAS-Identifier", nas_identifier)])
        self._of_people = encode([("Service-Type", "Sip-Session"), ("Acct-Authentic", "RADIUS")])
        if nas_address:
            version = ipaddress.ip_address(nas_address).version
            self._fixed += encode([("NAS-IP-Address" if version == 4 else "NAS-IPv6-Address", nas_address)])

    async def send(self, record: AccountingRecord) -> None:
        """Return when a server acknowledged the record. Raises `Unavailable`, `Undeliverable` when it never can be."""
        try:
            reply = await self._pool.request(Code.ACCOUNTING_REQUEST, self._attributes(record))
        except RadiusUnavailable as error:
            raise Unavailable(f"RADIUS accounting: {error}") from None
        except EncodingError as error:
            raise Undeliverable(f"RADIUS accounting: record {record.id} cannot be sent: {error}") from None
        # RFC 6614 2.5: a server that keeps no accounts answers like this, and has stored nothing
        if (cause := reply.get(Type.ERROR_CAUSE)) is not None:
            raise Unavailable(f"RADIUS accounting: not stored, Error-Cause {int.from_bytes(cause, 'big')}")

    def _attributes(self, record: AccountingRecord) -> bytes:
        at = int(record.at)
        # RFC 2866 5.2: what the record waited before this try; the event itself was at Event-Timestamp.
        delay = min(max(0, int(self._clock() - record.at)), MAX_DELAY_S)
        parts = [
            _STATUS_TYPE(record.status),
            self._fixed,
            _SESSION_ID(record.session),
            _EVENT_TIMESTAMP(max(0, at)),
            _DELAY_TIME(delay),
        ]
        if record.user:
            parts += [_USER_NAME(record.user), self._of_people]
        parts += [encoder(name)(value) for name, value in record.attributes]
        return b"".join(parts)


class RadiusOrders:
    """Turns Disconnect- and CoA-Requests into orders for the edge, and what became of them into an Error-Cause."""

    def __init__(self, taker: OrderTaker) -> None:
        self._taker = taker

    async def __call__(self, order: Order) -> ErrorCause | None:
        """Carry an order out; None acknowledges it."""
        whom = Whom(order.user, order.session, order.calling, order.called, order.classes, by=f"radius {order.client}")
        changes = dict(pair for pair in order.attributes if pair[0] in CHANGEABLE)
        if cause := _wrong_in(order, whom, changes):
            return cause
        try:
            if order.kind is Kind.DISCONNECT:
                found = await self._taker.disconnect(whom)
            else:
                change = Change(**{CHANGEABLE[name]: value for name, value in changes.items()})  # type: ignore[arg-type]  # integers by the dictionary
                found = await self._taker.change(whom, change)
        except Unavailable as error:
            logger.error("%s of %s: %s", order.kind.name, order.client, error)
            return ErrorCause.RESOURCES_UNAVAILABLE
        return None if found else ErrorCause.SESSION_CONTEXT_NOT_FOUND


def _wrong_in(order: Order, whom: Whom, changes: dict[str, Value]) -> ErrorCause | None:
    """RFC 5176 3: every attribute is mandatory, so one that means nothing here refuses the order."""
    allowed = {*SELECTING, *PASSING, *(CHANGEABLE if order.kind is Kind.CHANGE else ())}
    names = {name for name, _ in order.attributes}
    if "Service-Type" in names:
        return ErrorCause.UNSUPPORTED_SERVICE  # Authorize-Only (RFC 5176 3.2)
    if names - allowed:
        return ErrorCause.UNSUPPORTED_ATTRIBUTE
    if whom == Whom() or (order.kind is Kind.CHANGE and not changes):
        return ErrorCause.MISSING_ATTRIBUTE
    if any(not isinstance(value, int) for value in changes.values()):
        return ErrorCause.INVALID_ATTRIBUTE_VALUE
    interim = changes.get("Acct-Interim-Interval") or LEAST_INTERIM_S  # 0: as the edge is configured
    if changes.get("Session-Timeout") == 0 or int(interim) < LEAST_INTERIM_S:
        return ErrorCause.INVALID_ATTRIBUTE_VALUE
    return None


_STATUS_TYPE = encoder("Acct-Status-Type")
_SESSION_ID = encoder("Acct-Session-Id")
_EVENT_TIMESTAMP = encoder("Event-Timestamp")
_DELAY_TIME = encoder("Acct-Delay-Time")
_USER_NAME = encoder("User-Name")


def _grant(reply: Packet, proof: Proof) -> Grant:
    """An Access-Accept as a grant. Raises `PacketError`."""
    groups, addresses, classes = [], [], []
    user = extension = display_name = ""
    for kind, value in reply.attributes:
        if kind == Type.USER_NAME:
            user = user or _text(value)
        elif kind == Type.CLASS:
            classes.append(value)
    for kind, value in reply.vendor(NOMAD):
        if kind == ADDRESS:
            addresses.append(_text(value).lower())
        elif kind == GROUP:
            groups.append(_text(value))
        elif kind == EXTENSION:
            extension = extension or _text(value)
        elif kind == DISPLAY_NAME:
            display_name = display_name or _text(value)
    groups += [_text(value) for value in reply.get_all(Type.FILTER_ID)]
    return Grant(
        user=user or proof.username.partition("@")[0],
        addresses=tuple(addresses),
        extension=extension,
        groups=tuple(dict.fromkeys(groups)),
        classes=tuple(classes),
        display_name=display_name,
        session_timeout_s=reply.integer(Type.SESSION_TIMEOUT),
        idle_timeout_s=reply.integer(Type.IDLE_TIMEOUT),
        interim_interval_s=_interim_interval(reply),
        message=_message(reply),
    )


def _interim_interval(reply: Packet) -> int | None:
    """RFC 2869 5.16: never below 60 s, whatever a server writes."""
    interval = reply.integer(Type.ACCT_INTERIM_INTERVAL)
    return max(interval, LEAST_INTERIM_S) if interval else None


def _ha1(reply: Packet, proof: Proof) -> str:
    """Digest-HA1 (RFC 5090 3.19), "" when there is none that fits the algorithm."""
    ha1 = reply.text(digest.RFC5090_HA1).lower()
    length = HA1_DIGITS.get(proof.algorithm.upper(), 0)
    return ha1 if length and len(ha1) == length and not set(ha1) - HEX else ""


def _message(reply: Packet) -> str:
    """Every Reply-Message in order (RFC 2865 5.18), without what does not belong into a line."""
    values = reply.get_all(Type.REPLY_MESSAGE)
    if not values:
        return ""
    text = "".join([_text(value) for value in values])
    return "".join([character if character.isprintable() else " " for character in text]).strip()


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
