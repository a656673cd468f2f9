"""The whole edge on a fake network: its real stack and services, and scripted peers that exchange bytes with it.

Runs in a `VirtualLoop`. A peer sends exactly what a test says and keeps what it gets in an inbox; a datagram that is
repeated byte for byte is counted, not shown again.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nomad import tasks
from nomad.config import Accounting, Config, Pbx, Sip
from nomad.config import Guard as GuardTable
from nomad.console import EdgeConsole, Knobs
from nomad.edge.accounting import Accountant, Stores
from nomad.edge.addresses import OwnAddresses
from nomad.edge.auth import Authentication, Digest
from nomad.edge.calls import Call, CallTable
from nomad.edge.dispatch import Dispatcher, Parts
from nomad.edge.guard import Guard
from nomad.edge.housekeeping import Housekeeping
from nomad.edge.nonce import NonceSigner
from nomad.edge.proxy import Proxy
from nomad.edge.registrar import Registrar
from nomad.edge.ruleset import Ruleset, compile_policy
from nomad.edge.switchboard import Lines, Switchboard
from nomad.edge.trunks import Trunks, make_trunk
from nomad.edge.usage import Usage
from nomad.media.off import MediaOff
from nomad.metrics import Metrics
from nomad.ports import EventHandler, Grant, Target, Unavailable
from nomad.sip.errors import SipError
from nomad.sip.events import ClientKey, Flow, FlowClosed, ServerKey
from nomad.sip.headers import Credentials
from nomad.sip.message import Request, Response, parse_message
from nomad.sip.stack import Stack
from nomad.stores.memory import MemoryLocations, MemoryNonceWindow
from nomad.transport.source import note_source, reply_flow
from tests.harness.fakes import (
    FakeAuthenticator,
    FakeSink,
    MemoryCalls,
    MemoryCdrs,
    MemorySpool,
    NumericResolver,
    digest,
)
from tests.harness.virtual import LoopClock, VirtualLoop

DOMAIN = "inria.example"
EDGE = ("192.0.2.1", 5060)
PBX_ADDRESS = ("10.0.0.5", 5070)
LATENCY_S = 0.001
SDP = b"v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
POLICY = """
timezone = "UTC"
[classes]
emergency = ["112"]
internal = ["re:[0-9]{4}"]
premium = ["0899"]
national = ["0"]
[[group]]
name = "boss"
match = { filter_id = "boss" }
allow = ["internal", "national", "premium"]
[[group]]
name = "staff"
match = { default = true }
allow = ["internal", "national"]
max_concurrent_calls = 2
max_call_minutes = 60
"""

_names = itertools.count(1)


def grant(user: str, extension: str, **more: object) -> Grant:
    """What the AAA server says of a person."""
    return Grant(user, addresses=(f"{user}@{DOMAIN}",), extension=extension, display_name=user.title(), **more)  # type: ignore[arg-type]


PEOPLE: Mapping[str, tuple[str, Grant]] = {
    "alice": ("alice's secret", grant("alice", "1001", classes=(b"class of alice",))),
    "bob": ("bob's secret", grant("bob", "1002")),
    "carol": ("carol's secret", grant("carol", "1003", groups=("boss",))),
}


class Network:
    """Carries bytes between the edge and its peers, by flow."""

    def __init__(self) -> None:
        self.peers: dict[tuple[str, tuple[str, int]], Peer] = {}
        self.lost: list[tuple[Flow, bytes]] = []  # sent by the edge to where nobody is
        self.signalling: FakeSignalling | None = None

    def to_peer(self, data: bytes, flow: Flow) -> None:
        """From the edge."""
        asyncio.get_running_loop().call_later(LATENCY_S, self._arrive, data, flow)

    def to_edge(self, data: bytes, flow: Flow) -> None:
        """From a peer."""
        assert self.signalling is not None
        asyncio.get_running_loop().call_later(LATENCY_S, self.signalling.arrived, data, flow)

    def _arrive(self, data: bytes, flow: Flow) -> None:
        peer = self.peers.get((flow.transport, flow.remote))
        if peer is None:
            self.lost.append((flow, data))
        else:
            peer.arrived(data, flow)


class FakeSignalling:
    """`ports.Signalling` over a real stack; the network takes the place of sockets."""

    def __init__(self, network: Network, clock: LoopClock, guard: Guard) -> None:
        self.stack = Stack()
        self.handler: EventHandler | None = None
        self.unreachable: set[str] = set()  # hosts to which no connection can be made
        self.connect_s = 0.0
        self._network = network
        self._clock = clock
        self._guard = guard
        self._outgoing: dict[Target, Flow] = {}
        self._connections = itertools.count(1000)
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False
        network.signalling = self

    def respond(self, key: ServerKey, response: Response) -> None:
        """As the endpoint does."""
        self.stack.respond(key, response, self._clock.monotonic())
        self._pump_soon()

    def request(self, request: Request, flow: Flow) -> ClientKey:
        """As the endpoint does."""
        key = self.stack.request(request, flow, self._clock.monotonic())
        self._pump_soon()
        return key

    def cancel(self, key: ClientKey, headers: Sequence[tuple[str, str]] = ()) -> None:
        """As the endpoint does."""
        self.stack.cancel(key, self._clock.monotonic(), headers)
        self._pump_soon()

    def forward(self, message: Request | Response, flow: Flow) -> None:
        """As the endpoint does."""
        self._network.to_peer(message.encode(), flow)

    async def connect(self, target: Target) -> Flow:
        """A flow from our one UDP socket, or a connection from a port of its own."""
        if self.connect_s:
            await asyncio.sleep(self.connect_s)
        if target.host in self.unreachable:
            raise Unavailable(f"{target.host} refuses connections")
        if target.transport == "udp":
            return Flow("udp", EDGE, (target.host, target.port))
        flow = self._outgoing.get(target)
        if flow is None:
            number = next(self._connections)
            flow = Flow(target.transport, (EDGE[0], 40_000 + number), (target.host, target.port), number)
            self._outgoing[target] = flow
        return flow

    def arrived(self, data: bytes, flow: Flow) -> None:
        """Bytes from a peer."""
        now = self._clock.monotonic()
        assert self.handler is not None
        if not self._guard.admits(flow.remote[0], now):
            return
        try:
            message = parse_message(data)
            if isinstance(message, Request):
                note_source(message, flow.remote)
                flow = reply_flow(message, flow)
            self.stack.receive(message, flow, now)
        except SipError as error:
            self.handler.malformed(flow, error.reason, error.text)
        self._pump()

    def close(self, flow: Flow) -> None:
        """A connection is gone."""
        now = self._clock.monotonic()
        self._outgoing = {target: known for target, known in self._outgoing.items() if known != flow}
        self.stack.flow_failed(flow, now, "closed by the peer")
        assert self.handler is not None
        self.handler.handle(FlowClosed(flow, "closed by the peer"))
        self._pump()

    def _pump_soon(self) -> None:
        for data, flow in self.stack.take_sends():
            self._network.to_peer(data, flow)
        asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        assert self.handler is not None
        while True:
            for data, flow in self.stack.take_sends():
                self._network.to_peer(data, flow)
            events = self.stack.take_events()
            if not events:
                break
            for event in events:
                self.handler.handle(event)
        self._pumping = False
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self.stack.next_timer()
        if due is not None:
            wait = max(0.0, due - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self.stack.run_timers(self._clock.monotonic())
        self._pump()


class Peer:
    """Somebody who exchanges messages with the edge."""

    def __init__(self, rig: Rig, address: tuple[str, int], transport: str = "udp") -> None:
        self.rig = rig
        self.network = rig.network
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
        self, rig: Rig, user: str, address: tuple[str, int], transport: str = "udp", password: str = ""
    ) -> None:
        super().__init__(rig, address, transport)
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
        self, number: str, *, headers: Sequence[tuple[str, str]] = (), from_: str = "", uri: str = ""
    ) -> Request:
        """Begin a call; the INVITE with credentials."""
        return await self.login(
            self.make("INVITE", uri or f"sip:{number}@{DOMAIN}", headers=headers, from_=from_, body=SDP)
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
        request.body = SDP
        request.set("content-type", "application/sdp")
        self.send(request)
        return request


@dataclass(slots=True)
class Talk:
    """An answered call: the dialogs of its two ends, and the edge's view of it."""

    caller: Dialog
    callee: Dialog
    call: Call
    invite: Request  # as the callee got it
    answer: Response  # as the caller got it


