"""One run of SIPp against an edge: operations, failures, response times, CPU time of everybody involved."""

from __future__ import annotations

import csv
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import cpu, people
from bench.stack import PEER
from tests.harness.ports import HOST, free_port
from tests.harness.processes import Process

CLEAN_BAD = 0.01  # failures and retransmissions together, as a part of the operations
CLEAN_CARRIED = 0.98
GRACE_S = 12.0
# SIPp's timers in the scenarios: first REGISTER to the 200, INVITE with credentials to the 200, BYE to its 200
REGISTRATION, SET_UP, HANG_UP = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Load:
    """What to offer. `infos`: messages within each call. `busy`: at about half of what an edge carries."""

    scenario: str
    rate: float
    seconds: float
    hold_s: float = 0.0
    infos: int = 0
    busy: bool = False
    tail_s: float = 0.2
    """How long after the others the last operation may end, for `Run.clean`."""

    @property
    def name(self) -> str:
        """What results are kept under."""
        return f"{self.scenario}, busy" if self.busy else self.scenario


@dataclass(slots=True)
class Run:
    """What came of it."""

    load: Load
    ok: int = 0
    failed: int = 0
    retransmissions: int = 0
    wall_s: float = 0.0
    cpu_us: dict[str, float] = field(default_factory=dict)
    """CPU microseconds per operation of each group of processes."""
    calibration_us: float = 0.0
    response_ms: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    """By SIPp's timer: when it ended (Unix time) and how long it took, by a clock that ticks every few milliseconds."""

    @property
    def offered(self) -> int:
        """Operations that were begun."""
        return int(self.load.rate * self.load.seconds)

    @property
    def bad(self) -> float:
        """Failures, operations without an end and retransmissions, as a part of the operations."""
        return (self.offered - self.ok + self.retransmissions) / max(self.offered, 1)

    @property
    def carried(self) -> float:
        """Operations a second that came to their good end."""
        return self.ok / max(self.wall_s - self.load.hold_s, 0.001)

    @property
    def clean(self) -> bool:
        """Whether the edge carried it all without visible trouble."""
        enough = CLEAN_CARRIED * self.load.rate * self.load.seconds / (self.load.seconds + self.load.tail_s)
        return self.bad < CLEAN_BAD and self.carried >= enough

    def summary(self) -> dict[str, object]:
        """For the JSON file."""
        return {
            "scenario": self.load.scenario,
            "rate": self.load.rate,
            "seconds": self.load.seconds,
            "ok": self.ok,
            "failed": self.failed,
            "retransmissions": self.retransmissions,
            "carried_per_s": round(self.carried, 1),
            "clean": self.clean,
            "cpu_us_per_operation": {name: round(value, 1) for name, value in self.cpu_us.items()},
            "calibration_us": round(self.calibration_us, 1),
        }


