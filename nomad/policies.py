"""The life of a policy: which text is in force, who put it there and why, and how the next one takes its place.

The file that the configuration names is the working copy; the store keeps every version that was applied. Judging a
text is `edge/policy`'s part, telling the edge that of the commands.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from nomad.config import Config, ConfigError
from nomad.ports import Conflict, PolicyStore, PolicyVersion

FOUND_WHY = "found in the file; it was edited without 'nomad policy apply'"
MAX_WHY_CHARS = 1000
PATIENCE_S = 30.0  # how long somebody waits for another who applies a policy
TRY_S = 0.05


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

    async def number(self) -> int:
        """Its number, 0 when there is none."""
        newest = await self.newest()
        return newest.number if newest else 0

    async def newest(self) -> PolicyVersion | None:
        """What was applied last."""
        found = await self._store.history(1)
        return found[0] if found else None

    async def apply(self, change: Change, *, activate: Callable[[], None]) -> Applied:
        """Store the text as a version, write the working copy, and have it taken up; all of it or nothing.

        Raises `Conflict` when somebody was quicker, `ConfigError` when the file cannot be written, and whatever
        `activate` raises; it runs in a thread.
        """
        base = change.base if change.base is not None else await self.number()
        async with self._alone():
            newest = await self.newest()
            if base != (newest.number if newest else 0):
                raise Conflict(self._who_was_quicker(newest, f"this was made from version {base}"))
            before = _bytes_of(self._path)
            applied, versions = await self._versions(change, newest, before)
            try:
                await self._store.add(versions)
            except Conflict:  # on another machine: the file is its own
                raise Conflict(self._who_was_quicker(await self.newest(), "somebody else was quicker")) from None
            text = change.text.encode("utf-8")
            try:
                await asyncio.to_thread(write_whole, self._path, text)
                await asyncio.to_thread(activate)
            except BaseException:
                await self._undo(versions, before, text)
                raise
            return applied

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Nobody else of this machine applies a policy meanwhile: or the file would be of one and the version of
        another. Raises `Conflict` when somebody takes too long.
        """
        try:
            folder = os.open(self._path.parent, os.O_RDONLY)
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be written: {error.strerror}") from None
        try:
            tries = int(PATIENCE_S / TRY_S)
            while not _lock(folder):
                tries -= 1
                if not tries:
                    why = f"somebody else has been applying a policy for {PATIENCE_S:.0f} s"
                    raise Conflict(self._who_was_quicker(await self.newest(), why))
                await asyncio.sleep(TRY_S)
            yield
        finally:
            os.close(folder)  # and with it the lock

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

    async def _undo(self, versions: list[PolicyVersion], before: bytes | None, text: bytes) -> None:
        """Nothing may be left of a change that did not come into force, but in the history when another followed it."""
        with contextlib.suppress(Conflict):
            for version in reversed(versions):
                await self._store.withdraw(version.number)
        if _bytes_of(self._path) != text:
            return  # somebody edited it meanwhile
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


def _lock(descriptor: int) -> bool:
    """Whether a file could be locked; the lock ends with the process at the latest."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
