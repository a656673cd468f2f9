from __future__ import annotations

import dataclasses

import pytest

from nomad.sip.errors import SipError
from nomad.sip.events import (
    AckArrived,
    AckMissing,
    BranchFailed,
    BranchTimedOut,
    CancelArrived,
    ClientKey,
    Flow,
    RequestArrived,
    ResponseArrived,
    ServerKey,
    StrayResponse,
)
from nomad.sip.message import Request, Response, parse_message
from nomad.sip.stack import Stack, fingerprint
from nomad.sip.timers import Timers
from tests.harness.clock import FakeClock
from tests.harness.sip import TCP, UDP, Bench, ack, client_in, make_request, make_response, server_in

LONG = 32.0  # 64*T1


# -- matching ---------------------------------------------------------------------------------------------------------


def test_a_request_is_told_once_with_its_key_and_flow() -> None:
    bench = Bench("REGISTER")
    bench.receive(bench.request)
    assert bench.stack.take_events() == [RequestArrived(bench.server, bench.request, UDP)]
    bench.receive(bench.request)
    assert bench.output() == " | "


def test_a_response_finds_its_request_by_branch_and_cseq_method() -> None:
    bench = Bench("INVITE")
    bench.send()
    other = make_response(make_request("OPTIONS"), 200)
    bench.receive(other)
    stray = make_response(make_request("INVITE", branch="z9hG4bK-2"), 200)
    bench.receive(stray)
    assert bench.stack.take_events() == [StrayResponse(other, UDP), StrayResponse(stray, UDP)]


def test_a_response_that_no_longer_names_who_asked_is_refused_and_changes_nothing() -> None:
    bench = Bench("INVITE")
    bench.request.prepend("via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK-ours")
    bench.stack.request(bench.request, UDP, 0.0)
    bench.output()
    whole = make_response(bench.request, 200)
    short = make_response(bench.request, 200)
    short.pop_first("via")
    short.set("via", whole.get("via") or "")
    with pytest.raises(SipError, match="Via of who asked"):
        bench.receive(short)
    assert not bench.stack.take_events()
    bench.receive(whole)
    assert [type(each) for each in bench.stack.take_events()] == [ResponseArrived]


def test_a_branch_serves_one_request() -> None:
    bench = Bench()
    bench.send()
    with pytest.raises(ValueError, match="in use"):
        bench.send()
    assert bench.sends() == "OPTIONS"


def test_the_same_branch_serves_an_invite_and_another_method() -> None:
    bench = Bench("INVITE")
    bench.send()
    bench.stack.request(make_request("UPDATE"), UDP, 0.0)
    assert bench.stack.transactions == 2


def test_responses_to_unknown_requests_go_nowhere() -> None:
    bench = Bench()
    bench.respond(200)
    assert bench.output() == " | "


def test_a_malformed_key_is_a_sip_error() -> None:
    bench = Bench()
    request = make_request()
    request.set("via", "nonsense")
    with pytest.raises(SipError):
        bench.receive(request)
    assert bench.stack.transactions == 0


def test_a_repeat_over_another_flow_is_answered_where_the_first_came_from() -> None:
    bench = Bench()
    bench.receive(bench.request)
    bench.respond(200)
    bench.stack.receive(bench.request, Flow("udp", UDP.local, ("203.0.113.9", 9)), 0.0)
    assert bench.sends() == "200 200"


@pytest.mark.parametrize("status", [101, 180, 199, 408])
def test_a_non_invite_gets_no_provisional_but_100_and_no_408(status: int) -> None:
    bench = Bench()
    bench.receive(bench.request)
    bench.output()
    bench.respond(status)
    assert bench.output() == " | "
    assert bench.state() == "trying"


# -- ACK --------------------------------------------------------------------------------------------------------------


def test_the_ack_of_a_failure_keeps_the_route_and_takes_the_to_of_the_response() -> None:
    bench = Bench("INVITE")
    bench.request.add("route", "<sip:p1.example.com;lr>")
    bench.request.add("route", "<sip:p2.example.com;lr>")
    bench.send()
    bench.stack.take_sends()
    bench.answer(486)
    (sent,) = bench.stack.take_sends()
    message = parse_message(sent.data)
    assert isinstance(message, Request)
    assert message.method == "ACK"
    assert message.uri_text == bench.request.uri_text
    assert message.get_all("route") == bench.request.get_all("route")
    assert message.to.tag == "to-1"
    assert message.cseq == (1, "ACK")
    assert [via.branch for via in message.vias] == [bench.request.via.branch]


