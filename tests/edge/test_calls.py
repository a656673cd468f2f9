from __future__ import annotations

import pytest

from nomad.edge.calls import LINGER_S, MAX_CALLEES, Call, CallState, CallTable, Leg, freeze, thaw
from nomad.ports import Grant, LiveCall
from nomad.sip.errors import Reject
from nomad.sip.events import Flow
from nomad.sip.message import Request, Response
from nomad.sip.uri import Uri

PHONE = Flow("udp", ("192.0.2.1", 5060), ("198.51.100.7", 5061))
PBX = Flow("tcp", ("192.0.2.1", 40000), ("10.0.0.5", 5060), 7)


def call(id: str = "c1", user: str = "alice", call_id: str = "id@phone", **more: object) -> Call:
    caller = Leg("phone", PHONE, "from", "<sip:alice@x>;tag=from", "sip:alice@198.51.100.7", ("<sip:p;lr>",), 5)
    return Call(id, call_id, "out", Grant(user), "alice@x", "1000@x", "internal", 1000.0, caller, **more)  # type: ignore[arg-type]


def response(status: int = 200, tag: str = "to", contact: str = "<sip:pbx@10.0.0.5>") -> Response:
    made = Response(status, "OK")
    made.add("to", f"<sip:1000@x>;tag={tag}")
    made.add("contact", contact)
    return made


def request(from_tag: str, to_tag: str, call_id: str = "id@phone") -> Request:
    made = Request("BYE", "sip:x")
    made.add("from", f"<sip:a@x>;tag={from_tag}")
    made.add("to", f"<sip:b@x>;tag={to_tag}")
    made.add("call-id", call_id)
    return made


def answered(table: CallTable, made: Call, at: float = 1010.0) -> Call:
    table.open(made)
    made.learn_callee(response(), "pbx", PBX)
    table.answered(made, "to", at)
    return made


def test_calls_of_a_user_are_counted_until_they_end() -> None:
    table = CallTable()
    first, second = call("c1"), call("c2")
    table.open(first)
    table.open(second)
    assert (table.active_of("alice"), table.active_of("bob"), table.live) == (2, 0, 2)
    assert table.end(first, at=1001.0, status=486)
    assert not table.end(first, at=1002.0)
    assert (table.active_of("alice"), table.live, first.status, first.ended_at) == (1, 1, 486, 1001.0)
    assert table.get("c1") is None
    assert [each.id for each in table] == ["c2"]
    assert [view.id for view in table.views()] == ["c2"]


def test_duration_is_from_the_answer() -> None:
    table = CallTable()
    made = answered(table, call())
    assert made.duration_s == 0.0
    table.end(made, at=1040.0)
    assert made.duration_s == 30.0
    made.ended_at = 1000.0  # the wall clock was set back
    assert made.duration_s == 0.0


def test_ended_call_still_routes_for_a_while() -> None:
    table = CallTable()
    made = answered(table, call())
    table.end(made, at=1040.0)
    table.forget(1040.0 + LINGER_S - 1)
    assert table.find(request("from", "to"), None).call is made
    table.forget(1040.0 + LINGER_S)
    with pytest.raises(Reject) as refused:
        table.find(request("from", "to"), None)
    assert refused.value.status == 481


def test_side_is_found_by_both_tags() -> None:
    table = CallTable()
    made = answered(table, call())
    hop = table.find(request("from", "to"), None)
    assert (hop.sender, hop.receiver, hop.from_caller) == (made.caller, made.callees["to"], True)
    hop = table.find(request("to", "from"), None)
    assert (hop.sender, hop.receiver, hop.from_caller) == (made.callees["to"], made.caller, False)
    for wrong in (("from", "other"), ("other", "to"), ("to", "to")):
        with pytest.raises(Reject):
            table.find(request(*wrong), None)
    with pytest.raises(Reject):
        table.find(request("from", "to", "other@phone"), None)


