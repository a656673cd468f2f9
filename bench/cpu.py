"""CPU time and memory of processes from /proc, and a calibration loop that tells how fast the machine is just now.

schedstat counts nanoseconds; where the kernel has none, the ticks of /proc/PID/stat serve.
"""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
LOOPS = 20_000
LINE = "Contact: <sip:u00001@127.0.0.1:6100>;expires=3600"
Groups = Mapping[str, Callable[[], Iterable[int]]]


def calibrate(rounds: int = 5) -> float:
    """CPU microseconds of one round of fixed work in this interpreter: what a slower moment of the machine shows in."""
    found = []
    for _ in range(rounds):
        begin = time.thread_time_ns()
        table: dict[str, int] = {}
        for number in range(LOOPS):
            name, _, value = LINE.partition(": ")
            key = name.lower() + value[5:11]
            table[key] = table.get(key, 0) + number
        found.append((time.thread_time_ns() - begin) / 1000)
    return statistics.median(found)


def children(pid: int) -> list[int]:
    """Direct and further children of a process."""
    parents: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            fields = _read(folder / "stat").rpartition(")")[2].split()
            if fields:
                parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        kids = parents.get(waiting.pop(), [])
        found += kids
        waiting += kids
    return found


def family(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *children(pid)]


def cpu_ns(pids: Iterable[int]) -> int:
    """CPU time used so far by every thread of these processes."""
    return sum(_cpu_ns(pid) for pid in pids)


def read_all(groups: Groups) -> dict[str, int]:
    """CPU time of each group now."""
    return {name: cpu_ns(pids()) for name, pids in groups.items()}


def pss_bytes(pids: Iterable[int]) -> int:
    """Memory of processes, shared pages divided among those who share them."""
    total = 0
    for pid in pids:
        found = re.search(r"^Pss:\s+(\d+)", _read(PROC / str(pid) / "smaps_rollup"), re.MULTILINE)
        total += int(found[1]) * 1024 if found else 0
    return total


def _cpu_ns(pid: int) -> int:
    folder = PROC / str(pid)
    total = 0
    try:
        for task in (folder / "task").iterdir():
            total += int(_read(task / "schedstat").split()[0])
        return total
    except (OSError, IndexError):
        fields = _read(folder / "stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK_NS if fields else 0


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
