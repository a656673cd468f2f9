"""Orders to the packet filter, carried out by programs of the test; by nft itself in interop/test_firewall_nft.py."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from nomad.alarm import firewall
from nomad.alarm.firewall import Firewall, Order, nft_script
from nomad.config import Guard

RECORD = "import sys; open(sys.argv[1], 'a').write(' '.join(sys.argv[2:]) + '\\n')"


def command(code: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *arguments)


async def run(table: Guard, orders: Sequence[Order]) -> list[str]:
    failures: list[str] = []
    wall = Firewall(table, failed=failures.append)
    wall.start()
    for order in orders:
        if order.seconds:
            wall.ban(order.address, order.seconds)
        else:
            wall.unban(order.address)
    await wall.settled()
    await wall.stop()
    return failures


async def test_a_program_is_told_in_order(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    orders = [Order("198.51.100.7", 60), Order("2001:db8::/64", 120), Order("198.51.100.7")]
    assert await run(Guard(command=command(RECORD, str(seen))), orders) == []
    assert seen.read_text().splitlines() == ["ban 198.51.100.7 60", "ban 2001:db8::/64 120", "unban 198.51.100.7"]


@pytest.mark.parametrize(
    "table",
    [
        Guard(command=("/no/such/program",)),
        Guard(command=command("raise SystemExit(3)")),
        Guard(command=command("import time; time.sleep(60)"), command_timeout_s=0.1),
    ],
)
async def test_a_program_that_fails_or_hangs_is_counted_and_the_next_order_goes_on(table: Guard) -> None:
    assert await run(table, [Order("198.51.100.7", 60)] * 2) == ["firewall"] * 2


async def test_the_loop_never_waits_and_what_is_too_much_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "MAX_WAITING", 5)
    failures: list[str] = []
    wall = Firewall(Guard(command=command("import time; time.sleep(60)")), failed=failures.append)
    wall.start()
    for number in range(20):
        wall.ban(f"198.51.100.{number}", 60)
    assert len(failures) == 15
    await asyncio.sleep(0)
    await wall.stop()


async def test_without_configuration_nothing_is_run() -> None:
    wall = Firewall(Guard())
    assert not wall.on
    wall.start()
    wall.ban("198.51.100.7", 60)
    await wall.settled()
    await wall.stop()


def test_nft_gets_one_transaction() -> None:
    orders = [Order("198.51.100.7", 60), Order("2001:db8::/64", 9), Order("203.0.113.1")]
    assert nft_script(orders, v4="inet filter bad", v6="inet filter bad6").splitlines() == [
        "add element inet filter bad { 198.51.100.7 }",
        "delete element inet filter bad { 198.51.100.7 }",
        "add element inet filter bad { 198.51.100.7 timeout 60s }",
        "add element inet filter bad6 { 2001:db8::/64 }",
        "delete element inet filter bad6 { 2001:db8::/64 }",
        "add element inet filter bad6 { 2001:db8::/64 timeout 9s }",
        "add element inet filter bad { 203.0.113.1 }",
        "delete element inet filter bad { 203.0.113.1 }",
    ]
    assert nft_script(orders[1:2], v4="inet filter bad", v6="") == ""
