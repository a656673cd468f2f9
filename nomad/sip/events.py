"""What goes into and comes out of the SIP stack: flows, sends and events.

Pure values. `Flow` is RFC 5626's word: the path over which a peer is reached and over which it reached us.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from nomad.sip.message import Request, Response


class Flow(NamedTuple):
    """One bidirectional path to a peer. Hashable; two datagrams of one peer to one socket give equal flows.

    `transport` is udp, tcp, tls, ws or wss. `local` and `remote` are (address, port). `id` numbers connections and is
    0 for UDP, so that a reconnected peer is another flow.
    """

    transport: str
    local: tuple[str, int]
    remote: tuple[str, int]
    id: int = 0

    @property
    def reliable(self) -> bool:
        """Whether the transport resends by itself, so that the transaction does not (RFC 3261 17)."""
        return self.transport != "udp"


class ServerKey(NamedTuple):
    """Identity of a server transaction (RFC 3261 17.2.3): top Via branch, sent-by, method (ACK counts as INVITE)."""

    branch: str
    sent_by: str
    method: str


class ClientKey(NamedTuple):
    """Identity of a client transaction (RFC 3261 17.1.3): the branch that we made, and the CSeq method."""

    branch: str
    method: str


class Send(NamedTuple):
    """Bytes for the transport to put on a flow."""

    data: bytes
    flow: Flow


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """A new request, not a retransmission. Never ACK or CANCEL. Answer it with `Stack.respond(key, ...)`."""

    key: ServerKey
    request: Request
    flow: Flow


@dataclass(frozen=True, slots=True)
class AckArrived:
    """An ACK outside every INVITE transaction that absorbs it: the ACK of a 2xx, to be forwarded statelessly."""

    request: Request
    flow: Flow


@dataclass(frozen=True, slots=True)
class CancelArrived:
    """A CANCEL matched this INVITE transaction; the stack has already answered the CANCEL itself with 200."""

    key: ServerKey
    request: Request
    flow: Flow


@dataclass(frozen=True, slots=True)
class ResponseArrived:
    """A response for a client transaction, each once; every 2xx to an INVITE comes through (RFC 6026 7.2)."""

    key: ClientKey
    response: Response
    flow: Flow


@dataclass(frozen=True, slots=True)
class StrayResponse:
    """A response that matches no client transaction. RFC 6026 wants a 2xx forwarded or dropped by policy."""

    response: Response
    flow: Flow


@dataclass(frozen=True, slots=True)
class BranchTimedOut:
    """No final response within 64*T1 (RFC 3261 17.1.1.2, 17.1.2.2)."""

    key: ClientKey


@dataclass(frozen=True, slots=True)
class BranchFailed:
    """The transport could not carry the request (RFC 3261 17.1.4): treat as 503 (8.1.3.1)."""

    key: ClientKey
    why: str


@dataclass(frozen=True, slots=True)
class AckMissing:
    """Timer H: the peer never acknowledged our final non-2xx response to its INVITE."""

    key: ServerKey


@dataclass(frozen=True, slots=True)
class FlowClosed:
    """A connection is gone; every binding and dialog side on it has lost its path (RFC 5626 7)."""

    flow: Flow
    why: str


Event = (
    RequestArrived
    | AckArrived
    | CancelArrived
    | ResponseArrived
    | StrayResponse
    | BranchTimedOut
    | BranchFailed
    | AckMissing
    | FlowClosed
)
