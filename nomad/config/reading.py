"""TOML text to structs: unknown keys are refused, errors name file, line, key path and the mend; secrets are files."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from nomad.config.checks import check
from nomad.config.tables import Config

UNKNOWN_FIELD = re.compile(r"Object contains unknown field `([^`]*)`")
KEY_PATH = re.compile(r"[a-z0-9_]+(\[[0-9]+\])?(\.[a-z0-9_]+(\[[0-9]+\])?)*")
INDEX = re.compile(r"\[[0-9]+\]$")  # of an entry of a list: it has no line of its own
AT_PATH = re.compile(r" - at `([^`]*)`")
AT_LINE = re.compile(r"\(at line ([0-9]+),")
T = TypeVar("T")


class ConfigError(Exception):
    """A configuration that cannot be used; `str()` is for humans: file, line, key path and the mend."""


def load(path: Path) -> Config:
    """Read and check a configuration file. Raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; give the file with -c") from None
    config = decode(text, str(path), Config)
    config = msgspec.structs.replace(config, folder=str(path.parent.resolve()))
    if problems := check(config):
        raise ConfigError("\n".join(_placed(problem, text, str(path)) for problem in problems))
    return config


def _placed(problem: str, text: str, name: str) -> str:
    """A problem with the file and the line of the key that it begins with."""
    key = problem.partition(":")[0]
    line = line_of(text, f"$.{INDEX.sub('', key)}") if KEY_PATH.fullmatch(key) else 0
    return f"{name}:{line}: {problem}" if line else f"{name}: {problem}"


def decode(text: str, name: str, kind: type[T]) -> T:
    """TOML text to a struct; `ConfigError` names `name`, the line, the key path and the mend."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = AT_LINE.search(str(error))
        where = f"{name}:{found[1]}" if found else name
        raise ConfigError(f"{where}: not TOML: {error}") from None
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), text, name, kind)) from None


def _explain(message: str, text: str, name: str, kind: type) -> str:
    """Turn msgspec's message into file, line, key path and mend."""
    found = AT_PATH.search(message)
    path = found.group(1) if found else "$"
    wrong = AT_PATH.sub("", message)
    mend = ""
    unknown = UNKNOWN_FIELD.match(wrong)
    if unknown:
        key = unknown.group(1)
        known = _keys_at(kind, path)
        near = difflib.get_close_matches(key, known, n=1)
        mend = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
        path, wrong = f"{path}.{key}", f"unknown key '{key}'"
    line = line_of(text, path)
    where = f"{name}:{line}" if line else name
    shown = path.removeprefix("$.").removeprefix("$") or "top level"
    return f"{where}: {shown}: {wrong}" + (f"; {mend}" if mend else "")


def _keys_at(kind: Any, path: str) -> list[str]:
    """Keys that the table at a msgspec path may have."""
    for part in re.sub(r"\[[^\]]*\]", "", path.removeprefix("$")).split("."):
        if part:
            kind = next((f.type for f in msgspec.structs.fields(kind) if f.encode_name == part), kind)
        kind = _struct_in(kind)
    return [field.encode_name for field in msgspec.structs.fields(kind) if field.encode_name != "folder"]


def _struct_in(kind: Any) -> Any:
    """The struct type inside `X | None`, `tuple[X, ...]` or `dict[str, X]`."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    for inner in getattr(kind, "__args__", ()):
        found = _struct_in(inner)
        if isinstance(found, type) and issubclass(found, msgspec.Struct):
            return found
    return kind


def line_of(text: str, path: str) -> int:
    """Line number of a key path such as `$.sip.listen` or `$.group[1].allow`; 0 when it is not found.

    A reader's aid over the file's own layout ([table] and [[table]] headers), not a second TOML parser.
    """
    parts = re.findall(r"[^.\[\]]+", path.removeprefix("$"))
    names = [part for part in parts if not part.isdigit() and part != "..."]
    wanted = next((int(part) for part in parts if part.isdigit()), 0)
    table: list[str] = []
    seen: dict[str, int] = {}
    best = 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?", line)
        if header:
            table = [part.strip(" \"'") for part in header.group(1).split(".")]
            seen[".".join(table)] = seen.get(".".join(table), -1) + 1
        here = table
        key = re.match(r"\s*[\"']?([A-Za-z0-9_-]+)[\"']?\s*=", line)
        if key and not header:
            here = [*table, key.group(1)]
        same_entry = seen.get(".".join(table), 0) == wanted or not table
        if (header or key) and same_entry and here == names[: len(here)] and here:
            best = number
            if len(here) == len(names):
                return number
    return best


def secret(config: Config, file: str, variable: str) -> bytes:
    """A secret from its NOMAD_* variable or its file; b"" when neither is given. Raises `ConfigError`."""
    if value := os.environ.get(variable):
        return value.encode("utf-8", "surrogateescape")
    if not file:
        return b""
    try:
        text = config.path(file).read_bytes().strip(b"\r\n")
    except OSError as error:
        raise ConfigError(f"{config.path(file)}: secret cannot be read: {error.strerror}") from None
    if not text:
        raise ConfigError(f"{config.path(file)}: is empty; write the secret into it")
    return text
