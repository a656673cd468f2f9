"""G.711 mu-law and A-law (ITU-T G.711), a test tone, and a check for it. Pure; small, not fast.

`audioop` is deprecated and goes with Python 3.13, so the two companding laws are here, as tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

PCMU = 0  # static payload types, RFC 3551 6
PCMA = 8
RATE_HZ = 8000
PACKET_SAMPLES = 160  # 20 ms
BIAS = 0x84  # mu-law's, on the 16 bit scale
CLIP = 32635


def _from_mulaw(code: int) -> int:
    code = ~code & 0xFF
    size = (((code & 0x0F) << 3) + BIAS) << ((code >> 4) & 7)
    return BIAS - size if code & 0x80 else size - BIAS


def _from_alaw(code: int) -> int:
    code ^= 0x55
    exponent = (code >> 4) & 7
    size = ((code & 0x0F) << 4) + 8
    if exponent:
        size = (size + 0x100) << (exponent - 1)
    return size if code & 0x80 else -size


DECODE = {PCMU: [_from_mulaw(code) for code in range(256)], PCMA: [_from_alaw(code) for code in range(256)]}


def to_mulaw(sample: int) -> int:
    """One 16 bit sample as a mu-law octet."""
    sign = 0x80 if sample < 0 else 0
    size = min(abs(sample), CLIP) + BIAS
    exponent = max(size.bit_length() - 8, 0)
    return ~(sign | exponent << 4 | (size >> (exponent + 3)) & 0x0F) & 0xFF


def to_alaw(sample: int) -> int:
    """One 16 bit sample as an A-law octet."""
    sign = 0x80 if sample >= 0 else 0
    size = min(abs(sample), CLIP)
    exponent = max(size.bit_length() - 8, 0)
    return (sign | exponent << 4 | (size >> (exponent + 3 if exponent else 4)) & 0x0F) ^ 0x55


def decode(payload: bytes, payload_type: int) -> list[int]:
    """G.711 octets as 16 bit samples."""
    table = DECODE[payload_type]
    return [table[code] for code in payload]


def tone_packets(hz: int, payload_type: int, amplitude: int = 8000) -> list[bytes]:
    """One second of a sine as 50 payloads of 20 ms; whole Hertz, so that it can be repeated without a click."""
    encode = to_mulaw if payload_type == PCMU else to_alaw
    wave = bytes(encode(round(amplitude * math.sin(2 * math.pi * hz * n / RATE_HZ))) for n in range(RATE_HZ))
    return [wave[start : start + PACKET_SAMPLES] for start in range(0, RATE_HZ, PACKET_SAMPLES)]


def tone_share(samples: Sequence[int], hz: float) -> float:
    """How much of the energy is at one frequency (Goertzel): about 1 for a pure tone, near 0 for anything else."""
    count = len(samples)
    energy = sum(sample * sample for sample in samples)
    if not count or not energy:
        return 0.0
    turn = 2 * math.cos(2 * math.pi * hz / RATE_HZ)
    before = last = 0.0
    for sample in samples:
        before, last = last, sample + turn * last - before
    power = before * before + last * last - turn * before * last
    return min(2 * power / (count * energy), 1.0)
