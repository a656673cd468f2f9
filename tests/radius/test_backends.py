"""One suite, three back ends: our server over LDIF and over slapd, and FreeRADIUS over slapd; through `nomad.aaa`."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nomad.aaa import RadiusAccounting, RadiusAuthenticator
from nomad.ports import AccountingRecord, Grant, Proof, Refusal
from radius import digest
from radius.client import Pool, Server
from radius.config import Config as RadiusConfig
from radius.config import DirectoryTable
from radius.digest import Digest
from radius.service import EmbeddedServer
from tests.harness.freeradius import FreeRadius
from tests.harness.people import ALICE, BASE, BOB, CAROL, DOMAIN, DORA, ERIN, SAMPLE, Person, group_dn, ldif
from tests.harness.slapd import Slapd

BACKENDS = [
    "ldif",
    pytest.param("slapd", marks=pytest.mark.interop),
    pytest.param("freeradius", marks=pytest.mark.interop),
]


@dataclass
class Backend:
    """A server under test."""

    name: str
    auth: Pool
    acct: Pool
    records: Callable[[], list[dict[str, str]]]


@pytest.fixture(params=BACKENDS)
async def backend(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Backend]:
    embedded = None
    detail = tmp_path / "detail.jsonl"
    if request.param == "freeradius":
        server: FreeRadius = request.getfixturevalue("freeradius")
        auth, acct, secret = ("127.0.0.1", server.auth_port), ("127.0.0.1", server.acct_port), server.secret.encode()
        records = server.detail_records
    else:
        if request.param == "slapd":
            slapd: Slapd = request.getfixturevalue("slapd")
            monkeypatch.setenv("NOMAD_DIRECTORY_PASSWORD", slapd.bind_password)
            table = DirectoryTable(url=slapd.url, base=slapd.base, bind_dn=slapd.bind_dn)
        else:
            (tmp_path / "people.ldif").write_text(ldif(SAMPLE))
            table = DirectoryTable(url="file:people.ldif")
        config = RadiusConfig(client=(), directory=table, domains=(DOMAIN,), detail=detail.name, folder=str(tmp_path))
        embedded = EmbeddedServer(config)
        await embedded.start()
        auth, acct, secret = embedded.auth, embedded.acct, embedded.secret
        records = lambda: [json.loads(line) for line in detail.read_text().splitlines()]  # noqa: E731
    backend = Backend(request.param, Pool([Server(*auth, secret)]), Pool([Server(*acct, secret)], kind="acct"), records)
    yield backend
    await backend.auth.close()
    await backend.acct.close()
    if embedded is not None:
        await embedded.stop()


def proof(username: str, password: str, algorithm: str = "MD5", qop: str = "auth") -> Proof:
    credentials = Digest(username, DOMAIN, "nonce+/=", f"sip:{DOMAIN}", "REGISTER", "", algorithm, qop)
    if qop:
        credentials = replace(credentials, nc="00000001", cnonce="0a4f113b")
    ha1 = digest.make_ha1(algorithm, username, DOMAIN, password)
    response = digest.response_for(credentials, ha1)
    return Proof(
        username, DOMAIN, credentials.nonce, credentials.uri, "REGISTER", response, algorithm, qop,
        nc=credentials.nc, cnonce=credentials.cnonce, address=f"alice@{DOMAIN}",
    )  # fmt: skip


def grant_of(person: Person) -> Grant:
    return Grant(
        user=person.login,
        addresses=(f"{person.login}@{DOMAIN}", person.mail),
        extension=person.extension,
        groups=(*(group_dn(group) for group in person.groups), *person.policy_groups),
        display_name=f"{person.first} {person.last}",
    )


def same(found: Grant | Refusal, expected: Grant) -> bool:
    """Whether a grant names the same person; servers list addresses and groups in orders of their own."""
    assert isinstance(found, Grant)
    assert (found.user, found.extension, found.display_name) == (
        expected.user,
        expected.extension,
        expected.display_name,
    )
    assert set(found.addresses) == set(expected.addresses)
    assert set(found.groups) == set(expected.groups)
    return True


@pytest.mark.parametrize("dialect", ["sterman", "rfc5090"])
async def test_logins(backend: Backend, dialect: str) -> None:
    authenticator = RadiusAuthenticator(backend.auth, dialect=dialect, nas_identifier=DOMAIN)
    for person in (ALICE, BOB, CAROL):
        for algorithm in ("MD5", "SHA-256"):
            for name in (person.login, f"{person.login}@{DOMAIN}", person.mail):
                found = await authenticator.check(proof(name, person.password, algorithm))
                assert isinstance(found, Grant), f"{name} {algorithm}"
                assert same(found, grant_of(person))
                wrong = await authenticator.check(proof(name, "wrong", algorithm))
                assert isinstance(wrong, Refusal), f"{name} {algorithm}"


async def test_who_may_not_come_in(backend: Backend) -> None:
    authenticator = RadiusAuthenticator(backend.auth)
    for person in (DORA, ERIN):
        assert isinstance(await authenticator.check(proof(person.login, person.password)), Refusal)
    wrong = await authenticator.check(proof("alice", "wrong"))
    unknown = await authenticator.check(proof("nobody", "wrong"))
    assert isinstance(wrong, Refusal)
    assert wrong == unknown
    for odd in ("*", "al*", "alice)(uid=*", "", "\x00", "a" * 250, "a" * 300, f"mallory@{BASE}"):
        assert isinstance(await authenticator.check(proof(odd, ALICE.password)), Refusal), odd


async def test_without_qop(backend: Backend) -> None:
    authenticator = RadiusAuthenticator(backend.auth)
    assert isinstance(await authenticator.check(proof("alice", ALICE.password, qop="")), Grant)


async def test_accounting(backend: Backend) -> None:
    sink = RadiusAccounting(backend.acct, nas_identifier=DOMAIN)
    session = f"session-{time.time_ns()}"
    attributes: tuple[tuple[str, str | int | bytes], ...] = (
        ("Called-Station-Id", "sip:1000@x"),
        ("Acct-Session-Time", 61),
        ("Acct-Terminate-Cause", "User-Request"),
        ("Nomad-SIP-Call-Id", "call@x"),
        ("Class", b"gold"),
    )
    await sink.send(AccountingRecord("1", session, "Start", "alice", time.time()))
    await sink.send(AccountingRecord("2", session, "Stop", "alice", time.time() - 7, attributes))
    start, stop = [record for record in backend.records() if record["Acct-Session-Id"] == session]
    assert (start["Acct-Status-Type"], stop["Acct-Status-Type"]) == ("Start", "Stop")
    expected = {
        "User-Name": "alice",
        "NAS-Identifier": DOMAIN,
        "Acct-Session-Time": "61",
        "Nomad-SIP-Call-Id": "call@x",
        "Acct-Terminate-Cause": "User-Request",
        "Called-Station-Id": "sip:1000@x",
        "Class": "0x676f6c64",
    }
    assert {name: str(stop[name]) for name in expected} == expected
    assert int(stop["Acct-Delay-Time"]) in (7, 8)
    assert backend.acct.counters()[next(iter(backend.acct.counters()))].forged == 0
