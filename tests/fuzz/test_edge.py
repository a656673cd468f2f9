"""The whole edge on the fake network, fed with requests and answers that are nearly right.

Nothing that a phone or a PBX sends raises an exception in it, and it serves on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hypothesis import example, given, settings
from hypothesis import strategies as st

from nomad.sip.message import Request, Response
from tests.fuzz.strategies import message, soup, value
from tests.harness.peers import DOMAIN, SDP, Peer, Phone
from tests.harness.rig import Options, Rig, logged_tracebacks
from tests.harness.virtual import VirtualLoop

ADDRESSES = [
    *("*", "<sip:a@b>", "sip:a@b;tag=1", "<sip:1000@inria.example;x=%00>", "<sips:a@[::1]:1>", "<tel:+1>", "<sip:>"),
    *('"a, b" <sip:a@b>, <sip:c@d;lr>;q=0.5', "<sip:192.0.2.1;lr>", "<sip:192.0.2.1:5060;lr;c=x>, <sip:x;lr>", "<>"),
    *("<sip:a@b>;expires=99999999999", "<sip:a@b>;expires=0;q=2", '<sip:a@b>;reg-id=1;+sip.instance="<urn:uuid:1>"'),
    *('<sip:a@b>;reg-id=0;+sip.instance=""', "<sip:a@b;gr=x>", "<sip:a@b>;reg-id=x", "<mailto:x@y>", "a"),
]
DIGESTS = [
    'Digest username="alice", realm="inria.example", nonce="x", uri="sip:inria.example", response="0"',
    'Digest username="alice", realm="inria.example", nonce="", uri="", response="", nc=zzzz, qop=auth-int, cnonce=""',
    'Digest realm="inria.example"',
    "Digest " + ",".join(f'p{number}="x"' for number in range(80)),
    'Digest username="\\"", realm="inria.example", nonce="' + "A" * 200 + '", uri=x, response=x, algorithm=SHA-512-256',
    "Basic YTpi",
    "Digest",
]
SPECIAL = {
    "contact": ADDRESSES,
    "route": ADDRESSES,
    "record-route": ADDRESSES,
    "path": ADDRESSES,
    "from": ADDRESSES,
    "to": ADDRESSES,
    "refer-to": ADDRESSES,
    "authorization": DIGESTS,
    "proxy-authorization": DIGESTS,
    "via": ["SIP/2.0/UDP x", "SIP/2.0/TCP [::1]:1;received=x;rport=x;branch=", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK"],
    "cseq": ["0 INVITE", "2147483648 BYE", "4294967296 INVITE", "1 REGISTER", "x"],
    "max-forwards": ["0", "1", "255", "256", "-1"],
    "max-breadth": ["0", "1", "x"],
    "expires": ["0", "4294967295", "-1", "x"],
    "session-expires": ["1", "90;refresher=uac", "1800;refresher=x", "x"],
    "min-se": ["90", "x", "99999999999"],
    "require": ["100rel", "timer, outbound", ""],
    "supported": ["timer, path, outbound, gruu, 100rel", ","],
    "event": ["refer", "presence", "dialog;id=1", ""],
    "content-type": ["application/sdp", "multipart/mixed;boundary=x", "x"],
    "rack": ["1 1 INVITE", "x"],
    "replaces": ["a;to-tag=b;from-tag=c"],
    "privacy": ["id", "none;id;;"],
}
METHODS = [
    "REGISTER",
    "INVITE",
    "MESSAGE",
    "OPTIONS",
    "SUBSCRIBE",
    "PUBLISH",
    "NOTIFY",
    "REFER",
    "BYE",
    "ACK",
    "CANCEL",
]
WITHIN = ["INVITE", "BYE", "ACK", "UPDATE", "INFO", "PRACK", "REFER", "NOTIFY", "MESSAGE", "CANCEL", "OPTIONS"]

# A whole edge for each example: they cost more than others
fewer = settings(max_examples=max(25, settings().max_examples // 8))
Edit = tuple[str, str, str]  # what to do, header, value


@st.composite
def edits(draw: st.DrawFn) -> list[Edit]:
    """A few changes to the headers of a request."""
    found = []
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(sorted(SPECIAL)))
        text = draw(st.one_of(st.sampled_from(SPECIAL[name]), st.sampled_from(SPECIAL[name]), value, soup))
        found.append((draw(st.sampled_from(["set", "set", "add", "remove"])), name, text))
    return found


BODIES = st.sampled_from(
    [SDP, b"", b"\0", b"m=audio", b"m=audio 0 RTP/AVP", SDP.replace(b"RTP/AVP", b"UDP/TLS/RTP/SAVPF")]
)
URIS = st.sampled_from(
    [f"sip:{DOMAIN}", f"sip:1000@{DOMAIN}", f"sip:bob@{DOMAIN}", "sip:1002@192.0.2.1", "tel:+33;x", "sip:0899@x", "x:y"]
)
MADE = st.tuples(st.sampled_from(METHODS), URIS, edits(), BODIES)


def changed(sent: Request | Response, changes: list[Edit]) -> bytes:
    """The bytes of a message with its headers changed, wherever that leads."""
    lines = sent.encode().partition(b"\r\n\r\n")[0].decode("utf-8", "surrogateescape").split("\r\n")
    for what, name, text in changes:
        line = f"{name}: {text}"
        places = [place for place, each in enumerate(lines) if each.lower().startswith(f"{name}:")]
        if what == "add" or not places:
            lines.append(line)
        elif what == "set":
            lines[places[0]] = line
        else:
            del lines[places[0]]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape") + sent.body


def on_edge(scenario: Callable[[Rig], Awaitable[None]]) -> None:
    """Run one example on a fresh edge; then it must still let a phone in, and have logged no exception."""

    async def main() -> None:
        rig = Rig(Options())
        rig.start()
        try:
            await scenario(rig)
            await asyncio.sleep(200)  # every timer has fired
            await rig.phone("carol").register()
        finally:
            await rig.stop()

    with logged_tracebacks() as found, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    assert not found, "\n".join(found)


def throw(peer: Peer, data: bytes) -> None:
    peer.network.to_edge(data, peer.flow)


@fewer
@given(st.lists(st.tuples(st.sampled_from(["alice", "bob", "pbx"]), MADE, st.booleans()), min_size=1, max_size=5))
def test_requests_outside_of_calls(script: list[tuple[str, tuple[str, str, list[Edit], bytes], bool]]) -> None:
    async def scenario(rig: Rig) -> None:
        phones = {"alice": rig.phone("alice"), "bob": rig.phone("bob", transport="tcp")}
        await phones["bob"].register()
        for who, (method, uri, changes, body), logs_in in script:
            phone = phones.get(who, phones["alice"])
            request = phone.make(method, uri, body=body)
            if logs_in and who != "pbx" and method != "CANCEL":
                phone.send(request)
                try:
                    challenge = await phone.response(401 if method == "REGISTER" else 407)
                except AssertionError:
                    continue
                request = phone.answer_challenge(request, challenge)
            throw(rig.pbx if who == "pbx" else phone, changed(request, changes))
            await asyncio.sleep(0.1)

    on_edge(scenario)


@fewer
@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(WITHIN), edits(), BODIES, st.integers(100, 699)),
        min_size=1,
        max_size=5,
    )
)
@example([(False, "INVITE", [("set", "contact", "70")], b"", 200), (True, "INVITE", [], b"", 200)])
@example([(True, "INVITE", [("set", "contact", "70")], b"", 200), (False, "INVITE", [], b"", 200)])
@example([(True, "INVITE", [("remove", "via", ""), ("set", "via", "SIP/2.0/UDP x")], SDP, 200)])
def test_requests_and_answers_within_a_call(script: list[tuple[bool, str, list[Edit], bytes, int]]) -> None:
    async def scenario(rig: Rig) -> None:
        phone = rig.phone("alice")
        talk = await rig.talk(phone)
        for from_phone, method, changes, body, status in script:
            sender, dialog = (phone, talk.caller) if from_phone else (rig.pbx, talk.callee)
            receiver: Peer = rig.pbx if from_phone else phone
            request = dialog.request(method, sender.via())
            request.body = body
            receiver.inbox.clear()
            throw(sender, changed(request, changes))
            await asyncio.sleep(0.1)
            for arrived in [each for each in receiver.inbox if isinstance(each, Request)]:
                throw(receiver, changed(_answer(arrived, status), changes))
            await asyncio.sleep(0.1)

    on_edge(scenario)


@fewer
@given(st.lists(st.tuples(st.integers(100, 699), edits(), BODIES), min_size=1, max_size=4), st.booleans())
def test_answers_to_a_call(script: list[tuple[int, list[Edit], bytes]], incoming: bool) -> None:
    async def scenario(rig: Rig) -> None:
        phone = rig.phone("bob")
        await phone.register()
        callee: Phone | Peer
        if incoming:
            rig.pbx.invite("1002")
            callee = phone
        else:
            await phone.invite("1000")
            callee = rig.pbx
        invite = await callee.request("INVITE")
        for status, changes, body in script:
            response = _answer(invite, status)
            response.body = body
            throw(callee, changed(response, changes))
            await asyncio.sleep(0.1)

    on_edge(scenario)


@fewer
@given(st.lists(st.tuples(st.booleans(), message), min_size=1, max_size=8))
def test_any_bytes(script: list[tuple[bool, bytes]]) -> None:
    async def scenario(rig: Rig) -> None:
        phone = rig.phone("alice")
        for from_phone, data in script:
            throw(phone if from_phone else rig.pbx, data)
            await asyncio.sleep(0.1)

    on_edge(scenario)


def _answer(request: Request, status: int) -> Response:
    response = Response(status, "Whatever")
    for name in ("via", "from", "to", "call-id", "cseq", "record-route"):
        for text in request.get_all(name):
            response.add(name, text)
    if not (request.get("to") or "").count("tag="):
        response.set("to", f"{request.get('to')};tag=fuzz")
    response.add("contact", "<sip:peer@10.0.0.5:5070>")
    return response
