from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from nomad.edge.addresses import OwnAddresses
from nomad.edge.calls import Leg
from nomad.edge.gruu import MAX_LOGIN_BYTES, Gruus, leads_to_phone
from nomad.ports import Binding, Registration
from nomad.sip.errors import Reject
from nomad.sip.events import Flow
from nomad.sip.headers import NameAddr
from nomad.sip.uri import Uri
from nomad.stores.memory import MemoryLocations

OWN = OwnAddresses(["x.example"], [("udp", "192.0.2.1", 5060)])
URN = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
BINDING = Binding(
    "sip:alice@198.51.100.7:5060",
    Flow("udp", ("192.0.2.1", 5060), ("198.51.100.7", 5060)),
    "call",
    1,
    2000.0,
    instance=f"<{URN}>",
    registered_at=900.0,
    address="alice@x.example",
)


def make(key: bytes = b"k" * 32) -> tuple[Gruus, MemoryLocations]:
    locations = MemoryLocations()
    salts = itertools.count(1)

    def salt(size: int) -> bytes:
        return next(salts).to_bytes(size, "big")

    return Gruus(key, locations=locations, own=OWN, wall=lambda: 1000.0, random=salt), locations


async def store(locations: MemoryLocations, *bindings: Binding, user: str = "alice") -> None:
    stored = await locations.get(user)
    await locations.save(
        replace(stored, bindings=bindings, extension="1001", addresses=("1001@x.example", f"{user}@x.example"))
    )


def params(gruus: Gruus, binding: Binding = BINDING, user: str = "alice") -> tuple[Uri, Uri]:
    """The public and the temporary GRUU, as a phone reads them from its Contact."""
    contact = NameAddr.parse(f"<sip:a@b>{gruus.params(user, binding)}")
    return Uri.parse(contact.params["pub-gruu"] or ""), Uri.parse(contact.params["temp-gruu"] or "")


async def refused(gruus: Gruus, uri: Uri) -> int:
    with pytest.raises(Reject) as reject:
        await gruus.find(uri)
    return reject.value.status


def test_what_a_phone_is_told() -> None:
    public, temporary = params(make()[0])
    assert public.text == f"sip:alice@x.example;gr={URN}"
    assert temporary.user.startswith("tgruu.")
    assert temporary.params == {"gr": None}
    assert "alice" not in temporary.text


@pytest.mark.parametrize("instance", ["", "<urn:uuid:1", "uuid:1", "<mac:1>"])
def test_no_gruu_without_an_instance_that_is_a_urn(instance: str) -> None:
    assert make()[0].params("alice", replace(BINDING, instance=instance)) == ""


@pytest.mark.parametrize("rest", ['1"2', "1;lr", "1>2", "1 2", "é", "\udcff", "1%41", "a=b&c", "x" * 900])
async def test_whatever_an_instance_holds_its_gruus_can_be_read_and_find_it(rest: str) -> None:
    gruus, locations = make()
    strange = replace(BINDING, instance=f"<urn:x:{rest}>")
    await store(locations, strange)
    for uri in params(gruus, strange):
        assert uri.port is None
        found = await gruus.find(uri)
        assert found is not None
        assert found.bindings == (strange,)


def test_temporary_gruus_differ_and_are_equally_long_for_short_logins() -> None:
    gruus, _ = make()
    one, two = params(gruus)[1], params(gruus, user="al")[1]
    assert one.user != params(gruus)[1].user
    assert len(one.user) == len(two.user)


def test_a_login_that_is_too_long_gets_no_temporary_gruu() -> None:
    text = make()[0].params("a" * (MAX_LOGIN_BYTES + 1), BINDING)
    assert "pub-gruu" in text
    assert "temp-gruu" not in text


async def test_both_find_that_phone_only() -> None:
    gruus, locations = make()
    other = replace(BINDING, instance="<urn:uuid:2>", contact="sip:alice@198.51.100.8")
    await store(locations, other, BINDING)
    for uri in (*params(gruus), Uri.parse(f"sip:1001@x.example;gr={URN.upper().replace('URN:UUID', 'urn:uuid')}")):
        found = await gruus.find(uri)
        assert found is not None
        assert (found.user, found.bindings) == ("alice", (BINDING,))


