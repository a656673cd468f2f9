"""Counters with labels of few values."""

from __future__ import annotations

from nomad.transport.counters import MAX_REASONS, OTHER, Counters


def test_unknown_methods_count_as_other() -> None:
    counters = Counters()
    counters.request("INVITE", "udp")
    counters.request("EVIL1", "udp")
    counters.request("EVIL2", "udp")
    counters.response("INVITE", 200)
    counters.response("EVIL", 405)
    assert counters.requests == {("INVITE", "udp"): 1, (OTHER, "udp"): 2}
    assert counters.responses == {("INVITE", 200): 1, (OTHER, 405): 1}


def test_reasons_are_bounded() -> None:
    counters = Counters()
    for number in range(MAX_REASONS + 10):
        counters.bad(f"reason-{number}")
    assert len(counters.malformed) == MAX_REASONS + 1
    assert counters.malformed[OTHER] == 10


def test_connections_go_up_and_down() -> None:
    counters = Counters()
    counters.opened("tcp")
    counters.opened("tcp")
    counters.closed("tcp")
    counters.drop("gate")
    counters.keepalive("stun")
    assert counters.connections == {"tcp": 1}
    assert counters.dropped == {"gate": 1}
    assert counters.keepalives == {"stun": 1}
