from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Nomad
from tests.cli.site import LEAST


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "nomad.toml"
    path.write_text(LEAST)
    (tmp_path / "people.ldif").write_text("")
    return path


async def test_a_good_configuration(bare: Nomad, config: Path) -> None:
    ran = await bare("check", "-c", str(config))
    assert (ran.code, ran.out, ran.err) == (0, f"{config}: ok\n", "")
    assert json.loads((await bare("check", "-c", str(config), "--json")).out) == {
        "ok": True,
        "problems": [],
        "warnings": [],
    }


@pytest.fixture
def doubtful(config: Path) -> Path:
    policy = config.parent / "policy.toml"
    config.write_text(f'policy = "{policy.name}"\n{LEAST}')
    group = 'name = "a"\nmatch = { default = true }\nmax_devices = 0\n'
    policy.write_text(f'[classes]\nemergency = ["112"]\n[[group]]\n{group}')
    return policy


async def test_what_is_doubtful_fails_only_a_strict_check(bare: Nomad, config: Path, doubtful: Path) -> None:
    ran = await bare("check", "-c", str(config))
    assert (ran.code, ran.out) == (0, f"{config}: ok\n")
    warning = f"{doubtful}:6: group[0].max_devices: is 0 and allows no device at all; leave it out for no limit"
    assert ran.err == f"warning: {warning}\n"
    ran = await bare("check", "-c", str(config), "--strict", "--json")
    assert ran.code == 1
    assert json.loads(ran.out) == {"ok": False, "problems": [], "warnings": [warning]}


@pytest.fixture
def misspelt(config: Path) -> Path:
    config.write_text(LEAST + 'extention = "[0-9]{4}"\n')
    return config


async def test_a_bad_configuration_names_line_key_and_mend(bare: Nomad, misspelt: Path) -> None:
    config = misspelt
    ran = await bare("check", "-c", str(config))
    assert (ran.code, ran.out) == (1, "")
    assert f"{config}:8: pbx[0].extention: unknown key 'extention'; did you mean 'extensions'?" in ran.err
    ran = await bare("check", "-c", str(config), "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["ok"] is False


async def test_run_refuses_a_bad_configuration(bare: Nomad, tmp_path: Path) -> None:
    assert (await bare("run", "-c", str(tmp_path / "missing.toml"))).code == 1
