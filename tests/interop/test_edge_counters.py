"""What people have called still counts after `kill -9`, and a call whose time runs out is ended by the next process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from nomad.stores.database import Database
from nomad.stores.sql import SqlCdrs
from tests.harness.asterisk import Asterisk
from tests.harness.edge import POLICY, Edge
from tests.harness.people import ALICE, DOMAIN
from tests.harness.wire import Message, Wire
from tests.interop.conftest import NewFolder
from tests.stores.samples import cdr

LIMITS = "max_concurrent_calls = 2\nmax_calls_per_hour = 3\n"


def an_edge(folder: NewFolder, port: int, asterisk: Asterisk, limits: str) -> Edge:
    return Edge(folder("edge-counters"), pbx=asterisk.uri, port=port, policy=POLICY + limits)


@pytest.fixture
def edge(new_folder: NewFolder, edge_port: int, asterisk: Asterisk) -> Iterator[Edge]:
    server = an_edge(new_folder, edge_port, asterisk, LIMITS)
    yield server
    server.stop()


@pytest.fixture
def short_edge(new_folder: NewFolder, edge_port: int, asterisk: Asterisk) -> Iterator[Edge]:
    """One minute a month."""
    server = an_edge(new_folder, edge_port, asterisk, "max_minutes_per_month = 1\n")
    yield server
    server.stop()


def attempt(wire: Wire) -> Message:
    return wire.ask_as_person(wire.compose("INVITE", f"sip:1000@{DOMAIN}", body=wire.offer()))


def test_counters_are_those_of_before(edge: Edge, asterisk: Asterisk) -> None:
    with Wire(edge.sip, ALICE) as one, Wire(edge.sip, ALICE) as two, Wire(edge.sip, ALICE) as three:
        first = one.call("1000")
        assert one.hang_up(first).status == 200
        edge.wait_cdr(first.call_id)
        second = one.call("1000")
        edge.kill9()
        edge.start()
        third = two.call("1000")
        refused = attempt(three)
        assert (refused.status, refused.reason) == (403, "You already have 2 calls; 2 are allowed")
        assert two.hang_up(third).status == 200
        refused = attempt(three)
        assert (refused.status, refused.reason) == (403, "Your 3 calls of this hour are used up")
        assert one.hang_up(second).status == 200
    asterisk.wait_idle()
    assert [each["rule"] for each in edge.cdrs() if each["result"] == "refused"] == ["per_hour", "concurrent"]


def test_minutes_run_out_in_the_next_process(short_edge: Edge, asterisk: Asterisk) -> None:
    edge = short_edge
    edge.kill9()
    asyncio.run(talked(edge, 50.0))
    edge.start()
    with Wire(edge.sip, ALICE) as wire:
        began = time.time()
        call = wire.call("1000")
        edge.wait_accounted(call.call_id, "Start")  # and the ACK has arrived
        edge.kill9()
        edge.start()
        bye = wire.receive(20.0)
        while bye is not None and bye.method != "BYE":
            bye = wire.receive(20.0)
        assert bye is not None
        assert bye.get("Call-ID") == call.call_id
        assert time.time() - began >= 10.0
    record = edge.wait_cdr(call.call_id)
    assert (record["rule"], record["terminate_cause"]) == ("month", "Session-Timeout")
    assert record["reason"] == "Your 1 minutes of this month are used up"
    _, stop = edge.wait_accounted(call.call_id, "Start", "Stop")
    assert stop["Acct-Terminate-Cause"] in ("Session-Timeout", "5")
    asterisk.wait_idle()


async def talked(edge: Edge, seconds: float) -> None:
    """A call of before, in the edge's database."""
    now = time.time()
    database = Database(f"sqlite:///{edge.folder / 'nomad.db'}")
    await database.open()
    times = {"started_at": now - seconds, "answered_at": now - seconds, "ended_at": now, "duration_s": seconds}
    await SqlCdrs(database).add([replace(cdr(1, user=ALICE.login), **times)])  # type: ignore[arg-type]
    await database.close()
