"""Alarms by mail: smtplib in a thread, one mail at a time. They are few: no library for many at once is needed."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import make_msgid

from nomad.ports import Alarm, Unavailable


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed in."""

    host: str
    port: int
    security: str  # starttls, tls or none
    user: str = ""
    password: str = field(default="", repr=False)
    timeout_s: float = 10.0
    ca_file: str = ""  # "" means the authorities of the system


class Mail:
    """Mails from one sender to the admins."""

    def __init__(self, server: MailServer, *, sender: str, recipients: tuple[str, ...], node: str) -> None:
        self._server = server
        self._sender = sender
        self._recipients = recipients
        self._node = node

    async def send(self, alarm: Alarm) -> None:
        """Return when the mail server took it. Raises `Unavailable`."""
        message = write(alarm, sender=self._sender, recipients=self._recipients, node=self._node)
        try:
            await asyncio.to_thread(_hand_in, self._server, message)
        except (smtplib.SMTPException, OSError) as error:  # a timeout and a bad certificate are OSErrors
            raise Unavailable(f"mail: {error}") from None


def write(alarm: Alarm, *, sender: str, recipients: tuple[str, ...], node: str) -> EmailMessage:
    """The mail. What peers chose is on lines of its own and made printable: it cannot write headers."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = _plain(f"[nomad {node}] {alarm.rule}: {alarm.user}")
    message["Date"] = datetime.fromtimestamp(alarm.at, UTC)
    message["Message-ID"] = make_msgid(domain=node)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notices back
    lines = [
        f"Account:  {alarm.user}",
        f"Rule:     {alarm.rule}",
        f"Why:      {alarm.why}",
        f"From:     {alarm.peer or '-'}",
        f"Done:     {', '.join(alarm.done)}",
        *([f"Ended:    calls to {', '.join(alarm.calls)}"] if alarm.calls else []),
    ]
    text = "\n".join(_plain(line) for line in lines)
    message.set_content(f"{text}\n\nMore: nomad audit; nomad locks; nomad unlock {_plain(alarm.user)}\n")
    return message


def _hand_in(server: MailServer, message: EmailMessage) -> None:
    context = ssl.create_default_context(cafile=server.ca_file or None)
    if server.security == "tls":
        client: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=server.timeout_s, context=context)
    else:
        client = smtplib.SMTP(server.host, server.port, timeout=server.timeout_s)
    with client:
        if server.security == "starttls":
            client.starttls(context=context)
        if server.user:
            client.login(server.user, server.password)
        client.send_message(message)


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
