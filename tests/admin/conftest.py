"""A served console and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from nomad.admin.app import AdminServer
from nomad.metrics import Metrics
from tests.admin.console import ListConsole

Ask = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
def console() -> ListConsole:
    return ListConsole()


@pytest.fixture
def token() -> bytes:
    return b""


@pytest.fixture
async def server(console: ListConsole, token: bytes) -> AsyncIterator[AdminServer]:
    server = AdminServer(console, Metrics(version="1.2.3"), token=token, hosts=["console.inria.example"])
    await server.start("127.0.0.1", 0)
    yield server
    await server.stop()


@pytest.fixture
async def ask(server: AdminServer) -> AsyncIterator[Ask]:
    async with aiohttp.ClientSession(server.url) as session:

        async def ask(method: str, path: str, **options: Any) -> tuple[int, Any]:
            async with session.request(method, path, **options) as response:
                is_json = response.content_type == "application/json"
                return response.status, await response.json() if is_json else await response.text()

        yield ask
