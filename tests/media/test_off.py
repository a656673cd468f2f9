from __future__ import annotations

from nomad.media.off import MediaOff
from nomad.ports import MediaRelay, MediaStats
from nomad.sip.events import Flow

FLOW = Flow("udp", ("127.0.0.1", 5060), ("192.0.2.1", 5060))


async def test_bodies_pass_through_and_nothing_is_counted() -> None:
    relay: MediaRelay = MediaOff()
    assert await relay.offer("1", b"v=0\r\n", from_flow=FLOW, to_flow=FLOW) == b"v=0\r\n"
    assert await relay.answer("1", b"\xff", from_flow=FLOW, to_flow=FLOW) == b"\xff"
    assert await relay.close("1") == MediaStats()
