"""A PBX that challenges us: on INVITEs, within calls, on our own BYE, and outside of calls."""

from __future__ import annotations

from dataclasses import replace

from nomad.edge.trunks import Trunks
from nomad.sip.headers import Credentials
from nomad.sip.message import Request
from tests.harness.fakes import digest
from tests.harness.peers import DOMAIN
from tests.harness.rig import Rig, on_rig

CHALLENGE = 'Digest realm="asterisk", nonce="n1", algorithm=MD5, qop="auth"'
STALE = 'Digest realm="asterisk", nonce="n2", algorithm=MD5, qop="auth", stale=true'


def with_password(rig: Rig) -> None:
    """The PBX wants us to log in."""
    (trunk,) = rig.trunks.all
    rig.dispatcher.trunks = Trunks([replace(trunk, username="edge", password="secret of edge")])


def is_signed(request: Request, *, nonce: str = "n1", header: str = "authorization", count: int = 1) -> bool:
    """Whether a request has our credentials, right for its method and URI."""
    (value,) = request.get_all(header)
    params = Credentials.parse(value).params
    expected = digest(
        "edge",
        "secret of edge",
        realm="asterisk",
        nonce=nonce,
        method=request.method,
        uri=request.uri_text,
        nc=params["nc"] or "",
        cnonce=params["cnonce"] or "",
        qop="auth",
    )
    return (params["username"], params["response"], params["nc"]) == ("edge", expected, f"{count:08x}")


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
    assert is_signed(again)
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
async def test_requests_within_a_call_are_answered_for_too(rig: Rig) -> None:
    with_password(rig)
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    for method in ("INVITE", "UPDATE", "INFO", "BYE"):
        rig.switchboard._logins._known.clear()
        phone.send(talk.caller.request(method, phone.via()))
        first = await rig.pbx.request(method)
        assert not first.has("authorization")
        rig.pbx.reply(first, 401, headers=[("www-authenticate", CHALLENGE)])
        again = await rig.pbx.request(method)
        assert is_signed(again)
        assert (again.uri_text, again.cseq) == (first.uri_text, first.cseq)
        rig.pbx.reply(again, 200)
        answer = await phone.response(200)
        assert answer.cseq.method == method
        if method == "INVITE":
            phone.send(talk.caller.request("ACK", phone.via()))
    assert phone.summary() == ["100 Trying"]
    assert rig.calls.live == 0


@on_rig()
async def test_what_was_asked_once_is_answered_ahead(rig: Rig) -> None:
    with_password(rig)
    phone = rig.phone("alice")
    await phone.login(phone.make("MESSAGE", f"sip:1000@{DOMAIN}"))
    rig.pbx.reply(await rig.pbx.request("MESSAGE"), 407, headers=[("proxy-authenticate", CHALLENGE)])
    again = await rig.pbx.request("MESSAGE")
    assert is_signed(again, header="proxy-authorization")
    rig.pbx.reply(again, 200)
    await phone.response(200)
    talk = await rig.talk(phone)
    assert is_signed(talk.invite, header="proxy-authorization", count=2)
    phone.send(talk.caller.request("INFO", phone.via()))
    info = await rig.pbx.request("INFO")
    assert is_signed(info, header="proxy-authorization", count=3)
    rig.pbx.reply(info, 401, headers=[("www-authenticate", STALE)])
    again = await rig.pbx.request("INFO")
    assert is_signed(again, nonce="n2")
    assert not again.has("proxy-authorization")
    rig.pbx.reply(again, 200)
    await phone.response(200)


@on_rig()
async def test_our_own_bye_is_answered_for(rig: Rig) -> None:
    with_password(rig)
    phone = rig.phone("alice")
    talk = await rig.talk(phone)
    assert await rig.console.hangup(talk.call.id)
    first = await rig.pbx.request("BYE")
    rig.pbx.reply(first, 401, headers=[("www-authenticate", CHALLENGE)])
    again = await rig.pbx.request("BYE")
    assert is_signed(again)
    rig.pbx.reply(again, 200)
    phone.reply(await phone.request("BYE"), 200)
    await rig.pbx.quiet()


@on_rig()
async def test_another_password_after_a_reload_is_not_signed_with_the_old_one(rig: Rig) -> None:
    with_password(rig)
    phone = rig.phone("alice")
    await phone.login(phone.make("MESSAGE", f"sip:1000@{DOMAIN}"))
    rig.pbx.reply(await rig.pbx.request("MESSAGE"), 401, headers=[("www-authenticate", CHALLENGE)])
    rig.pbx.reply(await rig.pbx.request("MESSAGE"), 200)
    await phone.response(200)
    (trunk,) = rig.dispatcher.trunks.all
    rig.dispatcher.trunks = Trunks([replace(trunk, password="new")])
    await phone.login(phone.make("MESSAGE", f"sip:1000@{DOMAIN}"))
    assert not (await rig.pbx.request("MESSAGE")).has("authorization")


@on_rig()
async def test_challenge_that_cannot_be_read_goes_back(rig: Rig) -> None:
    with_password(rig)
    phone = rig.phone("alice")
    for value in ("Digest realm=", "Basic realm=x", 'Digest realm="a"'):
        await phone.login(phone.make("MESSAGE", f"sip:1000@{DOMAIN}"))
        rig.pbx.reply(await rig.pbx.request("MESSAGE"), 401, headers=[("www-authenticate", value)])
        await phone.response(401)
