"""The HTTP server of an edge: /healthz, /metrics, /metrics/users and the API below /api/v1/.

Who may in: /healthz and /metrics answer everybody who reaches the socket. The rest wants the bearer token when one is
set; without a token it wants a Host that is an address or is known, because a browser that was lured to a name which
resolves to loopback (DNS rebinding) sends that name.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import time
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from nomad.admin import api
from nomad.ports import Console, Unavailable

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024
HEALTH_TIMEOUT_S = 2.0
HEALTH_AGE_S = 1.0  # one look at the edge serves every probe within this time
SHUTDOWN_S = 2.0
OPEN_PATHS = ("/healthz", "/metrics")


class Exposition(Protocol):
    """Where metrics are read."""

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Text and content type of /metrics."""

    def render_users(self, accept: str = "") -> tuple[bytes, str]:
        """Text and content type of /metrics/users."""


class AdminServer:
    """Serves one console. `hosts` are names under which a browser may reach it, besides addresses and localhost."""

    def __init__(self, console: Console, metrics: Exposition, *, token: bytes = b"", hosts: Sequence[str] = ()) -> None:
        self._runner = web.AppRunner(
            make_app(console, metrics, token=token, hosts=hosts), access_log=None, shutdown_timeout=SHUTDOWN_S
        )
        self._address: tuple[str, int] = ("", 0)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""
        return self._address

    @property
    def url(self) -> str:
        """Where to reach it."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes a free one. Raises `Unavailable`."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise Unavailable(f"admin: cannot listen on {host}:{port}: {error.strerror or error}") from None
        bound = self._runner.addresses[0]
        self._address = (str(bound[0]), int(bound[1]))

    async def stop(self) -> None:
        """Finish running requests and close."""
        await self._runner.cleanup()


def make_app(
    console: Console, metrics: Exposition, *, token: bytes = b"", hosts: Sequence[str] = ()
) -> web.Application:
    """The application without a socket."""
    app = web.Application(middlewares=[_Door(token, hosts).check], client_max_size=MAX_BODY_BYTES)
    health = _Health(console)

    async def show_metrics(request: web.Request) -> web.Response:
        text, kind = metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": kind})

    async def show_users(request: web.Request) -> web.Response:
        text, kind = metrics.render_users(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": kind})

    app.router.add_get("/healthz", health.show)
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/metrics/users", show_users)
    app.add_routes(api.routes(console))
    return app


class _Door:
    """Who may do what; and every failure as one JSON object."""

    def __init__(self, token: bytes, hosts: Sequence[str]) -> None:
        self._token = token
        self._hosts = {host.lower() for host in hosts}

    @property
    def check(self) -> Middleware:
        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            refusal = self._refuse(request)
            if refusal is not None:
                return refusal
            try:
                response = await handler(request)
            except Unavailable as error:
                response = api.failure(503, str(error))
            except web.HTTPException as error:
                response = api.failure(error.status, error.text or error.reason)
                if "Allow" in error.headers:
                    response.headers["Allow"] = error.headers["Allow"]
            response.headers["Cache-Control"] = "no-store"
            response.headers["X-Content-Type-Options"] = "nosniff"
            return response

        return check

    def _refuse(self, request: web.Request) -> web.Response | None:
        if request.path in OPEN_PATHS and request.method in ("GET", "HEAD"):
            return None
        if request.method not in ("GET", "HEAD") and _is_cross_origin(request):
            return api.failure(403, "refused: this request comes from a page of another origin")
        if self._token:
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            matches = hmac.compare_digest(given.strip(" ").encode("utf-8", "surrogateescape"), self._token)
            if scheme.lower() != "bearer" or not matches:
                refused = api.failure(401, "refused: send the admin token (Authorization: Bearer, NOMAD_ADMIN_TOKEN)")
                refused.headers["WWW-Authenticate"] = 'Bearer realm="nomad"'
                return refused
            return None
        if not self._knows(_host_of(request.headers.get("Host", ""))):
            return api.failure(403, "refused: unknown Host; use the address, or set an admin token")
        return None

    def _knows(self, host: str) -> bool:
        if host == "localhost" or host in self._hosts:
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True


class _Health:
    """Whether this edge can take new work: not draining, and a RADIUS server answers."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen_at = float("-inf")
        self._answer: tuple[int, dict[str, object]] = (503, {})

    async def show(self, request: web.Request) -> web.Response:
        if time.monotonic() - self._seen_at > HEALTH_AGE_S:
            self._answer = await self._look()
            self._seen_at = time.monotonic()
        code, shown = self._answer
        return api.answer(shown, code)

    async def _look(self) -> tuple[int, dict[str, object]]:
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_S):
                status = await self._console.status()
        except (Unavailable, TimeoutError) as error:
            return 503, {"ok": False, "why": str(error) or "the edge does not answer"}
        radius = any(up for _, up in status.radius) or not status.radius
        if status.draining:
            return 503, {"ok": False, "why": "draining"}
        if not radius:
            return 503, {"ok": False, "why": "no RADIUS server answers"}
        return 200, {"ok": True}


def _host_of(header: str) -> str:
    """The host of a Host header, lower case, without port and brackets; "" when it is none."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


def _is_cross_origin(request: web.Request) -> bool:
    """Whether a browser says that a page of somebody else sent this."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = request.headers.get("Origin")
    return origin is not None and _netloc(origin) != request.headers.get("Host", "").lower()


def _netloc(origin: str) -> str:
    """Host and port of an Origin header, lower case; "null" stays what matches no Host."""
    try:
        return urlsplit(origin).netloc.lower() or "null"
    except ValueError:
        return "null"
