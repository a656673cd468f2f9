"""Programs under test: own process group, output in a file, gone when the test run is gone.

A program is stopped by `stop`, else at the exit of the test run, else (the run was killed) by the kernel, which sends
SIGKILL when the thread that started it ends: start programs in the main thread. Everything here blocks; a test whose
edge runs in its own event loop calls the rest through `asyncio.to_thread`.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
POLL_S = 0.02
T = TypeVar("T")


class ProcessFailed(Exception):
    """A program did not start, ended early or did not do its part; the text ends with the tail of its output."""


def find_program(name: str) -> str | None:
    """The path of a program, also where an ordinary user's PATH does not look."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *SBIN]))


def wait_until(check: Callable[[], T | None], *, timeout_s: float, what: str) -> T:
    """Poll until `check` returns something true, and return that."""
    end = time.monotonic() + timeout_s
    while True:
        if found := check():
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(POLL_S)


def run(command: Sequence[object], *, stdin: str = "", timeout_s: float = 60.0, cwd: Path | None = None) -> str:
    """Run a short command to its end and return its output, standard error included."""
    done = attempt(command, stdin=stdin, timeout_s=timeout_s, cwd=cwd)
    if done.returncode:
        raise ProcessFailed(f"{_words(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def attempt(
    command: Sequence[object], *, stdin: str = "", timeout_s: float = 60.0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a short command to its end, whatever its exit code."""
    return subprocess.run(
        [str(word) for word in command],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout_s,
        cwd=cwd,
        check=False,
    )


class Process:
    """One running program."""

    def __init__(
        self,
        name: str,
        command: Sequence[object],
        *,
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            # setpriv asks the kernel for the SIGKILL that a preexec_fn could only ask for at the risk of a deadlock
            self._popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *(str(word) for word in command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        atexit.register(self.stop, grace_s=1.0)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def output(self) -> str:
        """Everything it has printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_ready(self, check: Callable[[], object], *, timeout_s: float = 20.0) -> None:
        """Wait until `check` is true; raise with the tail of the output when it ends before or takes too long."""

        def state() -> bool:
            if self.exit_code is not None:
                raise ProcessFailed(f"{self.name} ended with {self.exit_code}:\n{self.output()[-3000:]}")
            return bool(check())

        try:
            wait_until(state, timeout_s=timeout_s, what=f"{self.name} ready")
        except TimeoutError as late:
            self.stop()
            raise ProcessFailed(f"{late}:\n{self.output()[-3000:]}") from None
        except ProcessFailed:
            self.stop()
            raise

    def wait(self, timeout_s: float) -> int:
        """Wait for its end and return the exit code; it is stopped when it takes too long."""
        try:
            code = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.stop()
            raise ProcessFailed(f"{self.name} did not end within {timeout_s:g} s:\n{self.output()[-3000:]}") from None
        atexit.unregister(self.stop)
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program alone, not to its group."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        self._signal_group(signal.SIGKILL)
        self._popen.wait(10)

    def stop(self, *, grace_s: float = 5.0) -> None:
        """End the whole process group: SIGTERM, then SIGKILL. Safe to call again."""
        atexit.unregister(self.stop)
        if self._popen.poll() is None:
            self._signal_group(signal.SIGTERM)
            try:
                self._popen.wait(grace_s)
            except subprocess.TimeoutExpired:
                pass
        self._signal_group(signal.SIGKILL)
        self._popen.wait(10)

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._popen.pid, number)
        except ProcessLookupError:
            pass


def _words(command: Sequence[object]) -> str:
    return " ".join(str(word) for word in command)[:300]
