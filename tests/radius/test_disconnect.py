"""radius.disconnect: with radclient, with pyrad, and with forgers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from radius import packet as wire
from radius.attributes import encode
from radius.disconnect import DisconnectListener, ErrorCause, Kind, ListenerSettings, Order
from radius.errors import PacketError
from radius.packet import Code, Type
from radius.ports import Client
from radius.server import Clients
from radius.service import bind
from tests.harness.debian import require
from tests.harness.freeradius import radclient, write_dictionary
from tests.radius.test_server import Peer

SECRET = b"s3cret"
NOW = 1_700_000_000


class Orders:
    """Remembers what was ordered; user "ghost" has no session, user "bug" breaks."""

    def __init__(self) -> None:
        self.seen: list[Order] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, order: Order) -> ErrorCause | None:
        self.seen.append(order)
        await self.gate.wait()
        if order.user == "bug":
            raise RuntimeError("a bug")
        return ErrorCause.SESSION_CONTEXT_NOT_FOUND if order.user == "ghost" else None


async def make(
    settings: ListenerSettings | None = None, network: str = "127.0.0.1"
) -> tuple[DisconnectListener, Orders, Peer]:
    orders = Orders()
    clients = Clients({network: Client("radius", SECRET)})
    listener = DisconnectListener(clients, orders, settings, clock=lambda: float(NOW))
    return listener, orders, Peer(await listener.start(bind("127.0.0.1", 0)))


@pytest.fixture
async def trio() -> AsyncIterator[tuple[DisconnectListener, Orders, Peer]]:
    listener, orders, peer = await make(ListenerSettings(nas_identifier="edge"))
    yield listener, orders, peer
    peer.sock.close()
    await listener.close()


def order(
    *pairs: tuple[str, str | int | bytes],
    code: int = Code.DISCONNECT_REQUEST,
    id: int = 1,
    secret: bytes = SECRET,
    sign: bool = True,
) -> bytes:
    return wire.encode_request(code, id, encode(pairs), secret=secret, nonce=bytes(16), sign=sign)


def cause(answer: bytes, asked: bytes) -> tuple[Code, int | None]:
    packet = wire.decode(answer)
    wire.verify_reply(packet, asked[0], asked[4:20], SECRET, require_mac=True)
    return Code(packet.code), packet.integer(Type.ERROR_CAUSE)


async def test_an_order_is_carried_out(trio: tuple[DisconnectListener, Orders, Peer]) -> None:
    _, orders, peer = trio
    data = order(
        ("User-Name", "alice"), ("Acct-Session-Id", "s1"), ("Calling-Station-Id", "a"), ("Called-Station-Id", "b"),
        ("Class", b"x"), ("Class", b"y"), ("Event-Timestamp", NOW - 5), ("NAS-Identifier", "edge"),
    )  # fmt: skip
    assert cause(await peer.ask(data), data) == (Code.DISCONNECT_ACK, None)
    seen = orders.seen[0]
    assert (seen.kind, seen.client, seen.user, seen.session) == (Kind.DISCONNECT, "radius", "alice", "s1")
    assert (seen.calling, seen.called, seen.classes) == ("a", "b", (b"x", b"y"))


async def test_change_of_authorization(trio: tuple[DisconnectListener, Orders, Peer]) -> None:
    _, orders, peer = trio
    data = order(("User-Name", "alice"), ("Session-Timeout", 60), ("Nomad-Max-Calls", 1), code=Code.COA_REQUEST)
    assert cause(await peer.ask(data), data) == (Code.COA_ACK, None)
    assert orders.seen[0].kind is Kind.CHANGE
    assert dict(orders.seen[0].attributes)["Nomad-Max-Calls"] == 1


@pytest.mark.usefixtures("errors_expected")
@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("User-Name", "ghost")], 503),
        ([("User-Name", "bug")], 506),
        ([("User-Name", "alice"), ("NAS-Identifier", "another")], 403),
    ],
)
async def test_refusals(
    trio: tuple[DisconnectListener, Orders, Peer], pairs: list[tuple[str, str | int | bytes]], expected: int
) -> None:
    _, _, peer = trio
    for id, (code, nak) in enumerate(
        ((Code.DISCONNECT_REQUEST, Code.DISCONNECT_NAK), (Code.COA_REQUEST, Code.COA_NAK)), 1
    ):
        data = order(*pairs, code=code, id=id)
        assert cause(await peer.ask(data), data) == (nak, expected)


async def test_retransmission_is_answered_again_but_not_carried_out_again(
    trio: tuple[DisconnectListener, Orders, Peer],
) -> None:
    listener, orders, peer = trio
    data = order(("User-Name", "alice"))
    assert await peer.ask(data) == await peer.ask(data)
    assert (len(orders.seen), listener.counters.duplicates) == (1, 1)


async def drops(listener: DisconnectListener, peer: Peer, data: bytes) -> dict[str, int]:
    """What is counted when this comes, followed by something that is answered."""
    await peer.send(data)
    await peer.ask(order(("User-Name", "flush"), id=200))
    return listener.counters.dropped


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (order(("User-Name", "alice"), secret=b"guess"), "authenticator"),
        (order(("User-Name", "alice"), ("Event-Timestamp", NOW - 301)), "timestamp"),
        (order(("User-Name", "alice"), ("Event-Timestamp", NOW + 301)), "timestamp"),
        (order(code=Code.ACCESS_REQUEST), "code"),
        (b"garbage", "short"),
    ],
)
async def test_forgeries_are_dropped_and_counted(
    trio: tuple[DisconnectListener, Orders, Peer], data: bytes, reason: str
) -> None:
    listener, orders, peer = trio
    assert await drops(listener, peer, data) == {reason: 1}
    assert [seen.user for seen in orders.seen] == ["flush"]


async def test_wrong_message_authenticator_is_dropped(trio: tuple[DisconnectListener, Orders, Peer]) -> None:
    listener, _, peer = trio
    body = b"\x50\x12" + bytes(16) + encode([("User-Name", "alice")])
    data = wire.encode_request(Code.DISCONNECT_REQUEST, 1, body, secret=SECRET, nonce=bytes(16), sign=False)
    assert await drops(listener, peer, data) == {"message-authenticator": 1}


async def test_replay_from_another_port_is_dropped(trio: tuple[DisconnectListener, Orders, Peer]) -> None:
    listener, orders, peer = trio
    data = order(("User-Name", "alice"), ("Event-Timestamp", NOW))
    await peer.ask(data)
    attacker = Peer(peer.sock.getpeername())
    assert await drops(listener, attacker, data) == {"replay": 1}
    assert [seen.user for seen in orders.seen] == ["alice", "flush"]
    attacker.sock.close()


async def test_strict_settings() -> None:
    listener, _, peer = await make(ListenerSettings(require_timestamp=True, require_message_authenticator=True))
    await peer.send(order(("User-Name", "alice")))
    await peer.send(order(("User-Name", "alice"), ("Event-Timestamp", NOW), sign=False))
    good = order(("User-Name", "alice"), ("Event-Timestamp", NOW), id=2)
    assert cause(await peer.ask(good), good) == (Code.DISCONNECT_ACK, None)
    assert listener.counters.dropped == {"timestamp-missing": 1, "message-authenticator-missing": 1}
    peer.sock.close()
    await listener.close()


async def test_strangers_are_dropped() -> None:
    listener, orders, peer = await make(network="192.0.2.1")
    await peer.send(order(("User-Name", "alice")))
    async with asyncio.timeout(2):
        while not listener.counters.dropped:  # noqa: ASYNC110 - waits for a real socket
            await asyncio.sleep(0)
    assert listener.counters.dropped == {"unknown-client": 1}
    assert not orders.seen
    peer.sock.close()
    await listener.close()


async def test_too_many_orders_at_once(
    trio: tuple[DisconnectListener, Orders, Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    listener, orders, peer = trio
    monkeypatch.setattr(DisconnectListener, "max_working", 1)
    orders.gate.clear()
    await peer.send(order(("User-Name", "a"), id=1))
    await peer.send(order(("User-Name", "b"), id=2))
    async with asyncio.timeout(2):
        while not listener.counters.dropped:  # noqa: ASYNC110 - waits for a real socket
            await asyncio.sleep(0)
    assert listener.counters.dropped == {"overload": 1}
    orders.gate.set()
    await peer.receive()


@pytest.mark.interop
async def test_radclient(tmp_path: Path) -> None:
    require("radclient")
    listener, orders, peer = await make()
    host, port = peer.sock.getpeername()
    write_dictionary(tmp_path)

    async def send(kind: str, user: str, secret: str = "s3cret") -> tuple[str, list[str]]:
        attributes = {"User-Name": user, "Acct-Session-Id": "s1"}
        reply = await asyncio.to_thread(
            radclient, f"{host}:{port}", kind, attributes, secret=secret, dictionary=tmp_path
        )
        return reply.kind, reply.all("Error-Cause")

    assert await send("disconnect", "alice") == ("Disconnect-ACK", [])
    assert await send("disconnect", "ghost") == ("Disconnect-NAK", ["Session-Context-Not-Found"])
    assert await send("coa", "alice") == ("CoA-ACK", [])
    assert [(seen.kind, seen.user) for seen in orders.seen] == [
        (Kind.DISCONNECT, "alice"),
        (Kind.DISCONNECT, "ghost"),
        (Kind.CHANGE, "alice"),
    ]
    peer.sock.close()
    await listener.close()


def test_sockets_are_datagram() -> None:
    sock = bind("127.0.0.1", 0)
    assert sock.type == socket.SOCK_DGRAM
    sock.close()
    with pytest.raises(PacketError):
        wire.decode(b"")
