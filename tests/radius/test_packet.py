"""radius.packet against pyrad, attribute by attribute, and against hostile octets."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrad.packet import AccountingRequest, AcctPacket, AuthPacket, CoAPacket, Packet

from radius import packet as wire
from radius.attributes import dictionary, encode
from radius.errors import EncodingError, PacketError
from radius.packet import Code, Type

SECRET = b"s3cret"
NONCE = bytes(range(16))
BODY = encode([("User-Name", "alice"), ("NAS-Identifier", "edge"), ("Nomad-Address", "alice@inria.example")])


def request(code: int = Code.ACCESS_REQUEST, body: bytes = BODY, *, sign: bool = True) -> bytes:
    return wire.encode_request(code, 7, body, secret=SECRET, nonce=NONCE, sign=sign)


def reply(code: int, asked: bytes, body: bytes = b"", *, sign: bool = True, secret: bytes = SECRET) -> bytes:
    return wire.encode_reply(code, wire.decode(asked), body, secret=secret, sign=sign)


def test_pyrad_reads_and_verifies_our_access_request() -> None:
    data = request()
    theirs = AuthPacket(packet=data, secret=SECRET, dict=dictionary())
    assert theirs.verify_message_authenticator()
    assert theirs["User-Name"] == ["alice"]
    assert theirs["Nomad-Address"] == ["alice@inria.example"]
    assert data[20] == Type.MESSAGE_AUTHENTICATOR, "first of all (CVE-2024-3596)"


def test_access_request_is_octet_for_octet_that_of_pyrad() -> None:
    theirs = AuthPacket(id=7, secret=SECRET, authenticator=NONCE, dict=dictionary())
    theirs.add_message_authenticator()
    theirs["User-Name"] = "alice"
    theirs["NAS-Identifier"] = "edge"
    theirs["Nomad-Address"] = "alice@inria.example"
    assert theirs.RequestPacket() == request()


@pytest.mark.parametrize("sign", [True, False])
def test_accounting_request_is_octet_for_octet_that_of_pyrad(sign: bool) -> None:
    theirs = AcctPacket(code=AccountingRequest, id=7, secret=SECRET, dict=dictionary())
    if sign:
        theirs.add_message_authenticator()
    pairs: list[tuple[str, str | int | bytes]] = [
        ("Acct-Status-Type", "Stop"),
        ("Acct-Session-Time", 61),
        ("Event-Timestamp", 1_700_000_000),
    ]
    for name, value in pairs:
        theirs.AddAttribute(name, value)
    assert theirs.RequestPacket() == request(Code.ACCOUNTING_REQUEST, encode(pairs), sign=sign)


def test_pyrad_verifies_our_disconnect_request_and_its_answer() -> None:
    data = request(Code.DISCONNECT_REQUEST)
    theirs = CoAPacket(packet=data, secret=SECRET, dict=dictionary())
    assert theirs.VerifyCoARequest()
    assert theirs.verify_message_authenticator()
    answer = reply(Code.DISCONNECT_ACK, data)
    assert theirs.VerifyReply(theirs.CreateReply(packet=answer), enforce_ma=True)


@pytest.mark.parametrize("code", [Code.ACCESS_ACCEPT, Code.ACCESS_REJECT, Code.ACCESS_CHALLENGE])
def test_pyrad_verifies_our_replies(code: Code) -> None:
    data = request()
    theirs = AuthPacket(packet=data, secret=SECRET, dict=dictionary())
    assert theirs.VerifyReply(theirs.CreateReply(packet=reply(code, data, BODY)), enforce_ma=True)


@pytest.mark.parametrize("code", [Code.ACCESS_REQUEST, Code.ACCOUNTING_REQUEST, Code.STATUS_SERVER])
def test_we_verify_replies_of_pyrad(code: Code) -> None:
    data = request(code)
    theirs = Packet(code=code, packet=data, secret=SECRET, dict=dictionary())
    answer_code = Code.ACCOUNTING_RESPONSE if code == Code.ACCOUNTING_REQUEST else Code.ACCESS_ACCEPT
    answer = theirs.CreateReply(code=answer_code, User_Name="alice")
    answer.add_message_authenticator()
    packet = wire.decode(answer.ReplyPacket())
    wire.verify_reply(packet, code, data[4:20], SECRET, require_mac=True)
    assert packet.text(Type.USER_NAME) == "alice"


def test_proxy_state_is_echoed_in_order() -> None:
    states = encode([("Proxy-State", b"one"), ("Proxy-State", b"two")])
    answer = wire.decode(reply(Code.ACCESS_REJECT, request(body=states)))
    assert answer.get_all(Type.PROXY_STATE) == [b"one", b"two"]


def check(data: bytes, asked: bytes, *, require_mac: bool = True, secret: bytes = SECRET) -> None:
    wire.verify_reply(wire.decode(data), asked[0], asked[4:20], secret, require_mac=require_mac)


def test_forged_replies_are_refused() -> None:
    asked = request()
    good = reply(Code.ACCESS_ACCEPT, asked, BODY)
    check(good, asked)
    for wrong, reason in (
        (reply(Code.ACCESS_ACCEPT, asked, BODY, secret=b"guess"), "authenticator"),
        (reply(Code.ACCESS_ACCEPT, request(body=b"")[:4] + bytes(16) + request(body=b"")[20:], BODY), "authenticator"),
        (reply(Code.ACCESS_ACCEPT, asked, BODY, sign=False), "message-authenticator-missing"),
        (reply(Code.ACCOUNTING_RESPONSE, asked, BODY), "code"),
        (reply(99, asked, BODY), "code"),
    ):
        with pytest.raises(PacketError) as caught:
            check(wrong, asked)
        assert caught.value.reason == reason


def test_reply_with_right_hash_but_wrong_message_authenticator_is_refused() -> None:
    """What a forger with an MD5 collision could make (BlastRADIUS): a good Response Authenticator, no good MAC."""
    asked = request()
    good = bytearray(reply(Code.ACCESS_ACCEPT, asked, BODY))
    good[25] ^= 1
    good[4:20] = hashlib.md5(bytes(good[:4]) + asked[4:20] + bytes(good[20:]) + SECRET).digest()
    with pytest.raises(PacketError, match="Message-Authenticator"):
        check(bytes(good), asked, require_mac=False)


def test_proxy_state_that_nobody_sent_is_refused() -> None:
    asked = request()
    with pytest.raises(PacketError, match="Proxy-State"):
        check(reply(Code.ACCESS_ACCEPT, asked, encode([("Proxy-State", b"x")])), asked)


def test_requests_are_verified() -> None:
    wire.verify_request(wire.decode(request()), SECRET, require_mac=True)
    wire.verify_request(wire.decode(request(Code.ACCOUNTING_REQUEST, sign=False)), SECRET, require_mac=False)
    for data, reason in (
        (request()[:30] + b"\0" + request()[31:], "message-authenticator"),
        (request(Code.ACCOUNTING_REQUEST)[:-1] + b"!", "authenticator"),
        (request(Code.ACCOUNTING_REQUEST, sign=False), "message-authenticator-missing"),
    ):
        with pytest.raises(PacketError) as caught:
            wire.verify_request(wire.decode(data), SECRET, require_mac=True)
        assert caught.value.reason == reason


@pytest.mark.parametrize("password", [b"", b"x", b"sixteen octets!!", "müller-käse".encode(), b"y" * 128])
def test_password_is_hidden_as_pyrad_does_it(password: bytes) -> None:
    hidden = wire.hide_password(password, SECRET, NONCE)
    theirs = AuthPacket(id=1, secret=SECRET, authenticator=NONCE, dict=dictionary())
    if password:
        assert hidden == theirs.PwCrypt(password)
    assert wire.reveal_password(hidden, SECRET, NONCE) == password


def test_values_that_do_not_fit_are_refused() -> None:
    attempts: tuple[Callable[[], object], ...] = (
        lambda: wire.attribute(1, b"x" * 254),
        lambda: wire.vendor_attribute(32473, 1, b"x" * 248),
        lambda: wire.hide_password(b"x" * 129, SECRET, NONCE),
        lambda: request(body=wire.attribute(18, b"x" * 253) * 16),
    )
    for attempt in attempts:
        with pytest.raises(EncodingError):
            attempt()


@pytest.mark.parametrize("hidden", [b"", b"short", b"x" * 144])
def test_wrong_user_password_lengths_are_refused(hidden: bytes) -> None:
    with pytest.raises(PacketError):
        wire.reveal_password(hidden, SECRET, NONCE)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "short"),
        (request()[:19], "short"),
        (request()[:-1], "length"),
        (b"\x01\x01\x00\x05" + bytes(16), "length"),
        (b"\x01\x01\xff\xff" + bytes(5000), "length"),
        (b"\x01\x01\x00\x15" + bytes(16) + b"\x01", "attribute"),
        (b"\x01\x01\x00\x16" + bytes(16) + b"\x01\x01", "attribute"),
        (b"\x01\x01\x00\x16" + bytes(16) + b"\x01\x09", "attribute"),
        (b"\x01\x01\x00\x17" + bytes(16) + b"\x50\x03x", "message-authenticator"),
        (b"\x01\x01\x00\x38" + bytes(16) + (b"\x50\x12" + bytes(16)) * 2, "message-authenticator"),
    ],
)
def test_malformed_packets_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(PacketError) as caught:
        wire.decode(data)
    assert caught.value.reason == reason


def test_padding_after_the_length_is_ignored() -> None:
    assert wire.decode(request() + b"padding").data == request()


def test_reading_attributes() -> None:
    body = encode([("Class", b"a"), ("Class", b"b"), ("Session-Timeout", 60), ("Nomad-Extension", "3001")])
    packet = wire.decode(request(body=body + wire.attribute(27, b"odd") + wire.vendor_attribute(9, 1, b"other")))
    assert packet.get_all(Type.CLASS) == [b"a", b"b"]
    assert packet.integer(Type.SESSION_TIMEOUT) == 60
    assert packet.integer(Type.IDLE_TIMEOUT) is None
    assert packet.vendor(32473) == [(2, b"3001")]
    assert packet.get(Type.STATE) is None
    with pytest.raises(PacketError, match="octets"):
        wire.decode(request(body=wire.attribute(27, b"odd"))).integer(27)
    with pytest.raises(PacketError, match="length"):
        wire.decode(request(body=wire.attribute(26, b"\0\0\x7e\xd9\x01\x09"))).vendor(32473)


@given(st.binary(max_size=120))
def test_only_packet_error_leaves_the_decoder(data: bytes) -> None:
    head = bytes((1, 1)) + (20 + len(data)).to_bytes(2, "big") + bytes(16)
    for octets in (data, head + data):
        try:
            packet = wire.decode(octets)
            wire.verify_request(packet, SECRET, require_mac=False)
            packet.vendor(32473)
        except PacketError:
            pass


def test_message_authenticator_covers_the_whole_packet() -> None:
    data = request()
    blank = data[:22] + bytes(16) + data[38:]
    assert data[22:38] == hmac.digest(SECRET, blank, "md5")
