"""radclient ends and changes running calls through Asterisk (RFC 5176), and what it may not do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from secrets import token_hex
from typing import Any

import pytest

from tests.harness.asterisk import Asterisk
from tests.harness.edge import Edge
from tests.harness.freeradius import Reply, radclient, write_dictionary
from tests.harness.people import ALICE, BOB, DOMAIN
from tests.harness.ports import HOST, free_port
from tests.harness.processes import wait_until
from tests.harness.radius import SECRET
from tests.harness.wire import Dialog, Message, Wire
from tests.interop.conftest import NewFolder

STRANGER = "127.0.0.2"
CLASS = f"{ALICE.login}@{DOMAIN}"  # as deploy/freeradius gives it
TAKEN, ORDERS = "taken", "nomad_radius_orders_total"


class OrderedEdge(Edge):
    """An edge that takes orders from its host."""

    def _config(self, *arguments: object) -> str:
        self.order_port = free_port()
        text = super()._config(*arguments)  # type: ignore[arg-type]  # passed on as they are
        (self.folder / "radius.secret").write_text(SECRET)
        listen = f'disconnect_listen = "{HOST}:{self.order_port}"\ndisconnect_clients = ["{HOST}"]\n'
        if self.radius is None:
            return text.replace("[directory]\n", f'[radius]\nsecret_file = "radius.secret"\n{listen}[directory]\n', 1)
        return text.replace("[radius]\n", f"[radius]\n{listen}", 1)

    def order(
        self, attributes: dict[str, str], *, kind: str = "disconnect", secret: str = SECRET, port: int = 0
    ) -> Reply:
        """By radclient; the kind of the reply is "" when none came.

        Dated and marked: one whose octets come again by chance is taken for a replay, rightly.
        """
        server = f"{HOST}:{port or self.order_port}"
        attributes = {"Event-Timestamp": f"{int(time.time())}", "Proxy-State": f"0x{token_hex(8)}", **attributes}
        return radclient(server, kind, attributes, secret=secret, dictionary=self.folder, timeout_s=1.0)

    def counted(self, result: str) -> float:
        """Orders by what became of them."""
        return self.metric(ORDERS, result=result)


@pytest.fixture(scope="module", params=["embedded", "freeradius"])
def edge(
    request: pytest.FixtureRequest, new_folder: NewFolder, edge_port: int, asterisk: Asterisk
) -> Iterator[OrderedEdge]:
    radius = request.getfixturevalue("freeradius") if request.param == "freeradius" else None
    folder = new_folder(f"orders-{request.param}")
    write_dictionary(folder)
    server = OrderedEdge(folder, pbx=asterisk.uri, port=edge_port, radius=radius)
    asterisk.cli("pjsip set logger on")
    yield server
    asterisk.cli("pjsip set logger off")
    server.stop()


@pytest.fixture
def phone(edge: OrderedEdge, asterisk: Asterisk) -> Iterator[Wire]:
    """A registered phone; what is left of it after the test is ended."""
    with Wire(edge.sip, ALICE) as wire:
        assert wire.register().status == 200
        yield wire
        edge.order({"User-Name": ALICE.login})
    asterisk.wait_idle()


def session_of(edge: OrderedEdge) -> str:
    (call,) = edge.get("/api/v1/calls")["calls"]
    return str(call["id"])


def answer(phone: Wire, request: Message) -> None:
    copied = ("Via", "From", "To", "Call-ID", "CSeq")
    lines = [f"{name}: {value}" for name, value in request.headers if name in copied]
    phone.send("\r\n".join(["SIP/2.0 200 OK", *lines, "Content-Length: 0", "", ""]))


def assert_ended_on_both_legs(phone: Wire, call: Dialog, asterisk: Asterisk, *, since: float) -> None:
    """Each side got a BYE of its own dialog, within a second."""
    bye = phone.receive(1.0)
    assert bye is not None
    assert time.monotonic() - since < 1.0
    assert bye.first == f"BYE {phone.contact.strip('<>')} SIP/2.0"
    assert (bye.get("Call-ID"), bye.get("From"), bye.get("To")) == (call.call_id, call.remote, call.local)
    assert bye.get("CSeq").endswith(" BYE")
    answer(phone, bye)

    def received() -> list[str]:
        """Requests that Asterisk's log shows."""
        blocks = asterisk.output().split("<--- ")
        return [
            each for each in blocks if each.startswith("Received") and "\nBYE sip:" in each and call.call_id in each
        ]

    wait_until(received, timeout_s=max(0.1, since + 1.0 - time.monotonic()), what="a BYE at Asterisk")
    (block,) = received()
    assert f"From: {call.local}" in block
    assert f"To: {call.remote}" in block


