"""The relay that is none: session descriptions pass through and media flows between the ends directly."""

from __future__ import annotations

from nomad.ports import MediaStats
from nomad.sip.events import Flow


class MediaOff:
    """A `MediaRelay` that changes nothing and counts nothing."""

    async def offer(self, call: str, body: bytes, *, from_flow: Flow, to_flow: Flow) -> bytes:
        """The offer as it came."""
        return body

    async def answer(self, call: str, body: bytes, *, from_flow: Flow, to_flow: Flow) -> bytes:
        """The answer as it came."""
        return body

    async def close(self, call: str) -> MediaStats:
        """Zeros: nothing was relayed."""
        return MediaStats()
