"""What stands around an edge: slapd, FreeRADIUS, the delay proxy, a SIPp that plays the PBX; and the peer, Kamailio.

Everything listens on loopback, on ports chosen at run time, and keeps its files in one folder. The templates are in
bench/peer.
"""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from bench import people
from bench.cpu import family
from tests.harness.ports import HOST, free_port, is_free
from tests.harness.processes import Process, ProcessFailed, find_program, run

HERE = Path(__file__).parent
PEER = HERE / "peer"
ROOT = HERE.parent
SECRET = "bench-shared-secret"
PBX_HOST = "127.0.0.2"  # not the callers' address: an edge treats its PBX's address with more trust
PACKAGES = {
    "sipp": "sip-tester",
    "slapd": "slapd",
    "freeradius": "freeradius freeradius-ldap",
    "kamailio": "kamailio kamailio-radius-modules",
    "cc": "gcc libc6-dev",
    "setpriv": "util-linux",
}
MARK = re.compile(r"@([A-Z][A-Z_]*)@")
DETAIL_LINE = re.compile(r'^\s*(Acct-Status-Type|Acct-Session-Id) = "?([^"\n]*)"?$')


def missing(*programs: str) -> str:
    """The line that installs what is not there, "" when everything is."""
    wanted = [PACKAGES[name] for name in programs if find_program(name) is None]
    if "kamailio" in programs and not any(Path("/usr/lib").glob("*/kamailio/modules/auth_radius.so")):
        wanted.append(PACKAGES["kamailio"])
    return "apt-get install --no-install-recommends " + " ".join(dict.fromkeys(wanted)) if wanted else ""


def fill(name: str, target: Path, values: Mapping[str, object]) -> Path:
    """A template of bench/peer with its @MARKS@ filled in."""
    text = MARK.sub(lambda found: str(values[found[1]]), (PEER / name).read_text(encoding="utf-8"))
    target.write_text(text, encoding="utf-8")
    return target


class Slapd:
    """OpenLDAP with the people of the measurements."""

    def __init__(self, folder: Path, count: int) -> None:
        (folder / "db").mkdir(parents=True)
        self.port = free_port()
        values = {
            "FOLDER": folder,
            "BASE": people.BASE,
            "SERVICE_DN": people.SERVICE_DN,
            "LDAP_SCHEMA": "/etc/ldap/schema",
            "LDAP_MODULES": "/usr/lib/ldap",
        }
        config = fill("slapd/slapd.conf", folder / "slapd.conf", values)
        people.write_ldif(folder / "people.ldif", count)
        run([_program("slapadd"), "-q", "-f", config, "-l", folder / "people.ldif"])
        command = [_program("slapd"), "-f", config, "-h", f"ldap://{HOST}:{self.port}/", "-d", "0"]
        self.process = Process("slapd", command, log=folder / "slapd.log")
        self.process.wait_ready(lambda: not is_free(self.port))

    def pids(self) -> Iterable[int]:
        """Its processes."""
        return [self.process.pid]


class FreeRadius:
    """FreeRADIUS in front of a slapd: one virtual server for each kind of edge, the same work in both."""

    def __init__(self, folder: Path, slapd: Slapd) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.ports = {name: (free_port(), free_port()) for name in ("peer", "nomad")}
        library = next(Path("/usr/lib").rglob("rlm_digest.so")).parent
        values = {
            "FOLDER": folder,
            "LIBDIR": library,
            "SECRET": SECRET,
            "REALM": people.REALM,
            "BASE": people.BASE,
            "SERVICE_DN": people.SERVICE_DN,
            "SERVICE_PASSWORD": people.SERVICE_PASSWORD,
            "LDAP_PORT": slapd.port,
            "DICTIONARIES": "/usr/share/freeradius",
            "NOMAD_DICTIONARY": ROOT / "dictionaries" / "dictionary.nomad",
        }
        for name, (auth, acct) in self.ports.items():
            values[f"{name.upper()}_AUTH"], values[f"{name.upper()}_ACCT"] = auth, acct
        fill("freeradius/radiusd.conf", folder / "radiusd.conf", values)
        fill("freeradius/dictionary", folder / "dictionary", values)
        command = [_program("freeradius"), "-f", "-l", "stdout", "-d", folder, "-n", "radiusd"]
        self.process = Process("freeradius", command, log=folder / "radiusd.log")
        self.process.wait_ready(lambda: "Ready to process requests" in self.process.output())

    def pids(self) -> Iterable[int]:
        """Its processes."""
        return [self.process.pid]

    def records(self, name: str) -> list[tuple[str, str]]:
        """Accounting records that one kind of edge has sent, as (status, session), repetitions included."""
        path = self.folder / f"{name}-detail"
        found: list[tuple[str, str]] = []
        for block in (path.read_text(errors="replace") if path.exists() else "").split("\n\n"):
            matches = filter(None, map(DETAIL_LINE.match, block.splitlines()))
            fields = {match[1]: match[2] for match in matches}
            if "Acct-Status-Type" in fields:
                found.append((fields["Acct-Status-Type"], fields.get("Acct-Session-Id", "")))
        return found


