"""radius.ldapwire against ldap3's own encoder, and against hostile octets."""

from __future__ import annotations

import ldap3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3.operation.search import search_operation
from ldap3.protocol.rfc4511 import LDAPMessage, MessageID, ProtocolOp
from ldap3.utils.asn1 import encode
from ldap3.utils.conv import escape_filter_chars

from radius.errors import PacketError
from radius.ldapwire import Found, Search, message_length, take

BASE = "ou=people,dc=x"
ATTRIBUTES = [f"attribute{number}" for number in range(20)]


@pytest.mark.parametrize("value", ["alice", "a*)(b\\", "é" * 200])
@pytest.mark.parametrize("id", [1, 127, 128, 70_000])
def test_request_is_octet_for_octet_that_of_ldap3(value: str, id: int) -> None:
    text = escape_filter_chars(value)
    operation = search_operation(
        BASE, f"(|(uid={text})(mail={text}))", ldap3.SUBTREE, ldap3.DEREF_NEVER, ATTRIBUTES, 2, 0, False, False, True
    )
    message = LDAPMessage()
    message["messageID"] = MessageID(id)
    message["protocolOp"] = ProtocolOp().setComponentByName("searchRequest", operation)
    assert Search(BASE, ["uid", "mail"], ATTRIBUTES).request(id, value) == encode(message)


def tlv(tag: int, *parts: bytes) -> bytes:
    value = b"".join(parts)
    return bytes((tag, 0x82)) + len(value).to_bytes(2, "big") + value


def entry(id: int = 1) -> bytes:
    attributes = [
        tlv(0x30, tlv(4, b"UID"), tlv(0x31, tlv(4, b"alice"))),
        tlv(0x30, tlv(4, b"mail;lang-fr"), tlv(0x31, tlv(4, b"a@x"), tlv(4, b"b@x"))),
        tlv(0x30, tlv(4, b"empty"), tlv(0x31)),
    ]
    return tlv(0x30, tlv(2, bytes([id])), tlv(0x64, tlv(4, b"uid=alice"), tlv(0x30, *attributes)))


def done(id: int = 1, code: int = 0, tag: int = 0x65) -> bytes:
    return tlv(0x30, tlv(2, bytes([id])), tlv(tag, tlv(0x0A, bytes([code])), tlv(4), tlv(4, b"text")))


def test_answers() -> None:
    found = Found()
    for message in (entry(), tlv(0x30, tlv(2, b"\x01"), tlv(0x73, tlv(4, b"ldap://other"))), done(code=4)):
        assert message_length(message + b"more") == len(message)
        take(message, 1, found)
    assert found.entries == [{"uid": [b"alice"], "mail": [b"a@x", b"b@x"], "empty": []}]
    assert (found.code, found.text) == (4, "text")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (done(id=2), "another request"),
        (done(id=0, tag=0x78), "ends the connection"),
        (done(tag=0x61), "unexpected"),
        (b"\x30\x00", "cut short"),
        (b"\x30\x03\x02\x09\x01", "longer than"),
        (b"\x30\x03\x02\x80\x01", "no definite"),
    ],
)
def test_nonsense_is_refused(message: bytes, text: str) -> None:
    with pytest.raises(PacketError, match=text):
        take(message, 1, Found())


def test_message_length() -> None:
    assert [message_length(octets) for octets in (b"", b"\x30", b"\x30\x05", b"\x30\x82\x01")] == [0, 0, 7, 0]
    for wrong in (b"GET /", b"\x30\x80", b"\x30\x85\x01\x01\x01\x01\x01", b"\x30\x84\xff\xff\xff\xff"):
        with pytest.raises(PacketError):
            message_length(wrong)


@given(st.binary(max_size=60), st.integers(min_value=0, max_value=len(entry()) - 1))
def test_only_packet_error_leaves_the_reader(noise: bytes, at: int) -> None:
    whole = entry()
    for message in (noise, whole[:at] + noise + whole[at:], whole[:at] + noise[:1] + whole[at + 1 :]):
        try:
            take(message, 1, Found())
        except PacketError:
            pass
