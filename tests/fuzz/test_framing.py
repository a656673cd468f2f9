"""A stream fed whole, byte by byte or in any pieces gives the same messages, keepalives and fault."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nomad.sip.errors import SipError
from nomad.sip.framing import Keepalive, StreamFramer
from nomad.sip.message import parse_message
from tests.fuzz.strategies import stream

Outcome = tuple[list[bytes | Keepalive], str, int]


def run(pieces: list[bytes]) -> Outcome:
    framer = StreamFramer(max_head=120, max_body=40)
    out: list[bytes | Keepalive] = []
    try:
        for piece in pieces:
            out += framer.feed(piece)
        out += framer.feed(b"")
    except SipError:
        assert framer.failed is not None
    return out, framer.failed.reason if framer.failed else "", framer.pending_bytes


@given(stream, st.lists(st.integers(0, 400), max_size=6))
def test_pieces_do_not_matter(data: bytes, cuts: list[int]) -> None:
    whole = run([data])
    assert run([data[i : i + 1] for i in range(len(data))]) == whole
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    assert run([data[a:b] for a, b in pairwise(edges)]) == whole


@given(stream)
def test_nothing_is_lost_or_invented(data: bytes) -> None:
    out, fault, pending = run([data])
    whole = b"".join([piece if isinstance(piece, bytes) else piece_bytes(piece) for piece in out])
    assert data.startswith(whole)
    if not fault:
        assert len(whole) + pending == len(data)


def piece_bytes(piece: Keepalive) -> bytes:
    return b"\r\n\r\n" if piece is Keepalive.PING else b"\r\n"


@given(stream)
def test_the_parser_sees_the_same_end_of_the_body_as_the_framer(data: bytes) -> None:
    for piece in run([data])[0]:
        if isinstance(piece, bytes):
            try:
                message = parse_message(piece)
            except SipError:
                continue
            assert piece.endswith(b"\r\n\r\n" + message.body)
