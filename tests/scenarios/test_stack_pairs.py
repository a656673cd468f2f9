"""Two SIP stacks over a network that loses, delays, reorders and repeats: every transaction ends, and only once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from nomad.sip.build import ack_for, response_to
from nomad.sip.events import (
    AckArrived,
    AckMissing,
    BranchTimedOut,
    CancelArrived,
    ClientKey,
    Flow,
    RequestArrived,
    ResponseArrived,
    Send,
    ServerKey,
    StrayResponse,
)
from nomad.sip.message import Request, parse_message
from nomad.sip.stack import Stack, fingerprint
from nomad.sip.timers import TimerQueue, Timers
from tests.harness.clock import FakeClock
from tests.harness.network import FakeNetwork
from tests.harness.sip import make_request

SEEDS = range(300)
CALLER = ("192.0.2.1", 5060)
CALLEE = ("192.0.2.2", 5060)
MAX_DELAY_S = 0.4  # no copy may outlive timers J and L, that start when the first copy is answered
LONGEST_S = 300.0
T1 = Timers().t1


class Side:
    """A stack on the network, and a queue of what its user does later."""

    def __init__(self, clock: FakeClock, network: FakeNetwork, address: tuple[str, int]) -> None:
        self.clock = clock
        self.network = network
        self.stack = Stack()
        self._plans: TimerQueue[Callable[[], None]] = TimerQueue()
        network.attach(address, self.receive)

    def receive(self, data: bytes, flow: Flow) -> None:
        mark = fingerprint(data, flow)
        if not self.stack.absorb(mark):
            self.stack.receive(parse_message(data), flow, self.clock.now, mark=mark)
        self.flush()

    def plan(self, seconds: float, action: Callable[[], None]) -> None:
        self._plans.start(seconds, action, self.clock.now)

    def next_timer(self) -> float | None:
        return min([due for due in (self.stack.next_timer(), self._plans.next_due()) if due is not None], default=None)

    def run_timers(self, now: float) -> None:
        self.stack.run_timers(now)
        for _, action in self._plans.take_due(now):
            action()
        self.flush()

    def flush(self) -> None:
        for data, flow in self.stack.take_sends():
            self.network.send(data, flow)
        for event in self.stack.take_events():
            self.on_event(event)

    def on_event(self, event: object) -> None:
        raise NotImplementedError


class Callee(Side):
    """Answers each request after a while, or never, and repeats a 2xx to an INVITE until it is acknowledged."""

    def __init__(self, clock: FakeClock, network: FakeNetwork, dice: random.Random) -> None:
        super().__init__(clock, network, CALLEE)
        self.dice = dice
        self.seen: Counter[ServerKey] = Counter()
        self.cancels: Counter[ServerKey] = Counter()
        self.acknowledged: set[str] = set()
        self.ack_missing = 0
        self.answered: dict[ServerKey, int] = {}

    def on_event(self, event: object) -> None:
        if isinstance(event, RequestArrived):
            self.seen[event.key] += 1
            self.serve(event.key, event.request)
        elif isinstance(event, CancelArrived):
            self.cancels[event.key] += 1
            self.answered.setdefault(event.key, 487)
            self.finish(event.key, event.request, 487, cancelled=True)
        elif isinstance(event, AckArrived):
            self.acknowledged.add(event.request.call_id)
        else:
            assert isinstance(event, AckMissing)
            self.ack_missing += 1

    def serve(self, key: ServerKey, request: Request) -> None:
        status = self.dice.choice((200, 200, 302, 404, 486, 500, 603))
        if request.method == "INVITE":
            self.respond(key, request, 100)
            self.plan(self.dice.uniform(0.0, 3.0), lambda: self.ring(key, request))
            self.plan(self.dice.uniform(3.0, 20.0), lambda: self.finish(key, request, status))
        elif self.dice.random() < 0.9:
            self.plan(self.dice.uniform(0.0, 5.0), lambda: self.finish(key, request, status))

    def ring(self, key: ServerKey, request: Request) -> None:
        if key not in self.answered:
            self.respond(key, request, 180)

    def finish(self, key: ServerKey, request: Request, status: int, *, cancelled: bool = False) -> None:
        if not cancelled and self.answered.setdefault(key, status) != status:
            return
        if cancelled and self.answered[key] != 487:
            return  # the CANCEL came too late
        if key.method == "INVITE" and status < 300:
            self.repeat(key, request, T1, self.clock.now + 64 * T1)
        else:
            response = response_to(request, status, to_tag="callee")
            response.set("cseq", f"1 {key.method}")  # a CANCEL stands for its INVITE here
            self.stack.respond(key, response, self.clock.now)

    def repeat(self, key: ServerKey, request: Request, pause: float, until: float) -> None:
        """RFC 3261 13.3.1.4: the 2xx goes again until its ACK is here."""
        if request.call_id in self.acknowledged or self.clock.now >= until:
            return
        self.respond(key, request, 200)
        self.plan(pause, lambda: self.repeat(key, request, min(2 * pause, 4.0), until))

    def respond(self, key: ServerKey, request: Request, status: int) -> None:
        self.stack.respond(key, response_to(request, status, to_tag="callee"), self.clock.now)


class Caller(Side):
    """Sends requests, acknowledges each 2xx, cancels some calls."""

    def __init__(self, clock: FakeClock, network: FakeNetwork, flow: Flow) -> None:
        super().__init__(clock, network, CALLER)
        self.flow = flow
        self.requests: dict[ClientKey, Request] = {}
        self.finals: dict[ClientKey, list[int]] = {}
        self.strays = 0

    def send(self, method: str, number: int) -> None:
        request = make_request(
            method,
            branch=f"z9hG4bK-{number}",
            call_id=f"call-{number}",
            sent_by="192.0.2.1",
            transport=self.flow.transport.upper(),
        )
        key = self.stack.request(request, self.flow, self.clock.now)
        self.requests[key] = request
        self.finals[key] = []

    def cancel(self, number: int) -> None:
        self.stack.cancel(ClientKey(f"z9hG4bK-{number}", "INVITE"), self.clock.now)

    def on_event(self, event: object) -> None:
        if isinstance(event, BranchTimedOut):
            self.finals[event.key].append(0)
        elif isinstance(event, ResponseArrived):
            status = event.response.status
            if status >= 200:
                self.finals[event.key].append(status)
            if event.key.method == "INVITE" and 200 <= status < 300:
                ack = ack_for(self.requests[event.key], event.response)
                ack.set("via", f"SIP/2.0/UDP 192.0.2.1;branch={event.key.branch}-ack")
                self.network.send(ack.encode(), self.flow)
        else:
            assert isinstance(event, StrayResponse)  # came after its transaction had ended
            self.strays += 1


def play(seed: int, *, transport: str = "udp", loss: float, duplicate: float) -> tuple[Caller, Callee]:
    dice = random.Random(seed)
    clock = FakeClock()
    network = FakeNetwork(
        clock,
        seed=seed,
        loss=loss,
        duplicate=duplicate,
        min_delay_s=0.001,
        max_delay_s=dice.choice((0.002, MAX_DELAY_S)),
    )
    caller = Caller(clock, network, Flow(transport, CALLER, CALLEE, int(transport != "udp")))
    callee = Callee(clock, network, dice)
    for number in range(4):
        method = dice.choice(("INVITE", "INVITE", "REGISTER", "OPTIONS", "BYE"))
        caller.plan(dice.uniform(0.0, 2.0), partial(caller.send, method, number))
        if method == "INVITE" and dice.random() < 0.5:
            caller.plan(dice.uniform(2.0, 22.0), partial(caller.cancel, number))
    end = clock.now + LONGEST_S
    while clock.step(network, caller, callee, end=end):
        pass
    assert clock.now < end
    return caller, callee


def check(caller: Caller, callee: Callee) -> None:
    for key, finals in caller.finals.items():
        if key.method == "INVITE" and finals and 200 <= finals[0] < 300:
            assert set(finals) == {200}  # the callee's repeats, each passed
        else:
            assert len(finals) == 1, (key, finals)
    assert set(callee.seen.values()) <= {1}
    assert set(callee.cancels.values()) <= {1}
    for side in (caller, callee):
        assert side.stack.transactions == 0
        assert side.stack.next_timer() is None
        assert not side.stack._by_flow
        assert not side.stack._by_fingerprint


@pytest.mark.parametrize("loss", [0.0, 0.2, 0.6])
def test_every_transaction_ends_once_whatever_the_network_does(loss: float) -> None:
    outcomes: Counter[int] = Counter()
    for seed in SEEDS:
        try:
            caller, callee = play(seed, loss=loss, duplicate=0.2)
            check(caller, callee)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
        outcomes.update(finals[0] for finals in caller.finals.values())
    assert {200, 302, 404, 486, 487, 500, 603, 0} <= outcomes.keys()


def test_a_perfect_network_needs_no_repeats() -> None:
    for seed in SEEDS[:50]:
        caller, callee = play(seed, transport="tcp", loss=0.5, duplicate=0.5)
        check(caller, callee)
        assert caller.network.lost == 0
        assert callee.ack_missing == 0
        assert caller.strays == 0


def test_what_was_sent_comes_in_the_same_way_for_the_same_seed() -> None:
    one, other = [play(7, loss=0.3, duplicate=0.3) for _ in range(2)]
    assert one[0].finals == other[0].finals
    assert one[0].network.carried == other[0].network.carried


def test_a_dead_network_times_everything_out() -> None:
    caller, callee = play(1, loss=1.0, duplicate=0.0)
    assert set(map(tuple, caller.finals.values())) == {(0,)}
    assert not callee.seen
    assert caller.network.carried == 0


def test_a_send_is_bytes_and_a_flow() -> None:
    stack = Stack()
    flow = Flow("udp", CALLER, CALLEE)
    request = make_request()
    stack.request(request, flow, 0.0)
    assert stack.take_sends() == [Send(request.encode(), flow)]
