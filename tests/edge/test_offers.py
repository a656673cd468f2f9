"""What is offered to whom, and that nothing else lets anybody in (RFC 7616, RFC 8760)."""

from __future__ import annotations

import hashlib

import pytest

from nomad.clock import Clock
from nomad.config import Config, DigestRule, Radius, Sip
from nomad.edge.auth import Authentication, Digest
from nomad.edge.nonce import NonceSigner
from nomad.edge.offers import Offers
from nomad.metrics import Metrics
from nomad.ports import Grant, Proof, Refusal
from nomad.sip.errors import Reject
from nomad.sip.headers import Challenge, Credentials
from nomad.sip.message import Request, parse_message
from nomad.stores.memory import MemoryNonceWindow
from radius.digest import Digest as RadiusDigest
from radius.digest import make_ha1, response_for

DOMAIN = "inria.example"
BOTH = Sip(digest=("MD5", "SHA-256"))
BARESIP = "baresip v1.0.0 (x86_64/linux)"


class Directory:
    """Checks as the RADIUS server does; alice logs in by her mail address too."""

    def __init__(self) -> None:
        self.asked: list[Proof] = []

    async def check(self, proof: Proof) -> Grant | Refusal:
        self.asked.append(proof)
        fields = {name: getattr(proof, name) for name in RadiusDigest.__dataclass_fields__}
        digest = RadiusDigest(**fields)
        ha1 = make_ha1(digest.base_algorithm, proof.username, proof.realm, "alice-secret")
        return Grant("alice", extension="3001") if response_for(digest, ha1) == proof.response else Refusal()


PHONE = "198.51.100.7"


def authentication(sip: Sip | None = None) -> tuple[Authentication, Directory]:
    sip = sip or Sip()
    directory, clock = Directory(), Clock()
    made = Authentication(
        Digest(DOMAIN, (DOMAIN,), Offers.of(Config(domain=DOMAIN, sip=sip)), sip.digest_qop),
        nonces=NonceSigner(b"k" * 32, lifetime_s=300, random=bytes),
        window=MemoryNonceWindow(),
        authenticator=directory,
        clock=clock,
        metrics=Metrics(),
    )
    return made, directory


def message(*headers: str, method: str = "INVITE", body: str = "", agent: str = "") -> Request:
    lines = [f"{method} sip:1000@{DOMAIN} SIP/2.0", "Via: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1"]
    lines += [f"From: <sip:alice@{DOMAIN}>;tag=1", f"To: <sip:alice@{DOMAIN}>", "Call-ID: 1", f"CSeq: 1 {method}"]
    lines += [*([f"User-Agent: {agent}"] if agent else []), *headers, f"Content-Length: {len(body)}", "", body]
    parsed = parse_message("\r\n".join(lines).encode())
    assert isinstance(parsed, Request)
    return parsed


async def challenges(made: Authentication, request: Request) -> tuple[Reject, list[Challenge]]:
    with pytest.raises(Reject) as caught:
        await made.identify(request, PHONE)
    return caught.value, [Challenge.parse(text) for _, text in caught.value.headers]


async def algorithms(made: Authentication, request: Request) -> list[str]:
    _, offered = await challenges(made, request)
    return [challenge.get("algorithm") for challenge in offered]


def answer(
    challenge: Challenge,
    *,
    algorithm: str = "",
    username: str = "alice",
    qop: str = "auth",
    body: str = "",
    method: str = "INVITE",
    agent: str = "",
) -> Request:
    algorithm = algorithm or challenge.get("algorithm")
    base = algorithm.removesuffix("-sess")
    name = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}[base]
    digest = RadiusDigest(
        username=username,
        realm=DOMAIN,
        nonce=challenge.get("nonce"),
        uri=f"sip:1000@{DOMAIN}",
        method=method,
        response="",
        algorithm=algorithm,
        qop=qop,
        nc="00000001",
        cnonce="abc",
        body_hash=hashlib.new(name, body.encode()).hexdigest(),
    )
    response = response_for(digest, make_ha1(base, username, DOMAIN, "alice-secret"))
    credentials = Credentials("Digest", {"username": username, "realm": DOMAIN, "nonce": digest.nonce})
    credentials.params |= {"uri": digest.uri, "response": response, "algorithm": algorithm, "qop": qop}
    credentials.params |= {"nc": digest.nc, "cnonce": digest.cnonce}
    return message(f"Proxy-Authorization: {credentials}", body=body, method=method, agent=agent)


