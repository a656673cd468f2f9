"""What the edge and the RADIUS server wrote down, read back: the admin API and the accounting detail file."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

POLL_S = 0.05
REQUEST_S = 5.0
STATUS_TYPES = {"1": "Start", "2": "Stop", "3": "Interim-Update"}  # RFC 2866 5.1


class RecordsError(Exception):
    """The admin API did not answer as it should; the text says how."""


@dataclass(frozen=True, slots=True)
class Accounted:
    """Accounting records that the RADIUS server acknowledged."""

    start: int
    stop: int
    seconds: tuple[int, ...]  # Acct-Session-Time of every Stop
    users: frozenset[str]


class AdminApi:
    """The edge's admin API, read only."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def healthy(self) -> bool:
        """Whether the edge says that it can serve."""
        return (await self._get("/healthz"))[0] == 200

    async def status(self) -> dict[str, Any]:
        """The edge at a glance."""
        return await self._get_object("/api/v1/status")

    async def cdrs(self) -> list[dict[str, Any]]:
        """All call records, oldest first."""
        found = await self._get_object("/api/v1/cdrs")
        return sorted(found["cdrs"], key=lambda row: float(row["started_at"]))

    async def wait_cdrs(self, count: int, *, timeout_s: float) -> list[dict[str, Any]]:
        """All call records once there are so many, or what there is when the time is over."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            rows = await self.cdrs()
            if len(rows) >= count or asyncio.get_running_loop().time() > deadline:
                return rows
            await asyncio.sleep(POLL_S)

    async def _get_object(self, path: str) -> dict[str, Any]:
        status, text = await self._get(path)
        if status != 200:
            raise RecordsError(f"GET {path}: {status} {text[:200]}")
        found: dict[str, Any] = json.loads(text)
        return found

    async def _get(self, path: str) -> tuple[int, str]:
        timeout = aiohttp.ClientTimeout(total=REQUEST_S)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(self._url + path) as response:
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RecordsError(f"GET {self._url}{path}: {error or 'no answer in time'}") from None


def read_accounting(detail: Path) -> Accounted:
    """Count the records in the detail file (JSON lines) of the embedded RADIUS server; none when there is no file."""
    records = _lines(detail) if detail.is_file() else []
    calls = [record for record in records if _kind(record) in ("Start", "Stop")]  # else Accounting-On and the like
    kinds = Counter(_kind(record) for record in calls)
    stops = [record for record in calls if _kind(record) == "Stop"]
    return Accounted(
        start=kinds["Start"],
        stop=kinds["Stop"],
        seconds=tuple(int(record.get("Acct-Session-Time", -1)) for record in stops),
        users=frozenset(str(record.get("User-Name", "")) for record in calls),
    )


async def wait_accounting(detail: Path, count: int, *, timeout_s: float) -> Accounted:
    """The accounting once there are so many Stops, or what there is when the time is over."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        found = await asyncio.to_thread(read_accounting, detail)
        if min(found.start, found.stop) >= count or asyncio.get_running_loop().time() > deadline:
            return found
        await asyncio.sleep(POLL_S)


def _lines(path: Path) -> Sequence[dict[str, Any]]:
    """Whole lines only: the last one may still be in the writing."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
    return [record for record in found if "Acct-Status-Type" in record]


def _kind(record: dict[str, Any]) -> str:
    kind = str(record["Acct-Status-Type"])
    return STATUS_TYPES.get(kind, kind)
