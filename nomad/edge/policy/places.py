"""Where a call comes from: addresses and networks, ready to be compared."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_PARSED = 10_000  # addresses whose parsed form is remembered


class Address(NamedTuple):
    """An IP address; one of IPv4 that is written as IPv6 is of IPv4 (RFC 4291 2.5.5.2)."""

    version: int
    number: int
    is_global: bool


@functools.lru_cache(MAX_PARSED)
def address_of(text: str) -> Address | None:
    """The address that a text means, None when it is none."""
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    address = getattr(parsed, "ipv4_mapped", None) or parsed
    return Address(address.version, int(address), address.is_global)


class Networks:
    """A list of networks."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(
            (each.version, int(each.network_address), int(each.netmask), str(each)) for each in networks
        )

    def __bool__(self) -> bool:
        return bool(self._networks)

    def find(self, address: Address) -> str:
        """The first network that an address is in, "" when it is in none."""
        version, number, _ = address
        for of, first, mask, text in self._networks:
            if number & mask == first and of == version:
                return text
        return ""
