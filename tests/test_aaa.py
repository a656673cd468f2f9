"""nomad.aaa against a scripted RADIUS server on loopback."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import cast

import pytest

from nomad import tasks
from nomad.aaa import RadiusAccounting, RadiusAuthenticator, RadiusOrders
from nomad.ports import (
    AccountingRecord,
    Change,
    Grant,
    Limits,
    Proof,
    Refusal,
    Unavailable,
    Undeliverable,
    Vouched,
    Whom,
)
from radius import digest
from radius import packet as wire
from radius.attributes import NOMAD, dictionary, encode, named
from radius.client import Pool, Server, Settings
from radius.disconnect import ErrorCause, Kind, Order, order_of
from radius.packet import Code, Packet, Type, attribute, vendor_attribute

SECRET = b"s3cret"
Pairs = list[tuple[str, str | int | bytes]]
PROOF = Proof(
    username="alice@inria.example",
    realm="inria.example",
    nonce="abc",
    uri="sip:inria.example",
    method="REGISTER",
    response="0" * 32,
    qop="auth",
    nc="00000001",
    cnonce="c",
    opaque="o",
    address="alice@inria.example",
)


class Scripted(asyncio.DatagramProtocol):
    """Answers every request with the same code and attributes; code 0 stands for silence."""

    code = 0
    attributes = b""

    def __init__(self) -> None:
        self.received: list[Packet] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        request = wire.decode(data)
        self.received.append(request)
        if self.code:
            self.transport.sendto(wire.encode_reply(self.code, request, self.attributes, secret=SECRET), addr)


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(Scripted, local_addr=("127.0.0.1", 0))
    yield server
    transport.close()


@pytest.fixture
async def pool(server: Scripted) -> AsyncIterator[Pool]:
    """Patient, as a busy machine needs it."""
    host, port = server.transport.get_extra_info("sockname")
    pool = Pool([Server(host, port, SECRET)], Settings(timeout_s=10.0))
    yield pool
    await pool.close()


@pytest.mark.parametrize("dialect", ["sterman", "rfc5090"])
async def test_a_proof_on_the_wire(server: Scripted, pool: Pool, dialect: str) -> None:
    server.code = Code.ACCESS_REJECT
    authenticator = RadiusAuthenticator(pool, dialect=dialect, nas_identifier="edge")
    await authenticator.check(PROOF)
    request = server.received[0]
    wire.verify_request(request, SECRET, require_mac=True)
    found = dict(named(request))
    assert found["User-Name"] == "alice@inria.example"
    assert found["NAS-Identifier"] == "edge"
    assert found["Service-Type"] == "Sip-Session"
    credentials = digest.from_packet(request)
    assert credentials is not None
    assert digest.is_rfc5090(request) is (dialect == "rfc5090")
    fields = ("username", "realm", "nonce", "uri", "method", "response", "algorithm", "qop", "nc", "cnonce")
    assert all(getattr(credentials, field) == getattr(PROOF, field) for field in fields)
    if dialect == "rfc5090":
        assert found["RFC5090-SIP-AOR"] == "sip:alice@inria.example"
        assert credentials.opaque == "o"


async def test_a_full_accept(server: Scripted, pool: Pool) -> None:
    server.code = Code.ACCESS_ACCEPT
    server.attributes = encode(
        [
            ("User-Name", "alice"),
            ("Class", b"one"),
            ("Class", b"two"),
            ("Filter-Id", "staff"),
            ("Nomad-Group", "cn=staff"),
            ("Nomad-Group", "staff"),
            ("Nomad-Address", "Alice@Inria.example"),
            ("Nomad-Address", "a.m@inria.example"),
            ("Nomad-Extension", "3001"),
            ("Nomad-Display-Name", "Alice M"),
            ("Session-Timeout", 3600),
            ("Idle-Timeout", 60),
            ("Acct-Interim-Interval", 300),
            ("Reply-Message", "Hello\r\n"),
            ("Reply-Message", "you"),
            ("Nomad-Allow-Class", "internal"),
            ("Nomad-Allow-Class", "national, premium"),
            ("Nomad-Max-Calls", 1),
            ("Nomad-Max-Minutes-Per-Day", 30),
            ("Nomad-Max-Call-Minutes", 10),
        ]
    )
    assert await RadiusAuthenticator(pool).check(PROOF) == Grant(
        user="alice",
        addresses=("alice@inria.example", "a.m@inria.example"),
        extension="3001",
        groups=("cn=staff", "staff"),
        classes=(b"one", b"two"),
        display_name="Alice M",
        session_timeout_s=3600,
        idle_timeout_s=60,
        interim_interval_s=300,
        message="Hello  you",
        limits=Limits(concurrent_calls=1, seconds_per_day=1800.0, call_s=600.0),
        allowed_classes=("internal", "national", "premium"),
    )


async def test_a_bare_accept_of_a_foreign_server(server: Scripted, pool: Pool) -> None:
    server.code = Code.ACCESS_ACCEPT
    assert await RadiusAuthenticator(pool).check(PROOF) == Grant(user="alice")
    as_typed = dataclasses.replace(PROOF, username="Alice@inria.example")  # which many servers find
    assert await RadiusAuthenticator(pool).check(as_typed) == Grant(user="alice")


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("a\r\nContact: <sip:eve@x>", "a  Contact: <sip:eve@x>"),
        ("Connexion refusée \u202e", "Connexion refusée"),
        ("é" * 100, "é" * 64),
        ("x" * 127 + "é", "x" * 127),
        ("\0\t", ""),
    ],
)
async def test_a_message_is_one_short_line(server: Scripted, pool: Pool, sent: str, shown: str) -> None:
    server.code = Code.ACCESS_REJECT
    server.attributes = attribute(18, sent.encode())
    assert await RadiusAuthenticator(pool).check(PROOF) == Refusal(shown)


@pytest.mark.parametrize(("code", "final"), [(403, True), (401, False), (200, False)])
async def test_a_person_whose_credentials_were_right(server: Scripted, pool: Pool, code: int, final: bool) -> None:
    server.code = Code.ACCESS_REJECT
    server.attributes = encode([("Nomad-SIP-Response-Code", code), ("Reply-Message", "disabled")])
    assert await RadiusAuthenticator(pool).check(PROOF) == Refusal("disabled", final=final)


@pytest.mark.parametrize("name", ["Nomad-Max-Calls", "Nomad-SIP-Response-Code"])
async def test_a_limit_that_cannot_be_read_lets_nobody_in(server: Scripted, pool: Pool, name: str) -> None:
    server.code = Code.ACCESS_ACCEPT if name == "Nomad-Max-Calls" else Code.ACCESS_REJECT
    server.attributes = vendor_attribute(NOMAD, dictionary().attributes[name].code, b"12345")
    with pytest.raises(Unavailable, match="a number has 4"):
        await RadiusAuthenticator(pool).check(PROOF)


async def test_refusal_carries_the_message(server: Scripted, pool: Pool) -> None:
    server.code = Code.ACCESS_REJECT
    server.attributes = encode([("Reply-Message", "Go away")])
    assert await RadiusAuthenticator(pool).check(PROOF) == Refusal("Go away")


async def test_a_challenge_is_no_grant(server: Scripted, pool: Pool) -> None:
    server.code = Code.ACCESS_CHALLENGE
    assert await RadiusAuthenticator(pool).check(PROOF) == Refusal()


async def test_silence_is_unavailable_and_says_who(server: Scripted) -> None:
    host, port = server.transport.get_extra_info("sockname")
    pool = Pool([Server(host, port, SECRET)], Settings(timeout_s=0.1))
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:\d+ did not answer"):
        await RadiusAuthenticator(pool).check(PROOF)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:\d+ did not answer"):
        await RadiusAccounting(pool).send(AccountingRecord("1", "s", "Start", "alice", 0.0))
    await pool.close()


async def test_a_server_that_stores_nothing_has_not_acknowledged(server: Scripted, pool: Pool) -> None:
    server.code = Code.ACCOUNTING_RESPONSE
    server.attributes = encode([("Error-Cause", "Unsupported-Extension")])
    with pytest.raises(Unavailable, match="not stored, Error-Cause 406") as refused:
        await RadiusAccounting(pool).send(AccountingRecord("1", "s", "Start", "alice", 0.0))
    assert not isinstance(refused.value, Undeliverable)


@pytest.mark.parametrize("pair", [("Acct-Session-Time", -1), ("No-Such-Attribute", "x"), ("Class", b"x" * 300)])
async def test_a_record_that_fits_no_packet_is_undeliverable(
    server: Scripted, pool: Pool, pair: tuple[str, str | int | bytes]
) -> None:
    with pytest.raises(Undeliverable, match="record 1 cannot be sent"):
        await RadiusAccounting(pool).send(AccountingRecord("1", "s", "Stop", "alice", 0.0, (pair,)))
    assert not server.received


@pytest.mark.parametrize(("told", "kept"), [(0, None), (1, 60), (60, 60), (900, 900)])
async def test_interim_updates_never_come_too_often(server: Scripted, pool: Pool, told: int, kept: int | None) -> None:
    server.code = Code.ACCESS_ACCEPT
    server.attributes = encode([("Acct-Interim-Interval", told)])
    grant = await RadiusAuthenticator(pool).check(PROOF)
    assert isinstance(grant, Grant)
    assert grant.interim_interval_s == kept


async def test_a_broken_accept_is_no_grant(server: Scripted, pool: Pool) -> None:
    server.code = Code.ACCESS_ACCEPT
    server.attributes = b"\x1b\x03x"
    with pytest.raises(Unavailable, match="cannot be used"):
        await RadiusAuthenticator(pool).check(PROOF)


async def test_accounting_on_the_wire(server: Scripted, pool: Pool) -> None:
    server.code = Code.ACCOUNTING_RESPONSE
    sink = RadiusAccounting(pool, nas_identifier="edge", clock=lambda: 1_700_000_010.9)
    record = AccountingRecord(
        "1", "session", "Stop", "alice", 1_700_000_000.5, (("Acct-Session-Time", 9), ("Class", b"x"), ("Class", b"y"))
    )
    await sink.send(record)
    wire.verify_request(server.received[0], SECRET, require_mac=False)
    assert named(server.received[0]) == [
        ("Acct-Status-Type", "Stop"),
        ("NAS-Identifier", "edge"),
        ("Acct-Session-Id", "session"),
        ("Event-Timestamp", 1_700_000_000),
        ("Acct-Delay-Time", 10),
        ("User-Name", "alice"),
        ("Service-Type", "Sip-Session"),
        ("Acct-Authentic", "RADIUS"),
        ("Acct-Session-Time", 9),
        ("Class", b"x"),
        ("Class", b"y"),
    ]


async def test_every_class_comes_back_whatever_else_must_go(
    server: Scripted, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """As many as an Access-Accept can hold, with a call whose every name is as long as it can be."""
    classes: Pairs = [("Class", bytes((number,)) * 253) for number in range(15)]
    server.code, server.attributes = Code.ACCESS_ACCEPT, encode([("User-Name", "alice"), *classes])
    grant = await RadiusAuthenticator(pool).check(PROOF)
    assert isinstance(grant, Grant)
    assert grant.classes == tuple(value for _, value in classes)
    own: Pairs = [(f"Nomad-SIP-{name}", "x" * 247) for name in ("Call-Id", "From-Tag", "To-Tag")]
    own += [("Calling-Station-Id", "sip:a@b"), ("Nomad-Direction", "out"), ("Acct-Session-Time", 7)]
    server.code, server.attributes = Code.ACCOUNTING_RESPONSE, b""
    await RadiusAccounting(pool).send(AccountingRecord("1", "s", "Stop", "alice", 0.0, (*own, *classes)))
    found = server.received[-1]
    assert found.get_all(Type.CLASS) == [value for _, value in classes]
    told = dict(named(found))
    assert (told["Acct-Session-Time"], told["Calling-Station-Id"]) == (7, "sip:a@b")
    assert told["Nomad-Direction"] == "out"
    assert "goes without some of its SIP attributes" in caplog.text


async def test_accounting_on_has_no_user(server: Scripted, pool: Pool) -> None:
    server.code = Code.ACCOUNTING_RESPONSE
    sink = RadiusAccounting(pool, clock=lambda: -5.0)
    await sink.send(AccountingRecord("1", "boot", "Accounting-On", "", 0.0))
    found = dict(named(server.received[0]))
    assert "User-Name" not in found
    assert found["Acct-Delay-Time"] == 0


async def test_a_record_that_cannot_be_sent(pool: Pool) -> None:
    with pytest.raises(Unavailable, match="record 1 cannot be sent"):
        await RadiusAccounting(pool).send(AccountingRecord("1", "s", "Start", "a", 0.0, (("No-Such", 1),)))


async def test_it_runs_outside_a_task(server: Scripted, pool: Pool) -> None:
    """The edge runs the first step of its coroutines before there is a task for them."""
    server.code = Code.ACCESS_ACCEPT
    seen: list[Grant | Refusal] = []

    async def work() -> None:
        seen.append(await RadiusAuthenticator(pool).check(PROOF))

    tasks.spawn(work(), name="work")
    await tasks.drain(2.0)
    assert seen == [Grant(user="alice")]


class Taker:
    """Carries nothing out; nobody has sessions but alice, and bob's store is away."""

    def __init__(self) -> None:
        self.seen: list[tuple[Whom, Change | None]] = []

    async def disconnect(self, whom: Whom) -> int:
        return self._take(whom, None)

    async def change(self, whom: Whom, change: Change) -> int:
        return self._take(whom, change)

    def _take(self, whom: Whom, change: Change | None) -> int:
        if whom.user == "bob":
            raise Unavailable("store")
        self.seen.append((whom, change))
        return int(whom.user == "alice")


