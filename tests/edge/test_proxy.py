"""The proxy's parts; whole requests are in scenarios/test_edge_*.py."""

from __future__ import annotations

import asyncio

import pytest

from nomad.edge.addresses import OwnAddresses
from nomad.edge.proxy import Proxy, Relay, asserted_identity, hide_identity, remove_own_credentials, strip_untrusted
from nomad.ports import Unavailable
from nomad.sip.errors import Reject
from nomad.sip.events import ClientKey, Flow, ResponseArrived, ServerKey
from nomad.sip.message import Request, Response
from tests.harness.line import FakeSignalling
from tests.harness.rig import Rig, on_rig
from tests.harness.virtual import LoopClock

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


@pytest.mark.parametrize(
    ("party", "privacy", "hidden"),
    [
        ("<sip:a@b>;party=calling;privacy=full", "", True),
        ('<sip:a@b>; Privacy = "uri"', "", True),
        ("<sip:a@b>;party=calling;privacy=off", "", False),
        ('<sip:a@b>;privacy="off"', "", False),
        ("<sip:a@b>", "", False),
        ("<sip:a@b>;privacy=off", "id", True),
    ],
)
def test_what_an_older_pbx_asserts_is_hidden_alike(party: str, privacy: str, hidden: bool) -> None:
    made = request(("remote-party-id", party), *([("privacy", privacy)] if privacy else []))
    hide_identity(made)
    assert made.has("remote-party-id") is not hidden


def test_charging_stays_inside() -> None:
    made = request(("p-charging-vector", "icid-value=1"), ("p-charging-function-addresses", "ccf=x"), ("subject", "x"))
    hide_identity(made)
    assert [made.has(name) for name in ("p-charging-vector", "p-charging-function-addresses", "subject")] == [
        False,
        False,
        True,
    ]


LISTENS = [
    ("udp", "192.0.2.1", 5060),
    ("udp", "2001:db8::1", 5060),
    ("tls", "192.0.2.1", 5061),
    ("ws", "192.0.2.1", 5062),
    ("wss", "2001:db8::1", 5063),
]


@pytest.mark.parametrize(
    ("listen", "inner"),
    [
        (("udp", "2001:db8::1", 5060), "<sip:[2001:db8::1]:5060;lr;c=t>"),
        (("tls", "192.0.2.1", 5061), "<sip:192.0.2.1:5061;transport=tls;lr;c=t>"),
        (("ws", "192.0.2.1", 5062), "<sip:192.0.2.1:5062;transport=ws;lr;c=t>"),
        (("wss", "2001:db8::1", 5063), "<sip:[2001:db8::1]:5063;transport=ws;lr;c=t>"),
        (("udp", "192.0.2.1", 5060), ""),
    ],
)
@pytest.mark.parametrize("advertise", ["", "192.0.2.1"])
def test_each_side_is_shown_a_way_to_us_that_it_can_take(
    listen: tuple[str, str, int], inner: str, advertise: str
) -> None:
    own = OwnAddresses(["inria.example"], LISTENS, outside=advertise)
    proxy = Proxy(FakeSignalling, own, clock=LoopClock(), new_branch=lambda: "z9hG4bKx", timer_c_s=180)  # type: ignore[arg-type]
    transport, host, port = listen
    phone = Flow(transport, (host, port), ("2001:db8::9" if ":" in host else "198.51.100.9", 9), 1)
    pbx = Flow("udp", ("192.0.2.1", 5060), ("10.0.0.5", 5060))
    invite = request(
        ("via", "SIP/2.0/UDP x;branch=z9hG4bK1"), ("call-id", "1"), ("cseq", "1 INVITE"), ("from", "<sip:x>")
    )
    copy = proxy.copy(invite, source=phone, destination=pbx, token="t")
    routes = copy.elements("record-route")
    assert routes == ["<sip:192.0.2.1:5060;lr;c=t>", *([inner] if inner else [])]
    assert all(own.is_us(route.uri) for route in copy.record_routes)  # RFC 5658: each comes off again
    back = proxy.copy(invite, source=pbx, destination=phone, token="t")
    assert back.elements("record-route") == list(reversed(routes))


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


@pytest.mark.parametrize(
    "name",
    [
        *("p-asserted-identity", "p-preferred-identity", "remote-party-id", "p-served-user", "p-asserted-service"),
        *("p-called-party-id", "p-associated-uri", "p-visited-network-id", "diversion", "history-info"),
        *("p-charging-vector", "p-charging-function-addresses"),
    ],
)
def test_what_a_phone_may_not_say_of_people_and_charges(name: str) -> None:
    made = request((name, "<sip:boss@x>"), ("subject", "x"), (name, "<sip:boss@y>"))
    strip_untrusted(made)
    assert (made.has(name), made.has("subject")) == (False, True)
