"""radius.client against scripted servers on loopback."""

# ruff: noqa: ASYNC110 - waits for what real sockets bring

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import cast

import pytest
import uvloop

from radius import packet as wire
from radius.client import Pool, Server, Settings
from radius.errors import EncodingError, RadiusUnavailable
from radius.health import Limits
from radius.lines import UdpLines
from radius.packet import Code, Packet, Type, attribute

SECRET = b"s3cret"
NAME = attribute(Type.USER_NAME, b"alice")
QUICK = Settings(timeout_s=0.3, initial_s=0.03, limits=Limits(failures=2, probe_s=0.05, dead_s=30.0))
Behaviour = Callable[["FakeServer", Packet, tuple[str, int]], None]


class FakeServer(asyncio.DatagramProtocol):
    """A RADIUS server that does what it is told."""

    transport: asyncio.DatagramTransport

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.received: list[Packet] = []
        self.sources: set[tuple[str, int]] = set()

    @classmethod
    async def start(cls, behaviour: Behaviour, port: int = 0) -> FakeServer:
        self = cls(behaviour)
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", port))
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        return self

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        packet = wire.decode(data)
        self.received.append(packet)
        self.sources.add(addr)
        self.behaviour(self, packet, addr)

    def answer(self, request: Packet, address: tuple[str, int], *, secret: bytes = SECRET, sign: bool = True) -> None:
        code = Code.ACCOUNTING_RESPONSE if request.code == Code.ACCOUNTING_REQUEST else Code.ACCESS_ACCEPT
        self.transport.sendto(wire.encode_reply(code, request, NAME, secret=secret, sign=sign), address)

    @property
    def target(self) -> Server:
        host, port = self.transport.get_extra_info("sockname")
        return Server(host, port, SECRET)


def obedient(server: FakeServer, request: Packet, address: tuple[str, int]) -> None:
    server.answer(request, address)


def silent(server: FakeServer, request: Packet, address: tuple[str, int]) -> None:
    """Says nothing."""


@pytest.fixture
async def cleanup() -> AsyncIterator[list[Pool | FakeServer]]:
    things: list[Pool | FakeServer] = []
    yield things
    for thing in things:
        if isinstance(thing, Pool):
            await thing.close()
        else:
            thing.transport.close()


async def make(
    cleanup: list[Pool | FakeServer], *behaviours: Behaviour, settings: Settings = QUICK, kind: str = "auth"
) -> tuple[Pool, list[FakeServer], list[tuple[str, str, str]]]:
    servers = [await FakeServer.start(behaviour) for behaviour in behaviours]
    results: list[tuple[str, str, str]] = []
    pool = Pool(
        [server.target for server in servers],
        settings,
        kind=kind,
        on_result=lambda server, kind, result, seconds: results.append((server, kind, result)),
    )
    await pool.start()
    cleanup += [*servers, pool]
    return pool, servers, results


async def until(check: Callable[[], bool]) -> None:
    """Wait for something that the loop will bring about."""
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.005)


async def test_a_request_and_its_reply(cleanup: list[Pool | FakeServer]) -> None:
    pool, (server,), results = await make(cleanup, obedient)
    reply = await pool.request(Code.ACCESS_REQUEST, NAME)
    assert reply.text(Type.USER_NAME) == "alice"
    assert server.received[0].data[20] == Type.MESSAGE_AUTHENTICATOR
    assert results == [(server.target.name, "auth", "accept")]
    assert pool.states() == ((server.target.name, True),)
    assert pool.in_flight == 0


async def test_lost_requests_are_sent_again_with_the_same_octets(cleanup: list[Pool | FakeServer]) -> None:
    def deaf_at_first(server: FakeServer, request: Packet, address: tuple[str, int]) -> None:
        if len(server.received) == 3:
            server.answer(request, address)

    pool, (server,), _ = await make(cleanup, deaf_at_first)
    await pool.request(Code.ACCESS_REQUEST, NAME)
    assert len({packet.data for packet in server.received}) == 1
    assert pool.counters()[server.target.name].retransmissions == 2


async def test_silence_is_named_within_the_timeout(cleanup: list[Pool | FakeServer]) -> None:
    pool, (server,), results = await make(cleanup, silent)
    started = asyncio.get_running_loop().time()
    with pytest.raises(RadiusUnavailable, match=rf"{server.target.name} did not answer \d tries"):
        await pool.request(Code.ACCESS_REQUEST, NAME)
    assert asyncio.get_running_loop().time() - started < 0.4
    assert results == [(server.target.name, "auth", "timeout")]


