"""Settings for the whole suite."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# two shared cores: an example that takes long says nothing; in CI the examples are the same in every run
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


class Tracebacks(logging.Handler):
    """Keeps what no input may cause: logged exceptions, and whatever reaches a loop's exception handler."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        if record.exc_info or record.name == "asyncio":
            self.found.append(logging.Formatter().format(record))


@pytest.fixture(autouse=True)
def _no_traceback(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test logs one, unless it says so with `errors_expected`."""
    tracebacks = Tracebacks()
    logging.getLogger().addHandler(tracebacks)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(tracebacks)
    if "errors_expected" not in request.fixturenames:
        found = "\n".join(tracebacks.found)
        assert not found, f"logged, and not announced with the fixture errors_expected:\n{found}"


@pytest.fixture
def errors_expected() -> None:
    """The test causes exceptions to be logged and looks at them itself."""
