from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

import pytest

from nomad import tasks
from nomad.edge.accounting import Accountant, Stores, cause_of
from nomad.edge.calls import Call, CallState, Leg, thaw
from nomad.edge.usage import Usage
from nomad.metrics import Metrics
from nomad.ports import AccountingRecord, Grant
from nomad.sip.events import Flow
from tests.harness.fakes import FakeSink, MemoryCalls, MemoryCdrs, MemorySpool
from tests.harness.virtual import LoopClock, VirtualLoop

FLOW = Flow("udp", ("192.0.2.1", 5060), ("198.51.100.7", 5060))


class Bench:
    """An accountant over fakes."""

    def __init__(self, *, refused: bool = False) -> None:
        self.spool, self.cdrs, self.calls, self.sink = MemorySpool(), MemoryCdrs(), MemoryCalls(), FakeSink()
        self.usage = Usage()
        self.clock = LoopClock()
        self.metrics = Metrics()
        self.metrics.watch(spool=self.spool.state)
        self.accountant = Accountant(
            Stores(self.spool, self.cdrs, self.calls),
            self.sink,
            clock=self.clock,
            metrics=self.metrics,
            usage=self.usage,
            account_refused=refused,
        )

    def call(self, id: str = "c1", **more: object) -> Call:
        now = self.clock.wall()
        grant = Grant("alice", classes=(b"\x00\xff", b"two"))
        return Call(
            id,
            f"{id}@phone",
            "out",
            grant,
            "alice@x",
            "1000@x",
            "internal",
            now,
            Leg("phone", FLOW, "from"),
            **more,  # type: ignore[arg-type]
        )

    def answer(self, call: Call) -> Call:
        call.state, call.answered_at, call.answered_by, call.status = CallState.ANSWERED, self.clock.wall(), "to", 200
        return call

    def end(self, call: Call, seconds: float = 30.4, status: int = 200) -> Call:
        call.state, call.ended_at, call.status = (
            CallState.ENDED,
            (call.answered_at or call.started_at) + seconds,
            status,
        )
        return call

    async def fill(self, sessions: int, *, name: str = "s") -> None:
        await self.spool.append(
            [
                AccountingRecord(f"{name}{number}-{status}", f"{name}{number}", status, "alice", 1.0)
                for number in range(sessions)
                for status in ("Start", "Stop")
            ]
        )


Scenario = Callable[[Bench], Coroutine[object, object, None]]


def virtually(scenario: Scenario, *, refused: bool = False) -> None:
    async def main() -> None:
        bench = Bench(refused=refused)
        await scenario(bench)
        await tasks.drain(1.0)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    yield Bench()
    await tasks.drain(1.0)


async def test_records_of_a_call(bench: Bench) -> None:
    call = bench.answer(bench.call())
    bench.accountant.opened(call)
    await bench.accountant.started(call)
    assert thaw(bench.calls.calls["c1"]) == call
    await bench.accountant.interim([call], (call.answered_at or 0) + 10.9)
    bench.end(call).terminate_cause = "User-Request"
    await bench.accountant.ended(call)
    await asyncio.sleep(0)
    start, interim, stop = [spooled.record for spooled in await bench.spool.waiting(10)]
    assert (start.id, start.session, start.status, start.user, start.at) == (
        "c1-Start",
        "c1",
        "Start",
        "alice",
        call.answered_at,
    )
    assert start.attributes == (
        ("Acct-Multi-Session-Id", "c1"),
        ("Calling-Station-Id", "sip:alice@x"),
        ("Called-Station-Id", "sip:1000@x"),
        ("Nomad-SIP-Call-Id", "c1@phone"),
        ("Nomad-SIP-From-Tag", "from"),
        ("Nomad-SIP-To-Tag", "to"),
        ("Nomad-SIP-Method", "INVITE"),
        ("Nomad-SIP-Response-Code", 200),
        ("Nomad-Direction", "out"),
        ("Nomad-Number-Class", "internal"),
        ("Class", b"\x00\xff"),
        ("Class", b"two"),
    )
    assert (interim.status, dict(interim.attributes)["Acct-Session-Time"]) == ("Interim-Update", 10)
    assert dict(stop.attributes)["Acct-Session-Time"] == 30
    assert dict(stop.attributes)["Acct-Terminate-Cause"] == "User-Request"
    assert stop.at == call.ended_at
    assert bench.calls.calls == {}
    assert [(cdr.result, round(cdr.duration_s, 3)) for cdr in bench.cdrs.all] == [("answered", 30.4)]
    assert bench.usage.of("alice", call.ended_at or 0).seconds_today == pytest.approx(30.4)


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (486, "busy"),
        (600, "busy"),
        (487, "cancelled"),
        (408, "no-answer"),
        (480, "no-answer"),
        (603, "declined"),
        (500, "failed"),
    ],
)
async def test_call_that_was_never_answered_is_on_record_only(bench: Bench, status: int, result: str) -> None:
    await bench.accountant.ended(bench.end(bench.call(), status=status))
    assert [(cdr.result, cdr.status, cdr.duration_s, cdr.terminate_cause) for cdr in bench.cdrs.all] == [
        (result, status, 0.0, "")
    ]
    assert bench.spool.state().records == 0


