"""GRUUs: given with a registration, they reach that phone and no other (RFC 5627)."""

from __future__ import annotations

import asyncio

from nomad.edge.calls import thaw
from nomad.edge.policy.compiler import compile_policy
from nomad.edge.subscriptions import thaw as thaw_subscription
from nomad.sip.headers import NameAddr
from nomad.sip.message import Request, Response, parse_message
from tests.harness.peers import DOMAIN, SDP, Dialog, Phone, dialog_of_callee, dialog_of_caller
from tests.harness.rig import Rig, on_rig


async def register(
    phone: Phone, instance: str, *, contact: str = "", call_id: str = "", status: int = 200, expires: int = 600
) -> Response:
    request = phone.make("REGISTER", f"sip:{DOMAIN}", call_id=call_id, headers=[("expires", str(expires))])
    contact = contact or f"sip:{phone.user}@{phone.host}"
    request.set("contact", f'<{contact}>;+sip.instance="<urn:uuid:{instance}>"')
    request.add("supported", "gruu")
    await phone.login(request)
    return await phone.response(status)


def gruus(answer: Response, instance: str) -> tuple[str, str]:
    """The public and the temporary GRUU of a phone."""
    (mine,) = [each for each in map(NameAddr.parse, answer.elements("contact")) if instance in str(each)]
    return mine.params["pub-gruu"] or "", mine.params["temp-gruu"] or ""


@on_rig()
async def test_nothing_for_who_does_not_ask(rig: Rig) -> None:
    phone = rig.phone("bob")
    request = phone.make("REGISTER", f"sip:{DOMAIN}")
    request.set("contact", f'<sip:bob@{phone.host}>;+sip.instance="<urn:uuid:1>"')
    await phone.login(request)
    contact = (await phone.response(200)).get("contact") or ""
    assert "urn:uuid:1" in contact
    assert "gruu" not in contact


@on_rig()
async def test_the_pbx_reaches_one_phone_of_several(rig: Rig) -> None:
    desk, soft = rig.phone("bob"), rig.phone("bob")
    await register(desk, "desk")
    public, temporary = gruus(await register(soft, "soft"), "soft")
    assert public == f"sip:bob@{DOMAIN};gr=urn:uuid:soft"
    for uri in (public, temporary):
        rig.pbx.invite("", uri=uri)
        invite = await soft.request("INVITE")
        assert invite.uri_text == f"sip:bob@{soft.host}"
        soft.reply(invite, 486)
        await rig.pbx.response(486)
        await desk.quiet()
    assert [cdr.user for cdr in rig.cdrs.records.values()] == ["bob", "bob"]


@on_rig()
async def test_a_call_to_a_gruu_is_not_sent_on_elsewhere(rig: Rig) -> None:
    phone = rig.phone("bob")
    public, _ = gruus(await register(phone, "1"), "1")
    rig.pbx.invite("", uri=public)
    phone.reply(await phone.request("INVITE"), 302, headers=[("contact", f"<sip:1000@{DOMAIN}>")])
    assert not (await rig.pbx.response(302)).has("contact")
    rig.pbx.invite("1002")
    phone.reply(await phone.request("INVITE"), 302, headers=[("contact", f"<sip:1000@{DOMAIN}>")])
    assert (await rig.pbx.request("INVITE")).uri.user == "1000"


@on_rig()
async def test_gruus_that_lead_nowhere(rig: Rig) -> None:
    phone = rig.phone("bob")
    public, temporary = gruus(await register(phone, "1", call_id="one"), "1")
    await register(phone, "1", call_id="two")
    rig.pbx.invite("", uri=temporary)
    await rig.pbx.response(404)
    rig.pbx.invite("", uri=public.replace("uuid:1", "uuid:2"))
    await rig.pbx.response(480)
    await register(phone, "1", expires=0)
    rig.pbx.invite("", uri=public)
    await rig.pbx.response(480)
    await phone.quiet()


@on_rig()
async def test_a_gruu_cannot_be_registered(rig: Rig) -> None:
    bob, alice = rig.phone("bob"), rig.phone("alice")
    public, temporary = gruus(await register(bob, "1"), "1")
    for contact in (public, temporary, f"sip:alice@{DOMAIN}"):
        await register(alice, "2", contact=contact, status=403)
    assert (await rig.locations.get("alice")).bindings == ()


