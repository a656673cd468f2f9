"""Unknown user, wrong password, disabled or locked account look the same from outside: status, headers, body, time."""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.harness.edge import Edge
from tests.harness.people import ALICE, BOB, CAROL, DOMAIN, DORA, Person
from tests.harness.ports import HOST, free_port
from tests.harness.wire import Message, Wire

ROUNDS = 60
Z_LIMIT = 4.0  # beyond this, one in 16,000 comparisons of equal times is called different
NOBODY = Person("nobody", "No", "Body", "0000")
# Whose credentials, and whether the password is right. Bob's login is remembered by then, Alice's is not. Who knows the
# password of a disabled account is told so (403): that says nothing to anybody else.
KINDS = {
    "unknown": (NOBODY, False),
    "wrong": (ALICE, False),
    "wrong, remembered": (BOB, False),
    "disabled, wrong": (DORA, False),
    "locked": (CAROL, True),
}


def mann_whitney_z(first: Sequence[float], second: Sequence[float]) -> float:
    """How many standard deviations the rank sum of the first is off, when both come from one distribution."""
    ranked = sorted([(value, 0) for value in first] + [(value, 1) for value in second])
    rank_sum, tie_term, place = 0.0, 0.0, 0
    while place < len(ranked):
        end = place
        while end < len(ranked) and ranked[end][0] == ranked[place][0]:
            end += 1
        tied = end - place
        rank = (place + 1 + end) / 2
        rank_sum += rank * sum(1 for _, group in ranked[place:end] if group == 0)
        tie_term += tied**3 - tied
        place = end
    n, m = len(first), len(second)
    total = n + m
    spread = math.sqrt(n * m / 12 * (total + 1 - tie_term / (total * (total - 1))))
    return (rank_sum - n * (total + 1) / 2) / spread if spread else 0.0


def test_the_rank_test_tells_and_does_not_tell() -> None:
    assert abs(mann_whitney_z([1, 2, 3, 4] * 20, [4, 3, 2, 1] * 20)) < 1e-9
    assert abs(mann_whitney_z([n + 0.5 for n in range(60)], range(60))) < 1
    assert mann_whitney_z([n + 40 for n in range(60)], range(60)) > 6
    assert mann_whitney_z(range(60), [n + 40 for n in range(60)]) < -6


@pytest.fixture
def edge_with(tmp_path: Path) -> Iterator[Callable[..., Edge]]:
    edges: list[Edge] = []

    def start(refusal_s: float) -> Edge:
        folder = tmp_path / "edge"
        folder.mkdir()
        edge = Edge(folder, pbx=f"sip:{HOST}:{free_port()}", guard={"refusal_s": refusal_s, "auth_failures": 100_000})
        edges.append(edge)
        with Wire(edge.sip, BOB) as phone:
            assert phone.register().status == 200
        edge.post("lock", user="carol", why="test")
        return edge

    yield start
    for edge in edges:
        edge.stop()


def refused(edge: Edge, person: Person, right: bool, method: str) -> tuple[Message, float]:
    """A login with these credentials, and how long the answer to them took."""
    with Wire(edge.sip, person, password="" if right else "guess") as wire:
        uri, to = (f"sip:{DOMAIN}", wire.address) if method == "REGISTER" else (f"sip:1000@{DOMAIN}", "")
        request = wire.compose(method, uri, to=to)
        again = wire.authorize(request, wire.ask(request))
        begin = time.perf_counter()
        answer = wire.ask(again)
        return answer, time.perf_counter() - begin


def plain(message: Message, login: str) -> str:
    """A response without what differs each time."""
    lines = [message.first, *(f"{name}: {value}" for name, value in message.headers), message.body]
    text = "\n".join(lines).replace(login, "LOGIN")
    return re.sub(r'nonce="[^"]*"|tag=\S*|branch=\S*|rport=\d+|127\.0\.0\.1:\d+|wire-\S*', "", text)


@pytest.mark.parametrize("method", ["REGISTER", "MESSAGE"])
def test_they_read_the_same(edge_with: Callable[..., Edge], method: str) -> None:
    edge = edge_with(0.01)
    texts = {plain(refused(edge, person, right, method)[0], person.login) for person, right in KINDS.values()}
    assert len(texts) == 1, texts


def measure(edge: Edge, kinds: dict[str, Any]) -> dict[str, list[float]]:
    """Times by kind, taken in turn so that whatever else the machine does hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, (person, right) in kinds.items():
            answer, seconds = refused(edge, person, right, "REGISTER")
            assert answer.status == 401
            times[name].append(seconds)
    return times


def test_they_take_the_same_time(edge_with: Callable[..., Edge]) -> None:
    times = measure(edge_with(0.03), KINDS)
    unknown = times.pop("unknown")
    for name, seconds in times.items():
        z = mann_whitney_z(unknown, seconds)
        difference_ms = (statistics.median(seconds) - statistics.median(unknown)) * 1000
        assert abs(z) < Z_LIMIT, f"{name}: z {z:.1f}, {difference_ms:.2f} ms"


def test_without_set_times_the_same_measurement_tells_them_apart(edge_with: Callable[..., Edge]) -> None:
    """Else the test above would show nothing."""
    times = measure(edge_with(0.0), {name: KINDS[name] for name in ("unknown", "locked")})
    assert abs(mann_whitney_z(times["unknown"], times["locked"])) > Z_LIMIT
