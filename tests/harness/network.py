"""A network in memory: loses, delays, reorders and repeats datagrams, the same way for the same seed."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from nomad.sip.events import Flow
from tests.harness.clock import FakeClock

Address = tuple[str, int]
Receiver = Callable[[bytes, Flow], None]


class FakeNetwork:
    """Carries bytes between attached addresses. A reliable flow loses, repeats and reorders nothing."""

    def __init__(
        self,
        clock: FakeClock,
        *,
        seed: int = 0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        min_delay_s: float = 0.001,
        max_delay_s: float = 0.001,
    ) -> None:
        self.loss = loss
        self.duplicate = duplicate
        self.carried = 0
        self.lost = 0
        self._clock = clock
        self._random = random.Random(seed)
        self._delays = (min_delay_s, max_delay_s)
        self._receivers: dict[Address, Receiver] = {}
        self._under_way: list[tuple[float, int, bytes, Flow]] = []  # by arrival; the flow as the receiver sees it
        self._last_arrival: dict[Flow, float] = {}
        self._count = 0

    def attach(self, address: Address, receive: Receiver) -> None:
        """Deliver what is sent to an address."""
        self._receivers[address] = receive

    def send(self, data: bytes, flow: Flow) -> None:
        """Put bytes on the way; `flow` as the sender sees it."""
        arriving = Flow(flow.transport, flow.remote, flow.local, flow.id)
        if flow.reliable:
            arrival = max(self._arrival(), self._last_arrival.get(flow, 0.0))
            self._last_arrival[flow] = arrival
            self._post(arrival, data, arriving)
            return
        if self._random.random() < self.loss:
            self.lost += 1
            return
        self._post(self._arrival(), data, arriving)
        if self._random.random() < self.duplicate:
            self._post(self._arrival(), data, arriving)

    def next_timer(self) -> float | None:
        """When the next bytes arrive."""
        return self._under_way[0][0] if self._under_way else None

    def run_timers(self, now: float) -> None:
        """Deliver what has arrived."""
        while self._under_way and self._under_way[0][0] <= now:
            _, _, data, flow = heapq.heappop(self._under_way)
            receive = self._receivers.get(flow.local)
            if receive is not None:
                self.carried += 1
                receive(data, flow)

    def _arrival(self) -> float:
        return self._clock.now + self._random.uniform(*self._delays)

    def _post(self, arrival: float, data: bytes, flow: Flow) -> None:
        self._count += 1
        heapq.heappush(self._under_way, (arrival, self._count, data, flow))
