"""Accounting records in a file, one JSON object a line; an event is written once, however often it is sent.

Which events are there is read from the file and its predecessors at the first write, so that a restart forgets none.
Opened anew when the file was moved away, so that logrotate needs nothing else. Does not rotate by itself.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from radius.errors import LedgerUnavailable
from radius.ports import Record

MAX_KNOWN = 200_000  # events of which copies are recognised, the newest
MAX_READ_BYTES = 1 << 27  # of one file, from its end
HEAD = b'{"event_id": "'
ID_CHARS = 32
PACKED = (".gz", ".bz2", ".xz", ".zst")


class DetailFile:
    """A `Book` that is a file."""

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        """`sync`: a record is on the disk before it counts as stored; else only in the hands of the system."""
        self._path = path
        self._sync = sync
        self._known: OrderedDict[str, None] | None = None

    def store(self, records: Sequence[Record]) -> dict[str, str]:
        """Append what is not there yet. Raises `LedgerUnavailable`."""
        try:
            if self._known is None:
                self._known = self._recover()
            new = {record.id: record for record in records if record.id not in self._known}
            if new:
                self._append(b"".join(_line(record) for record in new.values()))
        except OSError as error:
            raise LedgerUnavailable(f"{self._path}: {error.strerror}") from None
        self._known.update(dict.fromkeys(new))
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return {}

    def close(self) -> None:
        """Nothing is held open."""

    def _append(self, data: bytes) -> None:
        made = not self._path.exists()
        with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            try:
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]
                if self._sync:
                    os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), before)  # half a record would spoil the next one
                raise
        if made and self._sync:
            _sync_folder(self._path.parent)

    def _recover(self) -> OrderedDict[str, None]:
        """The newest events on file. A last line without its end was never acknowledged: it is cut off."""
        known: deque[str] = deque()
        _cut_torn_line(self._path)
        for path in self._files():
            ids = deque(_ids(path), maxlen=MAX_KNOWN - len(known))
            known.extendleft(reversed(ids))
            if len(known) >= MAX_KNOWN:
                break
        return OrderedDict.fromkeys(known)

    def _files(self) -> list[Path]:
        """The file and what it was moved to, newest first; what is packed is left out."""
        found = [path for path in self._path.parent.glob(f"{self._path.name}*") if path.suffix not in PACKED]
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _line(record: Record) -> bytes:
    values = {"event_id": record.id, **record.values}
    return json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"


def _ids(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MAX_READ_BYTES))
        for line in file:
            if line.startswith(HEAD):
                yield line[len(HEAD) : len(HEAD) + ID_CHARS].decode("ascii", "replace")


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - MAX_READ_BYTES)
        file.seek(start)
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(start + tail.rfind(b"\n") + 1)


def _sync_folder(folder: Path) -> None:
    """Without this a new file may be gone after a power failure, whatever was synced into it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