@on_rig()
async def test_a_phone_calls_one_phone_of_another_person(rig: Rig) -> None:
    desk, soft, caller = rig.phone("bob"), rig.phone("bob"), rig.phone("alice")
    await register(desk, "desk")
    public, _ = gruus(await register(soft, "soft"), "soft")
    sent = await caller.invite("", uri=public, headers=[("p-asserted-identity", "<sip:boss@x>"), ("privacy", "none")])
    invite = await soft.request("INVITE")
    assert not invite.has("proxy-authorization")
    assert invite.get_all("p-asserted-identity") == [f'"Alice" <sip:1001@{DOMAIN}>']
    answered = soft.reply(invite, 200, body=SDP)
    answer = await caller.response(200)
    ends = dialog_of_caller(sent, answer), dialog_of_callee(invite, answered)
    caller.send(ends[0].request("ACK", caller.via()))
    await soft.request("ACK")
    await desk.quiet()
    assert (rig.call().user, rig.call().number, rig.call().direction) == ("alice", "1002", "out")
    # the callee moves: who it is, is proven by bob's credentials, not alice's
    soft.move(("203.0.113.77", 5060))
    soft.send(bye := ends[1].request("BYE", soft.via()))
    challenge = await soft.response(407)
    soft.send(soft.answer_challenge(bye, challenge))
    caller.reply(await caller.request("BYE"), 200)
    await soft.response(200)
    assert rig.calls.live == 0
    await rig.pbx.quiet()


@on_rig()
async def test_the_policy_judges_a_call_to_a_gruu(rig: Rig) -> None:
    bob, caller = rig.phone("bob"), rig.phone("alice")
    public, temporary = gruus(await register(bob, "1"), "1")
    for _ in range(2):
        await caller.invite("", uri=temporary)
        bob.reply(await bob.request("INVITE"), 180)
        await caller.response(180)
    await caller.invite("", uri=public)
    assert (await caller.response(403)).reason
    await bob.quiet()


@on_rig()
async def test_a_call_to_a_phone_that_takes_no_such_media_is_accounted_as_failed(rig: Rig) -> None:
    bob, caller = rig.phone("bob", transport="wss"), rig.phone("alice")
    public, _ = gruus(await register(bob, "1"), "1")
    await caller.invite("", uri=public)
    await caller.response(488)
    assert [(cdr.user, cdr.status) for cdr in rig.cdrs.records.values()] == [("alice", 488)]
    assert rig.calls.live == 0


@on_rig()
async def test_a_gruu_as_contact_is_kept_and_followed_within_the_call(rig: Rig) -> None:
    phone = rig.phone("alice")
    public, _ = gruus(await register(phone, "1"), "1")
    request = phone.make("INVITE", f"sip:1000@{DOMAIN}", body=SDP)
    request.set("contact", f"<{public}>")
    sent = await phone.login(request)
    invite = await rig.pbx.request("INVITE")
    assert invite.contacts[0].uri_text == public
    answered = rig.pbx.reply(invite, 200, body=SDP)
    answer = await phone.response(200)
    phone.send(dialog_of_caller(sent, answer).request("ACK", phone.via()))
    await rig.pbx.request("ACK")
    far = dialog_of_callee(invite, answered)
    phone.move(("203.0.113.9", 40_000))  # registers again from elsewhere, and says nothing within the call
    await register(phone, "1")
    rig.pbx.send(far.request("INFO", rig.pbx.via()))
    info = await phone.request("INFO")
    assert info.uri_text == f"sip:alice@{phone.host}"
    phone.reply(info, 200)
    await rig.pbx.response(200)
    await rig.console.hangup(rig.call().id)
    assert (await phone.request("BYE")).uri_text == f"sip:alice@{phone.host}"


