"""Bad input on the whole edge: each refusal has one status that says what is wrong, one count, and breaks nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nomad.log import LINES_AT_ONCE
from nomad.sip.message import Request, Response, parse_message
from tests.harness.peers import DOMAIN, SDP, Peer, Phone
from tests.harness.rig import Rig, on_rig
from tests.torture.manifest import RFC4475, RFC5118, Row

TORTURE = Path(__file__).parents[1] / "torture"
WRONG = {  # what is done to a good request of this method: the header that the 400 names
    ("OPTIONS", "From"): 'From: "x <sip:alice@x>;tag=1',
    ("OPTIONS", "To"): "To: <sip:alice@[::1>",
    ("OPTIONS", "Call-ID"): "Call-ID: a b",
    ("OPTIONS", "Max-Forwards"): "Max-Forwards: many",
    ("MESSAGE", "Proxy-Authorization"): "Proxy-Authorization: Digest username=a b",
    (
        "INVITE",
        "Proxy-Authorization",
    ): f'Proxy-Authorization: Digest realm="{DOMAIN}", nonce="x", uri="y", response="z"',
    ("REGISTER", "Authorization"): 'Authorization: Digest a="b',
    ("INVITE", "From"): "From: <>;tag=1",
    ("INVITE", "Max-Breadth"): "Max-Breadth: x",
    ("INVITE", "Session-Expires"): "Session-Expires: x",
    ("INVITE", "Record-Route"): "Record-Route: <sip:x",
    ("INVITE", "Contact"): "Contact: <sip:x",
    ("REGISTER", "Contact"): "Contact: <sip:alice@[>",
    ("REGISTER", "Path"): "Path: <<<>>>",
    ("REGISTER", "Expires"): "Contact: *",
    ("REGISTER", "To"): "To: <sip:a@b@c>",
}


async def answer(phone: Phone, text: str) -> Response:
    """The final answer to a request, after its challenge."""
    phone.send(text)
    for _ in range(300):
        for message in phone.inbox:
            if isinstance(message, Response) and message.status >= 200:
                phone.inbox.remove(message)
                if message.status not in (401, 407):
                    return message
                request = parse_message(text.encode("utf-8", "surrogateescape"))
                assert isinstance(request, Request)
                phone.send(phone.answer_challenge(request, message))
        await asyncio.sleep(0.01)
    raise AssertionError(f"no final answer; got {phone.summary()}")


@pytest.mark.parametrize(("method", "header"), WRONG, ids=[" ".join(each) for each in WRONG])
def test_a_400_names_the_header(method: str, header: str) -> None:
    @on_rig()
    async def run(rig: Rig) -> None:
        phone = rig.phone("alice")
        uri = f"sip:{DOMAIN}" if method != "INVITE" else f"sip:1000@{DOMAIN}"
        request = phone.make(method, uri, body=SDP if method == "INVITE" else b"")
        line = WRONG[method, header]
        name = line.partition(":")[0].lower()
        request.remove(name)
        text = request.encode().decode().replace("\r\nMax-", f"\r\n{line}\r\nMax-", 1)
        if name == "max-forwards":
            text = request.encode().decode().replace("\r\nFrom:", f"\r\n{line}\r\nFrom:", 1)
        refused = await answer(phone, text)
        assert refused.status == 400
        assert header in refused.reason
        await rig.pbx.quiet()

    run()


TORN = [("rfc4475", row) for row in RFC4475] + [("rfc5118", row) for row in RFC5118]


@pytest.mark.parametrize(("folder", "row"), TORN, ids=[row.name for _, row in TORN])
def test_the_edge_judges_torture_messages_as_their_rows_say(folder: str, row: Row) -> None:
    @on_rig()
    async def run(rig: Rig) -> None:
        peer = Peer(rig.network, ("203.0.113.9", 5060))
        peer.send((TORTURE / folder / f"{row.name}.dat").read_bytes())
        await asyncio.sleep(0.5)
        finals = [m.status for m in peer.inbox if isinstance(m, Response) and m.status >= 200]
        assert len(finals) <= 1
        if row.verdict == "typed" and row.name != "badinv01":  # whose Via nobody can answer
            # one REGISTER is for another domain, which comes first (RFC 3261 10.3 step 1)
            assert finals == [403 if row.name == "regbadct" else 400]
        assert rig.pbx.inbox == []
        assert rig.calls.live == 0

    run()


@pytest.mark.parametrize("method", ["REGISTER", "OPTIONS"])
def test_an_extension_that_the_edge_does_not_know_is_named(method: str) -> None:
    """RFC 3261 8.2.2.3 and 10.3 step 2: before anybody is challenged."""

    @on_rig()
    async def run(rig: Rig) -> None:
        phone = rig.phone("alice")
        request = phone.make(method, f"sip:{DOMAIN}", headers=[("require", "Path, warp, gruu, speed")])
        phone.send(request)
        assert (await phone.response(420)).elements("unsupported") == ["warp", "speed"]
        known = phone.make(method, f"sip:{DOMAIN}", headers=[("require", "path, outbound, gruu")])
        assert (await answer(phone, known.encode().decode())).status == 200

    run()


@on_rig()
async def test_what_other_ends_must_know_is_theirs_to_judge(rig: Rig) -> None:
    phone = rig.phone("alice")
    await phone.invite("1000", headers=[("require", "100rel, warp")])
    assert (await rig.pbx.request("INVITE")).elements("require") == ["100rel", "warp"]


@on_rig()
async def test_a_challenge_is_not_sent_again_by_itself(rig: Rig) -> None:
    """RFC 3261 26.3.2.4: who forged a source would have its owner sent eleven answers for one INVITE."""
    phone = rig.phone("alice")
    invite = phone.make("INVITE", f"sip:1000@{DOMAIN}", body=SDP)
    phone.send(invite)
    await phone.response(407)
    await asyncio.sleep(40)
    assert phone.repeats == []
    other = phone.make("INVITE", f"sip:1000@{DOMAIN}", body=SDP)
    for _ in range(2):
        phone.send(other)  # who did not get it asks again
        await asyncio.sleep(0.5)
    assert len(phone.repeats) == 1


@on_rig()
async def test_a_refusal_after_a_100_is_sent_again_until_its_ack(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    rig.pbx.reply(await rig.pbx.request("INVITE"), 407, headers=[("proxy-authenticate", 'Digest realm="x", nonce="y"')])
    refused = await phone.response(407)
    await asyncio.sleep(1.6)
    assert len(phone.repeats) == 2
    phone.ack(sent, refused)
    await asyncio.sleep(5)
    assert len(phone.repeats) == 2


@on_rig()
async def test_responses_to_nothing_are_counted(rig: Rig) -> None:
    stranger = Peer(rig.network, ("203.0.113.66", 5060))
    for status in (180, 200, 486):
        lines = [f"SIP/2.0 {status} X", "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKguessed"]
        lines += ["From: <sip:a@b>;tag=1", "To: <sip:c@d>;tag=2", "Call-ID: x", "CSeq: 1 INVITE", "Content-Length: 0"]
        stranger.send("\r\n".join([*lines, "", ""]))
    await stranger.quiet()
    assert b'nomad_sip_dropped_total{reason="response"} 3.0' in rig.metrics.render()[0]


@on_rig()
async def test_a_contact_becomes_a_request_uri_without_what_that_may_not_have(rig: Rig) -> None:
    """RFC 3261 16.6 step 2, 19.1.1 table 1."""
    phone = rig.phone("bob")
    request = phone.make("REGISTER", f"sip:{DOMAIN}")
    contact = f"sip:bob@{phone.host};method=BYE;x=y?Route=%3Csip:10.0.0.9%3E"
    request.set("contact", f"<{contact}>")
    await phone.login(request)
    assert contact in ((await phone.response(200)).get("contact") or "")
    rig.pbx.invite("1002")
    assert (await phone.request("INVITE")).uri_text == f"sip:bob@{phone.host};x=y"


@on_rig()
async def test_a_flood_of_garbage_does_not_fill_the_log(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "nomad.edge.dispatch")
    for number in range(100):  # as forged as sources over UDP can be
        Peer(rig.network, (f"203.0.113.{number}", 5060)).send(b"garbage\r\n\r\n")
    await asyncio.sleep(0.1)
    assert len(caplog.records) == LINES_AT_ONCE
    await asyncio.sleep(1)
    Peer(rig.network, ("203.0.113.200", 5060)).send(b"garbage\r\n\r\n")
    await asyncio.sleep(0.1)
    assert caplog.records[-1].fields["left_out"] == 100 - LINES_AT_ONCE  # type: ignore[attr-defined]  # ours
