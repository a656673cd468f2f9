"""radius.radsec and radius.lines over real TLS: our server with our client, and clients that may not come in."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from radius import digest
from radius import packet as wire
from radius.attributes import encode
from radius.client import Pool, Server, Settings
from radius.config import ClientTable, Config, DirectoryTable, Listen, Tls, load
from radius.digest import Digest
from radius.errors import ConfigError, PacketError, RadiusUnavailable
from radius.packet import Code
from radius.radsec import SECRET, Framer, client_context, renew, server_context
from radius.service import Service
from tests.harness.people import ALICE, DOMAIN, SAMPLE, ldif
from tests.harness.pki import Certificate, Pki
from tests.harness.ports import HOST, free_port


@pytest.fixture(scope="module")
def other_pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority that nobody here trusts."""
    return Pki(tmp_path_factory.mktemp("other-pki"))


@pytest.fixture(scope="module")
def edge_certificate(pki: Pki) -> Certificate:
    return pki.issue("edge", names=("edge.inria.example",))


@pytest.fixture(scope="module")
def server_certificate(pki: Pki) -> Certificate:
    return pki.issue("radius")


def context_of(certificate: Certificate, ca: Path) -> ssl.SSLContext:
    return client_context(certificate=certificate.certificate, key=certificate.key, ca=ca)


def config_of(folder: Path, certificate: Certificate, ca: Path, client: ClientTable, *, port: int = 0) -> Config:
    (folder / "people.ldif").write_text(ldif(SAMPLE))
    return Config(
        client=(client,),
        directory=DirectoryTable(url="file:people.ldif"),
        listen=Listen(auth=f"{HOST}:0", acct=f"{HOST}:0", radsec=f"{HOST}:{port}"),
        tls=Tls(certificate=str(certificate.certificate), private_key=str(certificate.key), ca_file=str(ca)),
        domains=(DOMAIN,),
        detail="detail.jsonl",
        folder=str(folder),
    )


EDGE = ClientTable(address=HOST, name="edge", radsec=True, digest_ha1=True)


@pytest.fixture
async def service(tmp_path: Path, pki: Pki, server_certificate: Certificate) -> AsyncIterator[Service]:
    made = Service(config_of(tmp_path, server_certificate, pki.ca, EDGE))
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def pool(service: Service, pki: Pki, edge_certificate: Certificate) -> AsyncIterator[Pool]:
    made = pool_to(service.radsec_address[1], context_of(edge_certificate, pki.ca))
    yield made
    await made.close()


def pool_to(port: int, context: ssl.SSLContext, *, host: str = HOST, timeout_s: float = 3.0) -> Pool:
    return Pool([Server(host, port, SECRET, context)], Settings(timeout_s=timeout_s))


def login(password: str, algorithm: str = "MD5", *, nonce: str = "n") -> bytes:
    credentials = Digest(ALICE.login, DOMAIN, nonce, "sip:x", "REGISTER", "", algorithm, "auth", "00000001", "c")
    ha1 = digest.make_ha1(credentials.base_algorithm, ALICE.login, DOMAIN, password)
    credentials = dataclasses.replace(credentials, response=digest.response_for(credentials, ha1))
    return encode([("User-Name", ALICE.login)]) + digest.to_sterman(credentials)


@pytest.mark.parametrize("algorithm", digest.ALGORITHMS)
async def test_both_roles_over_one_port(pool: Pool, tmp_path: Path, algorithm: str) -> None:
    accepted = await pool.request(Code.ACCESS_REQUEST, login(ALICE.password, algorithm))
    assert accepted.code == Code.ACCESS_ACCEPT
    assert accepted.text(digest.RFC5090_HA1) == digest.make_ha1(algorithm, ALICE.login, DOMAIN, ALICE.password)
    assert (await pool.request(Code.ACCESS_REQUEST, login("wrong"))).code == Code.ACCESS_REJECT
    record = encode([("Acct-Status-Type", "Start"), ("Acct-Session-Id", "s1")])
    assert (await pool.request(Code.ACCOUNTING_REQUEST, record)).code == Code.ACCOUNTING_RESPONSE
    assert "s1" in (tmp_path / "detail.jsonl").read_text()
    assert pool.states()[0][0].startswith("radsec:")


