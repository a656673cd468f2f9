"""radius.detail: records in a file, each event once."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

import radius.detail
from radius.detail import DetailFile
from radius.errors import LedgerUnavailable
from radius.ports import Record
from tests.radius.samples import record


def sessions(path: Path) -> list[str]:
    return [json.loads(line)["Acct-Session-Id"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("sync", [True, False])
def test_records_are_written_in_order(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "detail.jsonl"
    detail = DetailFile(path, sync=sync)
    for first in range(0, 500, 100):
        assert detail.store([record("Start", f"é{number}") for number in range(first, first + 100)]) == {}
    assert sessions(path) == [f"é{number}" for number in range(500)]
    assert path.stat().st_mode & 0o777 == 0o600
    detail.close()


def test_an_event_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "detail.jsonl"
    detail = DetailFile(path)
    detail.store([record("Start"), record("Start")])
    detail.store([record("Start"), record("Stop")])
    DetailFile(path).store([record("Start"), record("Stop"), record("Start", "s2")])  # after a restart
    assert sessions(path) == ["s1", "s1", "s2"]


def test_an_event_in_a_moved_file_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "detail.jsonl"
    detail = DetailFile(path)
    detail.store([record("Start")])
    path.rename(tmp_path / "detail.jsonl.1")
    detail.store([record("Start"), record("Start", "s2")])
    assert sessions(path) == ["s2"]
    DetailFile(path).store([record("Start"), record("Start", "s2"), record("Start", "s3")])
    assert sessions(path) == ["s2", "s3"]


def test_the_newest_events_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radius.detail, "MAX_KNOWN", 3)
    path = tmp_path / "detail.jsonl"
    detail = DetailFile(path)
    for number in range(5):
        detail.store([record("Start", f"s{number}")])
    for again in (detail, DetailFile(path)):
        again.store([record("Start", f"s{number}") for number in (2, 3, 4)])
        assert sessions(path) == [f"s{number}" for number in range(5)]


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "detail.jsonl"
    DetailFile(path).store([record("Start", "s1"), record("Start", "s2")])
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])  # a power failure in the middle of the second
    DetailFile(path).store([record("Start", "s1"), record("Start", "s2")])
    assert path.read_bytes() == whole
    path.write_bytes(b'{"event')
    DetailFile(path).store([record("Start", "s1")])
    assert sessions(path) == ["s1"]


def test_half_a_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "detail.jsonl"
    detail = DetailFile(path)
    detail.store([record("Start", "s1")])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(LedgerUnavailable, match="No space left"):
            detail.store([record("Start", "s2")])
    assert sessions(path) == ["s1"]
    detail.store([record("Start", "s2")])
    assert sessions(path) == ["s1", "s2"]


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="missing"):
        DetailFile(tmp_path / "missing" / "detail.jsonl").store([record("Start")])


def test_a_foreign_line_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "detail.jsonl"
    path.write_text('{"written": "by hand"}\n')
    DetailFile(path).store([Record("x" * 32, 0.0, {"text": "\udcff"})])
    assert len(path.read_bytes().splitlines()) == 2
