"""What all measurements share: a folder, the callers, how long to measure, where to say what is going on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from bench import cpu
from bench.load import Caller, Load, Run

PEOPLE = 5000
FORGOTTEN_S = 34.0  # after this long no transaction of an edge is left (64*T1 and a little)
Result = dict[str, object]


@dataclass(slots=True)
class Setting:
    """One invocation of the benchmark."""

    folder: Path
    console: Console
    quick: bool
    caller: Caller = field(init=False)

    def __post_init__(self) -> None:
        self.caller = Caller(self.folder / "callers", PEOPLE)

    @property
    def repeats(self) -> int:
        """How often each edge has its turn."""
        return 2 if self.quick else 4

    def loads(self) -> Sequence[Load]:
        """What CPU time is measured with."""
        seconds = 2.0 if self.quick else 8.0
        return Load("register", 250, seconds), Load("call", 100, seconds)

    def busy_loads(self) -> Sequence[Load]:
        """The same nearer to what an edge can carry, where processors and caches are warm; nobody registers twice."""
        return () if self.quick else (Load("register", 1000, 5.0, busy=True), Load("call", 200, 8.0, busy=True))

    def say(self, text: str) -> None:
        """One line for who waits."""
        self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {text}")


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, least and most."""
    found = list(values)
    return {
        "median": round(statistics.median(found), 3),
        "least": round(min(found), 3),
        "most": round(max(found), 3),
    }


def per_group(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """CPU microseconds per operation of each group of processes over several runs."""
    names = dict.fromkeys(name for run in runs for name in run.cpu_us)
    return {name: spread(run.cpu_us[name] for run in runs if name in run.cpu_us) for name in names}


class Whole:
    """CPU time from before the first operation until everything is forgotten, less what the edge uses when idle.

    A run by itself does not show what an edge does later for it: timers, and transactions that end after 32 s.
    """

    def __init__(self, groups: cpu.Groups, *, idle_s: float = 2.0) -> None:
        self._groups = groups
        before = cpu.read_all(groups)
        time.sleep(idle_s)
        self._first = cpu.read_all(groups)
        self._begin = time.monotonic()
        self._idle = {name: (self._first[name] - before[name]) / idle_s for name in before}

    def per_operation_us(self, operations: Mapping[str, int], busy_s: float) -> dict[str, float]:
        """After the last run and the wait: microseconds per operation, all scenarios together."""
        last = cpu.read_all(self._groups)
        idle_s = max(time.monotonic() - self._begin - busy_s, 0.0)
        total = max(sum(operations.values()), 1)
        return {name: (last[name] - self._first[name] - self._idle[name] * idle_s) / 1000 / total for name in last}
