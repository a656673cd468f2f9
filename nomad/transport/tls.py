"""TLS contexts of the edge: TLS 1.2 and later, certificates chosen by the name that a client asks for and read again
when their files change, and the check that a peer is the SIP domain it should be (RFC 5922). Opens no connections.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomad import log
from nomad.ports import Unavailable

logger = logging.getLogger(__name__)

CHECK_INTERVAL_S = 5.0
# TLS 1.2 suites with forward secrecy and authenticated encryption; those of TLS 1.3 are all of that kind.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL:!PSK"


@dataclass(frozen=True, slots=True)
class NamedCertificate:
    """A certificate for clients that ask for one of these names (RFC 6066 3); "*.x" stands for one label below x."""

    names: tuple[str, ...]
    certificate: Path
    key: Path | None = None


class _Following:
    """A context that follows its files; connections that are open keep what they have."""

    def __init__(self) -> None:
        """Reads the files at once. Raises `Unavailable` when they are unusable."""
        self._seen = self._signature()
        self._refused: tuple[object, ...] = ()  # what could not be loaded, and was logged
        self._check_at = 0.0
        try:
            self._context = self._load()
        except Unusable as error:
            raise Unavailable(f"certificate {error}") from None

    def context(self, now: float) -> ssl.SSLContext:
        """The context to use; looks at the files once in a while. `now` is the monotonic clock."""
        if now >= self._check_at:
            self._check_at = now + CHECK_INTERVAL_S
            self.refresh()
        return self._context

    def refresh(self) -> bool:
        """Read the files if they changed; whether there is a new context. A bad file leaves the old one in use."""
        signature = self._signature()
        if signature == self._seen:
            return False
        files = ", ".join(dict.fromkeys(str(path) for path in self._files() if path is not None))
        try:
            self._context = self._load()
        except Unusable as error:  # none of them is taken up: they may belong together; tried again at the next look
            if signature != self._refused:
                self._refused = signature
                log.event(logger, "certificate not reloaded", level=logging.ERROR, why=str(error))
            return False
        self._seen = signature
        log.event(logger, "certificate reloaded", files=files)
        return True

    def _signature(self) -> tuple[object, ...]:
        return tuple(_stat(path) for path in self._files() if path is not None)

    def _files(self) -> Sequence[Path | None]:
        raise NotImplementedError

    def _load(self) -> ssl.SSLContext:
        """Raises `Unusable`."""
        raise NotImplementedError


class ServerTls(_Following):
    """The context for accepted connections."""

    def __init__(
        self,
        certificate: Path,
        key: Path | None = None,
        *,
        named: Sequence[NamedCertificate] = (),
        client_ca: Path | None = None,
        demand_client: bool = False,
    ) -> None:
        """Reads the files at once. Raises `Unavailable` when they are unusable.

        Who asks for no name, or for one that is not in `named`, is shown `certificate`. With `client_ca` a client may
        show a certificate, which must then be signed there; without one it gets in unless `demand_client`.
        """
        self._own = NamedCertificate((), certificate, key)
        self._named = tuple(named)
        self._client_ca = client_ca
        self._demand_client = demand_client
        super().__init__()

    def _files(self) -> Sequence[Path | None]:
        return [
            *(path for each in (self._own, *self._named) for path in (each.certificate, each.key)),
            self._client_ca,
        ]

    def _load(self) -> ssl.SSLContext:
        context = self._context_of(self._own)
        others = {
            name.lower(): other for each in self._named for other in [self._context_of(each)] for name in each.names
        }

        def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
            asked = (name or "").lower().removesuffix(".")
            other = others.get(asked) or others.get(f"*.{asked.partition('.')[2]}")
            if other is not None:
                connection.context = other

        if others:
            context.sni_callback = choose
        return context

    def _context_of(self, each: NamedCertificate) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _harden(context)
        path = each.certificate
        try:
            context.load_cert_chain(each.certificate, each.key, password=_no_password)
            if self._client_ca is not None:
                path = self._client_ca
                context.load_verify_locations(self._client_ca)
                context.verify_mode = ssl.CERT_REQUIRED if self._demand_client else ssl.CERT_OPTIONAL
        except (OSError, ssl.SSLError) as error:
            raise Unusable(f"{path} is unusable: {_reason(error)}") from None
        return context


class Unusable(Exception):
    """A file that holds no certificate, key or authority; the text names it."""


class ClientTls(_Following):
    """The context for connections that we open: whom we trust there, and what we show to who asks (RFC 5922 7.4)."""

    def __init__(self, ca: Path | None = None, *, certificate: Path | None = None, key: Path | None = None) -> None:
        """Reads the files at once. Raises `Unavailable` when they are unusable.

        Without `ca` the authorities of the system are trusted.
        """
        self._ca = ca
        self._certificate = certificate
        self._key = key
        super().__init__()

    def _files(self) -> Sequence[Path | None]:
        return self._ca, self._certificate, self._key

    def _load(self) -> ssl.SSLContext:
        """It checks the chain but no name: that is `check_peer`, because RFC 5922 has its own rules."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        _harden(context)
        path = self._ca
        try:
            if path is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(path)
            if self._certificate is not None:
                path = self._certificate
                context.load_cert_chain(path, self._key, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            raise Unusable(f"{path or 'of the system'} is unusable: {_reason(error)}") from None
        return context


def check_peer(certificate: Mapping[str, Any] | None, name: str) -> None:
    """Raise `Unavailable` unless a verified certificate (as `getpeercert()` gives it) is that of `name`."""
    if not certificate:
        raise Unavailable(f"no certificate from {name}")
    if _address(name) is not None:
        # Not in RFC 5922: a target configured by address, as a PBX in the same rack is.
        if not any(_address(value) == _address(name) for value in _alternatives(certificate, "IP Address")):
            raise Unavailable(f"the certificate is not for the address {name}")
        return
    wanted = name.lower().removesuffix(".")
    identities = sip_identities(certificate)
    # Compared whole and without wildcards (RFC 5922 7.2).
    if wanted not in identities:
        raise Unavailable(f"the certificate is not for {name} but for {', '.join(sorted(identities)[:5]) or 'nobody'}")


def sip_identities(certificate: Mapping[str, Any]) -> frozenset[str]:
    """The SIP domains that a certificate stands for (RFC 5922 7.1), lower case."""
    uris = [value for value in _alternatives(certificate, "URI") if value[:4].lower() == "sip:"]
    domains = [value[4:] for value in uris if "@" not in value]  # one with a user part is a person, not a domain
    hosts = {value.partition(";")[0].partition("?")[0].lower() for value in domains}
    if hosts:
        return frozenset(hosts)
    names = {value.lower().removesuffix(".") for value in _alternatives(certificate, "DNS")}
    if certificate.get("subjectAltName"):
        return frozenset(names)
    subject: Iterable[tuple[tuple[str, str], ...]] = certificate.get("subject", ())
    return frozenset(value.lower() for part in subject for key, value in part if key == "commonName")


def _alternatives(certificate: Mapping[str, Any], kind: str) -> list[str]:
    pairs: Iterable[tuple[str, Any]] = certificate.get("subjectAltName", ())
    return [value for key, value in pairs if key == kind and isinstance(value, str)]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _no_password() -> str:
    """Answers for a key file that asks for a passphrase, which would else be read from the terminal."""
    return ""


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _reason(error: OSError) -> str:
    return error.strerror or getattr(error, "reason", "") or str(error)
