"""radius.handler: logins and answers; without sockets."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import time

import pytest

from radius import digest, packet
from radius.attributes import encode, named
from radius.digest import Digest
from radius.errors import DirectoryUnavailable, PacketError
from radius.handler import DISABLED, REJECTED, DirectoryHandler, Rules, check_hash, secret_of
from radius.packet import Code, Packet, Type
from radius.ports import Client, Person, Reply
from tests.harness.people import ssha

CLIENT = Client("edge", b"s3cret")
REALM = "x.example"
ALICE = Person(
    login="alice",
    logins=frozenset({"alice", "alice.m@x.example"}),
    mails=("alice.m@x.example",),
    extension="3001",
    groups=("staff", "g" * 300),
    display_name="Alice",
    password="wonder",
    classes=(b"gold",),
)


class Book:
    """A directory that is a dictionary; "broken" is away."""

    def __init__(self, *people: Person) -> None:
        self.people = {login: person for person in people for login in person.logins or {person.login}}
        self.asked: list[str] = []

    async def find(self, login: str) -> Person | None:
        self.asked.append(login)
        if login == "broken":
            raise DirectoryUnavailable("ldap://x: away")
        return self.people.get(login.lower())

    async def ready(self) -> bool:
        return "broken" not in self.people

    async def close(self) -> None:
        pass


def ask(body: bytes, code: int = Code.ACCESS_REQUEST) -> Packet:
    return packet.decode(packet.encode_request(code, 1, body, secret=CLIENT.secret, nonce=bytes(16)))


def login(
    username: str = "alice",
    password: str = "wonder",
    *,
    user: str | None = None,
    algorithm: str = "MD5",
    rfc5090: bool = False,
) -> Packet:
    credentials = Digest(username, REALM, "nonce", "sip:x", "REGISTER", "", algorithm, "auth", "1", "c")
    ha1 = digest.make_ha1(credentials.base_algorithm or "MD5", username, REALM, password)
    response = digest.response_for(
        dataclasses.replace(credentials, algorithm="MD5" if not credentials.base_algorithm else algorithm), ha1
    )
    credentials = dataclasses.replace(credentials, response=response)
    body = encode([("User-Name", username if user is None else user)])
    return ask(body + (digest.to_rfc5090 if rfc5090 else digest.to_sterman)(credentials))


def pap(user: str, password: str) -> Packet:
    hidden = packet.hide_password(password.encode(), CLIENT.secret, bytes(16))
    return ask(encode([("User-Name", user)]) + packet.attribute(Type.USER_PASSWORD, hidden))


def handler(*people: Person, rules: Rules | None = None) -> DirectoryHandler:
    return DirectoryHandler(Book(*(people or (ALICE,))), rules=rules or Rules(domains=(REALM,)))


def shown(reply: Reply | None) -> dict[str, list[object]]:
    assert reply is not None
    found: dict[str, list[object]] = {}
    for name, value in named(ask(reply.attributes)):
        found.setdefault(name, []).append(value)
    return found


async def code_of(request: Packet, *people: Person, rules: Rules | None = None) -> int:
    reply = await handler(*people, rules=rules).handle(request, CLIENT)
    assert reply is not None
    return reply.code


@pytest.mark.parametrize("rfc5090", [False, True])
@pytest.mark.parametrize("algorithm", ["MD5", "MD5-sess", "SHA-256", "SHA-512-256"])
@pytest.mark.parametrize("name", ["alice", "ALICE", "alice@x.example", "alice.m@x.example"])
async def test_login_forms(name: str, algorithm: str, rfc5090: bool) -> None:
    assert await code_of(login(name, algorithm=algorithm, rfc5090=rfc5090)) == Code.ACCESS_ACCEPT
    assert await code_of(login(name, "wrong", algorithm=algorithm, rfc5090=rfc5090)) == Code.ACCESS_REJECT


async def test_accept_says_who_it_is(caplog: pytest.LogCaptureFixture) -> None:
    rules = Rules(
        domains=(REALM,),
        session_timeout_s=3600,
        idle_timeout_s=60,
        interim_interval_s=300,
        welcome="Hi",
        classes=(b"all",),
    )
    reply = await handler(rules=rules).handle(login(), CLIENT)
    assert shown(reply) == {
        "User-Name": ["alice"],
        "Class": [b"all", b"gold"],
        "Session-Timeout": [3600],
        "Idle-Timeout": [60],
        "Acct-Interim-Interval": [300],
        "Reply-Message": ["Hi"],
        "Nomad-Extension": ["3001"],
        "Nomad-Display-Name": ["Alice"],
        "Nomad-Address": ["alice@x.example", "alice.m@x.example"],
        "Nomad-Group": ["staff"],
    }
    assert "300 octets" in caplog.text, "a group that does not fit is left out, and that is said"


async def test_accept_carries_the_limits_of_a_person() -> None:
    limited = dataclasses.replace(ALICE, allow=("internal", "national"), max_calls=0)
    found = shown(await handler(limited).handle(login(), CLIENT))
    assert (found["Nomad-Allow-Class"], found["Nomad-Max-Calls"]) == (["internal", "national"], [0])


@pytest.mark.parametrize(
    ("allow", "told"),
    [
        ((" internal ,national", "internal"), ["internal", "national"]),
        ((",".join(f"class{number}" for number in range(60)),), [f"class{number}" for number in range(60)]),
        (("x" * 300,), ["-"]),
        ((",",), ["-"]),
        ((), None),
    ],
)
async def test_limits_are_never_lost(allow: tuple[str, ...], told: list[str] | None) -> None:
    """Neither by their own length nor by that of all that is said of the person besides."""
    crowded = dataclasses.replace(ALICE, allow=allow, max_calls=1, groups=tuple("g" * 200 + str(n) for n in range(40)))
    found = shown(await handler(crowded).handle(login(), CLIENT))
    assert (found.get("Nomad-Allow-Class"), found["Nomad-Max-Calls"]) == (told, [1])
    assert "Nomad-Group" in found


async def test_rfc5090_accept_proves_that_the_server_knows_the_secret() -> None:
    """RFC 5090 3.4, RFC 7616 3.5."""
    request = login(rfc5090=True)
    credentials = digest.from_packet(request)
    assert credentials is not None
    expected = digest.response_for(credentials, digest.make_ha1("MD5", "alice", REALM, "wonder"), method="")
    assert shown(await handler().handle(request, CLIENT))["RFC5090-Digest-Response-Auth"] == [expected]


async def test_unknown_user_and_wrong_password_are_answered_alike() -> None:
    replies = [await handler().handle(login(name, "wrong"), CLIENT) for name in ("alice", "nobody")]
    assert replies[0] == replies[1]
    assert shown(replies[0]) == {"Reply-Message": [REJECTED]}


async def test_unknown_user_takes_as_long_as_a_wrong_password() -> None:
    subject = handler()
    best: dict[str, float] = {}
    for name in ("alice", "nobody") * 3:
        request = login(name, "wrong")
        started = time.perf_counter()
        for _ in range(200):
            await subject.handle(request, CLIENT)
        best[name] = min(best.get(name, 9.9), time.perf_counter() - started)
    assert 0.5 < best["alice"] / best["nobody"] < 2


async def test_disabled_is_only_told_to_who_knows_the_password() -> None:
    gone = dataclasses.replace(ALICE, disabled=True)
    right = await handler(gone).handle(login(), CLIENT)
    wrong = await handler(gone).handle(login(password="wrong"), CLIENT)
    assert shown(right) == {"Reply-Message": [DISABLED], "Nomad-SIP-Response-Code": [403]}
    assert shown(wrong) == {"Reply-Message": [REJECTED]}
    assert right is not None
    assert right.code == Code.ACCESS_REJECT


async def test_user_name_must_be_that_of_the_credentials() -> None:
    eve = Person(login="eve", logins=frozenset({"eve"}), password="evil")
    assert await code_of(login("eve", "evil", user="alice"), ALICE, eve) == Code.ACCESS_REJECT
    assert await code_of(login("alice", user="alice@x.example"), ALICE, eve) == Code.ACCESS_ACCEPT
    assert await code_of(login("alice", user=""), ALICE, eve) == Code.ACCESS_ACCEPT


async def test_other_realms_are_refused() -> None:
    assert await code_of(login(), rules=Rules(realms=("y.example",))) == Code.ACCESS_REJECT
    assert await code_of(login(), rules=Rules(realms=(REALM,))) == Code.ACCESS_ACCEPT


async def test_foreign_domains_are_not_ours() -> None:
    assert await code_of(login("alice@y.example")) == Code.ACCESS_REJECT


async def test_unknown_algorithm_is_refused() -> None:
    assert await code_of(login(algorithm="AKAv1-MD5")) == Code.ACCESS_REJECT


async def test_ha1_alone_is_enough_and_only_for_its_algorithm(caplog: pytest.LogCaptureFixture) -> None:
    key = ("MD5", "bob", REALM)
    bob = Person(login="bob", ha1={key: digest.make_ha1("MD5", "bob", REALM, "b")})
    assert await code_of(login("bob", "b"), bob) == Code.ACCESS_ACCEPT
    assert await code_of(login("bob", "wrong"), bob) == Code.ACCESS_REJECT
    assert await code_of(login("bob", "b", algorithm="SHA-256"), bob) == Code.ACCESS_REJECT
    assert "no SHA-256 HA1" in caplog.text


def test_ha1_for_any_name_or_realm() -> None:
    assert secret_of(Person("b", ha1={("MD5", "", "r"): "x"}), "MD5", "b", "r") == "x"
    assert secret_of(Person("b", ha1={("MD5", "", ""): "y"}), "MD5", "b", "r") == "y"
    assert secret_of(Person("b", ha1={("MD5", "c", "r"): "x"}), "MD5", "b", "r") == ""


async def test_the_password_of_nobody_opens_nothing() -> None:
    for name in ("nobody", ""):
        assert await code_of(login(name or "x", "no password opens this")) == Code.ACCESS_REJECT
        assert await code_of(pap(name, "no password opens this")) == Code.ACCESS_REJECT
    locked = Person(login="l", logins=frozenset({"l"}))
    assert await code_of(pap("l", "no password opens this"), locked) == Code.ACCESS_REJECT
    assert await code_of(login("l", "no password opens this"), locked) == Code.ACCESS_REJECT


async def test_pap() -> None:
    hashed = Person(login="h", password_hash=ssha("secret"))
    assert await code_of(pap("alice", "wonder")) == Code.ACCESS_ACCEPT
    assert await code_of(pap("alice", "wrong")) == Code.ACCESS_REJECT
    assert await code_of(pap("h", "secret"), hashed) == Code.ACCESS_ACCEPT
    assert await code_of(pap("h", "wrong"), hashed) == Code.ACCESS_REJECT
    assert await code_of(ask(encode([("User-Name", "alice")]))) == Code.ACCESS_REJECT, "no credentials at all"


@pytest.mark.parametrize("stored", ["{CRYPT}x", "{SSHA}!", "{SSHA}AAAA", "plain", ""])
def test_hashes_that_nobody_can_check(stored: str) -> None:
    assert not check_hash(stored, b"")


def test_unsalted_hash() -> None:
    assert check_hash("{SHA}" + base64.b64encode(hashlib.sha1(b"pw").digest()).decode(), b"pw")


async def test_no_answer_while_the_directory_is_away() -> None:
    assert await handler().handle(login("broken"), CLIENT) is None
    status = ask(b"", Code.STATUS_SERVER)
    assert await handler().handle(status, CLIENT) == Reply(Code.ACCESS_ACCEPT)
    assert await handler(Person(login="broken")).handle(status, CLIENT) is None


async def test_a_crowd_of_groups_is_cut_to_what_a_packet_holds() -> None:
    many = dataclasses.replace(ALICE, groups=tuple(f"cn=group-{n:03d},ou=groups,dc=x" for n in range(300)))
    reply = await handler(many).handle(login(), CLIENT)
    assert reply is not None
    assert 3000 < len(reply.attributes) < 4000


async def test_nonsense_is_a_packet_error() -> None:
    with pytest.raises(PacketError):
        await handler().handle(ask(packet.attribute(206, b"x")), CLIENT)
    assert await handler().handle(ask(b"", Code.ACCOUNTING_REQUEST), CLIENT) is None


@pytest.mark.parametrize("algorithm", digest.ALGORITHMS)
async def test_ha1_is_told_only_to_whom_it_may_be(algorithm: str) -> None:
    trusted = dataclasses.replace(CLIENT, digest_ha1=True)
    request = login(algorithm=algorithm)
    told = shown(await handler().handle(request, trusted))["RFC5090-Digest-HA1"]
    assert told == [digest.make_ha1(algorithm, "alice", REALM, "wonder")]
    assert "RFC5090-Digest-HA1" not in shown(await handler().handle(request, CLIENT))
    assert "RFC5090-Digest-HA1" not in shown(await handler().handle(login(password="wrong"), trusted))
    assert "RFC5090-Digest-HA1" not in shown(await handler().handle(pap("alice", "wonder"), trusted))
    session = await handler().handle(login(algorithm=f"{algorithm}-sess"), trusted)
    assert "RFC5090-Digest-HA1" not in shown(session)


async def test_a_device_logs_in_with_its_own_secret_only() -> None:
    values = {("MD5", "alice+desk", REALM): digest.make_ha1("MD5", "alice+desk", REALM, "desk-secret")}
    person = dataclasses.replace(ALICE, ha1=values)
    subject = handler(person)
    accepted = shown(await subject.handle(login("alice+desk", "desk-secret"), CLIENT))
    assert accepted["User-Name"] == ["alice"]
    for username, password in (
        ("alice+desk", "wonder"), ("alice+sofa", "desk-secret"), ("alice+sofa", "wonder"), ("alice", "desk-secret"),
        ("zoe+desk", "desk-secret"),
    ):  # fmt: skip
        reply = await subject.handle(login(username, password), CLIENT)
        assert reply is not None
        assert reply.code == Code.ACCESS_REJECT, (username, password)
    assert (await subject.handle(pap("alice+desk", "wonder"), CLIENT)).code == Code.ACCESS_REJECT  # type: ignore[union-attr]  # always answered
    disabled = await handler(dataclasses.replace(person, disabled=True)).handle(
        login("alice+desk", "desk-secret"), CLIENT
    )
    assert disabled is not None
    assert disabled.code == Code.ACCESS_REJECT
