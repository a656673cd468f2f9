"""Connections accepted and opened: reuse, limits, TLS, reload, failures."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from nomad import tasks
from nomad.clock import Clock
from nomad.ports import Target, Unavailable
from nomad.sip.errors import SipError
from nomad.sip.events import Flow
from nomad.transport import stream
from nomad.transport.connection import StreamLimits
from nomad.transport.counters import Counters
from nomad.transport.refusals import Refusals
from nomad.transport.stream import Streams, address_group
from nomad.transport.tls import ClientTls, ServerTls
from tests.harness.pki import Pki
from tests.transport.conftest import Gate

MESSAGE = b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 4\r\n\r\nbody"


class Peer:
    """Collects what connections report."""

    def __init__(self, gate: Gate, limits: StreamLimits, *, client_tls: ClientTls | None = None) -> None:
        self.messages: asyncio.Queue[tuple[bytes, Flow]] = asyncio.Queue()
        self.closed: asyncio.Queue[tuple[Flow, str]] = asyncio.Queue()
        self.errors: list[str] = []
        self.pings = 0
        self.counters = Counters()
        self.streams = Streams(
            self,
            gate,
            Clock(),
            counters=self.counters,
            refusals=Refusals(self.counters, Clock()),
            limits=limits,
            closed=lambda flow, why: self.closed.put_nowait((flow, why)),
            client_tls=client_tls,
        )

    def received(self, data: bytes, flow: Flow) -> None:
        self.messages.put_nowait((data, flow))

    def keepalive(self, flow: Flow) -> None:
        self.pings += 1

    def unreadable(self, error: SipError, flow: Flow) -> None:
        self.errors.append(error.reason)

    async def message(self) -> tuple[bytes, Flow]:
        return await asyncio.wait_for(self.messages.get(), 3)

    async def gone(self) -> tuple[Flow, str]:
        return await asyncio.wait_for(self.closed.get(), 3)


MakePeer = Callable[..., Peer]


@pytest.fixture
async def make(gate: Gate) -> AsyncIterator[MakePeer]:
    made: list[Peer] = []

    def maker(limits: StreamLimits | None = None, *, client_tls: ClientTls | None = None) -> Peer:
        made.append(Peer(gate, limits or StreamLimits(), client_tls=client_tls))
        return made[-1]

    yield maker
    for peer in made:
        await peer.streams.close()
        assert peer.streams._per_address == {}
        assert not any(peer.counters.connections.values())
    assert await tasks.drain(1) == 0


@contextlib.asynccontextmanager
async def dialled(address: tuple[str, int]) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What the other side still sends before it closes."""
    try:
        return await asyncio.wait_for(reader.read(), 3)
    except ConnectionError:
        return b""


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(3):
        while not true():  # noqa: ASYNC110 - nothing here has an event to wait for
            await asyncio.sleep(0)


async def test_messages_both_ways(make: MakePeer) -> None:
    peer = make()
    address = peer.streams.listen("tcp", "127.0.0.1", 0)
    async with dialled(address) as (reader, writer):
        writer.write(MESSAGE + MESSAGE[:10])
        data, flow = await peer.message()
        assert data == MESSAGE
        assert (flow.transport, flow.local, flow.remote) == ("tcp", address, writer.get_extra_info("sockname"))
        writer.write(MESSAGE[10:])
        assert await peer.message() == (MESSAGE, flow)
        assert peer.streams.send(b"answer", flow)
        assert await reader.readexactly(6) == b"answer"
        assert len(peer.streams) == 1
    closed, why = await peer.gone()
    assert closed == flow
    assert why == "closed by the peer"
    assert not peer.streams.send(b"late", flow)


async def test_each_connection_is_another_flow(make: MakePeer) -> None:
    peer = make()
    address = peer.streams.listen("tcp", "127.0.0.1", 0)
    ids = set()
    for _ in range(3):
        async with dialled(address) as (_, writer):
            writer.write(MESSAGE)
            ids.add((await peer.message())[1].id)
    assert len(ids) == 3
    assert 0 not in ids


async def test_a_ping_is_answered(make: MakePeer) -> None:
    peer = make()
    async with dialled(peer.streams.listen("tcp", "127.0.0.1", 0)) as (reader, writer):
        writer.write(b"\r\n\r\n")
        assert await asyncio.wait_for(reader.readexactly(2), 3) == b"\r\n"
        assert peer.pings == 1


async def test_ipv6(make: MakePeer) -> None:
    peer = make()
    async with dialled(peer.streams.listen("tcp", "::1", 0)) as (_, writer):
        writer.write(MESSAGE)
        _, flow = await peer.message()
        assert flow.remote == writer.get_extra_info("sockname")[:2]