@on_rig()
async def test_the_first_ack_reaches_a_phone_that_answered_with_a_gruu(rig: Rig) -> None:
    phone = rig.phone("bob")
    public, _ = gruus(await register(phone, "1"), "1")
    sent = rig.pbx.invite("1002")
    phone.reply(await phone.request("INVITE"), 200, contact=f"<{public}>")
    answer = await rig.pbx.response(200)
    assert answer.contacts[0].uri_text == public
    rig.pbx.send(dialog_of_caller(sent, answer).request("ACK", rig.pbx.via()))
    assert (await phone.request("ACK")).uri_text == f"sip:bob@{phone.host}"


@on_rig()
async def test_a_message_to_a_gruu_reaches_that_phone_only(rig: Rig) -> None:
    desk, soft, caller = rig.phone("bob"), rig.phone("bob"), rig.phone("alice")
    await register(desk, "desk")
    _, temporary = gruus(await register(soft, "soft"), "soft")
    await caller.login(caller.make("MESSAGE", temporary))
    message = await soft.request("MESSAGE")
    assert message.get_all("p-asserted-identity") == [f'"Alice" <sip:1001@{DOMAIN}>']
    soft.reply(message, 200)
    await caller.response(200)
    await desk.quiet()
    await soft.quiet()
    await rig.pbx.quiet()


@on_rig()
async def test_after_a_crash_each_end_of_a_call_between_phones_is_still_known(rig: Rig) -> None:
    bob, caller = rig.phone("bob"), rig.phone("alice")
    public, _ = gruus(await register(bob, "1"), "1")
    sent = await caller.invite("", uri=public)
    invite = await bob.request("INVITE")
    answered = bob.reply(invite, 200, body=SDP)
    answer = await caller.response(200)
    far = dialog_of_callee(invite, answered)
    await rig.stop()
    after = Rig(rig.options, survivors=rig)
    after.start()
    for stored in await after.live_calls.load():
        after.calls.restore(thaw(stored), now=after.clock.wall(), latest_end=after.clock.wall() + 3600)
    # the ACK died with the old process: the answer comes again, what it asserts goes no further
    again = parse_message(answered.encode())
    again.add("p-asserted-identity", "<sip:boss@x>")
    again.add("x-again", "else it would be a copy to the byte")
    bob.send(again)
    repeated = await caller.response(200)
    assert not repeated.has("p-asserted-identity")
    caller.send(dialog_of_caller(sent, answer).request("ACK", caller.via()))
    await bob.request("ACK")
    bob.move(("203.0.113.77", 5060))
    bob.send(bye := far.request("BYE", bob.via()))
    bob.send(bob.answer_challenge(bye, await bob.response(407)))
    caller.reply(await caller.request("BYE"), 200)
    await bob.response(200)
    assert after.calls.live == 0
    await after.stop()


PROGRESS = [("event", "refer"), ("subscription-state", "active;expires=60")]
DONE = [("event", "refer"), ("subscription-state", "terminated;reason=noresource")]


async def notified(sender: Phone, receiver: Phone, dialog: Dialog, headers: list[tuple[str, str]]) -> None:
    """News that arrives and is acknowledged."""
    sender.send(dialog.request("NOTIFY", sender.via(), headers=headers))
    receiver.reply(await receiver.request("NOTIFY"), 200)
    await sender.response(200)


async def talk(caller: Phone, callee: Phone, uri: str) -> tuple[Dialog, Dialog]:
    """A call from one phone to another; the dialogs of both."""
    sent = await caller.invite("", uri=uri)
    invite = await callee.request("INVITE")
    answered = callee.reply(invite, 200, body=SDP, tag=f"at-{callee.user}")
    answer = await caller.response(200)
    ends = dialog_of_caller(sent, answer), dialog_of_callee(invite, answered)
    caller.send(ends[0].request("ACK", caller.via()))
    await callee.request("ACK")
    return ends


def refer(phone: Phone, to: str, target: str) -> Request:
    return phone.make("REFER", to, headers=[("refer-to", f"<{target}>"), ("referred-by", f"<sip:alice@{DOMAIN}>")])


