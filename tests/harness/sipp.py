"""SIPp: scripted flows from tests/interop/sipp, with injected fields and counted results."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.debian import ROOT
from tests.harness.people import DOMAIN
from tests.harness.ports import HOST, free_port, free_range, is_free
from tests.harness.processes import Process, ProcessFailed

SCENARIOS = ROOT / "tests" / "interop" / "sipp"
TRANSPORTS = {"udp": "u1", "tcp": "t1"}
DEFAULTS = {"DOMAIN": DOMAIN, "HOLD_MS": "500", "CODE": "200"}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the calls of a run; `errors` is SIPp's own account of what was not as the scenario says."""

    successful: int
    failed: int
    errors: str
    messages: str


class Sipp:
    """One run of a scenario. With a target it calls; without one it waits to be called."""

    def __init__(
        self,
        folder: Path,
        scenario: str,
        *,
        target: str = "",
        fields: Iterable[Sequence[str]] = (),
        values: Mapping[str, str] | None = None,
        transport: str = "udp",
        calls: int = 1,
        rate: int = 10,
        limit: int = 100,
        port: int = 0,
        echo: bool = False,
        auth_uri: str = DOMAIN,
        timeout_s: float = 30.0,
        call_id: str = "",
    ) -> None:
        """`call_id` is that of the only call, when another run is to have the same."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._calls = calls
        self._timeout_s = timeout_s
        self.port = port or free_port()
        text = (SCENARIOS / f"{scenario}.xml").read_text()
        for key, value in {**DEFAULTS, **(values or {})}.items():
            text = text.replace(f"@{key}@", value)
        (folder / "scenario.xml").write_text(text)
        rows = [";".join(row) for row in fields]
        command = ["sipp", *([target] if target else []), "-sf", "scenario.xml", "-t", TRANSPORTS[transport]]
        if rows:
            (folder / "fields.csv").write_text("\n".join(["SEQUENTIAL", *rows]) + "\n")
            command += ["-inf", "fields.csv"]
        # the control socket would listen on every address
        command += ["-i", HOST, "-p", str(self.port), "-ci", HOST, "-cp", str(free_port())]
        command += ["-mi", HOST, "-mp", str(free_range(4)), *(["-rtp_echo"] if echo else [])]
        # the edge wants credentials made for the Request-URI; SIPp would take the address that it sends to
        command += ["-auth_uri", auth_uri]
        command += ["-cid_str", call_id] if call_id else []
        command += ["-m", str(calls), "-r", str(rate), "-l", str(limit), "-nostdin"]
        command += ["-timeout", f"{timeout_s:g}s", "-timeout_error", "-trace_stat", "-stf", "stat.csv", "-fd", "1"]
        command += ["-trace_err", "-error_file", "errors.log", "-trace_msg", "-message_file", "messages.log"]
        self._process = Process("sipp", command, log=folder / "screen.log", cwd=folder)
        if not target:
            self._process.wait_ready(lambda: not is_free(self.port))

    @property
    def address(self) -> str:
        """host:port."""
        return f"{HOST}:{self.port}"

    def messages(self) -> str:
        """Every message sent and received so far."""
        return self._read("messages.log")

    def wait(self) -> Result:
        """Wait until every call has ended."""
        self._process.wait(self._timeout_s + 5)
        return self._result()

    def stop(self) -> None:
        """End the run."""
        self._process.stop()

    def _result(self) -> Result:
        rows = list(csv.DictReader(self._read("stat.csv").splitlines(), delimiter=";"))
        if not rows:
            raise ProcessFailed(f"sipp ended with {self._process.exit_code}:\n{self._process.output()[-2000:]}")
        last = rows[-1]
        errors = self._read("errors.log")
        return Result(int(last["SuccessfulCall(C)"]), int(last["FailedCall(C)"]), errors, self.messages())

    def _read(self, name: str) -> str:
        path = self._folder / name
        return path.read_text(errors="replace") if path.exists() else ""


def credentials(login: str, password: str) -> str:
    """A field that makes SIPp answer a challenge; it expands no other field within this keyword."""
    return f"[authentication username={login} password={password}]"


def call(
    folder: Path,
    target: str,
    number: str,
    *,
    user: str = "sipp",
    password: str = "",
    scenario: str = "call",
    values: Mapping[str, str] | None = None,
    transport: str = "udp",
) -> Result:
    """One call of a person to a number, to its end."""
    fields = [(user, credentials(user, password), number)]
    return Sipp(
        folder,
        scenario,
        target=target,
        fields=fields,
        values=values,
        transport=transport,
        auth_uri=f"{number}@{DOMAIN}",
    ).wait()


def register(folder: Path, target: str, people: Iterable[tuple[str, str]], *, expires_s: int = 120) -> Result:
    """Register users, given as (user, password), one call each."""
    fields = [(user, credentials(user, password), str(expires_s)) for user, password in people]
    return Sipp(folder, "register", target=target, fields=fields, calls=len(fields), rate=50).wait()
