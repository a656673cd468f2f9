"""radius.detail: records in a file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from radius.detail import DetailFile


@pytest.mark.parametrize("sync", [True, False])
async def test_records_are_written_in_order(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "detail.jsonl"
    detail = DetailFile(path, sync=sync)
    await asyncio.gather(*(detail.write({"n": n, "text": "é\n"}) for n in range(500)))
    await detail.close()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["n"] for record in records] == list(range(500))
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_moved_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "detail.jsonl"
    detail = DetailFile(path)
    await detail.write({"n": 1})
    path.rename(tmp_path / "detail.1")
    await detail.write({"n": 2})
    assert json.loads(path.read_text()) == {"n": 2}
    await detail.close()


async def test_failure_reaches_every_writer(tmp_path: Path) -> None:
    detail = DetailFile(tmp_path / "missing" / "detail.jsonl")
    results = await asyncio.gather(detail.write({}), detail.write({}), return_exceptions=True)
    assert all(isinstance(result, OSError) for result in results)
    await detail.close()
