"""The switchboard towards the PBX; whole calls are in scenarios/test_edge_*.py."""

from __future__ import annotations

from nomad.ports import Unavailable
from tests.harness.rig import Rig, on_rig

CHALLENGE = 'Digest realm="asterisk", nonce="n1", algorithm=MD5, qop="auth"'


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
