"""Scripted phones and a scripted PBX: each sends exactly what a test says and keeps what it gets in an inbox.

A datagram that is repeated byte for byte is counted, not shown again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nomad.ports import Grant
from nomad.sip.events import Flow
from nomad.sip.headers import Credentials
from nomad.sip.message import Request, Response, parse_message
from tests.harness.fakes import digest
from tests.harness.line import EDGE, Network

DOMAIN = "inria.example"
SDP = b"v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"

_names = itertools.count(1)


def grant(user: str, extension: str, **more: object) -> Grant:
    """What the AAA server says of a person."""
    return Grant(user, addresses=(f"{user}@{DOMAIN}",), extension=extension, display_name=user.title(), **more)  # type: ignore[arg-type]


PEOPLE: Mapping[str, tuple[str, Grant]] = {
    "alice": ("alice's secret", grant("alice", "1001", classes=(b"class of alice",))),
    "bob": ("bob's secret", grant("bob", "1002")),
    "carol": ("carol's secret", grant("carol", "1003", groups=("boss",))),
}


class Peer:
    """Somebody who exchanges messages with the edge."""

    def __init__(self, network: Network, address: tuple[str, int], transport: str = "udp") -> None:
        self.network = network
        self.inbox: list[Request | Response] = []
        self.repeats: list[bytes] = []
        self.flow = Flow("udp", EDGE, ("", 0))
        self._seen: set[bytes] = set()
        self._news = asyncio.Event()
        self.move(address, transport)

    def move(self, address: tuple[str, int], transport: str = "udp") -> None:
        """Be somewhere else from now on; what is sent to the old place is lost."""
        self.network.peers.pop((self.flow.transport, self.flow.remote), None)
        self.flow = Flow(transport, EDGE, address, 0 if transport == "udp" else next(_names))
        self.network.peers[transport, address] = self

    @property
    def host(self) -> str:
        """Host and port of its Contact and Via."""
        return f"{self.flow.remote[0]}:{self.flow.remote[1]}"

    def arrived(self, data: bytes, flow: Flow) -> None:
        """Bytes from the edge."""
        if data in self._seen:
            self.repeats.append(data)
            return
        self._seen.add(data)
        if self.flow.transport != "udp":
            self.flow = flow  # a connection that the edge has opened
        self.inbox.append(parse_message(data))
        self._news.set()

    def send(self, message: Request | Response | str | bytes) -> None:
        """To the edge."""
        if isinstance(message, str):
            message = message.encode("utf-8", "surrogateescape")
        self.network.to_edge(message if isinstance(message, bytes) else message.encode(), self.flow)

    async def expect(self, what: str | int, *, within: float = 2.0) -> Request | Response:
        """The first message in the inbox with this method or status."""
        deadline = asyncio.get_running_loop().time() + within
        while True:
            for message in self.inbox:
                if what == (message.method if isinstance(message, Request) else message.status):
                    self.inbox.remove(message)
                    return message
            self._news.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()
            except TimeoutError:
                raise AssertionError(f"no {what}; got {self.summary()}") from None

    async def request(self, method: str, *, within: float = 2.0) -> Request:
        """A request of this method."""
        message = await self.expect(method, within=within)
        assert isinstance(message, Request)
        return message

    async def response(self, status: int, *, within: float = 2.0) -> Response:
        """A response of this status."""
        message = await self.expect(status, within=within)
        assert isinstance(message, Response)
        return message

    async def quiet(self, seconds: float = 1.0) -> None:
        """Nothing more may come for so long."""
        await asyncio.sleep(seconds)
        assert not self.inbox, f"unexpected: {self.summary()}"

    def summary(self) -> list[str]:
        """What waits in the inbox."""
        return [m.method if isinstance(m, Request) else f"{m.status} {m.reason}" for m in self.inbox]

    def via(self) -> str:
        """A Via of its own with a new branch."""
        return f"SIP/2.0/{self.flow.transport.upper()} {self.host};branch=z9hG4bKpeer{next(_names)};rport"

    def reply(
        self,
        request: Request,
        status: int,
        *,
        tag: str = "",
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
        contact: str = "",
        reason: str = "Whatever",
    ) -> Response:
        """Answer a request of the edge; 101 to 299 carry Record-Route and Contact, as a user agent's do."""
        response = Response(status, reason)
        for name in ("via", "from", "to", "call-id", "cseq"):
            for value in request.get_all(name):
                response.add(name, value)
        if 100 < status < 300:
            for value in request.get_all("record-route"):
                response.add("record-route", value)
            response.add("contact", contact or f"<sip:peer@{self.host}>")
        if status > 100 and not request.to.tag:
            response.set("to", f"{request.get('to')};tag={tag or 'callee'}")
        for name, value in headers:
            response.add(name, value)
        if body:
            response.body = body
            response.set("content-type", "application/sdp")
        self.send(response)
        return response