def test_the_ack_of_a_2xx_passes_whatever_its_branch() -> None:
    bench = Bench("INVITE")
    bench.receive(bench.request)
    bench.respond(200)
    bench.output()
    other = make_request("ACK", branch="z9hG4bK-other", to_tag="to-1")
    bench.receive(other)
    ack(bench)
    first, second = bench.stack.take_events()
    assert first == AckArrived(other, UDP)
    assert isinstance(second, AckArrived)


def test_a_missing_ack_is_reported_with_its_key() -> None:
    bench = server_in("INVITE", UDP, lambda b: b.respond(486))
    bench.run(LONG)
    assert bench.stack.take_events() == [AckMissing(bench.server)]


def test_every_2xx_of_the_callee_passes_through_both_transactions() -> None:
    above, below = Bench("INVITE"), Bench("INVITE")
    above.receive(above.request)
    below.send()
    above.output()
    below.output()
    for _ in range(3):
        below.answer(200)
        (event,) = below.stack.take_events()
        assert isinstance(event, ResponseArrived)
        above.stack.respond(above.server, event.response, above.now)
        assert above.sends() == "200"
    assert (above.state(), below.state()) == ("accepted", "accepted")


def test_a_failure_that_comes_again_after_t1_is_acknowledged_with_the_same_bytes() -> None:
    bench = Bench("INVITE")
    bench.send()
    bench.stack.take_sends()
    for _ in range(3):
        bench.answer(486)
        bench.run(0.5)
    sent = bench.stack.take_sends()
    assert len(sent) == 3
    assert len(set(sent)) == 1
    assert bench.events() == "ResponseArrived:486"


# -- CANCEL -----------------------------------------------------------------------------------------------------------


def test_a_cancel_is_told_once_and_its_repeat_answered() -> None:
    bench = server_in("INVITE", UDP)
    cancel = make_request("CANCEL")
    bench.receive(cancel)
    assert bench.stack.take_events() == [CancelArrived(bench.server, cancel, UDP)]
    bench.receive(cancel)
    assert bench.output() == "200 200 | "


def test_the_answers_to_one_cancel_are_the_same_bytes() -> None:
    bench = server_in("INVITE", UDP)
    bench.receive(make_request("CANCEL"))
    bench.receive(make_request("CANCEL"))
    one, other = bench.stack.take_sends()
    assert one == other
    message = parse_message(one.data)
    assert message.to.tag


def test_a_cancel_of_an_unknown_invite_keeps_nothing() -> None:
    bench = Bench("INVITE")
    bench.receive(make_request("CANCEL"))
    assert bench.output() == "481 | "
    assert bench.stack.transactions == 0


def test_a_cancel_waits_for_the_first_provisional() -> None:
    bench = client_in("INVITE", UDP)
    bench.stack.cancel(bench.client, 0.0, [("Reason", "SIP;cause=200")])
    assert bench.output() == " | "
    bench.run(0.5)
    assert bench.output() == "INVITE | "  # the request still goes again
    bench.answer(100)
    (sent,) = bench.stack.take_sends()
    message = parse_message(sent.data)
    assert isinstance(message, Request)
    assert (message.method, message.via.branch) == ("CANCEL", bench.request.via.branch)
    assert message.get("reason") == "SIP;cause=200"
    assert bench.events() == "ResponseArrived:100"
    bench.answer(180)
    assert bench.output() == " | ResponseArrived:180"  # not sent twice


@pytest.mark.parametrize(("status", "output"), [(200, " | ResponseArrived:200"), (486, "ACK | ResponseArrived:486")])
def test_a_waiting_cancel_is_dropped_when_the_final_comes_first(status: int, output: str) -> None:
    bench = client_in("INVITE", UDP, lambda b: b.stack.cancel(b.client, b.now))
    bench.answer(status)
    assert bench.output() == output
    bench.run(2 * LONG)
    assert bench.output() == " | "
    assert bench.stack.transactions == 0


def test_a_waiting_cancel_ends_with_the_invite_that_nobody_answers() -> None:
    bench = client_in("INVITE", UDP, lambda b: b.stack.cancel(b.client, b.now))
    bench.run(LONG)
    assert bench.output() == "INVITE INVITE INVITE INVITE INVITE INVITE | BranchTimedOut"


