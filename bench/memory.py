"""Bytes of memory that one registration costs: many people register, every transaction is forgotten, then again."""

from __future__ import annotations

import time

from bench.cpu import pss_bytes
from bench.edge import Nomad
from bench.load import Caller, Load
from bench.setting import FORGOTTEN_S, Result, Setting
from bench.stack import FreeRadius, Kamailio, Pbx, Slapd

FIRST, TOTAL = 20_000, 50_000  # transactions last 32 s: at this rate both parts have as many of them at once
RATE = 500.0


def measure(setting: Setting) -> Result:
    """Growth between the 20,000th and the 50,000th registration, once what the requests needed is free again."""
    folder = setting.folder / "memory"
    slapd = Slapd(folder / "slapd", TOTAL)
    radius = FreeRadius(folder / "freeradius", slapd)
    pbx = Pbx(folder / "pbx")
    edges: list[Kamailio | Nomad] = [
        Kamailio(folder / "kamailio", radius.ports["peer"], pbx.address),
        Nomad(folder / "nomad", pbx.address, radius=radius.ports["nomad"]),
    ]
    result: Result = {"from": FIRST, "to": TOTAL}
    try:
        sizes: dict[str, list[int]] = {edge.name: [pss_bytes(edge.pids())] for edge in edges}
        callers = {edge.name: Caller(folder / edge.name / "callers", TOTAL) for edge in edges}
        for count in (FIRST, TOTAL - FIRST):
            for edge in edges:
                setting.say(f"{edge.name}: {count} registrations")
                run = callers[edge.name].run(edge.port, Load("register", RATE, count / RATE), {})
                if run.ok < 0.99 * count:
                    setting.say(f"{edge.name}: only {run.ok} of {count} succeeded")
            time.sleep(FORGOTTEN_S)
            for edge in edges:
                sizes[edge.name].append(pss_bytes(edge.pids()))
        for name, (empty, first, last) in sizes.items():
            result[name] = {
                "empty_mib": round(empty / 2**20, 1),
                "first_mib": round(first / 2**20, 1),
                "last_mib": round(last / 2**20, 1),
                "bytes_per_registration": round((last - first) / (TOTAL - FIRST)),
            }
    finally:
        for edge in edges:
            edge.stop()
        pbx.stop()
        radius.process.stop()
        slapd.process.stop()
    return result
