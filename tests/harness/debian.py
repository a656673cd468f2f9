"""Which real components are there, what to install for those that are not, and programs of other Debian suites."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.processes import ProcessFailed, find_program, run

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "var" / "cache" / "suites"


@dataclass(frozen=True, slots=True)
class Component:
    """A real program that tests start: its files or commands, and the Debian packages that bring them."""

    needs: tuple[str, ...]
    packages: tuple[str, ...]

    def missing(self) -> bool:
        """Whether something of it is not there."""
        return not all(Path(need).exists() if need.startswith("/") else find_program(need) for need in self.needs)


COMPONENTS = {
    "slapd": Component(("slapd", "ldapsearch"), ("slapd", "ldap-utils")),
    "freeradius": Component(
        ("freeradius", "radclient", "/usr/lib/freeradius/rlm_ldap.so"),
        ("freeradius", "freeradius-utils", "freeradius-ldap"),
    ),
    "radclient": Component(("radclient",), ("freeradius-utils",)),
    # Debian bookworm has no asterisk; it is unpacked from another suite
    "asterisk": Component(("mmdebstrap", "openssl"), ("mmdebstrap", "openssl")),
    "baresip": Component(("baresip",), ("baresip-core",)),
    "sipp": Component(("sipp",), ("sip-tester",)),
    "openssl": Component(("openssl",), ("openssl",)),
    "sipsak": Component(("sipsak",), ("sipsak",)),
    "linphone": Component(("linphonec",), ("linphone-cli",)),
    "chromium": Component(("chromium", "npm"), ("chromium", "npm")),
}


def require(*names: str) -> None:
    """Skip the test, naming component and install line, when one is missing; fail it if NOMAD_REQUIRE asks for it."""
    demanded = {name.strip() for name in os.environ.get("NOMAD_REQUIRE", "").split(",")}
    for name in names:
        if COMPONENTS[name].missing():
            packages = " ".join(COMPONENTS[name].packages)
            text = f"{name} is missing: apt-get install -y --no-install-recommends {packages}"
            if demanded & {"all", name}:
                pytest.fail(f"{text} (NOMAD_REQUIRE={os.environ['NOMAD_REQUIRE']})", pytrace=False)
            pytest.skip(text)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A program of another suite with its own loader and libraries; the host's files stay as they are."""

    root: Path
    command: tuple[str, ...]

    def find(self, name: str) -> Path:
        """The first file or folder below the unpacked root whose path ends so."""
        for folder, folders, files in os.walk(self.root):
            for entry in (*folders, *files):
                path = Path(folder, entry)
                if str(path).endswith(name):
                    return path
        raise ProcessFailed(f"nothing ends with {name} in {self.root}")


def from_suite(package: str, program: str, *, suite: str) -> Unpacked:
    """Unpack a package of another suite, once, and say how to run its program. Takes about ten seconds and 200 MB."""
    root = CACHE / f"{suite}-{package}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{suite}-{package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _unpack(package, suite, root)
    loader = next(root.glob("lib64/ld-linux-*"), None) or next(root.rglob("ld-linux-*.so*"))
    libraries = [
        str(path) for path in root.rglob("*") if path.is_dir() and re.search(r"/lib(/[^/]*-linux-gnu)?$", str(path))
    ]
    path = root / program.lstrip("/")
    if not path.exists():
        raise ProcessFailed(f"{package} of {suite} has no {program}")
    return Unpacked(root, (str(loader), "--library-path", ":".join(libraries), str(path)))


def _unpack(package: str, suite: str, root: Path) -> None:
    part = Path(tempfile.mkdtemp(prefix=f"{root.name}.", dir=root.parent))
    part.chmod(0o755)
    tolerant = ["--aptopt=Acquire::Check-Valid-Until false", "--aptopt=Acquire::Check-Date false"]
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={package}", *tolerant, suite, part, _mirror()]
    try:
        run(command, timeout_s=400.0)
        for unused in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/zoneinfo"):
            shutil.rmtree(part / unused, ignore_errors=True)
        part.rename(root)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _mirror() -> str:
    """The mirror from which this machine's own apt takes its own suite."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    codename = release.get("VERSION_CODENAME", "").strip('"')
    targets = run(["apt-get", "update", "--print-uris"])
    if found := re.search(rf"^'(\S+?)/dists/{codename}/InRelease'", targets, re.MULTILINE):
        return found[1]
    raise ProcessFailed(f"apt names no mirror for {codename}")
