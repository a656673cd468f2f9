"""A softphone without a screen: registers, calls, answers, plays a tone and measures what it hears.

Results are values that tell what was seen on the wire. UDP only; signalling in `agent.py` and `leg.py`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiosipua import SipDigestAuth, SipRequest, SipResponse, generate_call_id, generate_tag

from nomad.demo import sdp
from nomad.demo.agent import Address, Agent, Seen, ServerTransaction
from nomad.demo.leg import IncomingLeg, Invitation, OutgoingLeg, answer_challenge
from nomad.demo.rtp import Heard, RtpStream

TONE_HZ = 440
REFRESH_AT = 0.9  # of the granted time
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class Account:
    """Who the phone is and where it registers."""

    user: str
    password: str
    domain: str
    edge: Address  # outbound proxy and registrar

    @property
    def uri(self) -> str:
        """The address of record."""
        return f"sip:{self.user}@{self.domain}"


@dataclass(frozen=True, slots=True)
class Registered:
    """What became of a REGISTER: every final response in order, and the time that the registrar granted."""

    seen: tuple[Seen, ...]
    expires_s: int

    @property
    def ok(self) -> bool:
        """Whether the registrar accepted it."""
        return bool(self.seen) and self.seen[-1].status == 200

    @property
    def last(self) -> Seen:
        """The last response; status 0 when there was none."""
        return self.seen[-1] if self.seen else Seen(0, "no response", 0.0)

    @property
    def ms(self) -> float:
        """All round trips together."""
        return sum(seen.ms for seen in self.seen)


class PhoneCall:
    """A call of the phone, in either direction, with its audio."""

    def __init__(self, leg: OutgoingLeg | IncomingLeg, media: RtpStream) -> None:
        self.leg = leg
        self.media = media
        leg.on_ended = media.silence

    @property
    def answered(self) -> bool:
        """Whether the call is or was up."""
        return self.leg.answered

    @property
    def seen(self) -> tuple[Seen, ...]:
        """Responses to our INVITEs, in order; none for a call that came."""
        return tuple(self.leg.seen) if isinstance(self.leg, OutgoingLeg) else ()

    @property
    def last(self) -> Seen:
        """The last response to our INVITEs; status 0 when there was none."""
        return self.seen[-1] if self.seen else Seen(0, "no response", 0.0)

    @property
    def caller(self) -> str:
        """The From URI of a call that came."""
        return self.leg.dialog.remote_uri

    async def answer(self) -> bool:
        """Pick up a ringing call and play the tone; False when it was over already or offers nothing for us."""
        assert isinstance(self.leg, IncomingLeg)
        found = sdp.answer(self.leg.request.text, self.leg.agent.address[0], self.media.port)
        if found is None:
            self.leg.reject(488)
            return False
        body, audio = found
        self.leg.accept(body)
        if not self.answered:
            return False
        self.media.connect(audio.address, audio.payload_type)
        self.media.play(TONE_HZ)
        return True

    def reject(self, status: int = 486, reason: str = "Busy Here") -> None:
        """Refuse a ringing call."""
        assert isinstance(self.leg, IncomingLeg)
        self.leg.reject(status, reason)

    def cancel(self) -> None:
        """Give up a call of ours that is not answered yet."""
        assert isinstance(self.leg, OutgoingLeg)
        self.leg.cancel()

    async def hear(self, packets: int = 25, *, hz: int = TONE_HZ, timeout_s: float = 5.0) -> Heard:
        """Wait for audio and say what it was."""
        return await self.media.hear(packets, hz=hz, timeout_s=timeout_s)

    async def hangup(self) -> Seen | None:
        """BYE; the answer to it."""
        return await self.leg.hangup()

    async def wait_ended(self, timeout_s: float = 5.0) -> str:
        """Who ended the call, "us" or "peer"; "" when it is still up after the time-out."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.leg.ended.wait()
        except TimeoutError:
            pass
        return self.leg.ended_by


