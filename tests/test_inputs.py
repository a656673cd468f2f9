from __future__ import annotations

import resource
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from nomad import config
from nomad.config import Config, Pbx
from nomad.edge.trunks import Trunks, make_trunk
from nomad.inputs import (
    check,
    client_tls,
    inside_addresses,
    load_ruleset,
    load_trunks,
    nonce_key,
    server_tls,
    store_url,
    stream_limits,
    trusted_addresses,
)
from nomad.ports import Target, Unavailable
from nomad.sip.uri import Uri
from tests.harness.pki import Pki
from tests.harness.settings import GOOD, load


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "policy.toml").write_text("")
    file = tmp_path / "nomad.toml"
    file.write_text(GOOD)
    return file


def test_check_names_what_is_wrong_in_both_files(path: Path) -> None:
    assert check(path).problems == ()
    (path.parent / "policy.toml").write_text('[[group]]\nname = "x"\nmatch = { default = true }\nallow = ["no"]\n')
    (finding,) = check(path).problems
    assert "no class 'no'" in finding
    path.write_text("domain = 5")
    assert "domain" in check(path).problems[0]


def test_a_policy_that_asks_for_countries_needs_a_file_of_them(path: Path) -> None:
    policy = 'deny = ["abroad"]\n[classes]\nemergency = ["112"]\nabroad = ["+"]\n'
    group = '[[group]]\nname = "{}"\nmatch = {{ users = ["{}"] }}\ncountries = ["{}"]\n'
    file = path.parent / "policy.toml"
    file.write_text(policy + group.format("home", "a", "local"))
    assert check(path).warnings == ()
    file.write_text(policy + group.format("home", "a", "local") + group.format("travel", "b", "FR"))
    (warning,) = check(path).warnings
    assert "groups travel ask for countries, but geoip in nomad.toml names no file" in warning


@pytest.mark.parametrize(
    ("expensive", "warning"),
    [
        ("", "has no class international or premium, so no call is watched for what it costs; name those that cost "),
        ('expensive = ["abraod"]', "has no class 'abraod', so it is not watched; did you mean 'abroad'?"),
        ('expensive = ["x"]', "has no class 'x', so it is not watched; classes are abroad, banned, emergency"),
        ('expensive = ["abroad"]', ""),
        ("expensive = []", ""),
    ],
)
def test_classes_that_the_watch_over_accounts_does_not_find(path: Path, expensive: str, warning: str) -> None:
    """A slip of the pen would switch it off, and nobody would know before the bill."""
    path.write_text(f"{GOOD}\n[fraud]\n{expensive}\n")
    classes = '[classes]\nemergency = ["112"]\nabroad = ["+"]\nbanned = ["+882"]\n'
    group = '[[group]]\nname = "a"\nmatch = { default = true }\nallow = ["abroad"]\n'
    (path.parent / "policy.toml").write_text(f'deny = ["banned"]\n{classes}{group}')
    found = check(path).warnings
    assert [text.startswith("fraud.expensive: ") and warning in text for text in found] == [True] * bool(warning)


def test_a_finding_names_the_line_of_its_key(path: Path) -> None:
    path.write_text(f"{GOOD}\n[fraud]\nshort_calls = {{ limit = 0 }}\n")
    line = path.read_text().splitlines().index("short_calls = { limit = 0 }") + 1
    assert check(path).problems == (f"{path}:{line}: fraud.short_calls.limit: must be from 1 to 500",)


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


def test_what_phones_are_shown_over_tls(tmp_path: Path) -> None:
    assert server_tls(load(tmp_path, GOOD)) is None
    pki = Pki(tmp_path / "pki")
    own, other = pki.issue("own"), pki.issue("other")
    text = GOOD.replace(
        "[directory]",
        f'certificate = "{own.certificate}"\nprivate_key = "{own.key}"\n'
        f'client_certificates = "required"\nclient_ca_file = "{pki.ca}"\n'
        f'[[sip.certificates]]\nnames = ["a.example"]\n'
        f'certificate = "{other.certificate}"\nprivate_key = "{other.key}"\n'
        "[directory]",
        1,
    )
    tls = server_tls(load(tmp_path, text))
    assert tls is not None
    context = tls.context(0.0)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.sni_callback is not None
    optional = server_tls(load(tmp_path, text.replace('"required"', '"optional"')))
    assert optional is not None
    assert optional.context(0.0).verify_mode == ssl.CERT_OPTIONAL


def test_the_address_that_a_pbx_sees() -> None:
    def inside(trusted: str, *listens: str) -> dict[str, str]:
        trunk = make_trunk(Pbx(name="a", uri="sip:127.0.0.1:5070", trusted=(trusted,)), places=[("127.0.0.1", 5070)])
        return inside_addresses(Trunks([trunk]), [("udp", host, 5060) for host in listens])

    assert inside("127.0.0.1", "0.0.0.0") == {"127.0.0.1": "127.0.0.1"}
    assert inside("127.0.0.9:5070", "203.0.113.7", "127.0.0.2").keys() == {"127.0.0.1", "127.0.0.9"}
    assert inside("127.0.0.0/24", "::") == {}


async def test_a_pbx_that_does_not_resolve_is_trusted_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Nothing:
        async def resolve(self, uri: Uri) -> Sequence[Target]:
            raise Unavailable("no DNS")

    loaded = load(tmp_path, GOOD.replace("sip:127.0.0.1:5070", "sip:pbx.example"))
    known = Trunks([make_trunk(loaded.pbx[0], places=[("192.0.2.1", 5060)])])
    for before, trusted in ((None, []), (known, ["192.0.2.1"])):
        trunks = await load_trunks(loaded, Nothing(), known=before)  # type: ignore[arg-type]  # as far as it is used
        assert trusted_addresses(Trunks(trunks)) == trusted
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_what_a_pbx_is_shown_over_tls(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    shown, named = pki.issue("shown"), f'ca_file = "{pki.ca}"\n'
    named += f'pbx_certificate = "{shown.certificate}"\npbx_private_key = "{shown.key}"\n'
    context = client_tls(load(tmp_path, GOOD.replace("[directory]", f"{named}[directory]", 1))).context(0.0)
    assert [each["subject"] for each in context.get_ca_certs()] == [((("commonName", "Nomad test CA"),),)]
    wrong = named.replace(str(shown.key), str(pki.issue("other").key))
    with pytest.raises(Unavailable, match=r"shown\.pem"):
        client_tls(load(tmp_path, GOOD.replace("[directory]", f"{wrong}[directory]", 1)))


@pytest.mark.parametrize(
    ("files", "connections"),
    [(65536, 10_000), (1024, 768), (100, 1), (resource.RLIM_INFINITY, 10_000)],
)
def test_connections_leave_files_for_the_rest(files: int, connections: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert stream_limits(Config(domain="inria.example")).connections == connections
