"""Our RADIUS server on its own, `python -m radius`, over slapd, with UDP and RadSec."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.harness.debian import ROOT
from tests.harness.people import DOMAIN
from tests.harness.pki import Certificate
from tests.harness.ports import HOST, free_port
from tests.harness.processes import Process
from tests.harness.slapd import Slapd

SECRET = "own-radius-secret"


class OwnRadius:
    """A server on loopback, for the edge over UDP and over RadSec."""

    secret = SECRET

    def __init__(
        self, folder: Path, slapd: Slapd, certificate: Certificate, ca: Path, *, cache_s: float = 10.0
    ) -> None:
        self.auth_port, self.acct_port, self.radsec_port = free_port(), free_port(), free_port()
        (folder / "radius.secret").write_text(SECRET)
        (folder / "ldap.secret").write_text(slapd.bind_password)
        (folder / "radius.toml").write_text(
            f"""
domains = ["{DOMAIN}"]
[listen]
auth = "{HOST}:{self.auth_port}"
acct = "{HOST}:{self.acct_port}"
radsec = "{HOST}:{self.radsec_port}"
[tls]
certificate = "{certificate.certificate}"
private_key = "{certificate.key}"
ca_file = "{ca}"
[[client]]
address = "{HOST}"
secret_file = "radius.secret"
[[client]]
address = "{HOST}"
radsec = true
[directory]
url = "{slapd.url}"
base = "{slapd.people_base}"
bind_dn = "{slapd.bind_dn}"
bind_password_file = "ldap.secret"
cache_s = {cache_s}
negative_cache_s = {cache_s}
"""
        )
        command = [sys.executable, "-m", "radius", "-c", folder / "radius.toml"]
        self._process = Process("own-radius", command, log=folder / "radius.log", cwd=ROOT)
        self._process.wait_ready(lambda: "authentication at" in self._process.output())

    def output(self) -> str:
        """Everything that the server has logged."""
        return self._process.output()

    def stop(self) -> None:
        """Stop it."""
        self._process.stop()
