"""nomad.config: [radius], its embedded server and its listener for orders."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomad import config
from nomad.config import ConfigError

BASE = (
    'domain = "inria.example"\n[directory]\nurl = "file:people.ldif"\n[[pbx]]\nname = "p"\nuri = "sip:127.0.0.1:5070"\n'
)


def load(folder: Path, radius: str) -> config.Config:
    (folder / "radius.secret").write_text("s")
    path = folder / "nomad.toml"
    path.write_text(f"{BASE}[radius]\n{radius}\n")
    return config.load(path)


def test_a_radius_table_without_servers_is_the_embedded_one(tmp_path: Path) -> None:
    radius = load(tmp_path, "timeout_s = 1.0").radius
    assert radius is not None
    assert radius.embedded


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:3799", "[::1]:3799", "127.0.0.1"], ids=["address", "ipv6", "without-port"]
)
def test_who_may_disconnect(tmp_path: Path, listen: str) -> None:
    text = f'secret_file = "radius.secret"\ndisconnect_listen = "{listen}"\ndisconnect_clients = ["10.0.0.0/8", "::1"]'
    radius = load(tmp_path, text).radius
    assert radius is not None
    assert radius.disconnect_clients == ("10.0.0.0/8", "::1")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('auth = ["127.0.0.1:1812"]\nsecret_file = "radius.secret"', "radius.acct: is empty"),
        ('disconnect_clients = ["127.0.0.1"]', "radius.disconnect_clients: have no effect"),
        (
            'secret_file = "radius.secret"\ndisconnect_listen = "edge.example:3799"\ndisconnect_clients = ["::1"]',
            "radius.disconnect_listen: 'edge.example' does not appear to be an IPv4 or IPv6 address; write",
        ),
        (
            'secret_file = "radius.secret"\ndisconnect_listen = "127.0.0.1:3799"\ndisconnect_clients = []',
            "radius.disconnect_clients: is empty",
        ),
        (
            'secret_file = "radius.secret"\ndisconnect_listen = "127.0.0.1:3799"\ndisconnect_clients = ["me"]',
            r"radius.disconnect_clients\[0\]: 'me' is no address",
        ),
        ('disconnect_listen = "127.0.0.1:3799"\ndisconnect_clients = ["::1"]', "radius.secret_file: is missing"),
        (
            'disconnect_radsec_listen = "edge.example"\ndisconnect_clients = ["::1"]',
            "radius.disconnect_radsec_listen: 'edge.example' does not appear to be",
        ),
        (
            'disconnect_radsec_listen = "127.0.0.1"\ndisconnect_clients = ["::1"]',
            "radius.disconnect_radsec_listen: needs radius.certificate and radius.ca_file",
        ),
        (
            'disconnect_radsec_listen = "127.0.0.1"\ncertificate = "a"\nca_file = "b"',
            "radius.disconnect_clients: is empty",
        ),
        ("disconnect_from_servers = true", "radius.disconnect_from_servers: has no effect"),
        ('secret_file = "gone"', "radius.secret_file: file .* does not exist"),
    ],
)
def test_what_cannot_be(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(tmp_path, text)


RADSEC = 'auth = ["radsec:a", "radsec:b:2084"]\nacct = ["radsec:a"]\n'


def test_radsec_needs_no_secret_but_certificates(tmp_path: Path) -> None:
    for name in ("edge.pem", "ca.pem"):
        (tmp_path / name).write_text("")
    certificates = 'certificate = "edge.pem"\nca_file = "ca.pem"'
    assert load(tmp_path, RADSEC + certificates).radius is not None
    for text, problem in (
        (RADSEC, "radius.certificate: is missing; RadSec needs"),
        (RADSEC + 'certificate = "edge.pem"', "radius.ca_file: is missing"),
        (RADSEC + certificates.replace("edge", "gone"), "radius.certificate: file .* does not exist"),
        (RADSEC.replace("radsec:b:2084", "b") + certificates, "radius.auth: mixes RadSec and UDP"),
        (RADSEC.replace("radsec:b:2084", "radsec:b:x") + certificates, r"radius.auth\[1\]"),
        (RADSEC.replace('acct = ["radsec:a"]', 'acct = ["a"]') + certificates, "radius.secret_file: is missing"),
        (
            RADSEC + certificates + '\ndisconnect_listen = "127.0.0.1"\ndisconnect_clients = ["::1"]',
            "radius.secret_file: is missing; disconnect clients",
        ),
    ):
        with pytest.raises(ConfigError, match=problem):
            load(tmp_path, text)


def test_who_may_tell_secrets(tmp_path: Path) -> None:
    for name in ("edge.pem", "ca.pem"):
        (tmp_path / name).write_text("")
    certificates = 'certificate = "edge.pem"\nca_file = "ca.pem"\n'
    for server in ("127.0.0.1:1812", "127.9.9.9", "[::1]:1812", "radsec:radius.example"):
        text = (
            f'verify = "edge"\nauth = ["{server}"]\nacct = ["127.0.0.1"]\nsecret_file = "radius.secret"\n{certificates}'
        )
        radius = load(tmp_path, text).radius
        assert radius is not None
        assert radius.verify == "edge"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('auth = ["127.0.0.1", "192.0.2.1:1812"]', r"radius.verify: 'edge' lets '192.0.2.1:1812' send secrets"),
        ('auth = ["localhost"]', "radius.verify: 'edge' lets 'localhost' send secrets"),
        ('auth = ["radius.example"]', "name it as 'radsec:radius.example'"),
        ("", "radius.verify: has no use here"),
    ],
)
def test_secrets_do_not_travel(tmp_path: Path, text: str, problem: str) -> None:
    acct = 'acct = ["127.0.0.1"]\n' if text else ""
    with pytest.raises(ConfigError, match=problem):
        load(tmp_path, f'verify = "edge"\nsecret_file = "radius.secret"\n{acct}{text}')


def test_verify_is_one_of_two(tmp_path: Path) -> None:
    text = 'verify = "phone"\nsecret_file = "radius.secret"\nauth = ["127.0.0.1"]\nacct = ["127.0.0.1"]'
    with pytest.raises(ConfigError, match=r"radius.verify: 'phone' is neither 'server' nor 'edge'"):
        load(tmp_path, text)