@dataclass(slots=True)
class Dialog:
    """One side of a dialog as a user agent keeps it (RFC 3261 12.1)."""

    call_id: str
    local: str
    remote: str
    target: str
    routes: list[str]
    cseq: int = 100

    def request(self, method: str, via: str, *, headers: Sequence[tuple[str, str]] = (), cseq: int = 0) -> Request:
        """The next request within it."""
        if not cseq and method != "ACK":
            self.cseq += 1
        request = Request(method, self.target)
        request.add("via", via)
        for route in self.routes:
            request.add("route", route)
        request.add("max-forwards", "70")
        request.add("from", self.local)
        request.add("to", self.remote)
        request.add("call-id", self.call_id)
        request.add("cseq", f"{cseq or self.cseq} {method}")
        for name, value in headers:
            request.add(name, value)
        return request


def dialog_of_caller(invite: Request, response: Response) -> Dialog:
    """The dialog of who sent the INVITE."""
    return Dialog(
        invite.call_id,
        invite.get("from") or "",
        response.get("to") or "",
        response.contacts[0].uri_text,
        list(reversed(response.elements("record-route"))),
        invite.cseq.number,
    )


def dialog_of_callee(invite: Request, response: Response) -> Dialog:
    """The dialog of who answered it."""
    return Dialog(
        invite.call_id,
        response.get("to") or "",
        invite.get("from") or "",
        invite.contacts[0].uri_text,
        invite.elements("record-route"),
    )


