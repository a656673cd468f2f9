"""Bans in an nftables set of the kernel, by the real nft."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from nomad.alarm.firewall import Firewall
from nomad.config import Guard

TABLE = "nomad_test"


def nft(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["nft", *words], capture_output=True, text=True, check=False)


@pytest.fixture
def table() -> Iterator[Guard]:
    if shutil.which("nft") is None or os.geteuid() != 0 or nft("add", "table", "inet", TABLE).returncode:
        pytest.skip("needs nft, root and a kernel with nf_tables (apt-get install nftables)")
    nft("add", "set", "inet", TABLE, "bad", "{ type ipv4_addr; flags timeout; }")
    nft("add", "set", "inet", TABLE, "bad6", "{ type ipv6_addr; flags timeout, interval; }")
    yield Guard(nft_set=f"inet {TABLE} bad", nft_set_v6=f"inet {TABLE} bad6")
    nft("delete", "table", "inet", TABLE)


def elements(name: str) -> dict[str, int]:
    """Addresses in a set, with their timeouts."""
    listed = json.loads(nft("-j", "list", "set", "inet", TABLE, name).stdout)
    found = next(each["set"] for each in listed["nftables"] if "set" in each).get("elem", [])
    return {_text(each["elem"]["val"]): each["elem"]["timeout"] for each in found}


def _text(value: object) -> str:
    if isinstance(value, dict):
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    return str(value)


async def test_bans_come_grow_and_go(table: Guard) -> None:
    failures: list[str] = []
    wall = Firewall(table, failed=failures.append)
    wall.start()
    wall.ban("198.51.100.7", 60)
    wall.ban("2001:db8:1:2::/64", 60)
    await wall.settled()
    assert elements("bad") == {"198.51.100.7": 60}
    assert elements("bad6") == {"2001:db8:1:2::/64": 60}
    wall.ban("198.51.100.7", 120)
    wall.unban("2001:db8:1:2::/64")
    wall.unban("203.0.113.1")  # was never in
    await wall.settled()
    assert elements("bad") == {"198.51.100.7": 120}
    assert elements("bad6") == {}
    await wall.stop()
    assert failures == []


async def test_a_set_that_is_not_there_is_counted(table: Guard) -> None:
    failures: list[str] = []
    wall = Firewall(Guard(nft_set=f"inet {TABLE} other"), failed=failures.append)
    wall.start()
    wall.ban("198.51.100.7", 60)
    await wall.settled()
    await wall.stop()
    assert failures == ["firewall"]
