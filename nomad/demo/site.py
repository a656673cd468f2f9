"""The demo's site: a temporary folder with configuration, people and policy, and free ports for everything."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"  # the passwords are public, so nobody else may reach the demo
DOMAIN = "inria.example"
HERE = Path(__file__).parent
ADMIN_OFFSET = 80
PBX_OFFSET = 10
DETAIL = "accounting-detail.jsonl"  # the embedded RADIUS server's, in the folder

CONFIG = """\
domain = "{domain}"
policy = "policy.toml"

[sip]
listen = ["udp:{host}:{sip}", "tcp:{host}:{sip}"]

[directory]
url = "file:people.ldif"

[[pbx]]
name = "demo"
uri = "sip:{pbx};transport=udp"
trusted = ["{pbx}"]

[accounting]
detail = "{detail}"

[media]
relay = "off"

[store]
url = "sqlite:///{folder}/nomad.db"
spool = "spool.db"

[admin]
listen = "{host}:{admin}"
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the parts listen; SIP over UDP and TCP at the same number."""

    sip: int
    pbx: int
    admin: int


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom a real softphone can log in as."""

    login: str
    password: str
    name: str
    extension: str
    group: str


def choose_ports(base: int | None) -> Ports:
    """The ports from a base on, or free ones."""
    if base is not None:
        return Ports(base, base + PBX_OFFSET, base + ADMIN_OFFSET)
    return Ports(_free(socket.SOCK_DGRAM, socket.SOCK_STREAM), _free(socket.SOCK_DGRAM), _free(socket.SOCK_STREAM))


def build(folder: Path, *, ports: Ports, pbx: str, people: Path | None = None) -> Path:
    """Write the site's files; the path of its `nomad.toml`. Raises `OSError` when the people cannot be read."""
    shutil.copyfile(people or HERE / "people.ldif", folder / "people.ldif")
    shutil.copyfile(HERE / "policy.toml", folder / "policy.toml")
    path = folder / "nomad.toml"
    text = CONFIG.format(
        domain=DOMAIN, host=HOST, sip=ports.sip, admin=ports.admin, pbx=pbx, folder=folder, detail=DETAIL
    )
    path.write_text(text, encoding="utf-8")
    return path


def read_people(path: Path | None = None) -> Sequence[Person]:
    """Who is in the sample file, to be printed; a reader for this plain file, not for any LDIF."""
    return [
        Person(
            login=entry["uid"],
            password=entry.get("userPassword", ""),
            name=entry.get("cn", ""),
            extension=entry.get("telephoneNumber", ""),
            group=re.sub(r"cn=([^,]*).*", r"\1", entry.get("memberOf", "")),
        )
        for entry in _entries((path or HERE / "people.ldif").read_text(encoding="utf-8"))
        if "uid" in entry
    ]


def _entries(text: str) -> Iterator[dict[str, str]]:
    for block in re.split(r"\n\s*\n", text):
        pairs = (line.partition(": ") for line in block.splitlines() if not line.startswith("#"))
        yield {name: value.strip() for name, _, value in pairs}


def _free(*kinds: socket.SocketKind) -> int:
    """A port that is free for all these kinds of socket at this moment."""
    while True:
        with socket.socket(socket.AF_INET, kinds[-1]) as last:
            last.bind((HOST, 0))
            port: int = last.getsockname()[1]
            try:
                for kind in kinds[:-1]:
                    with socket.socket(socket.AF_INET, kind) as other:
                        other.bind((HOST, port))
            except OSError:
                continue
            return port
