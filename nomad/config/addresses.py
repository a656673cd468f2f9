"""Addresses as the configuration writes them: what to listen on, and host with port."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

TRANSPORTS = ("udp", "tcp", "tls", "ws", "wss")
DEFAULT_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 5062, "wss": 5063}


@dataclass(frozen=True, slots=True)
class Listen:
    """One address to listen on."""

    transport: str
    host: str
    port: int


def parse_listen(text: str) -> Listen:
    """`transport:address[:port]` to its parts. Raises `ValueError` with the mend."""
    transport, _, rest = text.partition(":")
    if transport not in TRANSPORTS:
        raise ValueError(f"'{text}': transport must be one of {', '.join(TRANSPORTS)}, as in 'udp:0.0.0.0:5060'")
    if not rest:
        raise ValueError(f"'{text}': address missing, as in 'udp:0.0.0.0:5060'")
    host, port = split_host_port(rest, DEFAULT_PORTS[transport])
    return Listen(transport, host, port)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own; a name may mean another host tomorrow."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def split_host_port(text: str, default_port: int) -> tuple[str, int]:
    """`host:port`, `[v6]:port` or `host`. Raises `ValueError`."""
    found = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?|([^:\[\]\s]+)(?::([0-9]{1,5}))?", text)
    if not found:
        raise ValueError(f"'{text}': write host:port, with an IPv6 address in brackets")
    host = found.group(1) or found.group(3)
    port = int(found.group(2) or found.group(4) or default_port)
    if port > 65535:
        raise ValueError(f"'{text}': port {port} is above 65535")
    return host, port
