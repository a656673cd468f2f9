"""Nomad as a process under load: its configuration for the measurements, its processes, its accounting records."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from bench import people
from bench.cpu import children
from bench.stack import PBX_HOST, ROOT, SECRET, Slapd
from nomad.config import Radius
from tests.harness.ports import HOST, free_port
from tests.harness.processes import Process

# Limits by address are as high as they go, not off: all load comes from one address, and the work is still done.
CONFIG = """\
domain = "{realm}"
policy = "policy.toml"
[sip]
listen = ["udp:{host}:{port}"]
[[pbx]]
name = "pbx"
uri = "sip:{pbx};transport=udp"
trusted = ["{pbx_host}"]
[guard]
requests_per_s = 1000000.0
burst = 1000000
auth_failures = {auth_failures}
malformed = 1000000
[admin]
listen = ""
[accounting]
detail = "detail.jsonl"
"""
LDIF = '[directory]\nurl = "file:people.ldif"\nattributes = { groups = "employeeType" }\n'
LDAP = (
    '[directory]\nurl = "ldap://{host}:{port}"\nbase = "ou=people,{base}"\nbind_dn = "{dn}"\n'
    'bind_password_file = "ldap.secret"\nattributes = {{ groups = "employeeType" }}\n'
)
# Kamailio asks for every login, so the comparison does too, unless it is about what remembered verdicts save.
ASK_ALWAYS = "".join(
    f"{name} = 0.0\n" for name in ("verdict_cache_s", "verdict_outage_s") if name in Radius.__struct_fields__
)
CAN_REMEMBER = bool(ASK_ALWAYS)
RADIUS = 'auth = ["{host}:{auth}"]\nacct = ["{host}:{acct}"]\nsecret_file = "radius.secret"\n'


class Nomad:
    """An edge of ours; RADIUS is FreeRADIUS at two ports, else the embedded server over a slapd or an LDIF file."""

    def __init__(
        self,
        folder: Path,
        pbx: str,
        *,
        radius: tuple[int, int] | None = None,
        slapd: Slapd | None = None,
        count: int = 5000,
        name: str = "nomad",
        remember: bool = False,
        auth_failures: int = 1_000_000,
    ) -> None:
        """`remember`: whether an accepted login serves for the next ones of the same person, as by default."""
        folder.mkdir(parents=True)
        self.name = name
        self.detail = "nomad"
        self.folder = folder
        self.port = free_port()
        text = CONFIG.format(
            realm=people.REALM, host=HOST, port=self.port, pbx=pbx, pbx_host=PBX_HOST, auth_failures=auth_failures
        )
        if radius is not None or (CAN_REMEMBER and not remember):
            text += "[radius]\n" + ("" if remember else ASK_ALWAYS)
        if radius is not None:
            text += RADIUS.format(host=HOST, auth=radius[0], acct=radius[1])
            (folder / "radius.secret").write_text(SECRET)
        elif slapd is not None:
            text += LDAP.format(host=HOST, port=slapd.port, base=people.BASE, dn=people.SERVICE_DN)
            (folder / "ldap.secret").write_text(people.SERVICE_PASSWORD)
        else:
            text += LDIF
            people.write_ldif(folder / "people.ldif", count)
        (folder / "policy.toml").write_text(people.POLICY)
        (folder / "nomad.toml").write_text(text)
        command = [sys.executable, "-m", "nomad", "run", "-c", folder / "nomad.toml"]
        environment = {"PYTHONPATH": str(ROOT)}
        self.process = Process(name, command, log=folder / "nomad.log", cwd=folder, env=environment)
        self.process.wait_ready(lambda: "started" in self.process.output())

    def pids(self) -> Iterable[int]:
        """The edge's process, without its RADIUS server."""
        return [self.process.pid]

    def radius_pids(self) -> Iterable[int]:
        """The embedded RADIUS server's process."""
        return children(self.process.pid)

    def groups(self) -> dict[str, Callable[[], Iterable[int]]]:
        """Whose CPU time is counted."""
        return {"edge": self.pids, "radius": self.radius_pids}

    def records(self) -> list[tuple[str, str]]:
        """Accounting records that the embedded server wrote, as (status, session)."""
        path = self.folder / "detail.jsonl"
        found = [json.loads(line) for line in (path.read_text().splitlines() if path.exists() else ())]
        return [(str(each.get("Acct-Status-Type")), str(each.get("Acct-Session-Id"))) for each in found]

    def stop(self) -> None:
        """End it at once: what would be finished first is nothing that a measurement needs."""
        self.process.kill()
