"""Which changed settings need a new process: those whose text in `tables.py` says (restart), at the key or the table.

The text is the only place where that is written, so that it cannot be right for people and wrong for the edge.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from nomad.config import tables
from nomad.config.tables import Config, Radius, Struct

MARK = re.compile(r"\([^()]*\brestart\b[^()]*\)")


def needing_restart(old: Config, new: Config) -> tuple[str, ...]:
    """Key paths that differ and that a reload does not take up."""
    return tuple(_differing(_whole(old), _whole(new), ""))


@functools.cache
def marked() -> frozenset[str]:
    """`Table.key` of every key that is marked, and `Table` of every table that is."""
    found: set[str] = set()
    for table in ast.parse(inspect.getsource(tables)).body:
        if not isinstance(table, ast.ClassDef):
            continue
        if MARK.search(ast.get_docstring(table) or ""):
            found.add(table.name)
        for key, text in zip(table.body, table.body[1:], strict=False):
            if isinstance(key, ast.AnnAssign) and isinstance(key.target, ast.Name) and MARK.search(_text(text)):
                found.add(f"{table.name}.{key.target.id}")
    return frozenset(found)


def _differing(old: Struct, new: Struct, prefix: str) -> Iterator[str]:
    table = type(old).__name__
    for field in msgspec.structs.fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after or field.name == "folder":
            continue
        path = f"{prefix}{field.encode_name}"
        if table in marked() or f"{table}.{field.name}" in marked():
            yield path
        elif isinstance(before, Struct) and isinstance(after, Struct):
            yield from _differing(before, after, f"{path}.")


def _whole(config: Config) -> Config:
    """Tables that may be left out, filled in."""
    return config if config.radius else msgspec.structs.replace(config, radius=Radius())


def _text(node: Any) -> str:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return str(node.value.value) if is_text else ""
