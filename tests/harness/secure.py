"""The edge of `edge.py` on every transport, reachable as localhost too, with further lines in [sip]."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.harness.edge import Edge
from tests.harness.people import DOMAIN
from tests.harness.pki import Pki
from tests.harness.ports import HOST, free_port


class SecureEdge(Edge):
    """An edge that listens on UDP and TCP at `port`, and with `pki` on TLS and WSS at ports of their own."""

    def __init__(
        self, folder: Path, *, pbx: str, port: int = 0, pki: Pki | None = None, sip: Sequence[str] = ()
    ) -> None:
        """`sip` are lines of the table [sip], or of tables below it."""
        self.tls_port, self.wss_port = free_port(), free_port()
        self._certificate = pki.issue("edge") if pki else None
        self._sip = tuple(sip)
        super().__init__(folder, pbx=pbx, port=port)

    def _config(self, *arguments: object) -> str:
        text: str = super()._config(*arguments)  # type: ignore[arg-type]  # passed on as they are
        addresses = [f"udp:{self.address}", f"tcp:{self.address}"]
        tables = next((place for place, line in enumerate(self._sip) if line.startswith("[")), len(self._sip))
        lines = [*self._sip[:tables]]
        if self._certificate:
            addresses += [f"tls:{HOST}:{self.tls_port}", f"wss:{HOST}:{self.wss_port}"]
            lines[:0] = [f'certificate = "{self._certificate.certificate}"', f'private_key = "{self._certificate.key}"']
            lines[:0] = ['origins = ["*"]']
        listen = ", ".join(f'"{address}"' for address in addresses)
        kept = [line for line in text.splitlines() if not line.startswith("listen = [")]
        kept.insert(kept.index("[sip]") + 1, "\n".join([f"listen = [{listen}]", *lines]))
        kept.insert(kept.index("[store]"), "\n".join(self._sip[tables:]))
        kept.insert(kept.index(f'domain = "{DOMAIN}"') + 1, 'aliases = ["localhost"]')
        return "\n".join(kept) + "\n"
