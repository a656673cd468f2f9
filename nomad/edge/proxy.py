"""The stateful, record-routing proxy: what changes in a forwarded request, and the way of its responses back.

RFC 3261 16.6 to 16.8 with RFC 3581 (rport), RFC 5658 (double Record-Route) and RFC 3325 (asserted identity at the trust
boundary). Decides nothing about who may call whom.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from nomad import tasks
from nomad.clock import Clock
from nomad.edge import loops
from nomad.edge.addresses import OwnAddresses
from nomad.ports import Signalling, Unavailable
from nomad.sip.build import response_to
from nomad.sip.errors import Reject, SipError
from nomad.sip.events import BranchFailed, BranchTimedOut, CancelArrived, ClientKey, Flow, ResponseArrived, ServerKey
from nomad.sip.forking import Action, CancelBranch, ResponseContext
from nomad.sip.headers import Credentials
from nomad.sip.message import Request, Response
from nomad.sip.uri import Uri

PHONE, PBX = "phone", "pbx"  # the two sides of the edge
CHALLENGES = (401, 407)
FLOW_FAILED = 430
ASSURE_S = 3.5  # when a client sends what is no INVITE only every T2 (RFC 3261 17.1.2.2: T1 + 2*T1 + 4*T1)
LINGER_S = 40.0  # 64*T1 of the Accepted state (RFC 6026), and some
# Headers that only the trusted side may write; from a phone they are dropped (RFC 3325 5, RFC 3455 5)
TRUSTED_ONLY = (
    "p-asserted-identity",
    "p-preferred-identity",
    "remote-party-id",
    "p-charging-vector",
    "p-charging-function-addresses",
    "p-visited-network-id",
    "p-served-user",
    "p-asserted-service",
    "p-called-party-id",
    "p-associated-uri",
    "diversion",  # who sent a call on: PBXs show and bill that person (RFC 5806 6); our own is written later
    "history-info",  # RFC 7044
)

# What the inside keeps to itself whatever anybody asked (RFC 7315 5.6)
HIDDEN_PARTY = re.compile(r";\s*privacy\s*=\s*(?!\"?off)", re.I)  # of Remote-Party-ID, which older PBXs write
INSIDE_ONLY = ("p-charging-vector", "p-charging-function-addresses")

Observer = Callable[[Response, "Branch"], Awaitable[None]]
Retry = Callable[[Response | None, "Branch"], Awaitable["Branch | None"]]
BranchEvent = ResponseArrived | BranchTimedOut | BranchFailed


@dataclass(frozen=True, slots=True)
class Branch:
    """One place that a request is forwarded to."""

    request: Request
    flow: Flow
    side: str  # phone or pbx
    instance: str = ""  # which phone, when it has several flows (RFC 5626)
    user: str = ""  # whose phone, when the call is accounted to somebody else
    carrier: Flow | None = None  # the connection that carries this request in place of the flow (RFC 3261 18.1.1)
    patience_s: float | None = None  # give up an INVITE after so long without any answer, for another place to try


class Relay:
    """One request that is being served: its branches, and what arrives for it."""

    __slots__ = ("_inbox", "_waiter", "began", "branches", "cancelled", "finished", "key", "observe", "unanswered")

    def __init__(self, key: ServerKey, unanswered: Request | None = None, began: float = 0.0) -> None:
        self.key = key
        self.unanswered = unanswered  # the request, until its sender was told anything
        self.began = began  # monotonic
        self.branches: dict[ClientKey, Branch] = {}
        self.cancelled = False
        self.finished = False
        self.observe: Observer | None = None
        self._inbox: deque[BranchEvent] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def deliver(self, event: BranchEvent) -> None:
        """Hand over what a branch did."""
        self._inbox.append(event)
        self._notify()

    def cancel(self) -> None:
        """The caller, or an admin, wants no answer any more."""
        self.cancelled = True
        self._notify()

    def check_cancelled(self) -> None:
        """Raises `Reject(487)` when the caller gave up before anything was forwarded."""
        if self.cancelled:
            raise Reject(487, rule="cancelled")

    def take(self) -> BranchEvent | None:
        """The next thing that arrived, None when there is nothing."""
        return self._inbox.popleft() if self._inbox else None

    async def wait(self, seconds: float | None) -> None:
        """Wait until something may have arrived, or for so long."""
        if self._inbox:
            return
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = None if seconds is None else loop.call_later(max(seconds, 0.0), self._notify)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _notify(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Proxy:
    """Forwards requests and brings their responses back."""

    def __init__(
        self,
        signalling: Signalling,
        own: OwnAddresses,
        *,
        clock: Clock,
        new_branch: Callable[[], str],
        timer_c_s: float,
    ) -> None:
        self._signalling = signalling
        self._own = own
        self._clock = clock
        self._new_branch = new_branch
        self._timer_c_s = timer_c_s
        self._by_branch: dict[ClientKey, Relay] = {}
        self._by_server: dict[ServerKey, Relay] = {}
        self._finished: deque[tuple[float, Relay]] = deque()

    # -- requests ------------------------------------------------------------------------------------------------

    def begin(self, key: ServerKey, request: Request, now: float) -> Relay:
        """Start serving a request, so that a CANCEL finds it. Every relay needs `end`. `now` is monotonic."""
        relay = self._by_server[key] = Relay(key, request, now)
        return relay

    def end(self, relay: Relay) -> None:
        """The request has its final response; late 2xx still pass for a while."""
        relay.finished = True
        relay.unanswered = None
        self._by_server.pop(relay.key, None)
        if relay.branches:
            self._finished.append((self._clock.monotonic() + LINGER_S, relay))

    def assure(self, now: float) -> None:
        """Answer 100 to what is no INVITE and waits long for its final response, once; `now` is monotonic.

        Its sender repeats it slowly then, and does not take us for dead (RFC 4320 4.1, RFC 4321 1.3).
        """
        for relay in tuple(self._by_server.values()):  # in the order in which they came
            if relay.began + ASSURE_S > now:
                break
            if relay.unanswered is not None and relay.key.method != "INVITE":
                self._signalling.respond(relay.key, response_to(relay.unanswered, 100))
            relay.unanswered = None

    def forget(self, now: float) -> None:
        """Drop relays that no response can reach any more; `now` is monotonic."""
        while self._finished and self._finished[0][0] <= now:
            for key in self._finished.popleft()[1].branches:
                self._by_branch.pop(key, None)

    def copy(
        self,
        request: Request,
        *,
        source: Flow,
        destination: Flow,
        token: str = "",
        uri: str = "",
        branches: int = 1,
        within: bool = False,
    ) -> Request:
        """The request as it leaves towards `destination` (RFC 3261 16.6); `token` asks for a Record-Route.

        It is one of so many `branches` at a time. Raises `Reject` when its Max-Forwards or Max-Breadth is used up.
        `within` a dialog it goes one way, and gets no Max-Breadth that it did not have.
        """
        forwarded = request.copy()
        if uri:
            forwarded.set_uri(_as_target(uri))
        forwarded.set("max-forwards", str(loops.hops_left(request)))
        if token or not within or request.has("max-breadth"):
            forwarded.set("max-breadth", str(loops.breadth_left(request, branches)))
        if token:
            inner = self._own.record_route(source, token)
            outer = self._own.record_route(destination, token)
            forwarded.prepend("record-route", inner)
            if outer != inner:
                forwarded.prepend("record-route", outer)
        forwarded.prepend("via", self.via(destination, f".{loops.mark(request, source)}"))
        return forwarded

    def via(self, destination: Flow, mark: str = "") -> str:
        """A Via value of ours with a new branch."""
        return (
            f"SIP/2.0/{destination.transport.upper()} {self._own.sent_by(destination)}"
            f";branch={self._new_branch()}{mark};rport"
        )

    def readdress(self, request: Request, destination: Flow) -> None:
        """Have a request that was made for one flow leave by another."""
        transport, place = destination.transport.upper(), self._own.sent_by(destination)
        request.replace_first("via", f"SIP/2.0/{transport} {place};branch={request.via.branch};rport")

    # -- responses -----------------------------------------------------------------------------------------------

    def handle(self, event: BranchEvent | CancelArrived) -> None:
        """What arrived for a branch or, as CANCEL, for a whole request."""
        if isinstance(event, CancelArrived):
            relay = self._by_server.get(event.key)
            if relay is not None:
                relay.cancel()
            return
        relay = self._by_branch.get(event.key)
        if relay is None:
            return
        if not relay.finished:
            relay.deliver(event)
        elif isinstance(event, ResponseArrived) and 200 <= event.response.status < 300:
            tasks.spawn(self._late(relay, event.response, relay.branches[event.key]), name="late 2xx")

    async def relay(
        self,
        relay: Relay,
        request: Request,
        branches: Sequence[Branch],
        *,
        observe: Observer | None = None,
        sent: Awaitable[None] | None = None,
        retry: Retry | None = None,
    ) -> int:
        """Send the branches and forward their responses until all have ended; the final status that went back.

        `observe` sees each response before it is forwarded. `sent` is awaited once all branches are on their way.
        `retry` may put another branch in the place of one that ended in vain: challenged, redirected, failed.
        """
        relay.observe = observe
        context = ResponseContext(request, timer_c_s=self._timer_c_s)
        try:
            return await self._until_done(relay, context, branches, sent=sent, retry=retry)
        finally:
            if not context.done:  # we gave up: nobody is to ring on
                for action in context.cancel_all():
                    if isinstance(action, CancelBranch):
                        self._signalling.cancel(action.key)

    async def ask(
        self, request: Request, flow: Flow, *, side: str = PBX, retry: Retry | None = None
    ) -> Response | None:
        """Send a request of our own, not an INVITE; its final response, None when none came."""
        relay = Relay(ServerKey("", "", request.method))
        self._send(relay, Branch(request, flow, side))
        try:
            while True:
                event = relay.take()
                if event is None:
                    await relay.wait(None)  # the transaction ends by itself
                elif not isinstance(event, ResponseArrived):
                    return None
                elif event.response.status >= 200:
                    again = await retry(event.response, relay.branches[event.key]) if retry is not None else None
                    if again is None:
                        return event.response
                    self._send(relay, again)
        finally:
            for key in relay.branches:
                self._by_branch.pop(key, None)

    async def _until_done(
        self,
        relay: Relay,
        context: ResponseContext,
        branches: Sequence[Branch],
        *,
        sent: Awaitable[None] | None,
        retry: Retry | None,
    ) -> int:
        within = bool(branches[0].request.to.tag)
        for branch in branches:
            context.add_branch(self._send(relay, branch), self._clock.monotonic())
        if sent is not None:
            await sent
        status = 0
        cancelled = False
        while not context.done:
            if relay.cancelled and not cancelled:
                cancelled = True
                await self._act(relay, context.cancel_all())
            event = relay.take()
            if event is None:
                due = context.next_timer()
                await relay.wait(None if due is None else due - self._clock.monotonic())
                event = relay.take()
            now = self._clock.monotonic()
            if retry is not None and event is not None and _may_be_replaced(event, cancelled=relay.cancelled):
                response = event.response if isinstance(event, ResponseArrived) else None
                again = await retry(response, relay.branches[event.key])
                if again is not None:
                    context.replace(event.key, self._send(relay, again), now)
                    continue
            if event is None:
                actions: Sequence[Action] = context.run_timers(now)
            else:
                actions = _feed(context, event, now, side=relay.branches[event.key].side, within=within)
            status = await self._act(relay, actions) or status
        return status

    def _send(self, relay: Relay, branch: Branch) -> ClientKey:
        key = self._signalling.request(branch.request, branch.carrier or branch.flow, patience_s=branch.patience_s)
        relay.branches[key] = branch
        self._by_branch[key] = relay
        return key

    async def _late(self, relay: Relay, response: Response, branch: Branch) -> None:
        """A 2xx after the final response went back: repeated, or of another fork (RFC 6026 7.2)."""
        try:
            if relay.observe is not None:
                await relay.observe(response, branch)
        except (Reject, SipError, Unavailable):
            return
        self._pass_back(relay, response)

    async def _act(self, relay: Relay, actions: Sequence[Action]) -> int:
        """Carry out what the response context decided; the final status that was forwarded, if any."""
        status = 0
        for action in actions:
            if isinstance(action, CancelBranch):
                self._signalling.cancel(action.key)
        for action in actions:
            if isinstance(action, CancelBranch):
                continue
            response = action.response
            branch = relay.branches.get(action.key) if action.key is not None else None
            if relay.observe is not None and branch is not None:
                try:
                    await relay.observe(response, branch)
                except SipError as error:
                    if response.status < 200:
                        continue  # nobody can use it; the branch may still say something better
                    raise Reject(502, rule="response", why=error.text) from None
            self._pass_back(relay, response, from_branch=branch is not None)
            if response.status >= 200:
                status = response.status
        return status

    def _pass_back(self, relay: Relay, response: Response, *, from_branch: bool = True) -> None:
        if from_branch:
            response.pop_first("via")
        self._signalling.respond(relay.key, response)


def _as_target(uri: str) -> str:
    """A URI without what no Request-URI may have: headers and a method (RFC 3261 16.6 step 2, 19.1.1)."""
    if "?" not in uri and ";method=" not in uri.lower():
        return uri
    target = Uri.parse(uri)
    params = {name: value for name, value in target.params.items() if name != "method"}
    return target.with_params(params).text


def strip_untrusted(message: Request | Response) -> None:
    """Remove what an outside peer may not assert (RFC 3325 5)."""
    for name in TRUSTED_ONLY:
        if message.has(name):
            message.remove(name)


def hide_identity(message: Request | Response) -> None:
    """Keep inside what is not for phones: an identity whose person asked for privacy (RFC 3325 7, 3323), charging."""
    for name in INSIDE_ONLY:
        if message.has(name):
            message.remove(name)
    if message.has("privacy") and any(
        "id" in value.lower().replace(" ", "").split(";") for value in message.get_all("privacy")
    ):
        message.remove("p-asserted-identity")
        message.remove("remote-party-id")
    elif message.has("remote-party-id") and any(
        HIDDEN_PARTY.search(value) for value in message.get_all("remote-party-id")
    ):
        message.remove("remote-party-id")


def remove_own_credentials(request: Request, realm: str) -> None:
    """Take out the credentials that were meant for us (RFC 3261 22.3); others' pass."""
    for name in ("proxy-authorization", "authorization"):
        values = request.get_all(name)
        if values:
            request.remove(name)
            for value in values:
                if not _is_for(realm, value):
                    request.add(name, value)