def offers_of(*digest: str) -> Offers:
    return Offers.of(Config(domain=DOMAIN, sip=Sip(digest=digest)))


@pytest.mark.parametrize(
    ("agent", "by_default", "weaker_first", "stronger_first"),
    [
        ("baresip v1.0.0 (x86_64/linux)", "MD5", "MD5", "MD5"),
        ("baresip v1.1.0 (x86_64/Linux)", "MD5", "MD5", "MD5"),
        ("baresip v3.10.1 (x86_64/Linux)", "MD5", "MD5 SHA-256", "SHA-256 MD5"),
        ("SIP.js/0.21.1", "MD5", "MD5", "MD5"),
        ("JsSIP 3.13.8", "MD5", "MD5", "MD5"),
        ("sipsak 0.9.8.1", "MD5", "MD5 SHA-256", "SHA-256 MD5"),
        ("", "MD5", "MD5 SHA-256", "SHA-256 MD5"),
        ("Linphonec/5.1.65 (belle-sip/5.1.65)", "SHA-256 MD5", "SHA-256 MD5", "SHA-256 MD5"),
        ("Some phone 7", "MD5", "MD5 SHA-256", "SHA-256 MD5"),
    ],
)
def test_what_is_known_of_phones(agent: str, by_default: str, weaker_first: str, stronger_first: str) -> None:
    for offers, wanted in (
        (offers_of(), by_default),
        (offers_of("MD5", "SHA-256"), weaker_first),
        (offers_of("SHA-256", "MD5"), stronger_first),
    ):
        assert " ".join(offers.to(agent, ())) == wanted


def test_what_is_known_of_phones_adds_no_algorithm() -> None:
    assert offers_of("MD5").to("Linphonec/5.1.65", ()) == ("MD5",)
    assert offers_of("SHA-256").to(BARESIP, ()) == ("SHA-256",)


def test_a_radius_server_that_we_do_not_know_gets_md5_only() -> None:
    radius = Radius(auth=("192.0.2.8",), acct=("192.0.2.8",))
    assert Offers.of(Config(domain=DOMAIN, radius=radius)).to("Linphonec/5.1.65", ()) == ("MD5",)
    both = Sip(digest=("SHA-256", "MD5"))
    assert Offers.of(Config(domain=DOMAIN, radius=radius, sip=both)).to("x", ()) == ("SHA-256", "MD5")


def test_rules_of_the_configuration_replace_what_is_known() -> None:
    rules = (
        DigestRule(user_agent="old", offer=("MD5",)),
        DigestRule(users=("alice", "bob@inria.example"), offer=("SHA-256",)),
        DigestRule(user_agent="tel", users=("carol",), offer=("SHA-512-256",)),
    )
    offers = Offers.of(Config(domain=DOMAIN, sip=Sip(digest=("SHA-256", "MD5"), digest_rule=rules)))
    assert offers.to(BARESIP, ()) == ("SHA-256", "MD5")
    assert offers.to("My OLD phone", ("dora",)) == ("MD5",)
    assert offers.to("My OLD phone", ("Alice@inria.example",)) == ("SHA-256",)
    assert offers.to("", ("bob@inria.example",)) == ("SHA-256",)
    assert offers.to("telephone", ("carol",)) == ("SHA-512-256",)
    assert offers.to("phone", ("carol",)) == ("SHA-256", "MD5")


