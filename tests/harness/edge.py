"""Nomad's edge as its own process: `nomad run` with a configuration, policy and people written for the test.

At every stop the log is looked at: a traceback or an error there fails the test that caused it.
"""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from prometheus_client.parser import text_string_to_metric_families

from tests.harness.debian import ROOT
from tests.harness.people import DOMAIN, SAMPLE, Person, group_dn, ldif
from tests.harness.ports import HOST, free_port
from tests.harness.processes import Process, ProcessFailed, wait_until

DETAIL = "accounting.jsonl"
STATUS_TYPES = {"1": "Start", "2": "Stop", "3": "Interim-Update", "7": "Accounting-On", "8": "Accounting-Off"}
SPOOLED = ("spool", "calls", "cdrs")  # what survives with the accounting records, in one file
READY_S = 20.0
STOP_S = 10.0
HTTP_S = 5.0
FORBIDDEN = ("Traceback", " ERROR ", " CRITICAL ", "py.warnings")
POLICY = f"""\
[classes]
emergency = ["15", "17", "18", "112"]
internal = ["re:[0-9]{{4}}"]
national = ["0", "+33"]
international = ["00", "+"]
premium = ["089", "+3389"]

[[group]]
name = "staff"
match = {{ ldap_group = "{group_dn("staff")}" }}
allow = ["emergency", "internal", "national"]
"""


class RadiusServer(Protocol):
    """What the edge needs to know of one."""

    @property
    def secret(self) -> str:
        """Shared with the edge."""

    @property
    def auth(self) -> str:
        """host:port for Access-Requests."""

    @property
    def acct(self) -> str:
        """host:port for Accounting-Requests."""

    def detail_records(self) -> list[dict[str, str]]:
        """Accounting-Requests as the server wrote them down, in order."""


class EdgeUnclean(Exception):
    """The edge's log has something that no input may cause."""


