"""Authenticator and AccountingSink over `radius.client`: proofs to Access-Requests, records to Accounting-Requests.

And orders of `radius.disconnect` to an OrderTaker. RFC 2865, 2866, 5090, 5176 and draft-sterman.
Decides nothing and keeps nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

from nomad.ports import (
    NO_LIMITS,
    AccountingRecord,
    Change,
    Grant,
    Limits,
    OrderTaker,
    Proof,
    Refusal,
    Unavailable,
    Undeliverable,
    Vouched,
    Whom,
)
from radius import digest
from radius.attributes import NOMAD, Value, cut_text, encode, encoder
from radius.client import Pool
from radius.digest import Digest
from radius.disconnect import ErrorCause, Kind, Order
from radius.errors import EncodingError, PacketError, RadiusUnavailable
from radius.packet import HEADER_BYTES, MAX_PACKET_BYTES, Code, Packet, Type, attribute

logger = logging.getLogger(__name__)

# of the vendor "Nomad", as in dictionaries/dictionary.nomad
ADDRESS, EXTENSION, GROUP, DISPLAY_NAME = 1, 2, 3, 4
ALLOW_CLASS, MAX_CALLS, MAX_MINUTES_PER_DAY, MAX_CALL_MINUTES, DIGEST_HA1 = 5, 6, 7, 8, 9
RESPONSE_CODE = 19
SIP_AOR = 122  # RFC 5090 3.20
FORBIDDEN = 403  # in an Access-Reject: the credentials were right, the person may not come in
MAX_MESSAGE_BYTES = 128  # of a Reply-Message in a reason phrase
NOBODY_HA1 = "0" * 32  # what a proof is checked against when there is nothing else, so that it takes as long
MAX_DELAY_S = 0xFFFFFFFF
ROOM_BYTES = MAX_PACKET_BYTES - HEADER_BYTES  # of an Accounting-Request, which has no Message-Authenticator
MAX_GROUPINGS = 1024  # remembered: sets of groups that people are in
LEAST_INTERIM_S = 60  # RFC 2869 5.16
# RFC 5176 3 and 3.6: what names a session, what an order may carry besides, and what a CoA can change here
SELECTING = ("User-Name", "Acct-Session-Id", "Calling-Station-Id", "Called-Station-Id", "Class")
PASSING = (
    "NAS-Identifier", "NAS-IP-Address", "NAS-IPv6-Address", "Event-Timestamp", "Proxy-State", "Acct-Terminate-Cause",
    "Reply-Message",
)  # fmt: skip
CHANGEABLE = (
    "Session-Timeout", "Acct-Interim-Interval", "Filter-Id", "Nomad-Group", "Nomad-Allow-Class", "Nomad-Max-Calls",
    "Nomad-Max-Minutes-Per-Day", "Nomad-Max-Call-Minutes",
)  # fmt: skip
GROUPS = ("Nomad-Group", "Filter-Id")
SEVERAL = ("Class", "Nomad-Allow-Class", *GROUPS)  # of the others a second one contradicts the first
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
        take_ha1: bool = False,
        verify: bool = False,
    ) -> None:
        """`take_ha1` only where nobody can read the replies: a Digest-HA1 that came over a network is not used.

        `verify`: the server authorises and tells HA1, and the digest is checked here; needs `take_ha1`.
        """
        self._pool = pool
        self._take_ha1 = take_ha1
        self._verify = verify and take_ha1
        self._asks_for_ha1 = encode([("Nomad-Verify-At", "Edge")])
        self._warned = False
        self._rfc5090 = dialect == "rfc5090"
        self._to_attributes = _DIALECTS[dialect]
        # What is the same in every request. RFC 2865 4.1: NAS-Identifier does in place of NAS-IP-Address.
        self._fixed = encode([("Service-Type", "Sip-Session"), ("NAS-Identifier", nas_identifier)])

    async def check(self, proof: Proof) -> Grant | Refusal:
        """Ask a RADIUS server. Raises `Unavailable` when none answered in time."""
        answer = await self.vouch(proof)
        return answer.grant if isinstance(answer, Vouched) else answer

    async def vouch(self, proof: Proof) -> Vouched | Refusal:
        """The same, with the HA1 of the proof when the server gave it. Raises `Unavailable`."""
        make = self._attributes_for_ha1 if self._verify else self._attributes
        try:
            reply = await self._pool.request(Code.ACCESS_REQUEST, make(proof))
        except EncodingError:
            return Refusal()  # longer than any credentials that a server could know
        except RadiusUnavailable as error:
            raise Unavailable(f"RADIUS authentication: {error}") from None
        try:
            if self._verify:
                return self._judge(reply, proof)
            if reply.code != Code.ACCESS_ACCEPT:
                return Refusal(_message(reply), final=_number(reply, RESPONSE_CODE) == FORBIDDEN)
            return Vouched(_grant(reply, proof), self._ha1(reply, proof))
        except PacketError as error:
            raise Unavailable(f"RADIUS authentication: reply cannot be used: {error.text}") from None

    def _attributes(self, proof: Proof) -> bytes:
        body = attribute(Type.USER_NAME, _octets(proof.username)) + self._fixed
        body += self._to_attributes(_digest_of(proof))
        if self._rfc5090 and proof.address:
            body += attribute(SIP_AOR, _octets(f"sip:{proof.address}"))
        return body

    def _attributes_for_ha1(self, proof: Proof) -> bytes:
        """Whose HA1 is asked for; nothing of the proof goes along."""
        body = attribute(Type.USER_NAME, _octets(proof.username)) + self._fixed + self._asks_for_ha1
        body += attribute(digest.RFC5090_REALM, _octets(proof.realm))
        body += attribute(digest.RFC5090_ALGORITHM, _octets(proof.algorithm))
        return body + (attribute(SIP_AOR, _octets(f"sip:{proof.address}")) if proof.address else b"")

    def _judge(self, reply: Packet, proof: Proof) -> Vouched | Refusal:
        """Check the proof with the HA1 that came. A refusal is always the same: the server knows nothing of the proof,
        and what it says of an account is for who knows the password.
        """
        accepted = reply.code == Code.ACCESS_ACCEPT
        ha1 = self._ha1(reply, proof) if accepted else ""
        if accepted and not ha1:
            logger.warning("%r let in by RADIUS, but without a %s HA1 that fits", proof.username, proof.algorithm)
        right = digest.verify(_digest_of(proof), ha1 or NOBODY_HA1)
        return Vouched(_grant(reply, proof), ha1) if right and ha1 else Refusal()

    def _ha1(self, reply: Packet, proof: Proof) -> str:
        """The HA1 of this proof, "" when the reply has none that fits or may not be trusted with one."""
        ha1 = _ha1_in(reply, proof)
        if ha1 and not self._take_ha1:
            if not self._warned:
                self._warned = True
                logger.warning("a RADIUS server sends HA1 unasked; if that is over a network without RadSec, stop it")
            return ""
        return ha1


class RadiusAccounting:
    """Delivers accounting records by RADIUS."""

    def __init__(
        self,
        pool: Pool,
        *,
        nas_identifier: str = "nomad",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._fixed = encode([("NAS-Identifier", nas_identifier)])
        self._of_people = encode([("Service-Type", "Sip-Session"), ("Acct-Authentic", "RADIUS")])

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
        body = b"".join(parts)
        return body if len(body) <= ROOM_BYTES else b"".join(_fitting(parts, record))


class RadiusOrders:
    """Turns Disconnect- and CoA-Requests into orders for the edge, and what became of them into an Error-Cause."""

    def __init__(self, taker: OrderTaker) -> None:
        self._taker = taker

    async def __call__(self, order: Order) -> ErrorCause | None:
        """Carry an order out; None acknowledges it."""
        whom = Whom(order.user, order.session, order.calling, order.called, order.classes, by=f"radius {order.client}")
        changes = [pair for pair in order.attributes if pair[0] in CHANGEABLE]
        if cause := _wrong_in(order, whom, changes):
            return cause
        try:
            if order.kind is Kind.DISCONNECT:
                found = await self._taker.disconnect(whom)
            else:
                found = await self._taker.change(whom, _change_of(changes))
        except Unavailable as error:
            logger.error("%s of %s: %s", order.kind.name, order.client, error)
            return ErrorCause.RESOURCES_UNAVAILABLE
        return None if found else ErrorCause.SESSION_CONTEXT_NOT_FOUND


def _fitting(parts: list[bytes], record: AccountingRecord) -> list[bytes]:
    """Without our own descriptions, the longest first, until what every server understands fits: Class above all.

    A RADIUS server may give out classes of nearly 4096 octets, and wants all of them back (RFC 2865 5.25).
    """
    parts = list(parts)
    excess = sum(map(len, parts)) - ROOM_BYTES
    for part in sorted((part for part in parts if part[0] == Type.VENDOR_SPECIFIC), key=len, reverse=True):
        if excess <= 0:
            break
        parts.remove(part)
        excess -= len(part)
    logger.warning("%s of %s goes without some of its SIP attributes: no room", record.status, record.session)
    return parts


def _wrong_in(order: Order, whom: Whom, changes: Sequence[tuple[str, Value]]) -> ErrorCause | None:
    """RFC 5176 3: every attribute is mandatory, so one that means nothing here refuses the order."""
    allowed = {*SELECTING, *PASSING, *(CHANGEABLE if order.kind is Kind.CHANGE else ())}
    names = {name for name, _ in order.attributes}
    if "Service-Type" in names:
        return ErrorCause.UNSUPPORTED_SERVICE  # Authorize-Only (RFC 5176 3.2)
    if names - allowed:
        return ErrorCause.UNSUPPORTED_ATTRIBUTE
    single = [name for name, _ in order.attributes if name not in (*SEVERAL, *PASSING)]
    if len(single) > len(set(single)) or any(name in SELECTING and not value for name, value in order.attributes):
        return ErrorCause.INVALID_REQUEST  # taken without the second, or the empty one, it would be about more
    if whom == Whom() or (order.kind is Kind.CHANGE and not changes):
        return ErrorCause.MISSING_ATTRIBUTE
    if any(not _is_good(name, value) for name, value in changes):
        return ErrorCause.INVALID_ATTRIBUTE_VALUE
    return None


def _is_good(name: str, value: Value) -> bool:
    if name in (*GROUPS, "Nomad-Allow-Class"):
        return isinstance(value, str)
    if not isinstance(value, int):
        return False
    if name == "Acct-Interim-Interval":
        return value == 0 or value >= LEAST_INTERIM_S  # 0: as the edge is configured
    return value > 0 or name != "Session-Timeout"


def _change_of(changes: Sequence[tuple[str, Value]]) -> Change:
    """What a CoA-Request changes; the values are of the dictionary's types."""
    numbers = {name: int(value) for name, value in changes if isinstance(value, int)}
    groups = [str(value) for name, value in changes if name in GROUPS]
    return Change(
        session_timeout_s=numbers.get("Session-Timeout"),
        interim_interval_s=numbers.get("Acct-Interim-Interval"),
        groups=tuple(dict.fromkeys(groups)) if groups else None,
        allowed_classes=_classes([str(value) for name, value in changes if name == "Nomad-Allow-Class"]) or None,
        limits=_limits(
            numbers.get("Nomad-Max-Calls"),
            numbers.get("Nomad-Max-Minutes-Per-Day"),
            numbers.get("Nomad-Max-Call-Minutes"),
        ),
    )


