"""Phones that manage their flows, and routes that a registration brings (RFC 5626, 3327, 3608)."""

from __future__ import annotations

import asyncio

from nomad.sip.message import Request, Response
from tests.harness.line import EDGE
from tests.harness.peers import DOMAIN, Phone, dialog_of_callee
from tests.harness.rig import Rig, on_rig


async def register(phone: Phone, *, reg_id: int = 1, instance: str = "<urn:uuid:1>", supported: str = "") -> Response:
    request = phone.make("REGISTER", f"sip:{DOMAIN}", headers=[("expires", "600")])
    request.set("contact", f'<sip:{phone.user}@{phone.host}>;reg-id={reg_id};+sip.instance="{instance}"')
    request.add("supported", supported or "path, outbound")
    await phone.login(request)
    return await phone.response(200)


@on_rig()
async def test_answer_tells_how_flows_are_kept_and_where_requests_go(rig: Rig) -> None:
    answer = await register(rig.phone("bob", transport="tcp"))
    assert (answer.get("require"), answer.get("flow-timer")) == ("outbound", "120")
    assert answer.get("service-route") == "<sip:192.0.2.1:5060;transport=tcp;lr>"
    assert ";reg-id=1" in (answer.get("contact") or "")
    plain = await rig.phone("alice").register()
    assert not plain.has("require")
    assert plain.get("service-route") == "<sip:192.0.2.1:5060;lr>"


@on_rig()
async def test_a_call_by_the_service_route_is_served(rig: Rig) -> None:
    phone = rig.phone("alice")
    route = (await phone.register()).get("service-route") or ""
    await phone.invite("1000", headers=[("route", route)])
    invite = await rig.pbx.request("INVITE")
    assert not invite.has("route")
    rig.pbx.reply(invite, 486)
    await phone.response(486)


@on_rig()
async def test_registration_dies_with_its_flow(rig: Rig) -> None:
    phone, other = rig.phone("bob", transport="tcp"), rig.phone("bob", transport="tcp")
    await register(phone)
    await register(other, instance="<urn:uuid:2>")
    rig.signalling.close(phone.flow)
    await asyncio.sleep(0.1)
    (left,) = (await rig.locations.get("bob")).bindings
    assert left.flow == other.flow
    rig.signalling.close(other.flow)
    await asyncio.sleep(0.1)
    assert (await rig.locations.get("bob")).bindings == ()
    rig.pbx.invite("1002")
    await rig.pbx.response(480)


@on_rig()
async def test_registration_of_a_phone_that_knows_no_flows_stays(rig: Rig) -> None:
    phone = rig.phone("bob", transport="tcp")
    await phone.register()
    rig.signalling.close(phone.flow)
    await asyncio.sleep(0.1)
    assert len((await rig.locations.get("bob")).bindings) == 1


@on_rig()
async def test_flow_that_ends_while_credentials_are_checked(rig: Rig) -> None:
    phone = rig.phone("bob", transport="tcp")
    rig.authenticator.delay_s = 1.0
    request = phone.make("REGISTER", f"sip:{DOMAIN}", headers=[("supported", "outbound")])
    request.set("contact", f'<sip:bob@{phone.host}>;reg-id=1;+sip.instance="<urn:uuid:1>"')
    await phone.login(request)
    await asyncio.sleep(0.5)
    rig.signalling.close(phone.flow)
    await asyncio.sleep(2)
    assert (await rig.locations.get("bob")).bindings == ()


@on_rig()
async def test_two_flows_of_one_phone_ring_once(rig: Rig) -> None:
    one, two = rig.phone("bob", transport="tcp"), rig.phone("bob", transport="tcp")
    await register(one)
    await asyncio.sleep(5)
    await register(two, reg_id=2)
    assert len((await rig.locations.get("bob")).bindings) == 2
    rig.pbx.invite("1002")
    two.reply(await two.request("INVITE"), 486)
    await rig.pbx.response(486)
    await one.quiet()


@on_rig()
async def test_next_flow_of_a_phone_is_tried_when_one_fails(rig: Rig) -> None:
    one, two = rig.phone("bob", transport="tcp"), rig.phone("bob", transport="tcp")
    await register(one)
    await asyncio.sleep(5)
    await register(two, reg_id=2)
    rig.pbx.invite("1002")
    await two.request("INVITE")
    rig.signalling.close(two.flow)
    one.reply(await one.request("INVITE"), 486)
    await rig.pbx.response(486)
    await asyncio.sleep(1)
    rig.pbx.invite("1002")
    one.reply(await one.request("INVITE"), 430)  # as a proxy before the phone would say
    await rig.pbx.response(430)