async def test_forged_unsigned_and_foreign_replies_are_waited_out(cleanup: list[Pool | FakeServer]) -> None:
    stranger = await FakeServer.start(silent)
    cleanup.append(stranger)

    def surrounded(server: FakeServer, request: Packet, address: tuple[str, int]) -> None:
        stranger.answer(request, address)
        server.answer(request, address, secret=b"guess")
        server.answer(request, address, sign=False)
        server.transport.sendto(b"\x02" + bytes((request.identifier,)) + b"garbage", address)
        server.answer(request, address)
        server.answer(request, address)

    pool, (server,), _ = await make(cleanup, surrounded)
    await pool.request(Code.ACCESS_REQUEST, NAME)
    counters = pool.counters()[server.target.name]
    await until(lambda: counters.late == 1)
    assert (counters.forged, counters.malformed, counters.replies) == (2, 1, 1)


async def test_failover_within_one_request_then_directly(cleanup: list[Pool | FakeServer]) -> None:
    pool, (first, second), results = await make(cleanup, silent, obedient)
    for _ in range(3):
        await pool.request(Code.ACCESS_REQUEST, NAME)
    assert [result for server, kind, result in results if kind == "auth"] == [
        "timeout",
        "accept",
        "timeout",
        "accept",
        "accept",
    ]
    assert pool.states() == ((first.target.name, False), (second.target.name, True))


async def test_a_dead_server_is_revived_by_status_server(cleanup: list[Pool | FakeServer]) -> None:
    pool, (server,), _ = await make(cleanup, silent)
    for _ in range(2):
        with pytest.raises(RadiusUnavailable):
            await pool.request(Code.ACCESS_REQUEST, NAME)
    started = asyncio.get_running_loop().time()
    with pytest.raises(RadiusUnavailable, match="is dead for"):
        await pool.request(Code.ACCESS_REQUEST, NAME)
    assert asyncio.get_running_loop().time() - started < 0.05, "the breaker is open: no waiting"
    await until(lambda: any(packet.code == Code.STATUS_SERVER for packet in server.received))
    server.behaviour = obedient
    await until(lambda: pool.states()[0][1])
    await pool.request(Code.ACCESS_REQUEST, NAME)


async def test_a_dead_server_without_status_server_gets_a_trial(cleanup: list[Pool | FakeServer]) -> None:
    settings = Settings(timeout_s=0.1, initial_s=0.03, status_server=False, limits=Limits(failures=1, dead_s=0.05))
    pool, (server,), _ = await make(cleanup, silent, settings=settings)
    with pytest.raises(RadiusUnavailable):
        await pool.request(Code.ACCESS_REQUEST, NAME)
    server.behaviour = obedient
    with pytest.raises(RadiusUnavailable):
        await pool.request(Code.ACCESS_REQUEST, NAME)
    loop = asyncio.get_running_loop()
    later = loop.time() + 0.06
    await until(lambda: loop.time() > later)
    await pool.request(Code.ACCESS_REQUEST, NAME)
    assert all(packet.code != Code.STATUS_SERVER for packet in server.received)


async def test_a_trial_that_could_not_be_sent_is_followed_by_another(cleanup: list[Pool | FakeServer]) -> None:
    settings = Settings(timeout_s=0.1, initial_s=0.03, status_server=False, limits=Limits(failures=1, dead_s=0.05))
    pool, (server,), _ = await make(cleanup, silent, settings=settings)
    with pytest.raises(RadiusUnavailable):
        await pool.request(Code.ACCESS_REQUEST, NAME)
    server.behaviour = obedient
    loop = asyncio.get_running_loop()
    for attributes, outcome in ((attribute(1, b"x" * 253) * 17, EncodingError), (NAME, None)):
        later = loop.time() + 0.06
        await until(lambda later=later: loop.time() > later)  # type: ignore[misc]
        with contextlib.nullcontext() if outcome is None else pytest.raises(outcome):
            await pool.request(Code.ACCESS_REQUEST, attributes)


async def test_nobody_listening_moves_on_at_once(cleanup: list[Pool | FakeServer]) -> None:
    pool, (first, _), results = await make(cleanup, silent, obedient, settings=Settings(timeout_s=5.0))
    first.transport.close()
    await asyncio.sleep(0)
    started = asyncio.get_running_loop().time()
    await pool.request(Code.ACCESS_REQUEST, NAME)
    assert asyncio.get_running_loop().time() - started < 0.5
    assert [result for _, _, result in results] == ["refused", "accept"]


