"""Real RTP between two sockets on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from nomad.demo import g711
from nomad.demo.rtp import Packet, RtpStream, parse_packet

HOST = "127.0.0.1"


@pytest.fixture
async def pair() -> AsyncIterator[tuple[RtpStream, RtpStream]]:
    left, right = await RtpStream.open(HOST), await RtpStream.open(HOST)
    left.connect((HOST, right.port), g711.PCMU)
    right.connect((HOST, left.port), g711.PCMU)
    yield left, right
    for stream in (left, right):
        stream.close()
        await stream.wait_closed()


async def test_an_echo_brings_the_tone_back(pair: tuple[RtpStream, RtpStream]) -> None:
    left, right = pair
    right.echo()
    left.play(440)
    heard = await left.hear(10, hz=440, timeout_s=2)
    assert heard.packets >= 10
    assert heard.lost == 0
    assert heard.tone
    assert not left.heard(700).tone
    assert right.packets >= heard.packets


async def test_nothing_comes_from_a_silent_peer(pair: tuple[RtpStream, RtpStream]) -> None:
    left, right = pair
    left.play(440)
    await right.hear(2, hz=440, timeout_s=2)
    heard = await left.hear(1, hz=440, timeout_s=0.01)
    assert (heard.packets, heard.tone) == (0, False)


async def test_silence_stops_the_tone(pair: tuple[RtpStream, RtpStream]) -> None:
    left, right = pair
    left.play(440)
    await right.hear(2, hz=440, timeout_s=2)
    left.silence()
    sent = left.sent
    assert (await right.hear(sent + 1, hz=440, timeout_s=0.06)).packets == sent == left.sent


async def test_answers_go_where_packets_come_from(pair: tuple[RtpStream, RtpStream]) -> None:
    left, right = pair
    right.connect((HOST, 9), g711.PCMU)
    right.echo()
    left.play(440)
    assert (await left.hear(2, hz=440, timeout_s=2)).packets >= 2


async def test_gaps_are_counted_as_loss_across_the_wrap() -> None:
    stream = RtpStream()
    for sequence in (65533, 65534, 2, 3):
        stream.datagram_received(Packet(0, False, sequence, 0, 1, b"\xff" * 160).encode(), (HOST, 1))
    heard = stream.heard(440)
    assert (heard.packets, heard.lost) == (4, 3)


def test_packets_survive_the_wire() -> None:
    packet = Packet(8, True, 65535, 4_000_000_000, 7, b"payload")
    assert parse_packet(packet.encode()) == packet


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80" * 11, b"\x00" * 20, b"\x8f" + b"\x00" * 20, b"\x90" + b"\x00" * 13, b"\xa0" + b"\x00" * 12 + b"\xff",
     b"\x90" + b"\x00" * 13 + b"\xff\xff"],
)  # fmt: skip
def test_bytes_that_are_no_rtp(data: bytes) -> None:
    assert parse_packet(data) is None


def test_csrc_extension_and_padding_are_skipped() -> None:
    data = b"\xb1\x00" + b"\x00" * 10 + b"CSRC" + b"\x00\x00\x00\x01" + b"EXT_" + b"audio" + b"\x00\x00\x03"
    packet = parse_packet(data)
    assert packet is not None
    assert packet.payload == b"audio"
