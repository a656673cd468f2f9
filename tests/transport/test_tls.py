"""TLS contexts, their reload, and whose certificate it is."""

from __future__ import annotations

import errno
import os
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest

from nomad.ports import Unavailable
from nomad.transport.tls import (
    CHECK_INTERVAL_S,
    ClientTls,
    NamedCertificate,
    ServerTls,
    check_peer,
    sip_identities,
)
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
    client = ClientTls(pki.ca).context(0.0)
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
    for wrong in ({"ca": path}, {"certificate": path}):
        with pytest.raises(Unavailable, match=r"edge\.pem"):
            ClientTls(**wrong)


def test_client_certificates(pki: Pki) -> None:
    made = pki.issue("both")
    optional = ServerTls(made.certificate, made.key, client_ca=pki.ca).context(0.0)
    demanded = ServerTls(made.certificate, made.key, client_ca=pki.ca, demand_client=True).context(0.0)
    assert optional.verify_mode == ssl.CERT_OPTIONAL
    assert demanded.verify_mode == ssl.CERT_REQUIRED
    ClientTls(pki.ca, certificate=made.certificate, key=made.key)
    ClientTls()


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = None) -> dict[str, Any]:
    """A handshake in memory; the server's certificate as the client sees it. Raises `ssl.SSLError` of either side."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(back, there, server_hostname=name),
        server.wrap_bio(there, back, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    try:
        ends[0].read(1)  # with TLS 1.3 a refusal of the client's certificate comes after the client has finished
    except ssl.SSLWantReadError:
        pass
    return ends[0].getpeercert() or {}


def names_of(certificate: dict[str, Any]) -> list[str]:
    return [value for kind, value in certificate["subjectAltName"] if kind == "DNS"]


def test_the_certificate_is_that_of_the_name_asked_for(pki: Pki, tmp_path: Path) -> None:
    made = {name: pki.issue(name, names=(name,)) for name in ("own.example", "one.example", "two.example")}
    branches = pki.issue("branches", names=("*.branch.example",))
    named = [
        NamedCertificate(("One.example",), made["one.example"].certificate, made["one.example"].key),
        NamedCertificate(("two.example", "also-two.example"), made["two.example"].certificate, made["two.example"].key),
        NamedCertificate(("*.branch.example",), branches.certificate, branches.key),
    ]
    tls = ServerTls(made["own.example"].certificate, made["own.example"].key, named=named)
    client = ClientTls(pki.ca).context(0.0)
    shown = {name: names_of(shake(tls.context(0.0), client, name)) for name in (
        "one.example", "TWO.example", "also-two.example", "paris.branch.example", "a.paris.branch.example",
        "own.example", "nobody.example", "localhost",
    )}  # fmt: skip
    assert shown == {
        "one.example": ["one.example"],
        "TWO.example": ["two.example"],
        "also-two.example": ["two.example"],
        "paris.branch.example": ["*.branch.example"],
        "a.paris.branch.example": ["own.example"],
        "own.example": ["own.example"],
        "nobody.example": ["own.example"],
        "localhost": ["own.example"],
    }
    assert names_of(shake(tls.context(0.0), client)) == ["own.example"]  # no SNI at all


def test_any_changed_file_gives_new_contexts(
    pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture, errors_expected: None
) -> None:
    own, old, new = (pki.issue(name, names=(name,)) for name in ("own.test", "old.test", "new.test"))
    certificate, key = tmp_path / "other.pem", tmp_path / "other.key"
    shutil.copy(old.certificate, certificate)
    shutil.copy(old.key, key)
    tls = ServerTls(own.certificate, own.key, named=[NamedCertificate(("x.test",), certificate, key)])
    client = ClientTls(pki.ca).context(0.0)
    shutil.copy(new.certificate, certificate)
    assert tls.context(100.0) is tls.context(101.0)  # its key has not come yet: the old pair stays
    assert names_of(shake(tls.context(101.0), client, "x.test")) == ["old.test"]
    assert [record.getMessage() for record in caplog.records] == ["certificate not reloaded"]
    shutil.copy(new.key, key)
    assert names_of(shake(tls.context(200.0), client, "x.test")) == ["new.test"]
    with pytest.raises(Unavailable, match=r"gone\.pem"):
        ServerTls(own.certificate, own.key, named=[NamedCertificate(("x",), tmp_path / "gone.pem")])


def test_what_could_not_be_read_once_is_read_again(
    pki: Pki,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    errors_expected: None,
) -> None:
    old, new = pki.issue("old", names=("old.test",)), pki.issue("new", names=("new.test",))
    shutil.copy(old.certificate, tmp_path / "own.pem")
    shutil.copy(old.key, tmp_path / "own.key")
    tls, client = ServerTls(tmp_path / "own.pem", tmp_path / "own.key"), ClientTls(pki.ca).context(0.0)
    shutil.copy(new.certificate, tmp_path / "own.pem")
    shutil.copy(new.key, tmp_path / "own.key")

    def exhausted(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(ssl.SSLContext, "load_cert_chain", exhausted)
        for now in (100.0, 200.0):
            assert names_of(shake(tls.context(now), client)) == ["old.test"]
    assert [record.getMessage() for record in caplog.records] == ["certificate not reloaded"]
    assert names_of(shake(tls.context(300.0), client)) == ["new.test"]


@pytest.mark.skipif(not hasattr(ssl, "OP_NO_RENEGOTIATION"), reason="this OpenSSL has no such option")
def test_nobody_renegotiates(pki: Pki) -> None:
    made = pki.issue("server")
    for context in (ServerTls(made.certificate, made.key).context(0.0), ClientTls(pki.ca).context(0.0)):
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION


@pytest.mark.parametrize(
    ("demanded", "shows", "lets_in"),
    [
        (False, "", True),
        (False, "ours", True),
        (False, "theirs", False),
        (True, "", False),
        (True, "ours", True),
        (True, "theirs", False),
    ],
)
def test_who_gets_in_by_a_client_certificate(
    pki: Pki, tmp_path: Path, *, demanded: bool, shows: str, lets_in: bool
) -> None:
    made, ours, theirs = pki.issue("server"), pki.issue("phone"), Pki(tmp_path / "other").issue("phone")
    named = [NamedCertificate(("other.example",), made.certificate, made.key)]
    server = ServerTls(made.certificate, made.key, named=named, client_ca=pki.ca, demand_client=demanded).context(0.0)
    phone = {"": None, "ours": ours, "theirs": theirs}[shows]
    client = ClientTls(
        pki.ca, certificate=phone.certificate if phone else None, key=phone.key if phone else None
    ).context(0.0)
    for name in ("inria.example", "other.example"):
        if lets_in:
            assert shake(server, client, name)
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
                shake(server, client, name)


@pytest.mark.parametrize(
    ("names", "uris", "right"),
    [
        (("host.example",), ("sip:pbx.example",), True),
        (("pbx.example",), (), True),
        (("*.example",), (), False),
        (("host.example",), (), False),
        (("pbx.example",), ("sip:other.example",), False),  # a SIP URI leaves no room for the rest (RFC 5922 7.1)
        (("pbx.example",), ("sip:alice@pbx.example",), True),  # a person, not a domain
    ],
)
def test_a_real_certificate_of_a_pbx(pki: Pki, names: tuple[str, ...], uris: tuple[str, ...], *, right: bool) -> None:
    made = pki.issue("pbx", names=names, uris=uris)
    shown = shake(ServerTls(made.certificate, made.key).context(0.0), ClientTls(pki.ca).context(0.0), "pbx.example")
    if right:
        check_peer(shown, "pbx.example")
    else:
        with pytest.raises(Unavailable, match="certificate"):
            check_peer(shown, "pbx.example")


def test_no_handshake_below_tls_1_2(pki: Pki) -> None:
    made = pki.issue("old")
    client = ClientTls(pki.ca).context(0.0)
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        shake(ServerTls(made.certificate, made.key).context(0.0), client)
    client = ClientTls(pki.ca).context(0.0)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shake(ServerTls(made.certificate, made.key).context(0.0), client)
