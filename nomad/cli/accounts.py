"""`nomad lock`, `unlock`, `locks`: accounts that nobody gets in with."""

from __future__ import annotations

from typing import Annotated

import typer

from nomad.cli.connection import AdminOption, ConfigOption, JsonOption, PersonArgument, connect
from nomad.cli.output import print_json, print_table, printable
from nomad.cli.times import local_short


def lock(
    user: PersonArgument,
    why: Annotated[str, typer.Option("--why", help="For whoever unlocks it, and for the audit log.")],
    admin: AdminOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let nobody in with this account, end its calls, remove its registrations."""
    answer = connect(admin, config).post("lock", user=user, why=why)
    if as_json:
        print_json(answer)
    else:
        typer.echo(printable(f"{user} is locked; {answer['removed']} registrations and calls removed"))


def unlock(
    user: Annotated[str, typer.Argument(help="The person, as 'nomad locks' shows it.")],
    admin: AdminOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the person in again."""
    answer = connect(admin, config).post("unlock", user=user)
    if as_json:
        print_json(answer)
    else:
        typer.echo(printable(f"{user} is unlocked"))


def locks(admin: AdminOption = "", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Locked accounts, oldest first."""
    found = connect(admin, config).get("locks")["locks"]
    if as_json:
        print_json(found)
        return
    rows = [(each["user"], local_short(each["at"]), each["by"], each["why"]) for each in found]
    print_table(("USER", "SINCE", "BY", "WHY"), rows, empty="no account is locked")