def order(kind: Kind, *pairs: tuple[str, str | int | bytes]) -> Order:
    code = kind.value
    return order_of(wire.decode(wire.encode_request(code, 1, encode(pairs), secret=SECRET, nonce=bytes(16))), "server")


@pytest.mark.parametrize(
    ("kind", "pairs", "cause"),
    [
        (Kind.DISCONNECT, [("User-Name", "alice"), ("Reply-Message", "bye"), ("Event-Timestamp", 1)], None),
        (Kind.DISCONNECT, [("User-Name", "zoe")], ErrorCause.SESSION_CONTEXT_NOT_FOUND),
        (Kind.DISCONNECT, [("User-Name", "bob")], ErrorCause.RESOURCES_UNAVAILABLE),
        (Kind.DISCONNECT, [], ErrorCause.MISSING_ATTRIBUTE),
        (Kind.DISCONNECT, [("User-Name", "alice"), ("User-Name", "zoe")], ErrorCause.INVALID_REQUEST),
        (Kind.DISCONNECT, [("Acct-Session-Id", "a"), ("Acct-Session-Id", "b")], ErrorCause.INVALID_REQUEST),
        (Kind.DISCONNECT, [("User-Name", "alice"), ("Acct-Session-Id", "")], ErrorCause.INVALID_REQUEST),
        (Kind.DISCONNECT, [("User-Name", "alice"), ("Class", b"")], ErrorCause.INVALID_REQUEST),
        (Kind.DISCONNECT, [("User-Name", ""), ("Calling-Station-Id", "sip:a@b")], ErrorCause.INVALID_REQUEST),
        (Kind.DISCONNECT, [("User-Name", "alice"), ("Class", b"x"), ("Class", b"y")], None),
        (
            Kind.CHANGE,
            [("User-Name", "alice"), ("Session-Timeout", 600), ("Session-Timeout", 60)],
            ErrorCause.INVALID_REQUEST,
        ),
        (Kind.CHANGE, [("User-Name", "alice"), ("Filter-Id", "x"), ("Filter-Id", "y")], None),
        (Kind.DISCONNECT, [("User-Name", "alice"), ("Session-Timeout", 1)], ErrorCause.UNSUPPORTED_ATTRIBUTE),
        (Kind.DISCONNECT, [("User-Name", "alice"), ("Nomad-Group", "x")], ErrorCause.UNSUPPORTED_ATTRIBUTE),
        (Kind.CHANGE, [("User-Name", "alice"), ("Session-Timeout", 1)], None),
        (Kind.CHANGE, [("User-Name", "alice"), ("Acct-Interim-Interval", 0)], None),
        (Kind.CHANGE, [("User-Name", "alice"), ("Session-Timeout", 0)], ErrorCause.INVALID_ATTRIBUTE_VALUE),
        (Kind.CHANGE, [("User-Name", "alice"), ("Acct-Interim-Interval", 59)], ErrorCause.INVALID_ATTRIBUTE_VALUE),
        (Kind.CHANGE, [("User-Name", "alice"), ("Filter-Id", "x")], None),
        (Kind.CHANGE, [("User-Name", "alice"), ("Nomad-Max-Calls", 0)], None),
        (Kind.CHANGE, [("User-Name", "alice"), ("Nomad-Extension", "1")], ErrorCause.UNSUPPORTED_ATTRIBUTE),
        (Kind.DISCONNECT, [("User-Name", "alice"), ("Filter-Id", "x")], ErrorCause.UNSUPPORTED_ATTRIBUTE),
        (Kind.CHANGE, [("User-Name", "alice")], ErrorCause.MISSING_ATTRIBUTE),
        (Kind.CHANGE, [("Session-Timeout", 5)], ErrorCause.MISSING_ATTRIBUTE),
        (Kind.CHANGE, [("User-Name", "a"), ("Service-Type", "Authorize-Only")], ErrorCause.UNSUPPORTED_SERVICE),
    ],
)
async def test_orders_and_their_error_causes(
    kind: Kind, pairs: list[tuple[str, str | int | bytes]], cause: ErrorCause | None
) -> None:
    assert await RadiusOrders(Taker())(order(kind, *pairs)) is cause


