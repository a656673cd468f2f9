"""A PBX known by name: several targets under load, addresses that change, a DNS that falls silent (RFC 3263)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.asterisk import Asterisk
from tests.harness.debian import require
from tests.harness.nameserver import NameServer
from tests.harness.people import ALICE, DOMAIN
from tests.harness.pki import Pki
from tests.harness.ports import HOST, free_port
from tests.harness.processes import wait_until
from tests.harness.secure import SecureEdge
from tests.harness.sipp import Sipp, credentials
from tests.harness.wire import Message, Wire, new_call_id
from tests.interop.conftest import NewFolder

PBX = "pbx.test"
SERVICE = f"_sip._udp.{PBX}"


@pytest.fixture
def names() -> Iterator[NameServer]:
    server = NameServer({(PBX, "NAPTR"): [f'10 10 "s" "SIP+D2U" "" {SERVICE}.'], (f"a.{PBX}", "A"): ["127.0.0.1"]})
    yield server
    server.stop()


def edge_by_name(new_folder: NewFolder, names: NameServer) -> SecureEdge:
    return SecureEdge(new_folder("edge-dns"), pbx=f"sip:{PBX}", sip=[f'nameservers = ["{names.address}"]'])


def test_a_target_that_goes_away_under_load(names: NameServer, new_folder: NewFolder, sipp_folder: Path) -> None:
    calls, first_calls = 40, 10
    first = Sipp(sipp_folder / "first", "answer", calls=first_calls)  # takes so many, and no more
    second = Sipp(sipp_folder / "second", "answer", calls=1000)
    names.zone[SERVICE, "SRV"] = [f"1 0 {first.port} a.{PBX}.", f"2 0 {second.port} a.{PBX}."]
    edge = edge_by_name(new_folder, names)
    try:
        run = Sipp(
            sipp_folder / "caller",
            "call_challenged",
            target=edge.address,
            fields=[(ALICE.login, credentials(ALICE.login, ALICE.password), "1000")],
            values={"HOLD_MS": "300"},
            calls=calls,
            rate=10,
            auth_uri=f"1000@{DOMAIN}",
        ).wait()
        assert (run.successful, run.failed) == (calls, 0), run.errors
        assert edge.metric("nomad_pbx_failures_total", reason="silent") >= 1
        assert second.messages().count("CSeq: 1 INVITE") + second.messages().count("CSeq: 2 INVITE") > 0
        wait_until(lambda: len(edge.cdrs()) == calls, timeout_s=5, what="call records")
        assert {record["result"] for record in edge.cdrs()} == {"answered"}
        assert "pbx-failed pbx=pbx" in edge.log()
    finally:
        edge.stop()
        first.stop()
        second.stop()


def test_a_pbx_that_moves_is_followed_and_a_silent_dns_is_survived(names: NameServer, new_folder: NewFolder) -> None:
    with Wire(("127.0.0.1", 9)) as old, Wire(("127.0.0.1", 9)) as new:

        def point_at(pbx: Wire) -> None:
            names.zone[SERVICE, "SRV"] = [f"1 0 {pbx.port} a.{PBX}."]

        point_at(old)
        edge = edge_by_name(new_folder, names)
        try:
            with Wire(edge.sip, ALICE) as phone:
                assert phone.register().status == 200
                assert [_invited_from(pbx, edge) for pbx in (old, new)] == [100, 407]
                assert _called(phone, old)
                point_at(new)
                wait_until(lambda: "pbx-moved" in edge.log(), timeout_s=15, what="the new address")
                assert [_invited_from(pbx, edge) for pbx in (old, new)] == [407, 100]
                assert _called(phone, new)
                names.silent = True
                asked = names.questions
                wait_until(lambda: names.questions > asked, timeout_s=15, what="a question without answer")
                assert _called(phone, new, timeout_s=10)
                assert _invited_from(new, edge) == 100
        finally:
            edge.kill9()  # calls that ring would hold up a stop in good order
            edge.check_log()


def _invited_from(pbx: Wire, edge: SecureEdge) -> int:
    """The first status when this address calls a person."""
    call_id = new_call_id()
    pbx._target = edge.sip
    uri = f"sip:{ALICE.extension}@{edge.address}"
    pbx.send(pbx.compose("INVITE", uri, call_id=call_id, body=pbx.offer()))
    while (answer := pbx.receive()) is not None:
        if answer.status and answer.get("Call-ID") == call_id:  # others are sent again meanwhile
            return answer.status
    return 0


def _called(phone: Wire, pbx: Wire, *, timeout_s: float = 3.0) -> bool:
    """Whether a call of the phone comes to this PBX."""
    invite = phone.compose("INVITE", f"sip:1000@{DOMAIN}", body=phone.offer())
    challenge = phone.ask(invite)
    phone.send(phone.authorize(invite, challenge))
    call_id = challenge.get("Call-ID")
    seen: Message | None
    while (seen := pbx.receive(timeout_s)) is not None:
        if seen.method == "INVITE" and seen.get("Call-ID") == call_id:
            return True
    return False


@pytest.mark.parametrize(("shown", "status"), [(PBX, 200), ("other.test", 503)])
def test_a_pbx_over_tls_must_show_its_name(
    names: NameServer, new_folder: NewFolder, pki: Pki, shown: str, status: int
) -> None:
    require("asterisk")
    port = free_port()
    pbx = Asterisk(new_folder("asterisk-tls"), edge=f"{HOST}:{port}", certificate=pki.issue("pbx", names=(shown,)))
    names.zone.update({(f"_sips._tcp.{PBX}", "SRV"): [f"1 0 {pbx.tls_port} a.{PBX}."]})
    lines = [f'nameservers = ["{names.address}"]', f'ca_file = "{pki.ca}"']
    edge = SecureEdge(new_folder("edge-pbx-tls"), pbx=f"sip:{PBX};transport=tls", port=port, sip=lines)
    try:
        with Wire(edge.sip, ALICE) as phone:
            if status == 200:
                call = phone.call("1000")
                assert phone.hang_up(call).status == 200
                edge.wait_accounted(call.call_id, "Start", "Stop")
                pbx.wait_idle()
            else:
                invite = phone.compose("INVITE", f"sip:1000@{DOMAIN}", body=phone.offer())
                assert phone.ask_as_person(invite).status == status
                assert edge.metric("nomad_pbx_failures_total", reason="unreachable") == 1
                assert f"the certificate is not for {PBX} but for {shown}" in edge.log()
    finally:
        edge.stop()
        pbx.stop()


@pytest.mark.parametrize("shown", [True, False])
def test_a_pbx_over_tls_may_demand_a_certificate(
    names: NameServer, new_folder: NewFolder, pki: Pki, shown: bool
) -> None:
    require("asterisk")
    port, made, ours = free_port(), pki.issue("pbx", names=(PBX,)), pki.issue("ours", names=(DOMAIN,))
    pbx = Asterisk(new_folder("asterisk-mtls"), edge=f"{HOST}:{port}", certificate=made, client_ca=pki.ca)
    names.zone.update({(f"_sips._tcp.{PBX}", "SRV"): [f"1 0 {pbx.tls_port} a.{PBX}."]})
    lines = [f'nameservers = ["{names.address}"]', f'ca_file = "{pki.ca}"']
    if shown:
        lines += [f'pbx_certificate = "{ours.certificate}"', f'pbx_private_key = "{ours.key}"']
    edge = SecureEdge(new_folder("edge-mtls"), pbx=f"sip:{PBX};transport=tls", port=port, sip=lines)
    try:
        with Wire(edge.sip, ALICE) as phone:
            if shown:
                call = phone.call("1000")
                assert phone.hang_up(call).status == 200
                edge.wait_accounted(call.call_id, "Start", "Stop")
                pbx.wait_idle()
            else:
                invite = phone.compose("INVITE", f"sip:1000@{DOMAIN}", body=phone.offer())
                assert phone.ask_as_person(invite).status == 503
                assert "pbx-failed" in edge.log()
    finally:
        edge.stop()
        pbx.stop()
