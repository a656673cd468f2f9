"""Who is let in: challenges, credentials, registrations (RFC 3261 10 and 22, RFC 7616)."""

from __future__ import annotations

import asyncio
import re

import pytest

from nomad.config import Guard, Sip
from nomad.ports import Refusal, Unavailable
from nomad.sip.message import Response
from tests.harness.line import EDGE
from tests.harness.peers import DOMAIN, SDP, Phone
from tests.harness.rig import Rig, on_rig

LISTEN = ("udp:192.0.2.1:5060",)


def plain(response: Response) -> str:
    """A response without what differs each time."""
    text = re.sub(
        r'nonce="[^"]*"|tag=[^;\r]*|branch=[^;\r]*|(?m:^(Via|Call-ID|CSeq|From|To):.*$)', "", str(response.encode())
    )
    return re.sub(r"\\r\\n(Via|Call-ID|CSeq|From|To): .*?(?=\\r\\n)", "", text)


async def refused(phone: Phone, method: str = "REGISTER", **changes: str) -> Response:
    """Log in with changed credentials; the next challenge."""
    return await answered(phone, 401 if method == "REGISTER" else 407, method, **changes)


async def answered(phone: Phone, final: int, method: str = "REGISTER", **changes: str) -> Response:
    """Log in with changed credentials; the answer of this status."""
    status = 401 if method == "REGISTER" else 407
    request = phone.make(method, f"sip:{DOMAIN}" if method == "REGISTER" else f"sip:1000@{DOMAIN}")
    phone.send(request)
    again = phone.answer_challenge(request, await phone.response(status), **changes)
    phone.send(again)
    return await phone.response(final)


@on_rig()
async def test_challenge_offers_what_is_configured(rig: Rig) -> None:
    phone = rig.phone("alice")
    phone.send(phone.make("REGISTER", f"sip:{DOMAIN}"))
    challenge = (await phone.response(401)).get("www-authenticate") or ""
    assert re.fullmatch(rf'Digest realm="{DOMAIN}", nonce="[0-9a-f]+", algorithm=MD5, qop="auth"', challenge)
    phone.send(phone.make("INVITE", f"sip:1000@{DOMAIN}"))
    assert (await phone.response(407)).has("proxy-authenticate")
    assert rig.authenticator.asked == []


@on_rig(sip=Sip(listen=LISTEN, digest=("SHA-256", "MD5")))
async def test_several_algorithms_are_offered_in_order(rig: Rig) -> None:
    phone = rig.phone("alice")
    phone.send(phone.make("REGISTER", f"sip:{DOMAIN}"))
    offers = (await phone.response(401)).get_all("www-authenticate")
    assert [re.search("algorithm=([^,]*)", offer)[1] for offer in offers] == ["SHA-256", "MD5"]  # type: ignore[index]


@on_rig()
async def test_registered_phone_is_told_its_contacts(rig: Rig) -> None:
    phone = rig.phone("alice")
    answer = await phone.register(expires=600)
    assert answer.get("contact") == f"<sip:alice@{phone.host}>;expires=600"
    assert await rig.locations.find("1001") == "alice"
    assert (await rig.locations.get("alice")).bindings[0].flow == phone.flow


