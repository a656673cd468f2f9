"""RADIUS is killed under a load of real calls, and the edge with it: nothing is lost, nothing is counted twice.

SIPp calls Asterisk through the edge at CALLS_PER_S. NOMAD_OUTAGE_S says how long RADIUS is away: not long by default,
60 for the whole truth.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.harness.asterisk import Asterisk
from tests.harness.freeradius import FreeRadius, radclient, write_dictionary
from tests.harness.people import ALICE, BOB, CAROL, DOMAIN, SAMPLE, Person, crowd
from tests.harness.ports import HOST
from tests.harness.processes import wait_until
from tests.harness.radius import SECRET, OwnRadius
from tests.harness.sipp import Result, Sipp, credentials
from tests.harness.wire import Wire
from tests.interop.conftest import NewFolder
from tests.interop.test_orders import OrderedEdge

OUTAGE_S = float(os.environ.get("NOMAD_OUTAGE_S", "8"))
CALLS_PER_S = 5
BEFORE_S, AFTER_S, HOLD_S = 5, 8, 4
TIMEOUT_S, MARGIN_S = 1.0, 0.7
DRAINED_S = 60.0
ORPHAN_S = 15  # limit of the call whose phone is gone
KNOWN = (ALICE, BOB, CAROL)
DATE = "%b %d %Y %H:%M:%S %Z"  # Event-Timestamp in FreeRADIUS's detail file


@dataclass
class Site:
    """A RADIUS server that can be killed, and an edge before it."""

    edge: OrderedEdge
    radius: OwnRadius | FreeRadius
    asterisk: Asterisk
    folder: Path
    fresh: Iterator[Person]  # people whom the edge does not remember
    past: int  # accounting records of other tests at this RADIUS server

    def accounting(self) -> list[dict[str, str]]:
        """What the RADIUS server has written down of the calls of this test."""
        return self.edge.accounting()[self.past :]

    @property
    def remembers(self) -> bool:
        """Whether the edge may let in whom RADIUS let in before: FreeRADIUS tells it no Digest-HA1."""
        return isinstance(self.radius, OwnRadius)

    def load(self, seconds: float) -> Sipp:
        """Start the callers; they must all end well, served or refused with 503."""
        calls = int(seconds * CALLS_PER_S)
        fields = [(each.login, credentials(each.login, each.password), "1000") for each in KNOWN]
        return Sipp(
            self.folder / "sipp",
            "call_or_503",
            target=self.edge.address,
            fields=fields,
            values={"HOLD_MS": str(HOLD_S * 1000)},
            calls=calls,
            rate=CALLS_PER_S,
            auth_uri=f"1000@{DOMAIN}",
            timeout_s=seconds + 60,
        )

    def wait_drained(self) -> None:
        """Wait until RADIUS has everything."""
        wait_until(
            lambda: self.edge.metric("nomad_accounting_spool_records") == 0, timeout_s=DRAINED_S, what="empty spool"
        )


@pytest.fixture(params=["own", "freeradius"])
def site(
    request: pytest.FixtureRequest, new_folder: NewFolder, edge_port: int, asterisk: Asterisk, sipp_folder: Path
) -> Iterator[Site]:
    folder = new_folder(f"outage-{request.param}")
    write_dictionary(folder)
    people = [*SAMPLE, *crowd(200)]
    own = request.param == "own"
    radius = OwnRadius(folder / "radius", people=people) if own else request.getfixturevalue("freeradius")
    edge = OrderedEdge(folder, pbx=asterisk.uri, port=edge_port, radius=radius, timeout_s=TIMEOUT_S)
    fresh = iter(people[len(SAMPLE) :] if own else [BOB] * 200)
    yield Site(edge, radius, asterisk, sipp_folder.parent, fresh, past=len(edge.accounting()))
    edge.stop()
    if own:
        radius.stop()
    asterisk.hang_up_all()  # what a test that failed left behind
    asterisk.wait_idle()


def test_nothing_is_lost_or_doubled_while_radius_is_gone(site: Site) -> None:
    edge = site.edge
    answered_before = answered(site.asterisk)
    remember_everybody(edge)
    sipp = site.load(BEFORE_S + OUTAGE_S + AFTER_S)
    wait_until(lambda: edge.metric("nomad_calls_active") > CALLS_PER_S, timeout_s=15, what="calls under way")
    site.radius.kill()
    sit_out(site, OUTAGE_S, remembers=site.remembers)
    assert edge.metric("nomad_accounting_spool_records") > 0
    assert edge.metric("nomad_accounting_oldest_seconds") > OUTAGE_S / 2
    site.radius.start()
    back = time.time()
    result = sipp.wait()
    site.asterisk.wait_idle()
    site.wait_drained()
    served, refused = outcome(result)
    assert (result.failed, len(served) + len(refused)) == (0, result.successful)
    assert bool(refused) is not site.remembers, "phones with a valid verdict stay served, others are refused"
    records = [each for each in site.accounting() if each["Nomad-SIP-Call-Id"] in served | refused]
    assert_each_call_once(site, records, served)
    assert answered(site.asterisk) - answered_before == len(served)
    assert sum(each["result"] == "answered" for each in edge.get("/api/v1/cdrs?limit=5000")["cdrs"]) == len(served)
    waited = assert_delays_are_true(records)
    assert max(waited.values()) > OUTAGE_S / 2, "what happened during the outage says so"
    late = [delay for id, delay in waited.items() if event_at(id, records) > back + 5]
    assert late, "calls went on afterwards"
    assert max(late) <= 5


def test_the_same_with_the_edge_killed_in_the_middle(site: Site) -> None:
    edge = site.edge
    remember_everybody(edge)
    with Wire(edge.sip, ALICE) as kept, Wire(edge.sip, BOB) as gone:
        call, orphan = kept.call("1000"), gone.call("1000")
        (session,) = [each["id"] for each in edge.get("/api/v1/calls")["calls"] if each["user"] == BOB.login]
        limit = {"Acct-Session-Id": str(session), "Session-Timeout": str(ORPHAN_S + int(OUTAGE_S))}
        server = f"{HOST}:{edge.order_port}"
        assert radclient(server, "coa", limit, secret=SECRET, dictionary=edge.folder).kind == "CoA-ACK"
        sipp = site.load(BEFORE_S + OUTAGE_S + AFTER_S)
        wait_until(lambda: edge.metric("nomad_calls_active") > CALLS_PER_S + 2, timeout_s=15, what="calls under way")
        site.radius.kill()
        began = time.monotonic()
        wait_until(
            lambda: time.monotonic() - began >= OUTAGE_S / 2 and edge.metric("nomad_calls_active") >= 2,
            timeout_s=OUTAGE_S,
            what="the middle of the outage",
        )
        up = {str(each["id"]) for each in edge.get("/api/v1/calls")["calls"] if each["state"] == "answered"}
        edge.kill9()
        edge.start()
        assert {str(each["id"]) for each in edge.get("/api/v1/calls")["calls"]} & {str(session)}
        assert kept.hang_up(call).status == 200  # a call set up before gets its BYE routed
        seconds = time.time() - call.established_at
        sit_out(site, OUTAGE_S / 2, remembers=False)  # what was remembered died with the edge
        site.radius.start()
        result = sipp.wait()
    # The phone of the orphan is gone, and so is its registration's flow: only its limit ends the call
    stop = edge.wait_cdr(orphan.call_id, timeout_s=ORPHAN_S + OUTAGE_S + 10)
    # A call that was answered at the crash and never acknowledged is ended by the PBX, after 32 s
    site.asterisk.wait_idle(timeout_s=40)
    wait_until(lambda: edge.metric("nomad_calls_active") == 0, timeout_s=10, what="no call in progress")
    site.wait_drained()
    assert stop["terminate_cause"] == "Session-Timeout"
    assert stop["duration_s"] == pytest.approx(ORPHAN_S + int(OUTAGE_S), abs=2)
    assert edge.wait_cdr(call.call_id)["duration_s"] == pytest.approx(seconds, abs=1)
    served, refused = outcome(result)
    # Calls that were being set up at that moment may have come to a bad end, no others
    assert result.failed <= 2 * CALLS_PER_S
    everything = site.accounting()
    records = [each for each in everything if each["Nomad-SIP-Call-Id"] not in refused]
    assert_each_call_once(site, records, {*served, call.call_id, orphan.call_id}, more=True)
    ended = {each["Acct-Session-Id"] for each in records if each["Acct-Status-Type"] == "Stop"}
    assert up <= ended, "every call that was up at the crash has its Stop"
    causes = {each["Nomad-SIP-Call-Id"]: each.get("Acct-Terminate-Cause") for each in records}
    assert causes[call.call_id] == "User-Request"
    assert causes[orphan.call_id] == "Session-Timeout"
    truth = talked(result)
    for each in records:
        if each["Acct-Status-Type"] == "Stop" and each["Nomad-SIP-Call-Id"] in served:
            assert int(each["Acct-Session-Time"]) == pytest.approx(truth[each["Nomad-SIP-Call-Id"]], abs=2)
    assert_delays_are_true(everything)
    assert edge.metric("nomad_calls_active") == 0
    edge.restart()
    assert edge.metric("nomad_calls_active") == 0, "and none is left in the store"


def remember_everybody(edge: OrderedEdge) -> None:
    """Each of the callers logs in once."""
    for person in KNOWN:
        with Wire(edge.sip, person) as phone:
            assert phone.register().status == 200


def sit_out(site: Site, seconds: float, *, remembers: bool) -> None:
    """The outage: once a second somebody unknown tries to get in, somebody known does, and OPTIONS is answered."""
    began = time.monotonic()
    attempts = 0
    with Wire(site.edge.sip, CAROL) as known:
        while time.monotonic() - began < seconds:
            attempts += 1
            started = time.monotonic()
            try_to_get_in(site, known, attempts, remembers=remembers)
            wait_until(lambda: time.monotonic() - started >= 1.0, timeout_s=5, what="the next second")  # noqa: B023
    assert attempts >= seconds / 4


def try_to_get_in(site: Site, known: Wire, attempts: int, *, remembers: bool) -> None:
    """A phone that RADIUS did not let in lately gets 503 in time; `remembers`: one that it did is served."""
    with Wire(site.edge.sip, next(site.fresh)) as fresh:
        method = ("REGISTER", "INVITE")[attempts % 2]
        uri, to = (f"sip:{DOMAIN}", fresh.address) if method == "REGISTER" else (f"sip:1000@{DOMAIN}", "")
        request = fresh.compose(method, uri, to=to, body=fresh.offer() if method == "INVITE" else "")
        request = fresh.authorize(request, fresh.ask(request))
        sent = time.monotonic()
        fresh.send(request)
        assert known.ask(known.compose("OPTIONS", f"sip:{site.edge.address}")).status == 200
        assert time.monotonic() - sent < MARGIN_S, "nobody waits for RADIUS who need not"
        refusal = fresh.final(request)
        assert time.monotonic() - sent < TIMEOUT_S + MARGIN_S
        assert refusal.status == 503
        assert int(refusal.get("Retry-After")) > 0
        if remembers:
            assert known.register().status == 200


def answers(result: Result) -> Iterator[tuple[float, str, int, str]]:
    """What SIPp received: when, Call-ID, status, CSeq."""
    for at, block in re.findall(r"^-{20,} (\S+ \S+)\n(.*?)(?=^-{20,}|\Z)", result.messages, re.MULTILINE | re.DOTALL):
        status = re.search(r"^SIP/2.0 (\d+)", block, re.MULTILINE)
        call_id = re.search(r"^Call-ID: (\S+)", block, re.MULTILINE | re.IGNORECASE)
        cseq = re.search(r"^CSeq: ([^\r\n]+)", block, re.MULTILINE | re.IGNORECASE)
        if "message received" in block and status and call_id and cseq:
            yield datetime.fromisoformat(at).timestamp(), call_id[1], int(status[1]), cseq[1]


def outcome(result: Result) -> tuple[set[str], set[str]]:
    """Call-IDs of calls that were served to their end, and of those that got 503."""
    seen = list(answers(result))
    served = {call_id for _, call_id, status, cseq in seen if (status, cseq) == (200, "3 BYE")}
    return served, {call_id for _, call_id, status, _ in seen if status == 503}


def talked(result: Result) -> dict[str, float]:
    """By Call-ID: seconds from the answer of the call to that of its BYE, which may have waited for the edge."""
    begun: dict[str, float] = {}
    ended: dict[str, float] = {}
    for at, call_id, status, cseq in answers(result):
        if (status, cseq) == (200, "2 INVITE"):
            begun.setdefault(call_id, at)
        elif (status, cseq) == (200, "3 BYE"):
            ended.setdefault(call_id, at)
    return {call_id: at - begun[call_id] for call_id, at in ended.items()}


def assert_each_call_once(site: Site, records: list[dict[str, str]], calls: set[str], *, more: bool = False) -> None:
    """One Start and one Stop for each; `more`: others, which the crash cut, may have theirs too.

    FreeRADIUS also writes down what comes again because its answer came too late: a copy with another Acct-Delay-Time.
    """
    names = ["Nomad-SIP-Call-Id", "Acct-Status-Type", "Event-Timestamp", "Acct-Session-Time"]
    events = [tuple(each.get(name) for name in names) for each in records]
    if isinstance(site.radius, FreeRadius):
        events = list(set(events))
    seen = Counter((call, status) for call, status, *_ in events if status in ("Start", "Stop"))
    missing = {(call, status) for call in calls for status in ("Start", "Stop")} - set(seen)
    doubled = {key: count for key, count in seen.items() if count > 1}
    assert not missing, f"lost: {missing}"
    assert not doubled, f"doubled: {doubled}"
    if not more:
        assert {call for call, _ in seen} == calls
    sessions: dict[str, set[str]] = {}
    for each in records:
        sessions.setdefault(each["Acct-Session-Id"], set()).add(each["Nomad-SIP-Call-Id"])
    assert all(len(ids) == 1 for ids in sessions.values())
    starts = {call for call, status in seen if status == "Start"}
    assert starts == {call for call, status in seen if status == "Stop"}


def assert_delays_are_true(records: list[dict[str, str]]) -> dict[tuple[str, str], int]:
    """Acct-Delay-Time is what lies between the event and its arrival; by session and state."""
    waited = {}
    for each in records:
        delay = int(each["Acct-Delay-Time"])
        came = float(each.get("received_at") or each["Timestamp"])
        assert came - moment(each) == pytest.approx(delay, abs=TIMEOUT_S + 2)
        waited[each["Acct-Session-Id"], each["Acct-Status-Type"]] = delay
    return waited


def event_at(key: tuple[str, str], records: list[dict[str, str]]) -> float:
    return next(moment(each) for each in records if (each["Acct-Session-Id"], each["Acct-Status-Type"]) == key)


def moment(record: dict[str, str]) -> float:
    """Event-Timestamp, as either server writes it."""
    text = record["Event-Timestamp"]
    if text.isdecimal():
        return float(text)
    return datetime.strptime(text, DATE).replace(tzinfo=UTC).timestamp()


def answered(asterisk: Asterisk) -> int:
    """Calls that the PBX answered and that have ended."""
    return sum(each["disposition"] == "ANSWERED" for each in asterisk.cdrs())