async def test_an_order_in_our_words() -> None:
    taker = Taker()
    selecting: list[tuple[str, str | int | bytes]] = [
        ("User-Name", "alice"), ("Acct-Session-Id", "s"), ("Calling-Station-Id", "a"), ("Called-Station-Id", "b"),
        ("Class", b"x"), ("Class", b"y"),
    ]  # fmt: skip
    await RadiusOrders(taker)(order(Kind.DISCONNECT, *selecting))
    await RadiusOrders(taker)(order(Kind.CHANGE, *selecting, ("Session-Timeout", 60)))
    whom = Whom("alice", "s", "a", "b", (b"x", b"y"))
    assert taker.seen == [(whom, None), (whom, Change(session_timeout_s=60))]


async def test_a_change_of_groups_and_limits() -> None:
    taker = Taker()
    pairs: list[tuple[str, str | int | bytes]] = [
        ("User-Name", "alice"), ("Filter-Id", "guests"), ("Nomad-Group", "night"), ("Nomad-Group", "guests"),
        ("Nomad-Allow-Class", "internal"), ("Nomad-Max-Calls", 0), ("Nomad-Max-Call-Minutes", 5),
    ]  # fmt: skip
    assert await RadiusOrders(taker)(order(Kind.CHANGE, *pairs)) is None
    change = Change(
        groups=("guests", "night"), allowed_classes=("internal",), limits=Limits(concurrent_calls=0, call_s=300.0)
    )
    assert taker.seen == [(Whom("alice"), change)]


