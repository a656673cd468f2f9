"""How long people wait at half load: 50 and 99 of 100 registrations and call set-ups, per RADIUS delay.

Half of what the peer with 8 workers carries cleanly, the same for both edges, in turn.
"""

from __future__ import annotations

from bench.edge import Nomad
from bench.load import REGISTRATION, SET_UP, Load, Run, percentile
from bench.setting import PEOPLE, Result, Setting, spread
from bench.stack import DelayProxy, FreeRadius, Kamailio, Pbx, Slapd

TIMERS = {"register": REGISTRATION, "call": SET_UP}
# Operations per second at each delay in seconds: half of what was seen of the peer with 8 workers
HALF = {
    0.0: {"register": 700.0, "call": 150.0},
    0.010: {"register": 300.0, "call": 100.0},
    0.050: {"register": 75.0, "call": 25.0},
    0.200: {"register": 19.0, "call": 6.0},
}
QUICK = (0.050,)


def measure(setting: Setting) -> Result:
    """Milliseconds by delay, scenario and edge, and the ratios of ours to the peer's turn by turn."""
    folder = setting.folder / "latency"
    slapd = Slapd(folder / "slapd", PEOPLE)
    radius = FreeRadius(folder / "freeradius", slapd)
    pbx = Pbx(folder / "pbx")
    result: Result = {}
    try:
        for delay_s in QUICK if setting.quick else HALF:
            proxy = DelayProxy(folder / f"proxy-{delay_s:g}", radius, delay_s)
            edges: list[Kamailio | Nomad] = [
                Kamailio(folder / f"kamailio-{delay_s:g}", proxy.ports["peer"], pbx.address),
                Nomad(folder / f"nomad-{delay_s:g}", pbx.address, radius=proxy.ports["nomad"]),
            ]
            try:
                for scenario, rate in HALF[delay_s].items():
                    result[f"{scenario}, {delay_s * 1000:g} ms"] = _compare(setting, edges, scenario, rate)
            finally:
                for edge in edges:
                    edge.stop()
                proxy.stop()
    finally:
        pbx.stop()
        radius.process.stop()
        slapd.process.stop()
    return result


def _compare(setting: Setting, edges: list[Kamailio | Nomad], scenario: str, rate: float) -> Result:
    seconds = 2.0 if setting.quick else max(6.0, 100 / rate)
    runs: dict[str, list[Run]] = {edge.name: [] for edge in edges}
    for edge in edges:
        setting.caller.run(edge.port, Load(scenario, min(rate, 50), 1), {})  # warm
    for turn in range(setting.repeats):
        for edge in edges:
            setting.say(f"{edge.name}, {scenario} {rate:g}/s, turn {turn + 1} of {setting.repeats}")
            runs[edge.name].append(setting.caller.run(edge.port, Load(scenario, rate, seconds), {}))
    peer, ours = (edge.name for edge in edges)
    found: Result = {"per_s": rate}
    for words, part in (("p50", 0.50), ("p99", 0.99)):
        waits = {name: [_wait(run, part) for run in each] for name, each in runs.items()}
        found[f"{words}_ms"] = {name: spread(each) for name, each in waits.items()}
        pairs = zip(waits[ours], waits[peer], strict=True)
        found[f"{words}_ratio"] = spread(mine / max(theirs, 0.1) for mine, theirs in pairs)
    found["failed"] = {name: sum(run.offered - run.ok for run in each) for name, each in runs.items()}
    return found


def _wait(run: Run, part: float) -> float:
    """Milliseconds that `part` of all waited at most."""
    took = [ms for _, ms in run.response_ms.get(TIMERS[run.load.scenario], ())]
    found = percentile(took, part)
    if found is None:
        raise RuntimeError(f"no {run.load.scenario} was answered")
    return found
