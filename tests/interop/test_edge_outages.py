"""What goes on when RADIUS is away, and what is left of calls and registrations when the edge is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.harness.asterisk import Asterisk
from tests.harness.edge import Edge
from tests.harness.freeradius import FreeRadius
from tests.harness.people import ALICE, BOB, DOMAIN
from tests.harness.processes import wait_until
from tests.harness.wire import Dialog, Wire
from tests.interop.conftest import NewFolder, NewPhone

TIMEOUT_S = 1.0
MARGIN_S = 0.5


@pytest.fixture
def edge(new_folder: NewFolder, edge_port: int, asterisk: Asterisk, freeradius: FreeRadius) -> Iterator[Edge]:
    """An edge of its own for each test, with FreeRADIUS and a short timeout."""
    server = Edge(new_folder("edge-outage"), pbx=asterisk.uri, port=edge_port, radius=freeradius, timeout_s=TIMEOUT_S)
    yield server
    server.stop()


@pytest.mark.parametrize("how", ["silent", "gone"])
def test_radius_away(edge: Edge, freeradius: FreeRadius, asterisk: Asterisk, how: str) -> None:
    away, back = (freeradius.pause, freeradius.resume) if how == "silent" else (freeradius.stop, freeradius.start)
    with Wire(edge.sip, ALICE) as phone, Wire(edge.sip, BOB) as other:
        call = phone.call("1000")
        edge.wait_accounted(call.call_id, "Start")
        register = other.compose("REGISTER", f"sip:{DOMAIN}", to=other.address)
        invite = other.compose("INVITE", f"sip:1000@{DOMAIN}", body=other.offer())
        away()
        try:
            for request in (register, invite):
                _assert_unavailable(edge, other, other.authorize(request, other.ask(request)))
            assert edge.metric("nomad_auth_total", result="unavailable") == 2
            assert edge.get("/api/v1/registrations")["total"] == 0
            assert phone.hang_up(call).status == 200
            seconds = edge.wait_cdr(call.call_id)["duration_s"]
            assert edge.metric("nomad_accounting_spool_records") == 1
            wait_until(
                lambda: edge.metric("nomad_radius_server_up") < 2, timeout_s=8, what="a server that counts as down"
            )
            assert edge.metric("nomad_accounting_oldest_seconds") > 0
        finally:
            back()
        wait_until(lambda: other.register().status == 200, timeout_s=10, what="a login after RADIUS is back")
    spooled = "nomad_accounting_spool_records"
    wait_until(lambda: edge.metric(spooled) == 0, timeout_s=20, what="the spool drained")
    wait_until(lambda: edge.metric("nomad_radius_server_up") == 2, timeout_s=15, what="both roles up again")
    start, stop = _distinct(edge.accounting(call.call_id))
    assert (start["Acct-Status-Type"], stop["Acct-Status-Type"]) == ("Start", "Stop")
    assert int(stop["Acct-Session-Time"]) == round(seconds)
    if how == "gone":
        edge.wait_accounted(call.call_id, "Start", "Stop")
    asterisk.wait_idle()


def test_a_call_outlives_the_edge(edge: Edge, asterisk: Asterisk, new_phone: NewPhone) -> None:
    phone = new_phone("bob", f"sip:{BOB.login}@{DOMAIN}", BOB.password, outbound=f"sip:{edge.address}")
    assert phone.register()["type"] == "REGISTER_OK"
    with Wire(edge.sip, ALICE) as wire, Wire(edge.sip, ALICE, transport="tcp") as connected:
        assert wire.register().status == 200
        assert connected.register().status == 200
        call = wire.call("1000")
        edge.wait_accounted(call.call_id, "Start")
        wait_until(lambda: edge.stored("registrations") == 2, timeout_s=5, what="registrations on disk")
        time.sleep(max(0.0, call.established_at + 1.2 - time.time()))  # so that a lost second would show
        edge.kill9()
        edge.start()
        assert [each["id"] for each in edge.get("/api/v1/calls")["calls"]]
        assert edge.metric("nomad_calls_active") == 1
        assert wire.hang_up(call).status == 200
        seconds = time.time() - call.established_at
    asterisk.wait_idle()
    record = edge.wait_cdr(call.call_id)
    assert (record["result"], record["terminate_cause"]) == ("answered", "User-Request")
    assert record["duration_s"] == pytest.approx(seconds, abs=0.5)
    start, stop = edge.wait_accounted(call.call_id, "Start", "Stop")
    assert start["Acct-Session-Id"] == stop["Acct-Session-Id"] == record["id"]
    assert int(stop["Acct-Session-Time"]) == round(record["duration_s"])
    assert edge.metric("nomad_calls_active") == 0

    registrations = {each["user"]: each["bindings"] for each in edge.get("/api/v1/registrations")["registrations"]}
    assert [len(registrations[login]) for login in (ALICE.login, BOB.login)] == [1, 1]  # the connection is gone
    asterisk.originate(BOB.extension)
    phone.wait("CALL_INCOMING")
    phone.hangup()
    asterisk.wait_idle()


def test_the_pbx_ends_a_call_of_a_killed_edge(edge: Edge, asterisk: Asterisk) -> None:
    with Wire(edge.sip, ALICE) as wire:
        call = wire.call("2001")
        edge.kill9()  # at once: what was answered is on disk
        edge.start()
        asterisk.hang_up_all()
        _answer_bye(wire, call)
    edge.wait_accounted(call.call_id, "Start", "Stop")
    assert edge.wait_cdr(call.call_id)["result"] == "answered"
    asterisk.wait_idle()


def test_calls_survive_an_orderly_restart(edge: Edge, asterisk: Asterisk) -> None:
    with Wire(edge.sip, ALICE) as wire:
        call = wire.call("1000")
        edge.restart()
        assert wire.hang_up(call).status == 200
    edge.wait_accounted(call.call_id, "Start", "Stop")
    assert edge.wait_cdr(call.call_id)["result"] == "answered"
    asterisk.wait_idle()


def _distinct(records: list[dict[str, str]]) -> list[dict[str, str]]:
    """Accounting without repeats: a server that was silent also writes down what was sent again meanwhile.

    Who counts tells them by Acct-Session-Id and Acct-Status-Type; all else must be the same (RFC 2866 5.2).
    """
    distinct: dict[tuple[str, str], dict[str, str]] = {}
    for record in records:
        kept = {name: value for name, value in record.items() if name not in ("Acct-Delay-Time", "Timestamp")}
        first = distinct.setdefault((record["Acct-Session-Id"], record["Acct-Status-Type"]), kept)
        assert kept == first
    return list(distinct.values())


def _assert_unavailable(edge: Edge, wire: Wire, request: str) -> None:
    """The request gets 503 in time, and the edge answers others meanwhile."""
    began = time.monotonic()
    wire.send(request)
    with Wire(edge.sip) as third:
        options = third.ask(third.compose("OPTIONS", f"sip:{edge.address}"))
        assert options.status == 200
        assert time.monotonic() - began < MARGIN_S
    answer = wire.final(request)
    assert time.monotonic() - began < TIMEOUT_S + MARGIN_S
    assert (answer.status, answer.reason) == (503, "Authentication service unavailable")
    assert int(answer.get("Retry-After")) > 0


def _answer_bye(wire: Wire, call: Dialog) -> None:
    while (request := wire.receive(5.0)) is not None:
        if request.first.startswith("SIP/2.0 200") and request.get("CSeq").endswith("INVITE"):
            # the ACK died with the edge, so the PBX answers again (RFC 3261 13.3.1.4)
            wire.send(wire.within(call, "ACK", cseq=int(request.get("CSeq").split()[0])))
        elif request.method == "BYE":
            assert request.get("Call-ID") == call.call_id
            copied = ("Via", "From", "To", "Call-ID", "CSeq")
            lines = [f"{name}: {value}" for name, value in request.headers if name in copied]
            wire.send("\r\n".join(["SIP/2.0 200 OK", *lines, "Content-Length: 0", "", ""]))
            return
    raise AssertionError("no BYE")
