"""Phones for tests: the demo's softphone as a context manager, a scripted SIP peer, and a tiny digest registrar."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiosipua import Dialog, SipRequest, SipResponse, generate_tag, parse_auth

from nomad.demo.agent import Address, Agent, ServerTransaction
from nomad.demo.softphone import Account, Softphone

HOST = "127.0.0.1"
DOMAIN = "inria.example"


@asynccontextmanager
async def phone(user: str, password: str, *, edge: Address, domain: str = DOMAIN) -> AsyncIterator[Softphone]:
    """A started softphone; its ports are free again afterwards."""
    made = Softphone(Account(user, password, domain, edge))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


class Peer:
    """A SIP peer whose test decides on every answer; keeps every request, also repeats and ACKs."""

    def __init__(self, answer: Callable[[ServerTransaction], object]) -> None:
        self.agent = Agent(name="test-peer")
        self.agent.on_request = answer
        self.received: list[SipRequest] = []
        self._arrived = asyncio.Event()

    @property
    def address(self) -> Address:
        """Where the peer listens."""
        return self.agent.address

    async def __aenter__(self) -> Peer:
        await self.agent.start()
        deliver = self.agent.transport.on_message
        assert deliver is not None

        def keep(message: SipRequest | SipResponse, source: Address) -> None:
            if isinstance(message, SipRequest):
                self.received.append(message)
                self._arrived.set()
            deliver(message, source)

        self.agent.transport.on_message = keep
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.agent.stop()

    async def wait_for(self, method: str, *, count: int = 1, timeout_s: float = 3.0) -> SipRequest:
        """The newest request of a method, once so many have come."""
        async with asyncio.timeout(timeout_s):
            while True:
                found = [request for request in self.received if request.method == method]
                if len(found) >= count:
                    return found[-1]
                self._arrived.clear()
                await self._arrived.wait()


class TinyRegistrar:
    """Challenges every REGISTER and INVITE; what it lets through goes to `on_invite`, REGISTERs are granted."""

    def __init__(
        self, users: dict[str, str], *, min_expires_s: int = 0, algorithms: tuple[str, ...] = ("MD5",)
    ) -> None:
        self.users = users
        self.min_expires_s = min_expires_s
        self.algorithms = algorithms
        self.nonce = secrets.token_hex(8)
        self.counts: list[str] = []  # nc values that were accepted
        self.contacts: dict[str, int] = {}
        self.on_invite: Callable[[ServerTransaction], object] = lambda transaction: _say(transaction, 404, "Not Found")

    def answer(self, transaction: ServerTransaction) -> None:
        """To be a `Peer`'s script."""
        request = transaction.request
        register = request.method == "REGISTER"
        if request.method not in ("REGISTER", "INVITE"):
            transaction.answer(405)
        elif not self._proven(request):
            response = _response(transaction, 401 if register else 407, "Who Are You")
            for algorithm in self.algorithms:
                challenge = f'Digest realm="{DOMAIN}", nonce="{self.nonce}", algorithm={algorithm}, qop="auth"'
                response.add_header("WWW-Authenticate" if register else "Proxy-Authenticate", challenge)
            transaction.respond(response)
        elif not register:
            self.on_invite(transaction)
        else:
            self._register(transaction)

    def _register(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        expires_s = int(request.get_header("expires") or 3600)
        if 0 < expires_s < self.min_expires_s:
            response = _response(transaction, 423, "Interval Too Brief")
            response.set_header("Min-Expires", str(self.min_expires_s))
            transaction.respond(response)
            return
        contact = request.get_header("contact") or ""
        self.contacts.pop(contact, None)
        if expires_s:
            self.contacts[contact] = expires_s
        response = _response(transaction, 200, "OK")
        for known, granted_s in {"<sip:other@192.0.2.1>": 7, **self.contacts}.items():
            response.add_header("Contact", f"{known};expires={granted_s}")
        transaction.respond(response)

    def _proven(self, request: SipRequest) -> bool:
        line = request.get_header("authorization") or request.get_header("proxy-authorization")
        if not line:
            return False
        given = parse_auth(line, credentials=True).params
        secret = self.users.get(given["username"], "")

        def h(*parts: str) -> str:
            kind = "sha256" if given["algorithm"] == "SHA-256" else "md5"
            return hashlib.new(kind, ":".join(parts).encode()).hexdigest()

        ha2 = h(request.method, given["uri"])
        ha1 = h(given["username"], DOMAIN, secret)
        right = h(ha1, given["nonce"], given["nc"], given["cnonce"], "auth", ha2)
        if given["nonce"] != self.nonce or not secret or not hmac.compare_digest(right, given["response"]):
            return False
        self.counts.append(given["nc"])
        return True


def _response(transaction: ServerTransaction, status: int, reason: str) -> SipResponse:
    dialog = Dialog(call_id=transaction.request.call_id or "", local_tag=generate_tag())
    return dialog.create_response(transaction.request, status, reason)


def _say(transaction: ServerTransaction, status: int, reason: str) -> None:
    transaction.answer(status, reason)
