"""The STUN answerer on the SIP port."""

from __future__ import annotations

import struct

import pytest

from nomad.transport import stun

TRANSACTION = bytes(range(12))


def request(body: bytes = b"", *, kind: int = stun.BINDING_REQUEST, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return struct.pack("!HHI", kind, size, stun.MAGIC) + TRANSACTION + body


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def test_the_address_is_told_masked() -> None:
    answer = stun.answer(request(), ("192.0.2.1", 32853))
    assert answer is not None
    # The address and port of the sample IPv4 response in RFC 5769 2.2.
    assert answer[:20] == struct.pack("!HHI", stun.BINDING_SUCCESS, 12, stun.MAGIC) + TRANSACTION
    assert answer[20:] == bytes.fromhex("0020 0008 0001 a147 e112 a643".replace(" ", ""))


def test_an_ipv6_address() -> None:
    answer = stun.answer(request(), ("2001:db8::1", 5060))
    assert answer is not None
    assert len(answer) == 20 + 24
    masked = answer[28:]
    mask = struct.pack("!I", stun.MAGIC) + TRANSACTION
    plain = bytes(a ^ b for a, b in zip(masked, mask, strict=True))
    assert plain.hex() == "20010db8000000000000000000000001"


def test_harmless_attributes_are_passed_over() -> None:
    body = attribute(0x8022, b"a phone") + attribute(0x0006, b"user")
    answer = stun.answer(request(body), ("127.0.0.1", 1))
    assert answer is not None
    assert answer[:2] == b"\x01\x01"


def test_an_attribute_that_must_be_understood() -> None:
    answer = stun.answer(request(attribute(0x7001, b"abcd")), ("127.0.0.1", 1))
    assert answer is not None
    assert answer[:2] == b"\x01\x11"
    assert b"\x00\x00\x04\x14" in answer
    assert answer.endswith(struct.pack("!HHHH", stun.UNKNOWN_ATTRIBUTES, 2, 0x7001, 0))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        request()[:19],
        request(length=4),
        request(b"abc", length=3),
        request(kind=0x0101),
        request(kind=0x0003),
        request(struct.pack("!HH", 6, 200) + b"abcd"),
        request(attribute(0x8022, b"") * 40),
        request(attribute(0x8022, b"x" * 600)),
        b"\x00\x01\x00\x00abcd" + TRANSACTION,
        b"INVITE sip:x SIP/2.0\r\n\r\n",
    ],
)
def test_everything_else_is_not_answered(data: bytes) -> None:
    assert stun.answer(data, ("127.0.0.1", 1)) is None
