"""Who gets in, in every combination of RADIUS server, transport, place of the check and algorithm (docs/radius.md).

The real servers over the real slapd, asked through `nomad.aaa` as the edge asks them.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from nomad.aaa import RadiusAuthenticator
from nomad.cli.login import make_proof
from nomad.ports import Limits, Proof, Refusal, Vouched
from radius.client import Pool, Server, Settings
from radius.packet import Code, Type, attribute, hide_password
from radius.radsec import SECRET as RADSEC_SECRET
from radius.radsec import client_context
from tests.harness.debian import require
from tests.harness.freeradius import RadsecFreeRadius
from tests.harness.people import ALICE, BOB, CAROL, DOMAIN, DORA, ERIN, Person
from tests.harness.pki import Pki
from tests.harness.ports import HOST
from tests.harness.radius import OwnRadius
from tests.harness.slapd import Slapd
from tests.interop.conftest import NewFolder

ALGORITHMS = ("MD5", "SHA-256", "SHA-512-256")
TRANSPORTS = ("udp", "radsec")
PLACES = ("own", "freeradius", "freeradius-edge")  # who runs, and who checks the digest: the server unless it says edge
CELLS = [(place, transport) for place in PLACES for transport in TRANSPORTS]
# PAP brings the password to the server: there is nothing to check at the edge
PAP_CELLS = [cell for cell in CELLS if cell[0] != "freeradius-edge"]
DISABLED = "This account is disabled"
AnyServer = OwnRadius | RadsecFreeRadius


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination."""

    place: str
    transport: str
    server: AnyServer
    pool: Pool

    @property
    def at_edge(self) -> bool:
        return self.place.endswith("-edge")

    @property
    def authenticator(self) -> RadiusAuthenticator:
        return RadiusAuthenticator(self.pool, take_ha1=True, verify=self.at_edge)

    def can(self, person: Person, algorithm: str) -> bool:
        """FreeRADIUS 3 has no SHA-512-256: it checks none, and tells only what the directory holds."""
        if algorithm != "SHA-512-256" or self.place == "own":
            return person.clear or person.ha1
        return self.at_edge and person.ha1


@pytest.fixture(scope="module")
def own(new_folder: NewFolder, slapd: Slapd, pki: Pki) -> Iterator[OwnRadius]:
    certificate = pki.issue("own-radius")
    server = OwnRadius(
        new_folder("own-radius"), slapd=slapd, certificate=certificate, ca=pki.ca, cache_s=0.0, tells_ha1=False
    )
    yield server
    server.stop()


@pytest.fixture(scope="module")
def radsec_freeradius(new_folder: NewFolder, slapd: Slapd, pki: Pki) -> Iterator[RadsecFreeRadius]:
    require("freeradius")
    server = RadsecFreeRadius(new_folder("matrix"), slapd, pki.issue("freeradius"), pki.ca, tells_ha1=True)
    yield server
    server.stop()


@pytest.fixture(params=CELLS, ids="-".join)
async def cell(request: pytest.FixtureRequest, pki: Pki) -> AsyncIterator[Cell]:
    place, transport = request.param
    server: AnyServer = request.getfixturevalue("own" if place == "own" else "radsec_freeradius")
    pool = Pool([address_of(server, transport, pki)], Settings(timeout_s=5.0))
    await pool.start()
    yield Cell(place, transport, server, pool)
    await pool.close()


def address_of(server: AnyServer, transport: str, pki: Pki) -> Server:
    if transport == "udp":
        return Server(HOST, server.auth_port, server.secret.encode())
    certificate = pki.issue("edge-of-the-matrix")
    context = client_context(certificate=certificate.certificate, key=certificate.key, ca=pki.ca)
    return Server(HOST, server.radsec_port, RADSEC_SECRET, context)


