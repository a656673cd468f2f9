"""Header names: spellings, compact forms."""

import pytest

from nomad.sip.errors import SipError
from nomad.sip.names import CANONICAL, COMPACT, canonical_name, wire_name


@pytest.mark.parametrize(
    ("raw", "name"),
    [("Via", "via"), ("v", "via"), ("V  ", "via"), ("vIA\t", "via"), ("CALL-id", "call-id"), ("X-Foo", "x-foo")],
)
def test_canonical_name(raw: str, name: str) -> None:
    assert canonical_name(raw) == name


@pytest.mark.parametrize("raw", ["", " ", " Via", "Vi a", "Via\x00", "Vïa", "C@", "x" * 257])
def test_malformed_names(raw: str) -> None:
    with pytest.raises(SipError):
        canonical_name(raw)


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("call-id", "Call-ID"),
        ("cseq", "CSeq"),
        ("www-authenticate", "WWW-Authenticate"),
        ("mime-version", "MIME-Version"),
        ("sip-etag", "SIP-ETag"),
        ("x-my-header", "X-My-Header"),
    ],
)
def test_wire_name(name: str, wire: str) -> None:
    assert wire_name(name) == wire


def test_the_known_spellings_agree_with_the_slow_path() -> None:
    for spelling, name in CANONICAL.items():
        assert canonical_name(spelling) == name
    for short, name in COMPACT.items():
        assert CANONICAL[short] == name
        assert wire_name(name).lower() == name
