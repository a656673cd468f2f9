"""radius.intake: what every listener does with what comes in; the rest is in `test_server.py`, `test_disconnect.py`."""

from __future__ import annotations

import asyncio

import pytest

from radius import packet as wire
from radius.errors import EncodingError, PacketError
from radius.intake import Intake
from radius.packet import Code, Packet, Type, attribute
from radius.ports import Client
from radius.server import Clients

SECRET = b"s3cret"
SENDER = ("192.0.2.1", 1645)


class Echo(Intake):
    """Answers with the user's name; "late" waits for the gate, "once" is admitted once."""

    def __init__(self) -> None:
        super().__init__(Clients({"192.0.2.1": Client("nas", SECRET)}))
        self.gate = asyncio.Event()
        self.done: list[str] = []
        self.admitted = 0

    def check(self, request: Packet, client: Client) -> None:
        wire.verify_request(request, client.secret, require_mac=False)

    def admit(self, request: Packet) -> None:
        self.admitted += 1
        if request.text(Type.USER_NAME) == "once" and self.admitted > 1:
            raise PacketError("replay", "again")

    async def answer(self, request: Packet, client: Client) -> bytes:
        name = request.text(Type.USER_NAME)
        if name == "late":
            await self.gate.wait()
        if name == "long":
            raise EncodingError("too long")
        if name == "bug":
            raise RuntimeError("a bug")
        self.done.append(name)
        return b"" if name == "mute" else name.encode()


def ask(name: str, identifier: int = 1, *, secret: bytes = SECRET) -> bytes:
    body = attribute(Type.USER_NAME, name.encode())
    return wire.encode_request(Code.ACCOUNTING_REQUEST, identifier, body, secret=secret, nonce=bytes(16), sign=False)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_connection_gets_its_answer_and_a_copy_gets_it_again() -> None:
    intake, sent = Echo(), list[bytes]()
    for _ in range(2):
        intake.receive(ask("alice"), SENDER, client=Client("tls", SECRET), send=sent.append)
        await settle()
    assert sent == [b"alice", b"alice"]
    assert (intake.done, intake.counters.requests, intake.counters.duplicates) == (["alice"], 2, 1)


@pytest.mark.parametrize(
    ("data", "sender", "reason"),
    [
        (ask("alice"), ("198.51.100.1", 1), "unknown-client"),
        (ask("alice", secret=b"guess"), SENDER, "authenticator"),
        (b"garbage", SENDER, "short"),
        (ask("long"), SENDER, "too-long"),
    ],
)
async def test_what_is_dropped_is_counted_and_logged(
    data: bytes, sender: tuple[str, int], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    intake = Echo()
    intake.receive(data, sender, send=lambda reply: pytest.fail("answered"))
    await settle()
    assert intake.counters.dropped == {reason: 1}
    assert f"dropped a packet of {sender[0]}" in caplog.text


async def test_a_flood_of_nonsense_is_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    intake = Echo()
    for _ in range(100):
        intake.receive(b"garbage", SENDER)
    assert intake.counters.dropped == {"short": 100}
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("errors_expected")
async def test_what_was_not_answered_is_worked_on_again() -> None:
    intake = Echo()
    for name in ("mute", "bug"):
        for _ in range(2):
            intake.receive(ask(name), SENDER, send=lambda reply: pytest.fail("answered"))
            await settle()
    assert intake.done == ["mute", "mute"]
    assert intake.counters.duplicates == 0


async def test_too_many_at_once_and_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Echo, "max_working", 1)
    intake, sent = Echo(), list[bytes]()
    intake.receive(ask("late", 1), SENDER, send=sent.append)
    intake.receive(ask("other", 2), SENDER, send=sent.append)
    assert intake.counters.dropped == {"overload": 1}
    assert intake.admitted == 1, "what is dropped was not looked at, so that it may come again"
    intake.gate.set()
    await settle()
    intake.receive(ask("once", 3), SENDER, send=sent.append)
    await settle()
    assert intake.counters.dropped == {"overload": 1, "replay": 1}
    assert sent == [b"late"]


@pytest.mark.parametrize(("cancels", "done"), [(True, []), (False, ["late"])])
async def test_what_becomes_of_work_at_the_end(cancels: bool, done: list[str]) -> None:
    intake = Echo()
    intake.cancels = cancels
    intake.receive(ask("late"), SENDER, send=lambda reply: None)
    await settle()
    asyncio.get_running_loop().call_soon(intake.gate.set)
    await intake.close()
    assert intake.done == done
