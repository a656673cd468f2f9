"""A long search by hand: `python -m tests.fuzz --hours 2`.

Runs the fuzz tests over and over, each time with another seed, until the time is up or something is found; then it says
how many examples there were.
"""

from __future__ import annotations

import argparse
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
PASSING = re.compile(r"- ([0-9]+) passing\b")  # of Hypothesis' statistics, one line for each test and phase


def count(output: str) -> int:
    """How many examples passed in a round."""
    return sum(map(int, PASSING.findall(output)))


def main() -> int:
    """Search; 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0, help="how long to search [2]")
    parser.add_argument("--seed", type=int, help="the first seed, to see a finding again")
    parser.add_argument("-k", default="", help="only tests whose name has this")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else secrets.randbelow(1 << 32)
    end = time.monotonic() + options.hours * 3600
    rounds = examples = 0
    while True:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--hypothesis-profile=deep"]
        command += [f"--hypothesis-seed={seed}", "--hypothesis-show-statistics", "-k", options.k, str(FOLDER)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=FOLDER.parents[1])
        rounds += 1
        examples += count(done.stdout)
        print(f"round {rounds}, seed {seed}: {examples} examples so far, exit code {done.returncode}", flush=True)
        if done.returncode or not examples:
            print(done.stdout[-20_000:], done.stderr[-5_000:])
            return 1
        if time.monotonic() >= end:
            print(f"{examples} examples in {rounds} rounds, no finding")
            return 0
        seed = (seed + 1) % (1 << 32)


if __name__ == "__main__":
    sys.exit(main())
