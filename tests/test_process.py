from __future__ import annotations

import resource
from pathlib import Path

import pytest

from nomad import process


def test_run_with_a_wrong_configuration_exits_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nomad.log.setup", lambda: None)
    path = tmp_path / "nomad.toml"
    path.write_text("domain = 5")
    assert process.run(path) == 1
    assert process.run(tmp_path / "nothing.toml") == 1


@pytest.mark.parametrize(
    ("limits", "allowed", "warned"),
    [
        ((1024, 4096), 3000, False),
        ((1024, 2000), 2000, True),
        ((4096, 4096), None, False),
        ((1024, resource.RLIM_INFINITY), 3000, False),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, False),
    ],
)
def test_as_many_files_as_connections_need(
    limits: tuple[int, int],
    allowed: int | None,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: asked.append(wanted))
    process.allow_files(3000)
    assert asked == ([] if allowed is None else [(allowed, limits[1])])
    assert [record.getMessage() for record in caplog.records] == ["few files"] * warned
