"""The command line against a served console."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from nomad.admin.app import AdminServer
from nomad.cli import main
from nomad.metrics import Metrics
from tests.admin.console import ListConsole
from tests.cli.site import make_site


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


Nomad = Callable[..., Awaitable[Ran]]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOMAD_ADMIN", "NOMAD_ADMIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # `nomad run` in a test before sets one up for good


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The configuration of a site."""
    return make_site(tmp_path)


@pytest.fixture
def policy(path: Path) -> Path:
    """Its policy file."""
    return path.parent / "policy.toml"


@pytest.fixture
def console() -> ListConsole:
    return ListConsole()


@pytest.fixture
async def server(console: ListConsole) -> AsyncIterator[AdminServer]:
    server = AdminServer(console, Metrics(), token=b"sesame")
    await server.start("127.0.0.1", 0)
    yield server
    await server.stop()


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nomad:
    """Runs `nomad` with arguments."""

    async def nomad(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["nomad", *arguments])
        with pytest.raises(SystemExit) as ended:
            await asyncio.to_thread(main)
        out, err = capsys.readouterr()
        return Ran(int(ended.value.code or 0), out, err)

    return nomad


@pytest.fixture
def nomad(bare: Nomad, server: AdminServer, monkeypatch: pytest.MonkeyPatch) -> Nomad:
    """Runs `nomad` with arguments against the served console."""
    monkeypatch.setenv("NOMAD_ADMIN", server.url)
    monkeypatch.setenv("NOMAD_ADMIN_TOKEN", "sesame")
    return bare