async def test_what_is_no_gruu_of_ours_is_none() -> None:
    gruus, _ = make()
    assert await gruus.find(Uri.parse("sip:alice@x.example")) is None
    assert await gruus.find(Uri.parse(f"sip:alice@elsewhere.example;gr={URN}")) is None


async def test_a_public_gruu_of_a_phone_that_is_away() -> None:
    gruus, locations = make()
    public, _ = params(gruus)
    assert await refused(gruus, public) == 480
    await store(locations, replace(BINDING, instance="<urn:uuid:2>"), replace(BINDING, expires_at=999.0))
    assert await refused(gruus, public) == 480


@pytest.mark.parametrize(
    "change",
    [{"call_id": "another"}, {"registered_at": 950.0}, {"instance": "<urn:uuid:2>"}, {"expires_at": 999.0}],
)
async def test_a_temporary_gruu_dies_with_its_registration(change: dict[str, object]) -> None:
    gruus, locations = make()
    _, temporary = params(gruus)
    await store(locations, BINDING)
    assert await gruus.find(temporary) is not None
    await store(locations, replace(BINDING, **change))  # type: ignore[arg-type]  # a field each
    assert await refused(gruus, temporary) == 404


async def test_a_temporary_gruu_lasts_over_refreshes() -> None:
    gruus, locations = make()
    _, temporary = params(gruus)
    await store(locations, replace(BINDING, cseq=9, expires_at=5000.0, contact="sip:alice@203.0.113.9"))
    assert await gruus.find(temporary) is not None


async def test_forged_temporary_gruus_mean_nothing() -> None:
    gruus, locations = make()
    await store(locations, BINDING)
    text = params(gruus)[1].user
    changed = [text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :] for at in range(6, len(text) - 1)]
    for name in (*changed, text[:-4], text + "AAAA", "tgruu.", "tgruu.!!", "tgruu.%00", "alice", "tgruu." + "A" * 500):
        assert await refused(gruus, Uri.parse(f"sip:{name}@x.example;gr")) == 404
    stranger, _ = make(b"s" * 32)
    assert await refused(gruus, params(stranger)[1]) == 404


async def test_a_dialog_follows_its_phone_but_nobody_elses() -> None:
    gruus, locations = make()
    await store(locations, BINDING)
    old = Flow("udp", ("192.0.2.1", 5060), ("198.51.100.7", 999))
    leg = Leg("phone", old, contact=params(gruus)[0].text)
    await gruus.follow(leg, "mallory")
    assert (leg.target, leg.flow) == ("", old)
    await gruus.follow(leg, "alice")
    assert (leg.target, leg.flow) == (BINDING.contact, BINDING.flow)
    moved = leg.flow = replace_port(BINDING.flow, 1234)  # a request within the dialog came from there
    await gruus.follow(leg, "alice")
    assert leg.flow == moved
    leg.refresh("sip:alice@198.51.100.7;gr=;gr")
    await gruus.follow(leg, "alice")
    assert leg.target == ""


def replace_port(flow: Flow, port: int) -> Flow:
    return flow._replace(remote=(flow.remote[0], port))


@pytest.mark.parametrize(
    ("contact", "ok"),
    [
        ("sip:alice@198.51.100.7", True),
        ("sip:alice@x.example", False),
        (f"sip:bob@x.example;gr={URN}", False),
        ("sip:tgruu.abc@192.0.2.1;gr", False),
        (f"sip:bob@elsewhere.example;gr={URN}", True),
        ("sip:bob@x.example", True),
    ],
)
def test_contacts_that_lead_back(contact: str, ok: bool) -> None:
    gruus, _ = make()
    address = Uri.parse("sip:alice@x.example")
    if ok:
        gruus.check_contact(Uri.parse(contact), address)
        return
    with pytest.raises(Reject) as reject:
        gruus.check_contact(Uri.parse(contact), address)
    assert reject.value.status == 403


def test_contacts_that_may_be_gruus() -> None:
    assert leads_to_phone("sip:alice@x.example;gr")
    assert leads_to_phone(f"sip:alice@x.example;gr={URN}")
    assert not leads_to_phone("sip:alice@x.example;transport=udp")


async def test_a_registration_of_nobody() -> None:
    gruus, _ = make()
    assert await refused(gruus, params(gruus)[1]) == 404
    assert (await MemoryLocations().get("alice")) == Registration("alice")
