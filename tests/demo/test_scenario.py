"""`nomad demo` as a whole: every step with the real edge, and the step named when something is broken on purpose."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad.config import Config, ConfigError
from nomad.demo import scenario, site, steps
from nomad.demo.records import AdminApi


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where nobody answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((site.HOST, 0))
        yield sock.getsockname()[1]


def result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert set(found) == {"ok", "steps", "cdrs", "accounting"}
    assert all(set(step) == {"name", "ok", "detail", "ms"} for step in found["steps"])
    return found


def first_failure(found: dict[str, Any]) -> tuple[str, str]:
    return next((step["name"], step["detail"]) for step in found["steps"] if not step["ok"])


async def test_every_step_really_happens(capsys: pytest.CaptureFixture[str]) -> None:
    code = await scenario.run_demo(once=True, json_output=True)
    found = result(capsys)
    assert found["ok"], first_failure(found)
    assert code == 0
    assert found["accounting"] == {"start": 4, "stop": 4}
    assert len(found["cdrs"]) == 5
    assert {row["result"] for row in found["cdrs"]} == {"answered", "refused"}


async def test_a_wrong_password_in_the_directory_is_found_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = tmp_path / "people.ldif"
    text = (site.HERE / "people.ldif").read_text(encoding="utf-8")
    people.write_text(text.replace(steps.ALICE[1], "something-else"), encoding="utf-8")
    assert await scenario.run_demo(once=True, json_output=True, people=people) == 1
    name, detail = first_failure(result(capsys))
    assert name == "register"
    assert detail.startswith("expected 401 then 200 for alice, saw 401")


async def test_a_pbx_that_does_not_answer_is_found_out(
    silent_port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "CALL_S", 0.5)
    assert await scenario.run_demo(once=True, json_output=True, pbx=f"{site.HOST}:{silent_port}") == 1
    found = result(capsys)
    name, detail = first_failure(found)
    assert name == "call echo"
    assert detail.startswith("1000 was not answered")
    assert detail.endswith(f"is the PBX at {site.HOST}:{silent_port} up?")
    assert [step["detail"] for step in found["steps"][-1:]] == ["not run: 'call echo' failed"]


async def test_an_edge_that_does_not_start_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    async def start_edge(configuration: Config) -> scenario.RunningEdge:
        raise ConfigError("port is taken")

    assert await scenario.run_demo(once=True, start_edge=start_edge) == 1
    shown = capsys.readouterr()
    assert "FAILED  start" in shown.out
    assert "Step 'start' failed: port is taken" in shown.err


async def test_a_taken_port_is_told(silent_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    base = silent_port - site.PBX_OFFSET
    assert await scenario.run_demo(once=True, json_output=True, port_base=base) == 1
    name, detail = first_failure(result(capsys))
    assert name == "start"
    assert "in use" in detail


async def test_missing_people_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await scenario.run_demo(once=True, json_output=True, people=tmp_path / "none.ldif") == 1
    name, detail = first_failure(result(capsys))
    assert name == "start"
    assert "none.ldif" in detail


def test_the_invitation_names_users_passwords_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = steps.Stage(edge=("127.0.0.1", 5099), admin=AdminApi(""), detail=tmp_path, pbx=None, pbx_address="pbx:5060")
    scenario.Teller(json_output=False).invite(stage, None)
    shown = capsys.readouterr().out
    for word in ("127.0.0.1:5099", "alice", steps.ALICE[1], "3001", "emma", "1000 echo", "Ctrl-C"):
        assert word in shown
