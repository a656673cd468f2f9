"""The sample tree of deploy/slapd in a real slapd: who reads secrets, and who logs in through which RADIUS server."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.harness.debian import require
from tests.harness.freeradius import FreeRadius, digest_attributes, radclient, write_dictionary
from tests.harness.people import DOMAIN, Person, crowd, group_dn, ldif
from tests.harness.processes import attempt, run
from tests.harness.radius import OwnRadius
from tests.harness.slapd import DEPLOY, Slapd
from tests.interop.conftest import NewFolder

PEOPLE = 5000
SECRETS = ("userPassword", "sipDigestHA1", "sipPassword")
CROWD = list(crowd(PEOPLE))
SOME = [CROWD[number] for number in (0, 1, 2499, 2500, 4998, 4999)]  # clear text and HA1 sets
CURIOUS = CROWD[17]
VIEWS = {"anonymous": ("", ""), "person": (CURIOUS.dn, CURIOUS.password)}


@pytest.fixture(scope="module")
def tree() -> str:
    return run([sys.executable, DEPLOY / "sample_tree.py", "--people", PEOPLE])


@pytest.fixture(scope="module")
def slapd(new_folder: NewFolder, tree: str) -> Iterator[Slapd]:
    """A directory with these 5,000, and one whose password is kept apart."""
    require("slapd")
    server = Slapd(new_folder("tree"), tree=tree)
    server.modify(f"dn: {SOME[0].dn}\nchangetype: modify\nadd: sipPassword\nsipPassword: {SOME[0].password}\n")
    yield server
    server.stop()


@pytest.fixture(scope="module", params=["own", "freeradius"])
def radius(request: pytest.FixtureRequest, new_folder: NewFolder, slapd: Slapd) -> Iterator[OwnRadius | FreeRadius]:
    require("freeradius")  # radclient asks both
    folder = new_folder(f"tree-{request.param}")
    server = OwnRadius(folder, slapd=slapd) if request.param == "own" else FreeRadius(folder / "freeradius", slapd)
    yield server
    server.stop()


def test_the_tree_is_always_the_same(tree: str) -> None:
    assert tree == run([sys.executable, DEPLOY / "sample_tree.py", "--people", PEOPLE])
    assert tree == ldif(crowd(PEOPLE))
    assert len({person.mail for person in CROWD}) == len({person.extension for person in CROWD}) == PEOPLE


def test_everybody_is_there_with_name_number_and_groups(slapd: Slapd) -> None:
    admin = {"bind_dn": slapd.admin_dn, "bind_password": slapd.admin_password}
    assert slapd.search("(objectClass=sipPerson)", "uid", **admin).count("\nuid: u") == PEOPLE
    assert slapd.search(f"(memberOf={group_dn('staff')})", "uid", **admin).count("\nuid: u") == PEOPLE
    entry = slapd.search(f"(mail={SOME[1].mail})")
    assert f"telephoneNumber: {SOME[1].extension}" in entry
    assert "sipDigestHA1: SHA-512-256:u00001:" in entry


@pytest.mark.parametrize("who", VIEWS)
def test_nobody_else_reads_secrets(slapd: Slapd, who: str) -> None:
    name, password = VIEWS[who]
    view = slapd.search("(uid=u000*)", "*", "+", bind_dn=name, bind_password=password)
    for secret in SECRETS:
        assert secret.lower() not in view.lower()
    assert (SOME[1].mail in view) is (who == "person"), "names and numbers are for those who log in"
    assert "-secret" not in view
    asked = slapd.search("(uid=u00001)", *SECRETS, bind_dn=name, bind_password=password)
    assert not any(secret in asked for secret in SECRETS)


@pytest.mark.parametrize("who", VIEWS)
def test_nobody_else_tries_secrets_out(slapd: Slapd, who: str) -> None:
    """Neither by a filter nor by a comparison."""
    name, password = VIEWS[who]
    clear = SOME[0]
    for guess in (f"(sipPassword={clear.password})", f"(userPassword={clear.password})", "(sipDigestHA1=*)"):
        found = slapd.search(f"(&(uid=u0000*){guess})", "uid", bind_dn=name, bind_password=password)
        assert "uid:" not in found
    for secret in ("sipPassword", "userPassword"):
        for value in (clear.password, "wrong"):
            tool = ["ldapcompare", "-x", "-H", slapd.url, "-D", name, "-w", password]
            answer = attempt([*tool, clear.dn, f"{secret}:{value}"])
            assert answer.returncode not in (5, 6), "TRUE and FALSE would both tell something"
    own = slapd.search(f"(uid={CURIOUS.login})", *SECRETS, bind_dn=name, bind_password=password)
    assert not any(secret in own for secret in SECRETS), "a device that is stolen tells nothing"


def test_the_radius_servers_account_reads_and_does_not_write(slapd: Slapd) -> None:
    assert f"sipPassword: {SOME[0].password}" in slapd.search(f"(uid={SOME[0].login})", *SECRETS)
    change = f"dn: {SOME[2].dn}\nchangetype: modify\nreplace: sipPassword\nsipPassword: taken-over\n"
    tool = ["ldapmodify", "-x", "-H", slapd.url, "-D", slapd.bind_dn, "-w", slapd.bind_password]
    assert attempt(tool, stdin=change).returncode == 50  # insufficientAccessRights


@pytest.mark.parametrize("person", SOME, ids=lambda person: person.login)
@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
def test_people_of_the_tree_log_in(radius: OwnRadius | FreeRadius, person: Person, algorithm: str) -> None:
    write_dictionary(radius.folder)
    for name in (person.login, f"{person.login}@{DOMAIN}"):
        for password, kind in ((person.password, "Access-Accept"), ("wrong", "Access-Reject")):
            lines = digest_attributes(name, password, algorithm=algorithm)
            reply = radclient(radius.auth, "auth", lines, secret=radius.secret, dictionary=radius.folder)
            assert reply.kind == kind
            if kind == "Access-Accept":
                assert reply.all("User-Name") == [person.login]
                assert person.mail in reply.all("Nomad-Address")
                assert reply.all("Nomad-Extension") == [person.extension]
                assert set(reply.all("Nomad-Group")) == {group_dn(group) for group in person.groups}
