"""nomad.edge.delivery: the spool drained to a server that takes all, some or nothing."""

from __future__ import annotations

import asyncio
import logging

import pytest

from nomad.edge.delivery import BATCH, GATHER_S, LONGEST_PAUSE_S, STRIKE_S
from nomad.ports import AccountingRecord
from tests.edge.test_accounting import Bench, virtually


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_sessions_are_delivered_side_by_side_each_in_order(bench: Bench) -> None:
    await bench.fill(3)
    bench.sink.refuse = {"s1"}
    assert await bench.accountant.delivery.deliver_once() == 4
    assert [spooled.record.id for spooled in await bench.spool.waiting(10)] == ["s1-Start", "s1-Stop"]
    assert [spooled.attempts for spooled in await bench.spool.waiting(10)] == [1, 0]
    bench.sink.refuse.clear()
    assert await bench.accountant.delivery.deliver_once() == 2
    for number in range(3):
        assert [r.status for r in bench.sink.received if r.session == f"s{number}"] == ["Start", "Stop"]


def test_what_was_acknowledged_leaves_the_spool_while_others_wait_for_the_server() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.fill(3)
        answered = bench.sink.send

        async def slow(record: AccountingRecord) -> None:
            if record.session == "s1":
                await asyncio.sleep(2.0)
            await answered(record)

        bench.sink.send = slow  # type: ignore[method-assign]
        delivering = asyncio.create_task(bench.accountant.delivery.deliver_once())
        await asyncio.sleep(1.0)
        assert [spooled.record.id for spooled in await bench.spool.waiting(10)] == ["s1-Start", "s1-Stop"]
        assert await delivering == 6

    virtually(scenario)


def test_two_deliverers_send_nothing_twice() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.fill(5)
        bench.sink.delay_s = 0.5
        drain = asyncio.create_task(bench.accountant.delivery.drain())
        await asyncio.sleep(0.2)
        while await bench.accountant.delivery.deliver_once():  # as `Edge.stop` does
            pass
        drain.cancel()
        assert len(bench.sink.received) == 10

    virtually(scenario)


def test_records_that_nobody_takes_do_not_hold_up_the_rest() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.fill(2 * BATCH, name="poison")
        await bench.fill(10, name="good")
        await bench.spool.append([AccountingRecord("poison0-late", "poison0", "Stop", "alice", 2.0)])
        bench.sink.refuse = {f"poison{number}" for number in range(2 * BATCH)}
        drain = asyncio.create_task(bench.accountant.delivery.drain())
        await asyncio.sleep(120)
        assert len(bench.sink.received) == 20
        assert bench.sink.tries < 20 * 4 * BATCH
        bench.sink.refuse.clear()
        await asyncio.sleep(120)
        drain.cancel()
        assert bench.spool.state().records == 0
        assert [r.id for r in bench.sink.received if r.session == "poison0"] == [
            "poison0-Start",
            "poison0-Stop",
            "poison0-late",
        ]
        assert len({r.id for r in bench.sink.received}) == len(bench.sink.received)

    virtually(scenario)


def test_retries_become_rare_and_a_new_record_does_not_wait_for_the_old_ones() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.fill(1)
        bench.sink.down = True
        drain = asyncio.create_task(bench.accountant.delivery.drain())
        await asyncio.sleep(GATHER_S + 0.01)
        assert bench.sink.tries == 1
        await asyncio.sleep(60)
        tries = bench.sink.tries
        await asyncio.sleep(150)
        assert bench.sink.tries - tries <= 10
        bench.sink.down = False
        await asyncio.sleep(16)
        assert len(bench.sink.received) == 2
        await bench.fill(1, name="new")
        await bench.accountant.node("Accounting-On")
        await asyncio.sleep(GATHER_S + 0.05)
        assert len(bench.sink.received) == 5
        drain.cancel()

    virtually(scenario)


@pytest.mark.usefixtures("errors_expected")
def test_bug_in_delivery_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(bench: Bench) -> None:
        async def broken(record: AccountingRecord) -> None:
            raise KeyError("a bug")

        send, bench.sink.send = bench.sink.send, broken  # type: ignore[method-assign]
        await bench.fill(1)
        drain = asyncio.create_task(bench.accountant.delivery.drain())
        await asyncio.sleep(1)
        bench.sink.send = send  # type: ignore[method-assign]
        await asyncio.sleep(5)
        assert len(bench.sink.received) == 2
        drain.cancel()

    with caplog.at_level(logging.ERROR):
        virtually(scenario)
    assert "were not delivered" in caplog.text


async def test_a_record_that_can_never_be_sent_is_set_aside(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.fill(2)
    bench.sink.hopeless = {"s0-Start"}
    with caplog.at_level(logging.ERROR):
        assert await bench.accountant.delivery.deliver_once() == 4
    assert [record.id for record in bench.sink.received] == ["s0-Stop", "s1-Start", "s1-Stop"]
    assert bench.spool.aside == {"s0-Start": "does not fit into a packet"}
    assert "accounting-undeliverable" in caplog.text
    rendered = bench.metrics.render()[0].decode()
    assert "nomad_accounting_undeliverable_total 1.0" in rendered


def test_a_record_that_is_never_acknowledged_while_others_are_is_set_aside_in_the_end() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.fill(1, name="poison")
        bench.sink.refuse = {"poison0"}
        drain = asyncio.create_task(bench.accountant.delivery.drain())
        for number in range(int(STRIKE_S) * 3):
            await bench.fill(1, name=f"good{number}-")
            bench.accountant.delivery.wake()
            await asyncio.sleep(1)
            if number < STRIKE_S - 10:
                assert not bench.spool.aside
            if "poison0-Start" in bench.spool.aside:
                bench.sink.refuse.clear()
        drain.cancel()
        assert list(bench.spool.aside) == ["poison0-Start"]
        assert "others are acknowledged" in bench.spool.aside["poison0-Start"]
        assert [record.id for record in bench.sink.received if record.session == "poison0"] == ["poison0-Stop"]
        assert bench.spool.state().records == 0
        assert bench.sink.tries < int(STRIKE_S) * 3 * 2 + 60  # it became rare

    virtually(scenario)


def test_such_a_record_delays_no_other() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.fill(1, name="poison")
        bench.sink.refuse = {"poison0"}
        await bench.fill(1, name="before")
        drain = asyncio.create_task(bench.accountant.delivery.drain())
        await asyncio.sleep(200.3)
        await bench.fill(1, name="good")
        bench.accountant.delivery.wake()
        await asyncio.sleep(2 * GATHER_S + 0.1)
        assert [record.id for record in bench.sink.received][2:] == ["good0-Start", "good0-Stop"]
        drain.cancel()

    virtually(scenario)


def test_an_outage_sets_nothing_aside_however_long() -> None:
    async def scenario(bench: Bench) -> None:
        drain = asyncio.create_task(bench.accountant.delivery.drain())
        await bench.fill(1, name="before")
        bench.accountant.delivery.wake()
        await asyncio.sleep(1)
        await bench.fill(600)
        bench.accountant.delivery.wake()
        for _ in range(20):
            bench.sink.down = True
            await asyncio.sleep(10 * STRIKE_S)
            bench.sink.down = False
            await asyncio.sleep(LONGEST_PAUSE_S + 1)
            await bench.fill(300)
        drain.cancel()
        assert not bench.spool.aside
        assert bench.sink.of("Start")

    virtually(scenario)
