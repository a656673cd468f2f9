"""What issue 6 asks for, beside what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

EDGE, WHOLE = "edge (both with freeradius)", "chain, ours with the embedded server"
COSTS = ((EDGE, 1.0), (WHOLE, 0.8))
LOADS = ("register", "call", "register, busy", "call, busy")
RATES = {"50 ms": {"8 workers": 10.0, "32 workers": 4.0}, "200 ms": {"8 workers": 30.0, "32 workers": 12.0}}
MEMORY_BYTES = 3072


@dataclass(frozen=True, slots=True)
class Target:
    """One of them; `least`: the limit is a lower one."""

    words: str
    limit: float
    measured: float
    least: bool = False

    @property
    def met(self) -> bool:
        """Whether it is kept."""
        return self.measured >= self.limit if self.least else self.measured <= self.limit


def targets(results: Mapping[str, Any]) -> Iterator[Target]:
    """Those of the parts that were measured."""
    if "chain" in results:
        yield from _costs(results["chain"])
    if "delay" in results:
        yield from _rates(results["delay"])
    for name, each in results.get("latency", {}).items():
        if name != "machine":
            yield Target(f"p99 at half load, {name}", 1.0, each["p99_ratio"]["median"])
    if "outage" in results:
        yield from _outage(results["outage"]["nomad"])
    if "memory" in results:
        yield Target("bytes a registration", MEMORY_BYTES, results["memory"]["nomad"]["bytes_per_registration"])


def _costs(chain: Mapping[str, Any]) -> Iterator[Target]:
    for load in LOADS:
        for name, limit in COSTS:
            if load in chain["ratios"]:
                yield Target(f"CPU, {load}: {name}", limit, chain["ratios"][load][name]["median"])
    for name, each in chain.items():
        if name != "machine" and "ratio_chain" in each:
            yield Target(f"CPU, refresh: {name}", 0.5, each["ratio_chain"]["median"])


def _rates(delay: Mapping[str, Any]) -> Iterator[Target]:
    for name, each in delay.items():
        for peer, ratio in each.get("ratio", {}).items():
            limit = RATES.get(name.rpartition(", ")[2], {}).get(peer.rpartition(", ")[2])
            if limit is not None:
                yield Target(f"clean rate, {name}, to {peer}", limit, ratio, least=True)


def _outage(ours: Mapping[str, Any]) -> Iterator[Target]:
    records = ours["accounting"]
    wrong = records["starts_lost"] + records["stops_lost"] + records["doubled"]
    yield Target("outage: records lost or doubled", 0, wrong)
    for key, words in (("options_during", "OPTIONS"), ("bye_during", "BYE")):
        late = ours[key]["sent"] - ours[key]["within_100_ms"]
        yield Target(f"outage: {words} not answered within 100 ms", 0, late)
    yield Target("outage: calls failed", 0, ours["calls"]["failed"])
