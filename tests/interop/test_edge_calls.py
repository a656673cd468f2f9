"""Calls between real phones and a real PBX through the edge, and what is on record of them afterwards.

Once with the embedded RADIUS server, once with FreeRADIUS over slapd.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.harness.asterisk import TONE_HZ, Asterisk
from tests.harness.baresip import Baresip
from tests.harness.edge import Edge
from tests.harness.people import ALICE, BOB, CAROL, DOMAIN, Person
from tests.harness.processes import wait_until
from tests.harness.sipp import Sipp, credentials
from tests.harness.wire import Wire
from tests.interop.conftest import NewPhone


def test_a_phone_talks_to_the_echo_and_is_accounted_for(edge: Edge, asterisk: Asterisk, new_phone: NewPhone) -> None:
    phone = _registered(new_phone, edge, ALICE)
    before = edge.metrics()
    phone.dial(f"sip:1001@{DOMAIN}")
    call = phone.wait("CALL_ESTABLISHED", "CALL_CLOSED")
    began = time.time()
    assert call["type"] == "CALL_ESTABLISHED"
    assert edge.metric("nomad_calls_active") == 1
    call_id = str(edge.get("/api/v1/calls")["calls"][0]["id"])
    phone.wait_audio(seconds=1.5)
    phone.hangup()
    phone.wait("CALL_CLOSED")
    seconds = time.time() - began
    asterisk.wait_idle()
    assert phone.heard(440)
    assert asterisk.heard(440)
    assert asterisk.cdrs()[-1]["userfield"] == f'"Alice Martin" <sip:{ALICE.extension}@{DOMAIN}>'

    wait_until(lambda: edge.cdrs(), timeout_s=5, what="call record")
    record = edge.cdrs()[0]
    assert record["id"] == call_id
    assert (record["user"], record["result"], record["status"]) == (ALICE.login, "answered", 200)
    assert (record["caller"], record["callee"]) == (f"{ALICE.login}@{DOMAIN}", f"1001@{DOMAIN}")
    assert (record["direction"], record["number_class"]) == ("out", "internal")
    assert record["duration_s"] == pytest.approx(seconds, abs=1)
    start, stop = edge.wait_accounted(record["call_id"], "Start", "Stop")
    for accounted in (start, stop):
        assert accounted["User-Name"] == ALICE.login
        assert accounted["Acct-Session-Id"] == record["id"]
        assert accounted["Calling-Station-Id"] == f"sip:{ALICE.login}@{DOMAIN}"
        assert accounted["Called-Station-Id"] == f"sip:1001@{DOMAIN}"
    assert int(stop["Acct-Session-Time"]) == round(record["duration_s"])
    assert stop["Acct-Terminate-Cause"] in ("User-Request", "1")
    # The server has a record a moment before the edge knows that
    wait_until(lambda: edge.metric("nomad_accounting_spool_records") == 0, timeout_s=5, what="empty spool")
    after = edge.metrics()
    labels = 'class="internal",direction="out"'
    assert _grown(before, after, f'nomad_calls_total{{{labels},result="answered"}}') == 1
    assert _grown(before, after, f"nomad_call_seconds_total{{{labels}}}") == pytest.approx(record["duration_s"])
    assert _grown(before, after, 'nomad_accounting_sent_total{status_type="Start"}') == 1
    assert _grown(before, after, 'nomad_accounting_sent_total{status_type="Stop"}') == 1
    assert after["nomad_calls_active"] == 0


def test_the_pbx_rings_every_phone_of_a_person(edge: Edge, asterisk: Asterisk, new_phone: NewPhone) -> None:
    first, second = (_registered(new_phone, edge, BOB, name) for name in ("desk", "pocket"))
    asterisk.originate(BOB.extension)
    for phone in (first, second):
        phone.wait("CALL_INCOMING")
    second.accept()
    second.wait("CALL_ESTABLISHED")
    assert first.wait("CALL_CLOSED")["type"] == "CALL_CLOSED"
    assert edge.metric("nomad_calls_active") == 1
    second.wait_audio(seconds=1.0)
    asterisk.hang_up_all()
    second.wait("CALL_CLOSED")
    assert second.heard(TONE_HZ)
    assert "CANCEL sip:" in first.output()
    assert "CANCEL sip:" not in second.output()
    (record,) = _records(edge, BOB, direction="in")
    assert (record["user"], record["result"], record["callee"]) == (BOB.login, "answered", f"{BOB.extension}@{DOMAIN}")
    start, stop = edge.wait_accounted(record["call_id"], "Start", "Stop")
    assert {start["User-Name"], stop["User-Name"]} == {BOB.login}
    assert int(stop["Acct-Session-Time"]) == round(record["duration_s"])


def test_the_called_phone_hangs_up(edge: Edge, asterisk: Asterisk, new_phone: NewPhone) -> None:
    phone = _registered(new_phone, edge, CAROL)
    asterisk.originate(CAROL.extension)
    phone.wait("CALL_INCOMING")
    phone.accept()
    phone.wait("CALL_ESTABLISHED")
    phone.hangup()
    phone.wait("CALL_CLOSED")
    asterisk.wait_idle()
    (record,) = _records(edge, CAROL, direction="in")
    assert record["terminate_cause"] == "User-Request"
    edge.wait_accounted(record["call_id"], "Start", "Stop")


def test_the_pbx_hangs_up(edge: Edge, asterisk: Asterisk) -> None:
    with Wire(edge.sip, ALICE) as wire:
        call = wire.call("2001")
        asterisk.hang_up_all()
        bye = wire.receive()
        while bye is not None and bye.method != "BYE":
            bye = wire.receive()
        assert bye is not None
        assert bye.get("Call-ID") == call.call_id
        lines = [f"{name}: {value}" for name, value in bye.headers if name in ("Via", "From", "To", "Call-ID", "CSeq")]
        wire.send("\r\n".join(["SIP/2.0 200 OK", *lines, "Content-Length: 0", "", ""]))
    edge.wait_accounted(call.call_id, "Start", "Stop")
    assert edge.wait_cdr(call.call_id)["result"] == "answered"
    asterisk.wait_idle()


def test_nobody_registered_is_what_the_pbx_hears(edge: Edge, asterisk: Asterisk, sipp_folder: Path) -> None:
    values = {"CODE": "480"}
    run = Sipp(
        sipp_folder, "refused", target=asterisk.address, fields=[("x", "", "3009")], values=values, timeout_s=10
    ).wait()
    assert run.successful == 1, run.errors
    assert edge.metric("nomad_sip_rejected_total", rule="unregistered") >= 1


def test_scripted_calls_are_accounted_one_by_one(edge: Edge, asterisk: Asterisk, sipp_folder: Path) -> None:
    calls, before = 10, edge.metrics()
    run = Sipp(
        sipp_folder,
        "call_challenged",
        target=edge.address,
        fields=[(ALICE.login, credentials(ALICE.login, ALICE.password), "1000")],
        values={"HOLD_MS": "1000"},
        calls=calls,
        rate=20,
        auth_uri=f"1000@{DOMAIN}",
        timeout_s=15,
    ).wait()
    assert (run.successful, run.failed) == (calls, 0), run.errors
    call_ids = set(re.findall(r"Call-ID: (\S+)", run.messages))
    assert len(call_ids) == calls
    seconds = 0.0
    for call_id in call_ids:
        stop = edge.wait_accounted(call_id, "Start", "Stop")[1]
        record = edge.wait_cdr(call_id)
        assert (record["user"], stop["User-Name"]) == (ALICE.login, ALICE.login)
        assert record["duration_s"] == pytest.approx(1.0, abs=0.5)
        assert int(stop["Acct-Session-Time"]) == round(record["duration_s"])
        seconds += record["duration_s"]
    after = edge.metrics()
    labels = 'class="internal",direction="out"'
    assert _grown(before, after, f'nomad_calls_total{{{labels},result="answered"}}') == calls
    assert _grown(before, after, f"nomad_call_seconds_total{{{labels}}}") == pytest.approx(seconds)
    asterisk.wait_idle()


@pytest.mark.parametrize(("status", "result"), [("486", "busy"), ("404", "failed"), ("503", "failed")])
def test_what_the_pbx_refuses(edge: Edge, asterisk: Asterisk, status: str, result: str) -> None:
    with Wire(edge.sip, ALICE) as wire:
        invite = wire.compose("INVITE", f"sip:4{status}@{DOMAIN}", body=wire.offer())
        answer = wire.ask_as_person(invite)
        call_id = answer.get("Call-ID")
    assert answer.status == (500 if status == "503" else int(status))  # RFC 3261 16.7 step 6
    record = edge.wait_cdr(call_id)
    assert (record["result"], record["status"], record["duration_s"]) == (result, answer.status, 0)
    assert edge.accounting(call_id) == []


def test_a_number_that_the_policy_forbids(edge: Edge, asterisk: Asterisk, sipp_folder: Path) -> None:
    asterisk.cli("pjsip set logger on")
    number, before = "0899123456", edge.metrics()
    run = Sipp(
        sipp_folder,
        "refused_challenged",
        target=edge.address,
        fields=[(ALICE.login, credentials(ALICE.login, ALICE.password), number)],
        values={"CODE": "403"},
        auth_uri=f"{number}@{DOMAIN}",
        timeout_s=10,
    ).wait()
    assert run.successful == 1, run.errors
    reason = "Premium numbers are not allowed for group staff"
    assert f"SIP/2.0 403 {reason}" in run.messages
    call_id = re.findall(r"Call-ID: (\S+)", run.messages)[0]
    record = edge.wait_cdr(call_id)
    assert (record["result"], record["status"], record["rule"], record["reason"]) == ("refused", 403, "class", reason)
    assert (record["user"], record["number_class"], record["answered_at"]) == (ALICE.login, "premium", None)
    after = edge.metrics()
    assert _grown(before, after, 'nomad_policy_refusals_total{rule="class"}') == 1
    assert _grown(before, after, 'nomad_calls_total{class="premium",direction="out",result="refused"}') == 1
    assert edge.accounting(call_id) == []
    assert call_id not in asterisk.output()
    assert number not in asterisk.output()


def _registered(new_phone: NewPhone, edge: Edge, person: Person, name: str = "") -> Baresip:
    phone = new_phone(
        name or person.login, f"sip:{person.login}@{DOMAIN}", person.password, outbound=f"sip:{edge.address}"
    )
    assert phone.register()["type"] == "REGISTER_OK"
    return phone


def _records(edge: Edge, person: Person, *, direction: str) -> list[dict[str, Any]]:
    """Call records of a person in one direction, once there is one."""

    def found() -> list[dict[str, Any]]:
        return [each for each in edge.cdrs() if (each["user"], each["direction"]) == (person.login, direction)]

    return wait_until(found, timeout_s=5, what=f"call record of {person.login}")


def _grown(before: dict[str, float], after: dict[str, float], sample: str) -> float:
    return after.get(sample, 0.0) - before.get(sample, 0.0)
