"""The house rules that a machine can check: who imports whom, how long a file may be, a test file per source file."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*ROOT.glob("nomad/**/*.py"), *ROOT.glob("radius/**/*.py")])
MAX_LINES = 600

PURE_RADIUS = {"digest", "exchange"}
IMPURE = {"asyncio", "socket", "ssl", "time", "random", "secrets", "logging", "threading", "uvloop", "select", "os"}
LEAVES = {"config", "clock", "tasks", "log", "metrics"}
# What each room of `nomad` may import of ours, besides itself
ALLOWED = {
    "sip": set(),
    "ports": {"sip"},
    "edge": {"sip", "ports", *LEAVES},
    "transport": {"sip", "ports", *LEAVES},
    "stores": {"sip", "ports", *LEAVES},
    "media": {"sip", "ports", *LEAVES},
    "alarm": {"ports", *LEAVES},
    "admin": {"ports", *LEAVES},
    "aaa": {"sip", "ports", *LEAVES},
    "console": {"sip", "ports", "edge", *LEAVES},
    "demo": {"app", "sip", "ports", *LEAVES},
    "directory": {"ports", "servers", *LEAVES},
    "servers": {"ports", "aaa", *LEAVES},
    "geoip": {"ports", *LEAVES},
    "inputs": {"sip", "ports", "edge", "transport", "geoip", "policies", *LEAVES},
    "policies": {"ports", "edge", *LEAVES},
    "gate": {"ports", "edge", "alarm", *LEAVES},
    "process": {"app", "inputs", "ports", *LEAVES},
    "app": {
        "sip",
        "ports",
        "edge",
        "transport",
        "stores",
        "media",
        "alarm",
        "admin",
        "aaa",
        "servers",
        "directory",
        "gate",
        "inputs",
        "policies",
        "console",
        "demo",
        *LEAVES,
    },
    "cli": {
        "app",
        "inputs",
        "policies",
        "stores",
        "geoip",
        "process",
        "servers",
        "ports",
        "demo",
        "edge",
        "sip",
        *LEAVES,
    },
    "__main__": {"cli"},
    "__init__": set(),
    **{leaf: set() for leaf in LEAVES},
}
MAY_IMPORT_RADIUS = {"aaa", "directory", "servers", "app", "cli", "demo"}
# `metrics` shows call records and the spool: it may name the values of `ports`
ALLOWED["metrics"] = {"ports", "sip"}
UNMIRRORED = {"__init__.py", "__main__.py"}


def imports_of(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names += [f"{module}.{alias.name}" for alias in node.names] if module in ("nomad", "radius") else [module]
    return names


def room_of(path: Path) -> str:
    relative = path.relative_to(ROOT / "nomad")
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    if package == "radius":
        wrong = [name for name in imports_of(path) if name.split(".")[0] == "nomad"]
        assert not wrong, f"radius stands alone, yet imports {wrong}"
        return
    room = room_of(path)
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "radius":
            assert room in MAY_IMPORT_RADIUS, f"{room} may not import {name}"
        if parts[0] == "nomad" and len(parts) > 1 and parts[1] != room and not parts[1].startswith("__"):
            assert parts[1] in ALLOWED[room], f"{room} may not import {name}"


@pytest.mark.parametrize(
    "path",
    [p for p in SOURCES if p.parts[-2] == "sip" or (p.parts[-2] == "radius" and p.stem in PURE_RADIUS)],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_protocol_code_is_pure(path: Path) -> None:
    wrong = [name for name in imports_of(path) if name.split(".")[0] in IMPURE]
    assert not wrong, f"pure code must not import {wrong}; take bytes and `now`, give back bytes and events"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines; split it first, then add"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_source_file_has_its_test_file(path: Path) -> None:
    if path.name in UNMIRRORED:
        return
    relative = path.relative_to(ROOT)
    parts = relative.parts[1:] if relative.parts[0] == "nomad" else relative.parts
    test = ROOT.joinpath("tests", *parts[:-1], f"test_{parts[-1]}")
    assert test.is_file(), f"{test.relative_to(ROOT)} is missing"


def test_no_path_or_registry_of_a_machine_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout
    for name in listed.decode().split("\0"):
        path = ROOT / name
        if not name or name.startswith("tests/torture/") or not path.is_file():
            continue
        text = path.read_bytes()
        for wrong in (b"/work/" + b"main", b"/work/" + b"shared", b"--index" + b"-url", b"/root/." + b"pyenv"):
            assert wrong not in text, f"{name} holds {wrong.decode()}"
