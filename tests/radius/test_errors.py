"""radius.errors."""

from __future__ import annotations

from radius.errors import PacketError


def test_packet_error_has_a_word_for_counters_and_a_text_for_people() -> None:
    error = PacketError("length", "length 5 in a datagram of 3 octets")
    assert (error.reason, str(error)) == ("length", "length 5 in a datagram of 3 octets")
    assert PacketError("short").text == "short"
