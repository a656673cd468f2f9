"""A RADIUS server over TLS that sends orders to the clients that are connected (RFC 5176 over RFC 6614)."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

from radius import packet as wire
from radius.attributes import Value, encode
from radius.packet import Code, Packet
from radius.radsec import SECRET, server_context
from tests.harness.pki import Certificate
from tests.harness.ports import HOST

ANSWER_S = 5.0


class OrderingServer:
    """Accepts clients; what they ask is not answered, what is ordered they answer."""

    def __init__(self, certificate: Certificate, ca: Path) -> None:
        self._context = server_context(certificate=certificate.certificate, key=certificate.key, ca=ca)
        self._peers: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._identifiers = itertools.count(1)
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self, port: int = 0) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, HOST, port, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and cut everybody off."""
        assert self._server is not None
        self._server.close()
        while not self._peers.empty():
            self._peers.get_nowait()[1].transport.abort()
        await asyncio.sleep(0)

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The next client's connection; wait for it."""
        async with asyncio.timeout(ANSWER_S):
            return await self._peers.get()

    async def order(self, *pairs: tuple[str, Value], code: int = Code.DISCONNECT_REQUEST) -> Packet:
        """Send an order to the newest client and wait for its verified answer."""
        reader, writer = await self.client()
        self._peers.put_nowait((reader, writer))
        return await order_on(reader, writer, *pairs, code=code, identifier=next(self._identifiers))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._peers.put_nowait((reader, writer))


async def order_on(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *pairs: tuple[str, Value],
    code: int = Code.DISCONNECT_REQUEST,
    identifier: int = 1,
    secret: bytes = SECRET,
) -> Packet:
    """Send an order on a connection and wait for its verified answer."""
    data = wire.encode_request(code, identifier, encode(pairs), secret=secret, nonce=bytes(16))
    writer.write(data)
    async with asyncio.timeout(ANSWER_S):
        while (answer := await read(reader)).code == Code.STATUS_SERVER:  # how a client makes itself known
            writer.write(wire.encode_reply(Code.ACCESS_ACCEPT, answer, b"", secret=SECRET))
    wire.verify_reply(answer, data[0], data[4:20], SECRET, require_mac=True)
    return answer


async def read(reader: asyncio.StreamReader) -> Packet:
    """The next packet on a connection."""
    head = await reader.readexactly(4)
    return wire.decode(head + await reader.readexactly(int.from_bytes(head[2:], "big") - 4))