@on_rig()
async def test_attended_transfer_by_a_refer_to_a_gruu(rig: Rig) -> None:
    alice, bob, carol = rig.phone("alice"), rig.phone("bob"), rig.phone("carol")
    to_bob, _ = gruus(await register(bob, "b"), "b")
    to_carol, _ = gruus(await register(carol, "c"), "c")
    _, first = await talk(alice, bob, to_bob)
    second, _ = await talk(alice, carol, to_carol)
    local, remote = (value.rpartition("tag=")[2] for value in (second.local, second.remote))
    replaces = f"{second.call_id};to-tag={remote};from-tag={local}"
    escaped = replaces.replace(";", "%3B").replace("=", "%3D").replace("@", "%40")
    sent = await alice.login(refer(alice, to_bob, f"{to_carol}?Replaces={escaped}"))
    asked = await bob.request("REFER")
    assert asked.uri_text == f"sip:bob@{bob.host}"
    assert not asked.has("proxy-authorization")
    assert asked.get_all("p-asserted-identity") == [f'"Alice" <sip:1001@{DOMAIN}>']
    accepted = bob.reply(asked, 202, tag="refer")
    answer = await alice.response(202)
    news = dialog_of_callee(asked, accepted)
    await notified(bob, alice, news, PROGRESS)
    # bob's phone calls carol's in the place of alice's call: judged and accounted as his
    made = await bob.invite("", uri=to_carol, headers=[("replaces", replaces)])
    taken = await carol.request("INVITE")
    assert taken.get("replaces") == replaces
    carol.reply(taken, 200, body=SDP, tag="replaced")
    bob.send(dialog_of_caller(made, await bob.response(200)).request("ACK", bob.via()))
    await carol.request("ACK")
    assert sorted(call.user for call in rig.calls) == ["alice", "alice", "bob"]
    # bob moves meanwhile: the news are believed when he proves who he is, nobody else's
    bob.move(("203.0.113.77", 5060))
    for phone, status in ((carol, 403), (bob, 0)):
        phone.send(notify := news.request("NOTIFY", phone.via(), headers=DONE))
        phone.send(phone.answer_challenge(notify, await phone.response(407)))
        if status:
            await phone.response(status)
    alice.reply(await alice.request("NOTIFY"), 200)
    await bob.response(200)
    assert len(rig.subscriptions) == 0
    alice.send(dialog_of_caller(sent, answer).request("SUBSCRIBE", alice.via(), headers=[("event", "refer")]))
    await alice.response(481)
    bob.send(first.request("BYE", bob.via()))
    await rig.pbx.quiet()


@on_rig()
async def test_who_may_have_a_phone_call(rig: Rig) -> None:
    alice, other, bob = rig.phone("alice"), rig.phone("alice"), rig.phone("bob")
    to_bob, _ = gruus(await register(bob, "b"), "b")
    to_mine, _ = gruus(await register(other, "a"), "a")
    await alice.login(refer(alice, to_bob, f"sip:1000@{DOMAIN}"))
    assert (await alice.response(403)).reason == "You are in no call with this person"
    assert 'nomad_sip_rejected_total{rule="transfer"} 1.0' in rig.metrics.render()[0].decode()
    # one's own phone, for what the policy allows
    await alice.login(refer(alice, to_mine, f"sip:0899123456@{DOMAIN}"))
    await alice.response(403)
    await alice.login(refer(alice, to_mine, f"sip:1000@{DOMAIN}"))
    other.reply(await other.request("REFER"), 603)
    await alice.response(603)
    assert len(rig.subscriptions) == 0
    # and that of somebody who talks to the person through the PBX
    await alice.invite("1002")
    rig.pbx.reply(await rig.pbx.request("INVITE"), 200, body=SDP)
    await alice.response(200)
    await alice.login(refer(alice, to_bob, f"sip:1000@{DOMAIN}"))
    await alice.response(403)  # not bob has answered
    rig.pbx.invite("1002")
    bob.reply(await bob.request("INVITE"), 200, body=SDP)
    await rig.pbx.response(200)
    elsewhere = {"sip:1000@evil.example": 403, f"sip:nobody@{DOMAIN}": 404, to_bob.replace("uuid:b", "uuid:x"): 480}
    for target, status in elsewhere.items():
        await alice.login(refer(alice, to_bob, target))
        await alice.response(status)
    await alice.login(refer(alice, to_bob, f"sip:0899123456@{DOMAIN}"))
    await alice.response(403)
    await bob.quiet()
    await alice.login(refer(alice, to_bob, f"sip:1000@{DOMAIN}"))
    bob.reply(await bob.request("REFER"), 202)
    await alice.response(202)
    # bob hears of it that he is out: what comes within the dialog then is not carried
    rig.notices.drop("bob")
    assert len(rig.subscriptions) == 0