@pytest.mark.parametrize(
    ("status", "method", "tag", "flow", "known"),
    [
        (200, "INVITE", "to", PBX, True),
        (180, "INVITE", "to", PBX, False),
        (486, "INVITE", "to", PBX, False),
        (200, "BYE", "to", PBX, False),
        (200, "INVITE", "other", PBX, False),
        (200, "INVITE", "to", PHONE, False),  # not from the side that answered
    ],
)
def test_a_repeated_answer_finds_its_caller(status: int, method: str, tag: str, flow: Flow, known: bool) -> None:
    table = CallTable()
    made = answered(table, call())
    again = response(status, tag)
    for name, value in (("from", "<sip:a@x>;tag=from"), ("call-id", "id@phone"), ("cseq", f"1 {method}")):
        again.add(name, value)
    assert (table.caller_of(again, flow) is made.caller) is known
    table.end(made, at=1020.0)
    assert table.caller_of(again, flow) is None


def test_token_in_our_route_must_name_the_call_of_the_call_id() -> None:
    table = CallTable()
    made, other = answered(table, call("c1")), answered(table, call("c2"))
    assert made.call_id == other.call_id  # a PBX that keeps the Call-ID
    assert table.find(request("from", "to"), Uri.parse("sip:edge;lr;c=c2")).call is other
    with pytest.raises(Reject):
        table.find(request("from", "to"), Uri.parse("sip:edge;lr;c=c3"))
    with pytest.raises(Reject):
        table.find(request("from", "to", "other"), Uri.parse("sip:edge;lr;c=c1"))
    assert table.find(request("from", "to"), Uri.parse("sip:edge;lr")).call is made


def test_each_fork_is_a_dialog_and_there_is_a_bound() -> None:
    made = call()
    for number in range(MAX_CALLEES):
        made.learn_callee(response(180, f"t{number}"), "pbx", PBX)
    leg = made.learn_callee(response(200, "t0", "<sip:new@10.0.0.5>"), "pbx", PBX)
    assert (leg.contact, len(made.callees)) == ("sip:new@10.0.0.5", MAX_CALLEES)
    with pytest.raises(Reject):
        made.learn_callee(response(180, "more"), "pbx", PBX)


def test_limit_is_reached_once() -> None:
    table = CallTable()
    made = answered(table, call(limit_s=60.0), 1010.0)
    answered(table, call("c2"), 1010.0)
    assert table.overdue(1069.0) == []
    assert table.overdue(1070.0) == [made]
    assert table.overdue(1080.0) == []


def test_limit_of_an_ended_call_is_nothing() -> None:
    table = CallTable()
    made = answered(table, call(limit_s=60.0), 1010.0)
    table.end(made, at=1020.0)
    assert table.overdue(2000.0) == []


def test_changed_limit_replaces_the_old_one() -> None:
    table = CallTable()
    made = answered(table, call(limit_s=60.0), 1010.0)
    table.limit(made, 100.0)
    assert table.overdue(1070.0) == []
    assert table.overdue(1110.0) == [made]


@pytest.mark.parametrize("limit_s", [None, 60.0])
@pytest.mark.parametrize("name", ["plain", "Ren\udce9"])
def test_frozen_call_thaws_with_every_field(limit_s: float | None, name: str) -> None:
    table = CallTable()
    made = call(user="alice", limit_s=limit_s, user_agent=name, peer="198.51.100.7", group="staff", policy_limit_s=90.0)
    made.grant = Grant("alice", ("alice@x",), "1001", ("g",), (b"\xff\x00",), name, 1, 2, 3, "hello")
    made.caller.party = f'"{name}" <sip:alice@x>;tag=from'
    answered(table, made)
    made.callees["to"].routes = ("<sip:a;lr>", "<sip:b;lr>")
    made.interim_at, made.terminate_cause = 1020.0, "x"
    stored = freeze(made, 1011.0)
    assert (stored.id, stored.updated_at) == ("c1", 1011.0)
    back = thaw(stored)
    assert back == made
    assert isinstance(back.caller.flow, Flow)
    assert back.state is CallState.ANSWERED


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b"\x80", b"\xff\xff", b"[1]"])
def test_data_of_another_version_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        thaw(LiveCall("c1", data, 0.0))