class Caller:
    """Drives edges with SIPp; takes other people in each run, so that nobody is served from a cache."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._count = count
        self._next = 0
        self._runs = 0

    def start(self, port: int, load: Load) -> Session:
        """Begin a run; `Session.finish` waits for its end."""
        self._runs += 1
        folder = self._folder / f"run-{self._runs}"
        folder.mkdir()
        people.write_users(folder / "users.csv", self._count, self._next)
        self._next = (self._next + int(load.rate * load.seconds)) % self._count
        return Session(folder, port, load)

    def run(
        self,
        port: int,
        load: Load,
        groups: Mapping[str, Callable[[], Iterable[int]]],
        *,
        settle_s: float = 0.0,
        while_running: Callable[[], None] | None = None,
    ) -> Run:
        """A whole run with CPU accounting; what an edge still does `settle_s` after it counts too."""
        calibrations = [cpu.calibrate()]
        before = cpu.read_all(groups)
        session = self.start(port, load)
        if while_running is not None:
            while_running()
        run = session.finish()
        time.sleep(settle_s)
        after = cpu.read_all(groups)
        calibrations.append(cpu.calibrate())
        run.cpu_us = {name: (after[name] - before[name]) / 1000 / max(run.ok, 1) for name in after}
        run.calibration_us = statistics.mean(calibrations)
        shutil.rmtree(session.folder, ignore_errors=True)
        return run


class Session:
    """A SIPp at work."""

    def __init__(self, folder: Path, port: int, load: Load) -> None:
        self.folder = folder
        self._load = load
        _write_scenario(folder / "scenario.xml", load)
        count = int(load.rate * load.seconds)
        uri = people.REALM if load.scenario == "register" else f"{people.NUMBER}@{people.REALM}"
        command = ["sipp", f"{HOST}:{port}", "-sf", "scenario.xml", "-i", HOST, "-p", free_port(), "-inf", "users.csv"]
        command += ["-m", count, "-r", f"{load.rate:g}", "-rp", 1000, "-l", 20000, "-s", people.NUMBER]
        command += ["-auth_uri", uri, "-d", int(load.hold_s * 1000), "-buff_size", 4194304, "-max_socket", 10000]
        command += ["-deadcall_wait", 2000, "-ci", HOST, "-cp", free_port(), "-nostdin", "-skip_rlimit", "-t", "u1"]
        command += ["-trace_stat", "-stf", "stat.csv", "-fd", 1, "-trace_rtt", "-rtt_freq", 1]
        self._begin = time.monotonic()
        self._begin_wall = time.time()
        self._process = Process("sipp", command, log=folder / "sipp.log", cwd=folder)

    @property
    def pid(self) -> int:
        """SIPp's process."""
        return self._process.pid

    def finish(self, grace_s: float = GRACE_S) -> Run:
        """Wait until every operation has ended, or `grace_s` longer than they should take."""
        load = self._load
        end = self._begin + load.seconds + load.hold_s + grace_s
        while self._process.exit_code is None and time.monotonic() < end:
            time.sleep(0.02)
        wall_s = time.monotonic() - self._begin
        if self._process.exit_code is None:
            self._process.send(signal.SIGUSR1)
            time.sleep(1)
            self._process.kill()
        last = self._last_row()
        return Run(
            load,
            ok=int(last.get("SuccessfulCall(C)", 0)),
            failed=int(last.get("FailedCall(C)", 0)),
            retransmissions=int(last.get("Retransmissions(C)", 0)),
            wall_s=wall_s,
            response_ms=self._response_times(),
        )

    def _last_row(self) -> dict[str, str]:
        path = self.folder / "stat.csv"
        if not path.exists():
            raise RuntimeError(f"SIPp did not run:\n{self._process.output()[-2000:]}")
        rows = list(csv.DictReader(path.read_text(errors="replace").splitlines(), delimiter=";"))
        return rows[-1] if rows else {}

    def _response_times(self) -> dict[int, list[tuple[float, float]]]:
        found: dict[int, list[tuple[float, float]]] = {}
        for path in self.folder.glob("*_rtt.csv"):
            for line in path.read_text(errors="replace").splitlines()[1:]:
                fields = line.split(";")
                if len(fields) >= 3 and fields[2].strip().isdigit():
                    at, took = self._begin_wall + float(fields[0]) / 1000, float(fields[1])
                    found.setdefault(int(fields[2]), []).append((at, took))
        return found


def percentile(values: Iterable[float], part: float) -> float | None:
    """The value that `part` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else None


def sipp_version() -> str:
    """SIPp's own words."""
    words = subprocess.run(["sipp", "-v"], capture_output=True, text=True, check=False).stdout.split()
    return next((word.rstrip(",.") for word in words if word.startswith("v3")), "?")


def _write_scenario(path: Path, load: Load) -> None:
    text = (PEER / "sipp" / f"{load.scenario}.xml").read_text(encoding="utf-8")
    info = (PEER / "sipp" / "info.xml").read_text(encoding="utf-8")
    infos = "".join(info.replace("@CSEQ@", str(3 + number)) for number in range(load.infos))
    path.write_text(text.replace("<!-- @INFOS@ -->", infos), encoding="utf-8")