@pytest.mark.parametrize(
    ("algorithm", "ha1", "taken"),
    [
        ("MD5", "0123456789abcdef" * 2, True),
        ("md5", "0123456789ABCDEF" * 2, True),
        ("SHA-256", "0123456789abcdef" * 4, True),
        ("SHA-256", "0123456789abcdef" * 2, False),
        ("MD5-sess", "0123456789abcdef" * 2, False),
        ("MD5", "x" * 32, False),
        ("MD5", "", False),
    ],
)
async def test_ha1_is_taken_when_it_can_be_one(
    server: Scripted, pool: Pool, algorithm: str, ha1: str, taken: bool
) -> None:
    server.code = Code.ACCESS_ACCEPT
    server.attributes = encode([("User-Name", "alice"), *([("RFC5090-Digest-HA1", ha1)] if ha1 else [])])
    proof = dataclasses.replace(PROOF, algorithm=algorithm)
    answer = await RadiusAuthenticator(pool, take_ha1=True).vouch(proof)
    assert isinstance(answer, Vouched)
    assert answer.ha1 == (ha1.lower() if taken else "")
    answer = await RadiusAuthenticator(pool).vouch(proof)
    assert isinstance(answer, Vouched)
    assert answer.ha1 == "", "it came over a network"


# -- the edge verifies


