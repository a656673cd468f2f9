"""The wire between the edge and scripted peers: the edge's real SIP stack, and a network in place of sockets."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Protocol

from nomad.edge.guard import Guard
from nomad.ports import EventHandler, Target, Unavailable
from nomad.sip.errors import SipError
from nomad.sip.events import ClientKey, Flow, FlowClosed, ServerKey
from nomad.sip.message import Request, Response, parse_message
from nomad.sip.stack import Stack
from nomad.transport.keepalives import Keepalives
from nomad.transport.source import note_source, reply_flow
from tests.harness.virtual import LoopClock

EDGE = ("192.0.2.1", 5060)
LATENCY_S = 0.001


class Receiver(Protocol):
    """Somebody on the network."""

    def arrived(self, data: bytes, flow: Flow) -> None:
        """Bytes from the edge."""


class Network:
    """Carries bytes between the edge and its peers, by flow."""

    def __init__(self) -> None:
        self.peers: dict[tuple[str, tuple[str, int]], Receiver] = {}
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
        self.keepalives = Keepalives(self._lapsed, clock)
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

    def request(self, request: Request, flow: Flow, *, patience_s: float | None = None) -> ClientKey:
        """As the endpoint does."""
        key = self.stack.request(request, flow, self._clock.monotonic(), patience_s=patience_s)
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

    def expect_keepalives(self, flow: Flow, within_s: float) -> None:
        """As the endpoint does for UDP."""
        if not flow.reliable:
            self.keepalives.expect(flow, within_s)

    def arrived(self, data: bytes, flow: Flow) -> None:
        """Bytes from a peer."""
        now = self._clock.monotonic()
        assert self.handler is not None
        if data == b"\r\n\r\n":
            self.keepalives.heard(flow, now)
            return
        if not self._guard.admits(flow.remote[0], now, flow.reliable):
            return
        try:
            message = parse_message(data)
            if isinstance(message, Request):
                note_source(message, flow.remote)
                flow = reply_flow(message, flow)
            self.stack.receive(message, flow, now)
        except SipError as error:
            self.handler.malformed(flow, error.reason, error.phrase)
        self._pump()

    def close(self, flow: Flow) -> None:
        """A connection is gone."""
        now = self._clock.monotonic()
        self._outgoing = {target: known for target, known in self._outgoing.items() if known != flow}
        self.stack.flow_failed(flow, now, "closed by the peer")
        assert self.handler is not None
        self.handler.handle(FlowClosed(flow, "closed by the peer"))
        self._pump()

    def _lapsed(self, flow: Flow) -> None:
        assert self.handler is not None
        self.handler.handle(FlowClosed(flow, "no keepalives"))

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
