"""radius.config: what the file may say, and how errors read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from radius.config import Attributes, Config, DirectoryTable, load, split_address, urls
from radius.errors import ConfigError

GOOD = """
domains = ["Inria.example"]
detail = "acct.jsonl"
[[client]]
address = "127.0.0.1"
secret_file = "secret"
[directory]
url = ["ldap://a:389", "ldaps://b:636"]
[directory.attributes]
login = ["uid"]
extension = "phone"
[answer]
session_timeout_s = 60
classes = ["gold"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("s3cret\n")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "radius.toml"
    path.write_text(text)
    return path


def test_a_good_file(folder: Path) -> None:
    config = load(write(folder, GOOD))
    client = config.clients().find("127.0.0.1")
    assert client is not None
    assert client.secret == b"s3cret"
    assert urls(config.directory) == ("ldap://a:389", "ldaps://b:636")
    names = config.directory.attributes.names()
    assert (names.login, names.extension, names.mail) == (("uid",), ("phone",), ("mail",))
    rules = config.rules()
    assert (rules.domains, rules.session_timeout_s, rules.classes) == (("inria.example",), 60, (b"gold",))
    assert config.path("x") == folder / "x"


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (GOOD.replace("address =", "adress ="), "client"),
        (GOOD.replace('"127.0.0.1"', '"nowhere"'), r"client\[0\].address: 'nowhere' is no address"),
        (GOOD.replace('"secret"', '"missing"'), "missing: secret cannot be read"),
        (GOOD.replace('secret_file = "secret"', ""), "set NOMAD_RADIUS_SECRET"),
        (GOOD.replace("session_timeout_s = 60", 'session_timeout_s = "x"'), "answer.session_timeout_s"),
        (GOOD.replace("session_timeout_s = 60", "session_timeout_s = -1"), "answer.session_timeout_s"),
        (GOOD.replace("gold", "g" * 254), r"answer.classes\[0\]: 1 to 253 octets"),
        ("= nonsense", "not TOML"),
        (
            GOOD.replace('"127.0.0.1"', '"192.0.2.1"\ndigest_ha1 = true'),
            r"client\[0\].digest_ha1: 192.0.2.1 is not loopback",
        ),
        (GOOD.replace('"127.0.0.1"', '"0.0.0.0/0"\ndigest_ha1 = true'), "is not loopback"),
    ],
)
def test_errors_name_file_and_key(folder: Path, wrong: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOMAD_RADIUS_SECRET", raising=False)
    with pytest.raises(ConfigError, match=text) as caught:
        load(write(folder, wrong))
    assert "radius.toml" in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give the file with -c"):
        load(tmp_path / "none.toml")


def test_secret_from_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMAD_RADIUS_SECRET", "from-outside")
    config = load(write(folder, GOOD.replace('secret_file = "secret"', "")))
    client = config.clients().find("127.0.0.1")
    assert client is not None
    assert client.secret == b"from-outside"


def test_addresses() -> None:
    assert split_address("127.0.0.1:1812") == ("127.0.0.1", 1812)
    assert split_address("[::1]:1812") == ("::1", 1812)
    for wrong in ("127.0.0.1", "::1:1812", "x:99999", ":1"):
        with pytest.raises(ConfigError):
            split_address(wrong)


def test_a_relative_database_starts_at_the_folder() -> None:
    def url(sql: str) -> str:
        return Config(client=(), directory=DirectoryTable(), sql=sql, folder="/etc/nomad").sql_url()

    assert url("sqlite:///radacct.db") == "sqlite:////etc/nomad/radacct.db"
    assert url("sqlite:////var/radacct.db") == "sqlite:////var/radacct.db"
    assert url("postgresql:///radius") == "postgresql:///radius"


def test_config_travels_as_json() -> None:
    """The parent sends it to its child like that."""
    table = DirectoryTable(url=("ldap://a", "ldap://b"), attributes=Attributes(login="uid"))
    config = Config(client=(), directory=table, domains=("x",))
    assert msgspec.json.decode(msgspec.json.encode(config), type=Config) == config
