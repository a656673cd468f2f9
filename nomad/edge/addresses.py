"""By which names and addresses the edge goes: in a Request-URI, a Route, and in the Via and Record-Route it writes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nomad.sip.events import Flow
from nomad.sip.headers import Via
from nomad.sip.uri import Uri

DEFAULT_PORTS = {"udp": 5060, "tcp": 5060, "ws": 80, "wss": 443, "tls": 5061}
SECURE = ("tls", "wss")
ADDRESS = re.compile(r"[0-9.]+|[^:]*:.*")  # of IPv4 or IPv6
WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised here, not listened on


class OwnAddresses:
    """What the edge is called.

    `listens` are the sockets as (transport, host, port); `outside` is what peers see when it is configured; `inside`
    maps the address of a PBX to the local address that reaches it: a PBX never sees what is advertised to the outside.
    """

    def __init__(
        self,
        domains: Sequence[str],
        listens: Sequence[tuple[str, str, int]],
        *,
        outside: str = "",
        inside: Mapping[str, str] | None = None,
    ) -> None:
        self.domains = frozenset(domains)
        self.domain = domains[0]  # the main one
        self._outside = outside
        self._ports = frozenset(port for _, _, port in listens)
        self._listening = {transport: port for transport, _, port in reversed(listens)}
        self._names = {host for _, host, _ in listens if host not in WILDCARDS} | {outside}
        self._on_wildcard = any(host in WILDCARDS for _, host, _ in listens)
        self._via: dict[Flow | tuple[str, tuple[str, int], bool], str] = {}
        self.reach(inside or {})

    def reach(self, inside: Mapping[str, str]) -> None:
        """Take up other addresses of PBXs."""
        self._inside = dict(inside)
        names = {*self._names, *inside.values()} if self._on_wildcard else self._names
        self._hosts = frozenset(_bare(name).lower() for name in names if name)
        self._via.clear()

    def is_us(self, uri: Uri) -> bool:
        """Whether a SIP URI names this edge (RFC 3261 16.4, 16.5)."""
        host = uri.host
        if host in self.domains:
            return uri.port is None or uri.port in self._ports
        if _bare(host) in self._hosts:
            return (uri.port or DEFAULT_PORTS["tls" if uri.scheme == "sips" else uri.transport or "udp"]) in self._ports
        return False

    def wrote(self, via: Via) -> bool:
        """Whether a Via names one of our sockets, or says what `sent_by` says."""
        return _bare(via.host).lower() in self._hosts and (via.port or 5060) in self._ports

    def sent_by(self, flow: Flow) -> str:
        """host:port that a peer on this flow can reach us at."""
        inside = flow.remote[0] in self._inside
        key = (flow.transport, flow.local, inside)
        try:
            return self._via[key]
        except KeyError:
            host, port = flow.local
            if port not in self._ports:  # a connection that we opened: nobody listens at its port
                port = self._listening.get(flow.transport) or next(iter(self._listening.values()), port)
            if inside and host in WILDCARDS:
                host = self._inside[flow.remote[0]]
            elif not inside and self._outside and _fits(self._outside, host):
                host = self._outside
            text = f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
            if len(self._via) > 1000:
                self._via.clear()
            self._via[key] = text
            return text

    def record_route(self, flow: Flow, token: str) -> str:
        """Record-Route value for a peer on this flow; `token` names the call (RFC 3261 16.6 step 4)."""
        return f"<sip:{self._place(flow)};lr;c={token}>"

    def service_route(self, flow: Flow) -> str:
        """Service-Route value for a phone on this flow (RFC 3608), "" when we do not know one that works.

        Over TLS it must be a name: a phone that connects anew would look for it in the certificate (RFC 5922 7.3).
        """
        place = self._place(flow)
        host = _bare(self.sent_by(flow).rpartition(":")[0])
        if host in WILDCARDS or (flow.transport in SECURE and ADDRESS.fullmatch(host)):
            return ""
        return f"<sip:{place};lr>"

    def _place(self, flow: Flow) -> str:
        # RFC 7118 5.2.4: a URI knows "ws" only, for WSS too
        name = "ws" if flow.transport == "wss" else flow.transport
        transport = "" if flow.transport == "udp" else f";transport={name}"
        return f"{self.sent_by(flow)}{transport}"


def _fits(outside: str, local: str) -> bool:
    """Whether a peer that reached this local address can reach that one: not over the other version of IP."""
    bare = _bare(outside)
    return not ADDRESS.fullmatch(bare) or (":" in bare) == (":" in local)


def _bare(host: str) -> str:
    return host[1:-1] if host.startswith("[") else host
