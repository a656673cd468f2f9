"""Messages and keepalives cut out of a byte stream."""

import pytest

from nomad.sip.errors import SipError
from nomad.sip.framing import Keepalive, StreamFramer, content_length

PING, PONG = Keepalive.PING, Keepalive.PONG
SHORT = b"OPTIONS sip:a SIP/2.0\r\nTo: <sip:a>\r\nContent-Length: 0\r\n\r\n"
LONG = b"MESSAGE sip:a SIP/2.0\r\nl : 7\r\nContact: x\r\n\r\n\r\n\r\nabc"


def feed(data: bytes, step: int) -> tuple[list[bytes | Keepalive], SipError | None]:
    framer = StreamFramer()
    out: list[bytes | Keepalive] = []
    try:
        for start in range(0, len(data), step):
            out += framer.feed(data[start : start + step])
        out += framer.feed(b"")
    except SipError:
        pass
    return out, framer.failed


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (SHORT, [SHORT]),
        (SHORT + LONG + SHORT, [SHORT, LONG, SHORT]),
        (b"\r\n\r\n", [PING]),
        (b"\r\n\r\n\r\n\r\n" + SHORT, [PING, PING, SHORT]),
        (b"\r\n" + SHORT, [PONG, SHORT]),
        (b"\r\n\r\n\r\n" + SHORT + b"\r\n\r\n" + LONG, [PING, PONG, SHORT, PING, LONG]),
        (b"\r\n", []),
        (SHORT[:-1], []),
        (LONG[:-1], []),
    ],
)
def test_the_output_does_not_depend_on_the_pieces(data: bytes, expected: list[bytes | Keepalive], step: int) -> None:
    assert feed(data, step) == (expected, None)


def test_what_waits() -> None:
    framer = StreamFramer()
    assert (framer.pending_bytes, framer.in_message, framer.failed) == (0, False, None)
    framer.feed(b"\r\n")
    assert (framer.pending_bytes, framer.in_message) == (2, False)
    framer.feed(b"OPT")
    assert (framer.pending_bytes, framer.in_message) == (3, True)
    framer.feed(SHORT[3:])
    assert (framer.pending_bytes, framer.in_message) == (0, False)


@pytest.mark.parametrize("step", [1, 5, 1000])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x16\x03\x01", "start-line"),
        (b" OPTIONS", "start-line"),
        (b"\rOPTIONS", "line-end"),
        (b"\n", "line-end"),
        (b"\r\n\rX", "line-end"),
        (b"A b SIP/2.0\r\nTo: x\r\n\r\n", "content-length"),
        (b"A\r\nl: 1\r\nContent-Length: 1\r\n\r\n", "content-length"),
        (b"A\r\nl: -1\r\n\r\n", "content-length"),
        (b"A\r\nl: \xd9\xa3\r\n\r\n", "content-length"),
        (b"A\r\nl:\r\n\r\n", "content-length"),
        (b"A\r\nl: 99999999999\r\n\r\n", "content-length"),
        (b"A\r\nl: 65536\r\n\r\n", "too-large"),
        (b"A" * 40_000, "too-large"),
    ],
)
def test_streams_that_cannot_be_followed(data: bytes, reason: str, step: int) -> None:
    out, error = feed(SHORT + data, step)
    assert out[0] == SHORT
    assert error is not None
    assert error.reason == reason


def test_what_stood_before_the_fault_is_handed_out_and_the_fault_stays() -> None:
    framer = StreamFramer()
    assert framer.feed(SHORT + b"\x00") == [SHORT]
    assert framer.failed is not None
    for data in (b"", SHORT):
        with pytest.raises(SipError):
            framer.feed(data)
    assert framer.pending_bytes == 0


def test_bounds_can_be_set() -> None:
    head = b"A\r\nl: 5"
    assert StreamFramer(max_head=len(head), max_body=5).feed(head + b"\r\n\r\n12345") == [head + b"\r\n\r\n12345"]
    with pytest.raises(SipError):
        StreamFramer(max_head=len(head) - 1).feed(head + b"\r\n\r\n12345")
    with pytest.raises(SipError):
        StreamFramer(max_body=4).feed(head + b"\r\n\r\n12345")


def test_content_length_in_all_its_forms() -> None:
    for line in (
        b"Content-Length: 12",
        b"l:12",
        b"L \t:\t12 ",
        b"CONTENT-LENGTH:0012",
        b"Content-Length:\r\n 12",
        b"l:\r\n\t\r\n 12",
    ):
        assert content_length(b"A\r\nCall-ID: 5\r\nLike: 3\r\n" + line + b"\r\nTo: x") == 12
