"""`python -m bench [--quick] [PART ...]`: measure, print tables and ratios, write bench/results/*.json."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import cpu, plots, report
from bench.setting import Setting
from bench.stack import missing
from tests.harness.processes import ProcessFailed

SIPP = ("sipp", "setpriv")
CHAIN = (*SIPP, "slapd", "freeradius", "kamailio")
PARTS = {
    "verdicts": (),
    "alone": SIPP,
    "chain": CHAIN,
    "outage": (*CHAIN, "cc"),
    "delay": (*CHAIN, "cc"),
    "latency": (*CHAIN, "cc"),
    "memory": CHAIN,
    "flood": SIPP,
    "radius": (*SIPP, "slapd", "freeradius", "cc"),
}
NOT_QUICK = ("memory", "radius")


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 1 when a part failed; one whose programs are missing is skipped with the line that installs them."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; none given: all")
    parser.add_argument("--quick", action="store_true", help="under three minutes: no memory, no radius")
    parser.add_argument("--name", default="", help="results file, without .json (quick, full, or the parts)")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}")
    console = Console()
    wanted = options.parts or [name for name in PARTS if not (options.quick and name in NOT_QUICK)]
    results: dict[str, Any] = {"machine": report.machine(), "calibration_us": cpu.calibrate(), "skipped": {}}
    failed = False
    with tempfile.TemporaryDirectory(prefix="nomad-bench-", ignore_cleanup_errors=True) as folder:
        setting = Setting(Path(folder), console, options.quick)
        for name in wanted:
            if install := missing(*PARTS[name]):
                results["skipped"][name] = f"not everything is installed: {install}"
                continue
            try:
                measured = importlib.import_module(f"bench.{name}").measure(setting)
                results[name] = {**measured, "machine": results["machine"]}
            except (ProcessFailed, TimeoutError, RuntimeError) as error:
                results["skipped"][name] = f"failed: {str(error)[-500:]}"
                failed = True
    report.show(console, results)
    name = options.name or ("-".join(options.parts) if options.parts else "quick" if options.quick else "full")
    path = report.save(name, results)
    drawn = plots.draw(path)
    console.print(f"written: {path}" + "".join(f", {each.name}" for each in drawn))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