async def test_a_single_server_that_restarts_is_waited_for(cleanup: list[Pool | FakeServer]) -> None:
    pool, (server,), _ = await make(cleanup, silent, settings=Settings(timeout_s=3.0, initial_s=0.05))
    port = server.target.port
    server.transport.close()
    await asyncio.sleep(0)
    waiting = asyncio.create_task(pool.request(Code.ACCESS_REQUEST, NAME))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    again = await FakeServer.start(obedient, port)
    cleanup.append(again)
    await waiting


async def test_ten_thousand_in_flight(cleanup: list[Pool | FakeServer]) -> None:
    held: list[tuple[Packet, tuple[str, int]]] = []

    def hoard(server: FakeServer, request: Packet, address: tuple[str, int]) -> None:
        held.append((request, address))

    settings = Settings(timeout_s=30.0, initial_s=8.0)
    pool, (server,), _ = await make(cleanup, hoard, settings=settings)
    tasks = []
    for count in range(100, 10_001, 100):
        tasks += [asyncio.create_task(pool.request(Code.ACCESS_REQUEST, NAME)) for _ in range(100)]
        await until(lambda count=count: len(held) == count)  # type: ignore[misc]
    assert pool.in_flight == 10_000
    assert len(server.sources) == 40, "256 on each source port"
    for number, (request, address) in enumerate(held):
        server.answer(request, address)
        if number % 100 == 0:
            await asyncio.sleep(0)
    replies = await asyncio.gather(*tasks)
    assert len(replies) == 10_000


async def test_no_identifier_left(cleanup: list[Pool | FakeServer]) -> None:
    pool, _, results = await make(cleanup, silent, settings=Settings(timeout_s=0.2, channels=1))
    outcomes = await asyncio.gather(*(pool.request(1, NAME) for _ in range(257)), return_exceptions=True)
    assert sum("requests in flight" in str(outcome) for outcome in outcomes) == 1
    assert [result for _, _, result in results].count("full") == 1


async def test_load_share_spreads(cleanup: list[Pool | FakeServer]) -> None:
    held: list[Callable[[], None]] = []

    def hold(server: FakeServer, request: Packet, address: tuple[str, int]) -> None:
        held.append(lambda: server.answer(request, address))

    settings = Settings(timeout_s=5.0, initial_s=2.0, load_share=True)
    pool, servers, _ = await make(cleanup, hold, hold, settings=settings)
    tasks = [asyncio.create_task(pool.request(1, NAME)) for _ in range(10)]
    await until(lambda: len(held) == 10)
    assert [len(server.received) for server in servers] == [5, 5]
    for answer in held:
        answer()
    await asyncio.gather(*tasks)