async def test_more_in_flight_than_one_connection_carries(pool: Pool, service: Service) -> None:
    asked = [pool.request(Code.ACCESS_REQUEST, login(ALICE.password, nonce=f"n{number}")) for number in range(600)]
    replies = await asyncio.gather(*asked)
    assert {reply.code for reply in replies} == {Code.ACCESS_ACCEPT}
    assert len(service._radsec._open) == 3
    (counters,) = pool.counters().values()
    assert (counters.replies, counters.retransmissions) == (600, 0)


async def test_a_connection_that_ended_is_opened_anew(pool: Pool, service: Service) -> None:
    assert (await pool.request(Code.ACCESS_REQUEST, login(ALICE.password))).code == Code.ACCESS_ACCEPT
    for connection in list(service._radsec._open):
        connection.end()
    assert (await pool.request(Code.ACCESS_REQUEST, login(ALICE.password))).code == Code.ACCESS_ACCEPT


async def test_a_request_survives_a_restart_of_the_server(
    tmp_path: Path, pki: Pki, server_certificate: Certificate, edge_certificate: Certificate
) -> None:
    port = free_port()
    pool = pool_to(port, context_of(edge_certificate, pki.ca), timeout_s=5.0)
    asking = asyncio.create_task(pool.request(Code.ACCESS_REQUEST, login(ALICE.password)))
    await asyncio.sleep(0)
    service = Service(config_of(tmp_path, server_certificate, pki.ca, EDGE, port=port))
    await service.start()
    assert (await asking).code == Code.ACCESS_ACCEPT
    await pool.close()
    await service.close()


async def test_a_dead_connection_is_not_used_again(
    service: Service, monkeypatch: pytest.MonkeyPatch, pki: Pki, edge_certificate: Certificate
) -> None:
    impatient = pool_to(service.radsec_address[1], context_of(edge_certificate, pki.ca), timeout_s=1.0)
    assert (await impatient.request(Code.ACCESS_REQUEST, login(ALICE.password))).code == Code.ACCESS_ACCEPT
    (dead,) = service._radsec._open
    monkeypatch.setattr(dead, "send", lambda data: None)  # as a firewall that has forgotten the connection
    with pytest.raises(RadiusUnavailable):
        await impatient.request(Code.ACCESS_REQUEST, login(ALICE.password))
    assert (await impatient.request(Code.ACCESS_REQUEST, login(ALICE.password))).code == Code.ACCESS_ACCEPT
    assert dead not in service._radsec._open
    await impatient.close()


async def test_strangers_and_false_servers(
    service: Service, pki: Pki, other_pki: Pki, edge_certificate: Certificate
) -> None:
    port = service.radsec_address[1]
    stranger = context_of(other_pki.issue("edge"), pki.ca)
    bare = ssl.create_default_context(cafile=str(pki.ca))
    doubter = context_of(edge_certificate, other_pki.ca)
    for context, why in ((stranger, "."), (bare, "."), (doubter, "certificate is not good")):
        pool = pool_to(port, context, timeout_s=0.5)
        with pytest.raises(RadiusUnavailable, match=why) as caught:
            await pool.request(Code.ACCESS_REQUEST, login(ALICE.password))
        assert "radsec:" in str(caught.value)
        await pool.close()
    assert service.auth.counters.requests == 0


async def test_a_certificate_for_another_host_is_refused(
    tmp_path: Path, pki: Pki, edge_certificate: Certificate, server_certificate: Certificate
) -> None:
    service = Service(config_of(tmp_path, pki.issue("elsewhere", names=("elsewhere.example",)), pki.ca, EDGE))
    await service.start()
    context = context_of(edge_certificate, pki.ca)
    pool = pool_to(service.radsec_address[1], context, host="localhost", timeout_s=0.5)
    with pytest.raises(RadiusUnavailable, match="certificate is not good: Hostname mismatch"):
        await pool.request(Code.ACCESS_REQUEST, login(ALICE.password))
    await pool.close()
    await service.close()


