"""SIPVicious, the scanner that most attacks begin with: its commands, and what their tables say that they found."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.harness.people import DOMAIN
from tests.harness.ports import HOST
from tests.harness.processes import attempt

TIMEOUT_S = 90.0
ROW = re.compile(r"^\|\s*(.*?)\s*\|\s*(.*?)\s*\|", re.MULTILINE)
HEADINGS = {"SIP Device", "Extension"}


@dataclass(frozen=True, slots=True)
class Found:
    """What a command printed, and the rows of its table."""

    output: str
    rows: tuple[tuple[str, str], ...]


class SipVicious:
    """An attacker at 127.0.0.1: svwar and svcrack know an option to bind to another address, and do not heed it."""

    def __init__(self, folder: Path, target: tuple[str, int]) -> None:
        self._folder = folder
        self._host, self._port = target

    def svmap(self, method: str = "OPTIONS") -> Found:
        """Is there anything?"""
        return self._run("svmap", f"-p{self._port}", "-m", method, self._host)

    def svwar(self, names: Iterable[str], method: str = "REGISTER") -> Found:
        """Which of these extensions exist?"""
        words = self._write("names", names)
        target = f"udp://{self._host}:{self._port}"
        options = ("-d", words, "-m", method, "--domain", DOMAIN, "--force", "--maximumtime", "5")
        return self._run("svwar", *options, target)

    def svcrack(self, user: str, passwords: Iterable[str]) -> Found:
        """Which of these passwords is right?"""
        words = self._write("passwords", passwords)
        target = f"udp://{self._host}:{self._port}"
        return self._run("svcrack", "-u", user, "-d", words, "--domain", DOMAIN, "--maximumtime", "5", target)

    def _run(self, name: str, *arguments: object) -> Found:
        command = [Path(sys.executable).with_name(f"sipvicious_{name}"), "-x", HOST]
        done = attempt([*command, *arguments], timeout_s=TIMEOUT_S, cwd=self._folder)
        rows = tuple(row for row in ROW.findall(done.stdout) if row[0] not in HEADINGS)
        return Found(done.stdout, rows)

    def _write(self, name: str, words: Iterable[str]) -> Path:
        path = self._folder / name
        path.write_text("".join(f"{word}\n" for word in words))
        return path
