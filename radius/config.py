"""`radius.toml` as frozen structs. Unknown keys are refused; secrets come from files or NOMAD_* variables.

Every change needs a restart, except the people in an LDIF file, and certificates: SIGHUP takes up new ones.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from radius.entries import Names
from radius.errors import ConfigError
from radius.handler import Rules
from radius.packet import MAX_VALUE_BYTES
from radius.ports import Client
from radius.radsec import SECRET, renew, server_context
from radius.server import Clients

Words = str | tuple[str, ...]


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A table of the configuration file."""


class Listen(Struct, frozen=True):
    """Addresses to listen on."""

    auth: str = "127.0.0.1:1812"
    acct: str = "127.0.0.1:1813"
    radsec: str = ""
    """For RADIUS over TLS (RFC 6614), both roles; "" for none. Needs [tls]."""


class Tls(Struct, frozen=True):
    """Certificates for RADIUS over TLS, PEM files."""

    certificate: str
    ca_file: str
    """Authority that signs the clients' certificates."""
    private_key: str = ""
    """"" when the certificate's file holds it."""


class ClientTable(Struct, frozen=True):
    """One RADIUS client, or a network of them."""

    address: str
    """Address or network."""
    name: str = ""
    secret_file: str = ""
    """File with the shared secret; or the variable NOMAD_RADIUS_SECRET."""
    require_message_authenticator: bool = True
    """False only for old clients that cannot sign: then a forger can make the server answer (CVE-2024-3596)."""
    digest_ha1: bool = False
    """Tell it the HA1 of people whose digest was right, as good as a password: loopback or RadSec only."""
    radsec: bool = False
    """Comes over TLS and never over UDP; then there is no secret."""
    certificate_name: str = ""
    """DNS name that its certificate must have; "" for any that the authority signed."""


class Attributes(Struct, frozen=True):
    """What the directory calls things; several names in order of preference."""

    login: Words = Names().login
    mail: Words = Names().mail
    extension: Words = Names().extension
    password: Words = Names().password
    ha1: Words = Names().ha1
    groups: Words = Names().groups
    display_name: Words = Names().display_name
    disabled: Words = Names().disabled
    allow: Words = Names().allow
    max_calls: Words = Names().max_calls

    def names(self) -> Names:
        """The same for the directory."""
        given: dict[str, Any] = {name: _words(getattr(self, name)) for name in self.__struct_fields__}
        return Names(**given)


class DirectoryTable(Struct, frozen=True):
    """Where people are."""

    url: Words = ""
    """file:people.ldif, or one or more of ldap://host:port and ldaps://host:port, in order of preference."""
    base: str = ""
    bind_dn: str = ""
    bind_password_file: str = ""
    """File with the bind password; or the variable NOMAD_DIRECTORY_PASSWORD."""
    start_tls: bool = False
    ca_file: str = ""
    """Certificates that sign the LDAP server's; "" means those of the system."""
    timeout_s: float = 1.0
    """How long one look-up may take."""
    connections: int = 4
    """Connections to the directory at most; each carries many look-ups at once."""
    cache_s: float = 10.0
    """How long a person is remembered; 0 for not at all."""
    negative_cache_s: float = 2.0
    """How long it is remembered that there is nobody of a name."""
    attributes: Attributes = Attributes()


class Answer(Struct, frozen=True):
    """What every Access-Accept carries."""

    session_timeout_s: int | None = None
    idle_timeout_s: int | None = None
    interim_interval_s: int | None = None
    message: str = ""
    classes: tuple[str, ...] = ()


