"""A small PBX for the demo: echo, tone, busy, and people's extensions, which it calls back through the edge.

It trusts one address only, the edge's, and remembers each call with the P-Asserted-Identity (RFC 3325) that it saw.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from aiosipua import parse_address, parse_uri

from nomad.demo import sdp
from nomad.demo.agent import Address, Agent, ServerTransaction
from nomad.demo.leg import IncomingLeg, Invitation, OutgoingLeg
from nomad.demo.rtp import Heard, RtpStream

ECHO = "1000"
TONE = "2000"
BUSY = "4486"
TONE_HZ = 700
TONE_S = 4.0
RING_S = 60.0
REFUSED = re.compile(r"4([3-6][0-9]{2})")  # 4XXX refuses with XXX: 4486 is busy
PEOPLE = re.compile(r"3[0-9]{3}")
OUTSIDE = re.compile(r"\+?[0-9]{2,3}|(?:\+|0)[0-9]{4,15}")  # the demo's public network: a tone answers
REASONS = {403: "Forbidden", 404: "Not Found", 480: "Temporarily Unavailable", 486: "Busy Here", 503: "Out Of Service"}


@dataclass(slots=True)
class PbxCall:
    """A call as the PBX saw it."""

    caller: str  # From
    asserted: str  # P-Asserted-Identity, "" when there was none
    callee: str
    source: Address
    status: int = 0  # our final answer
    packets: int = 0  # RTP packets that came, for calls that the PBX itself answered
    ended: bool = False


class Pbx:
    """The PBX on one UDP port. `trust` the edge before calls are let in."""

    def __init__(self, address: Address = ("127.0.0.1", 0)) -> None:
        self.agent = Agent(address, name="Nomad-demo-PBX")
        self.calls: list[PbxCall] = []
        self.untrusted: list[Address] = []  # where refused requests came from
        self._edge: Address | None = None
        self._streams: list[RtpStream] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> Address:
        """Where the PBX listens."""
        return self.agent.address

    async def start(self) -> None:
        """Listen."""
        await self.agent.start()
        self.agent.on_request = self._on_request

    def trust(self, edge: Address) -> None:
        """Take calls from this address only, and call people through it."""
        self._edge = edge

    async def stop(self) -> None:
        """Free all ports, at once."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.agent.stop()
        for stream in self._streams:
            stream.close()
            await stream.wait_closed()

    async def call(self, extension: str, *, timeout_s: float = 15.0) -> DeskCall:
        """Call a person's extension through the edge, as somebody at a desk would; plays the PBX's tone."""
        assert self._edge is not None, "trust() the edge first"
        media = await self._open()
        host, port = self.address
        leg = OutgoingLeg(
            self.agent,
            Invitation(
                uri=f"sip:{extension}@{self._edge[0]}:{self._edge[1]}",
                from_uri=f"sip:{ECHO}@{host}:{port}",
                user=ECHO,
                target=self._edge,
                body=sdp.offer(host, media.port),
            ),
        )
        leg.on_ended = media.silence
        if await leg.dial(timeout_s) and leg.final is not None:
            audio = sdp.read_answer(leg.final.text)
            if audio is not None:
                media.connect(audio.address, audio.payload_type)
                media.play(TONE_HZ)
        return DeskCall(leg, media)

    def _on_request(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        if self._edge is None or transaction.source != self._edge:
            self.untrusted.append(transaction.source)
            transaction.answer(403, REASONS[403])
        elif request.method == "OPTIONS":
            transaction.answer(200, "OK")
        elif request.method != "INVITE":
            transaction.answer(405)
        else:
            transaction.answer(100, "Trying")
            self._on_invite(transaction)

    def _on_invite(self, transaction: ServerTransaction) -> None:
        request = transaction.request
        extension = parse_uri(request.uri).user or ""
        asserted = request.get_header("p-asserted-identity") or ""
        leg = IncomingLeg(self.agent, transaction, extension)
        call = PbxCall(
            caller=leg.dialog.remote_uri,
            asserted=_address(asserted),
            callee=extension,
            source=transaction.source,
        )
        self.calls.append(call)

        def ended() -> None:
            call.ended = True

        leg.on_ended = ended
        refused = REFUSED.fullmatch(extension)
        if extension == ECHO:
            self._spawn(self._answer(leg, call, RtpStream.echo))
        elif extension == TONE or OUTSIDE.fullmatch(extension):
            self._spawn(self._answer(leg, call, lambda stream: stream.play(TONE_HZ), hangup_s=TONE_S))
        elif PEOPLE.fullmatch(extension):
            self._spawn(self._bridge(leg, call))
        else:
            call.status = int(refused.group(1)) if refused else 404
            leg.reject(call.status, REASONS.get(call.status, "Refused By The PBX"))

    async def _answer(
        self, leg: IncomingLeg, call: PbxCall, begin: Callable[[RtpStream], None], *, hangup_s: float | None = None
    ) -> None:
        """Answer a call ourselves and do something with its audio until it ends."""
        media = await self._open()
        found = sdp.answer(leg.request.text, self.address[0], media.port)
        if found is None:
            call.status = 488
            leg.reject(488)
            media.close()
            return
        body, audio = found
        media.connect(audio.address, audio.payload_type)
        call.status = 200
        leg.accept(body)
        begin(media)
        try:
            async with asyncio.timeout(hangup_s):
                await leg.ended.wait()
        except TimeoutError:
            await leg.hangup()
        call.packets = media.packets
        media.close()

    async def _bridge(self, leg: IncomingLeg, call: PbxCall) -> None:
        """A back-to-back user agent: the caller's offer goes to the person through the edge, the answer back."""
        assert self._edge is not None
        caller = call.asserted or call.caller
        other = OutgoingLeg(
            self.agent,
            Invitation(
                uri=f"sip:{call.callee}@{self._edge[0]}:{self._edge[1]}",
                from_uri=f"sip:{parse_uri(caller).user or 'anonymous'}@{self.address[0]}:{self.address[1]}",
                user=call.callee,
                target=self._edge,
                body=leg.request.text,
                headers=(("P-Asserted-Identity", f"<{caller}>"),),
            ),
        )
        other.on_ringing = lambda response: leg.ring() if response.status_code > 100 else None
        dialling = asyncio.create_task(other.dial(RING_S))
        caller_gone = asyncio.create_task(leg.ended.wait())
        try:
            await asyncio.wait([dialling, caller_gone], return_when=asyncio.FIRST_COMPLETED)
            if not dialling.done():
                other.cancel()
            if not await dialling:
                final = other.last
                call.status = final.status if final.status >= 300 else 480
                leg.reject(call.status, final.reason if final.status >= 300 else REASONS[480])
                return
            assert other.final is not None
            if caller_gone.done():
                await other.hangup()
                return
            call.status = 200
            leg.accept(other.final.text)
            called_gone = asyncio.create_task(other.ended.wait())
            await asyncio.wait([caller_gone, called_gone], return_when=asyncio.FIRST_COMPLETED)
            called_gone.cancel()
            await asyncio.gather(leg.hangup(), other.hangup())
        finally:
            dialling.cancel()
            caller_gone.cancel()

    async def _open(self) -> RtpStream:
        stream = await RtpStream.open(self.address[0])
        self._streams.append(stream)
        return stream

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@dataclass(frozen=True, slots=True)
class DeskCall:
    """A call that the PBX made."""

    leg: OutgoingLeg
    media: RtpStream

    async def hear(self, packets: int, *, hz: int, timeout_s: float = 5.0) -> Heard:
        """Wait for the phone's audio and say what it was."""
        return await self.media.hear(packets, hz=hz, timeout_s=timeout_s)


def _address(header: str) -> str:
    if not header:
        return ""
    uri = parse_address(header).uri
    return f"{uri.scheme}:{uri.user}@{uri.host}"
