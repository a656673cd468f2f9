"""Tones: written to WAV files, and found again in recordings."""

from __future__ import annotations

import array
import math
import wave
from collections.abc import Sequence
from pathlib import Path

RATE = 8000
PROBES = (300, 350, 440, 500, 600, 700, 850, 1000, 1200, 1500)
CLEAR = 0.3  # share of the energy that a tone must have to be called heard


def write_tone(path: Path, *, hz: int, seconds: float, rate: int = RATE) -> None:
    """A 16-bit mono WAV file with one tone."""
    step = 2 * math.pi * hz / rate
    samples = array.array("h", (int(12000 * math.sin(step * n)) for n in range(int(seconds * rate))))
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())


def loudest_tone(path: Path) -> int | None:
    """The probed tone that is loudest in the loudest half second of a recording; None when there is no clear one."""
    try:
        with wave.open(str(path)) as source:
            rate, channels = source.getframerate(), source.getnchannels()
            samples = array.array("h", source.readframes(source.getnframes()))[::channels]
    except (EOFError, wave.Error):  # a recorder that has not written its header yet
        return None
    size = rate // 2
    parts = [samples[start : start + size] for start in range(0, max(1, len(samples) - size), size)]
    best = max(parts, key=lambda part: sum(abs(sample) for sample in part))
    shares = {hz: _share(best, hz, rate) for hz in PROBES}
    hz = max(shares, key=lambda each: shares[each])
    return hz if shares[hz] > CLEAR else None


def newest_tone(folder: Path, pattern: str) -> int | None:
    """The tone in the newest recording that there is."""
    recordings = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
    return loudest_tone(recordings[-1]) if recordings else None


def _share(samples: Sequence[int], hz: int, rate: int) -> float:
    """Goertzel: how much of the energy is in one frequency, 0 to 1."""
    coefficient = 2 * math.cos(2 * math.pi * hz / rate)
    a = b = energy = 0.0
    for sample in samples:
        a, b = sample + coefficient * a - b, a
        energy += sample * sample
    return (a * a + b * b - coefficient * a * b) * 2 / (len(samples) * energy) if energy else 0.0
