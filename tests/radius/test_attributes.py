"""radius.attributes against pyrad."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from pyrad.packet import Packet

from radius import attributes
from radius.attributes import Value, dictionary, encode, encoder, named
from radius.errors import EncodingError
from radius.packet import Code, decode, encode_request

VALUES: list[tuple[str, Value]] = [
    ("User-Name", "alïce"),
    ("NAS-IP-Address", "192.0.2.1"),
    ("NAS-IPv6-Address", "2001:db8::1"),
    ("Service-Type", "Sip-Session"),
    ("Acct-Session-Time", 4_294_967_295),
    ("Acct-Terminate-Cause", "User-Request"),
    ("Class", b"\x00\xff"),
    ("Event-Timestamp", 1_700_000_000),
    ("Error-Cause", "Session-Context-Not-Found"),
    ("RFC5090-SIP-AOR", "sip:alice@inria.example"),
    ("Nomad-SIP-Response-Code", 486),
    ("Nomad-Media-Octets", 1 << 40),
    ("Nomad-Group", "cn=staff,ou=groups,dc=inria,dc=example"),
]


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_each_value_is_encoded_as_pyrad_does_it(name: str, value: Value) -> None:
    theirs = Packet(dict=dictionary())
    theirs.AddAttribute(name, value)
    assert theirs._PktEncodeAttributes() == encode([(name, value)])


def test_names_come_back() -> None:
    data = encode_request(Code.ACCOUNTING_REQUEST, 1, encode(VALUES), secret=b"s", nonce=bytes(16))
    assert named(decode(data)) == VALUES


def test_unknown_and_broken_attributes_are_shown_as_octets() -> None:
    body = b"\xf0\x03x" + b"\x1a\x09\x00\x00\x00\x09\x07\x03y" + b"\x1a\x07\x00\x00\x00\x09\x07" + b"\x1b\x03z"
    body += b"\x02\x03p"
    data = encode_request(Code.ACCOUNTING_REQUEST, 1, body, secret=b"s", nonce=bytes(16))
    assert named(decode(data)) == [
        ("Attr-240", b"x"),
        ("Attr-26.9.7", b"y"),
        ("Attr-26.9", b"\x07"),
        ("Session-Timeout", b"z"),
    ]


def test_long_text_is_cut_between_characters() -> None:
    octets = encode([("Reply-Message", "é" * 200)])
    assert len(octets) == 2 + 252
    octets[2:].decode()
    assert len(encode([("Nomad-Address", "x" * 300)])) == 255


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("No-Such-Attribute", "x"),
        ("User-Password", "clear"),
        ("Digest-Attributes", b"x"),
        ("Digest-Realm", "x"),
        ("Acct-Session-Time", -1),
        ("Acct-Session-Time", 1 << 32),
        ("Acct-Status-Type", "Nonsense"),
        ("NAS-IP-Address", "not an address"),
        ("Class", b"x" * 254),
    ],
)
def test_what_cannot_be_sent_is_refused(name: str, value: Value) -> None:
    with pytest.raises(EncodingError):
        encoder(name)(value)


def test_every_dictionary_file_is_read_and_named_in_the_include_file() -> None:
    folder = Path(__file__).resolve().parents[2] / "dictionaries"
    files = {path.suffix.removeprefix(".") for path in folder.glob("dictionary.*")}
    assert files == set(attributes.FILES)
    assert all(f"$INCLUDE dictionary.{name}" in (folder / "dictionary").read_text() for name in files)


def test_dictionaries_can_be_read_out_of_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a wheel on the path: the package `radius.dictionaries` is there, files on the disk are not."""
    folder = Path(__file__).resolve().parents[2] / "dictionaries"
    with zipfile.ZipFile(tmp_path / "wheel.zip", "w") as archive:
        for path in folder.iterdir():
            if path.is_file():
                archive.write(path, f"radius/dictionaries/{path.name}")
    found = zipfile.Path(tmp_path / "wheel.zip", "radius/dictionaries/")
    monkeypatch.setattr("radius.attributes.resources.files", lambda name: found)
    assert "Nomad-Address" in attributes.dictionary.__wrapped__()
