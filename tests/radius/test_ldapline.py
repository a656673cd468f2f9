"""radius.ldapline against a scripted server on a real socket, on both event loops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import ldap3
import pytest
import uvloop
from ldap3.protocol.rfc4511 import (
    LDAPDN,
    LDAPMessage,
    LDAPString,
    MessageID,
    PartialAttributeList,
    ProtocolOp,
    ResultCode,
    SearchResultDone,
    SearchResultEntry,
)
from ldap3.utils.asn1 import encode

from radius.errors import PacketError
from radius.ldapline import RECEIVE_BYTES, LdapLine
from radius.ldapwire import FIRST_ID, LAST_ID, Search, message_id, message_length

SEARCH = Search("dc=x", ["uid"], ["uid"])
LOOPS = [uvloop.new_event_loop, asyncio.new_event_loop]


def entry(id: int, dn: str) -> bytes:
    """What a server sends for one person, by ldap3's own encoder; the name is all that differs."""
    message = LDAPMessage()
    message["messageID"] = MessageID(id)
    found = SearchResultEntry()
    found["object"] = LDAPDN(dn.encode())
    attributes = PartialAttributeList()
    attributes.setComponentByPosition(0)
    attributes[0]["type"] = b"uid"
    attributes[0]["vals"].setComponentByPosition(0, dn.encode())
    found["attributes"] = attributes
    message["protocolOp"] = ProtocolOp().setComponentByName("searchResEntry", found)
    octets: bytes = encode(message)
    return octets


def done(id: int, code: int = 0, text: str = "") -> bytes:
    message = LDAPMessage()
    message["messageID"] = MessageID(id)
    result = SearchResultDone()
    result["resultCode"] = ResultCode(code)
    result["matchedDN"] = LDAPDN(b"")
    result["diagnosticMessage"] = LDAPString(text.encode())
    message["protocolOp"] = ProtocolOp().setComponentByName("searchResDone", result)
    octets: bytes = encode(message)
    return octets


class Peer:
    """The server's end; `line` is the client's."""

    def __init__(self) -> None:
        ours, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.closed: list[LdapLine] = []
        self.line = LdapLine(ours, name="ldap", loop=asyncio.get_running_loop(), on_closed=self.closed.append)
        self._buffer = b""

    def search(self, name: str) -> asyncio.Task[list[dict[str, list[bytes]]]]:
        return asyncio.create_task(self.line.search(lambda id: SEARCH.request(id, name)))

    async def request(self) -> int:
        """The id of the next request."""
        while not (length := message_length(self._buffer)) or len(self._buffer) < length:
            self._buffer += await asyncio.get_running_loop().sock_recv(self.sock, 65_536)
        message, self._buffer = self._buffer[:length], self._buffer[length:]
        return message_id(message)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    def end(self) -> None:
        self.line.close()
        self.sock.close()


Scenario = Callable[[Peer], Awaitable[None]]