async def test_expired_certificates_and_new_ones_without_a_restart(
    tmp_path: Path, pki: Pki, edge_certificate: Certificate
) -> None:
    """Each side's own expires and is replaced: `renew` is what a reload of the edge and SIGHUP to the server do."""
    expired = pki.issue("expired", days="-1")
    ours, theirs = tmp_path / "edge.pem", tmp_path / "radius.pem"
    for path in (ours, theirs):
        path.write_text(expired.certificate.read_text() + expired.key.read_text())
    service = Service(config_of(tmp_path, Certificate(theirs, theirs), pki.ca, EDGE))
    await service.start()
    context = client_context(certificate=ours, key=None, ca=pki.ca)
    pool = pool_to(service.radsec_address[1], context, timeout_s=0.7)
    with pytest.raises(RadiusUnavailable, match="certificate is not good: certificate has expired"):
        await pool.request(Code.ACCESS_REQUEST, login(ALICE.password))
    theirs.write_text("half a certif")
    with pytest.raises(ConfigError):
        service.renew()
    good = edge_certificate.certificate.read_text() + edge_certificate.key.read_text()
    theirs.write_text(good)
    service.renew()
    with pytest.raises(RadiusUnavailable, match="connection ended"):  # by the server, which finds ours expired
        await pool.request(Code.ACCESS_REQUEST, login(ALICE.password))
    assert service.auth.counters.requests == 0
    ours.write_text(good)
    renew(context, certificate=ours, key=None, ca=pki.ca)
    assert (await pool.request(Code.ACCESS_REQUEST, login(ALICE.password))).code == Code.ACCESS_ACCEPT
    await pool.close()
    await service.close()


@pytest.mark.parametrize(
    ("client", "comes_in"),
    [
        (ClientTable(address=HOST, radsec=True, certificate_name="Edge.inria.example"), True),
        (ClientTable(address=HOST, radsec=True, certificate_name="other.example"), False),
        (ClientTable(address="192.0.2.1", radsec=True), False),
        (ClientTable(address=HOST, secret_file="secret"), False),
    ],
    ids=["its-name", "another-name", "another-address", "udp-only"],
)  # fmt: skip
async def test_who_may_come_in(
    tmp_path: Path,
    pki: Pki,
    server_certificate: Certificate,
    edge_certificate: Certificate,
    client: ClientTable,
    comes_in: bool,
) -> None:
    (tmp_path / "secret").write_text("radsec")
    service = Service(config_of(tmp_path, server_certificate, pki.ca, client))
    await service.start()
    pool = pool_to(service.radsec_address[1], context_of(edge_certificate, pki.ca), timeout_s=2.0 if comes_in else 0.5)
    if comes_in:
        assert (await pool.request(Code.ACCESS_REQUEST, login(ALICE.password))).code == Code.ACCESS_ACCEPT
    else:
        with pytest.raises(RadiusUnavailable):
            await pool.request(Code.ACCESS_REQUEST, login(ALICE.password))
    await pool.close()
    await service.close()


async def test_no_way_back_to_udp(service: Service) -> None:
    """The client of RadSec is a stranger on the UDP port, though everybody knows the secret."""
    pool = Pool([Server(*service.addresses[0], SECRET)], Settings(timeout_s=0.3))
    with pytest.raises(RadiusUnavailable):
        await pool.request(Code.ACCESS_REQUEST, login(ALICE.password))
    assert set(service.auth.counters.dropped) == {"unknown-client"}
    await pool.close()


