"""The softphone against a tiny digest registrar, and calls in both directions."""

from __future__ import annotations

import asyncio

import pytest

from nomad.demo.agent import ServerTransaction
from nomad.demo.softphone import Account, Softphone
from tests.harness.phone import DOMAIN, Peer, TinyRegistrar, phone


async def test_register_refresh_and_unregister() -> None:
    registrar = TinyRegistrar({"alice": "secret"})
    async with Peer(registrar.answer) as edge, phone("alice", "secret", edge=edge.address) as alice:
        first = await alice.register(600)
        assert [seen.status for seen in first.seen] == [401, 200]
        assert first.ok
        assert first.expires_s == 600
        assert first.ms > 0
        again = await alice.register(600)
        assert [seen.status for seen in again.seen] == [200], "the nonce serves again"
        assert registrar.counts == ["00000001", "00000002"]
        assert len(registrar.contacts) == 1
        registrar.nonce = "another"
        assert [seen.status for seen in (await alice.register(600)).seen] == [401, 200]
        gone = await alice.unregister()
        assert gone.ok
        assert registrar.contacts == {}


async def test_the_registration_is_refreshed_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nomad.demo.softphone.REFRESH_AT", 0.0001)
    registrar = TinyRegistrar({"alice": "secret"})
    async with Peer(registrar.answer) as edge, phone("alice", "secret", edge=edge.address) as alice:
        await alice.register(300)
        await edge.wait_for("REGISTER", count=4)
        assert alice.refreshes >= 2


async def test_sha256_is_spoken_when_it_is_offered_first() -> None:
    registrar = TinyRegistrar({"alice": "secret"}, algorithms=("SHA-512-256", "SHA-256", "MD5"))
    async with Peer(registrar.answer) as edge, phone("alice", "secret", edge=edge.address) as alice:
        assert (await alice.register()).ok
        assert "SHA-256" in (edge.received[-1].get_header("authorization") or "")


async def test_a_wrong_password_is_told() -> None:
    registrar = TinyRegistrar({"alice": "secret"})
    async with Peer(registrar.answer) as edge, phone("alice", "wrong", edge=edge.address) as alice:
        result = await alice.register()
    assert not result.ok
    assert [str(seen) for seen in result.seen] == ["401 Who Are You", "401 Who Are You"]


async def test_a_registration_that_is_too_short_is_made_longer() -> None:
    registrar = TinyRegistrar({"alice": "secret"}, min_expires_s=60)
    async with Peer(registrar.answer) as edge, phone("alice", "secret", edge=edge.address) as alice:
        result = await alice.register(30)
    assert [seen.status for seen in result.seen] == [401, 423, 200]
    assert result.expires_s == 60


async def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nomad.demo.softphone.ANSWER_S", 0.02)
    async with Peer(lambda transaction: None) as silent, phone("alice", "secret", edge=silent.address) as alice:
        result = await alice.register()
        assert (result.ok, str(result.last)) == (False, "0 no response")


async def test_two_phones_talk() -> None:
    registrar = TinyRegistrar({"alice": "secret"})
    async with (
        phone("bob", "", edge=("127.0.0.1", 9)) as bob,
        phone("alice", "secret", edge=bob.agent.address) as alice,
    ):
        call, answering = await alice.start_call("bob")
        ringing = await bob.wait_ringing()
        assert ringing is not None
        assert ringing.caller == f"sip:alice@{DOMAIN}"
        assert await ringing.answer()
        await answering
        assert call.answered
        assert [seen.status for seen in call.seen] == [180, 200]
        for side in (call, ringing):
            heard = await side.hear(10)
            assert heard.tone
            assert heard.packets >= 10
        assert str(await ringing.hangup()) == "200 OK"
        assert await call.wait_ended() == "peer"
    assert registrar.counts == []


async def test_a_challenged_call_is_repeated_with_credentials_and_its_refusal_told() -> None:
    registrar = TinyRegistrar({"alice": "secret"})
    registrar.on_invite = lambda transaction: transaction.answer(403, "Premium numbers are not allowed")
    async with Peer(registrar.answer) as edge, phone("alice", "secret", edge=edge.address) as alice:
        call = await alice.call("0899123456")
        assert not call.answered
        assert [str(seen) for seen in call.seen] == ["407 Who Are You", "403 Premium numbers are not allowed"]
        first, second = (request for request in edge.received if request.method == "INVITE")
        assert first.call_id == second.call_id
        assert [request.cseq.seq for request in (first, second) if request.cseq] == [1, 2]
        await edge.wait_for("ACK", count=2)


async def test_a_caller_may_give_up_and_a_called_one_refuse() -> None:
    async with phone("bob", "", edge=("127.0.0.1", 9)) as bob, phone("alice", "", edge=bob.agent.address) as alice:
        call, answering = await alice.start_call("bob")
        ringing = await bob.wait_ringing()
        assert ringing is not None
        call.cancel()
        await answering
        assert call.last.status == 487
        assert await ringing.wait_ended() == "peer"
        assert not await ringing.answer()
        call, answering = await alice.start_call("bob")
        ringing = await bob.wait_ringing()
        assert ringing is not None
        ringing.reject()
        await answering
        assert str(call.last) == "486 Busy Here"


async def test_waiting_has_an_end() -> None:
    lonely = Softphone(Account("alice", "", DOMAIN, ("127.0.0.1", 9)))
    await lonely.start()
    assert await lonely.wait_ringing(0.01) is None
    await lonely.stop()


async def test_a_call_stays_up_until_somebody_ends_it() -> None:
    def accept(transaction: ServerTransaction) -> None:
        bob._on_request(transaction)

    async with phone("bob", "", edge=("127.0.0.1", 9)) as bob, phone("alice", "", edge=bob.agent.address) as alice:
        bob.agent.on_request = accept
        call, answering = await alice.start_call("sip:bob@elsewhere.example")
        ringing = await asyncio.wait_for(bob.ringing.get(), 3)
        await ringing.answer()
        await answering
        assert await call.wait_ended(0.01) == ""
        assert await call.hangup() is not None
