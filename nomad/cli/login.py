"""`nomad radius-test`: one digest login through RADIUS, as a phone's would go."""

from __future__ import annotations

import os
import secrets
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from nomad.cli.connection import JsonOption
from nomad.cli.output import Failure, print_json, printable, say
from nomad.cli.service import DEFAULT_FILE, FileOption

if TYPE_CHECKING:
    from nomad.config import Config
    from nomad.ports import Grant, Proof

PASSWORD = "NOMAD_TEST_PASSWORD"  # noqa: S105 - the name of a variable
EMBEDDED = "embedded server"


class Algorithm(StrEnum):
    """Digest algorithms (RFC 8760)."""

    md5 = "MD5"
    sha256 = "SHA-256"
    sha512 = "SHA-512-256"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one server said."""

    server: str
    result: str  # accepted, refused or unavailable
    ms: float
    text: str = ""
    grant: Grant | None = None


def radius_test(
    user: Annotated[str, typer.Argument(help="The login as a phone sends it.")],
    server: Annotated[
        str,
        typer.Option("--server", "-s", metavar="HOST[:PORT]", help="Only this one; else each of the configuration."),
    ] = "",
    algorithm: Annotated[Algorithm, typer.Option(help="Digest algorithm.")] = Algorithm.md5,
    config: FileOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> None:
    """One digest login through RADIUS. Password: asked, or from standard input, or NOMAD_TEST_PASSWORD."""
    import uvloop

    from nomad import config as configuration

    loaded = configuration.load(config)
    configs = _one_server_each(loaded, server)
    proof = make_proof(user, _password(), realm=loaded.domain, algorithm=str(algorithm))
    answers = [uvloop.run(_ask(name, each, proof)) for name, each in configs]
    if as_json:
        print_json({"user": user, "servers": [_as_json(answer) for answer in answers]})
    else:
        for answer in answers:
            _print(answer)
    if any(answer.result != "accepted" for answer in answers):
        raise typer.Exit(1)


def grant_of(config: Config, user: str) -> Grant:
    """What RADIUS says of a person whose password is asked for. Raises `Failure` when it lets nobody in."""
    import uvloop

    proof = make_proof(user, _password(), realm=config.domain, algorithm=str(Algorithm.md5))
    name, one_server = _one_server_each(config, "")[0]
    answer = uvloop.run(_ask(name, one_server, proof))
    if answer.grant is None:
        raise Failure(f"{answer.server}: {answer.result}: {answer.text}")
    return answer.grant


def make_proof(user: str, password: str, *, realm: str, algorithm: str) -> Proof:
    """What a phone would send with a REGISTER."""
    from nomad.ports import Proof
    from nomad.sip.digest import answer
    from nomad.sip.headers import Challenge

    challenge = Challenge(
        "Digest", {"realm": realm, "nonce": secrets.token_hex(16), "algorithm": algorithm, "qop": "auth"}
    )
    uri, cnonce = f"sip:{realm}", secrets.token_hex(8)
    made = answer(challenge, method="REGISTER", uri=uri, username=user, password=password, cnonce=cnonce)
    return Proof(
        username=user,
        realm=realm,
        nonce=challenge.get("nonce"),
        uri=uri,
        method="REGISTER",
        response=made.get("response"),
        algorithm=algorithm,
        qop="auth",
        nc=made.get("nc"),
        cnonce=cnonce,
        address=user if "@" in user else f"{user}@{realm}",
    )


def _one_server_each(config: Config, server: str) -> list[tuple[str, Config]]:
    """A configuration for each server to ask, by its name."""
    import msgspec

    from nomad.config import RADSEC, Radius, secret, split_host_port

    quiet = msgspec.structs.replace(config.accounting, detail="")
    config = msgspec.structs.replace(config, accounting=quiet)
    table = msgspec.structs.replace(config.radius or Radius(), disconnect_listen="")
    if not server and table.embedded:
        return [(EMBEDDED, config)]
    try:
        for text in (server,) if server else table.auth:
            split_host_port(text.removeprefix(RADSEC), 1812)
    except ValueError as error:
        raise Failure(f"--server {error}") from None
    over_tls = (server or table.auth[0]).startswith(RADSEC)
    if not over_tls and not secret(config, table.secret_file, "NOMAD_RADIUS_SECRET"):
        raise Failure("radius.secret_file: is missing; name a file, or set NOMAD_RADIUS_SECRET")
    return [
        (text, msgspec.structs.replace(config, radius=msgspec.structs.replace(table, auth=(text,), acct=(text,))))
        for text in ((server,) if server else table.auth)
    ]


async def _ask(name: str, config: Config, proof: Proof) -> Answer:
    from nomad.metrics import Metrics
    from nomad.ports import Refusal, Unavailable
    from nomad.servers import RadiusServers

    servers = RadiusServers(config, Metrics())
    started = time.monotonic()
    try:
        await servers.start()
        started = time.monotonic()
        answer = await servers.authenticator.check(proof)
    except Unavailable as error:
        return Answer(name, "unavailable", _ms(started), str(error))
    finally:
        await servers.close()
    if isinstance(answer, Refusal):
        return Answer(name, "refused", _ms(started), answer.message or "wrong user name or password")
    return Answer(name, "accepted", _ms(started), answer.message, answer)


def _password() -> str:
    if PASSWORD in os.environ:
        return os.environ[PASSWORD]
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


def _ms(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 1)


def _print(answer: Answer) -> None:
    line = f"{answer.server}: {answer.result} in {answer.ms:g} ms"
    if answer.grant is None:
        say(f"{line}: {answer.text}")
        return
    typer.echo(line)
    for name, value in _shown(answer.grant).items():
        if value not in (None, "", []):
            text = ", ".join(value) if isinstance(value, list) else str(value)
            typer.echo(f"  {name:<16} {printable(text)}")


def _shown(grant: Grant) -> dict[str, object]:
    """A grant for people and scripts."""
    return {
        "user": grant.user,
        "extension": grant.extension,
        "display_name": grant.display_name,
        "addresses": list(grant.addresses),
        "groups": list(grant.groups),
        "classes": [value.decode("utf-8", "replace") for value in grant.classes],
        "session_timeout": grant.session_timeout_s,
        "idle_timeout": grant.idle_timeout_s,
        "allowed_classes": list(grant.allowed_classes),
        "max_calls": grant.limits.concurrent_calls,
        "max_day_seconds": grant.limits.seconds_per_day,
        "max_call_seconds": grant.limits.call_s,
        "message": grant.message,
    }


def _as_json(answer: Answer) -> dict[str, object]:
    shown: dict[str, object] = {"server": answer.server, "result": answer.result, "ms": answer.ms, "text": answer.text}
    return {**shown, "grant": _shown(answer.grant)} if answer.grant is not None else shown
