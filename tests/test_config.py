from __future__ import annotations

from pathlib import Path

import pytest

from nomad import config
from nomad.config import Config, ConfigError, line_of, parse_listen, secret, split_host_port
from nomad.edge.trunks import make_trunk

GOOD = """
domain = "inria.example"
policy = "policy.toml"

[sip]
listen = ["udp:127.0.0.1:5060"]

[directory]
url = "file:people.ldif"

[[pbx]]
name = "asterisk"
uri = "sip:127.0.0.1:5070"
"""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOMAD_RADIUS_SECRET", "NOMAD_ADMIN_TOKEN", "NOMAD_PBX_PASSWORD", "NOMAD_DIRECTORY_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


def load(folder: Path, text: str) -> Config:
    (folder / "policy.toml").write_text("")
    path = folder / "nomad.toml"
    path.write_text(text)
    return config.load(path)


def problems(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as wrong:
        load(folder, text)
    return str(wrong.value)


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
        ("[sip]", "[sip", ("not TOML",)),
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


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('"inria.example"', '"inria example"', "domain: 'inria example' is no domain name"),
        ("[sip]", 'aliases = ["a b"]\n[sip]', "aliases: 'a b' is no domain name"),
        ("udp:127.0.0.1:5060", "sctp:127.0.0.1:5060", "sip.listen[0]: 'sctp:127.0.0.1:5060': transport must be"),
        ("udp:127.0.0.1:5060", "udp", "sip.listen[0]: 'udp': address missing"),
        ("udp:127.0.0.1:5060", "udp:::1", "sip.listen[0]: '::1': write host:port, with an IPv6 address in brackets"),
        ("udp:127.0.0.1:5060", "udp:127.0.0.1:99999", "port 99999 is above 65535"),
        ("udp:127.0.0.1:5060", "tls:127.0.0.1:5061", "needs sip.certificate"),
        ('["udp:127.0.0.1:5060"]', "[]", "sip.listen: is empty"),
        ("[sip]", '[sip]\ndigest = ["SHA-1"]', "sip.digest[0]: 'SHA-1' is not one of"),
        ("[sip]", '[sip]\ndigest_qop = ["none"]', "sip.digest_qop"),
        ("[sip]", "[sip]\nmin_expires_s = 4000", "min_expires_s <= default_expires_s"),
        ("[sip]", "[sip]\nmin_expires_s = 0", "sip.min_expires_s: must be above 0"),
        ("[sip]", "[sip]\nnonce_lifetime_s = 0", "sip.nonce_lifetime_s: must be above 0"),
        ("[sip]", "[sip]\ntimer_c_s = -1.0", "sip.timer_c_s: must be above 0"),
        ("[sip]", "[sip]\nmax_transactions = 0", "sip.max_transactions: must be above 0"),
        ("[sip]", '[sip]\ncertificate = "no.pem"', "sip.certificate: file"),
        ("[sip]", '[sip]\nprivate_key = "no.pem"', "sip.private_key: file"),
        ("[sip]", '[sip]\nnonce_key_file = "no.key"', "sip.nonce_key_file: file"),
        ('url = "file:people.ldif"', "", "directory.url: is missing"),
        ("[directory]", '[directory]\nbind_password_file = "no.secret"', "directory.bind_password_file: file"),
        ('[[pbx]]\nname = "asterisk"\nuri = "sip:127.0.0.1:5070"', "", "pbx: no [[pbx]] is configured"),
        ("sip:127.0.0.1:5070", "127.0.0.1:5070", "pbx[0].uri"),
        ("sip:127.0.0.1:5070", "sip:1000@127.0.0.1", "pbx[0].uri"),
        ("[[pbx]]", '[[pbx]]\nextensions = "["', "pbx[0].extensions: no regular expression"),
        ("[[pbx]]", '[[pbx]]\ntrusted = ["pbx.example"]', "pbx[0].trusted[0]"),
        ("[[pbx]]", '[[pbx]]\ntrusted = ["127.0.0.1", "10.0.0.0/33"]', "pbx[0].trusted[1]"),
        ("[[pbx]]", '[[pbx]]\ntrusted = ["0.0.0.0/0"]', "is everybody"),
        ("[[pbx]]", '[[pbx]]\npassword_file = "no.secret"', "pbx[0].password_file: file"),
        ("[directory]", '[media]\nrelay = "magic"\n[directory]', "media.relay"),
        ("[directory]", '[guard]\nnever_ban = ["all"]\n[directory]', "guard.never_ban[0]"),
        ("[directory]", '[admin]\nlisten = "0.0.0.0:8080"\n[directory]', "admin.listen: is not loopback"),
        ("[directory]", '[admin]\nlisten = "a b"\n[directory]', "admin.listen"),
        ("[directory]", '[admin]\ntoken_file = "no.token"\n[directory]', "admin.token_file: file"),
        ('"policy.toml"', '"no.toml"', "policy: file"),
    ],
)
def test_every_check(tmp_path: Path, old: str, new: str, key: str) -> None:
    assert old in GOOD
    assert key in problems(tmp_path, GOOD.replace(old, new, 1))


