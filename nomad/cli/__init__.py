"""The command `nomad`. Exit codes: 0 done, 1 the answer is no or the input is wrong, 2 usage.

Each command imports what it needs when it runs, so that `nomad --help` is quick.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nomad.cli import accounts, audit, control, explain, login, lookup, records, secret, service, trials, versions
from nomad.cli.output import Failure, say

app = typer.Typer(
    name="nomad",
    help="RADIUS-guarded nomadic ToIP access: an authenticating SIP edge in front of a PBX.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    service.demo,
    service.run,
    service.check,
    control.status,
    control.registrations,
    control.calls,
    control.hangup,
    control.kick,
    control.bans,
    control.unban,
    accounts.lock,
    accounts.unlock,
    accounts.locks,
    audit.audit,
    control.reload,
    control.drain,
    records.cdr,
    lookup.lookup,
    login.radius_test,
    secret.secret,
):
    app.command()(command)

policy = typer.Typer(help="The policy: who may call what, and its versions.", no_args_is_help=True)
for step in (
    explain.explain,
    trials.dry_run,
    versions.apply,
    versions.show,
    versions.diff,
    versions.history,
    versions.rollback,
):
    policy.command()(step)
policy.command("test")(trials.try_out)
app.add_typer(policy, name="policy")


def main() -> None:
    """Run the command line and end the process."""
    try:
        app(prog_name="nomad")
    except _expected() as error:
        say(f"nomad: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _expected() -> tuple[type[Exception], ...]:
    """Errors whose text is for people; imported only when there is one."""
    from nomad.config import ConfigError
    from nomad.ports import Unavailable

    return Failure, ConfigError, Unavailable


def _show_version(wanted: bool) -> None:
    if wanted:
        from nomad import __version__

        typer.echo(f"nomad {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """RADIUS-guarded nomadic ToIP access: an authenticating SIP edge in front of a PBX."""
