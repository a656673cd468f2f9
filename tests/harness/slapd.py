"""OpenLDAP's slapd, with schema, access rules and indexes from deploy/slapd."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterable
from pathlib import Path

from tests.harness.debian import ROOT
from tests.harness.people import BASE, SAMPLE, SERVICE_DN, SERVICE_PASSWORD, Person, ldif
from tests.harness.pki import Certificate
from tests.harness.ports import HOST, free_port
from tests.harness.processes import Process, attempt, find_program, run, wait_until

DEPLOY = ROOT / "deploy" / "slapd"
DATA = Path(__file__).with_name("data")
ADMIN_PASSWORD = "admin-secret"


class Slapd:
    """A directory on loopback. With a certificate it also speaks StartTLS and, at `tls_url`, LDAPS."""

    base = BASE
    people_base = f"ou=people,{BASE}"
    bind_dn = SERVICE_DN
    bind_password = SERVICE_PASSWORD
    admin_dn = f"cn=admin,{BASE}"
    admin_password = ADMIN_PASSWORD

    def __init__(
        self,
        folder: Path,
        *,
        people: Iterable[Person] = SAMPLE,
        tree: str = "",
        certificate: Certificate | None = None,
        ca: Path | None = None,
    ) -> None:
        """With these people, or with a tree as LDIF."""
        self._folder = folder
        self._port = free_port()
        self._urls = [f"ldap://{HOST}:{self._port}"]
        if certificate:
            self._urls.append(f"ldaps://{HOST}:{free_port()}")
        self._setup(tree or ldif(people), _tls_lines(certificate, ca))
        self._process = self._launch()

    @property
    def url(self) -> str:
        """ldap://host:port."""
        return self._urls[0]

    @property
    def tls_url(self) -> str:
        """ldaps://host:port."""
        return self._urls[1]

    def modify(self, changes: str) -> None:
        """Apply LDIF changes as the directory's administrator."""
        tool = ["ldapmodify", "-x", "-H", self.url, "-D", self.admin_dn, "-w", self.admin_password]
        run(tool, stdin=changes)

    def search(
        self, filter: str, *attributes: str, bind_dn: str = SERVICE_DN, bind_password: str = SERVICE_PASSWORD
    ) -> str:
        """What ldapsearch prints for this account; "" when the account may not log in."""
        tool = ["ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-H", self.url, "-D", bind_dn, "-w", bind_password]
        done = attempt([*tool, "-b", self.base, filter, *attributes])
        return done.stdout if done.returncode == 0 else ""

    def stop(self) -> None:
        """Stop; the data stay for `start`."""
        self._process.stop()

    def start(self) -> None:
        """Start again on the same port, after `stop`."""
        self._process = self._launch()

    def pause(self) -> None:
        """Keep the connections open and answer nothing, until `resume`."""
        self._process.send(signal.SIGSTOP)
        stat = Path(f"/proc/{self._process.pid}/stat")
        # the signal takes effect when the kernel comes to it; until then it answers
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", timeout_s=5.0, what="slapd stopped")

    def resume(self) -> None:
        """Go on after `pause`."""
        self._process.send(signal.SIGCONT)

    def _setup(self, tree: str, tls: str) -> None:
        (self._folder / "db").mkdir(parents=True)
        (self._folder / "config").mkdir()
        values = {
            "FOLDER": str(self._folder),
            "TLS": tls,
            "MODULES": str(next(Path("/usr/lib").rglob("back_mdb*.so*")).parent),
            "SCHEMA": str(DEPLOY / "nomad-schema.ldif"),
            "BASE": BASE,
            "ADMIN_PASSWORD": ADMIN_PASSWORD,
        }
        text = (DATA / "slapd.ldif").read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        (self._folder / "config.ldif").write_text(text)
        (self._folder / "people.ldif").write_text(tree)
        config = ["-F", self._folder / "config"]
        run([_sbin("slapadd"), "-n", "0", *config, "-l", self._folder / "config.ldif"])
        for name in ("access.ldif", "memberof-module.ldif", "memberof.ldif"):
            run([_sbin("slapmodify"), "-n", "0", *config, "-l", DEPLOY / name])
        run([_sbin("slapadd"), "-q", "-n", "1", *config, "-l", self._folder / "people.ldif"])

    def _launch(self) -> Process:
        urls = " ".join(f"{url}/" for url in self._urls)
        command = [_sbin("slapd"), "-d", "0", "-F", self._folder / "config", "-h", urls]
        process = Process("slapd", command, log=self._folder / "slapd.log")
        process.wait_ready(self._answers)
        return process

    def _answers(self) -> bool:
        try:
            socket.create_connection((HOST, self._port), 1).close()
        except OSError:
            return False
        return True


def _sbin(name: str) -> str:
    return find_program(name) or name


def _tls_lines(certificate: Certificate | None, ca: Path | None) -> str:
    if certificate is None:
        return "olcTLSVerifyClient: never"
    lines = [f"olcTLSCertificateFile: {certificate.certificate}", f"olcTLSCertificateKeyFile: {certificate.key}"]
    return "\n".join([f"olcTLSCACertificateFile: {ca}", *lines, "olcTLSVerifyClient: never"])