async def test_cancelled_request_frees_its_identifier(cleanup: list[Pool | FakeServer]) -> None:
    pool, _, _ = await make(cleanup, silent)
    task = asyncio.create_task(pool.request(1, NAME))
    await until(lambda: pool.in_flight == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pool.in_flight == 0


async def test_close_ends_what_waits(cleanup: list[Pool | FakeServer]) -> None:
    pool, _, _ = await make(cleanup, silent)
    task = asyncio.create_task(pool.request(1, NAME))
    await until(lambda: pool.in_flight == 1)
    await pool.close()
    with pytest.raises(RadiusUnavailable, match="was closed"):
        await task


async def test_accounting(cleanup: list[Pool | FakeServer]) -> None:
    pool, (server,), results = await make(cleanup, obedient, kind="acct")
    assert (await pool.request(Code.ACCOUNTING_REQUEST, NAME)).code == Code.ACCOUNTING_RESPONSE
    assert results == [(server.target.name, "acct", "ok")]


async def test_too_long_a_request(cleanup: list[Pool | FakeServer]) -> None:
    pool, _, _ = await make(cleanup, obedient)
    with pytest.raises(EncodingError):
        await pool.request(Code.ACCESS_REQUEST, attribute(1, b"x" * 253) * 17)
    await pool.request(Code.ACCESS_REQUEST, NAME)


async def test_names_are_looked_up_and_unknown_ones_named(cleanup: list[Pool | FakeServer]) -> None:
    server = await FakeServer.start(obedient)
    cleanup.append(server)
    pool = Pool([Server("localhost", server.target.port, SECRET)], Settings(source="127.0.0.1"))
    cleanup.append(pool)
    await pool.start()
    if cast(UdpLines, pool._servers[0]._lines)._address == (socket.AF_INET, ("127.0.0.1", server.target.port)):
        await pool.request(Code.ACCESS_REQUEST, NAME)
    with pytest.raises(RadiusUnavailable, match=r"nowhere\.invalid:1812: name does not resolve"):
        await Pool([Server("nowhere.invalid", 1812, SECRET)]).start()


async def test_unresolved_server_is_no_reason_to_crash() -> None:
    pool = Pool([Server("nowhere.invalid", 1812, SECRET)], QUICK)
    with pytest.raises(RadiusUnavailable, match="not known yet"):
        await pool.request(Code.ACCESS_REQUEST, NAME)
    await pool.close()


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
def test_a_server_that_was_gone_is_heard_again(run: Callable[[Coroutine[None, None, None]], None]) -> None:
    async def scenario() -> None:
        server = await FakeServer.start(FakeServer.answer)
        target = server.target
        server.transport.close()
        pool = Pool([target], QUICK)
        await pool.start()
        with pytest.raises(RadiusUnavailable):
            await pool.request(Code.ACCESS_REQUEST, NAME)
        await asyncio.sleep(0)
        server = await FakeServer.start(FakeServer.answer, target.port)
        reply = await pool.request(Code.ACCESS_REQUEST, NAME)
        assert reply.code == Code.ACCESS_ACCEPT
        await pool.close()
        server.transport.close()

    run(scenario())


def test_a_pool_needs_a_server() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Pool([])


def test_secrets_are_not_shown() -> None:
    server = Server("2001:db8::1", 1812, b"hidden")
    assert "hidden" not in repr(server)
    assert server.name == "[2001:db8::1]:1812"


async def test_every_second_packet_of_a_request_lost(cleanup: list[Pool | FakeServer]) -> None:
    copies: Counter[bytes] = Counter()

    def lossy(server: FakeServer, request: Packet, address: tuple[str, int]) -> None:
        copies[request.authenticator] += 1
        if copies[request.authenticator] % 2 == 0:
            server.answer(request, address)

    pool, (server,), _ = await make(cleanup, lossy, settings=Settings(timeout_s=5.0, initial_s=0.02))
    await asyncio.gather(*(pool.request(1, NAME) for _ in range(200)))
    counters = pool.counters()[server.target.name]
    assert (counters.replies, counters.timeouts) == (200, 0)
    assert pool.states()[0][1], "losing packets is not being dead"


async def test_latency_costs_no_throughput(cleanup: list[Pool | FakeServer]) -> None:
    def far_away(server: FakeServer, request: Packet, address: tuple[str, int]) -> None:
        asyncio.get_running_loop().call_later(0.05, server.answer, request, address)

    pool, _, _ = await make(cleanup, far_away, settings=Settings(timeout_s=5.0))
    started = asyncio.get_running_loop().time()
    await asyncio.gather(*(pool.request(1, NAME) for _ in range(1000)))
    assert asyncio.get_running_loop().time() - started < 25.0, "one after the other it would be 50 s"


def test_a_timer_that_is_due_already() -> None:
    """uvloop gives such a timer no time of its own."""

    async def main() -> None:
        server = await FakeServer.start(silent)
        pool = Pool([server.target], Settings(timeout_s=1e-7, initial_s=1e-9))
        results = await asyncio.gather(
            *(pool.request(Code.ACCESS_REQUEST, NAME) for _ in range(50)), return_exceptions=True
        )
        assert {type(result) for result in results} == {RadiusUnavailable}
        await pool.close()
        server.transport.close()

    uvloop.run(main())


async def test_load_share_takes_turns_when_nothing_waits(cleanup: list[Pool | FakeServer]) -> None:
    settings = Settings(timeout_s=10.0, load_share=True)
    pool, servers, _ = await make(cleanup, obedient, obedient, obedient, settings=settings)
    for _ in range(9):
        await pool.request(Code.ACCESS_REQUEST, NAME)
    assert [len(server.received) for server in servers] == [3, 3, 3]


async def test_what_was_dropped_is_told(cleanup: list[Pool | FakeServer]) -> None:
    def guessing(server: FakeServer, request: Packet, address: tuple[str, int]) -> None:
        server.answer(request, address, secret=b"guess")

    pool, (server,), _ = await make(cleanup, guessing)
    why = (
        rf"{server.target.name} did not answer . tries; dropped what came: wrong Response Authenticator: is the shared"
    )
    with pytest.raises(RadiusUnavailable, match=why):
        await pool.request(Code.ACCESS_REQUEST, NAME)
