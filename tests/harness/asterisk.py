"""Asterisk as the PBX behind the edge, with the trunk of deploy/asterisk and numbers for tests.

1000 echo, 1001 echo and recording, 1002 rings first, 2000 and 2001 a 700 Hz tone, 2002 early media, 44XX and 4503 the
status of the last three digits, 4500 rings for ever, 3XXX goes back to the edge.
A phone can also register here as DIRECT, to be tried without an edge.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from tests.harness.audio import newest_tone, write_tone
from tests.harness.debian import ROOT, Unpacked, from_suite
from tests.harness.pki import Certificate
from tests.harness.ports import HOST, free_port, free_range, is_free
from tests.harness.processes import Process, ProcessFailed, attempt, wait_until

DEPLOY = ROOT / "deploy" / "asterisk"
DATA = Path(__file__).with_name("data") / "asterisk"
EXAMPLE_EDGE = "127.0.0.1:5060"
RTP_PORTS = 200
TONE_HZ = 700
DIRECT, DIRECT_PASSWORD = "direct", "direct-secret"
SUITES = ("sid", "bullseye")  # bookworm has none
EMPTY = ("acl", "ccss", "cel", "features", "http", "manager", "pjproject", "stasis", "udptl")
TLS = """
[tls]
type = transport
protocol = tls
bind = {host}:{port}
cert_file = {of.certificate}
priv_key_file = {of.key}
method = tlsv1_2
"""
DEMAND = """ca_list_file = {ca}
verify_client = yes
require_client_cert = yes
"""
CDR_HEAD = (
    "accountcode,src,dst,dcontext,clid,channel,dstchannel,lastapp,lastdata,start,answer,end,duration,billsec,"
    "disposition,amaflags,uniqueid,userfield\n"
)


def unpack() -> Unpacked:
    """Asterisk from the first suite that has it; kept in var/cache. NOMAD_ASTERISK_SUITE chooses one."""
    chosen = os.environ.get("NOMAD_ASTERISK_SUITE")
    failure: ProcessFailed | None = None
    for suite in (chosen,) if chosen else SUITES:
        try:
            return from_suite("asterisk", "/usr/sbin/asterisk", suite=suite)
        except ProcessFailed as error:
            failure = error
    raise failure or ProcessFailed("no suite to take asterisk from")


class Asterisk:
    """A PBX on loopback that trusts what comes from there."""

    def __init__(
        self,
        folder: Path,
        *,
        edge: str = EXAMPLE_EDGE,
        certificate: Certificate | None = None,
        client_ca: Path | None = None,
    ) -> None:
        """With a certificate it listens on TLS too, and with `client_ca` it demands one of its peers there."""
        self.folder = folder
        self.edge = edge
        self.port, self.tls_port = free_port(), free_port()
        self._certificate = certificate
        self._client_ca = client_ca
        self._unpacked = unpack()
        self._setup()
        self._process = self._launch()

    @property
    def address(self) -> str:
        """host:port, UDP and TCP."""
        return f"{HOST}:{self.port}"

    @property
    def uri(self) -> str:
        """What the edge's [[pbx]] table wants."""
        return f"sip:{self.address};transport=udp"

    def cli(self, command: str) -> str:
        """Run a console command and return what it prints."""
        return attempt([*self._command(), "-rx", command], cwd=self.folder, timeout_s=10.0).stdout

    def originate(self, number: str, *, then: str = "2001", endpoint: str = "nomad") -> None:
        """Call a number at the edge, and connect who answers to a number of this PBX; returns at once."""
        self.cli(f"channel originate PJSIP/{endpoint}/sip:{number}@{self.edge} extension {then}@numbers")

    def channels(self) -> int:
        """How many channels are up: two for each bridged call, one for each call to a test number."""
        lines = self.cli("core show channels count").splitlines()
        return int(next(line.split()[0] for line in lines if "active channel" in line))

    def hang_up_all(self) -> None:
        """End every call from the PBX's side."""
        self.cli("channel request hangup all")

    def cdrs(self) -> list[dict[str, str]]:
        """Call records, oldest first; `userfield` holds the P-Asserted-Identity that came in."""
        master = self.folder / "logs" / "cdr-csv" / "Master.csv"
        if not master.exists():
            return []
        return list(csv.DictReader((CDR_HEAD + master.read_text()).splitlines()))

    def heard(self, hz: int) -> bool:
        """Whether 1001 received this tone in its newest recorded call, which has ended."""
        return newest_tone(self.folder / "recordings", "*-received.wav") == hz

    def output(self) -> str:
        """The console log; after `cli("pjsip set logger on")` with every SIP message."""
        return self._process.output()

    def stop(self) -> None:
        """Stop; `start` uses the same ports."""
        self._process.stop()

    def start(self) -> None:
        """Start again, after `stop`."""
        self._process = self._launch()

    def _command(self) -> list[str]:
        return [*self._unpacked.command, "-C", str(self.folder / "etc" / "asterisk.conf")]

    def _setup(self) -> None:
        for name in ("etc", "lib/keys", "spool", "run", "logs/cdr-csv", "sounds", "recordings"):
            (self.folder / name).mkdir(parents=True)
        rtp = free_range(RTP_PORTS)
        values = {
            "FOLDER": str(self.folder),
            # relative: the path of a Unix socket must be shorter than 108 bytes
            "RUN": "run",
            "DEPLOY": str(DEPLOY),
            "MODULES": str(self._unpacked.find("/asterisk/modules")),
            "SHARED": str(self._unpacked.root / "usr" / "share" / "asterisk"),
            "HOST": HOST,
            "PORT": str(self.port),
            "DIRECT": DIRECT,
            "DIRECT_PASSWORD": DIRECT_PASSWORD,
            "RTP_FIRST": str(rtp),
            "RTP_LAST": str(rtp + RTP_PORTS - 1),
        }
        for template in DATA.glob("*.conf"):
            self._render(template, values)
        self._render(DEPLOY / "pjsip_nomad.conf", {})
        if self._certificate is not None:
            with (self.folder / "etc" / "pjsip.conf").open("a") as more:
                more.write(TLS.format(host=HOST, port=self.tls_port, of=self._certificate))
                if self._client_ca is not None:
                    more.write(DEMAND.format(ca=self._client_ca))
        for name in EMPTY:
            (self.folder / "etc" / f"{name}.conf").write_text("[general]\n")
        write_tone(self.folder / "sounds" / "tone.wav", hz=TONE_HZ, seconds=4)
        write_tone(self.folder / "sounds" / "long.wav", hz=TONE_HZ, seconds=60)

    def _render(self, template: Path, values: Mapping[str, str]) -> None:
        text = template.read_text().replace(EXAMPLE_EDGE, self.edge)
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        (self.folder / "etc" / template.name).write_text(text)

    def _launch(self) -> Process:
        log = self.folder / "asterisk.log"
        log.unlink(missing_ok=True)
        process = Process("asterisk", [*self._command(), "-f", "-n"], log=log, cwd=self.folder)
        process.wait_ready(lambda: "Asterisk Ready" in process.output() and not is_free(self.port))
        return process

    def wait_idle(self, timeout_s: float = 10.0) -> None:
        """Wait until no call is left."""
        wait_until(lambda: self.channels() == 0, timeout_s=timeout_s, what="Asterisk without calls")
