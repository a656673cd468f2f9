"""Each rule of the registrar against the edge as a process, by SIPp; and a GRUU called by a PBX."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from tests.harness.edge import POLICY, Edge
from tests.harness.people import ALICE, BOB, CAROL, DOMAIN, Person
from tests.harness.ports import HOST
from tests.harness.processes import wait_until
from tests.harness.sipp import Sipp, credentials
from tests.harness.wire import Wire
from tests.interop.conftest import NewFolder

PHONE = "<sip:[field0]@[local_ip]:[local_port]>"
MANAGED = f'{PHONE};reg-id=1;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000000000001>"'
PATH = "<sip:proxy.example;lr>"


@pytest.fixture(scope="module")
def pbx() -> Iterator[Wire]:
    """What calls from the inner side."""
    with Wire((HOST, 1)) as wire:
        yield wire


@pytest.fixture(scope="module")
def edge(new_folder: NewFolder, pbx: Wire) -> Iterator[Edge]:
    """An edge that lets everybody have one phone."""
    server = Edge(new_folder("edge-registrar"), pbx=f"sip:{HOST}:{pbx.port}", policy=POLICY + "max_devices = 1\n")
    pbx._target = server.sip
    yield server
    server.stop()


def run(
    edge: Edge, folder: Path, scenario: str, person: Person, expect: str, *, call_id: str = "", **values: str
) -> str:
    """Run a scenario to its end; everything that was said."""
    texts = {"CONTACT": PHONE, "HEADERS": "Expires: 600", **values, "EXPECT": escape(expect, {'"': "&quot;"})}
    fields = [(person.login, credentials(person.login, person.password))]
    done = Sipp(
        folder, scenario, target=edge.address, fields=fields, values=texts, call_id=call_id, timeout_s=10.0
    ).wait()
    assert (done.successful, done.failed) == (1, 0), done.errors
    return done.messages


def bindings(edge: Edge, person: Person) -> list[dict[str, object]]:
    found = edge.get(f"/api/v1/registrations?user={person.login}")["registrations"]
    return [binding for entry in found for binding in entry["bindings"]]


def remove_all(edge: Edge, person: Person) -> None:
    with Wire(edge.sip, person) as wire:
        star = wire.compose("REGISTER", f"sip:{DOMAIN}", to=wire.address, headers=["Expires: 0"])
        assert wire.ask_as_person(star.replace(wire.contact, "*")).status == 200
    assert bindings(edge, person) == []


@pytest.mark.parametrize(
    ("rule", "values", "expect"),
    [
        ("interval-too-brief", {"HEADERS": "Expires: 10", "CODE": "423"}, "Min-Expires: 60"),
        ("service-route", {"CODE": "200"}, f"Service-Route: <sip:{HOST}:[0-9]+;lr>"),
        (
            "path",
            {"HEADERS": f"Expires: 600\n    Supported: path\n    Path: {PATH}", "CODE": "200"},
            "Path: <sip:proxy[.]example;lr>",
        ),
        (
            "outbound",
            {"CONTACT": MANAGED, "HEADERS": "Expires: 600\n    Supported: outbound", "CODE": "200"},
            "Require: outbound.*Flow-Timer: 25",
        ),
        (
            "first-hop-lacks-outbound",
            {
                "CONTACT": MANAGED,
                "HEADERS": "Via: SIP/2.0/UDP 192.0.2.99;branch=z9hG4bKphone\n    Supported: path, outbound\n"
                f"    Path: {PATH}",
                "CODE": "439",
            },
            "439 First Hop Lacks Outbound Support",
        ),
        (
            "gruu",
            {"CONTACT": MANAGED, "HEADERS": "Expires: 600\n    Supported: gruu", "CODE": "200"},
            f'pub-gruu="sip:carol@{DOMAIN};gr=urn:uuid:[-0-9]+";temp-gruu="sip:tgruu[.][-_A-Za-z0-9]+@{DOMAIN};gr"',
        ),
        ("gruu-as-contact", {"CONTACT": f"<sip:bob@{DOMAIN};gr=urn:uuid:1>", "CODE": "403"}, "403 This contact"),
        ("not-a-sip-contact", {"CONTACT": "<mailto:carol@x>", "CODE": "403"}, "403 Contact must be a sip URI"),
    ],
)
def test_rule_of_one_request(edge: Edge, sipp_folder: Path, rule: str, values: dict[str, str], expect: str) -> None:
    remove_all(edge, CAROL)
    run(edge, sipp_folder, "register_rule", CAROL, expect, **values)
    assert len(bindings(edge, CAROL)) == (values["CODE"] == "200"), rule


def test_path_and_user_agent_are_shown(edge: Edge, sipp_folder: Path) -> None:
    run(
        edge, sipp_folder, "register_rule", ALICE, "Path: ", CODE="200",
        HEADERS=f"Expires: 600\n    Supported: path\n    Path: {PATH}",
    )  # fmt: skip
    (binding,) = bindings(edge, ALICE)
    assert (binding["path"], binding["user_agent"]) == ([PATH], "sipp")
    assert isinstance(binding["registered_at"], float)


@pytest.mark.parametrize(
    ("rule", "values", "expect", "left"),
    [
        (
            "star-removes-all",
            {"CONTACT_AGAIN": "*", "HEADERS_AGAIN": "Expires: 0", "CODE": "200"},
            "Service-Route|200 OK",
            0,
        ),
        ("star-needs-expires-0", {"CONTACT_AGAIN": "*", "HEADERS_AGAIN": "Expires: 60", "CODE": "400"}, "400 ", 1),
        ("newer-cseq", {"CODE": "200"}, "Contact: .*;expires=600", 1),
        ("device-limit", {"CONTACT_AGAIN": "<sip:second@192.0.2.77>", "CODE": "403"}, "403 Only 1 devices", 1),
        ("removal", {"HEADERS_AGAIN": "Expires: 0", "CODE": "200"}, "200 OK", 0),
    ],
)
def test_rule_of_two_requests(
    edge: Edge, sipp_folder: Path, rule: str, values: dict[str, str], expect: str, left: int
) -> None:
    defaults = {"CONTACT_AGAIN": PHONE, "HEADERS_AGAIN": "Expires: 600"}
    remove_all(edge, BOB)
    run(edge, sipp_folder, "register_again", BOB, expect, **{**defaults, **values})
    assert len(bindings(edge, BOB)) == left, rule


def test_an_older_request_of_one_call_id_changes_nothing(edge: Edge, sipp_folder: Path) -> None:
    remove_all(edge, BOB)
    contact = "<sip:bob@192.0.2.88>"
    run(edge, sipp_folder / "1", "register_rule", BOB, "200 OK", call_id="the-same", CONTACT=contact, CODE="200")
    before = bindings(edge, BOB)
    expect = "500 Out of order"
    run(edge, sipp_folder / "2", "register_rule", BOB, expect, call_id="the-same", CONTACT=contact, CODE="500")
    assert [each["peer"] for each in bindings(edge, BOB)] == [each["peer"] for each in before]


def test_a_pbx_calls_a_gruu(edge: Edge, pbx: Wire) -> None:
    remove_all(edge, BOB)
    with Wire(edge.sip, BOB) as phone:
        request = phone.compose("REGISTER", f"sip:{DOMAIN}", to=phone.address, headers=["Supported: gruu"])
        contact = f'{phone.contact};+sip.instance="<urn:uuid:5>"'
        answer = phone.ask_as_person(request.replace(phone.contact, contact))
        for gruu in re.findall(r'(?:pub|temp)-gruu="([^"]*)"', answer.get("Contact")):
            pbx.send(invite := pbx.compose("INVITE", gruu, body=pbx.offer()))
            rings = phone.receive()
            assert rings is not None
            assert rings.first == f"INVITE {phone.contact[1:-1]} SIP/2.0"
            copied = [f"{name}: {value}" for name, value in rings.headers if name in ("Via", "From", "Call-ID", "CSeq")]
            lines = [*copied, f"To: {rings.get('To')};tag=1", "Content-Length: 0", "", ""]
            phone.send("\r\n".join(["SIP/2.0 486 Busy Here", *lines]))
            assert pbx.final(invite).status == 486
            ack = phone.receive()
            assert ack is not None
            assert ack.method == "ACK"
        nowhere = pbx.ask(pbx.compose("INVITE", f"sip:{BOB.login}@{DOMAIN};gr=urn:uuid:6", body=pbx.offer()))
        assert nowhere.status == 480


def holds(folder: Path, request: str) -> bool:
    """Whether the Call-ID of a request is in the files of the spool."""
    call_id = re.findall(r"Call-ID: (\S+)", request)[0].encode()
    return any(call_id in path.read_bytes() for path in folder.glob("*spool*"))


def test_a_phone_watches_a_gruu_through_a_crash(edge: Edge) -> None:
    remove_all(edge, BOB)
    with Wire(edge.sip, BOB) as bob, Wire(edge.sip, ALICE) as alice:
        request = bob.compose("REGISTER", f"sip:{DOMAIN}", to=bob.address, headers=["Supported: gruu"])
        answer = bob.ask_as_person(request.replace(bob.contact, f'{bob.contact};+sip.instance="<urn:uuid:7>"'))
        (gruu,) = re.findall(r'pub-gruu="([^"]*)"', answer.get("Contact"))
        refused = alice.ask_as_person(alice.compose("REFER", gruu, headers=[f"Refer-To: <sip:1000@{DOMAIN}>"]))
        assert refused.first == "SIP/2.0 403 You are in no call with this person"
        lamp = ["Event: dialog", "Expires: 120"]
        challenge = alice.ask(subscribe := alice.compose("SUBSCRIBE", gruu, headers=lamp))
        alice.send(authorized := alice.authorize(subscribe, challenge))
        asked = bob.receive()
        assert asked is not None
        assert asked.first == f"SUBSCRIBE {bob.contact[1:-1]} SIP/2.0"
        route = [f"Record-Route: {value}" for value in asked.all("Record-Route")]
        more = "\r\n".join([f"Contact: {bob.contact}", "Expires: 120", *route, "Content-Length: 0"])
        accepted = bob.answer(asked, 200).replace(asked.get("To"), f"{asked.get('To')};tag=watched")
        bob.send(accepted.replace("Content-Length: 0", more))
        assert alice.final(authorized).status == 200
        for state in ("active", "terminated"):
            notify = bob.compose(
                "NOTIFY",
                alice.contact[1:-1],
                call_id=asked.get("Call-ID"),
                from_=f"{asked.get('To')};tag=watched",
                to=asked.get("From"),
                cseq=1 + (state == "terminated"),
                headers=[f"Route: {asked.get('Record-Route')}", "Event: dialog", f"Subscription-State: {state}"],
            )
            bob.send(notify)
            news = alice.receive()
            assert news is not None
            assert (news.method, news.get("Subscription-State")) == ("NOTIFY", state)
            alice.send(alice.answer(news, 200))
            assert bob.final(notify).status == 200
            if state == "active":
                wait_until(partial(holds, edge.folder, notify), timeout_s=5, what="the subscription on the disk")
                edge.kill9()
                edge.start()
                assert edge.metric("nomad_subscriptions") == 1
        assert edge.metric("nomad_subscriptions") == 0
