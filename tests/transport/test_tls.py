"""TLS contexts, their reload, and whose certificate it is."""

from __future__ import annotations

import os
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest

from nomad.ports import Unavailable
from nomad.transport.tls import CHECK_INTERVAL_S, ServerTls, check_peer, client_context, sip_identities
from tests.harness.pki import Pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def san(*names: tuple[str, str]) -> dict[str, Any]:
    return {"subject": ((("commonName", "cn.example"),),), "subjectAltName": names}


@pytest.mark.parametrize(
    ("certificate", "identities"),
    [
        (san(("URI", "sip:Example.com"), ("DNS", "host.example.com")), {"example.com"}),
        (san(("URI", "sip:bob@example.com"), ("DNS", "host.example.com")), {"host.example.com"}),
        (san(("URI", "sips:example.com"), ("DNS", "host.example.com")), {"host.example.com"}),
        (san(("URI", "https://example.com"), ("DNS", "A.example.com"), ("DNS", "b")), {"a.example.com", "b"}),
        (san(("URI", "sip:example.com;x=y")), {"example.com"}),
        (san(("IP Address", "127.0.0.1")), set()),
        ({"subject": ((("commonName", "CN.example"),),)}, {"cn.example"}),
        ({}, set()),
    ],
)
def test_the_domains_of_a_certificate(certificate: dict[str, Any], identities: set[str]) -> None:
    assert sip_identities(certificate) == identities


@pytest.mark.parametrize("name", ["example.com", "EXAMPLE.com", "example.com."])
def test_the_right_peer(name: str) -> None:
    check_peer(san(("URI", "sip:example.com")), name)


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        (san(("URI", "sip:example.com"), ("DNS", "host.example.com")), "host.example.com"),
        (san(("DNS", "*.example.com")), "host.example.com"),  # no wildcards, RFC 5922 7.2
        (san(("DNS", "example.com")), "example.org"),
        (san(("DNS", "example.com")), "cn.example"),
        (san(("IP Address", "127.0.0.1")), "127.0.0.2"),
        (san(("DNS", "127.0.0.1")), "127.0.0.1"),
        (None, "example.com"),
        ({}, "example.com"),
    ],
)
def test_the_wrong_peer(certificate: dict[str, Any] | None, name: str) -> None:
    with pytest.raises(Unavailable, match="certificate"):
        check_peer(certificate, name)


def test_a_peer_by_address() -> None:
    check_peer(san(("IP Address", "0:0:0:0:0:0:0:1")), "[::1]")
    check_peer(san(("IP Address", "127.0.0.1")), "127.0.0.1")


def test_old_versions_are_refused(pki: Pki) -> None:
    made = pki.issue("versions")
    server = ServerTls(made.certificate, made.key).context(0.0)
    client = client_context(pki.ca)
    assert server.minimum_version == client.minimum_version == ssl.TLSVersion.TLSv1_2
    assert client.verify_mode == ssl.CERT_REQUIRED
    assert not any(cipher["name"].startswith(("AES", "CAMELLIA")) for cipher in server.get_ciphers())


def test_a_changed_certificate_gives_a_new_context(pki: Pki, tmp_path: Path) -> None:
    first, second = pki.issue("first"), pki.issue("second")
    certificate, key = tmp_path / "edge.pem", tmp_path / "edge.key"
    shutil.copy(first.certificate, certificate)
    shutil.copy(first.key, key)
    tls = ServerTls(certificate, key)
    old = tls.context(0.0)
    assert tls.context(1.0) is old
    assert not tls.refresh()
    shutil.copy(second.certificate, certificate)
    shutil.copy(second.key, key)
    os.utime(certificate, ns=(1, 1))
    assert tls.context(CHECK_INTERVAL_S - 1) is old  # not looked at yet
    new = tls.context(CHECK_INTERVAL_S)
    assert new is not old


def test_a_bad_file_leaves_the_old_context(
    pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture, errors_expected: None
) -> None:
    made = pki.issue("kept")
    certificate, key = tmp_path / "edge.pem", tmp_path / "edge.key"
    shutil.copy(made.certificate, certificate)
    shutil.copy(made.key, key)
    tls = ServerTls(certificate, key)
    old = tls.context(0.0)
    certificate.write_text("rubbish")
    assert tls.context(100.0) is old
    certificate.unlink()
    assert not tls.refresh()
    assert tls.context(200.0) is old
    assert [record.getMessage() for record in caplog.records] == ["certificate not reloaded"] * 2


@pytest.mark.parametrize("text", [None, "rubbish"])
def test_unusable_files_at_the_start(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "edge.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Unavailable, match=r"edge\.pem"):
        ServerTls(path)
    with pytest.raises(Unavailable):
        client_context(path)


def test_client_certificates(pki: Pki) -> None:
    made = pki.issue("both")
    optional = ServerTls(made.certificate, made.key, client_ca=pki.ca).context(0.0)
    demanded = ServerTls(made.certificate, made.key, client_ca=pki.ca, demand_client=True).context(0.0)
    assert optional.verify_mode == ssl.CERT_OPTIONAL
    assert demanded.verify_mode == ssl.CERT_REQUIRED
    client_context(pki.ca, certificate=made.certificate, key=made.key)
    client_context()
