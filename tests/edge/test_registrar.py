"""Storing bindings; the rules of REGISTER are in sip/test_bindings.py, whole logins in scenarios/test_edge_login.py."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest

from nomad.clock import Clock
from nomad.config import Sip
from nomad.edge.addresses import OwnAddresses
from nomad.edge.auth import Identity
from nomad.edge.gruu import Gruus
from nomad.edge.policy import compile_policy
from nomad.edge.registrar import SAVE_ATTEMPTS, Registrar
from nomad.ports import Conflict, Grant, Registration, Unavailable
from nomad.sip import headers, uri
from nomad.sip.errors import Reject
from nomad.sip.events import Flow
from nomad.sip.message import Request
from nomad.stores.memory import MemoryLocations
from nomad.transport.counters import Counters
from nomad.transport.udp import UdpSocket

RULES = compile_policy('[[group]]\nname = "g"\nmatch = { default = true }\nmax_devices = 2\n', "policy.toml")
OWN = OwnAddresses(["x"], [("udp", "192.0.2.1", 5060)])
ALICE = Identity(Grant("alice", extension="1001"), frozenset({"alice@x", "1001@x"}))


class StoppedClock(Clock):
    def monotonic(self) -> float:
        return 50.0

    def wall(self) -> float:
        return 1000.0


def flow(port: int = 5060) -> Flow:
    return Flow("udp", ("192.0.2.1", 5060), ("198.51.100.7", port))


def register(port: int = 5060, *, to: str = "<sip:alice@x>", cseq: int = 1, contact: str = "") -> Request:
    request = Request("REGISTER", "sip:x")
    request.add("to", to)
    request.add("from", f"{to};tag=1")
    request.add("call-id", f"{port}")
    request.add("cseq", f"{cseq} REGISTER")
    request.add("contact", contact or f"<sip:alice@198.51.100.7:{port}>")
    return request


class NoWatch:
    def expect_keepalives(self, flow: Flow, within_s: float) -> None:
        """These phones promise nothing."""
        raise AssertionError


class RacingLocations(MemoryLocations):
    """Somebody else stores something just before the next saves."""

    def __init__(self, races: int) -> None:
        super().__init__()
        self.races = races

    async def save(self, registration: Registration) -> None:
        if self.races:
            self.races -= 1
            raise Conflict
        await super().save(registration)


def make(locations: MemoryLocations) -> Callable[..., Awaitable[list[tuple[str, str]]]]:
    clock = StoppedClock()
    gruus = Gruus(b"k" * 32, locations=locations, own=OWN, wall=clock.wall, random=bytes)
    registrar = Registrar(Sip(), locations=locations, gruus=gruus, watch=NoWatch(), own=OWN, clock=clock)

    async def run(request: Request, port: int = 5060, identity: Identity = ALICE) -> list[tuple[str, str]]:
        return await registrar.register(request, flow(port), identity, RULES)

    return run


async def test_binding_is_stored_with_who_that_is() -> None:
    locations = MemoryLocations()
    headers = await make(locations)(register())
    assert headers[0] == ("Contact", "<sip:alice@198.51.100.7:5060>;expires=3600")
    stored = await locations.get("alice")
    assert (stored.grant, stored.extension, stored.addresses) == (ALICE.grant, "1001", ("1001@x", "alice@x"))
    assert await locations.find("1001") == "alice"


async def test_address_of_somebody_else_is_refused() -> None:
    with pytest.raises(Reject) as refused:
        await make(MemoryLocations())(register(to="<sip:bob@x>"))
    assert (refused.value.status, refused.value.rule) == (403, "address")


async def test_other_writers_are_waited_for_but_not_for_ever() -> None:
    locations = RacingLocations(SAVE_ATTEMPTS - 1)
    await make(locations)(register())
    assert len((await locations.get("alice")).bindings) == 1
    with pytest.raises(Reject) as refused:
        await make(RacingLocations(SAVE_ATTEMPTS))(register())
    assert (refused.value.status, refused.value.rule) == (503, "location")


async def test_store_that_is_down_is_503() -> None:
    class Down(MemoryLocations):
        async def get(self, user: str) -> Registration:
            raise Unavailable("no Redis")

    with pytest.raises(Reject) as refused:
        await make(Down())(register())
    assert refused.value.status == 503
    assert "Retry-After" in dict(refused.value.headers)


async def test_devices_of_the_group() -> None:
    locations = MemoryLocations()
    run = make(locations)
    await run(register(1), 1)
    await run(register(2), 2)
    with pytest.raises(Reject) as refused:
        await run(register(3), 3)
    assert refused.value.status == 403
    await run(register(2, cseq=2), 2)  # a refresh
    assert len((await locations.get("alice")).bindings) == 2


async def test_groups_that_changed_are_stored_with_the_next_refresh() -> None:
    locations = MemoryLocations()
    run = make(locations)
    await run(register())
    promoted = Identity(Grant("alice", extension="1001", groups=("boss",)), ALICE.addresses)
    await run(register(cseq=2), identity=promoted)
    stored = await locations.get("alice")
    assert stored.grant is not None
    assert stored.grant.groups == ("boss",)


MOST_BYTES = 2000  # of Python objects; the process holds about half as much again (docs/performance.md)


def forget_parsed() -> None:
    """What the parser remembers is bounded, and not a registration's."""
    for remembered in (uri._remembered, headers._remembered_address, headers._remembered_via):
        remembered.cache_clear()
    gc.collect()


async def test_what_an_idle_registration_holds() -> None:
    """Two refreshes included: what the first one stored must not stay beside what they say again."""
    arrived: list[Flow] = []
    locations, flows = MemoryLocations(), UdpSocket(lambda data, flow: arrived.append(flow), Counters())
    clock = StoppedClock()
    gruus = Gruus(b"k" * 32, locations=locations, own=OWN, wall=clock.wall, random=bytes)
    registrar = Registrar(Sip(), locations=locations, gruus=gruus, watch=NoWatch(), own=OWN, clock=clock)

    async def phone(number: int, cseq: int) -> None:
        address = (f"198.51.{number >> 8}.{number & 255}", 40_000 + number)
        login, groups = f"person{number}", ("cn=staff,ou=groups,dc=x", "cn=all,ou=groups,dc=x")
        flows.datagram_received(b"", address)
        grant = Grant(login, (f"{login}@x",), f"{5000 + number}", groups, (b"class",), login.title())
        identity = Identity(grant, frozenset({*grant.addresses, f"{grant.extension}@x"}))
        request = register(to=f"<sip:{login}@x>", cseq=cseq, contact=f"<sip:{login}@{address[0]}:{address[1]}>")
        request.set("call-id", f"{number:08x}-1dec-11d0-a765-00a0c91e6bf6")
        request.add("user-agent", f"Phone/{2} (the model)")
        await registrar.register(request, arrived.pop(), identity, RULES)

    count = 3000
    for number in range(count, count + 200):
        await phone(number, 1)  # what is held once is there now
    forget_parsed()
    tracemalloc.start()
    try:
        for cseq in (1, 2, 3):
            for number in range(count):
                await phone(number, cseq)
        forget_parsed()
        held = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    assert locations.bindings == count + 200
    assert 500 < held < MOST_BYTES, f"{held:.0f} bytes"
