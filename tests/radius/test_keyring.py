"""radius.keyring: LDIF files that stay as they were otherwise, and a real slapd."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from radius.credentials import make_values, values_of
from radius.entries import Names
from radius.errors import DirectoryUnavailable
from radius.keyring import Keyring, LdapKeyring, LdifKeyring, NoSuchPerson
from radius.ldap import LdapSettings
from radius.ldif import LdifDirectory
from tests.harness.people import ALICE, BOB, DOMAIN, ERIN, SAMPLE, ldif
from tests.harness.slapd import Slapd

LDIF = """\
# people of the test
version: 1

# alice comes first
dn: uid=alice,ou=people
uid: alice
mail: alice@x
cn:: QWxpY2U=
description: a long
  line
sipDigestHA1: MD5:ali
 ce:x:00000000000000000000000000000000
# and here is bob

dn: uid=bob,ou=people
uid: bob
sipDigestHA1:: TUQ1OmJvYjp4OjExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTEx
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "people.ldif"
    path.write_text(LDIF)
    path.chmod(0o640)
    return path


def test_only_the_values_change(file: Path) -> None:
    ring = LdifKeyring(file, Names())
    held = ring.read("ALICE")
    assert (held.login, held.logins) == ("alice", ("alice", "alice@x"))
    assert held.values == ("MD5:alice:x:" + "0" * 32,)
    assert "000" not in repr(held)
    new = make_values(["alice+desk"], "a-realm-so-long-that-its-line-must-be-folded-somewhere.example", "p")
    ring.change("alice", remove=held.values, add=new)
    assert ring.read("alice").values == tuple(new)
    text = file.read_text()
    assert max(map(len, text.splitlines())) <= 76
    ring.change("alice", remove=new, add=[])
    gone = LDIF.replace("sipDigestHA1: MD5:ali\n ce:x:00000000000000000000000000000000\n", "")
    assert file.read_text() == gone, "comments, folds and order stay"
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in file.parent.iterdir()] == ["people.ldif"], "nothing left behind"


def test_base64_values_are_found(file: Path) -> None:
    ring = LdifKeyring(file, Names())
    held = ring.read("bob")
    assert held.values == ("MD5:bob:x:" + "1" * 32,)
    ring.change("bob", remove=held.values, add=[])
    assert ring.read("bob").values == ()


def test_who_is_not_there(file: Path) -> None:
    ring = LdifKeyring(file, Names())
    with pytest.raises(NoSuchPerson, match="nobody has login 'zoe'"):
        ring.read("zoe")
    file.write_text(LDIF.replace("uid: bob", "uid: alice"))
    with pytest.raises(NoSuchPerson, match="more than one"):
        ring.change("alice", remove=[], add=["x"])


def test_a_file_that_cannot_be_used(file: Path) -> None:
    with pytest.raises(DirectoryUnavailable, match="cannot be read"):
        LdifKeyring(file.with_name("none"), Names()).read("alice")
    file.write_text("dn: x\nnonsense\n")
    with pytest.raises(DirectoryUnavailable, match="line 2"):
        LdifKeyring(file, Names()).read("alice")


def test_a_link_is_followed(file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    link = tmp_path / "other" / "link.ldif"
    link.symlink_to(file)
    LdifKeyring(link, Names()).change("bob", remove=[], add=["MD5:x:y:" + "2" * 32])
    assert link.is_symlink()
    assert len(LdifKeyring(file, Names()).read("bob").values) == 2


async def test_the_server_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "people.ldif"
    path.write_text(ldif(SAMPLE))
    values = make_values([f"{ERIN.login}+desk"], DOMAIN, "p")
    LdifKeyring(path, Names()).change(ERIN.login, remove=[], add=values)
    directory = LdifDirectory(path)
    person = await directory.find(ERIN.login)
    assert person is not None
    assert [":".join([*key, ha1]) for key, ha1 in person.ha1.items()] == values
    alice = await directory.find(ALICE.login)
    assert alice is not None
    assert alice.password == ALICE.password


@pytest.fixture
def ring(slapd: Slapd) -> Keyring:
    settings = LdapSettings((slapd.url,), slapd.people_base, slapd.admin_dn, slapd.admin_password)
    return LdapKeyring(settings, Names())


def test_an_ldap_directory(ring: Keyring, slapd: Slapd) -> None:
    before = ring.read(ERIN.login)
    values = make_values([f"{ERIN.login}+desk"], DOMAIN, "p")
    ring.change(ERIN.login, remove=[], add=values)
    assert set(ring.read(ERIN.mail).values) == {*before.values, *values}
    assert "sipPerson" in slapd.search(f"(uid={ERIN.login})", "objectClass")
    rotated = make_values([f"{ERIN.login}+desk"], DOMAIN, "other")
    ring.change(ERIN.login, remove=values, add=rotated)
    assert sorted(values_of(ring.read(ERIN.login).values, "desk")) == sorted(rotated)
    ring.change(ERIN.login, remove=rotated, add=[])
    assert ring.read(ERIN.login) == before
    ring.change(ERIN.login, remove=[], add=[])


def test_ldap_failures_are_readable(ring: Keyring, slapd: Slapd) -> None:
    for nobody in ("zoe", "*", "bob)(uid=alice", ""):
        with pytest.raises(NoSuchPerson, match="nobody"):
            ring.read(nobody)
    settings = LdapSettings((slapd.url,), slapd.people_base, slapd.bind_dn, slapd.bind_password)
    reader = LdapKeyring(settings, Names())
    assert reader.read(BOB.login).values
    with pytest.raises(DirectoryUnavailable, match="modify refused: insufficientAccessRights"):
        reader.change(BOB.login, remove=[], add=make_values(["x"], "y", "z"))
    wrong = LdapKeyring(dataclasses.replace(settings, bind_password="wrong"), Names())
    with pytest.raises(DirectoryUnavailable, match="invalidCredentials"):
        wrong.read(BOB.login)
