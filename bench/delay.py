"""How many operations a second an edge carries cleanly while every RADIUS answer takes its time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.edge import Nomad
from bench.load import Load
from bench.setting import PEOPLE, Result, Setting
from bench.stack import DelayProxy, FreeRadius, Kamailio, Pbx, Slapd

QUICK = {0.050: ("register",)}
BOTH = ("register", "call")
FULL = {0.0: BOTH, 0.010: BOTH, 0.050: BOTH, 0.200: BOTH}
ROUND_TRIPS = {"register": 1, "call": 3}  # that a worker of Kamailio waits for
HIGHEST_FIRST = {"register": 600.0, "call": 150.0}
GROW = 1.5
CLOSE_ENOUGH = 0.12
Edge = Kamailio | Nomad


def measure(setting: Setting) -> Result:
    """The highest clean rates per delay, scenario and edge, and the ratios."""
    workers = (8,) if setting.quick else (8, 32)
    folder = setting.folder / "delay"
    slapd = Slapd(folder / "slapd", PEOPLE)
    radius = FreeRadius(folder / "freeradius", slapd)
    pbx = Pbx(folder / "pbx")
    result: Result = {}
    try:
        for delay_s, scenarios in (QUICK if setting.quick else FULL).items():
            proxy = DelayProxy(folder / "proxy", radius, delay_s)
            makers: dict[str, Callable[[], Edge]] = {
                f"kamailio, {count} workers": _kamailio(setting, proxy, pbx, count) for count in workers
            }
            makers["nomad"] = nomad(setting, proxy, pbx)
            for scenario in scenarios:
                rates = {}
                for name, make in makers.items():
                    first = HIGHEST_FIRST[scenario]
                    if delay_s and name != "nomad":
                        count = int(name.split()[1])
                        first = min(first, 0.7 * count / delay_s / ROUND_TRIPS[scenario])
                    rates[name] = highest(setting, make, scenario, first, delay_s=delay_s)
                    setting.say(f"{delay_s * 1000:g} ms of RADIUS delay, {scenario}, {name}: {rates[name]:.0f}/s")
                ours = rates["nomad"]
                result[f"{scenario}, {delay_s * 1000:g} ms"] = {
                    "clean_per_s": {name: round(rate, 1) for name, rate in rates.items()},
                    "ratio": {name: round(ours / rate, 2) for name, rate in rates.items() if name != "nomad" and rate},
                }
            proxy.stop()
    finally:
        pbx.stop()
        radius.process.stop()
        slapd.process.stop()
    return result


def _kamailio(setting: Setting, proxy: DelayProxy, pbx: Pbx, workers: int) -> Callable[[], Edge]:
    def make() -> Edge:
        return Kamailio(_fresh(setting, "kamailio"), proxy.ports["peer"], pbx.address, workers=workers)

    return make


def nomad(setting: Setting, proxy: DelayProxy, pbx: Pbx) -> Callable[[], Edge]:
    def make() -> Edge:
        edge = Nomad(_fresh(setting, "nomad"), pbx.address, radius=proxy.ports["nomad"])
        setting.caller.run(edge.port, Load("register", 100, 1), {})
        return edge

    return make


def _fresh(setting: Setting, name: str) -> Path:
    number = sum(1 for _ in setting.folder.glob(f"delay/{name}-*"))
    return setting.folder / "delay" / f"{name}-{number}"


def highest(setting: Setting, make: Callable[[], Edge], scenario: str, first: float, *, delay_s: float = 0.0) -> float:
    """The highest clean rate, to an eighth; each try that was not clean ends the edge, whose queues may be full."""
    seconds = 2.0 if setting.quick else 4.0
    low, high, rate = 0.0, 0.0, first
    tail_s = 0.2 + ROUND_TRIPS[scenario] * delay_s
    edge = make()
    try:
        for _ in range(3 if setting.quick else 7):
            run = setting.caller.run(edge.port, Load(scenario, round(rate), seconds, tail_s=tail_s), {})
            if run.clean:
                low = max(low, run.load.rate)
            else:
                high = rate
                edge.stop()
                edge = make()
            if high and high - low <= max(CLOSE_ENOUGH * high, 1.0):
                break
            rate = (low + high) / 2 if high else rate * GROW
    finally:
        edge.stop()
    return low
