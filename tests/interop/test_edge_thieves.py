"""A stolen password on the real edge, before a real PBX: no spelling of a login or a number gets more than another."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.harness.asterisk import Asterisk
from tests.harness.edge import POLICY, Edge
from tests.harness.people import ALICE, DOMAIN, group_dn
from tests.harness.wire import Message, Wire
from tests.interop.conftest import NewFolder

NUMBERS = """\
deny = ["premium"]
[numbers]
country = "FR"
[classes]
emergency = ["15", "112"]
internal = ["re:[0-9]{4}"]
national = ["0"]
international = ["+"]
premium = ["089"]
"""
GROUP = f"""\
[[group]]
name = "staff"
match = {{ ldap_group = "{group_dn("staff")}" }}
allow = ["internal", "national", "international"]
"""
# However a server writes the name down, it is one person
LOGINS = ("alice", "ALICE", "aLiCe", f"alice@{DOMAIN}", f"Alice@{DOMAIN.upper()}", "alice ")
PREMIUM = (
    "0899123456",
    "+33899123456",
    "0033899123456",
    "+33(0)899123456",
    "+33(0)(0)(0)(0)(0)(0)899123456",
    "0033 0899 123456".replace(" ", "-"),
    "%30%38%39%39123456",
    "0-8-9-9.12(34)56",
    "0899123456;phone-context=+33",
    "0899123456;postd=pp1",
    "+0033899123456",
    "000899123456",
    "0000899123456",
    "+33*899123456",
    "+33%23899123456",
    "%2B330000000000000000000899123456",
    "0899123456p1",
    "0899123456w1",
    "%D9%A0%D9%A8%D9%A9%D9%A9123456",
    "*21*0899123456%23",
)


@pytest.fixture(params=["embedded", "freeradius"])
def limited(
    request: pytest.FixtureRequest, new_folder: NewFolder, edge_port: int, asterisk: Asterisk
) -> Iterator[Edge]:
    """Two calls at once for everybody, with either RADIUS server."""
    radius = request.getfixturevalue("freeradius") if request.param == "freeradius" else None
    policy = f"{POLICY}max_concurrent_calls = 2\n"
    edge = Edge(new_folder("edge-thieves"), pbx=asterisk.uri, port=edge_port, radius=radius, policy=policy)
    yield edge
    edge.stop()


@pytest.fixture
def numbered(new_folder: NewFolder, edge_port: int, asterisk: Asterisk) -> Iterator[Edge]:
    """A site in France, where nobody calls premium numbers."""
    edge = Edge(new_folder("edge-numbers"), pbx=asterisk.uri, port=edge_port, policy=NUMBERS + GROUP)
    yield edge
    edge.stop()


def attempt(wire: Wire, uri: str) -> Message:
    return wire.ask_as_person(wire.compose("INVITE", uri, to=f"<sip:1000@{DOMAIN}>", body=wire.offer()))


def test_all_spellings_of_a_login_share_one_limit(limited: Edge, asterisk: Asterisk) -> None:
    """At once, as a script does it."""
    wires = [Wire(limited.sip, ALICE, login=login) for login in LOGINS for _ in range(4)]
    answers: list[Message] = []
    threads = [
        threading.Thread(target=lambda wire=wire: answers.append(attempt(wire, f"sip:1000@{DOMAIN}"))) for wire in wires
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(wires)
    assert sorted(answer.status for answer in answers)[:2] == [200, 200]
    assert sum(answer.status == 200 for answer in answers) == 2, [answer.first for answer in answers]
    assert {call["user"] for call in limited.get("/api/v1/calls")["calls"]} == {"alice"}
    limited.post("kick", user="alice")
    asterisk.wait_idle()
    for wire in wires:
        wire.close()


def test_no_spelling_of_a_premium_number_reaches_the_pbx(numbered: Edge, asterisk: Asterisk) -> None:
    uris = [f"sip:{number}@{DOMAIN}" for number in PREMIUM]
    uris += [f"sip:{PREMIUM[0]}@{DOMAIN};user=phone", f"sips:{PREMIUM[1]}@{DOMAIN}", "tel:+33-899-12-34-56"]
    uris += [f"sip:{PREMIUM[0]}@{host}" for host in (numbered.address, asterisk.uri.removeprefix("sip:"), "x.example")]
    uris += ["tel:0899123456;phone-context=+33", "tel:899123456;phone-context=+33", "TEL:+33899123456"]
    for uri in uris:
        with Wire(numbered.sip, ALICE) as thief:
            answer = attempt(thief, uri)
            assert answer.status in (400, 403, 404, 484), f"{uri}: {answer.first}"
    assert numbered.metrics().get("nomad_calls_active") == 0
    assert {record["result"] for record in numbered.cdrs()} == {"refused"}
    with Wire(numbered.sip, ALICE) as owner:
        assert owner.hang_up(owner.call("1000")).status == 200
    asterisk.wait_idle()


def test_a_request_uri_that_is_changed_after_the_challenge_is_refused(numbered: Edge) -> None:
    with Wire(numbered.sip, ALICE) as thief:
        request = thief.compose("INVITE", f"sip:1000@{DOMAIN}", body=thief.offer())
        ready = thief.authorize(request, thief.ask(request))
        answer = thief.ask(ready.replace(f"INVITE sip:1000@{DOMAIN}", f"INVITE sip:0139635511@{DOMAIN}"))
        assert (answer.status, answer.reason) == (403, "Digest uri is not the Request-URI")
    assert numbered.metrics().get("nomad_calls_active") == 0
