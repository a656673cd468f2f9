"""Flows and events are plain values."""

import pytest

from nomad.sip.events import BranchTimedOut, ClientKey, Flow


@pytest.mark.parametrize(("transport", "reliable"), [("udp", False), ("tcp", True), ("tls", True), ("wss", True)])
def test_only_udp_is_unreliable(transport: str, reliable: bool) -> None:
    assert Flow(transport, ("192.0.2.1", 5060), ("192.0.2.2", 5060)).reliable is reliable


def test_two_datagrams_of_one_peer_have_equal_flows() -> None:
    one, two = (Flow("udp", ("192.0.2.1", 5060), ("192.0.2.2", 5060)) for _ in range(2))
    assert one == two
    assert len({one, two}) == 1
    assert one != Flow("tcp", ("192.0.2.1", 5060), ("192.0.2.2", 5060), 1)


def test_events_cannot_be_changed() -> None:
    event = BranchTimedOut(ClientKey("z9hG4bK1", "INVITE"))
    with pytest.raises(AttributeError):
        event.key = ClientKey("z9hG4bK2", "INVITE")  # type: ignore[misc]
