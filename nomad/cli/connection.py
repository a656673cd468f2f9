"""A running edge's admin API, as commands use it."""

from __future__ import annotations

import getpass
import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

import typer

from nomad.cli.output import Failure

DEFAULT_URL = "http://127.0.0.1:8080"
TIMEOUT_S = 30.0
PAGE = 10_000
KINDS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a configuration may say to listen on

PersonArgument = Annotated[
    str, typer.Argument(metavar="USER", help="The person: a login, an address, or an extension that is registered.")
]
AdminOption = Annotated[
    str, typer.Option("--admin", metavar="URL", help=f"Admin address of the edge [NOMAD_ADMIN, {DEFAULT_URL}].")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="nomad.toml of the edge: its admin address, token."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for scripts.")]


class Unreachable(Failure):
    """Nothing listens at the address."""


class Edge:
    """One running edge. Every failure is a `Failure` with one clear line."""

    def __init__(self, url: str, *, token: str = "") -> None:
        self.url = url.rstrip("/")
        try:
            parts = urlsplit(self.url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError:
            parts, self._host = urlsplit(""), ""
        if parts.scheme not in KINDS or not self._host:
            raise Failure(f"'{url}' is no admin address; write it as in {DEFAULT_URL}")
        self._open = KINDS[parts.scheme]
        self._prefix = parts.path
        self._headers = {"X-Nomad-User": _own_name(), **({"Authorization": f"Bearer {token}"} if token else {})}

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Ask. Arguments that are None or "" are left out."""
        given = {name: str(value) for name, value in query.items() if value not in (None, "")}
        return self._ask("GET", f"{path}?{urlencode(given, errors='surrogateescape')}" if given else path, None)

    def post(self, path: str, **body: object) -> dict[str, Any]:
        """Command."""
        return self._ask("POST", path, body)

    def registrations(self, user: str = "") -> Iterator[dict[str, Any]]:
        """Every registration, page by page."""
        after = ""
        while True:
            page = self.get("registrations", user=user, after=after, limit=PAGE)
            yield from page["registrations"]
            if not page["more"]:
                return
            after = page["registrations"][-1]["user"]

    def _ask(self, method: str, path: str, body: dict[str, object] | None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, **({} if data is None else {"Content-Type": "application/json"})}
        connection = self._open(self._host, self._port, timeout=TIMEOUT_S)
        try:
            connection.request(method, f"{self._prefix}/api/v1/{path}", body=data, headers=headers)
            response = connection.getresponse()
            text = response.read()
        except TimeoutError:
            raise Failure(f"the edge at {self.url} does not answer within {TIMEOUT_S:g} s") from None
        except ConnectionRefusedError:
            raise Unreachable(
                f"no edge answers at {self.url}: start one with 'nomad run', or name its address with --admin URL or -c"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Failure(f"no edge answers at {self.url}: {why}; name its address with --admin URL or -c") from None
        finally:
            connection.close()
        return self._read(response.status, text)

    def _read(self, status: int, text: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Failure(f"what answers at {self.url} is no Nomad edge (HTTP {status}); name its address with --admin")
        if status != 200:
            raise Failure(str(answer.get("error", f"HTTP {status}")))
        return answer


def _own_name() -> str:
    """Who runs the command, for the audit log of the edge."""
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        name = f"uid {os.getuid()}"
    return name.encode("ascii", "replace").decode()


def connect(admin: str, config: Path | None) -> Edge:
    """The edge that the options name: --admin, else -c, else NOMAD_ADMIN, else the default address."""
    token = os.environ.get("NOMAD_ADMIN_TOKEN", "")
    url = admin or os.environ.get("NOMAD_ADMIN", "") or DEFAULT_URL
    if config is not None:
        listen, token = _from_config(config)
        url = admin or listen
    return Edge(url, token=token)


def _from_config(path: Path) -> tuple[str, str]:
    from nomad.config import load, secret, split_host_port

    config = load(path)
    if not config.admin.listen:
        raise Failure(f"{path}: admin.listen is empty: this edge has no admin address; set one, as in '127.0.0.1:8080'")
    host, port = split_host_port(config.admin.listen, 8080)
    host = ANY_ADDRESS.get(host, host)
    token = secret(config, config.admin.token_file, "NOMAD_ADMIN_TOKEN").decode("utf-8", "surrogateescape")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}", token
