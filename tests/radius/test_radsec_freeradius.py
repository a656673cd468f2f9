"""Our client against FreeRADIUS over TLS, with the files of deploy/freeradius (RFC 6614)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from radius.attributes import encode
from radius.client import Pool, Server, Settings
from radius.disconnect import ORDERS, DisconnectListener, Kind
from radius.errors import RadiusUnavailable
from radius.packet import Code
from radius.ports import Client
from radius.radsec import SECRET, RadsecListener, client_context, server_context
from radius.server import Clients
from tests.harness.debian import require
from tests.harness.freeradius import RadsecFreeRadius, radclient
from tests.harness.people import ALICE
from tests.harness.pki import Pki
from tests.harness.ports import HOST
from tests.harness.slapd import Slapd
from tests.radius.test_disconnect import Orders
from tests.radius.test_radsec import context_of, login


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, slapd: Slapd, pki: Pki) -> Iterator[RadsecFreeRadius]:
    require("freeradius")
    made = RadsecFreeRadius(tmp_path_factory.mktemp("radsec"), slapd, pki.issue("freeradius"), pki.ca)
    yield made
    made.stop()


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
async def test_logins_and_accounting(server: RadsecFreeRadius, pki: Pki, algorithm: str) -> None:
    context = context_of(pki.issue("edge-of-freeradius"), pki.ca)
    pool = Pool([Server(HOST, server.radsec_port, SECRET, context)], Settings(timeout_s=5.0))
    accepted = await pool.request(Code.ACCESS_REQUEST, login(ALICE.password, algorithm))
    assert accepted.code == Code.ACCESS_ACCEPT
    assert accepted.text(1) == ALICE.login
    assert (await pool.request(Code.ACCESS_REQUEST, login("wrong", algorithm))).code == Code.ACCESS_REJECT
    session = f"radsec-{algorithm}"
    record = encode([("Acct-Status-Type", "Start"), ("Acct-Session-Id", session), ("NAS-Identifier", "edge")])
    assert (await pool.request(Code.ACCOUNTING_REQUEST, record)).code == Code.ACCOUNTING_RESPONSE
    many = [pool.request(Code.ACCESS_REQUEST, login(ALICE.password, algorithm, nonce=str(n))) for n in range(300)]
    assert {reply.code for reply in await asyncio.gather(*many)} == {Code.ACCESS_ACCEPT}
    await pool.close()
    assert session in {entry["Acct-Session-Id"] for entry in server.detail_records()}


async def test_a_client_without_a_good_certificate(server: RadsecFreeRadius, pki: Pki, tmp_path: Path) -> None:
    other = Pki(tmp_path / "other")
    stranger = other.issue("edge")
    context = client_context(certificate=stranger.certificate, key=stranger.key, ca=pki.ca)
    pool = Pool([Server(HOST, server.radsec_port, SECRET, context)], Settings(timeout_s=1.0))
    with pytest.raises(RadiusUnavailable, match="radsec:"):
        await pool.request(Code.ACCESS_REQUEST, login(ALICE.password))
    await pool.close()


async def test_orders_by_radclient_reach_us_over_tls(server: RadsecFreeRadius, pki: Pki) -> None:
    """radclient to FreeRADIUS, which passes the order on to our listener (deploy/freeradius/site/nomad_orders)."""
    orders = Orders()
    listener = DisconnectListener(Clients({}), orders)
    names = {"freeradius": ("localhost",)}
    shell = RadsecListener(Clients({HOST: Client("freeradius", SECRET)}), dict.fromkeys(ORDERS, listener), names=names)
    edge = pki.issue("edge-of-orders")
    context = server_context(certificate=edge.certificate, key=edge.key, ca=pki.ca)
    await shell.start(HOST, server.edge_port, context)

    async def order(kind: str, user: str) -> tuple[str, list[str]]:
        lines = {"User-Name": user, "Acct-Session-Id": "s1", **({"Session-Timeout": "60"} if kind == "coa" else {})}
        port = f"{HOST}:{server.orders_port}"
        reply = await asyncio.to_thread(
            radclient, port, kind, lines, secret=server.secret, dictionary=server.folder, timeout_s=5.0
        )
        return reply.kind, reply.all("Error-Cause")

    assert await order("disconnect", "alice") == ("Disconnect-ACK", [])
    assert await order("disconnect", "ghost") == ("Disconnect-NAK", ["Session-Context-Not-Found"])
    assert await order("coa", "alice") == ("CoA-ACK", [])
    assert [(seen.kind, seen.client, seen.user, seen.session) for seen in orders.seen] == [
        (Kind.DISCONNECT, "freeradius", "alice", "s1"),
        (Kind.DISCONNECT, "freeradius", "ghost", "s1"),
        (Kind.CHANGE, "freeradius", "alice", "s1"),
    ]
    assert not listener.counters.dropped
    await shell.close()
    await listener.close()
