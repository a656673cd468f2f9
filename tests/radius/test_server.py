"""radius.server over real sockets on loopback."""

# ruff: noqa: ASYNC110 - waits for what real sockets bring

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from radius import packet as wire
from radius.errors import EncodingError, PacketError
from radius.packet import Code, Packet, Type, attribute
from radius.ports import Client, Reply
from radius.server import Clients, Server

SECRET = b"s3cret"
NAME = attribute(Type.USER_NAME, b"alice")


class Script:
    """A handler that counts and does what the user name says."""

    def __init__(self) -> None:
        self.handled = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def handle(self, request: Packet, client: Client) -> Reply | None:
        self.handled += 1
        await self.gate.wait()
        match request.text(Type.USER_NAME):
            case "silent":
                return None
            case "nonsense":
                raise PacketError("digest", "nonsense")
            case "long":
                raise EncodingError("too long")
            case "broken":
                raise RuntimeError("a bug")
        return Reply(Code.ACCESS_ACCEPT, NAME)


class Peer:
    """A UDP client that sends octets and receives octets."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.connect(address)

    async def ask(self, data: bytes) -> bytes:
        await self.send(data)
        return await self.receive()

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self) -> bytes:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, 5000), 2)


def request(
    name: bytes = b"alice", identifier: int = 1, code: int = Code.ACCESS_REQUEST, secret: bytes = SECRET
) -> bytes:
    body = attribute(Type.USER_NAME, name)
    return wire.encode_request(code, identifier, body, secret=secret, nonce=bytes([identifier]) * 16)


async def start(clients: dict[str, Client], script: Script) -> tuple[Server, Peer]:
    server = Server(Clients(clients), script, codes=[Code.ACCESS_REQUEST], status_code=Code.ACCESS_ACCEPT)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    await server.start(sock)
    return server, Peer(sock.getsockname())


@pytest.fixture
async def script() -> Script:
    return Script()


@pytest.fixture
async def pair(script: Script) -> AsyncIterator[tuple[Server, Peer]]:
    server, peer = await start({"127.0.0.0/8": Client("edge", SECRET)}, script)
    yield server, peer
    peer.sock.close()
    await server.close()


async def flush(peer: Peer) -> None:
    """Datagrams are handled in order: when this is answered, everything before it was seen."""
    await peer.ask(request(b"flush", 255))


async def test_requests_are_answered_and_signed(pair: tuple[Server, Peer], script: Script) -> None:
    _, peer = pair
    asked = request()
    answer = wire.decode(await peer.ask(asked))
    wire.verify_reply(answer, asked[0], asked[4:20], SECRET, require_mac=True)
    assert answer.text(Type.USER_NAME) == "alice"


async def test_retransmission_gets_the_same_answer_without_work(pair: tuple[Server, Peer], script: Script) -> None:
    server, peer = pair
    first = await peer.ask(request())
    assert await peer.ask(request()) == first
    assert (script.handled, server.counters.duplicates) == (1, 1)


async def test_retransmission_during_the_work_is_ignored(pair: tuple[Server, Peer], script: Script) -> None:
    server, peer = pair
    script.gate.clear()
    await peer.send(request())
    await peer.send(request())
    while server.counters.duplicates < 1:
        await asyncio.sleep(0)
    script.gate.set()
    await peer.receive()
    assert script.handled == 1


async def test_unanswered_requests_are_worked_on_again(pair: tuple[Server, Peer], script: Script) -> None:
    server, peer = pair
    await peer.send(request(b"silent"))
    await flush(peer)
    await peer.send(request(b"silent"))
    await flush(peer)
    assert server.counters.silent == 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"garbage", "short"),
        (request(secret=b"guess"), "message-authenticator"),
        (wire.encode_request(Code.ACCOUNTING_REQUEST, 1, NAME, secret=SECRET, nonce=bytes(16)), "code"),
        (bytes((1, 1, 0, 27)) + bytes(16) + NAME, "message-authenticator-missing"),
        (request(b"nonsense"), "digest"),
        (request(b"long"), "too-long"),
    ],
)
async def test_what_is_wrong_is_dropped_and_counted(pair: tuple[Server, Peer], data: bytes, reason: str) -> None:
    server, peer = pair
    await peer.send(data)
    await flush(peer)
    assert server.counters.dropped == {reason: 1}


@pytest.mark.usefixtures("errors_expected")
async def test_a_bug_in_one_request_is_logged_and_harms_no_other(
    pair: tuple[Server, Peer], caplog: pytest.LogCaptureFixture
) -> None:
    _, peer = pair
    await peer.send(request(b"broken"))
    await flush(peer)
    assert "a bug" in caplog.text


async def test_status_server_must_be_signed_and_is_answered(pair: tuple[Server, Peer]) -> None:
    _, peer = pair
    asked = request(code=Code.STATUS_SERVER)
    answer = wire.decode(await peer.ask(asked))
    wire.verify_reply(answer, Code.STATUS_SERVER, asked[4:20], SECRET, require_mac=True)


async def test_old_clients_may_be_let_off_the_message_authenticator(script: Script) -> None:
    server, peer = await start({"127.0.0.1": Client("old", SECRET, require_message_authenticator=False)}, script)
    asked = bytes((1, 1, 0, 27)) + bytes(16) + NAME
    answer = wire.decode(await peer.ask(asked))
    wire.verify_reply(answer, 1, asked[4:20], SECRET, require_mac=True)
    peer.sock.close()
    await server.close()


async def test_strangers_are_dropped(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    server, peer = await start({"192.0.2.0/24": Client("other", SECRET)}, script)
    await peer.send(request())
    while not server.counters.dropped:
        await asyncio.sleep(0)
    assert server.counters.dropped == {"unknown-client": 1}
    assert "no such client" in caplog.text
    assert script.handled == 0
    peer.sock.close()
    await server.close()


async def test_requests_beyond_the_bound_are_dropped(
    pair: tuple[Server, Peer], script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, peer = pair
    monkeypatch.setattr(Server, "max_working", 1)
    script.gate.clear()
    await peer.send(request(identifier=1))
    await peer.send(request(identifier=2))
    while not server.counters.dropped:
        await asyncio.sleep(0)
    assert server.counters.dropped == {"overload": 1}
    script.gate.set()
    await peer.receive()


def test_the_longest_network_wins() -> None:
    clients = Clients(
        {"10.0.0.0/8": Client("wide", b"w"), "10.1.1.1": Client("one", b"o"), "2001:db8::/32": Client("6", b"6")}
    )
    names = {
        address: client.name
        for address in ("10.2.2.2", "10.1.1.1", "::ffff:10.1.1.1", "2001:db8::1")
        if (client := clients.find(address))
    }
    assert names == {"10.2.2.2": "wide", "10.1.1.1": "one", "::ffff:10.1.1.1": "one", "2001:db8::1": "6"}
    assert clients.find("10.2.2.2") is clients.find("10.2.2.2")
    assert clients.find("192.0.2.1") is None
