"""A PostgreSQL server of its own on loopback, with a throwaway data folder."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

from tests.harness.debian import COMPONENTS, Component
from tests.harness.ports import HOST, free_port
from tests.harness.processes import Process, attempt, run

FOLDER = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), default=None) or Path(
    "/usr/lib/postgresql/bin"
)
COMPONENTS.setdefault("postgresql", Component((str(FOLDER / "initdb"), str(FOLDER / "postgres")), ("postgresql",)))
USER = "nomad"
# the server refuses to run as root: then it runs as the user of the Debian package
AS_USER = ["setpriv", "--pdeathsig", "KILL", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
AS_SERVER = AS_USER if os.geteuid() == 0 else []


class Postgres:
    """A running server; `url` names an empty database."""

    def __init__(self) -> None:
        self._folder = _reachable_folder()
        self._data = self._folder / "data"
        self._port = free_port()
        if AS_SERVER:
            shutil.chown(self._folder, "postgres", "postgres")
        initdb = [*AS_SERVER, FOLDER / "initdb", "-D", self._data, "-U", USER, "--auth=trust", "--no-sync"]
        run([*initdb, "-E", "UTF8", "--locale=C.UTF-8"], cwd=self._folder)
        self._process = self._launch()

    @property
    def url(self) -> str:
        """postgresql://user@host:port/database."""
        return f"postgresql://{USER}@{HOST}:{self._port}/postgres"

    def restart(self) -> None:
        """Stop as a crash would, and start again."""
        self.crash()
        self._process = self._launch()

    def crash(self) -> None:
        """Kill the server and all its children."""
        self._process.kill()
        self._process.stop()

    def stop(self) -> None:
        """Stop and remove everything."""
        self._process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _launch(self) -> Process:
        settings = ["fsync=off", "full_page_writes=off", "unix_socket_directories=", "max_connections=20"]
        command = [*AS_SERVER, FOLDER / "postgres", "-D", self._data, "-h", HOST, "-p", self._port]
        for setting in settings:
            command += ["-c", setting]
        process = Process("postgres", command, log=self._folder / "postgres.log", cwd=self._folder)
        process.wait_ready(self._answers)
        return process

    def _answers(self) -> bool:
        try:
            socket.create_connection((HOST, self._port), timeout=1).close()
        except OSError:
            return False
        return attempt([FOLDER / "pg_isready", "-q", "-h", HOST, "-p", self._port]).returncode == 0


def _reachable_folder() -> Path:
    """A new folder that the server's user can enter; the usual place may be closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="nomad-postgres."))
    folder.chmod(0o755)
    if AS_SERVER and attempt([*AS_SERVER, "test", "-x", folder]).returncode:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="nomad-postgres.", dir="/tmp"))
        folder.chmod(0o755)
    return folder
