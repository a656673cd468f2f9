"""radius.service and `python -m radius`: the child process of an edge, and the server on its own."""

# ruff: noqa: ASYNC110 - waits for real processes

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from radius import packet as wire
from radius.__main__ import main
from radius.attributes import Value, encode
from radius.client import Pool, Server, Settings
from radius.config import ClientTable, Config, DirectoryTable, Listen
from radius.errors import ConfigError, RadiusUnavailable
from radius.ldap import LdapDirectory
from radius.ldif import LdifDirectory
from radius.packet import Code, Packet, Type
from radius.service import ROOT, EmbeddedServer, Service, bind, open_directory
from tests.harness.people import SAMPLE, ldif
from tests.harness.ports import free_port


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "people.ldif").write_text(ldif(SAMPLE))
    return Config(client=(), directory=DirectoryTable(url="file:people.ldif"), folder=str(tmp_path))


@pytest.fixture
async def server(config: Config) -> AsyncIterator[EmbeddedServer]:
    server = EmbeddedServer(config)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def pool(server: EmbeddedServer) -> AsyncIterator[Pool]:
    pool = Pool([Server(*server.auth, server.secret)], Settings(timeout_s=10.0))
    yield pool
    await pool.close()


async def pap(pool: Pool, user: str) -> Packet:
    """Any answer will do: a login without credentials is refused."""
    return await pool.request(Code.ACCESS_REQUEST, encode([("User-Name", user)]))


