"""Whom a URI means; GRUUs are in test_gruu.py and scenarios/test_edge_gruu.py."""

from __future__ import annotations

import pytest

from nomad.edge.parties import Parties
from nomad.ports import Registration
from nomad.sip.errors import Reject
from nomad.sip.uri import Uri
from nomad.stores.memory import MemoryLocations
from tests.edge.test_gruu import BINDING, OWN, URN, make, store


async def parties() -> tuple[Parties, MemoryLocations]:
    gruus, locations = make()
    await store(locations, BINDING)
    await locations.save(
        Registration("zoe", bindings=(BINDING,), addresses=("zoe@x.example",), grant=None)
    )  # no extension
    return Parties(OWN, locations, gruus), locations


@pytest.mark.parametrize(
    ("uri", "number"),
    [
        ("sip:1001@x.example", "1001"),
        ("sip:0139@x.example", "0139"),
        ("sip:Alice@x.example", "1001"),
        (f"sip:alice@x.example;gr={URN}", "1001"),
    ],
)
async def test_the_number_of_a_uri(uri: str, number: str) -> None:
    who, _ = await parties()
    parsed = Uri.parse(uri)
    assert await who.number_of(parsed, await who.phone_of(parsed)) == number


@pytest.mark.parametrize("name", ["nobody", "zoe"])
async def test_an_address_without_a_number(name: str) -> None:
    who, _ = await parties()
    with pytest.raises(Reject) as refused:
        await who.number_of(Uri.parse(f"sip:{name}@x.example"))
    assert (refused.value.status, refused.value.rule) == (404, "unknown-address")


@pytest.mark.parametrize("name", ["1001", "alice", f"alice@x.example;gr={URN}"])
async def test_whose_phones_ring(name: str) -> None:
    who, _ = await parties()
    registration, number = await who.called(Uri.parse(f"sip:{name}" if "@" in name else f"sip:{name}@x.example"))
    assert (registration.user, number, registration.bindings) == ("alice", "1001", (BINDING,))


async def test_nobody_rings() -> None:
    who, _ = await parties()
    with pytest.raises(Reject) as refused:
        await who.called(Uri.parse("sip:1009@x.example"))
    assert (refused.value.status, refused.value.why) == (480, "1009")