@on_rig()
async def test_a_message_and_a_refer_take_the_next_flow_of_a_phone_too(rig: Rig) -> None:
    one, two = rig.phone("bob", transport="tcp"), rig.phone("bob", transport="tcp")
    await register(one)
    await asyncio.sleep(5)
    await register(two, reg_id=2)
    for method in ("MESSAGE", "REFER"):
        rig.pbx.send(asked := outside(rig, method))
        two.reply(await two.request(method), 430)
        got = await one.request(method)
        accepted = one.reply(got, 202)
        answer = await rig.pbx.response(202)
        await two.quiet()
    # the news come by the flow that took the REFER
    news = dialog_of_callee(got, accepted)
    one.send(news.request("NOTIFY", one.via(), headers=[("event", "refer"), ("subscription-state", "active")]))
    notify = await rig.pbx.request("NOTIFY")
    assert (notify.call_id, notify.from_.tag) == (asked.call_id, answer.to.tag)


def outside(rig: Rig, method: str) -> Request:
    """A request of the PBX outside of dialogs, to bob."""
    request = Request(method, f"sip:1002@{EDGE[0]}:{EDGE[1]}")
    request.add("via", rig.pbx.via())
    request.add("max-forwards", "70")
    request.add("from", f"<sip:2000@pbx.example>;tag={method}")
    request.add("to", f"<{request.uri_text}>")
    request.add("call-id", f"{method}@pbx")
    request.add("cseq", f"1 {method}")
    request.add("contact", f"<sip:asterisk@{rig.pbx.host}>")
    request.add("refer-to", "<sip:2000@pbx.example>")
    return request


@on_rig()
async def test_no_further_flow_is_tried_for_a_caller_who_gave_up(rig: Rig) -> None:
    one, two = rig.phone("bob", transport="tcp"), rig.phone("bob", transport="tcp")
    await register(one)
    await asyncio.sleep(5)
    await register(two, reg_id=2)
    sent = rig.pbx.invite("1002")
    await two.request("INVITE")
    cancel = sent.copy()
    cancel.method = "CANCEL"
    cancel.set("cseq", f"{sent.cseq.number} CANCEL")
    cancel.body = b""
    rig.pbx.send(cancel)
    await asyncio.sleep(0.1)
    rig.signalling.close(two.flow)
    await one.quiet()
    assert rig.calls.live == 0


async def ping(phone: Phone, times: int) -> None:
    """Keepalives at four fifths of the Flow-Timer (RFC 5626 4.4)."""
    for _ in range(times):
        await asyncio.sleep(20)
        phone.send(b"\r\n\r\n")


@on_rig()
async def test_phone_that_sends_no_keepalives_loses_its_flow(rig: Rig) -> None:
    phone, gone = rig.phone("bob"), rig.phone("bob")
    assert (await register(phone)).get("flow-timer") == "25"
    await register(gone, instance="<urn:uuid:2>")
    await ping(phone, 4)
    (left,) = (await rig.locations.get("bob")).bindings
    assert left.flow == phone.flow
    await ping(phone, 20)
    assert len((await rig.locations.get("bob")).bindings) == 1
    await asyncio.sleep(70)
    rig.pbx.invite("1002")
    await rig.pbx.response(480)
    await register(gone, instance="<urn:uuid:2>")  # it is back, by the same flow
    rig.pbx.invite("1002")
    gone.reply(await gone.request("INVITE"), 486)
    await rig.pbx.response(486)


@on_rig()
async def test_no_keepalives_are_expected_where_none_were_promised(rig: Rig) -> None:
    plain, relayed = rig.phone("alice"), rig.phone("bob")
    await plain.register()
    request = relayed.make("REGISTER", f"sip:{DOMAIN}", headers=[("supported", "path, outbound"), ("expires", "600")])
    request.add("via", "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKphone")
    request.add("path", "<sip:proxy.example;lr;ob>")
    request.set("contact", '<sip:bob@10.0.0.1>;reg-id=1;+sip.instance="<urn:uuid:1>"')
    await relayed.login(request)
    answer = await relayed.response(200)
    assert (answer.get("require"), answer.get("flow-timer")) == ("outbound", None)
    await asyncio.sleep(500)
    assert [len((await rig.locations.get(user)).bindings) for user in ("alice", "bob")] == [1, 1]


@on_rig()
async def test_keepalives_are_expected_again_after_a_restart(rig: Rig) -> None:
    phone, gone = rig.phone("alice"), rig.phone("bob")
    await register(phone)
    await register(gone)
    await rig.stop()
    rig.signalling.keepalives.stop()
    again = Rig(survivors=rig)
    again.start()
    await again.registrar.resume()
    await ping(phone, 5)
    assert [len((await again.locations.get(user)).bindings) for user in ("alice", "bob")] == [1, 0]
    await again.stop()


@on_rig()
async def test_nothing_is_kept_of_flows_whose_end_nobody_tells(rig: Rig) -> None:
    phone = rig.phone("bob")
    for port in range(20):
        phone.move(("198.51.100.9", 20_000 + port))
        await register(phone, supported="path")  # with a reg-id, but manages no flows
    assert len((await rig.locations.get("bob")).bindings) == 1
    assert rig.registrar._flows._users == {}
