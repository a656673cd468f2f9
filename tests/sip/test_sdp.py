"""nomad.sip.sdp: what counts as encrypted."""

import pytest

from nomad.sip.sdp import has_plain_stream, is_encrypted

HEAD = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n"


@pytest.mark.parametrize(
    ("streams", "encrypted"),
    [
        (b"m=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n", True),
        (b"m=audio 4000 RTP/SAVPF 0\r\n", True),
        (b"m=audio 4000 UDP/TLS/RTP/SAVP 0\r\n", True),
        (b"m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n", True),
        (b"m=audio 4000 RTP/AVP 0\r\n", False),
        (b"m=audio 4000 RTP/AVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n", False),  # RFC 8643: an option
        (b"m=audio 4000 RTP/SAVP 0\r\nm=video 4002 RTP/AVP 31\r\n", False),
        (b"m=audio 4000 RTP/SAVP 0\r\nm=video 0 RTP/AVP 31\r\n", True),
        (b"m=audio 0 RTP/SAVP 0\r\n", False),
        (b"m=audio 4000\r\n", False),
        (b"m=\r\n", False),
        (b"", False),
        (b"m=audio 4000 RTP/SAVP 0\nm=video 4002 RTP/SAVP 31\n", True),
    ],
)
def test_what_is_encrypted(streams: bytes, encrypted: bool) -> None:
    assert is_encrypted(HEAD + streams) is encrypted


def test_no_body_is_not_encrypted() -> None:
    assert not is_encrypted(b"")


@pytest.mark.parametrize(
    ("streams", "plain"),
    [
        (b"", False),
        (b"m=audio 0 RTP/AVP 0\r\n", False),
        (b"m=audio 4000 RTP/SAVP 0\r\n", False),
        (b"m=audio 4000 RTP/SAVP 0\r\nm=video 4002 RTP/AVP 31\r\n", True),
        (b"m=audio\r\n", True),
    ],
)
def test_what_is_plain(streams: bytes, plain: bool) -> None:
    assert has_plain_stream(HEAD + streams) is plain