def _is_for(realm: str, value: str) -> bool:
    if f'realm="{realm}"' in value:
        return True
    try:
        return Credentials.parse(value).params.get("realm") == realm
    except SipError:
        return True  # of no use to anybody


def asserted_identity(display_name: str, name: str, domain: str) -> str:
    """P-Asserted-Identity value of a member (RFC 3325 9.1)."""
    uri = Uri.build(name, domain)
    display_name = "".join(character if character.isprintable() else " " for character in display_name)
    escaped = display_name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" <{uri}>' if display_name else f"<{uri}>"


def _may_be_replaced(event: BranchEvent, *, cancelled: bool) -> bool:
    """Whether another branch may take the place of this one, which ended in vain; if there is one, `retry` knows."""
    if isinstance(event, ResponseArrived):
        status = event.response.status
        return status >= 300 and (not cancelled or status in CHALLENGES)
    # What makes no call is over when it timed out, also for who sent it; and it may have arrived
    return not cancelled and (isinstance(event, BranchFailed) or event.key.method == "INVITE")


def _feed(context: ResponseContext, event: BranchEvent, now: float, *, side: str, within: bool) -> Sequence[Action]:
    if isinstance(event, ResponseArrived):
        try:
            return context.on_response(event.key, event.response, now)
        except SipError:
            return ()
    if isinstance(event, BranchTimedOut):
        return context.on_timeout(event.key)
    if side != PHONE:
        return context.on_failed(event.key)
    # The flow of a phone is gone, and there is no other way to it (RFC 5626 5.3.1, 7); a caller hears that it is away.
    return context.on_failed(event.key, 430 if within else 480)
