"""What the transport tests share: a loop that is watched, a gate, a clock that runs, a certificate authority."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

import pytest
import uvloop

from nomad.clock import Clock
from tests.harness.pki import Pki


@pytest.fixture(autouse=True)
def _nothing_is_logged_as_an_error(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> Iterator[None]:
    """No exception may reach the loop's handler; a test that wants an error logged says so with `errors_expected`."""
    yield
    if "errors_expected" not in request.fixturenames:
        assert [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


class Gate:
    """Lets everybody in who is not on its list."""

    def __init__(self) -> None:
        self.refused: set[str] = set()

    def admits(self, address: str, now: float, connected: bool = False) -> bool:
        return address not in self.refused


@pytest.fixture
def gate() -> Gate:
    return Gate()


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every asynchronous test of the transports runs on both kinds of loop."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
