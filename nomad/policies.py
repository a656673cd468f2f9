"""The life of a policy: which text is in force, who put it there and why, and how the next one takes its place.

The file that the configuration names is the working copy; the store keeps every version that was applied. Judging a
text is `edge/policy`'s part, telling the edge that of the commands.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nomad.config import Config, ConfigError
from nomad.ports import Conflict, PolicyStore, PolicyVersion

FOUND_WHY = "found in the file; it was edited without 'nomad policy apply'"
MAX_WHY_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """What somebody wants to be in force, and what goes on record with it."""

    text: str
    by: str
    why: str
    base: int | None = None  # the version that the text was made from; None: the newest, whichever that is
    restores: int | None = None
    failed_tests: int = 0


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a change."""

    version: PolicyVersion
    is_new: bool  # False: the newest version has this text already, and was put in force again
    found: int | None = None  # the version that what stood in the file before was kept as


def fingerprint(text: str) -> str:
    """What names a text: its SHA-256 in hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def policy_file(config: Config) -> Path:
    """The working copy. Raises `ConfigError` when the configuration names none."""
    if not config.policy:
        raise ConfigError('policy: is not set: this edge has the built-in policy; write policy = "policy.toml"')
    return config.path(config.policy).resolve()


def read_policy(path: Path) -> str:
    """The text of a policy file, line ends as they are. Raises `ConfigError`."""
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


class Policies:
    """The versions of one policy and its working copy."""

    def __init__(self, store: PolicyStore, path: Path, *, wall: Callable[[], float]) -> None:
        self._store = store
        self._path = path
        self._wall = wall

    async def newest(self) -> PolicyVersion | None:
        """What was applied last."""
        found = await self._store.history(1)
        return found[0] if found else None

    async def apply(self, change: Change, *, activate: Callable[[], None]) -> Applied:
        """Store the text as a version, write the working copy, and have it taken up; all of it or nothing.

        Raises `Conflict` when somebody was quicker, `ConfigError` when the file cannot be written, and whatever
        `activate` raises; it runs in a thread.
        """
        newest = await self.newest()
        number = newest.number if newest else 0
        if change.base is not None and change.base != number:
            raise Conflict(self._who_was_quicker(newest, f"this was made from version {change.base}"))
        before = _bytes_of(self._path)
        applied, versions = await self._versions(change, newest, before)
        try:
            await self._store.add(versions)
        except Conflict:
            raise Conflict(self._who_was_quicker(await self.newest(), "somebody else was quicker")) from None
        try:
            await asyncio.to_thread(write_whole, self._path, change.text.encode("utf-8"))
            await asyncio.to_thread(activate)
        except BaseException:
            await self._undo(versions, before)
            raise
        return applied

    async def _versions(
        self, change: Change, newest: PolicyVersion | None, before: bytes | None
    ) -> tuple[Applied, list[PolicyVersion]]:
        """The versions to add: the text itself, after what stood in the file when that was never applied."""
        number, at, versions = newest.number if newest else 0, self._wall(), []
        old = None if before is None else before.decode("utf-8", "replace")
        if old is not None and old != change.text and await self._store.find(fingerprint(old)) is None:
            versions.append(PolicyVersion(number + 1, at, "", FOUND_WHY, fingerprint(old), old))
        found = versions[0].number if versions else None
        sha = fingerprint(change.text)
        if newest is not None and newest.sha == sha and found is None and change.restores is None:
            return Applied(newest, is_new=False), []
        version = PolicyVersion(
            number=number + 1 + len(versions),
            at=at,
            by=change.by,
            why=change.why[:MAX_WHY_CHARS],
            sha=sha,
            text=change.text,
            restores=change.restores,
            failed_tests=change.failed_tests,
        )
        return Applied(version, is_new=True, found=found), [*versions, version]

    async def _undo(self, versions: list[PolicyVersion], before: bytes | None) -> None:
        """Nothing may be left of a change that did not come into force, unless another one followed it already."""
        try:
            for version in reversed(versions):
                await self._store.withdraw(version.number)
        except Conflict:
            return
        if before is None:
            self._path.unlink(missing_ok=True)
        else:
            await asyncio.to_thread(write_whole, self._path, before)

    @staticmethod
    def _who_was_quicker(newest: PolicyVersion | None, why: str) -> str:
        if newest is None:
            return f"{why}; there is no version yet"
        return (
            f"{why}: version {newest.number} is of {newest.by or 'nobody known'} ({newest.why or 'no reason given'}); "
            f"look at it with 'nomad policy show {newest.number}', then apply again"
        )


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file at once: whoever reads sees the old or the new text, also after a crash. Raises `ConfigError`."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _like_before(path, Path(name))
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


def _like_before(path: Path, new: Path) -> None:
    """Mode and owner of the file that is replaced; a new one may be read by everybody, it holds no secret."""
    if not path.exists():
        new.chmod(0o644)
        return
    old = path.stat()
    new.chmod(old.st_mode & 0o7777)
    with contextlib.suppress(PermissionError):
        os.chown(new, old.st_uid, old.st_gid)
