"""Matches messages to transactions, keeps their timers, collects what to send and what happened (RFC 3261 17, 9, 18).

Owns no socket and no clock: `now` is monotonic seconds and never goes back. Forwarding, authentication and dialogs are
the edge's part.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from nomad.sip.build import ack_for, cancel_for, response_to
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
from nomad.sip.timers import Timers
from nomad.sip.transaction import (
    CLIENT,
    INVITE_CLIENT,
    INVITE_SERVER,
    SERVER,
    ClientTransaction,
    Do,
    Input,
    ServerTransaction,
    State,
)

MAGIC_COOKIE: Final = "z9hG4bK"  # RFC 3261 8.1.1.7
RETRY_AFTER_S: Final = "5"
OPTIONS_SHARE: Final = (
    1.1  # OPTIONS are still served up to this share of the limit, so that monitoring sees an overload
)

Transaction = ServerTransaction | ClientTransaction


class Stack:
    """All transactions of one edge."""

    def __init__(self, timers: Timers | None = None, *, limit: int = 200_000) -> None:
        self.overloads = 0  # requests answered 503 because of the limit
        self._timers = timers or Timers()
        self._limit = limit
        self._servers: dict[ServerKey, ServerTransaction] = {}
        self._clients: dict[ClientKey, ClientTransaction] = {}
        self._sends: list[Send] = []
        self._events: list[Event] = []
        self._resends: list[tuple[float, int, Transaction]] = []  # heap
        self._ends: dict[float, deque[tuple[float, Transaction]]] = {}  # by duration, each in order of time
        self._serial = 0

    def __len__(self) -> int:
        return len(self._servers) + len(self._clients)

    # -- what comes in -------------------------------------------------------------------------------------------

    def receive(self, message: Request | Response, flow: Flow, now: float) -> None:
        """Take a message that arrived on a flow."""
        if isinstance(message, Request):
            self._receive_request(message, flow, now)
        else:
            self._receive_response(message, flow, now)

    def _receive_request(self, request: Request, flow: Flow, now: float) -> None:
        method = request.method
        if method == "ACK":
            self._receive_ack(request, flow, now)
            return
        key = server_key(request, method)
        known = self._servers.get(key)
        if known is not None:
            self._server_input(known, Input.REQUEST, now)
            return
        if method == "CANCEL":
            self._receive_cancel(key, request, flow, now)
            return
        live = len(self._servers) + len(self._clients)
        if live >= self._limit and (method != "OPTIONS" or live >= self._limit * OPTIONS_SHARE):
            self.overloads += 1
            refusal = response_to(request, 503, to_tag=_tag(key), headers=(("Retry-After", RETRY_AFTER_S),))
            self._sends.append(Send(refusal.encode(), flow))
            return
        self._servers[key] = ServerTransaction(key, flow, invite=method == "INVITE")
        self._events.append(RequestArrived(key, request, flow))

    def _receive_ack(self, request: Request, flow: Flow, now: float) -> None:
        known = self._servers.get(server_key(request, "INVITE"))
        if known is None or known.state is State.ACCEPTED:
            self._events.append(AckArrived(request, flow))
        else:
            self._server_input(known, Input.ACK, now)

    def _receive_cancel(self, key: ServerKey, request: Request, flow: Flow, now: float) -> None:
        """RFC 3261 9.2: answered here; the INVITE is ended by its owner, if it has no final response yet."""
        invite = self._servers.get(ServerKey(key.branch, key.sent_by, "INVITE"))
        self._servers[key] = ServerTransaction(key, flow, invite=False)
        if invite is None:
            self.respond(key, response_to(request, 481, to_tag=_tag(key)), now)
            return
        self.respond(key, response_to(request, 200, to_tag=_tag(key)), now)
        if invite.state is State.PROCEEDING:
            self._events.append(CancelArrived(invite.key, request, flow))

    def _receive_response(self, response: Response, flow: Flow, now: float) -> None:
        known = self._clients.get(ClientKey(response.via.branch, response.cseq.method))
        if known is None:
            self._events.append(StrayResponse(response, flow))
            return
        self._client_input(known, _kind(response.status), now, response=response, flow=flow)

    # -- what goes out -------------------------------------------------------------------------------------------

    def respond(self, key: ServerKey, response: Response, now: float) -> None:
        """Answer a request; does nothing when the transaction is gone or has its answer."""
        transaction = self._servers.get(key)
        if transaction is not None:
            self._server_input(transaction, _kind(response.status), now, response=response)

    def request(self, request: Request, flow: Flow, now: float) -> ClientKey:
        """Send a request whose top Via already carries our branch."""
        method = request.method
        key = ClientKey(request.via.branch, method)
        data = request.encode()
        transaction = self._clients[key] = ClientTransaction(key, request, flow, data)
        self._sends.append(Send(data, flow))
        if not flow.reliable:
            transaction.interval = self._timers.t1
            self._resend_in(transaction, transaction.interval, now)
        self._end_in(transaction, self._timers.transaction_s, now)
        return key

    def cancel(self, key: ClientKey, now: float, headers: Sequence[tuple[str, str]] = ()) -> None:
        """CANCEL an INVITE; before the first provisional response it only takes note (RFC 3261 9.1)."""
        transaction = self._clients.get(key)
        if transaction is None or key.method != "INVITE" or transaction.cancel:
            return
        if transaction.state is State.TRYING:
            transaction.cancel, transaction.cancel_headers = True, tuple(headers)
        elif transaction.state is State.PROCEEDING:
            transaction.cancel, transaction.cancel_headers = True, tuple(headers)
            self._send_cancel(transaction, now)

    def flow_failed(self, flow: Flow, now: float, why: str) -> None:
        """The flow is gone: whoever waits for a response on it hears of it."""
        for transaction in [each for each in self._clients.values() if each.flow == flow]:
            self._client_input(transaction, Input.ERROR, now, why=why)

    def take_sends(self) -> list[Send]:
        """What to put on the wire since the last call, in order."""
        sends, self._sends = self._sends, []
        return sends

    def take_events(self) -> list[Event]:
        """What happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    # -- timers --------------------------------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """When `run_timers` has something to do, None when it has not."""
        due: float | None = None
        while self._resends and self._resends[0][2].resend_at != self._resends[0][0]:
            heapq.heappop(self._resends)  # of a transaction that went on
        if self._resends:
            due = self._resends[0][0]
        for queue in self._ends.values():
            while queue and queue[0][1].end_at != queue[0][0]:
                queue.popleft()
            if queue and (due is None or queue[0][0] < due):
                due = queue[0][0]
        return due

    def run_timers(self, now: float) -> None:
        """Do what is due."""
        while self._resends and self._resends[0][0] <= now:
            when, _, transaction = heapq.heappop(self._resends)
            if transaction.resend_at == when:
                self._input(transaction, Input.RESEND, now)
        for queue in self._ends.values():
            while queue and queue[0][0] <= now:
                when, transaction = queue.popleft()
                if transaction.end_at == when:
                    self._input(transaction, Input.END, now)

    def _resend_in(self, transaction: Transaction, seconds: float, now: float) -> None:
        self._serial += 1
        transaction.resend_at = now + seconds
        heapq.heappush(self._resends, (transaction.resend_at, self._serial, transaction))

    def _end_in(self, transaction: Transaction, seconds: float, now: float) -> None:
        """Start the end timer; 0 seconds end the transaction at once."""
        if seconds <= 0:
            self._drop(transaction)
            return
        transaction.end_at = now + seconds
        queue = self._ends.get(seconds)
        if queue is None:
            queue = self._ends[seconds] = deque()
        queue.append((transaction.end_at, transaction))

    # -- the machines --------------------------------------------------------------------------------------------

    def _input(self, transaction: Transaction, happened: Input, now: float) -> None:
        if isinstance(transaction, ServerTransaction):
            self._server_input(transaction, happened, now)
        else:
            self._client_input(transaction, happened, now)

    def _server_input(
        self, transaction: ServerTransaction, happened: Input, now: float, *, response: Response | None = None
    ) -> None:
        table = INVITE_SERVER if transaction.invite else SERVER
        row = table.get((transaction.state, happened))
        if row is None:
            return
        transaction.state, do = row
        timers, reliable = self._timers, transaction.flow.reliable
        if response is not None:
            transaction.last = response.encode()
            self._sends.append(Send(transaction.last, transaction.flow))
            if do is Do.SEND_AND_WAIT:
                self._end_in(transaction, 0 if reliable and not transaction.invite else timers.transaction_s, now)
            elif do is Do.SEND_AND_RESEND:
                self._end_in(transaction, timers.transaction_s, now)
                if not reliable:
                    transaction.interval = timers.t1
                    self._resend_in(transaction, timers.t1, now)
        elif do is Do.REPEAT:
            if transaction.last:
                self._sends.append(Send(transaction.last, transaction.flow))
            if happened is Input.RESEND:
                transaction.interval = min(transaction.interval * 2, timers.t2)
                self._resend_in(transaction, transaction.interval, now)
        elif do is Do.ABSORB_AND_WAIT:
            transaction.resend_at = 0.0
            self._end_in(transaction, 0 if reliable else timers.t4, now)
        elif do is Do.REPORT_TIMEOUT:
            self._events.append(AckMissing(transaction.key))
        if transaction.state is State.TERMINATED:
            self._drop(transaction)

    def _client_input(
        self,
        transaction: ClientTransaction,
        happened: Input,
        now: float,
        *,
        response: Response | None = None,
        flow: Flow | None = None,
        why: str = "",
    ) -> None:
        invite = transaction.key.method == "INVITE"
        row = (INVITE_CLIENT if invite else CLIENT).get((transaction.state, happened))
        if row is None:
            return
        transaction.state, do = row
        if response is not None and do is not Do.ACK:
            self._take_response(transaction, do, response, flow or transaction.flow, now)
        elif do is Do.REPEAT:
            self._sends.append(Send(transaction.last, transaction.flow))
            proceeding = transaction.state is State.PROCEEDING
            doubled = transaction.interval * 2
            # timer A doubles without bound, timer E up to T2 (RFC 3261 17.1.1.2, 17.1.2.2)
            transaction.interval = (
                self._timers.t2 if proceeding else doubled if invite else min(doubled, self._timers.t2)
            )
            self._resend_in(transaction, transaction.interval, now)
        elif do is Do.ACK:
            self._sends.append(Send(transaction.last, transaction.flow))
        elif transaction.key.method == "CANCEL":
            pass  # its fate interests nobody: the INVITE reports its own
        elif do is Do.REPORT_TIMEOUT:
            self._events.append(BranchTimedOut(transaction.key))
        elif do is Do.REPORT_ERROR:
            self._events.append(BranchFailed(transaction.key, why))
        if transaction.state is State.TERMINATED:
            self._drop(transaction)

    def _take_response(
        self, transaction: ClientTransaction, do: Do, response: Response, flow: Flow, now: float
    ) -> None:
        timers, reliable = self._timers, transaction.flow.reliable
        invite = transaction.key.method == "INVITE"
        if transaction.key.method != "CANCEL":
            self._events.append(ResponseArrived(transaction.key, response, flow))
        if do is Do.PASS_AND_ACK:
            assert transaction.request is not None
            transaction.last = ack_for(transaction.request, response).encode()
            self._sends.append(Send(transaction.last, transaction.flow))
            self._settle(transaction)
            self._end_in(transaction, 0 if reliable else timers.wait_completed_s, now)
        elif do is Do.PASS_AND_WAIT:
            self._settle(transaction)
            wait = timers.transaction_s if invite else 0 if reliable else timers.t4
            self._end_in(transaction, wait, now)
        elif invite and transaction.state is State.PROCEEDING and not transaction.cancel_sent:
            transaction.resend_at = transaction.end_at = 0.0  # timers A and B stop; the proxy has timer C
            if transaction.cancel:
                self._send_cancel(transaction, now)

    @staticmethod
    def _settle(transaction: ClientTransaction) -> None:
        """The final response is there: nothing is resent, the request is no longer needed."""
        transaction.resend_at = 0.0
        transaction.request = None

    def _send_cancel(self, transaction: ClientTransaction, now: float) -> None:
        assert transaction.request is not None
        transaction.cancel_sent = True
        cancel = cancel_for(transaction.request)
        for name, value in transaction.cancel_headers:
            cancel.add(name.lower(), value)
        self.request(cancel, transaction.flow, now)
        self._end_in(transaction, self._timers.transaction_s, now)

    def _drop(self, transaction: Transaction) -> None:
        transaction.state = State.TERMINATED
        transaction.resend_at = transaction.end_at = 0.0
        if isinstance(transaction, ServerTransaction):
            self._servers.pop(transaction.key, None)
        else:
            self._clients.pop(transaction.key, None)


def server_key(request: Request, method: str) -> ServerKey:
    """Identity of the server transaction (RFC 3261 17.2.3); without a magic cookie, what RFC 2543 matched by."""
    via = request.via
    branch = via.branch
    if not branch.startswith(MAGIC_COOKIE):
        branch = f"{request.call_id} {request.cseq.number} {request.from_.tag} {request.uri_text} {branch}"
    return ServerKey(branch, via.sent_by, method)


def _kind(status: int) -> Input:
    return Input.PROVISIONAL if status < 200 else Input.SUCCESS if status < 300 else Input.FAILURE


def _tag(key: ServerKey) -> str:
    """A To tag for answers of the stack itself: the same for every retransmission."""
    return blake2b(key.branch.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
