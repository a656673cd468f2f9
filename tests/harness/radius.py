"""RADIUS servers as processes of their own: what all have in common, and ours, `python -m radius`."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

from tests.harness.debian import ROOT
from tests.harness.people import DOMAIN, SAMPLE, Person, ldif
from tests.harness.pki import Certificate
from tests.harness.ports import HOST, free_port
from tests.harness.processes import Process
from tests.harness.slapd import Slapd

SECRET = "interop-secret"
DETAIL = "detail.jsonl"


class RadiusProcess(ABC):
    """A RADIUS server on loopback, which can come and go."""

    secret = SECRET

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.auth_port, self.acct_port = free_port(), free_port()

    @property
    def auth(self) -> str:
        """host:port for Access-Requests."""
        return f"{HOST}:{self.auth_port}"

    @property
    def acct(self) -> str:
        """host:port for Accounting-Requests."""
        return f"{HOST}:{self.acct_port}"

    @abstractmethod
    def detail_records(self) -> list[dict[str, str]]:
        """Accounting-Requests as the server wrote them down, in order."""

    def start(self) -> None:
        """Start, also again after `kill` or `stop`."""
        self._process = self._launch()

    def stop(self) -> None:
        """Stop in good order; the same ports are used by `start`."""
        self._process.stop()

    def kill(self) -> None:
        """End it as a crash would; the same ports are used by `start`."""
        self._process.kill()

    def output(self) -> str:
        """Everything that the server has printed since it was started."""
        return self._process.output()

    @abstractmethod
    def _launch(self) -> Process:
        """The server, ready."""


class OwnRadius(RadiusProcess):
    """Ours."""

    def __init__(
        self,
        folder: Path,
        *,
        people: Iterable[Person] = SAMPLE,
        slapd: Slapd | None = None,
        certificate: Certificate | None = None,
        ca: Path | None = None,
        cache_s: float = 10.0,
        tells_ha1: bool = True,
    ) -> None:
        """People from an LDIF file, or those of a directory, remembered for `cache_s`; a certificate is for RadSec.

        `tells_ha1`: the edge is told HA1 over UDP, so that its verdicts serve again.
        """
        super().__init__(folder)
        self.radsec_port = free_port() if certificate else 0
        folder.mkdir(parents=True, exist_ok=True)
        directory = ['url = "file:people.ldif"']
        if slapd is None:
            (folder / "people.ldif").write_text(ldif(people))
        else:
            (folder / "ldap.secret").write_text(slapd.bind_password)
            directory = [f'url = "{slapd.url}"', f'base = "{slapd.people_base}"', f'bind_dn = "{slapd.bind_dn}"']
            directory += ['bind_password_file = "ldap.secret"', f"cache_s = {cache_s}", f"negative_cache_s = {cache_s}"]
        (folder / "secret").write_text(self.secret)
        lines = [f'domains = ["{DOMAIN}"]', f'detail = "{DETAIL}"', 'sql = "sqlite:///radacct.db"']
        lines += ["[listen]", f'auth = "{self.auth}"', f'acct = "{self.acct}"']
        if certificate:
            lines += [f'radsec = "{HOST}:{self.radsec_port}"']
            lines += ["[tls]", f'certificate = "{certificate.certificate}"', f'private_key = "{certificate.key}"']
            lines += [f'ca_file = "{ca}"', "[[client]]", f'address = "{HOST}"', "radsec = true"]
        lines += [
            "[[client]]",
            f'address = "{HOST}"',
            'secret_file = "secret"',
            f"digest_ha1 = {str(tells_ha1).lower()}",
        ]
        (folder / "radius.toml").write_text("\n".join([*lines, "[directory]", *directory]) + "\n")
        self.start()

    def detail_records(self) -> list[dict[str, str]]:
        path = self.folder / DETAIL
        lines = path.read_text().splitlines() if path.exists() else []
        return [{key: str(value) for key, value in json.loads(line).items()} for line in lines]

    def _launch(self) -> Process:
        log = self.folder / "radius.log"
        log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "radius", "-c", self.folder / "radius.toml"]
        process = Process("radius", command, log=log, cwd=ROOT)
        process.wait_ready(lambda: "authentication at" in process.output())
        return process
