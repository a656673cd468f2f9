"""Dialogs before a real PBX: lamps, calls that a phone sends on, and calls whose end is gone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.asterisk import Asterisk
from tests.harness.debian import require
from tests.harness.edge import Edge
from tests.harness.linphone import Linphone
from tests.harness.people import ALICE, BOB, DOMAIN
from tests.harness.processes import wait_until
from tests.harness.wire import Dialog, Message, Wire, new_call_id
from tests.interop.conftest import NewFolder, NewPhone

CHECK_S = 2
SCAN_S = 10  # how often the edge looks for calls to ask about


@pytest.fixture(scope="module")
def edge(new_folder: NewFolder, edge_port: int, asterisk: Asterisk) -> Iterator[Edge]:
    """An edge that asks for no session timer, so that it has to ask whether calls are there."""
    sip = {"session_expires_s": 0, "dialog_check_s": CHECK_S}
    server = Edge(new_folder("edge-dialogs"), pbx=asterisk.uri, port=edge_port, sip=sip)
    yield server
    server.stop()


def next_request(wire: Wire, method: str, *, timeout_s: float = 5.0) -> Message:
    """The next request of this method; what comes before it is dropped."""
    end = time.monotonic() + timeout_s
    while (left := end - time.monotonic()) > 0:
        message = wire.receive(left)
        if message is not None and message.method == method:
            return message
    raise TimeoutError(f"no {method}")


def reply(wire: Wire, request: Message, status: str, *headers: str) -> None:
    """Answer a request of the edge."""
    lines = [f"{name}: {value}" for name, value in request.headers if name in ("Via", "From", "Call-ID", "CSeq")]
    to = request.get("To")
    lines.append(f"To: {to if 'tag=' in to else f'{to};tag=wire'}")
    wire.send("\r\n".join([f"SIP/2.0 {status}", *lines, *headers, "Content-Length: 0", "", ""]))


def test_lamp_of_a_real_pbx(edge: Edge, asterisk: Asterisk) -> None:
    asterisk.cli("devstate change Custom:lamp NOT_INUSE")
    with Wire(edge.sip, ALICE) as wire:
        headers = ["Event: dialog", "Accept: application/dialog-info+xml", "Expires: 120"]
        local = f"{wire.address};tag=lamp"
        call_id = new_call_id()
        subscribe = wire.compose("SUBSCRIBE", f"sip:1003@{DOMAIN}", call_id=call_id, from_=local, headers=headers)
        answer = wire.ask_as_person(subscribe)
        assert answer.status == 200
        first = next_request(wire, "NOTIFY")
        assert "terminated</state>" in first.body  # nobody talks
        reply(wire, first, "200 OK")
        asterisk.cli("devstate change Custom:lamp INUSE")
        busy = next_request(wire, "NOTIFY")
        assert "confirmed</state>" in busy.body
        reply(wire, busy, "200 OK")
        assert edge.metric("nomad_subscriptions") == 1
        edge.kill9()
        edge.start()
        assert edge.metric("nomad_subscriptions") == 1
        asterisk.cli("devstate change Custom:lamp NOT_INUSE")
        after = next_request(wire, "NOTIFY")
        assert after.get("Call-ID") == call_id
        reply(wire, after, "200 OK")
        contact = re.search(r"<([^>]*)>", answer.get("Contact"))
        assert contact is not None
        routes = [route.strip() for value in answer.all("Record-Route") for route in value.split(",")][::-1]
        number = int(answer.get("CSeq").split(" ")[0])
        dialog = Dialog(call_id, local, answer.get("To"), contact[1], routes, number)
        end = wire.within(dialog, "SUBSCRIBE").replace(
            "\r\nContent-Length", "\r\nEvent: dialog\r\nExpires: 0\r\nContent-Length"
        )
        assert wire.ask(end).status == 200
        last = next_request(wire, "NOTIFY")
        assert last.get("Subscription-State").startswith("terminated")
        reply(wire, last, "200 OK")
        wait_until(lambda: edge.metric("nomad_subscriptions") == 0, timeout_s=5, what="no subscription")


def test_call_that_a_phone_sends_on_through_the_pbx(edge: Edge, asterisk: Asterisk) -> None:
    with Wire(edge.sip, BOB) as wire:
        assert wire.register().status == 200
        asterisk.originate(BOB.extension)
        invite = next_request(wire, "INVITE")
        reply(wire, invite, "302 Moved Temporarily", f"Contact: <sip:1000@{DOMAIN}>")
        next_request(wire, "ACK")
        wait_until(lambda: edge.get("/api/v1/calls")["calls"], timeout_s=5, what="the call")
        wait_until(lambda: edge.get("/api/v1/calls")["calls"][0]["state"] == "answered", timeout_s=5, what="its answer")
        (call,) = edge.get("/api/v1/calls")["calls"]
        assert (call["user"], call["direction"], call["callee"]) == (BOB.login, "out", f"1000@{DOMAIN}")
        asterisk.hang_up_all()
        asterisk.wait_idle()
        wait_until(lambda: edge.metric("nomad_calls_active") == 0, timeout_s=5, what="its end")
        record = edge.cdrs()[0]
        assert (record["user"], record["direction"], record["result"]) == (BOB.login, "out", "answered")
        wire.register(expires_s=0)


def test_baresip_and_asterisk_know_their_calls_and_keep_them(
    edge: Edge, asterisk: Asterisk, new_phone: NewPhone
) -> None:
    asterisk.cli("pjsip set logger on")
    aor = f"sip:{ALICE.login}@{DOMAIN}"
    phone = new_phone("asked", aor, ALICE.password, outbound=f"sip:{edge.address}")
    assert phone.register()["type"] == "REGISTER_OK"
    assert phone.call(f"sip:2001@{DOMAIN}")["type"] == "CALL_ESTABLISHED"
    asked = re.compile(r"CSeq: 0 OPTIONS")
    wait_until(
        lambda: len(asked.findall(asterisk.output())) >= 4, timeout_s=3 * SCAN_S, what="two questions and their answers"
    )
    assert asked.search(phone.output())
    assert edge.metric("nomad_calls_active") == 1
    answers = re.findall(r"SIP/2.0 (\d+) [^\r\n]*\r?\n(?:[^\r\n]+\r?\n)*?CSeq: 0 OPTIONS", asterisk.output())
    assert answers
    assert set(answers) <= {"200", "500"}
    phone.hangup()
    phone.wait("CALL_CLOSED")
    asterisk.wait_idle()
    assert edge.cdrs()[0]["terminate_cause"] == "User-Request"


def test_linphone_knows_its_call(edge: Edge, asterisk: Asterisk, tmp_path: Path) -> None:
    require("linphone")
    phone = Linphone(tmp_path / "linphone")
    try:
        phone.register(f"sip:{ALICE.login}@{DOMAIN}", f"sip:{edge.address}", ALICE.password)
        phone.wait("to [LinphoneRegistrationOk]")
        phone.call(f"sip:2001@{DOMAIN}")
        wait_until(lambda: edge.metric("nomad_calls_active") == 1, timeout_s=10, what="its call")
        asked = re.compile(r"CSeq: 0 OPTIONS")
        wait_until(
            lambda: len(asked.findall(phone.messages())) >= 4,
            timeout_s=4 * SCAN_S,
            what="two questions and their answers",
        )
        assert edge.metric("nomad_calls_active") == 1
        phone.hang_up()
        wait_until(lambda: edge.metric("nomad_calls_active") == 0, timeout_s=10, what="its end")
        assert edge.cdrs()[0]["terminate_cause"] == "User-Request"
    finally:
        phone.stop()


def test_phone_that_has_lost_its_call(edge: Edge, asterisk: Asterisk) -> None:
    with Wire(edge.sip, ALICE) as wire:
        call = wire.call("2001")
        asked = next_request(wire, "OPTIONS", timeout_s=3 * SCAN_S)
        assert (asked.get("CSeq"), asked.get("Call-ID")) == ("0 OPTIONS", call.call_id)
        reply(wire, asked, "481 Call/Transaction Does Not Exist")
        bye = next_request(wire, "BYE", timeout_s=10.0)
        reply(wire, bye, "481 Call/Transaction Does Not Exist")
    asterisk.wait_idle()
    stop = edge.wait_accounted(call.call_id, "Start", "Stop")[1]
    assert stop["Acct-Terminate-Cause"] in ("Lost-Carrier", "2")
    assert edge.wait_cdr(call.call_id)["terminate_cause"] == "Lost-Carrier"
