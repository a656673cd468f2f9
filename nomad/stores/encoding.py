"""Values of the ports as bytes and text that every database takes.

SIP text may hold bytes that are no UTF-8; we carry them as lone surrogates, which neither SQL text nor msgpack holds.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from nomad.ports import AccountingRecord, Cdr, Registration

UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
ESCAPED = b"\xc1"  # a byte that msgpack never uses: marks values whose text had to be escaped
RAW_TEXT = 1  # msgpack extension type: text as the bytes that arrived

_registrations = msgspec.msgpack.Decoder(Registration)
_cdrs = msgspec.msgpack.Decoder(Cdr)


def storable(text: str) -> str:
    """The text with NUL and undecodable bytes written as \\xNN; for columns that people read."""
    return UNSTORABLE.sub(_written_out, text) if UNSTORABLE.search(text) else text


def pack(value: Any) -> bytes:
    """Any of our values as msgpack; nothing is lost."""
    try:
        return msgspec.msgpack.encode(value)
    except UnicodeEncodeError:
        return ESCAPED + msgspec.msgpack.encode(_escape(msgspec.to_builtins(value, builtin_types=(bytes,))))


def unpack_registration(data: bytes) -> Registration:
    """Undo `pack`. Raises `ValueError` when these bytes are no registration."""
    if data[:1] != ESCAPED:
        return _registrations.decode(data)
    return msgspec.convert(_untyped(data), Registration)


def unpack_cdr(data: bytes) -> Cdr:
    """Undo `pack`. Raises `ValueError` when these bytes are no call record."""
    return _cdrs.decode(data) if data[:1] != ESCAPED else msgspec.convert(_untyped(data), Cdr)


def unpack_record(data: bytes) -> AccountingRecord:
    """Undo `pack`. Raises `ValueError` when these bytes are no accounting record."""
    tree = _untyped(data)  # attributes are str or bytes: more than msgspec's typed decoding can tell apart
    try:
        attributes = tuple((str(name), value) for name, value in tree.pop("attributes", ()))
        return AccountingRecord(**tree, attributes=attributes)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"no accounting record: {error}") from None


def _untyped(data: bytes) -> Any:
    return msgspec.msgpack.decode(data.removeprefix(ESCAPED), ext_hook=_unescape)


def _written_out(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code & 0xFF:02x}" if code < 0x80 or 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _escape(value: Any) -> Any:
    if isinstance(value, str) and UNSTORABLE.search(value):
        return msgspec.msgpack.Ext(RAW_TEXT, value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return {key: _escape(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escape(item) for item in value]
    return value


def _unescape(code: int, data: memoryview) -> str:
    if code != RAW_TEXT:
        raise ValueError(f"unknown extension {code}")
    return bytes(data).decode("utf-8", "surrogatepass")
