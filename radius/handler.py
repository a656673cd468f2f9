"""Access-Request against a directory (RFC 2865, 5090, 5997); `accounting.py` has Accounting-Request.

Unknown user, wrong password and missing secret take the same way and get the same answer. Does not see sockets.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from radius import attributes, digest
from radius.credentials import base_login
from radius.digest import Digest
from radius.errors import DirectoryUnavailable, EncodingError
from radius.packet import Code, Packet, Type, attribute, integer_attribute, reveal_password, vendor_attribute
from radius.ports import Client, Directory, Person, Reply

logger = logging.getLogger(__name__)

# of the vendor "Nomad"
ADDRESS, EXTENSION, GROUP, DISPLAY_NAME, ALLOW_CLASS, MAX_CALLS, RESPONSE_CODE = 1, 2, 3, 4, 5, 6, 19
FORBIDDEN = 403  # to a SIP phone: another password would not help
NO_CLASS = "-"  # allows nothing: the person has limits, and none that fits
REJECTED = "Invalid credentials"
DISABLED = "This account is disabled"
MAX_ROOM_BYTES = 3500  # for repeated attributes, so that a reply stays within 4096 octets
NOBODY = Person(login="", password="no password opens this")  # noqa: S106 - what unknown users are checked against
_SALTED = {"SSHA": ("sha1", 20), "SHA": ("sha1", 20), "SSHA256": ("sha256", 32), "SSHA512": ("sha512", 64)}


@dataclass(frozen=True, slots=True)
class Rules:
    """How the server answers."""

    domains: tuple[str, ...] = ()
    """Domains that people may put behind their login, and in which their login is a SIP address."""
    realms: tuple[str, ...] = ()
    """Digest realms that are accepted; none given: every one."""
    session_timeout_s: int | None = None
    idle_timeout_s: int | None = None
    interim_interval_s: int | None = None
    welcome: str = ""
    """Reply-Message of an Access-Accept."""
    classes: tuple[bytes, ...] = field(default=())
    """Class attributes for everybody."""


class DirectoryHandler:
    """Answers from a directory."""

    def __init__(self, directory: Directory, *, rules: Rules | None = None) -> None:
        self._directory = directory
        self._rules = rules or Rules()

    async def handle(self, request: Packet, client: Client) -> Reply | None:
        """The reply, None to stay silent. Raises `PacketError` for a request that makes no sense."""
        if request.code == Code.ACCESS_REQUEST:
            return await self._authenticate(request, client)
        if request.code == Code.STATUS_SERVER:
            # Silence tells the client to look for another server while the directory is away.
            return Reply(Code.ACCESS_ACCEPT) if await self._directory.ready() else None
        return None

    async def _authenticate(self, request: Packet, client: Client) -> Reply | None:
        name = request.text(Type.USER_NAME)
        credentials = digest.from_packet(request)
        login = credentials.username if credentials else name
        try:
            person = await self._find(login)
        except DirectoryUnavailable as error:
            logger.error("no answer to %s about %r: %s", client.name, login, error)
            return None
        if credentials:
            right = self._check_digest(credentials, person or NOBODY)
            # The name that the client will act on must be the one whose secret was proven.
            right = right and (not name or name.lower() in _names(person or NOBODY, login, self._rules.domains))
        else:
            right = _check_password(request, client, person or NOBODY)
        if person is None or not right:
            logger.info(
                "refused %r from %s: %s", login, client.name, "wrong secret" if person else "nobody of that name"
            )
            return Reply(Code.ACCESS_REJECT, _message(REJECTED))
        if person.disabled:
            logger.info("refused %r from %s: disabled", login, client.name)
            return Reply(Code.ACCESS_REJECT, _message(DISABLED) + _vsa_number(RESPONSE_CODE, FORBIDDEN))
        body = self._accept(person, request, credentials)
        if client.digest_ha1 and credentials:
            body += _ha1(credentials, person)
        return Reply(Code.ACCESS_ACCEPT, body)

    async def _find(self, login: str) -> Person | None:
        person = await self._directory.find(login)
        user, at, domain = login.rpartition("@")
        if person is None and at and domain.lower() in self._rules.domains:
            person = await self._directory.find(user)
        if person is None and (base := base_login(login)):
            person = _as_device(await self._find(base), login)
        return person

    def _check_digest(self, credentials: Digest, person: Person) -> bool:
        if self._rules.realms and credentials.realm not in self._rules.realms:
            return False
        algorithm = credentials.base_algorithm or "MD5"
        ha1 = secret_of(person, algorithm, credentials.username, credentials.realm)
        known = bool(ha1)
        if not known:
            ha1 = digest.make_ha1(algorithm, credentials.username, credentials.realm, NOBODY.password or "")
            if person is not NOBODY:
                logger.warning("%s has no clear-text password and no %s HA1 that fits", person.login, algorithm)
        return digest.verify(credentials, ha1) and known

    def _accept(self, person: Person, request: Packet, credentials: Digest | None) -> bytes:
        rules = self._rules
        parts = [attributes.encode([("User-Name", person.login)])]
        parts += [attribute(Type.CLASS, value) for value in (*rules.classes, *person.classes)]
        for type, number in (
            (Type.SESSION_TIMEOUT, rules.session_timeout_s),
            (Type.IDLE_TIMEOUT, rules.idle_timeout_s),
            (Type.ACCT_INTERIM_INTERVAL, rules.interim_interval_s),
        ):
            if number is not None:
                parts.append(integer_attribute(type, number))
        if rules.welcome:
            parts.append(_message(rules.welcome))
        if credentials and digest.is_rfc5090(request):
            parts.append(_rspauth(credentials, person))
        # Limits first: left out for want of room they would not be limits.
        parts += _allowed(person.allow)
        if person.max_calls is not None:
            parts.append(_vsa_number(MAX_CALLS, person.max_calls))
        for kind, values in (
            (EXTENSION, [person.extension]),
            (DISPLAY_NAME, [person.display_name]),
            (ADDRESS, self._addresses(person, credentials)),
            (GROUP, list(person.groups)),
        ):
            parts += [_vsa(kind, value) for value in values if value]
        return _fitting(parts, person.login)

    def _addresses(self, person: Person, credentials: Digest | None) -> list[str]:
        """Mail addresses, and the login in each of our domains (in the digest realm when none is configured)."""
        domains = self._rules.domains or ((credentials.realm.lower(),) if credentials else ())
        own = [f"{person.login}@{domain}" for domain in domains if "@" not in person.login]
        return list(dict.fromkeys(address.lower() for address in (*own, *person.mails)))


def _as_device(person: Person | None, login: str) -> Person | None:
    """The person with the secrets of one device only: `alice+desk` does not open with alice's own password."""
    if person is None:
        return None
    own = {key: ha1 for key, ha1 in person.ha1.items() if key[1].lower() == login.lower()}
    return replace(person, ha1=own, password=None, password_hash="") if own else None


