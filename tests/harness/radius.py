"""Our own RADIUS server as a process of its own: `python -m radius` over an LDIF file, or over a directory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.harness.debian import ROOT
from tests.harness.freeradius import SECRET
from tests.harness.people import DOMAIN, SAMPLE, Person, ldif
from tests.harness.ports import HOST, free_port
from tests.harness.processes import Process
from tests.harness.slapd import Slapd

DETAIL = "detail.jsonl"


class OwnRadius:
    """On loopback; tells the edge Digest-HA1, so that verdicts serve again."""

    secret = SECRET

    def __init__(self, folder: Path, *, people: Iterable[Person] = SAMPLE, slapd: Slapd | None = None) -> None:
        """People from an LDIF file, or those of a directory."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.auth_port, self.acct_port = free_port(), free_port()
        directory = ['url = "file:people.ldif"']
        if slapd is None:
            (folder / "people.ldif").write_text(ldif(people))
        else:
            (folder / "ldap.secret").write_text(slapd.bind_password)
            directory = [f'url = "{slapd.url}"', f'base = "{slapd.people_base}"', f'bind_dn = "{slapd.bind_dn}"']
            directory.append('bind_password_file = "ldap.secret"')
        (folder / "secret").write_text(self.secret)
        lines = [f'domains = ["{DOMAIN}"]', f'detail = "{DETAIL}"', 'sql = "sqlite:///radacct.db"']
        lines += ["[listen]", f'auth = "{self.auth}"', f'acct = "{self.acct}"']
        lines += ["[[client]]", f'address = "{HOST}"', 'secret_file = "secret"', "digest_ha1 = true"]
        (folder / "radius.toml").write_text("\n".join([*lines, "[directory]", *directory]) + "\n")
        self._process = self._launch()

    @property
    def auth(self) -> str:
        """host:port for Access-Requests."""
        return f"{HOST}:{self.auth_port}"

    @property
    def acct(self) -> str:
        """host:port for Accounting-Requests."""
        return f"{HOST}:{self.acct_port}"

    def detail_records(self) -> list[dict[str, str]]:
        """Accounting-Requests as the server wrote them down, in order."""
        path = self.folder / DETAIL
        lines = path.read_text().splitlines() if path.exists() else []
        return [{key: str(value) for key, value in json.loads(line).items()} for line in lines]

    def output(self) -> str:
        """Everything that the server has printed."""
        return self._process.output()

    def kill(self) -> None:
        """End it as a crash would; the same ports are used by `start`."""
        self._process.kill()

    def start(self) -> None:
        """Start again, after `kill` or `stop`."""
        self._process = self._launch()

    def stop(self) -> None:
        """Stop in good order."""
        self._process.stop()

    def _launch(self) -> Process:
        log = self.folder / "radius.log"
        log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "radius", "-c", self.folder / "radius.toml"]
        process = Process("radius", command, log=log, cwd=ROOT)
        process.wait_ready(lambda: "authentication at" in process.output())
        return process