_STATUS_TYPE = encoder("Acct-Status-Type")
_SESSION_ID = encoder("Acct-Session-Id")
_EVENT_TIMESTAMP = encoder("Event-Timestamp")
_DELAY_TIME = encoder("Acct-Delay-Time")
_USER_NAME = encoder("User-Name")


@lru_cache(maxsize=MAX_GROUPINGS)
def _shared(groups: tuple[str, ...]) -> tuple[str, ...]:
    """The same object for everybody in the same groups: grants are kept with registrations."""
    return groups


def _grant(reply: Packet, proof: Proof) -> Grant:
    """An Access-Accept as a grant. Raises `PacketError`."""
    groups, addresses, classes, allow = [], [], [], []
    user = extension = display_name = ""
    numbers: dict[int, int] = {}
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
        elif kind == ALLOW_CLASS:
            allow.append(_text(value))
        elif kind in (MAX_CALLS, MAX_MINUTES_PER_DAY, MAX_CALL_MINUTES):
            numbers[kind] = _integer(kind, value)
    groups += [_text(value) for value in reply.get_all(Type.FILTER_ID)]
    return Grant(
        # Many servers find "Alice" where alice is meant; each spelling would have limits of its own
        user=user or proof.username.partition("@")[0].lower(),
        addresses=tuple(addresses),
        extension=extension,
        groups=_shared(tuple(dict.fromkeys(groups))),
        classes=tuple(classes),
        display_name=display_name,
        session_timeout_s=reply.integer(Type.SESSION_TIMEOUT),
        idle_timeout_s=reply.integer(Type.IDLE_TIMEOUT) or None,  # 0 is how servers write "none"
        interim_interval_s=_interim_interval(reply),
        message=_message(reply),
        limits=_limits(numbers.get(MAX_CALLS), numbers.get(MAX_MINUTES_PER_DAY), numbers.get(MAX_CALL_MINUTES))
        if numbers
        else NO_LIMITS,
        allowed_classes=_classes(allow) if allow else (),
    )


