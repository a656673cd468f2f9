"""RADIUS packets as octets: decode, encode, sign, verify (RFC 2865 3, RFC 2866 3, RFC 2869 5.14, RFC 5176, RFC 5997).

Pure. Attributes are (type, octets) pairs here; names and typed values are the business of `attributes`. The result is
checked against pyrad attribute by attribute in the tests; pyrad's own packets are too slow for the hot path.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from radius.errors import EncodingError, PacketError

HEADER_BYTES = 20
MAX_PACKET_BYTES = 4096  # RFC 2865 3
MAX_VALUE_BYTES = 253
ZEROS = bytes(16)


class Code(IntEnum):
    """Packet codes."""

    ACCESS_REQUEST = 1
    ACCESS_ACCEPT = 2
    ACCESS_REJECT = 3
    ACCOUNTING_REQUEST = 4
    ACCOUNTING_RESPONSE = 5
    ACCESS_CHALLENGE = 11
    STATUS_SERVER = 12
    DISCONNECT_REQUEST = 40
    DISCONNECT_ACK = 41
    DISCONNECT_NAK = 42
    COA_REQUEST = 43
    COA_ACK = 44
    COA_NAK = 45


class Type(IntEnum):
    """Attribute types that the code itself looks at."""

    USER_NAME = 1
    USER_PASSWORD = 2
    NAS_IP_ADDRESS = 4
    SERVICE_TYPE = 6
    FILTER_ID = 11
    REPLY_MESSAGE = 18
    STATE = 24
    CLASS = 25
    VENDOR_SPECIFIC = 26
    SESSION_TIMEOUT = 27
    IDLE_TIMEOUT = 28
    CALLED_STATION_ID = 30
    CALLING_STATION_ID = 31
    NAS_IDENTIFIER = 32
    PROXY_STATE = 33
    ACCT_STATUS_TYPE = 40
    ACCT_DELAY_TIME = 41
    ACCT_SESSION_ID = 44
    EVENT_TIMESTAMP = 55
    MESSAGE_AUTHENTICATOR = 80
    ACCT_INTERIM_INTERVAL = 85
    NAS_IPV6_ADDRESS = 95
    ERROR_CAUSE = 101


# The Request Authenticator of these is random; that of the others is a hash (RFC 2866 3, RFC 5176 2.3).
_RANDOM_AUTHENTICATOR = frozenset({Code.ACCESS_REQUEST, Code.STATUS_SERVER})
_MAC_HEAD = bytes((Type.MESSAGE_AUTHENTICATOR, 18))
_BLANK_MAC = _MAC_HEAD + ZEROS
_REPLIES = {
    Code.ACCESS_REQUEST: frozenset({Code.ACCESS_ACCEPT, Code.ACCESS_REJECT, Code.ACCESS_CHALLENGE}),
    Code.ACCOUNTING_REQUEST: frozenset({Code.ACCOUNTING_RESPONSE}),
    Code.STATUS_SERVER: frozenset({Code.ACCESS_ACCEPT, Code.ACCOUNTING_RESPONSE}),
    Code.DISCONNECT_REQUEST: frozenset({Code.DISCONNECT_ACK, Code.DISCONNECT_NAK}),
    Code.COA_REQUEST: frozenset({Code.COA_ACK, Code.COA_NAK}),
}


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet as it came; nothing about it is verified yet."""

    code: int
    identifier: int
    authenticator: bytes
    attributes: tuple[tuple[int, bytes], ...]
    data: bytes  # the octets, without padding
    mac_at: int  # where the Message-Authenticator's value starts in `data`, 0 when there is none

    def get(self, type: int) -> bytes | None:
        """The first value of an attribute."""
        for kind, value in self.attributes:
            if kind == type:
                return value
        return None

    def get_all(self, type: int) -> list[bytes]:
        """Every value of an attribute, in order."""
        return [value for kind, value in self.attributes if kind == type]

    def text(self, type: int) -> str:
        """The first value as text, "" when there is none; octets that are not UTF-8 become U+FFFD."""
        value = self.get(type)
        return "" if value is None else value.decode("utf-8", "replace")

    def integer(self, type: int) -> int | None:
        """The first value as a number. Raises `PacketError` when it does not have four octets."""
        value = self.get(type)
        if value is None:
            return None
        if len(value) != 4:
            raise PacketError("attribute", f"attribute {type} has {len(value)} octets, not 4")
        return int.from_bytes(value, "big")

    def vendor(self, vendor: int) -> list[tuple[int, bytes]]:
        """The sub-attributes of one vendor (RFC 2865 5.26). Raises `PacketError` when they are cut short."""
        found: list[tuple[int, bytes]] = []
        prefix = vendor.to_bytes(4, "big")
        for kind, value in self.attributes:
            if kind == Type.VENDOR_SPECIFIC and value[:4] == prefix:
                found += split_attributes(value, 4)
        return found


