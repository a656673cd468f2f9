"""An HTTP server on loopback (aiohttp) that keeps what is posted to it."""

from __future__ import annotations

import asyncio

from aiohttp import web

from tests.harness.ports import HOST


class Hook:
    """Answers with the statuses of `answers`, then with 200; a status of 0 never answers."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._never = asyncio.Event()

    async def start(self) -> Hook:
        """Listen."""
        app = web.Application()
        app.router.add_post("/alarm", self._post)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.url = f"http://{HOST}:{self._runner.addresses[0][1]}/alarm"
        return self

    async def stop(self) -> None:
        """Close."""
        self._never.set()
        assert self._runner is not None
        await self._runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        self.posts.append((dict(request.headers), await request.read()))
        status = self.answers.pop(0) if self.answers else 200
        if not status:
            await self._never.wait()
        headers = {"Location": "/elsewhere"} if 300 <= status < 400 else {}
        return web.Response(status=status or 200, headers=headers)
