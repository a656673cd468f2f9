"""Commands that look at and steer a running edge."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from nomad.cli.connection import AdminOption, ConfigOption, JsonOption, PersonArgument, connect
from nomad.cli.output import print_json, print_table, printable, say
from nomad.cli.times import duration, local_short

UserOption = Annotated[str, typer.Option("--user", "-u", help="Only this user.")]


def status(admin: AdminOption = "", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The edge at a glance."""
    found = connect(admin, config).get("status")
    if as_json:
        print_json(found)
        return
    rows = [
        ("version", found["version"]),
        ("up since", f"{local_short(found['started_at'])} ({duration(time.time() - found['started_at'])})"),
        ("state", "draining" if found["draining"] else "serving"),
        ("policy", _policy(found["policy"])),
        *(("needs a restart", key) for key in found["restart"]),
        ("registrations", str(found["registrations"])),
        ("calls", str(found["calls"])),
        ("accounting waits", f"{found['spool_records']} records"),
        ("accounting undeliverable", f"{found['spool_undeliverable']} records"),
        *(("listens", listen) for listen in found["listens"]),
        *(("radius", f"{each['server']} {'up' if each['up'] else 'DOWN'}") for each in found["radius"]),
        *(("pbx", f"{each['name']} {each['uri']}") for each in found["pbx"]),
    ]
    print_table(("WHAT", "IS"), rows, empty="")


def registrations(
    user: UserOption = "", admin: AdminOption = "", config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Who is registered, from where, since when and for how long, with which phone, by which proxies."""
    found = list(connect(admin, config).registrations(user))
    if as_json:
        print_json(found)
        return
    rows = [_registration_row(each, binding) for each in found for binding in each["bindings"]]
    headings = ("USER", "EXTENSION", "ADDRESS", "PEER", "SINCE", "EXPIRES IN", "USER AGENT", "PATH")
    print_table(headings, rows, empty=f"{user or 'nobody'} is {'not ' if user else ''}registered")


def calls(admin: AdminOption = "", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Calls in progress, oldest first."""
    found = connect(admin, config).get("calls")["calls"]
    if as_json:
        print_json(found)
        return
    now = time.time()
    rows = [
        (
            each["id"],
            each["state"],
            duration(now - (each["answered_at"] or each["started_at"])),
            each["direction"],
            each["user"],
            each["caller"],
            each["callee"],
            each["peer"],
        )
        for each in found
    ]
    headings = ("CALL", "STATE", "FOR", "DIR", "USER", "FROM", "TO", "PEER")
    print_table(headings, rows, empty="no calls in progress")


def hangup(
    call: Annotated[str, typer.Argument(help="Id of the call, as 'nomad calls' shows it.")],
    admin: AdminOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a call: BYE to both sides."""
    _done(connect(admin, config).post("hangup", call=call), f"call {call} is ended", as_json)


def kick(
    user: PersonArgument,
    admin: AdminOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a person's registrations and end the person's calls."""
    answer = connect(admin, config).post("kick", user=user)
    _done(answer, f"{user}: {answer['removed']} registrations and calls removed", as_json)


def bans(admin: AdminOption = "", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Banned addresses, and those that are slowed down."""
    found = connect(admin, config).get("bans")["bans"]
    if as_json:
        print_json(found)
        return
    now = time.time()
    rows = [
        (each["address"], each["kind"], each["reason"], local_short(each["until"]), duration(each["until"] - now))
        for each in found
    ]
    print_table(("ADDRESS", "IS", "REASON", "UNTIL", "LEFT"), rows, empty="no address is banned")


def unban(
    address: Annotated[str, typer.Argument(help="Address, as 'nomad bans' shows it.")],
    admin: AdminOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lift a ban."""
    _done(connect(admin, config).post("unban", address=address), f"{address} is no longer banned", as_json)


def reload(admin: AdminOption = "", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Read configuration and policy again; on an error nothing changes."""
    answer = connect(admin, config).post("reload")
    _done(answer, f"reloaded; policy {_policy(answer['policy'])}", as_json)
    if not as_json:
        for key in answer["restart"]:
            say(f"{key} changed, and needs a restart")


def drain(admin: AdminOption = "", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Refuse new work; calls in progress go on."""
    _done(connect(admin, config).post("drain"), "draining: new work is refused, calls in progress go on", as_json)


def _policy(policy: dict[str, str]) -> str:
    return " ".join(filter(None, (policy["version"], policy["sha"][:12], policy["source"])))


def _done(answer: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        typer.echo(printable(text))


def _registration_row(registration: dict[str, Any], binding: dict[str, Any]) -> tuple[str, ...]:
    return (
        registration["user"],
        registration["extension"],
        binding["address"] or binding["contact"],
        f"{binding['transport']} {binding['peer']}",
        local_short(binding["registered_at"]),
        duration(binding["expires_in_s"]),
        binding["user_agent"],
        " ".join(binding["path"]),
    )
