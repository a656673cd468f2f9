"""nomad.servers: the embedded server and named ones, as the edge meets them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from nomad import config
from nomad.clock import Clock
from nomad.config import ConfigError
from nomad.metrics import Metrics
from nomad.ports import AccountingRecord, Change, Grant, Proof, Refusal, Unavailable, Vouched, Whom
from nomad.servers import RadiusServers, embedded_config
from radius import digest
from radius.config import ClientTable, Listen, Tls
from radius.digest import Digest
from radius.packet import Code, Type
from radius.service import Service
from tests.harness.debian import require
from tests.harness.people import ALICE, DOMAIN, SAMPLE, ldif
from tests.harness.pki import Pki
from tests.harness.ports import HOST, free_port
from tests.radius.ordering import OrderingServer


class Taker:
    """Nobody has a session."""

    async def disconnect(self, whom: Whom) -> int:
        return 0

    async def change(self, whom: Whom, change: Change) -> int:
        return 0


def proof_of(password: str, *, algorithm: str = "MD5") -> Proof:
    credentials = Digest(ALICE.login, DOMAIN, "n", f"sip:{DOMAIN}", "REGISTER", "", algorithm, "auth", "00000001", "c")
    ha1 = digest.make_ha1(credentials.base_algorithm, ALICE.login, DOMAIN, password)
    response = digest.response_for(credentials, ha1)
    fields = {each.name: getattr(credentials, each.name) for each in dataclasses.fields(credentials)}
    return Proof(**{**fields, "response": response})


def load(folder: Path, radius: str) -> config.Config:
    (folder / "people.ldif").write_text(ldif(SAMPLE))
    (folder / "radius.secret").write_text("s")
    path = folder / "nomad.toml"
    path.write_text(
        f'domain = "{DOMAIN}"\n[radius]\n{radius}\n[directory]\nurl = "file:people.ldif"\n'
        '[[pbx]]\nname = "p"\nuri = "sip:127.0.0.1:5070"\n[accounting]\ndetail = "detail.jsonl"\n'
    )
    return config.load(path)


async def test_the_embedded_server_vouches_for_people(tmp_path: Path) -> None:
    metrics = Metrics()
    servers = RadiusServers(load(tmp_path, "timeout_s = 5.0"), metrics)
    await servers.start()
    try:
        for algorithm in digest.ALGORITHMS:
            answer = await servers.authenticator.vouch(proof_of(ALICE.password, algorithm=algorithm))
            assert isinstance(answer, Vouched)
            assert answer.grant.user == ALICE.login
            assert answer.ha1 == digest.make_ha1(algorithm, ALICE.login, DOMAIN, ALICE.password)
        session = await servers.authenticator.vouch(proof_of(ALICE.password, algorithm="MD5-sess"))
        assert isinstance(session, Vouched)
        assert session.ha1 == "", "good for one nonce only"
        assert isinstance(await servers.authenticator.check(proof_of("wrong")), Refusal)
        await servers.sink.send(AccountingRecord("1", "1", "Start", ALICE.login, 0.0))
        assert len(servers.states()) == 2
        assert servers.embedded is not None
        assert servers.embedded.pid
        assert await servers.listen(Taker(), Clock()) == ("", 0)
    finally:
        await servers.close()
    assert not servers.embedded.pid
    assert "Digest" not in (tmp_path / "detail.jsonl").read_text()


async def test_no_secret_is_told_when_nothing_is_remembered(tmp_path: Path) -> None:
    servers = RadiusServers(load(tmp_path, "verdict_cache_s = 0\nverdict_outage_s = 0"), Metrics())
    await servers.start()
    try:
        answer = await servers.authenticator.vouch(proof_of(ALICE.password))
        assert isinstance(answer, Vouched)
        assert answer.ha1 == ""
        assert isinstance(await servers.authenticator.check(proof_of(ALICE.password)), Grant)
    finally:
        await servers.close()


async def test_named_servers(tmp_path: Path) -> None:
    port = free_port()
    text = f'secret_file = "radius.secret"\nauth = ["{HOST}:{port}"]\nacct = ["{HOST}"]\nnas_identifier = "me"\n'
    listen = f'timeout_s = 0.05\ndisconnect_listen = "{HOST}:0"\ndisconnect_clients = ["{HOST}"]'
    servers = RadiusServers(load(tmp_path, text + listen), Metrics())
    await servers.start()
    try:
        assert servers.embedded is None
        assert (servers.nas_identifier, servers.timeout_s) == ("me", 0.05)
        assert [name for name, _ in servers.states()] == [f"{HOST}:{port}", f"{HOST}:1813"]
        with pytest.raises(Unavailable, match=str(port)):
            await servers.authenticator.check(proof_of("x"))
        host, order_port = await servers.listen(Taker(), Clock())
        assert host == HOST
        assert order_port
        with pytest.raises(ConfigError, match="disconnect_listen"):
            await RadiusServers(load(tmp_path, text + listen.replace(":0", f":{order_port}")), Metrics()).listen(
                Taker(), Clock()
            )
    finally:
        await servers.close()


async def test_an_edge_that_verifies_asks_no_server_over_a_network(tmp_path: Path) -> None:
    """Also when nobody ran the checks of the configuration."""
    loaded = load(tmp_path, f'secret_file = "radius.secret"\nauth = ["{HOST}"]\nacct = ["{HOST}"]\nverify = "edge"')
    assert loaded.radius is not None
    table = msgspec.structs.replace(loaded.radius, auth=("192.0.2.1",))
    servers = RadiusServers(msgspec.structs.replace(loaded, radius=table), Metrics())
    with pytest.raises(ConfigError, match=r"radius\.verify"):
        await servers.start()
    await servers.close()


def test_the_directory_of_the_edge_is_that_of_its_server(tmp_path: Path) -> None:
    made = embedded_config(load(tmp_path, ""))
    assert (made.directory.url, made.domains, made.realms) == ("file:people.ldif", (DOMAIN,), (DOMAIN,))
    assert made.detail == "detail.jsonl"


async def test_radsec_servers_may_order(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    require("openssl")
    pki = Pki(tmp_path_factory.mktemp("pki"))
    server = OrderingServer(pki.issue("radius"), pki.ca)
    await server.start()
    ours = pki.issue("edge")
    text = (
        f'auth = ["radsec:{HOST}:{server.port}"]\nacct = ["radsec:{HOST}:{server.port}"]\n'
        f'certificate = "{ours.certificate}"\nprivate_key = "{ours.key}"\nca_file = "{pki.ca}"\n'
    )
    metrics = Metrics()
    servers = RadiusServers(load(tmp_path, f"{text}disconnect_from_servers = true\nnas_identifier = 'me'"), metrics)
    await servers.start()
    try:
        assert await servers.listen(Taker(), Clock()) == ("", 0)
        for nas, cause in (("me", 503), ("other", 403)):
            answer = await server.order(("User-Name", "alice"), ("NAS-Identifier", nas))
            assert (answer.code, answer.integer(Type.ERROR_CAUSE)) == (Code.DISCONNECT_NAK, cause)
        assert b'nomad_radius_orders_total{result="taken"} 2.0' in metrics.render()[0]
    finally:
        await servers.close()
        await server.stop()


async def test_radsec_servers_may_tell_secrets(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    require("openssl")
    pki = Pki(tmp_path_factory.mktemp("pki"))
    ours, theirs = pki.issue("edge"), pki.issue("radius")
    made = load(tmp_path, "")
    service = Service(
        msgspec.structs.replace(
            embedded_config(made),
            client=(ClientTable(address=HOST, radsec=True, digest_ha1=True),),
            listen=Listen(auth=f"{HOST}:0", acct=f"{HOST}:0", radsec=f"{HOST}:0"),
            tls=Tls(certificate=str(theirs.certificate), private_key=str(theirs.key), ca_file=str(pki.ca)),
        )
    )
    await service.start()
    port = service.radsec_address[1]
    text = f'auth = ["radsec:localhost:{port}"]\nacct = ["radsec:{HOST}:{port}"]\ncertificate = "{ours.certificate}"\n'
    servers = RadiusServers(load(tmp_path, f'{text}private_key = "{ours.key}"\nca_file = "{pki.ca}"'), Metrics())
    await servers.start()
    try:
        answer = await servers.authenticator.vouch(proof_of(ALICE.password, algorithm="SHA-256"))
        assert isinstance(answer, Vouched)
        assert answer.ha1 == digest.make_ha1("SHA-256", ALICE.login, DOMAIN, ALICE.password)
        await servers.sink.send(AccountingRecord("1", "1", "Start", ALICE.login, 0.0))
        assert [name for name, _ in servers.states()] == [f"radsec:localhost:{port}", f"radsec:{HOST}:{port}"]
        servers.renew()
        whole = ours.certificate.read_text()
        ours.certificate.write_text("no certificate")
        with pytest.raises(ConfigError, match="radsec"):
            servers.renew()
        ours.certificate.write_text(whole)
    finally:
        await servers.close()
        await service.close()
    (tmp_path / "no.pem").write_text("no certificate")
    broken = load(tmp_path, f'{text.replace(str(ours.certificate), "no.pem")}ca_file = "{pki.ca}"')
    with pytest.raises(ConfigError, match="radsec"):
        await RadiusServers(broken, Metrics()).start()