@on_rig()
async def test_a_phone_watches_one_phone_of_another_person_and_one_of_its_own(rig: Rig) -> None:
    desk, soft, mine, alice = rig.phone("bob"), rig.phone("bob"), rig.phone("alice"), rig.phone("alice")
    await register(desk, "desk")
    to_soft, _ = gruus(await register(soft, "soft"), "soft")
    to_mine, _ = gruus(await register(mine, "mine"), "mine")
    lamp = [("event", "dialog"), ("expires", "600")]
    active = [("event", "dialog"), ("subscription-state", "active;expires=600")]
    for uri, watched in ((to_soft, soft), (to_mine, mine)):
        sent = await alice.login(alice.make("SUBSCRIBE", uri, headers=lamp))
        subscribe = await watched.request("SUBSCRIBE")
        accepted = watched.reply(subscribe, 200, headers=[("expires", "600")], tag=f"at-{watched.user}")
        watcher = dialog_of_caller(sent, await alice.response(200))
        news = dialog_of_callee(subscribe, accepted)
        await notified(watched, alice, news, active)
        alice.send(watcher.request("SUBSCRIBE", alice.via(), headers=[*lamp, ("p-asserted-identity", "<sip:boss@x>")]))
        again = await watched.request("SUBSCRIBE")
        assert not again.has("p-asserted-identity")
        watched.reply(again, 200, headers=[("expires", "600")])
        await alice.response(200)
    assert len(rig.subscriptions) == 2
    # the phone that is watched goes elsewhere and registers from there; its person says so by the next news
    mine.move(("203.0.113.9", 40_000))
    mine.send(notify := news.request("NOTIFY", mine.via(), headers=active))
    mine.send(mine.answer_challenge(notify, await mine.response(407)))
    alice.reply(await alice.request("NOTIFY"), 200)
    await mine.response(200)
    await desk.quiet()
    await rig.pbx.quiet()


@on_rig()
async def test_the_policy_judges_whom_a_phone_may_watch(rig: Rig) -> None:
    bob, alice = rig.phone("bob"), rig.phone("alice")
    to_bob, _ = gruus(await register(bob, "b"), "b")
    rig.dispatcher.ruleset = compile_policy("", "nobody may call")
    await alice.login(alice.make("SUBSCRIBE", to_bob, headers=[("event", "dialog")]))
    await alice.response(403)
    await alice.login(alice.make("PUBLISH", to_bob, headers=[("event", "presence")]))
    await alice.response(403)
    await bob.quiet()


@on_rig()
async def test_news_of_a_phone_come_after_a_crash(rig: Rig) -> None:
    bob, alice = rig.phone("bob"), rig.phone("alice")
    to_bob, _ = gruus(await register(bob, "b"), "b")
    await alice.login(alice.make("SUBSCRIBE", to_bob, headers=[("event", "dialog"), ("expires", "600")]))
    subscribe = await bob.request("SUBSCRIBE")
    accepted = bob.reply(subscribe, 200, headers=[("expires", "600")])
    await alice.response(200)
    await asyncio.sleep(1)
    await rig.stop()
    after = Rig(rig.options, survivors=rig)
    after.start()
    for stored in rig.live_calls.calls.values():
        after.subscriptions.restore(thaw_subscription(stored))
    bob.move(("203.0.113.77", 5060))
    news = dialog_of_callee(subscribe, accepted)
    bob.send(notify := news.request("NOTIFY", bob.via(), headers=PROGRESS))
    bob.send(bob.answer_challenge(notify, await bob.response(407)))
    alice.reply(await alice.request("NOTIFY"), 200)
    await bob.response(200)
    await after.stop()