def test_refused_attempt_is_accounted_when_asked_for() -> None:
    async def scenario(bench: Bench) -> None:
        grant = Grant("alice", classes=(b"c",))
        call = Call("r1", "id", "out", grant, "alice@x", "0899@x", "premium", 5.0, Leg("phone", FLOW))
        await bench.accountant.refused(call, status=403, rule="class", reason="no")
        (spooled,) = await bench.spool.waiting(10)
        assert (spooled.record.status, spooled.record.session) == ("Stop", "r1")
        told = dict(spooled.record.attributes)
        assert (told["Acct-Session-Time"], told["Nomad-SIP-Response-Code"]) == (0, 403)
        assert (told["Acct-Terminate-Cause"], told["Nomad-Rule"]) == ("NAS-Request", "class")
        assert (told["Nomad-Number-Class"], told["Nomad-Direction"]) == ("premium", "out")
        assert [(cdr.rule, cdr.result, cdr.started_at) for cdr in bench.cdrs.all] == [("class", "refused", 5.0)]

    virtually(scenario, refused=True)


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (487, "User-Request"), (486, "Host-Request"), (480, "Host-Request"), (603, "Host-Request"),
        (404, "User-Error"), (488, "User-Error"), (500, "Service-Unavailable"), (503, "Service-Unavailable"),
    ],
)  # fmt: skip
def test_failed_call_is_accounted_when_asked_for(status: int, cause: str) -> None:
    async def scenario(bench: Bench) -> None:
        call = bench.end(bench.call(), seconds=7.0, status=status)
        call.terminate_cause = cause_of(status)
        await bench.accountant.ended(call, rule="pbx")
        (spooled,) = await bench.spool.waiting(10)
        told = dict(spooled.record.attributes)
        assert (spooled.record.status, told["Acct-Session-Time"]) == ("Stop", 0)
        assert (told["Nomad-SIP-Response-Code"], told["Acct-Terminate-Cause"]) == (status, cause)
        assert (told["Nomad-Rule"], "Nomad-SIP-To-Tag" in told) == ("pbx", False)

    virtually(scenario, refused=True)


async def test_interim_updates_of_many_calls_become_durable_at_once(bench: Bench) -> None:
    calls = [bench.answer(bench.call(f"c{number}")) for number in range(50)]
    appended: list[int] = []
    append = bench.spool.append

    def counted(records: Sequence[AccountingRecord]) -> asyncio.Future[None]:
        appended.append(len(records))
        return append(records)

    bench.spool.append = counted  # type: ignore[method-assign]
    await bench.accountant.interim(calls, bench.clock.wall() + 60)
    assert appended == [50]


async def test_node_records_have_sessions_of_their_own(bench: Bench) -> None:
    await bench.accountant.node("Accounting-On")
    (spooled,) = await bench.spool.waiting(10)
    assert (spooled.record.status, spooled.record.user) == ("Accounting-On", "")


async def test_call_is_forgotten_even_when_its_record_is_lost(bench: Bench) -> None:
    call = bench.answer(bench.call())
    await bench.accountant.started(call)
    bench.cdrs.down = True
    await bench.accountant.ended(bench.end(call))
    assert bench.calls.calls == {}
    assert [spooled.record.status for spooled in await bench.spool.waiting(10)] == ["Start", "Stop"]


async def test_bytes_that_are_no_text_pass(bench: Bench) -> None:
    call = bench.answer(bench.call(user_agent="\udce9"))
    call.caller.tag = "\udcff" * 300
    await bench.accountant.started(call)
    await bench.accountant.ended(bench.end(call))
    assert await bench.accountant.delivery.deliver_once() == 2
