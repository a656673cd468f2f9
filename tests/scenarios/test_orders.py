"""radclient ends and changes the calls of a whole edge (RFC 5176)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nomad import tasks
from nomad.app import Edge
from nomad.demo.pbx import Pbx
from nomad.demo.softphone import PhoneCall, Softphone
from nomad.ports import CdrQuery
from radius import radsec
from radius.attributes import encode
from radius.client import Pool, Server
from radius.packet import Code
from tests.harness.debian import require
from tests.harness.freeradius import Reply, radclient, write_dictionary
from tests.harness.people import ALICE, BOB, DOMAIN
from tests.harness.pki import Pki
from tests.harness.ports import HOST
from tests.harness.site import SECRET, phone_of, running_edge

LISTEN = f'disconnect_listen = "{HOST}:0"\ndisconnect_clients = ["{HOST}"]'


@dataclass
class Talk:
    """An edge, its PBX and a phone; the phone is in a call when `call` was awaited."""

    edge: Edge
    pbx: Pbx
    phone: Softphone
    folder: Path

    async def call(self) -> PhoneCall:
        call = await self.phone.call("1000")
        assert call.answered
        return call

    async def order(self, *pairs: tuple[str, str], kind: str = "disconnect", secret: str = SECRET) -> Reply:
        """By radclient, in a thread."""
        host, port = self.edge.disconnect_address
        lines = "".join(f"{name} = {value}\n" for name, value in pairs)
        return await asyncio.to_thread(
            radclient, f"{host}:{port}", kind, lines, secret=secret, dictionary=self.folder, timeout_s=1.0
        )

    async def stops(self) -> list[dict[str, Any]]:
        """Stop records that reached the RADIUS server, once the spool is empty."""
        await tasks.drain(2.0)  # what the edge does meanwhile
        while self.edge.spool.state().records:
            await self.edge.accountant.delivery.deliver_once()
        lines = (self.folder / "detail.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["Acct-Status-Type"] == "Stop"]


@pytest.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    require("radclient")
    write_dictionary(tmp_path)
    async with running_edge(tmp_path, radius=LISTEN) as (edge, pbx):
        phone = phone_of(edge, ALICE)
        await phone.start()
        assert (await phone.register()).ok
        yield Talk(edge, pbx, phone, tmp_path)
        await phone.stop()


@pytest.mark.parametrize("name", [ALICE.login, f"{ALICE.login}@{DOMAIN}", ALICE.mail])
async def test_a_user_is_disconnected(talk: Talk, name: str) -> None:
    call = await talk.call()
    started = time.monotonic()
    assert (await talk.order(("User-Name", f'"{name}"'))).kind == "Disconnect-ACK"
    assert await call.wait_ended() == "peer"
    assert time.monotonic() - started < 1.0
    assert [each.ended for each in talk.pbx.calls] == [True], "the PBX's leg too"
    assert talk.edge.locations.bindings == 0
    (stop,) = await talk.stops()
    assert (stop["User-Name"], stop["Acct-Terminate-Cause"]) == (ALICE.login, "Admin-Reset")
    (record,) = await talk.edge.cdrs.query(CdrQuery())
    assert (record.result, record.terminate_cause) == ("answered", "Admin-Reset")


async def test_one_call_is_disconnected_by_its_session(talk: Talk) -> None:
    first, second = await talk.call(), await talk.call()
    session, other = [each.id for each in talk.edge.calls]
    assert (await talk.order(("Acct-Session-Id", f'"{session}"'))).kind == "Disconnect-ACK"
    await first.wait_ended()
    assert [each.id for each in talk.edge.calls] == [other]
    assert talk.edge.locations.bindings == 1, "a call is meant, not the person"
    pairs = (("Acct-Session-Id", f'"{other}"'), ("User-Name", BOB.login))
    assert (await talk.order(*pairs)).all("Error-Cause") == ["Session-Context-Not-Found"]
    assert (await talk.order(("Calling-Station-Id", f'"sip:{ALICE.login}@{DOMAIN}"'))).kind == "Disconnect-ACK"
    await second.wait_ended()


async def test_an_order_over_tls_ends_the_call(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    require("openssl")
    pki = Pki(tmp_path_factory.mktemp("pki"))
    ours, theirs = pki.issue("edge"), pki.issue("radius", names=("radius.example",))
    listen = (
        f'disconnect_radsec_listen = "{HOST}:0"\ndisconnect_clients = ["{HOST}"]\n'
        f'disconnect_certificate_names = ["radius.example"]\ncertificate = "{ours.certificate}"\n'
        f'private_key = "{ours.key}"\nca_file = "{pki.ca}"'
    )
    async with running_edge(tmp_path, radius=listen) as (edge, _):
        assert edge.disconnect_address == ("", 0)
        phone = phone_of(edge, ALICE)
        await phone.start()
        assert (await phone.register()).ok
        call = await phone.call("1000")
        host, port = edge.radius.orders_over_tls
        context = radsec.client_context(certificate=theirs.certificate, key=theirs.key, ca=pki.ca)
        pool = Pool([Server(host, port, radsec.SECRET, context)])
        order = encode([("User-Name", ALICE.login), ("Event-Timestamp", int(time.time()))])
        assert (await pool.request(Code.DISCONNECT_REQUEST, order)).code == Code.DISCONNECT_ACK
        assert await call.wait_ended() == "peer"
        assert edge.locations.bindings == 0
        assert b'nomad_radius_orders_total{result="taken"} 1.0' in edge.metrics.render()[0]
        await pool.close()
        await phone.stop()


async def test_refusals_say_why(talk: Talk) -> None:
    call = await talk.call()
    for kind, pairs, cause in (
        ("disconnect", [("User-Name", "nobody")], "Session-Context-Not-Found"),
        ("disconnect", [("NAS-Identifier", DOMAIN)], "Missing-Attribute"),
        ("disconnect", [("User-Name", "alice"), ("NAS-Identifier", "other")], "NAS-Identification-Mismatch"),
        ("disconnect", [("User-Name", "alice"), ("Session-Timeout", "1")], "Unsupported-Attribute"),
        ("coa", [("User-Name", "alice")], "Missing-Attribute"),
        ("coa", [("User-Name", "alice"), ("Idle-Timeout", "5")], "Unsupported-Attribute"),
        ("coa", [("User-Name", "alice"), ("Session-Timeout", "0")], "Invalid-Attribute-Value"),
        ("coa", [("User-Name", "alice"), ("Service-Type", "Authorize-Only")], "Unsupported-Service"),
        ("coa", [("User-Name", "bob"), ("Session-Timeout", "9")], "Session-Context-Not-Found"),
    ):
        assert (await talk.order(*pairs, kind=kind)).all("Error-Cause") == [cause], (kind, pairs)
    assert (await talk.order(("User-Name", "alice"), secret="wrong")).kind == ""
    assert talk.edge.calls.live == 1
    metrics = talk.edge.metrics.render()[0].decode()
    assert 'nomad_radius_orders_total{result="taken"} 9.0' in metrics
    assert 'nomad_radius_orders_total{result="authenticator"} 1.0' in metrics
    await call.hangup()


async def test_a_running_call_gets_another_limit(talk: Talk) -> None:
    call = await talk.call()
    (live,) = talk.edge.calls
    assert live.answered_at is not None
    reply = await talk.order(("User-Name", "alice"), ("Session-Timeout", "600"), kind="coa")
    assert reply.kind == "CoA-ACK"
    assert live.ends_at == live.answered_at + 600
    assert (await talk.order(("User-Name", "alice"), ("Session-Timeout", "1"), kind="coa")).kind == "CoA-ACK"
    live.answered_at -= 1
    talk.edge.calls.limit(live, 1)
    await talk.edge.housekeeping.tick()
    await call.wait_ended()
    (stop,) = await talk.stops()
    assert stop["Acct-Terminate-Cause"] == "Session-Timeout"