def proven(password: str = "wonder", algorithm: str = "SHA-256", username: str = "alice@inria.example") -> Proof:
    proof = dataclasses.replace(PROOF, username=username, algorithm=algorithm, response="")
    fields = {field: getattr(proof, field) for field in digest.Digest.__dataclass_fields__}
    made = digest.response_for(digest.Digest(**fields), digest.make_ha1(algorithm, username, PROOF.realm, password))
    return dataclasses.replace(proof, response=made)


def value(algorithm: str, password: str = "wonder", *, username: str = "alice@inria.example") -> tuple[str, str]:
    ha1 = digest.make_ha1(algorithm, username, PROOF.realm, password)
    return "Nomad-Digest-HA1", f"{algorithm}:{username}:{PROOF.realm}:{ha1}"


async def test_nothing_of_a_proof_goes_to_a_server_that_does_not_verify(server: Scripted, pool: Pool) -> None:
    server.code = Code.ACCESS_REJECT
    await RadiusAuthenticator(pool, take_ha1=True, verify=True).check(proven())
    assert dict(named(server.received[0])) == {
        "User-Name": "alice@inria.example",
        "Service-Type": "Sip-Session",
        "NAS-Identifier": "nomad",
        "Nomad-Verify-At": "Edge",
        "RFC5090-Digest-Realm": "inria.example",
        "RFC5090-Digest-Algorithm": "SHA-256",
        "RFC5090-SIP-AOR": "sip:alice@inria.example",
    }


