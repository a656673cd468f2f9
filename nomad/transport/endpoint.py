"""The shell around `nomad.sip.stack`: bytes from sockets go in, its sends and events come out (RFC 3261 18, RFC 3581).

Everything here is synchronous except opening and closing. Decides nothing about requests: that is the handler's.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Sequence

from nomad.clock import Clock
from nomad.ports import EventHandler, Gate, Target, Unavailable
from nomad.sip.build import response_to
from nomad.sip.errors import SipError
from nomad.sip.events import ClientKey, Event, Flow, FlowClosed, RequestArrived, ServerKey
from nomad.sip.message import Request, Response, parse_message
from nomad.sip.stack import Stack, fingerprint
from nomad.tasks import spawn
from nomad.transport import stun
from nomad.transport.connection import PONG, PlainWire, StreamLimits
from nomad.transport.counters import Counters
from nomad.transport.keepalives import Keepalives
from nomad.transport.refusals import Refusals
from nomad.transport.source import note_source, reply_flow, return_place
from nomad.transport.stream import Streams
from nomad.transport.tls import ClientTls, ServerTls
from nomad.transport.udp import UdpSocket
from nomad.transport.websocket import WebSocketWire

logger = logging.getLogger(__name__)

TICK_S = 0.01  # timers that are due within one tick fire together
MAX_REDIALS = 100
PADDING = b"\r\n\0 \t"  # what phones send over UDP to keep a NAT binding, besides STUN


class Endpoint:
    """Implements `ports.Signalling` over real sockets.

    Events reach the handler one after another. Those that its own calls cause come after it has returned, so a key that
    `request` gave is known before anything is said about it.
    """

    def __init__(
        self,
        handler: EventHandler | None,
        gate: Gate,
        clock: Clock,
        *,
        stack: Stack | None = None,
        counters: Counters | None = None,
        limits: StreamLimits | None = None,
        server_tls: ServerTls | None = None,
        client_tls: ClientTls | None = None,
        origins: Sequence[str] = (),
    ) -> None:
        """`handler` may be set later, before the first `listen`; `origins` are the pages that may open a WebSocket."""
        self.handler = handler
        self.counters = counters if counters is not None else Counters()
        self.listens: list[str] = []
        self._refusals = Refusals(self.counters, clock)
        self._gate = gate
        self._clock = clock
        self._stack = stack if stack is not None else Stack()
        self._server_tls = server_tls
        self._origins = tuple(origins)
        self._streams = Streams(
            self,
            gate,
            clock,
            counters=self.counters,
            refusals=self._refusals,
            limits=limits if limits is not None else StreamLimits(),
            closed=self._flow_closed,
            client_tls=client_tls,
        )
        self._udp: dict[tuple[str, int], UdpSocket] = {}
        self._keepalives = Keepalives(self._flow_lapsed, clock)
        self._redialling = 0  # responses that wait for a new connection
        self._late: list[Event] = []
        self._pumping = False
        self._pump_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # -- opening and closing -----------------------------------------------------------------------------------------

    async def listen(self, transport: str, host: str, port: int) -> tuple[str, int]:
        """Listen at an address; returns it with the port that was bound. Raises `Unavailable`."""
        if self.handler is None:
            raise Unavailable("nobody handles events yet")
        if transport == "udp":
            udp = UdpSocket(self._datagram, self.counters)
            await udp.open(host, port)
            self._udp[udp.local] = udp
            bound = udp.local
        elif transport in ("tcp", "ws", "tls", "wss"):
            if transport in ("tls", "wss") and self._server_tls is None:
                raise Unavailable(f"{transport} needs a certificate")
            bound = self._streams.listen(
                transport,
                host,
                port,
                wire=PlainWire if transport in ("tcp", "tls") else lambda: WebSocketWire(self._origins),
                tls=self._server_tls if transport in ("tls", "wss") else None,
            )
        else:
            raise Unavailable(f"transport {transport} is not spoken here")
        self.listens.append(f"{transport}:{_bracketed(bound[0])}:{bound[1]}")
        return bound

    async def close(self) -> None:
        """Close every connection and socket. Transactions that are not finished stay so."""
        self._keepalives.stop()
        await self._streams.close()
        for udp in list(self._udp.values()):
            await udp.close()
        self._udp.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- ports.Signalling --------------------------------------------------------------------------------------------

    def respond(self, key: ServerKey, response: Response) -> None:
        """Answer a request; final and provisional. Does nothing when the transaction is gone."""
        self.counters.response(key.method, response.status)
        now = self._clock.monotonic()
        self._stack.respond(key, response, now)
        self._after_call(now)

    def request(self, request: Request, flow: Flow, *, patience_s: float | None = None) -> ClientKey:
        """Send a request in a new client transaction; its top Via must already carry our branch."""
        now = self._clock.monotonic()
        key = self._stack.request(request, flow, now, patience_s=patience_s)
        self._after_call(now)
        return key

    def cancel(self, key: ClientKey, headers: Sequence[tuple[str, str]] = ()) -> None:
        """CANCEL an INVITE that has no final response yet, as soon as RFC 3261 9.1 allows."""
        now = self._clock.monotonic()
        self._stack.cancel(key, now, headers)
        self._after_call(now)

    def forward(self, message: Request | Response, flow: Flow) -> None:
        """Send without a transaction: the ACK of a 2xx, a response that belongs to no transaction."""
        if isinstance(message, Response):
            self.counters.response(message.cseq.method, message.status)
        self._transmit(message.encode(), flow)

    async def connect(self, target: Target) -> Flow:
        """A flow to a target, over an existing connection when there is one. Raises `Unavailable`."""
        if target.transport != "udp":
            return await self._streams.connect(target)
        host = target.host.strip("[]")
        return self._socket_towards(host, target.port).flow((host, target.port))

    def expect_keepalives(self, flow: Flow, within_s: float) -> None:
        """`ports.FlowWatch`: give the flow up when nothing comes by it for so long."""
        if flow.transport == "udp":
            self._keepalives.expect(flow, within_s)
        else:
            self._streams.expect_keepalives(flow, within_s)

    # -- what comes in -----------------------------------------------------------------------------------------------

    def received(self, data: bytes, flow: Flow) -> None:
        """One message of a connection."""
        now = self._clock.monotonic()
        if self._gate.admits(flow.remote[0], now, True):
            self._message(data, flow, now)
        else:
            self._refusals.note("gate", flow.remote[0], transport=flow.transport)

    def keepalive(self, flow: Flow) -> None:
        """A connection answered a ping."""
        self.counters.keepalive("crlf")

    def unreadable(self, error: SipError, flow: Flow) -> None:
        """A connection's bytes are no SIP stream; it will be closed."""
        self._malformed(error, flow)

    def _datagram(self, data: bytes, flow: Flow) -> None:
        now = self._clock.monotonic()
        if not self._gate.admits(flow.remote[0], now):
            self._refusals.note("gate", flow.remote[0], transport="udp")
            return
        first = data[0] if data else 0
        if first <= 0x20:  # no message begins so, but STUN, keepalives and stray line ends do
            self._keepalives.heard(flow, now)
            if stun.looks_like_stun(data):
                self._answer_stun(data, flow)
                return
            ping = data.startswith(b"\r\n\r\n")
            data = data.lstrip(b"\r\n")  # RFC 3261 7.5
            if not data.strip(PADDING):
                if ping:
                    self._transmit(PONG, flow)
                    self.counters.keepalive("crlf")
                return
        mark = fingerprint(data, flow)
        if self._stack.absorb(mark):
            self.counters.retransmissions += 1
            self._pump(now)
        else:
            self._message(data, flow, now, mark)

    def _answer_stun(self, data: bytes, flow: Flow) -> None:
        answer = stun.answer(data, flow.remote)
        if answer is None:
            self._refusals.note("stun", flow.remote[0], transport="udp")
        else:
            self._transmit(answer, flow)
            self.counters.keepalive("stun")

    def _message(self, data: bytes, flow: Flow, now: float, mark: int = 0) -> None:
        try:
            message = parse_message(data)
            if isinstance(message, Request):
                self.counters.request(message.method, flow.transport)
                note_source(message, flow.remote)
                flow = reply_flow(message, flow)
            self._stack.receive(message, flow, now, mark=mark)
            if self._stack.answered:
                self._count_answered(flow)
        except SipError as error:
            self._malformed(error, flow)
        except Exception:  # a bug of ours must not stop the endpoint
            self.counters.bad("internal")
            logger.exception("message was not processed")
        self._pump(now)

    def _count_answered(self, flow: Flow) -> None:
        """What the stack answered by itself: nobody else hears of it."""
        for method, status in self._stack.answered:
            self.counters.response(method, status)
            if status == 503:
                self._refusals.note("overload", flow.remote[0], transport=flow.transport, why="too many transactions")
            elif status >= 300:
                self._refusals.note("cancel", flow.remote[0], transport=flow.transport, why="of nothing that is here")
        self._stack.answered.clear()

    def _malformed(self, error: SipError, flow: Flow) -> None:
        """Answer what can be answered (RFC 3261 16.3 step 1), tell the handler about all."""
        self.counters.bad(error.reason)
        request: Request | None = getattr(error, "request", None)
        try:
            if request is not None and request.method != "ACK":
                note_source(request, flow.remote)
                response = response_to(request, error.status, error.phrase, to_tag=_stateless_tag(request))
                self._transmit(response.encode(), reply_flow(request, flow))
                self.counters.response(request.method, error.status)
        except SipError:
            pass  # its Via, From or To are beyond use
        try:
            if self.handler is not None:
                self.handler.malformed(flow, error.reason, error.phrase)
        except Exception:
            logger.exception("handler failed on a malformed message")

    def _flow_closed(self, flow: Flow, why: str) -> None:
        now = self._clock.monotonic()
        self._stack.flow_failed(flow, now, why)
        self._late.append(FlowClosed(flow, why))
        self._pump(now)

    def _flow_lapsed(self, flow: Flow) -> None:
        self.counters.keepalive("missed")
        self._late.append(FlowClosed(flow, "no keepalives"))
        self._pump(self._clock.monotonic())

    # -- what goes out -----------------------------------------------------------------------------------------------

    def _transmit(self, data: bytes, flow: Flow) -> None:
        if flow.transport == "udp":
            udp = self._udp.get(flow.local)
            sent = udp is not None and udp.send(data, flow.remote)
        else:
            sent = self._streams.send(data, flow)
        if not sent and not self._redials(data, flow):
            self._refusals.note("flow-gone", flow.remote[0], transport=flow.transport, why=_first_line(data))
            if not data.startswith(b"SIP/2.0 "):
                self._stack.flow_failed(flow, self._clock.monotonic(), "the flow is gone")
                self._pump_soon()

    def _redials(self, data: bytes, flow: Flow) -> bool:
        """Whether a response whose connection is gone goes by a new one (RFC 3261 18.2.2)."""
        if flow.transport != "tcp" or self._redialling >= MAX_REDIALS or not data.startswith(b"SIP/2.0 "):
            return False
        try:
            response = parse_message(data)
            place = return_place(response, flow) if isinstance(response, Response) else None
        except SipError:  # an answer can only be as good as the request was
            return False
        if place is not None:
            self._redialling += 1
            spawn(self._redial(data, flow, place), name="late response")
        return place is not None

    async def _redial(self, data: bytes, flow: Flow, place: tuple[str, int]) -> None:
        try:
            again = await self._streams.connect(Target("tcp", *place))
            sent, why = self._streams.send(data, again), ""
        except Unavailable as error:
            sent, why = False, str(error)
        finally:
            self._redialling -= 1
        if not sent:
            why = f"{_first_line(data)}; {why}"
            self._refusals.note("flow-gone", flow.remote[0], transport=flow.transport, why=why)

    def _after_call(self, now: float) -> None:
        """Send what a call of the handler gave at once, but leave its events for later."""
        for data, flow in self._stack.take_sends():
            self._transmit(data, flow)
        if not self._pumping:
            self._late += self._stack.take_events()
            if self._late:
                self._pump_soon()
            self._arm(now)

    def _pump_soon(self) -> None:
        if not self._pumping and not self._pump_is_due:
            self._pump_is_due = True
            asyncio.get_running_loop().call_soon(self._pump_now)

    def _pump_now(self) -> None:
        self._pump_is_due = False
        self._pump(self._clock.monotonic())

    def _pump(self, now: float) -> None:
        """Send everything and deliver everything until the stack has nothing more to say."""
        if self._pumping:
            return
        self._pumping = True
        stack = self._stack
        try:
            while True:
                for data, flow in stack.take_sends():
                    self._transmit(data, flow)
                events = stack.take_events()
                if self._late:
                    events = [*self._late, *events]
                    self._late.clear()
                if not events:
                    break
                for event in events:
                    self._deliver(event, now)
        finally:
            self._pumping = False
        self._arm(now)

    def _deliver(self, event: Event, now: float) -> None:
        try:
            if self.handler is not None:
                self.handler.handle(event)
        except Exception:
            logger.exception("handler failed on %s", type(event).__name__)
            if isinstance(event, RequestArrived):
                self._apologise(event, now)

    def _apologise(self, event: RequestArrived, now: float) -> None:
        """Answer 500 for a handler that failed; ignored when it had already answered."""
        try:
            response = response_to(event.request, 500, to_tag=_stateless_tag(event.request))
            self._stack.respond(event.key, response, now)
            self.counters.response(event.key.method, 500)
        except Exception:
            logger.exception("request was not answered")

    def _arm(self, now: float) -> None:
        due = self._stack.next_timer()
        if due is None:
            return
        due = max(due, now + TICK_S)
        if self._timer is not None:
            if self._timer_at <= due:
                return  # it will look again when it fires
            self._timer.cancel()
        self._timer_at = due
        self._timer = asyncio.get_running_loop().call_later(due - now, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        try:
            self._stack.run_timers(now)
        except Exception:  # the other timers are tried again
            logger.exception("a timer failed")
        self._pump(now)

    def _socket_towards(self, host: str, port: int) -> UdpSocket:
        """The socket to send from: the one with the address that the kernel would take, so that answers find back."""
        try:
            version = ipaddress.ip_address(host.partition("%")[0]).version
        except ValueError:
            raise Unavailable(f"{host} is not an address") from None
        sockets = [udp for local, udp in self._udp.items() if (":" in local[0]) == (version == 6)]
        if not sockets:
            raise Unavailable(f"not listening on UDP over IPv{version}")
        if len(sockets) == 1:
            return sockets[0]
        source = source_address(host, port)
        for udp in sockets:
            if udp.local[0] == source:
                return udp
        return next((udp for udp in sockets if udp.local[0] in ("0.0.0.0", "::")), sockets[0])  # noqa: S104 - compared


def source_address(host: str, port: int) -> str:
    """The local address that packets to an address leave from, "" when that cannot be told; sends nothing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, port))
            address: str = probe.getsockname()[0]
    except OSError:  # no route, or no file descriptor left
        return ""
    return address


def _stateless_tag(request: Request) -> str:
    """The same To tag each time a request is sent again (RFC 3261 8.2.7); hash() is salted per process."""
    return f"{hash((request.get('call-id'), request.get('via'), request.get('cseq'))) & 0xFFFFFFFFFFFF:012x}"


def _first_line(data: bytes) -> str:
    return data[: data.find(b"\r\n")].decode("utf-8", "replace")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
