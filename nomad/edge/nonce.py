"""Digest nonces that need no memory: a signed expiry time (RFC 7616 3.3), and what a returned one is worth.

A nonce is good from the address that it was given to only (RFC 7616 3.3 leaves that to the server): who shows it can be
reached there, so what is done with it was not forged. A phone that moved gets a new one with `stale=true`.

Pure: the key, randomness and time are given in. Counting nonces (nc) is `ports.NonceWindow`'s part.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections.abc import Callable

TIME_DIGITS = 8  # Unix seconds in hex; enough until 2106
RANDOM_BYTES = 6
SIGNATURE_BYTES = 12
NONCE_LENGTH = TIME_DIGITS + 2 * RANDOM_BYTES + 2 * SIGNATURE_BYTES


class NonceState(enum.Enum):
    """What a nonce in a request is worth."""

    VALID = "valid"
    STALE = "stale"  # ours, but too old: challenge again with stale=true
    FOREIGN = "foreign"  # not signed by us, or for another address


class NonceSigner:
    """Makes and judges nonces."""

    __slots__ = ("_key", "_lifetime_s", "_random")

    def __init__(self, key: bytes, *, lifetime_s: int, random: Callable[[int], bytes]) -> None:
        self._key = hashlib.blake2b(key, digest_size=32).digest()
        self._lifetime_s = lifetime_s
        self._random = random

    def make(self, now: float, source: str) -> str:
        """A nonce that is valid from `now` (Unix seconds) for the lifetime, from one source (`sources.source_key`)."""
        stamp = f"{int(now) + self._lifetime_s:08x}{self._random(RANDOM_BYTES).hex()}"
        return stamp + self._sign(stamp, source)

    def judge(self, nonce: str, now: float, source: str) -> NonceState:
        """Whether a nonce is ours, given to this source, and still young enough."""
        if len(nonce) != NONCE_LENGTH or not nonce.isascii():
            return NonceState.FOREIGN
        stamp, signature = nonce[: -2 * SIGNATURE_BYTES], nonce[-2 * SIGNATURE_BYTES :]
        if not hmac.compare_digest(signature, self._sign(stamp, source)):
            return NonceState.FOREIGN
        return NonceState.VALID if now < self.expires_at(nonce) else NonceState.STALE

    @staticmethod
    def expires_at(nonce: str) -> float:
        """When a nonce of ours ends, Unix seconds."""
        return float(int(nonce[:TIME_DIGITS], 16))

    def _sign(self, stamp: str, source: str) -> str:
        return hashlib.blake2b(f"{stamp}{source}".encode(), key=self._key, digest_size=SIGNATURE_BYTES).hexdigest()
