"""Orders over TLS (RFC 5176 over RFC 6614): on a listener of ours, and on the connection that we opened to a server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest

from radius import packet as wire
from radius.attributes import encode
from radius.client import Pool, Server, Settings
from radius.disconnect import ORDERS, DisconnectListener, ErrorCause
from radius.errors import RadiusUnavailable
from radius.packet import Code, Packet, Type
from radius.ports import Client
from radius.radsec import SECRET, RadsecListener, server_context
from radius.server import Clients
from tests.harness.pki import Pki
from tests.harness.ports import HOST, free_port
from tests.radius.ordering import OrderingServer, order_on, read
from tests.radius.test_disconnect import NOW, Orders
from tests.radius.test_radsec import context_of

ALICE = ("User-Name", "alice")


@pytest.fixture
def orders() -> Orders:
    return Orders()


@pytest.fixture
def listener(orders: Orders) -> DisconnectListener:
    """Knows nobody by UDP."""
    return DisconnectListener(Clients({}), orders, clock=lambda: float(NOW))


def shown(answer: Packet) -> tuple[Code, int | None]:
    return Code(answer.code), answer.integer(Type.ERROR_CAUSE)


# -- a listener of ours


@pytest.fixture
async def port(listener: DisconnectListener, pki: Pki) -> AsyncIterator[int]:
    clients = Clients({HOST: Client("radius", SECRET)})
    shell = RadsecListener(clients, dict.fromkeys(ORDERS, listener), names={"radius": ("Radius.example", "other")})
    edge = pki.issue("ordered-edge")
    context = server_context(certificate=edge.certificate, key=edge.key, ca=pki.ca)
    _, port = await shell.start(HOST, 0, context)
    yield port
    await shell.close()
    await listener.close()


async def connect(port: int, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, port, ssl=context)


@pytest.mark.usefixtures("errors_expected")
async def test_a_server_with_its_certificate_orders(port: int, pki: Pki, orders: Orders) -> None:
    context = context_of(pki.issue("orderer", names=("radius.example",)), pki.ca)
    pool = Pool([Server(HOST, port, SECRET, context)], Settings(timeout_s=5.0))
    for code, user, expected in (
        (Code.DISCONNECT_REQUEST, "alice", (Code.DISCONNECT_ACK, None)),
        (Code.COA_REQUEST, "alice", (Code.COA_ACK, None)),
        (Code.DISCONNECT_REQUEST, "ghost", (Code.DISCONNECT_NAK, ErrorCause.SESSION_CONTEXT_NOT_FOUND)),
        (Code.COA_REQUEST, "bug", (Code.COA_NAK, ErrorCause.RESOURCES_UNAVAILABLE)),
    ):
        assert shown(await pool.request(code, encode([("User-Name", user)]))) == expected
    assert [seen.client for seen in orders.seen] == ["radius"] * 4
    await pool.close()


async def test_copies_replays_and_other_packets(
    port: int, pki: Pki, orders: Orders, listener: DisconnectListener
) -> None:
    context = context_of(pki.issue("orderer", names=("radius.example",)), pki.ca)
    reader, writer = await connect(port, context)
    assert shown(await order_on(reader, writer, ALICE)) == (Code.DISCONNECT_ACK, None)
    assert shown(await order_on(reader, writer, ALICE)) == (Code.DISCONNECT_ACK, None)
    assert (len(orders.seen), listener.counters.duplicates) == (1, 1)
    again, other = await connect(port, context)
    data = wire.encode_request(Code.DISCONNECT_REQUEST, 1, encode([ALICE]), secret=SECRET, nonce=bytes(16))
    other.write(data)  # the same octets on another connection
    old = encode([ALICE, ("Event-Timestamp", NOW - 301)])
    other.write(wire.encode_request(Code.DISCONNECT_REQUEST, 2, old, secret=SECRET, nonce=bytes(16)))
    other.write(wire.encode_request(Code.DISCONNECT_REQUEST, 3, encode([ALICE]), secret=b"guess", nonce=bytes(16)))
    other.write(wire.encode_request(Code.ACCESS_REQUEST, 4, encode([ALICE]), secret=SECRET, nonce=bytes(16)))
    assert shown(await order_on(again, other, ("User-Name", "ghost"), identifier=5))[0] == Code.DISCONNECT_NAK
    assert listener.counters.dropped == {"replay": 1, "timestamp": 1, "authenticator": 1, "code": 1}
    assert [seen.user for seen in orders.seen] == ["alice", "ghost"]
    for each in (writer, other):
        each.close()


@pytest.mark.parametrize("who", ["another-name", "another-authority", "nobody"])
async def test_who_may_not_order(
    port: int,
    pki: Pki,
    orders: Orders,
    listener: DisconnectListener,
    who: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if who == "nobody":
        context = ssl.create_default_context(cafile=str(pki.ca))
    elif who == "another-name":
        context = context_of(pki.issue("intruder", names=("intruder.example",)), pki.ca)
    else:
        context = context_of(Pki(tmp_path_factory.mktemp("other")).issue("x", names=("radius.example",)), pki.ca)
    pool = Pool([Server(HOST, port, SECRET, context)], Settings(timeout_s=0.5))
    with pytest.raises(RadiusUnavailable):
        await pool.request(Code.DISCONNECT_REQUEST, encode([ALICE]))
    assert not orders.seen
    assert (listener.counters.dropped.get("certificate-name", 0) > 0) is (who == "another-name")
    await pool.close()


# -- the connection that we opened


async def test_a_server_orders_on_our_connection_without_being_asked(
    pki: Pki, orders: Orders, listener: DisconnectListener
) -> None:
    server = OrderingServer(pki.issue("radius"), pki.ca)
    await server.start()
    context = context_of(pki.issue("edge"), pki.ca)
    pool = Pool([Server(HOST, server.port, SECRET, context)], Settings(timeout_s=0.5))
    assert pool.take_orders(listener)
    assert shown(await server.order(ALICE)) == (Code.DISCONNECT_ACK, None)
    ghost = await server.order(("User-Name", "ghost"), code=Code.COA_REQUEST)
    assert shown(ghost) == (Code.COA_NAK, ErrorCause.SESSION_CONTEXT_NOT_FOUND)
    assert [seen.client for seen in orders.seen] == [f"radsec:{HOST}:{server.port}"] * 2
    reader, writer = await server.client()
    assert shown(await order_on(reader, writer, ALICE, identifier=1)) == (Code.DISCONNECT_ACK, None)
    assert (len(orders.seen), listener.counters.duplicates) == (2, 1)
    (counters,) = pool.counters().values()
    assert (counters.late, counters.malformed) == (0, 0), "an order is no reply that came too late"
    writer.close()
    await pool.close()
    await server.stop()
    await listener.close()


async def test_a_client_makes_itself_known_on_the_connection(pki: Pki, listener: DisconnectListener) -> None:
    """A server files the connection under what the first request says."""
    server = OrderingServer(pki.issue("radius"), pki.ca)
    await server.start()
    edge = Settings(timeout_s=0.5, nas_identifier="edge.example")
    pool = Pool([Server(HOST, server.port, SECRET, context_of(pki.issue("edge"), pki.ca))], edge)
    pool.take_orders(listener)
    reader, writer = await server.client()
    first = await read(reader)
    wire.verify_request(first, SECRET, require_mac=True)
    assert (first.code, first.text(Type.NAS_IDENTIFIER)) == (Code.STATUS_SERVER, "edge.example")
    writer.write(wire.encode_reply(Code.ACCESS_ACCEPT, first, b"", secret=SECRET))
    assert shown(await order_on(reader, writer, ALICE)) == (Code.DISCONNECT_ACK, None)
    assert pool.states() == ((f"radsec:{HOST}:{server.port}", True),)
    writer.close()
    await pool.close()
    await server.stop()
    await listener.close()


async def test_the_connection_is_kept_open(
    pki: Pki, listener: DisconnectListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radius.lines.REOPEN_S", 0.01)
    server = OrderingServer(pki.issue("radius"), pki.ca)
    port = free_port()
    context = context_of(pki.issue("edge"), pki.ca)
    pool = Pool([Server(HOST, port, SECRET, context)], Settings(timeout_s=0.5))
    pool.take_orders(listener)  # nobody listens yet
    for round in range(3):
        await server.start(port)
        assert shown(await server.order(("User-Name", f"alice{round}"))) == (Code.DISCONNECT_ACK, None)
        await server.stop()
    await pool.close()
    await listener.close()


async def test_orders_that_nobody_expects_are_not_carried_out(pki: Pki, orders: Orders) -> None:
    server = OrderingServer(pki.issue("radius"), pki.ca)
    await server.start()
    pool = Pool([Server(HOST, server.port, SECRET, context_of(pki.issue("edge"), pki.ca))], Settings(timeout_s=3.0))
    asking = asyncio.create_task(pool.request(Code.ACCOUNTING_REQUEST, encode([("Acct-Status-Type", "Start")])))
    reader, writer = await server.client()
    asked = wire.decode(await reader.read(4096))
    writer.write(wire.encode_request(Code.DISCONNECT_REQUEST, 99, encode([ALICE]), secret=SECRET, nonce=bytes(16)))
    writer.write(wire.encode_reply(Code.ACCOUNTING_RESPONSE, asked, b"", secret=SECRET))
    await asking
    (counters,) = pool.counters().values()
    assert (counters.late, counters.replies) == (1, 1)
    assert not orders.seen
    await pool.close()
    await server.stop()


async def test_over_udp_nobody_orders_there(listener: DisconnectListener) -> None:
    pool = Pool([Server(HOST, free_port(), b"s")])
    assert not pool.take_orders(listener)
    await pool.close()
