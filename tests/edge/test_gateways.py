"""Several targets of a PBX, and requests that are too large for UDP; all on the fake network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from nomad.edge.gateways import FAILED_S, LARGE_BYTES, NO_TCP_S, PATIENCE_S, Passage
from nomad.ports import Target, Unavailable
from nomad.sip.message import Request, Response
from nomad.sip.uri import Uri
from tests.harness.line import EDGE
from tests.harness.peers import SDP, PbxPeer, Phone, dialog_of_callee, dialog_of_caller
from tests.harness.rig import PBX_ADDRESS, Rig, on_rig

OTHER = ("10.0.0.5", 5080)
LARGE = [("x-padding", "x" * LARGE_BYTES)]


def two_targets(rig: Rig, transport: str = "udp") -> PbxPeer:
    """A second place of the same PBX, tried after the first."""

    async def resolve(uri: Uri) -> Sequence[Target]:
        return [Target(transport, *PBX_ADDRESS), Target(transport, *OTHER)]

    rig.resolver.resolve = resolve  # type: ignore[method-assign]
    return PbxPeer(rig.network, OTHER, transport)


async def answered(pbx: PbxPeer, phone: Phone) -> Request:
    invite = await pbx.request("INVITE", within=10)
    pbx.reply(invite, 200, body=SDP)
    await phone.response(200)
    return invite


@on_rig()
async def test_targets_are_tried_in_order_and_failed_ones_go_last(rig: Rig) -> None:
    targets = [Target("tcp", "10.0.0.8", 5060), Target("tcp", "10.0.0.9", 5060), Target("udp", "10.0.0.5", 5070)]

    async def resolve(uri: Uri) -> Sequence[Target]:
        return targets

    async def place() -> tuple[str, int]:
        branch = await Passage(rig.gateways, rig.trunks.all[0], lambda flow: (Request("INVITE", "sip:x"), None)).begin()
        return branch.flow.remote

    rig.resolver.resolve = resolve  # type: ignore[method-assign]
    rig.signalling.unreachable = {"10.0.0.8"}
    assert await place() == ("10.0.0.9", 5060)
    rig.signalling.unreachable = {"10.0.0.8", "10.0.0.9"}
    assert await place() == PBX_ADDRESS
    rig.signalling.unreachable = set()
    assert await place() == PBX_ADDRESS  # the two others failed a moment ago
    await asyncio.sleep(FAILED_S)
    assert await place() == ("10.0.0.8", 5060)
    rig.signalling.unreachable = {"10.0.0.8", "10.0.0.9", "10.0.0.5"}
    with pytest.raises(Unavailable, match=r"10\.0\.0\.5"):
        await place()
    targets.clear()
    with pytest.raises(Unavailable, match="no target"):
        await place()


@on_rig()
async def test_a_silent_target_is_given_up_for_the_next(rig: Rig) -> None:
    phone, other = rig.phone("alice"), two_targets(rig)
    rig.network.peers.pop(("udp", PBX_ADDRESS))
    began = asyncio.get_running_loop().time()
    await phone.invite("1000")
    invite = await answered(other, phone)
    assert asyncio.get_running_loop().time() - began == pytest.approx(PATIENCE_S, abs=0.1)
    assert invite.via.host == EDGE[0]
    assert rig.call().callees
    assert next(iter(rig.call().callees.values())).flow.remote == OTHER
    again = rig.phone("bob")  # the next call does not wait
    began = asyncio.get_running_loop().time()
    await again.invite("1000")
    await answered(other, again)
    assert asyncio.get_running_loop().time() - began < 1


@on_rig()
async def test_an_answer_ends_the_patience(rig: Rig) -> None:
    phone, other = rig.phone("alice"), two_targets(rig)
    await phone.invite("1000")
    invite = await rig.pbx.request("INVITE")
    rig.pbx.reply(invite, 100)
    await asyncio.sleep(60)
    assert other.inbox == []
    rig.pbx.reply(invite, 200, body=SDP)
    await phone.response(200)


@on_rig()
async def test_the_last_target_has_the_time_of_the_rfc(rig: Rig) -> None:
    phone, _ = rig.phone("alice"), two_targets(rig)
    rig.network.peers.pop(("udp", PBX_ADDRESS))
    rig.network.peers.pop(("udp", OTHER))
    began = asyncio.get_running_loop().time()
    await phone.invite("1000")
    await asyncio.sleep(PATIENCE_S + 31)
    assert not any(isinstance(each, Response) and each.status >= 200 for each in phone.inbox)
    await phone.response(408)
    assert asyncio.get_running_loop().time() - began == pytest.approx(PATIENCE_S + 32, abs=0.5)


@on_rig()
async def test_a_503_sends_the_call_to_the_next_target(rig: Rig) -> None:
    phone, other = rig.phone("alice"), two_targets(rig)
    await phone.invite("1000")
    rig.pbx.reply(await rig.pbx.request("INVITE"), 503)
    await rig.pbx.request("ACK")
    await answered(other, phone)
    again = rig.phone("bob")
    await again.invite("1000")
    refused = await rig.pbx.request("INVITE")  # that 503 said nothing of further calls
    rig.pbx.reply(refused, 503, headers=[("retry-after", "30 (soon)")])
    await answered(other, again)
    third = rig.phone("carol")
    await third.invite("1000")
    await answered(other, third)


@on_rig()
async def test_all_targets_answer_503(rig: Rig) -> None:
    phone, other = rig.phone("alice"), two_targets(rig)
    await phone.invite("1000")
    rig.pbx.reply(await rig.pbx.request("INVITE"), 503)
    other.reply(await other.request("INVITE"), 503)
    await phone.response(500)  # RFC 3261 16.7 step 6


@on_rig(pbx_transport="tcp")
async def test_a_connection_that_breaks_before_an_answer(rig: Rig) -> None:
    phone, other = rig.phone("alice"), two_targets(rig, "tcp")
    await phone.invite("1000")
    await rig.pbx.request("INVITE")
    rig.signalling.close(next(iter(rig.signalling._outgoing.values())))
    await answered(other, phone)


@on_rig()
async def test_nothing_is_tried_anew_once_the_caller_gave_up(rig: Rig) -> None:
    phone, other = rig.phone("alice"), two_targets(rig)
    rig.network.peers.pop(("udp", PBX_ADDRESS))
    sent = await phone.invite("1000")
    await asyncio.sleep(1)
    phone.cancel(sent)
    await asyncio.sleep(60)
    assert other.inbox == []
    await phone.response(487)


@on_rig()
async def test_a_message_is_sent_to_one_target_only(rig: Rig) -> None:
    phone, other = rig.phone("alice"), two_targets(rig)
    rig.network.peers.pop(("udp", PBX_ADDRESS))
    await phone.login(phone.make("MESSAGE", "sip:1000@inria.example"))
    await asyncio.sleep(60)
    assert other.inbox == []  # the first may have taken it


@on_rig()
async def test_a_large_request_goes_to_the_pbx_by_tcp_and_the_dialog_stays(rig: Rig) -> None:
    phone = rig.phone("alice")
    by_tcp = PbxPeer(rig.network, PBX_ADDRESS, "tcp")
    sent = await phone.invite("1000", headers=LARGE)
    invite = await by_tcp.request("INVITE")
    assert str(invite.via).startswith(f"SIP/2.0/TCP {EDGE[0]}:{EDGE[1]};branch=z9hG4bK")
    assert all("transport" not in route.uri.params for route in invite.record_routes)
    answer_sent = by_tcp.reply(invite, 200, body=SDP)
    answer = await phone.response(200)
    caller, callee = dialog_of_caller(sent, answer), dialog_of_callee(invite, answer_sent)
    phone.send(caller.request("ACK", phone.via()))
    await rig.pbx.request("ACK")  # by UDP, as everything that is small
    rig.pbx.send(callee.request("BYE", rig.pbx.via()))
    phone.reply(await phone.request("BYE"), 200)
    await rig.pbx.response(200)


@on_rig()
async def test_a_large_ack_of_a_2xx_goes_by_tcp_too(rig: Rig) -> None:
    phone = rig.phone("alice")
    by_tcp = PbxPeer(rig.network, PBX_ADDRESS, "tcp")
    sent = await phone.invite("1000", body=b"")
    answer_sent = rig.pbx.reply(await rig.pbx.request("INVITE"), 200, body=SDP)  # an offer; the ACK answers it
    caller = dialog_of_caller(sent, await phone.response(200))
    ack = caller.request("ACK", phone.via(), headers=LARGE)
    ack.body = SDP
    phone.send(ack)
    arrived = await by_tcp.request("ACK")
    assert str(arrived.via).startswith(f"SIP/2.0/TCP {EDGE[0]}:{EDGE[1]};branch=z9hG4bK")
    assert (arrived.body, arrived.to.tag) == (SDP, answer_sent.to.tag)
    rig.signalling.unreachable.add(PBX_ADDRESS[0])
    rig.signalling._outgoing.clear()
    phone.send(ack)  # the 2xx came again; the PBX takes no TCP any more
    phone.send(caller.request("ACK", phone.via(), headers=[*LARGE, ("x-again", "else a copy to the byte")]))
    assert (await rig.pbx.request("ACK")).via.transport == "UDP"


@on_rig()
async def test_a_small_request_stays_on_udp(rig: Rig) -> None:
    phone = rig.phone("alice")
    by_tcp = PbxPeer(rig.network, PBX_ADDRESS, "tcp")
    await phone.invite("1000", headers=[("x-padding", "x" * 300)])
    invite = await rig.pbx.request("INVITE")
    assert len(invite.encode()) <= LARGE_BYTES
    assert by_tcp.inbox == []


@on_rig()
async def test_a_pbx_without_tcp_gets_large_requests_by_udp(rig: Rig) -> None:
    connects: list[Target] = []
    connect = rig.signalling.connect

    async def refusing(target: Target) -> object:
        connects.append(target)
        if target.transport == "tcp":
            raise Unavailable("refused")
        return await connect(target)

    rig.signalling.connect = refusing  # type: ignore[method-assign,assignment]
    for user in ("alice", "bob"):
        phone = rig.phone(user)
        await phone.invite("1000", headers=LARGE)
        assert (await rig.pbx.request("INVITE")).via.transport == "UDP"
    assert [target.transport for target in connects].count("tcp") == 1
    await asyncio.sleep(NO_TCP_S)
    await rig.phone("carol").invite("1000", headers=LARGE)
    await rig.pbx.request("INVITE")
    assert [target.transport for target in connects].count("tcp") == 2


@on_rig()
async def test_phones_get_large_requests_by_their_flow(rig: Rig) -> None:
    phone = rig.phone("bob")
    await phone.register()
    rig.pbx.invite("1002", headers=LARGE)
    assert (await phone.request("INVITE")).via.transport == "UDP"
    assert rig.signalling._outgoing == {}