class Phone(Peer):
    """A phone that can log in."""

    def __init__(
        self, network: Network, user: str, address: tuple[str, int], transport: str = "udp", password: str = ""
    ) -> None:
        super().__init__(network, address, transport)
        self.user = user
        self.password = password or PEOPLE[user][0]
        self.counts: dict[str, int] = {}
        self.cseq = itertools.count(1)

    def make(
        self,
        method: str,
        uri: str,
        *,
        to: str = "",
        from_: str = "",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        call_id: str = "",
    ) -> Request:
        """A request outside of dialogs."""
        request = Request(method, uri)
        request.add("via", self.via())
        request.add("max-forwards", "70")
        request.add("from", from_ or f"<sip:{self.user}@{DOMAIN}>;tag=from{next(_names)}")
        request.add("to", to or (f"<sip:{self.user}@{DOMAIN}>" if method == "REGISTER" else f"<{uri}>"))
        request.add("call-id", call_id or f"call{next(_names)}@phone")
        request.add("cseq", f"{next(self.cseq)} {method}")
        request.add("contact", f"<sip:{self.user}@{self.host}>")
        for name, value in headers:
            request.add(name, value)
        if body:
            request.body = body
            request.set("content-type", "application/sdp")
        return request

    def answer_challenge(self, request: Request, challenge: Response, **changes: str) -> Request:
        """The request again, with credentials; `changes` replace digest parameters after the response is computed."""
        registers = request.method == "REGISTER"
        offer = Credentials.parse(challenge.get("www-authenticate" if registers else "proxy-authenticate") or "").params
        nonce = offer["nonce"] or ""
        self.counts[nonce] = count = self.counts.get(nonce, 0) + 1
        params = {
            "username": self.user,
            "realm": offer["realm"] or "",
            "nonce": nonce,
            "uri": request.uri_text,
            "nc": f"{count:08x}",
            "cnonce": f"c{next(_names)}",
            "qop": "auth",
        }
        params |= {
            name: changes.pop(name) for name in list(changes) if name in ("username", "uri", "nonce", "qop", "nc")
        }
        if not params["qop"]:
            del params["qop"], params["nc"], params["cnonce"]
        signed = {name: value for name, value in params.items() if name != "username"}
        params["response"] = digest(params["username"], self.password, method=request.method, **signed)
        params |= changes
        again = request.copy()
        again.replace_first("via", self.via())
        again.set("cseq", f"{next(self.cseq) + request.cseq.number} {request.method}")
        bare = ("nc", "qop", "algorithm")
        text = ", ".join(f"{name}={value}" if name in bare else f'{name}="{value}"' for name, value in params.items())
        again.set("authorization" if registers else "proxy-authorization", f"Digest {text}")
        return again

    async def login(self, request: Request) -> Request:
        """Send a request, answer the challenge; the request with credentials, as it was sent."""
        self.send(request)
        challenge = await self.response(401 if request.method == "REGISTER" else 407)
        if request.method == "INVITE":
            self.ack(request, challenge)
        again = self.answer_challenge(request, challenge)
        self.send(again)
        return again

    async def register(self, *, expires: int = 600, headers: Sequence[tuple[str, str]] = ()) -> Response:
        """Be reachable."""
        await self.login(self.make("REGISTER", f"sip:{DOMAIN}", headers=[("expires", str(expires)), *headers]))
        return await self.response(200)

    async def invite(
        self,
        number: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        from_: str = "",
        uri: str = "",
        body: bytes = SDP,
    ) -> Request:
        """Begin a call; the INVITE with credentials."""
        return await self.login(
            self.make("INVITE", uri or f"sip:{number}@{DOMAIN}", headers=headers, from_=from_, body=body)
        )

    def ack(self, invite: Request, response: Response) -> None:
        """The ACK of a final response other than 2xx."""
        ack = Request("ACK", invite.uri_text)
        ack.add("via", invite.get("via") or "")
        ack.add("from", invite.get("from") or "")
        ack.add("to", response.get("to") or "")
        ack.add("call-id", invite.call_id)
        ack.add("cseq", f"{invite.cseq.number} ACK")
        self.send(ack)

    def cancel(self, invite: Request) -> None:
        """CANCEL an INVITE."""
        cancel = Request("CANCEL", invite.uri_text)
        for name in ("via", "from", "to", "call-id"):
            cancel.add(name, invite.get(name) or "")
        cancel.add("cseq", f"{invite.cseq.number} CANCEL")
        self.send(cancel)


class PbxPeer(Peer):
    """The PBX, with scripted extensions."""

    def invite(
        self,
        extension: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        caller: str = '"Boss" <sip:2000@pbx.example>',
        uri: str = "",
        body: bytes = SDP,
    ) -> Request:
        """Call a person at the edge."""
        uri = uri or f"sip:{extension}@{EDGE[0]}:{EDGE[1]}"
        request = Request("INVITE", uri)
        request.add("via", self.via())
        request.add("max-forwards", "70")
        request.add("from", f"{caller};tag=pbx{next(_names)}")
        request.add("to", f"<{uri}>")
        request.add("call-id", f"call{next(_names)}@pbx")
        request.add("cseq", "7 INVITE")
        request.add("contact", f"<sip:asterisk@{self.host}>")
        for name, value in headers:
            request.add(name, value)
        request.body = body
        request.set("content-type", "application/sdp")
        self.send(request)
        return request
