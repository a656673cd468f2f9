"""One side of a call: an INVITE, the dialog it makes (RFC 3261 chapter 12), and how it ends. Knows no media."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiosipua import (
    Dialog,
    SipDigestAuth,
    SipRequest,
    SipResponse,
    build_credentials,
    create_dialog_from_request,
    generate_call_id,
    generate_tag,
    parse_address,
    parse_auth,
    stringify_auth,
    stringify_uri,
)
from aiosipua.dialog import dialog_matches, remote_cseq_valid

from nomad.demo.agent import Address, Agent, ClientTransaction, Seen, ServerTransaction

CANCEL_S = 2.0  # how long to wait for the 487 after a CANCEL
BYE_S = 5.0


@dataclass(frozen=True, slots=True)
class Invitation:
    """What an outgoing call needs."""

    uri: str  # Request-URI and To
    from_uri: str
    user: str  # of the Contact
    target: Address  # where to send, an outbound proxy for instance
    body: str
    auth: SipDigestAuth | None = None
    headers: Sequence[tuple[str, str]] = ()


class Leg:
    """What both directions share: the dialog, its in-dialog requests, its end."""

    def __init__(self, agent: Agent, dialog: Dialog, peer: Address) -> None:
        self.agent = agent
        self.dialog = dialog
        self.peer = peer  # where to send when neither route nor Contact is an address
        self.answered = False
        self.ended_by = ""  # "", us, peer
        self.ended = asyncio.Event()
        self.on_ended: Callable[[], None] = lambda: None
        self.on_reinvite: Callable[[ServerTransaction], None] = lambda transaction: self._refuse_reinvite(transaction)
        agent.dialogs[dialog.call_id, dialog.local_tag] = self._handle

    async def hangup(self) -> Seen | None:
        """BYE; the answer to it, or None when none came (or the call was over already)."""
        if self.ended.is_set() or not self.answered:
            return None
        self._end("us")
        bye = self._in_dialog("BYE")
        transaction = self.agent.request(bye, next_hop(self.dialog, self.peer))
        await transaction.final(BYE_S)
        return transaction.seen[-1] if transaction.seen else None

    def _in_dialog(self, method: str) -> SipRequest:
        host, port = self.agent.address
        return self.dialog.create_request(method, via_host=host, via_port=port)

    def _handle(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        if not dialog_matches(self.dialog, request):
            transaction.answer(481)
        elif not remote_cseq_valid(self.dialog, request):
            transaction.answer(500, "CSeq out of order")
        elif request.method == "BYE":
            transaction.answer(200, "OK")
            self._end("peer")
        elif request.method == "INVITE":
            self.on_reinvite(transaction)
        elif request.method in ("OPTIONS", "INFO") or (request.method == "UPDATE" and not request.body):
            transaction.answer(200, "OK")
        else:
            transaction.answer(405)

    def _end(self, by: str) -> None:
        if self.ended.is_set():
            return
        self.ended_by = by
        self.dialog.terminate()
        self.ended.set()
        self.agent.dialogs.pop((self.dialog.call_id, self.dialog.local_tag), None)
        self.on_ended()

    @staticmethod
    def _refuse_reinvite(transaction: ServerTransaction) -> None:
        transaction.answer(488)


class OutgoingLeg(Leg):
    """A call that we make."""

    def __init__(self, agent: Agent, invitation: Invitation) -> None:
        dialog = Dialog(
            call_id=generate_call_id(agent.address[0]),
            local_tag=generate_tag(),
            local_uri=invitation.from_uri,
            remote_uri=invitation.uri,
            remote_target=invitation.uri,
        )
        super().__init__(agent, dialog, invitation.target)
        self.seen: list[Seen] = []  # every response to every INVITE
        self.final: SipResponse | None = None
        self.on_ringing: Callable[[SipResponse], None] = lambda response: None
        self._invitation = invitation
        self._transaction: ClientTransaction | None = None
        self._cancelled = False

    @property
    def last(self) -> Seen:
        """The last response; status 0 when there was none."""
        return self.seen[-1] if self.seen else Seen(0, "no response", 0.0)

    async def dial(self, timeout_s: float = 30.0) -> bool:
        """INVITE, answering one challenge; True when the call is up. Cancels after the time-out."""
        credentials: tuple[str, str] | None = None
        for _ in range(2):
            response = await self._invite(credentials, timeout_s)
            auth = self._invitation.auth
            if response is None or response.status_code not in (401, 407) or auth is None or credentials:
                break
            credentials = answer_challenge(auth, response, method="INVITE", uri=self._invitation.uri)
            if credentials is None or self._cancelled:
                break
        self.final = response
        if not self.answered:
            self._end("peer" if response else "us")
        return self.answered

    def cancel(self) -> None:
        """Give up a call that is not answered yet."""
        self._cancelled = True
        if self._transaction is not None:
            self._transaction.cancel()

    async def _invite(self, credentials: tuple[str, str] | None, timeout_s: float) -> SipResponse | None:
        invitation = self._invitation
        invite = self._in_dialog("INVITE")
        invite.set_header("Contact", self.agent.contact(invitation.user))
        invite.set_header("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE")
        for name, value in (*invitation.headers, *([credentials] if credentials else [])):
            invite.set_header(name, value)
        invite.text = invitation.body
        invite.set_header("Content-Type", "application/sdp")
        transaction = self._transaction = self.agent.request(invite, invitation.target)
        transaction.on_provisional = self.on_ringing
        transaction.on_success = lambda response: self._success(invite, response)
        response = await transaction.final(timeout_s)
        if response is None:
            transaction.cancel()
            await transaction.final(CANCEL_S)  # a 2xx that crossed the CANCEL still makes the call
            response = self.final
        self.seen += transaction.seen
        return response

    def _success(self, invite: SipRequest, response: SipResponse) -> None:
        """Every 2xx is acknowledged, a repeated one too (RFC 3261 13.2.2.4)."""
        to, contact = response.to_addr, response.contact
        if not self.answered:
            self.final = response
            self.answered = True
            self.dialog.remote_tag = (to.tag if to else None) or ""
            self.dialog.remote_target = stringify_uri(contact[0].uri) if contact else invite.uri
            self.dialog.route_set = response.get_header_values("record-route")[::-1]  # RFC 3261 12.1.2
            self.dialog.confirm()
        elif to is None or to.tag != self.dialog.remote_tag:
            return  # a second fork answered; a forking proxy cancels it, nobody else is on the demo's wire
        ack = self._in_dialog("ACK")
        self.dialog.local_cseq -= 1  # the ACK takes the INVITE's number, not the next one
        ack.set_header("CSeq", f"{invite.cseq.seq if invite.cseq else 0} ACK")
        for name in ("Authorization", "Proxy-Authorization"):
            if value := invite.get_header(name):
                ack.set_header(name, value)
        self.agent.transport.send(ack, next_hop(self.dialog, self.peer))


class IncomingLeg(Leg):
    """A call that comes."""

    def __init__(self, agent: Agent, transaction: ServerTransaction, user: str) -> None:
        request = transaction.request
        dialog = create_dialog_from_request(request)
        dialog.route_set = list(request.get_header_values("record-route"))  # as received, RFC 3261 12.1.1
        super().__init__(agent, dialog, transaction.source)
        self.request = request
        self._transaction = transaction
        self._user = user
        transaction.on_cancel = self._cancelled

    def ring(self, body: str = "", *, status: int = 180, reason: str = "Ringing") -> None:
        """180, or 183 with early media."""
        self._answer(status, reason, body)

    def accept(self, body: str) -> None:
        """200 with our session description; nothing when the caller was quicker to cancel."""
        if self.ended.is_set() or self.answered:
            return
        self.answered = True
        self.dialog.confirm()
        self._answer(200, "OK", body)

    def reject(self, status: int, reason: str = "") -> None:
        """Refuse the call."""
        if self.ended.is_set() or self.answered:
            return
        self._answer(status, reason, "")
        self._end("us")

    def _answer(self, status: int, reason: str, body: str) -> None:
        response = self.dialog.create_response(
            self.request, status, reason, contact=self.agent.contact(self._user) if status < 300 else None
        )
        if status < 300:
            for route in self.request.get_header_values("record-route"):
                response.add_header("Record-Route", route)
        if body:
            response.text = body
            response.set_header("Content-Type", "application/sdp")
        self._transaction.respond(response)

    def _cancelled(self) -> None:
        if not self.answered and not self.ended.is_set():
            self._answer(487, "Request Terminated", "")
            self._end("peer")


def next_hop(dialog: Dialog, fallback: Address) -> Address:
    """Where an in-dialog request goes: first route, else the remote target (RFC 3261 8.1.2); names go to `fallback`."""
    uri = parse_address(dialog.route_set[0] if dialog.route_set else dialog.remote_target).uri
    try:
        ipaddress.ip_address(uri.host)
    except ValueError:
        return fallback
    return uri.host, uri.port or 5060


def answer_challenge(
    auth: SipDigestAuth, response: SipResponse, *, method: str, uri: str, nonce_count: int = 1
) -> tuple[str, str] | None:
    """The header that answers the first challenge that we can (RFC 8760 2.4), or None."""
    proxy = response.status_code == 407
    for line in response.get_header_values("proxy-authenticate" if proxy else "www-authenticate"):
        found = build_credentials(auth, parse_auth(line), method, uri, nonce_count=nonce_count)
        if found is not None:
            return "Proxy-Authorization" if proxy else "Authorization", stringify_auth(found)
    return None
