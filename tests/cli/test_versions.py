"""Versions of the policy, with a real database and a real edge."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nomad.cli.versions import system_user
from tests.cli.conftest import Nomad
from tests.cli.site import POLICY, WIDER, make_site, running, text_of, write
from tests.harness.debian import ROOT


async def history(bare: Nomad, path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((await bare("policy", "history", "-c", str(path), "--json")).out)
    return found


async def test_the_file_as_it_stands_becomes_the_first_version(bare: Nomad, path: Path) -> None:
    ran = await bare("policy", "history", "-c", str(path))
    assert (ran.code, ran.err) == (0, "no version yet; see: nomad policy apply\n")
    ran = await bare("policy", "apply", "-c", str(path), "--why", "first", "--by", "alice")
    assert ran.code == 0
    assert re.fullmatch(r"version 1 is in force \([0-9a-f]{12}, alice\)\n", ran.out)
    assert "no edge runs here" in ran.err
    assert (await bare("policy", "apply", "-c", str(path))).out == "version 1 is this text already; it is in force\n"
    (only,) = await history(bare, path)
    assert (only["number"], only["by"], only["why"], only["in_file"], only["restores"]) == (
        1,
        "alice",
        "first",
        True,
        None,
    )


async def test_another_text_takes_the_place_of_the_file(bare: Nomad, path: Path, policy: Path, tmp_path: Path) -> None:
    new = write(tmp_path / "new.toml", WIDER)
    ran = await bare("policy", "apply", "-c", str(path), "--file", str(new), "--why", "sales calls", "--json")
    applied = json.loads(ran.out)
    assert (applied["number"], applied["by"], applied["found"], applied["new"]) == (2, system_user(), 1, True)
    assert text_of(policy) == WIDER
    ran = await bare("policy", "history", "-c", str(path))
    lines = ran.out.splitlines()
    assert lines[0].split() == ["VERSION", "WHEN", "WHO", "SHA-256", "WHY"]
    assert lines[1].split()[:2] == ["2", "*"]
    assert "sales calls" in lines[1]
    assert "edited without" in lines[2]


async def test_a_text_that_is_wrong_changes_nothing(bare: Nomad, path: Path, policy: Path, tmp_path: Path) -> None:
    await bare("policy", "apply", "-c", str(path))
    new = write(tmp_path / "new.toml", POLICY.replace("allow =", "alow ="))
    ran = await bare("policy", "apply", "-c", str(path), "--file", str(new))
    assert (ran.code, ran.out) == (1, "")
    assert f"{new}:10: group[0].alow: unknown key 'alow'; did you mean 'allow'?" in ran.err
    assert text_of(policy) == POLICY
    assert len(await history(bare, path)) == 1
    assert (await bare("policy", "apply", "-c", str(path), "--file", str(tmp_path / "none.toml"))).code == 1


async def test_show_and_diff(bare: Nomad, path: Path, policy: Path) -> None:
    await bare("policy", "apply", "-c", str(path), "--by", "alice", "--why", "first")
    write(policy, WIDER)
    ran = await bare("policy", "show", "-c", str(path))
    assert ran.out == POLICY
    assert ran.err.startswith("version 1: ")
    ran = await bare("policy", "diff", "-c", str(path))
    assert ran.out.splitlines()[:2] == ["--- version 1", f"+++ {policy}"]
    assert '-allow = ["internal"]' in ran.out
    assert '+allow = ["internal", "premium"]' in ran.out
    assert "\x1b" not in ran.out
    await bare("policy", "apply", "-c", str(path))
    assert (await bare("policy", "diff", "-c", str(path))).err == f"version 2 and {policy} are the same\n"
    shown = json.loads((await bare("policy", "diff", "1", "2", "-c", str(path), "--json")).out)
    assert (shown["from"], shown["to"], shown["changed"]) == ("version 1", "version 2", True)
    assert json.loads((await bare("policy", "show", "1", "-c", str(path), "--json")).out)["text"] == POLICY
    ran = await bare("policy", "show", "9", "-c", str(path))
    assert (ran.code, ran.err) == (1, "nomad: there is no version 9; see: nomad policy history\n")


async def test_a_text_cannot_steer_the_terminal_and_goes_into_a_file_as_it_is(
    bare: Nomad, path: Path, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "# caf\u202eé\r\n" + POLICY
    write(policy, text)
    await bare("policy", "apply", "-c", str(path))
    assert (await bare("policy", "show", "-c", str(path))).out == text
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert (await bare("policy", "show", "-c", str(path))).out.startswith("# caf\\u202eé\\r\n")
    write(policy, POLICY)
    assert "\x1b[31m-# caf" in (await bare("policy", "diff", "-c", str(path))).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in (await bare("policy", "diff", "-c", str(path))).out


async def test_rollback_is_a_version_of_its_own(bare: Nomad, path: Path, policy: Path) -> None:
    await bare("policy", "apply", "-c", str(path))
    write(policy, WIDER)
    await bare("policy", "apply", "-c", str(path))
    ran = await bare("policy", "rollback", "1", "--why", "too wide", "--by", "bob", "-c", str(path))
    assert ran.out.startswith("version 3 is in force")
    assert text_of(policy) == POLICY
    newest = (await history(bare, path))[0]
    assert (newest["number"], newest["restores"], newest["by"], newest["why"]) == (3, 1, "bob", "too wide")
    assert "[back to 1] too wide" in (await bare("policy", "history", "-c", str(path))).out
    assert (await bare("policy", "rollback", "1", "-c", str(path))).code == 2  # a reason is asked for
    assert (await bare("policy", "rollback", "8", "--why", "x", "-c", str(path))).code == 1


async def test_who_made_a_text_from_an_old_version_is_told(bare: Nomad, path: Path, policy: Path) -> None:
    await bare("policy", "apply", "-c", str(path), "--by", "alice", "--why", "mine")
    write(policy, WIDER)
    ran = await bare("policy", "apply", "-c", str(path), "--base", "0")
    assert ran.code == 1
    assert "nothing changed: this was made from version 0: version 1 is of alice (mine)" in ran.err
    assert (await bare("policy", "apply", "-c", str(path), "--base", "1")).code == 0


async def test_a_running_edge_takes_it_up_and_says_what_it_runs(bare: Nomad, path: Path, policy: Path) -> None:
    async with running(path) as edge:
        assert "unversioned" in (await bare("status", "-c", str(path))).out
        write(policy, WIDER)
        ran = await bare("policy", "apply", "-c", str(path))
        assert (ran.code, ran.err) == (0, "")
        assert edge.dispatcher.ruleset.version == "1"
        status = json.loads((await bare("status", "-c", str(path), "--json")).out)
        assert status["policy"]["version"] == "1"
        assert status["policy"]["source"] == str(policy)
        sha = status["policy"]["sha"]
        assert f'nomad_policy_info{{sha="{sha}",version="1"}} 1.0' in edge.metrics.render()[0].decode()
        write(policy, POLICY)
        assert "unversioned" in (await bare("reload", "-c", str(path))).out
        assert edge.dispatcher.ruleset.label == edge.dispatcher.ruleset.sha[:12]
    async with running(path) as edge:
        assert edge.dispatcher.ruleset.version == ""
        await bare("policy", "rollback", "1", "--why", "x", "-c", str(path))
        assert edge.dispatcher.ruleset.version == "3"
    async with running(path) as edge:
        assert edge.dispatcher.ruleset.version == "3"


async def test_what_the_edge_refuses_leaves_nothing(bare: Nomad, path: Path, policy: Path, tmp_path: Path) -> None:
    await bare("policy", "apply", "-c", str(path))
    async with running(path) as edge:
        new = write(tmp_path / "new.toml", WIDER)
        good = text_of(path)
        write(path, good.replace("sip:127.0.0.1:5999", "sip:[bad"))
        ran = await bare("policy", "apply", "-c", str(path), "--file", str(new))
        assert ran.code == 1
        assert "nothing changed" in ran.err
        assert text_of(policy) == POLICY
        write(path, good)
        assert len(await history(bare, path)) == 1
        assert edge.dispatcher.ruleset.version == "1"


async def test_an_edge_with_another_policy_file_is_noticed(
    bare: Nomad, path: Path, policy: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = make_site(tmp_path / "other")
    async with running(other) as edge:
        write(policy, WIDER)
        ran = await bare("policy", "apply", "-c", str(path), "--admin", edge.admin_url)
        assert ran.code == 1
        assert "has another policy file" in ran.err
    assert await history(bare, path) == []


async def test_a_restart_that_is_due_is_told(bare: Nomad, path: Path) -> None:
    async with running(path):
        write(path, text_of(path) + "[guard]\nburst = 77\n")
        write(path, text_of(path).replace("[directory]", 'advertise = "192.0.2.7"\n[directory]'))
        ran = await bare("reload", "-c", str(path))
        assert (ran.code, ran.err) == (0, "sip.advertise changed, and needs a restart\n")
        assert "sip.advertise" in (await bare("status", "-c", str(path))).out


def test_two_processes_that_apply_at_once(path: Path, tmp_path: Path) -> None:
    base = [sys.executable, "-m", "nomad", "policy"]
    subprocess.run([*base, "apply", "-c", path], check=True, capture_output=True, cwd=ROOT)
    started = []
    for number in range(4):
        new = tmp_path / f"{number}.toml"
        new.write_text(f"# {number}\n{POLICY}")
        command: list[str | Path] = [*base, "apply", "-c", path, "--file", new, "--base", "1", "--by", f"admin{number}"]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT))
    ended = [(process.communicate(), process.returncode) for process in started]
    assert sorted(code for _, code in ended) == [0, 1, 1, 1], ended
    for (_, err), code in ended:
        assert code == 0 or "version 2 is of admin" in err
    winner = next(number for number, (_, code) in enumerate(ended) if code == 0)
    assert (tmp_path / "policy.toml").read_text() == f"# {winner}\n{POLICY}"
