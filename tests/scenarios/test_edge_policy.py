"""What the policy says, on the wire: refusals with their reason, numbers in one form, media, transports, countries."""

from __future__ import annotations

import asyncio
import logging

import pytest

from nomad.edge.policy import compile_policy
from tests.harness.peers import SDP
from tests.harness.rig import Rig, on_rig

POLICY = """\
timezone = "UTC"
deny = ["premium"]
[numbers]
country = "FR"
[classes]
emergency = ["112"]
internal = ["re:[0-9]{4}"]
national = ["0"]
premium = ["089"]
[tariffs.national]
per_minute = 0.5
[[group]]
name = "strict"
match = { filter_id = "boss" }
allow = ["internal", "national"]
transports = ["tcp", "tls"]
countries = ["FR"]
media_encryption = true
[[group]]
name = "staff"
match = { default = true }
allow = ["internal", "national"]
max_cost_per_day = 1
max_call_minutes = 1
"""
SRTP = SDP.replace(b"RTP/AVP", b"RTP/SAVP")


class France:
    """Every address is in one country."""

    def __init__(self, code: str = "FR") -> None:
        self.code = code

    def of(self, address: str) -> str | None:
        return self.code


@pytest.mark.parametrize("number", ["0899123456", "0033899123456", "+33899123456", "+330899123456", "+33(0)899-123456"])
@on_rig(policy=POLICY)
async def test_a_refusal_says_why_everywhere(rig: Rig, number: str, caplog: pytest.LogCaptureFixture) -> None:
    phone = rig.phone("alice")
    with caplog.at_level(logging.INFO):
        sent = await phone.invite(number)
        answer = await phone.response(403)
    phone.ack(sent, answer)
    assert answer.reason == "Premium numbers are not allowed"
    assert (answer.get("warning") or "").endswith('"Premium numbers are not allowed"')
    assert (answer.get("warning") or "").startswith("399 ")
    await asyncio.sleep(1)
    (cdr,) = rig.cdrs.all
    assert (cdr.rule, cdr.reason, cdr.number, cdr.chain) == (
        *("deny", "Premium numbers are not allowed", "+33899123456", "class:9 group:21 deny:2"),
    )
    why = [record.fields["why"] for record in caplog.records if hasattr(record, "fields") and "why" in record.fields]
    assert any("class premium, by '089' (line 9)" in each and each.endswith("premium (line 2)") for each in why), why
    await rig.pbx.quiet()


@on_rig(policy=POLICY)
async def test_the_pbx_gets_what_was_dialled(rig: Rig) -> None:
    talk = await rig.talk(rig.phone("alice"), "0033139635511")
    assert talk.invite.uri.user == "0033139635511"
    assert talk.call.number == "+33139635511"
    assert talk.call.chain == "class:8 group:21 allow:22 cost:23 longest:24"


@on_rig(policy=POLICY)
async def test_the_pbx_gets_no_number_that_was_not_judged(rig: Rig) -> None:
    talk = await rig.talk(rig.phone("alice"), "+33(0)139635511")
    assert (talk.invite.uri.user, talk.call.number) == ("+33139635511", "+33139635511")


@pytest.mark.parametrize("number", ["+0033899123456", "+33*139635511", "000139635511", "+33139635511000000"])
@on_rig(policy=POLICY)
async def test_what_is_no_number_reaches_nobody(rig: Rig, number: str) -> None:
    phone = rig.phone("alice")
    phone.ack(await phone.invite(number), answer := await phone.response(403))
    assert answer.reason == "Number not allowed: there is no such number"
    await rig.pbx.quiet()


@on_rig(policy=POLICY)
async def test_a_call_ends_when_the_money_of_the_day_does(rig: Rig) -> None:
    phone = rig.phone("alice")
    for ends_after in (60, 60):  # half a unit each, by the longest call
        talk = await rig.talk(phone, "0139635511")
        await asyncio.sleep(ends_after - 5)
        assert talk.call.state == "answered"
        for peer in (phone, rig.pbx):
            peer.reply(await peer.request("BYE", within=15), 200)
    sent = await phone.invite("0139635511")
    answer = await phone.response(403)
    phone.ack(sent, answer)
    assert answer.reason == "Your 1.00 of today are used up"
    await rig.talk(phone, "1000")  # costs nothing


@on_rig(policy=POLICY)
async def test_transports_countries_and_media_of_a_strict_group(rig: Rig) -> None:
    rig.dispatcher.countries = France()
    udp, tcp = rig.phone("carol"), rig.phone("carol", transport="tcp")
    sent = await udp.invite("1000", body=SRTP)
    answer = await udp.response(403)
    udp.ack(sent, answer)
    assert answer.reason == "Calls over UDP are not allowed; connect by TCP, TLS"
    for body in (SDP, SDP + b"m=video 4002 RTP/SAVP 31\r\n", b""):
        sent = await tcp.invite("1000", body=body)
        answer = await tcp.response(488)
        tcp.ack(sent, answer)
        assert answer.reason == "Calls need encrypted media (SRTP)"
    rig.dispatcher.countries = France("US")
    sent = await tcp.invite("1000", body=SRTP)
    answer = await tcp.response(403)
    tcp.ack(sent, answer)
    assert answer.reason == "Calls from this country are not allowed"
    rig.dispatcher.countries = France()
    await rig.talk(tcp, "1000", body=SRTP)


@on_rig(policy=POLICY)
async def test_an_encrypted_call_stays_encrypted(rig: Rig) -> None:
    rig.dispatcher.countries = France()
    phone = rig.phone("carol", transport="tcp")
    talk = await rig.talk(phone, "1000", body=SRTP)
    again = talk.caller.request("INVITE", phone.via())
    again.body = SDP
    again.set("content-type", "application/sdp")
    phone.send(again)
    assert (await phone.response(488)).reason == "Calls need encrypted media (SRTP)"
    await rig.pbx.quiet()
    assert talk.call.state == "answered"


@on_rig(policy=POLICY)
async def test_an_emergency_call_passes_everything(rig: Rig) -> None:
    rig.dispatcher.countries = France("US")
    talk = await rig.talk(rig.phone("carol"), "112")
    assert (talk.call.number_class, talk.call.limit_s, talk.call.encrypted) == ("emergency", None, False)


@on_rig(policy=POLICY)
async def test_a_group_without_names_refuses_everybody(rig: Rig) -> None:
    rig.dispatcher.ruleset = compile_policy("", "empty.toml")
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    answer = await phone.response(403)
    phone.ack(sent, answer)
    assert answer.reason == "No policy group for you"
