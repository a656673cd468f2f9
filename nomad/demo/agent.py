"""SIP over UDP for the demo's phone and PBX: RFC 3261 chapter 17 around aiosipua's messages. One dialog is in `leg.py`.

aiosipua 0.7.1 gives messages, headers, digest, dialogs and SDP. Its agents cannot be used behind a proxy, so the
minimum is here: `UdpSipTransport` asserts a base class that asyncio (before 3.12) and uvloop do not give their
transports and so never starts; `SipUAC` sends each request once, never acknowledges a refusal, ignores Record-Route
and Contact of an answer and drops the answer to BYE; `SipUAS` answers without Record-Route, reverses the route set and
takes a retransmitted INVITE for a new call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from aiosipua import Dialog, SipMessage, SipRequest, SipResponse, SipTransport, generate_branch, generate_tag
from aiosipua.message import missing_required_headers

T1_S = 0.5
T2_S = 4.0
LIFE_S = 64 * T1_S  # timers B, F, H, and how long an answered transaction is remembered
Address = tuple[str, int]
REASONS = {400: "Bad Request", 405: "Method Not Allowed", 481: "Call/Transaction Does Not Exist", 488: "Not Acceptable"}


@dataclass(frozen=True, slots=True)
class Seen:
    """A response as it came over the wire."""

    status: int
    reason: str
    ms: float  # since its request was first sent

    def __str__(self) -> str:
        return f"{self.status} {self.reason}"


class Datagrams(SipTransport):
    """aiosipua's transport seam over one UDP socket; port 0 takes a free one."""

    def __init__(self, address: Address) -> None:
        super().__init__(local_addr=address)
        self._socket: asyncio.DatagramTransport | None = None
        self._lost = asyncio.Event()

    async def start(self) -> None:
        """Bind, and say in `local_addr` where."""
        self._socket, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Receiver(self._dispatch, self._lost), local_addr=self.local_addr
        )
        host, port = self._socket.get_extra_info("sockname")[:2]
        self.local_addr = (host, port)

    def send(self, message: SipRequest | SipResponse, addr: Address) -> None:
        """Send one message; silently nothing once stopped, as timers may still be on their way."""
        if self._socket is not None and not self._socket.is_closing():
            self._socket.sendto(bytes(message), addr)

    async def stop(self) -> None:
        """Free the port."""
        if self._socket is not None:
            self._socket.abort()
            await self._lost.wait()


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, deliver: Callable[[bytes, Address], None], lost: asyncio.Event) -> None:
        self._deliver = deliver
        self._lost = lost

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if data.strip(b"\r\n\0"):  # else a keepalive (RFC 5626 4.4.1)
            self._deliver(data, addr[:2])

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()


