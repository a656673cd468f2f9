from __future__ import annotations

from pathlib import Path

import pytest

from nomad import config
from nomad.inputs import check, load_ruleset, nonce_key, store_url
from tests.harness.settings import GOOD, load


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "policy.toml").write_text("")
    file = tmp_path / "nomad.toml"
    file.write_text(GOOD)
    return file


def test_check_names_what_is_wrong_in_both_files(path: Path) -> None:
    assert check(path) == []
    (path.parent / "policy.toml").write_text('[[group]]\nname = "x"\nmatch = { default = true }\nallow = ["no"]\n')
    (finding,) = check(path)
    assert "no class 'no'" in finding
    path.write_text("domain = 5")
    assert "domain" in check(path)[0]


def test_without_a_policy_internal_numbers_are_allowed(path: Path) -> None:
    path.write_text(GOOD.replace('policy = "policy.toml"', ""))
    assert [group.name for group in load_ruleset(config.load(path)).groups] == ["everybody"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [("sqlite:///x.db", "sqlite:///{folder}/x.db"), ("sqlite:////x.db", "sqlite:////x.db"), ("sqlite://", "sqlite://")],
)
def test_a_relative_database_starts_at_the_folder_of_the_configuration(tmp_path: Path, url: str, expected: str) -> None:
    loaded = load(tmp_path, f'{GOOD}\n[store]\nurl = "{url}"\n')
    assert store_url(loaded) == expected.format(folder=tmp_path.resolve())


def test_nonce_key_comes_from_its_file_or_is_new_each_time(tmp_path: Path) -> None:
    (tmp_path / "nonce.key").write_bytes(bytes(range(32)))
    named = load(tmp_path, GOOD.replace("[sip]", '[sip]\nnonce_key_file = "nonce.key"'))
    assert nonce_key(named) == bytes(range(32))
    (tmp_path / "nonce.key").write_bytes(b"short")
    with pytest.raises(config.ConfigError, match="at least 32"):
        nonce_key(named)
    unnamed = load(tmp_path, GOOD)
    assert nonce_key(unnamed) != nonce_key(unnamed)