class Config(Struct, frozen=True):
    """`radius.toml`."""

    client: tuple[ClientTable, ...]
    directory: DirectoryTable
    listen: Listen = Listen()
    tls: Tls | None = None
    domains: tuple[str, ...] = ()
    """Domains that people may put behind their login, and in which their login is a SIP address."""
    realms: tuple[str, ...] = ()
    """Digest realms that are accepted; none given: every one."""
    answer: Answer = Answer()
    detail: str = ""
    """File for accounting records, one JSON object a line; "" for none."""
    detail_sync: bool = True
    """Whether a record is on the disk before it is acknowledged."""
    sql: str = ""
    """SQLAlchemy URL of the database with the table `radacct`, sqlite:///file.db or postgresql://user@host/database;
    "" for none. With `detail` too, a record is acknowledged when both have it."""
    sql_password_file: str = ""
    """File with the database's password; or the variable NOMAD_ACCOUNTING_PASSWORD."""
    folder: str = ""
    """Where relative file names start; set by `load`."""

    def path(self, name: str) -> Path:
        """A file named in the configuration."""
        return Path(self.folder, name)

    def sql_url(self) -> str:
        """The database of accounting; a relative SQLite file starts at the folder of the configuration."""
        scheme, found, name = self.sql.partition(":///")
        if found and scheme.startswith("sqlite") and name and not name.startswith(("/", ":")):
            return f"{scheme}:///{self.path(name)}"
        return self.sql

    def clients(self, *, radsec: bool = False) -> Clients:
        """The clients with their secrets, those over UDP or those over TLS. Raises `ConfigError`."""
        found = {}
        for place, table in enumerate(self.client):
            try:
                network = ipaddress.ip_network(table.address, strict=False)
            except ValueError:
                raise ConfigError(f"client[{place}].address: '{table.address}' is no address or network") from None
            secret = SECRET if table.radsec else self.secret(table.secret_file, "NOMAD_RADIUS_SECRET")
            if not secret:
                raise ConfigError(
                    f"client[{place}].secret_file: is missing or empty; name a file, or set NOMAD_RADIUS_SECRET"
                )
            if table.digest_ha1 and not (network.is_loopback or table.radsec):
                raise ConfigError(
                    f"client[{place}].digest_ha1: {table.address} is not loopback; secrets would travel, use radsec"
                )
            if table.radsec is radsec:
                name = table.name or table.address
                found[str(network)] = Client(name, secret, table.require_message_authenticator, table.digest_ha1)
        return Clients(found)

    def certificate_names(self) -> dict[str, tuple[str]]:
        """By client name, the name that its certificate must have."""
        return {
            table.name or table.address: (table.certificate_name,) for table in self.client if table.certificate_name
        }

    def server_tls(self) -> ssl.SSLContext:
        """For RADIUS over TLS. Raises `ConfigError`."""
        return server_context(**self._certificates())

    def renew(self, context: ssl.SSLContext) -> None:
        """Take up replaced files of certificates. Raises `ConfigError`: then nothing changed."""
        renew(context, **self._certificates())

    def _certificates(self) -> dict[str, Any]:
        if self.tls is None:
            raise ConfigError("listen.radsec: needs [tls] with certificate and ca_file")
        key = self.path(self.tls.private_key) if self.tls.private_key else None
        return {"certificate": self.path(self.tls.certificate), "key": key, "ca": self.path(self.tls.ca_file)}

    def rules(self) -> Rules:
        """How the server answers. Raises `ConfigError`."""
        answer = self.answer
        for name in ("session_timeout_s", "idle_timeout_s", "interim_interval_s"):
            if not 0 <= (getattr(answer, name) or 0) < 1 << 32:
                raise ConfigError(f"answer.{name}: a number from 0 to 4294967295")
        for place, value in enumerate(answer.classes):
            if not 0 < len(value.encode()) <= MAX_VALUE_BYTES:
                raise ConfigError(f"answer.classes[{place}]: 1 to {MAX_VALUE_BYTES} octets fit into a Class")
        return Rules(
            domains=tuple(domain.lower() for domain in self.domains),
            realms=self.realms,
            session_timeout_s=answer.session_timeout_s,
            idle_timeout_s=answer.idle_timeout_s,
            interim_interval_s=answer.interim_interval_s,
            welcome=answer.message,
            classes=tuple(value.encode() for value in answer.classes),
        )

    def secret(self, file: str, variable: str) -> bytes:
        """A secret from its file or else its variable; b"" when neither is given. Raises `ConfigError`."""
        if not file:
            return os.environ.get(variable, "").encode()
        try:
            return self.path(file).read_bytes().strip(b"\r\n")
        except OSError as error:
            raise ConfigError(f"{self.path(file)}: secret cannot be read: {error.strerror}") from None


def load(path: Path) -> Config:
    """Read a configuration file. Raises `ConfigError`."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; give the file with -c") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    try:
        config = msgspec.convert(tree, Config)
        config = msgspec.structs.replace(config, folder=str(path.parent.resolve()))
        config.clients()
        config.rules()
        if config.listen.radsec:
            split_address(config.listen.radsec)
            config.server_tls()
    except (msgspec.ValidationError, ConfigError) as error:
        raise ConfigError(f"{path}: {_readable(str(error))}") from None
    return config


def split_address(text: str) -> tuple[str, int]:
    """host:port, with an IPv6 address in brackets. Raises `ConfigError`."""
    found = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\]:([0-9]{1,5})|([^:\[\]\s]+):([0-9]{1,5})", text)
    port = int(found.group(2) or found.group(4)) if found else 65536
    if found is None or port > 65535:
        raise ConfigError(f"'{text}': write host:port, with an IPv6 address in brackets")
    return found.group(1) or found.group(3), port


def urls(table: DirectoryTable) -> tuple[str, ...]:
    """The directory's URLs."""
    return _words(table.url)


def _words(value: Words) -> tuple[str, ...]:
    return ((value,) if value else ()) if isinstance(value, str) else value


def _readable(message: str) -> str:
    """msgspec's `what - at `$.a.b`` as `a.b: what`."""
    found = re.search(r"(.*) - at `\$\.?([^`]*)`", message)
    return f"{found.group(2)}: {found.group(1)}" if found else message
