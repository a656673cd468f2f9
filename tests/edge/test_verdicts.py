"""nomad.edge.verdicts: what serves again, for how long, and what is forgotten when."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest

from nomad.clock import Clock
from nomad.edge.verdicts import Trust, Verdicts, is_right
from nomad.metrics import Metrics
from nomad.ports import Grant, Proof, Refusal, Unavailable, Vouched
from radius.digest import Digest, make_ha1, response_for

REALM = "inria.example"
GRANT = Grant("alice", ("alice@inria.example",), "3001")


class Time(Clock):
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Server:
    """An AAA server that trusts the edge with HA1."""

    def __init__(self) -> None:
        self.passwords = {"alice": "wonder", "alice@inria.example": "wonder", "bob": "builder"}
        self.grants = {"bob": Grant("bob")}
        self.tells = True
        self.down = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0

    async def vouch(self, proof: Proof) -> Vouched | Refusal:
        self.asked += 1
        password = self.passwords.get(proof.username, "")
        await self.gate.wait()
        if self.down:
            raise Unavailable("down")
        ha1 = make_ha1(proof.algorithm, proof.username, proof.realm, password)
        if not password or not is_right(proof, ha1):
            return Refusal("wrong")
        return Vouched(self.grants.get(proof.username, GRANT), ha1 if self.tells else "")


def login(
    username: str = "alice", password: str = "wonder", *, nc: int = 1, algorithm: str = "MD5", qop: str = "auth"
) -> Proof:
    proof = Proof(
        username=username, realm=REALM, nonce="n", uri=f"sip:{REALM}", method="REGISTER", response="",
        algorithm=algorithm, qop=qop, nc=f"{nc:08x}" if qop else "", cnonce="c" if qop else "",
        body_hash="ab" * 16 if qop == "auth-int" else "",
    )  # fmt: skip
    digest = Digest(
        username,
        REALM,
        "n",
        proof.uri,
        "REGISTER",
        "",
        algorithm,
        qop,
        proof.nc,
        proof.cnonce,
        body_hash=proof.body_hash,
    )
    return replace(proof, response=response_for(digest, make_ha1(algorithm, username, REALM, password)))


class House:
    def __init__(self, grace_s: float = 300, outage_s: float = 3600, limit: int = 100) -> None:
        self.time, self.server, self.metrics = Time(), Server(), Metrics()
        self.verdicts = Verdicts(
            self.server, Trust(grace_s, outage_s), clock=self.time, metrics=self.metrics, limit=limit
        )

    async def let_in(self, *names: str) -> None:
        for name in names:
            assert isinstance(await self.verdicts.check(login(name, self.server.passwords[name])), Grant)


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512-256"])
@pytest.mark.parametrize("qop", ["", "auth", "auth-int"])
def test_a_proof_is_checked_as_radius_checks_it(algorithm: str, qop: str) -> None:
    proof = login(algorithm=algorithm, qop=qop)
    ha1 = make_ha1(algorithm, "alice", REALM, "wonder")
    assert is_right(proof, ha1)
    assert is_right(replace(proof, response=proof.response.upper()), ha1)
    for wrong in (
        replace(proof, method="INVITE"), replace(proof, uri="sip:x"), replace(proof, nonce="m"),
        replace(proof, response=""), replace(proof, response="é"), replace(proof, qop="x"),
        replace(proof, algorithm=f"{algorithm}-sess"), replace(proof, algorithm="x"),
    ):  # fmt: skip
        assert not is_right(wrong, ha1)
    assert not is_right(proof, "")


async def test_within_the_grace_radius_is_not_asked() -> None:
    house = House()
    assert await house.verdicts.check(login(nc=1)) == GRANT
    house.time.now += 299.9
    assert await house.verdicts.check(login(nc=2)) == GRANT
    assert house.server.asked == 1
    house.time.now += 0.1
    assert await house.verdicts.check(login(nc=3)) == GRANT
    assert house.server.asked == 2, "the grace counts from RADIUS's word, not from its use"
    assert 'nomad_auth_verdicts_total{why="served"} 1.0' in house.metrics.render()[0].decode()


async def test_other_credentials_are_always_asked_for() -> None:
    house = House()
    await house.let_in("alice")
    assert await house.verdicts.check(login(password="other")) == Refusal("wrong")
    assert isinstance(await house.verdicts.check(login("bob", "wonder")), Refusal)
    assert await house.verdicts.check(login("alice@inria.example")) == GRANT
    assert await house.verdicts.check(login(algorithm="SHA-256")) == GRANT
    assert house.server.asked == 5
    assert await house.verdicts.check(login()) == GRANT, "somebody's wrong guess does not cost alice her verdict"
    assert house.server.asked == 5


async def test_a_new_password_replaces_the_old_one_everywhere() -> None:
    house = House()
    await house.let_in("alice", "alice@inria.example", "bob")
    house.server.passwords |= {"alice": "new", "alice@inria.example": "new"}
    assert await house.verdicts.check(login(password="new")) == GRANT, "never refused by memory alone"
    assert isinstance(await house.verdicts.check(login(password="wonder")), Refusal)
    assert isinstance(await house.verdicts.check(login("alice@inria.example", "wonder")), Refusal)
    assert len(house.verdicts) == 2, "alice anew, and bob"


async def test_a_refusal_of_what_was_good_forgets_the_person() -> None:
    house = House()
    await house.let_in("alice", "alice@inria.example")
    house.time.now += 300
    house.server.passwords["alice"] = "changed"
    assert isinstance(await house.verdicts.check(login()), Refusal)
    assert len(house.verdicts) == 0


async def test_an_outage_is_bridged_for_a_while() -> None:
    house = House()
    await house.let_in("alice")
    house.server.down = True
    house.time.now += 3599
    assert await house.verdicts.check(login()) == GRANT
    for proof in (login(password="wrong"), login("bob", "builder")):
        with pytest.raises(Unavailable):
            await house.verdicts.check(proof)
    assert 'nomad_auth_verdicts_total{why="outage"} 1.0' in house.metrics.render()[0].decode()
    house.time.now += 1
    with pytest.raises(Unavailable):
        await house.verdicts.check(login())


async def test_switched_off() -> None:
    house = House(grace_s=0, outage_s=0)
    await house.let_in("alice", "alice")
    assert (house.server.asked, len(house.verdicts)) == (2, 0)
    only_outage = House(grace_s=0, outage_s=60)
    await only_outage.let_in("alice", "alice")
    assert only_outage.server.asked == 2
    only_outage.server.down = True
    await only_outage.let_in("alice")


async def test_a_server_that_does_not_tell_is_always_asked() -> None:
    house = House()
    house.server.tells = False
    await house.let_in("alice", "alice")
    assert (house.server.asked, len(house.verdicts)) == (2, 0)


async def test_a_session_timeout_ends_the_verdict_too() -> None:
    house = House()
    house.server.grants["bob"] = Grant("bob", session_timeout_s=60)
    await house.let_in("bob")
    house.time.now += 59
    await house.let_in("bob")
    assert house.server.asked == 1
    house.time.now += 1
    house.server.down = True
    with pytest.raises(Unavailable):
        await house.verdicts.check(login("bob", "builder"))


@pytest.mark.parametrize("name", ["alice", "Alice", "alice@inria.example"])
async def test_a_person_is_forgotten(name: str) -> None:
    house = House()
    await house.let_in("alice", "alice@inria.example", "bob")
    assert house.verdicts.forget(["nobody", name]) == 2
    assert len(house.verdicts) == 1
    house.verdicts.clear()
    assert len(house.verdicts) == 0
    await house.let_in("bob")
    assert house.server.asked == 4


async def test_what_was_asked_before_the_disconnect_is_not_remembered_after_it() -> None:
    house = House()
    house.server.gate.clear()
    asking = asyncio.create_task(house.verdicts.check(login()))
    await asyncio.sleep(0)
    house.verdicts.forget(["alice"])
    house.server.gate.set()
    assert await asking == GRANT
    assert len(house.verdicts) == 0


async def test_no_outage_serves_who_was_disconnected_meanwhile() -> None:
    house = House()
    await house.let_in("alice")
    house.time.now += 300
    house.server.down = True
    house.server.gate.clear()
    asking = asyncio.create_task(house.verdicts.check(login()))
    await asyncio.sleep(0)
    house.verdicts.forget(["alice"])
    house.server.gate.set()
    with pytest.raises(Unavailable):
        await asking


async def test_memory_is_bounded() -> None:
    house = House(limit=2)
    house.server.passwords |= dict.fromkeys("abc", "x")
    house.server.grants |= {name: Grant(name) for name in "abc"}
    await house.let_in("a", "b", "c")
    assert len(house.verdicts) == 2
    await house.let_in("c", "b")
    assert house.server.asked == 3
    await house.let_in("a")
    assert house.server.asked == 4
    assert set(house.verdicts._by_name) == {"c", "a"}, "names go with their verdicts"


def test_no_secret_is_shown() -> None:
    assert "ha1" not in repr(Vouched(GRANT, "5ec3e7"))
    assert "5ec3e7" not in repr(Vouched(GRANT, "5ec3e7"))


async def test_a_change_is_served_without_asking_again() -> None:
    house = House()
    await house.let_in("alice", "alice@inria.example", "bob")
    assert house.verdicts.amend(["ALICE", "nobody"], lambda grant: replace(grant, groups=("guests",))) == 2
    assert await house.verdicts.check(login(nc=2)) == replace(GRANT, groups=("guests",))
    assert house.server.asked == 3
    assert house.verdicts.amend(["alice"], lambda grant: grant) == 0
    house.time.now += 300
    assert await house.verdicts.check(login(nc=3)) == GRANT, "RADIUS has the last word"
    assert house.verdicts.amend(["bob"], lambda grant: replace(grant, session_timeout_s=1)) == 1
    house.time.now += 2
    asked = house.server.asked
    await house.let_in("bob")
    assert house.server.asked == asked + 1, "a shorter session is a shorter verdict"


async def test_an_answer_on_its_way_is_older_than_a_change() -> None:
    house = House()
    house.server.gate.clear()
    waiting = asyncio.ensure_future(house.verdicts.check(login()))
    await asyncio.sleep(0)
    house.verdicts.amend(["alice"], lambda grant: grant)
    house.server.gate.set()
    assert await waiting == GRANT
    assert len(house.verdicts) == 0


@pytest.mark.parametrize(
    ("algorithm", "hashed"),
    [("MD5", "md5"), ("SHA-256", "sha256"), ("SHA-512-256", "sha512_256")],
)
@pytest.mark.parametrize("qop", ["auth", "auth-int"])
async def test_our_answer_proves_that_we_know_the_password(algorithm: str, hashed: str, qop: str) -> None:
    verdicts = House().verdicts
    proof = login(algorithm=algorithm, qop=qop)
    assert verdicts.answer(proof) == ""  # not known yet
    assert await verdicts.check(proof) == GRANT

    def h(text: str) -> str:
        return hashlib.new(hashed, text.encode()).hexdigest()

    body = f":{h('')}" if qop == "auth-int" else ""
    secret, target = h(f"alice:{REALM}:wonder"), h(f":sip:{REALM}{body}")
    assert verdicts.answer(proof) == h(f"{secret}:n:00000001:c:{qop}:{target}")


async def test_no_answer_without_the_secret_or_without_qop() -> None:
    house = House()
    assert await house.verdicts.check(login(qop="")) == GRANT
    assert house.verdicts.answer(login(qop="")) == ""
    house = House()
    house.server.tells = False
    assert await house.verdicts.check(login()) == GRANT
    assert house.verdicts.answer(login()) == ""
