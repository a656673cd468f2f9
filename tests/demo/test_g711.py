"""G.711 tables against the law's own values, and the tone check."""

from __future__ import annotations

import random

import pytest

from nomad.demo import g711


@pytest.mark.parametrize(
    ("sample", "mulaw", "alaw"),
    [(0, 0xFF, 0xD5), (-1, 0x7F, 0x55), (32767, 0x80, 0xAA), (-32768, 0x00, 0x2A), (1000, 0xCE, 0xFA)],
)
def test_known_values(sample: int, mulaw: int, alaw: int) -> None:
    assert g711.to_mulaw(sample) == mulaw
    assert g711.to_alaw(sample) == alaw


def test_decoding_and_encoding_gives_the_code_back() -> None:
    codes = list(range(256))
    assert [g711.to_alaw(sample) for sample in g711.DECODE[g711.PCMA]] == codes
    codes[0x7F] = 0xFF  # mu-law has two zeros
    assert [g711.to_mulaw(sample) for sample in g711.DECODE[g711.PCMU]] == codes


@pytest.mark.parametrize("payload_type", [g711.PCMU, g711.PCMA])
def test_a_tone_is_found_at_its_frequency_only(payload_type: int) -> None:
    packets = g711.tone_packets(440, payload_type)
    assert [len(packet) for packet in packets] == [g711.PACKET_SAMPLES] * 50
    samples = g711.decode(b"".join(packets), payload_type)
    assert g711.tone_share(samples, 440) > 0.99
    assert g711.tone_share(samples, 700) < 0.01


def test_silence_and_noise_are_no_tone() -> None:
    source = random.Random(1)
    assert g711.tone_share([], 440) == 0
    assert g711.tone_share([0] * 800, 440) == 0
    assert g711.tone_share([source.randint(-8000, 8000) for _ in range(8000)], 440) < 0.05
