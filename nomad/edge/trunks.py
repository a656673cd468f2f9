"""The PBX side: which PBX a number goes to, and whether a request comes from one."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nomad.config import Pbx, split_host_port
from nomad.edge.policy import Network
from nomad.sip.events import Flow
from nomad.sip.uri import Uri


@dataclass(frozen=True, slots=True)
class Trunk:
    """One PBX."""

    name: str
    uri: Uri
    extensions: re.Pattern[str]
    sources: frozenset[tuple[str, int]]  # address and port
    networks: tuple[Network, ...]  # any port
    addresses: frozenset[str] = frozenset()  # each that is known to be its, whatever the port
    username: str = ""
    password: str = ""
    diversion: str = ""  # header in which it is told who sent a call on, "" for none

    def is_source(self, remote: tuple[str, int]) -> bool:
        """Whether requests from this address and port come from the PBX."""
        if remote in self.sources:
            return True
        if not self.networks:
            return False
        address = ipaddress.ip_address(remote[0].partition("%")[0])
        return any(address in network for network in self.networks)


class Trunks:
    """All PBXs, in the order of the configuration."""

    def __init__(self, trunks: Sequence[Trunk]) -> None:
        self.all = tuple(trunks)
        self._known: dict[tuple[str, int], Trunk | None] = {}
        self._hosts = frozenset(host for trunk in trunks for host in trunk.addresses)
        self._has_networks = any(network.num_addresses > 1 for trunk in trunks for network in trunk.networks)

    def of(self, flow: Flow) -> Trunk | None:
        """The PBX that a request on this flow comes from, None for the outside."""
        remote = flow.remote
        if not self._has_networks and remote[0] not in self._hosts and "%" not in remote[0]:
            return None  # most requests: phones
        try:
            return self._known[remote]
        except KeyError:
            found = next((trunk for trunk in self.all if trunk.is_source(remote)), None)
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[remote] = found
            return found

    def for_number(self, number: str) -> Trunk:
        """The PBX that has the number among its extensions, else the first one."""
        return next((trunk for trunk in self.all if trunk.extensions.fullmatch(number)), self.all[0])


def make_trunk(pbx: Pbx, *, places: Iterable[tuple[str, int]], password: str = "") -> Trunk:
    """A trunk from its configuration; `places` are the addresses and ports that its URI resolves to."""
    uri = Uri.parse(pbx.uri)
    sources: set[tuple[str, int]] = set()
    networks: list[Network] = []
    for text in pbx.trusted:
        host, port = (text, 0) if "/" in text or (text.count(":") > 1 and "]" not in text) else split_host_port(text, 0)
        if port:
            sources.add((host, port))
        else:
            networks.append(ipaddress.ip_network(host, strict=False))
    if not pbx.trusted:
        sources.update(places)
    single = {str(network[0]) for network in networks if network.num_addresses == 1}
    return Trunk(
        name=pbx.name,
        uri=uri,
        extensions=re.compile(pbx.extensions),
        sources=frozenset(sources),
        networks=tuple(networks),
        addresses=frozenset({*(host for host, _ in (*places, *sources)), *single}),
        username=pbx.username,
        password=password,
        diversion=pbx.diversion,
    )
