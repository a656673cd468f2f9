"""SIP URI to addresses: NAPTR, SRV, A and AAAA (RFC 3263), over dnspython.

Positive answers are cached by dnspython for as long as the DNS says, failures here for a short time. While the DNS does
not answer, what it said before serves on (RFC 8767). Does not connect.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver

from nomad.clock import Clock
from nomad.ports import Target, Unavailable
from nomad.sip.uri import Uri

DEFAULT_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 80, "wss": 443}
NAPTR_SERVICES = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}
SRV_PREFIXES = {"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp."}
NEGATIVE_S = 30.0
PAUSE_S = 10.0  # so long the DNS is not asked again for a name that it did not answer
STALE_S = 86_400.0  # so long an answer serves while the DNS gives none (RFC 8767 4: days at most)
MAX_CACHED = 10_000
MAX_TARGETS = 16  # more are never tried, whatever the DNS says
MAX_RECORDS = 32


@dataclass(frozen=True, slots=True)
class _Srv:
    priority: int
    weight: int
    port: int
    host: str


class DnsResolver:
    """Implements `ports.Resolver`."""

    def __init__(
        self,
        clock: Clock,
        *,
        transports: Sequence[str] = ("udp", "tcp", "tls"),
        families: Sequence[int] = (4, 6),
        timeout_s: float = 5.0,
        nameservers: Sequence[tuple[str, int]] = (),
    ) -> None:
        """`transports` are those we speak, in the order we like them; `nameservers` default to the system's."""
        self._clock = clock
        self._transports = tuple(transports)
        self._families = tuple(families)
        self._timeout_s = timeout_s
        self._dns = dns.asyncresolver.Resolver(configure=not nameservers)
        if nameservers:
            self._dns.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in nameservers]
        self._dns.cache = dns.resolver.LRUCache(MAX_CACHED)
        self._dns.lifetime = timeout_s
        self._failures: dict[tuple[object, ...], tuple[float, str]] = {}
        self._stale: dict[tuple[object, ...], tuple[float, tuple[Target, ...]]] = {}  # until when, the last answers
        self._random = random.SystemRandom()

    async def resolve(self, uri: Uri) -> Sequence[Target]:
        """Targets in the order to try. Raises `Unavailable` when the DNS does not answer or knows nothing."""
        host = (uri.maddr or uri.host).strip("[]").lower().removesuffix(".")
        if not host or uri.scheme not in ("sip", "sips"):
            raise Unavailable(f"{uri.scheme} URI has no host to go to")
        wish = self._wished_transport(uri)
        if _is_address(host):  # RFC 3263 4.1, 4.2: nothing to look up
            transport = wish or ("tls" if uri.scheme == "sips" else "udp")
            name = host if transport in ("tls", "wss") else ""
            return (Target(transport, host, uri.port or DEFAULT_PORTS[transport], name),)
        key = (uri.scheme, host, uri.port, wish)
        now = self._clock.monotonic()
        if (failure := self._failures.get(key)) is not None and failure[0] > now:
            return self._before(key, now, failure[1])
        try:
            async with asyncio.timeout(self._timeout_s):
                targets = await self._lookup(host, port=uri.port, wish=wish, secure=uri.scheme == "sips")
        except (TimeoutError, dns.exception.DNSException, OSError) as error:
            why = f"the DNS did not answer for {host}: {type(error).__name__}"
            known = self._before(key, now, why)
            self._fail(key, self._clock.monotonic() + PAUSE_S, why)
            return known
        if not targets:
            self._stale.pop(key, None)  # it did answer
            why = f"the DNS knows no SIP server for {host}"
            self._fail(key, now + NEGATIVE_S, why)
            raise Unavailable(why)
        found = tuple(targets[:MAX_TARGETS])
        if len(self._stale) >= MAX_CACHED:
            self._stale.clear()
        self._stale[key] = (now + STALE_S, found)
        return found

    def _before(self, key: tuple[object, ...], now: float, why: str) -> tuple[Target, ...]:
        """What the DNS said last. Raises `Unavailable` when that is too long ago, so that it is asked every time."""
        known = self._stale.get(key)
        if known is None or known[0] <= now:
            raise Unavailable(why)
        return known[1]

    def _fail(self, key: tuple[object, ...], until: float, why: str) -> None:
        if len(self._failures) >= MAX_CACHED:
            self._failures.clear()
        self._failures[key] = (until, why)

    def _wished_transport(self, uri: Uri) -> str:
        """The transport that the URI itself demands, "" when it leaves it to the DNS (RFC 3263 4.1)."""
        wish = uri.transport.lower()
        if uri.scheme == "sips":
            wish = {"": "", "tcp": "tls", "tls": "tls", "ws": "wss", "wss": "wss"}.get(wish, "insecure")
        if wish and wish not in self._transports:
            raise Unavailable(f"transport {wish if wish in DEFAULT_PORTS else 'unknown'} is not spoken here")
        return wish

    async def _lookup(self, host: str, *, port: int | None, wish: str, secure: bool) -> list[Target]:
        if port is not None:  # a port forbids NAPTR and SRV
            transport = wish or ("tls" if secure else "udp")
            return await self._addresses(transport, host, port=port, name=host)
        services = [(wish, SRV_PREFIXES[wish] + host)] if wish in SRV_PREFIXES else []
        if not wish:
            services = await self._naptr(host, secure=secure) or [
                (transport, SRV_PREFIXES[transport] + host)
                for transport in self._transports
                if transport in SRV_PREFIXES and (transport == "tls" or not secure)
            ]
        targets: list[Target] = []
        has_services = False
        for transport, service in services:
            records = await self._srv(service)
            has_services = has_services or records is not None
            for record in records or ():
                targets += await self._addresses(transport, record.host, port=record.port, name=host)
                if len(targets) >= MAX_TARGETS:
                    return targets
        if has_services:  # A and AAAA only serve a domain without SRV records (RFC 3263 4.2)
            return targets
        transport = wish or ("tls" if secure else "udp")
        return await self._addresses(transport, host, port=DEFAULT_PORTS[transport], name=host)

    async def _naptr(self, host: str, *, secure: bool) -> list[tuple[str, str]]:
        """Transport and SRV name pairs in the order of the domain's owner (RFC 3263 4.1, RFC 3403)."""
        found = []
        for record in await self._query(host, "NAPTR"):
            transport = NAPTR_SERVICES.get(record.service.decode("ascii", "replace").upper(), "")
            if transport not in self._transports or record.flags.lower() != b"s" or (secure and transport != "tls"):
                continue
            name = record.replacement.to_text(omit_final_dot=True)
            found.append((record.order, record.preference, transport, name))
        return [(transport, name) for _, _, transport, name in sorted(found)]

    async def _srv(self, service: str) -> list[_Srv] | None:
        """SRV records in the order to try; None when there are none."""
        records = [
            _Srv(record.priority, record.weight, record.port, record.target.to_text(omit_final_dot=True).lower())
            for record in await self._query(service, "SRV")
        ]
        if not records:
            return None
        # A target of "." means that the service is decidedly not there (RFC 2782).
        return order_srv([record for record in records if record.host not in ("", ".")], self._random.uniform)

    async def _addresses(self, transport: str, host: str, *, port: int, name: str) -> list[Target]:
        """Targets of a host; TLS keeps the name that was asked for, which the certificate must show (RFC 5922 7.1)."""
        checked = name if transport in ("tls", "wss") else ""
        targets: list[Target] = []
        for family in self._families:
            records = await self._query(host, "A" if family == 4 else "AAAA")
            targets += [Target(transport, record.address, port, checked) for record in records]
        return targets

    async def _query(self, name: str, kind: str) -> list[Any]:
        """Records of a name, none when the DNS says that there are none. Raises DNSException when it says nothing."""
        try:
            answer = await self._dns.resolve(name, kind, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.resolver.YXDOMAIN, dns.name.LabelTooLong):
            return []
        except (dns.name.EmptyLabel, dns.name.NameTooLong, UnicodeError):
            return []
        return list(answer)[:MAX_RECORDS]


def order_srv(records: Sequence[_Srv], uniform: Callable[[float, float], float]) -> list[_Srv]:
    """SRV records by priority, and by a draw among the weights of one priority (RFC 2782)."""
    ordered: list[_Srv] = []
    for priority in sorted({record.priority for record in records}):
        waiting = sorted((record for record in records if record.priority == priority), key=lambda each: each.weight)
        while waiting:
            draw = uniform(0, sum(record.weight for record in waiting))
            sums = accumulate(record.weight for record in waiting)
            ordered.append(waiting.pop(next(index for index, total in enumerate(sums) if draw <= total)))
    return ordered


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
