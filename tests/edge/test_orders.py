"""nomad.edge.orders: which sessions an order is about, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from nomad.edge.accounting import Accountant
from nomad.edge.calls import Call, CallTable, Leg
from nomad.edge.orders import Orders, fits, is_user
from nomad.edge.switchboard import Switchboard
from nomad.ports import Binding, Change, Conflict, Deed, Grant, Limits, Registration, Unavailable, Whom
from nomad.sip.events import Flow
from nomad.stores.memory import MemoryLocations
from tests.harness.wardens import ListRecorder

DOMAINS = ("inria.example",)
FLOW = Flow("udp", ("127.0.0.1", 5060), ("192.0.2.1", 5060))
ALICE = Grant("alice", ("alice@inria.example", "alice.martin@inria.example"), "3001", classes=(b"gold", b"x"))
BOB = Grant("bob", ("bob@inria.example",), "3002", classes=(b"gold",))


def make_call(id: str, grant: Grant, **changes: object) -> Call:
    call = Call(
        id=id,
        call_id=f"call-{id}",
        direction="out",
        grant=grant,
        caller_address=f"{grant.user}@inria.example",
        callee_address="1000@inria.example",
        number_class="internal",
        started_at=100.0,
        caller=Leg("phone", FLOW, tag="a"),
    )
    return replace(call, **changes)  # type: ignore[arg-type]  # the tests give right types


@dataclass
class Board:
    """In place of the switchboard and the accountant: ends calls in the table, remembers why."""

    calls: CallTable
    ended: list[tuple[str, str]] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)

    async def hang_up(self, call: Call, *, cause: str) -> None:
        self.ended.append((call.id, cause))
        self.calls.end(call, at=200.0, cause=cause)

    def changed(self, call: Call) -> None:
        self.stored.append(call.id)


class Remembered:
    """In place of the remembered verdicts: alice's."""

    def __init__(self) -> None:
        self.grants = {"alice": ALICE}
        self.forgotten: list[str] = []

    def forget(self, names: Sequence[str]) -> int:
        self.forgotten += names
        return 0

    def amend(self, names: Sequence[str], change: Callable[[Grant], Grant]) -> int:
        before = dict(self.grants)
        self.grants.update({name: change(self.grants[name]) for name in names if name in self.grants})
        return sum(self.grants[name] is not before[name] for name in before)


@dataclass
class House:
    calls: CallTable
    board: Board
    locations: MemoryLocations
    orders: Orders
    recorder: ListRecorder
    verdicts: Remembered


@pytest.fixture
def house() -> House:
    calls, locations, recorder = CallTable(), MemoryLocations(), ListRecorder()
    board = Board(calls)
    verdicts = Remembered()
    orders = Orders(
        calls=calls,
        switchboard=cast(Switchboard, board),
        accountant=cast(Accountant, board),
        locations=locations,
        domains=DOMAINS,
        forget=verdicts.forget,
        amend=verdicts.amend,
        recorder=recorder,
    )
    for id, grant in (("a1", ALICE), ("a2", ALICE), ("b1", BOB)):
        calls.open(make_call(id, grant))
    return House(calls, board, locations, orders, recorder, verdicts)


async def register(locations: MemoryLocations, grant: Grant) -> None:
    binding = Binding(
        contact="sip:x@192.0.2.1", flow=FLOW, expires_at=1e10, call_id="c", cseq=1, user_agent="", address=""
    )
    await locations.save(
        Registration(grant.user, bindings=(binding,), extension=grant.extension, addresses=grant.addresses, grant=grant)
    )