async def test_challenges_stand_in_the_order_of_the_offer() -> None:
    made, _ = authentication(Sip(digest=("SHA-512-256", "SHA-256", "MD5")))
    assert await algorithms(made, message()) == ["SHA-512-256", "SHA-256", "MD5"]
    reject, offered = await challenges(made, message(method="REGISTER"))
    assert (reject.status, {name for name, _ in reject.headers}) == (401, {"WWW-Authenticate"})
    assert len({challenge.get("nonce") for challenge in offered}) == 1
    made, _ = authentication()
    assert await algorithms(made, message(agent=BARESIP)) == ["MD5"]


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512-256"])
async def test_every_algorithm_lets_in(algorithm: str) -> None:
    made, directory = authentication(Sip(digest=(algorithm,)))
    _, (challenge,) = await challenges(made, message())
    identity = await made.identify(answer(challenge), PHONE)
    assert identity.user == "alice"
    assert directory.asked[0].algorithm == algorithm


async def test_session_variants_are_refused_with_a_reason() -> None:
    made, directory = authentication(BOTH)
    _, (challenge, _) = await challenges(made, message())
    reject, again = await challenges(made, answer(challenge, algorithm="MD5-sess"))
    assert (reject.status, reject.reason) == (407, "Digest algorithm was not offered: no -sess variant is")
    assert [each.get("algorithm") for each in again] == ["MD5", "SHA-256"]
    assert directory.asked == []


async def test_what_was_not_offered_is_refused() -> None:
    made, directory = authentication(Sip(digest=("SHA-256",)))
    _, (challenge,) = await challenges(made, message())
    reject, _ = await challenges(made, answer(challenge, algorithm="MD5"))
    assert reject.rule == "algorithm"
    assert directory.asked == []


@pytest.mark.parametrize("username", ["alice", "alice@inria.example", "a.martin@inria.example"])
async def test_no_downgrade_for_people_who_demand_more(username: str) -> None:
    rules = (DigestRule(users=("alice",), offer=("SHA-256",)),)
    made, directory = authentication(Sip(digest_rule=rules))
    assert await algorithms(made, message()) == ["SHA-256"]
    _, (challenge,) = await challenges(made, message())
    weaker = answer(challenge, algorithm="MD5", username=username)
    weaker.set("from", f"<sip:a.martin@{DOMAIN}>;tag=1")  # a name that the rule does not know
    reject, again = await challenges(made, weaker)
    assert (reject.rule, [each.get("algorithm") for each in again]) == ("algorithm", ["SHA-256"])
    assert bool(directory.asked) == username.startswith("a.martin")  # only RADIUS knows whose that is
    _, (challenge,) = await challenges(made, message())
    made, _ = authentication(Sip(digest_rule=rules))  # the count of the nonce is used up in the first
    assert (await made.identify(answer(challenge, username=username), PHONE)).user == "alice"


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
async def test_auth_int_covers_the_body(algorithm: str) -> None:
    made, directory = authentication(Sip(digest=(algorithm,), digest_qop=("auth", "auth-int")))
    _, (challenge,) = await challenges(made, message(body="v=0"))
    assert challenge.get("qop") == "auth,auth-int"
    tampered = answer(challenge, qop="auth-int", body="v=0")
    tampered.body = b"v=1"
    reject, _ = await challenges(made, tampered)
    assert reject.rule == "credentials"
    made, directory = authentication(Sip(digest=(algorithm,), digest_qop=("auth", "auth-int")))
    assert (await made.identify(answer(challenge, qop="auth-int", body="v=0"), PHONE)).user == "alice"
    assert directory.asked[0].body_hash


async def test_auth_int_is_refused_where_it_was_not_offered() -> None:
    made, _ = authentication(BOTH)
    _, (challenge, _) = await challenges(made, message())
    reject, _ = await challenges(made, answer(challenge, qop="auth-int"))
    assert (reject.status, reject.reason) == (407, "Digest qop was not offered")


async def test_an_old_nonce_is_stale_and_a_used_count_too() -> None:
    made, _ = authentication(BOTH)
    _, (challenge, _) = await challenges(made, message())
    await made.identify(answer(challenge), PHONE)
    _, again = await challenges(made, answer(challenge))
    assert [each.get("stale") for each in again] == ["true", "true"]
