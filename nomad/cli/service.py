"""Commands that run something: the edge, the demo, the check of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nomad.cli.connection import JsonOption
from nomad.cli.output import print_json, say

FileOption = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration.")]
DEFAULT_FILE = Path("nomad.toml")


def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop after the last step.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object at the end instead of lines.")] = False,
    port_base: Annotated[
        int | None, typer.Option(min=1024, max=65000, metavar="N", help="First of the ports to use; else free ones.")
    ] = None,
) -> None:
    """A whole site on this machine: directory, RADIUS, edge, PBX, and a phone that goes through the main job."""
    from nomad.demo import scenario

    raise typer.Exit(scenario.main(port_base=port_base, once=once, json_output=as_json))


def run(config: FileOption = DEFAULT_FILE) -> None:
    """The edge. SIGHUP reloads, SIGTERM drains and stops."""
    from nomad import process

    raise typer.Exit(process.run(config))


def check(
    config: FileOption = DEFAULT_FILE,
    strict: Annotated[bool, typer.Option("--strict", help="A warning is an error.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Validate configuration, policy and files without starting anything. Warnings do not fail it."""
    from nomad import inputs

    found = inputs.check(config)
    bad = bool(found.problems or (strict and found.warnings))
    if as_json:
        print_json({"ok": not bad, "problems": list(found.problems), "warnings": list(found.warnings)})
    else:
        for problem in found.problems:
            say(problem)
        for warning in found.warnings:
            say(f"warning: {warning}")
        if not bad:
            typer.echo(f"{config}: ok")
    if bad:
        raise typer.Exit(1)