@pytest.mark.parametrize(
    ("whom", "expected"),
    [
        (Whom(), []),
        (Whom(user="alice"), ["a1", "a2"]),
        (Whom(user="ALICE@inria.example"), ["a1", "a2"]),
        (Whom(user="alice.martin@inria.example"), ["a1", "a2"]),
        (Whom(user="alice@elsewhere.example"), []),
        (Whom(session="a2"), ["a2"]),
        (Whom(user="bob", session="a2"), []),
        (Whom(user="alice", session="a2"), ["a2"]),
        (Whom(calling="sip:bob@inria.example"), ["b1"]),
        (Whom(calling="bob"), ["b1"]),
        (Whom(calling="bob@elsewhere.example"), []),
        (Whom(called="1000"), ["a1", "a2", "b1"]),
        (Whom(called="1000", calling="alice"), ["a1", "a2"]),
        (Whom(classes=(b"gold",)), ["a1", "a2", "b1"]),
        (Whom(classes=(b"gold", b"x")), ["a1", "a2"]),
        (Whom(classes=(b"gol",)), []),
    ],
)
def test_an_order_is_about_what_fits_all_of_it(house: House, whom: Whom, expected: list[str]) -> None:
    assert [call.id for call in house.calls if fits(call, whom, DOMAINS)] == expected


def test_a_canonical_login_with_a_domain() -> None:
    assert is_user("zoe@inria.example", Grant("zoe@inria.example"), DOMAINS)
    assert not is_user("zoe", Grant("zoe@inria.example"), DOMAINS)


@pytest.mark.parametrize("name", ["alice", "Alice@INRIA.example", "alice.martin@inria.example", "ALICE"])
async def test_a_person_loses_calls_and_registrations(house: House, name: str) -> None:
    for grant in (ALICE, BOB):
        await register(house.locations, grant)
    assert await house.orders.disconnect(Whom(user=name)) == 3
    assert house.board.ended == [("a1", "Admin-Reset"), ("a2", "Admin-Reset")]
    assert not (await house.locations.get("alice")).bindings
    assert (await house.locations.get("bob")).bindings
    assert await house.orders.disconnect(Whom(user=name)) == 0


@pytest.mark.parametrize("whom", [Whom(session="a1"), Whom(user="alice", session="a1"), Whom(classes=(b"x",))])
async def test_an_order_about_calls_leaves_registrations(house: House, whom: Whom) -> None:
    await register(house.locations, ALICE)
    assert await house.orders.disconnect(whom) == len(house.board.ended) > 0
    assert (await house.locations.get("alice")).bindings


async def test_class_and_user_must_both_fit_a_registration(house: House) -> None:
    await register(house.locations, ALICE)
    assert await house.orders.disconnect(Whom(user="alice", classes=(b"silver",))) == 0
    assert (await house.locations.get("alice")).bindings


