"""The proxy's parts; whole requests are in scenarios/test_edge_*.py."""

from __future__ import annotations

import asyncio

import pytest

from nomad.edge.proxy import Relay, asserted_identity, hide_identity, remove_own_credentials, strip_untrusted
from nomad.ports import Unavailable
from nomad.sip.errors import Reject
from nomad.sip.events import ClientKey, ResponseArrived, ServerKey
from nomad.sip.message import Request, Response
from tests.harness.rig import Rig, on_rig

REALM = "inria.example"


def request(*headers: tuple[str, str]) -> Request:
    made = Request("INVITE", "sip:x")
    for name, value in headers:
        made.add(name, value)
    return made


@pytest.mark.parametrize(
    ("privacy", "hidden"),
    [
        (["id"], True),
        (["user;id"], True),
        (["header; ID ;critical"], True),
        (["none"], False),
        (["idx"], False),
        ([], False),
        (["user", "id"], True),
    ],
)
def test_identity_is_hidden_when_privacy_asks_for_it(privacy: list[str], hidden: bool) -> None:
    made = request(("p-asserted-identity", "<sip:a@b>"), *(("privacy", value) for value in privacy))
    hide_identity(made)
    assert made.has("p-asserted-identity") is not hidden


def test_everything_that_an_outside_peer_may_not_assert_goes() -> None:
    made = request(("P-Asserted-Identity".lower(), "<sip:a@b>"), ("p-asserted-identity", "<tel:1>"), ("subject", "x"))
    strip_untrusted(made)
    assert made.get_all("p-asserted-identity") == []
    assert made.get("subject") == "x"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (f'Digest username="a", realm="{REALM}", nonce="n"', False),
        (f"Digest username=a,realm={REALM}", False),
        (f'digest REALM = "{REALM}"', False),
        ('Digest username="a", realm="other", nonce="n"', True),
        (f'Digest username="{REALM}", realm="other"', True),
        ('Digest username="unfinished', False),
    ],
)
def test_credentials_for_us_go_and_those_for_others_stay(value: str, kept: bool) -> None:
    for name in ("proxy-authorization", "authorization"):
        made = request((name, value))
        remove_own_credentials(made, REALM)
        assert made.has(name) is kept


@pytest.mark.parametrize(
    ("display", "expected"),
    [
        ("", "<sip:1001@inria.example>"),
        ("Alice", '"Alice" <sip:1001@inria.example>'),
        ('A "B" \\', '"A \\"B\\" \\\\" <sip:1001@inria.example>'),
        ("x\r\nP-Evil: 1", '"x  P-Evil: 1" <sip:1001@inria.example>'),
        ("Renée", '"Renée" <sip:1001@inria.example>'),
    ],
)
def test_asserted_identity_is_one_line_whatever_the_directory_says(display: str, expected: str) -> None:
    value = asserted_identity(display, "1001", REALM)
    assert value == expected
    request(("p-asserted-identity", value)).encode()


async def test_relay_waits_for_news_or_for_so_long() -> None:
    relay = Relay(ServerKey("b", "h", "INVITE"))
    await relay.wait(0.0)
    assert relay.take() is None
    waiting = asyncio.ensure_future(relay.wait(None))
    await asyncio.sleep(0)
    event = ResponseArrived(ClientKey("b", "INVITE"), Response(200, "OK"), None)  # type: ignore[arg-type]
    relay.deliver(event)
    await waiting
    await relay.wait(None)  # there is something: no wait
    assert relay.take() is event
    relay.check_cancelled()
    relay.cancel()
    with pytest.raises(Reject) as refused:
        relay.check_cancelled()
    assert refused.value.status == 487


@on_rig()
async def test_response_that_nobody_waits_for_is_dropped(rig: Rig) -> None:
    key = ClientKey("z9hG4bKunknown", "INVITE")
    rig.proxy.handle(ResponseArrived(key, Response(200, "OK"), rig.pbx.flow))
    await rig.pbx.quiet()


@on_rig()
async def test_late_answer_that_the_media_relay_cannot_serve_is_dropped(rig: Rig) -> None:
    phone = rig.phone("alice")
    talk = await rig.talk(phone)

    async def broken(*_: object, **__: object) -> bytes:
        raise Unavailable("no ports")

    rig.switchboard._media.answer = broken  # type: ignore[method-assign]
    rig.pbx.reply(talk.invite, 200, tag="late", body=b"v=0")
    await phone.quiet()


@on_rig()
async def test_nothing_is_remembered_of_requests_that_nobody_can_answer_any_more(rig: Rig) -> None:
    phone = rig.phone("alice")
    sent = await phone.invite("1000")
    rig.pbx.reply(await rig.pbx.request("INVITE"), 486)
    phone.ack(sent, await phone.response(486))
    await asyncio.sleep(1)
    assert rig.proxy._by_branch
    await asyncio.sleep(45)
    assert not rig.proxy._by_branch
