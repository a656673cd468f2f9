"""Random names: branches, tags, call ids. Nobody can guess the next."""

from __future__ import annotations

import secrets

NAME_BUFFER_BYTES = 4096


class Names:
    """Random names that nobody can guess, from a buffer: one system call makes many."""

    def __init__(self) -> None:
        self._digits = ""
        self._next = 0

    def take(self, length: int) -> str:
        """That many hexadecimal digits."""
        if self._next + length > len(self._digits):
            self._digits = secrets.token_hex(NAME_BUFFER_BYTES)
            self._next = 0
        start, self._next = self._next, self._next + length
        return self._digits[start : self._next]

    def branch(self) -> str:
        """A Via branch (RFC 3261 8.1.1.7)."""
        return f"z9hG4bK{self.take(20)}"

    def tag(self) -> str:
        """A To tag (RFC 3261 19.3)."""
        return self.take(12)

    def id(self) -> str:
        """A call id: Acct-Session-Id, and the name in our Record-Route."""
        return self.take(24)

    def random(self, size: int) -> bytes:
        """Random bytes for nonces."""
        return bytes.fromhex(self.take(2 * size))