def test_a_cancel_is_sent_once_and_resent_until_it_is_answered() -> None:
    bench = client_in("INVITE", UDP, lambda b: b.answer(180))
    bench.stack.cancel(bench.client, bench.now)
    bench.stack.cancel(bench.client, bench.now)
    bench.run(1.5)
    assert bench.output() == "CANCEL CANCEL CANCEL | "
    bench.receive(make_response(make_request("CANCEL"), 200))
    bench.answer(487)
    bench.run(LONG)
    assert bench.output() == "ACK | ResponseArrived:487"
    assert bench.stack.transactions == 0


@pytest.mark.parametrize("flow", [UDP, TCP])
def test_a_branch_that_ignores_its_cancel_times_out(flow: Flow) -> None:
    bench = client_in("INVITE", flow, lambda b: b.answer(180), lambda b: b.run(10.0))
    bench.stack.cancel(bench.client, bench.now)
    bench.run(1.0)
    bench.answer(183)  # does not keep it alive
    bench.run(30.9)
    assert bench.state() == "proceeding"
    bench.output()
    bench.run(0.2)
    assert bench.events() == "BranchTimedOut"
    assert bench.stack.transactions == 0


def test_an_uncancelled_branch_may_ring_for_hours() -> None:
    bench = client_in("INVITE", UDP, lambda b: b.answer(180))
    bench.run(7200.0)
    assert bench.output() == " | "
    assert bench.state() == "proceeding"


def test_only_an_invite_can_be_cancelled() -> None:
    bench = client_in("OPTIONS", UDP, lambda b: b.answer(100))
    bench.stack.cancel(bench.client, bench.now)
    bench.stack.cancel(ClientKey("z9hG4bK-none", "INVITE"), bench.now)
    assert bench.output() == " | "


# -- flows ------------------------------------------------------------------------------------------------------------


def test_a_failed_flow_fails_what_waits_on_it_in_order_and_nothing_else() -> None:
    bench = Bench()
    other = Flow("udp", UDP.local, ("203.0.113.9", 5060))
    keys = [
        bench.stack.request(make_request("OPTIONS", branch=f"z9hG4bK-{n}"), UDP if n else other, 0.0) for n in range(9)
    ]
    bench.stack.receive(make_response(make_request("OPTIONS", branch="z9hG4bK-5"), 200), UDP, 0.0)
    bench.stack.take_events()
    bench.stack.flow_failed(UDP, 0.0, "refused")
    failed = [BranchFailed(key, "refused") for key in keys[1:] if key.branch != "z9hG4bK-5"]
    assert bench.stack.take_events() == failed
    bench.stack.flow_failed(Flow("udp", UDP.local, ("203.0.113.10", 1)), 0.0, "unknown")
    assert bench.stack.take_events() == []
    bench.stack.take_sends()
    bench.run(0.5)
    assert bench.stack._by_flow.keys() == {other, UDP}
    assert len(bench.stack.take_sends()) == 1


def test_nobody_is_told_about_the_end_of_a_cancel() -> None:
    bench = client_in("INVITE", TCP, lambda b: b.answer(180), lambda b: b.stack.cancel(b.client, b.now))
    bench.stack.flow_failed(TCP, bench.now, "closed")
    assert bench.events() == "BranchFailed"
    assert bench.stack.transactions == 0


# -- repeats absorbed unparsed ----------------------------------------------------------------------------------------


def test_a_repeated_datagram_is_absorbed_by_its_fingerprint() -> None:
    bench = Bench("REGISTER")
    data = bench.request.encode()
    mark = fingerprint(data, UDP)
    assert not bench.stack.absorb(mark)
    bench.stack.receive(bench.request, UDP, 0.0, mark=mark)
    bench.output()
    assert bench.stack.absorb(mark)
    assert bench.output() == " | "
    bench.respond(200)
    bench.sends()
    assert bench.stack.absorb(mark)
    assert bench.output() == "200 | "
    bench.run(LONG)
    assert not bench.stack.absorb(mark)
    assert not bench.stack._by_fingerprint


def test_a_fingerprint_tells_bytes_and_flows_apart() -> None:
    marks = {fingerprint(data, flow) for data in (b"a", b"b", b"") for flow in (UDP, TCP)}
    assert len(marks) == 6
    assert fingerprint(b"a", UDP) == fingerprint(bytes([97]), Flow(*UDP))


# -- overload ---------------------------------------------------------------------------------------------------------


def test_above_the_limit_new_requests_get_503_and_nothing_is_kept() -> None:
    bench = Bench(limit=10)
    for number in range(12):
        bench.stack.receive(make_request("INVITE", branch=f"z9hG4bK-{number}"), UDP, 0.0)
    assert bench.stack.transactions == 10
    assert [status for _, status in bench.stack.answered] == [503] * 2
    assert len(bench.stack.take_events()) == 10
    sent = [parse_message(data) for data, _ in bench.stack.take_sends()]
    assert [(m.status, m.get("retry-after")) for m in sent if isinstance(m, Response)] == [(503, "10")] * 2


