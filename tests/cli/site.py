"""A configuration with its policy, people and database in a folder, and an edge that runs it when asked to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nomad import config
from nomad.app import Edge
from tests.harness.people import DOMAIN, SAMPLE, ldif
from tests.harness.ports import HOST, free_port

LEAST = f"""
domain = "{DOMAIN}"
[directory]
url = "file:people.ldif"
[[pbx]]
name = "x"
uri = "sip:127.0.0.1:5070"
"""
POLICY = """\
# who may call what
timezone = "UTC"
[classes]
emergency = ["112"]
internal = ["re:[0-9]{4}"]
premium = ["089"]
[[group]]
name = "everybody"
match = { default = true }
allow = ["internal"]
"""
WIDER = POLICY.replace('allow = ["internal"]', 'allow = ["internal", "premium"]')


def make_site(folder: Path) -> Path:
    """The configuration's path."""
    (folder / "people.ldif").write_text(ldif(SAMPLE))
    (folder / "policy.toml").write_text(POLICY)
    path = folder / "nomad.toml"
    path.write_text(
        'domain = "inria.example"\npolicy = "policy.toml"\n[sip]\n'
        f'listen = ["udp:{HOST}:0"]\n[directory]\nurl = "file:people.ldif"\n'
        f'[[pbx]]\nname = "pbx"\nuri = "sip:{HOST}:5999"\n[store]\nurl = "sqlite:///nomad.db"\n'
        f'[admin]\nlisten = "{HOST}:{free_port()}"\n'
    )
    return path


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[Edge]:
    """An edge with this configuration, in this process."""
    edge = Edge(config.load(path), config_path=path)
    await edge.start()
    try:
        yield edge
    finally:
        await edge.stop(grace_s=0.5)


def text_of(path: Path) -> str:
    """For tests that are coroutines."""
    return path.read_text()


def write(path: Path, text: str) -> Path:
    """The same."""
    path.write_text(text)
    return path