@pytest.mark.parametrize("algorithm", digest.ALGORITHMS)
async def test_the_edge_verifies(server: Scripted, pool: Pool, algorithm: str) -> None:
    authenticator = RadiusAuthenticator(pool, take_ha1=True, verify=True)
    server.code = Code.ACCESS_ACCEPT
    server.attributes = encode([("User-Name", "alice"), *(value(each) for each in digest.ALGORITHMS)])
    answer = await authenticator.vouch(proven(algorithm=algorithm))
    ha1 = digest.make_ha1(algorithm, "alice@inria.example", PROOF.realm, "wonder")
    assert answer == Vouched(Grant("alice"), ha1)
    assert await authenticator.vouch(proven("wrong", algorithm)) == Refusal()
    server.attributes = encode([("User-Name", "alice"), ("RFC5090-Digest-HA1", ha1)])
    assert await authenticator.check(proven(algorithm=algorithm)) == Grant("alice")


@pytest.mark.parametrize(
    "values",
    [
        [],
        [value("MD5")],  # of another algorithm
        [value("SHA-256", username="eve")],  # of somebody else
        [("Nomad-Digest-HA1", "SHA-256:alice@inria.example:inria.example:" + "0" * 63)],
        [("Nomad-Digest-HA1", "SHA-256:alice@inria.example:inria.example:")],
        [("Nomad-Digest-HA1", "0" * 64)],
    ],
)
async def test_without_a_verifier_nobody_gets_in(
    server: Scripted, pool: Pool, values: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    server.code = Code.ACCESS_ACCEPT
    server.attributes = encode([("User-Name", "alice"), *values])
    assert await RadiusAuthenticator(pool, take_ha1=True, verify=True).check(proven()) == Refusal()
    assert "without a SHA-256 HA1 that fits" in caplog.text


async def test_a_refusal_before_the_password_was_seen_says_nothing(server: Scripted, pool: Pool) -> None:
    server.code = Code.ACCESS_REJECT
    server.attributes = encode([("Reply-Message", "no such user"), ("Nomad-SIP-Response-Code", 403)])
    assert await RadiusAuthenticator(pool, take_ha1=True, verify=True).check(proven()) == Refusal()


async def test_secrets_from_a_network_are_not_taken(
    server: Scripted, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    server.code = Code.ACCESS_ACCEPT
    server.attributes = encode([("User-Name", "alice"), value("SHA-256")])
    authenticator = RadiusAuthenticator(pool, take_ha1=False)
    for _ in range(2):
        assert await authenticator.vouch(proven("any")) == Vouched(Grant("alice"), "")
    assert caplog.text.count("sends HA1") == 1
    assert digest.make_ha1("SHA-256", "alice@inria.example", PROOF.realm, "wonder") not in caplog.text
    # without a private way to the server there is no verifying here, whatever is asked for
    server.code = Code.ACCESS_REJECT
    assert await RadiusAuthenticator(pool, take_ha1=False, verify=True).check(proven()) == Refusal()
    assert "Nomad-Verify-At" not in dict(named(server.received[-1]))
