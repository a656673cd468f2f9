"""Transactions of the demo's SIP agent, between two real sockets on loopback."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiosipua import SipRequest, SipResponse, generate_tag

from nomad.demo.agent import Agent, ServerTransaction
from tests.harness.phone import HOST, Peer


def request_of(agent: Agent, method: str, *, call_id: str = "one") -> SipRequest:
    request = SipRequest(method=method, uri="sip:there@test.example")
    for name, value in (
        ("Via", agent.via()),
        ("From", f"<sip:here@test.example>;tag={generate_tag()}"),
        ("To", "<sip:there@test.example>"),
        ("Call-ID", call_id),
        ("CSeq", f"1 {method}"),
        ("Max-Forwards", "70"),
    ):
        request.set_header(name, value)
    return request


@pytest.fixture
async def agent() -> Agent:
    made = Agent()
    await made.start()
    return made


async def test_a_request_gets_its_answer_with_status_reason_and_time(agent: Agent) -> None:
    async with Peer(lambda transaction: transaction.answer(200, "Fine")) as peer:
        transaction = agent.request(request_of(agent, "OPTIONS"), peer.address)
        response = await transaction.final(3)
    await agent.stop()
    assert response is not None
    assert response.get_header("to") != "<sip:there@test.example>"
    assert [(seen.status, seen.reason) for seen in transaction.seen] == [(200, "Fine")]
    assert 0 < transaction.seen[0].ms < 3000
    assert str(transaction.seen[0]) == "200 Fine"


async def test_a_refused_invite_is_acknowledged_in_its_own_transaction(agent: Agent) -> None:
    async with Peer(lambda transaction: transaction.answer(486, "Busy Here")) as peer:
        invite = request_of(agent, "INVITE")
        invite.add_header("Route", "<sip:127.0.0.1;lr>")
        transaction = agent.request(invite, peer.address)
        response = await transaction.final(3)
        ack = await peer.wait_for("ACK")
    await agent.stop()
    assert response is not None
    assert ack.via[0].branch == invite.via[0].branch
    assert ack.get_header("to") == response.get_header("to")
    assert ack.get_header("cseq") == "1 ACK"
    assert ack.get_header_values("route") == ["<sip:127.0.0.1;lr>"]


async def test_requests_and_invite_answers_are_resent_until_they_are_heard(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nomad.demo.agent.T1_S", 0.02)
    answered: list[ServerTransaction] = []
    async with Peer(answered.append) as peer:
        transaction = agent.request(request_of(agent, "INVITE"), peer.address)
        await peer.wait_for("INVITE", count=3)
        assert len(answered) == 1, "a repeated request is no new request"
        answers: asyncio.Queue[SipResponse] = asyncio.Queue()
        transaction.on_success = answers.put_nowait
        answered[0].answer(200, "OK")
        for _ in range(3):  # nobody acknowledges: the 2xx comes again and again
            await asyncio.wait_for(answers.get(), 3)
        assert [seen.status for seen in transaction.seen] == [200]
    await agent.stop()


async def test_no_answer_at_all_is_none(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nomad.demo.agent.LIFE_S", 0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        transaction = agent.request(request_of(agent, "OPTIONS"), silent.getsockname())
        assert await transaction.final(2) is None
    await agent.stop()
    assert transaction.seen == []


async def test_cancel_waits_for_a_provisional_response(agent: Agent) -> None:
    invites: list[ServerTransaction] = []
    async with Peer(invites.append) as peer:
        transaction = agent.request(request_of(agent, "INVITE"), peer.address)
        await peer.wait_for("INVITE")
        transaction.cancel()
        transaction.cancel()
        invites[0].on_cancel = lambda: invites[0].answer(487, "Request Terminated")
        assert [request.method for request in peer.received] == ["INVITE"]
        invites[0].answer(180, "Ringing")
        response = await transaction.final(3)
        await peer.wait_for("ACK")
        assert [request.method for request in peer.received] == ["INVITE", "CANCEL", "ACK"]
    await agent.stop()
    assert response is not None
    assert response.status_code == 487


async def test_requests_of_no_dialog_and_garbage(agent: Agent) -> None:
    async with Peer(lambda transaction: transaction.answer(200, "OK")) as peer:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for data in (b"\r\n\r\n", b"\0", b"BYE sip:x SIP/2.0\r\nFrom: y\r\n\r\n"):
                sender.sendto(data, peer.address)
        for method, status in (("BYE", 481), ("CANCEL", 481)):
            request = request_of(agent, method)
            request.set_header("To", "<sip:there@test.example>;tag=unknown")
            response = await agent.request(request, peer.address).final(3)
            assert response is not None
            assert response.status_code == status
    await agent.stop()


async def test_an_idle_agent_answers_options_only(agent: Agent) -> None:
    other = Agent()
    await other.start()
    for method, status in (("OPTIONS", 200), ("INVITE", 405)):
        response = await other.request(request_of(other, method), agent.address).final(3)
        assert response is not None
        assert response.status_code == status
    await other.stop()
    await agent.stop()
