"""FreeRADIUS with the files of deploy/freeradius, and radclient."""

from __future__ import annotations

import hashlib
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.debian import ROOT
from tests.harness.people import DOMAIN
from tests.harness.pki import Certificate
from tests.harness.ports import HOST, free_port
from tests.harness.processes import Process, ProcessFailed, attempt, find_program
from tests.harness.radius import SECRET, RadiusProcess
from tests.harness.slapd import Slapd

DEPLOY = ROOT / "deploy" / "freeradius"
DATA = Path(__file__).with_name("data")
ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Reply:
    """What radclient received; kind is "" when nothing came."""

    kind: str
    attributes: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """Every value of an attribute."""
        return [value for key, value in self.attributes if key == name]


class FreeRadius(RadiusProcess):
    """Reads people from a directory."""

    def __init__(
        self, folder: Path, slapd: Slapd, *, tells_ha1: bool = False, edge: str = HOST, reject_delay: int = 0
    ) -> None:
        """`tells_ha1`: the edge may ask for HA1; `edge` is the address that requests come from."""
        super().__init__(folder)
        self._tells_ha1 = "yes" if tells_ha1 else "no"
        self._edge = edge
        self._reject_delay = reject_delay
        self._setup(slapd)
        self.start()

    def detail_records(self) -> list[dict[str, str]]:
        """Accounting-Requests as the server wrote them down, in order; of an attribute with several values the last."""
        detail = self.folder / "accounting" / "detail"
        return [dict(record) for record in parse_detail(detail.read_text())] if detail.exists() else []

    def ask(
        self,
        attributes: Mapping[str, str] | str,
        *,
        kind: str = "auth",
        secret: str = SECRET,
        timeout_s: float = 3.0,
    ) -> Reply:
        """Send one request by radclient; attribute names of the dictionary, or lines as radclient reads them."""
        server = self.acct if kind == "acct" else self.auth
        return radclient(server, kind, attributes, secret=secret, dictionary=self.folder, timeout_s=timeout_s)

    def disconnect(self, server: str, attributes: Mapping[str, str], *, kind: str = "disconnect") -> Reply:
        """Send a Disconnect-Request or, with kind "coa", a CoA-Request (RFC 5176) to an edge."""
        return radclient(server, kind, attributes, secret=SECRET, dictionary=self.folder)

    def pause(self) -> None:
        """Keep the ports open and answer nothing, until `resume`."""
        self._process.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._process.send(signal.SIGCONT)

    def _setup(self, slapd: Slapd) -> None:
        (self.folder / "accounting").mkdir(parents=True)
        library = next(Path("/usr/lib").rglob("rlm_digest.so")).parent
        values = {"FOLDER": str(self.folder), "DEPLOY": str(DEPLOY), "LIBDIR": str(library)}
        values["REJECT_DELAY"] = str(self._reject_delay)
        text = (DATA / "radiusd.conf").read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        (self.folder / "radiusd.conf").write_text(text)
        (self.folder / "nomad.conf").write_text(
            f'nomad_domain = "{DOMAIN}"\n'
            f"nomad_listen = {HOST}\nnomad_auth_port = {self.auth_port}\nnomad_acct_port = {self.acct_port}\n"
            f'nomad_edge = {self._edge}\nnomad_secret = "{SECRET}"\nnomad_digest_ha1 = {self._tells_ha1}\n'
            f'nomad_ldap_url = "{slapd.url}"\nnomad_ldap_people = "{slapd.people_base}"\n'
            f'nomad_ldap_bind_dn = "{slapd.bind_dn}"\nnomad_ldap_password = "{slapd.bind_password}"\n'
        )
        write_dictionary(self.folder)

    def _launch(self) -> Process:
        log = self.folder / "radiusd.log"
        log.unlink(missing_ok=True)
        program = find_program("freeradius") or "freeradius"
        process = Process("freeradius", [program, "-f", "-l", "stdout", "-d", self.folder], log=log)
        process.wait_ready(lambda: "Ready to process requests" in process.output())
        return process


class RadsecFreeRadius(FreeRadius):
    """FreeRADIUS that also listens for RADIUS over TLS (RFC 6614), and passes orders on to `edge_port`."""

    def __init__(self, folder: Path, slapd: Slapd, certificate: Certificate, ca: Path, **options: Any) -> None:
        self.radsec_port, self.orders_port, self.edge_port = free_port(), free_port(), free_port()
        self._certificate, self._ca = certificate, ca
        super().__init__(folder, slapd, **options)

    def _setup(self, slapd: Slapd) -> None:
        super()._setup(slapd)
        values = {
            "port": str(self.radsec_port),
            "certificate": str(self._certificate.certificate),
            "key": str(self._certificate.key),
            "ca": str(self._ca),
        }
        with (self.folder / "nomad.conf").open("a") as file:
            file.writelines(f"nomad_radsec_{name} = {value}\n" for name, value in values.items())
            file.write(f"nomad_orders_port = {self.orders_port}\nnomad_orders_edge = {HOST}\n")
            file.write(f"nomad_orders_edge_port = {self.edge_port}\n")
        conf = self.folder / "radiusd.conf"
        text = conf.read_text().replace("proxy_requests = no", "proxy_requests = yes")
        conf.write_text(f"{text}\n$INCLUDE {DEPLOY}/site/nomad_radsec\n$INCLUDE {DEPLOY}/site/nomad_orders\n")


