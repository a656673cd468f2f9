"""The four transaction machines as tables (RFC 3261 ch. 17, RFC 6026), and what one transaction remembers.

The tables say what happens, `stack.py` makes it happen. A pair that stands in no table changes nothing.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from nomad.sip.events import ClientKey, Flow, ServerKey
from nomad.sip.message import Request

MAGIC_COOKIE: Final = "z9hG4bK"  # RFC 3261 8.1.1.7


class State(enum.IntEnum):
    """Where a transaction stands."""

    CALLING = 0
    TRYING = 1
    PROCEEDING = 2
    COMPLETED = 3
    CONFIRMED = 4
    ACCEPTED = 5  # RFC 6026: an INVITE got a 2xx
    TERMINATED = 6


class Input(enum.IntEnum):
    """What can happen to a transaction.

    A machine has at most one timer that resends and one that ends the state: the letters of the RFC share two values.
    """

    REQUEST = 0  # the peer sent the same request again
    ACK = 1
    CANCEL = 2  # the peer's, for a server transaction; the user's wish, for a client transaction
    PROVISIONAL = 3
    SUCCESS = 4
    FAILURE = 5  # 300 to 699
    TRANSPORT_ERROR = 6
    TIMER_A = 7
    TIMER_E = 7
    TIMER_G = 7
    TIMER_B = 8
    TIMER_D = 8
    TIMER_F = 8
    TIMER_H = 8
    TIMER_I = 8
    TIMER_J = 8
    TIMER_K = 8
    TIMER_L = 8
    TIMER_M = 8
    TIMER_CANCELLED = 8  # a cancelled INVITE got no final response within 64*T1 (RFC 3261 9.1)
    TIMER_UNANSWERED = 8  # nobody answered a non-INVITE, and its client has given up by now (RFC 4320 4.2)


class Do(enum.IntEnum):
    """What a transition makes the stack do."""

    NOTHING = 0
    SEND = 1  # the response, not kept: a 2xx is resent by the user (RFC 6026 7.1)
    SEND_AND_KEEP = 2  # the response, for when the request comes again
    SEND_AND_RESEND = 3  # the response, kept, and again until it is acknowledged
    RESEND = 4  # what was sent last
    RESEND_AND_BACK_OFF = 5  # the same, and again later than the last time
    RESEND_AND_SLOW_DOWN = 6  # the same, and again after T2
    PASS_ACK = 7
    REPORT_CANCEL = 8
    REPORT_ACK_MISSING = 9
    DELIVER = 10
    DELIVER_FIRST = 11  # and let go the CANCEL that waited for it (RFC 3261 9.1)
    DELIVER_AND_ACK = 12
    HOLD_CANCEL = 13
    SEND_CANCEL = 14
    REPORT_TIMEOUT = 15
    REPORT_FAILURE = 16


class Stay(enum.IntEnum):
    """How long a transaction may stay in the state that it enters."""

    UNLIMITED = 0
    AS_BEFORE = 1  # the timer that runs goes on
    TRANSACTION = 2  # 64*T1
    TRANSACTION_UNLESS_RELIABLE = 3  # 64*T1, or no time at all over a reliable transport
    T4_UNLESS_RELIABLE = 4
    TIMER_D_UNLESS_RELIABLE = 5


Row = tuple[State, Do]
Table = dict[tuple[State, Input], Row]


class Machine(NamedTuple):
    """One kind of transaction."""

    initial: State
    table: Table
    stay: dict[State, Stay]
    caps_at_t2: bool  # whether pauses between resends stop growing at T2


CALLING: Final = State.CALLING
TRYING: Final = State.TRYING
PROCEEDING: Final = State.PROCEEDING
COMPLETED: Final = State.COMPLETED
CONFIRMED: Final = State.CONFIRMED
ACCEPTED: Final = State.ACCEPTED
TERMINATED: Final = State.TERMINATED

# RFC 3261 17.1.1 with RFC 6026 7.2. A transport error in COMPLETED is ignored: when the final comes again, so goes the
# ACK.
INVITE_CLIENT: Final = Machine(
    initial=CALLING,
    table={
        (CALLING, Input.TIMER_A): (CALLING, Do.RESEND_AND_BACK_OFF),
        (CALLING, Input.TIMER_B): (TERMINATED, Do.REPORT_TIMEOUT),
        (CALLING, Input.TRANSPORT_ERROR): (TERMINATED, Do.REPORT_FAILURE),
        (CALLING, Input.CANCEL): (CALLING, Do.HOLD_CANCEL),
        (CALLING, Input.PROVISIONAL): (PROCEEDING, Do.DELIVER_FIRST),
        (CALLING, Input.SUCCESS): (ACCEPTED, Do.DELIVER),
        (CALLING, Input.FAILURE): (COMPLETED, Do.DELIVER_AND_ACK),
        (PROCEEDING, Input.PROVISIONAL): (PROCEEDING, Do.DELIVER),
        (PROCEEDING, Input.SUCCESS): (ACCEPTED, Do.DELIVER),
        (PROCEEDING, Input.FAILURE): (COMPLETED, Do.DELIVER_AND_ACK),
        (PROCEEDING, Input.TRANSPORT_ERROR): (TERMINATED, Do.REPORT_FAILURE),
        (PROCEEDING, Input.CANCEL): (PROCEEDING, Do.SEND_CANCEL),
        (PROCEEDING, Input.TIMER_CANCELLED): (TERMINATED, Do.REPORT_TIMEOUT),
        (COMPLETED, Input.FAILURE): (COMPLETED, Do.RESEND),
        (COMPLETED, Input.TIMER_D): (TERMINATED, Do.NOTHING),
        (ACCEPTED, Input.SUCCESS): (ACCEPTED, Do.DELIVER),
        (ACCEPTED, Input.TIMER_M): (TERMINATED, Do.NOTHING),
    },
    stay={
        CALLING: Stay.TRANSACTION,
        PROCEEDING: Stay.UNLIMITED,  # until timer C of the proxy or the user's CANCEL
        COMPLETED: Stay.TIMER_D_UNLESS_RELIABLE,
        ACCEPTED: Stay.TRANSACTION,
    },
    caps_at_t2=False,
)

# RFC 3261 17.1.2
OTHER_CLIENT: Final = Machine(
    initial=TRYING,
    table={
        (TRYING, Input.TIMER_E): (TRYING, Do.RESEND_AND_BACK_OFF),
        (TRYING, Input.TIMER_F): (TERMINATED, Do.REPORT_TIMEOUT),
        (TRYING, Input.TRANSPORT_ERROR): (TERMINATED, Do.REPORT_FAILURE),
        (TRYING, Input.PROVISIONAL): (PROCEEDING, Do.DELIVER),
        (TRYING, Input.SUCCESS): (COMPLETED, Do.DELIVER),
        (TRYING, Input.FAILURE): (COMPLETED, Do.DELIVER),
        (PROCEEDING, Input.TIMER_E): (PROCEEDING, Do.RESEND_AND_SLOW_DOWN),
        (PROCEEDING, Input.TIMER_F): (TERMINATED, Do.REPORT_TIMEOUT),
        (PROCEEDING, Input.TRANSPORT_ERROR): (TERMINATED, Do.REPORT_FAILURE),
        (PROCEEDING, Input.PROVISIONAL): (PROCEEDING, Do.DELIVER),
        (PROCEEDING, Input.SUCCESS): (COMPLETED, Do.DELIVER),
        (PROCEEDING, Input.FAILURE): (COMPLETED, Do.DELIVER),
        (COMPLETED, Input.TIMER_K): (TERMINATED, Do.NOTHING),
    },
    stay={
        TRYING: Stay.TRANSACTION,
        PROCEEDING: Stay.AS_BEFORE,
        COMPLETED: Stay.T4_UNLESS_RELIABLE,
    },
    caps_at_t2=True,
)

# RFC 3261 17.2.1 with RFC 6026 7.1
INVITE_SERVER: Final = Machine(
    initial=PROCEEDING,
    table={
        (PROCEEDING, Input.REQUEST): (PROCEEDING, Do.RESEND),
        (PROCEEDING, Input.CANCEL): (PROCEEDING, Do.REPORT_CANCEL),
        (PROCEEDING, Input.PROVISIONAL): (PROCEEDING, Do.SEND_AND_KEEP),
        (PROCEEDING, Input.SUCCESS): (ACCEPTED, Do.SEND),
        (PROCEEDING, Input.FAILURE): (COMPLETED, Do.SEND_AND_RESEND),
        (COMPLETED, Input.REQUEST): (COMPLETED, Do.RESEND),
        (COMPLETED, Input.ACK): (CONFIRMED, Do.NOTHING),
        (COMPLETED, Input.TIMER_G): (COMPLETED, Do.RESEND_AND_BACK_OFF),
        (COMPLETED, Input.TIMER_H): (TERMINATED, Do.REPORT_ACK_MISSING),
        (CONFIRMED, Input.TIMER_I): (TERMINATED, Do.NOTHING),
        (ACCEPTED, Input.SUCCESS): (ACCEPTED, Do.SEND),
        (ACCEPTED, Input.ACK): (ACCEPTED, Do.PASS_ACK),
        (ACCEPTED, Input.TIMER_L): (TERMINATED, Do.NOTHING),
    },
    stay={
        PROCEEDING: Stay.UNLIMITED,  # the user must answer; its branches end by timer C
        COMPLETED: Stay.TRANSACTION,
        CONFIRMED: Stay.T4_UNLESS_RELIABLE,
        ACCEPTED: Stay.TRANSACTION,
    },
    caps_at_t2=True,
)

# RFC 3261 17.2.2 with RFC 4320
OTHER_SERVER: Final = Machine(
    initial=TRYING,
    table={
        (TRYING, Input.PROVISIONAL): (PROCEEDING, Do.SEND_AND_KEEP),
        (TRYING, Input.SUCCESS): (COMPLETED, Do.SEND_AND_KEEP),
        (TRYING, Input.FAILURE): (COMPLETED, Do.SEND_AND_KEEP),
        (TRYING, Input.TIMER_UNANSWERED): (TERMINATED, Do.NOTHING),
        (PROCEEDING, Input.REQUEST): (PROCEEDING, Do.RESEND),
        (PROCEEDING, Input.PROVISIONAL): (PROCEEDING, Do.SEND_AND_KEEP),
        (PROCEEDING, Input.SUCCESS): (COMPLETED, Do.SEND_AND_KEEP),
        (PROCEEDING, Input.FAILURE): (COMPLETED, Do.SEND_AND_KEEP),
        (PROCEEDING, Input.TIMER_UNANSWERED): (TERMINATED, Do.NOTHING),
        (COMPLETED, Input.REQUEST): (COMPLETED, Do.RESEND),
        (COMPLETED, Input.TIMER_J): (TERMINATED, Do.NOTHING),
    },
    stay={
        TRYING: Stay.TRANSACTION,
        PROCEEDING: Stay.AS_BEFORE,
        COMPLETED: Stay.TRANSACTION_UNLESS_RELIABLE,
    },
    caps_at_t2=True,
)


class ServerTransaction:
    """A request that a peer sent us."""

    __slots__ = ("ends_at", "fingerprint", "flow", "key", "machine", "pause", "reliable", "sent", "state")

    def __init__(self, key: ServerKey, flow: Flow, machine: Machine, fingerprint: int) -> None:
        self.key = key
        self.flow = flow
        self.machine = machine
        self.fingerprint = fingerprint  # of the datagram that it came in, 0 when the transport took none
        self.reliable = flow.reliable
        self.state = machine.initial
        self.sent = b""  # the last response that must be repeated
        self.pause = 0.0  # between the last resend and the next, seconds
        self.ends_at = 0.0  # when the state ends by itself; 0 when it does not


class ClientTransaction:
    """A request that we sent to a peer."""

    __slots__ = (
        "cancelled",
        "ends_at",
        "flow",
        "held",
        "key",
        "machine",
        "pause",
        "relayed",
        "reliable",
        "request",
        "sent",
        "silent",
        "state",
    )

    def __init__(self, key: ClientKey, flow: Flow, machine: Machine, request: Request) -> None:
        self.key = key
        self.flow = flow
        self.machine = machine
        self.request: Request | None = request  # an INVITE, as long as an ACK or a CANCEL may have to be made of it
        self.relayed = request.has_more("via")  # of somebody else: answers must name him, too
        self.reliable = flow.reliable
        self.state = machine.initial
        self.sent = b""  # the request, later the ACK
        self.pause = 0.0
        self.ends_at = 0.0
        self.cancelled = False
        self.held: tuple[tuple[str, str], ...] | None = None  # headers of the CANCEL that waits for a provisional
        self.silent = False  # our own CANCEL: nobody asks what became of it


def server_key(request: Request) -> ServerKey:
    """The transaction that a request belongs to (RFC 3261 17.2.3); that of the INVITE for its ACK.

    A branch without the magic cookie says nothing. The key of such a request is made as in RFC 2543; its space keeps it
    apart from every branch.
    """
    via = request.via
    branch = via.branch
    method = request.method
    if not branch.startswith(MAGIC_COOKIE) or len(branch) == len(MAGIC_COOKIE):
        branch = f"{request.call_id} {request.cseq.number} {request.from_.tag} {request.uri_text}"
    return ServerKey(branch, via.sent_by, "INVITE" if method == "ACK" else method)
