"""What can still be read of a spool file that was damaged: into a new file in its place, the old one kept beside it.

Blocks. A page that is gone costs the entries on it, and neither the rest nor the service.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LOCK_WAIT_S = 1.0
COMPANIONS = ("-wal", "-shm")  # of SQLite, beside the file


def mend(path: Path, schema: str, tables: Mapping[str, Sequence[str]]) -> str:
    """Replace a damaged file; where the damaged one is now, "" when nothing was wrong. `tables`: columns by name.

    Whatever else may be wrong with the file is for who opens it to find. Raises `sqlite3.Error` and `OSError`.
    """
    if not path.exists() or not _is_damaged(path):
        return ""
    made = path.with_name(f"{path.name}.mended")
    made.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as old, contextlib.closing(sqlite3.connect(made)) as new:
        new.execute("PRAGMA synchronous=FULL")
        new.executescript(schema)
        for table, columns in tables.items():
            _copy(old, new, table, columns)
        new.commit()
    kept = path.with_name(f"{path.name}.damaged-{time.time_ns() // 1_000_000}")
    for companion in COMPANIONS:  # first: a crash now must not leave them to the new file
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + companion).rename(kept.with_name(kept.name + companion))
    path.rename(kept)
    made.rename(path)
    return str(kept)


def _is_damaged(path: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=LOCK_WAIT_S)) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            return bool(verdict != "ok")
    except sqlite3.DatabaseError as error:
        return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CORRUPT  # without what extended codes add


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str, columns: Sequence[str]) -> None:
    """From the front up to the damage, and from the back."""
    names = ", ".join(columns)
    add = f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - constants
    for order in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.DatabaseError):
            new.executemany(add, old.execute(f"SELECT {names} FROM {table} ORDER BY rowid {order}"))  # noqa: S608
