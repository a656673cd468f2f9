"""The registrar's rule: old bindings and a REGISTER give new bindings or a `Reject` (RFC 3261 10.3, 5626, 3327).

Pure. Does not store anything and does not check who asks.
"""

from __future__ import annotations

from dataclasses import dataclass

from nomad.sip.events import Flow


@dataclass(frozen=True, slots=True)
class Binding:
    """One registered contact of a person (RFC 3261 10.3) and the flow that it registered on (RFC 5626)."""

    contact: str  # the Contact URI as the phone wrote it
    flow: Flow
    call_id: str
    cseq: int
    expires_at: float  # Unix seconds
    q: float = 1.0
    instance: str = ""  # +sip.instance
    reg_id: int = 0
    path: tuple[str, ...] = ()  # RFC 3327
    params: tuple[tuple[str, str], ...] = ()  # further Contact parameters, as received
    user_agent: str = ""
    registered_at: float = 0.0
    address: str = ""  # the address of record it registered, user@domain