@pytest.fixture(params=LOOPS, ids=["uvloop", "asyncio"])
def play(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """Runs a scenario against a fresh line."""

    def run(scenario: Scenario) -> None:
        async def main() -> None:
            peer = Peer()
            try:
                async with asyncio.timeout(10):
                    await scenario(peer)
            finally:
                peer.end()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run


def test_answers_find_their_searches_in_any_order(play: Callable[[Scenario], None]) -> None:
    async def scenario(peer: Peer) -> None:
        tasks = [peer.search(f"u{number}") for number in range(50)]
        ids = [await peer.request() for _ in tasks]
        assert len(set(ids)) == 50
        assert min(ids) > FIRST_ID
        assert peer.line.in_flight == 50
        answers = [entry(id, f"u{number}") + done(id) for number, id in enumerate(ids)]
        octets = b"".join(reversed(answers))
        for start in range(0, len(octets), 7):  # cut anywhere
            await peer.send(octets[start : start + 7])
        assert [await task for task in tasks] == [[{"uid": [f"u{number}".encode()]}] for number in range(50)]
        assert peer.line.in_flight == 0

    play(scenario)


def test_a_failed_search_harms_no_other(play: Callable[[Scenario], None]) -> None:
    async def scenario(peer: Peer) -> None:
        bad, good = peer.search("a"), peer.search("b")
        first, second = await peer.request(), await peer.request()
        await peer.send(done(first, 32, "no such object") + entry(second, "b") + done(second, 4))
        with pytest.raises(PacketError, match="search failed with result 32 no such object"):
            await bad
        assert await good == [{"uid": [b"b"]}]
        assert not peer.line.closed

    play(scenario)


def test_nobody_waits_any_more(play: Callable[[Scenario], None]) -> None:
    async def scenario(peer: Peer) -> None:
        given_up, other = peer.search("a"), peer.search("b")
        first, second = await peer.request(), await peer.request()
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        assert peer.line.in_flight == 1
        await peer.send(entry(first, "a") + done(first) + done(second))
        assert await other == []
        assert not peer.line.closed

    play(scenario)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "the server closed the connection"),
        (b"GET / HTTP/1.1\r\n", "no LDAP message"),
        (b"\x30\x84\x7f\xff\xff\xff", "octets"),
        (b"\x30\x05\x02\x01\x00\x78\x00", "the server ends the connection"),
        (b"\x30\x02\x02\x05", "longer than what holds it"),
    ],
)
def test_whoever_waits_is_told_when_the_line_ends(play: Callable[[Scenario], None], octets: bytes, why: str) -> None:
    async def scenario(peer: Peer) -> None:
        tasks = [peer.search("a"), peer.search("b")]
        await peer.request()
        await peer.request()
        if octets:
            await peer.send(octets)
        else:
            peer.sock.shutdown(socket.SHUT_WR)
        for task in tasks:
            with pytest.raises(PacketError, match=why):
                await task
        assert peer.closed == [peer.line], "told once"
        with pytest.raises(PacketError, match="is closed"):
            await peer.search("c")

    play(scenario)


def test_what_does_not_go_out_at_once_goes_out_later(play: Callable[[Scenario], None]) -> None:
    async def scenario(peer: Peer) -> None:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        tasks = [peer.search("x" * 20_000) for _ in range(100)]
        await asyncio.sleep(0)
        ids = [await peer.request() for _ in tasks]
        await peer.send(b"".join(done(id) for id in ids))
        assert await asyncio.gather(*tasks) == [[]] * 100

    play(scenario)


def test_a_close_while_much_waits_to_go_out(play: Callable[[Scenario], None]) -> None:
    async def scenario(peer: Peer) -> None:
        tasks = [peer.search("x" * 50_000) for _ in range(100)]
        await asyncio.sleep(0)
        peer.line.close("enough")
        peer.line.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {getattr(result, "text", "") for result in results} == {"enough"}

    play(scenario)


def test_more_than_one_read_holds(play: Callable[[Scenario], None]) -> None:
    async def scenario(peer: Peer) -> None:
        task = peer.search("a")
        id = await peer.request()
        many = b"".join(entry(id, "a" * 1000) for _ in range(3 * RECEIVE_BYTES // 1000))
        await peer.send(many + done(id))
        assert len(await task) == 3 * RECEIVE_BYTES // 1000

    play(scenario)


def test_ids_begin_anew(play: Callable[[Scenario], None]) -> None:
    async def scenario(peer: Peer) -> None:
        peer.line._last_id = LAST_ID - 1
        ids = []
        for _ in range(2):
            task = peer.search("a")
            ids.append(await peer.request())
            await peer.send(done(ids[-1]))
            assert await task == []
        assert ids == [LAST_ID, FIRST_ID]

    play(scenario)


def test_ldap3_takes_its_ids_from_below_ours() -> None:
    """What ldap3 sent before the line was taken over is answered already."""
    connection = ldap3.Connection(ldap3.Server("ldap://127.0.0.1:1"))
    assert connection.strategy is not None
    assert connection.server.next_message_id() < FIRST_ID