@pytest.mark.parametrize("rubbish", [b"\x16\x03\x01\x02\x00\x01\x00", b"OPTIONS sip:x SIP/2.0\r\n\r\n", b"\x00" * 100])
async def test_rubbish_closes_the_connection(make: MakePeer, rubbish: bytes) -> None:
    peer = make()
    async with dialled(peer.streams.listen("tcp", "127.0.0.1", 0)) as (reader, writer):
        writer.write(MESSAGE + rubbish)
        assert await ended(reader) == b""
    assert (await peer.message())[0] == MESSAGE  # what came before it counts
    assert len(peer.errors) == 1


async def test_a_slow_sender_is_dropped_however_it_trickles(make: MakePeer) -> None:
    peer = make(StreamLimits(message_s=0.1))
    async with dialled(peer.streams.listen("tcp", "127.0.0.1", 0)) as (reader, writer):
        writer.write(MESSAGE)
        await peer.message()

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"A")
                    await writer.drain()
                    await asyncio.sleep(0)

        trickling = asyncio.create_task(trickle())
        assert (await peer.gone())[1] == "message timeout"
        trickling.cancel()
        await ended(reader)


@pytest.mark.parametrize("start", [b"", b"OPT", b"\r\n"])
async def test_a_connection_must_bring_a_message_soon(make: MakePeer, start: bytes) -> None:
    peer = make(StreamLimits(first_message_s=0.05))
    async with dialled(peer.streams.listen("tcp", "127.0.0.1", 0)) as (reader, writer):
        writer.write(start)
        assert (await peer.gone())[1] == "first message timeout"
        await ended(reader)


async def test_an_idle_connection_is_dropped(make: MakePeer) -> None:
    peer = make(StreamLimits(idle_s=0.1))
    async with dialled(peer.streams.listen("tcp", "127.0.0.1", 0)) as (reader, writer):
        for _ in range(2):
            writer.write(MESSAGE)
            await peer.message()
        assert (await peer.gone())[1] == "idle timeout"
        await ended(reader)


async def test_a_peer_that_does_not_read_is_dropped(make: MakePeer) -> None:
    peer = make(StreamLimits(unsent_bytes=100_000))
    async with dialled(peer.streams.listen("tcp", "127.0.0.1", 0)) as (_, writer):
        writer.write(MESSAGE)
        _, flow = await peer.message()
        sent = 0
        while peer.streams.send(b"x" * 50_000, flow):
            sent += 1
            assert sent < 1000
        assert (await peer.gone())[1] == "does not read"


async def test_limits_per_address_and_together(make: MakePeer) -> None:
    peer = make(StreamLimits(per_address=1))
    address = peer.streams.listen("tcp", "127.0.0.1", 0)
    async with dialled(address) as (_, first):
        first.write(MESSAGE)
        await peer.message()
        async with dialled(address) as (reader, _):
            assert await ended(reader) == b""
        assert peer.counters.dropped == {"too-many": 1}
    await peer.gone()
    async with dialled(address) as (_, again):
        again.write(MESSAGE)
        await peer.message()
    full = make(StreamLimits(connections=0))
    async with dialled(full.streams.listen("tcp", "127.0.0.1", 0)) as (reader, _):
        assert await ended(reader) == b""