@on_rig()
async def test_expired_registration_is_gone(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.register(expires=60)
    await asyncio.sleep(58)
    assert (await rig.locations.get("alice")).bindings
    await asyncio.sleep(4)
    assert not (await rig.locations.get("alice")).bindings


@on_rig()
async def test_unknown_user_and_wrong_password_get_the_same_answer(rig: Rig) -> None:
    wrong = await refused(rig.phone("alice", password="guess"))
    unknown = await refused(rig.phone("alice"), username="nobody")
    assert plain(wrong) == plain(unknown)
    assert (wrong.status, wrong.reason) == (401, "Invalid credentials")
    assert "stale" not in (wrong.get("www-authenticate") or "")
    assert len(rig.authenticator.asked) == 2


@on_rig()
async def test_what_radius_says_reaches_the_person(rig: Rig) -> None:
    rig.authenticator.refused = Refusal("Call the desk, ext. 1000")
    again = await refused(rig.phone("alice", password="guess"))
    assert (again.status, again.reason) == (401, "Call the desk, ext. 1000")
    rig.authenticator.refused = Refusal("Compte fermé", final=True)
    phone = rig.phone("alice", password="guess")
    closed = await answered(phone, 403)
    assert (closed.reason, closed.get("www-authenticate")) == ("Compte fermé", None)
    rig.authenticator.refused = Refusal("", final=True)
    assert (await answered(rig.phone("alice", password="guess"), 403)).reason == "Not allowed"


@on_rig(guard=Guard(auth_failures=5, ban_s=60.0))
async def test_guessing_is_answered_by_a_ban(rig: Rig) -> None:
    phone = rig.phone("alice", password="guess")
    for _ in range(5):
        await refused(phone)
    phone.send(phone.make("OPTIONS", f"sip:{DOMAIN}"))
    await phone.quiet()
    assert [ban.reason for ban in await rig.console.bans()] == ["auth"]
    await asyncio.sleep(60)
    phone.send(phone.make("OPTIONS", f"sip:{DOMAIN}"))
    await phone.response(200)


@on_rig()
async def test_stale_nonce_is_said_to_be_stale_and_the_next_works(rig: Rig) -> None:
    phone = rig.phone("alice")
    request = phone.make("REGISTER", f"sip:{DOMAIN}")
    phone.send(request)
    challenge = await phone.response(401)
    await asyncio.sleep(301)
    again = phone.answer_challenge(request, challenge)
    phone.send(again)
    stale = await phone.response(401)
    assert "stale=true" in (stale.get("www-authenticate") or "")
    assert rig.authenticator.asked == []
    phone.send(phone.answer_challenge(again, stale))
    await phone.response(200)


@on_rig()
async def test_used_nonce_count_is_refused_without_asking_again(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.login(phone.make("REGISTER", f"sip:{DOMAIN}"))
    await phone.response(200)
    thief = rig.phone("alice")
    copied = sent.copy()
    copied.replace_first("via", thief.via())
    copied.set("contact", f"<sip:alice@{thief.host}>")
    thief.send(copied)
    assert "stale=true" in ((await thief.response(401)).get("www-authenticate") or "")
    assert len(rig.authenticator.asked) == 1
    assert len((await rig.locations.get("alice")).bindings) == 1


@on_rig()
async def test_one_nonce_serves_many_counts_in_any_order(rig: Rig) -> None:
    phone = rig.phone("alice")
    request = phone.make("REGISTER", f"sip:{DOMAIN}")
    phone.send(request)
    challenge = await phone.response(401)
    for count in (1, 3, 2, 9):
        phone.send(phone.answer_challenge(request, challenge, nc=f"{count:08x}"))
        await phone.response(200)
    phone.send(phone.answer_challenge(request, challenge, nc="00000003"))
    await phone.response(401)


@on_rig()
async def test_nonce_without_qop_serves_once(rig: Rig) -> None:
    phone = rig.phone("alice")
    request = phone.make("REGISTER", f"sip:{DOMAIN}")
    phone.send(request)
    challenge = await phone.response(401)
    phone.send(phone.answer_challenge(request, challenge, qop=""))
    await phone.response(200)
    phone.send(phone.answer_challenge(request, challenge, qop=""))
    await phone.response(401)


@on_rig()
async def test_foreign_nonce_is_challenged_anew(rig: Rig) -> None:
    for nonce in ("0" * 44, "dcd98b7102dd2f0e8b11d0f600bfb0c093", "é" * 44):
        challenge = await refused(rig.phone("alice"), nonce=nonce)
        assert "stale=true" in (challenge.get("www-authenticate") or "")
    assert rig.authenticator.asked == []


@on_rig()
async def test_algorithm_or_qop_that_was_not_offered_is_challenged(rig: Rig) -> None:
    for change in ({"algorithm": "SHA-512-256"}, {"algorithm": "MD5-sess"}, {"qop": "auth-int"}):
        challenge = await refused(rig.phone("alice"), **change)
        assert "not offered" in challenge.reason
    assert rig.authenticator.asked == []


@on_rig()
async def test_algorithm_may_be_written_in_any_case_and_left_out(rig: Rig) -> None:
    for change in ({"algorithm": "md5"}, {}):
        phone = rig.phone("alice")
        request = phone.make("REGISTER", f"sip:{DOMAIN}")
        phone.send(request)
        phone.send(phone.answer_challenge(request, await phone.response(401), **change))
        await phone.response(200)


@on_rig()
async def test_credentials_of_another_request_are_refused(rig: Rig) -> None:
    phone = rig.phone("alice")
    request = phone.make("INVITE", f"sip:0899123456@{DOMAIN}", body=SDP)
    phone.send(request)
    phone.send(phone.answer_challenge(request, await phone.response(407), uri=f"sip:1000@{DOMAIN}"))
    await phone.response(403)
    assert rig.authenticator.asked == []


@on_rig()
async def test_credentials_for_the_same_place_written_otherwise_pass(rig: Rig) -> None:
    phone = rig.phone("alice")
    request = phone.make("REGISTER", f"sip:{DOMAIN};transport=udp")
    phone.send(request)
    phone.send(phone.answer_challenge(request, await phone.response(401), uri=f"sip:{DOMAIN}"))
    await phone.response(200)


@pytest.mark.parametrize("nc", ["1", "0x000001", "+0000001", "0000_001", " 0000001", "zzzzzzzz", "-0000001"])
def test_nonce_count_that_is_not_8_hexadecimal_digits_is_malformed(nc: str) -> None:
    @on_rig()
    async def scenario(rig: Rig) -> None:
        phone = rig.phone("alice")
        request = phone.make("REGISTER", f"sip:{DOMAIN}")
        phone.send(request)
        phone.send(phone.answer_challenge(request, await phone.response(401), nc=nc))
        await phone.response(400)
        assert rig.authenticator.asked == []

    scenario()


@on_rig()
async def test_credentials_with_a_part_missing_are_malformed(rig: Rig) -> None:
    phone = rig.phone("alice")
    for name in ("username", "uri", "response", "nonce"):
        request = phone.make("REGISTER", f"sip:{DOMAIN}")
        phone.send(request)
        again = phone.answer_challenge(request, await phone.response(401))
        again.set(
            "authorization", re.sub(rf'\b{name}="[^"]*", ?|, {name}="[^"]*"$', "", again.get("authorization") or "")
        )
        phone.send(again)
        await phone.response(400)


@on_rig()
async def test_radius_down_is_503_with_retry_after_and_nobody_gets_in(rig: Rig) -> None:
    rig.authenticator.down = True
    phone = rig.phone("alice")
    await phone.login(phone.make("REGISTER", f"sip:{DOMAIN}"))
    answer = await phone.response(503)
    assert int(answer.get("retry-after") or "") > 0
    sent = await phone.login(phone.make("INVITE", f"sip:1000@{DOMAIN}", body=SDP))
    answer = await phone.response(503)
    phone.ack(sent, answer)
    assert int(answer.get("retry-after") or "") > 0
    assert not (await rig.locations.get("alice")).bindings
    await rig.pbx.quiet()
    rig.authenticator.down = False
    await phone.register()


@on_rig()
async def test_slow_radius_holds_up_nobody_else(rig: Rig) -> None:
    rig.authenticator.delay_s = 1.9
    slow, other = rig.phone("alice"), rig.phone("bob")
    await slow.login(slow.make("REGISTER", f"sip:{DOMAIN}"))
    other.send(other.make("OPTIONS", f"sip:{DOMAIN}"))
    await other.response(200, within=0.1)
    await slow.response(200)


@on_rig()
async def test_retransmission_during_the_check_asks_once(rig: Rig) -> None:
    rig.authenticator.delay_s = 1.0
    phone = rig.phone("alice")
    again = await phone.login(phone.make("REGISTER", f"sip:{DOMAIN}"))
    await asyncio.sleep(0.5)
    phone.send(again)
    await phone.response(200)
    phone.send(again)
    await asyncio.sleep(0.1)
    assert len(rig.authenticator.asked) == 1
    assert len(phone.repeats) == 1


@on_rig()
async def test_address_of_somebody_else_cannot_be_registered(rig: Rig) -> None:
    phone = rig.phone("alice")
    for address in (f"bob@{DOMAIN}", f"1002@{DOMAIN}", "alice@evil.example"):
        await phone.login(phone.make("REGISTER", f"sip:{DOMAIN}", to=f"<sip:{address}>"))
        await phone.response(403)
    assert await rig.locations.find("1002") == ""
    for address in (f"ALICE@{DOMAIN}", f"1001@{DOMAIN.upper()}", f"%61lice@{DOMAIN}"):
        await phone.login(phone.make("REGISTER", f"sip:{DOMAIN}", to=f"<sip:{address}>"))
        await phone.response(200)


@on_rig()
async def test_other_registrars_are_not_served(rig: Rig) -> None:
    phone = rig.phone("alice")
    phone.send(phone.make("REGISTER", "sip:evil.example"))
    await phone.response(403)


@on_rig()
async def test_too_short_and_star_and_query(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.login(phone.make("REGISTER", f"sip:{DOMAIN}", headers=[("expires", "10")]))
    assert (await phone.response(423)).get("min-expires") == "60"
    await phone.register()
    query = phone.make("REGISTER", f"sip:{DOMAIN}")
    query.remove("contact")
    await phone.login(query)
    assert (await phone.response(200)).get("contact")
    star = phone.make("REGISTER", f"sip:{DOMAIN}", headers=[("expires", "0")])
    star.set("contact", "*")
    await phone.login(star)
    assert not (await phone.response(200)).has("contact")
    assert await rig.locations.find("1001") == ""


@on_rig()
async def test_device_limit_of_the_group(rig: Rig) -> None:
    for _ in range(10):
        await rig.phone("alice").register()
    phone = rig.phone("alice")
    await phone.login(phone.make("REGISTER", f"sip:{DOMAIN}"))
    assert "devices" in (await phone.response(403)).reason
    assert len((await rig.locations.get("alice")).bindings) == 10


@on_rig()
async def test_location_store_down_is_503(rig: Rig) -> None:
    async def down(*_: object) -> None:
        raise Unavailable("no Redis")

    rig.locations.save = down  # type: ignore[method-assign,assignment]
    phone = rig.phone("alice")
    await phone.login(phone.make("REGISTER", f"sip:{DOMAIN}"))
    assert (await phone.response(503)).has("retry-after")


@on_rig()
async def test_registrations_at_the_same_time_both_count(rig: Rig) -> None:
    phones = [rig.phone("alice") for _ in range(8)]
    rig.authenticator.delay_s = 0.5
    await asyncio.gather(*(phone.register() for phone in phones))
    assert len((await rig.locations.get("alice")).bindings) == 8


@on_rig()
async def test_options_needs_no_login_and_what_is_not_served_says_so(rig: Rig) -> None:
    phone = rig.phone("alice")
    phone.send(phone.make("OPTIONS", f"sip:{EDGE[0]}"))
    assert "INVITE" in ((await phone.response(200)).get("allow") or "")
    for method, status in (("PUBLISH", 407), ("FROBNICATE", 501), ("BYE", 481), ("NOTIFY", 481)):
        phone.send(phone.make(method, f"sip:1000@{DOMAIN}"))
        await phone.response(status)


@on_rig()
async def test_header_that_cannot_be_read_is_answered_and_logged_without_a_traceback(rig: Rig) -> None:
    for name, value in (("from", "<sip:>;tag=1"), ("to", "sip:a b"), ("contact", "<<"), ("from", "*")):
        phone = rig.phone("alice")
        request = phone.make("REGISTER", f"sip:{DOMAIN}")
        request.set(name, value)
        phone.send(request)
        unserved = phone.make("PUBLISH", f"sip:{DOMAIN}")
        unserved.set(name, value)
        phone.send(unserved)
        await asyncio.sleep(0.1)
        assert all(isinstance(m, Response) and m.status in (400, 401, 407) for m in phone.inbox), phone.summary()
