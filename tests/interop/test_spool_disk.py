"""The disk below the spool is full, and its file is damaged: the real process goes on, and what can be saved is."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.asterisk import Asterisk
from tests.harness.edge import FORBIDDEN, Edge
from tests.harness.people import ALICE, SAMPLE
from tests.harness.processes import find_program, wait_until
from tests.harness.radius import OwnRadius
from tests.harness.wire import Dialog, Wire

DISK_KBYTES = 512
PAGE_BYTES = 4096


class DiskEdge(Edge):
    """An edge whose spool has a folder of its own, and whose log may say what happens to it."""

    def check_log(self) -> None:
        known = ("nomad.stores.ledger spool ", " store-failed ")
        bad = [
            line
            for line in self.log().splitlines()
            if any(word in line for word in FORBIDDEN) and not any(word in line for word in known)
        ]
        assert not bad, bad[:5]

    def _config(self, *arguments: object) -> str:
        text = super()._config(*arguments)  # type: ignore[arg-type]  # passed on as they are
        return text.replace('spool = "spool.db"', 'spool = "disk/spool.db"')


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = find_program("mount") or "mount"
    command = [mount, "-t", "tmpfs", "-o", f"size={DISK_KBYTES}k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield folder
    subprocess.run([find_program("umount") or "umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no room."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(512))
        except OSError:
            return path


def damage(path: Path) -> None:
    """Overwrite a page in the middle that has entries on it."""
    whole = path.read_bytes()
    pages = len(whole) // PAGE_BYTES
    assert pages > 20
    for page in range(pages // 2, pages):
        at = page * PAGE_BYTES
        path.write_bytes(whole[:at] + os.urandom(PAGE_BYTES) + whole[at + PAGE_BYTES :])
        with contextlib.closing(sqlite3.connect(path)) as connection:
            try:
                if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                    return
            except sqlite3.DatabaseError:
                return
    raise AssertionError("no page has entries")


def test_a_full_disk_loses_no_call(disk: Path, edge_port: int, asterisk: Asterisk) -> None:
    edge = DiskEdge(disk.parent, pbx=asterisk.uri, port=edge_port)
    try:
        with Wire(edge.sip, ALICE) as phone:
            before = phone.call("1000")
            filler = fill(disk)
            assert phone.hang_up(before).status == 200

            def talked() -> Dialog:
                call = phone.call("1000")
                assert phone.hang_up(call).status == 200
                return call

            during = talked()
            wait_until(lambda: "until the disk takes it" in edge.log(), timeout_s=10, what="the log says it")
            assert edge.metric("nomad_store_failures_total") > 0
            assert edge.metric("nomad_accounting_spool_records") >= 3
            assert not edge.accounting(during.call_id)
            filler.unlink()
            wait_until(lambda: "the disk writes again" in edge.log(), timeout_s=10, what="the log says that too")
            for call in (before, during):
                edge.wait_accounted(call.call_id, "Start", "Stop", timeout_s=20)
                assert edge.wait_cdr(call.call_id)["result"] == "answered"
        assert edge.metric("nomad_accounting_spool_records") == 0
        edge.kill9()
        edge.start()
        assert edge.metric("nomad_calls_active") == 0, "no call of then comes back"
    finally:
        edge.stop()
        asterisk.wait_idle()


def test_a_damaged_page_is_mended_at_the_start(tmp_path: Path, edge_port: int, asterisk: Asterisk) -> None:
    (tmp_path / "disk").mkdir()
    radius = OwnRadius(tmp_path / "radius", people=SAMPLE)
    edge = DiskEdge(tmp_path, pbx=asterisk.uri, port=edge_port, radius=radius)
    try:
        with Wire(edge.sip, ALICE) as phone:
            assert phone.register().status == 200
            radius.kill()
            calls = [phone.call("1000") for _ in range(3)]
            for call in calls[:2]:
                assert phone.hang_up(call).status == 200
            for _ in range(60):  # entries enough for many pages
                assert phone.hang_up(phone.call("1000")).status == 200
            edge.stop()
            path = tmp_path / "disk" / "spool.db"
            damage(path)
            edge.start()
            assert "was damaged; what could be read was taken over" in edge.log()
            assert len(list(path.parent.glob("spool.db.damaged-*"))) == 1
            assert edge.metric("nomad_calls_active") == 1
            radius.start()
            assert phone.hang_up(calls[2]).status == 200
            wait_until(lambda: edge.metric("nomad_accounting_spool_records") == 0, timeout_s=30, what="an empty spool")
            edge.wait_accounted(calls[0].call_id, "Start", "Stop")
            stops = sum(each["Acct-Status-Type"] == "Stop" for each in edge.accounting())
            assert stops > 40, "what stood on the other pages is accounted"
    finally:
        edge.stop()
        radius.stop()
        asterisk.hang_up_all()  # what a test that failed left behind
        asterisk.wait_idle()
