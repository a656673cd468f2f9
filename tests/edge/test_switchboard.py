"""The switchboard towards the PBX; whole calls are in scenarios/test_edge_*.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from nomad.edge.trunks import Trunks
from nomad.ports import Target, Unavailable
from nomad.sip.headers import Credentials
from nomad.sip.uri import Uri
from tests.harness.fakes import digest
from tests.harness.rig import PBX_ADDRESS, Rig, on_rig

CHALLENGE = 'Digest realm="asterisk", nonce="n1", algorithm=MD5, qop="auth"'


def with_password(rig: Rig) -> None:
    """The PBX wants us to log in."""
    (trunk,) = rig.trunks.all
    rig.dispatcher.trunks = Trunks([replace(trunk, username="edge", password="secret of edge")])


@on_rig()
async def test_targets_are_tried_in_order(rig: Rig) -> None:
    async def resolve(uri: Uri) -> Sequence[Target]:
        return [Target("tcp", "10.0.0.8", 5060), Target("tcp", "10.0.0.9", 5060), Target("udp", "10.0.0.5", 5070)]

    rig.resolver.resolve = resolve  # type: ignore[method-assign]
    (trunk,) = rig.trunks.all
    rig.signalling.unreachable = {"10.0.0.8"}
    assert (await rig.switchboard.connect(trunk)).remote == ("10.0.0.9", 5060)
    rig.signalling.unreachable = {"10.0.0.8", "10.0.0.9"}
    assert (await rig.switchboard.connect(trunk)).remote == PBX_ADDRESS
    rig.signalling.unreachable.add("10.0.0.5")
    with pytest.raises(Unavailable, match=r"10\.0\.0\.5"):
        await rig.switchboard.connect(trunk)


@on_rig()
async def test_name_without_targets(rig: Rig) -> None:
    async def nothing(uri: Uri) -> Sequence[Target]:
        return []

    rig.resolver.resolve = nothing  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="no target"):
        await rig.switchboard.connect(rig.trunks.all[0])


@on_rig()
async def test_pbx_that_challenges_gets_our_credentials_once(rig: Rig) -> None:
    with_password(rig)
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    first = await rig.pbx.request("INVITE")
    rig.pbx.reply(first, 401, headers=[("www-authenticate", CHALLENGE)])
    await rig.pbx.request("ACK")
    again = await rig.pbx.request("INVITE")
    assert again.via.branch != first.via.branch
    params = Credentials.parse(again.get("authorization") or "").params
    expected = digest(
        "edge",
        "secret of edge",
        realm="asterisk",
        nonce="n1",
        method="INVITE",
        uri=again.uri_text,
        nc=params["nc"] or "",
        cnonce=params["cnonce"] or "",
        qop="auth",
    )
    assert (params["username"], params["response"]) == ("edge", expected)
    rig.pbx.reply(again, 401, headers=[("www-authenticate", CHALLENGE)])
    phone.ack(sent, await phone.response(401))
    assert rig.calls.live == 0


@on_rig()
async def test_call_that_the_caller_gives_up_between_challenge_and_credentials(rig: Rig) -> None:
    with_password(rig)
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    first = await rig.pbx.request("INVITE")
    phone.cancel(sent)
    rig.pbx.reply(first, 407, headers=[("proxy-authenticate", CHALLENGE)])
    await phone.response(200)
    rig.pbx.inbox = [m for m in rig.pbx.inbox if m is not first]
    final = await phone.expect(487, within=40)
    assert final.cseq.method == "INVITE"
    assert rig.calls.live == 0


@on_rig()
async def test_challenge_for_the_phone_goes_to_the_phone(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    rig.pbx.reply(await rig.pbx.request("INVITE"), 407, headers=[("proxy-authenticate", CHALLENGE)])
    answer = await phone.response(407)
    assert answer.get("proxy-authenticate") == CHALLENGE
    phone.ack(sent, answer)


@on_rig()
async def test_media_relay_that_is_down_refuses_the_call(rig: Rig) -> None:
    async def down(*_: object, **__: object) -> bytes:
        raise Unavailable("no ports")

    rig.switchboard._media.offer = down  # type: ignore[method-assign]
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    phone.ack(sent, await phone.response(503))
    await rig.pbx.quiet()
    assert rig.calls.live == 0
    assert rig.switchboard._setups == {}