class DelayProxy:
    """Stands between edges and FreeRADIUS: adds latency, or falls silent."""

    def __init__(self, folder: Path, radius: FreeRadius, delay_s: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        binary = folder / "delayproxy"
        if not binary.exists():
            run(["cc", "-O2", "-o", binary, PEER / "delayproxy.c"])
        self.ports = {name: (free_port(), free_port()) for name in radius.ports}
        routes = [
            f"{ours}:{theirs}"
            for name, ports in self.ports.items()
            for ours, theirs in zip(ports, radius.ports[name], strict=True)
        ]
        self._log = folder / f"delayproxy-{time.monotonic_ns()}.log"
        command = [binary, str(int(delay_s * 1e6)), *routes]
        self.process = Process("delayproxy", command, log=self._log)
        self.process.wait_ready(lambda: "ready" in self.process.output())

    def silence(self, on: bool) -> None:
        """Drop everything, or pass it again."""
        self.process.send(signal.SIGUSR1 if on else signal.SIGUSR2)

    def stop(self) -> None:
        """End it."""
        self.process.stop()


class Pbx:
    """SIPp answering calls."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.port = free_port()
        shutil.copyfile(PEER / "sipp" / "answer.xml", folder / "answer.xml")
        command = ["sipp", "-sf", "answer.xml", "-i", PBX_HOST, "-p", self.port, "-buff_size", 4194304]
        command += ["-max_socket", 10000, "-ci", HOST, "-cp", free_port(), "-nostdin", "-skip_rlimit"]
        command += ["-trace_counts", "-fd", 1, PBX_HOST]
        self.process = Process("pbx", command, log=folder / "pbx.log", cwd=folder)
        self.process.wait_ready(lambda: "answer.xml" in self.process.output() or _bound(PBX_HOST, self.port))

    @property
    def address(self) -> str:
        """host:port."""
        return f"{PBX_HOST}:{self.port}"

    def pids(self) -> Iterable[int]:
        """Its processes."""
        return [self.process.pid]

    def stop(self) -> None:
        """End it; SIPp would wait for its calls."""
        self.process.kill()


class Kamailio:
    """The peer's edge."""

    name = "kamailio"
    detail = "peer"

    def __init__(self, folder: Path, radius: tuple[int, int], pbx: str, *, workers: int = 8) -> None:
        folder.mkdir(parents=True)
        self.port = free_port()
        self.workers = workers
        modules = next(Path("/usr/lib").glob("*/kamailio/modules"))
        values = {
            "FOLDER": folder,
            "AUTH_PORT": radius[0],
            "ACCT_PORT": radius[1],
            "SECRET": SECRET,
            "RADCLI": "/etc/radcli",
            "CHILDREN": workers,
            "SIP_PORT": self.port,
            "REALM": people.REALM,
            "MODULES": modules,
            "PBX": pbx,
        }
        for name in ("kamailio.cfg", "radiusclient.conf", "servers", "dictionary"):
            fill(f"kamailio/{name}", folder / name, values)
        command = [_program("kamailio"), "-DD", "-E", "-f", folder / "kamailio.cfg", "-Y", folder, "-m", 256, "-M", 8]
        self.process = Process("kamailio", command, log=folder / "kamailio.log")
        self.process.wait_ready(lambda: not is_free(self.port))
        time.sleep(0.7)  # the workers start after the socket is bound

    def pids(self) -> Iterable[int]:
        """The edge's processes."""
        return family(self.process.pid)

    def groups(self) -> dict[str, Callable[[], Iterable[int]]]:
        """Whose CPU time is counted."""
        return {"edge": self.pids}

    def stop(self) -> None:
        """End it."""
        self.process.stop()


def _program(name: str) -> str:
    found = find_program(name)
    if found is None:
        raise ProcessFailed(f"{name} is missing: {missing(name)}")
    return found


def _bound(host: str, port: int) -> bool:
    wanted = f"{int(port):04X}"
    address = "".join(f"{int(part):02X}" for part in reversed(host.split(".")))
    return f"{address}:{wanted} " in Path("/proc/net/udp").read_text()
