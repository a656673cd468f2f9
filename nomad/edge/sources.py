"""Source addresses as the edge counts them: an IPv4 address by itself, IPv6 by /64, which is one subscriber's."""

from __future__ import annotations

import ipaddress
import socket

PREFIX_BYTES = 8  # of an IPv6 address; who has a /64 changes the rest at will (RFC 4291 2.5.1, RFC 8981)
V6 = "v6-"


def source_key(address: str) -> str:
    """What to count an address under; `address` is one that a socket gave."""
    if ":" not in address:
        return address
    return V6 + socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:PREFIX_BYTES].hex()


def key_text(key: str) -> str:
    """A key for people: an address, or a network."""
    if not key.startswith(V6):
        return key
    return str(ipaddress.IPv6Network((bytes.fromhex(key.removeprefix(V6)) + bytes(PREFIX_BYTES), 64)))


def parse_key(text: str) -> str:
    """The key that people mean by an address or a network of `key_text`; "" when it is neither."""
    try:
        address = ipaddress.ip_address(text.strip().partition("/")[0].partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None  # no socket gives such a one
    return source_key(str(mapped or address))
