from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import plots

RATES = {"kamailio, 8 workers": 100.0, "nomad": 900.0}
WAITS = {edge: {"median": ms} for edge, ms in (("kamailio", 56.0), ("nomad", 52.0))}
CPU = {group: {"median": 100.0} for group in ("edge", "radius", "ldap", "chain")}
RESULTS = {
    "chain": {
        name: {scenario: {"cpu_us": CPU} for scenario in ("register", "call")} for name in (plots.PEER, plots.OURS)
    },
    "delay": {"register, 50 ms": {"clean_per_s": RATES}, "machine": {}},
    "latency": {f"call, {delay} ms": {"p50_ms": WAITS, "p99_ms": WAITS} for delay in (0, 50)},
}


def test_each_part_that_was_measured_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="installed by `make bench`")
    path = tmp_path / "full.json"
    path.write_text(json.dumps(RESULTS))
    assert [each.name for each in plots.draw(path)] == ["full-chain.png", "full-delay.png", "full-latency.png"]
    assert all((tmp_path / f"full-{name}.png").read_bytes().startswith(b"\x89PNG") for name in RESULTS)


def test_without_matplotlib_there_are_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert plots.draw(tmp_path / "full.json") == ()