def split_attributes(data: bytes, start: int) -> list[tuple[int, bytes]]:
    """Type, length, value triples from `start` to the end. Raises `PacketError`."""
    found: list[tuple[int, bytes]] = []
    end = len(data)
    at = start
    while at < end:
        length = data[at + 1] if at + 1 < end else 0
        if length < 2 or at + length > end:
            raise PacketError("attribute", f"attribute {data[at]} at octet {at} has a length that does not fit")
        found.append((data[at], data[at + 2 : at + length]))
        at += length
    return found


def decode(data: bytes) -> Packet:
    """Octets of one datagram to a packet; octets after its length are padding (RFC 2865 3). Raises `PacketError`."""
    if len(data) < HEADER_BYTES:
        raise PacketError("short", f"{len(data)} octets are no packet")
    length = int.from_bytes(data[2:4], "big")
    if not HEADER_BYTES <= length <= MAX_PACKET_BYTES or length > len(data):
        raise PacketError("length", f"length {length} in a datagram of {len(data)} octets")
    data = data[:length]
    mac_at = 0
    attributes = split_attributes(data, HEADER_BYTES)
    at = HEADER_BYTES
    for kind, value in attributes:
        if kind == Type.MESSAGE_AUTHENTICATOR:
            if mac_at or len(value) != 16:
                raise PacketError("message-authenticator", "Message-Authenticator of a wrong length, or two of them")
            mac_at = at + 2
        at += 2 + len(value)
    return Packet(data[0], data[1], data[4:20], tuple(attributes), data, mac_at)


def encode_request(
    code: int, identifier: int, attributes: bytes, *, secret: bytes, nonce: bytes, sign: bool = True
) -> bytes:
    """A request ready to send; `nonce` is 16 random octets, used where the authenticator is random.

    Access-Request and Status-Server always start with a Message-Authenticator (BlastRADIUS, CVE-2024-3596; RFC 5997
    3); others do when `sign` is set.
    """
    random = code in _RANDOM_AUTHENTICATOR
    if not (random or sign):
        head = _head(code, identifier, HEADER_BYTES + len(attributes))
        return head + _md5(head + ZEROS + attributes + secret) + attributes
    head = _head(code, identifier, HEADER_BYTES + 18 + len(attributes))
    authenticator = nonce if random else ZEROS
    mac = hmac.digest(secret, head + authenticator + _BLANK_MAC + attributes, "md5")
    signed = _MAC_HEAD + mac + attributes
    if not random:
        authenticator = _md5(head + ZEROS + signed + secret)
    return head + authenticator + signed


def encode_reply(code: int, request: Packet, attributes: bytes, *, secret: bytes, sign: bool = True) -> bytes:
    """A reply to a request, with Message-Authenticator first when `sign` is set, Proxy-State echoed (RFC 2865 5.33)."""
    for value in request.get_all(Type.PROXY_STATE):
        attributes += attribute(Type.PROXY_STATE, value)
    head = _head(code, request.identifier, HEADER_BYTES + 18 * sign + len(attributes))
    if sign:
        vector = _mac_vector(code, request.code, request.authenticator)
        mac = hmac.digest(secret, head + vector + _BLANK_MAC + attributes, "md5")
        attributes = _MAC_HEAD + mac + attributes
    return head + _md5(head + request.authenticator + attributes + secret) + attributes


def verify_request(packet: Packet, secret: bytes, *, require_mac: bool) -> None:
    """Check Message-Authenticator and, where it is a hash, the Request Authenticator. Raises `PacketError`.

    An Access-Request without a Message-Authenticator proves nothing about its sender.
    """
    if packet.code not in _RANDOM_AUTHENTICATOR:
        expected = _md5(packet.data[:4] + ZEROS + packet.data[20:] + secret)
        if not hmac.compare_digest(expected, packet.authenticator):
            raise PacketError("authenticator", "wrong Request Authenticator: is the shared secret the same?")
    if packet.mac_at:
        vector = packet.authenticator if packet.code in _RANDOM_AUTHENTICATOR else ZEROS
        _verify_mac(packet, secret, vector)
    elif require_mac:
        raise PacketError("message-authenticator-missing", "no Message-Authenticator")


