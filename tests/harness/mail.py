"""A mail server on loopback (aiosmtpd) that keeps what it is handed."""

from __future__ import annotations

import ssl
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope

from tests.harness.ports import HOST, free_port


class MailServer:
    """Takes mail; `refuse` makes it say no for a while, `password` makes it ask for a login."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, password: str = "") -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.refuse = 0
        self._password = password
        self.port = free_port()
        options: dict[str, Any] = {"tls_context": tls, "require_starttls": tls is not None}
        if password:
            options |= {"authenticator": self._check, "auth_required": True, "auth_require_tls": tls is not None}
        self._controller = Controller(self, hostname=HOST, port=self.port, **options)
        self._controller.start()

    @property
    def address(self) -> str:
        """host:port."""
        return f"{HOST}:{self.port}"

    def stop(self) -> None:
        """End it."""
        self._controller.stop()

    async def handle_DATA(self, server: object, session: object, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        """One mail."""
        if self.refuse:
            self.refuse -= 1
            return "451 not now"
        content = envelope.content
        assert isinstance(content, bytes)
        self.messages.append(message_from_bytes(content, policy=policy.default))
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 taken"

    def _check(self, server: object, session: object, envelope: object, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data.password == self._password.encode())