def secret_of(person: Person, algorithm: str, username: str, realm: str) -> str:
    """The HA1 to check a digest with, "" when the directory has none that fits."""
    for key in ((algorithm, username, realm), (algorithm, "", realm), (algorithm, "", "")):
        if ha1 := person.ha1.get(key):
            return ha1
    if person.password is not None:
        return digest.make_ha1(algorithm, username, realm, person.password)
    return ""


def check_hash(stored: str, password: bytes) -> bool:
    """Whether a password fits a {SSHA}-like userPassword."""
    scheme, _, encoded = stored.removeprefix("{").partition("}")
    if scheme.upper() not in _SALTED:
        return False
    name, size = _SALTED[scheme.upper()]
    try:
        raw = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return False
    made = hashlib.new(name, password + raw[size:], usedforsecurity=False).digest()
    return len(raw) >= size and hmac.compare_digest(made, raw[:size])


def _check_password(request: Packet, client: Client, person: Person) -> bool:
    """PAP (RFC 2865 5.2)."""
    hidden = request.get(Type.USER_PASSWORD)
    if hidden is None:
        return False
    password = reveal_password(hidden, client.secret, request.authenticator)
    if person.password is None and person.password_hash:
        return check_hash(person.password_hash, password)
    return hmac.compare_digest(password, (person.password or NOBODY.password or "").encode()) and bool(person.password)


def _names(person: Person, login: str, domains: Sequence[str]) -> set[str]:
    names = {login.lower(), person.login.lower(), *person.logins, *(mail.lower() for mail in person.mails)}
    return names | {f"{name}@{domain}" for name in names if "@" not in name for domain in domains}


def _rspauth(credentials: Digest, person: Person) -> bytes:
    """Digest-Response-Auth, which proves to the phone that the server knows the secret (RFC 5090 3.4)."""
    ha1 = secret_of(person, credentials.base_algorithm, credentials.username, credentials.realm)
    return attribute(digest.RFC5090_RESPONSE_AUTH, digest.response_for(credentials, ha1, method="").encode())


def _ha1(credentials: Digest, person: Person) -> bytes:
    """Digest-HA1 (RFC 5090 3.19): with it the client checks later proofs itself. Never logged."""
    if credentials.algorithm.upper().endswith("-SESS"):
        return b""
    ha1 = secret_of(person, credentials.base_algorithm, credentials.username, credentials.realm)
    return attribute(digest.RFC5090_HA1, ha1.encode())


def _message(text: str) -> bytes:
    octets = text.encode()
    return attribute(Type.REPLY_MESSAGE, octets if len(octets) <= 253 else attributes.cut_text(octets, 253))


def _vsa(type: int, value: str) -> bytes:
    try:
        return vendor_attribute(attributes.NOMAD, type, value.encode())
    except EncodingError:
        # A group cut short would be another group: leave it out, deny when in doubt.
        logger.warning("directory value of %d octets left out of the reply: %.40s...", len(value.encode()), value)
        return b""


def _allowed(values: Sequence[str]) -> list[bytes]:
    """One attribute for each class; where none of them can be said, one that names no class."""
    names = [name.strip() for value in values for name in value.split(",")]
    parts = [part for name in dict.fromkeys(names) if name and (part := _vsa(ALLOW_CLASS, name))]
    return parts if parts or not values else [_vsa(ALLOW_CLASS, NO_CLASS)]


def _vsa_number(type: int, value: int) -> bytes:
    return vendor_attribute(attributes.NOMAD, type, value.to_bytes(4, "big"))


def _fitting(parts: Iterable[bytes], login: str) -> bytes:
    body = b""
    for part in parts:
        if len(body) + len(part) > MAX_ROOM_BYTES:
            logger.warning("%s has more addresses and groups than a RADIUS reply holds", login)
            break
        body += part
    return body
