"""The UDP socket: datagrams in and out, flows, errors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from nomad.ports import Unavailable
from nomad.sip.events import Flow
from nomad.transport import udp
from nomad.transport.counters import Counters
from nomad.transport.udp import UdpSocket

Received = asyncio.Queue[tuple[bytes, Flow]]


class Pair:
    def __init__(self) -> None:
        self.received: Received = asyncio.Queue()
        self.counters = Counters()
        self.socket = UdpSocket(lambda data, flow: self.received.put_nowait((data, flow)), self.counters)

    async def next(self) -> tuple[bytes, Flow]:
        return await asyncio.wait_for(self.received.get(), 2)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair()
    await pair.socket.open("127.0.0.1", 0)
    yield pair
    await pair.socket.close()


def peer(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.settimeout(2)
    made.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    return made


async def test_a_datagram_and_its_answer(pair: Pair) -> None:
    with peer() as phone:
        phone.sendto(b"ping", pair.socket.local)
        data, flow = await pair.next()
        assert data == b"ping"
        assert flow == Flow("udp", pair.socket.local, phone.getsockname())
        assert pair.socket.send(b"pong", flow.remote)
        assert await asyncio.to_thread(phone.recv, 100) == b"pong"


async def test_the_same_peer_gives_the_same_flow(pair: Pair) -> None:
    with peer() as one, peer() as other:
        for phone in (one, one, other):
            phone.sendto(b"x", pair.socket.local)
        flows = [(await pair.next())[1] for _ in range(3)]
    assert flows[0] is flows[1]
    assert flows[2] != flows[0]
    assert pair.socket.flow(flows[0].remote) == flows[0]


async def test_the_flows_kept_are_bounded(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "MAX_CACHED_FLOWS", 3)
    for _ in range(10):
        with peer() as phone:
            phone.sendto(b"x", pair.socket.local)
            await pair.next()
    assert len(pair.socket._flows) <= 3


async def test_ipv6() -> None:
    pair = Pair()
    await pair.socket.open("[::1]", 0)
    with peer(socket.AF_INET6) as phone:
        phone.sendto(b"x", pair.socket.local)
        _, flow = await pair.next()
        assert flow.remote == phone.getsockname()[:2]
        assert pair.socket.send(b"y", flow.remote)
        assert await asyncio.to_thread(phone.recv, 100) == b"y"
    await pair.socket.close()


async def test_a_big_datagram_passes_and_a_too_big_one_is_counted(pair: Pair) -> None:
    with peer() as phone:
        phone.sendto(b"x" * 60_000, pair.socket.local)
        assert len((await pair.next())[0]) == 60_000
        pair.socket.send(b"y" * 70_000, phone.getsockname())
        pair.socket.send(b"z", phone.getsockname())
        assert await asyncio.to_thread(phone.recv, 100) == b"z"
    assert sum(pair.counters.dropped.values()) == 1


async def test_a_peer_of_the_other_family_is_unreachable(pair: Pair) -> None:
    pair.socket.send(b"x", ("::1", 5060))
    assert sum(pair.counters.dropped.values()) == 1


async def test_a_peer_that_is_gone_does_no_harm(pair: Pair) -> None:
    with peer() as gone:
        address = gone.getsockname()
    for _ in range(3):
        assert pair.socket.send(b"x", address)
    with peer() as phone:
        phone.sendto(b"still there", pair.socket.local)
        assert (await pair.next())[0] == b"still there"


async def test_closed_means_closed(pair: Pair) -> None:
    await pair.socket.close()
    assert not pair.socket.send(b"x", ("127.0.0.1", 5060))
    await pair.socket.close()


async def test_an_address_in_use(pair: Pair) -> None:
    with pytest.raises(Unavailable, match="cannot listen on"):
        await Pair().socket.open(*pair.socket.local)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_ipv6_sockets_take_no_ipv4(kind: socket.SocketKind) -> None:
    """Else IPv4 peers could come by mapped addresses, under which nobody is banned or trusted."""
    with udp.bind("::", 0, kind) as wide, udp.bind("0.0.0.0", wide.getsockname()[1], kind) as narrow:
        assert narrow.getsockname()[1] == wide.getsockname()[1]  # else the port would be taken
