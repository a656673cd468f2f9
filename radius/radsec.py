"""RADIUS over TLS (RFC 6614, RadSec): contexts with mutual certificates, packets out of a stream, the listening side.

The shared secret is "radsec" (2.3) and protects nothing; the certificates do. There is no way back to UDP: who is
configured for TLS is served and asked over TLS only.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from radius.errors import ConfigError, PacketError
from radius.intake import Intake
from radius.ports import Client, SecretSource

logger = logging.getLogger(__name__)

PORT = 2083  # RFC 6614 2.1
SECRET = b"radsec"
PREFIX = "radsec:"  # of a server in a configuration
HEADER_BYTES, MAX_PACKET_BYTES = 20, 4096
MAX_CONNECTIONS = 1000
MAX_UNREAD_BYTES = 1 << 20  # replies that a client does not read; then it is cut off
HANDSHAKE_S = 5.0
ENDING_ROUNDS = 20  # of the event loop, until an aborted TLS connection is gone


class Framer:
    """Packets out of a stream; the length in the header is all there is (RFC 6613 2.6.4)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Whole packets, in order. Raises `PacketError`: then the stream cannot be read on."""
        buffer = self._buffer
        buffer += data
        packets = []
        start = 0
        while len(buffer) - start >= 4:
            length = int.from_bytes(buffer[start + 2 : start + 4], "big")
            if not HEADER_BYTES <= length <= MAX_PACKET_BYTES:
                raise PacketError("length", f"a packet of {length} octets in a stream")
            if len(buffer) - start < length:
                break
            packets.append(bytes(buffer[start : start + length]))
            start += length
        del buffer[:start]
        return packets


def client_context(*, certificate: Path, key: Path | None, ca: Path) -> ssl.SSLContext:
    """Shows our certificate, and takes servers that `ca` signed for their name. Raises `ConfigError`."""
    return _context(ssl.Purpose.SERVER_AUTH, certificate, key, ca)


def server_context(*, certificate: Path, key: Path | None, ca: Path) -> ssl.SSLContext:
    """Shows our certificate, and takes clients that `ca` signed. Raises `ConfigError`."""
    return _context(ssl.Purpose.CLIENT_AUTH, certificate, key, ca)


def renew(context: ssl.SSLContext, *, certificate: Path, key: Path | None, ca: Path) -> None:
    """Take up files that were replaced, for connections from now on. Raises `ConfigError`: then nothing changed."""
    _context(ssl.Purpose.CLIENT_AUTH, certificate, key, ca)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)


def _context(purpose: ssl.Purpose, certificate: Path, key: Path | None, ca: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(purpose, cafile=str(ca))
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"radsec: {certificate}, {key or certificate}, {ca}: {error}") from None
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class RadsecListener:
    """Serves clients over TLS; all roles have one port (RFC 6614 2.1)."""

    def __init__(
        self, clients: SecretSource, roles: Mapping[int, Intake], *, names: Mapping[str, Collection[str]]
    ) -> None:
        """`roles`: who takes which packet code; the first refuses all others, and counts what is refused before.

        `names`: by client name, DNS names of which its certificate must have one; else any that the CA signed will do.
        """
        self._clients = clients
        self._roles = roles
        self._first = next(iter(roles.values()))
        self._names = {client: {name.lower() for name in given} for client, given in names.items()}
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()

    async def start(self, host: str, port: int, context: ssl.SSLContext) -> tuple[str, int]:
        """Listen; the address. Raises `ConfigError`."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _Connection(self), host, port, ssl=context, ssl_handshake_timeout=HANDSHAKE_S
            )
        except OSError as error:
            raise ConfigError(f"listen.radsec: {host}:{port}: {error}") from None
        name = self._server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    async def close(self) -> None:
        """Stop listening and end the connections."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._open):
            connection.end()
        for _ in range(ENDING_ROUNDS):
            if not self._open:
                break
            await asyncio.sleep(0)

    def admit(self, connection: _Connection) -> Client | None:
        """The client behind a new connection, None when it may not come in."""
        address = connection.address[0]
        client = self._clients.find(address)
        why = ""
        if client is None:
            why = "unknown-client"
        elif len(self._open) >= MAX_CONNECTIONS:
            why = "connections"
        elif (wanted := self._names.get(client.name)) and not wanted & connection.names():
            why = "certificate-name"
        if why:
            self._first.counters.drop(why)
            logger.warning("RadSec connection of %s refused: %s", address, why)
            return None
        self._open.add(connection)
        return client

    def gone(self, connection: _Connection) -> None:
        """A connection ended."""
        self._open.discard(connection)

    def receive(self, packet: bytes, client: Client, connection: _Connection) -> None:
        """One packet of a client."""
        role = self._roles.get(packet[0], self._first)
        role.receive(packet, connection.address, client=client, send=connection.send)


class _Connection(asyncio.Protocol):
    """One client's connection. The handshake, with the client's certificate, is over when it is made."""

    def __init__(self, listener: RadsecListener) -> None:
        self._listener = listener
        self._framer = Framer()
        self._client: Client | None = None
        self._transport: Any = None
        self.address: tuple[Any, ...] = ("", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.address = tuple(transport.get_extra_info("peername"))
        self._client = self._listener.admit(self)
        if self._client is None:
            self.end()

    def data_received(self, data: bytes) -> None:
        if self._client is None:
            return
        try:
            packets = self._framer.feed(data)
        except PacketError as error:
            logger.warning("RadSec connection of %s ended: %s", self.address[0], error.text)
            self.end()
            return
        for packet in packets:
            self._listener.receive(packet, self._client, self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client = None
        self._listener.gone(self)

    def send(self, data: bytes) -> None:
        """A reply; nothing when the client is gone."""
        if self._client is None or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.end()
            return
        self._transport.write(data)

    def end(self) -> None:
        """Close at once."""
        self._transport.abort()

    def names(self) -> set[str]:
        """DNS names of the client's certificate, lower case."""
        found = self._transport.get_extra_info("peercert") or {}
        return {value.lower() for kind, value in found.get("subjectAltName", ()) if kind == "DNS"}
