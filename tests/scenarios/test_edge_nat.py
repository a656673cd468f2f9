"""Phones behind NATs, an edge behind one, and an edge with two homes (RFC 3581, RFC 5626, RFC 3261 18.2)."""

from __future__ import annotations

import pytest

from nomad.config import Sip
from nomad.sip.message import Request, Response
from tests.harness.line import EDGE
from tests.harness.peers import DOMAIN, SDP, Phone, dialog_of_callee, dialog_of_caller
from tests.harness.rig import PBX_ADDRESS, Rig, on_rig

PRIVATE = "192.168.1.10:5060"
NAT = "203.0.113.50"
BEHIND_NAT = Sip(listen=("udp:192.0.2.1:5060", "tcp:192.0.2.1:5060"), advertise="198.18.0.1")


async def register(
    phone: Phone, *, inside: str = PRIVATE, call_id: str = "one@phone", params: str = "", supported: str = ""
) -> Response:
    """As a phone does that knows its private address only."""
    request = phone.make("REGISTER", f"sip:{DOMAIN}", call_id=call_id, headers=[("expires", "600")])
    request.replace_first("via", f"SIP/2.0/UDP {inside};branch=z9hG4bKp{phone.flow.remote[1]}{next(phone.cseq)};rport")
    request.set("contact", f"<sip:{phone.user}@{inside}>{params}")
    if supported:
        request.add("supported", supported)
    await phone.login(request)
    return await phone.response(200)


async def rings(rig: Rig, phone: Phone, extension: str = "1002") -> Request:
    """Call; the phone must ring, and what is sent to where nobody is must not grow."""
    lost = len(rig.network.lost)
    rig.pbx.invite(extension)
    invite = await phone.request("INVITE")
    phone.reply(invite, 486)
    await rig.pbx.response(486)
    assert len(rig.network.lost) == lost
    return invite


@on_rig()
async def test_two_phones_with_one_private_address_behind_two_nats(rig: Rig) -> None:
    one, two = rig.phone("bob"), rig.phone("bob")
    await register(one, call_id="one")
    await register(two, call_id="two")
    rig.pbx.invite("1002")
    for phone in (one, two):
        phone.reply(await phone.request("INVITE"), 486)
    await rig.pbx.response(486)


@on_rig()
async def test_two_phones_behind_one_nat(rig: Rig) -> None:
    one, two, other = rig.phone("bob"), rig.phone("bob"), rig.phone("alice")
    for number, phone in enumerate((one, two, other)):
        phone.move((NAT, 40_000 + number))
        phone.send(phone.make("OPTIONS", f"sip:{DOMAIN}", headers=[]).encode().replace(NAT.encode(), b"192.168.1.9", 1))
        via = (await phone.response(200)).vias[0]
        assert (via.received, via.rport) == (NAT, 40_000 + number)
        await register(phone, inside=f"192.168.1.{10 + number}:5060", call_id=f"call-{number}")
    assert len((await rig.locations.get("bob")).bindings) == 2
    rig.pbx.invite("1002")
    for phone in (one, two):
        phone.reply(await phone.request("INVITE"), 486)
    await rig.pbx.response(486)
    await other.quiet()
    await rings(rig, other, "1001")
    # one of them leaves: only its own binding goes
    request = two.make("REGISTER", f"sip:{DOMAIN}", call_id="call-1", headers=[("expires", "0")])
    request.set("contact", "<sip:bob@192.168.1.11:5060>")
    request.set("cseq", "90 REGISTER")
    await two.login(request)
    await two.response(200)
    two.inbox.clear()
    await rings(rig, one)
    await two.quiet()


@pytest.mark.parametrize("params", ["", ';+sip.instance="<urn:uuid:1>"', ';+sip.instance="<urn:uuid:1>";reg-id=1'])
@pytest.mark.parametrize("address", [NAT, "203.0.113.99"])
def test_rebound_flow_moves_the_binding(params: str, address: str) -> None:
    @on_rig()
    async def run(rig: Rig) -> None:
        phone = rig.phone("bob")
        supported = "outbound" if "reg-id" in params else ""
        phone.move((NAT, 40_000))
        await register(phone, params=params, supported=supported)
        phone.move((address, 50_000))  # the NAT forgot the old mapping; the phone knows nothing of it
        await register(phone, params=params, supported=supported)
        (binding,) = (await rig.locations.get("bob")).bindings
        assert binding.flow == phone.flow
        await rings(rig, phone)

    run()


@on_rig()
async def test_rebound_phone_that_writes_its_new_address_leaves_no_dead_binding(rig: Rig) -> None:
    phone = rig.phone("bob")
    for number in range(3):  # the same Call-ID each time, a Contact of what STUN or rport told it
        phone.move((NAT, 40_000 + number))
        await register(phone, inside=f"{NAT}:{40_000 + number}")
    (binding,) = (await rig.locations.get("bob")).bindings
    assert binding.flow == phone.flow
    await rings(rig, phone)


@on_rig()
async def test_call_goes_on_after_its_phone_was_rebound(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    phone.move((NAT, 50_000))
    phone.send(info := talk.caller.request("INFO", phone.via()))
    phone.send(phone.answer_challenge(info, await phone.response(407)))
    rig.pbx.reply(await rig.pbx.request("INFO"), 200)
    await phone.response(200)
    rig.pbx.send(talk.callee.request("BYE", rig.pbx.via()))
    phone.reply(await phone.request("BYE"), 200)
    await rig.pbx.response(200)


@on_rig(sip=BEHIND_NAT)
async def test_edge_behind_a_nat_shows_phones_the_outer_address_and_the_pbx_its_own(rig: Rig) -> None:
    phone = rig.phone("alice")
    answer = await phone.register()
    assert answer.get("service-route") == "<sip:198.18.0.1:5060;lr>"
    sent = await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    assert invite.vias[0].sent_by == f"{EDGE[0]}:{EDGE[1]}"
    assert [host_of(value) for value in invite.elements("record-route")] == [EDGE[0], "198.18.0.1"]
    answered = rig.pbx.reply(invite, 200, body=SDP)
    answer = await phone.response(200)
    caller, callee = dialog_of_caller(sent, answer), dialog_of_callee(invite, answered)
    assert "198.18.0.1" in caller.routes[0]
    assert EDGE[0] in callee.routes[0]
    phone.send(caller.request("ACK", phone.via()))
    await rig.pbx.request("ACK")
    rig.pbx.send(callee.request("BYE", rig.pbx.via()))
    bye = await phone.request("BYE")
    assert bye.vias[0].host == "198.18.0.1"
    phone.reply(bye, 200)
    await rig.pbx.response(200)
    assert PBX_ADDRESS[0] not in str(bye.vias[0])


def host_of(route: str) -> str:
    return route.partition("sip:")[2].partition(":")[0]
