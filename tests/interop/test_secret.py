"""`nomad secret` against a real slapd with hashed passwords: credentials for devices, made and revoked one by one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nomad.aaa import RadiusAuthenticator
from nomad.cli.login import make_proof
from nomad.ports import Grant, Proof
from radius.client import Pool, Server, Settings
from tests.harness.debian import ROOT, require
from tests.harness.freeradius import FreeRadius, digest_attributes
from tests.harness.people import BOB, DOMAIN, ERIN
from tests.harness.pki import Pki
from tests.harness.ports import HOST
from tests.harness.radius import OwnRadius
from tests.harness.slapd import Slapd
from tests.interop.conftest import NewFolder

ALGORITHMS = ("MD5", "SHA-256", "SHA-512-256")
PASSWORD = re.compile(r"([a-z0-9]{4}-){4}[a-z0-9]{4}\n")
CONFIG = """\
domain = "{domain}"
[directory]
url = "{url}"
base = "{base}"
bind_dn = "{bind_dn}"
bind_password_file = "ldap.secret"
{tls}
[[pbx]]
name = "x"
uri = "sip:127.0.0.1:5070"
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A directory of its own, and the commands of whoever looks after it."""

    folder: Path
    slapd: Slapd
    radius: OwnRadius

    def nomad(self, *words: str, admin: bool = True, password: str = "", test: str = "") -> tuple[int, str, str]:
        """Run a command: exit code, output, errors."""
        environment = {**os.environ, "NOMAD_TEST_PASSWORD": test, "NO_COLOR": "1"}
        if admin and words[0] == "secret":
            words = (*words, "--bind-dn", self.slapd.admin_dn)
            environment["NOMAD_BIND_PASSWORD"] = password or self.slapd.admin_password
        command = [sys.executable, "-m", "nomad", *words, "-c", str(self.folder / "nomad.toml")]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def make(self, user: str, *options: str) -> str:
        """Credentials; the password that is shown once."""
        code, out, err = self.nomad("secret", user, *options)
        assert code == 0, err
        assert PASSWORD.fullmatch(out), out
        return out.strip()

    def lets_in(self, user: str, password: str, algorithm: str = "SHA-256") -> bool:
        """Whether our RADIUS server over this directory does; it remembers nothing."""
        return asyncio.run(self._ask(make_proof(user, password, realm=DOMAIN, algorithm=algorithm)))

    async def _ask(self, proof: Proof) -> bool:
        pool = Pool([Server(HOST, self.radius.auth_port, self.radius.secret.encode())], Settings(timeout_s=5.0))
        try:
            return isinstance(await RadiusAuthenticator(pool).check(proof), Grant)
        finally:
            await pool.close()


@pytest.fixture
def site(request: pytest.FixtureRequest, new_folder: NewFolder, pki: Pki) -> Iterator[Site]:
    require("slapd")
    certificate = pki.issue("secret")
    slapd = Slapd(new_folder("secret-slapd"), people=(ERIN, BOB), certificate=certificate, ca=pki.ca)
    folder = new_folder("secret")
    over_tls = getattr(request, "param", False)
    url, tls = (slapd.tls_url, f'ca_file = "{pki.ca}"') if over_tls else (slapd.url, "")
    (folder / "ldap.secret").write_text(slapd.bind_password)
    (folder / "nomad.toml").write_text(
        CONFIG.format(domain=DOMAIN, url=url, base=slapd.people_base, bind_dn=slapd.bind_dn, tls=tls)
    )
    radius = OwnRadius(new_folder("secret-radius"), slapd=slapd, cache_s=0.0)
    yield Site(folder, slapd, radius)
    radius.stop()
    slapd.stop()


@pytest.mark.parametrize("site", [False, True], ids=["ldap", "ldaps"], indirect=True)
def test_devices_of_somebody_with_a_hashed_password(site: Site) -> None:
    assert not site.lets_in("erin", ERIN.password), "SSHA cannot check a digest"
    desk, sofa = site.make("erin", "--device", "desk"), site.make(ERIN.mail, "--device", "sofa")
    assert desk != sofa
    for algorithm in ALGORITHMS:
        assert site.lets_in("erin+desk", desk, algorithm)
    code, out, _ = site.nomad("radius-test", "erin+desk", "--algorithm", "SHA-512-256", test=desk)
    assert (code, "user             erin\n" in out) == (0, True), out
    assert site.lets_in(f"erin+sofa@{DOMAIN}", sofa)
    for user, password in (("erin+desk", sofa), ("erin+desk", ERIN.password), ("erin", desk), ("erin+den", desk)):
        assert not site.lets_in(user, password), user
    _, out, _ = site.nomad("secret", "erin", "--list", "--json")
    listed = json.loads(out)["credentials"]
    assert [(each["device"], each["algorithms"]) for each in listed] == [
        ("desk", list(ALGORITHMS)),
        ("sofa", list(ALGORITHMS)),
    ]
    assert desk not in out
    stored = site.slapd.search("(uid=erin)", "sipDigestHA1", "userPassword")
    assert desk not in stored
    assert stored.count("sipDigestHA1:") == 12, "two devices, three algorithms, with and without the domain"

    rotated = site.make("erin", "--device", "desk")
    assert site.lets_in("erin+desk", rotated)
    assert not site.lets_in("erin+desk", desk)
    assert site.nomad("secret", "erin", "--device", "desk", "--revoke")[0] == 0
    assert not site.lets_in("erin+desk", rotated)
    assert site.lets_in("erin+sofa", sofa), "each is revoked on its own"
    code, _, err = site.nomad("secret", "erin", "--device", "desk", "--revoke")
    assert (code, "no credentials of device desk" in err) == (1, True)


def test_the_persons_own_login(site: Site) -> None:
    device = site.make("bob", "--device", "desk")
    own = site.make("bob")
    for user in ("bob", f"bob@{DOMAIN}", BOB.mail):
        assert site.lets_in(user, own), user
        assert not site.lets_in(user, BOB.password), user
    assert site.nomad("secret", "bob", "--revoke")[0] == 0
    assert not site.lets_in("bob", own)
    assert site.lets_in("bob+desk", device)


def test_who_may_write(site: Site) -> None:
    code, out, err = site.nomad("secret", "erin", "--device", "desk", admin=False)
    assert (code, out) == (1, ""), "the service account reads secrets and writes none"
    assert "refused: insufficientAccessRights" in err
    code, out, err = site.nomad("secret", "erin", "--device", "desk", password="wrong")
    assert (code, out) == (1, "")
    assert f"bind as {site.slapd.admin_dn} refused: invalidCredentials" in err
    assert "wrong" not in err
    assert "sipDigestHA1" not in site.slapd.search("(uid=erin)", "sipDigestHA1")
    code, _, err = site.nomad("secret", "zoe", "--device", "desk")
    assert (code, "nobody has login 'zoe'" in err) == (1, True)
    site.slapd.stop()
    code, _, err = site.nomad("secret", "erin", "--list")
    assert (code, "Traceback" in err) == (1, False)


def test_freeradius_takes_the_same_credentials(site: Site, new_folder: NewFolder) -> None:
    require("freeradius")
    desk = site.make("erin", "--device", "desk")
    server = FreeRadius(new_folder("secret-freeradius"), site.slapd)
    try:
        for algorithm in ("MD5", "SHA-256"):
            accepted = server.ask(digest_attributes("erin+desk", desk, algorithm=algorithm))
            assert (accepted.kind, accepted.all("User-Name")) == ("Access-Accept", ["erin"])
            for user, password in (("erin+desk", ERIN.password), ("erin", desk), ("bob+desk", BOB.password)):
                refused = server.ask(digest_attributes(user, password, algorithm=algorithm))
                assert refused.kind == "Access-Reject", user
    finally:
        server.stop()
