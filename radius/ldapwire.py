"""The one LDAP operation of the hot path as octets: a search by equal values (RFC 4511 4.5, X.690 definite lengths).

Pure. ldap3 spends 0.7 ms of processor time on a search, this a tenth; connecting, TLS and binding stay with ldap3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from radius.errors import PacketError

MAX_MESSAGE_BYTES = 1 << 20
FIRST_ID = 1 << 20  # far from the message ids that ldap3 uses for StartTLS and bind
LAST_ID = (1 << 31) - 1  # maxInt, RFC 4511 4.1.1.1
SIZE_LIMIT = 2  # a second entry is enough to know that the first is not the only one
SUCCESS = 0
SIZE_LIMIT_EXCEEDED = 4
_SEQUENCE, _SET, _INTEGER, _ENUMERATED, _BOOLEAN, _OCTETS = 0x30, 0x31, 0x02, 0x0A, 0x01, 0x04
_SEARCH, _ENTRY, _DONE, _REFERENCE = 0x63, 0x64, 0x65, 0x73
_OR, _EQUAL, _PRESENT = 0xA1, 0xA3, 0x87
_SUBTREE, _BASE = b"\x02", b"\x00"


@dataclass(slots=True)
class Found:
    """What a search has brought so far; attribute names in lower case."""

    entries: list[dict[str, list[bytes]]] = field(default_factory=list)
    code: int | None = None  # resultCode, None until the search is done
    text: str = ""


class Search:
    """Prepared searches below one base: entries in which one of some attributes equals a value."""

    def __init__(self, base: str, names: Sequence[str], attributes: Sequence[str]) -> None:
        self._names = [_tlv(_OCTETS, name.encode()) for name in names]
        limits = _tlv(_INTEGER, _number(SIZE_LIMIT)) + _tlv(_INTEGER, b"\x00") + _tlv(_BOOLEAN, b"\x00")
        never = _tlv(_ENUMERATED, b"\x00")  # derefAliases
        self._head = _tlv(_OCTETS, base.encode()) + _tlv(_ENUMERATED, _SUBTREE) + never + limits
        self._tail = _tlv(_SEQUENCE, b"".join(_tlv(_OCTETS, name.encode()) for name in attributes))
        probe = _tlv(_OCTETS, base.encode()) + _tlv(_ENUMERATED, _BASE) + never + limits
        # "1.1" asks for no attributes, RFC 4511 4.5.1.8
        self._probe = probe + _tlv(_PRESENT, b"objectClass") + _tlv(_SEQUENCE, _tlv(_OCTETS, b"1.1"))

    def request(self, id: int, value: str) -> bytes:
        """The message that searches for a value; nothing in it needs an escape."""
        octets = _tlv(_OCTETS, value.encode("utf-8", "surrogateescape"))
        terms = b"".join([_tlv(_EQUAL, name + octets) for name in self._names])
        return _message(id, _tlv(_SEARCH, self._head + _tlv(_OR, terms) + self._tail))

    def probe(self, id: int) -> bytes:
        """The message that only asks whether the base is there."""
        return _message(id, _tlv(_SEARCH, self._probe))


def message_length(buffer: bytes | bytearray) -> int:
    """How many octets the first message in a buffer has, 0 when that is not known yet. Raises `PacketError`."""
    if len(buffer) < 2:
        return 0
    if buffer[0] != _SEQUENCE:
        raise PacketError("ldap", "no LDAP message")
    if buffer[1] < 0x80:
        return 2 + buffer[1]
    count = buffer[1] & 0x7F
    if not 1 <= count <= 4:
        raise PacketError("ldap", "LDAP message of no definite length")
    if len(buffer) < 2 + count:
        return 0
    length = 2 + count + int.from_bytes(buffer[2 : 2 + count], "big")
    if length > MAX_MESSAGE_BYTES:
        raise PacketError("ldap", f"LDAP message of {length} octets")
    return length


def message_id(message: bytes) -> int:
    """Which request a whole message answers; 0 for what nobody asked for. Raises `PacketError`."""
    _, at, end = _read(message, 0, len(message))
    _, start, stop = _read(message, at, end)
    return int.from_bytes(message[start:stop], "big")


def take(message: bytes, id: int, found: Found) -> None:
    """Add one message of the server to what was found. Raises `PacketError`."""
    _, at, end = _read(message, 0, len(message))
    tag, start, stop = _read(message, at, end)
    number = int.from_bytes(message[start:stop], "big")
    tag, at, end = _read(message, stop, end)
    if number != id:
        raise PacketError("ldap", "the server ends the connection" if number == 0 else "reply to another request")
    if tag == _ENTRY:
        found.entries.append(_entry(message, at, end))
    elif tag == _DONE:
        _, start, stop = _read(message, at, end)
        found.code = int.from_bytes(message[start:stop], "big")
        _, _, at = _read(message, stop, end)
        _, start, stop = _read(message, at, end)
        found.text = message[start:stop].decode("utf-8", "replace")
    elif tag != _REFERENCE:
        raise PacketError("ldap", f"unexpected LDAP operation {tag:#x}")


def _entry(message: bytes, at: int, end: int) -> dict[str, list[bytes]]:
    entry: dict[str, list[bytes]] = {}
    _, _, at = _read(message, at, end)  # the name, which nobody needs
    _, at, end = _read(message, at, end)
    while at < end:
        _, inner, after = _read(message, at, end)
        _, start, stop = _read(message, inner, after)
        name = message[start:stop].decode("utf-8", "replace").partition(";")[0].lower()
        _, value_at, values_end = _read(message, stop, after)
        values = entry.setdefault(name, [])
        while value_at < values_end:
            _, start, stop = _read(message, value_at, values_end)
            values.append(message[start:stop])
            value_at = stop
        at = after
    return entry


def _read(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Tag, start and end of the element at `at`. Raises `PacketError`."""
    if at + 2 > end:
        raise PacketError("ldap", "LDAP message is cut short")
    tag, length = data[at], data[at + 1]
    start = at + 2
    if length >= 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or start + count > end:
            raise PacketError("ldap", "length of no definite form")
        length = int.from_bytes(data[start : start + count], "big")
        start += count
    if start + length > end:
        raise PacketError("ldap", "element is longer than what holds it")
    return tag, start, start + length


def _message(id: int, operation: bytes) -> bytes:
    return _tlv(_SEQUENCE, _tlv(_INTEGER, _number(id)) + operation)


def _number(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def _tlv(tag: int, value: bytes) -> bytes:
    length = len(value)
    if length < 0x80:
        return bytes((tag, length)) + value
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + value


UNBIND = _message(FIRST_ID, b"\x42\x00")