async def test_without_free_file_descriptors_it_waits_and_goes_on(
    make: MakePeer, monkeypatch: pytest.MonkeyPatch, errors_expected: None
) -> None:
    monkeypatch.setattr(stream, "NO_FILES_PAUSE_S", 0.02)
    peer = make()
    host, port = peer.streams.listen("tcp", "127.0.0.1", 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as client:
        client.setblocking(False)
        with socket.socket() as probe:
            lowest_free = probe.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            with contextlib.suppress(BlockingIOError):
                client.connect((host, port))
            await eventually(lambda: peer.counters.dropped.get("accept", 0) > 0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        client.send(MESSAGE)
        assert (await peer.message())[0] == MESSAGE


async def test_the_gate_is_asked_first(make: MakePeer, gate: Gate) -> None:
    gate.refused.add("127.0.0.1")
    peer = make()
    async with dialled(peer.streams.listen("tcp", "127.0.0.1", 0)) as (reader, _):
        assert await ended(reader) == b""
    assert peer.counters.dropped == {"gate": 1}
    assert peer.closed.empty()


async def test_an_open_connection_is_used_again_and_attempts_are_shared(make: MakePeer) -> None:
    server, client = make(), make()
    host, port = server.streams.listen("tcp", "127.0.0.1", 0)
    target = Target("tcp", host, port)
    flows = await asyncio.gather(*(client.streams.connect(target) for _ in range(5)))
    assert len(set(flows)) == 1
    assert await client.streams.connect(target) == flows[0]
    assert flows[0].remote == (host, port)
    assert client.streams.send(MESSAGE, flows[0])
    data, server_flow = await server.message()
    assert data == MESSAGE
    assert server_flow.remote == flows[0].local
    assert server.streams.send(MESSAGE, server_flow)
    assert await client.message() == (MESSAGE, flows[0])
    server.streams.abort(server_flow, "enough")
    assert (await server.gone())[1] == "enough"
    assert (await client.gone())[0] == flows[0]
    assert await client.streams.connect(target) != flows[0]


async def test_a_caller_that_gives_up_does_not_spoil_it_for_others(make: MakePeer) -> None:
    server, client = make(), make()
    target = Target("tcp", *server.streams.listen("tcp", "127.0.0.1", 0))
    patient = asyncio.create_task(client.streams.connect(target))
    hasty = asyncio.create_task(client.streams.connect(target))
    await asyncio.sleep(0)
    hasty.cancel()
    assert (await patient).remote == (target.host, target.port)


async def test_nobody_listens(make: MakePeer) -> None:
    client = make()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(Unavailable, match=f"tcp:127.0.0.1 port {port}"):
            await client.streams.connect(Target("tcp", "127.0.0.1", port))
    assert client.closed.empty()


async def test_nobody_answers(make: MakePeer, pki: Pki) -> None:
    client = make(StreamLimits(connect_s=0.1), client_tls=ClientTls(pki.ca))
    with socket.socket() as silent:  # accepts in the kernel and never shakes hands
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        target = Target("tls", "127.0.0.1", silent.getsockname()[1], "localhost")
        with pytest.raises(Unavailable, match="did not answer"):
            await client.streams.connect(target)


@pytest.mark.parametrize("transport", ["ws", "wss", "sctp"])
async def test_what_cannot_be_dialled(make: MakePeer, transport: str) -> None:
    with pytest.raises(Unavailable, match="cannot connect over"):
        await make().streams.connect(Target(transport, "127.0.0.1", 9))


async def test_an_address_in_use(make: MakePeer) -> None:
    peer = make()
    address = peer.streams.listen("tcp", "127.0.0.1", 0)
    with pytest.raises(Unavailable, match="cannot listen"):
        peer.streams.listen("tcp", *address)


async def test_tls_both_ways(make: MakePeer, pki: Pki) -> None:
    made = pki.issue("server")
    server, client = make(), make(client_tls=ClientTls(pki.ca))
    address = server.streams.listen("tls", "127.0.0.1", 0, tls=ServerTls(made.certificate, made.key))
    flow = await client.streams.connect(Target("tls", *address, "inria.example"))
    assert client.streams.send(MESSAGE, flow)
    data, back = await server.message()
    assert data == MESSAGE
    assert back.transport == "tls"
    assert server.streams.send(MESSAGE * 1000, back)
    for _ in range(1000):
        assert (await client.message())[0] == MESSAGE


async def test_the_wrong_name_is_refused_before_anything_is_read(make: MakePeer, pki: Pki) -> None:
    made = pki.issue("wrong")
    server, client = make(), make(client_tls=ClientTls(pki.ca))
    address = server.streams.listen("tls", "127.0.0.1", 0, tls=ServerTls(made.certificate, made.key))
    with pytest.raises(Unavailable, match=r"not for other\.example"):
        await client.streams.connect(Target("tls", *address, "other.example"))
    assert client.closed.empty()
    assert client.messages.empty()
    await client.streams.connect(Target("tls", *address, "127.0.0.1"))


async def test_an_unknown_authority_is_refused(make: MakePeer, pki: Pki, tmp_path: Path) -> None:
    made = pki.issue("unknown")
    server, client = make(), make(client_tls=ClientTls(Pki(tmp_path / "other").ca))
    address = server.streams.listen("tls", "127.0.0.1", 0, tls=ServerTls(made.certificate, made.key))
    with pytest.raises(Unavailable, match=r"(?i)certificate"):
        await client.streams.connect(Target("tls", *address, "localhost"))
    await eventually(lambda: server.streams._per_address == {})


@pytest.mark.parametrize("authority", ["none", "another", "theirs"])
async def test_a_peer_that_demands_a_certificate_is_shown_ours(
    make: MakePeer, pki: Pki, tmp_path: Path, authority: str
) -> None:
    made, signs = pki.issue("demanding"), {"none": None, "another": Pki(tmp_path / "other"), "theirs": pki}[authority]
    ours = signs.issue("ours", names=("edge.example",)) if signs else None
    server = make()
    demanding = ServerTls(made.certificate, made.key, client_ca=pki.ca, demand_client=True)
    address = server.streams.listen("tls", "127.0.0.1", 0, tls=demanding)
    shown = ClientTls(pki.ca, certificate=ours.certificate, key=ours.key) if ours else ClientTls(pki.ca)
    client = make(client_tls=shown)
    if authority == "theirs":
        flow = await client.streams.connect(Target("tls", *address, "localhost"))
        assert client.streams.send(MESSAGE, flow)
        assert (await server.message())[0] == MESSAGE
        return
    with contextlib.suppress(Unavailable):  # TLS 1.3 tells the client after its handshake
        flow = await client.streams.connect(Target("tls", *address, "localhost"))
        client.streams.send(MESSAGE, flow)
        assert (await client.gone())[0] == flow
    assert server.messages.empty()


async def test_a_new_certificate_of_ours_is_shown_on_new_connections(make: MakePeer, pki: Pki, tmp_path: Path) -> None:
    made, stranger, ours = pki.issue("demanding"), Pki(tmp_path / "other").issue("ours"), pki.issue("renewed")
    demanding = ServerTls(made.certificate, made.key, client_ca=pki.ca, demand_client=True)
    certificate, key = tmp_path / "edge.pem", tmp_path / "edge.key"
    shutil.copy(stranger.certificate, certificate)
    shutil.copy(stranger.key, key)
    tls = ClientTls(pki.ca, certificate=certificate, key=key)
    server, client = make(), make(client_tls=tls)
    address = server.streams.listen("tls", "127.0.0.1", 0, tls=demanding)
    shutil.copy(ours.certificate, certificate)
    shutil.copy(ours.key, key)
    os.utime(certificate, ns=(1, 1))
    assert tls.refresh()
    flow = await client.streams.connect(Target("tls", *address, "localhost"))
    assert client.streams.send(MESSAGE, flow)
    assert (await server.message())[0] == MESSAGE


async def test_no_tls_without_a_context(make: MakePeer) -> None:
    with pytest.raises(Unavailable, match="no TLS"):
        await make().streams.connect(Target("tls", "127.0.0.1", 9, "x"))


async def test_a_handshake_that_never_ends_is_dropped_and_counted(make: MakePeer, pki: Pki) -> None:
    made = pki.issue("handshake")
    server = make(StreamLimits(handshake_s=0.1))
    address = server.streams.listen("tls", "127.0.0.1", 0, tls=ServerTls(made.certificate, made.key))
    async with dialled(address) as (reader, _):
        await eventually(lambda: server.streams._per_address == {"127.0.0.1": 1})
        await ended(reader)
    async with dialled(address) as (reader, writer):
        writer.write(MESSAGE)
        await ended(reader)
    await eventually(lambda: server.counters.dropped == {"tls-handshake": 2})
    assert server.streams._per_address == {}


async def test_a_new_certificate_does_not_drop_connections(make: MakePeer, pki: Pki, tmp_path: Path) -> None:
    old, new = pki.issue("old", names=("old.example",)), pki.issue("new", names=("new.example",))
    certificate, key = tmp_path / "edge.pem", tmp_path / "edge.key"
    shutil.copy(old.certificate, certificate)
    shutil.copy(old.key, key)
    tls = ServerTls(certificate, key)
    server, client = make(), make(client_tls=ClientTls(pki.ca))
    address = server.streams.listen("tls", "127.0.0.1", 0, tls=tls)
    before = await client.streams.connect(Target("tls", *address, "old.example"))
    shutil.copy(new.certificate, certificate)
    shutil.copy(new.key, key)
    os.utime(certificate, ns=(1, 1))
    assert tls.refresh()
    after = await client.streams.connect(Target("tls", *address, "new.example"))
    for flow in (before, after):
        assert client.streams.send(MESSAGE, flow)
        assert (await server.message())[0] == MESSAGE
    with pytest.raises(Unavailable):
        await make(client_tls=ClientTls(pki.ca)).streams.connect(Target("tls", *address, "old.example"))


async def test_closing_sends_what_is_written(make: MakePeer) -> None:
    peer = make()
    async with dialled(peer.streams.listen("tcp", "127.0.0.1", 0)) as (reader, writer):
        writer.write(MESSAGE)
        _, flow = await peer.message()
        peer.streams.send(b"x" * 200_000, flow)
        closing = asyncio.create_task(peer.streams.close())
        assert len(await ended(reader)) == 200_000
        await closing
    assert (await peer.gone())[1] == "stopped"


def test_an_ipv6_peer_owns_a_whole_network() -> None:
    assert address_group("192.0.2.1") == "192.0.2.1"
    assert address_group("2001:db8::1") == address_group("2001:db8:0:0:ffff::2")
    assert address_group("2001:db8::1") != address_group("2001:db8:0:1::1")
    assert address_group("fe80::1%eth0") == address_group("fe80::2")
