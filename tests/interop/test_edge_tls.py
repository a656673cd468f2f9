"""Real phones over TLS and from a browser over WSS: each registers, calls and is called (RFC 3261 26, RFC 7118)."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from tests.harness.asterisk import TONE_HZ, Asterisk
from tests.harness.bridge import Bridge
from tests.harness.chromium import Chromium, Pages
from tests.harness.debian import require
from tests.harness.people import ALICE, BOB, DOMAIN, Person
from tests.harness.pki import Pki
from tests.harness.ports import HOST, free_port
from tests.harness.processes import wait_until
from tests.harness.secure import SecureEdge
from tests.interop.conftest import NewFolder, NewPhone


@pytest.fixture(scope="module")
def tls_edge(new_folder: NewFolder, edge_port: int, asterisk: Asterisk, pki: Pki) -> Iterator[SecureEdge]:
    """An edge with a certificate before Asterisk."""
    server = SecureEdge(new_folder("edge-tls"), pbx=asterisk.uri, port=edge_port, pki=pki)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def pages(new_folder: NewFolder) -> Iterator[Pages]:
    """The web server with the browser's phone."""
    require("chromium")
    server = Pages(new_folder("pages") / "site")
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


def bindings(edge: SecureEdge, person: Person) -> list[dict[str, str]]:
    entries = edge.get("/api/v1/registrations")["registrations"]
    return [binding for entry in entries if entry["user"] == person.login for binding in entry["bindings"]]


def start(browser: Chromium, edge: SecureEdge, person: Person) -> None:
    """A phone of this person in the page, registered over WSS."""
    arguments = [person.login, f"wss://{HOST}:{edge.wss_port}", f"sip:{person.login}@{DOMAIN}", person.login]
    browser.evaluate(f"start(...{[*arguments, person.password]})")
    wait_event(browser, person, "registered")


def wait_event(browser: Chromium, person: Person, event: str) -> None:
    text = f"phones.{person.login}.events.includes('{event}')"
    wait_until(lambda: browser.evaluate(text), timeout_s=10, what=f"{person.login}: {event}")


def test_baresip_talks_over_tls(tls_edge: SecureEdge, asterisk: Asterisk, new_phone: NewPhone, pki: Pki) -> None:
    outbound = f"sip:{HOST}:{tls_edge.tls_port}"
    address = f"sip:{ALICE.login}@{DOMAIN}"
    phone = new_phone("tls", address, ALICE.password, outbound=outbound, transport="tls", ca=pki.ca)
    assert phone.register()["type"] == "REGISTER_OK"
    assert [binding["transport"] for binding in bindings(tls_edge, ALICE)] == ["tls"]
    assert phone.call(f"sip:1001@{DOMAIN}")["type"] == "CALL_ESTABLISHED"
    phone.wait_audio(seconds=1.0)
    phone.hangup()
    phone.wait("CALL_CLOSED")
    asterisk.wait_idle()
    assert phone.heard(440)
    asterisk.originate(ALICE.extension)
    phone.wait("CALL_INCOMING")
    phone.accept()
    phone.wait("CALL_ESTABLISHED")
    phone.wait_audio(seconds=1.0)
    asterisk.hang_up_all()
    phone.wait("CALL_CLOSED")
    assert phone.heard(TONE_HZ)


def test_certificate_is_shown_and_old_tls_is_refused(tls_edge: SecureEdge, pki: Pki) -> None:
    assert tls_edge.handshake(ssl.create_default_context(cafile=str(pki.ca))) == "TLSv1.3"
    old = ssl.create_default_context(cafile=str(pki.ca))
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r"(?i)ssl|tls|alert|reset"):
        tls_edge.handshake(old)


def test_browser_registers_and_its_registration_dies_with_its_connection(
    browser: Chromium, wss_edge: SecureEdge
) -> None:
    start(browser, wss_edge, ALICE)
    assert [binding["transport"] for binding in bindings(wss_edge, ALICE)] == ["wss"]
    browser.evaluate("phones.alice.drop()")
    wait_until(lambda: not bindings(wss_edge, ALICE), timeout_s=5, what="registration gone")


def test_browser_calls_browser(browser: Chromium, wss_edge: SecureEdge) -> None:
    start(browser, wss_edge, ALICE)
    start(browser, wss_edge, BOB)
    browser.evaluate(f"phones.alice.user.call('sip:{BOB.extension}@{DOMAIN}')")
    wait_event(browser, BOB, "received")
    browser.evaluate("phones.bob.user.answer()")
    wait_event(browser, ALICE, "answered")
    for name in ("alice", "bob"):
        heard = f"phones.{name}.received().then((packets) => packets > 25)"
        wait_until(lambda heard=heard: browser.evaluate(heard), timeout_s=10, what=f"audio at {name}")  # type: ignore[misc]
    assert {call["direction"] for call in wss_edge.get("/api/v1/calls")["calls"]} == {"in", "out"}
    browser.evaluate("phones.bob.user.hangup()")
    wait_event(browser, ALICE, "hangup")
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
        url = f"wss://{HOST}:{strict.wss_port}"
        opened = f"new Promise((done) => {{ const socket = new WebSocket('{url}', 'sip'); "
        opened += "socket.onopen = () => done('open'); socket.onerror = () => done('refused'); })"
        assert browser.evaluate(opened) == "refused"
    finally:
        strict.stop()
