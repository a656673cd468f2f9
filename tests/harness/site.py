"""A whole edge in the test's own process, on free loopback ports, with the demo's PBX behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from nomad import config
from nomad.app import Edge
from nomad.demo.pbx import Pbx
from nomad.demo.softphone import Account, Softphone
from tests.harness.edge import POLICY
from tests.harness.people import DOMAIN, SAMPLE, Person, ldif
from tests.harness.ports import HOST

SECRET = "order-secret"


@asynccontextmanager
async def running_edge(
    folder: Path, *, radius: str = "", people: Iterable[Person] = SAMPLE, policy: str = POLICY, tail: str = ""
) -> AsyncIterator[tuple[Edge, Pbx]]:
    """An edge with its own RADIUS server, and its PBX; `radius` are lines of [radius], `tail` more tables."""
    pbx = Pbx()
    await pbx.start()
    (folder / "people.ldif").write_text(ldif(people))
    (folder / "policy.toml").write_text(policy)
    (folder / "radius.secret").write_text(SECRET)
    path = folder / "nomad.toml"
    host, port = pbx.address
    path.write_text(
        f'domain = "{DOMAIN}"\npolicy = "policy.toml"\n[sip]\nlisten = ["udp:{HOST}:0"]\n'
        f'[radius]\nsecret_file = "radius.secret"\n{radius}\n[directory]\nurl = "file:people.ldif"\n'
        f'[[pbx]]\nname = "demo"\nuri = "sip:{host}:{port}"\n[accounting]\ndetail = "detail.jsonl"\n'
        f'[admin]\nlisten = ""\n{tail}\n'
    )
    edge = Edge(config.load(path), config_path=path)
    try:
        await edge.start()
        pbx.trust(sip_of(edge))
        yield edge, pbx
    finally:
        await pbx.stop()
        await edge.stop(grace_s=1)


def sip_of(edge: Edge) -> tuple[str, int]:
    """Where the edge listens for phones."""
    _, host, port = edge.sip_addresses[0]
    return host, port


def phone_of(edge: Edge, person: Person, *, password: str = "") -> Softphone:
    """A phone of a person; the test starts and stops it."""
    return Softphone(Account(person.login, password or person.password, DOMAIN, sip_of(edge)))