@pytest.mark.parametrize("named", ["User-Name", "mail", "Acct-Session-Id", "Calling-Station-Id", "Class"])
def test_a_disconnect_ends_both_legs_within_a_second(
    edge: OrderedEdge, phone: Wire, asterisk: Asterisk, named: str
) -> None:
    call = phone.call("1000")
    edge.wait_accounted(call.call_id, "Start")
    session, taken = session_of(edge), edge.counted(TAKEN)
    order = {
        "User-Name": {"User-Name": ALICE.login},
        "mail": {"User-Name": ALICE.mail},
        "Acct-Session-Id": {"Acct-Session-Id": session},
        "Calling-Station-Id": {"Calling-Station-Id": f"sip:{ALICE.login}@{DOMAIN}"},
        "Class": {"Class": f"0x{CLASS.encode().hex()}"},
    }[named]
    if named == "Class" and edge.radius is None:  # the embedded server gives none unless it is told to
        assert edge.order(order).all("Error-Cause") == ["Session-Context-Not-Found"]
        order = {"Called-Station-Id": "1000"}
        taken += 1
    since = time.monotonic()
    assert edge.order(order).kind == "Disconnect-ACK"
    assert_ended_on_both_legs(phone, call, asterisk, since=since)
    asterisk.wait_idle()
    stop = edge.wait_accounted(call.call_id, "Start", "Stop")[-1]
    assert (stop["Acct-Session-Id"], stop["Acct-Terminate-Cause"]) == (session, "Admin-Reset")
    assert edge.wait_cdr(call.call_id)["terminate_cause"] == "Admin-Reset"
    assert edge.metric("nomad_calls_active") == 0
    assert edge.metric("nomad_registrations") == (0 if named in ("User-Name", "mail") else 1)
    assert edge.counted(TAKEN) == taken + 1
    again = edge.order(order)
    if named in ("User-Name", "mail"):  # the others' registration is still there, but no session
        assert edge.get("/api/v1/registrations")["total"] == 0
    assert (again.kind, again.all("Error-Cause")) == ("Disconnect-NAK", ["Session-Context-Not-Found"])


def test_only_the_call_that_is_meant_ends(edge: OrderedEdge, phone: Wire, asterisk: Asterisk) -> None:
    with Wire(edge.sip, BOB) as other:
        first, second = phone.call("1000"), other.call("1000")
        since = time.monotonic()
        assert edge.order({"User-Name": BOB.login}).kind == "Disconnect-ACK"
        assert_ended_on_both_legs(other, second, asterisk, since=since)
        assert edge.metric("nomad_calls_active") == 1
        assert phone.hang_up(first).status == 200
    edge.wait_accounted(first.call_id, "Start", "Stop")


def test_a_remembered_verdict_goes_with_the_person(edge: OrderedEdge, phone: Wire) -> None:
    served = "nomad_auth_verdicts_total"
    asked = "nomad_radius_requests_total"
    before = edge.metric(asked, kind="auth")
    assert phone.register().status == 200
    remembers = edge.radius is None  # FreeRADIUS tells no Digest-HA1: every login is asked for
    assert edge.metric(asked, kind="auth") == before + (0 if remembers else 1)
    known = edge.metric(served, why="served")
    assert edge.order({"User-Name": ALICE.login}).kind == "Disconnect-ACK"
    assert phone.register().status == 200
    assert edge.metric(asked, kind="auth") == before + (1 if remembers else 2)
    assert edge.metric(served, why="served") == known


def test_who_is_not_allowed_does_nothing(edge: OrderedEdge, phone: Wire) -> None:
    call = phone.call("1000")
    order = {"User-Name": ALICE.login}
    before = {reason: edge.counted(reason) for reason in ("authenticator", "unknown-client", TAKEN)}
    assert edge.order(order, secret="wrong-secret").kind == ""
    assert edge.order({**order, "Packet-Src-IP-Address": STRANGER}).kind == ""
    assert edge.counted("authenticator") == before["authenticator"] + 1
    assert edge.counted("unknown-client") == before["unknown-client"] + 1
    assert edge.counted(TAKEN) == before[TAKEN]
    assert edge.metric("nomad_calls_active") == 1
    assert edge.metric("nomad_registrations") == 1
    assert phone.hang_up(call).status == 200


