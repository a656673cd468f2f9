"""RADIUS server: verified requests of known clients to replies (RFC 2865, 2866, 5997).

Strangers and unsigned requests are dropped and counted. How packets come in is the part of `intake.py`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from radius import packet as wire
from radius.errors import PacketError
from radius.intake import Intake
from radius.packet import Code, Packet
from radius.ports import Client, Handler, Reply


class Clients:
    """Clients by address or network; the longest network wins."""

    def __init__(self, clients: Mapping[str, Client]) -> None:
        networks = [(ipaddress.ip_network(text, strict=False), client) for text, client in clients.items()]
        self._networks = sorted(networks, key=lambda entry: -entry[0].prefixlen)
        self._known: dict[str, Client] = {}

    def find(self, address: str) -> Client | None:
        """The client at this address, None for a stranger."""
        client = self._known.get(address)
        if client is None:
            ip = ipaddress.ip_address(address.partition("%")[0])
            ip = getattr(ip, "ipv4_mapped", None) or ip
            client = next((client for network, client in self._networks if ip in network), None)
            if client is not None and len(self._known) < 10_000:
                self._known[address] = client
        return client


class Server(Intake):
    """One role: the codes that it answers, and a handler."""

    def __init__(self, clients: Clients, handler: Handler, *, codes: Iterable[int], status_code: int) -> None:
        super().__init__(clients)
        self._handler = handler
        self._codes = frozenset((*codes, Code.STATUS_SERVER))
        self._status_code = status_code

    def check(self, request: Packet, client: Client) -> None:
        """Code, authenticators and Message-Authenticator. Raises `PacketError`."""
        if request.code not in self._codes:
            raise PacketError("code", f"code {request.code} is not for this port")
        signed = request.code in (Code.ACCESS_REQUEST, Code.STATUS_SERVER)
        status = request.code == Code.STATUS_SERVER  # RFC 5997 3: always signed
        wire.verify_request(
            request, client.secret, require_mac=signed and (client.require_message_authenticator or status)
        )

    async def answer(self, request: Packet, client: Client) -> bytes:
        """What the handler says."""
        reply = await self._handler.handle(request, client)
        if reply is None:
            self.counters.silent += 1
            return b""
        return self._encode(reply, request, client)

    def _encode(self, reply: Reply, request: Packet, client: Client) -> bytes:
        status = request.code == Code.STATUS_SERVER
        code = self._status_code if status else reply.code
        # A reply to an Access-Request is always signed (CVE-2024-3596); accounting is answered in kind.
        sign = status or request.code == Code.ACCESS_REQUEST or bool(request.mac_at)
        return wire.encode_reply(code, request, reply.attributes, secret=client.secret, sign=sign)