class Timers:
    """Pending calls of an agent, all of them cancelled when it stops."""

    def __init__(self) -> None:
        self._handles: set[asyncio.TimerHandle] = set()
        self.closed = False

    def after(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle | None:
        """Call once after a delay."""
        if self.closed:
            return None

        def run() -> None:
            self._handles.discard(handle)
            call()

        handle = asyncio.get_running_loop().call_later(delay_s, run)
        self._handles.add(handle)
        return handle

    def close(self) -> None:
        """Cancel everything and take nothing new."""
        self.closed = True
        for handle in self._handles:
            handle.cancel()
        self._handles.clear()


class ClientTransaction:
    """A request of ours until its final response (RFC 3261 17.1)."""

    def __init__(self, agent: Agent, request: SipRequest, target: Address) -> None:
        self.request = request
        self.target = target
        self.seen: list[Seen] = []
        self.on_provisional: Callable[[SipResponse], None] = lambda response: None
        self.on_success: Callable[[SipResponse], None] = lambda response: None  # every 2xx to an INVITE, repeats too
        self._agent = agent
        self._sent_at = asyncio.get_running_loop().time()
        self._final: asyncio.Future[SipResponse | None] = asyncio.get_running_loop().create_future()
        self._cancel_wanted = False
        self._send(T1_S)
        agent.timers.after(LIFE_S, self._expire)

    async def final(self, timeout_s: float = LIFE_S) -> SipResponse | None:
        """The final response, or None when there was none in time."""
        await asyncio.wait([self._final], timeout=timeout_s)
        return self._final.result() if self._final.done() else None

    def cancel(self) -> None:
        """CANCEL an INVITE, not before the first provisional response (RFC 3261 9.1)."""
        if self._final.done() or self._cancel_wanted:
            return
        self._cancel_wanted = True
        if self.seen:
            self._agent.request(_cancel_for(self.request), self.target)

    def receive(self, response: SipResponse) -> None:
        """A response whose branch and method are ours."""
        invite = self.request.method == "INVITE"
        if response.status_code >= 300 and invite:
            self._agent.transport.send(_ack_for(self.request, response), self.target)
        if not self._final.done():
            ms = (asyncio.get_running_loop().time() - self._sent_at) * 1000
            self.seen.append(Seen(response.status_code, response.reason_phrase, ms))
        if response.status_code < 200:
            if self._cancel_wanted and len(self.seen) == 1:
                self._agent.request(_cancel_for(self.request), self.target)
            self.on_provisional(response)
            return
        if response.status_code < 300 and invite:
            self.on_success(response)
        if not self._final.done():
            self._final.set_result(response)

    def _send(self, interval_s: float) -> None:
        """Timers A and E: resend with doubled intervals until something comes."""
        invite = self.request.method == "INVITE"
        if self._final.done() or (invite and self.seen):
            return
        self._agent.transport.send(self.request, self.target)
        following_s = 2 * interval_s if invite else min(2 * interval_s, T2_S)
        self._agent.timers.after(interval_s, lambda: self._send(following_s))

    def _expire(self) -> None:
        if self._final.done() or not (self.seen and self.request.method == "INVITE"):  # a phone may ring for longer
            self._agent.forget(self)
            if not self._final.done():
                self._final.set_result(None)


class ServerTransaction:
    """A request of a peer and what we answered (RFC 3261 17.2)."""

    def __init__(self, agent: Agent, request: SipRequest, source: Address) -> None:
        self.request = request
        self.source = source
        self.response: SipResponse | None = None
        self.on_cancel: Callable[[], object] = lambda: None
        self._agent = agent
        self._acknowledged = False
        self._deadline = 0.0

    def answer(self, status: int, reason: str = "", *, to_tag: str = "") -> SipResponse:
        """Build and send a response without a body."""
        dialog = Dialog(call_id=self.request.call_id or "", local_tag=to_tag or generate_tag())
        to = self.request.to_addr
        if status == 100 or (to and to.tag):
            dialog.local_tag = ""
        response = dialog.create_response(self.request, status, reason or REASONS.get(status, ""))
        self.respond(response)
        return response

    def respond(self, response: SipResponse) -> None:
        """Send a response; a final one to an INVITE again and again until its ACK comes (RFC 3261 13.3.1.4, 17.2.1)."""
        self.response = response
        self._agent.transport.send_reply(response)
        if response.status_code >= 200:
            self._deadline = asyncio.get_running_loop().time() + LIFE_S
            if self.request.method == "INVITE":
                self._agent.timers.after(T1_S, lambda: self._resend(T1_S))
            self._agent.timers.after(LIFE_S, lambda: self._agent.forget(self))

    def repeated(self) -> None:
        """The peer sent its request again."""
        if self.response is not None:
            self._agent.transport.send_reply(self.response)

    def acknowledged(self) -> None:
        """The ACK came."""
        self._acknowledged = True

    def _resend(self, interval_s: float) -> None:
        if self._acknowledged or asyncio.get_running_loop().time() >= self._deadline or self.response is None:
            return
        self._agent.transport.send_reply(self.response)
        following_s = min(2 * interval_s, T2_S)
        self._agent.timers.after(following_s, lambda: self._resend(following_s))


class Agent:
    """One SIP user agent on one UDP socket: matches messages to transactions and dialogs."""

    def __init__(self, address: Address = ("127.0.0.1", 0), *, name: str = "Nomad-demo") -> None:
        self.name = name
        self.transport = Datagrams(address)
        self.timers = Timers()
        self.on_request: Callable[[ServerTransaction], object] = lambda transaction: self._refuse(transaction)
        self.dialogs: dict[tuple[str, str], Callable[[ServerTransaction], None]] = {}  # by Call-ID and our tag
        self._clients: dict[tuple[str, str], ClientTransaction] = {}
        self._servers: dict[tuple[str, str], ServerTransaction] = {}
        self._invites: dict[tuple[str, int], ServerTransaction] = {}  # by Call-ID and CSeq: an ACK of a 2xx has no more

    @property
    def address(self) -> Address:
        """Where the agent listens."""
        return self.transport.local_addr

    async def start(self) -> None:
        """Bind and listen."""
        self.transport.on_message = self._receive
        await self.transport.start()

    async def stop(self) -> None:
        """Forget everything and free the port; says no goodbye to anybody."""
        self.timers.close()
        for client in list(self._clients.values()):
            self.forget(client)
        await self.transport.stop()

    def request(self, request: SipRequest, target: Address) -> ClientTransaction:
        """Send a request in a new transaction; its top Via is ours."""
        request.set_header("User-Agent", self.name)
        transaction = ClientTransaction(self, request, target)
        self._clients[_branch(request), request.method] = transaction
        return transaction

    def forget(self, transaction: ClientTransaction | ServerTransaction) -> None:
        """Drop a transaction whose time is over."""
        key = _key(transaction.request)
        if isinstance(transaction, ClientTransaction):
            self._clients.pop(key, None)
            return
        self._servers.pop(key, None)
        self._invites.pop(_invite_key(transaction.request), None)

    def via(self) -> str:
        """A Via of ours with a new branch; rport as RFC 3581 wants it."""
        host, port = self.address
        return f"SIP/2.0/UDP {host}:{port};branch={generate_branch()};rport"

    def contact(self, user: str) -> str:
        """Where in-dialog requests reach us."""
        host, port = self.address
        return f"<sip:{user}@{host}:{port}>"

    def _receive(self, message: SipMessage, source: Address) -> None:
        if isinstance(message, SipResponse):
            client = self._clients.get((_branch(message), message.cseq.method if message.cseq else ""))
            if client is not None:
                client.receive(message)
            return
        request = cast(SipRequest, message)
        if missing_required_headers(request):
            return
        if request.method == "ACK":
            invite = self._invites.get(_invite_key(request))
            if invite is not None:
                invite.acknowledged()
            return
        known = self._servers.get(_key(request))
        if known is not None:
            known.repeated()
            return
        transaction = ServerTransaction(self, request, source)
        self._servers[_key(request)] = transaction
        self._dispatch(transaction)

    def _dispatch(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        if request.method == "CANCEL":
            invite = self._servers.get((_branch(request), "INVITE"))
            transaction.answer(200 if invite else 481, "OK" if invite else "")
            if invite is not None:
                invite.on_cancel()
            return
        if request.method == "INVITE":
            self._invites[_invite_key(request)] = transaction
        to = request.to_addr
        if to is None or not to.tag:
            self.on_request(transaction)
            return
        handle = self.dialogs.get((request.call_id or "", to.tag))
        if handle is None:
            transaction.answer(481)
        else:
            handle(transaction)

    @staticmethod
    def _refuse(transaction: ServerTransaction) -> None:
        transaction.answer(200, "OK") if transaction.request.method == "OPTIONS" else transaction.answer(405)


def _branch(message: SipMessage) -> str:
    via = message.via
    return (via[0].branch or "") if via else ""


def _key(request: SipRequest) -> tuple[str, str]:
    return _branch(request), request.method


def _invite_key(request: SipRequest) -> tuple[str, int]:
    return request.call_id or "", request.cseq.seq if request.cseq else 0


def _same_transaction(invite: SipRequest, method: str) -> SipRequest:
    """ACK and CANCEL take the INVITE's top Via, target, route and CSeq number (RFC 3261 9.1, 17.1.1.3)."""
    request = SipRequest(method=method, uri=invite.uri)
    request.add_header("Via", invite.get_header_values("via")[0])
    for name in ("From", "To", "Call-ID"):
        request.set_header(name, invite.get_header(name) or "")
    request.set_header("CSeq", f"{invite.cseq.seq if invite.cseq else 0} {method}")
    request.set_header("Max-Forwards", "70")
    for route in invite.get_header_values("route"):
        request.add_header("Route", route)
    return request


def _cancel_for(invite: SipRequest) -> SipRequest:
    return _same_transaction(invite, "CANCEL")


def _ack_for(invite: SipRequest, response: SipResponse) -> SipRequest:
    ack = _same_transaction(invite, "ACK")
    ack.set_header("To", response.get_header("to") or "")
    return ack
