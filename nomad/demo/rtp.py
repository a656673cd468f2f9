"""RTP on one UDP socket (RFC 3550 5.1): send a tone or echo what comes, count and measure what comes back.

G.711 only, 20 ms packets, no RTCP. aiosipua leaves media to a package that the demo does not need otherwise.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections import deque
from dataclasses import dataclass
from typing import cast

from nomad.demo import g711

PACKET_S = 0.020
HEADER = struct.Struct("!BBHII")
KEPT_PACKETS = 50  # what the tone check looks at: the last second
TONE_FOUND = 0.8  # share of the energy that makes a tone "heard"


@dataclass(frozen=True, slots=True)
class Heard:
    """What a stream had received when it was asked."""

    packets: int
    lost: int
    sent: int
    hz: int
    share: float  # of the energy of the last second that is at `hz`

    @property
    def tone(self) -> bool:
        """Whether the tone was there, beyond doubt."""
        return self.share >= TONE_FOUND


@dataclass(frozen=True, slots=True)
class Packet:
    """The parts of an RTP packet that matter here."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes

    def encode(self) -> bytes:
        """As it goes on the wire, without padding, extension or contributing sources."""
        kind = self.payload_type | (0x80 if self.marker else 0)
        return HEADER.pack(0x80, kind, self.sequence, self.timestamp, self.ssrc) + self.payload


def parse_packet(data: bytes) -> Packet | None:
    """An RTP packet, or None when the bytes are none (RFC 3550 5.1, A.1)."""
    if len(data) < HEADER.size or data[0] >> 6 != 2:
        return None
    first, kind, sequence, timestamp, ssrc = HEADER.unpack_from(data)
    start = HEADER.size + 4 * (first & 0x0F)
    if first & 0x10:
        if len(data) < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    end = len(data) - (data[-1] if first & 0x20 else 0)
    if start > end:
        return None
    return Packet(kind & 0x7F, bool(kind & 0x80), sequence, timestamp, ssrc, data[start:end])


class RtpStream(asyncio.DatagramProtocol):
    """One end of an audio stream. Open it, `connect` it to what the SDP says, then `play` or `echo`."""

    def __init__(self) -> None:
        self.port = 0
        self.packets = 0
        self.sent = 0
        self.echoing = False
        self._transport: asyncio.DatagramTransport | None = None
        self._lost: asyncio.Event | None = None
        self._remote: tuple[str, int] | None = None
        self._payload_type = g711.PCMU
        self._recent: deque[Packet] = deque(maxlen=KEPT_PACKETS)
        self._first_sequence = 0
        self._highest = 0
        self._tone: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._ssrc = secrets.randbits(32)
        self._sequence = secrets.randbits(15)
        self._timestamp = secrets.randbits(31)
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @classmethod
    async def open(cls, host: str) -> RtpStream:
        """A stream on a free port of an address."""
        loop = asyncio.get_running_loop()
        transport, stream = await loop.create_datagram_endpoint(cls, local_addr=(host, 0))
        stream.port = transport.get_extra_info("sockname")[1]
        return stream

    def connect(self, remote: tuple[str, int], payload_type: int) -> None:
        """Where to send and as what; from the peer's SDP."""
        self._remote = remote
        self._payload_type = payload_type

    def play(self, hz: int) -> None:
        """Send a tone from now on, a packet every 20 ms."""
        self._tone = g711.tone_packets(hz, self._payload_type)
        if self._timer is None:
            self._due = asyncio.get_running_loop().time()
            self._tick()

    def echo(self) -> None:
        """Send back whatever comes."""
        self.echoing = True

    def silence(self) -> None:
        """Stop sending."""
        self.echoing = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def heard(self, hz: int) -> Heard:
        """What came so far, and how much of the last second is this tone."""
        samples = [
            sample
            for packet in self._recent
            if packet.payload_type in g711.DECODE
            for sample in g711.decode(packet.payload, packet.payload_type)
        ]
        expected = self._highest - self._first_sequence + 1 if self.packets else 0
        lost = max(expected - self.packets, 0)
        return Heard(self.packets, lost, self.sent, hz, g711.tone_share(samples, hz))

    async def hear(self, packets: int, *, hz: int, timeout_s: float) -> Heard:
        """Wait until so many packets have come (or the time is over), then say what was heard."""
        if self.packets < packets:
            arrived = asyncio.get_running_loop().create_future()
            self._waiting.append((packets, arrived))
            await asyncio.wait([arrived], timeout=timeout_s)
            arrived.cancel()
        return self.heard(hz)

    def close(self) -> None:
        """Stop and free the port."""
        self.silence()
        for _, arrived in self._waiting:
            arrived.cancel()
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Return when the port is really free; close first."""
        if self._lost is not None:
            await self._lost.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.DatagramTransport, transport)  # Python 3.11 and uvloop do not derive theirs
        self._lost = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        assert self._lost is not None
        self._lost.set()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Called by asyncio."""
        packet = parse_packet(data)
        if packet is None:
            return
        # Symmetric RTP (RFC 4961): a softphone's SDP often names another interface than the one it sends from.
        self._remote = (addr[0], addr[1])
        self._count(packet)
        if self.echoing:
            self._send(packet.payload_type, packet.marker, packet.timestamp, packet.payload)

    def error_received(self, exc: Exception) -> None:
        """Called by asyncio; the peer hung up first, its port is gone."""

    def _count(self, packet: Packet) -> None:
        if not self.packets:
            self._first_sequence = self._highest = packet.sequence
        step = (packet.sequence - self._highest) & 0xFFFF
        if step < 0x8000:
            self._highest += step  # extended: sequence numbers wrap after 22 minutes (RFC 3550 A.1)
        self.packets += 1
        self._recent.append(packet)
        for entry in [entry for entry in self._waiting if self.packets >= entry[0]]:
            self._waiting.remove(entry)
            if not entry[1].done():
                entry[1].set_result(None)

    def _tick(self) -> None:
        payload = self._tone[self.sent % len(self._tone)]
        self._send(self._payload_type, self.sent == 0, self._timestamp, payload)
        self._timestamp = (self._timestamp + g711.PACKET_SAMPLES) & 0xFFFFFFFF
        self._due += PACKET_S
        self._timer = asyncio.get_running_loop().call_at(self._due, self._tick)

    def _send(self, payload_type: int, marker: bool, timestamp: int, payload: bytes) -> None:
        if self._transport is None or self._transport.is_closing() or self._remote is None:
            return
        packet = Packet(payload_type, marker, self._sequence, timestamp, self._ssrc, payload)
        self._transport.sendto(packet.encode(), self._remote)
        self._sequence = (self._sequence + 1) & 0xFFFF
        self.sent += 1
