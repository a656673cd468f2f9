"""Matches messages to transactions, keeps their timers, collects what is to be sent and what happened (RFC 3261 17).

Pure: messages and the time go in, `take_sends` and `take_events` give the rest back. Decides nothing about requests,
except that a CANCEL is answered here (RFC 3261 9.2) and that too many transactions are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nomad.sip.build import ack_for, cancel_for, response_to
from nomad.sip.dialog import stateless_tag
from nomad.sip.errors import SipError
from nomad.sip.events import (
    AckArrived,
    AckMissing,
    BranchFailed,
    BranchTimedOut,
    CancelArrived,
    ClientKey,
    Event,
    Flow,
    RequestArrived,
    ResponseArrived,
    Send,
    ServerKey,
    StrayResponse,
)
from nomad.sip.message import Request, Response
from nomad.sip.timers import TimerQueue, Timers
from nomad.sip.transaction import (
    ACCEPTED,
    COMPLETED,
    INVITE_CLIENT,
    INVITE_SERVER,
    OTHER_CLIENT,
    OTHER_SERVER,
    TERMINATED,
    ClientTransaction,
    Do,
    Input,
    ServerTransaction,
    State,
    Stay,
    server_key,
)

MAX_TRANSACTIONS = 200_000
OVERLOAD_RETRY_AFTER_S = 10
HEADROOM = 1.1  # health checks and calls in progress pass when other requests are already refused

_FOREVER: Final = -1.0
_AS_BEFORE: Final = -2.0

# An enum attribute costs more than a global
_REQUEST: Final = Input.REQUEST
_PROVISIONAL: Final = Input.PROVISIONAL
_SUCCESS: Final = Input.SUCCESS
_FAILURE: Final = Input.FAILURE
_SEND: Final = Do.SEND
_SEND_AND_RESEND: Final = Do.SEND_AND_RESEND
_RESEND: Final = Do.RESEND

Transaction = ServerTransaction | ClientTransaction


def fingerprint(data: bytes, flow: Flow) -> int:
    """What `Stack.absorb` knows a datagram by: a keyed 64-bit hash, so that no peer can make two of them collide."""
    return hash((data, flow))


class Stack:
    """All transactions of one endpoint."""

    def __init__(self, timers: Timers | None = None, *, limit: int = MAX_TRANSACTIONS) -> None:
        self.timers = timers if timers is not None else Timers()
        self.answered: list[tuple[str, int]] = []  # method and status of answers made here; whoever counts takes them
        self._limit = limit
        self._server: dict[ServerKey, ServerTransaction] = {}
        self._client: dict[ClientKey, ClientTransaction] = {}
        self._by_flow: dict[Flow, dict[ClientTransaction, None]] = {}  # in the order of their requests
        self._by_fingerprint: dict[int, ServerTransaction] = {}
        self._resends: TimerQueue[Transaction] = TimerQueue()
        self._ends: TimerQueue[Transaction] = TimerQueue()
        self._stay_unreliable = _stays(self.timers, reliable=False)
        self._stay_reliable = _stays(self.timers, reliable=True)
        self._sends: list[Send] = []
        self._events: list[Event] = []

    @property
    def transactions(self) -> int:
        """How many transactions are alive."""
        return len(self._server) + len(self._client)

    # -- what the transport brings -----------------------------------------------------------------------------------

    def absorb(self, mark: int) -> bool:
        """Whether a datagram with this `fingerprint` repeats a request; if so, it has been dealt with, unparsed."""
        transaction = self._by_fingerprint.get(mark)
        if transaction is None:
            return False
        self._repeat(transaction)
        return True

    def receive(self, message: Request | Response, flow: Flow, now: float, *, mark: int = 0) -> None:
        """Take in a message; the top Via of a request already has `received` and `rport`.

        `mark` is the `fingerprint` of the datagram when repeats of it are to be absorbed unparsed. Raises `SipError`.
        """
        if isinstance(message, Response):
            self._receive_response(message, flow, now)
            return
        method = message.method
        if method == "ACK":
            self._receive_ack(message, flow, now)
        elif method == "CANCEL":
            self._receive_cancel(message, flow, now)
        else:
            key = server_key(message)
            transaction = self._server.get(key)
            if transaction is not None:
                self._repeat(transaction)
            else:
                self._receive_new(key, message, flow, now, mark)

    def flow_failed(self, flow: Flow, now: float, why: str) -> None:
        """The transport could not send on a flow, or lost it: what waits for an answer there has failed."""
        waiting = self._by_flow.get(flow)
        if waiting is None:
            return
        for transaction in tuple(waiting):
            row = transaction.machine.table.get((transaction.state, Input.TRANSPORT_ERROR))
            if row is not None:
                if not transaction.silent:
                    self._events.append(BranchFailed(transaction.key, why))
                self._enter(transaction, row[0], now)

    # -- what the user wants -----------------------------------------------------------------------------------------

    def respond(self, key: ServerKey, response: Response, now: float) -> None:
        """Answer a request. Does nothing when its transaction is gone or does not take this response any more."""
        transaction = self._server.get(key)
        if transaction is None:
            return
        status = response.status
        if key.method != "INVITE" and (status == 408 or 100 < status < 200):
            return  # RFC 4320 4.1, 4.2: never for a non-INVITE
        row = transaction.machine.table.get((transaction.state, _response_input(status)))
        if row is None:
            return
        state, do = row
        data = response.encode()
        self._sends.append(Send(data, transaction.flow))
        # Who was told nothing before repeats the INVITE until this arrives. A challenge is not sent again by itself:
        # the source may be forged, and its owner would get eleven for one (RFC 3261 26.3.2.4).
        once = (status == 401 or status == 407) and not transaction.sent
        transaction.sent = b"" if do is _SEND else data
        if do is _SEND_AND_RESEND and not transaction.reliable and not once:
            self._start_resending(transaction, now)
        if state is not transaction.state:
            self._enter(transaction, state, now)

    def request(self, request: Request, flow: Flow, now: float, *, patience_s: float | None = None) -> ClientKey:
        """Send a request, its top Via branch made by us and never used before. The request must not change any more.

        An INVITE without any answer times out after `patience_s`, when that is less than timer B.
        """
        key = ClientKey(request.via.branch, request.method)
        if key in self._client:
            raise ValueError("branch is in use")
        transaction = self._send_request(key, request, flow, now)
        if patience_s is not None and key.method == "INVITE":
            transaction.ends_at = self._ends.start(patience_s, transaction, now)
        return key

    def cancel(self, key: ClientKey, now: float, headers: Iterable[tuple[str, str]] = ()) -> None:
        """CANCEL an INVITE without final response, at once or after its first provisional (RFC 3261 9.1)."""
        transaction = self._client.get(key)
        if transaction is None or transaction.cancelled:
            return
        row = transaction.machine.table.get((transaction.state, Input.CANCEL))
        if row is None:
            return
        transaction.cancelled = True
        if row[1] is Do.HOLD_CANCEL:
            transaction.held = tuple(headers)
        else:
            self._send_cancel(transaction, headers, now)

    # -- time --------------------------------------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """When `run_timers` is to be called at the latest; there may turn out to be nothing to do."""
        end = self._ends.next_due()
        resend = self._resends.next_due()
        if end is None or (resend is not None and resend < end):
            return resend
        return end

    def run_timers(self, now: float) -> None:
        """Do what has become due."""
        for due, transaction in self._ends.take_due(now):
            if transaction.ends_at == due:
                self._end(transaction, now)
        for _, transaction in self._resends.take_due(now):
            row = transaction.machine.table.get((transaction.state, Input.TIMER_A))
            if row is not None:
                self._sends.append(Send(transaction.sent, transaction.flow))
                self._pause(transaction, row[1], now)

    # -- what came of it ---------------------------------------------------------------------------------------------

    def take_sends(self) -> list[Send]:
        """What is to be sent since the last call, in order."""
        sends = self._sends
        if sends:
            self._sends = []
            return sends
        return []

    def take_events(self) -> list[Event]:
        """What happened since the last call, in order."""
        events = self._events
        if events:
            self._events = []
            return events
        return []

    # -- requests of peers -------------------------------------------------------------------------------------------

    def _receive_new(self, key: ServerKey, request: Request, flow: Flow, now: float, mark: int) -> None:
        if len(self._server) + len(self._client) >= self._limit and not self._spares(request):
            retry_after = ("Retry-After", str(OVERLOAD_RETRY_AFTER_S))
            self._answer_statelessly(request, 503, flow, retry_after)
            return
        machine = INVITE_SERVER if request.method == "INVITE" else OTHER_SERVER
        self._open_server(ServerTransaction(key, flow, machine, mark), now)
        self._events.append(RequestArrived(key, request, flow))

    def _open_server(self, transaction: ServerTransaction, now: float) -> None:
        self._server[transaction.key] = transaction
        if transaction.fingerprint:
            self._by_fingerprint[transaction.fingerprint] = transaction
        if transaction.machine is OTHER_SERVER:
            transaction.ends_at = self._ends.start(self._stay_unreliable[Stay.TRANSACTION], transaction, now)

    def _spares(self, request: Request) -> bool:
        """Whether to serve a request all the same: health checks, and what is said within calls."""
        if self.transactions >= self._limit * HEADROOM:
            return False
        return request.method == "OPTIONS" or bool(request.to.tag)

    def _repeat(self, transaction: ServerTransaction) -> None:
        row = transaction.machine.table.get((transaction.state, _REQUEST))
        if row is not None and transaction.sent:
            self._sends.append(Send(transaction.sent, transaction.flow))

    def _receive_ack(self, ack: Request, flow: Flow, now: float) -> None:
        transaction = self._server.get(server_key(ack))
        if transaction is None:
            self._events.append(AckArrived(ack, flow))
            return
        row = transaction.machine.table.get((transaction.state, Input.ACK))
        if row is None:
            return
        if row[1] is Do.PASS_ACK:
            self._events.append(AckArrived(ack, flow))
        else:
            self._enter(transaction, row[0], now)

    def _receive_cancel(self, cancel: Request, flow: Flow, now: float) -> None:
        key = server_key(cancel)
        known = self._server.get(key)
        if known is not None:
            self._repeat(known)
            return
        invite = self._server.get(ServerKey(key.branch, key.sent_by, "INVITE"))
        # Only who sent the INVITE may cancel it; a NAT may have given it another port meanwhile
        if invite is None or invite.flow.remote[0] != flow.remote[0]:
            self._answer_statelessly(cancel, 481, flow)
            return
        self._open_server(ServerTransaction(key, flow, OTHER_SERVER, 0), now)
        self.respond(key, response_to(cancel, 200, to_tag=stateless_tag(cancel)), now)
        self.answered.append(("CANCEL", 200))
        if (invite.state, Input.CANCEL) in invite.machine.table:
            self._events.append(CancelArrived(invite.key, cancel, flow))

    def _answer_statelessly(self, request: Request, status: int, flow: Flow, *headers: tuple[str, str]) -> None:
        response = response_to(request, status, to_tag=stateless_tag(request), headers=headers)
        self._sends.append(Send(response.encode(), flow))
        self.answered.append((request.method, status))

    # -- responses of peers ------------------------------------------------------------------------------------------

    def _receive_response(self, response: Response, flow: Flow, now: float) -> None:
        transaction = self._client.get(ClientKey(response.via.branch, response.cseq.method))
        if transaction is None:
            self._events.append(StrayResponse(response, flow))
            return
        if transaction.relayed and not response.has_more("via"):
            raise SipError("via", "Via of who asked is missing", header="Via")  # RFC 3261 16.7 step 3
        row = transaction.machine.table.get((transaction.state, _response_input(response.status)))
        if row is None:
            return
        state, do = row
        if do is _RESEND:
            self._sends.append(Send(transaction.sent, transaction.flow))
            return
        if not transaction.silent:
            self._events.append(ResponseArrived(transaction.key, response, flow))
        if do is Do.DELIVER_AND_ACK:
            assert transaction.request is not None
            transaction.sent = ack_for(transaction.request, response).encode()
            self._sends.append(Send(transaction.sent, transaction.flow))
        if state is not transaction.state:
            if state is COMPLETED or state is ACCEPTED:  # nothing is made of the request any more
                transaction.request = None
                if do is Do.DELIVER:
                    transaction.sent = b""
            self._enter(transaction, state, now)
        if do is Do.DELIVER_FIRST and transaction.held is not None:
            self._send_cancel(transaction, transaction.held, now)

    # -- requests of ours --------------------------------------------------------------------------------------------

    def _send_request(self, key: ClientKey, request: Request, flow: Flow, now: float) -> ClientTransaction:
        machine = INVITE_CLIENT if key.method == "INVITE" else OTHER_CLIENT
        transaction = ClientTransaction(key, flow, machine, request)
        transaction.sent = request.encode()
        if machine is OTHER_CLIENT:
            transaction.request = None
        self._client[key] = transaction
        neighbours = self._by_flow.get(flow)
        if neighbours is None:
            self._by_flow[flow] = {transaction: None}
        else:
            neighbours[transaction] = None
        self._sends.append(Send(transaction.sent, flow))
        transaction.ends_at = self._ends.start(self._stay_unreliable[Stay.TRANSACTION], transaction, now)
        if not transaction.reliable:
            self._start_resending(transaction, now)
        return transaction

    def _send_cancel(self, invite: ClientTransaction, headers: Iterable[tuple[str, str]], now: float) -> None:
        assert invite.request is not None
        invite.held = None
        cancel = cancel_for(invite.request)
        for name, value in headers:
            cancel.add(name.lower(), value)
        key = ClientKey(invite.key.branch, "CANCEL")
        self._send_request(key, cancel, invite.flow, now).silent = True
        # The peer may not know CANCEL: the INVITE is given up after 64*T1 (RFC 3261 9.1)
        invite.ends_at = self._ends.start(self._stay_unreliable[Stay.TRANSACTION], invite, now)

    # -- states and timers -------------------------------------------------------------------------------------------

    def _enter(self, transaction: Transaction, state: State, now: float) -> None:
        """Go to another state and start the timer that ends it."""
        transaction.state = state
        if state is TERMINATED:
            self._forget(transaction)
            return
        stays = self._stay_reliable if transaction.reliable else self._stay_unreliable
        duration = stays[transaction.machine.stay[state]]
        if duration > 0.0:
            transaction.ends_at = self._ends.start(duration, transaction, now)
        elif duration == 0.0:
            transaction.state = TERMINATED
            self._forget(transaction)
        elif duration == _FOREVER:
            transaction.ends_at = 0.0

    def _end(self, transaction: Transaction, now: float) -> None:
        """The timer that ends the state fired."""
        state, do = transaction.machine.table[transaction.state, Input.TIMER_B]
        if isinstance(transaction, ServerTransaction):
            if do is Do.REPORT_ACK_MISSING:
                self._events.append(AckMissing(transaction.key))
        elif do is Do.REPORT_TIMEOUT and not transaction.silent:
            self._events.append(BranchTimedOut(transaction.key))
        self._enter(transaction, state, now)

    def _start_resending(self, transaction: Transaction, now: float) -> None:
        transaction.pause = self.timers.t1
        self._resends.start(transaction.pause, transaction, now)

    def _pause(self, transaction: Transaction, do: Do, now: float) -> None:
        """Resend again after a longer pause (RFC 3261 17.1.1.2, 17.1.2.2, 17.2.1)."""
        pause = transaction.pause * 2
        if do is Do.RESEND_AND_SLOW_DOWN or (transaction.machine.caps_at_t2 and pause > self.timers.t2):
            pause = self.timers.t2
        transaction.pause = pause
        self._resends.start(pause, transaction, now)

    def _forget(self, transaction: Transaction) -> None:
        """Drop a transaction; its timers still run for a while, so it must not hold messages."""
        transaction.ends_at = 0.0
        transaction.sent = b""
        if isinstance(transaction, ServerTransaction):
            del self._server[transaction.key]
            if transaction.fingerprint:
                self._by_fingerprint.pop(transaction.fingerprint, None)
            return
        transaction.request = None
        del self._client[transaction.key]
        neighbours = self._by_flow[transaction.flow]
        del neighbours[transaction]
        if not neighbours:
            del self._by_flow[transaction.flow]


def _response_input(status: int) -> Input:
    if status < 200:
        return _PROVISIONAL
    return _SUCCESS if status < 300 else _FAILURE


def _stays(timers: Timers, *, reliable: bool) -> dict[Stay, float]:
    """Seconds for each `Stay`; 0 means that the state is left at once."""
    return {
        Stay.UNLIMITED: _FOREVER,
        Stay.AS_BEFORE: _AS_BEFORE,
        Stay.TRANSACTION: timers.transaction,
        Stay.TRANSACTION_UNLESS_RELIABLE: 0.0 if reliable else timers.transaction,
        Stay.T4_UNLESS_RELIABLE: 0.0 if reliable else timers.t4,
        Stay.TIMER_D_UNLESS_RELIABLE: 0.0 if reliable else timers.timer_d,
    }