def test_a_refused_request_that_comes_again_is_refused_with_the_same_bytes() -> None:
    bench = Bench(limit=0)
    bench.receive(make_request("INVITE"))
    bench.receive(make_request("INVITE"))
    one, other = bench.stack.take_sends()
    assert one == other


def test_above_the_limit_repeats_and_health_checks_pass() -> None:
    bench = Bench(limit=10)
    for number in range(10):
        bench.stack.receive(make_request("INVITE", branch=f"z9hG4bK-{number}"), UDP, 0.0)
    bench.stack.receive(make_request("INVITE", branch="z9hG4bK-3"), UDP, 0.0)
    assert bench.stack.answered == []
    bench.stack.receive(make_request("OPTIONS", branch="z9hG4bK-a"), UDP, 0.0)
    assert bench.stack.answered == []
    bench.stack.receive(make_request("OPTIONS", branch="z9hG4bK-b"), UDP, 0.0)
    assert [status for _, status in bench.stack.answered] == [503]


def test_above_the_limit_a_call_can_still_be_cancelled_and_acknowledged() -> None:
    bench = Bench("INVITE", limit=1)
    bench.receive(bench.request)
    bench.receive(make_request("CANCEL"))
    bench.respond(487)
    ack(bench)
    assert bench.output() == "200 487 | RequestArrived CancelArrived"
    assert bench.state() == "confirmed"


# -- time -------------------------------------------------------------------------------------------------------------


def test_an_idle_stack_has_no_timer() -> None:
    stack = Stack()
    assert stack.next_timer() is None
    stack.run_timers(1e9)
    assert stack.take_sends() == []
    assert stack.take_events() == []


def test_the_next_timer_is_the_earlier_of_resending_and_giving_up() -> None:
    bench = client_in("OPTIONS", UDP)
    assert bench.stack.next_timer() == 0.5
    bench = client_in("OPTIONS", TCP)
    assert bench.stack.next_timer() == LONG
    bench = server_in("INVITE", UDP)
    assert bench.stack.next_timer() is None
    bench.respond(486)
    assert bench.stack.next_timer() == 0.5


def test_resends_slow_down_as_the_rfc_says() -> None:
    for bench, pauses in (
        (client_in("INVITE", UDP), [0.5, 1, 2, 4, 8, 16]),
        (client_in("OPTIONS", UDP), [0.5, 1, 2, 4, 4, 4, 4, 4, 4, 4]),
        (server_in("INVITE", UDP, lambda b: b.respond(486)), [0.5, 1, 2, 4, 4, 4, 4, 4, 4, 4]),
    ):
        times = []
        while bench.clock.step(bench.stack):
            times += [bench.now] * len(bench.stack.take_sends())
        assert [late - early for early, late in zip([0.0, *times], times, strict=False)] == pytest.approx(pauses)


def test_late_timers_fire_once() -> None:
    bench = client_in("OPTIONS", UDP)
    bench.clock.advance(3.0)
    bench.stack.run_timers(bench.now)
    assert bench.output() == "OPTIONS | "


def test_other_durations_follow_t1() -> None:
    stack = Stack(dataclasses.replace(Timers(), t1=0.1))
    stack.request(make_request(), UDP, 0.0)
    assert stack.next_timer() == pytest.approx(0.1)
    FakeClock(0.0).run(6.5, stack)
    assert [type(event) for event in stack.take_events()] == [BranchTimedOut]


def test_a_finished_transaction_leaves_nothing_behind() -> None:
    bench = Bench("INVITE")
    bench.receive(bench.request)
    bench.stack.request(make_request("INVITE", branch="z9hG4bK-down"), UDP, 0.0)
    bench.respond(200)
    bench.receive(make_response(make_request("INVITE", branch="z9hG4bK-down"), 200))
    waiting = bench.stack._client[ClientKey("z9hG4bK-down", "INVITE")]
    assert (waiting.request, waiting.sent) == (None, b"")
    bench.run(LONG)
    assert bench.stack.transactions == 0
    assert bench.stack.next_timer() is None
    assert not bench.stack._by_flow
    bench.stack.respond(ServerKey("x", "y", "INVITE"), make_response(bench.request, 200), bench.now)
    assert bench.sends().split() == ["INVITE", "200"]
