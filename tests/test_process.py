from __future__ import annotations

from pathlib import Path

import pytest

from nomad import process


def test_run_with_a_wrong_configuration_exits_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nomad.log.setup", lambda: None)
    path = tmp_path / "nomad.toml"
    path.write_text("domain = 5")
    assert process.run(path) == 1
    assert process.run(tmp_path / "nothing.toml") == 1