async def test_nonsense_in_the_stream_ends_it(service: Service, pki: Pki, edge_certificate: Certificate) -> None:
    host, port = service.radsec_address
    reader, writer = await asyncio.open_connection(
        host, port, ssl=context_of(edge_certificate, pki.ca), server_hostname=host
    )
    unsigned = bytes((Code.ACCESS_REQUEST, 1, 0, 20)) + bytes(16)
    good = wire.encode_request(
        Code.STATUS_SERVER, 2, encode([("NAS-Identifier", "x")]), secret=SECRET, nonce=bytes(16), sign=True
    )
    for octet in good[:30]:
        writer.write(bytes((octet,)))
        await writer.drain()
    writer.write(good[30:] + unsigned)
    head = await reader.readexactly(4)
    assert head[:2] == bytes((Code.ACCESS_ACCEPT, 2))
    await reader.readexactly(int.from_bytes(head[2:], "big") - 4)
    writer.write(b"\x01\x02\x00\x05nonsense")
    assert await reader.read() == b"", "the unsigned one got no answer, the nonsense the end"
    assert "message-authenticator-missing" in service.auth.counters.dropped
    writer.close()


def test_framing() -> None:
    one, two = b"\x01\x01\x00\x14" + bytes(16), b"\x02\x02\x00\x16" + bytes(18)
    for size in (1, 3, 19, 100):
        framer = Framer()
        stream = one + two + one
        found = [
            packet for start in range(0, len(stream), size) for packet in framer.feed(stream[start : start + size])
        ]
        assert found == [one, two, one]
    for length in (0, 19, 4097, 65535):
        with pytest.raises(PacketError):
            Framer().feed(b"\x01\x01" + length.to_bytes(2, "big"))


def test_contexts_demand_certificates(pki: Pki, edge_certificate: Certificate, tmp_path: Path) -> None:
    for make in (client_context, server_context):
        context = make(certificate=edge_certificate.certificate, key=edge_certificate.key, ca=pki.ca)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
        with pytest.raises(ConfigError, match="radsec"):
            make(certificate=tmp_path / "none.pem", key=None, ca=pki.ca)
    assert client_context(certificate=edge_certificate.certificate, key=edge_certificate.key, ca=pki.ca).check_hostname


def test_the_configuration(tmp_path: Path, pki: Pki, server_certificate: Certificate) -> None:
    text = """
[listen]
radsec = "127.0.0.1:0"
[[client]]
address = "192.0.2.0/24"
radsec = true
digest_ha1 = true
certificate_name = "edge.example"
[directory]
url = "file:people.ldif"
"""
    path = tmp_path / "radius.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"listen.radsec: needs \[tls\]"):
        load(path)
    path.write_text(
        f'{text}[tls]\ncertificate = "{server_certificate.certificate}"\n'
        f'private_key = "{server_certificate.key}"\nca_file = "{pki.ca}"\n'
    )
    config = load(path)
    client = config.clients(radsec=True).find("192.0.2.7")
    assert client is not None
    assert (client.secret, client.digest_ha1) == (SECRET, True)
    assert config.clients().find("192.0.2.7") is None
    assert config.certificate_names() == {"192.0.2.0/24": ("edge.example",)}


def test_on_uvloop_as_in_the_edge(
    tmp_path: Path, pki: Pki, server_certificate: Certificate, edge_certificate: Certificate, other_pki: Pki
) -> None:
    stranger = context_of(other_pki.issue("stranger"), pki.ca)

    async def main() -> None:
        service = Service(config_of(tmp_path, server_certificate, pki.ca, EDGE))
        await service.start()
        pool = pool_to(service.radsec_address[1], context_of(edge_certificate, pki.ca))
        asked = [pool.request(Code.ACCESS_REQUEST, login(ALICE.password, nonce=f"n{n}")) for n in range(300)]
        assert {reply.code for reply in await asyncio.gather(*asked)} == {Code.ACCESS_ACCEPT}
        for connection in list(service._radsec._open):
            connection.end()
        assert (await pool.request(Code.ACCESS_REQUEST, login(ALICE.password))).code == Code.ACCESS_ACCEPT
        shut_out = pool_to(service.radsec_address[1], stranger, timeout_s=0.5)
        with pytest.raises(RadiusUnavailable):
            await shut_out.request(Code.ACCESS_REQUEST, login(ALICE.password))
        for each in (pool, shut_out):
            await each.close()
        await service.close()

    uvloop.run(main())
