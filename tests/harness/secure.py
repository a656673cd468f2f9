"""The edge of `edge.py` on every transport, reachable as localhost too, with further lines in [sip]."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from tests.harness.edge import Edge
from tests.harness.people import DOMAIN, Person
from tests.harness.pki import Certificate, Pki
from tests.harness.ports import HOST, free_port


class SecureEdge(Edge):
    """An edge that listens on UDP and TCP at `port`, and with `pki` on TLS and WSS at ports of their own."""

    def __init__(
        self,
        folder: Path,
        *,
        pbx: str,
        port: int = 0,
        pki: Pki | None = None,
        origin: str = "",
        sip: Sequence[str] = (),
    ) -> None:
        """`sip` are lines of the table [sip], or of tables below it; pages of `origin` may open a WebSocket."""
        self.tls_port, self.wss_port = free_port(), free_port()
        self._certificate = pki.issue("edge") if pki else None
        self._origin = origin
        self._sip = tuple(sip)
        super().__init__(folder, pbx=pbx, port=port)

    @property
    def certificate(self) -> Certificate:
        """What it shows over TLS."""
        assert self._certificate is not None
        return self._certificate

    @property
    def wss(self) -> str:
        """Where browsers connect."""
        return f"wss://{HOST}:{self.wss_port}"

    def bindings(self, person: Person) -> list[dict[str, str]]:
        """Where a person is registered."""
        entries = self.get("/api/v1/registrations")["registrations"]
        return [binding for entry in entries if entry["user"] == person.login for binding in entry["bindings"]]

    def handshake(self, context: ssl.SSLContext) -> str | None:
        """Connect over TLS; the version that was agreed. Raises `OSError`."""
        with self.dial(context) as wrapped:
            return wrapped.version()

    def dial(self, context: ssl.SSLContext, name: str = "localhost") -> ssl.SSLSocket:
        """A connection over TLS to the edge by one of its names. Raises `OSError`."""
        plain = socket.create_connection((HOST, self.tls_port), 5)
        try:
            return context.wrap_socket(plain, server_hostname=name)
        except OSError:
            plain.close()
            raise

    def _config(self, *arguments: object) -> str:
        text: str = super()._config(*arguments)  # type: ignore[arg-type]  # passed on as they are
        addresses = [f"udp:{self.address}", f"tcp:{self.address}"]
        tables = next((place for place, line in enumerate(self._sip) if line.startswith("[")), len(self._sip))
        lines = [*self._sip[:tables]]
        if self._certificate:
            addresses += [f"tls:{HOST}:{self.tls_port}", f"wss:{HOST}:{self.wss_port}"]
            lines[:0] = [f'certificate = "{self._certificate.certificate}"', f'private_key = "{self._certificate.key}"']
            lines[:0] = [f'origins = ["{self._origin}"]'] if self._origin else []
        listen = ", ".join(f'"{address}"' for address in addresses)
        kept = [line for line in text.splitlines() if not line.startswith("listen = [")]
        kept.insert(kept.index("[sip]") + 1, "\n".join([f"listen = [{listen}]", *lines]))
        kept.insert(kept.index("[store]"), "\n".join(self._sip[tables:]))
        kept.insert(kept.index(f'domain = "{DOMAIN}"') + 1, 'aliases = ["localhost"]')
        return "\n".join(kept) + "\n"
