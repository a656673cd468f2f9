"""The edge verifies digests, FreeRADIUS authorises: `[radius] verify = "edge"` with the files of deploy/freeradius."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nomad.aaa import RadiusAuthenticator
from nomad.cli.login import make_proof
from nomad.ports import Proof, Refusal, Vouched
from radius.client import Pool, Server, Settings
from tests.harness.debian import require
from tests.harness.edge import Edge
from tests.harness.freeradius import FreeRadius, RadsecFreeRadius
from tests.harness.people import ALICE, BOB, CAROL, DOMAIN, DORA, ERIN
from tests.harness.pki import Pki
from tests.harness.ports import HOST, free_port
from tests.harness.slapd import Slapd
from tests.harness.wire import Wire
from tests.interop.conftest import NewFolder

WRONG = "401 Invalid credentials"


class VerifyingEdge(Edge):
    """An edge that verifies, offers every algorithm and takes orders from its host."""

    def _config(self, *arguments: object) -> str:
        self.order_port = free_port()
        text: str = super()._config(*arguments)  # type: ignore[arg-type]  # passed on as they are
        text = text.replace("[sip]\n", '[sip]\ndigest = ["SHA-512-256", "SHA-256", "MD5"]\n', 1)
        more = f'verify = "edge"\ndisconnect_listen = "{HOST}:{self.order_port}"\ndisconnect_clients = ["{HOST}"]\n'
        return text.replace("[radius]\n", f"[radius]\n{more}", 1)


@pytest.fixture(scope="module")
def telling(new_folder: NewFolder, slapd: Slapd) -> Iterator[FreeRadius]:
    """FreeRADIUS that tells HA1, and delays its rejects for longer than anybody here waits."""
    require("freeradius")
    server = FreeRadius(new_folder("telling"), slapd, tells_ha1=True, reject_delay=8)
    yield server
    server.stop()


@pytest.fixture
def verifying_edge(tmp_path: Path, telling: FreeRadius) -> Iterator[VerifyingEdge]:
    server = VerifyingEdge(tmp_path, pbx=f"sip:{HOST}:{free_port()};transport=tcp", radius=telling)
    yield server
    server.stop()


def login(user: str, password: str, algorithm: str = "SHA-256") -> Proof:
    return make_proof(user, password, realm=DOMAIN, algorithm=algorithm)


async def ask(server: FreeRadius, proof: Proof, *, source: str = "") -> Vouched | Refusal:
    pool = Pool([Server(HOST, server.auth_port, server.secret.encode())], Settings(timeout_s=4.0, source=source))
    try:
        return await RadiusAuthenticator(pool, take_ha1=True, verify=True).vouch(proof)
    finally:
        await pool.close()


def test_people_register_with_what_freeradius_cannot_check(verifying_edge: VerifyingEdge) -> None:
    edge = verifying_edge
    for person, algorithm in ((ALICE, "SHA-256"), (BOB, "SHA-512-256"), (CAROL, "SHA-512-256"), (ALICE, "MD5")):
        with Wire(edge.sip, person, algorithm=algorithm) as phone:
            assert phone.register().status == 200, (person.login, algorithm)
    answers = set()
    for name, password in (
        (ALICE.login, "x"),
        ("nobody", "x"),
        (DORA.login, DORA.password),
        (ERIN.login, ERIN.password),
    ):
        with Wire(edge.sip, login=name, password=password, algorithm="SHA-256") as phone:
            phone.user = name
            answers.add(phone.register().first)
    assert answers == {f"SIP/2.0 {WRONG}"}
    log = edge.log()
    assert "without a SHA-256 HA1 that fits" not in log
    for value in BOB.ha1_values():
        assert value.rpartition(":")[2] not in log


def test_what_was_verified_here_serves_again_and_through_an_outage(
    verifying_edge: VerifyingEdge, telling: FreeRadius
) -> None:
    edge = verifying_edge
    with Wire(edge.sip, BOB, algorithm="SHA-512-256") as phone:
        assert phone.register().status == 200
        accepted = edge.metric("nomad_radius_requests_total", kind="auth", result="accept")
        telling.pause()
        try:
            assert phone.register().status == 200
            with Wire(edge.sip, CAROL, algorithm="SHA-256") as other:
                assert other.register().status == 503
        finally:
            telling.resume()
    assert edge.metric("nomad_auth_verdicts_total", why="served") == 1
    assert edge.metric("nomad_radius_requests_total", kind="auth", result="accept") == accepted
    with Wire(edge.sip, BOB, algorithm="SHA-512-256", password="wrong") as phone:
        assert phone.register().first == f"SIP/2.0 {WRONG}"


def test_a_change_of_authorisation_by_radclient(verifying_edge: VerifyingEdge, telling: FreeRadius) -> None:
    edge = verifying_edge
    orders = f"{HOST}:{edge.order_port}"
    with Wire(edge.sip, ALICE, algorithm="SHA-256") as phone:
        assert phone.register().status == 200

        def call(number: str) -> tuple[int, str]:
            answer = phone.ask_as_person(phone.compose("INVITE", f"sip:{number}@{DOMAIN}", body=phone.offer()))
            return answer.status, answer.reason

        assert call("0123456789")[0] == 503, "allowed, but nobody is behind this edge"
        changed = telling.disconnect(orders, {"User-Name": ALICE.login, "Nomad-Allow-Class": "internal"}, kind="coa")
        assert changed.kind == "CoA-ACK"
        assert call("0123456789") == (403, "National numbers are not allowed for you")
        changed = telling.disconnect(orders, {"User-Name": ALICE.mail, "Filter-Id": "strangers"}, kind="coa")
        assert changed.kind == "CoA-ACK"
        assert call("1000") == (403, "No policy group for you")
    nobody = telling.disconnect(orders, {"User-Name": "nobody", "Filter-Id": "staff"}, kind="coa")
    assert (nobody.kind, nobody.all("Error-Cause")) == ("CoA-NAK", ["Session-Context-Not-Found"])


def test_over_radsec(new_folder: NewFolder, slapd: Slapd, pki: Pki, tmp_path: Path) -> None:
    """As across a network: certificates on both sides, no shared secret, orders and accounting alike."""
    require("freeradius")
    server = RadsecFreeRadius(new_folder("radsec"), slapd, pki.issue("freeradius"), pki.ca, tells_ha1=True)
    certificate = pki.issue("edge")

    class RadsecEdge(VerifyingEdge):
        def _config(self, *arguments: object) -> str:
            text = super()._config(*arguments)
            address = f"radsec:{HOST}:{server.radsec_port}"
            for plain in (server.auth, server.acct):
                text = text.replace(f'"{plain}"', f'"{address}"')
            files = (
                f'certificate = "{certificate.certificate}"\nprivate_key = "{certificate.key}"\nca_file = "{pki.ca}"\n'
            )
            return text.replace("[radius]\n", f"[radius]\n{files}", 1)

    edge = RadsecEdge(tmp_path, pbx=f"sip:{HOST}:{free_port()};transport=tcp", radius=server)
    try:
        for person, algorithm in ((ALICE, "SHA-256"), (BOB, "SHA-512-256"), (CAROL, "MD5")):
            with Wire(edge.sip, person, algorithm=algorithm) as phone:
                assert phone.register().status == 200
            with Wire(edge.sip, person, algorithm=algorithm, password="wrong") as phone:
                assert phone.register().first == f"SIP/2.0 {WRONG}"
        answered = {labels for labels in edge.metrics() if labels.startswith("nomad_radius_requests_total")}
        assert all(f"radsec:{HOST}" in labels for labels in answered)
    finally:
        edge.stop()
        server.stop()


async def test_an_unknown_user_is_answered_as_fast_as_a_wrong_password(telling: FreeRadius) -> None:
    for user in (ALICE.login, "nobody", DORA.login):
        assert await ask(telling, login(user, "wrong")) == Refusal()


async def test_devices_of_a_person(telling: FreeRadius, slapd: Slapd) -> None:
    """FreeRADIUS knows device names: their HA1 opens, the person's password does not."""
    from radius.credentials import make_values

    values = make_values(["erin+desk", f"erin+desk@{DOMAIN}"], DOMAIN, "device-secret")
    lines = "\n".join(f"sipDigestHA1: {value}" for value in values)
    slapd.modify(f"dn: {ERIN.dn}\nchangetype: modify\nadd: sipDigestHA1\n{lines}\n")
    try:
        for user in ("erin+desk", f"erin+desk@{DOMAIN}"):
            for algorithm in ("MD5", "SHA-256", "SHA-512-256"):
                answer = await ask(telling, login(user, "device-secret", algorithm))
                assert isinstance(answer, Vouched), (user, algorithm)
                assert answer.grant.user == ERIN.login
            assert await ask(telling, login(user, ERIN.password)) == Refusal()
        assert await ask(telling, login("alice+desk", ALICE.password)) == Refusal()
        assert await ask(telling, login("erin+sofa", "device-secret")) == Refusal()
    finally:
        slapd.modify(f"dn: {ERIN.dn}\nchangetype: modify\ndelete: sipDigestHA1\n")