def test_a_replay_does_nothing(edge: OrderedEdge, phone: Wire, asterisk: Asterisk) -> None:
    """The packet of a real radclient, overheard on its way, and sent again once the person calls again."""
    with Tap(edge.order_port) as tap:
        first = phone.call("1000")
        since = time.monotonic()
        assert edge.order({"User-Name": ALICE.login}, port=tap.port).kind == "Disconnect-ACK"
        assert_ended_on_both_legs(phone, first, asterisk, since=since)
    (packet,) = tap.packets
    assert phone.register().status == 200
    second = phone.call("1000")
    replays = edge.counted("replay")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
        attacker.connect((HOST, edge.order_port))
        attacker.settimeout(0.5)
        for _ in range(3):
            attacker.send(packet)
        with pytest.raises(TimeoutError):
            attacker.recv(4096)
    assert edge.counted("replay") == replays + 3
    assert edge.metric("nomad_calls_active") == 1
    assert edge.metric("nomad_registrations") == 1
    assert phone.hang_up(second).status == 200


def test_a_change_shortens_a_running_call(edge: OrderedEdge, phone: Wire, asterisk: Asterisk) -> None:
    call = phone.call("1000")
    edge.wait_accounted(call.call_id, "Start")
    reply = edge.order({"Acct-Session-Id": session_of(edge), "Session-Timeout": "2"}, kind="coa")
    assert reply.kind == "CoA-ACK"
    bye = phone.receive(6.0)
    assert bye is not None
    assert (bye.method, bye.get("Call-ID")) == ("BYE", call.call_id)
    answer(phone, bye)
    stop = edge.wait_accounted(call.call_id, "Start", "Stop")[-1]
    assert stop["Acct-Terminate-Cause"] == "Session-Timeout"
    assert 2 <= edge.wait_cdr(call.call_id)["duration_s"] < 5
    assert edge.metric("nomad_registrations") == 1


@pytest.mark.parametrize("kind", ["disconnect", "coa"])
def test_refusals_say_why(edge: OrderedEdge, phone: Wire, kind: str) -> None:
    call = phone.call("1000")
    change: dict[str, str] = {"Session-Timeout": "600"} if kind == "coa" else {}
    one = {"User-Name": ALICE.login, **change}
    for attributes, cause in (
        ({"Acct-Session-Id": "nobody", **change}, "Session-Context-Not-Found"),
        ({"User-Name": "nobody", **change}, "Session-Context-Not-Found"),
        ({"User-Name": BOB.login, "Acct-Session-Id": session_of(edge), **change}, "Session-Context-Not-Found"),
        ({**one, "Framed-MTU": "1500"}, "Unsupported-Attribute"),
        (change, "Missing-Attribute"),
        ({**one, "NAS-Identifier": "another"}, "NAS-Identification-Mismatch"),
        ({**one, "Service-Type": "Authorize-Only"}, "Unsupported-Service"),
    ):
        reply = edge.order(attributes, kind=kind)
        assert (reply.kind, reply.all("Error-Cause")) == (
            {"disconnect": "Disconnect-NAK", "coa": "CoA-NAK"}[kind],
            [cause],
        )
    if kind == "coa":
        for wrong in ({"Session-Timeout": "0"}, {"Acct-Interim-Interval": "59"}):
            reply = edge.order({"User-Name": ALICE.login, **wrong}, kind=kind)
            assert (reply.kind, reply.all("Error-Cause")) == ("CoA-NAK", ["Invalid-Attribute-Value"])
    assert edge.metric("nomad_calls_active") == 1
    assert phone.hang_up(call).status == 200


class Tap:
    """Passes datagrams to a port and back, and remembers what went in."""

    def __init__(self, port: int) -> None:
        self.packets: list[bytes] = []
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind((HOST, 0))
        self._back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._back.connect((HOST, port))
        self._thread = threading.Thread(target=self._pass, daemon=True)

    @property
    def port(self) -> int:
        """Where to send to."""
        return int(self._front.getsockname()[1])

    def __enter__(self) -> Tap:
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._thread.join(5)
        self._front.close()
        self._back.close()

    def _pass(self) -> None:
        """One request and its answer."""
        data, sender = self._front.recvfrom(4096)
        self.packets.append(data)
        self._back.send(data)
        self._front.sendto(self._back.recv(4096), sender)
