"""Where SIP credentials are kept: the HA1 attribute of a person's entry in an LDIF file or an LDAP directory.

For commands: blocks while it works. Changes this attribute and nothing else (and objectClass sipPerson over LDAP).
"""

from __future__ import annotations

import base64
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from radius.entries import Names
from radius.errors import DirectoryUnavailable
from radius.ldap import LdapSettings, open_writer
from radius.ldif import parse_ldif

SIP_PERSON = "sipPerson"  # deploy/slapd/nomad-schema.ldif
MAX_LINE = 76  # RFC 2849 folds for readability


class NoSuchPerson(Exception):
    """Nobody has this login, or more than one entry does."""


@dataclass(frozen=True, slots=True)
class Held:
    """A person's logins, the canonical one first, and HA1 values."""

    logins: tuple[str, ...]
    values: tuple[str, ...] = field(repr=False)

    @property
    def login(self) -> str:
        """The canonical login."""
        return self.logins[0]


class Keyring(Protocol):
    """The HA1 values of people."""

    def read(self, login: str) -> Held:
        """What there is of a person. Raises `NoSuchPerson` or `DirectoryUnavailable`."""

    def change(self, login: str, *, remove: Sequence[str], add: Sequence[str]) -> None:
        """Replace values, all or none. Raises the same."""


class LdifKeyring:
    """An LDIF file; written anew beside the old one and put in its place, comments and order kept."""

    def __init__(self, path: Path, names: Names) -> None:
        self._path = path
        self._names = names

    def read(self, login: str) -> Held:
        """What there is of a person."""
        _, block = self._find(self._blocks(), login)
        return _held(_entry(block), self._names)

    def change(self, login: str, *, remove: Sequence[str], add: Sequence[str]) -> None:
        """Replace values."""
        blocks = self._blocks()
        place, block = self._find(blocks, login)
        gone = set(remove)
        ha1 = {name.lower() for name in self._names.ha1}
        kept = [line for line in block if not _holds(line, ha1, gone)]
        while kept and not kept[-1].strip():
            kept.pop()
        kept += [_folded(f"{self._names.ha1[0]}: {value}") for value in add]
        blocks[place] = kept
        self._write("\n\n".join("\n".join(lines) for lines in blocks) + "\n")

    def _blocks(self) -> list[list[str]]:
        """Entries as logical lines with their folds; comments stay where they are."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DirectoryUnavailable(f"{self._path}: cannot be read: {error}") from None
        blocks: list[list[str]] = [[]]
        for line in text.replace("\r\n", "\n").split("\n"):
            if not line:
                blocks.append([])
            elif line.startswith(" ") and blocks[-1]:
                blocks[-1][-1] += f"\n{line}"
            else:
                blocks[-1].append(line)
        return [block for block in blocks if block]

    def _find(self, blocks: list[list[str]], login: str) -> tuple[int, list[str]]:
        found = [(place, block) for place, block in enumerate(blocks) if login.lower() in self._logins(block)]
        if len(found) != 1:
            raise NoSuchPerson(f"{self._path}: {'nobody' if not found else 'more than one entry'} has login '{login}'")
        return found[0]

    def _logins(self, block: list[str]) -> set[str]:
        try:
            entry = _entry(block)
        except ValueError as error:
            raise DirectoryUnavailable(f"{self._path}: {error}") from None
        return {value.lower() for name in self._names.login for value in entry.get(name.lower(), [])}

    def _write(self, text: str) -> None:
        """All of the new file or the old one, with the same owner and mode: a reader sees nothing between."""
        target = self._path.resolve()
        try:
            before = target.stat()
            descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
                    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                        os.fchown(file.fileno(), before.st_uid, before.st_gid)
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(target)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise DirectoryUnavailable(f"{self._path}: cannot be written: {error}") from None


class LdapKeyring:
    """An LDAP directory, through an account that may write the HA1 attribute."""

    def __init__(self, settings: LdapSettings, names: Names) -> None:
        self._settings = settings
        self._names = names

    def read(self, login: str) -> Held:
        """What there is of a person."""
        with open_writer(self._settings) as writer:
            _, entry = self._find(writer, login)
        return _held(entry, self._names)

    def change(self, login: str, *, remove: Sequence[str], add: Sequence[str]) -> None:
        """Replace values, in one modification."""
        with open_writer(self._settings) as writer:
            dn, entry = self._find(writer, login)
            classes = {value.lower() for value in entry.get("objectclass", [])}
            if add and classes and SIP_PERSON.lower() not in classes and self._names.ha1 == Names().ha1:
                writer.add_value(dn, "objectClass", SIP_PERSON)
            writer.replace_values(dn, self._names.ha1[0], remove=list(remove), add=list(add))

    def _find(self, writer: Any, login: str) -> tuple[str, dict[str, list[str]]]:
        wanted = (*self._names.login, *self._names.ha1, "objectClass")
        found = [
            (dn, entry)
            for dn, entry in writer.entries(self._settings.base, self._names.login, login, wanted)
            if login.lower() in {value.lower() for name in self._names.login for value in entry.get(name.lower(), [])}
        ]
        if len(found) != 1:
            who = "nobody" if not found else "more than one entry"
            raise NoSuchPerson(f"{self._settings.urls[0]}: {who} has login '{login}'")
        entry: dict[str, list[str]] = found[0][1]
        return str(found[0][0]), entry


def _held(entry: dict[str, list[str]], names: Names) -> Held:
    def of(wanted: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value for name in wanted for value in entry.get(name.lower(), [])))

    return Held(of(names.login), of(names.ha1))


def _entry(block: Iterable[str]) -> dict[str, list[str]]:
    """Attributes of a block, names in lower case. Raises `ValueError`."""
    entries = list(parse_ldif("\n".join(block) + "\n"))
    found = entries[0][1] if entries else {}
    return {name: [value.decode("utf-8", "replace") for value in values] for name, values in found.items()}


def _holds(line: str, names: set[str], values: set[str]) -> bool:
    name, _, rest = line.replace("\n ", "").partition(":")
    if name.strip().lower() not in names:
        return False
    value = base64.b64decode(rest[1:]).decode("utf-8", "replace") if rest.startswith(":") else rest.lstrip(" ")
    return value in values


def _folded(line: str) -> str:
    return "\n ".join(_pieces(line))


def _pieces(line: str) -> Iterator[str]:
    yield line[:MAX_LINE]
    for start in range(MAX_LINE, len(line), MAX_LINE - 1):
        yield line[start : start + MAX_LINE - 1]