async def test_a_store_that_many_write(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await register(house.locations, ALICE)

    async def conflict(registration: Registration) -> None:
        raise Conflict

    monkeypatch.setattr(house.locations, "save", conflict)
    with pytest.raises(Unavailable, match="too many writers"):
        await house.orders.disconnect(Whom(user="alice"))


async def test_limits_of_running_calls_change(house: House) -> None:
    first, second, _ = house.calls
    house.calls.answered(first, "t", 1000.0)
    assert await house.orders.change(Whom(user="alice"), Change(session_timeout_s=60, interim_interval_s=30)) == 3
    assert (first.limit_s, first.ends_at, first.grant.interim_interval_s) == (60.0, 1060.0, 30)
    assert (second.limit_s, second.ends_at) == (60.0, None), "from its answer on"
    assert house.board.stored == ["a1"]
    assert await house.orders.change(Whom(user="alice"), Change(session_timeout_s=90)) == 3
    assert house.calls.overdue(1060.0) == [], "the older limit is forgotten"
    assert house.calls.overdue(1090.0) == [first]
    assert house.calls.overdue(1091.0) == []
    house.calls.answered(second, "t", 2000.0)
    assert second.ends_at == 2090.0


async def test_no_order_lengthens_what_the_policy_allows(house: House) -> None:
    call = make_call("p", ALICE, policy_limit_s=120.0, limit_s=120.0)
    house.calls.open(call)
    house.calls.answered(call, "t", 1000.0)
    await house.orders.change(Whom(session="p"), Change(session_timeout_s=3600))
    assert (call.limit_s, call.ends_at) == (120.0, 1120.0)
    await house.orders.change(Whom(session="p"), Change(interim_interval_s=60))
    assert call.limit_s == 120.0


async def test_orders_of_the_aaa_server_go_on_record(house: House) -> None:
    await house.orders.disconnect(Whom(user="alice", classes=(b"x",)))
    assert house.recorder.deeds == []  # nobody said who: the caller records it
    await house.orders.change(Whom(session="b1", by="radius 192.0.2.9"), Change(session_timeout_s=60))
    change = Change(groups=("a", "b"), allowed_classes=("internal",), limits=Limits(2, call_s=60.0))
    await house.orders.change(Whom(session="b1", by="radius 192.0.2.9"), change)
    await house.orders.disconnect(Whom(user="bob", by="radius 192.0.2.9"))
    assert house.recorder.deeds == [
        Deed("radius 192.0.2.9", "change", "b1", more=(("calls", "1"), ("seconds", "60"))),
        Deed(
            "radius 192.0.2.9",
            "change",
            "b1",
            more=(
                ("calls", "1"),
                ("groups", "a, b"),
                ("classes", "internal"),
                ("concurrent_calls", "2"),
                ("call_s", "60.0"),
            ),
        ),
        Deed("radius 192.0.2.9", "disconnect", "bob", more=(("calls", "1"), ("bindings", "0"))),
    ]


async def test_groups_and_limits_of_calls_registration_and_verdict_change(house: House) -> None:
    await register(house.locations, ALICE)
    change = Change(groups=("guests",), allowed_classes=("internal",), limits=Limits(1))
    assert await house.orders.change(Whom(user="alice@inria.example"), change) == 4, "two calls, a binding, a verdict"
    expected = replace(ALICE, groups=("guests",), allowed_classes=("internal",), limits=Limits(1))
    assert [call.grant for call in house.calls] == [expected, expected, BOB]
    assert (await house.locations.get("alice")).grant == expected
    assert house.verdicts.grants["alice"] == expected
    assert not house.verdicts.forgotten
    assert [call.limit_s for call in house.calls] == [None, None, None]


async def test_a_person_who_is_only_remembered_can_be_changed(house: House) -> None:
    for call in tuple(house.calls):
        house.calls.end(call, at=1.0)
    assert await house.orders.change(Whom(user="alice"), Change(groups=("guests",))) == 1
    assert await house.orders.change(Whom(user="alice", classes=(b"other",)), Change(groups=("x",))) == 0
    assert house.verdicts.grants["alice"].groups == ("guests",)
    assert await house.orders.change(Whom(user="zoe"), Change(groups=("guests",))) == 0


async def test_one_call_of_a_person_is_changed_and_the_next_login_judged_anew(house: House) -> None:
    assert await house.orders.change(Whom(session="a1"), Change(groups=("guests",))) == 1
    assert [call.grant.groups for call in house.calls] == [("guests",), (), ()]
    assert house.verdicts.forgotten == ["alice"]
    assert house.verdicts.grants["alice"] == ALICE


async def test_the_longest_call_of_a_person_changes(house: House) -> None:
    call = make_call("p", ALICE, policy_limit_s=120.0, limit_s=60.0)
    house.calls.open(call)
    house.calls.answered(call, "t", 1000.0)
    await house.orders.change(Whom(session="p"), Change(limits=Limits(call_s=90.0)))
    assert call.ends_at == 1090.0
    await house.orders.change(Whom(session="p"), Change(session_timeout_s=3600))
    assert call.ends_at == 1090.0
    await house.orders.change(Whom(session="p"), Change(limits=Limits(call_s=600.0)))
    assert call.ends_at == 1120.0, "the policy's"