def test_restored_call_keeps_its_limit_and_ends_at_the_latest() -> None:
    table = CallTable()
    limited = thaw(freeze(answered(CallTable(), call("c1", limit_s=60.0)), 1.0))
    endless = thaw(freeze(answered(CallTable(), call("c2")), 1.0))
    table.restore(limited, now=1020.0, latest_end=5000.0)
    table.restore(endless, now=1020.0, latest_end=5000.0)
    assert table.active_of("alice") == 2
    assert table.overdue(1069.0) == []
    assert table.overdue(1070.0) == [limited]
    assert table.overdue(4999.0) == []
    assert table.overdue(5000.0) == [endless]
    assert table.find(request("to", "from"), None).call is limited


def test_session_timer_of_a_restored_call_goes_on_and_a_late_refresh_may_still_come() -> None:
    for now, lapses in ((1020.0, 1110.0), (3000.0, 3060.0)):
        before, table = CallTable(), CallTable()
        made = answered(before, call())
        before.expect_refresh(made, 1110.0)
        restored = thaw(freeze(made, 1.0))
        table.restore(restored, now=now, latest_end=90_000.0)
        assert table.lapsed(lapses - 1) == []
        assert table.lapsed(lapses) == [restored]
    untimed = thaw(freeze(answered(CallTable(), call("c2")), 1.0))
    table.restore(untimed, now=3000.0, latest_end=90_000.0)
    assert table.lapsed(80_000.0) == []


def test_calls_that_belong_together() -> None:
    table = CallTable()
    first = answered(table, call("c1"))
    forked = request("from2", "")  # a PBX that keeps the Call-ID
    assert table.family(forked) == "c1"
    table.open(call("c2", multi=table.family(forked)))
    transfer = request("other", "", call_id="new@phone")
    assert table.family(transfer) == ""
    transfer.add("replaces", " id@phone ;to-tag=to;from-tag=from")
    assert table.family(transfer) == "c1"
    third = call("c3", call_id="new@phone", multi=table.family(transfer))
    table.open(third)
    assert table.family(request("x", "", call_id="new@phone")) == "c1"  # the family, not the nearest
    assert thaw(freeze(third, 0.0)).multi == "c1"
    assert first.multi == ""


ALICE, BOB = Grant("alice", extension="1001"), Grant("bob", extension="1002")


@pytest.mark.parametrize(("callee", "joined"), [("bob", True), ("carol", False)])
def test_who_talks_to_whom_by_the_edge_alone(callee: str, joined: bool) -> None:
    table = CallTable()
    table.open(made := call())
    made.callees = {"to": Leg("phone", PHONE, "to", user=callee), "other": Leg("phone", PHONE, "other", user="bob")}
    assert not table.join(ALICE, "bob", "1002")  # it rings
    table.answered(made, "to", 1001.0)
    assert table.join(ALICE, "bob", "1002") is joined
    assert table.join(BOB, "alice", "1001") is joined
    table.end(made, at=1002.0)
    assert not table.join(ALICE, "bob", "1002")


@pytest.mark.parametrize(("number", "joined"), [("1002", True), ("1003", False), ("", False)])
def test_who_talks_to_whom_through_a_pbx(number: str, joined: bool) -> None:
    table = CallTable()
    answered(table, call(number=number))
    assert not table.join(ALICE, "bob", "1002")  # a mailbox may have answered
    bob = call("c2", "bob", "id@pbx")
    bob.direction = "in"
    answered(table, bob)
    assert table.join(ALICE, "bob", "1002") is joined
    assert table.join(BOB, "alice", "1001") is joined
    assert not table.join(ALICE, "bob", "")
    assert not table.join(ALICE, "dave", "1002")
