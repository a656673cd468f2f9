"""A flow to a PBX; what each side gets of whole calls is in scenarios/test_edge_*.py."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from nomad.edge.sides import beyond_us
from nomad.ports import Target, Unavailable
from nomad.sip.message import Response
from nomad.sip.uri import Uri
from tests.harness.rig import PBX_ADDRESS, Rig, on_rig


@on_rig()
async def test_targets_are_tried_in_order(rig: Rig) -> None:
    async def resolve(uri: Uri) -> Sequence[Target]:
        return [Target("tcp", "10.0.0.8", 5060), Target("tcp", "10.0.0.9", 5060), Target("udp", "10.0.0.5", 5070)]

    rig.resolver.resolve = resolve  # type: ignore[method-assign]
    (trunk,) = rig.trunks.all
    rig.signalling.unreachable = {"10.0.0.8"}
    assert (await rig.sides.connect(trunk)).remote == ("10.0.0.9", 5060)
    rig.signalling.unreachable = {"10.0.0.8", "10.0.0.9"}
    assert (await rig.sides.connect(trunk)).remote == PBX_ADDRESS
    rig.signalling.unreachable.add("10.0.0.5")
    with pytest.raises(Unavailable, match=r"10\.0\.0\.5"):
        await rig.sides.connect(trunk)


@on_rig()
async def test_name_without_targets(rig: Rig) -> None:
    async def nothing(uri: Uri) -> Sequence[Target]:
        return []

    rig.resolver.resolve = nothing  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="no target"):
        await rig.sides.connect(rig.trunks.all[0])


def test_route_sets_are_split_at_our_own_record_route() -> None:
    response = Response(200, "OK")
    for value in (
        "<sip:far;lr>",
        "<sip:near;lr>",
        "<sip:edge;lr;c=t1>",
        "<sip:edge;transport=tcp;lr;c=t1>",
        "<sip:p;lr>",
    ):
        response.add("record-route", value)
    assert beyond_us(response, "t1") == (("<sip:near;lr>", "<sip:far;lr>"), ("<sip:p;lr>",))
    assert beyond_us(response, "other") == ((), ())