class Softphone:
    """One account on one UDP port."""

    def __init__(self, account: Account, *, address: Address = ("127.0.0.1", 0), name: str = "Nomad-softphone") -> None:
        self.account = account
        self.agent = Agent(address, name=name)
        self.refreshes = 0
        self.ringing: asyncio.Queue[PhoneCall] = asyncio.Queue()
        self.calls: list[PhoneCall] = []
        self._auth = SipDigestAuth(account.user, account.password)
        self._call_id = ""
        self._tag = generate_tag()
        self._cseq = 0
        self._challenge: SipResponse | None = None
        self._nonce_count = 0
        self._refresh: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        await self.agent.start()
        self._call_id = generate_call_id(self.agent.address[0])
        self.agent.on_request = self._on_request

    async def stop(self) -> None:
        """Free all ports; says no goodbye, see `unregister` and `PhoneCall.hangup`."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.agent.stop()
        for call in self.calls:
            call.media.close()
            await call.media.wait_closed()

    async def register(self, expires_s: int = 3600) -> Registered:
        """REGISTER, answering the challenge; refreshed from then on before the granted time is over."""
        if self._refresh is not None:
            self._refresh.cancel()
        seen: list[Seen] = []
        credentials = self._credentials()
        challenged = False
        while True:
            request = self._register_request(expires_s, credentials)
            transaction = self.agent.request(request, self.account.edge)
            response = await transaction.final(ANSWER_S)
            if response is None:
                return Registered(tuple(seen), 0)
            seen.append(transaction.seen[-1])
            if response.status_code in (401, 407) and not challenged:
                challenged = True
                self._challenge, self._nonce_count = response, 0
                credentials = self._credentials()
                if credentials is not None:
                    continue
            lowest = response.get_header("min-expires") or ""
            if response.status_code == 423 and lowest.isdecimal() and int(lowest) > expires_s > 0:
                expires_s = int(lowest)
                credentials = self._credentials()
                continue
            break
        granted_s = self._granted_s(response, expires_s) if response.status_code == 200 else 0
        if granted_s and expires_s:
            self._refresh = self.agent.timers.after(granted_s * REFRESH_AT, lambda: self._spawn_refresh(expires_s))
        return Registered(tuple(seen), granted_s)

    async def unregister(self) -> Registered:
        """Remove our binding."""
        return await self.register(0)

    async def call(self, number: str, *, timeout_s: float = 30.0) -> PhoneCall:
        """Call a number or user of our domain (or a whole SIP URI) and play the tone once it is answered."""
        call, answering = await self.start_call(number, timeout_s=timeout_s)
        await answering
        return call

    async def start_call(self, number: str, *, timeout_s: float = 30.0) -> tuple[PhoneCall, asyncio.Task[None]]:
        """The same without waiting: the call, and the task that ends with its final response."""
        media = await RtpStream.open(self.agent.address[0])
        invitation = Invitation(
            uri=number if number.startswith("sip:") else f"sip:{number}@{self.account.domain}",
            from_uri=self.account.uri,
            user=self.account.user,
            target=self.account.edge,
            body=sdp.offer(self.agent.address[0], media.port),
            auth=self._auth,
        )
        leg = OutgoingLeg(self.agent, invitation)
        call = PhoneCall(leg, media)
        self.calls.append(call)

        async def dial() -> None:
            if not await leg.dial(timeout_s):
                return
            audio = sdp.read_answer(leg.final.text) if leg.final else None
            if audio is not None:
                media.connect(audio.address, audio.payload_type)
                media.play(TONE_HZ)

        task = asyncio.create_task(dial())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return call, task

    async def wait_ringing(self, timeout_s: float = 5.0) -> PhoneCall | None:
        """The next call that comes; None when none came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self.ringing.get()
        except TimeoutError:
            return None

    def _on_request(self, transaction: ServerTransaction) -> None:
        method = transaction.request.method
        if method != "INVITE":
            transaction.answer(200, "OK") if method == "OPTIONS" else transaction.answer(405)
            return
        leg = IncomingLeg(self.agent, transaction, self.account.user)
        leg.ring()
        task = asyncio.create_task(self._announce(leg))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _announce(self, leg: IncomingLeg) -> None:
        call = PhoneCall(leg, await RtpStream.open(self.agent.address[0]))
        self.calls.append(call)
        self.ringing.put_nowait(call)

    def _register_request(self, expires_s: int, credentials: tuple[str, str] | None) -> SipRequest:
        self._cseq += 1
        request = SipRequest(method="REGISTER", uri=f"sip:{self.account.domain}")
        for name, value in (
            ("Via", self.agent.via()),
            ("From", f"<{self.account.uri}>;tag={self._tag}"),
            ("To", f"<{self.account.uri}>"),
            ("Call-ID", self._call_id),
            ("CSeq", f"{self._cseq} REGISTER"),
            ("Max-Forwards", "70"),
            ("Contact", self.agent.contact(self.account.user)),
            ("Expires", str(expires_s)),
            *([credentials] if credentials else []),
        ):
            request.set_header(name, value)
        return request

    def _credentials(self) -> tuple[str, str] | None:
        """Credentials for the newest challenge; the same nonce serves again with a higher count (RFC 7616 3.4)."""
        if self._challenge is None:
            return None
        self._nonce_count += 1
        uri = f"sip:{self.account.domain}"
        return answer_challenge(self._auth, self._challenge, method="REGISTER", uri=uri, nonce_count=self._nonce_count)

    def _granted_s(self, response: SipResponse, wanted_s: int) -> int:
        """Contact's `expires`, else the header (RFC 3261 10.2.4); the answer lists other phones' bindings too."""
        host, port = self.agent.address
        for contact in response.contact:
            if (contact.uri.host, contact.uri.port) == (host, port):
                text = contact.params.get("expires") or response.get_header("expires") or ""
                return int(text) if text.isdecimal() else wanted_s
        return 0

    def _spawn_refresh(self, expires_s: int) -> None:
        async def refresh() -> None:
            self.refreshes += 1
            await self.register(expires_s)

        task = asyncio.create_task(refresh())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