def write_dictionary(folder: Path) -> None:
    """What FreeRADIUS and radclient need to know of attributes, in a folder of its own."""
    nomad = ROOT / "dictionaries" / "dictionary.nomad"
    lines = [f"$INCLUDE {path}" for path in ("/usr/share/freeradius/dictionary", nomad, DEPLOY / "dictionary")]
    (folder / "dictionary").write_text("\n".join(lines) + "\n")


def radclient(
    server: str,
    kind: str,
    attributes: Mapping[str, str] | str,
    *,
    secret: str,
    dictionary: Path,
    timeout_s: float = 3.0,
) -> Reply:
    """Send one request, without retransmission, and return the reply, verified by radclient."""
    if not isinstance(attributes, str):
        attributes = "".join(f"{name} = {_quoted(value)}\n" for name, value in attributes.items())
    command = ["radclient", "-x", "-x", "-d", dictionary, "-r", "1", "-t", f"{timeout_s:g}", server, kind, secret]
    output = attempt(command, stdin=attributes).stdout
    received = re.search(r"^Received (\S+) Id .*\n((?:\t.*\n?)*)", output, re.MULTILINE)
    if received:
        return Reply(received[1], tuple(_attribute(line) for line in received[2].splitlines()))
    if "No reply" in output or "no response" in output.lower():
        return Reply("", ())
    raise ProcessFailed(f"radclient: {output[-2000:]}")


def parse_detail(text: str) -> Iterator[list[tuple[str, str]]]:
    """Records of a FreeRADIUS detail file: a line with the date, attributes behind tabs, an empty line."""
    for block in text.split("\n\n"):
        attributes = [_attribute(line) for line in block.splitlines() if line.startswith("\t")]
        if attributes:
            yield attributes


def digest_attributes(
    user: str,
    password: str,
    *,
    dialect: str = "sterman",
    algorithm: str = "MD5",
    qop: str = "auth",
    realm: str = DOMAIN,
    method: str = "REGISTER",
) -> str:
    """An Access-Request with SIP digest credentials, as lines for radclient."""
    uri, nonce, cnonce, count = f"sip:{realm}", "4e6f6d6164", "0a4f113b", "00000001"
    hashed = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}[algorithm.removesuffix("-sess")]

    def h(text: str) -> str:
        return hashlib.new(hashed, text.encode()).hexdigest()

    secret = h(f"{user}:{realm}:{password}")
    if algorithm.endswith("-sess"):
        secret = h(f"{secret}:{nonce}:{cnonce}")
    middle = f"{nonce}:{count}:{cnonce}:{qop}" if qop else nonce
    response = h(f"{secret}:{middle}:{h(f'{method}:{uri}')}")
    parts = {"Realm": realm, "Nonce": nonce, "Method": method, "URI": uri, "Algorithm": algorithm}
    if qop or algorithm.endswith("-sess"):
        parts |= {"CNonce": cnonce}
    if qop:
        parts |= {"Qop": qop, "Nonce-Count": count}
    parts["Username"] = user
    lines = [f"User-Name = {_quoted(user)}", "Service-Type = Authenticate-Only", "Message-Authenticator = 0x00"]
    if dialect == "rfc5090":
        lines.append(f"RFC5090-Digest-Response = {response}")
        lines += [f"RFC5090-Digest-{name} = {_quoted(value)}" for name, value in parts.items()]
    else:
        # sub-attributes of draft-sterman-aaa-sip
        numbers = dict(zip(STERMAN, range(1, 11), strict=True))
        lines.append(f"Digest-Response = {response}")
        for name, value in parts.items():
            octets = bytes((numbers[name], len(value) + 2)) + value.encode()
            lines.append(f"Digest-Attributes = 0x{octets.hex()}")
    return "\n".join(lines) + "\n"


STERMAN = ("Realm", "Nonce", "Method", "URI", "Qop", "Algorithm", "Body-Digest", "CNonce", "Nonce-Count", "Username")


def _attribute(line: str) -> tuple[str, str]:
    name, _, value = line.strip().partition(" = ")
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = ESCAPE.sub(r"\1", value[1:-1])
    return name, value


def _quoted(value: str) -> str:
    if value.startswith("0x"):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
