"""The figures of a results file as pictures beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

PEER, MIXED, OURS = "kamailio + freeradius", "nomad + freeradius", "nomad + embedded"
COLOURS = {"edge": "#4c72b0", "radius": "#dd8452", "ldap": "#55a868"}


def draw(results: Path) -> Sequence[Path]:
    """One PNG per part that can be drawn; none when matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return ()
    matplotlib.use("Agg")
    parts = json.loads(results.read_text(encoding="utf-8"))
    drawn = []
    for name, paint in (("chain", _chain), ("delay", _delay), ("latency", _latency)):
        if name in parts:
            from matplotlib import pyplot

            figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
            paint(parts[name], axes)
            path = results.with_name(f"{results.stem}-{name}.png")
            figure.savefig(path, dpi=100, metadata={"Software": None})
            pyplot.close(figure)
            drawn.append(path)
    return drawn


def _chain(part: Mapping[str, Any], axes: Sequence[Any]) -> None:
    """Stacked bars: CPU of edge, RADIUS and LDAP."""
    for scenario, plot in zip(("register", "call"), axes, strict=True):
        chains = [name for name in (PEER, MIXED, OURS) if scenario in part.get(name, {})]
        below = [0.0] * len(chains)
        for group, colour in COLOURS.items():
            heights = [part[name][scenario]["cpu_us"][group]["median"] for name in chains]
            plot.bar(chains, heights, bottom=below, color=colour, label=group, width=0.6)
            below = [low + height for low, height in zip(below, heights, strict=True)]
        plot.set_title(f"CPU per {'registration' if scenario == 'register' else 'call'}, microseconds")
        plot.tick_params(axis="x", labelrotation=12)
        plot.legend()


def _delay(part: Mapping[str, Any], axes: Sequence[Any]) -> None:
    """Clean rate over RADIUS delay."""
    for scenario, plot in zip(("register", "call"), axes, strict=True):
        _over_delay(plot, part, scenario, lambda each: each["clean_per_s"].items())
        plot.set_title(f"Clean {'registrations' if scenario == 'register' else 'calls'} per second")


def _latency(part: Mapping[str, Any], axes: Sequence[Any]) -> None:
    """p50 and p99 over RADIUS delay."""

    def waits(each: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
        for percentile in ("p50", "p99"):
            for edge, found in each[f"{percentile}_ms"].items():
                yield f"{edge}, {percentile}", found["median"]

    for scenario, plot in zip(("register", "call"), axes, strict=True):
        _over_delay(plot, part, scenario, waits)
        plot.set_title(f"{'Registration' if scenario == 'register' else 'Call set-up'} at half load, ms")


def _over_delay(
    plot: Any,
    part: Mapping[str, Any],
    scenario: str,
    figures: Callable[[Mapping[str, Any]], Iterable[tuple[str, float]]],
) -> None:
    """One line for each name that `figures` gives with a value; p99 is dashed."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, each in part.items():
        if name.startswith(f"{scenario}, "):
            delay_ms = float(name.split()[1])
            for line, value in figures(each):
                lines.setdefault(line, []).append((delay_ms, value))
    for name, points in lines.items():
        plot.plot(*zip(*sorted(points), strict=True), "--" if name.endswith("p99") else "-", marker="o", label=name)
    plot.set_xlabel("RADIUS delay, ms")
    plot.set_yscale("log")
    plot.grid(visible=True, which="both", alpha=0.3)
    if plot.lines:  # a quick run measures no calls
        plot.legend()