async def test_a_server_that_was_not_told_to_tells_nothing(freeradius: FreeRadius) -> None:
    assert await ask(freeradius, login(ALICE.login, ALICE.password)) == Refusal()
    reply = freeradius.ask(ASKING)
    assert reply.kind == "Access-Reject"
    assert {name for name, _ in reply.attributes} == {"Message-Authenticator"}


async def test_nothing_is_told_to_a_client_across_a_network(new_folder: NewFolder, slapd: Slapd) -> None:
    """Even when the administrator says that it may: an address that is not of this machine's loopback gets nothing."""
    require("freeradius")
    address = own_address()
    if not address:
        pytest.skip("this machine has no address besides loopback")
    server = FreeRadius(new_folder("careless"), slapd, tells_ha1=True, edge=address)
    try:
        assert await ask(server, login(ALICE.login, ALICE.password), source=address) == Refusal()
        assert "Login OK" not in server.output()
    finally:
        server.stop()


ASKING = f"""\
User-Name = "{ALICE.login}"
Nomad-Verify-At = Edge
RFC5090-Digest-Realm = "{DOMAIN}"
RFC5090-Digest-Algorithm = "MD5"
Message-Authenticator = 0x00
"""


async def test_what_is_told(telling: FreeRadius) -> None:
    told = telling.ask(ASKING)
    assert told.kind == "Access-Accept"
    hashes = {"MD5": "md5", "SHA-256": "sha256"}
    secret = f"{ALICE.login}:{DOMAIN}:{ALICE.password}".encode()
    expected = [
        f"{name}:{ALICE.login}:{DOMAIN}:{hashlib.new(hash, secret).hexdigest()}" for name, hash in hashes.items()
    ]
    assert told.all("Nomad-Digest-HA1") == expected, "of this user name only"
    assert "alice-secret" not in str(told.attributes)


def own_address() -> str:
    """An address of this machine that is not loopback, "" when there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.200", 9))  # sends nothing
        except OSError:
            return ""
        address = str(probe.getsockname()[0])
    return "" if address.startswith("127.") else address
