"""Attributes by the names of the dictionaries: typed values to octets and back, through pyrad's dictionary and codecs.

Encoders are built once per name. Text that is too long for its attribute is cut at a character, everything else that
does not fit raises `EncodingError`.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from pyrad import tools
from pyrad.dictionary import Dictionary

from radius.errors import EncodingError, PacketError
from radius.packet import MAX_VALUE_BYTES, Packet, Type, attribute, split_attributes, vendor_attribute

Value = str | int | bytes
NOMAD = 32473  # the enterprise number for documentation (RFC 5612)
FILES = ("rfc2865", "rfc2866", "rfc2869", "rfc5176", "sterman", "rfc5090", "nomad")


@functools.cache
def dictionary() -> Any:
    """Every attribute that we know, as a pyrad dictionary."""
    try:
        folder = resources.files("radius.dictionaries")
        texts = [folder.joinpath(f"dictionary.{name}").read_text(encoding="utf-8") for name in FILES]
    except (ModuleNotFoundError, FileNotFoundError):
        # A plain checkout that is not installed: the folder lies beside the package.
        checkout = Path(__file__).resolve().parent.parent / "dictionaries"
        texts = [(checkout / f"dictionary.{name}").read_text(encoding="utf-8") for name in FILES]
    return Dictionary(*(io.StringIO(text) for text in texts))


def encode(pairs: Iterable[tuple[str, Value]]) -> bytes:
    """Attributes by name, in order, as they go into a packet. Raises `EncodingError`."""
    return b"".join([encoder(name)(value) for name, value in pairs])


@functools.cache
def encoder(name: str) -> Callable[[Value], bytes]:
    """What turns a value of this attribute into octets, header included. Raises `EncodingError` for unknown names."""
    definition = dictionary().attributes.get(name)
    if definition is None:
        raise EncodingError(f"attribute '{name}' is in no dictionary")
    if definition.encrypt or definition.type == "tlv" or definition.is_sub_attribute:
        raise EncodingError(f"attribute '{name}' has an encoding of its own")
    code: int = definition.code
    to_octets = _value_encoder(name, definition)
    if not definition.vendor:
        return lambda value: attribute(code, to_octets(value))
    vendor: int = dictionary().vendors.GetForward(definition.vendor)
    return lambda value: vendor_attribute(vendor, code, to_octets(value))


def _value_encoder(name: str, definition: Any) -> Callable[[Value], bytes]:
    kind: str = definition.type
    room = MAX_VALUE_BYTES - (6 if definition.vendor else 0)

    def text(value: Value) -> bytes:
        octets = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
        return octets if len(octets) <= room else cut_text(octets, room)

    def number(value: Value) -> bytes:
        if isinstance(value, str) and definition.values.HasForward(value):
            named: bytes = definition.values.GetForward(value)
            return named
        if isinstance(value, int) and 0 <= value < 1 << 32:
            return value.to_bytes(4, "big")
        raise EncodingError(f"attribute '{name}': {value!r} is no value of it")

    def other(value: Value) -> bytes:
        try:
            octets: bytes = tools.EncodeAttr(kind, value)
        except (ValueError, TypeError) as error:
            raise EncodingError(f"attribute '{name}': {error}") from None
        return octets

    if kind == "string":
        return text
    return number if kind in ("integer", "date") else other


def cut_text(octets: bytes, room: int) -> bytes:
    """As many whole UTF-8 characters as fit into `room` octets."""
    while room > 0 and octets[room] & 0xC0 == 0x80:
        room -= 1
    return octets[:room]


def named(packet: Packet) -> list[tuple[str, Value]]:
    """A packet's attributes by name, in order, for people and files; unknown ones as `Attr-N` or `Attr-26.V.N`.

    Leaves out Message-Authenticator and User-Password. Never raises: what cannot be decoded stays octets.
    """
    found: list[tuple[str, Value]] = []
    for kind, value in packet.attributes:
        if kind in (Type.MESSAGE_AUTHENTICATOR, Type.USER_PASSWORD):
            continue
        if kind == Type.VENDOR_SPECIFIC and len(value) > 4:
            found += _vendor_named(value)
        else:
            found.append(_decoded(kind, f"Attr-{kind}", value))
    return found


def _vendor_named(value: bytes) -> list[tuple[str, Value]]:
    vendor = int.from_bytes(value[:4], "big")
    try:
        parts = split_attributes(value, 4)
    except PacketError:
        return [(f"Attr-26.{vendor}", value[4:])]
    return [_decoded((vendor, kind), f"Attr-26.{vendor}.{kind}", part) for kind, part in parts]


def _decoded(key: int | tuple[int, int], fallback: str, value: bytes) -> tuple[str, Value]:
    index = dictionary().attrindex
    if not index.HasBackward(key):
        return fallback, value
    name: str = index.GetBackward(key)
    definition = dictionary().attributes[name]
    if definition.values.HasBackward(value):
        return name, str(definition.values.GetBackward(value))
    try:
        decoded: Value = value if definition.type == "tlv" else tools.DecodeAttr(definition.type, value)
    except (ValueError, TypeError):
        return name, value
    return name, decoded
