"""RADIUS falls silent for 30 s under calls: what is lost, and what waits for it. Both edges at once, on one chain."""

from __future__ import annotations

import csv
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.edge import Nomad
from bench.load import HANG_UP, Caller, Load, Run, percentile
from bench.probe import Probe
from bench.setting import PEOPLE, Result, Setting
from bench.stack import DelayProxy, FreeRadius, Kamailio, Pbx, Slapd

CALLS_PER_S = 10.0
SETTLE_S = 10.0  # records that wait are tried again within this time


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds before, during and after the outage, and of each call."""

    before: float
    down: float
    after: float
    hold: float


def measure(setting: Setting) -> Result:
    """Accounting records lost and doubled, OPTIONS and BYE during the outage."""
    plan = Plan(4, 10, 6, 4) if setting.quick else Plan(20, 30, 40, 15)
    folder = setting.folder / "outage"
    slapd = Slapd(folder / "slapd", PEOPLE)
    radius = FreeRadius(folder / "freeradius", slapd)
    proxy = DelayProxy(folder / "proxy", radius, 0.0)
    boxes = [Pbx(folder / "pbx-peer"), Pbx(folder / "pbx-ours")]
    edges: list[Kamailio | Nomad] = [
        Kamailio(folder / "kamailio", proxy.ports["peer"], boxes[0].address),
        Nomad(folder / "nomad", boxes[1].address, radius=proxy.ports["nomad"], remember=True),
    ]
    setting.say(f"RADIUS falls silent for {plan.down:g} s at {CALLS_PER_S:g} calls/s, both edges")
    load = Load("call", CALLS_PER_S, plan.before + plan.down + plan.after, hold_s=plan.hold)
    callers = [Caller(folder / f"callers-{edge.name}", int(load.rate * load.seconds)) for edge in edges]
    try:
        for edge, caller in zip(edges, callers, strict=True):
            caller.run(edge.port, Load("register", 100, load.rate * load.seconds / 100), {})  # as phones are
        probes = [Probe(edge.port) for edge in edges]
        sessions = [caller.start(edge.port, load) for edge, caller in zip(edges, callers, strict=True)]
        down, up = _interrupt(proxy, plan)
        runs = [session.finish(grace_s=40.0) for session in sessions]
        asked = [probe.finish() for probe in probes]
        time.sleep(SETTLE_S / 2 if setting.quick else SETTLE_S)
        result: Result = {"down_s": plan.down, "calls_per_s": CALLS_PER_S, "hold_s": plan.hold}
        for edge, run, options, box in zip(edges, runs, asked, boxes, strict=True):
            result[edge.name] = {
                "calls": {"offered": run.offered, "succeeded": run.ok, "failed": run.failed},
                "options_during": _waited([(at, delay) for at, delay in options if down <= at < up]),
                "bye_during": _waited([(at, delay) for at, delay in _byes(run) if down <= at < up]),
                "accounting": _accounting(radius.records(edge.detail), _counts(box.folder)),
            }
    finally:
        for edge in edges:
            edge.stop()
        for box in boxes:
            box.stop()
        proxy.stop()
        radius.process.stop()
        slapd.process.stop()
    return result


def _interrupt(proxy: DelayProxy, plan: Plan) -> tuple[float, float]:
    """When it began and ended."""
    time.sleep(plan.before)
    proxy.silence(True)
    down = time.time()
    time.sleep(plan.down)
    proxy.silence(False)
    return down, time.time()


def _byes(run: Run) -> list[tuple[float, float | None]]:
    """When a BYE was sent and how long its answer took; SIPp notes the time of the answer."""
    return [(at - took_ms / 1000, took_ms / 1000) for at, took_ms in run.response_ms.get(HANG_UP, ())]


def _waited(samples: list[tuple[float, float | None]]) -> dict[str, object]:
    delays = [delay for _, delay in samples if delay is not None]
    middle, longest = percentile(delays, 0.5), max(delays, default=None)
    return {
        "sent": len(samples),
        "answered": len(delays),
        "within_100_ms": sum(delay <= 0.1 for delay in delays),
        "median_ms": None if middle is None else round(middle * 1000, 1),
        "longest_ms": None if longest is None else round(longest * 1000, 1),
    }


def _accounting(records: list[tuple[str, str]], counts: tuple[int, int]) -> dict[str, int]:
    """Against what the PBX saw: calls that it answered, and BYEs."""
    seen = Counter(records)
    starts = [count for (status, _), count in seen.items() if status == "Start"]
    stops = [count for (status, _), count in seen.items() if status == "Stop"]
    answered, ended = counts
    return {
        "calls_answered": answered,
        "calls_ended": ended,
        "starts": len(starts),
        "stops": len(stops),
        "starts_lost": max(answered - len(starts), 0),
        "stops_lost": max(ended - len(stops), 0),
        "doubled": sum(count - 1 for count in (*starts, *stops)),
    }


def _counts(folder: Path) -> tuple[int, int]:
    """INVITEs that the PBX answered with 200, and BYEs that it received."""
    path = next(folder.glob("*_counts.csv"))
    last = list(csv.DictReader(path.read_text(errors="replace").splitlines(), delimiter=";"))[-1]
    return int(last["3_200_Sent"]), int(last["6_BYE_Recv"])