def test_every_finding_is_listed(tmp_path: Path) -> None:
    text = GOOD.replace("sip:127.0.0.1:5070", "nowhere").replace('"policy.toml"', '"no.toml"')
    assert len(problems(tmp_path, text).splitlines()) == 2


@pytest.mark.parametrize(
    "trusted", ["127.0.0.1", "127.0.0.1:5070", "10.0.0.0/8", "::1", "[::1]:5070", "fd00::/8", "[::1]"]
)
def test_what_a_trusted_address_may_look_like(tmp_path: Path, trusted: str) -> None:
    loaded = load(tmp_path, GOOD.replace("[[pbx]]", f'[[pbx]]\ntrusted = ["{trusted}"]'))
    trunk = make_trunk(loaded.pbx[0], addresses=[])
    inside = {"10.0.0.0/8": "10.1.2.3", "fd00::/8": "fd00::1"}.get(trusted, "::1" if "::" in trusted else "127.0.0.1")
    assert trunk.is_source((inside, 5070))
    assert trunk.is_source((inside, 5071)) is not trusted.endswith("5070")
    assert not trunk.is_source(("192.0.2.9", 5070))


@pytest.mark.parametrize("role", ["auth", "acct"])
def test_radius_servers(tmp_path: Path, role: str) -> None:
    (tmp_path / "s").write_text("x")
    whole = GOOD + '[radius]\nauth = ["h:1"]\nacct = ["h:2"]\nsecret_file = "s"\n'
    assert load(tmp_path, whole).radius is not None
    assert f"radius.{role}[0]" in problems(tmp_path, whole.replace(f'{role} = ["h', f'{role} = ["h h'))
    assert "radius.dialect" in problems(tmp_path, whole + 'dialect = "x"\n')
    assert "radius.timeout_s" in problems(tmp_path, whole + "timeout_s = 0.0\n")
    assert "radius.secret_file: file" in problems(tmp_path, whole.replace('"s"', '"no"'))
    assert "radius.secret_file: is missing" in problems(tmp_path, whole.replace('secret_file = "s"', ""))


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


def test_empty_token_variable_does_not_open_the_admin_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMAD_ADMIN_TOKEN", "")
    text = GOOD + '[admin]\nlisten = "0.0.0.0:8080"\n'
    assert "admin.listen: is not loopback" in problems(tmp_path, text)
    monkeypatch.setenv("NOMAD_ADMIN_TOKEN", "t")
    load(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h:1", ("h", 1)),
        ("h", ("h", 9)),
        ("[::1]:5", ("::1", 5)),
        ("[::1]", ("::1", 9)),
        ("1.2.3.4:0", ("1.2.3.4", 0)),
    ],
)
def test_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert split_host_port(text, 9) == expected


@pytest.mark.parametrize("text", ["", ":5", "::1", "h:", "h:x", "h:65536", "a b", "[::1", "h:１"])
def test_host_and_port_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        split_host_port(text, 9)


def test_listen_has_default_ports() -> None:
    assert [parse_listen(f"{t}:h").port for t in ("udp", "tcp", "tls", "ws", "wss")] == [5060, 5060, 5061, 5062, 5063]


def test_line_of_a_key_path() -> None:
    text = 'a = 1\n[t]\nb = 2\n[[g]]\nn = "x"\n[[g]]\nn = "y"\n[g.m]\nk = 1\n'
    assert [line_of(text, path) for path in ("$.a", "$.t.b", "$.g[0].n", "$.g[1].n", "$.t")] == [1, 3, 5, 7, 2]
    assert line_of(text, "$.nothing") == 0
