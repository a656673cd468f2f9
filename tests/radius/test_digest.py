"""radius.digest against the examples of the RFCs."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radius import digest, packet
from radius.digest import Digest
from radius.errors import PacketError

# RFC 7616 3.9.1 and 3.9.2
MUFASA = Digest(
    username="Mufasa",
    realm="http-auth@example.org",
    nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    uri="/dir/index.html",
    method="GET",
    response="8ca523f5e9506fed4657c9700eebdbec",
    qop="auth",
    nc="00000001",
    cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
)
SHA_256 = dataclasses.replace(
    MUFASA, algorithm="SHA-256", response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
)
PASSWORD = "Circle of Life"


def ha1(credentials: Digest, password: str = PASSWORD) -> str:
    return digest.make_ha1(credentials.base_algorithm, credentials.username, credentials.realm, password)


def signed(credentials: Digest, password: str = PASSWORD) -> Digest:
    return dataclasses.replace(credentials, response=digest.response_for(credentials, ha1(credentials, password)))


@pytest.mark.parametrize("credentials", [MUFASA, SHA_256], ids=["MD5", "SHA-256"])
def test_examples_of_rfc_7616(credentials: Digest) -> None:
    assert digest.response_for(credentials, ha1(credentials)) == credentials.response
    assert digest.verify(credentials, ha1(credentials))
    assert not digest.verify(credentials, ha1(credentials, "circle of life"))


def test_example_of_rfc_2617() -> None:
    credentials = Digest(
        username="Mufasa",
        realm="testrealm@host.com",
        nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
        uri="/dir/index.html",
        method="GET",
        response="6629fae49393a05397450978507c4ef1",
        qop="auth",
        nc="00000001",
        cnonce="0a4f113b",
    )
    assert digest.verify(credentials, digest.make_ha1("MD5", "Mufasa", "testrealm@host.com", "Circle Of Life"))


ALGORITHMS = ["MD5", "MD5-sess", "SHA-256", "sha-256-SESS", "SHA-512-256", "SHA-512-256-sess", ""]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("qop", ["", "auth", "auth-int"])
def test_every_algorithm_and_qop(algorithm: str, qop: str) -> None:
    credentials = signed(dataclasses.replace(MUFASA, algorithm=algorithm, qop=qop, body_hash="00ff"))
    assert digest.verify(credentials, ha1(credentials))
    for field in ("nonce", "uri", "method", "response"):
        assert not digest.verify(dataclasses.replace(credentials, **{field: "other"}), ha1(credentials)), field


def test_what_counts_depends_on_qop() -> None:
    plain = signed(dataclasses.replace(MUFASA, qop=""))
    assert digest.verify(dataclasses.replace(plain, nc="00000009", cnonce="x"), ha1(plain))
    whole = signed(dataclasses.replace(MUFASA, qop="auth-int", body_hash="aa"))
    assert not digest.verify(dataclasses.replace(whole, body_hash="bb"), ha1(whole))
    session = signed(dataclasses.replace(MUFASA, qop="", algorithm="MD5-sess"))
    assert not digest.verify(dataclasses.replace(session, cnonce="x"), ha1(session))


def test_unknown_algorithm_or_qop_is_never_right() -> None:
    assert not digest.verify(dataclasses.replace(MUFASA, algorithm="AKAv1-MD5"), ha1(MUFASA))
    assert not digest.verify(dataclasses.replace(MUFASA, qop="auth-conf"), ha1(MUFASA))
    with pytest.raises(PacketError):
        digest.response_for(dataclasses.replace(MUFASA, algorithm="X"), ha1(MUFASA))


def as_packet(body: bytes, user: str = "Mufasa") -> packet.Packet:
    body = packet.attribute(1, user.encode()) + body
    return packet.decode(packet.encode_request(1, 1, body, secret=b"s", nonce=bytes(16)))


FULL = dataclasses.replace(MUFASA, qop="auth-int", body_hash="00ff", opaque="opaque", algorithm="SHA-256")


def test_dialects_give_back_what_went_in() -> None:
    assert digest.from_packet(as_packet(digest.to_rfc5090(FULL))) == FULL
    assert digest.is_rfc5090(as_packet(digest.to_rfc5090(FULL)))
    assert digest.from_packet(as_packet(digest.to_sterman(FULL))) == dataclasses.replace(FULL, opaque="")
    assert not digest.is_rfc5090(as_packet(digest.to_sterman(FULL)))


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=50)


@given(TEXT, TEXT, TEXT)
def test_dialects_carry_any_text(username: str, nonce: str, uri: str) -> None:
    credentials = dataclasses.replace(MUFASA, username=username, nonce=nonce, uri=uri)
    for encode in (digest.to_sterman, digest.to_rfc5090):
        assert digest.from_packet(as_packet(encode(credentials))) == credentials


def test_sub_attributes_may_share_one_digest_attributes() -> None:
    parts = {1: b"r", 2: b"n", 3: b"INVITE", 4: b"sip:x"}
    tlvs = b"".join(packet.attribute(kind, value) for kind, value in parts.items())
    body = packet.attribute(206, b"ab") + packet.attribute(207, tlvs + packet.attribute(99, b"unknown"))
    assert digest.from_packet(as_packet(body)) == Digest("Mufasa", "r", "n", "sip:x", "INVITE", "ab")


def test_no_credentials() -> None:
    assert digest.from_packet(as_packet(b"")) is None


@pytest.mark.parametrize(
    "body",
    [
        packet.attribute(206, b"ab"),
        packet.attribute(206, b"ab") + packet.attribute(207, b"\x01"),
        packet.attribute(206, b"ab") + packet.attribute(207, b"\x01\x09x"),
        digest.to_sterman(MUFASA) + packet.attribute(207, packet.attribute(10, b"Scar")),
        digest.to_rfc5090(MUFASA) + packet.attribute(115, b"Scar"),
        packet.attribute(103, b"ab"),
    ],
    ids=["bare", "cut", "overrun", "two-names-sterman", "two-names-rfc5090", "bare-rfc5090"],
)
def test_nonsense_is_refused(body: bytes) -> None:
    with pytest.raises(PacketError):
        digest.from_packet(as_packet(body))


def test_rspauth_is_the_response_without_a_method() -> None:
    # RFC 7616 3.5: A2 = ":" uri
    credentials = dataclasses.replace(MUFASA, method="")
    assert digest.response_for(MUFASA, ha1(MUFASA), method="") == digest.response_for(credentials, ha1(MUFASA))
