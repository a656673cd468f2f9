"""radius.lines: what a channel tells its owner. UDP as a whole is in test_client.py, TLS in test_radsec.py."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

import pytest

from radius.errors import RadiusUnavailable
from radius.lines import TlsLines, UdpLines
from tests.harness.ports import HOST, free_port


class Owner:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, object]] = []
        self._news = asyncio.Event()

    def received(self, channel: int, data: bytes) -> None:
        self._tell("received", channel, data)

    def refused(self, channel: int, why: str) -> None:
        self._tell("refused", channel, why)

    def connected(self, channel: int) -> None:
        self._tell("connected", channel, None)

    def _tell(self, what: str, channel: int, value: object) -> None:
        self.seen.append((what, channel, value))
        self._news.set()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not true():
                self._news.clear()
                await self._news.wait()


async def test_udp_channels_are_sockets_of_their_own() -> None:
    owner = Owner()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((HOST, 0))
        server.settimeout(2)
        lines = UdpLines(HOST, server.getsockname()[1], name="x", source=HOST, owner=owner)
        await lines.resolve()
        loop = asyncio.get_running_loop()
        lines.send(loop, 1, b"second")
        lines.send(loop, 0, b"first")
        asked = [server.recvfrom(100) for _ in range(2)]
        assert [data for data, _ in asked] == [b"second", b"first"]
        assert asked[0][1] != asked[1][1]
        for data, address in asked:
            server.sendto(data.upper(), address)
        await owner.until(lambda: len(owner.seen) == 2)
        assert sorted(owner.seen) == [("received", 0, b"FIRST"), ("received", 1, b"SECOND")]
        lines.close()


async def test_nobody_listens() -> None:
    owner = Owner()
    lines = UdpLines(HOST, free_port(), name="x", source="", owner=owner)
    lines.send(asyncio.get_running_loop(), 0, b"x")
    await owner.until(lambda: bool(owner.seen))
    assert owner.seen[0] == ("refused", 0, "refused: Connection refused")
    lines.close()


async def test_a_name_that_is_none() -> None:
    lines = UdpLines("no-such-host.invalid", 1, name="no-such-host.invalid:1", source="", owner=Owner())
    with pytest.raises(RadiusUnavailable, match="name does not resolve"):
        await lines.resolve()
    owner = Owner()
    lines = UdpLines("no-such-host.invalid", 1, name="x", source="", owner=owner)
    lines.send(asyncio.get_running_loop(), 0, b"x")
    assert owner.seen == [("refused", 0, "refused: address is not known yet")]


async def test_tls_to_nobody_is_refused_and_tried_again_when_asked() -> None:
    owner = Owner()
    context = ssl.create_default_context()
    lines = TlsLines(HOST, free_port(), name="x", context=context, owner=owner)
    loop = asyncio.get_running_loop()
    for count in (1, 2):
        lines.send(loop, 0, b"x")
        lines.send(loop, 0, b"y")
        await owner.until(lambda: len(owner.seen) == count)  # noqa: B023 - awaited at once
        assert owner.seen[-1][:2] == ("refused", 0)
        assert str(owner.seen[-1][2]).startswith("refused: ")
    lines.close()
    lines.send(loop, 0, b"z")
    lines.send(loop, 1, b"z")
    assert len(owner.seen) == 2


async def test_tls_to_somebody_who_speaks_no_tls() -> None:
    owner = Owner()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"this is no TLS at all, sorry")
        writer.close()

    server = await asyncio.start_server(talk, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    lines = TlsLines(HOST, port, name="x", context=ssl.create_default_context(), owner=owner)
    lines.send(asyncio.get_running_loop(), 0, b"secret")
    await owner.until(lambda: bool(owner.seen))
    assert owner.seen[0][0] == "refused"
    assert "TLS failed" in str(owner.seen[0][2])
    lines.close()
    server.close()
