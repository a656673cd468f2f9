"""Real phones on every transport before a real Asterisk: each registers, calls and is called, heard both ways.

baresip over UDP, TCP and TLS; SIP.js in Chromium over WSS, whose WebRTC media Asterisk itself takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.harness.asterisk import TONE_HZ, Asterisk
from tests.harness.baresip import Baresip
from tests.harness.browser_phone import BrowserPhone
from tests.harness.chromium import MICROPHONE_HZ, Chromium, Pages
from tests.harness.people import ALICE, DOMAIN
from tests.harness.pki import Pki
from tests.harness.ports import HOST
from tests.harness.processes import wait_until
from tests.harness.secure import SecureEdge
from tests.interop.conftest import NewFolder, NewPhone

ECHO = f"sip:1001@{DOMAIN}"  # Asterisk records what it hears there


class AnyPhone(Protocol):
    """What the test does with a phone of either kind; each step waits for what it causes."""

    endpoint: str  # the name by which Asterisk calls such phones

    def register(self) -> None: ...

    def call_echo(self) -> None: ...

    def answer_and_hear(self, hz: int) -> None: ...

    def gone(self) -> None: ...


class SoftPhone:
    """baresip."""

    endpoint = "nomad"

    def __init__(self, phone: Baresip) -> None:
        self._phone = phone

    def register(self) -> None:
        assert self._phone.register()["type"] == "REGISTER_OK"

    def call_echo(self) -> None:
        assert self._phone.call(ECHO)["type"] == "CALL_ESTABLISHED"
        self._phone.wait_audio(seconds=1.5)
        self._phone.hangup()
        self._phone.wait("CALL_CLOSED")
        assert self._phone.heard(MICROPHONE_HZ)

    def answer_and_hear(self, hz: int) -> None:
        self._phone.wait("CALL_INCOMING")
        self._phone.accept()
        self._phone.wait("CALL_ESTABLISHED")
        self._phone.wait_audio(seconds=1.0)

    def gone(self) -> None:
        self._phone.wait("CALL_CLOSED")
        assert self._phone.heard(TONE_HZ)


class PageCaller:
    """SIP.js."""

    endpoint = "nomad-browsers"

    def __init__(self, phone: BrowserPhone) -> None:
        self._phone = phone

    def register(self) -> None:
        self._phone.register()

    def call_echo(self) -> None:
        self._phone.dial(ECHO)
        self._phone.wait_tone(MICROPHONE_HZ)
        self._phone.wait_packets(75)
        self._phone.hangup()
        self._phone.wait("hangup")

    def answer_and_hear(self, hz: int) -> None:
        self._phone.answer()
        self._phone.wait_tone(hz)

    def gone(self) -> None:
        self._phone.wait("hangup")


@pytest.fixture(scope="module")
def every_edge(
    new_folder: NewFolder, edge_port: int, asterisk: Asterisk, pki: Pki, pages: Pages
) -> Iterator[SecureEdge]:
    """An edge on every transport before Asterisk."""
    server = SecureEdge(new_folder("edge-every"), pbx=asterisk.uri, port=edge_port, pki=pki, origin=pages.origin)
    yield server
    server.stop()


@pytest.fixture
def phone_over(
    every_edge: SecureEdge, new_phone: NewPhone, pki: Pki, pages: Pages, tmp_path: Path
) -> Iterator[Callable[[str], AnyPhone]]:
    """Makes a phone of Alice's for a transport."""
    browsers: list[Chromium] = []

    def make(transport: str) -> AnyPhone:
        if transport == "wss":
            certificate = every_edge.certificate
            browsers.append(Chromium(tmp_path / "home", f"{pages.origin}/phone.html", certificate=certificate))
            return PageCaller(BrowserPhone(browsers[0], ALICE, every_edge.wss))
        port = every_edge.tls_port if transport == "tls" else every_edge.port
        address = f"sip:{ALICE.login}@{DOMAIN}"
        outbound = f"sip:{HOST}:{port}"
        return SoftPhone(new_phone("p", address, ALICE.password, outbound=outbound, transport=transport, ca=pki.ca))

    yield make
    for browser in browsers:
        browser.stop()


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls", "wss"])
def test_registers_calls_asterisk_and_is_called_by_it(
    every_edge: SecureEdge, asterisk: Asterisk, phone_over: Callable[[str], AnyPhone], transport: str
) -> None:
    phone = phone_over(transport)
    phone.register()
    assert [binding["transport"] for binding in every_edge.bindings(ALICE)] == [transport]
    before = len(every_edge.cdrs())
    phone.call_echo()
    asterisk.wait_idle()
    assert asterisk.heard(MICROPHONE_HZ)
    asterisk.originate(ALICE.extension, endpoint=phone.endpoint)
    phone.answer_and_hear(TONE_HZ)
    asterisk.hang_up_all()
    phone.gone()
    asterisk.wait_idle()
    wait_until(lambda: len(every_edge.cdrs()) == before + 2, timeout_s=5, what="call records")
    assert [(each["direction"], each["result"]) for each in every_edge.cdrs()[:2]] == [
        ("in", "answered"),
        ("out", "answered"),
    ]
