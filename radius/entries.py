"""Directory entries to people: which attribute means what, and how HA1 values are written.

Pure. Used by the LDIF file and by LDAP alike.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from radius.digest import ALGORITHMS
from radius.ports import Person

logger = logging.getLogger(__name__)

Entry = Mapping[str, Sequence[bytes]]  # attribute names in lower case
_HEX = re.compile(r"[0-9a-fA-F]+\Z")
_HEX_LENGTH = {"MD5": 32, "SHA-256": 64, "SHA-512-256": 64}
DIGITS = 9  # of a number that is looked at: it must fit into a RADIUS attribute
_TRUE = frozenset({b"true", b"yes", b"1", b"on"})
_SCHEME = re.compile(r"\{([A-Za-z0-9-]+)\}")
_CLEAR_SCHEMES = frozenset({"CLEAR", "CLEARTEXT"})


@dataclass(frozen=True, slots=True)
class Names:
    """What this directory calls things: the first attribute with a value wins; of logins and groups all count."""

    login: tuple[str, ...] = ("uid", "mail")
    mail: tuple[str, ...] = ("mail",)
    extension: tuple[str, ...] = ("sipExtension", "telephoneNumber")
    password: tuple[str, ...] = ("sipPassword", "userPassword")
    ha1: tuple[str, ...] = ("sipDigestHA1",)
    groups: tuple[str, ...] = ("memberOf", "sipPolicyGroup")
    display_name: tuple[str, ...] = ("displayName", "cn")
    disabled: tuple[str, ...] = ("sipDisabled", "pwdAccountLockedTime")
    allow: tuple[str, ...] = ("sipAllowClass",)
    max_calls: tuple[str, ...] = ("sipMaxCalls",)
    member: str = "member"

    def all(self) -> tuple[str, ...]:
        """Every attribute that is read of a person."""
        lists = (self.login, self.mail, self.extension, self.password, self.ha1, self.groups, self.display_name)
        flags = (self.disabled, self.allow, self.max_calls)
        return tuple(dict.fromkeys(name for names in (*lists, *flags) for name in names))


def person_from(entry: Entry, names: Names, *, groups: Iterable[str] = ()) -> Person | None:
    """The person of an entry, None when it has no login. `groups` come on top of those in the entry."""
    logins = [value for name in names.login for value in _texts(entry, name)]
    if not logins:
        return None
    password, password_hash = _password(entry, names.password)
    own_groups = [value for name in names.groups for value in _texts(entry, name)]
    return Person(
        login=logins[0],
        logins=frozenset(login.lower() for login in logins),
        mails=tuple(mail.lower() for mail in _first(entry, names.mail)),
        extension=next(iter(_first(entry, names.extension)), ""),
        groups=tuple(dict.fromkeys((*own_groups, *groups))),
        display_name=next(iter(_first(entry, names.display_name)), ""),
        password=password,
        password_hash=password_hash,
        ha1=_ha1(value for name in names.ha1 for value in _texts(entry, name)),
        disabled=any(_is_set(name, value) for name in names.disabled for value in entry.get(name.lower(), ())),
        allow=tuple(_first(entry, names.allow)),
        max_calls=_number(_first(entry, names.max_calls)),
    )


def _ha1(values: Iterable[str]) -> dict[tuple[str, str, str], str]:
    """ALGORITHM:USER:REALM:HEX, ALGORITHM:HEX, or 32 hexadecimal digits alone for MD5 (deploy/slapd)."""
    found: dict[tuple[str, str, str], str] = {}
    for value in values:
        head, _, hexadecimal = value.rpartition(":")
        algorithm, _, rest = head.partition(":")
        algorithm = algorithm.upper() or "MD5"
        user, _, realm = rest.rpartition(":")
        if algorithm not in ALGORITHMS or len(hexadecimal) != _HEX_LENGTH[algorithm] or not _HEX.match(hexadecimal):
            logger.warning("an HA1 value of the directory is not ALGORITHM:USER:REALM:HEX; it is passed over")
            continue
        found[(algorithm, user, realm)] = hexadecimal.lower()
    return found


def _password(entry: Entry, names: Iterable[str]) -> tuple[str | None, str]:
    """The clear text if there is one, and the first hash."""
    hashed = ""
    for value in (value for name in names for value in _texts(entry, name)):
        scheme = _SCHEME.match(value)
        if scheme is None:
            return value, ""
        if scheme.group(1).upper() in _CLEAR_SCHEMES:
            return value[scheme.end() :], ""
        hashed = hashed or value
    return None, hashed


def _is_set(name: str, value: bytes) -> bool:
    # A time in pwdAccountLockedTime means locked, whatever the time (OpenLDAP's password policy).
    return bool(value) if name.lower().endswith("time") else value.strip().lower() in _TRUE


def _number(texts: Sequence[str]) -> int | None:
    """The least of them; what cannot be read is 0, since nobody is to gain by a slip of the pen."""
    return min((int(text[:DIGITS]) if text.isascii() and text.isdecimal() else 0 for text in texts), default=None)


def _first(entry: Entry, names: Iterable[str]) -> list[str]:
    return next((texts for name in names if (texts := _texts(entry, name))), [])


def _texts(entry: Entry, name: str) -> list[str]:
    return [value.decode("utf-8", "replace") for value in entry.get(name.lower(), ()) if value]
