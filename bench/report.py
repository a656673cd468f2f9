"""Results as tables for people and as a JSON file for scripts."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.load import sipp_version
from bench.setting import Result
from bench.targets import targets

RESULTS = Path(__file__).parent / "results"


def machine() -> Result:
    """What the figures belong to."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=RESULTS.parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "processors": os.cpu_count(),
        "processor": model,
        "memory_mib": int(next(iter(_lines("/proc/meminfo")), "MemTotal: 0").split()[1]) // 1024,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": commit,
        "sipp": sipp_version(),
    }


def save(name: str, results: Mapping[str, Any]) -> Path:
    """Write bench/results/NAME.json; parts that were measured before and not now stay."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**before, **results}, indent=1) + "\n", encoding="utf-8")
    return path


def show(console: Console, results: Mapping[str, Any]) -> None:
    """Every part that was measured."""
    for name, table in (
        ("alone", _alone),
        ("chain", _chain),
        ("delay", _delay),
        ("latency", _latency),
        ("outage", _outage),
        ("radius", _radius),
    ):
        if name in results:
            console.print(table(results[name]))
    if "chain" in results:
        console.print(_ratios(results["chain"]))
    if "flood" in results:
        console.print(_flood(results["flood"]))
    if "memory" in results:
        for edge in ("kamailio", "nomad"):
            size = results["memory"][edge]["bytes_per_registration"]
            console.print(f"memory per registration, {edge}: {size} bytes")
    if any(True for _ in targets(results)):
        console.print(_targets(results))
    for name, reason in results.get("skipped", {}).items():
        console.print(f"[yellow]skipped: {name}:[/yellow] {reason}", soft_wrap=True)


def _alone(part: Mapping[str, Any]) -> Table:
    table = Table("operation", "edge", "its RADIUS server", "target", "calibration", title="CPU us, embedded RADIUS")
    for scenario in ("register", "call"):
        each = part[scenario]
        cpu = each["cpu_us"]
        target, calibration = f"{each['target_us']:.0f}", each["calibration_us"]
        table.add_row(scenario, _of(cpu["edge"]), _of(cpu["radius"]), target, _of(calibration))
    relayed, repeated = part["relayed_in_dialog"], part["repetition_absorbed"]
    table.add_row("message relayed within a call", _of(relayed["cpu_us"]), "", f"{relayed['target_us']:.0f}", "")
    table.add_row("repetition absorbed", _of(repeated["cpu_us"]), "", f"{repeated['target_us']:.0f}", "")
    return table


def _chain(part: Mapping[str, Any]) -> Table:
    table = Table("chain", "operation", "edge", "RADIUS", "LDAP", "whole", title="CPU us per operation, same slapd")
    for name, each in part.items():
        if name in ("ratios", "machine"):
            continue
        for load in ("register", "call", "register, busy", "call, busy"):
            if load in each and "cpu_us" in each[load]:
                cpu = each[load]["cpu_us"]
                table.add_row(name, load, *(_of(cpu[key]) for key in ("edge", "radius", "ldap", "chain")))
        for key, words in (("in_dialog_message_us", "message in a call"), ("repeated_register_us", "repeated copy")):
            if key in each:
                whole = key == "repeated_register_us"
                table.add_row(name, words, "" if whole else _of(each[key]), "", "", _of(each[key]) if whole else "")
    return table


def _ratios(part: Mapping[str, Any]) -> Table:
    table = Table("operation", "ours / peer's (below 1: ours costs less)", "median", "least", "most")
    for scenario, ratios in part["ratios"].items():
        for name, ratio in ratios.items():
            table.add_row(scenario, name, *(f"{ratio[key]:.2f}" for key in ("median", "least", "most")))
    for name, each in part.items():
        if name != "machine" and "ratio_chain" in each:
            for key in ("ratio_edge", "ratio_chain"):
                values = (f"{each[key][part]:.2f}" for part in ("median", "least", "most"))
                table.add_row("register", f"{key.removeprefix('ratio_')}, {name}", *values)
    return table


def _targets(results: Mapping[str, Any]) -> Table:
    table = Table("target, ours to the peer's where nothing else is said", "limit", "measured", "")
    for target in targets(results):
        verdict = "[green]met[/green]" if target.met else "[red]missed[/red]"
        limit = f"{'at least' if target.least else 'at most'} {target.limit:g}"
        table.add_row(target.words, limit, f"{target.measured:.4g}", verdict)
    return table


def _flood(part: Mapping[str, Any]) -> Table:
    table = Table("", "median (least-most)", title="Flood from one banned address while phones register")
    table.add_row("packets sent per second", _of(part["packets_per_s"]))
    ratio = part["ratio"]
    table.add_row("registrations, flood / calm", f"{ratio['median']:.2f} ({ratio['least']:.2f}-{ratio['most']:.2f})")
    for words, key in (("CPU of the edge for a packet, us", "edge_cpu"), ("Python after receipt, us", "python")):
        each = part[f"{key}_us_per_packet"]
        limit = f", at most {part['python_limit_us']:g}" if key == "python" else ""
        table.add_row(words + limit, f"{each['median']:.1f} ({each['least']:.1f}-{each['most']:.1f})")
    return table


def _delay(part: Mapping[str, Any]) -> Table:
    table = Table("RADIUS delay", "highest clean rate per second", "ours / peer's", title="Rate under RADIUS latency")
    for name, each in part.items():
        if name == "machine":
            continue
        rates = ", ".join(f"{edge} {rate:.0f}" for edge, rate in each["clean_per_s"].items())
        table.add_row(name, rates, ", ".join(f"{ratio:.1f}" for ratio in each["ratio"].values()))
    return table


def _latency(part: Mapping[str, Any]) -> Table:
    title = "Milliseconds at half of what the peer with 8 workers carries"
    table = Table("RADIUS delay", "per second", "edge", "p50", "p99", "ours / peer's p50, p99", title=title)
    for name, each in part.items():
        if name == "machine":
            continue
        for edge in each["p50_ms"]:
            ratios = ""
            if edge == "nomad":
                ratios = f"{each['p50_ratio']['median']:.2f}, {each['p99_ratio']['median']:.2f}"
            waits = (f"{each[key][edge]['median']:.1f}" for key in ("p50_ms", "p99_ms"))
            table.add_row(name, f"{each['per_s']:g}", edge, *waits, ratios)
    return table


def _outage(part: Mapping[str, Any]) -> Table:
    title = f"RADIUS silent for {part['down_s']:g} s at {part['calls_per_s']:g} calls/s"
    table = Table("", "kamailio", "nomad", title=title)
    rows: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
        ("calls failed, of those offered", lambda e: f"{e['calls']['failed']} / {e['calls']['offered']}"),
        ("Start records lost", lambda e: f"{e['accounting']['starts_lost']} / {e['accounting']['calls_answered']}"),
        ("Stop records lost", lambda e: f"{e['accounting']['stops_lost']} / {e['accounting']['calls_ended']}"),
        ("records doubled", lambda e: f"{e['accounting']['doubled']}"),
        ("OPTIONS answered within 100 ms", lambda e: _part(e["options_during"])),
        ("OPTIONS, longest ms", lambda e: str(e["options_during"]["longest_ms"])),
        ("BYE answered within 100 ms", lambda e: _part(e["bye_during"])),
        ("BYE, median and longest ms", lambda e: f"{e['bye_during']['median_ms']}, {e['bye_during']['longest_ms']}"),
    )
    for words, read in rows:
        table.add_row(words, read(part["kamailio"]), read(part["nomad"]))
    return table


def _radius(part: Mapping[str, Any]) -> Table:
    table = Table("", "measured", "limit", title="RADIUS, CPU us and operations per second")
    limits, checks, accounting = part["limits"], part["checks"], part["accounting"]
    table.add_row("client, one exchange, us", _of(checks["ldif"]["client_us"]), f"at most {limits['client_us']:.0f}")
    for name, each in checks.items():
        least = limits["cold_per_s" if "uncached" in name else "warm_per_s"]
        table.add_row(f"server, {name}, us", _of(each["server_us"]), "")
        table.add_row(f"server, {name}, checks/s and core", str(each["per_s_and_core"]), f"at least {least:.0f}")
    for key, words in (
        ("spool_per_s", "edge's spool, durable records/s"),
        ("server_per_s", "server, durable records/s"),
    ):
        table.add_row(words, str(accounting[key]), f"at least {accounting['limit_per_s']:.0f}")
    table.add_row("login from a remembered verdict, us", str(part["remembered_us"]), "")
    rates = ", ".join(f"{rate} at {delay}" for delay, rate in part["latency"]["registrations_per_s"].items())
    table.add_row("authenticated registrations/s", rates, "")
    table.add_row("ratio of these", str(part["latency"]["ratio"]), "about 1")
    return table


def _part(waited: Mapping[str, Any]) -> str:
    return f"{waited['within_100_ms']} / {waited['sent']}"


def _of(values: Mapping[str, float]) -> str:
    return f"{values['median']:.0f} ({values['least']:.0f}-{values['most']:.0f})"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