class Edge:
    """An edge on loopback between phones and a PBX. Without `radius` it runs the embedded server over an LDIF file."""

    def __init__(
        self,
        folder: Path,
        *,
        pbx: str,
        radius: RadiusServer | None = None,
        port: int = 0,
        people: Iterable[Person] = SAMPLE,
        policy: str = POLICY,
        timeout_s: float = 2.0,
        guard: Mapping[str, float | str] | None = None,
        listen: Sequence[str] = (),
        advertise: str = "",
        sip: Mapping[str, float] | None = None,
        extra: str = "",
    ) -> None:
        """`pbx` is a SIP URI with its port, from which the PBX also sends; `timeout_s` is that of RADIUS.

        `listen` is in place of UDP and TCP at `port`; `sip` are more keys of that table, `extra` are
        more tables.
        """
        self.folder = folder
        self.radius = radius
        self.port = port or free_port()
        self.admin_port = free_port()
        (folder / "policy.toml").write_text(policy)
        (folder / "people.ldif").write_text(ldif(people))
        (folder / "nonce.key").write_bytes(b"known to nobody but this test run")
        (folder / "radius.secret").write_text(radius.secret if radius else "")
        self._listen = listen or (f"udp:{self.address}", f"tcp:{self.address}")
        self._advertise = advertise
        self._sip_keys = dict(sip or {})
        (folder / "nomad.toml").write_text(self._config(pbx, timeout_s, guard or {}) + extra)
        self._process = self._launch()

    @property
    def sip(self) -> tuple[str, int]:
        """Where it listens, over UDP and TCP."""
        return HOST, self.port

    @property
    def address(self) -> str:
        """The same as host:port."""
        return f"{HOST}:{self.port}"

    def log(self) -> str:
        """Everything that it has logged, over restarts."""
        return self._process.output()

    def get(self, path: str) -> Any:
        """An answer of the admin API."""
        return json.loads(self._http(path))

    def post(self, path: str, **body: object) -> Any:
        """A command of the admin API."""
        return json.loads(self._http(f"/api/v1/{path}", json.dumps(body).encode()))

    def cdrs(self, call_id: str = "") -> list[dict[str, Any]]:
        """Call records, newest first; of one Call-ID when it is given."""
        found: list[dict[str, Any]] = self.get("/api/v1/cdrs")["cdrs"]
        return [record for record in found if call_id in ("", record["call_id"])]

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by name and labels, written as in the text: name{a="b",c="d"}."""
        samples = {}
        for family in text_string_to_metric_families(self._http("/metrics")):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return samples

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a family's samples that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            value
            for key, value in self.metrics().items()
            if key.partition("{")[0] == name and all(label in key for label in wanted)
        )

    def accounting(self, call_id: str = "") -> list[dict[str, str]]:
        """Accounting-Requests of calls that the RADIUS server wrote down, oldest first."""
        records = self.radius.detail_records() if self.radius else self._embedded_records()
        calls = [record for record in records if record["Acct-Status-Type"] not in ("Accounting-On", "Accounting-Off")]
        return [record for record in calls if call_id in ("", record.get("Nomad-SIP-Call-Id"))]

    def wait_accounted(self, call_id: str, *states: str, timeout_s: float = 10.0) -> list[dict[str, str]]:
        """Wait until the RADIUS server has as many records of a call as there are states; they must be these."""
        found: list[dict[str, str]] = []

        def arrived() -> bool:
            found[:] = self.accounting(call_id)
            return len(found) >= len(states)

        wait_until(arrived, timeout_s=timeout_s, what=f"accounting of {call_id}: {', '.join(states)}")
        assert [record["Acct-Status-Type"] for record in found] == list(states)
        return found

    def wait_cdr(self, call_id: str, *, timeout_s: float = 5.0) -> dict[str, Any]:
        """The only call record of a Call-ID, once it is there."""
        wait_until(lambda: self.cdrs(call_id), timeout_s=timeout_s, what=f"call record of {call_id}")
        (record,) = self.cdrs(call_id)
        return record

    def stored(self, table: str) -> int:
        """How many rows a table of the edge's own files has by now: what a crash would leave."""
        name = "spool.db" if table in SPOOLED else "nomad.db"
        with tempfile.TemporaryDirectory() as folder:
            for file in self.folder.glob(f"{name}*"):  # with its log; the edge lets nobody else read the spool itself
                if not file.name.endswith("-shm"):
                    shutil.copy(file, folder)
            connection = sqlite3.connect(Path(folder, name))
            try:
                return int(connection.execute(f"select count(*) from {table}").fetchone()[0])
            finally:
                connection.close()

    def kill9(self) -> None:
        """End it as a crash would, with the embedded RADIUS server."""
        self._process.kill()

    def start(self) -> None:
        """Start it again on the same ports, after `kill9` or `stop`."""
        self._process = self._launch()

    def restart(self) -> None:
        """Stop it in good order and start it again."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """Stop it as systemd would. Raises when it does not end well, or its log has what must not be there."""
        if self._process.exit_code is None:
            self._process.send(signal.SIGTERM)
            code = self._process.wait(STOP_S)
            if code != 0:
                raise ProcessFailed(f"the edge ended with {code}:\n{self.log()[-3000:]}")
        self._process.stop()
        self.check_log()

    def check_log(self) -> None:
        """Raise on an error in the log."""
        bad = [line for line in self.log().splitlines() if any(word in line for word in FORBIDDEN)]
        if bad:
            raise EdgeUnclean("\n".join(line[:3000] for line in bad[:5]))

    def _config(self, pbx: str, timeout_s: float, guard: Mapping[str, float | str]) -> str:
        lines = [f'domain = "{DOMAIN}"', 'policy = "policy.toml"', "[sip]", 'nonce_key_file = "nonce.key"']
        lines += [f"listen = {json.dumps(self._listen)}", f'advertise = "{self._advertise}"']
        lines += [f"{key} = {value}" for key, value in self._sip_keys.items()]
        if self.radius:
            lines += ["[radius]", f'auth = ["{self.radius.auth}"]', f'acct = ["{self.radius.acct}"]']
            lines += ['secret_file = "radius.secret"', f"timeout_s = {timeout_s}"]
        else:
            lines += ["[directory]", 'url = "file:people.ldif"']
        lines += ["[[pbx]]", 'name = "pbx"', f'uri = "{pbx}"']
        lines += ["[store]", 'url = "sqlite:///nomad.db"', 'spool = "spool.db"']
        lines += ["[accounting]", f'detail = "{DETAIL}"']
        # every test comes from 127.0.0.1, those that fail on purpose too
        limits = {"auth_failures": 1000, "malformed": 1000, **guard}
        lines += ["[guard]", *(f"{key} = {json.dumps(value)}" for key, value in limits.items())]
        lines += ["[admin]", f'listen = "{HOST}:{self.admin_port}"']
        return "\n".join(lines) + "\n"

    def _launch(self) -> Process:
        command = [sys.executable, "-m", "nomad", "run", "-c", self.folder / "nomad.toml"]
        process = Process("edge", command, log=self.folder / "edge.log", cwd=ROOT, env={"PYTHONUNBUFFERED": "1"})
        process.wait_ready(self._is_healthy, timeout_s=READY_S)
        return process

    def _is_healthy(self) -> bool:
        try:
            self._http("/healthz")
        except (urllib.error.URLError, OSError):
            return False
        return True

    def _http(self, path: str, body: bytes | None = None) -> str:
        headers = {} if body is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://{HOST}:{self.admin_port}{path}", body, headers)
        with urllib.request.urlopen(request, timeout=HTTP_S) as answer:
            return str(answer.read().decode())

    def _embedded_records(self) -> list[dict[str, str]]:
        path = self.folder / DETAIL
        if not path.exists():
            return []
        records = [
            {key: str(value) for key, value in json.loads(line).items()} for line in path.read_text().splitlines()
        ]
        for record in records:
            state = record["Acct-Status-Type"]
            record["Acct-Status-Type"] = STATUS_TYPES.get(state, state)
        return records
