"""The demo's session descriptions: one G.711 audio stream, by aiosipua's SDP (RFC 4566, RFC 3264)."""

from __future__ import annotations

from dataclasses import dataclass

from aiosipua import SdpMessage, SdpNegotiationError, build_sdp, negotiate_sdp, parse_sdp, serialize_sdp

from nomad.demo.agent import Address
from nomad.demo.g711 import PCMA, PCMU


@dataclass(frozen=True, slots=True)
class Audio:
    """Where the peer wants its audio, and as what."""

    address: Address
    payload_type: int


def offer(host: str, port: int) -> str:
    """An offer of both G.711 laws, mu-law preferred."""
    session = build_sdp(host, port, PCMU, "PCMU")
    audio = session.media[0]
    audio.formats.insert(1, str(PCMA))
    audio.attributes["rtpmap"].insert(1, f"{PCMA} PCMA/8000")
    return serialize_sdp(session)


def answer(offered: str, host: str, port: int) -> tuple[str, Audio] | None:
    """An answer and what the offerer wants; None when the offer has nothing for us (488)."""
    try:
        session = parse_sdp(offered)
        answered, payload_type = negotiate_sdp(session, host, port, supported_codecs=[PCMU, PCMA])
        audio = _audio(session, payload_type)
    except (SdpNegotiationError, ValueError):
        return None
    return (serialize_sdp(answered), audio) if audio else None


def read_answer(text: str) -> Audio | None:
    """What the answerer chose; None when the answer has no G.711 audio."""
    try:
        session = parse_sdp(text)
    except ValueError:
        return None
    codecs = session.audio.codecs if session.audio else []
    chosen = next((codec.payload_type for codec in codecs if codec.payload_type in (PCMU, PCMA)), None)
    return None if chosen is None else _audio(session, chosen)


def _audio(session: SdpMessage, payload_type: int) -> Audio | None:
    address = session.rtp_address
    return Audio(address, payload_type) if address and 0 < address[1] < 65536 else None
