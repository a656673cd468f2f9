"""The seams of the server: where people, clients and accounting records are, and who answers a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from radius.packet import Packet


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in the directory, as far as RADIUS needs it."""

    login: str  # canonical
    logins: frozenset[str] = frozenset()  # every name that the person may type, lower case
    mails: tuple[str, ...] = ()
    extension: str = ""
    groups: tuple[str, ...] = ()
    display_name: str = ""
    password: str | None = field(default=None, repr=False)  # clear text
    password_hash: str = field(default="", repr=False)  # {SSHA}..., good for PAP only
    ha1: Mapping[tuple[str, str, str], str] = field(default_factory=dict, repr=False)
    """Hex HA1 by algorithm, user name and realm; user name and realm are "" where the value is for any."""
    disabled: bool = False
    allow: tuple[str, ...] = ()  # classes of numbers that the person may call at most; none given: no such limit
    max_calls: int | None = None
    classes: tuple[bytes, ...] = ()


class Directory(Protocol):
    """Looks people up."""

    async def find(self, login: str) -> Person | None:
        """The one person with this login or mail address, None when there is none or more than one.

        Raises `DirectoryUnavailable`.
        """

    async def ready(self) -> bool:
        """Whether the directory can be asked just now."""

    async def close(self) -> None:
        """Give back what is held."""


@dataclass(frozen=True, slots=True)
class Client:
    """A RADIUS client (a NAS) that may ask."""

    name: str
    secret: bytes = field(repr=False)
    require_message_authenticator: bool = True
    digest_ha1: bool = False
    """Whether it may learn the HA1 of people whose digest was right (RFC 5090 3.19)."""


class SecretSource(Protocol):
    """Knows the clients and the secret shared with each."""

    def find(self, address: str) -> Client | None:
        """The client at this address, None for a stranger."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer: a code and encoded attributes; the server adds authenticators and Proxy-State."""

    code: int
    attributes: bytes = b""


class Handler(Protocol):
    """Answers verified requests."""

    async def handle(self, request: Packet, client: Client) -> Reply | None:
        """The reply, None to stay silent so that the client asks another server."""


@dataclass(frozen=True, slots=True)
class Record:
    """One accounting event to store."""

    id: str  # the same for every copy of the event
    at: float  # Unix seconds of the event
    values: Mapping[str, object]  # by attribute name; several values of a name as a list, octets as 0x...


class Ledger(Protocol):
    """Where accounting records end up."""

    async def write(self, record: Record) -> None:
        """Return when the record is durable; an event that is there already is not stored again.

        Raises `LedgerUnavailable`.
        """

    def ready(self) -> bool:
        """Whether a record would be stored just now, as far as is known."""

    async def close(self) -> None:
        """Store what is left and close."""