def verify_reply(
    packet: Packet, request_code: int, request_authenticator: bytes, secret: bytes, *, require_mac: bool
) -> None:
    """Check that a reply was made for this request by somebody who knows the secret. Raises `PacketError`."""
    if packet.code not in _REPLIES.get(request_code, ()):  # type: ignore[call-overload]  # any number may come
        raise PacketError("code", f"code {packet.code} does not answer code {request_code}")
    expected = _md5(packet.data[:4] + request_authenticator + packet.data[20:] + secret)
    if not hmac.compare_digest(expected, packet.authenticator):
        raise PacketError("authenticator", "wrong Response Authenticator: is the shared secret the same?")
    if packet.mac_at:
        _verify_mac(packet, secret, _mac_vector(packet.code, request_code, request_authenticator))
    elif require_mac:
        raise PacketError("message-authenticator-missing", "no Message-Authenticator in the reply")
    if packet.get(Type.PROXY_STATE) is not None:
        # We never send one; a reply that has it is the mark of the BlastRADIUS attack (CVE-2024-3596).
        raise PacketError("proxy-state", "Proxy-State in the reply, and none was sent")


def attribute(type: int, value: bytes) -> bytes:
    """One attribute. Raises `EncodingError` when the value is too long."""
    length = len(value) + 2
    if length > 255:
        raise EncodingError(f"attribute {type}: {length - 2} octets, at most {MAX_VALUE_BYTES} fit")
    return bytes((type, length)) + value


def integer_attribute(type: int, value: int) -> bytes:
    """One attribute that is a 32-bit number."""
    return bytes((type, 6)) + value.to_bytes(4, "big")


def vendor_attribute(vendor: int, type: int, value: bytes) -> bytes:
    """One vendor attribute in an attribute of its own (RFC 2865 5.26). Raises `EncodingError`."""
    return attribute(Type.VENDOR_SPECIFIC, vendor.to_bytes(4, "big") + attribute(type, value))


def hide_password(password: bytes, secret: bytes, authenticator: bytes) -> bytes:
    """The value of User-Password (RFC 2865 5.2). Raises `EncodingError` above 128 octets."""
    if len(password) > 128:
        raise EncodingError("a User-Password has at most 128 octets")
    padded = password + bytes(-len(password) % 16 or (16 if not password else 0))
    hidden = b""
    before = authenticator
    for block in _blocks(padded):
        before = _xor(block, _md5(secret + before))
        hidden += before
    return hidden


def reveal_password(hidden: bytes, secret: bytes, authenticator: bytes) -> bytes:
    """The password in a User-Password (RFC 2865 5.2). Raises `PacketError`."""
    if not hidden or len(hidden) % 16 or len(hidden) > 128:
        raise PacketError("password", "a User-Password has 16 to 128 octets, a multiple of 16")
    password = b""
    before = authenticator
    for block in _blocks(hidden):
        password += _xor(block, _md5(secret + before))
        before = block
    return password.rstrip(b"\0")


def _verify_mac(packet: Packet, secret: bytes, vector: bytes) -> None:
    data, at = packet.data, packet.mac_at
    expected = hmac.digest(secret, data[:4] + vector + data[20:at] + ZEROS + data[at + 16 :], "md5")
    if not hmac.compare_digest(expected, data[at : at + 16]):
        raise PacketError("message-authenticator", "wrong Message-Authenticator: is the shared secret the same?")


def _mac_vector(code: int, request_code: int, request_authenticator: bytes) -> bytes:
    """What stands in the authenticator's place when a reply's Message-Authenticator is made.

    FreeRADIUS and pyrad use zeros for the answer to an Accounting-Request, though RFC 2869 5.14 does not foresee one.
    """
    if code == Code.ACCOUNTING_RESPONSE and request_code != Code.STATUS_SERVER:
        return ZEROS
    return request_authenticator


def _head(code: int, identifier: int, length: int) -> bytes:
    if length > MAX_PACKET_BYTES:
        raise EncodingError(f"a packet of {length} octets; at most {MAX_PACKET_BYTES} are allowed (RFC 2865 3)")
    return bytes((code, identifier, length >> 8, length & 255))


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _blocks(data: bytes) -> Sequence[bytes]:
    return [data[at : at + 16] for at in range(0, len(data), 16)]


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(16, "big")
