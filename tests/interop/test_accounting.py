"""What a RADIUS server has on file of a call: FreeRADIUS in its detail file, our own in its file and in SQL."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.harness.asterisk import Asterisk
from tests.harness.edge import Edge
from tests.harness.freeradius import FreeRadius
from tests.harness.people import ALICE, DOMAIN
from tests.harness.processes import wait_until
from tests.harness.radius import OwnRadius
from tests.harness.wire import Wire
from tests.interop.conftest import NewFolder

COMMON = ("Acct-Session-Id", "Acct-Multi-Session-Id", "Nomad-SIP-Call-Id", "Nomad-SIP-From-Tag", "Calling-Station-Id")


class AccountedEdge(Edge):
    """An edge that accounts everything, and each second."""

    def _config(self, *arguments: object) -> str:
        text = super()._config(*arguments)  # type: ignore[arg-type]  # passed on as they are
        return text.replace("[accounting]\n", "[accounting]\nrefused = true\ninterim_interval_s = 1\n", 1)


@pytest.fixture(scope="module", params=["own", "freeradius"])
def radius(request: pytest.FixtureRequest, new_folder: NewFolder) -> Iterator[OwnRadius | FreeRadius]:
    if request.param == "freeradius":
        yield request.getfixturevalue("freeradius")
        return
    server = OwnRadius(new_folder("radius"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def edge(
    new_folder: NewFolder, edge_port: int, asterisk: Asterisk, radius: OwnRadius | FreeRadius
) -> Iterator[AccountedEdge]:
    server = AccountedEdge(new_folder("edge-accounted"), pbx=asterisk.uri, port=edge_port, radius=radius)
    yield server
    server.stop()


def test_a_call_from_start_to_stop(edge: AccountedEdge, radius: OwnRadius | FreeRadius, asterisk: Asterisk) -> None:
    with Wire(edge.sip, ALICE) as phone:
        call = phone.call("1000")
        wait_until(lambda: len(edge.accounting(call.call_id)) >= 3, timeout_s=10, what="two Interim-Updates")
        assert phone.hang_up(call).status == 200
        seconds = edge.wait_cdr(call.call_id)["duration_s"]

    def stopped() -> list[dict[str, str]]:
        records = edge.accounting(call.call_id)
        return records if records[-1]["Acct-Status-Type"] == "Stop" else []

    start, *updates, stop = wait_until(stopped, timeout_s=10, what="Stop")
    assert start["Acct-Status-Type"] == "Start"
    assert {each["Acct-Status-Type"] for each in updates} == {"Interim-Update"}
    assert "Acct-Session-Time" not in start
    lasted = [int(each["Acct-Session-Time"]) for each in (*updates, stop)]
    assert lasted == sorted(lasted)
    assert lasted[-1] == round(seconds)
    assert (stop["Acct-Terminate-Cause"], "Acct-Terminate-Cause" in start) == ("User-Request", False)
    for each in (start, *updates, stop):
        assert {name: each[name] for name in COMMON} == {name: start[name] for name in COMMON}
        assert each["User-Name"] == ALICE.login
        assert each["Acct-Session-Id"] == each["Acct-Multi-Session-Id"]
        assert each["Calling-Station-Id"] == f"sip:{ALICE.login}@{DOMAIN}"
        assert each["Called-Station-Id"] == f"sip:1000@{DOMAIN}"
        assert (each["NAS-Identifier"], each["Acct-Authentic"]) == (DOMAIN, "RADIUS")
        assert (each["Nomad-SIP-Method"], each["Nomad-SIP-Response-Code"]) == ("INVITE", "200")
        assert (each["Nomad-Direction"], each["Nomad-Number-Class"]) == ("out", "internal")
        assert each["Nomad-SIP-From-Tag"] in call.local
        assert each["Nomad-SIP-To-Tag"] in call.remote
        assert int(each["Acct-Delay-Time"]) <= 2
    if isinstance(radius, FreeRadius):
        assert bytes.fromhex(stop["Class"].removeprefix("0x")).decode() == f"{ALICE.login}@{DOMAIN}"
    else:
        wait_until(lambda: sql(radius, call.call_id)[0]["acctstoptime"], timeout_s=5, what="the Stop in SQL too")
        (row,) = sql(radius, call.call_id)
        assert (row["username"], row["acctsessionid"]) == (ALICE.login, stop["Acct-Session-Id"])
        assert (row["acctsessiontime"], row["acctterminatecause"]) == (round(seconds), "User-Request")
        begun, ended = (datetime.fromisoformat(row[f"acct{name}time"]) for name in ("start", "stop"))
        assert abs((ended - begun).total_seconds() - seconds) <= 1
    asterisk.wait_idle()


@pytest.mark.parametrize(
    ("number", "status", "cause", "rule"),
    [
        ("0899123456", "403", "NAS-Request", "class"),
        ("4486", "486", "Host-Request", ""),
        ("4404", "404", "User-Error", ""),
        ("4503", "500", "Service-Unavailable", ""),  # RFC 3261 16.7: a 503 goes no further as that
    ],
)
def test_calls_that_come_to_nothing(edge: AccountedEdge, number: str, status: str, cause: str, rule: str) -> None:
    with Wire(edge.sip, ALICE) as phone:
        invite = phone.compose("INVITE", f"sip:{number}@{DOMAIN}", body=phone.offer())
        answer = phone.ask_as_person(invite, timeout_s=10.0)
        assert answer.status == int(status)
        (stop,) = edge.wait_accounted(answer.get("Call-ID"), "Stop")
    assert (stop["Acct-Session-Time"], stop["Acct-Terminate-Cause"]) == ("0", cause)
    assert (stop["Nomad-SIP-Response-Code"], stop.get("Nomad-Rule", "")) == (status, rule)
    assert stop["Called-Station-Id"] == f"sip:{number}@{DOMAIN}"


def test_the_node_itself(edge: AccountedEdge, radius: OwnRadius | FreeRadius) -> None:
    assert "Accounting-On" in {each["Acct-Status-Type"] for each in radius.detail_records()}
    edge.restart()

    def seen() -> list[str]:
        states = [each["Acct-Status-Type"] for each in radius.detail_records()]
        return [each for each in states if each.startswith("Accounting-")]

    wait_until(lambda: seen()[-2:] == ["Accounting-Off", "Accounting-On"], timeout_s=10, what="Off and On")


def sql(radius: OwnRadius, call_id: str) -> list[dict[str, Any]]:
    """Rows of `radacct` about a call."""
    with contextlib.closing(sqlite3.connect(radius.folder / "radacct.db")) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM radacct WHERE sipcallid = ?", (call_id,)).fetchall()
    return [dict(row) for row in rows]
