"""Free ports on loopback, chosen at run time.

Below the range from which the kernel takes ports of its own accord, so that no client socket grabs one in between.
"""

from __future__ import annotations

import os
import random
import socket

HOST = "127.0.0.1"
LOWEST, HIGHEST = 12000, 32000
_given: set[int] = set()
_random = random.Random(os.getpid() ^ random.SystemRandom().getrandbits(32))


def is_free(port: int) -> bool:
    """Whether nothing holds this port over UDP or TCP."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True


def free_range(count: int) -> int:
    """The first, even one of `count` ports in a row that are free over UDP and TCP and were not given out before."""
    for _ in range(2000):
        first = _random.randrange(LOWEST, HIGHEST - count, 2)
        block = range(first, first + count)
        if _given.isdisjoint(block) and all(is_free(port) for port in block):
            _given.update(block)
            return first
    raise RuntimeError(f"no {count} free ports in a row on {HOST}")


def free_port() -> int:
    """A port that is free over UDP and TCP and was not given out before."""
    return free_range(1)
