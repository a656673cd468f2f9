from __future__ import annotations

from pathlib import Path

import pytest

from nomad import config
from nomad.config import ConfigError, line_of, secret
from tests.harness.settings import GOOD, load, problems


def test_defaults_and_relative_files(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD)
    assert loaded.domains == ("inria.example",)
    assert loaded.path(loaded.policy) == tmp_path.resolve() / "policy.toml"
    assert loaded.path("/etc/x") == Path("/etc/x")
    assert loaded.radius is None
    assert loaded.admin.listen == "127.0.0.1:8080"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("listen =", "lisen =", ("nomad.toml:6: sip.lisen: unknown key 'lisen'; did you mean 'listen'?",)),
        ('domain = "inria.example"', 'domian = "inria.example"', ("domian", "did you mean 'domain'?")),
        ('name = "asterisk"', 'name = "asterisk"\nport = 5', ("nomad.toml:13:", "unknown key 'port'", "known keys")),
        ("[sip]", "[zip]", ("nomad.toml:5: zip", "did you mean 'sip'?")),
        ('["udp:127.0.0.1:5060"]', '"udp:127.0.0.1:5060"', ("nomad.toml:6: sip.listen", "array")),
        ('uri = "sip', 'uri = 5\nx = "sip', ("pbx",)),
        ("[sip]", "[sip", ("nomad.toml:5: not TOML",)),
        ('domain = "inria.example"\n', "", ("missing required field `domain`",)),
    ],
)
def test_typo_is_named_with_its_place_and_mend(tmp_path: Path, old: str, new: str, expected: tuple[str, ...]) -> None:
    said = problems(tmp_path, GOOD.replace(old, new))
    assert all(part in said for part in expected), said


def test_file_that_is_missing_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read.*-c"):
        config.load(tmp_path / "nothing.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path / "binary.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path)


def test_secret_comes_from_the_variable_or_the_file_and_is_never_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(tmp_path, GOOD)
    file = tmp_path / "s"
    file.write_bytes(b"from the file\r\n")
    assert secret(loaded, "s", "NOMAD_TEST") == b"from the file"
    assert secret(loaded, "", "NOMAD_TEST") == b""
    monkeypatch.setenv("NOMAD_TEST", "from the variable")
    assert secret(loaded, "s", "NOMAD_TEST") == b"from the variable"
    monkeypatch.setenv("NOMAD_TEST", "")
    assert secret(loaded, "s", "NOMAD_TEST") == b"from the file"
    file.write_bytes(b"\n")
    with pytest.raises(ConfigError, match="is empty"):
        secret(loaded, "s", "NOMAD_TEST")
    with pytest.raises(ConfigError, match="cannot be read"):
        secret(loaded, "nothing", "NOMAD_TEST")


def test_line_of_a_key_path() -> None:
    text = 'a = 1\n[t]\nb = 2\n[[g]]\nn = "x"\n[[g]]\nn = "y"\n[g.m]\nk = 1\n'
    assert [line_of(text, path) for path in ("$.a", "$.t.b", "$.g[0].n", "$.g[1].n", "$.t")] == [1, 3, 5, 7, 2]
    assert line_of(text, "$.nothing") == 0
