"""The whole chain, side by side: Kamailio with FreeRADIUS, our edge with FreeRADIUS, our edge with its own server.

All three use the same slapd, the same PBX, the same people and the same SIPp scenarios, in turn: A B C A B C.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bench.blast import cost_of_repetition
from bench.edge import CAN_REMEMBER, Nomad
from bench.load import Caller, Load, Run
from bench.setting import FORGOTTEN_S, PEOPLE, Result, Setting, Whole, per_group, spread
from bench.stack import FreeRadius, Kamailio, Pbx, Slapd

PEER, MIXED, OURS = "kamailio + freeradius", "nomad + freeradius", "nomad + embedded"
WARM = "nomad + embedded, remembered logins"
INFOS = 20


@dataclass
class Chain:
    """An edge and all that works for it."""

    name: str
    edge: Kamailio | Nomad
    groups: dict[str, Callable[[], Iterable[int]]]
    runs: dict[str, list[Run]] = field(default_factory=dict)
    whole_us: dict[str, dict[str, float]] = field(default_factory=dict)
    message_us: list[float] = field(default_factory=list)
    repetition_us: list[float] = field(default_factory=list)

    def run(self, setting: Setting, load: Load, *, settle_s: float = 1.0) -> Run:
        """One run of SIPp, with the CPU time of the whole chain."""
        run = setting.caller.run(self.edge.port, load, self.groups, settle_s=settle_s)
        run.cpu_us["chain"] = sum(run.cpu_us.values())
        return run


def measure(setting: Setting) -> Result:
    """CPU time per operation of three chains, and their ratios."""
    slapd = Slapd(setting.folder / "slapd", PEOPLE)
    radius = FreeRadius(setting.folder / "freeradius", slapd)
    pbx = Pbx(setting.folder / "pbx")
    kamailio = Kamailio(setting.folder / "kamailio", radius.ports["peer"], pbx.address)
    mixed = Nomad(setting.folder / "mixed", pbx.address, radius=radius.ports["nomad"])
    ours = Nomad(setting.folder / "ours", pbx.address, slapd=slapd)
    chains = [
        Chain(PEER, kamailio, {**kamailio.groups(), "radius": radius.pids, "ldap": slapd.pids}),
        Chain(MIXED, mixed, {"edge": mixed.pids, "radius": radius.pids, "ldap": slapd.pids}),
        Chain(OURS, ours, {**ours.groups(), "ldap": slapd.pids}),
    ]
    try:
        for chain in chains:
            setting.say(f"warming up {chain.name}")
            for load in (Load("register", 100, 1), Load("call", 50, 1)):
                chain.run(setting, load, settle_s=0.1)
        for load in (*setting.loads(), *setting.busy_loads()):
            _alternate(setting, chains, load)
        if not setting.quick:
            _messages(setting, chains)
        for chain in chains:
            turns = 1 if setting.quick else 3
            chain.repetition_us = [cost_of_repetition(chain.edge.port, chain.groups) for _ in range(turns)]
        warm = _warm(setting, chains[0], slapd, pbx) if CAN_REMEMBER and not setting.quick else {}
    finally:
        for each in (kamailio, mixed, ours, pbx):
            each.stop()
        radius.process.stop()
        slapd.process.stop()
    return {**_result(chains), **warm}


def _alternate(setting: Setting, chains: list[Chain], load: Load) -> None:
    if not setting.quick:
        setting.say("measuring what idle edges use")
    wholes = {chain.name: Whole({"edge": chain.edge.pids}, idle_s=0.1 if setting.quick else 3.0) for chain in chains}
    busy_s = dict.fromkeys(wholes, 0.0)
    for turn in range(setting.repeats):
        for chain in chains:
            setting.say(f"{chain.name}, {load.scenario} {load.rate:g}/s, turn {turn + 1} of {setting.repeats}")
            begin = time.monotonic()
            run = chain.run(setting, load)
            if not run.ok:
                raise RuntimeError(f"{chain.name}: no {load.scenario} succeeds")
            chain.runs.setdefault(load.name, []).append(run)
            busy_s[chain.name] += time.monotonic() - begin
    if setting.quick:
        return
    setting.say("waiting until every transaction is forgotten")
    time.sleep(FORGOTTEN_S)
    for chain in chains:
        done = {load.name: sum(run.ok for run in chain.runs[load.name])}
        chain.whole_us[load.name] = wholes[chain.name].per_operation_us(done, busy_s[chain.name])


def _warm(setting: Setting, peer: Chain, slapd: Slapd, pbx: Pbx) -> Result:
    """Registrations of people whose login our edge remembers, against the peer, which asks RADIUS each time."""
    edge = Nomad(setting.folder / "warm", pbx.address, slapd=slapd, remember=True)
    warm = Chain(WARM, edge, {**edge.groups(), "ldap": slapd.pids})
    load = Load("register", 250, 4)
    known = Caller(setting.folder / "warm-callers", int(load.rate * load.seconds))
    try:
        known.run(edge.port, load, {})
        pairs = []
        for turn in range(setting.repeats):
            setting.say(f"{WARM}, turn {turn + 1} of {setting.repeats}")
            mine, theirs = (known.run(each.edge.port, load, each.groups, settle_s=0.5) for each in (warm, peer))
            pairs.append((mine, theirs))
    finally:
        edge.stop()
    ratios = spread(sum(mine.cpu_us.values()) / sum(theirs.cpu_us.values()) for mine, theirs in pairs)
    edges = spread(mine.cpu_us["edge"] / theirs.cpu_us["edge"] for mine, theirs in pairs)
    return {WARM: {"cpu_us": per_group([mine for mine, _ in pairs]), "ratio_chain": ratios, "ratio_edge": edges}}


def _messages(setting: Setting, chains: list[Chain]) -> None:
    """The cost of a message within a call: the same calls with and without them."""
    for turn in range(1 if setting.quick else 3):
        for chain in chains[:2]:
            setting.say(f"{chain.name}, messages within calls, turn {turn + 1}")
            plain = chain.run(setting, Load("call", 20, 4, hold_s=0.5))
            chatty = chain.run(setting, Load("call", 20, 4, infos=INFOS))
            chain.message_us.append((chatty.cpu_us["edge"] - plain.cpu_us["edge"]) / INFOS)


def _result(chains: list[Chain]) -> Result:
    result: Result = {
        chain.name: {
            **{
                load: {
                    "cpu_us": per_group(runs),
                    "edge_whole_us": round(chain.whole_us.get(load, {}).get("edge", 0.0), 1) or None,
                    "calibration_us": spread(run.calibration_us for run in runs),
                    "runs": [run.summary() for run in runs],
                }
                for load, runs in chain.runs.items()
            },
            **({"in_dialog_message_us": spread(chain.message_us)} if chain.message_us else {}),
            **({"repeated_register_us": spread(chain.repetition_us)} if chain.repetition_us else {}),
        }
        for chain in chains
    }
    peer, mixed, ours = chains
    result["ratios"] = {
        load: {
            "edge (both with freeradius)": _ratio(mixed, peer, load, "edge"),
            "embedded server / freeradius": _ratio(ours, peer, load, "radius"),
            "chain, ours with freeradius": _ratio(mixed, peer, load, "chain"),
            "chain, ours with the embedded server": _ratio(ours, peer, load, "chain"),
        }
        for load in peer.runs
    }
    return result


def _ratio(one: Chain, other: Chain, load: str, group: str) -> dict[str, float]:
    """Turn by turn, because both turns of a pair saw the same machine."""
    pairs = zip(one.runs[load], other.runs[load], strict=True)
    return spread(mine.cpu_us[group] / theirs.cpu_us[group] for mine, theirs in pairs)
