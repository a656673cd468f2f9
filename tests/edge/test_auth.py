"""Identities; challenges and credentials as phones see them are in scenarios/test_edge_login.py."""

from __future__ import annotations

import re

import pytest

from nomad.edge.auth import Identity
from nomad.ports import Grant
from nomad.sip.message import Request
from nomad.sip.uri import Uri
from tests.harness.peers import DOMAIN, SDP
from tests.harness.rig import Rig, on_rig

OTHER = 'Digest username="x", realm="other", nonce="1", uri="sip:x", response="2"'


@pytest.mark.parametrize(
    ("uri", "owned"),
    [
        ("sip:alice@inria.example", True),
        ("sips:Alice@INRIA.example:5061;transport=tls", True),
        ("sip:%61lice@inria.example", True),
        ("sip:alice:password@inria.example", True),
        ("sip:alice@inria.example.evil.example", False),
        ("sip:alice@evil.example", False),
        ("sip:alice%40inria.example@evil.example", False),
        ("sip:inria.example", False),
        ("tel:+33139635511", False),
        ("sip:alice%20@inria.example", False),
    ],
)
def test_whose_address_it_is(uri: str, owned: bool) -> None:
    identity = Identity(Grant("alice"), frozenset({"alice@inria.example"}))
    assert identity.owns(Uri.parse(uri)) is owned


@on_rig()
async def test_login_and_extension_belong_to_the_person_in_our_domains(rig: Rig) -> None:
    auth = rig.dispatcher._parts.auth
    addresses = auth.addresses_of(Grant("Alice@inria.example", addresses=("A.Martin@Inria.Example",), extension="1001"))
    assert addresses == {f"a.martin@{DOMAIN}", f"alice@{DOMAIN}", f"1001@{DOMAIN}"}
    assert auth.addresses_of(Grant("bob")) == {f"bob@{DOMAIN}"}


@on_rig()
async def test_ours_are_found_among_the_credentials_for_others(rig: Rig) -> None:
    phone = rig.phone("alice")
    request = phone.make("INVITE", f"sip:1000@{DOMAIN}", body=SDP)
    phone.send(request)
    again = phone.answer_challenge(request, await phone.response(407))
    ours = again.get("proxy-authorization") or ""
    again.set("proxy-authorization", OTHER)
    again.add("proxy-authorization", ours)
    phone.send(again)
    assert (await rig.pbx.request("INVITE")).get_all("proxy-authorization") == [OTHER]


@pytest.mark.parametrize("value", [OTHER, 'Basic realm="inria.example"', "Bearer token"])
def test_other_schemes_and_realms_are_challenged(value: str) -> None:
    @on_rig()
    async def scenario(rig: Rig) -> None:
        phone = rig.phone("alice")
        phone.send(phone.make("REGISTER", f"sip:{DOMAIN}", headers=[("authorization", value)]))
        await phone.response(401)
        assert rig.authenticator.asked == []

    scenario()


@on_rig()
async def test_credentials_in_the_header_of_the_other_role_do_not_count(rig: Rig) -> None:
    phone = rig.phone("alice")
    request = phone.make("INVITE", f"sip:1000@{DOMAIN}", body=SDP)
    phone.send(request)
    again: Request = phone.answer_challenge(request, await phone.response(407))
    again.add("authorization", again.get("proxy-authorization") or "")
    again.remove("proxy-authorization")
    phone.send(again)
    await phone.response(407)
    assert rig.authenticator.asked == []


@on_rig()
async def test_hashed_user_names_are_refused_with_a_reason(rig: Rig) -> None:
    phone = rig.phone("alice")
    request = phone.make("REGISTER", f"sip:{DOMAIN}")
    phone.send(request)
    challenge = await phone.response(401)
    assert "userhash" not in (challenge.get("www-authenticate") or "")
    phone.send(phone.answer_challenge(request, challenge, userhash="true"))
    assert (await phone.response(401)).reason == "Digest userhash was not offered"
    assert rig.authenticator.asked == []


@on_rig()
async def test_answer_of_a_register_proves_that_we_know_the_password(rig: Rig) -> None:
    rig.dispatcher._parts.auth._answer = lambda proof: f"proof for {proof.username}" if proof.qop else ""
    phone = rig.phone("alice")
    info = (await phone.register()).get("authentication-info") or ""
    assert re.fullmatch(r'qop=auth, rspauth="proof for alice", cnonce="c[0-9]+", nc=00000001', info)
    request = phone.make("REGISTER", f"sip:{DOMAIN}")
    phone.send(request)
    phone.send(phone.answer_challenge(request, await phone.response(401), qop=""))
    assert not (await phone.response(200)).has("authentication-info")


@on_rig()
async def test_nothing_is_said_where_the_password_is_not_known(rig: Rig) -> None:
    assert not (await rig.phone("alice").register()).has("authentication-info")
