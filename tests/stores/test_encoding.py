from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from nomad.stores.encoding import ESCAPED, pack, storable, unpack_record, unpack_registration
from tests.stores.samples import record, registration


def test_a_registration_comes_back_equal() -> None:
    assert unpack_registration(pack(registration())) == registration()


def test_text_that_is_no_utf8_comes_back_equal() -> None:
    odd = replace(registration(), addresses=("a\udcff@x", "b\x00"))
    assert pack(odd).startswith(ESCAPED)
    assert unpack_registration(pack(odd)) == odd
    strange = replace(record(), attributes=(("User-Name", "\udc80"), ("Class", b"\xff"), ("Acct-Delay-Time", 3)))
    assert unpack_record(pack(strange)) == strange


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"{}", msgspec.msgpack.encode({"user": 1}), msgspec.msgpack.encode([1])]
)
def test_anything_else_is_a_value_error(data: bytes) -> None:
    for unpack in (unpack_registration, unpack_record):
        with pytest.raises(ValueError):
            unpack(data)


@pytest.mark.parametrize(
    ("text", "stored"), [("café", "café"), ("a\udcffb", r"a\xffb"), ("a\x00b", r"a\x00b"), ("\ud800", r"\ud800")]
)
def test_columns_hold_readable_text(text: str, stored: str) -> None:
    assert storable(text) == stored
