"""Directory over an LDIF file (RFC 2849, content records), read again when the file changes.

A file that cannot be read keeps the people of the last one that could. ldap3 writes LDIF but does not read it, hence
the small reader here.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from radius.entries import Entry, Names, person_from
from radius.errors import ConfigError
from radius.ports import Person

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.2


class LdifDirectory:
    """People of an LDIF file."""

    def __init__(self, path: Path, names: Names | None = None) -> None:
        """Read the file. Raises `ConfigError`."""
        self._path = path
        self._names = names or Names()
        self._looked_at = time.monotonic()
        self._stamp = self._stat()
        self._reading = False
        self._people = self._load()

    def __len__(self) -> int:
        return len({person.login for person in self._people.values() if person})

    async def find(self, login: str) -> Person | None:
        """The one person with this login or mail address, None when there is none or more than one."""
        if time.monotonic() - self._looked_at > LOOK_EVERY_S and not self._reading:
            await self._look()
        return self._people.get(login.lower())

    async def ready(self) -> bool:
        """A file is always there."""
        return True

    async def close(self) -> None:
        """Nothing is held."""

    async def _look(self) -> None:
        self._looked_at = time.monotonic()
        try:
            stamp = self._stat()
        except ConfigError:
            return  # in the middle of being replaced, or gone: what we have stays good
        if stamp == self._stamp:
            return
        self._reading = True
        try:
            self._people = await asyncio.to_thread(self._load)
            logger.info("%s changed: %d people", self._path, len(self))
        except ConfigError as error:
            logger.error("%s; the people of the last good file stay", error)
        finally:
            self._reading = False
            self._stamp = stamp

    def _stat(self) -> tuple[int, int, int]:
        try:
            stat = self._path.stat()
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be read: {error.strerror}") from None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _load(self) -> dict[str, Person | None]:
        try:
            entries = list(parse_ldif(self._path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ConfigError(f"{self._path}: {error}") from None
        return index(entries, self._names)


def index(entries: list[tuple[str, Entry]], names: Names) -> dict[str, Person | None]:
    """People by each name that they may type, in lower case; None where two people share it: then nobody has it."""
    groups: dict[str, list[str]] = defaultdict(list)
    for dn, entry in entries:
        for member in entry.get(names.member.lower(), ()):
            groups[member.decode("utf-8", "replace").lower()].append(dn)
    found: dict[str, Person | None] = {}
    for dn, entry in entries:
        person = person_from(entry, names, groups=groups.get(dn.lower(), ()))
        if person is None:
            continue
        for login in person.logins:
            if login in found:
                logger.error("login %r belongs to more than one entry; nobody may use it", login)
            found[login] = None if login in found else person
    return found


def parse_ldif(text: str) -> Iterator[tuple[str, Entry]]:
    """Entries with their names. Raises `ValueError` that names the line."""
    dn = ""
    entry: dict[str, list[bytes]] = {}
    for number, line in _unfolded(text):
        if not line:
            if dn:
                yield dn, entry
            dn, entry = "", {}
            continue
        name, value = _attribute(number, line)
        if name == "dn":
            if dn:
                raise ValueError(f"line {number}: an empty line is missing before the next dn")
            dn = value.decode("utf-8", "replace")
        elif name == "changetype":
            raise ValueError(f"line {number}: change records are not read here; export the entries instead")
        elif dn:
            entry.setdefault(name, []).append(value)
        elif name != "version":
            raise ValueError(f"line {number}: '{name}' before any dn")


def _attribute(number: int, line: str) -> tuple[str, bytes]:
    name, colon, rest = line.partition(":")
    if not colon or not name:
        raise ValueError(f"line {number}: no 'attribute: value'")
    name = name.partition(";")[0].strip().lower()  # options such as ;lang-fr
    if rest.startswith("<"):
        raise ValueError(f"line {number}: values in files (':<') are not read")
    if not rest.startswith(":"):
        return name, rest.lstrip(" ").encode("utf-8")
    try:
        return name, base64.b64decode(rest[1:].strip(), validate=True)
    except binascii.Error:
        raise ValueError(f"line {number}: no base64 after '::'") from None


def _unfolded(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines with their numbers, without comments, ended by an empty one (RFC 2849 2)."""
    start, held = 0, ""
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.removesuffix("\r")
        if line.startswith(" ") and held:
            held += line[1:]
            continue
        if held and not held.startswith("#"):
            yield start, held
        start, held = number, line
        if not line:
            yield number, ""
    if held and not held.startswith("#"):
        yield start, held
    yield start, ""
