"""Requests outside of calls: subscriptions and their news, presence, messages, REFER (RFC 6665, 3903, 3428, 3515)."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import pytest

from nomad.config import Events
from nomad.edge.policy.compiler import compile_policy
from nomad.edge.subscriptions import GRACE_S, thaw
from nomad.ports import Unavailable
from nomad.sip.message import Request, Response
from tests.harness.line import EDGE
from tests.harness.peers import DOMAIN, Dialog, PbxPeer, Peer, Phone, dialog_of_callee, dialog_of_caller
from tests.harness.rig import PBX_ADDRESS, Rig, on_rig

STRANGER = ("203.0.113.66", 5060)
LAMP = [("event", "dialog"), ("expires", "600"), ("accept", "application/dialog-info+xml")]
ACTIVE = [("event", "dialog"), ("subscription-state", "active;expires=600")]
ENDED = [("event", "dialog"), ("subscription-state", "terminated;reason=timeout")]


@dataclass(slots=True)
class Watched:
    """A subscription of a phone at the PBX: the dialogs of its two ends, and what the PBX got."""

    phone: Dialog
    pbx: Dialog
    subscribe: Request


async def subscribed(rig: Rig, phone: Phone, number: str = "1000", **more: object) -> Watched:
    """A phone that watches a number."""
    sent = await phone.login(phone.make("SUBSCRIBE", f"sip:{number}@{DOMAIN}", headers=LAMP))
    subscribe = await rig.pbx.request("SUBSCRIBE")
    accepted = rig.pbx.reply(subscribe, 200, headers=[("expires", "600")], **more)  # type: ignore[arg-type]
    answer = await phone.response(200)
    return Watched(dialog_of_caller(sent, answer), dialog_of_callee(subscribe, accepted), subscribe)


async def notified(sender: Peer, receiver: Peer, dialog: Dialog, headers: list[tuple[str, str]]) -> Request:
    """News that arrives and is acknowledged, as its receiver got it."""
    contact = ("contact", f"<sip:notifier@{sender.host}>")
    sender.send(dialog.request("NOTIFY", sender.via(), headers=[contact, *headers]))
    notify = await receiver.request("NOTIFY")
    receiver.reply(notify, 200)
    assert (await sender.response(200)).cseq.method == "NOTIFY"
    return notify


def outside(rig: Rig, method: str, extension: str, headers: list[tuple[str, str]] | None = None) -> Request:
    """A request of the PBX outside of dialogs, sent."""
    pbx: PbxPeer = rig.pbx
    uri = f"sip:{extension}@{EDGE[0]}:{EDGE[1]}"
    request = Request(method, uri)
    request.add("via", pbx.via())
    request.add("max-forwards", "70")
    request.add("from", f"<sip:2000@pbx.example>;tag={method}{len(pbx.inbox)}")
    request.add("to", f"<{uri}>")
    request.add("call-id", f"{method}-{extension}-{request.get('via')}".replace(" ", "").replace(";", ""))
    request.add("cseq", f"1 {method}")
    request.add("contact", f"<sip:asterisk@{pbx.host}>")
    for name, value in headers or []:
        request.add(name, value)
    pbx.send(request)
    return request


@on_rig()
async def test_lamp_of_a_colleague(rig: Rig) -> None:
    phone = rig.phone("alice")
    watched = await subscribed(rig, phone)
    got = watched.subscribe
    assert got.uri_text == f"sip:1000@{PBX_ADDRESS[0]}:{PBX_ADDRESS[1]}"
    assert got.get("p-asserted-identity") == f'"Alice" <sip:1001@{DOMAIN}>'
    assert not got.has("proxy-authorization")
    assert re.fullmatch(rf"<sip:{EDGE[0]}:{EDGE[1]};lr;c=sub-\w+>", got.get("record-route") or "")
    news = await notified(rig.pbx, phone, watched.pbx, ACTIVE)
    assert not news.has("route")
    assert news.has("record-route")  # who takes the route of the dialog from the NOTIFY (RFC 6665 4.1.2.4)
    assert len(rig.subscriptions) == 1
    phone.send(watched.phone.request("SUBSCRIBE", phone.via(), headers=[*LAMP, ("contact", f"<sip:new@{phone.host}>")]))
    again = await rig.pbx.request("SUBSCRIBE")
    assert not again.has("route")
    rig.pbx.reply(again, 200, headers=[("expires", "600")])
    await phone.response(200)
    watched.pbx.target = f"sip:new@{phone.host}"
    await notified(rig.pbx, phone, watched.pbx, ACTIVE)
    await notified(rig.pbx, phone, watched.pbx, ENDED)
    assert len(rig.subscriptions) == 0
    rig.pbx.send(watched.pbx.request("NOTIFY", rig.pbx.via(), headers=ACTIVE))
    await rig.pbx.response(481)
    assert rig.calls.live == 0
    assert rig.cdrs.all == []
    await asyncio.sleep(1)
    assert rig.live_calls.calls == {}


@on_rig()
async def test_news_that_come_before_the_answer(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.login(phone.make("SUBSCRIBE", f"sip:1000@{DOMAIN}", headers=LAMP))
    subscribe = await rig.pbx.request("SUBSCRIBE")
    ours = Response(200, "OK")  # the dialog that the PBX makes, before it says so
    ours.add("to", f"{subscribe.get('to')};tag=early")
    dialog = dialog_of_callee(subscribe, ours)
    news = await notified(rig.pbx, phone, dialog, ACTIVE)
    assert news.from_.tag == "early"
    rig.pbx.reply(subscribe, 200, tag="early", headers=[("expires", "600")])
    answer = await phone.response(200)
    caller = dialog_of_caller(sent, answer)
    phone.send(caller.request("SUBSCRIBE", phone.via(), headers=[("event", "dialog"), ("expires", "0")]))
    last = await rig.pbx.request("SUBSCRIBE")
    assert last.uri_text == caller.target
    rig.pbx.reply(last, 200, headers=[("expires", "0")])
    await phone.response(200)
    await notified(rig.pbx, phone, dialog, ENDED)
    assert len(rig.subscriptions) == 0


@on_rig()
async def test_own_mailbox_whatever_the_policy_says_of_numbers(rig: Rig) -> None:
    phone = rig.phone("alice")
    rig.dispatcher.ruleset = compile_policy("", "nobody may call")
    for uri in (f"sip:alice@{DOMAIN}", f"sip:1001@{DOMAIN}"):
        await phone.login(phone.make("SUBSCRIBE", uri, headers=[("event", "message-summary"), ("expires", "60")]))
        got = await rig.pbx.request("SUBSCRIBE")
        assert got.uri.user == "1001"
        rig.pbx.reply(got, 200, headers=[("expires", "60")])
        await phone.response(200)
    await phone.login(phone.make("SUBSCRIBE", f"sip:1000@{DOMAIN}", headers=LAMP))
    await phone.response(403)
    await rig.pbx.quiet()


@pytest.mark.parametrize("method", ["SUBSCRIBE", "MESSAGE", "REFER"])
@pytest.mark.parametrize(
    ("uri", "status"),
    [
        (f"sip:0899123456@{DOMAIN}", 403),
        (f"sip:nobody@{DOMAIN}", 404),
        ("sip:1000@evil.example", 403),
        (f"sip:1000@{PBX_ADDRESS[0]}:{PBX_ADDRESS[1]}", 403),
    ],
)
def test_whom_a_person_may_not_ask(method: str, uri: str, status: int) -> None:
    async def scenario(rig: Rig) -> None:
        phone = rig.phone("alice")
        await phone.login(phone.make(method, uri, headers=[("refer-to", f"<sip:1000@{DOMAIN}>")]))
        await phone.response(status)
        await rig.pbx.quiet()
        assert len(rig.subscriptions) == 0

    on_rig()(scenario)()


@on_rig()
async def test_from_must_be_the_person_s(rig: Rig) -> None:
    phone = rig.phone("alice")
    for method in ("SUBSCRIBE", "PUBLISH", "MESSAGE"):
        await phone.login(phone.make(method, f"sip:1000@{DOMAIN}", from_=f"<sip:bob@{DOMAIN}>;tag=1"))
        await phone.response(403)
    await rig.pbx.quiet()


@on_rig()
async def test_presence_of_oneself_only(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.login(phone.make("PUBLISH", f"sip:alice@{DOMAIN}", headers=[("event", "presence"), ("expires", "60")]))
    got = await rig.pbx.request("PUBLISH")
    assert got.uri.user == "1001"
    assert not got.has("record-route")
    rig.pbx.reply(got, 200, headers=[("sip-etag", "e1")])
    assert (await phone.response(200)).get("sip-etag") == "e1"
    await phone.login(phone.make("PUBLISH", f"sip:bob@{DOMAIN}", headers=[("event", "presence")]))
    await phone.response(403)
    await rig.pbx.quiet()


@on_rig()
async def test_forged_news_and_refreshes_are_refused(rig: Rig) -> None:
    phone, other = rig.phone("alice"), rig.phone("bob")
    watched = await subscribed(rig, phone)
    stranger = Peer(rig.network, STRANGER)
    stranger.send(watched.pbx.request("NOTIFY", stranger.via(), headers=ACTIVE))
    await stranger.response(403)
    unknown = watched.pbx.request("NOTIFY", stranger.via(), headers=ACTIVE)  # as if it were one more notifier
    unknown.set("from", "<sip:1000@x>;tag=invented")
    stranger.send(unknown)
    await stranger.response(403)
    stranger.send(watched.phone.request("SUBSCRIBE", stranger.via(), headers=LAMP))
    await stranger.response(407)
    mine = watched.phone.request("SUBSCRIBE", other.via(), headers=LAMP)
    other.send(mine)
    other.send(other.answer_challenge(mine, await other.response(407)))
    await other.response(403)
    for name, value in (("call-id", "guess"), ("to", "<sip:1000@x>;tag=guess"), ("from", "<sip:x@y>;tag=guess")):
        forged = watched.phone.request("SUBSCRIBE", phone.via(), headers=LAMP)
        forged.set(name, value)
        phone.send(forged)
        await phone.response(481)
    phone.send(phone.make("NOTIFY", f"sip:1000@{DOMAIN}", headers=ACTIVE))
    await phone.response(481)
    await rig.pbx.quiet()
    await phone.quiet()
    (kept,) = rig.subscriptions
    assert list(kept.notifiers) == [watched.pbx.local.rpartition("=")[2]]


@on_rig()
async def test_request_uri_and_route_of_a_refresh_lead_to_the_notifier_only(rig: Rig) -> None:
    phone = rig.phone("alice")
    watched = await subscribed(rig, phone)
    forged = watched.phone.request("SUBSCRIBE", phone.via(), headers=LAMP)
    forged.set_uri(f"sip:0899123456@{PBX_ADDRESS[0]}")
    forged.add("route", "<sip:203.0.113.66;lr>")
    phone.send(forged)
    arrived = await rig.pbx.request("SUBSCRIBE")
    assert arrived.uri_text == watched.phone.target
    assert not arrived.has("route")
    assert rig.network.lost == []


@on_rig()
async def test_phone_that_moved_gets_its_news_where_it_is(rig: Rig) -> None:
    phone = rig.phone("alice")
    watched = await subscribed(rig, phone)
    phone.move((phone.flow.remote[0], 44444))
    again = watched.phone.request("SUBSCRIBE", phone.via(), headers=LAMP)
    phone.send(again)
    phone.send(phone.answer_challenge(again, await phone.response(407)))
    got = await rig.pbx.request("SUBSCRIBE")
    assert not got.has("proxy-authorization")
    rig.pbx.reply(got, 200, headers=[("expires", "600")])
    await phone.response(200)
    await notified(rig.pbx, phone, watched.pbx, ACTIVE)


@on_rig()
async def test_subscription_ends_with_its_time(rig: Rig) -> None:
    phone = rig.phone("alice")
    watched = await subscribed(rig, phone)
    await asyncio.sleep(300)
    await notified(rig.pbx, phone, watched.pbx, [("subscription-state", "active;expires=100")])
    await asyncio.sleep(100 + GRACE_S - 3)
    assert len(rig.subscriptions) == 1
    await asyncio.sleep(5)
    assert len(rig.subscriptions) == 0
    assert rig.live_calls.calls == {}


@on_rig()
async def test_refresh_after_which_nothing_is_left(rig: Rig) -> None:
    phone = rig.phone("alice")
    for status in (500, 481):  # the first stays, the second goes
        watched = await subscribed(rig, phone)
        phone.send(watched.phone.request("SUBSCRIBE", phone.via(), headers=LAMP))
        rig.pbx.reply(await rig.pbx.request("SUBSCRIBE"), status)
        await phone.response(status)
        assert len(rig.subscriptions) == 1
    rig.notices.drop("alice")
    watched = await subscribed(rig, phone)
    rig.pbx.send(watched.pbx.request("NOTIFY", rig.pbx.via(), headers=ACTIVE))
    phone.reply(await phone.request("NOTIFY"), 481)
    await rig.pbx.response(481)
    assert len(rig.subscriptions) == 0


@on_rig()
async def test_subscription_that_is_refused_or_never_answered_leaves_nothing(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.login(phone.make("SUBSCRIBE", f"sip:1000@{DOMAIN}", headers=LAMP))
    rig.pbx.reply(await rig.pbx.request("SUBSCRIBE"), 489)
    await phone.response(489)
    assert len(rig.subscriptions) == 0
    rig.network.peers.pop(("udp", PBX_ADDRESS))
    await phone.login(phone.make("SUBSCRIBE", f"sip:1000@{DOMAIN}", headers=LAMP))
    await phone.response(100, within=5.0)
    await asyncio.sleep(80)
    assert len(rig.subscriptions) == 0
    await phone.quiet(0)  # RFC 4320: no 408 to a non-INVITE


@on_rig(events=Events(max_per_person=2, requests_per_minute=4))
async def test_limits_of_a_person(rig: Rig) -> None:
    phone, other = rig.phone("alice"), rig.phone("bob")
    for _ in "12":
        await subscribed(rig, phone)
    await phone.login(phone.make("SUBSCRIBE", f"sip:1000@{DOMAIN}", headers=LAMP))
    assert (await phone.response(403)).reason == "You have 2 subscriptions; no more are allowed"
    await subscribed(rig, other)
    await phone.login(phone.make("MESSAGE", f"sip:1000@{DOMAIN}"))
    rig.pbx.reply(await rig.pbx.request("MESSAGE"), 200)
    await phone.response(200)
    await phone.login(phone.make("MESSAGE", f"sip:1000@{DOMAIN}"))
    assert (await phone.response(503)).has("retry-after")
    await asyncio.sleep(16)
    await phone.login(phone.make("MESSAGE", f"sip:1000@{DOMAIN}"))
    await rig.pbx.request("MESSAGE")


@on_rig(events=Events(max_subscriptions=1))
async def test_limit_of_the_edge(rig: Rig) -> None:
    await subscribed(rig, rig.phone("alice"))
    bob = rig.phone("bob")
    await bob.login(bob.make("SUBSCRIBE", f"sip:1000@{DOMAIN}", headers=LAMP))
    assert (await bob.response(503)).has("retry-after")


@on_rig(events=Events(enabled=False))
async def test_switched_off(rig: Rig) -> None:
    phone = rig.phone("alice")
    for method in ("SUBSCRIBE", "NOTIFY", "PUBLISH", "MESSAGE", "REFER"):
        outside(rig, method, "1002")
        assert method not in ((await rig.pbx.response(405)).get("allow") or method)
        phone.send(phone.make(method, f"sip:1000@{DOMAIN}"))
        await phone.response(481 if method == "NOTIFY" else 405)
    phone.send(phone.make("OPTIONS", f"sip:{DOMAIN}"))
    assert "SUBSCRIBE" not in ((await phone.response(200)).get("allow") or "SUBSCRIBE")


@on_rig()
async def test_messages_of_the_pbx_reach_every_phone_of_the_person(rig: Rig) -> None:
    phones = [rig.phone("bob"), rig.phone("bob")]
    for phone in phones:
        await phone.register()
    for method in ("MESSAGE", "NOTIFY"):  # a mailbox may be told of without a subscription
        outside(rig, method, "1002", [("p-asserted-identity", "<sip:2000@pbx.example>"), ("privacy", "id")])
        for phone in phones:
            got = await phone.request(method)
            assert got.uri_text == f"sip:bob@{phone.host}"
            assert not got.has("p-asserted-identity")
            assert not got.has("record-route")
            phone.reply(got, 200)
        assert (await rig.pbx.response(200)).cseq.method == method
    outside(rig, "MESSAGE", "1003")
    await rig.pbx.response(480)
    outside(rig, "PUBLISH", "1002")
    await rig.pbx.response(405)
    await rig.pbx.quiet()


@on_rig()
async def test_pbx_asks_a_phone_to_call_and_hears_of_it(rig: Rig) -> None:
    phone = rig.phone("bob")
    await phone.register()
    sent = outside(rig, "REFER", "1002", [("refer-to", "<sip:2000@pbx.example>")])
    refer = await phone.request("REFER")
    accepted = phone.reply(refer, 202)
    answer = await rig.pbx.response(202)
    dialog = dialog_of_callee(refer, accepted)
    progress = [("event", "refer"), ("subscription-state", "active;expires=60")]
    await notified(phone, rig.pbx, dialog, progress)
    caller = dialog_of_caller(sent, answer)
    rig.pbx.send(caller.request("SUBSCRIBE", rig.pbx.via(), headers=[("event", "refer"), ("expires", "0")]))
    phone.reply(await phone.request("SUBSCRIBE"), 200, headers=[("expires", "0")])
    await rig.pbx.response(200)
    stranger = Peer(rig.network, STRANGER)
    stranger.send(dialog.request("NOTIFY", stranger.via(), headers=progress))
    await stranger.response(407)
    await notified(phone, rig.pbx, dialog, [("event", "refer"), ("subscription-state", "terminated;reason=noresource")])
    assert len(rig.subscriptions) == 0


@on_rig()
async def test_transfer_outside_of_calls_is_judged_twice(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.login(phone.make("REFER", f"sip:1000@{DOMAIN}", headers=[("refer-to", f"<sip:0899123456@{DOMAIN}>")]))
    await phone.response(403)
    await phone.login(phone.make("REFER", f"sip:1000@{DOMAIN}"))
    await phone.response(400)
    await rig.pbx.quiet()
    await phone.login(phone.make("REFER", f"sip:1000@{DOMAIN}", headers=[("refer-to", f"<sip:1002@{DOMAIN}>")]))
    refer = await rig.pbx.request("REFER")
    accepted = rig.pbx.reply(refer, 202)
    await phone.response(202)
    await notified(rig.pbx, phone, dialog_of_callee(refer, accepted), ENDED)
    assert len(rig.subscriptions) == 0


@on_rig()
async def test_fork_of_the_pbx_has_several_notifiers(rig: Rig) -> None:
    phone = rig.phone("alice")
    watched = await subscribed(rig, phone, tag="one")
    second = Dialog(watched.pbx.call_id, "<sip:1000@x>;tag=two", watched.pbx.remote, watched.pbx.target, [])
    second.routes = watched.pbx.routes
    await notified(rig.pbx, phone, second, ACTIVE)
    await notified(rig.pbx, phone, watched.pbx, ENDED)
    assert len(rig.subscriptions) == 1
    await notified(rig.pbx, phone, second, ENDED)
    assert len(rig.subscriptions) == 0


@on_rig()
async def test_notifiers_of_one_subscription_have_a_bound(rig: Rig) -> None:
    phone = rig.phone("alice")
    watched = await subscribed(rig, phone)
    for number in range(20):
        other = Dialog(watched.pbx.call_id, f"<sip:1000@x>;tag=n{number}", watched.pbx.remote, watched.pbx.target, [])
        rig.pbx.send(other.request("NOTIFY", rig.pbx.via(), headers=ACTIVE))
        await asyncio.sleep(0.01)
    (kept,) = rig.subscriptions
    assert len(kept.notifiers) == 8
    assert sum(isinstance(m, Response) and m.status == 481 for m in rig.pbx.inbox) == 13


@on_rig()
async def test_news_come_after_a_crash(rig: Rig) -> None:
    phone = rig.phone("alice")
    watched = await subscribed(rig, phone)
    await notified(rig.pbx, phone, watched.pbx, ACTIVE)
    await asyncio.sleep(1)
    after = Rig(rig.options, survivors=rig)
    after.start()
    for stored in rig.live_calls.calls.values():
        after.subscriptions.restore(thaw(stored))
    assert len(after.subscriptions) == 1
    await notified(after.pbx, phone, watched.pbx, ACTIVE)
    phone.send(watched.phone.request("SUBSCRIBE", phone.via(), headers=LAMP))
    rig.pbx.reply(await rig.pbx.request("SUBSCRIBE"), 200, headers=[("expires", "60")])
    await phone.response(200)
    await after.stop()


@on_rig()
async def test_store_that_is_down_costs_no_news(rig: Rig) -> None:
    async def down(*_: object) -> None:
        raise Unavailable("no database")

    rig.live_calls.put = down  # type: ignore[method-assign,assignment]
    rig.live_calls.remove = down  # type: ignore[method-assign,assignment]
    phone = rig.phone("alice")
    watched = await subscribed(rig, phone)
    await notified(rig.pbx, phone, watched.pbx, ACTIVE)
    await notified(rig.pbx, phone, watched.pbx, ENDED)


@pytest.mark.parametrize("registered", [True, False])
@on_rig()
async def test_who_is_kicked_hears_no_more(rig: Rig, registered: bool) -> None:
    phone = rig.phone("alice")
    if registered:
        await phone.register()
    watched = await subscribed(rig, phone)
    await rig.console.kick("alice")
    rig.pbx.send(watched.pbx.request("NOTIFY", rig.pbx.via(), headers=ACTIVE))
    await rig.pbx.response(481)
    await phone.quiet()


@on_rig()
async def test_garbage_within_a_subscription(rig: Rig) -> None:
    phone = rig.phone("alice")
    watched = await subscribed(rig, phone)
    for state in ("", ";;", "active;expires=soon", "active;expires=", "\t;=;=", "x" * 5000):
        await notified(rig.pbx, phone, watched.pbx, [("subscription-state", state)])
    broken = watched.pbx.request("NOTIFY", rig.pbx.via(), headers=[("contact", "<sip:")])
    rig.pbx.send(broken)
    await rig.pbx.response(400)
    phone.send(watched.phone.request("BYE", phone.via()))
    got = await rig.pbx.request("BYE")
    rig.pbx.reply(got, 481)
    await phone.response(481)
    assert len(rig.subscriptions) == 1
