"""Reading back call records over HTTP and accounting from a detail file."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from nomad.demo.records import Accounted, AdminApi, RecordsError, read_accounting, wait_accounting


class Answers:
    """A small admin API."""

    def __init__(self) -> None:
        self.cdrs: list[dict[str, object]] = []
        self.code = 200
        self.asked = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.asked == 3:
            self.cdrs.append({"id": "late", "started_at": 1.0})
        shown = {"/healthz": {}, "/api/v1/status": {"calls": 0}, "/api/v1/cdrs": {"cdrs": self.cdrs}}
        return web.json_response(shown[request.path], status=self.code)


@pytest.fixture
async def answers() -> AsyncIterator[Answers]:
    made = Answers()
    app = web.Application()
    app.router.add_get("/{path:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    await runner.cleanup()


async def test_the_admin_api_is_read(answers: Answers) -> None:
    api = AdminApi(answers.url)
    assert await api.healthy()
    assert await api.status() == {"calls": 0}
    answers.cdrs = [{"id": "b", "started_at": 3.0}, {"id": "a", "started_at": 2.0}]
    assert [row["id"] for row in await api.wait_cdrs(3, timeout_s=3)] == ["late", "a", "b"]
    assert len(await api.wait_cdrs(4, timeout_s=0)) == 3


async def test_an_api_that_fails_says_so(answers: Answers) -> None:
    answers.code = 503
    api = AdminApi(answers.url)
    assert not await api.healthy()
    with pytest.raises(RecordsError, match="503"):
        await api.cdrs()
    with pytest.raises(RecordsError, match=r"GET http://127.0.0.1:9/healthz"):
        await AdminApi("http://127.0.0.1:9").healthy()


async def test_starts_and_stops_are_counted(tmp_path: Path) -> None:
    records = [
        {"Acct-Status-Type": "Accounting-On"},
        {"Acct-Status-Type": "Start", "User-Name": "alice"},
        {"Acct-Status-Type": 2, "User-Name": "alice", "Acct-Session-Time": 4},
        {"Acct-Status-Type": "Stop", "User-Name": "bob"},
    ]
    text = "".join(json.dumps(record) + "\n" for record in records)
    detail = tmp_path / "detail.jsonl"
    detail.write_text(text + '{"Acct-Status-Type": "St', encoding="utf-8")
    found = read_accounting(detail)
    assert found == Accounted(1, 2, (4, -1), frozenset({"alice", "bob"}))
    assert await wait_accounting(detail, 1, timeout_s=0) == found
    assert (await wait_accounting(detail, 2, timeout_s=0.01)).start == 1


def test_no_detail_file_is_no_accounting(tmp_path: Path) -> None:
    assert read_accounting(tmp_path / "none") == Accounted(0, 0, (), frozenset())