def _interim_interval(reply: Packet) -> int | None:
    """RFC 2869 5.16: never below 60 s, whatever a server writes."""
    interval = reply.integer(Type.ACCT_INTERIM_INTERVAL)
    return max(interval, LEAST_INTERIM_S) if interval else None


def _classes(values: Sequence[str]) -> tuple[str, ...]:
    """Number classes, in values of their own or with commas between them."""
    return tuple(dict.fromkeys(name.strip() for value in values for name in value.split(",")))


def _limits(calls: int | None, day_minutes: int | None, call_minutes: int | None) -> Limits:
    return Limits(
        concurrent_calls=calls,
        seconds_per_day=None if day_minutes is None else day_minutes * 60.0,
        call_s=None if call_minutes is None else call_minutes * 60.0,
    )


def _ha1_in(reply: Packet, proof: Proof) -> str:
    """Digest-HA1 (RFC 5090 3.19), or the Nomad-Digest-HA1 of algorithm, user and realm; "" when none fits."""
    algorithm = proof.algorithm.upper()
    length = HA1_DIGITS.get(algorithm, 0)
    named = f"{algorithm}:{proof.username}:{proof.realm}:"
    found = [reply.text(digest.RFC5090_HA1)]
    for kind, value in reply.vendor(NOMAD):
        if kind == DIGEST_HA1 and (text := _text(value)).startswith(named):
            found.append(text.removeprefix(named))
    return next((ha1 for ha1 in map(str.lower, found) if ha1 and len(ha1) == length and not set(ha1) - HEX), "")


def _digest_of(proof: Proof) -> Digest:
    return Digest(
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


def _number(reply: Packet, type: int) -> int | None:
    """The first value of a vendor attribute that is a number. Raises `PacketError`."""
    return next((_integer(kind, value) for kind, value in reply.vendor(NOMAD) if kind == type), None)


def _integer(type: int, value: bytes) -> int:
    if len(value) != 4:
        raise PacketError("attribute", f"Nomad attribute {type}: {len(value)} octets, a number has 4")
    return int.from_bytes(value, "big")


def _message(reply: Packet) -> str:
    """Every Reply-Message in order (RFC 2865 5.18) as one short line, without what does not belong into one."""
    values = reply.get_all(Type.REPLY_MESSAGE)
    if not values:
        return ""
    text = "".join([_text(value) for value in values])
    line = "".join([character if character.isprintable() else " " for character in text]).strip()
    octets = line.encode()
    return line if len(octets) <= MAX_MESSAGE_BYTES else cut_text(octets, MAX_MESSAGE_BYTES).decode().rstrip()


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
