"""Timer values of RFC 3261 (Table 4) and RFC 6026, in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timers:
    """The base values; the others follow from them."""

    t1: float = 0.5  # round trip estimate
    t2: float = 4.0  # longest interval between retransmissions
    t4: float = 5.0  # how long a message may stay in the network

    @property
    def transaction_s(self) -> float:
        """Timers B, F, H, J, L and M: 64*T1."""
        return 64 * self.t1

    @property
    def wait_completed_s(self) -> float:
        """Timer D on an unreliable transport: at least 32 s (RFC 3261 17.1.1.2)."""
        return max(32.0, self.transaction_s)
