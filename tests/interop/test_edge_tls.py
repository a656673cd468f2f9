"""TLS as the edge shows it, and browsers over WSS that talk to each other (RFC 3261 26, RFC 7118)."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

import pytest

from tests.harness.asterisk import Asterisk
from tests.harness.bridge import Bridge
from tests.harness.browser_phone import BrowserPhone
from tests.harness.chromium import Chromium, Pages
from tests.harness.people import ALICE, BOB, DOMAIN
from tests.harness.pki import Pki
from tests.harness.ports import HOST, free_port
from tests.harness.processes import wait_until
from tests.harness.secure import SecureEdge
from tests.harness.wire import new_branch, new_call_id
from tests.interop.conftest import NewFolder


@pytest.fixture(scope="module")
def tls_edge(new_folder: NewFolder, edge_port: int, asterisk: Asterisk, pki: Pki) -> Iterator[SecureEdge]:
    """An edge with a certificate before Asterisk."""
    server = SecureEdge(new_folder("edge-tls"), pbx=asterisk.uri, port=edge_port, pki=pki)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def wss_edge(new_folder: NewFolder, pages: Pages, pki: Pki) -> Iterator[SecureEdge]:
    """An edge that lets the page in, before a PBX that passes any media description."""
    port = free_port()
    bridge = Bridge(port)
    server = SecureEdge(new_folder("edge-wss"), pbx=bridge.uri, port=port, pki=pki, origin=pages.origin)
    yield server
    bridge.stop()
    server.stop()


@pytest.fixture(scope="module")
def browser(new_folder: NewFolder, pages: Pages, wss_edge: SecureEdge) -> Iterator[Chromium]:
    """Chromium with the page of the phone."""
    chromium = Chromium(new_folder("chromium") / "home", f"{pages.origin}/phone.html", certificate=wss_edge.certificate)
    yield chromium
    chromium.stop()


def test_certificate_is_shown_and_old_tls_is_refused(tls_edge: SecureEdge, pki: Pki) -> None:
    assert tls_edge.handshake(ssl.create_default_context(cafile=str(pki.ca))) == "TLSv1.3"
    old = ssl.create_default_context(cafile=str(pki.ca))
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r"(?i)ssl|tls|alert|reset"):
        tls_edge.handshake(old)


def test_certificates_by_name_and_of_phones(new_folder: NewFolder, pki: Pki) -> None:
    other, phone = pki.issue("other", names=("other.example",)), pki.issue("phone")
    lines = [f'client_certificates = "required"\nclient_ca_file = "{pki.ca}"', "[[sip.certificates]]"]
    lines += ['names = ["other.example"]', f'certificate = "{other.certificate}"', f'private_key = "{other.key}"']
    edge = SecureEdge(new_folder("edge-locked"), pbx=f"sip:{HOST}:{free_port()}", pki=pki, sip=lines)
    try:
        known = ssl.create_default_context(cafile=str(pki.ca))
        known.load_cert_chain(phone.certificate, phone.key)
        for name in ("other.example", "localhost"):
            with edge.dial(known, name) as connection:  # which checks the name
                assert ask(connection, "OPTIONS").startswith("SIP/2.0 200 ")
                # the certificate lets nobody off the digest
                assert ask(connection, "REGISTER").startswith("SIP/2.0 401 ")
        stranger = ssl.create_default_context(cafile=str(pki.ca))
        with contextlib.suppress(OSError), edge.dial(stranger) as connection:
            assert ask(connection, "OPTIONS") == ""  # closed, with or without an alert
        dropped = edge.metric("nomad_sip_dropped_total", reason="tls-handshake")
        assert (dropped, edge.log().count("reason=tls-handshake")) == (1, 1)
        with socket.create_connection((HOST, edge.tls_port), 5) as garbler:
            garbler.sendall(hello("xyz").replace(b"xyz", b"\xff\xfe\n"))  # a name that is no text
            with contextlib.suppress(ConnectionError):
                assert garbler.recv(1) in (b"", b"\x15")  # closed, with or without an alert
        wait_until(
            lambda: edge.metric("nomad_sip_dropped_total", reason="tls-handshake") == 2, timeout_s=5, what="a refusal"
        )
    finally:
        edge.stop()  # raises when the log has a traceback


def hello(name: str) -> bytes:
    """What a client says first when it wants to talk to this name."""
    context, heard, said = ssl.create_default_context(), ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(heard, said, server_hostname=name).do_handshake()
    return said.read()


def ask(connection: ssl.SSLSocket, method: str) -> str:
    """The beginning of the answer to a request."""
    lines = [f"{method} sip:{DOMAIN} SIP/2.0", f"Via: SIP/2.0/TLS {HOST};branch={new_branch()};rport"]
    lines += ["Max-Forwards: 70", f"From: <sip:alice@{DOMAIN}>;tag=1", f"To: <sip:alice@{DOMAIN}>"]
    lines += [f"Call-ID: {new_call_id()}", f"CSeq: 1 {method}", "Content-Length: 0", "", ""]
    connection.settimeout(5)
    connection.sendall("\r\n".join(lines).encode())
    return connection.recv(4096).decode()


def test_browser_registers_and_its_registration_dies_with_its_connection(
    browser: Chromium, wss_edge: SecureEdge
) -> None:
    phone = BrowserPhone(browser, ALICE, wss_edge.wss)
    phone.register()
    assert [binding["transport"] for binding in wss_edge.bindings(ALICE)] == ["wss"]
    phone.drop()
    wait_until(lambda: not wss_edge.bindings(ALICE), timeout_s=5, what="registration gone")


def test_browser_calls_browser(browser: Chromium, wss_edge: SecureEdge) -> None:
    alice, bob = (BrowserPhone(browser, person, wss_edge.wss) for person in (ALICE, BOB))
    alice.register()
    bob.register()
    browser.evaluate(f"phones.alice.user.call('sip:{BOB.extension}@{DOMAIN}')")
    bob.answer()
    alice.wait("answered")
    for phone in (alice, bob):
        phone.wait_packets(25)
    assert {call["direction"] for call in wss_edge.get("/api/v1/calls")["calls"]} == {"in", "out"}
    bob.hangup()
    alice.wait("hangup")
    wait_until(lambda: len(wss_edge.cdrs()) == 2, timeout_s=5, what="call records")
    assert {(cdr["direction"], cdr["user"], cdr["result"]) for cdr in wss_edge.cdrs()} == {
        ("out", ALICE.login, "answered"),
        ("in", BOB.login, "answered"),
    }


def test_browser_of_another_page_is_not_let_in(
    browser: Chromium, pages: Pages, new_folder: NewFolder, pki: Pki, wss_edge: SecureEdge
) -> None:
    strict = SecureEdge(
        new_folder("edge-strict"), pbx=f"sip:{HOST}:{free_port()}", pki=pki, origin="https://phone.example"
    )
    try:
        url = strict.wss
        opened = f"new Promise((done) => {{ const socket = new WebSocket('{url}', 'sip'); "
        opened += "socket.onopen = () => done('open'); socket.onerror = () => done('refused'); })"
        assert browser.evaluate(opened) == "refused"
    finally:
        strict.stop()