async def until(check: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not check():
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_child_answers(pool: Pool) -> None:
    assert (await pap(pool, "alice")).code == Code.ACCESS_REJECT


async def test_a_killed_child_is_replaced_and_no_request_is_lost(server: EmbeddedServer, pool: Pool) -> None:
    first = server.pid
    os.kill(first, signal.SIGKILL)
    assert (await pap(pool, "alice")).code == Code.ACCESS_REJECT
    await until(lambda: server.restarts == 1)
    assert server.pid not in (0, first)


async def test_a_child_that_hangs_writes_nothing_twice(config: Config) -> None:
    """It resumes with a buffer full of what was sent again meanwhile, each time as a new packet (RFC 2866 5.2)."""
    server = EmbeddedServer(msgspec.structs.replace(config, detail="detail.jsonl", sql="sqlite:///radacct.db"))
    await server.start()
    pool = Pool([Server(*server.acct, server.secret)], Settings(timeout_s=0.3), kind="acct")

    def told(status: str, session: str, delay: int) -> bytes:
        pairs = [("Acct-Status-Type", status), ("Acct-Session-Id", session), ("User-Name", "alice")]
        return encode([*pairs, ("Event-Timestamp", 1_700_000_000), ("Acct-Delay-Time", delay)])

    sessions = [f"s{number}" for number in range(20)]
    os.kill(server.pid, signal.SIGSTOP)
    for delay in range(4):
        many = [pool.request(Code.ACCOUNTING_REQUEST, told("Start", session, delay)) for session in sessions]
        for outcome in await asyncio.gather(*many, return_exceptions=True):
            assert isinstance(outcome, RadiusUnavailable)
    os.kill(server.pid, signal.SIGCONT)
    await pool.close()
    pool = Pool([Server(*server.acct, server.secret)], Settings(timeout_s=10.0), kind="acct")
    again = [pool.request(Code.ACCOUNTING_REQUEST, told("Start", session, 9)) for session in sessions]
    await asyncio.gather(*again)
    os.kill(server.pid, signal.SIGKILL)  # and another child must know what the first one wrote
    again = [pool.request(Code.ACCOUNTING_REQUEST, told("Start", session, 10)) for session in sessions]
    again += [pool.request(Code.ACCOUNTING_REQUEST, told("Stop", session, 10)) for session in sessions]
    await asyncio.gather(*again)
    await pool.close()
    await server.stop()
    lines = [json.loads(line) for line in config.path("detail.jsonl").read_text().splitlines()]
    written = [(line["Acct-Status-Type"], line["Acct-Session-Id"]) for line in lines]
    assert sorted(written) == sorted((status, session) for status in ("Start", "Stop") for session in sessions)
    with contextlib.closing(sqlite3.connect(config.path("radacct.db"))) as database:
        rows = database.execute("SELECT acctsessionid, acctstoptime IS NOT NULL FROM radacct").fetchall()
    assert sorted(rows) == sorted((session, 1) for session in sessions)


async def test_what_was_acknowledged_survives_kill_9_and_is_there_once(config: Config) -> None:
    server = EmbeddedServer(msgspec.structs.replace(config, detail="detail.jsonl", sql="sqlite:///radacct.db"))
    await server.start()
    pool = Pool([Server(*server.acct, server.secret)], Settings(timeout_s=0.5), kind="acct")
    acknowledged: list[str] = []

    async def account(session: str) -> None:
        """As the edge does: again and again, each time with another delay, until it is acknowledged."""
        pairs: list[tuple[str, Value]] = [("Acct-Status-Type", "Start"), ("Acct-Session-Id", session)]
        pairs.append(("Event-Timestamp", 1_700_000_000))
        for delay in range(1000):
            try:
                await pool.request(Code.ACCOUNTING_REQUEST, encode([*pairs, ("Acct-Delay-Time", delay)]))
            except RadiusUnavailable:
                await asyncio.sleep(0.05)  # a server that is known to be dead is not asked
                continue
            acknowledged.append(session)
            return

    async def murder() -> None:
        for number in range(1, 4):
            enough = 60 * number
            await until(lambda: len(acknowledged) >= enough and bool(server.pid), timeout_s=60)  # noqa: B023 - awaited at once
            os.kill(server.pid, signal.SIGKILL)

    sessions = [f"s{number}" for number in range(400)]
    murdering = asyncio.create_task(murder())
    for first in range(0, len(sessions), 20):
        await asyncio.gather(*(account(session) for session in sessions[first : first + 20]))
    await murdering
    await pool.close()
    await server.stop()
    assert sorted(acknowledged) == sorted(sessions)
    lines = [json.loads(line) for line in config.path("detail.jsonl").read_text().splitlines()]
    assert sorted(line["Acct-Session-Id"] for line in lines) == sorted(sessions)
    with contextlib.closing(sqlite3.connect(config.path("radacct.db"))) as database:
        rows = database.execute("SELECT acctsessionid FROM radacct").fetchall()
    assert sorted(session for (session,) in rows) == sorted(sessions)


async def test_stop_leaves_nothing(config: Config) -> None:
    server = EmbeddedServer(config)
    await server.start()
    pid, address = server.pid, server.auth
    await server.stop()
    assert not alive(pid)
    assert server.pid == 0
    bind(*address).close()


async def test_child_ends_with_a_killed_parent(config: Config) -> None:
    script = (
        "import asyncio, sys, msgspec\n"
        "from radius.config import Config\n"
        "from radius.service import EmbeddedServer\n"
        "async def run():\n"
        "    server = EmbeddedServer(msgspec.json.decode(sys.argv[1], type=Config))\n"
        "    await server.start()\n"
        "    print(server.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(run())\n"
    )
    text = msgspec.json.encode(config).decode()
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, text, stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert alive(child)
    parent.kill()
    await parent.wait()
    await until(lambda: not alive(child))


async def test_a_child_that_cannot_start_says_why(tmp_path: Path) -> None:
    table = DirectoryTable(url="file:none.ldif")
    server = EmbeddedServer(Config(client=(), directory=table, folder=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"none\.ldif: cannot be read"):
        await server.start()
    await server.stop()


def test_directories_by_url(config: Config) -> None:
    assert isinstance(open_directory(config), LdifDirectory)
    for url in ("", "http://x", ("file:a", "ldap://b")):
        with pytest.raises(ConfigError, match=r"directory\.url"):
            open_directory(Config(client=(), directory=DirectoryTable(url=url)))


def test_bind_names_the_address() -> None:
    with pytest.raises(ConfigError, match="nowhere:1"):
        bind("nowhere", 1)


async def test_on_its_own(tmp_path: Path) -> None:
    (tmp_path / "people.ldif").write_text(ldif(SAMPLE))
    (tmp_path / "secret").write_text("s3cret")
    auth, acct = free_port(), free_port()
    (tmp_path / "radius.toml").write_text(
        f'[listen]\nauth = "127.0.0.1:{auth}"\nacct = "127.0.0.1:{acct}"\n'
        '[[client]]\naddress = "127.0.0.1"\nsecret_file = "secret"\n'
        '[directory]\nurl = "file:people.ldif"\n'
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "radius", "-c", str(tmp_path / "radius.toml"), cwd=ROOT, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    assert f"127.0.0.1:{auth}".encode() in await process.stderr.readline()
    pool = Pool([Server("127.0.0.1", auth, b"s3cret")])
    hidden = b"\x02\x12" + bytes(16)
    reply = await pool.request(Code.ACCESS_REQUEST, encode([("User-Name", "alice")]) + hidden)
    assert reply.text(Type.REPLY_MESSAGE)
    await pool.close()
    process.terminate()
    assert await process.wait() == 0
    await process.stderr.read()
    process._transport.close()  # type: ignore[attr-defined]


def test_wrong_configuration_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-c", str(tmp_path / "none.toml")]) == 1
    assert "none.toml: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(("sql", "code"), [("sqlite:///radacct.db", 0), ("mysql://x/y", 1), ("sqlite://", 1)])
def test_check_reads_the_database_of_accounting_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sql: str, code: int
) -> None:
    (tmp_path / "secret").write_text("s3cret")
    (tmp_path / "radius.toml").write_text(
        f'sql = "{sql}"\n[[client]]\naddress = "127.0.0.1"\nsecret_file = "secret"\n[directory]\nurl = "file:x.ldif"\n'
    )
    assert main(["--check", "-c", str(tmp_path / "radius.toml")]) == code
    assert ("sql: " in capsys.readouterr().err) is bool(code)


def test_sockets_are_kept_for_the_child(config: Config) -> None:
    """Requests that come while the child restarts wait in the buffer of a socket that stays open."""
    server = EmbeddedServer(config)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(server.auth)
    sock.send(wire.encode_request(1, 1, b"", secret=server.secret, nonce=bytes(16)))
    sock.send(b"a second one would fail with ECONNREFUSED if nobody listened")
    sock.close()
    for own in server._sockets:
        own.close()


async def test_in_this_process(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMAD_RADIUS_SECRET", "s3cret")
    listen = Listen(auth="127.0.0.1:0", acct="[::1]:0" if socket.has_ipv6 and has_ipv6() else "127.0.0.1:0")
    clients = (ClientTable(address="127.0.0.1"), ClientTable(address="::1"))
    service = Service(msgspec.structs.replace(config, client=clients, listen=listen, detail="detail.jsonl"))
    await service.start()
    auth, acct = service.addresses
    pools = [Pool([Server(*auth, b"s3cret")]), Pool([Server(*acct, b"s3cret")], kind="acct")]
    assert (await pools[0].request(Code.ACCESS_REQUEST, encode([("User-Name", "alice")]))).code == Code.ACCESS_REJECT
    await pools[1].request(Code.ACCOUNTING_REQUEST, encode([("Acct-Status-Type", "Start")]))
    assert "Start" in config.path("detail.jsonl").read_text()
    for pool in pools:
        await pool.close()
    await service.close()


def has_ipv6() -> bool:
    """Whether loopback has IPv6 here."""
    try:
        bind("::1", 0).close()
    except ConfigError:
        return False
    return True


def test_ldap_by_url() -> None:
    directory = open_directory(Config(client=(), directory=DirectoryTable(url="ldap://127.0.0.1:1", base="dc=x")))
    assert isinstance(directory, LdapDirectory)
    asyncio.run(directory.close())
