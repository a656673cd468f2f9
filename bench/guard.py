"""`python -m bench.guard [--write]`: machine instructions of three fixed flows against the numbers in `guard.json`.

Counted by valgrind, so that neither other programs nor the clock of the machine matter. The numbers belong to one build
of Python; for another one there is nothing to compare with until `--write` has noted its numbers, too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.flows import FLOWS

ROOT = Path(__file__).resolve().parent.parent
NUMBERS = Path(__file__).with_name("guard.json")
TOLERANCE = 0.10
FEW, MORE = 10, 40  # the difference leaves out what is done once
COLLECTED = re.compile(r"Collected : ([0-9]+)")
VALGRIND = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")


def interpreter() -> str:
    """The build of Python that runs this."""
    return f"Python {platform.python_version()}, {platform.python_compiler()}, {platform.machine()}"


def measure() -> dict[str, int]:
    """Thousands of instructions of one turn of each flow."""
    few = dict.fromkeys(FLOWS, FEW)
    loads = [few, *({**few, flow: FEW + MORE} for flow in FLOWS)]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        least, *most = threads.map(instructions, loads)
    return {flow: round((count - least) / MORE / 1000) for flow, count in zip(FLOWS, most, strict=True)}


def instructions(counts: Mapping[str, int]) -> int:
    """What a whole process needs for these flows."""
    arguments = [f"{flow}={count}" for flow, count in counts.items()]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
    command = [*VALGRIND, sys.executable, "-m", "bench.flows", *arguments]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    found = COLLECTED.search(ran.stderr)
    if ran.returncode or not found:
        raise RuntimeError(f"{' '.join(command)} ended with {ran.returncode}:\n{ran.stderr[-2000:]}")
    return int(found[1])


def compare(before: Mapping[str, int], now: Mapping[str, int]) -> list[str]:
    """What became dearer than the tolerance allows, in words."""
    return [
        f"{flow}: {now[flow]:,} thousand instructions, {now[flow] / known - 1:+.1%} against {known:,}; find out why, "
        "or note the new numbers with `make bench-guard ARGS=--write` and say why in the commit"
        for flow, known in before.items()
        if now[flow] > known * (1 + TOLERANCE)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when a flow needs over 10 % more than noted."""
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__)
    parser.add_argument("--write", action="store_true", help="note the numbers of this interpreter")
    options = parser.parse_args(arguments)
    noted = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else {}
    before: dict[str, int] = noted.get(interpreter(), {})
    if shutil.which(VALGRIND[0]) is None:
        print("bench-guard: nothing is compared: valgrind is missing; apt-get install valgrind")
        return 0
    if not before and not options.write:
        print(f"bench-guard: nothing is compared: no numbers of {interpreter()} in bench/{NUMBERS.name}")
        return 0
    now = measure()
    for flow, count in now.items():
        known = f" ({count / before[flow] - 1:+.1%})" if flow in before else ""
        print(f"bench-guard: {flow}: {count:,} thousand instructions{known}")
    if options.write:
        NUMBERS.write_text(json.dumps({**noted, interpreter(): now}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    dearer = compare(before, now)
    for line in dearer:
        print(f"bench-guard: {line}", file=sys.stderr)
    return 1 if dearer else 0


if __name__ == "__main__":
    sys.exit(main())