def login(user: str, password: str, algorithm: str) -> Proof:
    return make_proof(user, password, realm=DOMAIN, algorithm=algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_right_passwords(cell: Cell, algorithm: str) -> None:
    for person in (ALICE, BOB, CAROL, ERIN):
        for user in (person.login, f"{person.login}@{DOMAIN}", person.mail):
            answer = await cell.authenticator.vouch(login(user, person.password, algorithm))
            if not cell.can(person, algorithm):
                assert answer == Refusal(answer.message if isinstance(answer, Refusal) else "?"), user
                continue
            assert isinstance(answer, Vouched), user
            grant = answer.grant
            assert (grant.user, grant.extension) == (person.login, person.extension)
            assert {f"{person.login}@{DOMAIN}", person.mail} <= set(grant.addresses)
            # what the verdict cache serves from: here FreeRADIUS tells it when it is asked, our server is not told to
            assert bool(answer.ha1) is cell.at_edge


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_wrong_password_unknown_and_disabled(cell: Cell, algorithm: str) -> None:
    wrong = [
        (ALICE.login, "wrong"),
        (BOB.login, "wrong"),
        ("nobody", "x"),
        ("*", ALICE.password),
        (DORA.login, "wrong"),
    ]
    answers = [await cell.authenticator.vouch(login(user, password, algorithm)) for user, password in wrong]
    assert len(set(map(repr, answers))) == 1, answers
    assert isinstance(answers[0], Refusal)
    disabled = await cell.authenticator.vouch(login(DORA.login, DORA.password, algorithm))
    if cell.at_edge or not cell.can(DORA, algorithm):  # the server cannot know that the password was right
        assert disabled == answers[0]
    else:
        assert disabled == Refusal(DISABLED, final=True)


async def test_limits_of_a_person_come_from_the_directory(cell: Cell, slapd: Slapd) -> None:
    head = f"dn: {CAROL.dn}\nchangetype: modify\n"
    values = (
        "add: sipAllowClass\nsipAllowClass: internal\nsipAllowClass: national\n-\nadd: sipMaxCalls\nsipMaxCalls: 1\n"
    )
    slapd.modify(f"{head}{values}")
    try:
        answer = await cell.authenticator.vouch(login(CAROL.login, CAROL.password, "MD5"))
        assert isinstance(answer, Vouched)
    finally:
        slapd.modify(f"{head}delete: sipAllowClass\n-\ndelete: sipMaxCalls\n")
    assert set(answer.grant.allowed_classes) == {"internal", "national"}
    assert answer.grant.limits == Limits(concurrent_calls=1)


@pytest.mark.parametrize("cell", PAP_CELLS, ids="-".join, indirect=True)
async def test_pap(cell: Cell) -> None:
    """The password itself, for tests and other clients: nothing that a SIP phone sends."""
    right = [(ALICE.login, ALICE.password), (CAROL.login, CAROL.password), (ERIN.login, ERIN.password)]  # erin: SSHA
    for user, password in right:
        reply = await pap(cell, user, password)
        assert (reply.code, reply.text(Type.USER_NAME)) == (Code.ACCESS_ACCEPT, user)
    for user, password in ((ALICE.login, "wrong"), (ERIN.login, "wrong"), ("nobody", "x"), (DORA.login, DORA.password)):
        reply = await pap(cell, user, password)
        assert reply.code == Code.ACCESS_REJECT, user


async def pap(cell: Cell, user: str, password: str) -> Any:
    """An Access-Request whose password is hidden with an authenticator that the pool must then use."""
    secret = RADSEC_SECRET if cell.transport == "radsec" else cell.server.secret.encode()
    nonce = secrets.token_bytes(16)
    for server in cell.pool._servers:
        server.exchanges._entropy = lambda size: nonce[:size]
    hidden = attribute(Type.USER_PASSWORD, hide_password(password.encode(), secret, nonce))
    return await cell.pool.request(Code.ACCESS_REQUEST, attribute(Type.USER_NAME, user.encode()) + hidden)


@pytest.mark.parametrize("password", ['quo"ted\\back', "Zoë's 50%{x} $(y)", "tab\there"])
@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
async def test_passwords_with_every_kind_of_character(cell: Cell, slapd: Slapd, password: str, algorithm: str) -> None:
    def set_password(value: str) -> None:
        encoded = base64.b64encode(value.encode()).decode()
        slapd.modify(f"dn: {ALICE.dn}\nchangetype: modify\nreplace: userPassword\nuserPassword:: {encoded}\n")

    set_password(password)
    try:
        answer = await cell.authenticator.vouch(login(ALICE.login, password, algorithm))
        wrong = await cell.authenticator.vouch(login(ALICE.login, password + "x", algorithm))
    finally:
        set_password(ALICE.password)
    assert isinstance(answer, Vouched)
    assert isinstance(wrong, Refusal)
