"""The four transaction machines as tables (RFC 3261 17, with the Accepted states of RFC 6026), and what one remembers.

A table row is (state, input) -> (state, what to do). `stack.py` does it. A pair that has no row is ignored.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nomad.sip.events import ClientKey, Flow, ServerKey
    from nomad.sip.message import Request


class State(IntEnum):
    """States of all four machines."""

    TRYING = auto()  # non-INVITE; CALLING of an INVITE client
    PROCEEDING = auto()
    COMPLETED = auto()
    CONFIRMED = auto()  # INVITE server: the ACK came
    ACCEPTED = auto()  # INVITE: a 2xx passed (RFC 6026)
    TERMINATED = auto()


class Input(IntEnum):
    """What can happen to a transaction."""

    REQUEST = auto()  # server: the request again
    ACK = auto()
    PROVISIONAL = auto()  # a response, received or to be sent
    SUCCESS = auto()
    FAILURE = auto()
    RESEND = auto()  # timers A, E, G
    END = auto()  # timers B, F, H, and D, I, J, K, L, M
    ERROR = auto()  # the transport failed


class Do(IntEnum):
    """What a transition asks for."""

    NOTHING = auto()
    PASS = auto()  # up to the user of the transaction
    PASS_AND_WAIT = auto()  # and stop resending until the end timer
    PASS_AND_ACK = auto()
    ACK = auto()  # the same ACK again
    SEND = auto()  # the response at hand
    SEND_AND_WAIT = auto()  # and end after the machine's wait
    SEND_AND_RESEND = auto()  # until acknowledged
    REPEAT = auto()  # what was sent last
    ABSORB_AND_WAIT = auto()
    REPORT_TIMEOUT = auto()
    REPORT_ERROR = auto()


TRYING, PROCEEDING, COMPLETED = State.TRYING, State.PROCEEDING, State.COMPLETED
CONFIRMED, ACCEPTED, TERMINATED = State.CONFIRMED, State.ACCEPTED, State.TERMINATED

INVITE_CLIENT: Final = {
    (TRYING, Input.PROVISIONAL): (PROCEEDING, Do.PASS),
    (TRYING, Input.SUCCESS): (ACCEPTED, Do.PASS_AND_WAIT),
    (TRYING, Input.FAILURE): (COMPLETED, Do.PASS_AND_ACK),
    (TRYING, Input.RESEND): (TRYING, Do.REPEAT),
    (TRYING, Input.END): (TERMINATED, Do.REPORT_TIMEOUT),
    (TRYING, Input.ERROR): (TERMINATED, Do.REPORT_ERROR),
    (PROCEEDING, Input.PROVISIONAL): (PROCEEDING, Do.PASS),
    (PROCEEDING, Input.SUCCESS): (ACCEPTED, Do.PASS_AND_WAIT),
    (PROCEEDING, Input.FAILURE): (COMPLETED, Do.PASS_AND_ACK),
    (PROCEEDING, Input.END): (TERMINATED, Do.REPORT_TIMEOUT),  # only after a CANCEL (RFC 3261 9.1)
    (PROCEEDING, Input.ERROR): (TERMINATED, Do.REPORT_ERROR),
    (COMPLETED, Input.FAILURE): (COMPLETED, Do.ACK),
    (COMPLETED, Input.END): (TERMINATED, Do.NOTHING),
    (COMPLETED, Input.ERROR): (TERMINATED, Do.NOTHING),
    (ACCEPTED, Input.SUCCESS): (ACCEPTED, Do.PASS),
    (ACCEPTED, Input.END): (TERMINATED, Do.NOTHING),
}
CLIENT: Final = {
    (TRYING, Input.PROVISIONAL): (PROCEEDING, Do.PASS),
    (TRYING, Input.SUCCESS): (COMPLETED, Do.PASS_AND_WAIT),
    (TRYING, Input.FAILURE): (COMPLETED, Do.PASS_AND_WAIT),
    (TRYING, Input.RESEND): (TRYING, Do.REPEAT),
    (TRYING, Input.END): (TERMINATED, Do.REPORT_TIMEOUT),
    (TRYING, Input.ERROR): (TERMINATED, Do.REPORT_ERROR),
    (PROCEEDING, Input.PROVISIONAL): (PROCEEDING, Do.PASS),
    (PROCEEDING, Input.SUCCESS): (COMPLETED, Do.PASS_AND_WAIT),
    (PROCEEDING, Input.FAILURE): (COMPLETED, Do.PASS_AND_WAIT),
    (PROCEEDING, Input.RESEND): (PROCEEDING, Do.REPEAT),
    (PROCEEDING, Input.END): (TERMINATED, Do.REPORT_TIMEOUT),
    (PROCEEDING, Input.ERROR): (TERMINATED, Do.REPORT_ERROR),
    (COMPLETED, Input.END): (TERMINATED, Do.NOTHING),
    (COMPLETED, Input.ERROR): (TERMINATED, Do.NOTHING),
}
INVITE_SERVER: Final = {
    (PROCEEDING, Input.REQUEST): (PROCEEDING, Do.REPEAT),
    (PROCEEDING, Input.PROVISIONAL): (PROCEEDING, Do.SEND),
    (PROCEEDING, Input.SUCCESS): (ACCEPTED, Do.SEND_AND_WAIT),
    (PROCEEDING, Input.FAILURE): (COMPLETED, Do.SEND_AND_RESEND),
    (COMPLETED, Input.REQUEST): (COMPLETED, Do.REPEAT),
    (COMPLETED, Input.RESEND): (COMPLETED, Do.REPEAT),
    (COMPLETED, Input.ACK): (CONFIRMED, Do.ABSORB_AND_WAIT),
    (COMPLETED, Input.END): (TERMINATED, Do.REPORT_TIMEOUT),
    (CONFIRMED, Input.END): (TERMINATED, Do.NOTHING),
    (ACCEPTED, Input.SUCCESS): (ACCEPTED, Do.SEND),
    (ACCEPTED, Input.ACK): (ACCEPTED, Do.PASS),
    (ACCEPTED, Input.END): (TERMINATED, Do.NOTHING),
}
SERVER: Final = {
    (TRYING, Input.PROVISIONAL): (PROCEEDING, Do.SEND),
    (TRYING, Input.SUCCESS): (COMPLETED, Do.SEND_AND_WAIT),
    (TRYING, Input.FAILURE): (COMPLETED, Do.SEND_AND_WAIT),
    (PROCEEDING, Input.REQUEST): (PROCEEDING, Do.REPEAT),
    (PROCEEDING, Input.PROVISIONAL): (PROCEEDING, Do.SEND),
    (PROCEEDING, Input.SUCCESS): (COMPLETED, Do.SEND_AND_WAIT),
    (PROCEEDING, Input.FAILURE): (COMPLETED, Do.SEND_AND_WAIT),
    (COMPLETED, Input.REQUEST): (COMPLETED, Do.REPEAT),
    (COMPLETED, Input.END): (TERMINATED, Do.NOTHING),
}


class ServerTransaction:
    """A request that somebody sent us."""

    __slots__ = ("end_at", "flow", "interval", "invite", "key", "last", "resend_at", "state")

    def __init__(self, key: ServerKey, flow: Flow, *, invite: bool) -> None:
        self.key = key
        self.flow = flow
        self.invite = invite
        self.state = PROCEEDING if invite else TRYING
        self.last = b""  # response sent last
        self.interval = 0.0  # until the next retransmission, doubles
        self.resend_at = 0.0  # 0: no such timer
        self.end_at = 0.0


class ClientTransaction:
    """A request that we sent."""

    __slots__ = (
        "cancel",
        "cancel_headers",
        "cancel_sent",
        "end_at",
        "flow",
        "interval",
        "key",
        "last",
        "request",
        "resend_at",
        "state",
    )

    def __init__(self, key: ClientKey, request: Request, flow: Flow, data: bytes) -> None:
        self.key = key
        self.flow = flow
        self.request: Request | None = request
        self.state = TRYING
        self.last = data  # request, later the ACK
        self.interval = 0.0
        self.resend_at = 0.0
        self.end_at = 0.0
        self.cancel = False  # somebody wants it cancelled
        self.cancel_sent = False
        self.cancel_headers: tuple[tuple[str, str], ...] = ()
