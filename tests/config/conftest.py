"""No secret of this machine's environment reaches the tests of the configuration."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOMAD_RADIUS_SECRET", "NOMAD_ADMIN_TOKEN", "NOMAD_PBX_PASSWORD", "NOMAD_DIRECTORY_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
