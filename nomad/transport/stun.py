"""Answers STUN Binding requests on the SIP port (RFC 5626 4.4.2, RFC 5389): how a phone keeps its NAT binding alive.

Pure. Not a STUN server: no authentication, no other method, no RFC 3489 clients.
"""

from __future__ import annotations

import ipaddress
import struct

MAGIC = 0x2112A442
HEADER_BYTES = 20
MAX_BYTES = 548  # RFC 5389 7.1: a request must fit the smallest path MTU
MAX_ATTRIBUTES = 32

BINDING_REQUEST = 0x0001
BINDING_SUCCESS = 0x0101
BINDING_ERROR = 0x0111
XOR_MAPPED_ADDRESS = 0x0020
ERROR_CODE = 0x0009
UNKNOWN_ATTRIBUTES = 0x000A
KNOWN = frozenset({0x0001, XOR_MAPPED_ADDRESS, ERROR_CODE, UNKNOWN_ATTRIBUTES, 0x0006, 0x0008, 0x0014, 0x0015})
IPV4, IPV6 = 1, 2


def looks_like_stun(data: bytes) -> bool:
    """Whether these bytes claim to be STUN; no SIP message begins with two zero bits (RFC 5389 6)."""
    return len(data) >= HEADER_BYTES and data[0] < 0x40 and data[4:8] == b"\x21\x12\xa4\x42"


def answer(data: bytes, remote: tuple[str, int]) -> bytes | None:
    """The response to a Binding request from `remote`, None when this is not one."""
    if not looks_like_stun(data) or len(data) > MAX_BYTES:
        return None
    kind, length = struct.unpack_from("!HH", data)
    if kind != BINDING_REQUEST or length % 4 or length != len(data) - HEADER_BYTES:
        return None
    unknown = _unknown_attributes(data)
    if unknown is None:
        return None
    transaction = data[4:HEADER_BYTES]
    if unknown:  # RFC 5389 7.3.1
        body = _attribute(ERROR_CODE, struct.pack("!HBB", 0, 4, 20) + b"Unknown Attribute")
        body += _attribute(UNKNOWN_ATTRIBUTES, struct.pack(f"!{len(unknown)}H", *unknown))
        return struct.pack("!HH", BINDING_ERROR, len(body)) + transaction + body
    body = _attribute(XOR_MAPPED_ADDRESS, _xor_address(remote, transaction))
    return struct.pack("!HH", BINDING_SUCCESS, len(body)) + transaction + body


def _unknown_attributes(data: bytes) -> list[int] | None:
    """Attributes that a server must understand and this one does not; None when they do not add up."""
    unknown: list[int] = []
    at = HEADER_BYTES
    for _ in range(MAX_ATTRIBUTES):
        if at == len(data):
            return unknown
        kind, length = struct.unpack_from("!HH", data, at)
        at += 4 + length + (-length % 4)
        if at > len(data):
            return None
        if kind < 0x8000 and kind not in KNOWN:
            unknown.append(kind)
    return None


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def _xor_address(remote: tuple[str, int], transaction: bytes) -> bytes:
    """XOR-MAPPED-ADDRESS, RFC 5389 15.2; an IPv6 address is masked with the transaction id too."""
    address = ipaddress.ip_address(remote[0].partition("%")[0])
    masked = bytes(byte ^ mask for byte, mask in zip(address.packed, transaction, strict=False))
    return struct.pack("!BBH", 0, IPV4 if address.version == 4 else IPV6, remote[1] ^ (MAGIC >> 16)) + masked
