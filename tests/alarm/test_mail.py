"""Alarms by mail, to a real mail server on loopback."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nomad.alarm.mail import Mail, write
from nomad.alarm.mail import MailServer as Server
from nomad.ports import Alarm, Unavailable
from tests.harness.debian import require
from tests.harness.mail import MailServer
from tests.harness.pki import Pki
from tests.harness.ports import HOST, free_port

ALARM = Alarm(1000.0, "short_calls", "alice", "10 short calls", "198.51.100.7", ("warn", "lock"), ("+4490",))
ADMINS = ("a@inria.example", "b@inria.example")


@pytest.fixture
def server() -> Iterator[MailServer]:
    server = MailServer()
    yield server
    server.stop()


def mail(server: Server) -> Mail:
    return Mail(server, sender="nomad@inria.example", recipients=ADMINS, node="inria.example")


async def test_an_alarm_is_mailed_to_everybody(server: MailServer) -> None:
    await mail(Server(HOST, server.port, "none", timeout_s=5.0)).send(ALARM)
    (message,) = server.messages
    assert server.recipients == [list(ADMINS)]
    assert message["Subject"] == "[nomad inria.example] short_calls: alice"
    assert message["Auto-Submitted"] == "auto-generated"
    text = message.get_content()
    for part in ("10 short calls", "198.51.100.7", "warn, lock", "+4490", "nomad unlock alice"):
        assert part in text


async def test_a_server_that_says_no_is_unavailable(server: MailServer) -> None:
    server.refuse = 1
    with pytest.raises(Unavailable, match="not now"):
        await mail(Server(HOST, server.port, "none", timeout_s=5.0)).send(ALARM)
    with pytest.raises(Unavailable, match="mail: "):
        await mail(Server(HOST, server.port, "starttls", timeout_s=5.0)).send(ALARM)  # it knows no STARTTLS
    with pytest.raises(Unavailable, match="mail: "):
        await mail(Server(HOST, free_port(), "none", timeout_s=5.0)).send(ALARM)
    assert server.messages == []


async def test_starttls_with_a_login_and_a_checked_certificate(tmp_path: Path, errors_expected: None) -> None:
    """The server logs an exception when we turn away from its certificate."""
    require("openssl")
    pki = Pki(tmp_path)
    pair = pki.issue("mail")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    server = MailServer(tls=context, password="sesame")
    right = Server(HOST, server.port, "starttls", "nomad", "sesame", 5.0, str(pki.ca))
    try:
        await mail(right).send(ALARM)
        assert len(server.messages) == 1
        for wrong in (replace(right, ca_file=""), replace(right, password="guess")):
            with pytest.raises(Unavailable, match="mail: "):
                await mail(wrong).send(ALARM)
        assert len(server.messages) == 1
    finally:
        server.stop()


def test_what_a_peer_chose_writes_no_header() -> None:
    message = write(
        replace(ALARM, user="eve\r\nBcc: everybody@example.org", why="a\r\n\r\n.\r\nQUIT"),
        sender="nomad@inria.example",
        recipients=ADMINS,
        node="inria.example",
    )
    assert message["Bcc"] is None
    assert "Why:      a????.??QUIT" in message.get_content()
    assert "sesame" not in repr(Server(HOST, 25, "none", "nomad", "sesame"))
