"""Dialogs as a proxy needs them: route set, Contact, ACK, BYE."""

from __future__ import annotations

from aiosipua import Dialog, SipDigestAuth, SipResponse

from nomad.demo import sdp
from nomad.demo.agent import Agent, ServerTransaction
from nomad.demo.leg import IncomingLeg, Invitation, OutgoingLeg, answer_challenge, next_hop
from tests.harness.phone import HOST, Peer

OFFER = sdp.offer(HOST, 4000)


def invitation(peer: Peer) -> Invitation:
    return Invitation("sip:1000@test.example", "sip:alice@test.example", "alice", peer.address, OFFER)


async def test_ack_and_bye_follow_route_set_and_contact() -> None:
    agent = Agent()
    await agent.start()

    def accept(transaction: ServerTransaction) -> None:
        # as two proxies would have done; the nearest is the last header and here the caller itself stands for it
        for route in ("<sip:192.0.2.7;lr>", f"<sip:{HOST}:{peer.address[1]};lr>"):
            transaction.request.add_header("Record-Route", route)
        IncomingLeg(peer.agent, transaction, "1000").accept(OFFER)

    async with Peer(accept) as peer:
        leg = OutgoingLeg(agent, invitation(peer))
        assert await leg.dial(3)
        ack = await peer.wait_for("ACK")
        assert ack.uri == f"sip:1000@{HOST}:{peer.address[1]}"
        assert ack.get_header_values("route") == [f"<sip:{HOST}:{peer.address[1]};lr>", "<sip:192.0.2.7;lr>"]
        assert ack.get_header("cseq") == "1 ACK"
        seen = await leg.hangup()
        bye = await peer.wait_for("BYE")
        assert bye.get_header_values("route") == ack.get_header_values("route")
        assert bye.get_header("cseq") == "2 BYE"
        assert seen is not None
        assert seen.status == 200
        assert await leg.hangup() is None
    await agent.stop()
    assert leg.ended_by == "us"


async def test_both_sides_see_the_peer_hang_up() -> None:
    agent = Agent()
    await agent.start()
    legs: list[IncomingLeg] = []

    def accept(transaction: ServerTransaction) -> None:
        legs.append(IncomingLeg(peer.agent, transaction, "1000"))
        legs[0].ring()
        legs[0].accept(OFFER)

    async with Peer(accept) as peer:
        leg = OutgoingLeg(agent, invitation(peer))
        assert await leg.dial(3)
        seen = await legs[0].hangup()
        await leg.ended.wait()
        assert seen is not None
        assert seen.status == 200
        assert (leg.ended_by, legs[0].ended_by) == ("peer", "us")
        assert [seen.status for seen in leg.seen] == [180, 200]
    await agent.stop()


async def test_requests_inside_a_dialog() -> None:
    agent = Agent()
    await agent.start()
    legs: list[IncomingLeg] = []

    def accept(transaction: ServerTransaction) -> None:
        legs.append(IncomingLeg(peer.agent, transaction, "1000"))
        legs[0].accept(OFFER)

    async with Peer(accept) as peer:
        leg = OutgoingLeg(agent, invitation(peer))
        assert await leg.dial(3)
        for method, status in (("OPTIONS", 200), ("UPDATE", 200), ("INVITE", 488), ("REFER", 405)):
            response = await agent.request(leg._in_dialog(method), peer.address).final(3)
            assert response is not None
            assert response.status_code == status
        old = leg._in_dialog("OPTIONS")
        old.set_header("CSeq", "1 OPTIONS")
        response = await agent.request(old, peer.address).final(3)
        assert response is not None
        assert response.status_code == 500
    await agent.stop()


async def test_a_call_that_is_not_answered_in_time_is_cancelled() -> None:
    agent = Agent()
    await agent.start()
    async with Peer(lambda transaction: IncomingLeg(peer.agent, transaction, "1000").ring()) as peer:
        leg = OutgoingLeg(agent, invitation(peer))
        assert not await leg.dial(0.05)
        await peer.wait_for("CANCEL")
        assert leg.last.status == 487
    await agent.stop()


def test_the_next_hop_is_route_then_contact_then_the_way_we_know() -> None:
    fallback = ("192.0.2.9", 5060)
    assert next_hop(Dialog(route_set=["<sip:192.0.2.1:5070;lr>"], remote_target="sip:a@192.0.2.2"), fallback) == (
        "192.0.2.1",
        5070,
    )
    assert next_hop(Dialog(remote_target="sip:a@192.0.2.2"), fallback) == ("192.0.2.2", 5060)
    assert next_hop(Dialog(remote_target="sip:a@pbx.example"), fallback) == fallback


def test_the_first_challenge_that_can_be_answered_is() -> None:
    response = SipResponse(status_code=407)
    auth = SipDigestAuth("alice", "secret")
    assert answer_challenge(auth, response, method="INVITE", uri="sip:x") is None
    for algorithm in ("SHA-512-256", "SHA-256", "MD5"):
        response.add_header("Proxy-Authenticate", f'Digest realm="r", nonce="n", algorithm={algorithm}, qop="auth"')
    found = answer_challenge(auth, response, method="INVITE", uri="sip:x")
    assert found is not None
    assert found[0] == "Proxy-Authorization"
    assert "algorithm=SHA-256" in found[1]
