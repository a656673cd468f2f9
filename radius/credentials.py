"""SIP credentials in a directory: HA1 sets, one per device, that can be made and revoked one by one (RFC 7616 3.4.2).

Pure. A device logs in as `LOGIN+DEVICE`, or the person as LOGIN itself; each has one value `ALGORITHM:USER:REALM:HEX`
per algorithm and form of the user name. Which directory keeps them is `keyring.py`'s part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from radius.digest import ALGORITHMS, make_ha1

SEPARATOR = "+"
DEVICE = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}\Z")
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that looks like something else on a phone's display
GROUPS, GROUP_LENGTH = 5, 4  # 99 bits
MIN_PASSWORD = 8


@dataclass(frozen=True, slots=True)
class Credential:
    """One set of HA1 values, without the values."""

    device: str  # "" for the person's own login
    realm: str
    algorithms: tuple[str, ...]
    users: tuple[str, ...]  # forms of the user name


def base_login(login: str) -> str:
    """The person's login when this names a device of a person (`alice+desk`, `alice+desk@domain`), else ""."""
    local, at, domain = login.partition("@")
    person, plus, device = local.partition(SEPARATOR)
    return f"{person}{at}{domain}" if plus and person and DEVICE.match(device.lower()) else ""


def user_forms(logins: Sequence[str], device: str, domains: Iterable[str]) -> tuple[str, ...]:
    """What may be typed as the user name: the person's logins, or the device behind the first; and in each domain."""
    users = [f"{logins[0]}{SEPARATOR}{device}"] if device else list(logins)
    first = users[0]
    return tuple(dict.fromkeys([*users, *(f"{first}@{domain}" for domain in domains if "@" not in first)]))


def make_values(users: Sequence[str], realm: str, password: str) -> list[str]:
    """A value per algorithm and form."""
    return [
        f"{algorithm}:{user}:{realm}:{make_ha1(algorithm, user, realm, password)}"
        for algorithm in ALGORITHMS
        for user in users
    ]


def make_password(random: bytes) -> str:
    """A password that can be typed, from at least 20 random bytes."""
    count = GROUPS * GROUP_LENGTH
    number = int.from_bytes(random, "big")
    if len(random) < count:
        raise ValueError(f"{count} random bytes are needed")
    digits = []
    for _ in range(count):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    text = "".join(digits)
    return "-".join(text[start : start + GROUP_LENGTH] for start in range(0, count, GROUP_LENGTH))


def values_of(values: Iterable[str], device: str) -> list[str]:
    """Those of one device of a person, in every realm and form; for "" all that are of no device."""
    return [value for value in values if device_of(_parts(value)[1]) == device]


def credentials_in(values: Iterable[str]) -> list[Credential]:
    """What a person has, the person's own first."""
    sets: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for value in values:
        algorithm, user, realm = _parts(value)
        algorithms, users = sets.setdefault((device_of(user), realm), ([], []))
        algorithms.append(algorithm)
        users.append(user)
    return [
        Credential(device, realm, tuple(dict.fromkeys(algorithms)), tuple(dict.fromkeys(users)))
        for (device, realm), (algorithms, users) in sorted(sets.items())
    ]


def device_of(user: str) -> str:
    """The device that a user name means, "" when it means a person."""
    person, _, device = user.partition("@")[0].lower().partition(SEPARATOR)
    return device if person and DEVICE.match(device) else ""


def _parts(value: str) -> tuple[str, str, str]:
    """Algorithm, user name and realm of a value; "" stands for any."""
    head, _, _ = value.rpartition(":")
    algorithm, _, rest = head.partition(":")
    user, _, realm = rest.rpartition(":")
    return algorithm.upper() or "MD5", user, realm