@dataclass(slots=True)
class Options:
    """What a scenario changes in the edge."""

    policy: str = POLICY
    sip: Sip = field(default_factory=lambda: Sip(listen=("udp:192.0.2.1:5060", "tcp:192.0.2.1:5060")))
    guard: GuardTable = field(default_factory=GuardTable)
    accounting: Accounting = field(default_factory=Accounting)
    pbx_transport: str = "udp"
    people: Mapping[str, tuple[str, Grant]] = field(default_factory=lambda: dict(PEOPLE))


class Rig:
    """An edge, wired as `app.py` wires it, over fakes."""

    def __init__(self, options: Options | None = None, *, survivors: Rig | None = None) -> None:
        """`survivors` is an edge that crashed: its stores, network and peers stay."""
        options = options or Options()
        self.options = options
        self.clock = LoopClock()
        self.network = survivors.network if survivors else Network()
        self.authenticator = FakeAuthenticator(options.people)
        self.sink = survivors.sink if survivors else FakeSink()
        self.spool = survivors.spool if survivors else MemorySpool()
        self.cdrs = survivors.cdrs if survivors else MemoryCdrs()
        self.live_calls = survivors.live_calls if survivors else MemoryCalls()
        self.locations = survivors.locations if survivors else MemoryLocations()
        self.resolver = NumericResolver()
        self.metrics = Metrics()
        uri = f"sip:{PBX_ADDRESS[0]}:{PBX_ADDRESS[1]};transport={options.pbx_transport}"
        self.config = Config(
            domain=DOMAIN,
            pbx=(Pbx(name="pbx", uri=uri, trusted=(PBX_ADDRESS[0],)),),
            sip=options.sip,
            guard=options.guard,
            accounting=options.accounting,
        )
        self.ruleset: Ruleset = compile_policy(options.policy, "policy.toml")
        self._build(survivors)
        self.pbx = survivors.pbx if survivors else PbxPeer(self, PBX_ADDRESS, options.pbx_transport)
        self._jobs: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to deliver accounting and to keep house."""
        self._jobs = [
            asyncio.create_task(self.accountant.drain()),
            asyncio.create_task(self.housekeeping.run()),
        ]

    async def stop(self) -> None:
        """End the jobs."""
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def phone(self, user: str, *, transport: str = "udp", password: str = "", port: int = 0) -> Phone:
        """A phone of a person, somewhere on the Internet."""
        number = next(_names)
        return Phone(self, user, (f"198.51.100.{number % 250 + 1}", port or 10_000 + number), transport, password)

    def call(self) -> Call:
        """The only call in progress."""
        (call,) = self.calls
        return call

    async def talk(self, phone: Phone, number: str = "1000", **more: object) -> Talk:
        """A call from a phone to the PBX, answered and acknowledged."""
        sent = await phone.invite(number, **more)  # type: ignore[arg-type]
        invite = await self.pbx.request("INVITE")
        self.pbx.reply(invite, 180)
        await phone.response(180)
        answered = self.pbx.reply(invite, 200, body=SDP)
        answer = await phone.response(200)
        phone.inbox = [m for m in phone.inbox if not (isinstance(m, Response) and m.status == 100)]
        caller, callee = dialog_of_caller(sent, answer), dialog_of_callee(invite, answered)
        caller.cseq = sent.cseq.number
        phone.send(caller.request("ACK", phone.via()))
        await self.pbx.request("ACK")
        return Talk(caller, callee, self.calls_by_call_id(invite.call_id), invite, answer)

    def calls_by_call_id(self, call_id: str) -> Call:
        """The call in progress with this Call-ID."""
        return next(call for call in self.calls if call.call_id == call_id)

    def _build(self, survivors: Rig | None) -> None:
        config, clock = self.config, self.clock
        names = (f"{number:012x}" for number in itertools.count(1_000_000 if survivors else 1))
        name: Callable[[], str] = lambda: next(names)  # noqa: E731 - one name source for all
        self.trunks = Trunks([make_trunk(pbx, addresses=[PBX_ADDRESS[0]]) for pbx in config.pbx])
        self.guard = Guard(config.guard, exempt=[PBX_ADDRESS[0]])
        self.signalling = FakeSignalling(self.network, clock, self.guard)
        self.calls = CallTable()
        self.usage = Usage(self.ruleset.timezone)
        self.accountant = Accountant(
            Stores(self.spool, self.cdrs, self.live_calls),
            self.sink,
            clock=clock,
            metrics=self.metrics,
            usage=self.usage,
            account_refused=config.accounting.refused,
        )
        listens = [("udp", *EDGE), ("tcp", *EDGE)]
        own = OwnAddresses(config.domains, listens)
        self.proxy = Proxy(
            self.signalling, own, clock=clock, new_branch=lambda: f"z9hG4bK{name()}", timer_c_s=config.sip.timer_c_s
        )
        self.switchboard = Switchboard(
            config,
            Lines(self.signalling, self.resolver, MediaOff()),
            proxy=self.proxy,
            calls=self.calls,
            accountant=self.accountant,
            own=own,
            clock=clock,
            metrics=self.metrics,
            new_id=name,
        )
        self.nonces = NonceSigner(
            b"k" * 32, lifetime_s=config.sip.nonce_lifetime_s, random=lambda size: bytes.fromhex(name())[-size:]
        )
        auth = Authentication(
            Digest(config.domain, config.domains, config.sip.digest),
            nonces=self.nonces,
            window=MemoryNonceWindow(wall=clock.wall),
            authenticator=self.authenticator,
            clock=clock,
            metrics=self.metrics,
        )
        self.dispatcher = Dispatcher(
            Parts(
                guard=self.guard,
                auth=auth,
                registrar=Registrar(config.sip, locations=self.locations, clock=clock),
                locations=self.locations,
                calls=self.calls,
                switchboard=self.switchboard,
                proxy=self.proxy,
                accountant=self.accountant,
                usage=self.usage,
                own=own,
            ),
            self.ruleset,
            self.trunks,
            signalling=self.signalling,
            clock=clock,
            metrics=self.metrics,
            new_tag=name,
        )
        self.signalling.handler = self.dispatcher
        self.housekeeping = Housekeeping(
            calls=self.calls,
            proxy=self.proxy,
            switchboard=self.switchboard,
            accountant=self.accountant,
            locations=self.locations,
            clock=clock,
            interim_interval_s=config.accounting.interim_interval_s,
        )
        self.console = EdgeConsole(
            Knobs(
                reload=self._reload,
                drain=self._drain,
                draining=lambda: self.dispatcher.draining,
                listens=lambda: ("udp:192.0.2.1:5060",),
                radius=lambda: (("radius", not self.authenticator.down),),
                pbx=lambda: (("pbx", config.pbx[0].uri),),
            ),
            calls=self.calls,
            switchboard=self.switchboard,
            guard=self.guard,
            locations=self.locations,
            cdrs=self.cdrs,
            spool=self.spool,
            clock=clock,
        )

    async def _reload(self) -> str:
        return ""

    def _drain(self) -> None:
        self.dispatcher.draining = True


class _Tracebacks(logging.Handler):
    """Keeps every logged exception: there must be none, whatever a peer sends."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(logging.Formatter().format(record))


def on_rig(**changes: object) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Run a test in virtual time with a fresh `rig`; `changes` are those of `Options`. No exception may be logged."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**fixtures: object) -> None:
            async def main() -> None:
                rig = Rig(Options(**changes))  # type: ignore[arg-type]  # checked by the dataclass
                rig.start()
                try:
                    await test(rig=rig, **fixtures)
                finally:
                    await rig.stop()
                    await tasks.drain(0.0)

            tracebacks = _Tracebacks()
            logging.getLogger().addHandler(tracebacks)
            try:
                with asyncio.Runner(loop_factory=VirtualLoop) as runner:
                    runner.run(main())
            finally:
                logging.getLogger().removeHandler(tracebacks)
            assert not tracebacks.found, "\n".join(tracebacks.found)

        signature = inspect.signature(test)
        del run.__wrapped__  # type: ignore[attr-defined]  # pytest is not to see the parameter `rig`
        parameters = [each for each in signature.parameters.values() if each.name != "rig"]
        run.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
        return run

    return decorate
