"""What the transport counts, as plain dictionaries that `nomad/metrics.py` reads.

Every label has few values, whatever peers send.
"""

from __future__ import annotations

from dataclasses import dataclass, field

METHODS = frozenset(
    {"REGISTER", "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "PRACK", "UPDATE", "INFO", "MESSAGE"}
    | {"REFER", "SUBSCRIBE", "NOTIFY", "PUBLISH"}
)
OTHER = "OTHER"
MAX_REASONS = 200  # reasons are fixed words of the code; the bound is for a slip


@dataclass(slots=True)
class Counters:
    """Counts since the start. Keys are label values; nothing here is a peer's text."""

    requests: dict[tuple[str, str], int] = field(default_factory=dict)  # (method, transport)
    responses: dict[tuple[str, int], int] = field(default_factory=dict)  # (method, code), as sent by us
    retransmissions: int = 0  # datagrams that were answered unparsed, not in `requests`
    malformed: dict[str, int] = field(default_factory=dict)  # reason
    dropped: dict[str, int] = field(default_factory=dict)  # why: gate, flow-gone, not-reading, too-many, ...
    keepalives: dict[str, int] = field(default_factory=dict)  # kind: crlf, stun; missed: a UDP flow was given up
    connections: dict[str, int] = field(default_factory=dict)  # transport: open now

    def request(self, method: str, transport: str) -> None:
        """A request came in and was parsed."""
        key = (method if method in METHODS else OTHER, transport)
        self.requests[key] = self.requests.get(key, 0) + 1

    def response(self, method: str, code: int) -> None:
        """A response went out."""
        key = (method if method in METHODS else OTHER, code)
        self.responses[key] = self.responses.get(key, 0) + 1

    def bad(self, reason: str) -> None:
        """Something that was no SIP message came in."""
        _count(self.malformed, reason)

    def drop(self, why: str) -> None:
        """Something was not looked at, or could not be sent."""
        _count(self.dropped, why)

    def keepalive(self, kind: str) -> None:
        """A keepalive was answered."""
        _count(self.keepalives, kind)

    def opened(self, transport: str) -> None:
        """A connection is open."""
        self.connections[transport] = self.connections.get(transport, 0) + 1

    def closed(self, transport: str) -> None:
        """A connection is gone."""
        self.connections[transport] = self.connections.get(transport, 0) - 1


def _count(table: dict[str, int], key: str) -> None:
    if key not in table and len(table) >= MAX_REASONS:
        key = OTHER
    table[key] = table.get(key, 0) + 1
