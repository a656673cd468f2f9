"""`nomad secret`: SIP credentials of a person's devices in the directory, each made and revoked on its own."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Annotated

import typer

from nomad.cli.connection import JsonOption
from nomad.cli.output import Failure, print_json, print_table, say
from nomad.cli.service import DEFAULT_FILE, FileOption

if TYPE_CHECKING:
    from nomad.config import Config
    from radius.keyring import Held, Keyring

BIND_PASSWORD = "NOMAD_BIND_PASSWORD"  # noqa: S105 - the name of a variable
PASSWORD_BYTES = 32


def secret(
    user: Annotated[str, typer.Argument(help="The person's login.")],
    device: Annotated[
        str, typer.Option("--device", "-d", metavar="NAME", help="The device; it logs in as USER+NAME.")
    ] = "",
    show: Annotated[bool, typer.Option("--list", help="Only show what there is.")] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="Remove the credentials.")] = False,
    choose: Annotated[bool, typer.Option("--ask", help="Ask for the password instead of making one.")] = False,
    bind_dn: Annotated[
        str, typer.Option(metavar="DN", help=f"LDAP account that may write; password asked, or {BIND_PASSWORD}.")
    ] = "",
    config: FileOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> None:
    """Make, rotate, list or revoke SIP credentials (digest HA1 sets). The password is shown once."""
    from nomad import config as configuration
    from radius import credentials
    from radius.errors import DirectoryUnavailable
    from radius.keyring import NoSuchPerson

    if (show and (revoke or choose or device)) or (revoke and choose):
        raise Failure("--list, --revoke and --ask exclude each other; --list shows all devices")
    device = device.lower()
    if device and not credentials.DEVICE.match(device):
        raise Failure(f"'{device}' is no device name: up to 32 letters, digits, '.', '_' and '-'")
    loaded = configuration.load(config)
    keyring = _open(loaded, bind_dn)
    try:
        held = keyring.read(user)
        old = credentials.values_of(held.values, device)
        if show:
            _show(held, as_json=as_json)
        elif revoke:
            if not old:
                raise Failure(f"{held.login} has no credentials of {_named(device)}; see --list")
            keyring.change(user, remove=old, add=[])
            _revoked(held.login, device, as_json=as_json)
        else:
            password = _ask() if choose else credentials.make_password(secrets.token_bytes(PASSWORD_BYTES))
            users = credentials.user_forms(held.logins, device, loaded.domains)
            keyring.change(user, remove=old, add=credentials.make_values(users, loaded.domain, password))
            shown = "" if choose else password
            _made(held.login, device, users, shown, rotated=bool(old), as_json=as_json)
    except (NoSuchPerson, DirectoryUnavailable) as error:
        raise Failure(str(error)) from None


def _open(config: Config, bind_dn: str) -> Keyring:
    """The directory of the configuration."""
    from nomad.servers import embedded_config
    from radius.config import urls
    from radius.keyring import LdapKeyring, LdifKeyring
    from radius.service import ldap_settings

    made = embedded_config(config)
    names, found = made.directory.attributes.names(), urls(made.directory)
    if not found:
        raise Failure("directory.url: is missing; credentials are kept in the directory")
    if found[0].startswith("file:"):
        return LdifKeyring(made.path(found[0].removeprefix("file:")), names)
    return LdapKeyring(
        ldap_settings(made, bind_dn=bind_dn, bind_password=_bind_password(bind_dn) if bind_dn else ""), names
    )


def _bind_password(bind_dn: str) -> str:
    return os.environ.get(BIND_PASSWORD) or str(typer.prompt(f"Password of {bind_dn}", hide_input=True, err=True))


def _ask() -> str:
    from radius.credentials import MIN_PASSWORD

    password = str(typer.prompt("SIP password", hide_input=True, confirmation_prompt=True, err=True))
    if len(password) < MIN_PASSWORD:
        raise Failure(f"the password is too short: at least {MIN_PASSWORD} characters")
    return password


def _show(held: Held, *, as_json: bool) -> None:
    from radius.credentials import credentials_in

    found = credentials_in(held.values)
    if as_json:
        print_json(
            {
                "user": held.login,
                "credentials": [
                    {"device": each.device, "realm": each.realm, "algorithms": each.algorithms, "users": each.users}
                    for each in found
                ],
            }
        )
        return
    rows = [(each.device or "-", each.realm, " ".join(each.algorithms), " ".join(each.users)) for each in found]
    print_table(("DEVICE", "REALM", "ALGORITHMS", "USER NAMES"), rows, empty=f"{held.login} has no SIP credentials")


def _made(login: str, device: str, users: tuple[str, ...], password: str, *, rotated: bool, as_json: bool) -> None:
    done = "rotated" if rotated else "created"
    if as_json:
        print_json({"user": login, "device": device, "done": done, "users": users, "password": password})
        return
    say(f"{done} the credentials of {_named(device)}; the phone logs in as {users[0]}")
    if password:
        typer.echo(password)
    if rotated:
        say(_HINT.format(login=login))


def _revoked(login: str, device: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"user": login, "device": device, "done": "revoked"})
        return
    say(f"revoked the credentials of {_named(device)}")
    say(_HINT.format(login=login))


def _named(device: str) -> str:
    return f"device {device}" if device else "the person's own login"


_HINT = "an edge may remember the old ones for a while (radius.verdict_cache_s); 'nomad kick {login}' ends that now"
